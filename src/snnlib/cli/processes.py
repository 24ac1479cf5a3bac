"""Processes: how one is stopped, and runs side by side, each a process of its own.

Ctrl-C and SIGTERM stop a run alike; the shell is told which it was.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

INTERRUPTED, TERMINATED = 130, 143  # what a shell reports after Ctrl-C, and after SIGTERM
# A process group of its own: Ctrl-C reaches the parent alone, which passes it on once.
_APART: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which batch systems end a run; it stops as cleanly as at Ctrl-C."""


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` meanwhile, where signals can be caught."""

    def stop(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def exit_code(stop: KeyboardInterrupt) -> int:
    """What a shell shall be told."""
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def run_side_by_side(
    runs: Mapping[str, Sequence[str]],
    n_jobs: int,
    *,
    tell: Callable[[str], object],
    finished: Callable[[str], object],
) -> int:
    """Run ``snnlib`` several times, ``n_jobs`` at once, and wait for all.

    One that fails does not stop the others. Ctrl-C ends all that are running
    and starts no more.

    Args:
        runs: Name to the words behind ``snnlib``.
        n_jobs: So many at once; each has the n-th part of the processor cores.
        tell: Gets every line that a run prints, its name in front; on a thread of its own.
        finished: Gets the name of each run that ended well.

    Returns:
        0 if all went well, else 1.

    Raises:
        ValueError: ``n_jobs`` is below 1.
        KeyboardInterrupt: After all running processes have ended.
    """
    if n_jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {n_jobs}")
    running: list[subprocess.Popen[str]] = []

    def run(name: str) -> int:
        with _start(runs[name], n_jobs) as child:
            running.append(child)
            for line in child.stdout or ():
                if line.strip():
                    tell(f"{name}: {line.rstrip()}")
        if child.returncode == 0:
            finished(name)
        return child.returncode

    with ThreadPoolExecutor(n_jobs) as pool:  # leaving it waits for the threads
        try:
            return int(any(list(pool.map(run, runs))))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            _interrupt(running)
            raise


def _start(words: Sequence[str], n_jobs: int) -> "subprocess.Popen[str]":
    share = str(max(1, (os.cpu_count() or 1) // n_jobs))
    limits = {name: share for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    return subprocess.Popen(
        [sys.executable, "-m", "snnlib", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **limits},
        **_APART,
    )


def _interrupt(children: Iterable["subprocess.Popen[str]"]) -> None:
    """Tell those still running to stop, as Ctrl-C would; elsewhere it has reached them already."""
    for child in children:
        if _APART and child.poll() is None:
            child.send_signal(signal.SIGINT)
