"""Which layers an engine may take apart, and how one that it may not is refused."""

from typing import Any, NoReturn

from spikingjelly.activation_based import layer, neuron
from torch import nn

CURE = "engine='spikingjelly' runs the network's own layers"

# Layers that do at each step the same, whatever came before.
_WITHOUT_TIME = (
    layer.Flatten,
    layer.Linear,
    layer.Conv2d,
    layer.BatchNorm2d,
    layer.MaxPool2d,
    layer.AvgPool2d,
    nn.Linear,
    nn.ReLU,
    nn.Identity,
)
_DROPOUTS = (layer.Dropout, layer.Dropout2d, nn.Dropout)  # nothing in evaluation mode
KNOWN_NEURONS = (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode)


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_METHODS = {"forward", "_conv_forward", "_check_input_dim", "materialize_states"}
_METHODS |= {"single_step_forward", "multi_step_forward"}
_METHODS |= {"single_step_functional_forward", "multi_step_functional_forward"}


def first_layer_in_time(row: list[nn.Module]) -> int:
    """Number of the first layer whose answer may differ from step to step; ``len`` if none."""
    for number, part in enumerate(row):
        idle = type(part) in _DROPOUTS and not part.training
        if is_touched(part) or not (idle or type(part) in _WITHOUT_TIME):
            return number
    return len(row)


def check_countable(row: list[nn.Module]) -> None:
    """Refuse layers whose work nobody has learnt to count, or that hold others inside."""
    for number, part in enumerate(row):
        if type(part) not in (*_WITHOUT_TIME, *_DROPOUTS, *KNOWN_NEURONS):
            refuse_layer(number, part, "is not known here, so its work cannot be counted", cure="")
        if isinstance(part, neuron.BaseNode) and not getattr(
            part.surrogate_function, "spiking", True
        ):
            refuse_layer(number, part, "must spike, to have its spikes counted", cure="")


def is_touched(module: Any) -> bool:
    """Whether a module has hooks, or a forward of its own that its class does not have."""
    state = vars(module)
    hooked = any(state[name] for name in _HOOKS)
    return hooked or not _METHODS.isdisjoint(state)


def refuse_layer(number: int, part: nn.Module | None, why: str, cure: str = CURE) -> NoReturn:
    """Refuse a layer by its number, class and settings."""
    told = "is missing: the network" if part is None else f"({type(part).__name__})"
    if part is not None and (settings := part.extra_repr()):
        told = f"({type(part).__name__}({settings}))"
    raise ValueError(f"layer {number} {told} {why}" + (f"; {cure}" if cure else ""))


def check_step_modes(row: nn.Module, place: str = "layers") -> None:
    """Refuse a layer in single-step mode, say neurons put in later: it would take time for images.

    Raises:
        ValueError: There is one, in the row itself or in a plain ``nn.Sequential`` inside.
    """
    for name, part in row.named_children():
        if type(part) is nn.Sequential:
            check_step_modes(part, f"{place}.{name}")
        elif getattr(part, "step_mode", "m") != "m":
            raise ValueError(
                f"network.{place}.{name} must have step_mode='m', all steps in one call, got "
                f"{type(part).__name__} with {part.step_mode!r}; "
                "functional.set_step_mode(network, 'm') of SpikingJelly sets all layers"
            )
