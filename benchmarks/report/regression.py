"""Regression on metrics: do freshly trained rows still give the numbers they gave?

A reference file holds, for each row and metric, the value of one seed and a tolerance, and the
orderings that must hold between rows. A seed fixes a training but for the order of its sums: what
that is worth after so many steps shows in the difference between thread counts. Measured at smoke
scale: between thread counts a row differs by 1e-8 to 7e-3 of its value, with SSE's kernels instead
of AVX2's by 1e-8 to 4e-3, with another seed by up to its half.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.experiment.store import StoredRun
from benchmarks.files import read_json
from benchmarks.metrics import METRICS
from benchmarks.names import choose

SPREADS = 20.0  # a tolerance is this many times the range over thread counts
# and at least this fraction of the value: rounding on another processor, which training amplifies
FLOOR, TRAINED_FLOOR = 1e-5, 0.01


def check(runs: Sequence[StoredRun], path: Path) -> list[str]:
    """What is wrong with `runs` by the reference in `path`: one line for each fault, or none.

    Runs of other seeds than the reference's are not compared. Raises what `comparable` raises.
    """
    reference = comparable([run.record for run in runs], path)
    faults = []
    seed = reference["made"]["seed"]
    found = {run.record["row"]: run for run in runs if run.record["seed"] == seed}
    for label, metrics in reference["rows"].items():
        if label not in found:
            faults.append(f"{label}: no run of seed {seed}; expected one, as in {path.name}")
        elif not found[label].done:
            faults.append(f"{label}: failed: {found[label].record['reason']}")
        else:
            faults += _regressions(label, found[label].means, metrics)
    for label in found.keys() - reference["rows"].keys():
        faults.append(f"{label}: not in {path.name}; --update adds it")
    values = {label: run.means for label, run in found.items() if run.done}
    for metric, better, worse in reference["orderings"]:
        if better in values and worse in values:
            a, b = values[better][metric], values[worse][metric]
            if not _is_better(metric, a, b):
                faults.append(
                    f"{better}: {metric} {a:.6g} is not better than {worse}'s {b:.6g}; expected it "
                    "to be"
                )
    return faults


def comparable(records: Iterable[Mapping[str, Any]], path: Path) -> dict[str, Any]:
    """The reference in `path`, if it can be compared with runs of these records, done or planned.

    Raises FileNotFoundError or ValueError if it is missing or damaged, or was made from other data,
    at another scale, in another precision or on another kind of device.
    """
    reference = read_reference(path)
    made_on = reference["made"].get("device", {}).get("type")
    for record in records:
        for name, actual in _identity(record).items():
            if actual != reference[name]:
                generated = " (synthetic)" * (name == "data" and "synthetic" in record["data"])
                raise ValueError(
                    f"{path} was made with {name} {reference[name]}, and row {record['row']!r} has "
                    f"{actual}{generated}; --check and --update need the same options"
                )
        device = record["device"]["type"]
        if made_on not in (None, device):
            raise ValueError(
                f"{path} was made on {made_on}, and row {record['row']!r} runs on {device}: give "
                f"--device {made_on}"
            )
    return reference


def read_reference(path: Path) -> dict[str, Any]:
    """The content of a reference file.

    Raises FileNotFoundError if there is none, ValueError if it lacks something.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; --update writes it")
    reference: dict[str, Any] = read_json(path, "--update writes it again")
    try:
        _check_content(reference)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a reference ({type(error).__name__}: {error}); --update writes it again"
        ) from error
    return reference


def _check_content(reference: Any) -> None:
    """Raise one of several errors if something is missing, of another type, or unknown."""
    for name in ("scale", "data", "precision"):
        choose("entry", name, reference)
    int(reference["made"]["seed"])
    rows = reference["rows"]
    for metrics in rows.values():
        for metric, expected in metrics.items():
            choose("metric", metric, METRICS)
            if not (math.isfinite(expected["value"]) and expected["tolerance"] >= 0):
                raise ValueError(f"{metric} is {expected}; expected finite numbers")
    for metric, *labels in reference["orderings"]:
        choose("metric", metric, METRICS)
        better, worse = labels
        choose("row", better, rows)
        choose("row", worse, rows)


def other_version(runs: Iterable[StoredRun], path: Path) -> str:
    """A sentence on the versions of torch, if the reference's is not that of the runs; or none."""
    made = read_reference(path)["made"].get("versions", {}).get("torch")
    others = {run.record["versions"].get("torch") for run in runs} - {made}
    return (
        f"{path} was made with torch {made}, and these runs with {', '.join(map(str, others))}, "
        "which may draw other initial weights: --update makes a reference of your own"
    ) * bool(others)


def precision_of(path: Path) -> str:
    """The precision that a reference was made in, which a comparison with it needs."""
    return str(read_reference(path)["precision"])


def _regressions(label: str, means: dict[str, float], metrics: dict[str, Any]) -> list[str]:
    faults = []
    for metric, expected in metrics.items():
        value = means[metric]
        # written so that a value which is not a number is a fault
        if not abs(value - expected["value"]) <= expected["tolerance"]:
            faults.append(
                f"{label}: {metric} is {value:.6g}, expected {expected['value']:.6g} "
                f"± {expected['tolerance']:.2g}"
            )
    return faults


def make_reference(
    runs: Sequence[StoredRun], orderings: Sequence[tuple[str, str, str]]
) -> dict[str, Any]:
    """The reference that `runs` give, one seed with several thread counts of each row; not written.

    Raises ValueError if a run failed, a row has a single run, seeds differ, or an ordering does not
    hold for every thread count.
    """
    seed = only_seed(run.record["seed"] for run in runs)
    by_label: dict[str, list[StoredRun]] = {}
    for run in runs:
        if not run.done:
            raise ValueError(f"{run.record['row']} failed: {run.record['reason']}; not a reference")
        by_label.setdefault(run.record["row"], []).append(run)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for label, of in by_label.items():
        if len(of) < 2:
            raise ValueError(f"{label} has one run; a tolerance needs several thread counts")
        rows[label] = {}
        floor = TRAINED_FLOOR if of[0].trained else FLOOR
        for metric in METRICS:
            values = [run.means[metric] for run in of]
            if not all(map(math.isfinite, values)):
                continue  # an infinite PSNR has no tolerance
            spread = max(values) - min(values)
            tolerance = max(SPREADS * spread, floor * abs(fmean(values)))
            rows[label][metric] = {"value": fmean(values), "tolerance": tolerance}
    for metric, better, worse in orderings:
        choose("ordering: row", better, rows)
        choose("ordering: row", worse, rows)
        for a in by_label[better]:
            for b in by_label[worse]:
                x, y = a.means[metric], b.means[metric]
                if not _is_better(metric, x, y):
                    raise ValueError(
                        f"{metric} of {better} ({x:.6g}) is not better than that of {worse} "
                        f"({y:.6g}); not a reference"
                    )
    first = runs[0].record
    return {
        **_identity(first),
        "made": {
            "seed": seed,
            "threads": sorted({run.record["device"]["threads"] for run in runs}),
            "spreads": SPREADS,
            "device": first["device"],
            "versions": first["versions"],
            "commit": first["commit"],
        },
        "orderings": [list(ordering) for ordering in orderings],
        "rows": rows,
    }


def only_seed(seeds: Iterable[int]) -> int:
    """The seed that all runs of a reference have; raises ValueError if there are several."""
    found = sorted(set(seeds))
    if len(found) > 1:
        raise ValueError(f"a reference has one seed, not {found}; leave --seeds out")
    return found[0]


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "scale": record["scale"],
        "data": record["data"]["digest"],
        "precision": record["precision"],
    }


def _is_better(metric: str, a: float, b: float) -> bool:
    return a < b if METRICS[metric].better == "lower" else a > b


def verdict(runs: Sequence[StoredRun], reference: Path | None) -> tuple[str, int]:
    """What is wrong with runs, a line for each fault, and the command's exit status."""
    several = len({run.record["data"].get("name") for run in runs}) > 1
    faults = [
        f"FAILED {_name(run, several)}: {run.record['reason']}" for run in runs if not run.done
    ]
    for run in runs:
        if run.done and (
            wrong := [name for name, mean in run.means.items() if _is_wrong(name, mean)]
        ):
            faults.append(
                f"NOT A NUMBER {_name(run, several)}: {', '.join(wrong)}; it predicts NaN or "
                "infinity"
            )
    said = list(faults)
    if reference is not None:
        regressions = check(runs, reference)
        faults += regressions
        said += [f"REGRESSION {fault}" for fault in regressions]
        within = f"all metrics within the tolerances of {reference}"
        said.append(other_version(runs, reference) if regressions else within)
    return "".join(f"{line}\n" for line in said if line), 1 if faults else 0


def _name(run: StoredRun, of_several: bool) -> str:
    """A run, with its data set where there are several."""
    where = f" on {run.record['data'].get('name')}" if of_several else ""
    return f"{run.record['row']}{where}, seed {run.record['seed']}"


def _is_wrong(metric: str, mean: float) -> bool:
    """Whether a mean is no score: NaN, or infinite where that is not the best there can be."""
    known = METRICS.get(metric)
    return math.isnan(mean) or (math.isinf(mean) and known is not None and known.lower_is_better)
