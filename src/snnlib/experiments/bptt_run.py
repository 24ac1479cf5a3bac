"""The parts of a run put together: images, network, loss, optimizer, schedule, randomness.

Everything random in an epoch follows from (seed, epoch, purpose) alone.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.anytime import Reading, read_anytime
from snnlib.augment import shift_images, warp_images
from snnlib.data import Batches, ImageSet, load_mnist, make_loader, split_validation
from snnlib.experiments.distributed import Group
from snnlib.experiments.engines import (
    Noise,
    choose_engine,
    make_network,
    make_respond,
    normalised,
)
from snnlib.experiments.own_images import fitting
from snnlib.metrics import History
from snnlib.readout import rate_cross_entropy, rate_mse
from snnlib.records.environment import pick_device
from snnlib.settings.presets import ExperimentConfig
from snnlib.training import Respond

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


def stream_seed(seed: int, epoch: int, purpose: str) -> int:
    """A seed of 62 bits for one purpose in one epoch; different for every triple."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


@dataclass
class TrainingBatches:
    """Training batches of the current epoch, moved at random as the settings ask.

    ``moves`` decides how far; ``progress`` shows a bar if there is one.
    """

    batches: Batches
    config: ExperimentConfig
    moves: torch.Generator
    progress: Progress | None
    epoch: int = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        shown = self.batches if self.progress is None else self.progress(self.batches, self.epoch)
        for images, labels in shown:
            yield self.moved(images), labels

    def moved(self, images: Tensor) -> Tensor:
        """Images ``[N, 1, 28, 28]`` shifted, turned and stretched."""
        config = self.config
        images = shift_images(images, config.shift_pixels, generator=self.moves)
        return warp_images(images, config.rotate_degrees, config.zoom, generator=self.moves)


@dataclass
class Run:
    """All parts of a run, joined."""

    config: ExperimentConfig
    device: torch.device
    engine: str
    network: nn.Module
    respond: Respond
    noise: Noise
    training: TrainingBatches
    validation: Batches | None
    test: Batches
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    autocast: torch.autocast | None
    group: Group
    history: History = field(default_factory=History)
    selected: dict[str, Tensor] = field(default_factory=dict)

    @property
    def watched(self) -> str:
        """The set whose accuracy picks the epoch."""
        return "test" if self.validation is None else "validation"

    @property
    def evaluations(self) -> dict[str, Batches]:
        """The sets to look at after each epoch; never the test set in the honest protocol."""
        return {self.watched: self.test if self.validation is None else self.validation}

    def restart_randomness(self, epoch: int) -> None:
        """Seed everything random in this epoch by (seed, epoch, purpose)."""
        self.training.epoch = epoch
        assert self.training.batches.generator is not None
        seed = self.config.seed
        self.training.batches.generator.manual_seed(stream_seed(seed, epoch, "order"))
        self.training.moves.manual_seed(stream_seed(seed, epoch, "shift"))
        self.noise.restart(stream_seed(seed, epoch, "encode"))


def prepare_run(
    config: ExperimentConfig,
    training_images: ImageSet | None,
    test_images: ImageSet | None,
    progress: Progress | None,
    group: Group,
) -> Run:
    group.check_batch_size(config.batch_size)
    device = torch.device(pick_device(group.device(config.device)))
    engine = choose_engine(config, device)
    training, validation, test = _image_sets(config, device, training_images, test_images)
    network = make_network(config).to(device)
    noise = Noise(torch.Generator(device))
    optimizer = _make_optimizer(config, network)
    batches = make_loader(
        training, config.batch_size, generator=torch.Generator(), drop_last=config.drop_last
    )
    if len(batches) == 0:
        raise ValueError(
            f"batch_size must not exceed the {len(training)} training images when drop_last=True "
            f"leaves out what fills no batch, got {config.batch_size}"
        )
    amp = None if config.amp == "off" else getattr(torch, config.amp)
    learning = TrainingBatches(batches, config, torch.Generator(), progress)
    respond = _respond_early_and_late(config, network, noise, engine, learning)
    return Run(
        config=config,
        device=device,
        engine=engine,
        network=network,
        respond=_respond_as_one_of(group, respond, noise),
        noise=noise,
        training=learning,
        validation=None if validation is None else make_loader(validation, config.batch_size),
        test=make_loader(test, config.batch_size),
        loss=LOSSES[config.loss],
        optimizer=optimizer,
        scheduler=_make_scheduler(config, optimizer, len(batches)),
        autocast=None if amp is None else torch.autocast(device.type, amp),
        group=group,
    )


def _respond_early_and_late(
    config: ExperimentConfig,
    network: nn.Module,
    noise: Noise,
    engine: str,
    learning: TrainingBatches,
) -> Respond:
    """Answer in all time steps; in fewer while it learns in early epochs, if so asked."""
    whole = make_respond(config, network, noise, engine)
    if config.early_steps is None:
        return whole
    short = replace(config, n_steps=config.early_steps, early_steps=None)
    quick = make_respond(short, network, noise, engine)

    def respond(images: Tensor) -> Tensor:
        early = config.training_steps(learning.epoch) < config.n_steps
        return (quick if early and network.training else whole)(images)

    return respond


def _respond_as_one_of(group: Group, respond: Respond, noise: Noise) -> Respond:
    """Answer our share of each batch, and return the rates of the whole batch."""
    if group.size == 1:
        return respond

    def respond_together(images: Tensor) -> Tensor:
        share = group.share(len(images))
        n_ours = share.stop - share.start
        # A process without a share answers the first image and keeps nothing: its gradient is 0.
        asked = share if n_ours else slice(0, 1)
        noise.before, noise.after = asked.start, len(images) - asked.stop
        return group.gather(respond(images[asked])[:n_ours], len(images))

    return respond_together


def _image_sets(
    config: ExperimentConfig,
    device: torch.device,
    training: ImageSet | None,
    test: ImageSet | None,
) -> tuple[ImageSet, ImageSet | None, ImageSet]:
    """Training, validation (honest protocol only) and test images, moved to the device once."""
    least = 6 if config.protocol == "honest" else 1
    training = fitting("training_images", training, least=least, limit=config.limit)
    test = fitting("test_images", test, limit=config.test_limit)
    training = load_mnist(train=True, limit=config.limit) if training is None else training
    test = load_mnist(train=False, limit=config.test_limit) if test is None else test
    validation = None
    if config.protocol == "honest":
        split = torch.Generator().manual_seed(stream_seed(config.seed, 0, "split"))
        training, validation = split_validation(training, len(training) // 6, split)
        validation = validation.to(device)
    return training.to(device), validation, test.to(device)


def _make_optimizer(config: ExperimentConfig, network: nn.Module) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=config.lr, momentum=config.momentum)
    return torch.optim.Adam(network.parameters(), lr=config.lr, fused=True)


def _make_scheduler(
    config: ExperimentConfig, optimizer: torch.optim.Optimizer, n_batches: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The learning rate over all batches of all epochs."""
    n_steps = config.epochs * n_batches
    if config.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=n_steps + 1)
    return None


def log_softmax_mse(rate: Tensor, labels: Tensor) -> Tensor:
    """The third post's printed loss: its target 1 can never be reached, since log p <= 0."""
    return rate_mse(F.log_softmax(rate, dim=1), labels)


def softmax_mse(rate: Tensor, labels: Tensor) -> Tensor:
    """The loss that the third post's log points to: of rates in [0, 1], p stays below 0.24."""
    return rate_mse(F.softmax(rate, dim=1), labels)


def sum_of_squares(rate: Tensor, labels: Tensor) -> Tensor:
    """Half the sum of squares, whose gradient is rate minus target, as the fifth post uses it."""
    return 0.5 * rate.numel() * rate_mse(rate, labels)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": rate_mse,
    "cross_entropy": rate_cross_entropy,
    "logit_cross_entropy": F.cross_entropy,
    "log_softmax_mse": log_softmax_mse,
    "softmax_mse": softmax_mse,
    "sum_of_squares": sum_of_squares,
}


def reading_of(
    config: ExperimentConfig,
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    engine: str,
    seed: int,
) -> Reading:
    """Read the network of an experiment for ``config.anytime_steps`` steps.

    The encoder draws the spikes that an evaluation with this engine and seed sees.
    """
    assert config.anytime_steps is not None
    n_steps = config.anytime_steps
    noise = Noise(torch.Generator(next(network.parameters()).device))
    noise.restart(seed)

    def encode(images: Tensor) -> Tensor:
        if engine != "events":
            return noise.encode(images, n_steps)
        from snnlib.fast.events import poisson_spikes

        first = noise.serve(len(images))
        spikes = poisson_spikes(images, n_steps, seed=seed, first_index=first)
        return spikes.unflatten(2, images.shape[1:])

    shown = ((normalised(config, images), labels) for images, labels in batches)
    return read_anytime(network, shown, n_steps, encode if config.encoding == "poisson" else None)
