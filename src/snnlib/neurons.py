"""The leaky integrate-and-fire neuron: charge, fire, reset; one step and a whole run.

Each time step does three things (chapter 2):

    charge   H[t] = V[t-1] + (X[t] - (V[t-1] - v_reset)) / tau        (2.3)
    fire     S[t] = 1 if H[t] >= v_threshold else 0                   (2.5)
    reset    V[t] = v_reset where it fired, H[t] elsewhere     (hard) (2.6)
             V[t] = H[t] - v_threshold * S[t]                  (soft) (2.7)

The integrate-and-fire neuron (IF) charges without a leak: H[t] = V[t-1] + X[t].
The state is passed in and handed back, because here it is the subject.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snnlib.checks import finite, float_tensor, refuse
from snnlib.neuron_constants import IFParameters, LIFParameters
from snnlib.surrogate import ATan, Sigmoid

__all__ = [
    "IF",
    "LIF",
    "IFParameters",
    "LIFParameters",
    "LIFTrace",
    "if_step",
    "lif_step",
    "parameters_of",
    "simulate_if",
    "simulate_lif",
]


def parameters_of(layer: Any) -> IFParameters:
    """The constants of a SpikingJelly layer of IF or LIF neurons.

    Raises:
        ValueError: The layer is of another class, whose neurons obey another law.
    """
    from spikingjelly.activation_based.neuron import IFNode, LIFNode

    if type(layer) not in (IFNode, LIFNode):
        raise ValueError(
            f"layer must be exactly an IFNode or LIFNode of SpikingJelly, got a "
            f"{type(layer).__name__}; its own forward runs it, with engine='spikingjelly'"
        )
    constants = {name: getattr(layer, name) for name in ("v_threshold", "v_reset", "detach_reset")}
    if type(layer) is LIFNode:
        return LIFParameters(**constants, tau=layer.tau, decay_input=layer.decay_input)
    return IFParameters(**constants)


class LIFTrace(NamedTuple):
    """What a run leaves behind: H, S and V, each ``[T, ...]``."""

    charged: Tensor
    spikes: Tensor
    v: Tensor


def _check_neuron(neuron: IFParameters, leaks: bool) -> None:
    """IF and LIF neurons share their shape, not their law."""
    if not isinstance(neuron, IFParameters) or isinstance(neuron, LIFParameters) != leaks:
        wanted = "LIFParameters" if leaks else "IFParameters, without a leak"
        raise ValueError(f"neuron must be {wanted}, got {neuron!r}")


def _check_surrogate(surrogate: ATan | Sigmoid) -> None:
    if not hasattr(surrogate, "spike"):
        refuse("surrogate", "ATan or Sigmoid, or have their method spike", surrogate)


def _checked_state(current: Tensor, v: Tensor, name: str = "v") -> tuple[Tensor, Tensor]:
    """Refuse a potential that PyTorch would stretch to the input, or the input to it."""
    current = float_tensor("current", current)
    v = float_tensor(name, v)
    if v.shape != current.shape:
        raise ValueError(
            f"{name} must have the shape {list(current.shape)} of the input, got {list(v.shape)}"
        )
    return current, v


def _step(
    current: Tensor, v: Tensor, neuron: IFParameters, surrogate: ATan | Sigmoid
) -> tuple[Tensor, Tensor, Tensor]:
    charged = neuron.charge(current, v)
    spikes = surrogate.spike(charged - neuron.v_threshold)
    fired = spikes.detach() if neuron.detach_reset else spikes
    if neuron.v_reset is None:
        return charged, spikes, charged - fired * neuron.v_threshold
    return charged, spikes, (1 - fired) * charged + fired * neuron.v_reset


def lif_step(
    current: Tensor, v: Tensor, neuron: LIFParameters, surrogate: ATan | Sigmoid = ATan()
) -> tuple[Tensor, Tensor, Tensor]:
    """Advance LIF neurons by one time step: charge, fire, reset (Eqs. 2.3-2.7).

    Args:
        current: Input X[t], any shape, in units of the potential; a tensor or NumPy array.
            Whole numbers become float32.
        v: Potential V[t-1] after the step before, in the shape of ``current``.
        neuron: The constants.
        surrogate: Slope used for the spike in the backward pass.

    Returns:
        H[t], S[t] and V[t], each in the shape of ``current``.

    Raises:
        ValueError: ``v`` has another shape, one of the two would have to be rounded, or
            ``neuron`` does not leak.
    """
    _check_neuron(neuron, leaks=True)
    _check_surrogate(surrogate)
    current, v = _checked_state(current, v)
    return _step(current, v, neuron, surrogate)


def if_step(
    current: Tensor, v: Tensor, neuron: IFParameters, surrogate: ATan | Sigmoid = ATan()
) -> tuple[Tensor, Tensor, Tensor]:
    """Advance IF neurons by one time step; as :func:`lif_step`, without the leak."""
    _check_neuron(neuron, leaks=False)
    _check_surrogate(surrogate)
    current, v = _checked_state(current, v)
    return _step(current, v, neuron, surrogate)


def _simulate(
    currents: Tensor,
    neuron: IFParameters,
    surrogate: ATan | Sigmoid,
    v_initial: Tensor | None,
) -> LIFTrace:
    _check_surrogate(surrogate)
    currents = float_tensor("currents", currents)
    if not currents.requires_grad:  # those of a network that learns are its trainer's affair
        finite("currents", currents)
    if currents.dim() == 0 or len(currents) == 0:
        raise ValueError(
            f"currents must be [T, ...] with T of at least 1, got {tuple(currents.shape)}"
        )
    v = torch.full_like(currents[0], neuron.v_rest)
    if v_initial is not None:
        _, v = _checked_state(currents[0], v_initial, "v_initial")
    charged_steps, spike_steps, v_steps = [], [], []
    for current in currents:
        charged, spikes, v = _step(current, v, neuron, surrogate)
        charged_steps.append(charged)
        spike_steps.append(spikes)
        v_steps.append(v)
    return LIFTrace(torch.stack(charged_steps), torch.stack(spike_steps), torch.stack(v_steps))


def simulate_lif(
    currents: Tensor,
    neuron: LIFParameters,
    surrogate: ATan | Sigmoid = ATan(),
    v_initial: Tensor | None = None,
) -> LIFTrace:
    """Run LIF neurons over all time steps, from rest.

    Args:
        currents: Inputs X, ``[T, ...]``, in units of the potential; a tensor or NumPy
            array. Whole numbers become float32.
        neuron: The constants.
        surrogate: Slope used for the spikes in the backward pass.
        v_initial: Potential before the first step, in the shape of
            ``currents[0]``; rest if left out.

    Returns:
        A trace of H, S and V, each in the shape of ``currents``.

    Raises:
        ValueError: ``currents`` holds no time step, or, where no gradient is asked for, a
            value that is not finite; ``v_initial`` has another shape, or ``neuron`` does
            not leak.
    """
    _check_neuron(neuron, leaks=True)
    return _simulate(currents, neuron, surrogate, v_initial)


def simulate_if(
    currents: Tensor,
    neuron: IFParameters,
    surrogate: ATan | Sigmoid = ATan(),
    v_initial: Tensor | None = None,
) -> LIFTrace:
    """Run IF neurons over all time steps; as :func:`simulate_lif`, without the leak."""
    _check_neuron(neuron, leaks=False)
    return _simulate(currents, neuron, surrogate, v_initial)


class LIF(nn.Module):
    """A layer of LIF neurons: currents ``[T, ...]`` to spikes ``[T, ...]``, from rest each time."""

    def __init__(
        self, neuron: LIFParameters = LIFParameters(), surrogate: ATan | Sigmoid = ATan()
    ) -> None:
        super().__init__()
        _check_neuron(neuron, leaks=True)
        self.neuron = neuron
        self.surrogate = surrogate

    def forward(self, currents: Tensor) -> Tensor:
        return _simulate(currents, self.neuron, self.surrogate, None).spikes


class IF(nn.Module):
    """A layer of IF neurons: currents ``[T, ...]`` to spikes ``[T, ...]``, from rest each time."""

    def __init__(
        self, neuron: IFParameters = IFParameters(), surrogate: ATan | Sigmoid = ATan()
    ) -> None:
        super().__init__()
        _check_neuron(neuron, leaks=False)
        self.neuron = neuron
        self.surrogate = surrogate

    def forward(self, currents: Tensor) -> Tensor:
        return _simulate(currents, self.neuron, self.surrogate, None).spikes
