"""Spatiotemporal predictors under one protocol: suites, data, training, evaluation, tables."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Imported when they are asked for: that takes seconds.
_PUBLIC = {
    "load": "benchmarks.experiment.trained",
    "Panel": "benchmarks.experiment.spec",
    "Row": "benchmarks.experiment.spec",
    "Suite": "benchmarks.experiment.spec",
    "Training": "benchmarks.experiment.spec",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    """What a user's file needs: `from benchmarks import Row`."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'benchmarks' has no attribute {name!r}")
