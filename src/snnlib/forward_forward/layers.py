"""The layers of a Forward-Forward run as its settings ask: LIF, ReLU, on grey values or spikes.

All are :class:`ForwardForwardLayer`. What changes is the neuron, and, for Poisson
input, how the layer next to the image counts its spikes.
"""

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from snnlib.encoding import poisson_encode
from snnlib.fast.known_layers import is_plain_linear
from snnlib.fast.scan import neuron_scan
from snnlib.fast.steady import steady_rate
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork
from snnlib.neurons import LIFParameters
from snnlib.readout import firing_rate
from snnlib.settings.ff_presets import FFConfig, PostConfig

GREY_LEVEL = 0.33  # root mean square of the pixels of a typical MNIST image


class ScaledInputLayer(ForwardForwardLayer):
    """The layer next to the image, with all images stretched by the same factor.

    Other than a rate from below, the length of an image does not tell how good it is,
    so it need not be divided out: bright images may stay stronger.
    """

    @property
    def size(self) -> float:
        """The factor: a typical image gets the root mean square ``length``."""
        return self.length / GREY_LEVEL

    def scale_of(self, inputs: Tensor) -> Tensor:
        """The factor, the same for each of ``[N, ...]``."""
        return inputs.new_full((len(inputs), 1), self.size)

    def weigh(self, inputs: Tensor) -> Tensor:
        """Currents of grey values or of a spike train."""
        flat = inputs if inputs.dim() == 3 else inputs.flatten(1)
        return self.linear(self.size * flat)


class PoissonLayer(ScaledInputLayer):
    """The layer next to the image, shown Poisson spikes of the grey values.

    Every spike has the same size, for all images. On a CPU the event engine works on
    the spikes alone, and reads the weights by itself; a linear map that has hooks or a
    forward of its own, or weights in another precision than float32, is called instead,
    which takes longer.

    Args:
        in_features: Number of pixels; images are flattened.
        out_features: Number of neurons K.
        n_steps: Time steps T; every step brings other spikes.
        neuron: ``LIFParameters`` or ``IFParameters``.
        noise: Source of the spikes, on the device of the images.
        length: Root mean square of the input, on average over steps and pixels.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_steps: int,
        neuron: Any,
        noise: torch.Generator,
        length: float = 2.0,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            n_steps,
            partial(neuron_scan, neuron=neuron),
            partial(steady_rate, n_steps=n_steps, neuron=neuron),
            length,
        )
        self._neuron = neuron
        self.noise = noise

    @property
    def neuron(self) -> Any:
        """The constants of the neurons; new ones count for all that the layer does."""
        return self._neuron

    @neuron.setter
    def neuron(self, neuron: Any) -> None:
        self._neuron, self.fire = neuron, partial(neuron_scan, neuron=neuron)
        self.steady = partial(steady_rate, n_steps=self.n_steps, neuron=neuron)
        self.steady_is_for = self.fire, self.n_steps

    def forward(self, inputs: Tensor) -> Tensor:
        """Spikes ``[T, N, K]`` for images ``[N, ...]``."""
        spikes = poisson_encode(inputs.detach(), self.n_steps, generator=self.noise)
        return self._spikes(self.weigh(spikes.flatten(2)))

    def rate(self, inputs: Tensor) -> Tensor:
        """Rates ``[N, K]`` for images ``[N, ...]``, with fresh spikes at every call."""
        quick = inputs.is_cpu and is_plain_linear(self.linear)
        quick = quick and self.fire == self.steady_is_for[0]
        if not quick or self.linear.weight.dtype != torch.float32:
            return firing_rate(self(inputs))
        from snnlib.fast.events import poisson_linear_lif  # numba, which no other layer needs

        seed = int(torch.randint(2**62, (), generator=self.noise))
        weight, bias = self.size * self.linear.weight, self.linear.bias
        images = inputs.detach().flatten(1)
        return poisson_linear_lif(images, weight, self.n_steps, self.neuron, seed=seed, bias=bias)


class BackpropLayer(ForwardForwardLayer):
    """The same layer without the cut: its error travels on to the layer below."""

    def current(self, inputs: Tensor) -> Tensor:
        """As in a Forward-Forward layer, with the gradient of the inputs."""
        return self.weigh(inputs)


def neuron_of(config: FFConfig | PostConfig) -> LIFParameters:
    """The neurons of a run; those of the posts' networks reset hard."""
    soft = isinstance(config, FFConfig) and config.reset == "soft"
    return LIFParameters(
        tau=config.tau, v_threshold=config.v_threshold, v_reset=None if soft else 0.0
    )


def make_layer(
    config: FFConfig, n_in: int, n_out: int, kind: type[ForwardForwardLayer] = ForwardForwardLayer
) -> ForwardForwardLayer:
    """One dense layer of the neurons that the settings ask for, of any of the kinds above."""
    if config.cell == "relu":
        return kind(n_in, n_out, 1, torch.relu, torch.relu, config.length)
    neuron, n_steps = neuron_of(config), config.n_steps
    return kind(
        n_in,
        n_out,
        n_steps,
        partial(neuron_scan, neuron=neuron),
        partial(steady_rate, n_steps=n_steps, neuron=neuron),
        config.length,
    )


def make_layers(config: FFConfig, noise: torch.Generator) -> list[ForwardForwardLayer]:
    """Fresh layers 784 - hidden; with Poisson input the first one draws spikes from ``noise``."""
    first_kind = ForwardForwardLayer if config.normalise_images else ScaledInputLayer
    layers = [make_layer(config, 784, config.hidden[0], first_kind)]
    for below, width in pairwise(config.hidden):
        layers.append(make_layer(config, below, width))
    if draws_in_first_layer(config):
        first = PoissonLayer(
            784, config.hidden[0], config.n_steps, neuron_of(config), noise, config.length
        )
        first.linear = layers[0].linear
        layers[0] = first
    return layers


def draws_in_first_layer(config: FFConfig) -> bool:
    """Whether spikes are drawn inside the first layer, and not handed through all of them."""
    return config.encoding == "poisson" and config.hand_over == "rate"


def build_network(config: FFConfig, noise: torch.Generator) -> ForwardForwardNetwork:
    """Fresh Forward-Forward layers, with weights from torch's global generator."""
    return ForwardForwardNetwork(make_layers(config, noise), config.hand_over)
