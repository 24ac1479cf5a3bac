"""A last layer that learns digits, on top of layers that learn good from bad.

Goodness needs one pass for every label. A taught last layer needs fewer: two
passes, as the author of the fourth post thought, or one with a neutral label
(Hinton 2022, Sec. 3.3). No error travels from the last layer into those below.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.forward_forward.goodness import normalise_length
from snnlib.forward_forward.labels import overlay_labels, overlay_neutral
from snnlib.forward_forward.layers import build_network, make_layer
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork
from snnlib.forward_forward.pairs import Rule, TrainingBatch, learn_pairs
from snnlib.forward_forward.sharing import everybodys, ours
from snnlib.readout import predict, rate_mse
from snnlib.settings.ff_experiment import FFConfig


class NetworkWithReadout(nn.Module):
    """Forward-Forward layers below, a taught layer of ten on top.

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


def build_two_pass(config: FFConfig, noise: torch.Generator) -> NetworkWithReadout:
    """Hidden layers, and ten spiking neurons that see the rates of the last one."""
    return NetworkWithReadout(
        build_network(config, noise), make_layer(config, config.hidden[-1], 10)
    )


def learn_two_pass(network: NetworkWithReadout, batch: TrainingBatch) -> Tensor:
    """The last layer learns the true digit from both kinds of image, by MSE on its rates."""
    losses, top = learn_pairs(network.hidden, batch)
    rate = cast(ForwardForwardLayer, network.head).rate(top)
    rate = everybodys(rate, len(batch.labels), batch.group)
    return _with_head(losses, rate_mse(rate, batch.labels.repeat(2)))


@torch.no_grad()
def answers_in_two_passes(
    network: NetworkWithReadout, images: Tensor, config: FFConfig, noise: torch.Generator
) -> dict[str, Tensor]:
    """A first pass with any label proposes a digit; a second, with the proposal, may mend it."""

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


def build_neutral_head(config: FFConfig, noise: torch.Generator) -> NetworkWithReadout:
    """Hidden layers, and a linear map from the rates of all of them to ten classes."""
    return NetworkWithReadout(build_network(config, noise), nn.Linear(sum(config.hidden), 10))


def learn_neutral_head(network: NetworkWithReadout, batch: TrainingBatch) -> Tensor:
    """The linear map learns the digit by cross-entropy, from images that carry no label."""
    losses, _ = learn_pairs(network.hidden, batch)
    images = ours(batch.images, len(batch.labels), batch.group)
    outputs = network.head(features(network.hidden, images))
    outputs = everybodys(outputs, len(batch.labels), batch.group)
    return _with_head(losses, F.cross_entropy(outputs, batch.labels))


@torch.no_grad()
def answers_of_neutral_head(
    network: NetworkWithReadout, images: Tensor, config: FFConfig, noise: torch.Generator
) -> dict[str, Tensor]:
    """One pass without a label, and the class with the largest output."""
    return {"one pass, no label": predict(network.head(features(network.hidden, images)))}


TWO_PASS = Rule(build_two_pass, learn_two_pass, answers_in_two_passes)
NEUTRAL_HEAD = Rule(build_neutral_head, learn_neutral_head, answers_of_neutral_head)
