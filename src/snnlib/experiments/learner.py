"""What the runner asks of everything that learns."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from torch import nn

from snnlib.metrics import Epoch, EpochMetrics, History

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


class Learner(Protocol):
    """What a run asks of everything that learns: five verbs, and a few facts.

    ``settings`` are those of the record; ``images`` tells number and source of the
    three sets. ``watched`` names the set whose accuracy picks the epoch to report, of
    equals the first; None reports the last one. ``may_change`` are the settings in
    which a checkpoint may differ.
    """

    settings: dict[str, Any]
    images: dict[str, list[Any] | None]
    protocol: str
    device: str
    network: nn.Module
    n_epochs: int
    watched: str | None
    may_change: set[str]

    def learn(self, number: int) -> EpochMetrics:
        """Learn for one epoch, counted from 1."""

    def evaluate(self) -> dict[str, EpochMetrics]:
        """Look at the sets that may be looked at after each epoch."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`load` goes on bit for bit."""

    def load(self, state: dict[str, Any]) -> None:
        """Put a fresh learner where a stored one was at the end of an epoch."""

    def describe(self, history: History, reported: Epoch) -> dict[str, Any]:
        """Results and extras for the record, of the weights that are reported."""
