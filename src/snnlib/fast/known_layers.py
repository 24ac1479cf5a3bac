"""Which layers a fast engine may replace: exact classes, plain use, and a refusal for the rest.

An engine that computes a layer in its own way must know all that the layer does. A
subclass, a hook, a bias, another window or another surrogate may change the answer,
so nothing is guessed here: a layer is one of those below in all its settings, or it
runs its own forward, or it is refused by name.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from spikingjelly.activation_based import layer as layers
from spikingjelly.activation_based import neuron as nodes
from spikingjelly.activation_based import surrogate as slopes
from torch import nn

from snnlib.checks.layers import CURE, KNOWN_NEURONS, is_touched, refuse_layer
from snnlib.networks import layers_of
from snnlib.neurons import IFParameters, LIFParameters
from snnlib.surrogate import ATan, Sigmoid

Wanted = Callable[[Any], bool]


def parameters_of(layer: Any) -> IFParameters:
    """The constants of a SpikingJelly layer of IF or LIF neurons.

    Raises:
        ValueError: The layer is of another class, whose neurons obey another law.
    """
    if type(layer) not in (nodes.IFNode, nodes.LIFNode):
        raise ValueError(
            f"layer must be exactly an IFNode or LIFNode of SpikingJelly, got a "
            f"{type(layer).__name__}; its own forward runs it, with engine='spikingjelly'"
        )
    constants = {name: getattr(layer, name) for name in ("v_threshold", "v_reset", "detach_reset")}
    if type(layer) is nodes.LIFNode:
        return LIFParameters(**constants, tau=layer.tau, decay_input=layer.decay_input)
    return IFParameters(**constants)


class Block(NamedTuple):
    """A convolution, perhaps a norm, neurons; a 2 x 2 max pool follows."""

    convolution: Any
    norm: Any
    neurons: Any


def runs_itself(node: nn.Module) -> bool:
    """Whether neurons are left to their own forward, since no engine knows all that they do.

    These are PLIF neurons, whose time constant learns; and IF and LIF neurons with hooks,
    a stored ``v_seq``, a surrogate other than ATan and Sigmoid, another start than rest, or
    constants that ours may not have, say a threshold below rest.

    Raises:
        ValueError: They are of another class, or not in multi-step mode.
    """
    if type(node) not in KNOWN_NEURONS:
        parameters_of(node)  # refuses them by name: another class
    if node.step_mode != "m":
        raise ValueError(
            f"step_mode of {type(node).__name__} must be 'm', all steps in one call, "
            f"got {node.step_mode!r}"
        )
    return type(node) is nodes.ParametricLIFNode or _does_more(node)


def surrogate_of(node: Any) -> ATan | Sigmoid:
    """The surrogate of a layer of neurons, in our own words.

    Raises:
        ValueError: It is neither ATan nor Sigmoid, or does not spike.
    """
    slope = node.surrogate_function
    ours: dict[Any, type[ATan] | type[Sigmoid]] = {slopes.ATan: ATan, slopes.Sigmoid: Sigmoid}
    if type(slope) not in ours or not slope.spiking or is_touched(slope):
        raise ValueError(
            f"surrogate_function must be SpikingJelly's ATan or Sigmoid, spiking, got {slope}; "
            f"{CURE}"
        )
    return ours[type(slope)](float(slope.alpha))


def knows(engine: str, network: nn.Module) -> bool:
    """Whether an engine takes all layers of a network as they are."""
    try:
        if engine == "events":
            dense_layer(network)
        elif engine == "fused":
            blocks_of(network)
        elif engine != "spikingjelly":
            for part in layers_of(network):
                if isinstance(part, nodes.BaseNode):
                    runs_itself(part)
    except ValueError:
        return False
    return True


def dense_layer(network: nn.Module) -> tuple[nn.Linear, Any]:
    """The dense layer and the neurons of a network of these two, for the engine ``events``.

    Raises:
        ValueError: There are other layers, or they do more than the engine knows.
    """
    row = layers_of(network)
    for number, wanted in enumerate((_is_flatten, _is_dense, _is_known_node)):
        if number >= len(row) or not wanted(row[number]):
            refuse_layer(number, row[number] if number < len(row) else None, _EVENTS)
    if len(row) > 3:
        refuse_layer(3, row[3], _EVENTS)
    _check_float32(network, "events")
    return row[1], row[2]  # type: ignore[return-value]


_EVENTS = "does not fit engine='events', which knows Flatten, Linear and IF or LIF neurons"
_FUSED = (
    "does not fit engine='fused', which knows blocks of Conv2d (3 x 3, padding 1, no bias), "
    "BatchNorm2d or none, IF neurons with ATan and MaxPool2d(2, 2), then Flatten, then Linear "
    "without bias and IF or LIF neurons"
)


def blocks_of(network: nn.Module) -> tuple[list[Block], list[tuple[nn.Linear, Any]]]:
    """Convolutional blocks, and dense layers with their neurons, for the engine ``fused``.

    Raises:
        ValueError: Layers come in another order, or do more than the engine knows.
    """
    parts = _Parts(layers_of(network))
    blocks: list[Block] = []
    dense: list[tuple[nn.Linear, Any]] = []
    while not blocks or not parts.next_is(_is_flatten):
        convolution = parts.take(_is_convolution)
        norm = parts.take(_is_norm) if parts.next_is(_is_norm) else None
        blocks.append(Block(convolution, norm, parts.take(_is_fused_node)))
        parts.take(_is_pool)
    parts.take(_is_flatten)
    while not dense or parts.left:
        weights = parts.take(_is_dense_without_bias)
        adds_up = parts.left == 1 and parts.next_is(_is_identity)
        dense.append((weights, parts.take(_is_identity if adds_up else _is_known_node)))
    _check_float32(network, "fused")
    return blocks, dense


def is_plain_linear(part: Any) -> bool:
    """Whether a call does no more than ``inputs @ part.weight.T + part.bias``.

    A subclass with a forward of its own does more, and so do hooks, as those that prune.
    """
    plain = isinstance(part, nn.Linear) and type(part).forward is nn.Linear.forward
    return plain and not is_touched(part)


def _check_float32(network: nn.Module, engine: str) -> None:
    for name, weight in network.named_parameters():
        if weight.dtype != torch.float32:
            raise ValueError(
                f"network must have float32 weights for engine={engine!r}, "
                f"got {name} in {weight.dtype}; {CURE}"
            )


class _Parts:
    """Layers taken one after the other; what is not expected is refused by name."""

    def __init__(self, row: list[nn.Module]) -> None:
        self.row, self.number = row, 0

    @property
    def left(self) -> int:
        return len(self.row) - self.number

    def next_is(self, wanted: Wanted) -> bool:
        return self.left > 0 and wanted(self.row[self.number])

    def take(self, wanted: Wanted) -> Any:
        if not self.next_is(wanted):
            refuse_layer(self.number, self.row[self.number] if self.left else None, _FUSED)
        self.number += 1
        return self.row[self.number - 1]


def _is_flatten(part: Any) -> bool:
    plain = type(part) is layers.Flatten and (part.start_dim, part.end_dim) == (1, -1)
    return plain and _is_plain(part)


def _is_identity(part: Any) -> bool:
    return type(part) is nn.Identity and _is_plain(part)


def _is_dense(part: Any) -> bool:
    return type(part) in (layers.Linear, nn.Linear) and _is_plain(part)


def _is_dense_without_bias(part: Any) -> bool:
    return _is_dense(part) and part.bias is None


def _is_convolution(part: Any) -> bool:
    if type(part) is not layers.Conv2d or not _is_plain(part) or part.bias is not None:
        return False
    sizes = (part.kernel_size, part.stride, part.padding, part.dilation)
    wanted = ((3, 3), (1, 1), (1, 1), (1, 1))
    return sizes == wanted and part.groups == 1 and part.padding_mode == "zeros"


def _is_norm(part: Any) -> bool:
    return type(part) is layers.BatchNorm2d and _is_plain(part) and part.affine


def _is_pool(part: Any) -> bool:
    if type(part) is not layers.MaxPool2d or not _is_plain(part):
        return False
    sizes = (part.kernel_size, part.stride, part.padding, part.dilation)
    wanted = (2, 2, 0, 1)
    alike = all(size in (n, (n, n)) for size, n in zip(sizes, wanted, strict=True))
    return alike and not part.ceil_mode and not part.return_indices


def _is_known_node(part: Any) -> bool:
    plain = type(part) in (nodes.IFNode, nodes.LIFNode) and part.step_mode == "m"
    return plain and not _does_more(part)


def _is_fused_node(part: Any) -> bool:
    known = _is_known_node(part) and type(part) is nodes.IFNode
    return known and isinstance(surrogate_of(part), ATan)


def _does_more(node: Any) -> bool:
    """Whether neurons do anything beside charge, fire and reset with a surrogate we know."""
    slope = node.surrogate_function
    known = type(slope) in (slopes.ATan, slopes.Sigmoid) and slope.spiking
    numbers = (slope.alpha if known else 0.0, node.v_threshold, getattr(node, "tau", 2.0))
    known = known and all(isinstance(number, float | int) for number in numbers)
    start = node.get_reset_value("v")
    rest = 0.0 if node.v_reset is None else node.v_reset
    at_rest = isinstance(start, float | int) and start == rest
    plain = known and at_rest and not node.store_v_seq and node._neuron_precision is None
    if plain and type(node) in (nodes.IFNode, nodes.LIFNode):
        try:
            parameters_of(node)
        except ValueError:  # constants that ours may not have
            return True
    return not plain or is_touched(node) or is_touched(slope)


def _is_plain(part: Any) -> bool:
    return getattr(part, "step_mode", "m") == "m" and not is_touched(part)
