"""A step forward, a smooth slope backward: surrogate gradients.

A neuron fires when its potential x = H - v_threshold is not negative. That step
has slope zero everywhere except at one point, so nothing could be learned
through it. A surrogate keeps the step in the forward pass and uses the slope of
a smooth stand-in, its ``primitive``, in the backward pass (Neftci, Mostafa &
Zenke 2019, Eq. 11; chapter 4).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnlib.checks import finite, float_tensor, keep_exact


def heaviside(x: Tensor) -> Tensor:
    """Return 1 where ``x >= 0`` and 0 elsewhere, in the type and shape of ``x``.

    Firing at exactly zero is SpikingJelly's convention; Norse and snnTorch fire
    only above it.

    Args:
        x: Distance of the potential from the threshold, any shape; a tensor or NumPy array.

    Raises:
        ValueError: A value is NaN or infinite.
    """
    return _step(finite("x", float_tensor("x", x)))


def _step(x: Tensor) -> Tensor:
    return (x >= 0).to(x)


def check_surrogate(surrogate: object) -> None:
    """Refuse what is no surrogate of this module."""
    if not isinstance(surrogate, _Surrogate):
        raise ValueError(f"surrogate must be ATan(...) or Sigmoid(...), got {surrogate!r}")


class _StepWithSlope(torch.autograd.Function):
    """The step, whose backward pass multiplies by the surrogate's derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: "ATan | Sigmoid") -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return _step(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad_outputs[0] * ctx.surrogate.derivative(x), None


@dataclass(frozen=True)
class _Surrogate:
    """What both surrogates share: a width and the step with a slope.

    Raises:
        ValueError: ``alpha`` is no finite number greater than 0.
    """

    alpha: float

    def __post_init__(self) -> None:
        keep_exact(self, {"alpha": {"above": 0}})

    def spike(self, x: Tensor) -> Tensor:
        """Fire where ``x >= 0``; backward, pass gradients times ``derivative(x)``.

        Args:
            x: Distance of the potential from the threshold, any shape; a tensor or NumPy
                array. This is called at every time step and does not look for NaN.

        Returns:
            Spikes, 0 or 1, in the shape and type of ``x``.
        """
        return _StepWithSlope.apply(float_tensor("x", x), self)

    def derivative(self, x: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class ATan(_Surrogate):
    """Arctangent surrogate (Fang et al. 2021, ICCV, Sec. 4.3); Eq. (4.2) of the book.

    ``alpha`` is the inverse width: the slope at zero is ``alpha / 2``.
    """

    alpha: float = 2.0

    def primitive(self, x: Tensor) -> Tensor:
        """The smooth step: ``atan(pi * alpha * x / 2) / pi + 1/2``."""
        x = float_tensor("x", x)
        return torch.atan(math.pi / 2 * self.alpha * x) / math.pi + 0.5

    def derivative(self, x: Tensor) -> Tensor:
        """Its slope: ``alpha / 2 / (1 + (pi * alpha * x / 2) ** 2)``."""
        x = float_tensor("x", x)
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * x).square())


@dataclass(frozen=True)
class Sigmoid(_Surrogate):
    """Logistic surrogate; Eq. (4.3) of the book. The slope at zero is ``alpha / 4``."""

    alpha: float = 4.0

    def primitive(self, x: Tensor) -> Tensor:
        """The smooth step: ``1 / (1 + exp(-alpha * x))``."""
        return torch.sigmoid(self.alpha * float_tensor("x", x))

    def derivative(self, x: Tensor) -> Tensor:
        """Its slope: ``alpha * s * (1 - s)`` with ``s = primitive(x)``."""
        smooth = self.primitive(x)
        return self.alpha * smooth * (1 - smooth)
