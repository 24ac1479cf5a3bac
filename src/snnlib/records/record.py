"""What is written down about a run: typed, versioned, and checked field by field."""

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Self

from snnlib.checks import keep_exact, number, refuse, whole_number
from snnlib.records.correct import unpack_correct

SCHEMA_VERSION = 2
READABLE = (1, 2)  # lines of version 1 do not say which images were predicted correctly
PROTOCOLS = ("post", "honest")
RANGES: dict[str, dict[str, Any]] = {
    "n_images": {"least": 1},
    "correct": {"empty": True},
    "epoch": {"least": 0},
    "seed": {"least": 0},
    "n_training": {"least": 1},
    "n_validation": {"least": 0},
    "n_test": {"least": 1},
    "threads": {"least": 1},
    "seconds": {"least": 0},
    "notes": {"empty": True},
}


# Settings, and words for them, that were called otherwise when older lines were written.
RENAMED_SETTINGS = {
    "length": "input_rms",
    "scale": "loss_slope",
    "gain": "goodness_gain",
    "together": "layers_at_once",
    "hand_over": "pass_on",
    "cell": "activation",
}
RENAMED_VALUES: dict[tuple[str, object], str] = {
    ("reset", "hard"): "zero",
    ("reset", "soft"): "subtract",
    ("spike", "soft"): "sigmoid",
    ("readout", "potential"): "membrane",
}


def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a stored run under the names of today."""
    named = {RENAMED_SETTINGS.get(name, name): value for name, value in settings.items()}
    texts = {name: value for name, value in named.items() if isinstance(value, str)}
    return named | {n: RENAMED_VALUES.get((n, text), text) for n, text in texts.items()}


@dataclass(frozen=True)
class Result:
    """Correct predictions among ``n_images`` after an epoch, with the 95 % interval of their share.

    ``correct`` says which images they are (:mod:`snnlib.records.correct`); empty where it
    was not kept.

    Raises:
        ValueError: A count is impossible, or the interval does not enclose the share.
    """

    n_correct: int
    n_images: int
    epoch: int
    low: float
    high: float
    correct: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        keep_exact(self, RANGES)
        whole_number("n_correct", self.n_correct, 0, self.n_images)
        if self.correct and sum(self.images_correct()) != self.n_correct:
            refuse("correct", f"of {self.n_correct} images predicted correctly", self.correct[:20])
        # Rounded, because at 0 and 100 % the interval touches the share itself.
        if not 0 <= self.low <= self.accuracy + 1e-9 <= self.high + 2e-9 <= 1 + 2e-9:
            raise ValueError(
                f"low and high must enclose the accuracy {self.accuracy:.4f}, "
                f"got {self.low} and {self.high}"
            )

    @property
    def accuracy(self) -> float:
        """Share of images classified correctly, in [0, 1]."""
        return self.n_correct / self.n_images

    def images_correct(self) -> list[bool]:
        """Whether each image was predicted correctly, in the order of the set.

        Raises:
            ValueError: It was not kept.
        """
        return unpack_correct(self.correct, self.n_images)

    def __str__(self) -> str:
        return (
            f"{self.accuracy:.2%} of {self.n_images} images "
            f"(95 % interval {100 * self.low:.2f} to {100 * self.high:.2f})"
        )


@dataclass(frozen=True)
class RunRecord:
    """One run, complete: what was asked, with which settings, and what came out.

    ``last`` and ``best_on_test`` belong to the post's protocol, where the test
    set is looked at after every epoch; ``validation_selected`` to the honest one,
    where it is looked at once. ``history`` is ``History.to_dict()``: per epoch its
    ``number`` and, for each set, ``loss``, ``n_correct``, ``n_images``, ``seconds``
    (in rows of the fourth post, ``ff-1`` and so on, an entry is a layer). ``extra``
    holds further measurements by name. Numbers and arrays of NumPy or PyTorch become
    Python's own numbers and lists, so that JSON can hold them.

    Raises:
        ValueError: A field is of the wrong type, or impossible; the message names it.
    """

    id: str
    claim: str
    preset: str
    question: str
    settings: dict[str, Any]
    protocol: str
    seed: int
    data_source: str
    n_training: int
    n_validation: int
    n_test: int
    history: list[dict[str, Any]]
    last: Result | None
    best_on_test: Result | None
    validation_selected: Result | None
    versions: dict[str, str]
    commit: str
    dirty: bool
    device: str
    threads: int
    seconds: float
    finished: str
    notes: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        keep_exact(self, RANGES)
        for name in ("settings", "history", "versions", "extra"):
            object.__setattr__(self, name, _plain(name, getattr(self, name)))
        _check_types(self)
        _check_record(self)
        for index, epoch in enumerate(self.history):
            _check_epoch(index, epoch)

    @property
    def result(self) -> Result:
        """The accuracy that the run's protocol reports as its own."""
        chosen = self.best_on_test if self.protocol == "post" else self.validation_selected
        assert chosen is not None  # guarded by _check_record
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionaries, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Check and rebuild a record.

        Raises:
            ValueError: A field is missing, unknown, of the wrong type or impossible;
                the message names it.
        """
        if not isinstance(stored, Mapping):
            raise ValueError(f"a record must be a JSON object, got {type(stored).__name__}")
        version = stored.get("schema_version")
        if version not in READABLE:
            raise ValueError(
                f"schema_version must be one of {READABLE}, got {version}; "
                f"another version of snnlib wrote this record"
            )
        known = {f.name for f in fields(cls)}
        if odd := sorted(set(stored) ^ known):
            raise ValueError(f"fields missing from or unknown to a record: {', '.join(odd)}")
        values = dict(stored)
        if isinstance(values["settings"], Mapping):
            values["settings"] = renamed(values["settings"])
        for name in ("last", "best_on_test", "validation_selected"):
            if isinstance(values[name], Mapping):
                values[name] = Result(**values[name])
        return cls(**values)


def _check_types(instance: Any) -> None:
    for f in fields(instance):
        value = getattr(instance, f.name)
        if not _fits(value, f.type):
            wanted = getattr(f.type, "__name__", str(f.type))
            raise ValueError(f"{f.name} must be of type {wanted}, got {value!r}")


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(kind))
    return isinstance(value, typing.get_origin(kind) or kind)


def _plain(name: str, value: Any) -> Any:
    """What JSON can hold, of the same values: nothing is turned into a text or rounded."""
    if hasattr(value, "tolist"):  # a number or an array of NumPy or PyTorch
        value = value.tolist()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                refuse(f"each name in {name}", "a text", key)
        return {key: _plain(f"{name}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(f"{name}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        refuse(name, "a finite number", value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    refuse(name, "a number, a text, True, False, None, or a list or dictionary of them", value)


def _check_record(record: RunRecord) -> None:
    if record.protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {PROTOCOLS}, got {record.protocol!r}")
    if record.schema_version not in READABLE:
        raise ValueError(f"schema_version must be one of {READABLE}, got {record.schema_version}")
    if datetime.fromisoformat(record.finished).tzinfo is None:
        raise ValueError(f"finished must name its time zone, got {record.finished!r}")
    needed = ("last", "best_on_test") if record.protocol == "post" else ("validation_selected",)
    for name in needed:
        if getattr(record, name) is None:
            raise ValueError(f"{name} must be given in the protocol {record.protocol!r}")
    for name in ("last", "best_on_test", "validation_selected"):
        result = getattr(record, name)
        if result is not None and result.n_images != record.n_test:
            raise ValueError(f"{name} must count {record.n_test} images, got {result.n_images}")


def _check_epoch(index: int, epoch: Any) -> None:
    if not isinstance(epoch, dict) or epoch.get("number") != index + 1:
        raise ValueError(f"history[{index}] must be a dictionary with number {index + 1}")
    for name, metrics in epoch.items():
        if name == "number":
            continue
        where = f"history[{index}][{name!r}]"
        if not isinstance(metrics, dict):
            refuse(where, "a dictionary of finite numbers", metrics)
        for key, value in metrics.items():
            number(f"{where}[{key!r}]", value)
        if not 0 <= metrics.get("n_correct", 0) <= metrics.get("n_images", 0):
            raise ValueError(f"{where}: n_correct must lie in 0..n_images")
