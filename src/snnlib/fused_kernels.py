# mypy: disallow-untyped-defs=False
"""The kernels of ``fused``: norm, integrate-and-fire and max pool in one walk.

Tensors are flat float32 arrays in channels-last order, ``[T, n_frames, H, W, C]`` for
currents and ``[T, n_frames, H/2, W/2, C]`` for spikes; a frame is an image of the
batch, and sixteen channels are handled at a time. With ``repeated`` the currents
have one step only, which is the same at every t.
"""

from typing import NamedTuple

import numpy as np

from snnlib.lanes import LANES, fill, kernel, load, store, where_reached

_WINDOW = 4  # positions under a 2 x 2 pool, in the order in which max_pool2d looks at them


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
def _place(layout, t, n, row, column, position):
    """Where the channels of one window position begin in the currents."""
    t = 0 if layout.repeated else t
    row, column = 2 * row + position // 2, 2 * column + position % 2
    frame = t * layout.n_frames + n
    return ((frame * layout.height + row) * layout.width + column) * layout.channels


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
def forward(x, scale, shift, layout, neuron, spikes, first, last):
    """Pooled spikes of frames ``first`` to ``last``, for currents ``scale * x + shift``."""
    zero, one, half = fill(np.float32(0)), fill(np.float32(1)), fill(np.float32(0.5))
    threshold, rest = fill(neuron.v_threshold), fill(neuron.v_rest)
    for n in range(first, last):
        for row in range(layout.height // 2):
            for column in range(layout.width // 2):
                for c in range(0, layout.channels, LANES):
                    gain, offset = load(scale, c), load(shift, c)
                    for position in range(_WINDOW):
                        v = rest
                        for t in range(layout.n_steps):
                            place = _place(layout, t, n, row, column, position) + c
                            charged = v + (load(x, place) * gain + offset)
                            fired = where_reached(charged, threshold, one, zero)
                            after = rest if neuron.hard_reset else charged - threshold
                            v = where_reached(charged, threshold, after, charged)
                            out = _pooled_place(layout, t, n, row, column) + c
                            if position > 0:
                                fired = where_reached(fired, half, one, load(spikes, out))
                            store(spikes, out, fired)


@kernel
def _recompute(x, gain, offset, layout, neuron, history, winner, n, row, column, c):
    """H of a window's four neurons at every step, and which of them the pool listened to:
    the first that fired, or the very first if none did."""
    threshold, rest = fill(neuron.v_threshold), fill(neuron.v_rest)
    for t in range(layout.n_steps):
        store(winner, t * LANES, fill(np.float32(0)))
    for position in range(_WINDOW - 1, -1, -1):
        v, name = rest, fill(np.float32(position))
        for t in range(layout.n_steps):
            place = _place(layout, t, n, row, column, position) + c
            charged = v + (load(x, place) * gain + offset)
            after = rest if neuron.hard_reset else charged - threshold
            v = where_reached(charged, threshold, after, charged)
            store(history, (position * layout.n_steps + t) * LANES, charged)
            before = load(winner, t * LANES)
            store(winner, t * LANES, where_reached(charged, threshold, name, before))


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
def backward(
    x, scale, shift, mean, inverse_std, layout, neuron, grad_spikes,
    grad_currents, grad_shift, grad_scale, first, last,
):  # fmt: skip
    """Gradient of the currents, and per frame the sums that the norm's own gradient needs.

    ``grad_shift [n_frames, C]`` sums the currents' gradient, ``grad_scale`` its
    product with the normalised input.
    """
    zero, half = fill(np.float32(0)), np.float32(0.5)
    history = np.empty(_WINDOW * layout.n_steps * LANES, np.float32)
    winner = np.empty(layout.n_steps * LANES, np.float32)
    for n in range(first, last):
        for row in range(layout.height // 2):
            for column in range(layout.width // 2):
                for c in range(0, layout.channels, LANES):
                    gain, offset = load(scale, c), load(shift, c)
                    _recompute(x, gain, offset, layout, neuron, history, winner, n, row, column, c)
                    sums, products = load(grad_shift, n * layout.channels + c), zero
                    for position in range(_WINDOW):
                        low, high = fill(position - half), fill(position + half)
                        grad_v, together = zero, zero
                        for t in range(layout.n_steps - 1, -1, -1):
                            out = _pooled_place(layout, t, n, row, column) + c
                            chosen = load(winner, t * LANES)
                            grad = where_reached(chosen, low, load(grad_spikes, out), zero)
                            grad = where_reached(chosen, high, zero, grad)
                            charged = load(history, (position * layout.n_steps + t) * LANES)
                            grad_v = _step_back(charged, grad, grad_v, neuron)
                            place = _place(layout, t, n, row, column, position) + c
                            together = together + grad_v if layout.repeated else grad_v
                            if t == 0 or not layout.repeated:
                                store(grad_currents, place, together)
                                away = load(x, place) - load(mean, c)
                                sums = sums + together
                                products = products + together * (away * load(inverse_std, c))
                    store(grad_shift, n * layout.channels + c, sums)
                    products = products + load(grad_scale, n * layout.channels + c)
                    store(grad_scale, n * layout.channels + c, products)


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
