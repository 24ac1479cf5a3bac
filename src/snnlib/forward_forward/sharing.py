"""A batch shared by processes: each answers for its images, and all judge the answers of all.

Alone, a process has the whole batch. A group of processes is one of
``experiments.distributed``; it is passed in, so that nothing here knows how they talk.
"""

from typing import Protocol

from torch import Tensor, nn


class Sharing(Protocol):
    """What a rule asks of the processes that share a run."""

    @property
    def size(self) -> int:
        """How many processes there are."""

    def share(self, n_images: int) -> slice:
        """Our part of a batch."""

    def gather(self, own: Tensor, n_images: int) -> Tensor:
        """Our answers ``[n, ...]`` joined with those of the others, ``[N, ...]``."""

    def combine(self, network: nn.Module) -> None:
        """Add up the gradients of all."""


class Alone:
    """One process, which answers for the whole batch."""

    size = 1

    def share(self, n_images: int) -> slice:
        return slice(0, n_images)

    def gather(self, own: Tensor, n_images: int) -> Tensor:
        return own

    def combine(self, network: nn.Module) -> None:
        pass


ALONE = Alone()


def ours(inputs: Tensor, n_images: int, group: Sharing) -> Tensor:
    """Our share of inputs in which each image stands once per label.

    Args:
        inputs: ``[C N, ...]`` or spike trains ``[T, C N, F]``: all images with a first
            label, then all with a second.
        n_images: N.
        group: The processes.
    """
    if group.size == 1:
        return inputs
    axis = 1 if inputs.dim() == 3 else 0
    by_label = inputs.unflatten(axis, (-1, n_images)).movedim(axis + 1, 0)
    return by_label[group.share(n_images)].movedim(0, axis + 1).flatten(axis, axis + 1)


def everybodys(rates: Tensor, n_images: int, group: Sharing) -> Tensor:
    """Rates ``[C n, K]`` of our share to those of the whole batch ``[C N, K]``, in its order."""
    if group.size == 1:
        return rates
    part = group.share(n_images)
    by_image = rates.unflatten(0, (-1, part.stop - part.start)).movedim(1, 0)
    return group.gather(by_image, n_images).movedim(0, 1).flatten(0, 1)
