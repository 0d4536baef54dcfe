"""What the command's options ask for: checked jobs, before anything trains."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import pkgutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import suites
from benchmarks.data import DATASETS, FILES, Dataset, open_dataset, open_own
from benchmarks.experiment.code import import_file
from benchmarks.experiment.fabric import group_size
from benchmarks.experiment.spec import Run, Suite, Survey, plan, slug
from benchmarks.files import to_json
from benchmarks.names import choose, printable
from benchmarks.report.regression import precision_of
from benchmarks.report.table import METRICS
from benchmarks.suites import datasets

SYNTHETIC_DATA = "synthetic"
# Options that change what a table holds, in the order in which a table's name has them.
IN_NAME = (
    *("rows", "seeds", "epochs", "batch_size", "dataset", "data", "past", "future", "stride"),
    *("data_range", "layout", "variable", "crop", "pad", "precision", "device"),
)
# Bytes of a table's name: with the longest name of a second suite, and with what tells its files
# apart, less than 200.
NAME_BYTES, PART_BYTES = 110, 30


class Job(NamedTuple):
    """What the options ask for, checked: a suite at a scale, a data set, the runs on it."""

    suite: Suite
    scale: str
    dataset: Dataset
    runs: list[Run]


def find_suite(name: str) -> Suite | Survey:
    """The suite of that name in benchmarks/suites, or the SUITE of a user's Python file."""
    if name.endswith(".py"):
        try:
            module = import_file(Path(name))
        except (ValueError, FileNotFoundError):
            raise
        except (Exception, SystemExit) as error:  # whatever the user's code raises
            raise ValueError(
                printable(f"{name} cannot be imported: {type(error).__name__}: {error}")
                + "; run it with Python to see where"
            ) from error
        suite = getattr(module, "SUITE", None)
        if not isinstance(suite, Suite | Survey):
            raise ValueError(f"{name} has no SUITE; expected `SUITE = Suite(...)`")
        return suite
    choose("suite", name, suite_names())
    module = importlib.import_module(f"benchmarks.suites.{name}")
    found: Suite | Survey = module.SUITE
    return found


def suite_names() -> list[str]:
    """Names of the suites in benchmarks/suites."""
    return sorted(module.name for module in pkgutil.iter_modules(suites.__path__))


def prepare(suite: Suite | Survey, args: argparse.Namespace) -> list[Job]:
    """Turn options into runs of the suite, and of the one that stands beside it in its table.

    Raises ValueError or FileNotFoundError before anything trains.
    """
    if not isinstance(suite, Suite):
        raise ValueError(f"suite {suite.name!r} lists data sets; it has no rows to train")
    device = choose_device(args.device)
    scale = args.scale or _default_scale(suite, device)
    choose(f"suite {suite.name!r}: scale", scale, suite.training)
    datasets = [(suite, _open(suite, scale, args, args.dataset))]
    if suite.beside is not None and not _is_own(suite, args) and args.check is None:
        try:
            datasets.append((suite.beside, _open(suite.beside, scale, args)))
        except FileNotFoundError as error:
            print(f"{suite.beside.title} is left out: {error}", file=sys.stderr)
    seeds = range(args.seeds) if args.seeds else None
    precision = args.precision
    if args.check is not None and not args.accept:
        precision = precision_of(args.check) if precision == "auto" else precision
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
            batch_size=args.batch_size,
            precision=precision,
            processes=group_size(),
        )
        if of is suite:
            of = _as_asked(suite, args)
        jobs.append(Job(of, scale, dataset, runs))
    return jobs


def _as_asked(suite: Suite, args: argparse.Namespace) -> Suite:
    """The suite without what holds for its own data set only, if it runs on another one.

    That is its title, its published numbers, target and notes, and those of its rows. A set that
    the paper counts as the same, such as KTH's videos beside its images, keeps all but the title.
    """
    own = suite.data is not None and _is_own(suite, args)
    if not own and args.dataset in (None, suite.data):
        return suite
    versions = {row.data: row.published for row in datasets.SUITE.rows}
    if args.dataset in versions and versions[args.dataset] == versions.get(str(suite.data)):
        return replace(suite, title=f"{suite.title}, on {args.dataset}")
    what = f"Own data: {Path(args.data).name}" if own else f"Data set {args.dataset}"
    return replace(
        suite,
        title=f"{what}, rows of {suite.name}",
        rows=tuple(row.but(note="") for row in suite.rows),
        columns=tuple(name for name in suite.columns if not METRICS[name].to_target),
        published=None,
        published_columns=(),
        also_published=(),
        target=None,
        notes=(),
        beside=None if own else suite.beside,
    )


def choose_device(asked: str) -> str:
    """The device that was asked for; for "auto" a CUDA GPU if there is one.

    Raises ValueError for a device that torch does not find.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available[asked]:
        raise ValueError(f"--device {asked}, but torch finds no such GPU; use --device cpu")
    return asked


def open_survey(survey: Survey, args: argparse.Namespace) -> dict[str, Dataset | Exception]:
    """The survey's data sets by label, or why one is not there.

    Raises ValueError for an option that has no effect on a survey.
    """
    for name in ("scale", "rows", "seeds", "epochs", "batch_size", "jobs", "check", "dataset"):
        if getattr(args, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} has no effect on suite {survey.name!r}, which trains "
                "nothing; leave it out"
            )
    opened: dict[str, Dataset | Exception] = {}
    for row in survey.rows:
        try:
            opened[row.label] = open_dataset(
                row.data, _root(args), synthetic=args.data == SYNTHETIC_DATA, **row.options
            )
        except (ValueError, OSError, ModuleNotFoundError) as error:
            opened[row.label] = error
    return opened


def report_name(job: Job | Survey, args: argparse.Namespace) -> str:
    """Name of the table, its record and figures: suite and scale, and what else was asked for.

    Labels of rows, places of files and their content do not fit into a name; a hash of the request
    then tells names apart. A name has letters, digits and "_.-", at most NAME_BYTES of them.
    """
    suite = job.suite if isinstance(job, Job) else job
    asked: dict[str, Any] = {name: getattr(args, name, None) for name in IN_NAME}
    if isinstance(job, Job) and args.rows:
        asked["rows"] = list(dict.fromkeys(run.row.label for run in job.runs))
    if isinstance(job, Job) and args.check is not None:  # which gives the precision
        asked |= {"precision": job.runs[0].training.precision, "check": "check"}
    if (processes := group_size()) > 1:
        asked["processes"] = processes
    asked = {name: value for name, value in asked.items() if value not in (None, "auto")}
    parts = [suite.name, *([job.scale] if isinstance(job, Job) else [])]
    name = "-".join([*parts, *(_part(option, value) for option, value in asked.items())])

    places = {"suite": args.suite} if args.suite.endswith(".py") else {}
    if (root := _root(args)) is not None:
        places["data"] = root
    if not asked.keys() & {"rows"} and not places and len(name) <= NAME_BYTES:
        return name
    request = {"name": parts, **asked, **{k: str(Path(v).resolve()) for k, v in places.items()}}
    if isinstance(job, Job) and _is_own(job.suite, args):
        request["digest"] = job.dataset.digest
    text = to_json(request, sort_keys=True).encode(errors="backslashreplace")
    ending = f"-{hashlib.sha256(text).hexdigest()[:8]}"
    return name[: NAME_BYTES - len(ending)].rstrip("-") + ending


def _part(option: str, value: Any) -> str:
    """An option as part of a table's name, which can be cut or ambiguous."""
    if isinstance(value, int):
        return f"{value}-{option}"
    texts = [Path(value).resolve().stem] if option == "data" else value
    texts = [texts] if isinstance(texts, str) else texts
    shown = (f"{x:g}" if isinstance(x, float) else str(x) for x in texts)
    return slug("-".join(shown))[:PART_BYTES].rstrip("-")


def _default_scale(suite: Suite, device: str) -> str:
    wanted = "standard" if device == "cuda" else "quick"
    return wanted if wanted in suite.training else next(iter(suite.training))


def _root(args: argparse.Namespace) -> Path | None:
    """The folder with the official files, if --data names one."""
    if args.data is not None and not args.data.strip():
        raise ValueError("--data is empty; expected a folder, a file or 'synthetic'")
    return None if args.data in (None, SYNTHETIC_DATA) else Path(args.data)


def _is_own(suite: Suite, args: argparse.Namespace) -> bool:
    """Whether --data names the user's own data."""
    root = _root(args)
    return root is not None and (
        suite.data is None or root.suffix.lower() in FILES or root.is_file()
    )


def _open(suite: Suite, scale: str, args: argparse.Namespace, other: str | None = None) -> Dataset:
    """The suite's data set, or the `other` of that name, or the user's own."""
    of_own = ("past", "future", "stride", "data_range", "layout", "variable", "crop", "pad")
    own = {name: value for name in of_own if (value := getattr(args, name)) is not None}
    if _is_own(suite, args):
        if other is not None:
            raise ValueError(f"--dataset {other} has no effect on your own data; leave it out")
        dataset = open_own(Path(args.data), **own)
        for line in (() if args.dry_run else (dataset.caption,)) + dataset.notes:
            print(line, file=sys.stderr)
        return dataset
    if own:
        raise ValueError(
            f"--{next(iter(own)).replace('_', '-')} is for your own data: --data FILE that ends in "
            f"{', '.join(FILES)}, or --suite compare --data FOLDER"
        )
    if suite.data is None:
        raise ValueError(f"suite {suite.name!r} runs on your own data; give --data FILE or FOLDER")
    name = suite.data if other is None else choose("data set", other, DATASETS)
    synthetic = args.data == SYNTHETIC_DATA
    options = suite.data_options.get(scale, {})
    try:
        return open_dataset(name, _root(args), synthetic=synthetic, **options)
    except FileNotFoundError as error:
        if args.data is None or not Path(args.data).is_dir():
            raise
        raise FileNotFoundError(
            f"{error}; if these are recordings of your own: --suite compare --data {args.data}"
        ) from error
