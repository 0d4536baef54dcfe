"""What a training says of itself while it runs, and where that goes.

A process of a `Pool` sends it to the command (see `view`); elsewhere it is printed as plain lines.
"""

from __future__ import annotations

import logging
import math
import select
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NamedTuple, TextIO

from benchmarks.names import printable
from benchmarks.stopping import deferred

LONGEST = 1000  # letters of a message: a pipe takes one of less than 4 KB whole or not at all
OFTEN = 0.5  # seconds between two messages on steps
LINE_SECONDS = 20.0  # between two lines on steps


class Step(NamedTuple):
    """How far a training is; the first one tells where it began or continues."""

    step: int
    steps: int
    loss: float
    lr: float


class Epoch(NamedTuple):
    """A point of the learning curve, in words."""

    text: str


class Said(NamedTuple):
    """A line on a training."""

    text: str


class Warned(NamedTuple):
    """What a library says, of whatever row; `is_error` if a quiet command says it too."""

    text: str
    is_error: bool = False


Message = Step | Epoch | Said | Warned


def print_line(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)


class Lines:
    """Prints what is said of one training as plain lines: of its steps one every 20 s."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._first: Step | None = None
        self._start = self._printed = 0.0

    def __call__(self, message: Message) -> None:
        """Print a message, or leave it out."""
        if isinstance(message, Warned):
            print_line(message.text)
        elif not isinstance(message, Step):
            print_line(f"{self.label}: {message.text}")
        elif self._first is None:
            self._first, self._start = message, time.perf_counter()
            self._printed = self._start
        elif (now := time.perf_counter()) - self._printed >= LINE_SECONDS:
            self._printed = now
            step, steps, loss, lr = message
            left = (now - self._start) / max(1, step - self._first.step) * (steps - step)
            print_line(
                f"{self.label}: step {step}/{steps} loss {loss:.5f} lr {lr:.2g} {left:.0f} s left"
            )


_receiver: Callable[[Message], None] | None = None  # of all that this process says


def deliver_to(receiver: Callable[[Message], None] | None) -> None:
    """Give what is said in this process to `receiver`; None: print it as plain lines."""
    global _receiver
    _receiver = receiver


def tell(message: Message) -> None:
    """Say something in this process."""
    (_receiver or Lines(""))(message)


def deliver_through(pipe: Connection) -> None:
    """Send what is said in this process through a pipe; see `deliver_all_to`.

    No message waits for its reader: one that finds the pipe full, or closed, is dropped.
    """

    def send(message: Message) -> None:
        with deferred(), suppress(OSError):  # a part of a message would spoil all that follow
            if _has_room(pipe):
                pipe.send(message)

    deliver_all_to(send)


def deliver_all_to(send: Callable[[Message], None]) -> None:
    """Give what is said in this process to `send`, warnings and logs of libraries too."""

    def warn(text: str) -> None:
        text = printable(text)[:LONGEST]
        if threading.current_thread() is threading.main_thread():
            send(Warned(text))
        else:  # two threads must not write into the pipe at a time
            print_line(text)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        warn(f"{filename}:{lineno}: {category.__name__}: {message}")

    class Unhandled(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warn(self.format(record))

    deliver_to(send)
    warnings.showwarning = show
    logging.lastResort = Unhandled(logging.WARNING)


def _has_room(pipe: Connection) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    return bool(poll.poll(0))


class Progress:
    """Tells step, loss, learning rate and epochs of one training, from where it begins."""

    def __init__(self, label: str, steps: int, done: int, enabled: bool = True) -> None:
        self.steps = steps
        self._tell = (_receiver or Lines(label)) if enabled else lambda message: None
        self._told = time.perf_counter()
        self._tell(Step(done, steps, math.nan, math.nan))
        if done:
            self.say(f"continued at step {done} of {steps}")

    def update(self, step: int, loss: float, lr: float) -> None:
        """Tell that `step` steps are done."""
        now = time.perf_counter()
        if now - self._told >= OFTEN or step == self.steps:
            self._told = now
            self._tell(Step(step, self.steps, loss, lr))

    def epoch(self, point: dict[str, float]) -> None:
        """Tell an epoch's point of the learning curve."""
        self._tell(
            Epoch(
                f"epoch {point['epoch']:.0f} train loss {point['train_loss']:.5f} "
                f"validation MSE {point['val_mse']:.2f} after {point['seconds']:.0f} s"
            )
        )

    def say(self, text: str) -> None:
        """Tell a line."""
        self._tell(Said(text[:LONGEST]))
