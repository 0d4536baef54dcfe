"""A table of stored runs beside published numbers, as text cells.

`build` turns runs into a `Table`; `latex` and `markdown` print it. Measured and published numbers
never share a column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.experiment.spec import Panel, Suite
from benchmarks.experiment.store import StoredRun
from benchmarks.metrics import PEAK_MEMORY, SECONDS_PER_EPOCH, Column, Cost, Metric, ToTarget
from benchmarks.names import choose
from benchmarks.report import stats
from benchmarks.report.published import (
    PAPER,
    SOURCES,
    PublishedColumn,
    Value,
    conventions,
    lookup,
    methods,
    published,
)
from benchmarks.report.scores import SIZES, block, known, measure

# --- what a table shows --------------------------------------------------------------------------

PUBLISHED: Mapping[str, tuple[str, str, bool]] = {  # heading, unit, cost
    "MSE": ("MSE ↓", "", False),
    "MSEx100": ("MSE ↓", "×100", False),
    "MSEx1000": ("MSE ↓", "×1000", False),
    "CSI-M": ("CSI-M ↑", "", False),
    "MAE": ("MAE ↓", "", False),
    "RMSE": ("RMSE ↓", "", False),
    "SSIM": ("SSIM ↑", "", False),
    "PSNR": ("PSNR ↑", "dB", False),
    "LPIPS": ("LPIPS ↓", "", False),
    "FLOPs_G": ("FLOPs", "G", True),
    "Params_M": ("Params", "M", True),
    "FPS": ("FPS ↑", "", True),
    "minutes_per_epoch": ("Epoch ↓", "min", True),
}

MEASURED = "measured"
ABSENT = "–"
ONLY_PUBLISHED, UNCERTAIN, NOT_FINITE = "†", "‡", "*"  # marks; letters mark the rows' own notes
FLAWLESS = "§"  # marks a mean that is infinitely good
NOT_RUN = "not run"  # status of a run that nothing is stored of; the others are a record's


@dataclass(frozen=True)
class Group:
    """The runs of one panel and their numbers."""

    panel: Panel
    runs: Sequence[StoredRun]
    frame: pd.DataFrame
    is_alone: bool  # in its table, whose headings then need not name it

    def numbers(self, label: str) -> pd.Series | None:
        """The numbers of a row, if it has runs."""
        return self.frame.loc[label] if label in self.frame.index else None

    @property
    def most_sequences(self) -> int:
        """The most sequences that a row trained on, each as often as it was seen."""
        lengths = [length for of in self.frame["lengths"] for length in of]
        return max((length["trained_on"] for length in lengths), default=0)

    @property
    def suffix(self) -> str:
        """What tells a heading or a topic from those of the other panels."""
        return "" if self.is_alone else f", {self.panel.name}"


def published_columns(suite: Suite) -> list[PublishedColumn]:
    """The published columns that a suite's table prints."""
    return [PublishedColumn(*column) for column in suite.published_columns]


def published_values(suite: Suite, label: str, method: str | None) -> list[Value | None]:
    """A row's published numbers: of `method` in the paper's columns, then in those of elsewhere.

    Raises ValueError for a name that is unknown.
    """
    found: list[Value | None] = [None] * len(suite.published_columns)
    if suite.published is not None and method is not None:
        numbers = published(suite.published)
        found = [lookup(numbers, method, column) for column in published_columns(suite)]
    for other in suite.published_elsewhere:
        numbers, name = published(other.table, other.source), other.methods.get(label)
        columns = (PublishedColumn(*column) for column in other.columns)
        found += [None if name is None else lookup(numbers, name, column) for column in columns]
    return found


def check_published(suite: Suite) -> None:
    """Raise ValueError for a name of a published table, method or column that does not exist."""
    for row in suite.rows:
        if row.published is not None:
            choose(f"row {row.label!r}: published", row.published, methods())
    for label, method, _ in _lines(suite):
        published_values(suite, label, method)


def _lines(suite: Suite) -> Iterator[tuple[str, str | None, str]]:
    """Label, published method and note of each line of a suite's table."""
    in_table = set(published(suite.published)["method"]) if suite.published else set()
    rows = [(r.label, r.published if r.published in in_table else None, r.note) for r in suite.rows]
    yield from rows[:1]
    yield from ((method, method, "") for method in suite.also_published)
    yield from rows[1:]


class Head(NamedTuple):
    """A column's heading, from the group above it down to the unit below it."""

    group: str
    part: str  # the data set or protocol of a published column, where a table has several
    heading: str
    unit: str
    cost: bool
    about: str = ""  # a metric's convention


class Cell(NamedTuple):
    """One printed cell; `spread` is the part after ±."""

    text: str
    spread: str = ""
    bold: bool = False
    mark: str = ""


class Line(NamedTuple):
    """One printed row; `marks` refer to notes."""

    label: str
    marks: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table ready to print."""

    name: str
    title: str
    caption: str  # a sentence
    statements: tuple[str, ...]  # sentences that stand in the notes of the LaTeX table
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    notes: tuple[tuple[str, str], ...]  # mark and text
    protocol: tuple[tuple[str, str], ...]  # topic and text
    provenance: tuple[str, ...]


# --- from numbers to cells -----------------------------------------------------------------------


def build(suite: Suite, name: str, panels: Sequence[tuple[Panel, Sequence[StoredRun]]]) -> Table:
    """The table of a suite's runs, those of each panel apart; a panel without runs is left out.

    Rows with neither a run nor a published method are left out too. Raises ValueError as `measure`
    does, and if no panel has runs.
    """
    present = [(panel, runs) for panel, runs in panels if runs]
    if not present:
        raise ValueError(f"table {name!r} has no runs; expected at least one")
    alone = len(present) == 1
    groups = [Group(panel, runs, measure(suite, panel, runs), alone) for panel, runs in present]
    sized = next((group for group in groups if group.frame["seeds"].map(bool).any()), groups[0])
    frame = sized.frame
    ran_small = any(
        known(frame.at[label, size]) != known(frame.at[label, f"paper_{size}"])
        for label in frame.index
        for size, *_ in SIZES
    )
    notes: dict[str, str] = {}
    found = (_line(*line, suite, groups, sized, ran_small, notes) for line in _lines(suite))
    lines = [line for line in found if line is not None]
    notes |= _legend(lines, groups)
    protocol = [*(of for group in groups for of in _setting(group))]
    protocol += _protocol(suite, groups, sized, ran_small)
    everything = [run for group in groups for run in group.runs]
    generated = any("synthetic" in run.record.get("data", {}) for run in everything)
    return Table(
        name=name,
        title=suite.title + " on synthetic data" * generated,
        caption=sentence(_caption(groups)),
        statements=tuple(sentence(text) for text in _statements(suite, groups)),
        heads=tuple(_heads(suite, ran_small, groups)),
        lines=tuple(lines),
        notes=tuple((mark, sentence(text)) for mark, text in notes.items()),
        protocol=tuple((topic, sentence(text)) for topic, text in protocol if text),
        provenance=tuple(_provenance([run for run in everything if run.done])),
    )


def _line(
    label: str,
    method: str | None,
    note: str,
    suite: Suite,
    groups: Sequence[Group],
    sized: Group,
    ran_small: bool,
    notes: dict[str, str],
) -> Line | None:
    """A row as it is printed, or None if it has nothing to show; its note joins `notes`."""
    found = [group.numbers(label) for group in groups]
    is_measured = any(numbers is not None for numbers in found)
    printed = published_values(suite, label, method)
    if not is_measured and method is None and not any(printed):
        return None
    marks = [] if is_measured else [ONLY_PUBLISHED]
    texts = [note]
    for group, numbers in zip(groups, found, strict=True):
        where = "" if group.is_alone else f"on {group.panel.name} "
        texts += [f"{where}{text}" for text in _remarks(numbers, group)]
    if any(texts):
        marks.append(letter(len(notes)))
        notes[marks[-1]] = "; ".join(filter(None, texts))
    own = sized.numbers(label)
    cells = (
        *(
            _measured_cell(numbers, column)
            for group, numbers in zip(groups, found, strict=True)
            for column in group.panel.columns
        ),
        *(_size_cell(own, f"paper_{size}", by) for size, *_, by in SIZES),
        *(_size_cell(own, size, by) for size, *_, by in SIZES if ran_small),
        *(_published_cell(value) for value in printed),
    )
    return Line(label, tuple(marks), cells)


def letter(number: int) -> str:
    """The mark of note `number`: a to z, aa, ab, and on."""
    before, last = divmod(number, 26)
    return (letter(before - 1) if before else "") + chr(ord("a") + last)


def _is_misleading(group: Group) -> bool:
    """Whether rows that trained nothing have the best SSIM, and not the best MSE."""
    frame, trained = group.frame, group.frame["lengths"].map(bool)
    names = [column.name for column in group.panel.columns]
    means = {name: frame[name].astype(float).dropna() for name in names}
    by_ssim = [of.idxmax() for x, of in means.items() if x.startswith("ssim") and not of.empty]
    by_mse = means["mse"].idxmin() if "mse" in means and not means["mse"].empty else None
    return by_mse in trained.index[trained] and not all(trained[by_ssim])


def _remarks(row: pd.Series | None, group: Group) -> Iterator[str]:
    """What a reader must know of a row's runs: that they failed, or how much they trained."""
    if row is None:
        return
    trained_on = [length["trained_on"] for length in row["lengths"]]
    if any(length.get("minutes") for length in row["lengths"]):
        epochs = [length["epochs"] for length in row["lengths"]]
        took = [length["took"] for length in row["lengths"]]
        yield (
            f"{_range(epochs)} epochs, {_range(trained_on)} sequences in all, in "
            f"{_range(took, '.3g')} minutes"
        )
    elif row["is_shorter"] and any(isinstance(c, Metric) for c in group.panel.columns):
        most = f"{group.most_sequences:,}"
        yield f"trained on {_range(trained_on)} sequences, where others have {most}"
    for column in group.panel.columns:
        if isinstance(column, ToTarget) and 0 < row[f"{column.name}_missing"] < len(row["seeds"]):
            reached = len(row["seeds"]) - row[f"{column.name}_missing"]
            yield f"the target was reached by {reached} of {len(row['seeds'])} seeds"
            break
    if row["untrained"]:
        yield "not trained, as none of its parameters is trainable"
    failures = sorted(row["failures"], key=lambda failure: failure[1])
    for status, of in groupby(failures, key=lambda failure: failure[1]):
        seeds, _, reasons = zip(*of, strict=True)
        reason = f" ({reasons[0]})" if reasons[0] else ""
        yield f"{status}: seed {', '.join(map(str, seeds))}{reason}"
    if row["failures"] and row["seeds"]:
        yield "the mean is over the other seeds"


def _range(numbers: Sequence[float], form: str = ",") -> str:
    """The smallest and the largest, or the only one."""
    ends = (format(number, form) for number in (min(numbers), max(numbers)))
    return " to ".join(dict.fromkeys(ends))


def _legend(lines: Sequence[Line], groups: Sequence[Group]) -> dict[str, str]:
    """What the marks mean that are used."""
    used = {mark for line in lines for mark in (*line.marks, *(c.mark for c in line.cells))}
    texts = {
        ONLY_PUBLISHED: "not measured here: published numbers only",
        UNCERTAIN: "published, but uncertain: its row is inferred, it repeats another paper's "
        "number, or it was found in an index of papers",
        NOT_FINITE: "at least one score is not a finite number",
        FLAWLESS: "a frame that is predicted without an error has an infinite score; such frames "
        f"are, of all predicted ones, {', '.join(_flawless(groups))}",
    }
    return {mark: text for mark, text in texts.items() if mark in used}


def _flawless(groups: Sequence[Group]) -> Iterator[str]:
    """For each mean that is infinitely good, the share of frames that make it so."""
    for group in groups:
        for column in group.panel.columns:
            for label, row in group.frame.iterrows():
                if _is_flawless(row, column):
                    share = row[f"{column.name}_infinite"]
                    percent = 100.0 if share == 1 else min(100 * share, 99.9)
                    yield f"{percent:.3g}% ({label}, {column.title}{group.suffix})"


def _is_flawless(row: pd.Series, column: Column) -> bool:
    best = isinstance(column, Metric) and not column.lower_is_better
    return best and bool(row[column.name] == math.inf)


def _measured_cell(row: pd.Series | None, column: Column) -> Cell:
    if row is None:
        return Cell(ABSENT)
    if not row["seeds"]:
        return Cell(row["failures"][0][1])
    mean, std = known(row[column.name]), known(row[f"{column.name}_std"])
    if mean is None:
        return Cell(ABSENT) if isinstance(column, Cost) else Cell("nan", mark=NOT_FINITE)
    bold = bool(row[f"{column.name}_best"])
    if math.isinf(mean):
        mark = FLAWLESS if _is_flawless(row, column) else NOT_FINITE
        return Cell("∞" if mean > 0 else "−∞", bold=bold, mark=mark)
    spread = "" if std is None else number_text(std, mean, column.digits)
    return Cell(number_text(mean, mean, column.digits), spread, bold)


def number_text(value: float, mean: float, digits: int) -> str:
    """A value with `digits` decimals; with three digits where these would not suit its mean."""
    suits = mean == 0 or 10.0 ** (1 - digits) <= abs(mean) < 1e7
    return f"{value:.{digits}f}" if suits else f"{value:.3g}"


def _size_cell(row: pd.Series | None, name: str, factor: float) -> Cell:
    value = None if row is None else known(row[name])
    if value is None:
        return Cell(ABSENT)
    scaled = value * factor
    return Cell(f"{scaled:.2f}" if scaled >= 0.1 else f"{scaled:.2g}")


def _published_cell(value: Value | None) -> Cell:
    if value is None:
        return Cell(ABSENT)
    return Cell(value.printed, mark=UNCERTAIN if value.uncertain else "")


def _heads(suite: Suite, ran_small: bool, groups: Sequence[Group]) -> Iterator[Head]:
    for group in groups:
        for column in group.panel.columns:
            heading = f"{column.heading} {column.arrow}"
            cost = isinstance(column, Cost)
            about = f"{column.name}: {column.convention}" if isinstance(column, Metric) else ""
            yield Head(f"{MEASURED}{group.suffix}", "", heading, column.unit, cost, about)
    for size in ("paper size", "run size") if ran_small else ("paper size",):
        for _, heading, unit, _ in SIZES:
            yield Head(size, "", heading, unit, True)
    printed = published_columns(suite)
    for of in printed:
        parts = [
            str(part).replace("->", "→")
            for part, *others in zip(of[1:], *(other[1:] for other in printed), strict=True)
            if len(set(others)) > 1
        ]
        yield Head("published", ", ".join(parts), *PUBLISHED[of.metric])
    for other in suite.published_elsewhere:
        for metric, *_ in other.columns:
            yield Head("published", other.heading, *PUBLISHED[metric])


# --- caption and protocol ------------------------------------------------------------------------

NAMES = {"adam": "Adam", "adamw": "AdamW", "onecycle": "one-cycle"}


def sentence(text: str) -> str:
    """Text with a full stop at its end."""
    joined = " ".join(text.split())
    return joined if not joined or joined.endswith((".", "!", "?")) else joined + "."


def _either(values: Iterable[Any]) -> str:
    """Distinct values in order, as "a or b"."""
    return " or ".join(dict.fromkeys(NAMES.get(str(value), str(value)) for value in values))


def _seeds(groups: Sequence[Group]) -> dict[str, list[str]]:
    """The labels of the rows that have these seeds."""
    labels: dict[str, list[str]] = {}
    for group in groups:
        for label, seeds in group.frame["seeds"].items():
            if seeds:
                labels.setdefault(", ".join(map(str, seeds)), []).append(f"{label}{group.suffix}")
    return labels


def _caption(groups: Sequence[Group]) -> str:
    labels = _seeds(groups)
    if not labels:
        return "No run has finished"
    if not any("," in seeds for seeds in labels):
        return f"One run per row (seed {_either(labels)}), so there is no std over seeds"
    listed = "; ".join(f"{seeds} for {', '.join(of)}" for seeds, of in labels.items())
    which = next(iter(labels)) if len(labels) == 1 else listed
    return f"Mean ± sample std over seeds ({which})"


def _statements(suite: Suite, groups: Sequence[Group]) -> Iterator[str]:
    yield from suite.notes
    measured = [group.panel.name for group in groups]
    for panel in suite.panels:
        if panel.name not in measured:
            yield f"{panel.name} was not measured"
    for group in groups:
        yield from _left_out(suite, group)
    columns = [(group.frame, column) for group in groups for column in group.panel.columns]
    costs = [(of, column) for of, column in columns if isinstance(column, Cost)]
    within = any(of[f"{column.name}_std"].notna().any() for of, column in costs)
    if within and not any("," in seeds for seeds in _seeds(groups)):
        yield "Speeds are the median ± half the IQR, after warming up"
    if suite.target is not None and any(isinstance(column, ToTarget) for _, column in columns):
        yield f"The target is a validation MSE of {suite.target[0]:g}; {ABSENT} where not reached"
    if any(_is_misleading(group) for group in groups):
        yield (
            "SSIM misleads where rows that trained nothing have the best: where most windows of a "
            "frame are plain, it rewards exact black, and a blurred forecast has none"
        )
    done = [run for group in groups for run in group.runs if run.done]
    tested = {(block([run]), run.record["test_sequences"]) for run in done}
    few = {size > 1 for size, count in tested if count // size < stats.LEAST_SEQUENCES}
    if few:
        yield (
            f"From fewer than {stats.LEAST_SEQUENCES} "
            f"{'blocks of test sequences that share frames' if True in few else 'test sequences'} "
            "it cannot be told whether finite means differ, and none is bold"
        )
    if any(of[f"{column.name}_best"].any() for of, column in columns):
        infinite = any(_is_flawless(row, c) for of, c in columns for _, row in of.iterrows())
        unequal = any(group.frame["is_shorter"].any() for group in groups)
        yield (
            "Bold: the best mean, and every mean that does not differ from it significantly "
            f"(paired bootstrap over test sequences{_blocks(groups)}, {stats.RESAMPLES:,} "
            f"resamples, two-sided, {stats.SIGNIFICANCE:.0%}; it takes them as independent, "
            "and does not cover the std over seeds"
            f"{'; infinite means are equally good and not tested' * infinite})"
            f"{'; rows that trained on fewer sequences are left out' * unequal}"
        )


def _blocks(groups: Sequence[Group]) -> str:
    """In which blocks test sequences are resampled that are not independent."""
    sizes = [(group.panel.name, block(group.runs)) for group in groups]
    told = " and".join(f" on {name} in blocks of {size}" for name, size in sizes if size > 1)
    return f",{told}, twice the number in a row that share frames" * bool(told)


def _left_out(suite: Suite, group: Group) -> Iterator[str]:
    """Which rows are missing that a panel leaves out, and why."""
    scale = next((r.record["scale"] for r in group.runs if "scale" in r.record), "")
    missing = [row.label for row in suite.rows if group.numbers(row.label) is None]
    left_out = suite.left_out(group.panel, scale)
    if not left_out.keys() >= set(missing):
        return  # the user chose the rows
    reasons: dict[str, list[str]] = {}
    for label in missing:
        reasons.setdefault(left_out[label], []).append(label)
    for reason, labels in reasons.items():
        yield f"Left out{group.suffix} at scale {scale}: {', '.join(labels)}, as {reason}"


def _setting(group: Group) -> Iterator[tuple[str, str]]:
    """Data and training of the runs on one data set."""
    done = [run for run in group.runs if run.done]
    if not done:
        return
    records = [run.record for run in done if run.trained] or [done[0].record]
    first, training = records[0], [record["training"] for record in records]
    clip, (low, high) = first["clip"], first["value_range"]
    own_unit = f"; errors are in the data's own unit, which spans {low:g} to {high:g}"
    yield (
        f"Data{group.suffix}",
        f"{sentence(first['data']['caption'])} {first['test_sequences']:,} test "
        f"sequences; from {clip['past']} frames the next {clip['future']}; frames of "
        f"{clip['channels']}×{clip['height']}×{clip['width']}"
        f"{own_unit * ((low, high) != (0, 1))}",
    )
    sequences = f"{_either(format(t['sequences'], ',') for t in training)} sequences"
    length = f"{_counted(training[0]['epochs'] or 0, 'epoch')} of {sequences}"
    if (minutes := training[0].get("minutes")) is not None:
        length = f"{minutes:g} minutes for each row, on this machine"
    shared = (
        f"; {first['processes']} processes share each batch, and speed is that of one on its share"
    ) * (first["processes"] > 1)
    yield (
        f"Training{group.suffix}",
        f"scale {first['scale']}: {length}, batch size "
        f"{_either(t['batch_size'] for t in training)}; "
        f"{_either(t['optimiser'] for t in training)}, learning rate "
        f"{_either(t['lr'] for t in training)}, "
        f"{_either(t['schedule'] for t in training)} schedule; {first['precision']}; "
        f"{_either(device_of(record) for record in records)}{shared}",
    )


def _protocol(
    suite: Suite, groups: Sequence[Group], sized: Group, ran_small: bool
) -> Iterator[tuple[str, str]]:
    columns = {column.name: column for group in groups for column in group.panel.columns}
    metrics = [column for column in columns.values() if isinstance(column, Metric)]
    yield "Metrics", "; ".join(f"{metric.name}: {metric.convention}" for metric in metrics)
    task = f" on {sized.panel.name}" * (len(suite.panels) > 1)
    own = (
        "; the size of these runs stands beside it" if ran_small else "; these runs have that size"
    )
    epoch = "; an epoch's seconds are those of all training sequences of the data set"
    memory = "; memory is the peak in training"
    yield (
        "Cost",
        "one FLOP is one multiply-add (fvcore), counted over the whole rollout at batch size 1; "
        f"parameters and FLOPs are given at the paper's size{task}{own}"
        f"{epoch * (SECONDS_PER_EPOCH.name in columns)}"
        f"{memory * (PEAK_MEMORY.name in columns)}",
    )
    yield "Published", " ".join(map(sentence, _sources(suite)))


def _sources(suite: Suite) -> Iterator[str]:
    """Where published columns come from, and what their conventions are."""
    shown: dict[tuple[str, str], list[PublishedColumn]] = {}
    if suite.published and suite.published_columns:
        shown[PAPER, suite.published] = published_columns(suite)
    for other in suite.published_elsewhere:
        columns = shown.setdefault((other.source, other.table), [])
        columns += (PublishedColumn(*column) for column in other.columns)
    texts: dict[str, None] = {}  # each said once
    for (source, name), columns in shown.items():
        epochs = _either(f"{column.epochs:,}" for column in columns if column.epochs)
        after = f" after {epochs} epochs" if epochs else ""
        yield f"{name} of {SOURCES[source]}{after}, not measured here"
        texts |= dict.fromkeys(conventions(source, name, {column.metric for column in columns}))
    yield from texts


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def device_of(record: Mapping[str, Any]) -> str:
    """What a run was trained on."""
    device = record["device"]
    if device["type"] != "cpu":
        return str(device["name"])
    return f"{device['name']}, {_counted(device['threads'], 'thread')} per row"


def commit_of(record: Mapping[str, Any]) -> str:
    """The commit that a run was made with, and whether that is all."""
    return (record["commit"] or "unknown") + " with local changes" * bool(record["dirty"])


def _provenance(done: Sequence[StoredRun]) -> Iterator[str]:
    records = [run.record for run in done]
    yield f"commit {_either(commit_of(record) for record in records)}"
    yield f"data {_either(r['data']['digest'] for r in records)}"
    yield f"torch {_either(r['versions']['torch'] for r in records)}"
    yield from (f"run {key}" for key in sorted({str(r["key"]) for r in records}))
