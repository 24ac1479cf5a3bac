"""The same layers, trained from the output by backpropagation through time: a yardstick.

Widths, neurons, steps, input and its normalisation are those of a Forward-Forward
run; ten output neurons are added, the label is not written into the image, and
the error walks back through all layers and all steps.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from snnlib.forward_forward.network import ForwardForwardNetwork
from snnlib.forward_forward.rules import TrainingBatch
from snnlib.forward_forward.sharing import everybodys, ours
from snnlib.readout import firing_rate, predict, rate_cross_entropy


class BackpropNetwork(ForwardForwardNetwork):
    """Layers that learn from each other: what a layer passes on keeps its gradient."""

    def step(self, layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The rate of one layer, and what the next one is given; both with their gradient."""
        if self.pass_on == "rate":
            rate = layer.rate(inputs)  # type: ignore[operator]
            return rate, rate
        spikes = layer(inputs)
        return firing_rate(spikes), spikes


class BackpropRule:
    """Cross-entropy of the output rates; the busiest output neuron is the prediction."""

    choose: ClassVar[bool] = False

    def training_step(self, network: BackpropNetwork, batch: TrainingBatch) -> Tensor:
        """The loss ``[1]``, and its gradient in every layer."""
        n_images = len(batch.labels)
        rate = network(ours(batch.images, n_images, batch.group))[-1]
        value = rate_cross_entropy(everybodys(rate, n_images, batch.group), batch.labels)
        value.backward()
        return value.detach()[None]

    @torch.no_grad()
    def predict(
        self, network: BackpropNetwork, images: Tensor, noise: torch.Generator
    ) -> dict[str, Tensor]:
        """The busiest output neuron."""
        return {"output rates": predict(network(images)[-1])}
