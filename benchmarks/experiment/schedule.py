"""Runs in processes of their own: what one row does to its process reaches no other row.

Each run is tried (see `trial`), then trained, in a process that ends with it. A row that exits,
crashes, is killed, or changes the process's state fails or succeeds alone.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.experiment import code, hardware, progress, server
from benchmarks.experiment.engine import Died, Engine, outcome_of
from benchmarks.experiment.execute import (
    acquire,
    describe,
    execute,
    find_run,
    lock_of,
    locked,
    store_failure,
)
from benchmarks.experiment.fabric import is_first_process, make_fabric, new_group
from benchmarks.experiment.group import LostProcessError
from benchmarks.experiment.logs import logs_of
from benchmarks.experiment.plan import Run
from benchmarks.experiment.store import StoredRun
from benchmarks.experiment.trial import Trial, fitting_sizes, try_run
from benchmarks.experiment.view import View
from benchmarks.files import set_aside
from benchmarks.stopping import Stopped, deferred, stoppable

GRACE_SECONDS = 15.0  # for a process that cannot go on
STOP_SECONDS = 60.0  # for a step and its checkpoint, all at once; then the one before has to do
TRIALS = 8  # at a time at most
POLL_SECONDS = 1.0  # between looks at what runs here, and in other commands


# --- processes -----------------------------------------------------------------------------------


class _Process(NamedTuple):
    process: BaseProcess
    pipe: Connection


@dataclass
class _Call:
    """A call's processes, several for a group, and what those have given that have ended."""

    processes: list[_Process]
    gpus: list[str]
    store: object  # through which the processes of a group find each other; kept alive here
    outcomes: dict[int, Any] = field(default_factory=dict)  # by rank
    deadline: float | None = None  # when those are killed that one has let down

    @property
    def running(self) -> dict[int, _Process]:
        """The processes that have not ended, by rank."""
        return {n: p for n, p in enumerate(self.processes) if n not in self.outcomes}

    def end_what_one_let_down(self) -> None:
        """End the other processes of a group once one has failed: in order, then at once."""
        if self.deadline is None and any(map(_severity, self.outcomes.values())):
            self.deadline = time.monotonic() + GRACE_SECONDS
            for process, _ in self.running.values():
                process.terminate()
        elif self.deadline is not None and time.monotonic() >= self.deadline:
            for process, _ in self.running.values():
                process.kill()

    @property
    def outcome(self) -> Any:
        """What the first process has given, or, of several failures, the one that led to others."""
        rank = max(self.outcomes, key=lambda rank: (_severity(self.outcomes[rank]), -rank))
        found = self.outcomes[rank]
        if isinstance(found, Died) and len(self.processes) > 1:
            return found._replace(whose=f"process {rank} of {len(self.processes)}")
        return found


def _severity(outcome: Any) -> int:
    """How surely an outcome of a group's process is the cause of the others': 0 for none."""
    if isinstance(outcome, StoredRun):
        return 0 if outcome.done else 5
    if isinstance(outcome, Died):
        return 2 if outcome.is_stopped else 4
    if isinstance(outcome, LostProcessError):
        return 1
    return 3 if isinstance(outcome, Exception) else 0


class Pool(Engine):
    """Calls in processes of their own, `size` at a time, each with so many threads (None: all).

    On a machine with several GPUs, a call sees the one that has the fewest calls; a group of
    processes, one GPU for each. What still runs at its end is asked to stop, and killed if it takes
    too long.
    """

    def __init__(
        self, size: int, threads: int | None, device: str, view: View | None = None
    ) -> None:
        super().__init__(size, view)
        self.threads = threads or torch.get_num_threads()
        self._context = server.context(device)
        self._gpus = hardware.gpus() if device == "cuda" else []
        self._running: dict[str, _Call] = {}

    @property
    def is_full(self) -> bool:
        """Whether no further call can start."""
        return len(self._running) >= self.size

    @property
    def is_idle(self) -> bool:
        """Whether no call is running."""
        return not self._running

    def start(
        self,
        call: Callable[..., Any],
        run: Run,
        *args: Any,
        began: Callable[[str], None] = lambda where: None,
    ) -> None:
        """Start a call; it begins at once.

        A run of several processes is executed in as many, which share each batch: the first one's
        result counts, and one that fails ends the others.
        """
        began("")
        size = run.processes if call is execute else 1
        payload = pickle.dumps((call, (run, *args)))
        gpus = self._free_gpus(size)
        shown = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        store, members = (None, [{}]) if size == 1 else new_group(size)
        with deferred():  # a process that runs is one that `stop` knows of
            started = _Call([], gpus, store)
            self._running[run.folder] = started
            for member in members:
                receiver, sender = self._context.Pipe(duplex=False)
                own = code.belongs_to_user(run.code)
                process = self._context.Process(
                    target=_call, args=(payload, own, self.threads, sender, shown | member)
                )
                process.start()
                sender.close()  # the process has its own end; when that closes, the pipe ends
                started.processes.append(_Process(process, receiver))

    def _free_gpus(self, size: int) -> list[str]:
        """The GPUs with the fewest calls, in the machine's order where these are equal."""
        taken = [gpu for call in self._running.values() for gpu in call.gpus]
        return sorted(self._gpus, key=taken.count)[:size]

    def sharing(self, processes: int) -> str:
        """What to say of so many processes at a time, if there are fewer GPUs; else nothing."""
        if not self._gpus or processes <= len(self._gpus):
            return ""
        gpus = f"{len(self._gpus)} GPU{'s' * (len(self._gpus) > 1)}"
        return f"--jobs {self.size}: {processes} processes at a time share {gpus} in turn"

    def outcomes(self) -> dict[str, Any]:
        """What calls that have ended gave.

        A process may have left others behind, which keep its pipe open: that it is alive itself is
        what counts.
        """
        if not self._running:
            time.sleep(POLL_SECONDS)
            return {}
        running = [end for call in self._running.values() for end in call.running.values()]
        wait([end for process, pipe in running for end in (pipe, process.sentinel)], POLL_SECONDS)
        ended: dict[str, Any] = {}
        for name, call in list(self._running.items()):
            for rank, (process, pipe) in call.running.items():
                alive = process.is_alive()  # before a look at the pipe: a result may come between
                has_ended, outcome = self._read(name, pipe)
                if alive and not has_ended:
                    continue
                process.join()
                pipe.close()
                if outcome is None:  # of one that another has let down: it is not the cause
                    let_down = call.deadline is not None
                    outcome = Died(-signal.SIGTERM if let_down else process.exitcode or 0)
                call.outcomes[rank] = outcome
            call.end_what_one_let_down()
            if not call.running:
                del self._running[name]
                ended[name] = call.outcome
        return ended

    def _read(self, name: str, pipe: Connection) -> tuple[bool, Any]:
        """Show what a process says; whether its pipe has ended, and with which outcome, if any."""
        try:
            while pipe.poll():
                with deferred():  # a part that is read would spoil what follows
                    found = pipe.recv()
                if not isinstance(found, progress.Message):
                    return True, found
                self.view.receive(name, found)
        except EOFError:
            return True, None
        return False, None

    def stop(self) -> None:
        """End all processes: in order within the grace, then at once.

        Of a group the first is asked, which has the others stop after the same step.
        """
        calls = self._running.items()
        processes = [end.process for _, call in calls for end in call.running.values()]
        deadline = time.monotonic() + STOP_SECONDS
        try:
            for _, call in calls:
                for end in list(call.running.values())[:1]:
                    end.process.terminate()
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))
        finally:  # also when another signal comes
            for process in processes:
                process.kill()
                process.join()
            for name, call in calls:  # such as that a checkpoint was written
                for end in call.running.values():
                    self._read(name, end.pipe)
                    end.pipe.close()
            self._running.clear()


def _call(
    payload: bytes,
    carried: code.Code,
    threads: int,
    pipe: Connection,
    environment: Mapping[str, str],
) -> None:
    """What a process does: the call, whose result or exception goes into the pipe."""
    os.environ.update(environment)  # before CUDA looks for its GPUs
    threading.Thread(target=_end_with_parent, daemon=True).start()
    hardware.keep_freed_memory()
    torch.set_num_threads(threads)
    progress.deliver_through(pipe)
    try:
        with stoppable():
            pipe.send(outcome_of(payload, carried))
        status = 0
    except Stopped as stopped:
        status = stopped.status
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # whatever threads and exit handlers a row has left behind


def _end_with_parent() -> None:
    """A killed command must not leave processes that train on and hold its runs' locks."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        _end_this_process()


def _end_without(launcher: int) -> None:
    """Nor must a killed torchrun, whose process has this number."""
    while os.getppid() == launcher:
        time.sleep(POLL_SECONDS)
    _end_this_process()


def _end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


# --- runs ----------------------------------------------------------------------------------------


def call_for_rows(
    runs: Sequence[Run], pool: Engine, call: Callable[[Run], Any]
) -> list[tuple[list[Run], Any]]:
    """Call with one run of each row: the row's runs, whatever their seeds, and the outcome.

    An outcome is the call's result, its exception, or `Died`.
    """
    rows: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        rows.setdefault((run.panel, run.row.label), []).append(run)
    waiting = [of[0] for of in rows.values()]
    results: dict[str, Any] = {}
    while waiting or not pool.is_idle:
        while waiting and not pool.is_full:
            run = waiting.pop(0)
            pool.start(call, run)
        results |= pool.outcomes()
    return [(of, results[of[0].folder]) for of in rows.values()]


def call_on_cpu(runs: Sequence[Run], call: Callable[[Run], Any]) -> dict[str, Any]:
    """Outcomes of a call with one run of each row that needs no GPU, by the folders of all runs."""
    with pool_for_trials("cpu") as pool:
        rows = call_for_rows(runs, pool, call)
    return {run.folder: outcome for of_row, outcome in rows for run in of_row}


def try_all(
    runs: Sequence[Run], pool: Engine, call: Callable[[Run], Trial] = try_run
) -> dict[str, Trial | Died]:
    """Try each row once, whatever its seeds: results by the runs' folders.

    Raises ValueError with a line for each row that cannot work.
    """
    rows = call_for_rows(runs, pool, call)
    outcomes = [outcome for _, outcome in rows]
    errors = [str(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
    if errors := list(dict.fromkeys(errors)):
        several = len(errors) > 1
        if sizes := fitting_sizes(runs):
            errors.append(f"frames that fit all rows: {sizes}, for data of your own")
        raise ValueError("\n  ".join(["some rows cannot work:"] * several + errors))
    for outcome in outcomes:
        if isinstance(outcome, Trial) and outcome.warning:
            pool.view.say(f"warning: {outcome.warning}")
    for line in _unsized([of[0] for of, _ in rows], outcomes):
        pool.view.say(line)
    return {run.folder: outcome for of, outcome in rows for run in of}


def _unsized(runs: Sequence[Run], outcomes: Sequence[Trial | Died]) -> Iterator[str]:
    """How large rows without a size at a small scale are beside the largest of the others."""
    pairs = zip(runs, outcomes, strict=True)
    tried = [(run, size) for run, size in pairs if run.is_small and isinstance(size, Trial)]
    sized = [size for run, size in tried if run.scale in run.row.sizes]
    for run, size in tried:
        if sized and size.parameters and run.scale not in run.row.sizes:
            yield (
                f"row {run.row.label!r} has no sizes at scale {run.scale!r}: it has "
                f"{size.parameters / 1e6:.2f} M parameters and {size.macs / 1e9:.3f} GMACs, the "
                f"others at most {max(of.parameters for of in sized) / 1e6:.2f} M and "
                f"{max(of.macs for of in sized) / 1e9:.3f} GMACs"
            )


def execute_all(
    runs: Sequence[Run],
    folder: Path,
    *,
    jobs: int | None,
    threads: int | None = None,
    resume: bool = True,
    checkpoint_seconds: float | None = None,
    log: Sequence[str] = (),
    view: View | None = None,
    engine: Engine | None = None,
) -> list[StoredRun]:
    """Run all to completion, several in parallel if that pays; results in the runs' order.

    `jobs` in parallel (None: what pays), with `threads` threads each (None: their share of the
    cores), or on an `engine` that knows how many; each is shown in the `view`, which is the
    engine's own too, and written to the loggers of `log` (see `logs`). Runs that another command
    has in work are left to it, and waited for at the end. Raises ValueError for rows that cannot
    work, before anything trains.
    """
    view = view or View(len(runs))
    folder = folder.absolute()  # a row may change its process's folder
    if not resume:
        _set_all_aside(runs, folder)
    done: dict[str, StoredRun] = {}
    for run in runs:
        if (stored := look_up(run, folder)) is not None and stored.is_final:
            done[run.folder] = stored
            if log:
                view.say_of(run, "is stored already, so nothing is logged of it")
    # Two panels may ask for the same training, which is one run.
    todo = list({run.folder: run for run in runs if run.folder not in done}.values())
    if engine is None:
        cores = torch.get_num_threads()
        size = jobs or (max(1, cores // threads) if threads else _default_jobs(runs[0]))
        if runs[0].training.minutes is not None:  # a row alone has the time it has beside others
            threads = threads or max(1, cores // (size * runs[0].processes))
        size = max(1, min(size, len(todo)))
        processes = size * runs[0].processes
        engine = Pool(size, threads or max(1, cores // processes), runs[0].device, view)
        if line := engine.sharing(processes):
            view.say(line)
    view.jobs, view.done = engine.size, len(runs) - len(todo)
    if log:
        _say_where(folder, log, view)
    with view, engine as pool:
        trials = try_all(todo, pool)
        counted: dict[str, Trial] = {}
        for run in todo:
            trial = trials[run.folder]
            if isinstance(trial, Died):
                done[run.folder] = _failed(run, folder, trial.reason)
                view.ends(run, done[run.folder])
            else:
                counted[run.folder] = trial
        waiting = [run for run in todo if run.folder in counted]
        waiting.sort(key=lambda run: -(counted[run.folder].training_macs or 0))  # short ones last
        view.trials = counted
        done |= _train_all(waiting, counted, folder, pool, (checkpoint_seconds, log))
    return [done[run.folder] for run in runs]


def _train_all(
    waiting: list[Run],
    counted: Mapping[str, Trial],
    folder: Path,
    pool: Engine,
    how: tuple[float | None, Sequence[str]],
) -> dict[str, StoredRun]:
    done: dict[str, StoredRun] = {}
    training: dict[str, Run] = {}
    elsewhere: set[str] = set()  # in work in another command
    view = pool.view

    def starts(run: Run, where: str) -> None:
        view.starts(run, view.total - len(waiting) - len(pool.queued), where)

    while waiting or not pool.is_idle:
        for run in list(waiting):
            if pool.is_full:
                break
            if _is_locked(folder, run):
                if run.folder not in elsewhere:
                    view.say_of(run, "another command is working on it; waiting for its result")
                    elsewhere.add(run.folder)
                continue
            waiting.remove(run)
            training[run.folder] = run
            pool.start(execute, run, folder, *how, counted[run.folder], began=partial(starts, run))
        view.waiting = [*pool.queued, *waiting]
        for name, outcome in pool.outcomes().items():
            run = training[name]
            if isinstance(outcome, BlockingIOError):
                waiting.append(run)  # another command was faster
                view.ends(run, None)
            elif isinstance(outcome, StoredRun):
                done[name] = outcome
                view.ends(run, outcome)
            else:
                reason = outcome.reason if isinstance(outcome, Died) else str(outcome)
                done[name] = _failed(run, folder, reason)
                view.ends(run, done[name])
        view.draw()
    return done


def execute_here(
    runs: Sequence[Run],
    folder: Path,
    *,
    resume: bool,
    checkpoint_seconds: float | None,
    log: Sequence[str] = (),
    view: View | None = None,
) -> list[StoredRun]:
    """Run all to completion in this process, one of a group that torchrun started."""
    if not resume:
        raise ValueError("--fresh does not work under torchrun; move the stored runs away by hand")
    fabric = make_fabric(runs[0].device, runs[0].training.precision)  # takes its own GPU
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
    folder = folder.absolute()  # a row may change its process's folder
    first = is_first_process()
    view = view or View(len(runs), quiet=not first)
    if log and first:
        _say_where(folder, log, view)
    rows = {(run.panel, run.row.label): run for run in runs}
    tried = {row: try_run(run) for row, run in rows.items()}
    view.trials = {run.folder: tried[run.panel, run.row.label] for run in runs}
    done: dict[str, StoredRun] = {}
    waiting, busy = list(runs), 0  # busy: runs in a row that another command has in work
    with view:
        while waiting:
            run = waiting.pop(0)
            stored = fabric.broadcast(look_up(run, folder) if first else None)
            if stored is None or not stored.is_final:
                if fabric.broadcast(_is_locked(folder, run) if first else None):
                    waiting.append(run)
                    busy += 1
                    if busy == len(waiting):
                        view.say_of(run, "another command is working on it; waiting for its result")
                    if busy >= len(waiting):
                        time.sleep(POLL_SECONDS)
                    continue
                view.starts(run, len(done) + 1)
                progress.deliver_to(partial(view.receive, run.folder))
                stored = execute(run, folder, checkpoint_seconds, log, view.trials[run.folder])
                view.ends(run, stored)
                if not stored.done:  # the others wait for this process
                    raise ChildProcessError(f"{run.row.label}: {stored.record['reason']}")
            elif log:
                view.say_of(run, "is stored already, so nothing is logged of it")
            done[run.folder] = stored
            busy = 0
    progress.deliver_to(None)
    return [done[run.folder] for run in runs]


def look_up(run: Run, folder: Path) -> StoredRun | None:
    """The stored result of a run, if any; one that is damaged is told and marked unusable."""
    try:
        return find_run(run, folder)
    except ValueError as error:
        View().say_of(run, str(error), is_error=True)
        record = {**describe(run), "status": "unusable", "reason": str(error)}
        return StoredRun(folder / run.folder, record)


def _failed(run: Run, folder: Path, reason: str) -> StoredRun:
    return store_failure(folder, describe(run), reason)


def _set_all_aside(runs: Sequence[Run], folder: Path) -> None:
    """Move the folders of all runs aside; raises BlockingIOError, before any, if one is in work."""
    for run in runs:
        with locked(folder, run):
            pass
    for run in runs:
        with locked(folder, run):
            set_aside(folder / run.folder, "replaced")
            set_aside(logs_of(folder) / run.folder, "replaced")


def _is_locked(folder: Path, run: Run) -> bool:
    lock = lock_of(folder, run)
    if acquire(lock):
        lock.release()
        return False
    return True


def pool_for_trials(device: str) -> Pool:
    """A pool to try or count rows in: several at a time on a CPU, one by one on a GPU's memory."""
    cores = torch.get_num_threads()
    size = min(cores, TRIALS) if device == "cpu" else 1
    return Pool(size, cores // size, device)


def _default_jobs(run: Run) -> int:
    """Each GPU takes a row; small models leave most of several cores idle, so each core takes one.

    Where each batch is shared, so many GPUs or cores do.
    """
    if run.timed:
        return 1
    if run.device == "cuda":
        return len(hardware.gpus()) // run.processes
    small = run.is_small and run.device == "cpu"
    return torch.get_num_threads() // run.processes if small else 1


def _say_where(folder: Path, log: Sequence[str], view: View) -> None:
    logs_of(folder).mkdir(parents=True, exist_ok=True)  # an error now, not once rows train
    view.say(f"{' and '.join(log)}: logs go to {logs_of(folder)}")
