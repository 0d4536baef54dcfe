"""The measuring: suites, data, training, evaluation, metrics, costs, tables and figures.

`__version__` is that of the installed package, and "0+unknown" in a checkout that is not installed.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["__version__", "load"]

try:
    __version__ = version("spatiotemporal-benchmarks")
except PackageNotFoundError:
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """`benchmarks.load`, imported when it is asked for: it takes seconds."""
    if name == "load":
        from benchmarks.experiment.trained import load

        return load
    raise AttributeError(f"module 'benchmarks' has no attribute {name!r}")
