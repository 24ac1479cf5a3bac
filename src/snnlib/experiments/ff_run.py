"""Forward-Forward and the fourth post's rows as learners of a run."""

import time
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from snnlib.data import ImageSet, load_mnist, split_validation
from snnlib.experiments.distributed import Group
from snnlib.experiments.ff_factory import prepare_ff, prepare_post
from snnlib.experiments.images import checked_images, describe_sets
from snnlib.experiments.learner import Progress
from snnlib.forward_forward.training import (
    correct_by_way,
    count_correct,
    learn_epoch,
    load_state,
    state_of,
)
from snnlib.intervals import accuracy_interval
from snnlib.metrics import Epoch, EpochMetrics, History
from snnlib.posts.fourth import correct_post
from snnlib.records.correct import pack_correct
from snnlib.records.environment import pick_device
from snnlib.records.record import Result
from snnlib.settings.ff_experiment import FFConfig, PostConfig

N_LOOKED_AT = 64  # test images, all that the fourth post looked at
N_WATCHED = 1000  # training images, at most, that are looked at after each epoch


def _on_device(config: Any) -> Any:
    """The settings with a device that computes."""
    config = replace(config, device=pick_device(config.device))
    if config.device != "cpu":
        torch.set_float32_matmul_precision("high")
    return config


def _few(images: ImageSet) -> ImageSet:
    return images.subset(torch.arange(min(N_WATCHED, len(images))))


class ForwardForwardLearner:
    """Any rule of the family: trained on 50,000 images, 10,000 choose the judging layers.

    Per epoch it tells the mean loss, correct ones of 1,000 training images and of
    the validation images, all layers judging.
    """

    watched: str | None = None
    protocol = "honest"

    def __init__(
        self,
        config: FFConfig,
        training_images: ImageSet | None,
        test_images: ImageSet | None,
        progress: Progress | None,
        group: Group,
    ) -> None:
        group.check_batch_size(config.batch_size)
        config = _on_device(replace(config, device=group.device(config.device)))
        self.settings, self.device = asdict(config), config.device
        self.may_change = {"device", "question"}
        sets = load_sets(config, training_images, test_images)
        self.training, self.validation, self.test = sets
        self.images = describe_sets(
            training_images=self.training,
            validation_images=self.validation,
            test_images=self.test,
        )
        self.few, self.progress = _few(self.training), progress
        self.run = prepare_ff(config, len(self.training), group)
        self.network, self.n_epochs, self.loss = self.run.network, self.run.n_planned, 0.0

    def learn(self, number: int) -> EpochMetrics:
        """One epoch, of all layers or of the one whose turn it is."""
        begin = time.perf_counter()
        losses = learn_epoch(self.run, self.training, self.progress)
        seconds = time.perf_counter() - begin
        self.loss = sum(losses) / len(losses)
        return EpochMetrics(self.loss, self._first_way(self.few), len(self.few), seconds)

    def evaluate(self) -> dict[str, EpochMetrics]:
        """Look at the validation images."""
        begin, n = time.perf_counter(), len(self.validation)
        n_correct = self._first_way(self.validation)
        return {"validation": EpochMetrics(self.loss, n_correct, n, time.perf_counter() - begin)}

    def _first_way(self, images: ImageSet) -> int:
        return next(iter(count_correct(self.run, images).values()))

    def state(self) -> dict[str, Any]:
        """Weights, optimizer, schedule and random numbers."""
        return state_of(self.run)

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        load_state(self.run, state)

    def describe(self, history: History, reported: Epoch) -> dict[str, Any]:
        """Let validation choose where there is a choice, and look at the test set once."""
        by_way = count_correct(self.run, self.validation)
        ways, choose = list(by_way), self.run.rule.choose
        way = max(ways, key=by_way.__getitem__) if choose else ways[0]
        correct = correct_by_way(self.run, self.test)
        extra: dict[str, Any] = {"judged_by": way, "n_correct_validation": by_way}
        extra["n_processes"] = self.run.group.size
        if choose:
            extra["first_layer"] = ways.index(way)
            extra["n_correct_validation_from_layer"] = list(by_way.values())
        else:  # nothing was chosen, so the other ways may be told as well
            extra["n_correct_test"] = {name: int(right.sum()) for name, right in correct.items()}
        result = _result(correct[way], reported.number)
        return {
            "last": None,
            "best_on_test": None,
            "validation_selected": result,
            "extra": extra,
        }


class PostLearner:
    """A row of the post's table: ``n_training`` images drawn by the seed, a layer per epoch.

    Per layer it tells the last loss and how many training images (at most 1,000) are
    predicted correctly, the layers above as they were drawn. The record's extras hold those among
    the training images and among the first 64 test images, all that the post looked at.
    """

    watched: str | None = None
    protocol = "post"
    network: nn.Module

    def __init__(
        self,
        config: PostConfig,
        training_images: ImageSet | None,
        test_images: ImageSet | None,
    ) -> None:
        config = _on_device(config)
        if config.widths[0] != 784:
            raise ValueError(f"widths must begin with the 784 pixels, got {config.widths!r}")
        self.config, self.settings, self.device = config, asdict(config), config.device
        self.may_change = {"device", "question"}
        whole = checked_images("training_images", training_images)
        test = checked_images("test_images", test_images, least=N_LOOKED_AT)
        whole = load_mnist(train=True) if whole is None else whole
        test = load_mnist(train=False) if test is None else test
        pick = torch.Generator().manual_seed(config.seed)
        chosen = torch.randperm(len(whole), generator=pick)[: config.n_training]
        training, self.test = whole.subset(chosen).to(config.device), test.to(config.device)
        self.images = describe_sets(
            training_images=training, validation_images=None, test_images=self.test
        )
        self.training, self.few = prepare_post(config, training), _few(training)
        self.network, self.n_epochs = self.training.network, len(config.widths) - 1
        self.first_losses: list[float] = []

    def learn(self, number: int) -> EpochMetrics:
        """Train one layer, counted from 1."""
        begin = time.perf_counter()
        losses = self.training.learn_layer()
        seconds = time.perf_counter() - begin
        self.first_losses.append(losses[0])
        return EpochMetrics(losses[-1], self._count(self.few, 2), len(self.few), seconds)

    def evaluate(self) -> dict[str, EpochMetrics]:
        """Nothing is held out in the post's protocol, and the test set waits for the end."""
        return {}

    def state(self) -> dict[str, Any]:
        """Weights, random numbers, the place in the images, and what the next layer is given."""
        return {**self.training.state(), "first_losses": self.first_losses}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.training.load(state)
        self.first_losses = list(state["first_losses"])

    def describe(self, history: History, reported: Epoch) -> dict[str, Any]:
        """Look at training images, at the first 64 test images, and at all of them."""
        first = self.test.subset(torch.arange(N_LOOKED_AT))
        extra = {
            "n_correct_training": self._count(self.few, 2),
            "n_training_looked_at": len(self.few),
            "n_correct_first_64_test": self._count(first, 3),
            "first_losses": self.first_losses,
        }
        result = _result(self._correct(self.test, 1), reported.number)
        return {"last": result, "best_on_test": result, "validation_selected": None, "extra": extra}

    def _correct(self, images: ImageSet, number: int) -> Tensor:
        """Correct predictions; spikes are drawn by a generator of its own for each ``number``."""
        generator = torch.Generator(device=self.device).manual_seed(self.config.seed + number)
        return correct_post(self.training.network, images, generator)

    def _count(self, images: ImageSet, number: int) -> int:
        return int(self._correct(images, number).sum())


def _result(correct: Tensor, epoch: int) -> Result:
    n_correct, n_images = int(correct.sum()), len(correct)
    ends = accuracy_interval(n_correct, n_images)
    return Result(n_correct, n_images, epoch, *ends, pack_correct(correct.tolist()))


def load_sets(
    config: FFConfig, whole: ImageSet | None = None, test: ImageSet | None = None
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Training, validation and test images on the run's device; the split is the same for all."""
    split = torch.Generator().manual_seed(2024)
    least = config.n_validation + 1
    whole = checked_images("training_images", whole, least=least)
    test = checked_images("test_images", test)
    whole = load_mnist(train=True) if whole is None else whole
    training, validation = split_validation(whole, config.n_validation, split)
    test = load_mnist(train=False) if test is None else test
    device = config.device
    return training.to(device), validation.to(device), test.to(device)
