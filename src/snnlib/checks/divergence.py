"""Whether a network still consists of numbers: the check that every learner makes at each step.

A spiking network hides its own end. The step turns NaN into "no spike", so a network
whose weights are all NaN answers with a loss that is as finite as any. What has to be
looked at are the gradients, before they reach the weights, and then the weights and the
running statistics themselves.

A sum is a cheap look: it is finite unless a value is not, or the sum itself overflows.
Only then are the values searched one by one, so a large sum of finite values is no alarm.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Named = list[tuple[str, Tensor]]

_NOW_AND_THEN = 20  # batches
_LARGE = 100_000  # numbers, so many that a look at them costs time


def check_finite_network(network: nn.Module) -> None:
    """Refuse a network that holds NaN or infinity, say from a file.

    Raises:
        ValueError: The message names the first parameter or buffer that does.
    """
    found = _search(_numbers_of(network))
    if found is not None:
        raise ValueError(f"network must hold finite numbers, but {found}")


class DivergenceCheck:
    """Stops a learner as soon as a gradient, a parameter or a running statistic is not finite.

    Made anew for each epoch; ``gradients`` is called before each step of the optimizer,
    ``weights`` after it, and ``finish`` at the end. Gradients are looked at in each batch,
    and tell of weights that went wrong in the one before; the weights themselves after the
    first batch, where a rate that is far too large shows, after every 20th, and at the end.
    From batch 21 on, gradients of more than 100,000 numbers are looked at in every fourth
    batch only; what is wrong shows in the small ones, too, or three batches later.
    On a GPU every 20th batch reads the looks of all since: to read a number is to wait there.

    Args:
        network: What learns.
        optimizer: Its learning rate is told.
        stage: Where in the training this is, say ``"epoch 3"``; may be empty.

    Raises:
        FloatingPointError: ``network`` holds NaN or infinity before it learns.
        ValueError: ``optimizer`` wants a closure, or would change nothing in ``network``.
    """

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, stage: str = ""
    ) -> None:
        self.named = list(network.named_parameters())
        self.parameters = [p for _, p in self.named]
        _check_optimizer(optimizer, self.parameters)
        self.numbers = _numbers_of(network)
        self.optimizer = optimizer
        self.stage = f" of {stage}" if stage else ""
        self.batch = 1
        self.unread: list[_Look] = []
        self.waits = any(x.is_cuda for _, x in self.numbers)
        found = _search(self.numbers)
        if found is not None:
            raise FloatingPointError(
                f"{found} before batch 1{self.stage}; other weights are needed"
            )

    def gradients(self, images: Tensor, loss: Tensor) -> None:
        """Look at the gradients of ``loss``, which ``images`` gave.

        Raises:
            FloatingPointError: One is not finite.
        """
        total: Tensor | float = 0.0
        passed_over = self.batch > _NOW_AND_THEN and self.batch % 4
        for p in self.parameters:
            if p.grad is not None and not (passed_over and p.numel() > _LARGE):
                total = total + (p.grad.sum() if self.waits else p.grad.sum().item())
        self._look(total, images, loss)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around the optimizer's step: some compute its length in float32 and refuse a longer one.

        Raises:
            FloatingPointError: The step is longer than the numbers of the weights go.
        """
        try:
            yield
        except RuntimeError as error:
            if "without overflow" not in str(error):
                raise
            text = f"the step is too long for the weights in batch {self.batch}{self.stage}"
            raise FloatingPointError(f"{text}; {_cure(self.optimizer)}") from error

    def weights(self, images: Tensor) -> None:
        """The step on ``images`` is taken, the next batch begins.

        Raises:
            FloatingPointError: It was time to look, and a value is not finite.
        """
        if self.batch == 1 or self.batch % _NOW_AND_THEN == 0:
            self._look_at_weights(images)
            self._read()
        self.batch += 1

    def finish(self) -> None:
        """The last batch is over: look at the weights once more.

        Raises:
            FloatingPointError: A value is not finite.
        """
        self.batch -= 1
        self._look_at_weights(None)
        self._read()

    @torch.no_grad()
    def _look_at_weights(self, images: Tensor | None) -> None:
        sums = [x.sum() for _, x in self.numbers]
        self._look(torch.stack(sums).sum() if sums else 0.0, images, None)

    def _look(self, total: Tensor | float, images: Tensor | None, loss: Tensor | None) -> None:
        if self.waits and isinstance(total, Tensor):
            self.unread.append(_Look(total, self.batch, images, loss))
        elif not math.isfinite(total):
            self._alarm(_Look(total, self.batch, images, loss))

    def _read(self) -> None:
        looks, self.unread = self.unread, []
        if looks:
            totals = torch.stack([look.total for look in looks]).tolist()
            for look, total in zip(looks, totals, strict=True):
                if not math.isfinite(total):
                    self._alarm(look)

    def _alarm(self, look: "_Look") -> None:
        """Search all values, and tell what was found; a sum that overflowed is forgotten."""
        found, when = _search(self.numbers), "after"
        if look.loss is not None:
            when = "in"
            given = [(f"the gradient of {name}", p.grad) for name, p in self.named]
            found = found or _search([(name, grad) for name, grad in given if grad is not None])
        if found is not None:
            place = f"{when} batch {look.batch}{self.stage}"
            raise FloatingPointError(f"{found} {place}; {self._cause(look)}")

    def _cause(self, look: "_Look") -> str:
        images = None if look.images is None else _search([("it", look.images)])
        if images is not None:
            return f"the batch of images is the cause, {images}"
        cure = _cure(self.optimizer)
        if look.loss is None or look.loss.isfinite().all():
            return cure
        return f"the loss was {look.loss.tolist()}; {cure}"


def _check_optimizer(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Refuse what cannot be stepped once per batch, or belongs to another network."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError(
            "optimizer must be one whose step takes no closure, got LBFGS; write its loop yourself"
        )
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    learning = [id(p) for p in parameters if p.requires_grad]
    if learning and own.isdisjoint(learning):
        raise ValueError(
            "optimizer must hold parameters of network, got none of them; make it anew after "
            "layers were replaced or the network copied"
        )


class _Look(NamedTuple):
    """A sum of gradients of ``loss``, or, without a loss, of parameters and buffers.

    It is not finite if any value is not, or if there are too many large ones.
    """

    total: Any
    batch: int
    images: Tensor | None
    loss: Tensor | None


def _cure(optimizer: torch.optim.Optimizer) -> str:
    return f"a smaller lr than {_learning_rates(optimizer)} is the usual cure"


def _learning_rates(optimizer: torch.optim.Optimizer) -> str:
    """The rates as they were set, before a schedule made smaller ones of them."""
    rates = [g.get("max_lr", g.get("initial_lr", g["lr"])) for g in optimizer.param_groups]
    return " or ".join(dict.fromkeys(f"{float(rate):g}" for rate in rates))


def _numbers_of(network: nn.Module) -> Named:
    """Parameters and buffers that could be other than finite."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return [(name, x) for name, x in named if x.is_floating_point()]


@torch.no_grad()
def _search(tensors: Named) -> str | None:
    """The first tensor with a value that is not finite, in words; None if there is none."""
    suspects = [(name, x) for name, x in tensors if not x.sum().isfinite()]
    bad = [(name, x, int((~x.isfinite()).sum())) for name, x in suspects]
    bad = [(name, x, n) for name, x, n in bad if n]
    if not bad:
        return None
    name, x, n = bad[0]
    kind = "NaN" if x.isnan().any() else "infinity"
    more = len(bad) - 1
    others = f"; {more} other tensor{'s' if more > 1 else ''} too" if more else ""
    return f"{name} holds {kind} ({n:,} of {x.numel():,} values{others})"
