"""The parts of a run put together: images, network, loss, optimizer, schedule, randomness.

Everything random in an epoch follows from (seed, epoch, purpose) alone.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.data import Batches, ImageSet, load_mnist, make_loader, split_validation
from snnlib.experiments.distributed import Group
from snnlib.experiments.engines import (
    EncoderState,
    choose_engine,
    make_network,
    make_respond,
    reading_of,
)
from snnlib.experiments.images import Move, checked_images, describe_sets, mover
from snnlib.experiments.learner import Progress
from snnlib.fast.optimizers import SGD, Adam
from snnlib.intervals import accuracy_interval
from snnlib.metrics import Epoch, EpochMetrics, History
from snnlib.posts.fifth import sum_of_squares
from snnlib.posts.third import log_softmax_mse, softmax_mse
from snnlib.readout import rate_cross_entropy, rate_mse
from snnlib.records.correct import pack_correct
from snnlib.records.environment import has_bfloat16_instructions, pick_device
from snnlib.records.record import Result
from snnlib.settings.experiment import ExperimentConfig
from snnlib.training import Respond, evaluate, train_epoch

logger = logging.getLogger(__name__)


def stream_seed(seed: int, epoch: int, purpose: str) -> int:
    """A seed of 62 bits for one purpose in one epoch; different for every triple."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


@dataclass
class MovedBatches:
    """Training batches of the current epoch, moved at random.

    ``move`` shifts, rotates and zooms images ``[N, 1, 28, 28]``, ``moves`` decides how far;
    ``progress`` shows a bar if there is one.
    """

    batches: Batches
    move: Move
    moves: torch.Generator
    progress: Progress | None
    epoch: int = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        shown = self.batches if self.progress is None else self.progress(self.batches, self.epoch)
        for images, labels in shown:
            yield self.move(images, self.moves), labels


@dataclass
class BackpropLearner:
    """A network that learns by backpropagation through time, with all that it needs."""

    config: ExperimentConfig
    engine: str
    network: nn.Module
    respond: Respond
    noise: EncoderState
    training: MovedBatches
    validation: Batches | None
    test: Batches
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    autocast: torch.autocast | None
    device: str
    group: Group

    def __post_init__(self) -> None:
        self.protocol = self.config.protocol
        self.settings = {**asdict(self.config), "engine": self.engine, "device": self.device}
        self.n_epochs = self.config.epochs
        self.may_change = {"device", "question"}
        if self.config.schedule == "none":  # else the rate of each epoch depends on their number
            self.may_change.add("epochs")
        self.watched: str | None = "test" if self.validation is None else "validation"
        self.images = describe_sets(
            training_images=self.training.batches.images,
            validation_images=None if self.validation is None else self.validation.images,
            test_images=self.test.images,
        )

    def learn(self, number: int) -> EpochMetrics:
        """One epoch; everything random in it is seeded by (seed, epoch, purpose)."""
        self.restart_randomness(number)
        return train_epoch(
            self.network,
            self.respond,
            self.training,
            self.loss,
            self.optimizer,
            scheduler=self.scheduler,
            autocast=self.autocast,
            max_grad_norm=self.config.max_grad_norm,
            after_backward=self.group.combine,
            epoch=number,
        )

    def restart_randomness(self, epoch: int) -> None:
        """Seed everything random in this epoch by (seed, epoch, purpose)."""
        self.training.epoch = epoch
        assert self.training.batches.generator is not None
        seed = self.config.seed
        self.training.batches.generator.manual_seed(stream_seed(seed, epoch, "order"))
        self.training.moves.manual_seed(stream_seed(seed, epoch, "shift"))
        self.noise.restart(stream_seed(seed, epoch, "encode"))

    def evaluate(self) -> dict[str, EpochMetrics]:
        """Look at validation images; at the test set only in the posts' protocol."""
        looked_at = self.test if self.validation is None else self.validation
        name = "test" if self.validation is None else "validation"
        return {name: evaluate(self.network, self.respond, looked_at, self.loss)}

    def state(self) -> dict[str, Any]:
        """Weights, optimizer and schedule; randomness needs no more than the epoch's number."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])

    def describe(self, history: History, reported: Epoch) -> dict[str, Any]:
        """Look at the test set, once, with the weights that validation picked."""
        last, honest = history.epochs[-1], self.validation is not None
        return {
            "last": None if honest else _result(last["test"], last.number),
            "best_on_test": None if honest else _result(reported["test"], reported.number),
            "validation_selected": self._test_once(reported.number) if honest else None,
            "extra": {"n_processes": self.group.size, **self._early_readings(reported.number)},
        }

    def _test_once(self, epoch: int) -> Result:
        self.noise.restart(stream_seed(self.config.seed, epoch, "test"))
        return _result(evaluate(self.network, self.respond, self.test, self.loss), epoch)

    def _early_readings(self, epoch: int) -> dict[str, Any]:
        """Accuracy and work after each step, of the reported weights on the test images."""
        if self.config.anytime_steps is None:
            return {}
        seed = stream_seed(self.config.seed, epoch, "test")
        reading = reading_of(self.config, self.network, self.test, self.engine, seed)
        return {"anytime": reading.to_dict()}


def _result(metrics: EpochMetrics, epoch: int) -> Result:
    low, high = accuracy_interval(metrics.n_correct, metrics.n_images)
    correct = pack_correct(metrics.correct) if metrics.correct else ""
    return Result(metrics.n_correct, metrics.n_images, epoch, low, high, correct)


def prepare_run(
    config: ExperimentConfig,
    training_images: ImageSet | None,
    test_images: ImageSet | None,
    progress: Progress | None,
    group: Group,
) -> BackpropLearner:
    """All parts of a run, joined and about to begin."""
    group.check_batch_size(config.batch_size)
    device = torch.device(pick_device(group.device(config.device)))
    engine = choose_engine(config, device)
    training, validation, test = _image_sets(config, device, training_images, test_images)
    network = make_network(config).to(device)
    noise = EncoderState(torch.Generator(device))
    optimizer = _make_optimizer(config, network)
    batches = make_loader(
        training, config.batch_size, generator=torch.Generator(), drop_last=config.drop_last
    )
    if len(batches) == 0:
        raise ValueError(
            f"batch_size must not exceed the {len(training)} training images when drop_last=True "
            f"leaves out what fills no batch, got {config.batch_size}"
        )
    _warn_of_slow_precision(config, device, group)
    amp = None if config.amp == "off" else getattr(torch, config.amp)
    learning = MovedBatches(batches, mover(config), torch.Generator(), progress)
    respond = _respond_early_and_late(config, network, noise, engine, learning)
    return BackpropLearner(
        config=config,
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
        device=str(device),
        group=group,
    )


def _warn_of_slow_precision(config: ExperimentConfig, device: torch.device, group: Group) -> None:
    asked = config.amp == "bfloat16" and device.type == "cpu" and group.leads
    if asked and has_bfloat16_instructions() is False:
        logger.warning(
            "amp='bfloat16' makes this run slower, not faster: this processor has no "
            "instructions for it; amp='off' is the better choice here"
        )


def _respond_early_and_late(
    config: ExperimentConfig,
    network: nn.Module,
    noise: EncoderState,
    engine: str,
    learning: MovedBatches,
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


def _respond_as_one_of(group: Group, respond: Respond, noise: EncoderState) -> Respond:
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
    training = checked_images("training_images", training, least=least, limit=config.limit)
    test = checked_images("test_images", test, limit=config.test_limit)
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
        return SGD(network.parameters(), lr=config.lr, momentum=config.momentum)
    return Adam(network.parameters(), lr=config.lr, fused=True)


def _make_scheduler(
    config: ExperimentConfig, optimizer: torch.optim.Optimizer, n_batches: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The learning rate over all batches of all epochs."""
    n_steps = config.epochs * n_batches
    if config.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=n_steps + 1)
    return None


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": rate_mse,
    "cross_entropy": rate_cross_entropy,
    "logit_cross_entropy": F.cross_entropy,
    "log_softmax_mse": log_softmax_mse,
    "softmax_mse": softmax_mse,
    "sum_of_squares": sum_of_squares,
}
