"""The examples in docstrings hold, and each metric has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from benchmarks import metrics

ROOT = Path(__file__).resolve().parent.parent
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("tau", "baselines", "benchmarks")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_in_docstrings_hold(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", metrics.METRICS)
def test_each_metric_shows_an_example(name):
    assert ">>> " in getattr(metrics, name).__doc__
