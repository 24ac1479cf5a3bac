"""The Forward-Forward rule for one batch: positive and negative images, and ten labels to judge."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from snnlib.encoding import poisson_encode
from snnlib.forward_forward.goodness import (
    every_label_loss,
    forward_forward_loss,
    goodness,
)
from snnlib.forward_forward.judging import every_label_rate, first_layer_goodness, label_goodness
from snnlib.forward_forward.labels import (
    draw_likely_wrong_labels,
    draw_wrong_labels,
    overlay_labels,
    with_every_label,
)
from snnlib.forward_forward.layers import PoissonLayer
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork, learn_from
from snnlib.forward_forward.rules import TrainingBatch
from snnlib.forward_forward.sharing import everybodys, ours
from snnlib.readout import predict


@dataclass(frozen=True)
class GoodnessRule:
    """Every layer tells true labels from wrong ones by its goodness.

    Args:
        kind: Of :func:`~snnlib.forward_forward.goodness.goodness`.
        gain: What goodness is multiplied by before the loss sees it.
        theta: Threshold of the loss; None compares positive with negative.
        slope: How sharply the loss bends.
        negatives: One wrong label at ``"random"`` or ``"likely"`` to the first layer,
            or ``"every"`` one at once.
        n_drawn: Images become Poisson spikes of so many steps before the first layer;
            None shows them as they are.
    """

    kind: str = "mean_square"
    gain: float = 20.0
    theta: float | None = None
    slope: float = 6.0
    negatives: str = "random"
    n_drawn: int | None = None
    choose: ClassVar[bool] = True

    def measure(self, rate: Tensor) -> Tensor:
        """Goodness as the loss sees it: rates ``[N, K]`` to ``[N]``."""
        return self.gain * goodness(rate, self.kind)

    def overlay(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """What the first layer is given: images that carry labels, or their spikes."""
        marked = overlay_labels(images, labels)
        if self.n_drawn is None:
            return marked
        return poisson_encode(marked, self.n_drawn, generator=generator).flatten(2)

    def training_step(self, network: ForwardForwardNetwork, batch: TrainingBatch) -> Tensor:
        """Gradients from one batch; the loss of each layer that learns."""
        if self.negatives == "every":
            return self._learn_every_label(network, batch)
        return self.learn_pairs(network, batch)[0]

    def learn_pairs(
        self, network: ForwardForwardNetwork, batch: TrainingBatch
    ) -> tuple[Tensor, Tensor]:
        """Gradients from one batch, each image once with its own and once with a wrong label.

        Returns:
            The loss of each layer that learns, and what the last of them hands on for our
            share of the images: for positive ones first, ``[2 n, K]``.
        """
        images, labels, generator, only, group = batch
        wrong = self.wrong_labels(network, batch)
        positive = self.overlay(images, labels, generator)
        negative = self.overlay(images, wrong, generator)
        both = torch.cat([positive, negative], dim=1 if positive.dim() == 3 else 0)

        def objective(rate: Tensor) -> Tensor:
            rate = everybodys(rate, len(labels), group)
            g_pos, g_neg = self.measure(rate).chunk(2)
            return forward_forward_loss(g_pos, g_neg, self.theta, slope=self.slope)

        return learn_from(network, ours(both, len(labels), group), objective, only)

    def wrong_labels(self, network: ForwardForwardNetwork, batch: TrainingBatch) -> Tensor:
        """Wrong labels at random, or as the first layer would confuse them."""
        if self.negatives == "random":
            return draw_wrong_labels(batch.labels, batch.generator)
        layer = cast(ForwardForwardLayer, network.layers[0])
        scores = first_layer_goodness(layer, batch.images, measure=self.measure)
        # Of a layer that overflows any label will do: it is stopped when its gradients are there.
        scores = scores.nan_to_num().clamp(-1e30, 1e30)
        return draw_likely_wrong_labels(scores, batch.labels, batch.generator)

    def _learn_every_label(self, network: ForwardForwardNetwork, batch: TrainingBatch) -> Tensor:
        """Gradients from one batch, each image with all of its labels: the loss of each layer."""
        images, labels, generator, only, group = batch

        def objective(rate: Tensor) -> Tensor:
            rate = everybodys(rate, len(labels), group)
            g = self.measure(rate).view(-1, len(labels)).T
            return every_label_loss(g, labels, slope=self.slope)

        first = cast(ForwardForwardLayer, network.layers[0])
        if network.pass_on == "rate" and not isinstance(first, PoissonLayer):
            with torch.set_grad_enabled(only in (None, 0)):
                rate = every_label_rate(first, images[group.share(len(labels))])
            return learn_from(network, images, objective, only, first_rate=rate)[0]
        marked = with_every_label(images, lambda x, y: self.overlay(x, y, generator))
        return learn_from(network, ours(marked, len(labels), group), objective, only)[0]

    def predict(
        self, network: ForwardForwardNetwork, images: Tensor, noise: torch.Generator
    ) -> dict[str, Tensor]:
        """The best of ten labels ``[N]``, judged by the layers from the k-th upwards, each k."""
        judged = label_goodness(
            network,
            images,
            measure=lambda rate: goodness(rate, self.kind),
            overlay=lambda x, y: self.overlay(x, y, noise),
        )
        return predict_from_layer(judged)


def predict_from_layer(judged: Tensor) -> dict[str, Tensor]:
    """Goodness ``[L, N, n_classes]`` to one label ``[N]`` for each first judging layer."""
    names = [f"layers from {k}" for k in range(1, len(judged) + 1)]
    return {name: predict(judged[k:].sum(dim=0)) for k, name in enumerate(names)}
