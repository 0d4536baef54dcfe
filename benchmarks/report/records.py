"""The record of a table: all that it is made of, in one JSON file that rebuilds it.

It holds, for each run in the table's order, the run's record and under "report" what the table and
its figures read besides: the panel, each metric's mean for each test sequence and for each
predicted frame, the share of infinite scores, and the learning curve. Predicted frames are not in
it, so strips and animations need the runs themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import files
from benchmarks.experiment.spec import Panel, Suite
from benchmarks.experiment.store import CHECKSUM, DAMAGED, StoredRun, Summary, checksum
from benchmarks.further_metrics import recorded
from benchmarks.metrics import Column, Metric, ToTarget

LISTS = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s+\]")  # of numbers, each on a line of its own


def to_text(suite: Suite, panels: Iterable[tuple[Panel, Sequence[StoredRun]]]) -> str:
    """The record of a table as JSON."""
    entries = [_entry(suite, panel, run) for panel, of in panels for run in of]
    text = files.to_json(entries, indent=1)
    return LISTS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def _entry(suite: Suite, panel: Panel, run: StoredRun) -> dict[str, Any]:
    told: dict[str, Any] = {"suite": suite.name, "panel": panel.name}
    if run.done:
        names = [column.name for column in panel.columns if isinstance(column, Metric)]
        told |= {
            "sequence_means": {name: _short(run.summary.sequences[name]) for name in names},
            "frame_means": {"mse": _short(run.summary.frames["mse"])},
            "infinite_shares": {name: run.summary.infinite[name] for name in names},
            "curve": run.curve().to_dict("records") if run.trained else [],
        }
    entry = {**run.record, "report": told}
    told[CHECKSUM] = _checksum(entry)
    return entry


def _short(values: np.ndarray) -> list[Any]:
    """float32 numbers with no more digits than tell them apart; parts in lists of their own."""
    return [_short(value) if value.ndim else float(str(value)) for value in values]


class RecordedRun(StoredRun):
    """A run as a table's record has it, without its files."""

    @property
    def _report(self) -> Mapping[str, Any]:
        told: Mapping[str, Any] = self.record["report"]
        return told

    @cached_property
    def summary(self) -> Summary:
        """The scores as a table and its figures read them."""
        told = self._report
        sequences, frames = (
            {name: np.array(of, float).astype(np.float32) for name, of in told[key].items()}
            for key in ("sequence_means", "frame_means")
        )
        infinite = {name: float(share) for name, share in told["infinite_shares"].items()}
        return Summary(sequences, frames, infinite)

    @property
    def has_samples(self) -> bool:
        """No: predicted frames are not in a table's record."""
        return False

    def curve(self) -> pd.DataFrame:
        """Learning curve: epoch, step, sequences, seconds, train_loss, val_mse, lr."""
        return pd.DataFrame(self._report["curve"])


def read(path: Path) -> tuple[str, str, dict[str, list[StoredRun]]]:
    """The suite's name, the scale and the runs by panel in a table's record.

    Raises FileNotFoundError if there is none, ValueError if it is not one.
    """
    remedy = "give a file of records/ that `--suite NAME` wrote beside its table"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {remedy}")
    entries = files.read_json(path, remedy)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} is no record of a table; {remedy}")
    runs: dict[str, list[StoredRun]] = {}
    try:
        if not entries or not all("report" in entry for entry in entries):
            raise ValueError("it lacks the scores that a table's record has")
        for entry in entries:
            run = RecordedRun(path.parent / entry.get("folder", ""), entry)
            runs.setdefault(entry["report"]["panel"], []).append(run)
            if entry["report"].get(CHECKSUM) != _checksum(entry):
                row = f"{entry.get('row')}, seed {entry.get('seed')}"
                raise ValueError(f"{row}: its checksum is not its content's: it was changed")
            if run.done:
                _ = run.summary, run.curve()
        scale = next(entry["scale"] for entry in entries if "scale" in entry)
        return entries[0]["report"]["suite"], scale, runs
    except (*DAMAGED, AttributeError, StopIteration) as error:
        raise ValueError(
            f"{path} does not rebuild a table ({type(error).__name__}: {error}); {remedy}"
        ) from error


def _checksum(entry: Mapping[str, Any]) -> str:
    """The checksum of an entry with all that it reports."""
    told = {name: value for name, value in entry["report"].items() if name != CHECKSUM}
    return checksum({**entry, "report": told})


def with_columns(suite: Suite, runs: Mapping[str, Sequence[StoredRun]]) -> Suite:
    """The suite with the columns that a record's `runs` have: more than its panels have, or fewer.

    Raises ValueError for a metric that is not of this project, and if some runs lack a column that
    others have.
    """
    panels = []
    for panel in suite.panels:
        done = [run for run in runs.get(panel.name, ()) if run.done]
        digests: dict[str, str | None] = {}
        for run in done:
            weights = run.record.get("metrics", {})
            digests |= {name: weights.get(name) for name in run.summary.sequences}
        own = {column.name for column in panel.columns}
        added = [recorded(name, digest) for name, digest in digests.items() if name not in own]
        columns = []
        for column in (*panel.columns, *added):
            lacking = [run for run in done if not _has(run, column)]
            if 0 < len(lacking) < len(done):
                rows = ", ".join(dict.fromkeys(str(run.record["row"]) for run in lacking))
                raise ValueError(
                    f"of the record's runs on {panel.name}, those of {rows} lack {column.name}, "
                    "which others have; report them apart"
                )
            if not lacking:
                columns.append(column)
        panels.append(replace(panel, columns=tuple(columns)))
    return replace(suite, panels=tuple(panels))


def _has(run: StoredRun, column: Column) -> bool:
    """Whether a finished run has the numbers of a column."""
    if isinstance(column, Metric):
        return column.name in run.summary.sequences
    return isinstance(column, ToTarget) or column.name in run.record["cost"]
