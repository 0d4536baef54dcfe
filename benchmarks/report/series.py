"""What figures and pages show of stored runs, as numbers: series by row, curves, frames.

A row has the same colour everywhere, by its place among the suite's labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.experiment.store import StoredRun
from benchmarks.names import printable
from benchmarks.report.scores import samples_of

# Okabe and Ito's colours without yellow, then Tol's, in an order that keeps neighbours apart; a
# second round is dashed. The first, grey, suits the persistence baseline, which suites list first.
COLOURS = (
    *("#7F7F7F", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00"),
    *("#882255", "#44AA99", "#332288", "#999933", "#AA4499", "#117733", "#661100"),
)

SYNTHETIC = "synthetic data"  # marks figures of runs on generated stand-ins
LABEL_LENGTH = 32  # characters of a row's label that are shown
ROUNDING = 1e-3  # of stored frames that are still the same: earlier commits kept float16

Frames = NDArray[np.floating]


def is_synthetic(runs: Sequence[StoredRun]) -> bool:
    """Whether runs were trained on sequences generated as a stand-in for a real data set."""
    return any(run.done and "synthetic" in run.record["data"] for run in runs)


def shown(label: str) -> str:
    """A row's label as figures show it: in one line, cut where it is long."""
    text = printable(label)
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "…"


def mean_curve(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean, min and max of `val_mse`, mean `sequences` and `seconds`, by epoch.

    An epoch that is not finite for all seeds is left out.
    """
    points = pd.concat(curves)
    known = points[np.isfinite(points["val_mse"])]
    by_epoch = known.groupby("epoch")
    summary = by_epoch["val_mse"].agg(["mean", "min", "max", "count"])
    summary[["sequences", "seconds"]] = by_epoch[["sequences", "seconds"]].mean()
    return summary[summary["count"] == len(curves)]


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
