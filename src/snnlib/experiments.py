"""One experiment from its settings to its record: the one place that joins the rooms.

Everything random in an epoch follows from (seed, epoch, purpose) alone. So a run
that was interrupted at any moment and resumed at the last epoch's end finishes
exactly like an undisturbed one (same engine, device and number of threads).
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from snnlib.assembly import Progress, Run, prepare_run, stream_seed
from snnlib.checkpoints import load_checkpoint, save_checkpoint, save_weights
from snnlib.claims import CLAIMS, Claim
from snnlib.data import ImageSet
from snnlib.environment import stamp
from snnlib.presets import PRESETS, ExperimentConfig
from snnlib.readout import accuracy_interval
from snnlib.records import Result, RunRecord
from snnlib.training import Epoch, EpochMetrics, History, evaluate, fit

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
) -> RunRecord:
    """Run one experiment and describe it completely.

    Args:
        config: The settings, from ``PRESETS`` or your own; a Forward-Forward
            configuration goes to its own room.
        resume: A checkpoint of the same settings to go on from.
        checkpoint: Where to store the state after every epoch. A file that is
            there already, of another run, is kept as ``NAME.old``.
        weights: Where to keep the weights of the reported epoch (safetensors).
        on_epoch_end: Called after each epoch, say to print a line.
        progress: Wraps the training batches of epoch n, say in a progress bar.
        training_images: Used in place of the MNIST training set.
        test_images: Used in place of the MNIST test set.

    Returns:
        The record of the run, not yet written anywhere.

    Raises:
        ValueError: ``resume`` is damaged or of other settings; nothing is written.
    """
    if not isinstance(config, ExperimentConfig):
        from snnlib.ff_experiments import run_ff_experiment

        return cast(RunRecord, run_ff_experiment(config, on_epoch_end=on_epoch_end))
    run = prepare_run(config, training_images, test_images, progress)
    if resume is not None:
        _load_state(run, resume)
    if checkpoint is not None:
        _move_aside(Path(checkpoint), resume)
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
        scaler=run.scaler,
        autocast=run.autocast,
        max_grad_norm=config.max_grad_norm,
    )
    record = _record(run)
    if weights is not None:
        save_weights(weights, run.selected, record_id=record.id)
    return record


def _move_aside(checkpoint: Path, resume: str | Path | None) -> None:
    """Keep the checkpoint of an earlier run under another name, unless we go on from it."""
    if checkpoint.exists() and (resume is None or not checkpoint.samefile(resume)):
        os.replace(checkpoint, f"{checkpoint}.old")


def _select(run: Run, epoch: Epoch) -> None:
    """Keep the weights of the best epoch so far; of equals, the first."""
    if run.history.best(run.watched) is epoch:
        weights = run.network.state_dict()
        run.selected = {name: tensor.detach().clone() for name, tensor in weights.items()}


def _state(run: Run) -> dict[str, Any]:
    return {
        "settings": asdict(run.config),
        "engine": run.engine,
        "network": run.network.state_dict(),
        "selected": run.selected,
        "optimizer": run.optimizer.state_dict(),
        "scheduler": None if run.scheduler is None else run.scheduler.state_dict(),
        "scaler": None if run.scaler is None else run.scaler.state_dict(),
        "history": run.history.to_dict(),
    }


def _load_state(run: Run, path: str | Path) -> None:
    state = load_checkpoint(path)
    _check_settings(run.config, state.get("settings", {}), path)
    run.network.load_state_dict(state["network"])
    run.optimizer.load_state_dict(state["optimizer"])
    if run.scheduler is not None:
        run.scheduler.load_state_dict(state["scheduler"])
    if run.scaler is not None:
        run.scaler.load_state_dict(state["scaler"])
    run.history = History.from_dict(state["history"])
    run.selected = {name: tensor.to(run.device) for name, tensor in state["selected"].items()}


def _check_settings(config: ExperimentConfig, stored: dict[str, Any], path: str | Path) -> None:
    """Refuse a checkpoint of other settings; only the device, and the end, may change."""
    free = {"device", "question"} | ({"epochs"} if config.schedule == "none" else set())
    for name, value in asdict(config).items():
        if name not in free and stored.get(name) != value:
            raise ValueError(
                f"{path} was made with {name}={stored.get(name)!r}, this run has "
                f"{name}={value!r}; nothing was changed"
            )


def _result(metrics: EpochMetrics, epoch: int) -> Result:
    low, high = accuracy_interval(metrics.n_correct, metrics.n_images)
    return Result(metrics.n_correct, metrics.n_images, epoch, low, high)


def _test_once(run: Run, epoch: int) -> Result:
    """Look at the test set, once, with the weights that validation picked."""
    run.network.load_state_dict(run.selected)
    run.noise.restart(stream_seed(run.config.seed, epoch, "test"))
    return _result(evaluate(run.network, run.respond, run.test, run.loss), epoch)


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
        **stamp(config.name, config.protocol, config.seed, run.device),
    )
