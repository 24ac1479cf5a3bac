"""The rate of LIF neurons under a constant input, and its slope, in one walk through time.

When every time step brings the same current X, the rate of a neuron is a
function of one number, and so is its surrogate gradient. The derivative can
then travel forward beside the potential (with D for d/dX):

    DH[t] = gain + leak * DV[t-1]                 gain, leak: how X and V enter H
    DS[t] = surrogate'(H[t] - v_threshold) * DH[t]
    DV[t] = (1 - S[t]) * DH[t] + (v_reset - H[t]) * DS[t]     (hard reset)

This is forward-mode differentiation (Griewank & Walther 2008, Sec. 3.1) of the
run in chapter 2: the numbers are those of backpropagation through time, but
nothing has to be remembered, so memory does not grow with T.

Neurons do not talk to each other here, so the walk is one small kernel: numba on
a CPU, Triton on a GPU, and a torch loop that says the same for everything else.
"""

import functools
import importlib.util
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnlib import checks
from snnlib.neurons import check_neuron
from snnlib.surrogate import ATan, Sigmoid, check_surrogate


def constant_rate(
    current: Tensor, n_steps: int, neuron: Any, surrogate: ATan | Sigmoid = ATan()
) -> Tensor:
    """Count the spikes of LIF neurons that see the same current at every step.

    Rate and gradient equal ``firing_rate(neuron_scan(current.expand(n_steps, ...)))``, but for
    rounding where a potential meets the threshold exactly. As there, half-precision
    currents are added up, and their spikes counted, in float32.

    Args:
        current: Input X, any shape, in units of the potential.
        n_steps: Number of time steps T, at least 1.
        neuron: ``LIFParameters`` or ``IFParameters``.
        surrogate: Slope used for the spikes in the gradient.

    Returns:
        Rates in spikes per step, in the shape of ``current``.

    Raises:
        ValueError: ``current`` are no numbers, or ``n_steps`` is no whole number of at least 1.
    """
    current = checks.float_tensor("current", current)
    n_steps = checks.whole_number("n_steps", n_steps, 1)
    check_neuron(neuron)
    check_surrogate(surrogate)
    precise = current.to(torch.promote_types(current.dtype, torch.float32))
    return cast(Tensor, _SteadyRate.apply(precise, n_steps, neuron, surrogate)).to(current.dtype)


_CPU_TYPES = (torch.float32, torch.float64)


class _SteadyRate(torch.autograd.Function):
    """Rate forward; backward, one multiplication with the slope found on the way."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, n_steps: int, neuron: Any, surrogate: ATan | Sigmoid
    ) -> Tensor:
        walk: Callable[..., tuple[Tensor, Tensor]] = _walk_by_torch
        if isinstance(surrogate, ATan) and current.is_cpu and current.dtype in _CPU_TYPES:
            walk = _walk_by_numba
        elif (
            isinstance(surrogate, ATan) and current.dtype == torch.float32 and _has_triton(current)
        ):
            walk = _walk_by_triton
        rate, slope = walk(current.detach(), n_steps, neuron, surrogate, ctx.needs_input_grad[0])
        ctx.save_for_backward(slope)
        return rate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return grad_outputs[0] * slope, None, None, None


def _walk_by_torch(
    current: Tensor, n_steps: int, neuron: Any, surrogate: ATan | Sigmoid, slope_too: bool = True
) -> tuple[Tensor, Tensor]:
    gain, leak = neuron.gain_and_leak
    v = torch.full_like(current, neuron.v_rest)
    d_v, count, slope = (torch.zeros_like(current) for _ in range(3))
    for _ in range(n_steps):
        charged, d_charged = neuron.charge(current, v), gain + leak * d_v
        fired = charged >= neuron.v_threshold
        d_spike = surrogate.derivative(charged - neuron.v_threshold) * d_charged
        count += fired
        slope += d_spike
        if neuron.v_reset is None:
            v, d_v, d_reset = charged - neuron.v_threshold * fired, d_charged, -neuron.v_threshold
        else:
            v = charged.masked_fill(fired, neuron.v_reset)
            d_v, d_reset = d_charged.masked_fill(fired, 0.0), neuron.v_reset - charged
        if not neuron.detach_reset:
            d_v = d_v + d_spike * d_reset
    return count / n_steps, slope / n_steps


def _constants(neuron: Any, surrogate: ATan) -> tuple[float, ...]:
    """What a kernel needs to know, as plain numbers: flags are 1.0 or 0.0."""
    return (
        *neuron.gain_and_leak,
        float(neuron.v_threshold),
        float(neuron.v_rest),
        surrogate.alpha,
        float(neuron.v_reset is not None),
        float(not neuron.detach_reset),
    )


def _walk_by_numba(
    current: Tensor, n_steps: int, neuron: Any, surrogate: ATan, slope_too: bool = True
) -> tuple[Tensor, Tensor]:
    values = current.contiguous().numpy()
    rate = np.empty_like(values)
    slope = np.empty_like(
        values if slope_too else values.reshape(-1)[:0]
    )  # empty: only count spikes
    constants = [values.dtype.type(c) for c in _constants(neuron, surrogate)]
    _numba_kernel()(values.reshape(-1), rate.reshape(-1), slope.reshape(-1), n_steps, *constants)
    return torch.from_numpy(rate), torch.from_numpy(slope)


def _walk_by_triton(
    current: Tensor, n_steps: int, neuron: Any, surrogate: ATan, slope_too: bool = True
) -> tuple[Tensor, Tensor]:
    from snnlib.fast.kernels import triton_kernels

    return triton_kernels.walk(current, n_steps, *_constants(neuron, surrogate))


def _has_triton(current: Tensor) -> bool:
    return current.is_cuda and importlib.util.find_spec("triton") is not None


@functools.cache
def _numba_kernel() -> Callable[..., None]:
    """Compile the walk for the CPU; numba keeps the result on disk for the next time."""
    import numba

    return cast(Callable[..., None], numba.njit(cache=True, nogil=True, error_model="numpy")(_walk))


def _walk(  # type: ignore[no-untyped-def]
    current, rate, slope, n_steps, gain, leak, v_threshold, v_rest, alpha, hard, attached
):
    """Walk 256 neurons at a time, small enough for the fastest cache and for vector units."""
    one = current.dtype.type(1)
    width = current.dtype.type(math.pi / 2) * alpha
    v, d_v = np.empty(256, current.dtype), np.empty(256, current.dtype)
    count, total = np.empty(256, current.dtype), np.empty(256, current.dtype)
    for first in range(0, current.size, 256):
        n = min(256, current.size - first)
        x = current[first : first + n]
        v[:] = v_rest
        d_v[:] = count[:] = total[:] = 0
        for _ in range(n_steps if slope.size == 0 else 0):
            for i in range(n):
                charged = v_rest + leak * (v[i] - v_rest) + gain * x[i]
                spike = one if charged >= v_threshold else one - one
                count[i] += spike
                v[i] = charged + spike * (hard * (v_rest - charged) - (one - hard) * v_threshold)
        for _ in range(n_steps if slope.size else 0):
            for i in range(n):
                # v_rest + leak * (v - v_rest) + gain * x is charge() of all our neurons.
                charged = v_rest + leak * (v[i] - v_rest) + gain * x[i]
                above = charged - v_threshold
                spike = one if above >= 0 else one - one
                d_charged = gain + leak * d_v[i]
                d_spike = alpha / (2 * one) / (one + (width * above) ** 2) * d_charged
                count[i] += spike
                total[i] += d_spike
                reset = hard * (v_rest - charged) - (one - hard) * v_threshold
                v[i] = charged + spike * reset
                d_v[i] = (one - spike * hard) * d_charged + attached * d_spike * reset
        for i in range(n):
            rate[first + i] = count[i] / n_steps
            if slope.size:
                slope[first + i] = total[i] / n_steps
