"""``snnlib``: the command line. Flags become settings; the work is done elsewhere.

Rooms that need torch are imported inside the commands, so that ``--help`` is
quick and ``doctor`` can examine a broken torch.
"""

import argparse
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import snnlib
from snnlib.checks import whole_number
from snnlib.checks.files import real_path
from snnlib.cli.files import (
    age,
    check_places,
    checkpoint_of,
    holds_something,
    images_of,
    is_finished,
    ledger_of_claims,
    weights_of,
)
from snnlib.cli.flags import make_parser, name_places, with_flags
from snnlib.cli.predict import predictions
from snnlib.cli.processes import exit_code, run_side_by_side, sigterm_as_ctrl_c
from snnlib.settings.claims import CLAIMS
from snnlib.settings.ff_presets import RETIRED

_python_format = warnings.formatwarning


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if words is None and _speaks():  # from a shell: tell what is unpacked or compiled
        logging.basicConfig(format="%(message)s")
        logging.getLogger("snnlib").setLevel(logging.INFO)
        warnings.formatwarning = _format_warning
    if words is None and hasattr(sys.stdout, "reconfigure"):  # a name may hold any byte
        sys.stdout.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if words is None else list(words)
    options = make_parser().parse_args(words)
    try:
        name_places(options)
        with sigterm_as_ctrl_c():
            return COMMANDS[options.command](options, words)
    except KeyboardInterrupt as stop:
        if _speaks():
            print("\nInterrupted.", file=sys.stderr)
        return exit_code(stop)
    except (ValueError, OSError, FloatingPointError, ImportError, MemoryError) as error:
        if _speaks():
            print(f"snnlib: {error}", file=sys.stderr)
        return 1


def _format_warning(
    message: Warning | str, category: type[Warning], *place: Any, **more: Any
) -> str:
    """A warning of ours is one sentence; others keep the line of code that gave them."""
    if category.__module__.startswith("snnlib"):
        return f"snnlib: {message}\n"
    return _python_format(message, category, *place, **more)


def _show(text: str) -> None:
    """Print what was asked for; that the reader, say `head`, has seen enough is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # nor shall Python complain when it closes
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def doctor(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Examine the installation; exit code 1 if something is wrong."""
    from snnlib.cli.doctor import diagnose

    findings, torch_loaded = diagnose(options.thorough)
    for well, text in findings:
        print(f"{'ok   ' if well else 'WRONG'} {text}")
    n_wrong = sum(not well for well, _ in findings)
    if n_wrong:
        print(f"{n_wrong} of {len(findings)} need care.")
    elif torch_loaded:
        print("Everything is well.")
    else:
        print("All that was looked at is well; with --thorough, torch is loaded as well.")
    return 1 if n_wrong else 0


def train(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Train one preset with changed settings; the record goes beside the checkpoint."""
    from snnlib.records.reproduction import find_preset

    config = with_flags(find_preset(options.preset), options)
    if options.j is not None and _speaks():
        print("-j is not needed: the images are in memory, no worker processes load them")
    checkpoint = checkpoint_of(config, options.out_dir)
    resume = checkpoint if options.go_on and holds_something(checkpoint) else options.resume
    ledger = Path(options.ledger or Path(options.out_dir) / "ledger.jsonl")
    before = age(checkpoint)
    try:
        _run_and_record(config, options, resume, ledger)
    except KeyboardInterrupt as stop:
        begun = age(checkpoint) != before and not options.go_on
        again = [*_without_resume(words), "-resume", str(checkpoint)] if begun else words
        _say_how_to_go_on("Go on with", again)
        return exit_code(stop)
    return 0


def reproduce(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Repeat claims of the posts and record the runs, or list all claims."""
    from snnlib.records.ledger import read_ledger
    from snnlib.records.reproduction import (
        claims_as_markdown,
        find_claims,
        is_recorded,
        planned_runs,
    )

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError("reproduce runs in one process; several runs go side by side with --jobs")
    asked = [claim for name in options.claims for claim in find_claims(name)]
    ledger = ledger_of_claims(options)
    records = read_ledger(ledger)
    if options.list or not (options.claims or options.all):
        _show(claims_as_markdown(records))
        return 0
    runs = planned_runs(CLAIMS.values() if options.all else asked, options.seeds)
    missing = [with_flags(run, options) for run in runs if not is_recorded(run, records)]
    hint = "" if missing else "; to run them once more name another file with --ledger"
    print(f"{len(runs) - len(missing)} of {len(runs)} runs are recorded already{hint}", flush=True)
    for config in missing:
        check_places(config, options, checkpoint_of(config, options.out_dir), ledger)
    not_ours = {checkpoint_of(c, options.out_dir) for c in missing if is_finished(c, options)}
    try:
        if options.jobs != 1:
            return _run_side_by_side(missing, options, ledger, not_ours)
        for config in missing:
            checkpoint = checkpoint_of(config, options.out_dir)
            _run_and_record(
                config, options, checkpoint if holds_something(checkpoint) else None, ledger
            )
            if checkpoint not in not_ours:
                real_path(checkpoint).unlink(missing_ok=True)
    except KeyboardInterrupt as stop:
        _say_how_to_go_on("The same command goes on", words)
        return exit_code(stop)
    return 0


def ledger(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the recorded runs."""
    from snnlib.records.ledger import ledger_table, markdown_table, read_ledger

    if options.ledger and not Path(options.ledger).is_file():
        raise ValueError(f"--ledger must name a file that is there, got {options.ledger}")
    records = read_ledger(ledger_of_claims(options))
    if options.json:
        lines = (json.dumps(record.to_dict(), ensure_ascii=False) for record in records)
        _show("\n".join(lines))
    else:
        gone = {r.preset: RETIRED[r.preset] for r in records if r.preset in RETIRED}
        notes = [f"{name} was given up; its code is in commit {c}." for name, c in gone.items()]
        table = markdown_table(ledger_table(records)) or "No run is recorded yet."
        _show("\n".join([table, *([""] if notes else []), *notes]))
    return 0


def bench(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run the speed comparisons of a source checkout; ``--keep`` renews the book's figures."""
    script = Path(snnlib.__file__).parents[2] / "bench" / "run.py"
    if not script.exists():
        raise ValueError(f"the benchmarks live in a source checkout; there is no {script}")
    whole_number("rounds", options.rounds, least=1)
    given = ["--rounds", str(options.rounds), *(["--keep"] if options.keep else [])]
    given += ["--json", options.json] if options.json is not None else []
    return subprocess.run([sys.executable, str(script), *given, *options.words]).returncode


def predict(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Recognise digits in pictures of the user."""
    _show(predictions(options))
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace, Sequence[str]], int]] = {
    "doctor": doctor,
    "train": train,
    "reproduce": reproduce,
    "ledger": ledger,
    "bench": bench,
    "predict": predict,
}


def _run_and_record(
    config: Any, options: argparse.Namespace, resume: str | Path | None, ledger: Path
) -> None:
    """Run, print a line per epoch, and add the record to a ledger."""
    from snnlib.experiments.distributed import joined
    from snnlib.experiments.run import run_experiment
    from snnlib.records.environment import keep_freed_memory
    from snnlib.records.ledger import append_record

    keep_freed_memory()
    if _speaks():
        begun = f" (goes on from {resume})" if resume else ""
        print(f"{config.name}: {config.question}{begun}", flush=True)
    checkpoint = checkpoint_of(config, options.out_dir)
    if _speaks():  # the others write nothing, and have no voice to refuse with
        check_places(config, options, resume, ledger)
    with joined(config.device) as group, _telling_what_is_left(checkpoint):
        with group.all_or_none():
            images = images_of(config, getattr(options, "data_dir", None))
        record = run_experiment(
            config,
            resume=resume,
            checkpoint=checkpoint,
            weights=weights_of(checkpoint, options),
            on_epoch_end=_reporter(config, getattr(options, "tensorboard", None)),
            progress=_progress_bar if sys.stderr.isatty() else None,
            group=group,
            **images,
        )
    if not group.leads:
        return
    append_record(record, ledger)
    print(f"{record.preset}, seed {record.seed}, {record.protocol} protocol: {record.result}")
    print(f"recorded as {record.id} in {ledger}", flush=True)


@contextmanager
def _telling_what_is_left(checkpoint: Path) -> Iterator[None]:
    """Say of a run that diverged what is left of it, and of one without memory what may help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = str(error).strip() or "no reason given"
        if not isinstance(error, MemoryError) and not re.search(
            "allocate|out of memory|overflowed with sizes", reason
        ):
            raise
        cure = "a smaller -b, or fewer steps with -T, is the usual cure"
        reason = reason.splitlines()[0].rstrip(".")
        raise MemoryError(f"the memory does not suffice ({reason}); {cure}") from error
    except FloatingPointError as error:
        kept = f"; {checkpoint} holds the run as it was before" if checkpoint.exists() else ""
        raise FloatingPointError(f"{error}; nothing was recorded{kept}") from error


def _run_side_by_side(
    missing: Sequence[Any], options: argparse.Namespace, ledger: Path, not_ours: set[Path]
) -> int:
    """Each run in a process of its own, with its share of the processor cores."""

    def words(config: Any) -> list[str]:
        words = ["train", config.name, "--seed", str(config.seed), "--device", config.device]
        words += ["--continue", "--out-dir", options.out_dir, "--ledger", str(ledger)]
        words += ["--protocol", config.protocol] if hasattr(config, "protocol") else []
        return [*words, "--save-model"] if options.save_model else words

    place = {path.stem: path for path in (checkpoint_of(c, options.out_dir) for c in missing)}

    def clear(name: str) -> None:
        if place[name] not in not_ours:
            real_path(place[name]).unlink(missing_ok=True)

    return run_side_by_side(
        dict(zip(place, map(words, missing), strict=True)),
        options.jobs,
        tell=lambda line: print(line, flush=True),
        finished=clear,
    )


def _without_resume(words: Sequence[str]) -> list[str]:
    """The words of a command without the file that it went on from."""
    kept = [word for word in words if not word.startswith(("-resume=", "--resume="))]
    for flag in ("-resume", "--resume"):
        while flag in kept:
            del kept[kept.index(flag) : kept.index(flag) + 2]
    return kept


def _speaks() -> bool:
    """Of the processes that torchrun starts, the first alone speaks."""
    return os.environ.get("RANK", "0") == "0"


def _say_how_to_go_on(text: str, words: Sequence[str]) -> None:
    n_processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    shared = ["torchrun", f"--nproc-per-node={n_processes}", "-m"] if n_processes != "1" else []
    if _speaks():
        command = shlex.join([*shared, "snnlib", *words])
        print(f"\nInterrupted. {text}:\n  {command}", file=sys.stderr)


def _reporter(config: Any, log_dir: str | None) -> Any:
    """An ``on_epoch_end`` that prints a line, and feeds TensorBoard if asked for."""
    from snnlib.metrics import Epoch
    from snnlib.records.tensorboard import tensorboard_writer

    write = tensorboard_writer(log_dir) if log_dir and _speaks() else None

    def report(epoch: Epoch) -> None:
        texts = [f"epoch {epoch.number}/{getattr(config, 'n_epochs', '?')}"]
        for name in ("training", *epoch.evaluation):
            low, high = epoch[name].interval
            texts.append(
                f"{name} {epoch[name].accuracy:.2%} "
                f"({100 * low:.2f}-{100 * high:.2f}, n={epoch[name].n_images})"
            )
        print("  ".join([*texts, f"loss {epoch.training.loss:.4f}"]), flush=True)
        if write is not None:
            write(epoch)

    return report


def _progress_bar(batches: Iterable[Any], epoch: int) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(batches, desc=f"epoch {epoch}", leave=False)


if __name__ == "__main__":
    sys.exit(main())
