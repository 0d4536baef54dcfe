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
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.data import Dataset
from benchmarks.experiment import code, server
from benchmarks.experiment import hardware as heap
from benchmarks.experiment.execute import (
    describe,
    execute,
    find_run,
    lock_of,
    locked,
    store_failure,
)
from benchmarks.experiment.spec import Run, Suite
from benchmarks.experiment.store import StoredRun
from benchmarks.experiment.trial import Trial, fitting_sizes, try_run
from benchmarks.files import set_aside
from benchmarks.names import printable
from benchmarks.stopping import Stopped, deferred, stoppable

GRACE_SECONDS = 15.0  # for a step and its checkpoint; then the one before has to do
POLL_SECONDS = 1.0  # between looks at what runs here, and in other commands


class Task(NamedTuple):
    """A run, with what it needs to be executed anywhere: all of it can be pickled."""

    run: Run
    suite: Suite
    dataset: Dataset


class Died(NamedTuple):
    """How a process ended that gave no result: its exit code, negative for a signal."""

    exit_code: int

    @property
    def reason(self) -> str:
        """The same in words."""
        if self.exit_code == -signal.SIGTERM or self.exit_code == 128 + signal.SIGTERM:
            return "the process was stopped by SIGTERM; the same command continues"
        if self.exit_code >= 0:
            return f"the process ended with exit status {self.exit_code} and without a result"
        name = signal.Signals(-self.exit_code).name
        if name == "SIGKILL":
            return (
                "the process was killed (SIGKILL; out of memory?); its checkpoint stays, the same "
                "command continues, with --jobs 1 in less memory"
            )
        return f"the process crashed with {name}"


# --- processes -----------------------------------------------------------------------------------


class _Process(NamedTuple):
    process: BaseProcess
    pipe: Connection


class Pool:
    """Calls in processes of their own, `size` at a time, each with so many threads (None: all).

    Use as a context manager: what still runs at its end is asked to stop, and killed if it takes
    too long.
    """

    def __init__(self, size: int, threads: int | None, device: str) -> None:
        self.size, self.threads = size, threads or torch.get_num_threads()
        self._context = server.context(device)
        self._running: dict[int, _Process] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_full(self) -> bool:
        """Whether no further call can start."""
        return len(self._running) >= self.size

    @property
    def is_idle(self) -> bool:
        """Whether no call is running."""
        return not self._running

    def start(self, number: int, run: Run, call: Callable[..., Any], *args: Any) -> None:
        """Start a call with picklable arguments; `number` identifies its outcome."""
        payload = pickle.dumps((call, args))
        with deferred():  # a process that runs is one that `stop` knows of
            receiver, sender = self._context.Pipe(duplex=False)
            process = self._context.Process(
                target=_call, args=(payload, code.belongs_to_user(run.code), self.threads, sender)
            )
            process.start()
            sender.close()  # the process has its own end; when that closes, the pipe ends
            self._running[number] = _Process(process, receiver)

    def outcomes(self) -> list[tuple[int, Any]]:
        """Calls that have ended, of each its number and its result, exception, or `Died`.

        Waits up to POLL_SECONDS for one. A process may have left others behind, which keep its
        pipe open: that it is alive itself is what counts.
        """
        running = self._running.values()
        if not running:
            time.sleep(POLL_SECONDS)
            return []
        wait([end for process, pipe in running for end in (pipe, process.sentinel)], POLL_SECONDS)
        ended = []
        for number, (process, pipe) in list(self._running.items()):
            alive = process.is_alive()  # before the pipe is looked at: a result may come between
            has_result = pipe.poll()
            if alive and not has_result:
                continue
            try:
                outcome = pipe.recv() if has_result else None
            except EOFError:
                outcome = None
            process.join()
            pipe.close()
            del self._running[number]
            ended.append((number, Died(process.exitcode or 0) if outcome is None else outcome))
        return ended

    def stop(self) -> None:
        """End all processes: in order within the grace, then at once."""
        processes = [running.process for running in self._running.values()]
        deadline = time.monotonic() + GRACE_SECONDS
        try:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))
        finally:  # also when another signal comes
            for process in processes:
                process.kill()
                process.join()
            self._running.clear()


def _call(payload: bytes, carried: code.Code, threads: int, pipe: Connection) -> None:
    """What a process does: the call, whose result or exception goes into the pipe."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    heap.keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        with stoppable():
            try:
                code.install(carried)
                call, args = pickle.loads(payload)
                outcome = call(*args)
            except (ValueError, OSError) as error:
                outcome = error
            except (Stopped, SystemExit):
                raise
            except BaseException as error:  # of any class, which the command need not know
                outcome = RuntimeError(printable(f"{type(error).__name__}: {error}"))
            pipe.send(outcome)
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
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(1)


# --- runs ----------------------------------------------------------------------------------------


def try_all(
    tasks: Sequence[Task], pool: Pool, call: Callable[..., Trial] = try_run
) -> list[Trial | Died]:
    """Try each row once, whatever its seeds; results in the tasks' order.

    Raises ValueError with a line for each row that cannot work.
    """
    first: dict[int, int] = {}  # of each task, the first one of the same row
    for number, task in enumerate(tasks):
        same = (i for i in first.values() if _is_same(tasks[i], task))
        first[number] = next(same, number)
    waiting = sorted(set(first.values()))
    results: dict[int, Any] = {}
    while waiting or not pool.is_idle:
        while waiting and not pool.is_full:
            number = waiting.pop(0)
            pool.start(number, tasks[number].run, call, *_light(tasks[number]))
        results.update(pool.outcomes())
    errors = [str(result) for _, result in sorted(results.items()) if isinstance(result, Exception)]
    if errors:
        several = len(errors) > 1
        if sizes := fitting_sizes(task.run for task in tasks):
            errors.append(f"frames that fit all rows: {sizes}, for data of your own")
        raise ValueError("\n  ".join(["some rows cannot work:"] * several + errors))
    for result in results.values():
        if isinstance(result, Trial) and result.warning:
            print(f"warning: {result.warning}", file=sys.stderr)
    return [results[first[number]] for number in range(len(tasks))]


def _is_same(a: Task, b: Task) -> bool:
    return a.run.row is b.run.row and a.dataset is b.dataset


def _light(task: Task) -> Task:
    """The task with a suite of nothing but its row: other rows' classes need not travel."""
    suite = replace(task.suite, rows=(task.run.row,), beside=None, selected=(), orderings=())
    return task._replace(suite=suite)


def execute_all(
    tasks: Sequence[Task],
    runs: Path,
    *,
    jobs: int | None,
    threads: int | None = None,
    resume: bool = True,
    checkpoint_seconds: float | None = None,
) -> list[StoredRun]:
    """Run all tasks to completion, several at a time if that pays; results in the tasks' order.

    `jobs` at a time (None: what pays), with `threads` threads each (None: their share of the
    cores). Runs that another command has in work are left to it, and waited for at the end. Raises
    ValueError for rows that cannot work, before anything trains.
    """
    runs = runs.absolute()  # a row may change its process's folder
    if not resume:
        _set_all_aside(tasks, runs)
    done: dict[int, StoredRun] = {}
    for number, task in enumerate(tasks):
        if (stored := look_up(task, runs)) is not None and stored.is_final:
            done[number] = stored
    cores = torch.get_num_threads()
    size = jobs or (max(1, cores // threads) if threads else _default_jobs(tasks[0]))
    size = max(1, min(size, len(tasks) - len(done)))
    with Pool(size, threads or max(1, cores // size), tasks[0].run.device) as pool:
        todo = [number for number in range(len(tasks)) if number not in done]
        trials = dict(zip(todo, try_all([tasks[i] for i in todo], pool), strict=True))
        for number, trial in trials.items():
            if isinstance(trial, Died):
                done[number] = _failed(tasks[number], runs, trial.reason)
        waiting = [number for number in todo if number not in done]
        # the longest first, so that the last ones fill the gaps
        waiting.sort(key=lambda number: -trials[number].training_macs)  # type: ignore[union-attr]
        done |= _train_all(tasks, waiting, runs, pool, checkpoint_seconds)
    return [done[number] for number in range(len(tasks))]


def _train_all(
    tasks: Sequence[Task],
    waiting: list[int],
    runs: Path,
    pool: Pool,
    checkpoint_seconds: float | None,
) -> dict[int, StoredRun]:
    done: dict[int, StoredRun] = {}
    elsewhere: set[int] = set()  # in work in another command
    while waiting or not pool.is_idle:
        for number in list(waiting):
            if pool.is_full:
                break
            task = tasks[number]
            if _is_locked(runs, task.run):
                if number not in elsewhere:
                    _say(task, "another command is working on it; waiting for its result")
                    elsewhere.add(number)
                continue
            waiting.remove(number)
            _say(task, f"starts ({len(tasks) - len(waiting)} of {len(tasks)})")
            pool.start(number, task.run, execute, *_light(task), runs, checkpoint_seconds)
        for number, outcome in pool.outcomes():
            if isinstance(outcome, BlockingIOError):
                waiting.append(number)  # another command was faster
            elif isinstance(outcome, StoredRun):
                done[number] = outcome
                if not outcome.done:
                    _say(tasks[number], f"failed: {outcome.record['reason']}")
            else:
                reason = outcome.reason if isinstance(outcome, Died) else str(outcome)
                done[number] = _failed(tasks[number], runs, reason)
    return done


def execute_here(
    tasks: Sequence[Task], runs: Path, *, resume: bool, checkpoint_seconds: float | None
) -> list[StoredRun]:
    """Run all tasks to completion in this process, one of a group that torchrun started."""
    if not resume:
        raise ValueError("--fresh does not work under torchrun; move the stored runs away by hand")
    if tasks[0].run.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    runs = runs.absolute()  # a row may change its process's folder
    for task in tasks:
        try_run(*task)
    done = []
    for task in tasks:
        stored = look_up(task, runs)
        if stored is None or not stored.is_final:
            stored = execute(*task, runs, checkpoint_seconds)
        done.append(stored)
    return done


def look_up(task: Task, runs: Path) -> StoredRun | None:
    """The stored result of a task, if any; one that is damaged is told and marked unusable."""
    try:
        return find_run(task.run, runs)
    except ValueError as error:
        _say(task, str(error))
        record = {**describe(task.run, task.dataset), "status": "unusable", "reason": str(error)}
        return StoredRun(runs / task.run.folder, record)


def _failed(task: Task, runs: Path, reason: str) -> StoredRun:
    _say(task, f"failed: {reason}")
    return store_failure(runs, describe(task.run, task.dataset), reason)


def _set_all_aside(tasks: Sequence[Task], runs: Path) -> None:
    """Move the folders of all runs aside; raises BlockingIOError, before any, if one is in work."""
    for task in tasks:
        with locked(runs, task.run):
            pass
    for task in tasks:
        with locked(runs, task.run):
            set_aside(runs / task.run.folder, "replaced")


def _is_locked(runs: Path, run: Run) -> bool:
    lock = lock_of(runs, run)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return True
    lock.release()
    return False


def _default_jobs(task: Task) -> int:
    """Small models leave most of several cores idle, so on a CPU each core takes a row."""
    small = task.run.scale in ("smoke", "quick") and task.run.device == "cpu"
    return torch.get_num_threads() if small and not task.suite.timed else 1


def _say(task: Task, text: str) -> None:
    run = task.run
    print(f"{run.row.label} on {task.dataset.name}, seed {run.seed}: {text}", file=sys.stderr)
