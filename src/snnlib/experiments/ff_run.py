"""Forward-Forward runs by name: settings in, one complete record out."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from snnlib.checks import instance
from snnlib.data import ImageSet, load_mnist, split_validation
from snnlib.experiments.own_images import fitting, told
from snnlib.forward_forward.training import (
    FFRun,
    Progress,
    count_correct,
    load_state,
    prepare_ff,
    state_of,
    train_ff,
)
from snnlib.intervals import accuracy_interval
from snnlib.metrics import Epoch, EpochMetrics, History
from snnlib.posts.fourth import PostNetwork, count_correct_post, train_post
from snnlib.records import environment
from snnlib.records.checkpoints import (
    Address,
    check_run_files,
    load_checkpoint,
    move_aside,
    refuse_other_settings,
    save_checkpoint,
    save_weights,
)
from snnlib.records.ledger import Result, RunRecord
from snnlib.settings.ff_presets import FF_PRESETS, FFConfig, PostConfig

__all__ = ["FF_PRESETS", "FFConfig", "PostConfig", "run_ff", "run_ff_experiment", "run_post"]

N_LOOKED_AT = 64  # test images, all that the fourth post looked at


def run_ff(
    config: FFConfig,
    *,
    on_epoch_end: Callable[[Epoch], object] | None = None,
    resume: Address | None = None,
    checkpoint: Address | None = None,
    weights: Address | None = None,
    progress: Progress | None = None,
    training_images: ImageSet | None = None,
    test_images: ImageSet | None = None,
) -> tuple[nn.Module, RunRecord]:
    """Train on 50,000 images, let 10,000 choose the judging layers, look at the test set once.

    The places of files are those of :func:`snnlib.experiments.run.run_experiment`.

    Returns:
        The network and its record. Per epoch the record holds the mean loss,
        the hits on 1,000 training images and on the validation images, all
        layers judging.
    """
    config = _on_device(config, FFConfig)
    checkpoint, weights, resume = check_run_files(checkpoint, weights, resume)
    training, validation, test = load_sets(config, training_images, test_images)
    sample = training.subset(torch.arange(min(1000, len(training))))
    run, history = prepare_ff(config, len(training)), History()
    images = told(training_images=training, validation_images=validation, test_images=test)
    if resume is not None:
        history = _load(run, resume, images)
    if checkpoint is not None:
        move_aside(checkpoint, resume)
        save_checkpoint(checkpoint, _state(run, history, images))

    def watch(network: nn.Module, losses: list[float], seconds: float) -> None:
        loss, first_way = sum(losses) / len(losses), next(iter(count_correct(run, sample).values()))
        learnt = EpochMetrics(loss, first_way, len(sample), seconds)
        begin = time.perf_counter()
        hits = next(iter(count_correct(run, validation).values()))
        checked = EpochMetrics(loss, hits, len(validation), time.perf_counter() - begin)
        history.epochs.append(Epoch(len(history) + 1, learnt, {"validation": checked}))
        if checkpoint is not None:
            save_checkpoint(checkpoint, _state(run, history, images))
        if on_epoch_end is not None:
            on_epoch_end(history.epochs[-1])

    train_ff(config, training, on_epoch_end=watch, run=run, progress=progress)
    record = _record_ff(run, history, training, validation, test)
    if weights is not None:
        save_weights(weights, run.network.state_dict(), record_id=record.id)
    return run.network, record


def _on_device(config: Any, kind: type[Any]) -> Any:
    """The settings with a device that computes; refused if they are of another kind of run."""
    return replace(instance("config", config, kind), device=environment.pick_device(config.device))


def _state(run: FFRun, history: History, images: dict[str, Any]) -> dict[str, Any]:
    settings = asdict(run.config)
    seen = history.to_dict()
    return {"settings": settings, "images": images, "run": state_of(run), "history": seen}


def _load(run: FFRun, path: Address, images: dict[str, Any]) -> History:
    """Go on where a checkpoint of the same settings and images was; the device may differ."""
    state = load_checkpoint(path)
    wanted = asdict(run.config)
    # A setting that did not exist when it was made had its default value.
    stored = {**asdict(FFConfig("-", "-")), **state.get("settings", {})}
    refuse_other_settings(path, stored, wanted, {"device", "question"})
    refuse_other_settings(path, state.get("images", images), images, ())
    load_state(run, state["run"])
    return History.from_dict(state["history"])


def _record_ff(
    run: FFRun,
    history: History,
    training: ImageSet,
    validation: ImageSet,
    test: ImageSet,
) -> RunRecord:
    """Let validation choose where there is a choice, look at the test set, and write it down."""
    begin = time.perf_counter()
    by_way = count_correct(run, validation)
    ways = list(by_way)
    way = max(ways, key=by_way.__getitem__) if run.rule.choose else ways[0]
    hits = count_correct(run, test)
    extra: dict[str, Any] = {"judged_by": way, "n_correct_validation": by_way}
    if run.rule.choose:
        extra["first_layer"] = ways.index(way)
        extra["n_correct_validation_from_layer"] = list(by_way.values())
    else:  # nothing was chosen, so the other ways may be told as well
        extra["n_correct_test"] = hits
    return RunRecord(
        n_validation=len(validation),
        n_test=len(test),
        history=history.to_dict(),
        last=None,
        best_on_test=None,
        validation_selected=_result(hits[way], len(test), len(history)),
        seconds=run.seconds + time.perf_counter() - begin,
        extra=extra,
        **_stamp(run.config, "honest", training, test),
    )


def _result(n_correct: int, n_images: int, epoch: int) -> Result:
    return Result(n_correct, n_images, epoch, *accuracy_interval(n_correct, n_images))


def run_post(
    config: PostConfig,
    *,
    weights: Address | None = None,
    training_images: ImageSet | None = None,
    test_images: ImageSet | None = None,
) -> tuple[PostNetwork, RunRecord]:
    """Train as the post does, on ``n_training`` images drawn by the seed, and test on all 10,000.

    The record's extras hold the hits among the training images (at most 1,000)
    and among the first 64 test images, which is all that the post looked at.
    """
    config = _on_device(config, PostConfig)
    if config.widths[0] != 784:
        raise ValueError(f"widths must begin with the 784 pixels, got {config.widths!r}")
    _, weights, _ = check_run_files(None, weights)
    pick = torch.Generator().manual_seed(config.seed)
    whole = fitting("training_images", training_images)
    test = fitting("test_images", test_images, least=N_LOOKED_AT)
    whole = load_mnist(train=True) if whole is None else whole
    test = load_mnist(train=False) if test is None else test
    chosen = torch.randperm(len(whole), generator=pick)[: config.n_training]
    training, test = whole.subset(chosen).to(config.device), test.to(config.device)
    history: list[dict[str, Any]] = []
    begin = time.perf_counter()

    def note(number: int, losses: list[float]) -> None:
        seconds = time.perf_counter() - begin
        learnt = {"first_loss": losses[0], "loss": losses[-1], "seconds": seconds}
        history.append({"number": number + 1, "training": learnt})

    network = train_post(config, training, on_layer_end=note)
    n_correct, extra = _judge_post(network, config, training, test)
    result = _result(n_correct, len(test), len(history))
    record = RunRecord(
        n_validation=0,
        n_test=len(test),
        history=history,
        last=result,
        best_on_test=result,
        validation_selected=None,
        seconds=time.perf_counter() - begin,
        extra=extra,
        **_stamp(config, "post", training, test),
    )
    if weights is not None:
        save_weights(weights, network.state_dict(), record_id=record.id)
    return network, record


def _judge_post(
    network: PostNetwork, config: PostConfig, training: ImageSet, test: ImageSet
) -> tuple[int, dict[str, int]]:
    """Hits among all test images, and what else the record of a row tells."""
    generator = torch.Generator(device=config.device).manual_seed(config.seed + 1)
    few = training.subset(torch.arange(min(1000, len(training))))
    extra = {
        "n_correct_training": count_correct_post(network, few, generator),
        "n_training_looked_at": len(few),
        "n_correct_first_64_test": count_correct_post(
            network, test.subset(torch.arange(N_LOOKED_AT)), generator
        ),
    }
    return count_correct_post(network, test, generator), extra


def _stamp(
    config: FFConfig | PostConfig, protocol: str, training: ImageSet, test: ImageSet
) -> dict[str, Any]:
    """What was run on which images, when, where and with which code."""
    return {
        "claim": config.claim,
        "preset": config.name,
        "question": config.question,
        "settings": asdict(config),
        "protocol": protocol,
        "seed": config.seed,
        "data_source": test.source.replace(" test set", ""),
        "n_training": len(training),
        **environment.stamp(config.name, protocol, config.seed, config.device),
    }


def run_ff_experiment(
    config: FFConfig | PostConfig, *, resume: Address | None = None, **options: Any
) -> RunRecord:
    """Run a configuration of either kind and describe it; the record is not yet written.

    Args:
        config: The settings; ``device="auto"`` takes a GPU where there is one.
        resume: A checkpoint to go on from.
        **options: As for :func:`run_ff`. A row of the post uses ``weights`` and the images.

    Raises:
        ValueError: A row of the post is asked to resume; it is over in minutes.
    """
    config = replace(config, device=environment.pick_device(config.device))
    if config.device != "cpu":
        torch.set_float32_matmul_precision("high")
    if isinstance(config, FFConfig):
        return run_ff(config, resume=resume, **options)[1]
    if resume is not None:
        raise ValueError(f"resume is not for {config.name!r}, a row of the post; leave it out")
    used = ("weights", "training_images", "test_images")
    return run_post(config, **{name: options[name] for name in used if name in options})[1]


def load_sets(
    config: FFConfig, whole: ImageSet | None = None, test: ImageSet | None = None
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Training, validation and test images on the run's device; the split is the same for all."""
    split = torch.Generator().manual_seed(2024)
    least = config.n_validation + 1
    whole = fitting("training_images", whole, least=least)
    test = fitting("test_images", test)
    whole = load_mnist(train=True) if whole is None else whole
    training, validation = split_validation(whole, config.n_validation, split)
    test = load_mnist(train=False) if test is None else test
    device = config.device
    return training.to(device), validation.to(device), test.to(device)
