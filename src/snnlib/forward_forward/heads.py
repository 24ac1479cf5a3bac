"""A last layer that learns digits, on top of layers that learn good from bad.

Goodness needs one pass for every label. A last layer trained on digits needs fewer: two
passes, as the author of the fourth post thought, or one with a neutral label
(Hinton 2022, Sec. 3.3). No error travels from the last layer into those below.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.forward_forward.goodness import normalise_length
from snnlib.forward_forward.labels import overlay_labels, overlay_neutral
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork
from snnlib.forward_forward.pairs import GoodnessRule
from snnlib.forward_forward.rules import TrainingBatch
from snnlib.forward_forward.sharing import everybodys, ours
from snnlib.readout import predict, rate_mse


class NetworkWithReadout(nn.Module):
    """Forward-Forward layers below, a layer of ten trained on digits on top.

    Args:
        hidden: Learns good from bad.
        head: Learns digits: spiking neurons, or a linear map.
    """

    def __init__(self, hidden: ForwardForwardNetwork, head: nn.Module) -> None:
        super().__init__()
        self.hidden = hidden
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """What the head says to images without a label: ``[N, 1, 28, 28]`` to ``[N, 10]``."""
        if isinstance(self.head, ForwardForwardLayer):
            with torch.no_grad():
                top = self.hidden(overlay_neutral(images))[-1]
            return self.head.rate(top)
        return cast(Tensor, self.head(features(self.hidden, images)))


def features(hidden: ForwardForwardNetwork, images: Tensor) -> Tensor:
    """What all layers say to images without a label, side by side: ``[N, sum of widths]``."""
    with torch.no_grad():
        rates = hidden(overlay_neutral(images))
        return torch.cat([normalise_length(rate, 1.0) for rate in rates], dim=1)


def _with_head(losses: Tensor, of_head: Tensor) -> Tensor:
    """Gradients of the head as well; its loss behind those of the layers, ``[L + 1]``."""
    if of_head.requires_grad:  # else its weights are frozen
        of_head.backward()
    return torch.cat([losses, of_head.detach()[None]])


@dataclass(frozen=True)
class TwoPassRule:
    """The head, ten spiking neurons above the last layer, learns digits by MSE on its rates.

    Args:
        pairs: How the layers below learn; the head learns from both of their images.
    """

    pairs: GoodnessRule
    choose: ClassVar[bool] = False

    def training_step(self, network: NetworkWithReadout, batch: TrainingBatch) -> Tensor:
        """Gradients from one batch; the loss of the head stands last."""
        losses, top = self.pairs.learn_pairs(network.hidden, batch)
        rate = cast(ForwardForwardLayer, network.head).rate(top)
        rate = everybodys(rate, len(batch.labels), batch.group)
        return _with_head(losses, rate_mse(rate, batch.labels.repeat(2)))

    @torch.no_grad()
    def predict(
        self, network: NetworkWithReadout, images: Tensor, noise: torch.Generator
    ) -> dict[str, Tensor]:
        """A first pass with any label proposes a digit; a second, with the proposal, corrects."""

        def answer(marked: Tensor) -> Tensor:
            top = network.hidden(marked)[-1]
            return predict(cast(ForwardForwardLayer, network.head).rate(top))

        anything = torch.randint(10, (len(images),), generator=noise, device=images.device)
        first = answer(overlay_labels(images, anything))
        return {
            "two passes": answer(overlay_labels(images, first)),
            "one pass, any label": first,
            "one pass, no label": answer(overlay_neutral(images)),
        }


@dataclass(frozen=True)
class NeutralHeadRule:
    """The head, a linear map from the rates of all layers, learns digits by cross-entropy.

    Args:
        pairs: How the layers below learn; the head learns from images that carry no label.
    """

    pairs: GoodnessRule
    choose: ClassVar[bool] = False

    def training_step(self, network: NetworkWithReadout, batch: TrainingBatch) -> Tensor:
        """Gradients from one batch; the loss of the head stands last."""
        losses, _ = self.pairs.learn_pairs(network.hidden, batch)
        images = ours(batch.images, len(batch.labels), batch.group)
        outputs = network.head(features(network.hidden, images))
        outputs = everybodys(outputs, len(batch.labels), batch.group)
        return _with_head(losses, F.cross_entropy(outputs, batch.labels))

    @torch.no_grad()
    def predict(
        self, network: NetworkWithReadout, images: Tensor, noise: torch.Generator
    ) -> dict[str, Tensor]:
        """One pass without a label, and the class with the largest output."""
        return {"one pass, no label": predict(network.head(features(network.hidden, images)))}
