# mypy: disallow-untyped-defs=False
"""Poisson spikes -> linear map -> LIF, rates only, for testing wide layers on a CPU.

The post's network is tested on 10,000 images with ten labels each, 100 steps
long. Most pixels are black and never fire; this kernel draws for the others
alone and adds one row of weights per spike.
"""

import functools
import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor


def poisson_rates(
    rates: Tensor,
    weight: Tensor,
    n_steps: int,
    tau: float,
    v_threshold: float,
    *,
    scale: Tensor | None,
    seed: int,
) -> Tensor:
    """Rates of LIF neurons (hard reset to 0) behind a Poisson encoder.

    Args:
        rates: Firing probabilities ``[N, F]`` in [0, 1].
        weight: ``[K, F]``.
        n_steps: Number of time steps T.
        tau: Membrane time constant in steps.
        v_threshold: Firing threshold.
        scale: Size of a spike for each image ``[N]``; None divides the spikes of
            every step by the length of that step's frame.
        seed: The same seed draws the same spikes for the same row.

    Returns:
        Rates ``[N, K]`` in spikes per step.
    """
    out = np.empty((len(rates), len(weight)), np.float32)
    sizes = np.zeros(0, np.float32) if scale is None else scale.numpy().astype(np.float32)
    columns = np.ascontiguousarray(weight.detach().numpy().T, np.float32)
    _kernel()(rates.numpy(), columns, sizes, out, n_steps, tau, v_threshold, np.uint64(seed))
    return torch.from_numpy(out)


@functools.cache
def _kernel() -> Callable[..., None]:
    import numba

    return cast(Callable[..., None], numba.njit(cache=True, nogil=True, fastmath=True)(_run))


def _run(rates, columns, sizes, out, n_steps, tau, v_threshold, seed):
    n_neurons = columns.shape[1]
    current, v = np.empty(n_neurons, np.float32), np.empty(n_neurons, np.float32)
    inverse_tau, threshold = np.float32(1 / tau), np.float32(v_threshold)
    one, zero = np.float32(1), np.float32(0)
    lit = np.empty(rates.shape[1], np.int64)
    limit = np.empty(rates.shape[1], np.uint64)
    for n in range(rates.shape[0]):
        n_lit = 0
        for f in range(rates.shape[1]):
            if rates[n, f] > 0:
                lit[n_lit] = f
                limit[n_lit] = np.uint64(float(rates[n, f]) * 4294967296.0)
                n_lit += 1
        # Xorshift (Marsaglia 2003), one stream per row; the multiplier spreads the seeds.
        state = (seed * np.uint64(10_000_019) + np.uint64(n) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        state = state ^ (state >> np.uint64(31)) | np.uint64(1)
        v[:] = zero
        counts = out[n]
        counts[:] = zero
        for _ in range(n_steps):
            current[:] = zero
            n_spikes = 0
            for j in range(n_lit):
                state ^= state << np.uint64(13)
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                if (state >> np.uint64(32)) < limit[j]:
                    n_spikes += 1
                    row = columns[lit[j]]
                    for k in range(n_neurons):
                        current[k] += row[k]
            size = sizes[n] if sizes.size else np.float32(1 / (math.sqrt(n_spikes) + 1e-4))
            for k in range(n_neurons):
                charged = v[k] + (size * current[k] - v[k]) * inverse_tau
                spike = one if charged >= threshold else zero
                counts[k] += spike
                v[k] = (one - spike) * charged
        for k in range(n_neurons):
            counts[k] /= n_steps
