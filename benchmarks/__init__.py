"""The measuring: suites, data, training, evaluation, metrics, costs, tables and figures."""

from benchmarks.trained import load

__all__ = ["load"]
