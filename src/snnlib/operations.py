"""Counting what a network computes: additions where a spike arrives, products where a number does.

Work is counted where it happens, at the connections between layers:

    synaptic operation     a spike arrives at a connection, and its weight is added
    multiply-accumulate    a number arrives, is multiplied by the weight, and added

Both counts are exact; a convolution has fewer connections at its borders. The
energy that they stand for is an estimate, see :func:`energy_pj`.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from spikingjelly.activation_based import layer as layers
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, nn
from torch.nn.modules import batchnorm, dropout, pooling

from snnlib import checks

# One 32-bit floating-point operation in 45 nm at 0.9 V, in picojoules: Horowitz
# (2014), "Computing's energy problem", ISSCC, Fig. 1.1.9.
ADD_PJ, MULTIPLY_PJ = 0.9, 3.7

_COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FREE = (
    *(BaseNode, nn.ReLU, nn.Identity, nn.Flatten, nn.Unflatten),
    *(batchnorm._NormBase, dropout._DropoutNd, layers.Dropout),
    *(pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveMaxPoolNd),
    pooling._AdaptiveAvgPoolNd,
)


def energy_pj(
    accumulates: float,
    multiply_accumulates: float,
    *,
    accumulate_pj: float = ADD_PJ,
    multiply_accumulate_pj: float = ADD_PJ + MULTIPLY_PJ,
) -> float:
    """Estimate the energy of the arithmetic at the connections, in picojoules.

    An addition costs 0.9 pJ and a multiplication 3.7 pJ (32-bit floating point,
    45 nm: Horowitz 2014, Fig. 1.1.9), so a multiply-accumulate costs 4.6 pJ.

    Left out: reading weights and potentials from memory, which costs more than the
    arithmetic on most machines; the neurons' own updates (leak, threshold, reset);
    drawing random numbers; finding out who spiked, and sending it there. An
    estimate compares networks, it does not predict what a socket delivers.

    Args:
        accumulates: Synaptic operations.
        multiply_accumulates: Likewise of numbers.
        accumulate_pj: Energy of one of the former, in picojoules.
        multiply_accumulate_pj: Energy of one of the latter.
    """
    accumulates = checks.number("accumulates", accumulates, least=0)
    multiply_accumulates = checks.number("multiply_accumulates", multiply_accumulates, least=0)
    add = checks.number("accumulate_pj", accumulate_pj, least=0)
    multiply = checks.number("multiply_accumulate_pj", multiply_accumulate_pj, least=0)
    return add * accumulates + multiply * multiply_accumulates


def fan_out(layer: nn.Module, shape: Iterable[int]) -> Tensor:
    """Count the connections that leave each input of a layer.

    With all weights 1 and no bias, the sum over all outputs grows by exactly that
    number per unit of one input; so it is the gradient of that sum.

    Args:
        layer: A convolution or a dense layer.
        shape: Shape of one input, without time and batch: ``(C, H, W)`` or ``(n,)``.

    Returns:
        Whole numbers in that shape, float64 on the CPU; padding is no input.

    Raises:
        ValueError: ``layer`` has no weights to count, or takes no input of that shape.
    """
    kind = next((kind for kind in _COUNTED if isinstance(layer, kind)), None)
    if kind is None:
        raise ValueError(f"layer must be a convolution or a dense layer, got {layer}")
    shape = [checks.whole_number("shape", size, 1) for size in shape]
    ones: Any = copy.deepcopy(layer).to("cpu", torch.float64)
    nn.init.ones_(ones.weight)
    if ones.bias is not None:
        nn.init.zeros_(ones.bias)
    image = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():  # the plain forward: no time, whatever the library adds
        try:
            total = kind.forward(ones, image).sum()
        except RuntimeError as error:
            raise ValueError(f"shape must be one that {layer} takes, got {shape}") from error
    return torch.autograd.grad(total, image)[0][0].round()


def are_spikes(x: Tensor) -> bool:
    """Whether all values are 0 or 1."""
    return torch.equal((x != 0).to(x.dtype), x)


def arrivals(x: Tensor, connections: Tensor) -> Tensor:
    """Connections that see a value other than 0: ``[T, N, ...]`` to sums over images ``[T]``.

    Args:
        x: What arrives at a layer.
        connections: Of each input, ``[...]``, from :func:`fan_out`.

    Returns:
        Whole numbers in float64, which holds all that can occur, on the CPU.
    """
    return (x != 0).sum(1).cpu().double().flatten(1) @ connections.flatten()


@dataclass
class Operations:
    """What the layers of a network did: means per image, by the layer's name in it.

    Lists hold a value for each step, in the order of the calls; a layer that is called twice
    a step has two. At a step at which all that arrives is 0 or 1, ``synaptic_operations`` are
    counted; at any other, ``multiply_accumulates``: one for each connection, and those of
    numbers other than 0 alone, which a machine that skips zeros would do.
    ``not_counted`` names layers whose work is unknown here, and their class.
    """

    synaptic_operations: dict[str, list[float]] = field(default_factory=dict)
    multiply_accumulates: dict[str, list[float]] = field(default_factory=dict)
    nonzero_multiply_accumulates: dict[str, list[float]] = field(default_factory=dict)
    not_counted: dict[str, str] = field(default_factory=dict)

    def energy_pj(self, **picojoules: float) -> float:
        """Estimated energy per image; ``picojoules`` as in the function :func:`energy_pj`."""
        kinds = (self.synaptic_operations, self.multiply_accumulates)
        return energy_pj(*(sum(map(sum, kind.values())) for kind in kinds), **picojoules)


@contextmanager
def counting_operations(network: nn.Module, n_images: int) -> Iterator[Operations]:
    """Count what the dense and convolutional layers of any network do in the ``with`` block.

    Call the network inside as you always do, in multi-step mode or step by step, with one
    batch: ``with counting_operations(network, len(images)) as counts: network(x)``. The
    network is watched by hooks, and computes what it would compute without.

    Nothing is counted for neurons, for pooling, for dropout, and for batch norm, which in
    evaluation mode is part of the weights before it; nor for biases. A constant image that
    is shown at T steps is multiplied T times. Not seen is what a forward does without a
    layer, as ``torch.matmul``. SpikingJelly's ``SynOpCounter`` finds as many synaptic
    operations; its ``MACCounter`` multiplies the zeros of a padding, too.

    Args:
        network: Any module, with layers inside of others, too.
        n_images: Images in the batch, N. Layers get ``[T, N, ...]``, ``[T * N, ...]`` with
            time first, or ``[N, ...]`` at each step.

    Returns:
        The counts; read them after the block.

    Raises:
        ValueError: ``network`` is no module, or a layer inside gets an input whose shape does
            not fit ``n_images``.
    """
    checks.instance("network", network, nn.Module)
    n_images = checks.whole_number("n_images", n_images, least=1)
    counts, watches = Operations(), []
    parts: dict[nn.Module, str] = {}
    for name, part in _parts(network):
        parts.setdefault(part, name)  # a layer in two places is called by its first name
    for part, name in parts.items():
        if isinstance(part, _COUNTED):
            watch = _watch(counts, name, n_images)
            watches.append(part.register_forward_hook(watch, with_kwargs=True))
        elif not isinstance(part, _FREE):
            counts.not_counted[name] = type(part).__name__
    try:
        yield counts
    finally:
        for handle in watches:
            handle.remove()
    for part, name in parts.items():
        if isinstance(part, _COUNTED) and name not in counts.synaptic_operations:
            counts.not_counted[name] = f"{type(part).__name__}, which was not called"


def _parts(network: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Layers by name: what has nothing inside, or numbers of its own beside what is inside."""
    whole = isinstance(network, (*_COUNTED, *_FREE)) or not any(network.children())
    if whole or any(True for _ in network.parameters(recurse=False)):
        yield name or type(network).__name__, network
    if not whole:
        for child_name, child in network.named_children():
            yield from _parts(child, f"{name}.{child_name}" if name else child_name)


def _watch(counts: Operations, name: str, n_images: int) -> Any:
    """The hook of one layer."""
    known: dict[torch.Size, Tensor] = {}

    def count(part: nn.Module, args: Any, kwargs: Any, _: Tensor) -> None:
        x = _time_first(name, part, args[0] if args else next(iter(kwargs.values())), n_images)
        if x.shape[2:] not in known:
            known[x.shape[2:]] = fan_out(part, x.shape[2:])
        connections = known[x.shape[2:]]
        nonzero = arrivals(x, connections) / n_images
        spiking = torch.tensor([are_spikes(step) for step in x]).double()
        every = connections.sum() * (1 - spiking)
        for kind, more in (
            (counts.synaptic_operations, nonzero * spiking),
            (counts.multiply_accumulates, every),
            (counts.nonzero_multiply_accumulates, nonzero * (1 - spiking)),
        ):
            kind.setdefault(name, []).extend(more.tolist())

    return count


def _time_first(name: str, part: nn.Module, x: Tensor, n_images: int) -> Tensor:
    """What arrives at a layer as ``[T, N, ...]``."""
    x = x.detach()
    inner = 1 if isinstance(part, nn.Linear) else part.weight.dim() - 1  # type: ignore
    if x.dim() >= inner + 2 and x.shape[1] == n_images:
        return x
    if x.dim() > inner and len(x) % n_images == 0 and getattr(part, "step_mode", "s") == "s":
        return x.unflatten(0, (-1, n_images))
    raise ValueError(
        f"n_images must fit what arrives at {name}, of shape {list(x.shape)}, got {n_images}"
    )
