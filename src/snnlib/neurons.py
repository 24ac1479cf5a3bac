"""The leaky integrate-and-fire neuron: charge, fire, reset; one step and a whole run.

Each time step does three things (chapter 2):

    charge   H[t] = V[t-1] + (X[t] - (V[t-1] - v_reset)) / tau        (2.3)
    fire     S[t] = 1 if H[t] >= v_threshold else 0                   (2.5)
    reset    V[t] = v_reset where it fired, H[t] elsewhere     (hard) (2.6)
             V[t] = H[t] - v_threshold * S[t]                  (subtract) (2.7)

The integrate-and-fire neuron (IF) charges without a leak: H[t] = V[t-1] + X[t].
Which of the two a function runs, its constants say: ``LIFParameters`` or ``IFParameters``.
The state is passed in and handed back, because here it is the subject.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnlib.checks import finite, float_tensor, keep_exact
from snnlib.surrogate import ATan, Sigmoid, check_surrogate

RANGES: dict[str, dict[str, Any]] = {"tau": {"above": 1}}


@dataclass(frozen=True)
class IFParameters:
    """Constants of an integrate-and-fire neuron, which has no leak.

    ``v_reset=None`` asks for a reset by subtraction: a spike subtracts the threshold.
    ``detach_reset`` keeps the reset out of the gradient; the spikes are the same.

    Raises:
        ValueError: A constant is no finite number (a tensor that learns is none), or
            ``v_threshold`` is not above ``v_reset``, or above 0 with a reset by subtraction.
    """

    v_threshold: float = 1.0
    v_reset: float | None = 0.0
    detach_reset: bool = False

    def __post_init__(self) -> None:
        keep_exact(self, RANGES)
        if self.v_reset is not None and not self.v_threshold > self.v_reset:
            raise ValueError(
                f"v_threshold must be above v_reset={self.v_reset}, got {self.v_threshold}"
            )
        if self.v_reset is None and not self.v_threshold > 0:
            raise ValueError(
                f"v_threshold must be above 0 with a reset by subtraction, got {self.v_threshold}"
            )

    @property
    def v_rest(self) -> float:
        """Where the potential rests and starts: ``v_reset``, or 0 with a reset by subtraction."""
        return 0.0 if self.v_reset is None else self.v_reset

    @property
    def gain_and_leak(self) -> tuple[float, float]:
        """What a unit of current adds to H, and what a unit of V leaves in the next H."""
        return 1.0, 1.0

    def charge(self, current: Tensor, v: Tensor) -> Tensor:
        """H[t]: add the input to the potential of the step before."""
        return v + current


@dataclass(frozen=True)
class LIFParameters(IFParameters):
    """Constants of a leaky integrate-and-fire neuron; time is in steps.

    ``tau`` is the membrane time constant in steps: per step the potential loses
    the share 1/tau of its distance from rest. With ``decay_input`` (the default)
    the input is divided by tau too, as in the Euler step of Eq. (2.3); without
    it, H[t] = V[t-1] - (V[t-1] - v_reset) / tau + X[t].

    Raises:
        ValueError: As in :class:`IFParameters`, or ``tau`` is not above 1 step.
    """

    tau: float = 2.0
    decay_input: bool = True

    @property
    def gain_and_leak(self) -> tuple[float, float]:
        return (1.0 / self.tau if self.decay_input else 1.0), 1.0 - 1.0 / self.tau

    def charge(self, current: Tensor, v: Tensor) -> Tensor:
        """H[t] by Eq. (2.3), or its form without input decay."""
        if self.decay_input:
            return v + (current - (v - self.v_rest)) / self.tau
        return v - (v - self.v_rest) / self.tau + current


def check_neuron(neuron: object) -> None:
    """Refuse what are no constants of a neuron."""
    if not isinstance(neuron, IFParameters):
        raise ValueError(f"neuron must be IFParameters or LIFParameters, got {neuron!r}")


class Trace(NamedTuple):
    """What a run leaves behind: H, S and V, each ``[T, ...]``."""

    charged: Tensor
    spikes: Tensor
    v: Tensor


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


def neuron_step(
    current: Tensor, v: Tensor, neuron: IFParameters, surrogate: ATan | Sigmoid = ATan()
) -> tuple[Tensor, Tensor, Tensor]:
    """Advance neurons by one time step: charge, fire, reset (Eqs. 2.3-2.7).

    Args:
        current: Input X[t], any shape, in units of the potential; a tensor or NumPy array.
            Whole numbers become float32.
        v: Potential V[t-1] after the step before, in the shape of ``current``.
        neuron: The constants; ``LIFParameters`` leak.
        surrogate: Slope used for the spike in the backward pass.

    Returns:
        H[t], S[t] and V[t], each in the shape of ``current``.

    Raises:
        ValueError: ``v`` has another shape, or one of the two would have to be rounded.
    """
    check_neuron(neuron)
    check_surrogate(surrogate)
    current, v = _checked_state(current, v)
    return _step(current, v, neuron, surrogate)


def simulate(
    currents: Tensor,
    neuron: IFParameters,
    surrogate: ATan | Sigmoid = ATan(),
    v_initial: Tensor | None = None,
) -> Trace:
    """Run neurons over all time steps, from rest.

    Args:
        currents: Inputs X, ``[T, ...]``, in units of the potential; a tensor or NumPy
            array. Whole numbers become float32.
        neuron: The constants; ``LIFParameters`` leak.
        surrogate: Slope used for the spikes in the backward pass.
        v_initial: Potential before the first step, in the shape of
            ``currents[0]``; rest if left out.

    Returns:
        A trace of H, S and V, each in the shape of ``currents``.

    Raises:
        ValueError: ``currents`` holds no time step, or, where no gradient is asked for, a
            value that is not finite; or ``v_initial`` has another shape.
    """
    check_neuron(neuron)
    check_surrogate(surrogate)
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
    return Trace(torch.stack(charged_steps), torch.stack(spike_steps), torch.stack(v_steps))
