"""How a command ends: in one line that says what to do, and with the status that shells expect."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NoReturn

from benchmarks.names import printable
from benchmarks.stopping import SIGNALS, Stopped, stoppable

PACKAGES = (
    *("torch", "lightning_fabric", "numpy", "pandas", "skimage", "scipy", "matplotlib", "fvcore"),
    *("mlxtend", "h5py", "PIL", "pooch", "requests", "filelock", "tqdm", "urllib3"),
)
EXPECTED = (ValueError, OSError, ModuleNotFoundError)  # their text says what to do


def run_command(run: Callable[[], int], *, stopped: str | None, unexpected: str) -> int:
    """Call `run` and return the exit status of the command.

    That is the call's own; 2, after a line for what went wrong, where it raises; 128 + n where
    signal n stops it, after a line that ends with `stopped` (None: without one). `unexpected` ends
    the line of an error that nobody foresaw; `python -X dev` shows its traceback. A terminal that
    lacks a letter is given its code.
    """
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with stoppable():
            status = _status(run, unexpected)
            sys.stdout.flush()
            return status
    except (Stopped, KeyboardInterrupt) as interrupt:  # the latter outside of the main thread
        signalled = interrupt if isinstance(interrupt, Stopped) else Stopped(signal.SIGINT)
        with suppress(OSError):  # a terminal that hung up
            if stopped is None:
                return signalled.status
            print(f"stopped by {signalled}; {stopped}", file=sys.stderr)
        return signalled.status
    except OSError as error:  # of standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is unwritten
        if isinstance(error, BrokenPipeError):  # its reader has seen enough
            return 128 + getattr(signal, "SIGPIPE", 13)
        return print_error(f"standard output cannot be written: {error.strerror}")


def end_process(status: int, *, at_once: bool = False) -> NoReturn:
    """Exit; no signal disturbs what Python does at its end.

    `at_once` leaves that out, which might wait for another process that has gone.
    """
    if at_once:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


def refuse_hidden_packages() -> None:
    """End the process if a file of the working folder hides a package that the project needs.

    Python looks there first for `python -m`; numpy.py would be imported instead of NumPy, and the
    error would name neither.
    """
    first, rest = sys.path[0], sys.path[1:]
    if first in ("", *rest) or Path(first) != Path.cwd():
        return
    for name in PACKAGES:
        found = PathFinder.find_spec(name, [first])
        if found is not None and found.origin is not None:
            what = f"{found.origin} hides the package {name!r}, which the project needs"
            sys.exit(print_error(f"{what}: rename it, or run the command in another folder"))


def open_closed_streams() -> None:
    """Give a closed standard stream the null device.

    Else the next file that is opened takes its number, and what is printed goes into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
            os.set_inheritable(number, True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def _status(run: Callable[[], int], unexpected: str) -> int:
    try:
        return run()
    except BrokenPipeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:
            if error.errno == errno.ENOSPC:
                print()  # what could not be written is not kept
            sys.stdout.flush()  # raises the same again, if it is its own
        if sys.flags.dev_mode and not isinstance(error, EXPECTED):
            raise
        return print_error(explain(error, unexpected))


def explain(error: Exception, unexpected: str) -> str:
    """What to say of an error; `unexpected` ends the line of one that nobody foresaw."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return text + "; make it readable and writable" * isinstance(error, PermissionError)
    if isinstance(error, EXPECTED):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; end other programs, or use a machine with more memory"
    said = printable(f"{type(error).__name__}: {error}")
    return f"{said}; {unexpected}, or run it with `python -X dev`"


def print_error(text: str) -> int:
    """Print an error; returns the status of bad input."""
    print(f"error: {text}", file=sys.stderr)
    return 2
