"""What the ledger says about a preset: its runs, their accuracies, and how two differ."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import stdev
from typing import Any

from snnlib.checks import one_of, refuse
from snnlib.intervals import accuracy_interval, difference_interval
from snnlib.records.record import RunRecord
from snnlib.records.student import mean_interval, student_factor

# What to read of a run: the number its protocol reports, that of its last epoch, of its best
# look at the test set, or the highest training accuracy of an epoch.
MEASURES = ("result", "last", "best_on_test", "best_in_training")


@dataclass(frozen=True)
class Accuracies:
    """Accuracies of one thing by seed, each a share in [0, 1] of ``n_images`` images.

    ``len`` counts them; none is allowed, but has neither mean nor interval (ValueError).
    """

    by_seed: dict[int, float]
    n_images: int

    def __len__(self) -> int:
        return len(self.by_seed)

    @property
    def shares(self) -> list[float]:
        """In the order of their lines in the ledger."""
        return list(self.by_seed.values())

    @property
    def percents(self) -> list[float]:
        """The same in percent."""
        return [100 * share for share in self.shares]

    @property
    def mean(self) -> float:
        """Mean over the seeds, in [0, 1]."""
        if not self.by_seed:
            refuse("by_seed", "one seed or more", self.by_seed)
        return sum(self.shares) / len(self)

    @property
    def spread(self) -> float | None:
        """Standard deviation between seeds, of a share; None below two."""
        return stdev(self.shares) if len(self) > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean on as many images as one run saw (Wilson 1927).

        It knows the luck of the images, not that of the seeds.
        """
        return accuracy_interval(round(self.mean * self.n_images), self.n_images)

    @property
    def ends(self) -> str:
        """``interval`` in percent, as in "[92.42, 93.43]"."""
        low, high = self.interval
        return f"[{100 * low:.2f}, {100 * high:.2f}]"

    @property
    def over_seeds(self) -> tuple[float, float] | None:
        """95 % interval of the mean from the spread of seeds (Student 1908); None below two.

        It is cut at 0 and 1.
        """
        if len(self) < 2:
            return None
        low, high = mean_interval(self.shares)
        return max(0.0, low), min(1.0, high)


def accuracies(runs: Iterable[RunRecord], measure: str = "result") -> Accuracies:
    """The accuracies of some runs, each of another seed.

    Args:
        runs: Records, those of ``reproduction.runs_of`` for instance.
        measure: One of ``MEASURES``.

    Raises:
        ValueError: There is no such measure, a run does not have it, two runs have one
            seed, or they were measured on different numbers of images.
    """
    one_of("measure", measure, MEASURES)
    by_seed: dict[int, float] = {}
    n_images = set()
    for run in runs:
        if run.seed in by_seed:
            refuse("runs", "one of each seed", f"seed {run.seed} of {run.preset} twice")
        by_seed[run.seed], n = _share(run, measure)
        n_images.add(n)
    if len(n_images) > 1:
        refuse("runs", "measured on the same number of images", sorted(n_images))
    return Accuracies(by_seed, n_images.pop() if n_images else 0)


def _share(run: RunRecord, measure: str) -> tuple[float, int]:
    if measure == "best_in_training":
        looks = [epoch["training"] for epoch in run.history]
        return max((e["n_correct"] / e["n_images"], e["n_images"]) for e in looks)
    result: Any = getattr(run, measure)
    if result is None:
        refuse("measure", f"one that the {run.protocol} protocol knows", measure)
    return result.accuracy, result.n_images


@dataclass(frozen=True)
class Difference:
    """One mean accuracy minus another, in shares; times 100 it is in points.

    ``on_images`` is the 95 % interval that the images allow, as if either side had its
    own (Newcombe 1998, method 10). The rest speaks of seeds, and is None where too few
    were run: ``spread`` is the standard deviation of one run, or of one pair's gain;
    ``error`` the standard error of ``mean``; ``over_seeds`` its 95 % interval (Student 1908).
    """

    mean: float
    on_images: tuple[float, float]
    spread: float | None
    error: float | None
    over_seeds: tuple[float, float] | None


def difference(one: Accuracies, other: Accuracies, *, paired: bool = False) -> Difference:
    """Mean of ``one`` minus mean of ``other``.

    Args:
        one: Those of the first preset.
        other: Those of the second.
        paired: Whether to compare within seeds, over those that both have. If not, all
            seeds of either count, and their spreads are pooled.

    Raises:
        ValueError: One of them has no seed, or, paired, they share none.
    """
    if paired:
        seeds = [seed for seed in one.by_seed if seed in other.by_seed]
        one = Accuracies({seed: one.by_seed[seed] for seed in seeds}, one.n_images)
        other = Accuracies({seed: other.by_seed[seed] for seed in seeds}, other.n_images)
    mean = one.mean - other.mean
    on_images = difference_interval(one.mean, one.n_images, other.mean, other.n_images)
    if paired:
        gains = [a - b for a, b in zip(one.shares, other.shares, strict=True)]
        free, shrink = len(gains) - 1, 1 / len(gains)
        spread = stdev(gains) if free else 0.0
    else:
        free, shrink = len(one) + len(other) - 2, 1 / len(one) + 1 / len(other)
        squares = sum((a.spread or 0.0) ** 2 * (len(a) - 1) for a in (one, other))
        spread = math.sqrt(squares / max(1, free))
    if free == 0:
        return Difference(mean, on_images, None, None, None)
    error = spread * math.sqrt(shrink)
    reach = student_factor(free) * error
    return Difference(mean, on_images, spread, error, (mean - reach, mean + reach))
