"""Sending a sequence through the layers of a network, the neurons by one of three runners."""

from collections.abc import Callable, Iterable
from typing import Any, cast

from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, nn

from snnlib.fast.known_layers import parameters_of, runs_itself, surrogate_of
from snnlib.fast.scan import neuron_scan
from snnlib.neurons import simulate

RunNeurons = Callable[[Any, Tensor], Tensor]


def run_layers(
    layers: Iterable[nn.Module], x: Tensor, run_neurons: RunNeurons, n_steps: int, repeat_at: int
) -> Tensor:
    """Send a sequence through the layers of a network.

    What is the same at every step need not be computed at every step: the input
    may come with one step only, which is repeated ``n_steps`` times just before
    layer number ``repeat_at``.

    Args:
        layers: SpikingJelly layers in multi-step mode.
        x: ``[T, N, 1, 28, 28]``, or one step of it.
        run_neurons: A neuron layer and its currents to spikes.
        n_steps: Number of time steps T.
        repeat_at: Where time begins.

    Returns:
        Output spikes, ``[T, N, 10]``.
    """
    for number, layer in enumerate(layers):
        if number == repeat_at and len(x) != n_steps:
            x = x.expand(n_steps, *x.shape[1:])
        x = run_neurons(layer, x) if isinstance(layer, BaseNode) else layer(x)
    return x


def run_by_scan(layer: Any, currents: Tensor) -> Tensor:
    """Currents ``[T, ...]`` into a SpikingJelly neuron layer, all steps in one pass, to spikes.

    Spikes and gradients are those of the layer's own forward, from rest. PLIF neurons,
    whose time constant learns, run their own forward.

    Raises:
        ValueError: The layer is of another class; its own forward runs it.
    """
    if runs_itself(layer):
        return _from_rest(layer, currents)
    neuron, surrogate = parameters_of(layer), surrogate_of(layer)
    return neuron_scan(currents, neuron, surrogate)


def _run_by_torch(layer: Any, currents: Tensor) -> Tensor:
    if runs_itself(layer):
        return _from_rest(layer, currents)
    neuron, surrogate = parameters_of(layer), surrogate_of(layer)
    return simulate(currents, neuron, surrogate).spikes


def _from_rest(layer: Any, currents: Tensor) -> Tensor:
    layer.reset()
    return cast(Tensor, layer(currents))


RUNNERS: dict[str, RunNeurons] = {
    "spikingjelly": lambda layer, currents: layer(currents),
    "torch": _run_by_torch,
    "scan": run_by_scan,
}
