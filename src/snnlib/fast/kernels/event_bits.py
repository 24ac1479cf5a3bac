# mypy: disallow-untyped-defs=False
"""Poisson spikes as bits: 64 steps of a pixel are one word.

Written for numba: a loop here runs at the speed of C. A pixel fires at step t where a
random number is below its grey value. Both are compared bit by bit, the highest
first, for 64 steps at once; the first bit in which they differ decides. Half of the
steps are settled by each bit, so after eight or so none is left.

The words of an image lie block by block: first all pixels' steps 0 to 63, then all
pixels' steps 64 to 127.
"""

import numpy as np

from snnlib.fast.kernels.lanes import kernel

STEPS = 64  # steps in a word
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)


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
    # Five arrays, not five rows of one: only so does the compiler see that they never overlap.
    keys = np.empty(n_pixels, np.uint64)
    rarity, undecided = np.empty_like(keys), np.empty_like(keys)
    state_a, state_b = np.empty_like(keys), np.empty_like(keys)
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
