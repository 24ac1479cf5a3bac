# mypy: disallow-untyped-defs=False
"""The kernels of ``fused``: norm, integrate-and-fire and max pool in one walk.

Tensors are flat float32 arrays in channels-last order, ``[T, n_frames, H, W, C]`` for
currents and ``[T, n_frames, H/2, W/2, C]`` for spikes; a frame is an image of the
batch, and sixteen channels are handled at a time. With ``repeated`` the currents
have one step only, which is the same at every t.
"""

from typing import NamedTuple

import numpy as np

from snnlib.fast.kernels.lanes import LANES, fill, kernel, load, store, where_reached

_WINDOW = 4  # positions under a 2 x 2 pool: two of one line, two of the next


class Layout(NamedTuple):
    """Sizes of one layer."""

    n_steps: int
    n_frames: int
    height: int
    width: int
    channels: int
    repeated: bool


class Neuron(NamedTuple):
    """An integrate-and-fire neuron and the width of its arctangent surrogate."""

    v_threshold: np.float32
    v_rest: np.float32
    alpha: np.float32
    hard_reset: bool
    detach_reset: bool


@kernel
def _place(layout, t, n, row, column):
    """Where the channels of a window's first position begin in the currents."""
    t = 0 if layout.repeated else t
    frame = t * layout.n_frames + n
    return ((frame * layout.height + 2 * row) * layout.width + 2 * column) * layout.channels


@kernel
def _pooled_place(layout, t, n, row, column):
    frame = t * layout.n_frames + n
    place = (frame * (layout.height // 2) + row) * (layout.width // 2) + column
    return place * layout.channels


@kernel
def moments(x, n_positions, channels, means, squares, first, last):
    """Mean and mean square deviation of each frame and channel, ``[n_frames, C]``."""
    share = fill(np.float32(1 / n_positions))
    for frame in range(first, last):
        start = frame * n_positions * channels
        for c in range(0, channels, LANES):
            total, spread = fill(np.float32(0)), fill(np.float32(0))
            for i in range(n_positions):
                total = total + load(x, start + i * channels + c)
            mean = total * share
            for i in range(n_positions):
                away = load(x, start + i * channels + c) - mean
                spread = spread + away * away
            store(means, frame * channels + c, mean)
            store(squares, frame * channels + c, spread * share)


@kernel
def _charge(v, x, place, gain, offset):
    return v + (load(x, place) * gain + offset)


@kernel
def _reset(charged, threshold, rest, neuron):
    after = rest if neuron.hard_reset else charged - threshold
    return where_reached(charged, threshold, after, charged)


@kernel
def forward(x, scale, shift, layout, neuron, spikes, first, last):
    """Pooled spikes of frames ``first`` to ``last``, for currents ``scale * x + shift``."""
    zero, one = fill(np.float32(0)), fill(np.float32(1))
    threshold, rest = fill(neuron.v_threshold), fill(neuron.v_rest)
    line = layout.width * layout.channels
    for n in range(first, last):
        for row in range(layout.height // 2):
            for column in range(layout.width // 2):
                for c in range(0, layout.channels, LANES):
                    gain, offset = load(scale, c), load(shift, c)
                    v0 = v1 = v2 = v3 = rest
                    for t in range(layout.n_steps):
                        place = _place(layout, t, n, row, column) + c
                        v0 = _charge(v0, x, place, gain, offset)
                        v1 = _charge(v1, x, place + layout.channels, gain, offset)
                        v2 = _charge(v2, x, place + line, gain, offset)
                        v3 = _charge(v3, x, place + line + layout.channels, gain, offset)
                        fired = where_reached(v0, threshold, one, zero)
                        fired = where_reached(v1, threshold, one, fired)
                        fired = where_reached(v2, threshold, one, fired)
                        fired = where_reached(v3, threshold, one, fired)
                        store(spikes, _pooled_place(layout, t, n, row, column) + c, fired)
                        v0 = _reset(v0, threshold, rest, neuron)
                        v1 = _reset(v1, threshold, rest, neuron)
                        v2 = _reset(v2, threshold, rest, neuron)
                        v3 = _reset(v3, threshold, rest, neuron)


@kernel
def _recompute(x, gain, offset, layout, neuron, history, n, row, column, c):
    """H of a window's four neurons at every step, ``history [T, 4, 16]``."""
    threshold, rest = fill(neuron.v_threshold), fill(neuron.v_rest)
    line = layout.width * layout.channels
    v0 = v1 = v2 = v3 = rest
    for t in range(layout.n_steps):
        place, at = _place(layout, t, n, row, column) + c, t * _WINDOW * LANES
        v0 = _charge(v0, x, place, gain, offset)
        v1 = _charge(v1, x, place + layout.channels, gain, offset)
        v2 = _charge(v2, x, place + line, gain, offset)
        v3 = _charge(v3, x, place + line + layout.channels, gain, offset)
        store(history, at, v0)
        store(history, at + LANES, v1)
        store(history, at + 2 * LANES, v2)
        store(history, at + 3 * LANES, v3)
        v0 = _reset(v0, threshold, rest, neuron)
        v1 = _reset(v1, threshold, rest, neuron)
        v2 = _reset(v2, threshold, rest, neuron)
        v3 = _reset(v3, threshold, rest, neuron)


@kernel
def _step_back(charged, grad_spike, grad_v, neuron):
    """dL/dH[t] of the scan's recursion; without a leak it is dL/dX[t] and dL/dV[t-1] too."""
    zero, one = fill(np.float32(0)), fill(np.float32(1))
    threshold, rest = fill(neuron.v_threshold), fill(neuron.v_rest)
    x = fill(np.float32(np.pi / 2) * neuron.alpha) * (charged - threshold)
    slope = fill(np.float32(0.5) * neuron.alpha) / (one + x * x)
    if not neuron.detach_reset:
        moved = rest - charged if neuron.hard_reset else zero - threshold
        grad_spike = grad_spike + grad_v * moved
    if neuron.hard_reset:
        grad_v = where_reached(charged, threshold, zero, grad_v)
    return grad_spike * slope + grad_v


@kernel
def _walk_back(
    x, mean, inverse_std, layout, neuron, history, grad_spikes,
    grad_currents, grad_shift, grad_scale, n, row, column, c,
):  # fmt: skip
    """From the last step to the first, for the four neurons of one window.

    The pool listened to the first of them that fired, or to the very first if none did.
    """
    zero, threshold = fill(np.float32(0)), fill(neuron.v_threshold)
    line = layout.width * layout.channels
    sums = products = v0 = v1 = v2 = v3 = sum0 = sum1 = sum2 = sum3 = zero
    for t in range(layout.n_steps - 1, -1, -1):
        at = t * _WINDOW * LANES
        h0, h1 = load(history, at), load(history, at + LANES)
        h2, h3 = load(history, at + 2 * LANES), load(history, at + 3 * LANES)
        grad = load(grad_spikes, _pooled_place(layout, t, n, row, column) + c)
        left = where_reached(h0, threshold, zero, grad)
        v1 = _step_back(h1, where_reached(h1, threshold, left, zero), v1, neuron)
        left = where_reached(h1, threshold, zero, left)
        v2 = _step_back(h2, where_reached(h2, threshold, left, zero), v2, neuron)
        left = where_reached(h2, threshold, zero, left)
        v3 = _step_back(h3, where_reached(h3, threshold, left, zero), v3, neuron)
        left = where_reached(h3, threshold, zero, left)
        v0 = _step_back(h0, where_reached(h0, threshold, grad, left), v0, neuron)
        if layout.repeated:
            sum0, sum1, sum2, sum3 = sum0 + v0, sum1 + v1, sum2 + v2, sum3 + v3
        if t > 0 and layout.repeated:
            continue
        if not layout.repeated:
            sum0, sum1, sum2, sum3 = v0, v1, v2, v3
        place = _place(layout, t, n, row, column) + c
        store(grad_currents, place, sum0)
        store(grad_currents, place + layout.channels, sum1)
        store(grad_currents, place + line, sum2)
        store(grad_currents, place + line + layout.channels, sum3)
        sums = sums + ((sum0 + sum1) + (sum2 + sum3))
        away = sum0 * (load(x, place) - mean)
        away = away + sum1 * (load(x, place + layout.channels) - mean)
        away = away + sum2 * (load(x, place + line) - mean)
        away = away + sum3 * (load(x, place + line + layout.channels) - mean)
        products = products + away * inverse_std
    at = n * layout.channels + c
    store(grad_shift, at, load(grad_shift, at) + sums)
    store(grad_scale, at, load(grad_scale, at) + products)


@kernel
def backward(
    x, scale, shift, mean, inverse_std, layout, neuron, grad_spikes,
    grad_currents, grad_shift, grad_scale, first, last,
):  # fmt: skip
    """Gradient of the currents, and per frame the sums that the norm's own gradient needs.

    ``grad_shift [n_frames, C]`` sums the currents' gradient, ``grad_scale`` its
    product with the normalised input.
    """
    history = np.empty(layout.n_steps * _WINDOW * LANES, np.float32)
    for n in range(first, last):
        for row in range(layout.height // 2):
            for column in range(layout.width // 2):
                for c in range(0, layout.channels, LANES):
                    gain, offset = load(scale, c), load(shift, c)
                    _recompute(x, gain, offset, layout, neuron, history, n, row, column, c)
                    _walk_back(
                        x, load(mean, c), load(inverse_std, c), layout, neuron, history,
                        grad_spikes, grad_currents, grad_shift, grad_scale, n, row, column, c,
                    )  # fmt: skip


@kernel
def norm_backward(x, grad, mean, slope, mean_grad, mean_product, channels, first, last):
    """Turn the gradient of the currents into that of ``x``, in place.

    BatchNorm's own (Ioffe & Szegedy 2015, Sec. 3), with the averages already taken:
    slope * (grad - mean_grad - (x - mean) * mean_product).
    """
    for i in range(first, last):
        for c in range(0, channels, LANES):
            at = i * channels + c
            away = (load(x, at) - load(mean, c)) * load(mean_product, c)
            store(grad, at, load(slope, c) * (load(grad, at) - load(mean_grad, c) - away))
