"""Stopping in order: what a signal asks for, a training does between two steps.

SIGTERM (time limits, preemption), SIGUSR1 (a cluster's word before a limit), SIGHUP (a closed
terminal) and SIGINT (Ctrl-C) raise `Stopped` where nothing is at stake, and wait for the end of
what is `deferred`: an optimiser step, a write.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
)


class Stopped(BaseException):
    """A signal asked this process to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status that shells expect: 128 and the signal's number."""
        return 128 + self.number


_depth = 0  # of nested `deferred` blocks
_pending: int | None = None  # the signal that came inside


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` inside the block when a signal comes; restores the handlers afterwards.

    SIGHUP and SIGINT stay ignored where they are, as under nohup and in a script's background. Does
    nothing outside of the main thread, which alone may handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, _handle)
        for number in SIGNALS
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Let the block finish; a signal that came meanwhile raises `Stopped` after it."""
    global _depth, _pending
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    if not _depth and _pending is not None:
        number, _pending = _pending, None
        raise Stopped(number)


def is_asked() -> bool:
    """Whether a signal waits for the end of what is `deferred`."""
    return _pending is not None


def _handle(number: int, _: FrameType | None) -> None:
    global _pending
    if not _depth:
        raise Stopped(number)
    _pending = number
