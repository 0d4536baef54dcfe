"""What runs calls somewhere else: in processes of this machine, or on a cluster."""

from __future__ import annotations

import pickle
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.experiment import code
from benchmarks.experiment.plan import Run
from benchmarks.experiment.view import View
from benchmarks.names import printable
from benchmarks.stopping import SIGNALS, Stopped

STOPPED = {code: number for number in SIGNALS for code in (-number, 128 + number)}


class Died(NamedTuple):
    """How a process ended that gave no result."""

    exit_code: int  # negative for a signal
    whose: str = "the process"
    said: str = ""  # why, if something tells

    @property
    def is_stopped(self) -> bool:
        """Whether a signal asked it to end."""
        return self.exit_code in STOPPED

    @property
    def reason(self) -> str:
        """The same in words."""
        if self.said:
            return self.said
        if self.is_stopped:
            name = signal.Signals(STOPPED[self.exit_code]).name
            return f"{self.whose} was stopped by {name}; the same command continues"
        if self.exit_code >= 0:
            return f"{self.whose} ended with exit status {self.exit_code} and without a result"
        name = signal.Signals(-self.exit_code).name
        if name == "SIGKILL":
            return (
                f"{self.whose} was killed (SIGKILL; out of memory?); its checkpoint stays, the "
                "same command continues, with --jobs 1 in less memory"
            )
        return f"{self.whose} crashed with {name}"


class Engine(ABC):
    """Calls elsewhere, `size` at a time; what they say meanwhile is shown in the `view`.

    Use as a context manager: what still runs at its end is asked to stop.
    """

    def __init__(self, size: int, view: View | None = None) -> None:
        self.size, self.view = size, view or View()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_full(self) -> bool:
        """Whether no further call can start."""
        return False

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether there is no call without an outcome."""

    @property
    def queued(self) -> Sequence[Run]:
        """Runs whose calls were started, but have not begun."""
        return ()

    @abstractmethod
    def start(
        self,
        call: Callable[..., Any],
        run: Run,
        *args: Any,
        began: Callable[[str], None] = lambda where: None,
    ) -> None:
        """Start `call(run, *args)`, of what can be pickled; `began` is told when, and where."""

    @abstractmethod
    def outcomes(self) -> dict[str, Any]:
        """Calls that have ended, by their runs' folders: each one's result, exception, or `Died`.

        Waits for one, a second at most.
        """

    @abstractmethod
    def stop(self) -> None:
        """End all calls: in order if they can, then at once."""


def outcome_of(payload: bytes, carried: code.Code, *more: Any) -> Any:
    """The result of a pickled call and its arguments, or its exception, in the call's process.

    It gets `more` arguments behind its own. The user's modules that it needs are `carried` along.
    Raises Stopped and SystemExit.
    """
    try:
        code.install(carried)
        call, args = pickle.loads(payload)
        return call(*args, *more)
    except (ValueError, OSError) as error:
        return error
    except (Stopped, SystemExit):
        raise
    except BaseException as error:  # of any class, which the command need not know
        return RuntimeError(printable(f"{type(error).__name__}: {error}"))
