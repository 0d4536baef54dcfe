"""From stored runs to numbers: mean, std, seeds, and which of them differ significantly."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.experiment.spec import Panel, Suite
from benchmarks.experiment.store import StoredRun
from benchmarks.metrics import Column, Cost, Metric, ToTarget
from benchmarks.names import printable
from benchmarks.report import stats

SIZES = (("parameters", "Params", "M", 1e-6), ("macs", "FLOPs", "G", 1e-9))

MUST_AGREE: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "protocol": lambda record: record["protocol"],
    "scale": lambda record: record["scale"],
    "data digest": lambda record: record["data"]["digest"],
    "clip": lambda record: record["clip"],
    "test_sequences": lambda record: record["test_sequences"],
    "precision": lambda record: record["precision"],
    "device type": lambda record: record["device"]["type"],
    "processes": lambda record: record["processes"],
    "weights of metrics": lambda record: record.get("metrics", {}),
    "minutes": lambda record: record["training"].get("minutes"),
    "epochs": lambda record: (
        None if record["training"].get("minutes") else record["training"]["epochs"]
    ),
}

ALIKE = 0.99  # of the sequences of others: a batch size leaves out a remainder

MUST_AGREE_IN_TIME: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "device": lambda record: record["device"]["name"],
    "threads": lambda record: record["device"]["threads"],
}


def check_comparable(runs: Sequence[StoredRun], *, times: bool = False) -> None:
    """Raise ValueError, naming the runs, if finished runs differ in what must be equal.

    Where `times` are compared, that is the device's name and the threads too, and so it is where
    rows trained for equal minutes, in whose number of epochs they may differ. Runs that trained
    nothing, such as the persistence baseline, have no epochs to compare.
    """
    times = times or any(run.done and is_timed(run) for run in runs)
    for name, value in (MUST_AGREE | MUST_AGREE_IN_TIME if times else MUST_AGREE).items():
        found: dict[str, list[str]] = {}
        for run in runs:
            if run.done and (name != "epochs" or run.trained):
                found.setdefault(repr(value(run.record)), []).append(_describe(run))
        if len(found) > 1:
            listed = "; ".join(f"{value}: {', '.join(who)}" for value, who in found.items())
            raise ValueError(
                f"runs of one table must agree in {name}, but have {listed}. Repeat the odd ones, "
                "or report them apart"
            )


def measure(suite: Suite, panel: Panel, runs: Sequence[StoredRun]) -> pd.DataFrame:
    """Numbers of a panel, one row per label that has runs, in the suite's order.

    For each column `<name>` and `<name>_std`, in printed units, `<name>_missing`, the number of
    seeds that have none, `<name>_best`, and `<name>_infinite`, the share of predicted frames with
    an infinite score; the sizes `parameters`,
    `macs`, `paper_parameters`, `paper_macs`; `untrained`, for parameters of which none is
    trainable; the `lengths` of its trainings, with the sequences and minutes that they took;
    `is_shorter`, for rows whose means do not compare, as others trained on more sequences; the
    `seeds`; `failures` as (seed, status, reason).
    Raises ValueError if runs are not comparable, repeat a seed or have a label the suite lacks.
    """
    if not runs:
        raise ValueError(f"panel {panel.name!r} has no runs; expected at least one")
    by_label: dict[str, list[StoredRun]] = {row.label: [] for row in suite.rows}
    for run in runs:
        if run.record["row"] not in by_label:
            raise ValueError(
                f"{_describe(run)} is not a row of {suite.name!r}, which has {list(by_label)}"
            )
        for other in by_label[run.record["row"]]:
            if other.record["seed"] == run.record["seed"]:
                raise ValueError(f"{_describe(run)} and {_describe(other)} repeat a row and a seed")
        by_label[run.record["row"]].append(run)
    check_comparable(runs, times=any(isinstance(column, Cost) for column in panel.columns))

    several = any(sum(run.done for run in of) > 1 for of in by_label.values())
    rows = {x: _measure_row(of, suite, panel, several) for x, of in by_label.items() if of}
    frame = pd.DataFrame(rows.values(), index=list(rows))
    done = {x: [run for run in of if run.done] for x, of in by_label.items()}
    done = {label: of for label, of in done.items() if of}
    compared = comparable(done)
    frame["is_shorter"] = [label in done and label not in compared for label in frame.index]
    for column in panel.columns:
        best: set[str] = set()
        infinite: dict[str, float] = {}
        if isinstance(column, Metric):
            infinite = {
                x: fmean(run.summary.infinite[column.name] for run in of) for x, of in done.items()
            }
            if len(compared) > 1:
                scores = {x: paired(of, column) for x, of in compared.items()}
                best = stats.best_group(scores, column.lower_is_better, column.combine, block(runs))
        frame[f"{column.name}_best"] = [label in best for label in frame.index]
        frame[f"{column.name}_infinite"] = [infinite.get(label, 0.0) for label in frame.index]
    return frame


def paired(runs: Sequence[StoredRun], metric: Metric) -> NDArray[np.float64]:
    """What the bootstrap resamples of a row's seeds: their mean [N], or parts [seeds, N, K]."""
    scores = [run.summary.sequences[metric.name] for run in runs]
    if metric.combine is None:
        return stats.per_sequence([of[:, None] for of in scores])
    return np.stack(scores).astype(np.float64)


def block(runs: Iterable[StoredRun]) -> int:
    """How many test sequences in a row the bootstrap resamples together: 1 where none share frames.

    Otherwise twice the number that do: blocks of that number would give two thirds of the variance
    of the mean of windows that share frames, blocks of twice as many five sixths. Older records do
    not tell.
    """
    overlap = max((run.record.get("overlap", 1) for run in runs), default=1)
    return overlap if overlap == 1 else 2 * overlap


def comparable(done: Mapping[str, Sequence[StoredRun]]) -> dict[str, Sequence[StoredRun]]:
    """The rows whose means compare: in equal time all, else those that trained on the most.

    Rows that trained nothing compare with any.
    """
    if any(is_timed(run) for of in done.values() for run in of):
        return dict(done)
    trained = {x: max(trained_on(run.record) for run in of) for x, of in done.items()}
    most = max(trained.values(), default=0)
    return {x: done[x] for x, of in trained.items() if not of or of >= ALIKE * most}


def is_timed(run: StoredRun) -> bool:
    """Whether a finished run belongs to a table of equal minutes."""
    return bool(run.record["training"].get("minutes"))


def trained_on(record: Mapping[str, Any]) -> int:
    """How many sequences a finished run trained on, each as often as it was seen."""
    return int(record["steps"] * record["training"]["batch_size"])


def _measure_row(
    runs: Sequence[StoredRun], suite: Suite, panel: Panel, several: bool
) -> dict[str, Any]:
    """Numbers of a row; `several` says that a row of the table has more than one seed."""
    finished = [run for run in runs if run.done]
    done = [run.record for run in finished]
    row: dict[str, Any] = {
        "seeds": sorted(record["seed"] for record in done),
        "failures": [
            (r.record["seed"], r.record["status"], _reason(r)) for r in runs if not r.done
        ],
        "lengths": [
            {
                **record["training"],
                "trained_on": trained_on(record),
                "took": record["seconds"]["train"] / 60,
            }
            for record in done
            if record["steps"]
        ],
        "untrained": any(r.record["cost"]["parameters"] and not r.trained for r in finished),
    }
    for column in panel.columns:
        name = column.name
        values = [_value(run, column, suite) for run in finished]
        row[name] = row[f"{name}_std"] = None
        row[f"{name}_missing"] = values.count(None)
        if values and None not in values:  # None: was not measured
            summary = stats.over_seeds(
                [column.factor * value for value in values if value is not None]
            )
            row[name], row[f"{name}_std"] = summary.mean, summary.std
            if not several and (within := done[0]["cost"].get(f"{name}_spread")) is not None:
                row[f"{name}_std"] = column.factor * within
    for size, *_ in SIZES:
        for name in (size, f"paper_{size}"):
            row[name] = done[0]["cost"][name] if done else None
    return row


def _value(run: StoredRun, column: Column, suite: Suite) -> float | None:
    """A run's stored number, or where its learning curve first reaches the suite's target."""
    if not isinstance(column, ToTarget):
        stored = run.record["cost"] if isinstance(column, Cost) else run.means
        value: float | None = stored[column.name]
        return value
    if not run.trained or suite.target is None:
        return None
    curve = run.curve()
    reached = curve[curve["val_mse"].astype(float) <= suite.target[0]]
    return None if reached.empty else float(reached[column.curve].iloc[0])


def curve_of(run: StoredRun) -> pd.DataFrame:
    """`epoch`, `sequences`, `seconds` and `val_mse` of a run's learning curve, as numbers."""
    return run.curve()[["epoch", "sequences", "seconds", "val_mse"]].astype(float)


def samples_of(run: StoredRun) -> dict[str, NDArray[np.floating]]:
    """A run's `past`, `future` and `prediction`, each [N, T, C, H, W]; ValueError for others."""
    stored = run.samples()
    arrays = {name: stored[name].astype(float) for name in ("past", "future", "prediction")}
    past, future, prediction = arrays.values()
    like_past = past.ndim == 5 and past[:, :1].shape == future[:, :1].shape
    if not like_past or prediction.shape != future.shape:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(f"its samples have shapes {shapes}; expected [N, T, C, H, W] each")
    return arrays


def _describe(run: StoredRun) -> str:
    return f"{run.record['row']} seed {run.record['seed']} ({run.folder.name})"


def _reason(run: StoredRun) -> str:
    """Why there is no result, in a line of at most 160 characters; files below the runs' folder."""
    reason = printable(str(run.record["reason"]).replace(f"{run.folder.parent}{os.sep}", ""))
    return reason if len(reason) <= 160 else reason[:159] + "…"


def known(value: Any) -> float | None:
    """A number of a frame, or None where it has none."""
    return None if pd.isna(value) else float(value)
