# mypy: disallow-untyped-defs=False
"""The loops over time of ``scan`` and ``constant`` as Triton kernels, for CUDA tensors.

Neurons do not talk to each other there, so each program takes one block of them and
walks through time alone, holding V (or its gradient) in registers: one read per
current and one write per spike. Only ``scan`` and ``constant`` import this file, and
only when a CUDA tensor arrives.

Right in Triton's interpreter, which a test runs; never timed on a GPU.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _forward_kernel(
    currents,
    spikes,
    history,
    n_steps,
    n_neurons,
    inverse_tau,
    v_threshold,
    v_rest,
    LEAKY: tl.constexpr,
    DECAY_INPUT: tl.constexpr,
    HARD: tl.constexpr,
    KEEP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # 64-bit positions: T * n_neurons passes 2 ** 31 for wide layers.
    first = tl.program_id(0).to(tl.int64) * BLOCK
    inside = first + tl.arange(0, BLOCK) < n_neurons
    at = first + tl.arange(0, BLOCK)
    v = tl.zeros([BLOCK], dtype=tl.float32) + v_rest
    for _ in range(n_steps):
        current = tl.load(currents + at, mask=inside, other=0.0).to(tl.float32)
        # The same order of operations as neuron.charge, so that both round alike.
        if LEAKY:
            if DECAY_INPUT:
                charged = v + (current - (v - v_rest)) * inverse_tau
            else:
                charged = v - (v - v_rest) * inverse_tau + current
        else:
            charged = v + current
        fired = charged >= v_threshold
        if HARD:
            v = tl.where(fired, v_rest, charged)
        else:
            v = tl.where(fired, charged - v_threshold, charged)
        tl.store(spikes + at, tl.where(fired, 1.0, 0.0), mask=inside)
        if KEEP:
            tl.store(history + at, charged, mask=inside)
        at += n_neurons


@triton.jit
def _backward_kernel(
    history,
    grad_spikes,
    grad_currents,
    n_steps,
    n_neurons,
    last_step,
    gain,
    leak,
    v_threshold,
    v_rest,
    alpha,
    HARD: tl.constexpr,
    DETACHED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    inside = first + tl.arange(0, BLOCK) < n_neurons
    at = first + tl.arange(0, BLOCK) + last_step
    grad_v = tl.zeros([BLOCK], dtype=tl.float32)
    for _ in range(n_steps):
        charged = tl.load(history + at, mask=inside, other=0.0)
        grad_spike = tl.load(grad_spikes + at, mask=inside, other=0.0).to(tl.float32)
        if not DETACHED:
            if HARD:
                grad_spike += grad_v * (v_rest - charged)
            else:
                grad_spike -= grad_v * v_threshold
        if HARD:  # a neuron that fired forgets what came before
            grad_v = tl.where(charged >= v_threshold, 0.0, grad_v)
        steep = 1.5707963267948966 * alpha * (charged - v_threshold)
        grad_charged = grad_spike * (0.5 * alpha) / (1.0 + steep * steep) + grad_v
        tl.store(grad_currents + at, gain * grad_charged, mask=inside)
        grad_v = leak * grad_charged
        at -= n_neurons


def _launch(n_neurons: int) -> tuple[tuple[int], dict[str, Any]]:
    """The grid and the launch options: wide blocks where there are neurons to fill them."""
    block = 1024 if n_neurons >= 1 << 18 else 128
    # Fused multiply-adds round differently and could move a spike at the threshold.
    options = {"BLOCK": block, "num_warps": 4, "enable_fp_fusion": False}
    return (triton.cdiv(n_neurons, block),), options


def forward(currents: Tensor, neuron: Any, keep: bool) -> tuple[Tensor, Tensor | None]:
    """Run the neurons over ``currents [T, ...]``; hand back spikes and, to keep, every H."""
    currents = currents.contiguous()
    spikes = torch.empty_like(currents)
    history = torch.empty_like(currents, dtype=torch.float32) if keep else None
    n_neurons = currents[0].numel()
    if n_neurons == 0:
        return spikes, history
    tau = getattr(neuron, "tau", None)
    grid, options = _launch(n_neurons)
    with torch.cuda.device_of(currents):
        _forward_kernel[grid](
            currents,
            spikes,
            spikes if history is None else history,
            len(currents),
            n_neurons,
            1.0 if tau is None else 1.0 / tau,
            float(neuron.v_threshold),
            float(neuron.v_rest),
            LEAKY=tau is not None,
            DECAY_INPUT=tau is not None and neuron.decay_input,
            HARD=neuron.v_reset is not None,
            KEEP=keep,
            **options,
        )
    return spikes, history


def backward(
    history: Tensor, grad_spikes: Tensor, neuron: Any, alpha: float, gain: float, leak: float
) -> Tensor:
    """Walk back through time; hand back the gradient of the currents, ``[T, ...]``."""
    grad_spikes = grad_spikes.contiguous()
    grad_currents = torch.empty_like(grad_spikes)
    n_neurons = history[0].numel()
    if n_neurons == 0:
        return grad_currents
    grid, options = _launch(n_neurons)
    with torch.cuda.device_of(history):
        _backward_kernel[grid](
            history,
            grad_spikes,
            grad_currents,
            len(history),
            n_neurons,
            (len(history) - 1) * n_neurons,
            gain,
            leak,
            float(neuron.v_threshold),
            float(neuron.v_rest),
            float(alpha),
            HARD=neuron.v_reset is not None,
            DETACHED=neuron.detach_reset,
            **options,
        )
    return grad_currents


@triton.jit
def _walk_kernel(
    current,
    rate,
    slope,
    n_neurons,
    n_steps,
    gain,
    leak,
    v_threshold,
    v_rest,
    alpha,
    width,
    hard,
    attached,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n_neurons
    x = tl.load(current + at, mask=inside, other=0.0)
    v = tl.zeros([BLOCK], dtype=tl.float32) + v_rest
    d_v = tl.zeros([BLOCK], dtype=tl.float32)
    count = tl.zeros([BLOCK], dtype=tl.float32)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for _ in range(n_steps):
        charged = v_rest + leak * (v - v_rest) + gain * x
        above = charged - v_threshold
        spike = tl.where(above >= 0.0, 1.0, 0.0)
        d_charged = gain + leak * d_v
        d_spike = alpha / 2.0 / (1.0 + width * width * above * above) * d_charged
        count += spike
        total += d_spike
        reset = hard * (v_rest - charged) - (1.0 - hard) * v_threshold
        v = charged + spike * reset
        d_v = (1.0 - spike * hard) * d_charged + attached * d_spike * reset
    tl.store(rate + at, count / n_steps, mask=inside)
    tl.store(slope + at, total / n_steps, mask=inside)


def walk(
    current: Tensor,
    n_steps: int,
    gain: float,
    leak: float,
    v_threshold: float,
    v_rest: float,
    alpha: float,
    hard: float,
    attached: float,
) -> tuple[Tensor, Tensor]:
    """Rate and slope of every neuron; arguments as ``constant._constants`` lists them."""
    current = current.contiguous()
    rate, slope = torch.empty_like(current), torch.empty_like(current)
    block = 1024
    grid = (triton.cdiv(current.numel(), block),)
    with torch.cuda.device_of(current):  # the GPU that holds the tensors, not the first one
        _walk_kernel[grid](
            current,
            rate,
            slope,
            current.numel(),
            n_steps,
            gain,
            leak,
            v_threshold,
            v_rest,
            alpha,
            math.pi / 2 * alpha,
            hard,
            attached,
            BLOCK=block,
            enable_fp_fusion=False,  # fused multiply-adds could move a spike at the threshold
        )
    return rate, slope
