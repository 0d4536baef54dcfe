"""The leaderboard: of all committed records, the rows that compare, best first.

Rows compare that were tested on the same sequences and trained under the same protocol: for as many
epochs of as many sequences, or as many minutes on the same device, in the same precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.experiment.store import StoredRun
from benchmarks.metrics import METRICS, Metric
from benchmarks.report import records, stats
from benchmarks.report.markdown import escape_markdown
from benchmarks.report.scores import paired
from benchmarks.report.series import by_row


class Entry(NamedTuple):
    """A row of a record: its runs with different seeds on one data set."""

    record: str
    row: str
    runs: Sequence[StoredRun]

    def scores(self, metric: Metric) -> np.ndarray:
        """Mean over frames and seeds: [sequences]."""
        return paired(self.runs, metric)


class Board(NamedTuple):
    """Entries that compare, and what they have in common."""

    dataset: str
    protocol: str
    data: str
    entries: list[Entry]

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that all entries have."""
        runs = [run for entry in self.entries for run in entry.runs]
        return [m for m in METRICS.values() if all(m.name in r.summary.sequences for r in runs)]


def leaderboard(folder: Path) -> str:
    """The boards of a folder of records, in Markdown; links lead to results/report/.

    Raises ValueError for a file that is no record.
    """
    text = []
    named = ""
    used: dict[str, Metric] = {}
    for board in boards(folder):
        if board.dataset != named:
            text.append(f"## {escape_markdown(board.dataset)}\n")
            named = board.dataset
        text.append(f"### {escape_markdown(board.protocol)}\n")
        text.append(f"{escape_markdown(board.data)}\n")
        text.append("\n".join(_table(board)) + "\n")
        used |= {metric.name: metric for metric in board.metrics}
    text.append("## Conventions\n")
    text += [f"- {escape_markdown(m.name)}: {escape_markdown(m.convention)}" for m in used.values()]
    return "\n".join(text) + "\n"


def boards(folder: Path) -> list[Board]:
    """What compares among the records of a folder, by data set."""
    found: dict[tuple[str, ...], Board] = {}
    seen = set()
    for path in sorted(folder.glob("*.json")):
        _, _, panels = records.read(path)
        for panel, runs in panels.items():
            for row, of in by_row(runs).items():
                entry, first = Entry(path.stem, row, of), of[0]
                keys = (panel, *sorted(run.record["key"] for run in entry.runs))
                if not first.summary.sequences or keys in seen:  # a table of costs; shared runs
                    continue
                seen.add(keys)
                record = first.record
                told = (panel, _protocol(record), _data(record), record["data"]["digest"])
                board = found.setdefault(told, Board(*told[:3], []))
                board.entries.append(entry)
    return sorted(found.values(), key=lambda board: board[:3])


def _protocol(record: Mapping[str, object]) -> str:
    """How long a run trained, and on what."""
    training, device = record["training"], record["device"]
    assert isinstance(training, dict) and isinstance(device, dict)
    length = f"{training['epochs']} epochs of {training['sequences']:,} sequences"
    where = ""
    if minutes := training.get("minutes"):
        length, where = f"{minutes:g} minutes per row", f" on {device['name']}"
    return f"scale {record['scale']}, {length}{where}, {record['precision']}"


def _data(record: Mapping[str, object]) -> str:
    data = record["data"]
    assert isinstance(data, dict)
    return f"{data['caption'].rstrip('.')}. {record['test_sequences']:,} test sequences."


def _table(board: Board) -> Iterator[str]:
    """A board's entries, by their first metric."""
    metrics = board.metrics
    first = metrics[0]
    sign = 1 if first.lower_is_better else -1
    order = sorted(board.entries, key=lambda entry: sign * entry.scores(first).mean())
    best: dict[str, set[str]] = {}
    for metric in metrics:
        scores = {str(i): entry.scores(metric) for i, entry in enumerate(order)}
        best[metric.name] = stats.best_group(scores, metric.lower_is_better)
    heads = [f"{m.heading} {m.arrow}" + f" ({m.unit})" * bool(m.unit) for m in metrics]
    yield f"| | row | {' | '.join(heads)} | seeds | record |"
    yield f"|--:|:--|{'--:|' * len(metrics)}--:|:--|"
    for i, entry in enumerate(order):
        cells = []
        for m in metrics:
            summary = stats.over_seeds([m.factor * run.means[m.name] for run in entry.runs])
            spread = "" if summary.std is None else f" ± {summary.std:.{m.digits}f}"
            text = f"{summary.mean:.{m.digits}f}{spread}"
            cells.append(f"**{text}**" if str(i) in best[m.name] else text)
        name = entry.record
        links = f"[{escape_markdown(name)}](results/report/{name}/index.html)"
        yield (
            f"| {i + 1} | {escape_markdown(entry.row)} | {' | '.join(cells)} | {len(entry.runs)} | "
            f"{links} |"
        )
