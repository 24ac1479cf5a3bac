"""Kinds of layers: LIF or ReLU, on grey values or spikes.

All are :class:`ForwardForwardLayer`. What changes is the neuron, and, for Poisson
input, how the layer next to the image counts its spikes.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from snnlib.encoding import poisson_encode
from snnlib.fast.constant import constant_rate
from snnlib.fast.known_layers import is_plain_linear
from snnlib.fast.scan import neuron_scan
from snnlib.forward_forward.network import ForwardForwardLayer
from snnlib.neurons import IFParameters, LIFParameters
from snnlib.readout import firing_rate

GREY_LEVEL = 0.33  # root mean square of the pixels of a typical MNIST image


class ScaledInputLayer(ForwardForwardLayer):
    """The layer next to the image, with all images stretched by the same factor.

    Other than a rate from below, the length of an image does not tell how good it is,
    so it need not be divided out: bright images may stay stronger.
    """

    @property
    def size(self) -> float:
        """The factor: a typical image gets the root mean square ``input_rms``."""
        return self.input_rms / GREY_LEVEL

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
        input_rms: Root mean square of the input, on average over steps and pixels.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_steps: int,
        neuron: Any,
        noise: torch.Generator,
        input_rms: float = 2.0,
    ) -> None:
        fire = partial(neuron_scan, neuron=neuron)
        fast_rate = partial(constant_rate, n_steps=n_steps, neuron=neuron)
        super().__init__(in_features, out_features, n_steps, fire, fast_rate, input_rms)
        self._neuron = neuron
        self.noise = noise

    @property
    def neuron(self) -> Any:
        """The constants of the neurons; new ones count for all that the layer does."""
        return self._neuron

    @neuron.setter
    def neuron(self, neuron: Any) -> None:
        self._neuron, self.fire = neuron, partial(neuron_scan, neuron=neuron)
        self.fast_rate = partial(constant_rate, n_steps=self.n_steps, neuron=neuron)
        self.fast_rate_is_for = self.fire, self.n_steps

    def forward(self, inputs: Tensor) -> Tensor:
        """Spikes ``[T, N, K]`` for images ``[N, ...]``."""
        spikes = poisson_encode(inputs.detach(), self.n_steps, generator=self.noise)
        return self._spikes(self.weigh(spikes.flatten(2)))

    def rate(self, inputs: Tensor) -> Tensor:
        """Rates ``[N, K]`` for images ``[N, ...]``, with fresh spikes at every call."""
        quick = inputs.is_cpu and is_plain_linear(self.linear)
        quick = quick and self.fire == self.fast_rate_is_for[0]
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


def make_layer(
    n_in: int,
    n_out: int,
    neuron: LIFParameters | IFParameters | None,
    n_steps: int,
    input_rms: float = 2.0,
    kind: type[ForwardForwardLayer] = ForwardForwardLayer,
) -> ForwardForwardLayer:
    """One dense layer of neurons, or of rectifiers (``neuron=None``), of any kind above."""
    if neuron is None:
        return kind(n_in, n_out, 1, torch.relu, torch.relu, input_rms)
    fire = partial(neuron_scan, neuron=neuron)
    fast_rate = partial(constant_rate, n_steps=n_steps, neuron=neuron)
    return kind(n_in, n_out, n_steps, fire, fast_rate, input_rms)


def make_layers(
    widths: Sequence[int],
    neuron: LIFParameters | IFParameters | None,
    n_steps: int,
    input_rms: float = 2.0,
    kind: type[ForwardForwardLayer] = ForwardForwardLayer,
    first_kind: type[ForwardForwardLayer] | None = None,
) -> list[ForwardForwardLayer]:
    """Fresh layers between the ``widths``, with weights from torch's global generator.

    The one next to the image may be of another kind.
    """
    kinds = [kind if first_kind is None else first_kind, *[kind] * (len(widths) - 2)]
    return [
        make_layer(a, b, neuron, n_steps, input_rms, k)
        for (a, b), k in zip(pairwise(widths), kinds, strict=True)
    ]


def draw_in_first_layer(
    layers: list[ForwardForwardLayer], neuron: LIFParameters | IFParameters, noise: torch.Generator
) -> list[ForwardForwardLayer]:
    """The same layers, but the first, with its weights, draws Poisson spikes from ``noise``."""
    linear = layers[0].linear
    first = PoissonLayer(
        linear.in_features, linear.out_features, layers[0].n_steps, neuron, noise,
        layers[0].input_rms,
    )  # fmt: skip
    first.linear = linear
    return [first, *layers[1:]]
