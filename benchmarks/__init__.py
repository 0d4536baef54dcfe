"""Spatiotemporal predictors under one protocol: suites, data, training, evaluation, tables.

`__version__` is that of the installed package, and "0+unknown" in a checkout that is not installed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# What a user's file needs, imported when it is asked for: that takes seconds.
_PUBLIC = {
    "load": "benchmarks.experiment.trained",
    "Panel": "benchmarks.experiment.spec",
    "Row": "benchmarks.experiment.spec",
    "Suite": "benchmarks.experiment.spec",
    "Training": "benchmarks.experiment.spec",
}

__all__ = ["__version__", *_PUBLIC]

try:
    __version__ = version("spatiotemporal-benchmarks")
except PackageNotFoundError:
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """A public name: `from benchmarks import Row`."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'benchmarks' has no attribute {name!r}")
