"""One file is one table or figure of the paper; each holds a `SUITE`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from benchmarks.experiment.code import import_file
from benchmarks.experiment.spec import DatasetTable, Row, Suite
from benchmarks.names import choose, printable

SHARED = ("notes", "sizes")  # modules that hold no suite


def find_suite(name: str) -> Suite | DatasetTable:
    """The suite of that name in benchmarks/suites, or the SUITE of a user's Python file."""
    if name.endswith(".py"):
        suite = getattr(_import(name), "SUITE", None)
        if not isinstance(suite, Suite | DatasetTable):
            raise ValueError(f"{name} has no SUITE; expected `SUITE = Suite(...)`")
        return suite
    try:
        choose("suite", name, suite_names())
    except ValueError as error:
        raise ValueError(f"{error}; a suite of your own is a file: --suite FILE.py") from None
    module = importlib.import_module(f"benchmarks.suites.{name}")
    found: Suite | DatasetTable = module.SUITE
    return found


def with_models(suite: Suite, names: Sequence[str]) -> Suite:
    """The suite with a row for each of these classes, named as FILE.py:CLASS, at its end.

    A row has the class's name as its label, and its constructor's defaults. Raises ValueError for
    what is no class derived from tau.Predictor, and for the label of another row.
    """
    rows = list(suite.rows)
    for name in names:
        file, _, label = name.rpartition(":")
        if not file.endswith(".py") or not label:
            raise ValueError(f"--add is {name!r}; expected FILE.py:CLASS, such as mine.py:Linear")
        module = _import(file)
        if not hasattr(module, label):
            raise ValueError(f"{file} has no {label!r}; expected a class of that name")
        if label in (row.label for row in rows):
            raise ValueError(f"suite {suite.name!r} has a row {label!r}; rename the class")
        rows.append(Row(label, getattr(module, label)))
    added = [row.label for row in rows[len(suite.rows) :]]
    return replace(suite, rows=rows, selected=[*suite.selected, *added] if suite.selected else ())


def _import(file: str) -> ModuleType:
    """A user's Python file as a module; ValueError for one that cannot be imported."""
    try:
        return import_file(Path(file))
    except (ValueError, FileNotFoundError):
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise ValueError(
            printable(f"{file} cannot be imported: {type(error).__name__}: {error}")
            + "; run it with Python to see where"
        ) from error


def suite_names() -> list[str]:
    """Names of the suites in benchmarks/suites."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name not in SHARED)
