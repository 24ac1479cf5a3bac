"""One experiment from its settings to its record: the one place that joins the rooms.

Everything random in an epoch follows from (seed, epoch, purpose) alone. So a run
that was interrupted at any moment and resumed at the last epoch's end finishes
exactly like an undisturbed one (same engine, device and number of threads).
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snnlib.checks import instance
from snnlib.data import ImageSet
from snnlib.experiments.bptt_run import Progress, Run, prepare_run, reading_of, stream_seed
from snnlib.experiments.distributed import Group
from snnlib.experiments.own_images import told
from snnlib.intervals import accuracy_interval
from snnlib.metrics import Epoch, EpochMetrics, History
from snnlib.records.checkpoints import (
    check_run_files,
    load_checkpoint,
    move_aside,
    refuse_other_settings,
    save_checkpoint,
    save_weights,
)
from snnlib.records.environment import has_bfloat16_instructions, stamp
from snnlib.records.ledger import Result, RunRecord
from snnlib.settings.claims import CLAIMS, Claim
from snnlib.settings.presets import PRESETS, ExperimentConfig
from snnlib.training import evaluate, fit

logger = logging.getLogger(__name__)

__all__ = ["CLAIMS", "PRESETS", "Claim", "ExperimentConfig", "run_experiment", "stamp"]


def run_experiment(
    config: Any,
    *,
    resume: str | Path | None = None,
    checkpoint: str | Path | None = None,
    weights: str | Path | None = None,
    on_epoch_end: Callable[[Epoch], None] | None = None,
    progress: Progress | None = None,
    training_images: ImageSet | None = None,
    test_images: ImageSet | None = None,
    group: Group = Group(),
) -> RunRecord:
    """Run one experiment and describe it completely.

    Args:
        config: The settings, from ``PRESETS`` or your own; a Forward-Forward
            configuration goes to its own room.
        resume: A checkpoint of the same settings to go on from.
        checkpoint: Where to store the state after every epoch. A file that is
            there already, of another run, is kept as ``NAME.old``.
        weights: Where to keep the weights of the reported epoch (safetensors);
            those of another run are kept as ``NAME.old``, too.
        on_epoch_end: Called after each epoch, say to print a line.
        progress: Wraps the training batches of epoch n, say in a progress bar.
        training_images: Used in place of the MNIST training set.
        test_images: Used in place of the MNIST test set.
        group: The processes that share this run, from ``distributed.joined``; each
            calls this function alike. Only process 0 reads and writes checkpoints,
            keeps weights and reports.

    Returns:
        The record of the run, not yet written anywhere.

    Raises:
        ValueError: ``resume`` is damaged or of other settings, or a file that is not
            ours stands where one would be written; nothing is written.
            Or ``config`` are no settings, or do not fit ``group``.
    """
    if not isinstance(config, ExperimentConfig):
        from snnlib.experiments.ff_run import FFConfig, PostConfig, run_ff_experiment

        instance("config", config, ExperimentConfig, FFConfig, PostConfig)
        if group.size > 1:
            raise ValueError(f"preset {config.name!r} runs in one process, got {group.size}")
        return run_ff_experiment(
            config,
            resume=resume,
            checkpoint=checkpoint,
            weights=weights,
            on_epoch_end=on_epoch_end,
            progress=progress,
            training_images=training_images,
            test_images=test_images,
        )
    if not group.leads:  # it computes with the others and keeps quiet
        resume = checkpoint = weights = on_epoch_end = progress = None
    with group.all_or_none():
        checkpoint, weights, resume = check_run_files(checkpoint, weights, resume)
        run = prepare_run(config, training_images, test_images, progress, group)
        state = None if resume is None else _read_state(run, resume)
    _restore(run, group.from_leader(state))
    _warn_of_slow_precision(run)
    if checkpoint is not None:
        move_aside(checkpoint, resume)
        save_checkpoint(checkpoint, _state(run))

    def after_epoch(epoch: Epoch) -> None:
        _select(run, epoch)
        if checkpoint is not None:
            save_checkpoint(checkpoint, _state(run))
        if on_epoch_end is not None:
            on_epoch_end(epoch)

    fit(
        run.network,
        run.respond,
        run.training,
        run.evaluations,
        run.loss,
        run.optimizer,
        config.epochs,
        start_epoch=len(run.history),
        history=run.history,
        on_epoch_start=run.restart_randomness,
        on_epoch_end=after_epoch,
        scheduler=run.scheduler,
        autocast=run.autocast,
        max_grad_norm=config.max_grad_norm,
        after_backward=group.combine,
    )
    record = _record(run)
    if weights is not None:
        save_weights(weights, run.selected, record_id=record.id)
    return record


def _warn_of_slow_precision(run: Run) -> None:
    asked = run.config.amp == "bfloat16" and run.device.type == "cpu" and run.group.leads
    if asked and has_bfloat16_instructions() is False:
        logger.warning(
            "amp='bfloat16' makes this run slower, not faster: this processor has no "
            "instructions for it; amp='off' is the better choice here"
        )


def _select(run: Run, epoch: Epoch) -> None:
    """Keep the weights of the best epoch so far; of equals, the first."""
    if run.history.best(run.watched) is epoch:
        weights = run.network.state_dict()
        run.selected = {name: tensor.detach().clone() for name, tensor in weights.items()}


def _state(run: Run) -> dict[str, Any]:
    return {
        "settings": asdict(run.config),
        "images": _images(run),
        "network": run.network.state_dict(),
        "selected": run.selected,
        "optimizer": run.optimizer.state_dict(),
        "scheduler": None if run.scheduler is None else run.scheduler.state_dict(),
        "history": run.history.to_dict(),
    }


def _images(run: Run) -> dict[str, Any]:
    validation = None if run.validation is None else run.validation.images
    training, test = run.training.batches.images, run.test.images
    return told(training_images=training, validation_images=validation, test_images=test)


def _read_state(run: Run, path: str | Path) -> dict[str, Any]:
    config, state = run.config, load_checkpoint(path)
    _check_settings(config, state.get("settings", {}), path)
    images = _images(run)
    refuse_other_settings(path, state.get("images", images), images, ())
    if len(state["history"]) > config.epochs:
        raise ValueError(
            f"epochs must be at least the {len(state['history'])} that {path} holds, "
            f"got {config.epochs}"
        )
    return state


def _restore(run: Run, state: dict[str, Any] | None) -> None:
    """Go on from a state; without one, begin: every process with the same weights."""
    if state is None:
        run.group.start_alike(run.network)
        return
    run.network.load_state_dict(state["network"])
    run.optimizer.load_state_dict(state["optimizer"])
    if run.scheduler is not None:
        run.scheduler.load_state_dict(state["scheduler"])
    run.history = History.from_dict(state["history"])
    run.selected = {name: tensor.to(run.device) for name, tensor in state["selected"].items()}


def _check_settings(config: ExperimentConfig, stored: dict[str, Any], path: str | Path) -> None:
    """Refuse a checkpoint of other settings; only the device, and the end, may change.

    A setting that did not exist when it was made had its default value.
    """
    stored = {**asdict(ExperimentConfig("-", "-", "-")), **stored}
    free = {"device", "question"} | ({"epochs"} if config.schedule == "none" else set())
    refuse_other_settings(path, stored, asdict(config), free)


def _result(metrics: EpochMetrics, epoch: int) -> Result:
    low, high = accuracy_interval(metrics.n_correct, metrics.n_images)
    return Result(metrics.n_correct, metrics.n_images, epoch, low, high)


def _test_once(run: Run, epoch: int) -> Result:
    """Look at the test set, once, with the weights that validation picked."""
    run.network.load_state_dict(run.selected)
    run.noise.restart(stream_seed(run.config.seed, epoch, "test"))
    return _result(evaluate(run.network, run.respond, run.test, run.loss), epoch)


def _early_readings(run: Run, epoch: int) -> dict[str, Any]:
    """Accuracy and work after each step, of the reported weights on the test images."""
    if run.config.anytime_steps is None:
        return {}
    run.network.load_state_dict(run.selected)
    seed = stream_seed(run.config.seed, epoch, "test")
    reading = reading_of(run.config, run.network, run.test, run.engine, seed)
    return {"anytime": reading.to_dict()}


def _record(run: Run) -> RunRecord:
    config, history = run.config, run.history
    best, last = history.best(run.watched), history.epochs[-1]
    honest = run.validation is not None
    return RunRecord(
        claim=config.claim,
        preset=config.name,
        question=config.question,
        settings={**asdict(config), "engine": run.engine, "device": str(run.device)},
        protocol=config.protocol,
        seed=config.seed,
        data_source=run.test.images.source.replace(" test set", ""),
        n_training=len(run.training.batches.images),
        n_validation=0 if run.validation is None else len(run.validation.images),
        n_test=len(run.test.images),
        history=history.to_dict(),
        last=None if honest else _result(last["test"], last.number),
        best_on_test=None if honest else _result(best["test"], best.number),
        validation_selected=_test_once(run, best.number) if honest else None,
        seconds=sum(e[name].seconds for e in history.epochs for name in ("training", run.watched)),
        extra={"n_processes": run.group.size, **_early_readings(run, best.number)},
        **stamp(config.name, config.protocol, config.seed, run.device),
    )
