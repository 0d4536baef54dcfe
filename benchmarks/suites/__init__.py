"""One file is one table or figure of the paper; each holds a `SUITE`."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from benchmarks.experiment.code import import_file
from benchmarks.experiment.spec import DatasetTable, Suite
from benchmarks.names import choose, printable

SHARED = ("notes", "sizes")  # modules that hold no suite


def find_suite(name: str) -> Suite | DatasetTable:
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


def suite_names() -> list[str]:
    """Names of the suites in benchmarks/suites."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name not in SHARED)
