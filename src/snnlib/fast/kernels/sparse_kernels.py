# mypy: disallow-untyped-defs=False
"""The kernels of ``sparse``: products with spikes, by adding up rows of a table.

What an input does in a group of up to four steps is a *code* of four bits, bit t
for a spike at step t. All inputs of one position with the same code are treated
alike, so their weight rows are added up once and the sum goes to every step of
the code: a neuron that fires at all four steps costs one addition, not four
multiplications.

Tensors are flat arrays, channels last: spikes ``[T, n_frames * H * W, C]``, weights
``[K / 64, k * k, C, 64]``: 64 outputs, a *tile*, are handled at a time.
"""

from typing import NamedTuple

import numpy as np

from snnlib.fast.kernels.lanes import LANES, copy_shifted, fill, kernel, load, store

TILE = 4 * LANES
CODES = 16  # of a group of four steps; code 0 is silence


class Shape(NamedTuple):
    """Sizes of a convolution with a square window of odd width and zeros around the image."""

    n_steps: int
    n_frames: int
    height: int
    width: int
    channels: int
    outputs: int
    window: int


@kernel
def encode(spikes, shape, channels, ends, first, last):
    """Sort the channels of positions ``first`` to ``last`` by code; silent ones come last.

    ``channels [rows, C]`` gets the sorted numbers, ``ends [rows, 16]`` where the run of each
    code ends; the run of code 1 begins at 0.
    """
    n_rows, n_channels = shape.n_frames * shape.height * shape.width, shape.channels
    codes, sixteen = np.empty(n_channels, np.int32), np.empty(LANES, np.float32)
    # Four quarters are counted apart, so that no count has to wait for the one before.
    quarter, places = n_channels // 4, np.empty((CODES, 4), np.int64)
    for row in range(first, last):
        for c in range(0, n_channels, LANES):
            at, bit = row * n_channels + c, np.float32(1)
            code = load(spikes, at)
            for t in range(1, shape.n_steps):
                bit = bit * np.float32(2)
                code = code + fill(bit) * load(spikes, t * n_rows * n_channels + at)
            store(sixteen, 0, code)
            for i in range(LANES):
                codes[c + i] = np.int32(sixteen[i])
        places[:] = 0
        for c in range(quarter):
            for q in range(4):
                places[codes[q * quarter + c], q] += 1
        begin = 0
        for k in range(1, CODES + 1):
            code = k % CODES
            for q in range(4):
                begin, places[code, q] = begin + places[code, q], begin
            ends[row * CODES + code] = begin
        ends[row * CODES] = 0
        start = row * n_channels
        for c in range(quarter):
            for q in range(4):
                code = codes[q * quarter + c]
                channels[start + places[code, q]] = (q * quarter + c) * TILE
                places[code, q] += 1


@kernel
def _find_codes(ends, first, last, used):
    """Write the codes that occur in rows ``first`` to ``last`` to ``used``; return how many."""
    n = 0
    for code in range(1, CODES):
        for row in range(first, last):
            if ends[row * CODES + code] > ends[row * CODES + code - 1]:
                used[n] = code
                n += 1
                break
    return n


@kernel
def _collect(channels, ends, shape, used, frame, row, column, rows, at, stops):
    """List, code by code, the weight rows that one output position adds up."""
    half = shape.window // 2
    up, down = max(0, half - row), min(shape.window, shape.height + half - row)
    left, right = max(0, half - column), min(shape.window, shape.width + half - column)
    for k in range(len(used)):
        code = used[k]
        for y in range(up, down):
            line = (frame * shape.height + row + y - half) * shape.width + column - half
            for x in range(left, right):
                seen, tap = line + x, y * shape.window + x
                begin, end = ends[seen * CODES + code - 1], ends[seen * CODES + code]
                base, start = tap * shape.channels, seen * shape.channels
                for i in range(begin, end, LANES):
                    copy_shifted(channels, start + i, np.int32(base * TILE), rows, at + i - begin)
                at += end - begin
        stops[k] = at
    return at


@kernel
def _add_up(table, rows, first, last, shift, total):
    """Add the rows of the table that begin at ``rows[first:last] + shift`` to ``total``."""
    a, b = load(total, 0), load(total, LANES)
    c, d = load(total, 2 * LANES), load(total, 3 * LANES)
    for i in range(first, last):
        at = rows[i] + shift
        a = a + load(table, at)
        b = b + load(table, at + LANES)
        c = c + load(table, at + 2 * LANES)
        d = d + load(table, at + 3 * LANES)
    store(total, 0, a)
    store(total, LANES, b)
    store(total, 2 * LANES, c)
    store(total, 3 * LANES, d)


@kernel
def forward(channels, ends, weight, shape, out, first, last, first_tile, last_tile):
    """Currents ``[T, n_frames, H, W, K]`` of frames ``first`` to ``last`` and some tiles."""
    n_positions = shape.height * shape.width
    taps = shape.window * shape.window
    rows = np.empty(n_positions * taps * shape.channels + LANES, np.int32)
    begins, stops = np.empty(n_positions, np.int64), np.empty((n_positions, CODES), np.int64)
    same, steps = np.empty(TILE, np.float32), np.empty(shape.n_steps * TILE, np.float32)
    zero = fill(np.float32(0))
    size = taps * shape.channels * TILE
    codes = np.empty(CODES, np.int64)
    for frame in range(first, last):
        n_codes = _find_codes(ends, frame * n_positions, (frame + 1) * n_positions, codes)
        used, at = codes[:n_codes], 0
        for p in range(n_positions):
            row, column = p // shape.width, p % shape.width
            begins[p] = at
            at = _collect(channels, ends, shape, used, frame, row, column, rows, at, stops[p])
        for tile in range(first_tile, last_tile):
            table = weight[tile * size : (tile + 1) * size]
            for p in range(n_positions):
                begin = begins[p]
                steps[:] = 0
                for k in range(n_codes):
                    code, end = used[k], stops[p, k]
                    if end > begin:
                        for i in range(0, TILE, LANES):
                            store(same, i, zero)
                        _add_up(table, rows, begin, end, 0, same)
                        for t in range(shape.n_steps):
                            if (code >> t) & 1:
                                for i in range(t * TILE, (t + 1) * TILE, LANES):
                                    store(steps, i, load(steps, i) + load(same, i - t * TILE))
                    begin = end
                for t in range(shape.n_steps):
                    place = (t * shape.n_frames + frame) * n_positions + p
                    place = place * shape.outputs + tile * TILE
                    for i in range(0, TILE, LANES):
                        store(out, place + i, load(steps, t * TILE + i))


@kernel
def _list_by_channel(channels, ends, shape, used, frame, lists, lengths):
    """For each channel, where in the table the gradients stand that its weights add up."""
    n_positions, half = shape.height * shape.width, shape.window // 2
    wide = shape.width + 2 * half
    padded = (shape.height + 2 * half) * wide
    lengths[:] = 0
    for p in range(n_positions):
        row = frame * n_positions + p
        place = (p // shape.width + half) * wide + p % shape.width + half
        for k in range(len(used)):
            code, at = used[k], (k * padded + place) * TILE
            for i in range(ends[row * CODES + code - 1], ends[row * CODES + code]):
                c = channels[row * shape.channels + i] // TILE
                lists[c * n_positions + lengths[c]] = at
                lengths[c] += 1


@kernel
def _fill_table(grad, shape, used, frame, tile, table):
    """For each code that occurs, sum the gradient over its steps; zeros around the image."""
    n_positions, half = shape.height * shape.width, shape.window // 2
    wide = shape.width + 2 * half
    padded = (shape.height + 2 * half) * wide
    for k in range(len(used)):
        code = used[k]
        for p in range(n_positions):
            place = (p // shape.width + half) * wide + p % shape.width + half
            for i in range(0, TILE, LANES):
                total = fill(np.float32(0))
                for t in range(shape.n_steps):
                    if (code >> t) & 1:
                        at = (t * shape.n_frames + frame) * n_positions + p
                        total = total + load(grad, at * shape.outputs + tile * TILE + i)
                store(table, (k * padded + place) * TILE + i, total)


@kernel
def weight_gradient(
    channels, ends, grad, shape, grad_weight, first, last, first_tile, last_tile
):  # fmt: skip
    """Add what frames ``first`` to ``last`` give to the gradient of some tiles of the weights."""
    n_positions, half = shape.height * shape.width, shape.window // 2
    wide = shape.width + 2 * half
    padded = (shape.height + 2 * half) * wide
    lists = np.empty(shape.channels * n_positions, np.int32)
    lengths = np.empty(shape.channels, np.int64)
    codes = np.empty(CODES, np.int64)
    for frame in range(first, last):
        n_codes = _find_codes(ends, frame * n_positions, (frame + 1) * n_positions, codes)
        used = codes[:n_codes]
        table = np.zeros(n_codes * padded * TILE, np.float32)
        _list_by_channel(channels, ends, shape, used, frame, lists, lengths)
        for tile in range(first_tile, last_tile):
            _fill_table(grad, shape, used, frame, tile, table)
            for y in range(shape.window):
                for x in range(shape.window):
                    # The output stands (y - half, x - half) before the input it sees.
                    shift = ((half - y) * wide + half - x) * TILE
                    for c in range(shape.channels):
                        tap = tile * shape.window * shape.window + y * shape.window + x
                        at = (tap * shape.channels + c) * TILE
                        begin = c * n_positions
                        _add_up(
                            table, lists, begin, begin + lengths[c], shift,
                            grad_weight[at : at + TILE],
                        )  # fmt: skip
