"""The measuring: suites, data, training, evaluation, metrics, costs, tables and figures."""

from benchmarks.store import load

__all__ = ["load"]
