"""All runs of a command in one view: a line on a terminal, plain lines in a log."""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from tqdm import tqdm

from benchmarks.experiment.plan import Run
from benchmarks.experiment.progress import Epoch, Lines, Message, Step, Warned, print_line
from benchmarks.experiment.store import StoredRun
from benchmarks.experiment.trial import Trial
from benchmarks.metrics import Column, Cost, ToTarget

REDRAW_SECONDS = 0.25

tqdm.monitor_interval = 0  # no thread of tqdm's own


@dataclass
class _InWork:
    run: Run
    lines: Lines
    since: float = field(default_factory=time.perf_counter)
    first: Step | None = None
    last: Step | None = None

    def receive(self, step: Step) -> None:
        """Take a step; time counts from the first."""
        if self.first is None:
            self.first, self.since = step, time.perf_counter()
        self.last = step

    @property
    def share(self) -> float:
        """The share of the training that it has done since `since`."""
        if self.first is None or self.last is None:
            return 0.0
        return (self.last.step - self.first.step) / self.last.steps

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the last step; None if no step was timed."""
        if not self.share or self.last is None:
            return None
        rest = 1 - self.last.step / self.last.steps
        return (time.perf_counter() - self.since) / self.share * rest


class View:
    """Shows on standard error what a command's runs say; use as a context manager.

    On a terminal one line for all: runs done, time left for the whole table, the rows in work.
    Otherwise plain lines. A run that ends has a line with its numbers, those of its panel's
    `columns`. `quiet` shows errors alone.
    """

    def __init__(
        self,
        total: int = 0,
        columns: Mapping[str, Sequence[Column]] | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        self.total, self.columns, self.quiet = total, columns or {}, quiet
        self.done = 0  # runs that ended
        self.jobs = 1  # runs in parallel
        self.trials: Mapping[str, Trial] = {}
        self.waiting: list[Run] = []
        self._in_work: dict[str, _InWork] = {}
        self._measured = [0.0, 0.0]  # MACs and seconds of the runs that ended
        self._warnings: set[str] = set()
        self._shown: tqdm | None = None
        self._drawn = 0.0

    def __enter__(self) -> View:
        if self.total and not self.quiet and sys.stderr.isatty():
            layout = "{desc} |{bar:12}| {percentage:.0f}%{postfix}"
            self._shown = tqdm(
                desc="rows are tried", total=1.0, bar_format=layout, dynamic_ncols=True, leave=False
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown is not None:
            self._shown.close()

    def say(self, text: str, *, is_error: bool = False) -> None:
        """Print a line, above the view's own."""
        if is_error or not self.quiet:
            self._print(text)

    def say_of(self, run: Run, text: str, *, is_error: bool = False) -> None:
        """Print a line on a run."""
        self.say(f"{_name(run)}: {text}", is_error=is_error)

    def receive(self, name: str, message: Message) -> None:
        """Show what a run's process says; `name` is the run's folder."""
        if isinstance(message, Warned):
            if message.text not in self._warnings:
                self._warnings.add(message.text)
                self.say(message.text, is_error=message.is_error)
            return
        found = self._in_work.get(name)
        if found is None or self.quiet:
            return
        if isinstance(message, Step):
            found.receive(message)
        if self._shown is None:
            found.lines(message)
        elif not isinstance(message, Step | Epoch):
            self.say(f"{found.lines.label}: {message.text}")
        self.draw()

    def starts(self, run: Run, count: int, where: str = "") -> None:
        """Show that a run starts, the `count`-th of all, and where if that is elsewhere."""
        self._in_work[run.folder] = _InWork(run, Lines(run.row.label))
        if self._shown is None:
            self.say_of(run, f"starts ({count} of {self.total})" + f" on {where}" * bool(where))

    def ends(self, run: Run, stored: StoredRun | None) -> None:
        """Show the numbers of a run that ended, or why it failed; None: another command has it."""
        found = self._in_work.pop(run.folder, None)
        if stored is None:
            return
        self.done += 1
        if found is not None and found.share:
            self._measured[0] += (self.trials[run.folder].training_macs or 0) * found.share
            self._measured[1] += time.perf_counter() - found.since
        if stored.done and not self.quiet:
            self.say_of(run, self._numbers(run, stored))
        elif not stored.done:
            self.say_of(run, f"failed: {stored.record['reason']}", is_error=True)

    def draw(self) -> None:
        """Draw the line on a terminal, a few times a second at most."""
        now = time.perf_counter()
        if self._shown is None or now - self._drawn < REDRAW_SECONDS:
            return
        left = self.seconds_left()
        shares = sum(x.last.step / x.last.steps for x in self._in_work.values() if x.last)
        self._shown.n = min(1.0, (self.done + shares) / self.total)
        rows = "; ".join(_in_words(found) for found in self._in_work.values())
        self._shown.set_description_str(f"{self.done} of {self.total} done", refresh=False)
        self._shown.postfix = rows if left is None else f"{duration(left)} left | {rows}"
        self._shown.refresh()
        self._drawn = now

    def seconds_left(self) -> float | None:
        """Seconds until all runs are done, by steps and MACs so far; None if nothing tells."""
        ends: list[float] = []
        pace = self._seconds_per_mac()
        for found in self._in_work.values():
            seconds = found.seconds_left
            seconds = self._expected(found.run, pace) if seconds is None else seconds
            if seconds is None:
                return None
            ends.append(seconds)
        heapq.heapify(ends)
        for run in self.waiting:
            seconds = self._expected(run, pace)
            if seconds is None:
                return None
            begin = heapq.heappop(ends) if len(ends) >= self.jobs else 0.0
            heapq.heappush(ends, begin + seconds)
        return max(ends, default=0.0)

    def _expected(self, run: Run, pace: float | None) -> float | None:
        """Seconds that a run takes which has not begun to train, at so many seconds per MAC."""
        trial = self.trials[run.folder]
        if not trial.parameters:
            return 0.0
        if run.training.minutes is not None:
            return 60 * run.training.minutes
        return None if pace is None or trial.training_macs is None else trial.training_macs * pace

    def _seconds_per_mac(self) -> float | None:
        """The pace so far; None if no step was timed."""
        macs, seconds = self._measured
        for found in self._in_work.values():
            if found.share:
                macs += (self.trials[found.run.folder].training_macs or 0) * found.share
                seconds += time.perf_counter() - found.since
        return seconds / macs if macs else None

    def _numbers(self, run: Run, stored: StoredRun) -> str:
        parts: list[str] = []
        for column in self.columns.get(run.panel, ()):
            of = stored.record["cost"] if isinstance(column, Cost) else stored.means
            if not isinstance(column, ToTarget) and (value := of.get(column.name)) is not None:
                number = f"{column.factor * value:.{column.digits}f}"
                parts.append(f"{column.heading} {number} {column.unit}".rstrip())
        minutes = stored.record["seconds"]["train"] / 60
        return ", ".join([*parts, f"{minutes:.1f} minutes of training"])

    def _print(self, text: str) -> None:
        if self._shown is None:
            print_line(text)
        else:
            tqdm.write(text, file=sys.stderr)


def duration(seconds: float) -> str:
    """Seconds in the two largest units.

    Examples:
        >>> duration(48), duration(61), duration(7300), duration(200_000)
        ('48 s', '1 min 1 s', '2 h 1 min', '2 d 7 h')
    """
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    rest, parts = round(seconds), list[str]()
    for unit, size in units:
        if rest >= size or (size == 1 and not parts):
            parts.append(f"{rest // size} {unit}")
            rest %= size
        elif parts:
            break
    return " ".join(parts[:2])


def _name(run: Run) -> str:
    return f"{run.row.label} on {run.panel}, seed {run.seed}"


def _in_words(found: _InWork) -> str:
    label = found.run.row.label + f" seed {found.run.seed}" * bool(found.run.seed)
    if found.last is None:
        return f"{label} begins"
    step, steps, loss, _ = found.last
    if step == steps:
        return f"{label} is tested"
    return f"{label} {step}/{steps}" + f" loss {loss:.4f}" * (loss == loss)
