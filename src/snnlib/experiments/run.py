"""One run, whatever learns: settings in, one complete record out.

What learns is a ``Learner``, and the runner asks nobody's kind. It holds what all runs
share, once: the history, the choice of the epoch, checkpoints, going on from one,
keeping weights, and the record.
"""

from collections.abc import Callable
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from snnlib.checks import instance
from snnlib.data import ImageSet
from snnlib.experiments.distributed import Group
from snnlib.experiments.learner import Learner, Progress
from snnlib.metrics import Epoch, History
from snnlib.records.checkpoints import (
    check_run_files,
    load_checkpoint,
    move_aside,
    refuse_other_settings,
    save_checkpoint,
    save_weights,
)
from snnlib.records.environment import stamp
from snnlib.records.record import RunRecord, renamed
from snnlib.settings.experiment import ExperimentConfig
from snnlib.settings.ff_experiment import FFConfig, PostConfig
from snnlib.training import run_epochs


def make_learner(
    config: Any,
    training_images: ImageSet | None,
    test_images: ImageSet | None,
    progress: Progress | None,
    group: Group,
) -> Learner:
    """The learner that belongs to settings of this kind: the only place that asks for it."""
    if isinstance(config, ExperimentConfig):
        from snnlib.experiments.bptt_run import prepare_run

        return prepare_run(config, training_images, test_images, progress, group)
    if not isinstance(config, FFConfig | PostConfig):
        instance("config", config, ExperimentConfig, FFConfig, PostConfig)
    from snnlib.experiments import ff_run

    if isinstance(config, PostConfig):
        if group.size > 1:
            raise ValueError(
                f"preset {config.name!r}, a row of the post, runs in one process, got {group.size}"
            )
        return ff_run.PostLearner(config, training_images, test_images)
    return ff_run.ForwardForwardLearner(config, training_images, test_images, progress, group)


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
        config: The settings, from ``PRESETS``, ``FF_PRESETS`` or your own.
        resume: A checkpoint of the same settings and images to go on from.
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
    if not group.leads:  # it computes with the others and keeps quiet
        resume = checkpoint = weights = on_epoch_end = progress = None
    with group.all_or_none():
        checkpoint, weights, resume = check_run_files(checkpoint, weights, resume)
        learner = make_learner(config, training_images, test_images, progress, group)
        found = None if resume is None else _read_state(learner, config, resume)
    history, selected = _restore(learner, group, found)

    def store() -> None:
        if checkpoint is not None:
            save_checkpoint(checkpoint, _state(learner, config, history, selected))

    def after_epoch(epoch: Epoch) -> None:
        if _reported(learner, history) is epoch:
            selected.update(_copied(learner.network))
        store()
        if on_epoch_end is not None:
            on_epoch_end(epoch)

    if checkpoint is not None:
        move_aside(checkpoint, resume)
    store()
    run_epochs(learner.learn, learner.evaluate, learner.n_epochs, history, after_epoch)
    learner.network.load_state_dict(selected)
    record = _record(learner, config, history)
    if weights is not None:
        save_weights(weights, selected, record_id=record.id)
    return record


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _reported(learner: Learner, history: History) -> Epoch:
    return history.epochs[-1] if learner.watched is None else history.best(learner.watched)


def _state(
    learner: Learner, config: Any, history: History, selected: dict[str, Tensor]
) -> dict[str, Any]:
    return {
        "settings": asdict(config),
        "images": learner.images,
        "history": history.to_dict(),
        "selected": selected,
        "correct": _correct_of(learner, history),
        "learner": learner.state(),
    }


def _correct_of(learner: Learner, history: History) -> dict[str, list[bool]]:
    """Which images were predicted correctly in the epoch that is reported, per set."""
    if not history.epochs:
        return {}
    sets = _reported(learner, history).evaluation.items()
    return {name: list(metrics.correct) for name, metrics in sets}


def _read_state(learner: Learner, config: Any, path: str | Path) -> dict[str, Any]:
    """The state in a checkpoint, refused if it is of another run."""
    state = load_checkpoint(path)
    # A setting that did not exist when it was made had its default value.
    defaults = {f.name: f.default for f in fields(config) if f.default is not MISSING}
    stored = {**defaults, **renamed(state.get("settings", {}))}
    refuse_other_settings(path, stored, asdict(config), learner.may_change)
    if "learner" not in state:
        raise ValueError(
            f"{path} was made by an earlier version of snnlib; nothing was changed; begin anew"
        )
    refuse_other_settings(path, state["images"], learner.images, ())
    if len(state["history"]) > learner.n_epochs:
        raise ValueError(
            f"epochs must be at least the {len(state['history'])} that {path} holds, "
            f"got {config.epochs}"
        )
    return state


def _restore(
    learner: Learner, group: Group, found: dict[str, Any] | None
) -> tuple[History, dict[str, Tensor]]:
    """Go on from a state; without one, begin: every process with the same weights."""
    state = group.from_leader(found)
    if state is None:
        group.start_alike(learner.network)
        return History(), {}
    learner.load(state["learner"])
    device = next(iter(learner.network.state_dict().values())).device
    selected = {name: tensor.to(device) for name, tensor in state["selected"].items()}
    history = History.from_dict(state["history"])
    for name, correct in state.get("correct", {}).items():
        sets = _reported(learner, history).evaluation
        sets[name] = replace(sets[name], correct=tuple(correct))
    return history, selected


def _record(learner: Learner, config: Any, history: History) -> RunRecord:
    """The run described: what is the same for all, and what its learner adds."""
    n = {name: 0 if told is None else told[0] for name, told in learner.images.items()}
    test = learner.images["test_images"]
    assert test is not None
    epochs = [[epoch.training, *epoch.evaluation.values()] for epoch in history.epochs]
    return RunRecord(
        claim=config.claim,
        preset=config.name,
        question=config.question,
        settings=learner.settings,
        protocol=learner.protocol,
        seed=config.seed,
        data_source=test[1].replace(" test set", ""),
        n_training=n["training_images"],
        n_validation=n["validation_images"],
        n_test=n["test_images"],
        history=history.to_dict(),
        seconds=sum(metrics.seconds for looks in epochs for metrics in looks),
        **learner.describe(history, _reported(learner, history)),
        **stamp(config.name, learner.protocol, config.seed, learner.device),
    )
