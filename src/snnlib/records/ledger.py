"""The ledger: one line of JSON per run, with all that is needed to repeat it.

Lines are only ever added. Several processes may add at once, and a line torn by
a crash or a full disk costs that line alone. What a line holds is a
:class:`RunRecord`; weights and checkpoints are files of their own.
"""

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from itertools import islice
from pathlib import Path

from snnlib.checks import refuse
from snnlib.checks.files import Kind, named_path, refuse_other_file
from snnlib.records.record import RunRecord

try:
    import fcntl
except ImportError:  # Windows: a line is still added by a single write
    fcntl = None  # type: ignore[assignment]


class LedgerWarning(UserWarning):
    """A line of the ledger could not be read; all others were."""


def ledger_path() -> Path:
    """The ledger that travels inside the package: ``snnlib/results/ledger.jsonl``."""
    return Path(str(resources.files("snnlib").joinpath("results", "ledger.jsonl")))


def append_record(record: RunRecord, path: str | os.PathLike[str] | None = None) -> None:
    """Add one line to the ledger, whole or not at all.

    The line goes out in one write at the end of the file, under a lock where the
    system has one. After a torn line a fresh line is begun.

    Args:
        record: The finished run.
        path: The ledger; the packaged one if left out.

    Raises:
        OSError: The file cannot be written, or the disk is full; earlier lines
            are untouched.
        ValueError: The file holds something, but no record; it stays as it is.
    """
    target = ledger_path() if path is None else named_path("path", path)
    refuse_other_file("path", target, LEDGER)
    target.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False) + "\n"
    with _locked_for_appending(target) as handle:
        size = os.lseek(handle, 0, os.SEEK_END)
        content = line.encode()
        os.lseek(handle, max(0, size - 1), os.SEEK_SET)
        if os.read(handle, 1) not in (b"", b"\n"):  # a torn line ends the file
            content = b"\n" + content
        try:
            whole = os.write(handle, content) == len(content)
            os.fsync(handle)
        except OSError:
            whole = False
        if not whole:
            os.ftruncate(handle, size)
            raise OSError(f"the disk is full: no line was added to {target}, the others are kept")


def read_ledger(path: str | os.PathLike[str] | None = None) -> list[RunRecord]:
    """Read every run that can be read; report the lines that cannot.

    Args:
        path: The ledger; the packaged one if left out.

    Returns:
        The records in the order of their lines. A damaged line is left out and
        reported as a :class:`LedgerWarning` with its number. No file, no records.
    """
    target = ledger_path() if path is None else named_path("path", path)
    if not target.exists():
        return []
    if target.is_dir():
        refuse("path", "a file, a ledger", target)
    records = []
    for number, line in enumerate(target.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(RunRecord.from_dict(json.loads(line)))
        except (ValueError, TypeError, AttributeError) as error:
            message = f"line {number} of {target.name} left out: {error}"
            warnings.warn(message, LedgerWarning, stacklevel=2)
    return records


def _is_ledger(path: Path) -> bool:
    """Whether one of the first lines is a record, of whatever version of snnlib."""
    with path.open("rb") as stream:
        lines = iter(lambda: stream.readline(_LONGEST), b"")
        return any(map(_looks_like_a_record, islice(lines, 1000)))


_LONGEST = 2**24  # bytes of a line; a record of ours takes some thousands


def _looks_like_a_record(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and {"id", "preset", "schema_version"} <= set(found)


LEDGER = Kind("a ledger of snnlib", _is_ledger)


def ledger_table(records: Iterable[RunRecord]) -> list[dict[str, str]]:
    """One row of texts per run: preset, protocol, seed, accuracy with n and interval, cost."""
    return [
        {
            "preset": record.preset,
            "protocol": record.protocol,
            "seed": str(record.seed),
            "epochs": str(len(record.history)),
            "test accuracy": f"{record.result.accuracy:.2%}",
            "95 % interval": f"{100 * record.result.low:.2f} to {100 * record.result.high:.2f}",
            "test images": str(record.result.n_images),
            "minutes": f"{record.seconds / 60:.1f}",
            "finished": record.finished[:10],
        }
        for record in records
    ]


def markdown_table(rows: list[dict[str, str]]) -> str:
    """Rows of equal keys as a Markdown table; empty text for no rows."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@contextmanager
def _locked_for_appending(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)  # gives the lock back too
