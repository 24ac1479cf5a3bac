"""Backpropagation through time for one layer, written out by hand.

Forward, at each step t = 1..T (chapter 2):

    X[t] = W s[t],   H[t] = charge(X[t], V[t-1]),   S[t] = step(H[t] - v_threshold),
    V[t] = (1 - S[t]) H[t] + S[t] v_reset   (hard)   or   H[t] - S[t] v_threshold   (soft).

Backward, from the last step to the first, with g(a) = dL/da (Eqs. (5.4) and (5.5) of the book;
Werbos 1990, and Neftci, Mostafa & Zenke 2019 for the surrogate slope):

    g(H[t]) = g(S[t]) sigma'(H[t] - v_threshold) + g(V[t]) dV[t]/dH[t]
    g(V[t-1]) = g(H[t]) dH[t]/dV[t-1],      dL/dW = sum over t of (dH/dX g(H[t]))^T s[t].

No autograd is used here; the tests hold the result equal to autograd's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from snnlib.checks import finite, float_tensor, instance, refuse
from snnlib.neurons import LIFParameters, simulate
from snnlib.surrogate import ATan, Sigmoid


@dataclass(frozen=True)
class Tape:
    """What the backward pass needs: inputs ``[T, N, M]``, weight ``[K, M]``, H, S ``[T, N, K]``."""

    spikes_in: Tensor
    weight: Tensor
    charged: Tensor
    spikes: Tensor

    @property
    def rate(self) -> Tensor:
        """Output spikes per step, ``[N, K]``."""
        return self.spikes.mean(dim=0)


@dataclass(frozen=True)
class OneLayerLIF:
    """Linear -> LIF with a hand-written forward and backward pass."""

    neuron: LIFParameters = LIFParameters()
    surrogate: ATan | Sigmoid = ATan()

    def __post_init__(self) -> None:
        instance("neuron", self.neuron, LIFParameters)
        instance("surrogate", self.surrogate, ATan, Sigmoid)

    @torch.no_grad()
    def forward(self, spikes_in: Tensor, weight: Tensor) -> Tape:
        """Run the layer from rest and keep a tape.

        Args:
            spikes_in: Input spikes, ``[T, N, M]`` (M = 784 for MNIST); a tensor or NumPy
                array of any type that the type of ``weight`` holds exactly.
            weight: ``[K, M]``; a tensor or NumPy array.

        Returns:
            The tape; ``tape.rate`` is the answer, ``[N, K]``.

        Raises:
            ValueError: The shapes do not fit together, or a value is not finite or would
                have to be rounded.
        """
        weight = finite("weight", float_tensor("weight", weight))
        spikes_in = finite("spikes_in", float_tensor("spikes_in", spikes_in, weight.dtype))
        if spikes_in.dim() != 3 or weight.dim() != 2 or spikes_in.shape[2] != weight.shape[1]:
            raise ValueError(
                f"spikes_in must be [T, N, M] and weight [K, M], "
                f"got {tuple(spikes_in.shape)} and {tuple(weight.shape)}"
            )
        trace = simulate(spikes_in @ weight.T, self.neuron, self.surrogate)
        return Tape(spikes_in, weight, trace.charged, trace.spikes)

    @torch.no_grad()
    def backward(self, tape: Tape, grad_rate: Tensor) -> Tensor:
        """Walk the tape backwards.

        Args:
            tape: From :meth:`forward`.
            grad_rate: dL/d(rate), ``[N, K]``; a tensor or NumPy array.

        Returns:
            dL/dW, ``[K, M]``.

        Raises:
            ValueError: ``grad_rate`` has another shape, or is not finite.
        """
        instance("tape", tape, Tape)
        grad_rate = finite("grad_rate", float_tensor("grad_rate", grad_rate, tape.weight.dtype))
        if grad_rate.shape != tape.spikes.shape[1:]:
            refuse("grad_rate", f"of shape {list(tape.spikes.shape[1:])}, as the rate", grad_rate)
        n_steps = len(tape.spikes)
        grad_spikes = grad_rate / n_steps  # the rate is the mean over T
        grad_v = torch.zeros_like(grad_rate)  # nothing comes after the last step
        grad_weight = torch.zeros_like(tape.weight)
        for t in reversed(range(n_steps)):
            grad_charged = self._grad_charged(tape.charged[t], tape.spikes[t], grad_spikes, grad_v)
            grad_weight += self._input_share * grad_charged.T @ tape.spikes_in[t]
            grad_v = (1 - 1 / self.neuron.tau) * grad_charged
        return grad_weight

    @property
    def _input_share(self) -> float:
        """dH[t]/dX[t]."""
        return 1 / self.neuron.tau if self.neuron.decay_input else 1.0

    def _grad_charged(
        self, charged: Tensor, spikes: Tensor, grad_spikes: Tensor, grad_v: Tensor
    ) -> Tensor:
        """g(H[t]): through the spike, and through the potential that is left."""
        neuron = self.neuron
        slope = self.surrogate.derivative(charged - neuron.v_threshold)
        # How much of H survives the reset, and how far the potential drops in it.
        if neuron.v_reset is None:
            kept, drop = torch.ones_like(spikes), torch.full_like(charged, neuron.v_threshold)
        else:
            kept, drop = 1 - spikes, charged - neuron.v_reset
        if not neuron.detach_reset:
            grad_spikes = grad_spikes - grad_v * drop
        return grad_v * kept + grad_spikes * slope
