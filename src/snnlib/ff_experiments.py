"""Forward-Forward runs by name: settings in, one complete record out."""

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import torch

from snnlib import environment
from snnlib.data import load_mnist
from snnlib.ff_post import PostNetwork, count_correct_post, train_post
from snnlib.ff_presets import FF_PRESETS, FFConfig, PostConfig
from snnlib.ff_training import count_correct, load_sets, moved, train_ff
from snnlib.forward_forward import ForwardForwardNetwork
from snnlib.metrics import Epoch, EpochMetrics, History
from snnlib.readout import accuracy_interval
from snnlib.records import Result, RunRecord

__all__ = ["FF_PRESETS", "FFConfig", "PostConfig", "run_ff", "run_ff_experiment", "run_post"]


def run_ff(
    config: FFConfig,
    *,
    on_epoch_end: Callable[[Epoch], object] | None = None,
    minutes: float = float("inf"),
    look_at_test: bool = True,
) -> tuple[ForwardForwardNetwork, RunRecord]:
    """Train on 50,000 images, let 10,000 choose the judging layers, look at the test set once.

    Returns:
        The network and its record. Per epoch the record holds the mean loss,
        the hits on 1,000 training images and on the validation images, all
        layers judging. Without a look at the test set the result is validation's.
    """
    training, validation, test = load_sets(config)
    sample = training.subset(torch.arange(min(1000, len(training))))
    generator = torch.Generator(device=config.device).manual_seed(config.seed + 1)
    history = History()
    begin = time.perf_counter()

    def watch(network: ForwardForwardNetwork, losses: list[float], seconds: float) -> None:
        hits = count_correct(network, sample, config, generator)[0]
        learnt = EpochMetrics(sum(losses) / len(losses), hits, len(sample), seconds)
        hits = count_correct(network, validation, config, generator)[0]
        checked = EpochMetrics(learnt.loss, hits, len(validation), 0.0)
        history.epochs.append(Epoch(len(history) + 1, learnt, {"validation": checked}))
        if on_epoch_end is not None:
            on_epoch_end(history.epochs[-1])

    network = train_ff(config, training, on_epoch_end=watch, minutes=minutes)
    on_validation = count_correct(network, validation, config, generator)
    first_layer = on_validation.index(max(on_validation))
    judged = test if look_at_test else validation
    hits_by_layer = count_correct(network, judged, config, generator)
    n_planned = config.epochs * (1 if config.together else len(network.layers))
    stopped = f"stopped by its time limit after {len(history)} of {n_planned} epochs"
    record = RunRecord(
        claim=config.claim,
        preset=config.name,
        question=config.question,
        settings=asdict(config),
        protocol="honest",
        seed=config.seed,
        data_source=test.source.replace(" test set", ""),
        n_training=len(training),
        n_validation=len(validation),
        n_test=len(judged),
        history=history.to_dict(),
        last=None,
        best_on_test=None,
        validation_selected=_result(hits_by_layer[first_layer], len(judged), len(history)),
        seconds=time.perf_counter() - begin,
        notes="" if len(history) == n_planned else stopped,
        extra={
            "first_layer": first_layer,
            "n_correct_validation_from_layer": on_validation,
            "looked_at_test": look_at_test,
        },
        **_stamp(config, "honest"),
    )
    return network, record


def _result(n_correct: int, n_images: int, epoch: int) -> Result:
    return Result(n_correct, n_images, epoch, *accuracy_interval(n_correct, n_images))


def run_post(config: PostConfig) -> tuple[PostNetwork, RunRecord]:
    """Train as the post does, on ``n_training`` images drawn by the seed, and test on all 10,000.

    The record's extras hold the hits among the training images (at most 1,000)
    and among the first 64 test images, which is all that the post looked at.
    """
    pick = torch.Generator().manual_seed(config.seed)
    whole, test = load_mnist(train=True), load_mnist(train=False)
    chosen = torch.randperm(len(whole), generator=pick)[: config.n_training]
    training, test = moved(whole.subset(chosen), config.device), moved(test, config.device)
    history: list[dict[str, Any]] = []
    begin = time.perf_counter()

    def note(number: int, losses: list[float]) -> None:
        seconds = time.perf_counter() - begin
        learnt = {"first_loss": losses[0], "loss": losses[-1], "seconds": seconds}
        history.append({"number": number + 1, "training": learnt})

    network = train_post(config, training, on_layer_end=note)
    generator = torch.Generator(device=config.device).manual_seed(config.seed + 1)
    few = training.subset(torch.arange(min(1000, len(training))))
    n_learnt = count_correct_post(network, few, generator)
    n_first = count_correct_post(network, test.subset(torch.arange(64)), generator)
    result = _result(count_correct_post(network, test, generator), len(test), len(history))
    record = RunRecord(
        claim=config.claim,
        preset=config.name,
        question=config.question,
        settings=asdict(config),
        protocol="post",
        seed=config.seed,
        data_source=test.source.replace(" test set", ""),
        n_training=len(training),
        n_validation=0,
        n_test=len(test),
        history=history,
        last=result,
        best_on_test=result,
        validation_selected=None,
        seconds=time.perf_counter() - begin,
        extra={
            "n_correct_training": n_learnt,
            "n_training_looked_at": len(few),
            "n_correct_first_64_test": n_first,
        },
        **_stamp(config, "post"),
    )
    return network, record


def _stamp(config: FFConfig | PostConfig, protocol: str) -> dict[str, Any]:
    """When, where and with which code; apart from ``experiments``, to do without SpikingJelly."""
    commit, dirty = environment.commit()
    now = datetime.now(UTC)
    return {
        "id": f"{config.name}-{protocol}-s{config.seed}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}",
        "versions": environment.versions(),
        "commit": commit,
        "dirty": dirty,
        "device": environment.device_name(config.device),
        "threads": torch.get_num_threads(),
        "finished": now.isoformat(timespec="seconds"),
    }


def run_ff_experiment(
    config: FFConfig | PostConfig,
    *,
    on_epoch_end: Callable[[Epoch], object] | None = None,
    minutes: float = float("inf"),
    look_at_test: bool = True,
) -> RunRecord:
    """Run a configuration of either kind and describe it; the record is not yet written."""
    config = replace(config, device=_pick_device(config.device))
    if config.device != "cpu":
        torch.set_float32_matmul_precision("high")
    if isinstance(config, PostConfig):
        return run_post(config)[1]
    return run_ff(config, on_epoch_end=on_epoch_end, minutes=minutes, look_at_test=look_at_test)[1]


def _pick_device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
