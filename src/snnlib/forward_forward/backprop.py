"""The same layers, taught from the output by backpropagation through time: a yardstick.

Widths, neurons, steps, input and its normalisation are those of a Forward-Forward
run; ten output neurons are added, the label is not written into the image, and
the error walks back through all layers and all steps.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from snnlib.forward_forward.layers import BackpropLayer, make_layer
from snnlib.forward_forward.network import ForwardForwardNetwork
from snnlib.forward_forward.pairs import Rule, TrainingBatch
from snnlib.forward_forward.sharing import everybodys, ours
from snnlib.readout import firing_rate, predict, rate_cross_entropy
from snnlib.settings.ff_experiment import FFConfig


class BackpropNetwork(ForwardForwardNetwork):
    """Layers that learn from each other: what a layer hands on keeps its gradient."""

    def step(self, layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The rate of one layer, and what the next one is given; both with their gradient."""
        if self.hand_over == "rate":
            rate = layer.rate(inputs)  # type: ignore[operator]
            return rate, rate
        spikes = layer(inputs)
        return firing_rate(spikes), spikes


def build_backprop(config: FFConfig, noise: torch.Generator) -> BackpropNetwork:
    """Fresh layers 784 - hidden - 10."""
    widths = (784, *config.hidden, 10)
    layers = [make_layer(config, a, b, BackpropLayer) for a, b in pairwise(widths)]
    return BackpropNetwork(layers, config.hand_over)


def learn_backprop(network: BackpropNetwork, batch: TrainingBatch) -> Tensor:
    """Cross-entropy of the output rates, and its gradient in every layer."""
    n_images = len(batch.labels)
    rate = network(ours(batch.images, n_images, batch.group))[-1]
    value = rate_cross_entropy(everybodys(rate, n_images, batch.group), batch.labels)
    value.backward()
    return value.detach()[None]


@torch.no_grad()
def answers_of_output(
    network: BackpropNetwork, images: Tensor, config: FFConfig, noise: torch.Generator
) -> dict[str, Tensor]:
    """The busiest output neuron."""
    return {"output rates": predict(network(images)[-1])}


BACKPROP = Rule(build_backprop, learn_backprop, answers_of_output)
