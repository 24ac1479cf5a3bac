"""How far the mean of a few seeds can be trusted: Student's interval. Needs no torch."""

import math
from collections.abc import Sequence
from statistics import stdev

from snnlib.checks import number, whole_number


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Range in which the true mean plausibly lies, 95 %, if the values scatter normally.

    Args:
        values: At least two, of any unit: accuracies of several seeds, say.

    Returns:
        Lower and upper end, in the unit of the values: mean -+ t s / sqrt(n) (Student 1908).

    Raises:
        ValueError: There are fewer than two values, or one is no finite number.
    """
    values = [number("a value", value) for value in values]
    free = whole_number("n_values", len(values), least=2) - 1
    mean = sum(values) / len(values)
    reach = student_factor(free) * stdev(values) / math.sqrt(len(values))
    return mean - reach, mean + reach


def student_factor(free: int) -> float:
    """How many standard errors 95 % need where the spread itself is estimated.

    Args:
        free: Degrees of freedom, at least 1: values beyond one in each group.

    Returns:
        Student's t, 12.71 for one, towards 1.96 for many: the t at which a variable
        lies in [-t, t] with probability 0.95 (Abramowitz and Stegun 1964, Eq. 26.7.3
        and 26.7.4, solved by halving). It has two decimals, as in printed tables, so
        that a reader can redo an interval by hand.

    Raises:
        ValueError: ``free`` is no whole number of at least 1.
    """
    free = whole_number("free", free, least=1)
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(free)
    while low < (middle := (low + high) / 2) < high:
        inside = _inside(middle, free) < 0.95
        low, high = (middle, high) if inside else (low, middle)
    return round(math.sqrt(free) * math.tan(low), 2)


def _inside(angle: float, free: int) -> float:
    """Probability that Student's variable lies in [-t, t], t = sqrt(free) tan(angle)."""
    odd = free % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, free, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    area = math.sin(angle) * total
    return 2 / math.pi * (angle + area) if odd else area
