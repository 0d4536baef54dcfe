"""What figures and pages show of stored runs, as numbers: series by row, curves, frames.

A row has the same colour everywhere, by its place among the suite's labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.experiment.store import StoredRun
from benchmarks.names import printable
from benchmarks.report.scores import comparable, is_timed, samples_of, trained_on

# Okabe and Ito's colours without yellow, then Tol's, in an order that keeps neighbours apart. The
# first, grey, suits the persistence baseline, which suites list first.
COLOURS = (
    *("#7F7F7F", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00"),
    *("#882255", "#44AA99", "#332288", "#999933", "#AA4499", "#117733", "#661100"),
)
ROUNDS = 3  # of colours, which dashes and markers tell apart

SYNTHETIC = "synthetic data"  # marks figures of runs on generated stand-ins
LABEL_LENGTH = 32  # characters of a row's label that are shown
ROUNDING = 1e-3  # of stored frames that are still the same: earlier commits kept float16

Frames = NDArray[np.floating]


def is_synthetic(runs: Sequence[StoredRun]) -> bool:
    """Whether runs were trained on sequences generated as a stand-in for a real data set."""
    return any(run.done and "synthetic" in run.record["data"] for run in runs)


def keys_of(runs: Iterable[StoredRun]) -> str:
    """What tells which finished runs a film was made of: their keys, sorted."""
    return " ".join(sorted(run.record["key"] for run in runs if run.done))


def style_of(label: str, labels: Sequence[str]) -> tuple[str, int]:
    """A row's colour, and in which of the ROUNDS it has it, from 0."""
    number, colour = divmod(list(labels).index(label), len(COLOURS))
    return COLOURS[colour], number % ROUNDS


def shown(label: str) -> str:
    """A row's label as figures show it: in one line, cut where it is long."""
    text = printable(label)
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "…"


def mean_curve(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean, min and max of `val_mse`, mean `sequences` and `seconds`, by epoch.

    An epoch that is not finite for all seeds is left out. Where seeds have unequal numbers of
    epochs, as in equal time, they are averaged at equal shares of their trainings, as many as the
    longest has epochs; then the index is the mean epoch.
    """
    lengths = [len(curve) for curve in curves]
    if len(set(lengths)) > 1:
        shares = np.linspace(1 / min(lengths), 1, max(lengths))
        curves = [_at(shares, curve) for curve in curves]
    points = pd.concat([curve.reset_index(drop=True) for curve in curves])
    by_place = points[np.isfinite(points["val_mse"])].groupby(level=0)
    summary = by_place["val_mse"].agg(["mean", "min", "max", "count"])
    means = ["epoch", "sequences", "seconds"]
    summary[means] = by_place[means].mean()
    return summary[summary["count"] == len(curves)].set_index("epoch")


def _at(shares: NDArray[np.floating], curve: pd.DataFrame) -> pd.DataFrame:
    """A learning curve, interpolated at these shares of its training."""
    epochs = np.arange(1, len(curve) + 1)
    at = {name: np.interp(shares * len(curve), epochs, curve[name]) for name in curve}
    return pd.DataFrame(at)


def by_label(runs: Sequence[StoredRun], labels: Sequence[str]) -> dict[str, list[StoredRun]]:
    """Finished runs of each label that has some, in the labels' order, by seed."""
    unknown = {run.record["row"] for run in runs} - set(labels)
    if unknown:
        raise ValueError(f"runs have rows {sorted(unknown)}; expected some of {list(labels)}")
    found = by_row(runs)
    return {label: found[label] for label in labels if label in found}


def by_row(runs: Iterable[StoredRun]) -> dict[str, list[StoredRun]]:
    """Finished runs of each row that has some, in the order of the runs, by seed."""
    found: dict[str, list[StoredRun]] = {}
    for run in runs:
        if run.done:
            found.setdefault(run.record["row"], []).append(run)
    return {row: sorted(of, key=lambda run: run.record["seed"]) for row, of in found.items()}


def costs_and_errors(runs: Sequence[StoredRun], labels: Sequence[str]) -> list[dict[str, Any]]:
    """What each `row` costs and its test MSE: `mean`, `min` and `max` over seeds.

    Costs are `macs` (G), `parameters` (M) and `minutes` of training. `compares` says whether no
    other row trained on more `sequences`. Rows that trained nothing are left out, as are diverged
    ones.
    """
    rows = by_label(runs, labels)
    compared = comparable(rows)
    points: list[dict[str, Any]] = []
    for label, of in rows.items():
        errors = [run.means["mse"] for run in of]
        if not all(run.trained for run in of) or not np.isfinite(errors).all():
            continue
        cost = of[0].record["cost"]
        minutes = [run.record["seconds"]["train"] / 60 for run in of]
        points.append(
            {"row": label, "mean": float(np.mean(errors)), "min": min(errors), "max": max(errors)}
            | {"macs": cost["macs"] / 1e9, "parameters": cost["parameters"] / 1e6}
            | {"minutes": float(np.mean(minutes)), "compares": label in compared}
            | {"sequences": float(np.mean([trained_on(run.record) for run in of]))}
        )
    return points


def in_equal_time(runs: Iterable[StoredRun]) -> bool:
    """Whether all that were trained had the same minutes, which then tell no rows apart."""
    return all(is_timed(run) for run in runs if run.done and run.trained)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of `points` that no other is below in both coordinates, from left to right."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front


Samples = Mapping[str, Mapping[str, Frames]]  # by label, then past, future and prediction


def read_samples(runs: Sequence[StoredRun], labels: Sequence[str]) -> Samples:
    """The stored test sequences of each row's first seed, by label, [N, T, C, H, W] in [0, 1]."""
    return {label: samples_of(of[0]) for label, of in by_label(runs, labels).items()}


def sequence_of(samples: Samples, number: int) -> tuple[Frames, Frames, dict[str, Frames]]:
    """Past, future and prediction by label, [T, C, H, W] in [0, 1], of a stored test sequence."""
    if not samples:
        raise ValueError("no finished run to take predictions from")
    least = min(len(arrays["past"]) for arrays in samples.values())
    if not 0 <= number < least:
        raise ValueError(f"sequence is {number}; expected 0 to {least - 1}")
    first = next(iter(samples.values()))
    past, future = first["past"][number], first["future"][number]
    for label, arrays in samples.items():
        own = arrays["future"][number]
        if own.shape != future.shape or not np.allclose(own, future, rtol=0, atol=ROUNDING):
            raise ValueError(f"row {label!r} was tested on other sequences than the first")
    return past, future, {label: arrays["prediction"][number] for label, arrays in samples.items()}
