"""The constants of IF and LIF neurons, and how both charge. Needs no torch until it computes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snnlib.checks import keep_exact

if TYPE_CHECKING:
    from torch import Tensor

RANGES: dict[str, dict[str, Any]] = {"tau": {"above": 1}}


@dataclass(frozen=True)
class IFParameters:
    """Constants of an integrate-and-fire neuron, which has no leak.

    ``v_reset=None`` asks for a soft reset: a spike subtracts the threshold.
    ``detach_reset`` keeps the reset out of the gradient; the spikes are the same.

    Raises:
        ValueError: A constant is no finite number (a tensor that learns is none), or
            ``v_threshold`` is not above ``v_reset``, or above 0 with a soft reset.
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
                f"v_threshold must be above 0 with a soft reset, got {self.v_threshold}"
            )

    @property
    def v_rest(self) -> float:
        """Where the potential rests and starts: ``v_reset``, or 0 with a soft reset."""
        return 0.0 if self.v_reset is None else self.v_reset

    @property
    def gain_and_leak(self) -> tuple[float, float]:
        """What a unit of current adds to H, and what a unit of V leaves in the next H."""
        return 1.0, 1.0

    def charge(self, current: "Tensor", v: "Tensor") -> "Tensor":
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

    def charge(self, current: "Tensor", v: "Tensor") -> "Tensor":
        """H[t] by Eq. (2.3), or its form without input decay."""
        if self.decay_input:
            return v + (current - (v - self.v_rest)) / self.tau
        return v - (v - self.v_rest) / self.tau + current


def check_law(neuron: object, leaks: bool | None = None) -> None:
    """Refuse what are no constants of a neuron, or those of another law (``leaks``)."""
    wanted = "IFParameters or LIFParameters"
    if leaks is not None:
        wanted = "LIFParameters" if leaks else "IFParameters, without a leak"
    other = leaks is not None and isinstance(neuron, LIFParameters) != leaks
    if not isinstance(neuron, IFParameters) or other:
        raise ValueError(f"neuron must be {wanted}, got {neuron!r}")
