"""What a LIF neuron does under constant input, and a Poisson pixel does, in closed form."""

import math

import torch
from torch import Tensor

from snnlib.checks import finite, float_tensor, grey_tensor, instance, whole_number
from snnlib.neurons import LIFParameters


def _checked(current: Tensor, neuron: LIFParameters) -> Tensor:
    instance("neuron", neuron, LIFParameters)
    return finite("current", float_tensor("current", current))


def _drive(current: Tensor, neuron: LIFParameters) -> Tensor:
    """Height above rest towards which the potential climbs when no spike stops it."""
    return current if neuron.decay_input else current * neuron.tau


def subthreshold_potential(current: Tensor, n_steps: int, neuron: LIFParameters) -> Tensor:
    """Give the potential of a neuron that never fires, under constant input.

    Eq. (2.4) of the book: V[t] = v_reset + X (1 - (1 - 1/tau)^t).

    Args:
        current: The constant input X, any shape, in units of the potential; a tensor or
            NumPy array. Whole numbers become float32.
        n_steps: Number of steps T, at least 1.
        neuron: Its ``tau`` is counted in steps; the threshold is ignored.

    Returns:
        V[1..T], ``[T, *current.shape]``.

    Raises:
        ValueError: ``n_steps`` is no whole number of at least 1, ``current`` is not
            finite, or ``neuron`` does not leak.
    """
    n_steps = whole_number("n_steps", n_steps, least=1)
    current = _checked(current, neuron)
    steps = torch.arange(1, n_steps + 1, dtype=current.dtype, device=current.device)
    climbed = 1 - (1 - 1 / neuron.tau) ** steps
    climbed = climbed.reshape(-1, *([1] * current.dim()))
    return neuron.v_rest + _drive(current, neuron) * climbed


def first_spike_step(current: Tensor, neuron: LIFParameters) -> Tensor:
    """Predict when a resting neuron first fires under a constant input.

    The smallest whole t at which Eq. (2.4) reaches the threshold: Eq. (2.8).

    Args:
        current: The constant input X, any shape, in units of the potential; a tensor or
            NumPy array. Whole numbers become float32.
        neuron: Its ``tau`` is counted in steps.

    Returns:
        The step of the first spike, counted from 1, in the shape of
        ``current``; ``inf`` where the input is too weak ever to fire.

    Raises:
        ValueError: ``current`` is not finite, or ``neuron`` does not leak.
    """
    current = _checked(current, neuron)
    climb = neuron.v_threshold - neuron.v_rest
    drive = _drive(current, neuron).double()
    fires = drive > climb
    # A stand-in keeps the logarithm real where there is no answer to find.
    solvable = torch.where(fires, drive, 2.0 * climb)
    steps = torch.log(1.0 - climb / solvable) / math.log(1.0 - 1.0 / neuron.tau)
    steps = steps * (1 - 1e-12)  # a whole number, X = tau for one, may come out a little above
    return torch.where(fires, steps.ceil().clamp(min=1), math.inf).to(current.dtype)


def firing_rate_curve(current: Tensor, neuron: LIFParameters) -> Tensor:
    """Give the long-run firing rate under constant input: the f-I curve, Eq. (2.9).

    With a hard reset every interval between spikes repeats the first climb, so
    the rate is one over :func:`first_spike_step`.

    Args:
        current: The constant input X, any shape; a tensor or NumPy array.
        neuron: Must reset hard.

    Returns:
        Spikes per step in [0, 1], in the shape of ``current``.

    Raises:
        ValueError: ``v_reset`` is None: a soft reset leaves a remainder, and the
            rate has no such simple form.
    """
    current = _checked(current, neuron)
    if neuron.v_reset is None:
        raise ValueError("v_reset must be a number (hard reset) for this formula, got None")
    return 1 / first_spike_step(current, neuron)


def poisson_rate_interval(probability: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    """Give the range in which the measured rate of a Poisson-encoded pixel should lie.

    The spike count of a pixel p over T steps is binomial, so its rate has mean p
    and standard error sqrt(p (1 - p) / T): Eq. (3.2) of the book.

    Args:
        probability: Grey values p in [0, 1], any shape; a tensor or NumPy array.
        n_steps: Number of steps T, at least 1.

    Returns:
        Two standard errors below and above p, in the shape of ``probability``, cut to [0, 1].

    Raises:
        ValueError: A probability lies outside [0, 1], or ``n_steps`` is no whole number of
            at least 1.
    """
    n_steps = whole_number("n_steps", n_steps, least=1)
    probability = grey_tensor("probability", probability)
    spread = 2 * (probability * (1 - probability) / n_steps).sqrt()
    return (probability - spread).clamp(min=0), (probability + spread).clamp(max=1)
