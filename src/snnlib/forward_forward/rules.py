"""What every rule of learning in this family offers: a step on one batch, and predictions.

Rules hold plain values; ``experiments.ff_factory`` reads them from the settings of a run.
"""

from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from snnlib.forward_forward.sharing import ALONE, Sharing


class TrainingBatch(NamedTuple):
    """One batch, and what a rule must know to learn from it.

    ``images`` are ``[N, 1, 28, 28]``, ``labels`` the true ones, ``[N]``. ``generator``
    decides wrong labels, and spikes that are drawn before the first layer. ``only``
    is the one layer that learns; None means all of them. ``group`` are the processes
    that share the batch.
    """

    images: Tensor
    labels: Tensor
    generator: torch.Generator
    only: int | None = None
    group: Sharing = ALONE


class Rule(Protocol):
    """How a network learns from one batch, and how it predicts.

    ``choose`` says that validation images pick among the ways to predict; else the
    first one counts.
    """

    choose: ClassVar[bool]

    def training_step(self, network: Any, batch: TrainingBatch) -> Tensor:
        """Add the gradients of one batch, and hand back the losses, ``[L]``."""

    def predict(self, network: Any, images: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        """Labels ``[N]``, in one or more ways; ``noise`` decides what is drawn meanwhile."""
