"""Regression on metrics: do freshly trained rows still give the numbers they gave?

A reference file holds, for each row and metric, the expected value and a tolerance taken from the
spread over seeds and thread counts, and the orderings that must hold between rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.metrics import METRICS
from benchmarks.names import choose
from benchmarks.store import StoredRun

SPREADS = 5.0  # a tolerance is this many standard deviations
FLOOR = 1e-5  # and at least this fraction of the value: rounding on another processor


def check(runs: Sequence[StoredRun], path: Path) -> list[str]:
    """What is wrong with `runs` by the reference in `path`: one line for each fault, or none.

    Raises FileNotFoundError or ValueError if the reference is missing or was made from other data,
    another scale or another training than the runs.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; --accept writes it")
    reference = json.loads(path.read_text(encoding="utf-8"))
    faults = []
    found = {run.record["row"]: run for run in runs}
    for name in ("scale", "data"):
        for run in runs:
            actual = _identity(run)[name]
            if actual != reference[name]:
                generated = " (synthetic)" * (name == "data" and "synthetic" in run.record["data"])
                raise ValueError(
                    f"{path} was made with {name} {reference[name]}, {run.record['row']!r} ran "
                    f"with {actual}{generated}; --check and --accept need the same options"
                )
    for label, metrics in reference["rows"].items():
        if label not in found:
            faults.append(f"{label}: no run; expected one, as in {path.name}")
        elif not found[label].done:
            faults.append(f"{label}: failed: {found[label].record['reason']}")
        else:
            faults += _moved(label, found[label].record["means"], metrics)
    for label in found.keys() - reference["rows"].keys():
        faults.append(f"{label}: not in {path.name}; --accept adds it")
    values = {label: run.record["means"] for label, run in found.items() if run.done}
    for metric, better, worse in reference["orderings"]:
        if better in values and worse in values:
            a, b = values[better][metric], values[worse][metric]
            if not _is_better(metric, a, b):
                faults.append(
                    f"{better}: {metric} {a:.6g} is not better than {worse}'s {b:.6g}; expected it "
                    "to be"
                )
    return faults


def _moved(label: str, means: dict[str, float | None], metrics: dict[str, Any]) -> list[str]:
    faults = []
    for metric, expected in metrics.items():
        value = means[metric]
        # written so that a value which is not a number is a fault
        if value is None or not abs(value - expected["value"]) <= expected["tolerance"]:
            shown = "missing" if value is None else f"{value:.6g}"
            faults.append(
                f"{label}: {metric} is {shown}, expected {expected['value']:.6g} "
                f"± {expected['tolerance']:.2g}"
            )
    return faults


def accept(runs: Sequence[StoredRun], orderings: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """The reference that `runs` (several seeds and thread counts of each row) give; not written.

    Raises ValueError if a run failed, a row has a single run, or an ordering does not hold for
    every seed and thread count.
    """
    by_label: dict[str, list[StoredRun]] = {}
    for run in runs:
        if not run.done:
            raise ValueError(f"{run.record['row']} failed: {run.record['reason']}; not accepted")
        by_label.setdefault(run.record["row"], []).append(run)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for label, of in by_label.items():
        if len(of) < 2:
            raise ValueError(f"{label} has one run; a tolerance needs several seeds")
        rows[label] = {}
        for metric in METRICS:
            values = [run.record["means"][metric] for run in of]
            if None in values:
                continue  # an infinite PSNR has no tolerance
            tolerance = max(SPREADS * stdev(values), FLOOR * abs(fmean(values)))
            rows[label][metric] = {"value": fmean(values), "tolerance": tolerance}
    for metric, better, worse in orderings:
        choose("ordering: row", better, rows)
        choose("ordering: row", worse, rows)
        for a in by_label[better]:
            for b in by_label[worse]:
                x, y = a.record["means"][metric], b.record["means"][metric]
                if not _is_better(metric, x, y):
                    raise ValueError(
                        f"{metric} of {better} ({x:.6g}, seed {a.record['seed']}) is not better "
                        f"than that of {worse} ({y:.6g}, seed {b.record['seed']}); not accepted"
                    )
    first = runs[0].record
    return {
        **_identity(runs[0]),
        "made": {
            "seeds": sorted({run.record["seed"] for run in runs}),
            "threads": sorted({run.record["device"]["threads"] for run in runs}),
            "spreads": SPREADS,
            "device": first["device"],
            "versions": first["versions"],
            "commit": first["commit"],
        },
        "orderings": [list(ordering) for ordering in orderings],
        "rows": rows,
    }


def _identity(run: StoredRun) -> dict[str, Any]:
    return {"scale": run.record["scale"], "data": run.record["data"]["digest"]}


def _is_better(metric: str, a: float, b: float) -> bool:
    return a < b if METRICS[metric].better == "lower" else a > b
