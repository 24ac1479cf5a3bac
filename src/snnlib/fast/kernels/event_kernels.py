# mypy: disallow-untyped-defs=False
"""From spikes kept as bits to rates, and from the gradient of the rates to that of the weights.

Written for numba: a loop here runs at the speed of C. A pixel's word (``event_bits``)
says at which of 64 steps its weights flow, or, for a bright pixel, at which steps
they do not. Only the bits that are set cost anything.

Weights come as ``[n_groups, n_pixels * 16]``: sixteen neurons are handled at a time,
and what a pixel says to them lies side by side.
"""

from typing import NamedTuple

import numpy as np

from snnlib.fast.kernels.event_bits import STEPS
from snnlib.fast.kernels.lanes import LANES, fill, kernel, load, lowest_bit, store, where_reached

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
        while bits != 0:  # two at a time; an odd one out is paired with the spare row
            a, bits = lowest_bit(bits) * LANES, bits & (bits - _ONE)
            b, bits = lowest_bit(bits) * LANES, bits & (bits - _ONE)
            at_a, at_b = load(currents, a) + row, load(currents, b) + row
            store(currents, a, at_a)
            store(currents, b, at_b)


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
    currents = np.zeros((STEPS + 1) * LANES, np.float32)  # the last row is a spare
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
            a, bits = lowest_bit(bits) * LANES, bits & (bits - _ONE)
            b, bits = lowest_bit(bits) * LANES, bits & (bits - _ONE)
            change = change + (load(currents, a) + load(currents, b))
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
    grad_currents = np.zeros((STEPS + 1) * LANES, np.float32)  # the last row is a spare
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
