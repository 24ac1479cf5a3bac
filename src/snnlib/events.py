"""Poisson images -> Linear -> LIF, computed on the spikes alone.

Most pixels are black and most steps are silent, so a dense simulation mostly
draws random numbers for pixels that cannot fire and multiplies weights by zero.
This engine does neither. Three ideas, each exact:

1. Random numbers are drawn only for pixels that are not black.
2. 64 steps of a pixel are decided together. A pixel fires where a random number
   is below its grey value; compared bit by bit, highest first, most of the 64
   comparisons are settled after two or three bits, all of them after eight or
   so: 8 random words do the work of 64 numbers.
3. A pixel brighter than 1/2 is stored by its *missing* spikes: add its weights
   once as a constant, take them away again where it stays silent.

A pixel's 64 steps are one 64-bit word, kept for the backward pass, where the
gradient of a weight row is a sum over the same few events. Neurons are handled
sixteen at a time (``lanes``), images in chunks that threads may share.
"""

import functools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnlib.lanes import LANES, fill, kernel, load, lowest_bit, store, where_reached
from snnlib.surrogate import ATan, Sigmoid

STEPS = 64  # steps in a word
_CHUNK = 64  # images that share one partial gradient
_MAX_CHUNKS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_log = logging.getLogger(__name__)


# ------------------------------------------------------------------ random bits


@kernel
def _mix(x):
    """SplitMix64's finalizer (Steele, Lea & Flood 2014): every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _draw_words(keys, rarity, words, undecided, n):
    """Decide 64 Bernoulli draws per word: bit t of ``words[j]`` is 1 with probability
    ``rarity[j] / 2**32``. Plane by plane, random bit r meets bit c of the chance: where
    they differ the draw is settled, and it fires if r = 0 and c = 1."""
    for plane in range(10):  # all words together, so that the compiler can use vectors
        for j in range(n):
            random = _mix(keys[j] + np.uint64(plane + 1) * _GOLDEN)
            chance = np.uint64(0) - ((rarity[j] >> np.uint64(31 - plane)) & np.uint64(1))
            words[j] |= undecided[j] & chance & ~random
            undecided[j] &= ~(chance ^ random)
    for j in range(n):  # one word in sixteen has a draw left to settle
        plane = 10
        while undecided[j] != 0 and plane < 32:
            random = _mix(keys[j] + np.uint64(plane + 1) * _GOLDEN)
            chance = np.uint64(0) - ((rarity[j] >> np.uint64(31 - plane)) & np.uint64(1))
            words[j] |= undecided[j] & chance & ~random
            undecided[j] &= ~(chance ^ random)
            plane += 1


@kernel
def _encode(images, n_steps, seed, first_index, starts, pixels, signs, words, first, last):
    """List the pixels of images ``first`` to ``last`` that are not black, and draw their words.

    Image n owns the places starts[n] to starts[n+1] of ``pixels`` and ``signs`` (-1 for
    a bright pixel, stored by its missing spikes), and n_blocks times as many words.
    """
    n_pixels = images.shape[1]
    n_blocks = (n_steps + STEPS - 1) // STEPS
    listed = np.empty(n_pixels + 1, np.int64)
    keys = np.empty(n_pixels * n_blocks, np.uint64)
    rarity = np.empty(n_pixels * n_blocks, np.uint64)
    undecided = np.empty(n_pixels * n_blocks, np.uint64)
    for n in range(first, last):
        count = 0
        for pixel in range(n_pixels):  # without a branch: black pixels are written over
            listed[count] = pixel
            count += images[n, pixel] > 0
        image_key = _mix(_mix(seed + _GOLDEN) ^ np.uint64(first_index + n))
        for i in range(count):
            pixel = listed[i]
            bright = images[n, pixel] > np.float32(0.5)
            rare = 1.0 - images[n, pixel] if bright else np.float64(images[n, pixel])
            pixels[starts[n] + i] = pixel * LANES
            signs[starts[n] + i] = np.float32(-1) if bright else np.float32(1)
            for block in range(n_blocks):
                j = block * count + i
                keys[j] = _mix(image_key + np.uint64(pixel * n_blocks + block) * _GOLDEN)
                rarity[j] = np.uint64(rare * 4294967296.0)
                left = n_steps - block * STEPS
                undecided[j] = _ALL if left >= STEPS else (_ALL >> np.uint64(STEPS - left))
        own = words[starts[n] * n_blocks : starts[n + 1] * n_blocks]
        own[:] = 0
        _draw_words(keys, rarity, own, undecided, count * n_blocks)
