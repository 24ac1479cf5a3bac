"""The files of a run, as the command line names them: checkpoint, weights, ledger and images."""

import argparse
from pathlib import Path
from typing import Any

import snnlib
from snnlib.checks.files import check_apart, check_writable


def check_places(config: Any, options: argparse.Namespace, resume: Any, ledger: Path) -> None:
    """Refuse, before the training, whatever could not be written or would be overwritten."""
    from snnlib.records.checkpoints import check_run_files
    from snnlib.records.ledger import LEDGER

    checkpoint = checkpoint_of(config, options.out_dir)
    weights = weights_of(checkpoint, options)
    check_run_files(checkpoint, weights, resume, names=("--out-dir", "--out-dir"))
    check_writable("--ledger", ledger, LEDGER)
    check_apart({"--ledger": ledger, "the checkpoint": checkpoint, "the weights": weights})


def images_of(config: Any, data_dir: str | None) -> dict[str, Any]:
    """The images of ``--data-dir``, as arguments of a run; none without it."""
    from snnlib.data import read_both

    limits = [getattr(config, name, None) for name in ("limit", "test_limit")]
    return {} if data_dir is None else read_both(Path(data_dir), "--data-dir", *limits)


def checkpoint_of(config: Any, out_dir: str) -> Path:
    protocol = getattr(config, "protocol", "own")
    return Path(out_dir) / f"{config.name}-{protocol}-s{config.seed}.ckpt"


def weights_of(checkpoint: Path, options: argparse.Namespace) -> Path | None:
    return checkpoint.with_suffix(".safetensors") if options.save_model else None


def is_finished(config: Any, options: argparse.Namespace) -> bool:
    """Whether a finished run of the user lies where ours would; it is read, not cleared away."""
    from snnlib.records.checkpoints import epochs_in

    return epochs_in(checkpoint_of(config, options.out_dir)) >= getattr(config, "n_epochs", 1)


def holds_something(file: Path) -> bool:
    """Whether there is something to go on from; an empty file may be used, but holds nothing."""
    return file.exists() and not (file.is_file() and file.stat().st_size == 0)


def age(file: Path) -> int | None:
    return file.stat().st_mtime_ns if file.exists() else None


def ledger_of_claims(options: argparse.Namespace) -> Path:
    """The ledger asked for; else the packaged one.

    Outside a source checkout the packaged ledger is only read, and new records
    go to ``runs/ledger.jsonl``.
    """
    from snnlib.records.ledger import ledger_path

    if options.ledger:
        return Path(options.ledger)
    in_checkout = (Path(snnlib.__file__).parents[2] / "pyproject.toml").exists()
    writes = options.command == "reproduce" and (options.claims or options.all)
    if in_checkout or not writes:
        return ledger_path()
    return Path(options.out_dir) / "ledger.jsonl"
