"""How many numbers are kept for the backward pass: memory that does not depend on a machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Remembered:
    """Numbers that autograd keeps now, and the most that it kept at one time."""

    now: int = 0
    most: int = 0


@contextmanager
def activation_memory() -> Iterator[Remembered]:
    """Count what autograd keeps while the ``with`` block runs.

    A tensor counts once for each operation that keeps it, weights included; what
    operations keep only until their own end is not seen. The same code gives the
    same count on every machine.

    Returns:
        The counts; read ``most`` after the block.
    """
    counts = Remembered()

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor.detach()  # an output that held its own history would never go
            counts.now += tensor.numel()
            counts.most = max(counts.most, counts.now)

        def __del__(self) -> None:
            counts.now -= self.tensor.numel()

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        yield counts
