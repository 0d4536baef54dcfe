"""The command: python -m benchmarks.run --suite ablation."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import benchmarks.experiment.server  # noqa: F401 - first: see there
from benchmarks.command import end_process, run_command
from benchmarks.experiment import hardware as heap
from benchmarks.experiment.execute import describe
from benchmarks.experiment.fabric import is_first_process, launched_by_torchrun
from benchmarks.experiment.plan import (
    Job,
    find_suite,
    open_survey,
    prepare,
    report_name,
    suite_names,
)
from benchmarks.experiment.schedule import (
    Died,
    Pool,
    Task,
    execute_all,
    execute_here,
    look_up,
    try_all,
)
from benchmarks.experiment.spec import PRECISIONS, SCALES, Survey
from benchmarks.experiment.store import CHECKPOINT, StoredRun
from benchmarks.experiment.trial import count, try_run
from benchmarks.files import write_json
from benchmarks.metrics import METRICS
from benchmarks.report.regression import accept, check, comparable, only_seed, other_version
from benchmarks.report.table import NOT_RUN
from benchmarks.report.write import planned, report, survey, table_spec


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
    add("--batch-size", metavar="N", type=_positive, help="train on batches of N sequences")
    add(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="default: a CUDA GPU if any, else the CPU; mps is Apple's GPU",
    )
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
    add("--past", metavar="T", type=_positive, help="your own data: frames given (sequences: half)")
    add("--future", metavar="T", type=_positive, help="your own data: frames to predict")
    add("--stride", metavar="T", type=_positive, help="your own recordings: from window to window")
    add(
        "--data-range",
        metavar="R",
        type=float,
        nargs="+",
        help="your own data: the largest value they may have, or the smallest and the largest",
    )
    add("--layout", metavar="AXES", help="your own arrays: order of the axes, such as NTHWC")
    add("--variable", metavar="NAME", help="your own file of several arrays: the one to read")
    add("--crop", metavar="HxW", help="your own frames: keep the middle of each")
    add("--pad", metavar="HxW", help="your own frames: widen with copies of the outermost pixels")
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
    """Run the command.

    Returns 0; 1 if a row failed, a score is not a number, or a metric moved; 2 for bad input; and
    128 + n when signal n stopped it.
    """
    parser = arguments()
    args = parser.parse_args([_plain(text) for text in (sys.argv[1:] if argv is None else argv)])
    if not args.list and args.suite is None:
        parser.error("--suite is needed; --list shows them")
    if args.accept and args.check is None:
        parser.error("--accept needs --check FILE, the reference to write")
    heap.keep_freed_memory()
    return run_command(
        lambda: _list() if args.list else _run(args),
        stopped="the same command continues",
        unexpected="this is a fault of the project: please report it",
    )


def _run(args: argparse.Namespace) -> int:
    found = find_suite(args.suite)
    if isinstance(found, Survey):
        return _survey(found, args)
    jobs = prepare(found, args)
    suite, scale = jobs[0].suite, jobs[0].scale
    table_spec(suite, suite.name)  # a wrong published name is an error now, not after training
    folder = args.out / "runs"
    tasks = [[Task(run, job.suite, job.dataset) for run in job.runs] for job in jobs]
    if args.dry_run:
        for job, of in zip(jobs, tasks, strict=True):
            _print_plan(job, of, folder)
        return 0
    if args.check is not None and not args.accept:
        first = tasks[0][0]  # whose scale, data and precision are those of all
        comparable([describe(first.run, first.dataset)], args.check)  # also now
    if args.report:
        stored = [[planned(t.run, look_up(t, folder), folder) for t in of] for of in tasks]
        if all(run.record["status"] == NOT_RUN for run in stored[0]):
            raise ValueError(
                f"no stored run of this plan in {folder}; --dry-run shows what is looked for"
            )
    elif args.accept:
        return _accept(jobs, tasks[0], args)
    else:
        executed = _execute([task for of in tasks for task in of], folder, args)
        stored = [[executed.pop(0) for _ in of] for of in tasks]
    if not is_first_process():
        return 0
    name = report_name(jobs[0], args)
    written = report(suite, scale, stored[0], args.out, name, *stored[1:])
    print(written.text)
    for path in written.paths:
        print(path)
    return _verdict([run for run in written.runs if run.record["status"] != NOT_RUN], args.check)


def _execute(tasks: Sequence[Task], folder: Path, args: argparse.Namespace) -> list[StoredRun]:
    if launched_by_torchrun():
        return execute_here(
            tasks, folder, resume=args.resume, checkpoint_seconds=args.checkpoint_seconds
        )
    return execute_all(
        tasks,
        folder,
        jobs=args.jobs,
        resume=args.resume,
        checkpoint_seconds=args.checkpoint_seconds,
    )


def _survey(found: Survey, args: argparse.Namespace) -> int:
    """Write the table of data sets; one that is missing is listed as such."""
    opened = open_survey(found, args)
    written = survey(found, opened, args.out, report_name(found, args))
    print(written.text)
    for path in written.paths:
        print(path)
    return 0


def _accept(jobs: Sequence[Job], tasks: Sequence[Task], args: argparse.Namespace) -> int:
    """Train on one thread and on two, and write the reference."""
    only_seed(run.seed for run in jobs[0].runs)  # now, not after training
    stored: list[StoredRun] = []
    for threads in (1, 2):
        stored += execute_all(
            tasks,
            args.out / f"runs-{threads}-threads",
            jobs=args.jobs,
            threads=threads,
            resume=args.resume,
        )
    write_json(args.check, accept(stored, jobs[0].suite.orderings))
    print(f"wrote {args.check}")
    return 0


def _verdict(stored: Sequence[StoredRun], reference: Path | None) -> int:
    faults = [
        f"FAILED {run.record['row']}, seed {run.record['seed']}: {run.record['reason']}"
        for run in stored
        if not run.done
    ]
    for run in stored:
        if run.done and (wrong := [name for name in METRICS if _is_wrong(name, run.means[name])]):
            faults.append(
                f"NOT A NUMBER {run.record['row']}, seed {run.record['seed']}: {', '.join(wrong)}; "
                "it predicts NaN or infinity"
            )
    moved = check(stored, reference) if reference is not None else []
    faults += [f"MOVED {fault}" for fault in moved]
    for fault in faults:
        print(fault)
    if reference is not None:
        within = f"all metrics within the tolerances of {reference}"
        if said := other_version(stored, reference) if moved else within:
            print(said)
    return 1 if faults else 0


def _is_wrong(metric: str, mean: float) -> bool:
    """Whether a mean is no score: NaN, or infinite where that is not the best there can be."""
    return math.isnan(mean) or (math.isinf(mean) and METRICS[metric].better == "lower")


def _list() -> int:
    for name in suite_names():
        suite = find_suite(name)
        print(f"{name}: {suite.title}")
        if isinstance(suite, Survey):
            print(f"  data: {', '.join(dict.fromkeys(row.data for row in suite.rows))}")
            continue
        data = [of.data or "your own" for of in (suite, suite.beside) if of]
        print(f"  data: {', '.join(data)}; scales: {', '.join(suite.training)}")
        print(f"  rows: {', '.join(row.label for row in suite.rows)}")
    return 0


def _print_plan(job: Job, tasks: Sequence[Task], folder: Path) -> None:
    suite, runs = job.suite, job.runs
    clip = job.dataset.clip
    print(f"{suite.title}\n{job.dataset.caption}")
    print(f"past frames: {clip.past}; future frames, to predict: {clip.future}")
    heads = ("row", "seed", "key", "state", "params", "GMACs", "epochs", "train TMACs", "precision")
    layout = "{:<16} {:>4} {:<12} {:<10} {:>8} {:>9} {:>6} {:>12} {:>9}"
    small = job.scale in ("smoke", "quick")  # in which a step takes a moment
    with Pool(1, None, runs[0].device) as pool:
        sizes = try_all(tasks, pool, try_run if small else count)
    print(layout.format(*heads))
    total = 0
    paper = {}
    for task, size in zip(tasks, sizes, strict=True):
        run = task.run
        if isinstance(size, Died):
            raise ValueError(f"row {run.row.label!r}: {size.reason}")
        total += size.training_macs
        paper[run.row.label] = size.paper
        print(
            layout.format(
                run.row.label[:16],
                run.seed,
                run.key,
                _state(task, folder),
                f"{size.parameters / 1e6:.2f}M",
                f"{size.macs / 1e9:.3f}",
                run.training.epochs,
                f"{size.training_macs / 1e12:.1f}",
                run.training.precision,
            )
        )
    counted = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    print(f"{counted}, {total / 1e12:.1f} TMACs of training; runs go to {folder}")
    if any(run.scale in ("smoke", "quick") for run in runs):
        print("at the paper's size:")
        for label, cost in paper.items():
            print(
                f"  {label:<16} {cost['paper_parameters'] / 1e6:8.2f}M "
                f"{cost['paper_macs'] / 1e9:9.3f} GMACs"
            )


def _state(task: Task, folder: Path) -> str:
    """What is there of a run: a result, a checkpoint, or nothing."""
    stored = look_up(task, folder)
    if stored is not None:
        return str(stored.record["status"])
    return "checkpoint" if (folder / task.run.folder / CHECKPOINT).exists() else "new"


def _plain(text: str) -> str:
    """-1e-3 as -0.001: of negative numbers, argparse takes those with an exponent for options."""
    is_such = re.fullmatch(r"-(\d+\.?\d*|\.\d+)e[+-]?\d{1,3}", text, re.IGNORECASE | re.ASCII)
    return f"{Decimal(text):f}" if is_such else text


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


if __name__ == "__main__":
    end_process(main())
