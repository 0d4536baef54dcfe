"""The command: python -m benchmarks.run --suite ablation."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import cost, heap, suites
from benchmarks.check import accept, check
from benchmarks.data import DATASETS, FILES, Dataset, open_dataset, open_own
from benchmarks.execute import execute, paper_cost
from benchmarks.report import report, survey, table_spec
from benchmarks.store import StoredRun, import_file, read_run, set_aside, write_json
from benchmarks.suite import PRECISIONS, SCALES, Run, Suite, Survey, choose, plan

ACCEPT_SEEDS = 3


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Train and evaluate a suite's rows; write its table and figures.",
    )
    add = parser.add_argument
    add("--suite", metavar="NAME|FILE", help="a suite's name, or a Python file that holds SUITE")
    add("--list", action="store_true", help="list the suites and their rows")
    add("--scale", choices=SCALES, help="default: quick on a CPU, standard on a GPU")
    add("--rows", metavar="LABEL", nargs="+", help="only these rows of the suite")
    add("--seeds", metavar="N", type=_positive, help="train every row with seeds 0 to N-1")
    add("--epochs", metavar="N", type=_positive, help="train for N epochs instead of the scale's")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if any")
    add(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto: bf16 where the device computes it natively, else fp32",
    )
    add(
        "--data",
        metavar="DIR|FILE|synthetic",
        help="folder with the official files, your own file or folder, or 'synthetic'",
    )
    add("--dataset", metavar="NAME", help="another data set than the suite's, such as kth")
    add("--past", metavar="T", type=_positive, help="your own data: frames given (default: half)")
    add("--future", metavar="T", type=_positive, help="your own data: frames to predict")
    add("--stride", metavar="T", type=_positive, help="your own recordings: from window to window")
    add(
        "--data-range",
        metavar="R",
        type=float,
        nargs="+",
        help="your own floats: the largest value they may have, or the smallest and the largest",
    )
    add("--out", metavar="DIR", type=Path, default=Path("results"), help="default: results")
    add("--report", action="store_true", help="rebuild table and figures from stored runs")
    add("--dry-run", action="store_true", help="print the plan: runs, keys, sizes, cost")
    add(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="continue checkpoints and keep finished runs (default)",
    )
    add("--fresh", dest="resume", action="store_false", help="move stored runs aside, start anew")
    add(
        "--checkpoint-seconds",
        metavar="S",
        type=float,
        help="write a checkpoint every S seconds (default: as often as it costs under 5 %%)",
    )
    add(
        "--jobs",
        metavar="N",
        type=_positive,
        help="train N rows at a time (default: one a core for small models on a CPU, else 1)",
    )
    add("--check", metavar="FILE", type=Path, help="compare the metrics with a reference file")
    add("--accept", action="store_true", help="with --check: write the reference anew")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 if a row failed or a metric moved, 2 for bad input."""
    parser = arguments()
    args = parser.parse_args(argv)
    heap.keep_freed_memory()
    try:
        if args.list:
            _list()
            return 0
        if args.suite is None:
            parser.error("--suite is needed; --list shows them")
        if args.accept and args.check is None:
            parser.error("--accept needs --check FILE, the reference to write")
        return _run(args)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenProcessPool:
        print(
            "error: a worker was killed (out of memory?); its checkpoint stays, the same command "
            "continues, with --jobs 1 in less memory",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130


class Job(NamedTuple):
    """What the options ask for, checked: a suite at a scale, a data set, the runs on it."""

    suite: Suite
    scale: str
    dataset: Dataset
    runs: list[Run]


def prepare(args: argparse.Namespace) -> list[Job]:
    """Turn options into runs, of the suite and of what stands beside it in its table.

    Raises ValueError or FileNotFoundError before anything trains.
    """
    suite = find_suite(args.suite)
    if not isinstance(suite, Suite):
        raise ValueError(f"suite {suite.name!r} lists data sets; it has no rows to train")
    device = (
        ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    )
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda, but torch finds no GPU; use --device cpu")
    scale = args.scale or _default_scale(suite, device)
    choose(f"suite {suite.name!r}: scale", scale, suite.training)
    datasets = [(suite, _open(suite, scale, args, args.dataset))]
    if suite.beside is not None and not _is_own(suite, args) and args.check is None:
        try:
            datasets.append((suite.beside, _open(suite.beside, scale, args)))
        except FileNotFoundError as error:
            if parent_process() is None:  # workers would say it again
                print(f"{suite.beside.title} is left out: {error}", file=sys.stderr)
    seeds = range(args.seeds) if args.seeds else None
    if args.accept and seeds is None:
        seeds = range(ACCEPT_SEEDS)
    jobs = []
    for of, dataset in datasets:
        labels = [row.label for row in of.rows]
        rows = args.rows or suite.selected or labels
        if of is not suite:
            rows = [row for row in rows if row in labels]
        if not rows:
            continue
        runs = plan(
            of,
            scale,
            dataset,
            device,
            rows=rows,
            seeds=seeds,
            epochs=args.epochs,
            precision=args.precision,
        )
        jobs.append(Job(of, scale, dataset, runs))
    return jobs


def _run(args: argparse.Namespace) -> int:
    found = find_suite(args.suite)
    if isinstance(found, Survey):
        return _survey(found, args)
    jobs = prepare(args)
    suite, scale = jobs[0].suite, jobs[0].scale
    table_spec(suite, suite.name)  # a wrong published name is an error now, not after training
    folder = args.out / "runs"
    if args.dry_run:
        for job in jobs:
            _print_plan(job, folder)
        return 0
    if args.report:
        stored = [_stored(job, folder) for job in jobs]
        if not stored[0]:
            raise ValueError(
                f"no stored run of this plan in {folder}; --dry-run shows what is looked for"
            )
    elif args.accept:
        return _accept(jobs, args)
    else:
        stored = _execute(jobs, folder, args)
    if int(os.environ.get("RANK", "0")) > 0:
        return 0
    name = _report_name(suite, scale, args)
    written = report(suite, scale, stored[0], args.out, name, *stored[1:])
    print(written.text)
    for path in written.paths:
        print(path)
    return _verdict([run for of in stored for run in of], args.check)


def _stored(job: Job, folder: Path) -> list[StoredRun]:
    found = (read_run(folder / run.folder) for run in job.runs)
    return [run for run in found if run is not None]


def _survey(plan: Survey, args: argparse.Namespace) -> int:
    """Write the table of data sets; one that is not there is listed as such."""
    for name in ("scale", "rows", "seeds", "epochs", "jobs", "check", "dataset"):
        if getattr(args, name) is not None:
            raise ValueError(
                f"--{name} has no effect on suite {plan.name!r}, which trains nothing; leave it out"
            )
    opened: dict[str, Dataset | Exception] = {}
    for row in plan.rows:
        try:
            opened[row.label] = open_dataset(
                row.data, _root(args), synthetic=args.data == SYNTHETIC_DATA, **row.options
            )
        except (FileNotFoundError, ModuleNotFoundError) as error:
            opened[row.label] = error
    name = "-".join([plan.name, *([Path(args.data).stem] if args.data else [])])
    written = survey(plan, opened, args.out, name)
    print(written.text)
    for path in written.paths:
        print(path)
    return 0


def _execute(
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
        order = sorted(tasks, key=lambda task: -_size(jobs[task[0]].runs[task[1]]).training_macs)
        with ProcessPoolExecutor(
            at_a_time, get_context("spawn"), initializer=_start_worker, initargs=(args, threads)
        ) as pool:
            futures = {(j, i): pool.submit(_work, jobs[j].runs[i].key, folder) for j, i in order}
            done = {task: future.result() for task, future in futures.items()}
    return [[done[j, i] for i in range(len(job.runs))] for j, job in enumerate(jobs)]


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


_worker: tuple[list[Job], argparse.Namespace] | None = None  # of a process `_execute` started


def _start_worker(args: argparse.Namespace, threads: int) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    heap.keep_freed_memory()
    torch.set_num_threads(threads)
    _worker = prepare(args), args


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


def _default_jobs(job: Job) -> int:
    """Small models leave most of several cores idle, so on a CPU each core takes a row."""
    small = job.scale in ("smoke", "quick") and job.runs[0].device == "cpu" and not job.suite.timed
    return torch.get_num_threads() if small and "WORLD_SIZE" not in os.environ else 1


class Size(NamedTuple):
    """A run's parameters and multiply-adds, of one sequence and of the whole training."""

    parameters: int
    macs: int
    training_macs: int


def _size(run: Run) -> Size:
    with torch.device("meta"):
        model = run.build()
    parameters, macs = cost.parameters(model), cost.macs(model, run.clip)
    # forward and backward cost three times the forward pass
    training = 3 * macs * run.training.steps * run.training.batch_size if parameters else 0
    return Size(parameters, macs, training)


def _accept(jobs: Sequence[Job], args: argparse.Namespace) -> int:
    """Train with every seed on one thread, with the first on two, and write the reference."""
    first = jobs[0]._replace(runs=[run for run in jobs[0].runs if run.seed == jobs[0].runs[0].seed])
    stored: list[StoredRun] = []
    for threads, job in ((1, jobs[0]), (2, first)):
        stored += _execute([job], args.out / f"runs-{threads}-threads", args, threads)[0]
    write_json(args.check, accept(stored, jobs[0].suite.orderings))
    print(f"wrote {args.check}")
    return 0


def _verdict(stored: Sequence[StoredRun], reference: Path | None) -> int:
    failed = [run for run in stored if not run.done]
    faults = check(stored, reference) if reference is not None else []
    for fault in faults:
        print(f"MOVED {fault}")
    if reference is not None and not faults:
        print(f"all metrics within the tolerances of {reference}")
    return 1 if failed or faults else 0


def find_suite(name: str) -> Suite | Survey:
    """The suite of that name in benchmarks/suites, or the SUITE of a user's Python file."""
    if name.endswith(".py"):
        module = import_file(Path(name))
        suite = getattr(module, "SUITE", None)
        if not isinstance(suite, Suite | Survey):
            raise ValueError(f"{name} has no SUITE; expected `SUITE = Suite(...)`")
        return suite
    choose("suite", name, _suite_names())
    module = importlib.import_module(f"benchmarks.suites.{name}")
    found: Suite | Survey = module.SUITE
    return found


def _suite_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(suites.__path__))


def _default_scale(suite: Suite, device: str) -> str:
    wanted = "standard" if device == "cuda" else "quick"
    return wanted if wanted in suite.training else next(iter(suite.training))


SYNTHETIC_DATA = "synthetic"


def _root(args: argparse.Namespace) -> Path | None:
    """The folder with the official files, if --data names one."""
    return None if args.data in (None, SYNTHETIC_DATA) else Path(args.data)


def _is_own(suite: Suite, args: argparse.Namespace) -> bool:
    """Whether --data names the user's own data."""
    root = _root(args)
    return root is not None and (suite.data is None or root.suffix in FILES)


def _open(suite: Suite, scale: str, args: argparse.Namespace, other: str | None = None) -> Dataset:
    """The suite's data set, or the `other` of that name, or the user's own."""
    options = ("past", "future", "stride", "data_range")
    own = {name: value for name in options if (value := getattr(args, name)) is not None}
    if _is_own(suite, args):
        if other is not None:
            raise ValueError(f"--dataset {other} has no effect on your own data; leave it out")
        return open_own(Path(args.data), **own)
    if own:
        raise ValueError(
            f"--{next(iter(own)).replace('_', '-')} is for your own data: --data FILE that ends in "
            f"{', '.join(FILES)}, or --suite compare --data FOLDER"
        )
    if suite.data is None:
        raise ValueError(f"suite {suite.name!r} runs on your own data; give --data FILE or FOLDER")
    name = suite.data if other is None else choose("data set", other, DATASETS)
    synthetic = args.data == SYNTHETIC_DATA
    return open_dataset(name, _root(args), synthetic=synthetic, **suite.data_options.get(scale, {}))


def _report_name(suite: Suite, scale: str, args: argparse.Namespace) -> str:
    """Name of the table: the suite and scale, and what was asked for that is not the default."""
    parts = [suite.name, scale]
    if args.rows:
        parts.append("-".join("".join(c for c in row if c.isalnum()) for row in args.rows).lower())
    if args.seeds:
        parts.append(f"{args.seeds}-seeds")
    if args.epochs:
        parts.append(f"{args.epochs}-epochs")
    if args.dataset:
        parts.append(args.dataset)
    if args.data is not None:
        parts.append(Path(args.data).stem)
    if args.precision != "auto":
        parts.append(args.precision)
    if args.device != "auto":
        parts.append(args.device)
    return "-".join(parts)


def _list() -> None:
    for name in _suite_names():
        suite = find_suite(name)
        print(f"{name}: {suite.title}")
        if isinstance(suite, Survey):
            print(f"  data: {', '.join(dict.fromkeys(row.data for row in suite.rows))}")
            continue
        data = [of.data or "your own" for of in (suite, suite.beside) if of]
        print(f"  data: {', '.join(data)}; scales: {', '.join(suite.training)}")
        print(f"  rows: {', '.join(row.label for row in suite.rows)}")


def _print_plan(job: Job, folder: Path) -> None:
    suite, runs = job.suite, job.runs
    print(f"{suite.title}\n{job.dataset.caption}")
    heads = ("row", "seed", "key", "state", "params", "GMACs", "epochs", "train TMACs", "precision")
    layout = "{:<16} {:>4} {:<12} {:<10} {:>8} {:>9} {:>6} {:>12} {:>9}"
    print(layout.format(*heads))
    total = 0
    for run in runs:
        size = _size(run)
        total += size.training_macs
        place = folder / run.folder
        stored = read_run(place)
        state = (
            stored.record["status"]
            if stored
            else "checkpoint"
            if (place / "checkpoint.pt").exists()
            else "new"
        )
        print(
            layout.format(
                run.row.label[:16],
                run.seed,
                run.key,
                state,
                f"{size.parameters / 1e6:.2f}M",
                f"{size.macs / 1e9:.3f}",
                run.training.epochs,
                f"{size.training_macs / 1e12:.1f}",
                run.training.precision,
            )
        )
    print(f"{len(runs)} runs, {total / 1e12:.1f} TMACs of training; runs go to {folder}")
    if any(run.scale in ("smoke", "quick") for run in runs):
        print("at the paper's size:")
        for run in {run.row.label: run for run in runs}.values():
            paper = paper_cost(run, suite)
            print(
                f"  {run.row.label:<16} {paper['paper_parameters'] / 1e6:8.2f}M "
                f"{paper['paper_macs'] / 1e9:9.3f} GMACs"
            )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
