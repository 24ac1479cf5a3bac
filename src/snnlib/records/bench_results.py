"""Speed beside other libraries: the figures that ``snnlib bench --keep`` stored.

The file holds what one machine measured: a row per comparison, the seconds of
every round behind it, and the machine itself. Every figure of the chapter "How
fast, and why" comes from here. ``bench/run.py`` checks them before it writes.
"""

import json
import os
import statistics
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from snnlib.checks import refuse
from snnlib.checks.files import Kind, named_path


@dataclass(frozen=True)
class Row:
    """One comparison: how many times better ``snnlib`` is than ``against``.

    ``median``, ``low`` and ``high`` are the ratio over alternating rounds.
    ``mebibytes`` holds the peak memory of each side where memory is compared.
    """

    what: str
    against: str
    median: float
    low: float
    high: float
    goal: float | None = None
    mebibytes: dict[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; ``None`` without a goal."""
        return None if self.goal is None else self.median >= self.goal

    @property
    def kind(self) -> str:
        """``"memory"``, ``"threads"`` (ourselves on two cores) or ``"speed"``."""
        if self.mebibytes:
            return "memory"
        return "threads" if self.against == "one thread" else "speed"


@dataclass(frozen=True)
class Bench:
    """All figures of one machine.

    ``seconds[title][variant]`` are the seconds of one step, round by round: the
    variants of a title took turns, so equal places belong to the same round.
    """

    machine: dict[str, Any]
    rows: list[Row]
    seconds: dict[str, dict[str, list[float]]]
    n_images: dict[str, int]
    finished: str | None = None

    def ratios(self, title: str, ours: str, theirs: str) -> list[float]:
        """How many times faster ``ours`` was than ``theirs``, one ratio per round."""
        race = self.seconds[title]
        return [b / a for a, b in zip(race[ours], race[theirs], strict=True)]


def bench_path() -> Path:
    """The figures that travel inside the package: ``snnlib/results/bench.json``."""
    return Path(str(resources.files("snnlib").joinpath("results", "bench.json")))


def read_bench(path: str | os.PathLike[str] | None = None) -> Bench:
    """Read the figures of a ``snnlib bench``.

    Args:
        path: A file that ``snnlib bench --json`` wrote; the packaged one if left out.

    Raises:
        ValueError: The file is missing, torn, or of another kind; the sentence names it.
    """
    target = bench_path() if path is None else named_path("path", path)
    if target.is_dir():
        refuse("path", "the name of a file", target)
    if not target.exists():
        raise ValueError(f"there is no {target.name}: 'snnlib bench --keep' measures and writes it")
    try:
        return bench_from(json.loads(target.read_text(encoding="utf-8")))
    except KeyError as error:
        raise ValueError(f"{target.name} cannot be used: it has no {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{target.name} cannot be used: {error}") from error


def _is_bench(path: Path) -> bool:
    try:
        read_bench(path)
    except ValueError:
        return False
    return True


FIGURES = Kind("figures of snnlib bench", _is_bench)


def bench_from(data: dict[str, Any]) -> Bench:
    """Build a :class:`Bench` from what the benchmark scripts collect.

    Raises:
        KeyError: A field is missing.
    """
    details = data["details"]
    return Bench(
        machine=data["machine"],
        rows=[_row(row) for row in data["rows"]],
        seconds={
            title: {name: figure["seconds"] for name, figure in race.items()}
            for title, race in details.items()
        },
        n_images={
            title: _batch(next(iter(race.values()))) for title, race in details.items() if race
        },
        finished=data.get("finished"),
    )


def _row(row: dict[str, Any]) -> Row:
    figures = (row["median"], row["min"], row["max"])
    return Row(row["what"], row["against"], *figures, row.get("goal"), row.get("mebibytes", {}))


def _batch(figure: dict[str, Any]) -> int:
    """Images per step, from the pace and the median step of a variant."""
    return round(figure["images_per_second"] * statistics.median(figure["seconds"]))
