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
