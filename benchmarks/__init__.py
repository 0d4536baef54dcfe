"""The measuring: suites, data, training, evaluation, metrics, costs, tables and figures."""

from __future__ import annotations

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`benchmarks.load`, imported when it is asked for: it takes seconds."""
    if name == "load":
        from benchmarks.experiment.trained import load

        return load
    raise AttributeError(f"module 'benchmarks' has no attribute {name!r}")
