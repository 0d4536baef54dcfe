"""The command: python -m benchmarks.run --suite ablation."""

from __future__ import annotations

import argparse
import io
import re
import sys
import textwrap
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import benchmarks.experiment.server  # noqa: F401 - first: see there
from benchmarks.command import end_process, run_command
from benchmarks.data import DATASETS
from benchmarks.experiment.execute import describe
from benchmarks.experiment.fabric import is_first_process, launched_by_torchrun
from benchmarks.experiment.hardware import elsewhere, keep_freed_memory, this_machine
from benchmarks.experiment.logs import LOGGERS, check_loggers
from benchmarks.experiment.plan import (
    OF_OWN_DATA,
    STORED_RUNS,
    Options,
    Run,
    adapt,
    open_datasets,
    plan,
    table_name,
    with_metrics,
)
from benchmarks.experiment.preview import describe_plan
from benchmarks.experiment.schedule import execute_all, execute_here, look_up
from benchmarks.experiment.shard import parse_shard, shard
from benchmarks.experiment.spec import PRECISIONS, SCALES, DatasetTable, Suite, name_of
from benchmarks.experiment.store import StoredRun
from benchmarks.experiment.verify import verify
from benchmarks.experiment.view import View
from benchmarks.files import local, write_json
from benchmarks.report import records
from benchmarks.report.change import Earlier, read_earlier
from benchmarks.report.regression import (
    comparable,
    make_reference,
    only_seed,
    precision_of,
    verdict,
)
from benchmarks.report.table import NOT_RUN, check_published
from benchmarks.report.write import Report, planned, report, report_datasets
from benchmarks.suites import find_suite, suite_names, with_models

if TYPE_CHECKING:
    from benchmarks.experiment.ray_cluster import Cluster

FILES_OF_SHELLS = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}  # as shtab has it
PATIENCE_SECONDS = 5.0  # in which torchrun ends the others
LISTED = "{:<15} {:>4}  {:<22} {:<13} {}"  # a line of --list
LISTED_DATA = 22  # characters of it for names of data sets
ON = ("on", "cpus_per_run", "gpus_per_run")


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Train and evaluate a suite's rows; write its table and figures.",
    )
    add = parser.add_argument
    add("--suite", metavar="NAME|FILE", help="a suite's name, or a Python file that holds SUITE")
    add("--list", action="store_true", help="list the suites and their rows")
    add("--scale", choices=SCALES, help="default: standard on a CUDA GPU, else quick")
    add("--rows", metavar="LABEL", nargs="+", help="only these rows of the suite")
    add("--add", metavar="FILE:CLASS", nargs="+", help="models of yours, each a row at the end")
    add("--metrics", metavar="NAME", nargs="+", help="columns: rmse, ms_ssim, lpips=FILE, ...")
    add("--seeds", metavar="N", type=_positive, help="train every row with seeds 0 to N-1")
    add("--epochs", metavar="N", type=_positive, help="train for N epochs instead of the scale's")
    add(
        "--minutes",
        metavar="M",
        type=float,
        help="train each row for M minutes on this machine instead of for epochs",
    )
    add("--batch-size", metavar="N", type=_positive, help="train on batches of N sequences")
    add(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="default: a CUDA GPU if any, else the CPU; mps is Apple's GPU",
    )
    add(
        "--devices",
        metavar="N",
        type=_positive,
        help="N GPUs of this machine share each batch of a row (on a CPU, N processes)",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto: the suite's (fp32 at small scales), else bf16 if the device has it",
    )
    add(
        "--data",
        metavar="DIR|FILE|synthetic",
        help="folder with the official files, your own file or folder, or 'synthetic'",
    )
    add("--dataset", metavar="NAME", help="another data set than the suite's, such as kth")
    add(
        "--past",
        metavar="T",
        type=_positive,
        help="your own data: frames given (whole sequences: half)",
    )
    add("--future", metavar="T", type=_positive, help="your own data: frames to predict")
    add(
        "--stride",
        metavar="T",
        type=_positive,
        help="your own recordings: frames between starts of windows (default: no overlap)",
    )
    add(
        "--data-range",
        metavar="R",
        type=float,
        nargs="+",
        help="your own data: the largest value they may have, or the smallest and the largest",
    )
    add("--layout", metavar="AXES", help="your own arrays: order of the axes, such as NTHWC")
    add("--variable", metavar="NAME", help="your own file of several arrays: the one to read")
    add("--size", metavar="HxW", help="your own videos, images: scale to cover it, crop the excess")
    add("--gray", action="store_true", help="your own videos, images: colours as gray")
    add("--fps", metavar="F", type=float, help="your own videos: frames per second to take")
    add("--crop", metavar="HxW", help="your own frames, after --size: keep the middle of each")
    add("--pad", metavar="HxW", help="your own frames: widen with copies of the outermost pixels")
    add("--out", metavar="DIR", default="results", help="default: results")
    add(
        "--report",
        metavar="RECORD",
        nargs="?",
        const=STORED_RUNS,
        help="rebuild table and figures from stored runs, or from a table's record",
    )
    add(
        "--figures",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="--no-figures leaves them as they are, and writes tables and record alone",
    )
    add(
        "--against",
        metavar="RECORD",
        type=Path,
        help="an earlier table's record: the page tells what has changed since",
    )
    add("--open", action="store_true", help="open the page in a browser")
    add("--dry-run", action="store_true", help="print the plan: runs, keys, sizes, cost")
    add(
        "--fresh",
        action="store_true",
        help="move stored runs aside and start over, instead of continuing them",
    )
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
        help="train N rows at a time (default: one per GPU; on a CPU, small models one per core)",
    )
    add(
        "--shard",
        metavar="K/N",
        help="train the K-th of N parts of the plan, and write no table: --report does, at the end",
    )
    add(
        "--on",
        metavar="ray[://ADDRESS]",
        help="hand the runs to a Ray cluster; without an address, to one of this machine alone",
    )
    add(
        "--cpus-per-run",
        metavar="N",
        type=_positive,
        help="with --on: CPU cores of a run (default: 1 for small models, else all of a node)",
    )
    add(
        "--gpus-per-run",
        metavar="G",
        type=float,
        help="with --on: GPUs of a run, such as 0.5 for two runs on each (default: 1)",
    )
    add("--check", metavar="FILE", type=Path, help="compare the metrics with a reference file")
    add(
        "--update",
        action="store_true",
        help="with --check: update the reference",
    )
    add(
        "--log",
        choices=LOGGERS,
        nargs="+",
        default=(),
        help="also log curves to these; wandb uploads to your account",
    )
    add("--quiet", action="store_true", help="print errors, the table and the paths alone")
    add(
        "--verify",
        action="store_true",
        help="compute scores and costs again by scikit-image and fvcore",
    )
    return parser


def completion() -> argparse.ArgumentParser:
    """The options as shtab reads them: with names of suites, data sets and rows as choices.

    Labels with blanks in them are left out, which shells would complete as several words.
    """
    parser = arguments()
    suites = [find_suite(name) for name in suite_names()]
    labels = [row.label for suite in suites if isinstance(suite, Suite) for row in suite.rows]
    choices = {
        "suite": suite_names(),
        "rows": [label for label in dict.fromkeys(labels) if " " not in label],
        "dataset": list(DATASETS),
    }
    for action in parser._actions:
        if action.dest in choices:
            action.choices = choices[action.dest]
        elif action.dest in ("data", "out", "check", "report", "add"):
            action.complete = FILES_OF_SHELLS  # type: ignore[attr-defined]
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns 0; 1 if a row failed, a score is not a number, a metric regressed, or others disagree; 2
    for bad input; and 128 + n when signal n stopped it.
    """
    parser = arguments()
    given = vars(parser.parse_args([_plain(x) for x in (sys.argv[1:] if argv is None else argv)]))
    listing = given.pop("list")
    from_record = given["report"] not in (None, STORED_RUNS)
    if not listing and given["suite"] is None and not from_record:
        parser.error("--suite is needed; --list shows them")
    if given["update"] and given["check"] is None:
        parser.error("--update needs --check FILE, the reference to write")
    keep_freed_memory()
    return run_command(
        _list if listing else lambda: _in_group(lambda: _run(_options(given))),
        stopped="the same command continues" if is_first_process() else None,
        unexpected="this is a fault of the project: please report it",
    )


def _options(given: dict[str, Any]) -> Options:
    return Options(**given | {"out": local(given["out"])})


def _in_group(run: Callable[[], int]) -> int:
    """Call `run`; what all processes of torchrun would say of an error, the first one says alone.

    The others say it a little later, unless the first one's end has ended them.
    """
    try:
        return run()
    except Exception:
        if not is_first_process():
            time.sleep(PATIENCE_SECONDS)
        raise


def _run(options: Options) -> int:
    if options.report not in (None, STORED_RUNS):
        return _rebuild(Path(str(options.report)), options)
    found = find_suite(str(options.suite))
    if isinstance(found, DatasetTable):
        opened = open_datasets(found, options)
        return _print(report_datasets(found, opened, options.out, table_name(found, options)))
    if options.check is not None and not options.update and options.precision == "auto":
        options = replace(options, precision=precision_of(options.check))
    with _cluster(found, options) as cluster:
        return _run_suite(found, options, cluster)


def _cluster(suite: Suite, options: Options) -> AbstractContextManager[Cluster | None]:
    """The cluster that --on names, if any; raises ValueError for what does not go with it."""
    if options.on is None:
        options.refuse(ON[1:], "a command without --on")
        return nullcontext()
    engine, separator, address = options.on.partition("://")
    if engine != "ray" or bool(separator) != bool(address):
        raise ValueError(f"--on is {options.on!r}; expected ray, or ray://HOST:PORT")
    for name in ("report", "dry_run", "update", "jobs", "shard", "devices"):
        options.refuse((name,), f"--on {options.on}, by which Ray hands out the runs of a training")
    if launched_by_torchrun():
        raise ValueError("--on does not work under torchrun, which shares each run; leave it out")
    if suite.timed:
        raise ValueError(
            f"suite {suite.name!r} measures time, for which each run needs a machine to itself; "
            f"leave --on {options.on} out"
        )
    gpus = options.gpus_per_run
    if gpus is not None and not 0 < gpus <= 1:
        raise ValueError(f"--gpus-per-run is {gpus:g}; expected more than 0, and at most 1")
    from benchmarks.experiment.ray_cluster import connect

    return connect(options)


def _run_suite(found: Suite, options: Options, cluster: Cluster | None) -> int:
    suite, runs = _plan(found, options, cluster)
    folder = options.out / "runs"
    if options.dry_run:
        print(describe_plan(suite, runs, folder))
        return 0
    if options.update:
        return _update(suite, runs, options)
    earlier = _earlier(options, suite, [run.row.label for run in runs])
    if options.check is not None:
        # whose scale, data and precision are those of all
        comparable([describe(runs[0])], options.check)  # also now
    if options.report:
        stored = _look_up(runs, folder)
    else:
        stored = _execute(suite, runs, folder, options, cluster)
    if options.shard is not None:
        return _end_of_part(stored, options)
    if not is_first_process():
        return 0
    by_panel: dict[str, list[StoredRun]] = {}
    for run, of in zip(runs, stored, strict=True):
        by_panel.setdefault(run.panel, []).append(of)
    name = table_name(suite, options, runs)
    written = report(
        suite, runs[0].scale, by_panel, options.out, name, draw=options.figures, earlier=earlier
    )
    status = _print(written, options.check, show=options.open)
    if options.verify:
        text, disagree = verify(suite, runs, written.runs)
        print(text, end="")
        status = max(status, disagree)
    return status


def _plan(found: Suite, options: Options, cluster: Cluster | None) -> tuple[Suite, list[Run]]:
    """The suite as the options have it and its runs, or those of a part of it."""
    if options.dry_run or options.update or options.report:
        what = "--dry-run, --update and --report"
        options.refuse(("log", "checkpoint_seconds"), what)
    if options.report:
        options.refuse(("dry_run", "update", "jobs", "fresh"), "--report, which trains nothing")
    if options.dry_run or options.update:
        options.refuse(("verify", "against", "open"), "--dry-run and --update, which show no table")
    if launched_by_torchrun():
        options.refuse(("devices", "jobs"), "processes that torchrun started, which share each row")
    if options.update:
        if launched_by_torchrun():
            raise ValueError("--update does not work under torchrun: a reference is of one process")
        options.refuse(("devices",), "--update, as a reference is of one process")
        options.refuse(("metrics",), "--update, as a reference has the metrics of every run")
    check_loggers(options.log)
    suite = adapt(with_models(found, options.add or ()), options)
    suite = with_metrics(suite, options.metrics or ())
    check_published(suite)  # a wrong published name is an error now, not after training
    machine = cluster.machine if cluster else None
    if options.report and options.device not in ("auto", *this_machine(options.device).devices):
        machine = elsewhere(options.device)  # what is stored is read without it
    with redirect_stderr(io.StringIO()) if options.quiet else nullcontext():
        runs = plan(suite, options, machine)
    return suite, runs if options.shard is None else _part(runs, options)


def _look_up(runs: Sequence[Run], folder: Path) -> list[StoredRun]:
    """What is stored of a plan; raises ValueError if nothing is."""
    stored = [planned(run, look_up(run, folder), folder) for run in runs]
    if all(run.record["status"] == NOT_RUN for run in stored):
        raise ValueError(
            f"no stored run of this plan in {folder}; --dry-run shows what is looked for. Where "
            "there is no GPU, --device cuda finds runs of one, with --precision if it was not bf16"
        )
    return stored


def _part(runs: Sequence[Run], options: Options) -> list[Run]:
    """The part of the plan that --shard names."""
    where = "--shard, which writes no table: the same command with --report instead does"
    options.refuse(("report", "check", "verify", "against", "open"), where)
    if launched_by_torchrun():
        raise ValueError(
            "--shard does not work under torchrun, which shares each run; leave it out"
        )
    number, parts = parse_shard(str(options.shard))
    return shard(runs, number, parts)


def _end_of_part(stored: Sequence[StoredRun], options: Options) -> int:
    """Say what there is; 1 if a row failed."""
    done = sum(run.done for run in stored)
    print(
        f"shard {options.shard}: {done} of {len(stored)} runs done; when all shards are, the same "
        "command with --report instead of --shard writes the table"
    )
    return int(done < len(stored))


def _rebuild(path: Path, options: Options) -> int:
    """Write the table of a record again: needs neither runs, data, models nor a GPU."""
    kept = {"suite", "add", "report", "check", "data", "dataset", "out", *OF_OWN_DATA}
    kept |= {"figures", "against", "open", "quiet"}
    others = [option.name for option in fields(Options) if option.name not in kept]
    options.refuse(others, f"--report {path}, which holds what the table was made of")
    name, scale, runs = records.read(path)
    suite = find_suite(options.suite or name)
    if not isinstance(suite, Suite):
        raise ValueError(f"suite {suite.name!r} trains nothing, so it has no record")
    suite = adapt(with_models(suite, options.add or ()), options)
    if missing := runs.keys() - {panel.name for panel in suite.panels}:
        raise ValueError(
            f"{path} has runs on {', '.join(sorted(missing))}, which suite {suite.name!r} lacks; "
            "give the --suite, --dataset and --data that the table was made with"
        )
    there = options.out / "records" / f"{path.stem}.json"
    if there.exists() and there.read_bytes() != path.read_bytes():
        raise FileExistsError(
            f"{there} is the record of another table, which this one would replace; give another "
            "--out, or move it away"
        )
    before, suite = suite, records.with_columns(suite, runs)
    for old, new in zip(before.panels, suite.panels, strict=True):
        if lacking := [c.name for c in old.columns if c not in new.columns and old.name in runs]:
            print(f"{path} has no {', '.join(lacking)} on {old.name}: left out", file=sys.stderr)
    labels = dict.fromkeys(run.record["row"] for of in runs.values() for run in of)
    earlier = _earlier(options, suite, list(labels))
    written = report(
        suite,
        scale,
        runs,
        options.out,
        path.stem,
        draw=options.figures,
        earlier=earlier,
        record=path.read_text(encoding="utf-8"),
    )
    return _print(written, options.check, show=options.open)


def _earlier(options: Options, suite: Suite, labels: Sequence[str]) -> Earlier | None:
    """What --against names."""
    return None if options.against is None else read_earlier(options.against, suite, labels)


def _print(written: Report, reference: Path | None = None, *, show: bool = False) -> int:
    """Print a table, the paths and what is wrong with its runs; the exit status.

    With `show`, the page is opened in a browser too.
    """
    print(written.text)
    for path in written.paths:
        print(path)
    if written.change:
        print(written.change)
    if show:
        _open(written.page)
    runs = [run for run in written.runs if run.record["status"] != NOT_RUN]
    text, status = verdict(runs, reference)
    print(text, end="")
    return status


def _open(page: Path | None) -> None:
    """Open a table's page in a browser, or say why not."""
    if page is None:
        print("there is no page to open, as no run has finished", file=sys.stderr)
    elif not webbrowser.open(page.absolute().as_uri()):
        print(f"no browser could be started; open {page} in one", file=sys.stderr)


def _execute(
    suite: Suite, runs: Sequence[Run], folder: Path, options: Options, cluster: Cluster | None
) -> list[StoredRun]:
    columns = {panel.name: panel.columns for panel in suite.panels}
    view = View(len(runs), columns, quiet=options.quiet or not is_first_process())
    how: dict[str, Any] = {
        "resume": not options.fresh,
        "checkpoint_seconds": options.checkpoint_seconds,
        "log": options.log,
        "view": view,
    }
    if launched_by_torchrun():
        return execute_here(runs, folder, **how)
    engine = cluster.engine(runs, folder, view) if cluster else None
    return execute_all(runs, folder, jobs=options.jobs, engine=engine, **how)


def _update(suite: Suite, runs: Sequence[Run], options: Options) -> int:
    """Train on one thread and on two, and write the reference."""
    only_seed(run.seed for run in runs)  # now, not after training
    stored: list[StoredRun] = []
    for threads in (1, 2):
        stored += execute_all(
            runs,
            options.out / f"runs-{threads}-threads",
            jobs=options.jobs,
            threads=threads,
            resume=not options.fresh,
            view=View(len(runs), quiet=options.quiet),
        )
    assert options.check is not None
    write_json(options.check, make_reference(stored, suite.orderings))
    print(f"wrote {options.check}")
    return 0


def _list() -> int:
    """Print a table of the suites, each with its rows below."""
    print(LISTED.format("suite", "rows", "data sets", "scales", "title"))
    for name in suite_names():
        suite = find_suite(name)
        if isinstance(suite, DatasetTable):
            names = dict.fromkeys(name_of(entry.dataset) for entry in suite.entries)
            print(LISTED.format(name, "", f"{len(names)} data sets", "", suite.title))
            _print_below(", ".join(names))
            continue
        datasets = [name_of(p.dataset) if p.dataset else "your own" for p in suite.panels]
        data = ", ".join(datasets)
        is_long = len(data) > LISTED_DATA
        data = f"{len(datasets)} data sets" if is_long else data
        scales = "all" if tuple(suite.training) == SCALES else ", ".join(suite.training)
        print(LISTED.format(name, len(suite.rows), data, scales, suite.title))
        if is_long:
            _print_below(", ".join(datasets))
        _print_below(", ".join(row.label for row in suite.rows))
    print(f"\nscales: {', '.join(SCALES)}")
    return 0


def _print_below(text: str) -> None:
    print(textwrap.fill(text, 98, initial_indent="    ", subsequent_indent="    "))


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
    end_process(main(), at_once=launched_by_torchrun())
