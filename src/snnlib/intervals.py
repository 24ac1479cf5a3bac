"""How far an accuracy, or the difference of two, can be trusted. Needs no torch."""

import math
from statistics import NormalDist

from snnlib.checks import number, whole_number


def accuracy_interval(n_correct: int, n_images: int) -> tuple[float, float]:
    """Range in which the true accuracy plausibly lies, 95 % (Wilson 1927, Eq. 1).

    Args:
        n_correct: Correctly classified images, from 0 to ``n_images``.
        n_images: Images looked at, at least 1.

    Returns:
        Lower and upper end, both in [0, 1].

    Raises:
        ValueError: A count is impossible or no whole number.
    """
    n_images = whole_number("n_images", n_images, least=1)
    n_correct = whole_number("n_correct", n_correct, 0, n_images)
    share, z = n_correct / n_images, NormalDist().inv_cdf(0.975)
    centre = share + z * z / (2 * n_images)
    spread = z * math.sqrt(share * (1 - share) / n_images + z * z / (4 * n_images**2))
    scale = 1 + z * z / n_images
    # At 0 and n correct the exact ends are 0 and 1; keep rounding from missing them.
    low = 0.0 if n_correct == 0 else (centre - spread) / scale
    high = 1.0 if n_correct == n_images else (centre + spread) / scale
    return low, high


def difference_interval(
    share: float, n_images: int, other: float, n_other: int
) -> tuple[float, float]:
    """Range in which the true ``share - other`` plausibly lies, 95 % (Newcombe 1998, method 10).

    Args:
        share: An accuracy in [0, 1], on ``n_images`` images.
        n_images: At least 1.
        other: Another accuracy in [0, 1], on ``n_other`` other images.
        n_other: At least 1.

    Returns:
        Lower and upper end, both in [-1, 1]; Eq. (9.4) of the book.

    Raises:
        ValueError: A share or a count is impossible.
    """
    share, other = number("share", share, least=0, most=1), number("other", other, least=0, most=1)
    n_images = whole_number("n_images", n_images, least=1)
    n_other = whole_number("n_other", n_other, least=1)
    low, high = accuracy_interval(round(share * n_images), n_images)
    other_low, other_high = accuracy_interval(round(other * n_other), n_other)
    down = math.hypot(share - low, other_high - other)
    up = math.hypot(high - share, other - other_low)
    return share - other - down, share - other + up


def mcnemar(n_only_first: int, n_only_second: int) -> float:
    """Two-sided p of McNemar's exact test: do two networks err on equally many of the same images?

    Images that both get right, or both get wrong, say nothing about which is better. Of
    the others, equally good networks win each with probability 1/2; p is twice the
    smaller tail of that binomial law, at most 1 (McNemar 1947; exact form: Fay 2010).

    Args:
        n_only_first: Images that the first network alone gets right.
        n_only_second: Images that the second alone gets right.

    Returns:
        In (0, 1]; 1 if the two numbers are equal. Below 1e-308 it is 0.

    Raises:
        ValueError: A number is negative or no whole number.
    """
    n_only_first = whole_number("n_only_first", n_only_first, least=0)
    n_only_second = whole_number("n_only_second", n_only_second, least=0)
    n, fewer = n_only_first + n_only_second, min(n_only_first, n_only_second)
    ways = tail = 1  # to win no image; below, i + 1 of them
    for i in range(fewer):
        ways = ways * (n - i) // (i + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**n)


def paired_difference_interval(
    n_both: int, n_only_first: int, n_only_second: int, n_images: int
) -> tuple[float, float]:
    """Range in which the true difference of two accuracies on the same images plausibly lies, 95 %.

    Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10: the Wilson intervals
    of both are joined as in :func:`difference_interval`, less what the two have in common.
    Where they get the same images right it is much narrower than that.

    Args:
        n_both: Images that both networks get right.
        n_only_first: Images that the first alone gets right.
        n_only_second: Images that the second alone gets right.
        n_images: All images, at least 1; the rest are wrong in both.

    Returns:
        Lower and upper end of first minus second, both in [-1, 1].

    Raises:
        ValueError: A number is negative or no whole number, or they exceed ``n_images``.
    """
    n_images = whole_number("n_images", n_images, least=1)
    n_both = whole_number("n_both", n_both, 0, n_images)
    n_only_first = whole_number("n_only_first", n_only_first, 0, n_images - n_both)
    rest = n_images - n_both - n_only_first
    n_only_second = whole_number("n_only_second", n_only_second, 0, rest)
    first, second = n_both + n_only_first, n_both + n_only_second
    low, high = accuracy_interval(first, n_images)
    other_low, other_high = accuracy_interval(second, n_images)
    phi = _correlation(n_both, n_only_first, n_only_second, rest - n_only_second)
    share, other = first / n_images, second / n_images
    down = _joined(share - low, other_high - other, phi)
    up = _joined(high - share, other - other_low, phi)
    difference = (n_only_first - n_only_second) / n_images
    return difference - down, difference + up


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """Newcombe's phi: the correlation of right and right, half an image less where positive."""
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    excess = float(both * neither - first * second)
    if excess > 0:
        excess = max(excess - (both + first + second + neither) / 2, 0.0)
    return excess / math.sqrt(margins) if margins else 0.0


def _joined(a: float, b: float, phi: float) -> float:
    """``sqrt(a**2 - 2 * phi * a * b + b**2)``, without a difference that rounding could turn."""
    return math.sqrt((a - b) ** 2 + 2 * (1 - phi) * a * b)
