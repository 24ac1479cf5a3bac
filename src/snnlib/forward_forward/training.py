"""Forward-Forward training on tensors that stay on one device: epochs, scores, and resuming."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnlib.augment import shift_images, warp_images
from snnlib.checks.divergence import check_finite_network
from snnlib.data import ImageSet
from snnlib.forward_forward.layers import draws_in_first_layer
from snnlib.forward_forward.network import train_batches
from snnlib.forward_forward.pairs import Rule
from snnlib.forward_forward.rules import RULES
from snnlib.forward_forward.sharing import ALONE, Sharing
from snnlib.settings.ff_experiment import FFConfig

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass
class FFRun:
    """All that changes while a network learns.

    ``generator`` decides order, shifts and wrong labels, and spikes that are handed
    through all layers; ``noise`` decides spikes that the first layer draws, and what
    is drawn while the network answers.
    """

    config: FFConfig
    network: nn.Module
    generator: torch.Generator
    noise: torch.Generator
    n_batches: int
    group: Sharing = ALONE
    n_done: int = 0  # epochs
    optimizer: torch.optim.Optimizer | None = None
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None

    @property
    def rule(self) -> Rule:
        return RULES[self.config.rule]

    @property
    def n_planned(self) -> int:
        return self.config.n_epochs

    @property
    def only(self) -> int | None:
        """The layer that learns in the coming epoch; None means all of them."""
        return None if self.config.together else self.n_done // self.config.epochs


def prepare_ff(config: FFConfig, n_training: int, group: Sharing = ALONE) -> FFRun:
    """A fresh network, with weights drawn from the run's seed, about to begin.

    Raises:
        ValueError: A batch would hold too few images for the rule or for the processes, or
            these would draw other spikes than one.
    """
    if 0 < n_training % config.batch_size < group.size:
        raise ValueError(
            f"batch_size must not leave fewer of {n_training} training images in a batch than "
            f"the {group.size} processes that share it, got {config.batch_size}"
        )
    if group.size > 1 and draws_in_first_layer(config):
        raise ValueError(
            f"preset {config.name!r} draws spikes in its first layer, and runs in one process, "
            f"got {group.size}"
        )
    if config.rule == "class-wise" and n_training % config.batch_size == 1:
        raise ValueError(
            f"batch_size must not leave one of {n_training} training images alone in a batch with "
            f"rule='class-wise', got {config.batch_size}"
        )
    device = config.device
    noise = torch.Generator(device=device).manual_seed(config.seed + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = RULES[config.rule].build(config, noise).to(device)
    generator = torch.Generator(device=device).manual_seed(config.seed)
    n_batches = -(-n_training // config.batch_size)
    return FFRun(config, network, generator, noise, n_batches, group)


def _begin_stage(run: FFRun) -> None:
    """A fresh optimizer and schedule: at the start, and for each layer that learns alone."""
    config = run.config
    learning = run.network
    if run.only is not None:
        learning = cast(nn.ModuleList, run.network.layers)[run.only]
    parameters = list(learning.parameters())
    run.optimizer = torch.optim.Adam(parameters, lr=config.lr, fused=config.device != "cpu")
    run.scheduler = torch.optim.lr_scheduler.OneCycleLR(
        run.optimizer, config.lr, total_steps=config.epochs * run.n_batches
    )


def learn_epoch(run: FFRun, training: ImageSet, progress: Progress | None = None) -> list[float]:
    """Go once through the training images; the mean loss of each layer that learns.

    Raises:
        FloatingPointError: A gradient, a parameter, a running statistic or a mean loss is
            not finite.
    """
    if run.n_done % run.config.epochs == 0:
        _begin_stage(run)
    assert run.optimizer is not None
    assert run.scheduler is not None
    run.network.train()
    device = training.labels.device
    order = torch.randperm(len(training), generator=run.generator, device=device)
    parts: Iterable[Tensor] = order.split(run.config.batch_size)
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


def _learn_batch(run: FFRun, images: Tensor, labels: Tensor) -> Tensor:
    config, generator = run.config, run.generator
    images = shift_images(images, config.shift_pixels, generator=generator)
    images = warp_images(images, config.rotate_degrees, config.zoom, generator=generator)
    return run.rule.learn(run.network, images, labels, config, generator, run.only, run.group)


def train_ff(
    config: FFConfig,
    training: ImageSet,
    *,
    on_epoch_end: Callable[[nn.Module, list[float], float], object] | None = None,
    run: FFRun | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Train a network, and hand it back.

    Args:
        config: The settings.
        training: Images to learn from, on the device of the settings.
        on_epoch_end: Given the network, the loss of each layer that
            learns, and the seconds of training in this epoch.
        run: A run to go on with; a fresh one if left out.
        progress: Wraps the batches of epoch n, say in a progress bar.
    """
    run = run or prepare_ff(config, len(training))
    while run.n_done < run.n_planned:
        begin = time.perf_counter()
        losses = learn_epoch(run, training, progress)
        if on_epoch_end is not None:
            on_epoch_end(run.network, losses, time.perf_counter() - begin)
    return run.network


def count_correct(run: FFRun, images: ImageSet) -> dict[str, int]:
    """Right answers of the network, for each way in which it answers.

    Raises:
        ValueError: The network holds NaN or infinity.
    """
    check_finite_network(run.network)
    rows = 200 if run.config.encoding == "poisson" else 500
    rows = 2000 if images.images.is_cuda else rows
    right: dict[str, Tensor] = {}
    run.network.eval()
    for part, labels in zip(images.images.split(rows), images.labels.split(rows), strict=True):
        answers = run.rule.predict(run.network, part, run.config, run.noise)
        for way, answer in answers.items():
            right[way] = right.get(way, 0) + (answer == labels).sum()
    return {way: int(n) for way, n in right.items()}


def state_of(run: FFRun) -> dict[str, Any]:
    """Tensors and plain values from which :func:`load_state` goes on bit for bit."""
    return {
        "network": run.network.state_dict(),
        "optimizer": None if run.optimizer is None else run.optimizer.state_dict(),
        "scheduler": None if run.scheduler is None else run.scheduler.state_dict(),
        "generator": run.generator.get_state(),
        "noise": run.noise.get_state(),
        "n_done": run.n_done,
    }


def load_state(run: FFRun, state: dict[str, Any]) -> None:
    """Put a fresh run where a stored one was at the end of an epoch."""
    run.network.load_state_dict(state["network"])
    run.n_done = state["n_done"]
    if run.n_done % run.config.epochs:  # in the middle of a stage
        _begin_stage(run)
        assert run.optimizer is not None
        assert run.scheduler is not None
        run.optimizer.load_state_dict(state["optimizer"])
        run.scheduler.load_state_dict(state["scheduler"])
    run.generator.set_state(state["generator"])
    run.noise.set_state(state["noise"])
