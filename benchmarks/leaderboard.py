"""The leaderboard: of all committed records, the rows that compare, best first.

Rows compare that were tested on the same sequences and trained under the same protocol: for as many
epochs of as many sequences, or as many minutes on the same device, in the same precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.experiment.spec import Panel, Suite
from benchmarks.experiment.store import StoredRun
from benchmarks.metrics import Metric
from benchmarks.report import records, stats
from benchmarks.report.markdown import escape_markdown
from benchmarks.report.scores import MUST_AGREE, MUST_AGREE_IN_TIME, block, is_timed, paired
from benchmarks.report.series import by_row
from benchmarks.report.table import ABSENT, device_of, number_text
from benchmarks.suites import find_suite, suite_names


class Entry(NamedTuple):
    """A row of a record: its runs with different seeds on one data set, and their metrics."""

    record: str
    row: str
    runs: Sequence[StoredRun]
    metrics: Sequence[Metric]

    def has(self, metric: Metric) -> bool:
        """Whether it was scored by the metric, with the same weights."""
        return _identity(metric) in map(_identity, self.metrics)

    def number(self, metric: Metric) -> stats.Summary:
        """The metric's number as it is printed, over seeds; NaN if it has none."""
        if not self.has(metric):
            return stats.Summary(math.nan, None, len(self.runs))
        return stats.over_seeds([metric.factor * run.means[metric.name] for run in self.runs])


class Board(NamedTuple):
    """Entries that compare, and what they have in common."""

    dataset: str
    protocol: str
    data: str
    entries: list[Entry]

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that any entry has."""
        return list({_identity(m): m for entry in self.entries for m in entry.metrics}.values())


def _identity(metric: Metric) -> tuple[str, str | None]:
    """What tells metrics apart: of other weights, one is another."""
    return metric.name, metric.digest


def leaderboard(folder: Path) -> str:
    """The boards of a folder of records, in Markdown; links lead to results/report/.

    Raises ValueError as `read_table` does.
    """
    text = []
    named = ""
    conventions: dict[str, None] = {}  # each said once
    for board in boards(folder):
        if board.dataset != named:
            text.append(f"## {escape_markdown(board.dataset)}\n")
            named = board.dataset
        text.append(f"### {escape_markdown(board.protocol)}\n")
        text.append(f"{escape_markdown(board.data)}\n")
        text.append("\n".join(_table(board)) + "\n")
        for m in board.metrics:
            conventions[f"- {escape_markdown(m.name)}: {escape_markdown(m.convention)}"] = None
    return "\n".join([*text, "## Conventions\n", *conventions]) + "\n"


def boards(folder: Path) -> list[Board]:
    """What compares among the records of a folder, by data set; rows without scores are left out.

    Raises ValueError as `read_table` does.
    """
    found: dict[tuple[object, ...], Board] = {}
    for panel, entry in _entries(folder):
        run = entry.runs[0]
        told = (panel, _protocol(run), _data(run.record))
        board = found.setdefault((*told, *_in_common(run)), Board(*told, []))
        board.entries.append(entry)
    return sorted(found.values(), key=lambda board: board[:3])


def _entries(folder: Path) -> Iterator[tuple[str, Entry]]:
    """The scored rows of all records, by panel; runs in several once, with the most metrics."""
    found: dict[tuple[str, ...], Entry] = {}
    for path in sorted(folder.glob("*.json")):
        suite, panels = read_table(path)
        for panel in suite.panels:
            for row, of in by_row(panels.get(panel.name, ())).items():
                entry = Entry(path.stem, row, of, _metrics_of(of, panel))
                keys = (panel.name, *sorted(run.record["key"] for run in of))
                if len(entry.metrics) > (len(found[keys].metrics) if keys in found else 0):
                    found[keys] = entry
    yield from ((panel, entry) for (panel, *_), entry in found.items())


def _metrics_of(runs: Sequence[StoredRun], panel: Panel) -> list[Metric]:
    """The metrics among a panel's columns by which all runs were scored."""
    return [
        column
        for column in panel.columns
        if isinstance(column, Metric)
        and all(column.name in run.summary.sequences for run in runs)
        and all(run.record.get("metrics", {}).get(column.name) == column.digest for run in runs)
    ]


def read_table(path: Path) -> tuple[Suite, dict[str, list[StoredRun]]]:
    """The suite of a record, with the columns that the record has, and its runs by panel.

    Raises ValueError for a file that is no record, and for a record of what this project's suites
    do not have.
    """
    name, _, runs = records.read(path)
    rows = dict.fromkeys(run.record["row"] for of in runs.values() for run in of)
    suite = find_suite(name) if name in suite_names() else None
    if (
        not isinstance(suite, Suite)
        or runs.keys() - {panel.name for panel in suite.panels}
        or rows.keys() - {row.label for row in suite.rows}
    ):
        raise ValueError(
            f"{path} is of suite {name!r} on {', '.join(runs)}, with the rows {', '.join(rows)}: "
            "this project lacks some of it, as the table was made with --dataset, --data, --add or "
            "another suite; add that to benchmarks/suites, or move the record out of its folder"
        )
    try:
        return records.with_columns(suite, runs), runs
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _in_common(run: StoredRun) -> Iterator[object]:
    """What entries of a board must have in common, which may differ in their metrics."""
    agree = MUST_AGREE | MUST_AGREE_IN_TIME if is_timed(run) else MUST_AGREE
    for name, of in agree.items():
        value = None if name == "weights of metrics" else of(run.record)
        yield tuple(sorted(value.items())) if isinstance(value, dict) else value


def _protocol(run: StoredRun) -> str:
    """How long a run trained, on what, and where."""
    record, training = run.record, run.record["training"]
    length, where = f"{training['epochs']} epochs of {training['sequences']:,} sequences", ""
    if is_timed(run):
        length, where = f"{training['minutes']:g} minutes per row", f" on {device_of(record)}"
    shared = f", {record['processes']} processes" * (record["processes"] > 1)
    return (
        f"scale {record['scale']}, {length}{where}{shared}, {record['precision']} "
        f"({record['device']['type']}, protocol {record['protocol']})"
    )


def _data(record: Mapping[str, Any]) -> str:
    data, clip = record["data"], record["clip"]
    return (
        f"{data['caption'].rstrip('.')}. {record['test_sequences']:,} test sequences, of "
        f"{clip['past']} frames and the next {clip['future']}."
    )


def _table(board: Board) -> Iterator[str]:
    """A board's entries, by the first metric that all have."""
    metrics = board.metrics
    first = next((m for m in metrics if all(entry.has(m) for entry in board.entries)), metrics[0])

    def place(entry: Entry) -> tuple[bool, float]:
        mean = entry.number(first).mean
        return math.isnan(mean), mean if first.lower_is_better else -mean

    order = sorted(board.entries, key=place)
    columns = [list(_cells(order, metric)) for metric in metrics]
    heads = [f"{m.heading} {m.arrow}" + f" ({m.unit})" * bool(m.unit) for m in metrics]
    yield f"| | row | {' | '.join(heads)} | seeds | record |"
    yield f"|--:|:--|{'--:|' * len(metrics)}--:|:--|"
    for i, entry in enumerate(order):
        cells = " | ".join(column[i] for column in columns)
        name = entry.record
        links = f"[{escape_markdown(name)}](results/report/{name}/index.html)"
        yield f"| {i + 1} | {escape_markdown(entry.row)} | {cells} | {len(entry.runs)} | {links} |"


def _cells(entries: Sequence[Entry], metric: Metric) -> Iterator[str]:
    """A metric's column; bold are the best mean, and those that do not differ from it."""
    scores = {str(i): paired(of.runs, metric) for i, of in enumerate(entries) if of.has(metric)}
    together = block(run for of in entries for run in of.runs)
    best = stats.best_group(scores, metric.lower_is_better, metric.combine, together)
    for i, entry in enumerate(entries):
        if not entry.has(metric):
            yield ABSENT
            continue
        mean, std, _ = entry.number(metric)
        spread = "" if std is None else f" ± {number_text(std, mean, metric.digits)}"
        text = f"{number_text(mean, mean, metric.digits)}{spread}"
        yield f"**{text}**" if str(i) in best else text
