"""What a run looks like from outside: metrics of an epoch, and the history of all of them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from snnlib.checks import instance, keep_exact, number, text, whole_number
from snnlib.intervals import accuracy_interval


@dataclass(frozen=True)
class EpochMetrics:
    """Mean loss and correct predictions of one pass over some images, and the seconds it took.

    ``loss`` may be NaN or infinite, which is how a run ends that diverges. ``correct``
    says for each image whether it was predicted correctly, where that was kept.

    Raises:
        ValueError: A count is impossible, or something is no number.
    """

    loss: float
    n_correct: int
    n_images: int
    seconds: float
    correct: tuple[bool, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.loss, float) and not math.isfinite(self.loss)):
            object.__setattr__(self, "loss", number("loss", self.loss))
        n_images = whole_number("n_images", self.n_images, least=1)
        n_correct = whole_number("n_correct", self.n_correct, 0, n_images)
        object.__setattr__(self, "n_images", n_images)
        object.__setattr__(self, "n_correct", n_correct)
        object.__setattr__(self, "seconds", number("seconds", self.seconds, least=0))

    @property
    def accuracy(self) -> float:
        """Share of images classified correctly, in [0, 1]."""
        return self.n_correct / self.n_images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy (Wilson 1927)."""
        return accuracy_interval(self.n_correct, self.n_images)

    def to_dict(self) -> dict[str, float]:
        """The four numbers, ready for JSON."""
        return {
            "loss": self.loss,
            "n_correct": self.n_correct,
            "n_images": self.n_images,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number, counted from 1, and the metrics of every set looked at.

    ``training`` is the running accuracy, collected while the weights still move.
    """

    number: int
    training: EpochMetrics
    evaluation: dict[str, EpochMetrics] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep_exact(self, {"number": {"least": 0}})
        instance("training", self.training, EpochMetrics)
        for name, metrics in self.evaluation.items():
            instance(f"evaluation[{text('a name of evaluation', name)!r}]", metrics, EpochMetrics)

    def __getitem__(self, name: str) -> EpochMetrics:
        """The metrics of ``"training"`` or of one of the evaluated sets."""
        return self.training if name == "training" else self.evaluation[name]

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionaries, ready for JSON."""
        evaluation = {name: metrics.to_dict() for name, metrics in self.evaluation.items()}
        return {"number": self.number, "training": self.training.to_dict(), **evaluation}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        sets = {name: EpochMetrics(**stored[name]) for name in stored if name != "number"}
        return cls(stored["number"], sets.pop("training"), sets)


@dataclass
class History:
    """The epochs of a run, first to last."""

    epochs: list[Epoch] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.epochs)

    def best(self, name: str) -> Epoch:
        """The epoch with most correct predictions on ``name``; of equals the first.

        Raises:
            ValueError: There is no epoch yet.
        """
        if not self.epochs:
            raise ValueError("history holds no epoch yet, so none is best")
        return max(self.epochs, key=lambda epoch: epoch[name].n_correct)

    def to_dict(self) -> list[dict[str, Any]]:
        """One plain dictionary per epoch, ready for JSON."""
        return [epoch.to_dict() for epoch in self.epochs]

    @classmethod
    def from_dict(cls, stored: Iterable[Mapping[str, Any]]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls([Epoch.from_dict(epoch) for epoch in stored])
