"""Speed beside other libraries: the figures that ``snnlib bench --keep`` stored, read and checked.

The file holds what one machine measured: a row per comparison, the seconds of
every round behind it, and the machine itself. Every figure of the chapter "How
fast, and why" comes from here.
"""

import json
import math
import os
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
    """Read and check the figures of a ``snnlib bench``.

    Args:
        path: A file that ``snnlib bench --json`` wrote; the packaged one if left out.

    Raises:
        ValueError: The file is missing or damaged; the sentence names file and field.
    """
    target = bench_path() if path is None else named_path("path", path)
    if target.is_dir():
        refuse("path", "the name of a file", target)
    if not target.exists():
        raise ValueError(f"there is no {target.name}: 'snnlib bench --keep' measures and writes it")
    try:
        return bench_from(json.loads(target.read_text(encoding="utf-8")))
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
        ValueError: A field is missing or impossible; the sentence names it.
    """
    details = _field(data, "details", dict, "the file")
    return Bench(
        machine=_machine(_field(data, "machine", dict, "the file")),
        rows=[_row(row) for row in _field(data, "rows", list, "the file")],
        seconds={title: _race(title, race) for title, race in details.items()},
        n_images={title: _batch(title, race) for title, race in details.items()},
        finished=data.get("finished"),
    )


def _machine(machine: dict[str, Any]) -> dict[str, Any]:
    kinds = {"processor": str, "instructions": list, "cores": int, "python": str, "versions": dict}
    for name, kind in kinds.items():
        _field(machine, name, kind, "machine")
    return machine


def _row(row: dict[str, Any]) -> Row:
    where = f"row {row.get('what')!r}"
    median, low, high = (_positive(row, name, where) for name in ("median", "min", "max"))
    memory = row.get("mebibytes", {})
    if not low <= median <= high:
        raise ValueError(f"{where} needs min <= median <= max, got {low}, {median}, {high}")
    found = Row(
        what=_field(row, "what", str, where),
        against=_field(row, "against", str, where),
        median=median,
        low=low,
        high=high,
        goal=None if row.get("goal") is None else _positive(row, "goal", where),
        mebibytes={name: _positive(memory, name, where) for name in memory},
    )
    if row.get("met") is not found.met:
        raise ValueError(f"{where} says met={row.get('met')}, its figures say {found.met}")
    return found


def _race(title: str, race: dict[str, Any]) -> dict[str, list[float]]:
    """The seconds of each variant, the same number of rounds for all."""
    found = {}
    for name, figure in race.items():
        where = f"{name!r} in {title!r}"
        rounds = _field(figure, "seconds", list, where)
        found[name] = [_positive({"seconds": s}, "seconds", where) for s in rounds]
    if not found or 0 in (counts := {len(rounds) for rounds in found.values()}) or len(counts) > 1:
        raise ValueError(f"details of {title!r} need the same number of rounds, at least one")
    return found


def _batch(title: str, race: dict[str, Any]) -> int:
    """Images per step, from the pace and the median step of a variant."""
    figure = next(iter(race.values()))
    rounds = sorted(figure["seconds"])
    middle = (rounds[(len(rounds) - 1) // 2] + rounds[len(rounds) // 2]) / 2
    return round(_positive(figure, "images_per_second", f"details of {title!r}") * middle)


def _field(data: dict[str, Any], name: str, kind: type, where: str) -> Any:
    value = data.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{where} needs {name!r} as {kind.__name__}, got {value!r}")
    return value


def _positive(data: dict[str, Any], name: str, where: str) -> float:
    value = data.get(name)
    if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{where} needs {name!r} greater than 0, got {value!r}")
    return float(value)
