"""What the command's options ask for: checked jobs, before anything trains."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import suites
from benchmarks.check import precision_of
from benchmarks.code import import_file
from benchmarks.data import DATASETS, FILES, Dataset, open_dataset, open_own
from benchmarks.fabric import group_size
from benchmarks.names import choose
from benchmarks.suite import Run, Suite, Survey, plan

SYNTHETIC_DATA = "synthetic"


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
                f"{name} cannot be imported: {type(error).__name__}: {error}; run it with Python "
                "to see where"
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
            precision=precision,
            processes=group_size(),
        )
        jobs.append(Job(of, scale, dataset, runs))
    return jobs


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
    for name in ("scale", "rows", "seeds", "epochs", "jobs", "check", "dataset"):
        if getattr(args, name) is not None:
            raise ValueError(
                f"--{name} has no effect on suite {survey.name!r}, which trains nothing; leave it "
                "out"
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


def report_name(suite: Suite, scale: str, args: argparse.Namespace) -> str:
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
    options = ("past", "future", "stride", "data_range", "layout", "variable", "crop", "pad")
    own = {name: value for name in options if (value := getattr(args, name)) is not None}
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
    return open_dataset(name, _root(args), synthetic=synthetic, **suite.data_options.get(scale, {}))
