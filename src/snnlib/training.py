"""One epoch, one evaluation, and ``fit``: the same loop for every network of the book.

A network enters as ``respond``, a function from images to rates, so nothing here
knows about encoders, time steps or engines:

    def respond(images):
        return firing_rate(network(poisson_encode(images, 100, generator=generator)))
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from snnlib.checks import number as checked_number
from snnlib.checks import refuse, whole_number
from snnlib.checks.divergence import DivergenceCheck, check_finite_network
from snnlib.checks.loops import checked_loss, checked_rate, image_label_pairs
from snnlib.metrics import Epoch, EpochMetrics, History
from snnlib.readout import evaluation_mode, predict

Respond = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
ImageBatches = Iterable[tuple[Tensor, Tensor]]


class _Tally:
    """Collects losses and correct predictions on the device, and reads them once at the end.

    Reading a number from a GPU waits for everything queued on it; once per epoch
    is enough.
    """

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.losses: list[Tensor] = []
        self.correct: list[Tensor] = []
        self.sizes: list[int] = []

    def add(self, loss: Tensor, rate: Tensor, labels: Tensor) -> None:
        self.losses.append(loss.detach())
        self.correct.append(predict(rate.detach()) == labels)
        self.sizes.append(len(labels))

    def metrics(self, keep: bool = False) -> EpochMetrics:
        if not self.sizes:
            raise ValueError(
                "batches must hold at least one batch, got none (an iterator lasts for one pass)"
            )
        n_images = sum(self.sizes)
        losses = torch.stack(self.losses).cpu().double()
        loss = (losses @ torch.tensor(self.sizes, dtype=torch.float64)).item() / n_images
        correct = torch.cat(self.correct)
        kept = tuple(correct.tolist()) if keep else ()
        seconds = time.perf_counter() - self.start
        return EpochMetrics(loss, int(correct.sum()), n_images, seconds, kept)


def train_epoch(
    network: nn.Module,
    respond: Respond,
    batches: ImageBatches,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    autocast: AbstractContextManager[Any] | None = None,
    max_grad_norm: float | None = None,
    after_backward: Callable[[nn.Module], None] | None = None,
    epoch: int | None = None,
) -> EpochMetrics:
    """Show every training image once and update the weights after each batch.

    Args:
        network: Holds the weights; put into training mode.
        respond: Images ``[N, 1, 28, 28]`` to rates ``[N, K]``.
        batches: Pairs of images and labels.
        loss: Rates and labels to a scalar.
        optimizer: Owns the weights of ``network``.
        scheduler: Stepped after every batch, not after every epoch, and told nothing.
        autocast: Precision of the forward pass, say
            ``torch.autocast("cuda", torch.bfloat16)``; the loss is in float32.
        max_grad_norm: Shorten longer gradients to this norm, above 0; off if left out.
        after_backward: Called with ``network`` once its gradients are there, say to
            add those of other processes.
        epoch: Its number, counted from 1, to be told if the run diverges.

    Returns:
        The running loss and accuracy, measured before each update.

    Raises:
        FloatingPointError: A gradient, a parameter, a running statistic or the mean loss
            is not finite. A step on such gradients is not taken.
        ValueError: ``batches`` is empty or holds no pairs, ``labels`` are no class numbers
            ``[N]``, ``loss`` returns no single number, ``optimizer`` has no weight of
            ``network`` or wants a closure, or ``scheduler`` wants to be told a loss.
    """
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise ValueError(
            "scheduler must be one that is stepped after every batch, got ReduceLROnPlateau; "
            "step it with a loss in on_epoch_end of fit"
        )
    if max_grad_norm is not None:
        max_grad_norm = checked_number("max_grad_norm", max_grad_norm, above=0)
    stage = "" if epoch is None else f"epoch {whole_number('epoch', epoch, 1)}"
    network.train()
    tally = _Tally()
    check = DivergenceCheck(network, optimizer, stage)
    for images, labels in image_label_pairs(batches):
        with autocast or nullcontext():
            rate = checked_rate(respond(images), labels)
        value = checked_loss(loss(rate.float(), labels))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if after_backward is not None:
            after_backward(network)
        check.gradients(images, value)
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
        with check.step():
            optimizer.step()
        check.weights(images)
        if scheduler is not None:
            scheduler.step()
        tally.add(value, rate, labels)
    check.finish()
    metrics = tally.metrics()
    if not math.isfinite(metrics.loss):
        raise FloatingPointError(
            f"the training loss became {metrics.loss}; a smaller lr is the usual cure"
        )
    return metrics


@torch.no_grad()
def evaluate(
    network: nn.Module, respond: Respond, batches: ImageBatches, loss: Loss
) -> EpochMetrics:
    """Measure loss and accuracy, image by image, without touching the weights.

    The network is in evaluation mode meanwhile; each layer returns to the mode it had.

    Raises:
        ValueError: ``network`` holds NaN or infinity, or as in :func:`train_epoch`.
    """
    check_finite_network(network)
    tally = _Tally()
    with evaluation_mode(network):
        for images, labels in image_label_pairs(batches):
            rate = checked_rate(respond(images), labels).float()
            tally.add(checked_loss(loss(rate, labels)), rate, labels)
    return tally.metrics(keep=True)


def fit(
    network: nn.Module,
    respond: Respond,
    training: ImageBatches,
    evaluations: Mapping[str, ImageBatches],
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    n_epochs: int,
    *,
    history: History | None = None,
    on_epoch_start: Callable[[int], None] | None = None,
    on_epoch_end: Callable[[Epoch], None] | None = None,
    **options: Any,
) -> History:
    """Train for ``n_epochs`` epochs and evaluate after each.

    To resume, load weights, optimizer and scheduler first, then pass the ``history``
    of the finished epochs. If the randomness of an epoch depends on nothing but its
    number (seed it in ``on_epoch_start``), an interrupted and resumed run ends exactly
    like an undisturbed one.

    Args:
        network: Holds the weights.
        respond: Images to rates.
        training: Batches to learn from.
        evaluations: Name to batches, say ``{"validation": ...}``.
        loss: Rates and labels to a scalar.
        optimizer: Owns the weights of ``network``.
        n_epochs: Number of epochs in all, finished ones included.
        history: Metrics of the epochs already finished; continued and returned.
        on_epoch_start: Called with the number of the epoch about to start.
        on_epoch_end: Called with each finished :class:`Epoch`.
        **options: Handed to :func:`train_epoch`: scheduler, autocast,
            max_grad_norm, after_backward.

    Returns:
        The history, one :class:`Epoch` per epoch, numbered from 1.

    Raises:
        FloatingPointError: The network diverged, or a loss is not finite.
        ValueError: ``n_epochs`` is no whole number of at least 0, or ``history`` is longer.
    """
    n_epochs = whole_number("n_epochs", n_epochs, least=0)
    history = History() if history is None else history
    if len(history) > n_epochs:
        refuse("history", f"of no more than {n_epochs} epochs, as n_epochs says", len(history))

    def learn(number: int) -> EpochMetrics:
        if on_epoch_start is not None:
            on_epoch_start(number)
        return train_epoch(network, respond, training, loss, optimizer, epoch=number, **options)

    def look() -> dict[str, EpochMetrics]:
        sets = evaluations.items()
        return {name: evaluate(network, respond, batches, loss) for name, batches in sets}

    return run_epochs(learn, look, n_epochs, history, on_epoch_end)


def run_epochs(
    learn: Callable[[int], EpochMetrics],
    look: Callable[[], dict[str, EpochMetrics]],
    n_epochs: int,
    history: History,
    on_epoch_end: Callable[[Epoch], None] | None = None,
) -> History:
    """Learn and look, epoch after epoch: the loop of :func:`fit` and of every run of the ledger.

    Args:
        learn: Number of an epoch, from 1, to what was measured while it learnt.
        look: Measures the sets that are looked at after each epoch, by name.
        n_epochs: As in :func:`fit`, like ``history`` and ``on_epoch_end``.
    """
    n_epochs = whole_number("n_epochs", n_epochs, least=0)
    for number in range(len(history) + 1, n_epochs + 1):
        trained = learn(number)
        measured = look()
        for name, metrics in measured.items():
            if not math.isfinite(metrics.loss):
                raise FloatingPointError(f"the {name} loss of epoch {number} is {metrics.loss}")
        epoch = Epoch(number, trained, measured)
        history.epochs.append(epoch)
        if on_epoch_end is not None:
            on_epoch_end(epoch)
    return history
