"""Forward-Forward training on tensors that stay on one device: epochs, scores, and resuming."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnlib.checks.divergence import check_finite_network
from snnlib.data import ImageSet
from snnlib.fast.optimizers import Adam
from snnlib.forward_forward.network import train_batches
from snnlib.forward_forward.rules import Rule, TrainingBatch
from snnlib.forward_forward.sharing import ALONE, Sharing

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass
class FFTraining:
    """A network, the rule by which it learns, and all that changes meanwhile.

    ``generator`` decides order, moved images and wrong labels, and spikes that are handed
    through all layers; ``noise`` decides spikes that the first layer draws, and what
    is drawn while the network predicts. ``epochs`` are those of all layers at once, or of
    each layer. ``move`` shifts, rotates and zooms images: ``[N, 1, 28, 28]`` and a generator
    to images. ``portion`` is how many images are predicted at a time.
    """

    network: nn.Module
    rule: Rule
    generator: torch.Generator
    noise: torch.Generator
    n_batches: int
    epochs: int
    batch_size: int
    lr: float
    layers_at_once: bool = True
    move: Callable[[Tensor, torch.Generator], Tensor] | None = None
    portion: int = 500
    group: Sharing = ALONE
    n_done: int = 0  # epochs
    optimizer: torch.optim.Optimizer | None = None
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None

    @property
    def n_planned(self) -> int:
        """Epochs in all."""
        n_layers = len(cast(nn.ModuleList, self.network.layers)) if not self.layers_at_once else 1
        return self.epochs * n_layers

    @property
    def only(self) -> int | None:
        """The layer that learns in the coming epoch; None means all of them."""
        return None if self.layers_at_once else self.n_done // self.epochs


def _begin_stage(run: FFTraining) -> None:
    """A fresh optimizer and schedule: at the start, and for each layer that learns alone."""
    learning = run.network
    if run.only is not None:
        learning = cast(nn.ModuleList, run.network.layers)[run.only]
    parameters = list(learning.parameters())
    fused = parameters[0].device.type != "cpu"
    run.optimizer = Adam(parameters, lr=run.lr, fused=fused)
    run.scheduler = torch.optim.lr_scheduler.OneCycleLR(
        run.optimizer, run.lr, total_steps=run.epochs * run.n_batches
    )


def learn_epoch(
    run: FFTraining, training: ImageSet, progress: Progress | None = None
) -> list[float]:
    """Go once through the training images; the mean loss of each layer that learns.

    Raises:
        FloatingPointError: A gradient, a parameter, a running statistic or a mean loss is
            not finite.
    """
    if run.n_done % run.epochs == 0:
        _begin_stage(run)
    assert run.optimizer is not None
    assert run.scheduler is not None
    run.network.train()
    device = training.labels.device
    order = torch.randperm(len(training), generator=run.generator, device=device)
    parts: Iterable[Tensor] = order.split(run.batch_size)
    parts = parts if progress is None else progress(parts, run.n_done + 1)
    losses = train_batches(
        run.network,
        ((training.images[chosen], training.labels[chosen]) for chosen in parts),
        partial(_learn_batch, run),
        run.optimizer,
        after_backward=run.group.combine,
        after_step=run.scheduler.step,
        stage=f"epoch {run.n_done + 1}",
    )
    if not all(map(math.isfinite, losses)):
        raise FloatingPointError(
            f"the training loss became {losses}; a smaller lr is the usual cure"
        )
    run.n_done += 1
    return losses


def _learn_batch(run: FFTraining, images: Tensor, labels: Tensor) -> Tensor:
    if run.move is not None:
        images = run.move(images, run.generator)
    batch = TrainingBatch(images, labels, run.generator, run.only, run.group)
    return run.rule.training_step(run.network, batch)


def train_ff(
    run: FFTraining,
    training: ImageSet,
    *,
    on_epoch_end: Callable[[nn.Module, list[float], float], object] | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Train a network to the end of its epochs, and hand it back.

    Args:
        run: What learns and how, fresh or to go on with.
        training: Images to learn from, on the device of the network.
        on_epoch_end: Given the network, the loss of each layer that
            learns, and the seconds of training in this epoch.
        progress: Wraps the batches of epoch n, say in a progress bar.
    """
    while run.n_done < run.n_planned:
        begin = time.perf_counter()
        losses = learn_epoch(run, training, progress)
        if on_epoch_end is not None:
            on_epoch_end(run.network, losses, time.perf_counter() - begin)
    return run.network


def correct_by_way(run: FFTraining, images: ImageSet) -> dict[str, Tensor]:
    """Whether each image is predicted correctly, ``[N]``, for each way in which it predicts.

    Raises:
        ValueError: The network holds NaN or infinity.
    """
    check_finite_network(run.network)
    rows = 2000 if images.images.is_cuda else run.portion
    right: dict[str, list[Tensor]] = {}
    run.network.eval()
    for part, labels in zip(images.images.split(rows), images.labels.split(rows), strict=True):
        predicted = run.rule.predict(run.network, part, run.noise)
        for way, label in predicted.items():
            right.setdefault(way, []).append(label == labels)
    return {way: torch.cat(parts) for way, parts in right.items()}


def count_correct(run: FFTraining, images: ImageSet) -> dict[str, int]:
    """Correct predictions of the network, for each way in which it predicts.

    Raises:
        ValueError: The network holds NaN or infinity.
    """
    return {way: int(right.sum()) for way, right in correct_by_way(run, images).items()}


def state_of(run: FFTraining) -> dict[str, Any]:
    """Tensors and plain values from which :func:`load_state` goes on bit for bit."""
    return {
        "network": run.network.state_dict(),
        "optimizer": None if run.optimizer is None else run.optimizer.state_dict(),
        "scheduler": None if run.scheduler is None else run.scheduler.state_dict(),
        "generator": run.generator.get_state(),
        "noise": run.noise.get_state(),
        "n_done": run.n_done,
    }


def load_state(run: FFTraining, state: dict[str, Any]) -> None:
    """Put a fresh run where a stored one was at the end of an epoch."""
    run.network.load_state_dict(state["network"])
    run.n_done = state["n_done"]
    if run.n_done % run.epochs:  # in the middle of a stage
        _begin_stage(run)
        assert run.optimizer is not None
        assert run.scheduler is not None
        run.optimizer.load_state_dict(state["optimizer"])
        run.scheduler.load_state_dict(state["scheduler"])
    run.generator.set_state(state["generator"])
    run.noise.set_state(state["noise"])
