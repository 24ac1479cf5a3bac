# mypy: disallow-untyped-defs=False
"""The kernels of ``events``: spikes as bits, and sums over the bits that are set.

Written for numba: a loop here runs at the speed of C. ``encode`` draws the
spikes of a chunk of images, ``forward`` turns them into rates, ``backward``
turns the gradient of the rates into that of the weights.

Weights come as ``[n_groups, n_pixels * 16]``: sixteen neurons are handled at a
time, and what a pixel says to them lies side by side. The words of an image lie
block by block: first all pixels' steps 0 to 63, then all pixels' steps 64 to 127.
"""

from typing import NamedTuple

import numpy as np

from snnlib.lanes import LANES, fill, kernel, load, lowest_bit, store, where_reached

STEPS = 64  # steps in a word
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)


class Constants(NamedTuple):
    """A neuron and the derivative of its surrogate in plain numbers, all float32 or bool."""

    tau: np.float32  # infinite for a neuron without a leak
    v_threshold: np.float32
    v_rest: np.float32
    gain: np.float32  # dH/dX
    leak: np.float32  # dH/dV
    alpha: np.float32  # width of ATan; 0 if slopes come ready-made
    decay_input: bool
    hard_reset: bool
    detach_reset: bool


@kernel
def _mix(x):
    """SplitMix64's finalizer (Steele, Lea & Flood 2014): every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _plane(random, rarity, plane, word, undecided):
    """Compare one bit of 64 random numbers with that bit of the chance c.

    Where they differ the draw is settled, and it fires if r = 0 and c = 1.
    """
    chance = np.uint64(0) - ((rarity >> np.uint64(31 - plane)) & _ONE)
    return word | (undecided & chance & ~random), undecided & ~(chance ^ random)


@kernel
def _next_state(a, b):
    """xorshift128+ (Vigna 2014): cheap, and its sum a + b is the random word."""
    a ^= a << np.uint64(23)
    return b, a ^ b ^ (a >> np.uint64(18)) ^ (b >> np.uint64(5))


@kernel
def _draw_words(keys, rarity, words, undecided, state_a, state_b, n):
    """Decide 64 draws per word: bit t of ``words[j]`` is 1 with chance ``rarity[j] / 2**32``.

    The first ten planes are compared for all words alike, five at a visit, so that
    the compiler can use vectors; one word in sixteen then has a draw left to settle.
    """
    for j in range(n):
        state_a[j], state_b[j] = _mix(keys[j]), _mix(keys[j] + _GOLDEN)
    for plane in range(0, 10, 5):
        for j in range(n):
            a, b, rare = state_a[j], state_b[j], rarity[j]
            word, left = _plane(a + b, rare, plane, words[j], undecided[j])
            a, b = _next_state(a, b)
            word, left = _plane(a + b, rare, plane + 1, word, left)
            a, b = _next_state(a, b)
            word, left = _plane(a + b, rare, plane + 2, word, left)
            a, b = _next_state(a, b)
            word, left = _plane(a + b, rare, plane + 3, word, left)
            a, b = _next_state(a, b)
            words[j], undecided[j] = _plane(a + b, rare, plane + 4, word, left)
            state_a[j], state_b[j] = _next_state(a, b)
    for j in range(n):
        plane = 10
        while undecided[j] != 0 and plane < 32:
            random = _mix(keys[j] + np.uint64(plane) * _GOLDEN)
            words[j], undecided[j] = _plane(random, rarity[j], plane, words[j], undecided[j])
            plane += 1


@kernel
def count_grey(images, starts):
    """Fill ``starts``: how many pixels that are not black lie before image n.

    Returns how many of all pixels are no grey value in [0, 1].
    """
    starts[0] = wrong = 0
    for n in range(images.shape[0]):
        count = 0
        for pixel in range(images.shape[1]):
            grey = images[n, pixel]
            count += grey > 0
            wrong += not (grey >= 0 and grey <= 1)  # counts NaN too
        starts[n + 1] = starts[n] + count
    return wrong


@kernel
def encode(images, n_steps, seed, first_index, starts, pixels, signs, words, first, last):
    """List the pixels of images ``first`` to ``last`` that are not black, and draw their words.

    Image n owns the places starts[n] to starts[n+1] of ``pixels`` and ``signs`` (-1 for
    a bright pixel, stored by its missing spikes), and n_blocks times as many words.
    """
    n_pixels = images.shape[1]
    n_blocks = (n_steps + STEPS - 1) // STEPS
    listed = np.empty(n_pixels + 1, np.int64)
    keys, rarity, undecided, state_a, state_b = np.empty((5, n_pixels), np.uint64)
    for n in range(first, last):
        count = 0
        for pixel in range(n_pixels):  # without a branch: black pixels are written over
            listed[count] = pixel
            count += images[n, pixel] > 0
        image_key = _mix(_mix(seed + _GOLDEN) ^ np.uint64(first_index + n))
        begin = starts[n]
        for i in range(count):
            grey = images[n, listed[i]]
            bright = grey > np.float32(0.5)
            pixels[begin + i] = listed[i]
            signs[begin + i] = np.float32(-1) if bright else np.float32(1)
            rare = np.float32(1) - grey if bright else grey
            rarity[i] = np.uint64(np.int64(rare * np.float32(4294967296.0)))
        for block in range(n_blocks):
            left = n_steps - block * STEPS
            for i in range(count):
                keys[i] = image_key ^ np.uint64((listed[i] << 32) + block)
                undecided[i] = _ALL if left >= STEPS else _ALL >> np.uint64(STEPS - left)
            own = words[begin * n_blocks + block * count :][:count]
            own[:] = 0
            _draw_words(keys, rarity, own, undecided, state_a, state_b, count)


@kernel
def _constant_current(table, bias, pixels, signs, begin, end):
    """What flows at every step: the bias, and the weights of all bright pixels."""
    current = bias
    for i in range(begin, end):
        bright = np.float32(0.5) * (np.float32(1) - signs[i])
        current = current + load(table, pixels[i] * LANES) * fill(bright)
    return current


@kernel
def _add_events(currents, table, pixels, signs, words, begin, end, word):
    """Add a pixel's weights to the current of every step at which its word has a 1."""
    for i in range(begin, end):
        bits = words[word + i - begin]
        row = load(table, pixels[i] * LANES) * fill(signs[i])
        while bits != 0:
            at = lowest_bit(bits) * LANES
            store(currents, at, load(currents, at) + row)
            bits &= bits - _ONE


@kernel
def _charge(v, current, neuron):
    """H[t], in the same order of operations as ``LIFParameters.charge``."""
    if neuron.decay_input:
        return v + (current - (v - fill(neuron.v_rest))) / fill(neuron.tau)
    return v - (v - fill(neuron.v_rest)) / fill(neuron.tau) + current


@kernel
def forward(
    weights, bias, n_steps, neuron, starts, pixels, signs, words, rates, history, first, last
):
    """Rates of images ``first`` to ``last``; every H goes to ``history`` unless it is empty."""
    n_blocks = (n_steps + STEPS - 1) // STEPS
    n_images = rates.shape[0]
    keep = history.size > 0
    zero, one = fill(np.float32(0)), fill(np.float32(1))
    threshold, rest = fill(neuron.v_threshold), fill(neuron.v_rest)
    currents = np.empty(STEPS * LANES, np.float32)
    for group in range(weights.shape[0]):
        table = weights[group]
        for n in range(first, last):
            begin, end = starts[n], starts[n + 1]
            constant = _constant_current(
                table, load(bias, group * LANES), pixels, signs, begin, end
            )
            v, count = rest, zero
            for block in range(n_blocks):
                steps = min(STEPS, n_steps - block * STEPS)
                for t in range(steps):
                    store(currents, t * LANES, constant)
                word = begin * n_blocks + block * (end - begin)
                _add_events(currents, table, pixels, signs, words, begin, end, word)
                at = ((group * n_images + n) * n_steps + block * STEPS) * LANES
                for t in range(steps):
                    charged = _charge(v, load(currents, t * LANES), neuron)
                    if keep:
                        store(history, at + t * LANES, charged)
                    count = count + where_reached(charged, threshold, one, zero)
                    after = rest if neuron.hard_reset else charged - threshold
                    v = where_reached(charged, threshold, after, charged)
            store(rates[n], group * LANES, count / fill(np.float32(n_steps)))


@kernel
def _slope(charged, neuron):
    """Derivative of the arctangent surrogate, ``ATan.derivative(H - v_threshold)``."""
    one = fill(np.float32(1))
    x = fill(np.float32(np.pi / 2) * neuron.alpha) * (charged - fill(neuron.v_threshold))
    return fill(np.float32(0.5) * neuron.alpha) / (one + x * x)


@kernel
def _collect_events(grad, currents, total, pixels, signs, words, begin, end, word):
    """Add to each pixel's weight gradient those of the currents it flowed into."""
    for i in range(begin, end):
        bits = words[word + i - begin]
        change = fill(np.float32(0))
        while bits != 0:
            change = change + load(currents, lowest_bit(bits) * LANES)
            bits &= bits - _ONE
        bright = np.float32(0.5) * (np.float32(1) - signs[i])
        change = change * fill(signs[i]) + total * fill(bright)
        store(grad, pixels[i] * LANES, load(grad, pixels[i] * LANES) + change)


@kernel
def backward(
    grad_rates,
    history,
    slopes,
    n_steps,
    neuron,
    starts,
    pixels,
    signs,
    words,
    grad_weights,
    grad_bias,
    first,
    last,
):
    """Add the gradients of images ``first`` to ``last`` to those of weights and bias.

    The recursion over time is that of ``scan``; dL/dS[t] is the same at every step.
    """
    n_blocks = (n_steps + STEPS - 1) // STEPS
    n_images = grad_rates.shape[0]
    zero = fill(np.float32(0))
    threshold, rest = fill(neuron.v_threshold), fill(neuron.v_rest)
    gain, leak = fill(neuron.gain), fill(neuron.leak)
    grad_currents = np.empty(STEPS * LANES, np.float32)
    for group in range(grad_weights.shape[0]):
        grad = grad_weights[group]
        for n in range(first, last):
            begin, end = starts[n], starts[n + 1]
            grad_spike_out = load(grad_rates[n], group * LANES) / fill(np.float32(n_steps))
            grad_v = zero
            for block in range(n_blocks - 1, -1, -1):
                steps = min(STEPS, n_steps - block * STEPS)
                at = ((group * n_images + n) * n_steps + block * STEPS) * LANES
                total = zero
                for t in range(steps - 1, -1, -1):
                    charged = load(history, at + t * LANES)
                    if neuron.alpha > 0:
                        slope = _slope(charged, neuron)
                    else:
                        slope = load(slopes, at + t * LANES)
                    grad_spike = grad_spike_out
                    if not neuron.detach_reset:
                        moved = rest - charged if neuron.hard_reset else zero - threshold
                        grad_spike = grad_spike + grad_v * moved
                    if neuron.hard_reset:  # a neuron that fired forgets what came before
                        grad_v = where_reached(charged, threshold, zero, grad_v)
                    grad_charged = grad_spike * slope + grad_v
                    store(grad_currents, t * LANES, gain * grad_charged)
                    total = total + gain * grad_charged
                    grad_v = leak * grad_charged
                word = begin * n_blocks + block * (end - begin)
                _collect_events(grad, grad_currents, total, pixels, signs, words, begin, end, word)
                store(grad_bias, group * LANES, load(grad_bias, group * LANES) + total)


@kernel
def unpack(images, n_steps, starts, pixels, signs, words, spikes):
    """Write the spikes of all images as numbers 0 and 1, ``[T, N, n_pixels]``."""
    n_blocks = (n_steps + STEPS - 1) // STEPS
    for n in range(images.shape[0]):
        begin, end = starts[n], starts[n + 1]
        for i in range(begin, end):
            for t in range(n_steps):
                word = words[begin * n_blocks + (t // STEPS) * (end - begin) + i - begin]
                rare = (word >> np.uint64(t % STEPS)) & _ONE
                spikes[t, n, pixels[i]] = rare if signs[i] > 0 else _ONE - rare
