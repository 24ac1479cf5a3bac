# mypy: disallow-untyped-defs=False
"""The walk of ``steady.py`` as one Triton kernel: one read and two writes per neuron."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor


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
    """Rate and slope of every neuron; arguments as ``steady._constants`` lists them."""
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
