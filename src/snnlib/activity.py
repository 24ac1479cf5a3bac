"""What the layers of a network do: their spikes, who never or always fires, and a pull on rates.

A neuron that never fires tells the next layer nothing, and neither does one that always
does. Weights that begin too small or too large make many of both, and a surrogate's slope is
small where the potential is far from the threshold, so they may stay so.
"""

import torch
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, nn

from snnlib.checks import float_tensor, number, refuse
from snnlib.networks import layers_of


def layer_spikes(network: nn.Module, sequence: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Run one trial and keep the spikes of every layer that fires, with their gradients.

    Args:
        network: One of ``snnlib.networks`` or ``snnlib.hidden``.
        sequence: Its input, time first.

    Returns:
        What ``network(sequence)`` returns, and spikes ``[T, N, ...]`` of each layer of
        neurons, first to last; those of the output are among them if it fires.

    Raises:
        ValueError: As in the network, or it has no row of layers or hooks on them.
    """
    kept: list[Tensor] = []
    firing = [part for part in layers_of(network) if _fires(part)]
    hooks = [part.register_forward_hook(lambda _, __, out: kept.append(out)) for part in firing]
    try:
        return network(sequence), kept
    finally:
        for hook in hooks:
            hook.remove()


def _fires(part: nn.Module) -> bool:
    """Whether it is a layer of neurons, recurrent ones too, that has a threshold to reach."""
    nodes = [inner for inner in part.modules() if isinstance(inner, BaseNode)]
    return any(node.v_threshold < torch.inf for node in nodes)


def silent_and_saturated(spikes: Tensor) -> tuple[float, float]:
    """Two shares of neurons: never firing, and firing at each step, on a whole batch.

    Args:
        spikes: ``[T, N, ...]``, 0 or 1; a tensor or NumPy array. All but the first two axes
            number the neurons.

    Raises:
        ValueError: ``spikes`` hold no step, no image or no neuron.
    """
    rate = _neuron_rates(spikes)
    return (rate == 0).double().mean().item(), (rate == 1).double().mean().item()


def rate_penalty(spikes: Tensor, low: float, high: float) -> Tensor:
    """Pull the mean rate of each neuron into a band: a term to be added to the loss.

    The mean over neurons of the squared distance of r, a neuron's mean over steps and
    images, from [low, high]; 0 where r is inside. Its gradient reaches silent neurons too,
    through the slope of the surrogate.

    Args:
        spikes: ``[T, N, ...]``, 0 or 1, of one layer; a tensor or NumPy array.
        low: Smallest rate that costs nothing, spikes per step.
        high: Largest one, from ``low`` to 1.

    Returns:
        A scalar, at most 1.

    Raises:
        ValueError: The band is no part of [0, 1], or ``spikes`` hold no step, image or neuron.
    """
    low = number("low", low, least=0, most=1)
    high = number("high", high, least=low, most=1)
    rate = _neuron_rates(spikes)
    return (rate - rate.clamp(low, high)).square().mean()


def _neuron_rates(spikes: Tensor) -> Tensor:
    """Mean over steps and images, one rate per neuron."""
    given = float_tensor("spikes", spikes)
    if given.dim() < 3 or not given.numel():
        refuse("spikes", "[T, N, ...], with at least one step, image and neuron", given)
    return given.flatten(2).mean(dim=(0, 1))
