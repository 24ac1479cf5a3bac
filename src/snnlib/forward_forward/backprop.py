"""The same layers, taught from the output by backpropagation through time: a yardstick.

Widths, neurons, steps, input and its normalisation are those of a Forward-Forward
run; ten output neurons are added, the label is not written into the image, and
the error walks back through all layers and all steps.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from snnlib.forward_forward.layers import LinkedLayer, make_layer
from snnlib.forward_forward.network import ForwardForwardNetwork
from snnlib.forward_forward.pairs import Lesson, Rule
from snnlib.forward_forward.sharing import everybodys, ours
from snnlib.readout import firing_rate, predict, rate_cross_entropy
from snnlib.settings.ff_presets import FFConfig


class LinkedNetwork(ForwardForwardNetwork):
    """Layers that learn from each other: what a layer hands on keeps its gradient."""

    def step(self, layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The rate of one layer, and what the next one is given; both with their gradient."""
        if self.hand_over == "rate":
            rate = layer.rate(inputs)  # type: ignore[operator]
            return rate, rate
        spikes = layer(inputs)
        return firing_rate(spikes), spikes


def build_linked(config: FFConfig, noise: torch.Generator) -> LinkedNetwork:
    """Fresh layers 784 - hidden - 10."""
    widths = (784, *config.hidden, 10)
    layers = [make_layer(config, a, b, LinkedLayer) for a, b in pairwise(widths)]
    return LinkedNetwork(layers, config.hand_over)


def learn_linked(network: LinkedNetwork, lesson: Lesson) -> Tensor:
    """Cross-entropy of the output rates, and its gradient in every layer."""
    n_images = len(lesson.labels)
    rate = network(ours(lesson.images, n_images, lesson.group))[-1]
    value = rate_cross_entropy(everybodys(rate, n_images, lesson.group), lesson.labels)
    value.backward()
    return value.detach()[None]


@torch.no_grad()
def answers_of_output(
    network: LinkedNetwork, images: Tensor, config: FFConfig, noise: torch.Generator
) -> dict[str, Tensor]:
    """The busiest output neuron."""
    return {"output rates": predict(network(images)[-1])}


BACKPROP = Rule(build_linked, learn_linked, answers_of_output)
