"""What a table's metrics were in an earlier record, and whether a difference is significant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.experiment.spec import Panel, Suite
from benchmarks.experiment.store import StoredRun
from benchmarks.metrics import Metric
from benchmarks.report import records, stats
from benchmarks.report.scores import block, paired
from benchmarks.report.series import by_row
from benchmarks.report.table import number_text

BETTER, WORSE, SAME, EQUAL = "better", "worse", "not significant", "equal"
# What scores must have in common to compare, of a record and a metric's name; by the verdict.
OTHERS: Mapping[str, Callable[[Mapping[str, Any], str], Any]] = {
    "other test sequences": lambda record, _: (record["data"]["digest"], record["test_sequences"]),
    "other protocol": lambda record, _: record["protocol"],
    "other weights": lambda record, name: record.get("metrics", {}).get(name),
}


class Line(NamedTuple):
    """A row's metric before and after, as printed; `verdict` is of the difference."""

    panel: str
    row: str
    metric: str
    before: str
    after: str
    difference: str
    verdict: str


@dataclass(frozen=True)
class Change:
    """A table's metrics beside those of an earlier record of it."""

    name: str  # of the earlier record
    lines: tuple[Line, ...]
    only_before: tuple[str, ...]  # rows
    only_after: tuple[str, ...]

    @property
    def statements(self) -> tuple[str, ...]:
        """What is compared, in sentences."""
        told = [
            f"Means over seeds, before from the record {self.name}. Better and worse: the "
            "difference is significant (paired bootstrap over test sequences, "
            f"{stats.RESAMPLES:,} resamples, two-sided, {stats.SIGNIFICANCE:.0%}; it does not "
            "cover the std over seeds, nor that many are tested)."
        ]
        for rows, where in ((self.only_before, "before"), (self.only_after, "after")):
            if rows:
                told.append(f"Only {where}: {', '.join(rows)}.")
        return tuple(told)

    @property
    def summary(self) -> str:
        """How many differences there are of each kind, in a line."""
        counts = Counter(line.verdict for line in self.lines)
        listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        return f"metrics against {self.name}: {listed or 'none in common'}"


@dataclass(frozen=True)
class Earlier:
    """The runs of an earlier record, by panel, and its name."""

    name: str
    runs: Mapping[str, Sequence[StoredRun]]


def read_earlier(path: Path, suite: Suite, labels: Collection[str]) -> Earlier:
    """Read the record of an earlier table, which is to be compared with rows `labels` of a suite.

    Raises FileNotFoundError or ValueError if it is no record, or has none of these rows finished on
    any of the suite's panels.
    """
    _, _, runs = records.read(path)
    panels = {panel.name for panel in suite.panels}
    found = {run.record["row"] for name in panels & runs.keys() for run in runs[name] if run.done}
    if not found & set(labels):
        raise ValueError(
            f"{path} has nothing to compare: of this table's rows ({', '.join(labels)}), none has "
            f"a result there on {' or '.join(sorted(panels))}; expected an earlier record of it"
        )
    return Earlier(path.stem, runs)


def compare(suite: Suite, earlier: Earlier, runs: Mapping[str, Sequence[StoredRun]]) -> Change:
    """The change from the `earlier` runs to `runs`, by panel, of those that have finished."""
    lines: list[Line] = []
    old_rows: dict[str, object] = {}
    new_rows: dict[str, object] = {}
    for panel in suite.panels:
        old, new = (by_row(of.get(panel.name, ())) for of in (earlier.runs, runs))
        old_rows |= old
        new_rows |= new
        for row in suite.rows:
            if row.label in old and row.label in new:
                lines += _lines(panel, row.label, old[row.label], new[row.label])
    return Change(
        earlier.name,
        tuple(lines),
        tuple(row for row in old_rows if row not in new_rows),
        tuple(row for row in new_rows if row not in old_rows),
    )


def _lines(
    panel: Panel, label: str, old: Sequence[StoredRun], new: Sequence[StoredRun]
) -> Iterator[Line]:
    for column in panel.columns:
        runs = [*old, *new]
        if not isinstance(column, Metric) or any(column.name not in run.means for run in runs):
            continue
        before, after = (
            column.factor * float(np.mean([run.means[column.name] for run in of]))
            for of in (old, new)
        )
        shown = [number_text(x, x, column.digits) for x in (before, after, after - before)]
        sign = "+" * (after > before)
        difference = f"{sign}{shown[2]}" if before != after else "0"
        verdict = _verdict(column, old, new)
        yield Line(panel.name, label, column.title, shown[0], shown[1], difference, verdict)


def _verdict(column: Metric, old: Sequence[StoredRun], new: Sequence[StoredRun]) -> str:
    """What the paired scores say of a difference."""
    for verdict, value in OTHERS.items():
        if len({value(run.record, column.name) for run in (*old, *new)}) > 1:
            return verdict
    before, after = (paired(of, column) for of in (old, new))
    if np.array_equal(before, after, equal_nan=True):
        return EQUAL
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return "not finite"
    p_value = stats.paired_bootstrap(
        before, after, block=block([*old, *new]), combine=column.combine
    )
    if p_value >= stats.SIGNIFICANCE:
        return SAME
    was, now = (stats.number(scores, column.combine) for scores in (before, after))
    return BETTER if (now < was) == column.lower_is_better else WORSE
