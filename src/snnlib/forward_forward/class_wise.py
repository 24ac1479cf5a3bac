"""Forward-Forward without a label in the picture: every class owns channels, or neurons.

A label in ten pixels is out of sight for most of a convolution, and costs a dense
layer one pass for each label. So the label moves from the input to the question:
each layer is asked to be busy in the channels (or neurons) of the true class and
quiet in those of the nine wrong ones. The true group is the
positive example and the wrong groups are the negatives, all in a single pass
(channel-wise goodness: Papachristodoulou et al. 2024, Sec. 3.2). Each layer still
learns alone, from its own rates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from snnlib import checks
from snnlib.forward_forward.goodness import class_goodness, every_label_loss
from snnlib.forward_forward.network import ForwardForwardNetwork, learn_from
from snnlib.forward_forward.pairs import predict_from_layer
from snnlib.forward_forward.rules import TrainingBatch
from snnlib.forward_forward.sharing import everybodys, ours
from snnlib.settings.ff_experiment import grid_shape


class ClassLayer(nn.Module):
    """Weights, a norm and LIF neurons under a constant input, behind a detached input.

    Args:
        prepare: What happens to the input first: nothing, pooling or flattening.
        weights: The linear map, convolutional or dense, without bias.
        norm: Brings each channel of the currents to one size, over the batch.
        fast_rate: The neurons: currents to rates, in the same shape.
    """

    def __init__(
        self,
        prepare: nn.Module,
        weights: nn.Module,
        norm: nn.Module,
        fast_rate: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.prepare = prepare
        self.weights = weights
        self.norm = norm
        self.fast_rate = fast_rate

    def forward(self, inputs: Tensor) -> Tensor:
        """As :meth:`rate`."""
        return self.rate(inputs)

    def rate(self, inputs: Tensor) -> Tensor:
        """Rates ``[N, C, H, W]`` (or ``[N, C]``) for images or for the rates from below."""
        return self.fast_rate(self.norm(self.weights(self.prepare(inputs.detach()))))


class LocalLinear(nn.Module):
    """A linear map without bias of which each neuron sees one square of the image.

    Within each class the squares stand on a grid as square as their number allows, from edge
    to edge of the image. No two neurons share weights (local receptive fields: Hinton 2022,
    Sec. 3.2).

    Args:
        side: Width and height of the image, in pixels.
        n_out: Number of neurons, a multiple of ``n_classes``.
        field: Side of a square, in pixels, at most ``side``.
        n_classes: How many classes share the neurons.
    """

    pixels: Tensor  # [n_places, field**2], which ones each square holds

    def __init__(self, side: int, n_out: int, field: int, n_classes: int = 10) -> None:
        super().__init__()
        field = checks.whole_number("field", field, 1, checks.whole_number("side", side, 1))
        n_classes = checks.whole_number("n_classes", n_classes, 1)
        n_out = checks.whole_number("n_out", n_out, n_classes)
        if n_out % n_classes:
            raise ValueError(f"n_out must be a multiple of n_classes={n_classes}, got {n_out}")
        n_places = n_out // n_classes
        n_rows, n_columns = grid_shape(n_places)
        down = _stretches(side, field, n_rows)[:, None, :, None]
        across = _stretches(side, field, n_columns)[None, :, None, :]
        pixels = (side * down + across).view(n_places, field**2)
        self.register_buffer("pixels", pixels, persistent=False)  # it follows from the settings
        self.weight = nn.Parameter(torch.empty(n_places, n_classes, field**2))
        nn.init.uniform_(self.weight, -1 / field, 1 / field)  # as in a dense layer of field**2

    def forward(self, inputs: Tensor) -> Tensor:
        """Currents ``[N, n_out]`` for images ``[N, side**2]``, those of class 0 first."""
        seen = inputs.T[self.pixels]  # [n_places, field**2, N]
        return torch.bmm(self.weight, seen).permute(2, 1, 0).flatten(1)


def _stretches(side: int, length: int, n: int) -> Tensor:
    """The pixels of n stretches of a row, spread from edge to edge, ``[n, length]``."""
    first = torch.linspace(0, side - length, n).round().long()
    return first[:, None] + torch.arange(length)


@dataclass(frozen=True)
class ClassWiseRule:
    """Every layer makes the true class stand out among its ten goodnesses (a softmax of them).

    Args:
        kind: Of :func:`~snnlib.forward_forward.goodness.class_goodness`.
        gain: What goodness is multiplied by before the softmax.
    """

    kind: str = "mean_square"
    gain: float = 40.0
    choose: ClassVar[bool] = True

    def training_step(self, network: ForwardForwardNetwork, batch: TrainingBatch) -> Tensor:
        """Gradients from one batch; the loss of each layer that learns."""
        images, labels, _, only, group = batch

        def objective(rate: Tensor) -> Tensor:
            rate = everybodys(rate, len(labels), group)
            return every_label_loss(self.gain * class_goodness(rate, self.kind), labels)

        return learn_from(network, ours(images, len(labels), group), objective, only)[0]

    @torch.no_grad()
    def predict(
        self, network: ForwardForwardNetwork, images: Tensor, noise: torch.Generator
    ) -> dict[str, Tensor]:
        """The class of highest goodness, summed over the layers from the k-th upwards, each k."""
        judged = torch.stack([class_goodness(rate, self.kind) for rate in network(images)])
        return predict_from_layer(judged)


def make_classwise_layers(
    channels: Sequence[int],
    dense: Sequence[int],
    kernel: int,
    receptive_field: int | None,
    fast_rate: Callable[[Tensor], Tensor],
) -> list[ClassLayer]:
    """Convolutions with so many ``channels``, if any, then dense layers of ``dense`` neurons.

    The two layers above the first convolution, as far as they rest on convolutions, see
    their input at half the width and height: for each place the busiest of four neurons.
    Without convolutions, neurons of the first layer may see one square of the image only,
    ``receptive_field`` pixels wide.
    """
    layers, side = [], 28
    for number, (n_in, n_out) in enumerate(pairwise((1, *channels, *dense))):
        halved = number in (1, 2) and number <= len(channels)
        side = side // 2 if halved else side
        prepare: list[nn.Module] = [nn.MaxPool2d(2)] if halved else []
        weights: nn.Module
        if number < len(channels):
            weights = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=False)
            norm: nn.Module = nn.BatchNorm2d(n_out)
        else:
            n_places = side**2 if number == len(channels) else 1
            prepare.append(nn.Flatten())
            if number == 0 and receptive_field is not None:
                weights = LocalLinear(side, n_out, receptive_field)
            else:
                weights = nn.Linear(n_in * n_places, n_out, bias=False)
            norm = nn.BatchNorm1d(n_out)
        layers.append(ClassLayer(nn.Sequential(*prepare), weights, norm, fast_rate))
    return layers
