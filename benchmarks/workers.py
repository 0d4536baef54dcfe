"""Runs side by side: processes that each bring one run after the other to its end."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path

import torch

from benchmarks import heap
from benchmarks.execute import execute
from benchmarks.jobs import Job, find_suite, prepare, size_of
from benchmarks.store import StoredRun, set_aside


def execute_all(
    jobs: Sequence[Job], folder: Path, args: argparse.Namespace, threads: int | None = None
) -> list[list[StoredRun]]:
    """Bring all runs to their end, several at a time if that pays; results in the plan's order.

    Each has `threads` threads; by default what its share of the cores allows.
    """
    tasks = [(j, i) for j, job in enumerate(jobs) for i in range(len(job.runs))]
    if not args.resume:
        for j, i in tasks:
            set_aside(folder / jobs[j].runs[i].folder)
    cores = torch.get_num_threads()
    at_a_time = args.jobs or (max(1, cores // threads) if threads else _default_jobs(jobs[0]))
    at_a_time = min(at_a_time, len(tasks))
    threads = threads or max(1, cores // at_a_time)
    if at_a_time == 1:
        torch.set_num_threads(threads)
        done = {task: _one(jobs, *task, folder, args) for task in tasks}
    else:
        # the longest first, so that the last ones fill the gaps
        order = sorted(tasks, key=lambda task: -size_of(jobs[task[0]].runs[task[1]]).training_macs)
        with ProcessPoolExecutor(
            at_a_time, get_context("spawn"), initializer=_start_worker, initargs=(args, threads)
        ) as pool:
            futures = {(j, i): pool.submit(_work, jobs[j].runs[i].key, folder) for j, i in order}
            done = {task: future.result() for task, future in futures.items()}
    return [[done[j, i] for i in range(len(job.runs))] for j, job in enumerate(jobs)]


def _default_jobs(job: Job) -> int:
    """Small models leave most of several cores idle, so on a CPU each core takes a row."""
    small = job.scale in ("smoke", "quick") and job.runs[0].device == "cpu" and not job.suite.timed
    return torch.get_num_threads() if small and "WORLD_SIZE" not in os.environ else 1


def _one(
    jobs: Sequence[Job], which: int, index: int, folder: Path, args: argparse.Namespace
) -> StoredRun:
    job = jobs[which]
    run = job.runs[index]
    on = f" on {job.dataset.name}" if len(jobs) > 1 else ""
    print(f"[{index + 1}/{len(job.runs)}] {run.row.label}{on}, seed {run.seed}", file=sys.stderr)
    result = execute(run, job.suite, job.dataset, folder, args.checkpoint_seconds)
    if not result.done:
        print(f"{run.row.label} failed: {result.record['reason']}", file=sys.stderr)
    return result


_worker: tuple[list[Job], argparse.Namespace] | None = None  # of a process `execute_all` started


def _start_worker(args: argparse.Namespace, threads: int) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    heap.keep_freed_memory()
    torch.set_num_threads(threads)
    _worker = prepare(find_suite(args.suite), args), args


def _end_with_parent() -> None:
    """A killed command must not leave workers that go on training and hold its runs' locks."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(key: str, folder: Path) -> StoredRun:
    if _worker is None:
        raise RuntimeError("the worker was not started")
    jobs, args = _worker
    places = {run.key: (j, i) for j, job in enumerate(jobs) for i, run in enumerate(job.runs)}
    return _one(jobs, *places[key], folder, args)
