"""How a run is stopped: by Ctrl-C or by SIGTERM, and what the shell is told."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED, TERMINATED = 130, 143  # what a shell reports after Ctrl-C, and after SIGTERM


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
