"""A whole run of LIF or IF neurons as one step of autograd.

``simulate`` lets autograd remember every little operation of every time
step: five or six tensors per step, and as many calls on the way back. A scan
remembers one tensor, the charged potential H, and walks back by the recursion
of chapter 5, written out. With G the gradient of the loss,

    G_S[t] = dL/dS[t] + G_V[t] * reset_slope[t]    (second term 0 if detached)
    G_H[t] = G_S[t] * surrogate'(H[t] - v_threshold) + G_V[t] * kept[t]
    G_X[t] = gain * G_H[t]          G_V[t-1] = leak * G_H[t]

where a hard reset has reset_slope = v_reset - H[t] and kept = 1 - S[t], and a
soft reset has reset_slope = -v_threshold and kept = 1 (Neftci, Mostafa & Zenke
2019, Eqs. 9-11, with the reset terms added).

On a GPU, where each small operation costs a kernel launch, the loop over time
runs inside one Triton kernel (``triton_kernels``); elsewhere it is a torch loop.
"""

import importlib.util
import os
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnlib import checks
from snnlib.neurons import check_neuron
from snnlib.surrogate import ATan, Sigmoid, check_surrogate

ENGINE_VARIABLE = "SNNLIB_SCAN"  # "torch" forces the plain loop, "triton" the kernel
_TRITON_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def neuron_scan(
    currents: Tensor, neuron: Any, surrogate: ATan | Sigmoid = ATan(), *, engine: str = "auto"
) -> Tensor:
    """Run LIF or IF neurons over all time steps in one pass, from rest.

    Spikes and gradients are those of ``simulate(...).spikes``; half-precision
    currents are added up in float32.

    Args:
        currents: Inputs X, ``[T, ...]``, in units of the potential; whole numbers and
            booleans are taken as float32.
        neuron: ``LIFParameters`` or ``IFParameters``.
        surrogate: Slope used for the spikes in the backward pass.
        engine: ``"triton"``, ``"torch"`` or ``"auto"``: the environment variable
            ``SNNLIB_SCAN`` if set, else Triton for CUDA tensors it can handle
            (float32 or less, ATan) and torch for the rest.

    Returns:
        Spikes, 0 or 1, in the shape and type of ``currents``.

    Raises:
        ValueError: ``currents`` are no numbers or hold no time step, ``neuron`` is no
            set of constants, or ``engine`` is unknown.
    """
    check_neuron(neuron)
    currents = checks.float_tensor("currents", currents)
    check_surrogate(surrogate)
    if currents.dim() == 0 or len(currents) == 0:
        raise ValueError(
            f"currents must be [T, ...] with T of at least 1, got {tuple(currents.shape)}"
        )
    chosen = choose_backend(currents, surrogate, engine)
    if chosen == "triton" and not isinstance(surrogate, ATan):
        raise ValueError(f"engine triton knows the ATan surrogate only, got {surrogate!r}")
    return cast(Tensor, _Scan.apply(currents, neuron, surrogate, chosen))


def choose_backend(currents: Tensor, surrogate: ATan | Sigmoid, engine: str = "auto") -> str:
    """Tell which engine, ``"triton"`` or ``"torch"``, a scan of these currents uses."""
    if engine == "auto":
        engine = os.environ.get(ENGINE_VARIABLE, "auto")
    checks.one_of("engine", engine, ("auto", "torch", "triton"))
    if engine != "auto":
        return engine
    fits = currents.is_cuda and currents.dtype in _TRITON_TYPES and isinstance(surrogate, ATan)
    return "triton" if fits and importlib.util.find_spec("triton") is not None else "torch"


class _Scan(torch.autograd.Function):
    """The loop over time, forward and backward, with H as its only memory."""

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, neuron: Any, surrogate: ATan | Sigmoid, engine: str
    ) -> Tensor:
        keep = ctx.needs_input_grad[0]
        if engine == "triton":
            from snnlib.fast.kernels import triton_kernels

            spikes, charged = triton_kernels.forward(currents, neuron, keep)
        else:
            spikes, charged = _forward_loop(currents, neuron, keep)
        if keep:
            ctx.save_for_backward(charged)
        ctx.settings = neuron, surrogate, engine
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        neuron, surrogate, engine = ctx.settings
        (charged,) = ctx.saved_tensors
        if engine == "triton":
            from snnlib.fast.kernels import triton_kernels

            gain, leak = neuron.gain_and_leak
            grad = triton_kernels.backward(
                charged, grad_outputs[0], neuron, surrogate.alpha, gain, leak
            )
        else:
            grad = _backward_loop(charged, grad_outputs[0], neuron, surrogate)
        return grad, None, None, None


def _forward_loop(currents: Tensor, neuron: Any, keep: bool) -> tuple[Tensor, Tensor | None]:
    """Charge, fire, reset, T times; hand back the spikes and, to keep, every H."""
    precision = torch.promote_types(currents.dtype, torch.float32)
    spikes = torch.empty_like(currents)
    history = torch.empty_like(currents, dtype=precision) if keep else None
    v = torch.full_like(currents[0], neuron.v_rest, dtype=precision)
    for t, current in enumerate(currents):
        charged = neuron.charge(current.to(precision), v)
        fired = charged >= neuron.v_threshold
        if neuron.v_reset is None:
            v = charged - neuron.v_threshold * fired.to(precision)
        else:
            v = charged.masked_fill(fired, neuron.v_reset)
        spikes[t] = fired
        if history is not None:
            history[t] = charged
    return spikes, history


def _backward_loop(
    history: Tensor, grad_spikes: Tensor, neuron: Any, surrogate: ATan | Sigmoid
) -> Tensor:
    """The recursion at the top of this file, from the last step to the first."""
    gain, leak = neuron.gain_and_leak
    grad_currents = torch.empty_like(history, dtype=grad_spikes.dtype)
    grad_v = torch.zeros_like(history[0])
    for t in range(len(history) - 1, -1, -1):
        charged = history[t]
        grad_spike = grad_spikes[t].to(history.dtype)
        if not neuron.detach_reset:
            grad_spike = grad_spike + grad_v * _reset_slope(charged, neuron)
        grad_charged = grad_spike * surrogate.derivative(charged - neuron.v_threshold)
        if neuron.v_reset is None:
            grad_charged += grad_v
        else:
            grad_charged += grad_v * (charged < neuron.v_threshold)
        grad_currents[t] = gain * grad_charged
        grad_v = leak * grad_charged
    return grad_currents


def _reset_slope(charged: Tensor, neuron: Any) -> Tensor | float:
    """dV/dS: how far the reset moves the potential per spike."""
    if neuron.v_reset is None:
        return -float(neuron.v_threshold)
    return neuron.v_reset - charged
