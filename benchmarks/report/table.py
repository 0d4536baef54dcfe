"""Tables of stored runs beside published numbers, as LaTeX (booktabs) and as Markdown.

`build` turns runs into a `Table` of text cells; `latex` and `markdown` print it. Measured and
published numbers never share a column.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.data import Dataset
from benchmarks.experiment.spec import DatasetTable, Panel, Suite
from benchmarks.experiment.store import StoredRun
from benchmarks.metrics import PEAK_MEMORY, SECONDS_PER_EPOCH, Column, Cost, Metric, ToTarget
from benchmarks.names import choose, printable
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

# --- what a table shows --------------------------------------------------------------------------

PUBLISHED: Mapping[str, tuple[str, str, bool]] = {  # heading, unit, cost
    "MSE": ("MSE ↓", "", False),
    "MSEx100": ("MSE ↓", "×100", False),
    "MAE": ("MAE ↓", "", False),
    "SSIM": ("SSIM ↑", "", False),
    "PSNR": ("PSNR ↑", "dB", False),
    "LPIPS": ("LPIPS ↓", "", False),
    "FLOPs_G": ("FLOPs", "G", True),
    "Params_M": ("Params", "M", True),
    "FPS": ("FPS ↑", "", True),
    "minutes_per_epoch": ("Epoch ↓", "min", True),
}

SIZES = (("parameters", "Params", "M", 1e-6), ("macs", "FLOPs", "G", 1e-9))

MEASURED = "measured"
ABSENT = "–"
ONLY_PUBLISHED, UNCERTAIN, NOT_FINITE = "†", "‡", "*"  # marks; letters mark the rows' own notes
FLAWLESS = "§"  # marks a mean that is infinitely good
NOT_RUN = "not run"  # status of a run that nothing is stored of; the others are a record's


@dataclass(frozen=True)
class Group:
    """The runs of one panel and their numbers."""

    suite: Suite
    panel: Panel
    runs: Sequence[StoredRun]
    frame: pd.DataFrame
    is_alone: bool  # in its table, whose headings then need not name it

    def numbers(self, label: str) -> pd.Series | None:
        """The numbers of a row, if it has runs."""
        return self.frame.loc[label] if label in self.frame.index else None

    @property
    def suffix(self) -> str:
        """What tells a heading or a topic from those of the other panels."""
        return "" if self.is_alone else f", {self.panel.name}"


def published_columns(suite: Suite) -> list[PublishedColumn]:
    """The published columns that a suite's table prints."""
    return [PublishedColumn(*column) for column in suite.published_columns]


def published_values(suite: Suite, method: str | None) -> list[Value | None]:
    """A method's published number for each of these columns; ValueError for an unknown name."""
    if suite.published is None or method is None:
        return [None] * len(suite.published_columns)
    numbers = published(suite.published)
    return [lookup(numbers, method, column) for column in published_columns(suite)]


def check_published(suite: Suite) -> None:
    """Raise ValueError for a name of a published table, method or column that does not exist."""
    for row in suite.rows:
        if row.published is not None:
            choose(f"row {row.label!r}: published", row.published, methods())
    for _, method, _ in _lines(suite):
        published_values(suite, method)


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
    caption: str
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    notes: tuple[tuple[str, str], ...]  # mark and text
    protocol: tuple[tuple[str, str], ...]  # topic and text
    provenance: tuple[str, ...]


# --- from runs to numbers ------------------------------------------------------------------------

MUST_AGREE: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "scale": lambda record: record["scale"],
    "data digest": lambda record: record["data"]["digest"],
    "clip": lambda record: record["clip"],
    "test_sequences": lambda record: record["test_sequences"],
    "precision": lambda record: record["precision"],
    "device type": lambda record: record["device"]["type"],
    "processes": lambda record: record["processes"],
    "epochs": lambda record: record["training"]["epochs"],
}

MUST_AGREE_IN_TIME: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "device": lambda record: record["device"]["name"],
    "threads": lambda record: record["device"]["threads"],
}


def check_comparable(runs: Sequence[StoredRun], *, times: bool = False) -> None:
    """Raise ValueError, naming the runs, if finished runs differ in what must be equal.

    Where `times` are compared, that is the device's name and the threads too. Runs that trained
    nothing, such as the persistence baseline, have no epochs to compare.
    """
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

    For each column `<name>` and `<name>_std`, in printed units, `<name>_best`, and
    `<name>_infinite`, the share of predicted frames with an infinite score; the sizes `parameters`,
    `macs`, `paper_parameters`, `paper_macs`; `untrained`, for parameters of which none is
    trainable; the `seeds`, and the `failures` as (seed, status, reason).
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

    rows = {label: _measure_row(of, suite, panel) for label, of in by_label.items() if of}
    frame = pd.DataFrame(rows.values(), index=list(rows))
    scores = {x: [run.scores() for run in of if run.done] for x, of in by_label.items()}
    scores = {label: of for label, of in scores.items() if of}
    for column in panel.columns:
        best: set[str] = set()
        infinite: dict[str, float] = {}
        if isinstance(column, Metric):
            by_seed = {x: [s[column.name] for s in of] for x, of in scores.items()}
            infinite = {x: float(np.isinf(np.stack(of)).mean()) for x, of in by_seed.items()}
            if len(scores) > 1:
                means = {label: stats.per_sequence(of) for label, of in by_seed.items()}
                best = stats.best_group(means, column.lower_is_better)
        frame[f"{column.name}_best"] = [label in best for label in frame.index]
        frame[f"{column.name}_infinite"] = [infinite.get(label, 0.0) for label in frame.index]
    return frame


def _measure_row(runs: Sequence[StoredRun], suite: Suite, panel: Panel) -> dict[str, Any]:
    finished = [run for run in runs if run.done]
    done = [run.record for run in finished]
    row: dict[str, Any] = {
        "seeds": sorted(record["seed"] for record in done),
        "failures": [
            (r.record["seed"], r.record["status"], _reason(r)) for r in runs if not r.done
        ],
        "untrained": any(r.record["cost"]["parameters"] and not r.trained for r in finished),
    }
    for column in panel.columns:
        name = column.name
        values = [_value(run, column, suite) for run in finished]
        row[name] = row[f"{name}_std"] = None
        if values and None not in values:  # None: was not measured
            summary = stats.over_seeds(
                [column.factor * value for value in values if value is not None]
            )
            row[name], row[f"{name}_std"] = summary.mean, summary.std
            if len(done) == 1 and (within := done[0]["cost"].get(f"{name}_spread")) is not None:
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


def _describe(run: StoredRun) -> str:
    return f"{run.record['row']} seed {run.record['seed']} ({run.folder.name})"


def _reason(run: StoredRun) -> str:
    """Why there is no result, in a line of at most 160 characters; files below the runs' folder."""
    reason = printable(str(run.record["reason"]).replace(f"{run.folder.parent}{os.sep}", ""))
    return reason if len(reason) <= 160 else reason[:159] + "…"


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


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
    groups = [
        Group(suite, panel, runs, measure(suite, panel, runs), alone) for panel, runs in present
    ]
    frame = groups[0].frame
    ran_small = any(
        _known(frame.at[label, size]) != _known(frame.at[label, f"paper_{size}"])
        for label in frame.index
        for size, *_ in SIZES
    )
    notes: dict[str, str] = {}
    found = (_line(*line, suite, groups, ran_small, notes) for line in _lines(suite))
    lines = [line for line in found if line is not None]
    notes |= _legend(lines, groups)
    protocol = [*(of for group in groups for of in _setting(group))]
    protocol += _protocol(suite, groups, ran_small)
    everything = [run for group in groups for run in group.runs]
    generated = any("synthetic" in run.record.get("data", {}) for run in everything)
    return Table(
        name=name,
        title=suite.title + " on synthetic data" * generated,
        caption=" ".join(filter(None, (_sentence(text) for text in _caption(suite, groups)))),
        heads=tuple(_heads(suite, ran_small, groups)),
        lines=tuple(lines),
        notes=tuple((mark, _sentence(text)) for mark, text in notes.items()),
        protocol=tuple((topic, _sentence(text)) for topic, text in protocol if text),
        provenance=tuple(_provenance([run for run in everything if run.done])),
    )


def _line(
    label: str,
    method: str | None,
    note: str,
    suite: Suite,
    groups: Sequence[Group],
    ran_small: bool,
    notes: dict[str, str],
) -> Line | None:
    """A row as it is printed, or None if it has nothing to show; its note joins `notes`."""
    found = [group.numbers(label) for group in groups]
    is_measured = any(numbers is not None for numbers in found)
    if not is_measured and method is None:
        return None
    marks = [] if is_measured else [ONLY_PUBLISHED]
    texts = [note]
    for group, numbers in zip(groups, found, strict=True):
        where = "" if group.is_alone else f"on {group.panel.name} "
        texts += [f"{where}{text}" for text in _remarks(numbers)]
    if any(texts):
        marks.append(_letter(len(notes)))
        notes[marks[-1]] = "; ".join(filter(None, texts))
    own = found[0]
    cells = (
        *(
            _measured_cell(numbers, column)
            for group, numbers in zip(groups, found, strict=True)
            for column in group.panel.columns
        ),
        *(_size_cell(own, f"paper_{size}", by) for size, *_, by in SIZES),
        *(_size_cell(own, size, by) for size, *_, by in SIZES if ran_small),
        *(_published_cell(value) for value in published_values(suite, method)),
    )
    return Line(label, tuple(marks), cells)


def _letter(number: int) -> str:
    """The mark of note `number`: a to z, aa, ab, and on."""
    before, last = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("a") + last)


def _remarks(row: pd.Series | None) -> Iterator[str]:
    """What a reader must know of a row's runs: that they trained nothing, or gave no result."""
    if row is None:
        return
    if row["untrained"]:
        yield "not trained, as none of its parameters is trainable"
    failures = sorted(row["failures"], key=lambda failure: failure[1])
    for status, of in groupby(failures, key=lambda failure: failure[1]):
        seeds, _, reasons = zip(*of, strict=True)
        reason = f" ({reasons[0]})" if reasons[0] else ""
        yield f"{status}: seed {', '.join(map(str, seeds))}{reason}"
    if row["failures"] and row["seeds"]:
        yield "the mean is over the other seeds"


def _legend(lines: Sequence[Line], groups: Sequence[Group]) -> dict[str, str]:
    """What the marks mean that are used."""
    used = {mark for line in lines for mark in (*line.marks, *(c.mark for c in line.cells))}
    texts = {
        ONLY_PUBLISHED: "not measured here: published numbers only",
        UNCERTAIN: "published, but which row it belongs to is inferred",
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
                    heading = " ".join(filter(None, (column.heading, column.unit)))
                    yield f"{percent:.3g}% ({label}, {heading}{group.suffix})"


def _is_flawless(row: pd.Series, column: Column) -> bool:
    best = isinstance(column, Metric) and not column.lower_is_better
    return best and bool(row[column.name] == math.inf)


def _measured_cell(row: pd.Series | None, column: Column) -> Cell:
    if row is None:
        return Cell(ABSENT)
    if not row["seeds"]:
        return Cell(row["failures"][0][1])
    mean, std = _known(row[column.name]), _known(row[f"{column.name}_std"])
    if mean is None:
        return Cell(ABSENT) if isinstance(column, Cost) else Cell("nan", mark=NOT_FINITE)
    bold = bool(row[f"{column.name}_best"])
    if math.isinf(mean):
        mark = FLAWLESS if _is_flawless(row, column) else NOT_FINITE
        return Cell("∞" if mean > 0 else "−∞", bold=bold, mark=mark)
    spread = "" if std is None else _number(std, mean, column.digits)
    return Cell(_number(mean, mean, column.digits), spread, bold)


def _number(value: float, mean: float, digits: int) -> str:
    """A value with `digits` decimals; with three digits where these would not suit its mean."""
    suits = mean == 0 or 10.0 ** (1 - digits) <= abs(mean) < 1e7
    return f"{value:.{digits}f}" if suits else f"{value:.3g}"


def _size_cell(row: pd.Series | None, name: str, factor: float) -> Cell:
    value = None if row is None else _known(row[name])
    if value is None:
        return Cell(ABSENT)
    scaled = value * factor
    return Cell(f"{scaled:.2f}" if scaled >= 0.1 else f"{scaled:.1g}")


def _published_cell(value: Value | None) -> Cell:
    if value is None:
        return Cell(ABSENT)
    return Cell(value.printed, mark=UNCERTAIN if value.uncertain else "")


def _heads(suite: Suite, ran_small: bool, groups: Sequence[Group]) -> Iterator[Head]:
    for group in groups:
        for column in group.panel.columns:
            arrow = "↓" if column.lower_is_better else "↑"
            heading = f"{column.heading} {arrow}"
            cost = isinstance(column, Cost)
            yield Head(f"{MEASURED}{group.suffix}", "", heading, column.unit, cost)
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


# --- caption and protocol ------------------------------------------------------------------------

NAMES = {"adam": "Adam", "adamw": "AdamW", "onecycle": "one-cycle"}


def _sentence(text: str) -> str:
    joined = " ".join(text.split())
    return joined if not joined or joined.endswith((".", "!", "?")) else joined + "."


def _either(values: Iterable[Any]) -> str:
    """Distinct values in order, as "a or b"."""
    return " or ".join(dict.fromkeys(NAMES.get(str(value), str(value)) for value in values))


def _caption(suite: Suite, groups: Sequence[Group]) -> Iterator[str]:
    yield from suite.notes
    labels: dict[str, list[str]] = {}
    for label, seeds in (pair for group in groups for pair in group.frame["seeds"].items()):
        of = labels.setdefault(", ".join(map(str, seeds)), []) if seeds else [str(label)]
        of += [str(label)] * (str(label) not in of)
    if not labels:
        yield "No run has finished"
    elif not any("," in seeds for seeds in labels):
        yield f"One run per row (seed {_either(labels)}), so there is no std over seeds"
    else:
        listed = "; ".join(f"{seeds} for {', '.join(of)}" for seeds, of in labels.items())
        which = next(iter(labels)) if len(labels) == 1 else listed
        yield f"Mean ± sample std over seeds ({which})"
    measured = [group.panel.name for group in groups]
    for panel in suite.panels:
        if panel.name not in measured:
            yield f"{panel.name} was not measured"
    columns = [(group.frame, column) for group in groups for column in group.panel.columns]
    costs = [(of, column) for of, column in columns if isinstance(column, Cost)]
    within = any(of[f"{column.name}_std"].notna().any() for of, column in costs)
    if within and not any("," in seeds for seeds in labels):
        yield "Speeds are the median ± half the IQR, after warming up"
    if suite.target is not None and any(isinstance(column, ToTarget) for _, column in columns):
        yield f"The target is a validation MSE of {suite.target[0]:g}"
    if any(of[f"{column.name}_best"].any() for of, column in columns):
        infinite = any(_is_flawless(row, c) for of, c in columns for _, row in of.iterrows())
        yield (
            "Bold: the best mean, and every mean that does not differ from it significantly "
            f"(paired bootstrap over test sequences, {stats.RESAMPLES:,} resamples, two-sided, "
            f"{stats.SIGNIFICANCE:.0%}; it does not cover the std over seeds"
            f"{'; infinite means are equally good and not tested' * infinite})"
        )


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
        f"{_sentence(first['data']['caption'])} {first['test_sequences']:,} test "
        f"sequences; from {clip['past']} frames the next {clip['future']}; frames of "
        f"{clip['channels']}×{clip['height']}×{clip['width']}"
        f"{own_unit * ((low, high) != (0, 1))}",
    )
    shared = f"; {first['processes']} processes share each batch" * (first["processes"] > 1)
    yield (
        f"Training{group.suffix}",
        f"scale {first['scale']}: {_counted(training[0]['epochs'], 'epoch')} of "
        f"{_either(format(t['sequences'], ',') for t in training)} sequences, batch size "
        f"{_either(t['batch_size'] for t in training)}; "
        f"{_either(t['optimiser'] for t in training)}, learning rate "
        f"{_either(t['lr'] for t in training)}, "
        f"{_either(t['schedule'] for t in training)} schedule; {first['precision']}; "
        f"{_either(_device(record) for record in records)}{shared}",
    )


def _protocol(suite: Suite, groups: Sequence[Group], ran_small: bool) -> Iterator[tuple[str, str]]:
    columns = {column.name: column for group in groups for column in group.panel.columns}
    metrics = [column for column in columns.values() if isinstance(column, Metric)]
    yield "Metrics", "; ".join(f"{metric.name}: {metric.convention}" for metric in metrics)
    where = "the run's own size stands beside it" if ran_small else "which these runs have"
    epoch = "; an epoch's seconds are those of all training sequences of the data set"
    memory = "; memory is the peak in training"
    yield (
        "Cost",
        "one FLOP is one multiply-add (fvcore), counted over the whole rollout at batch size 1; "
        f"parameters and FLOPs are given at the paper's size{groups[0].suffix}, {where}"
        f"{epoch * (SECONDS_PER_EPOCH.name in columns)}"
        f"{memory * (PEAK_MEMORY.name in columns)}",
    )
    if suite.published and suite.published_columns:
        printed = {column.metric for column in published_columns(suite)}
        texts = [f"{suite.published} of {SOURCES[PAPER]}, not measured here"]
        texts += conventions(PAPER, suite.published, printed)
        yield "Published", " ".join(map(_sentence, texts))


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _device(record: Mapping[str, Any]) -> str:
    device = record["device"]
    if device["type"] != "cpu":
        return str(device["name"])
    return f"{device['name']}, {_counted(device['threads'], 'thread')} per row"


def _provenance(done: Sequence[StoredRun]) -> Iterator[str]:
    records = [run.record for run in done]
    local = {True: " with local changes", False: "", None: ""}
    yield f"commit {_either((r['commit'] or 'unknown') + local[r['dirty']] for r in records)}"
    yield f"data {_either(r['data']['digest'] for r in records)}"
    yield f"torch {_either(r['versions']['torch'] for r in records)}"
    yield from (f"run {key}" for key in sorted({str(r["key"]) for r in records}))


# --- data sets -----------------------------------------------------------------------------------


FOUND = ("Train", "Validation", "Test", "C×H×W", "Frames")


def list_datasets(table: DatasetTable, opened: Mapping[str, Dataset | Exception]) -> Table:
    """The table of data sets: sequences and shapes that were found, beside the published ones.

    `opened` has each entry's data set by label, or why there is none.
    """
    numbers = published(table.published)
    out: list[Line] = []
    notes: dict[str, str] = {}
    for entry in table.entries:
        dataset = opened[entry.label]
        notes[mark := _letter(len(notes))] = (
            dataset.caption
            if not isinstance(dataset, Exception)
            else f"{_absence(dataset)}: {dataset}"
        )
        printed = {
            row["metric"]: row["printed"]
            for _, row in numbers[numbers["method"] == entry.published].iterrows()
            if row["metric"] != "T_out" or row["value"] == entry.published_future
        }
        cells = [*_shape(dataset), *(printed.get(key, ABSENT) for key in ("N_train", "N_test"))]
        cells.append("×".join(printed[key] for key in ("C", "H", "W")))
        cells.append(f"{printed['T_in']} → {printed['T_out']}")
        out.append(Line(entry.label, (mark,), tuple(Cell(cell) for cell in cells)))
    heads = [
        *(Head("found", "", text, "", False) for text in FOUND),
        *(Head("published", "", text, "", False) for text in FOUND if text != "Validation"),
    ]
    found = [(label, of) for label, of in opened.items() if not isinstance(of, Exception)]
    return Table(
        name=table.name,
        title=table.title + " on synthetic data" * any(of.synthetic for _, of in found),
        caption=" ".join(map(_sentence, table.notes)),
        heads=tuple(heads),
        lines=tuple(out),
        notes=tuple((mark, _sentence(text)) for mark, text in notes.items()),
        protocol=(("Published", _sentence(f"{table.published} of {SOURCES[PAPER]}")),),
        provenance=tuple(f"{label}: data {of.digest}" for label, of in found),
    )


def _absence(error: Exception) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else "cannot be opened"


def _shape(dataset: Dataset | Exception) -> list[str]:
    if isinstance(dataset, Exception):
        return [ABSENT] * 5
    clip, validation = dataset.clip, dataset.provenance.get("validation_sequences")
    return [
        str(dataset.train_sequences),
        ABSENT if validation is None else str(validation),
        str(dataset.test_sequences),
        f"{clip.channels}×{clip.height}×{clip.width}",
        f"{clip.past} → {clip.future}",
    ]


# --- LaTeX ---------------------------------------------------------------------------------------

SPECIAL = {
    **{character: "\\" + character for character in "&%$#_{}"},
    **{character: f"${character}$" for character in "<>|"},
    **{character: f"{{{character}}}" for character in "[]*"},  # after \\ these would be arguments
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "–": "--",
        "—": "---",
        "…": r"\ldots{}",
        "†": r"$\dagger$",
        "‡": r"$\ddagger$",
        "§": r"\S{}",
    },
    **{"‘": "`", "’": "'", "“": "``", "”": "''", '"': "''"},
    **{"±": r"$\pm$", "×": r"$\times$", "⊗": r"$\otimes$", "·": r"$\cdot$", "−": "$-$"},
    **{"→": r"$\rightarrow$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "∞": r"$\infty$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "α": r"$\alpha$", "β": r"$\beta$", "τ": r"$\tau$"},
    **{"²": "$^2$", "³": "$^3$", "°": r"$^{\circ}$", "µ": r"$\mu$"},
}
LIGATURES = ("--", "``", "''", "?`", "!`")  # that TeX would print as one other character


def escape_latex(text: str) -> str:
    """Text for pdflatex without packages; a character it cannot set is printed as U+XXXX."""

    def one(character: str) -> str:
        if character in SPECIAL:
            return SPECIAL[character]
        accented = "À" <= character <= "ÿ" and character.isalpha() and character not in "ÐÞðþ"
        return character if character.isascii() or accented else f"U+{ord(character):04X}"

    plain = unicodedata.normalize("NFC", printable(text))
    return "".join(one(c) + "{}" * (plain[i : i + 2] in LIGATURES) for i, c in enumerate(plain))


class Layout(NamedTuple):
    """Fonts of the cells and of the spreads, their digits' widths, and the space beside a column.

    Widths are in points: Computer Modern's small sizes are wider for their height.
    """

    font: str
    digit: float
    spread_font: str
    spread_digit: float
    gap: float


NARROW = " .,:;'|()iljtfI"
TEXT_WIDTH = 345.0  # points: the article class's
LAYOUTS = (
    Layout("small", 4.63, "scriptsize", 3.99, 4),
    Layout("footnotesize", 4.26, "tiny", 3.41, 3),
    Layout("scriptsize", 3.99, "tiny", 3.41, 2),
)


def latex(table: Table) -> str:
    """The table as a LaTeX `table` environment; needs booktabs and nothing else.

    A table too wide for an article's page in footnotesize is set as two, accuracy above cost.
    """
    together = [table]
    halves = (_select(table, cost=False), _select(table, cost=True))
    apart = [half for half in halves if half.heads and half.lines]
    options = [(together, x) for x in LAYOUTS[:2]] + [(apart, x) for x in LAYOUTS]
    fitting = (o for o in options if max(_width(panel, o[1]) for panel in o[0]) <= TEXT_WIDTH)
    panels, layout = next(fitting, options[-1])
    caption = rf"\textbf{{{escape_latex(_sentence(table.title))}}} {escape_latex(table.caption)}"
    below = [rf"{_superscript(mark)}\,{escape_latex(text)}" for mark, text in table.notes]
    below += [
        rf"\emph{{{escape_latex(topic)}:}} {escape_latex(text)}" for topic, text in table.protocol
    ]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            *(f"% {printable(line)}" for line in table.provenance),
            r"\begin{table}[t]",
            r"\centering",
            r"\setlength{\abovecaptionskip}{0pt}",
            r"\setlength{\belowcaptionskip}{6pt}",
            rf"\caption[{{{escape_latex(table.title)}}}]{{\small {caption}}}",
            rf"\label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.name)}}}",
            rf"\{layout.font}",
            rf"\setlength{{\tabcolsep}}{{{layout.gap:g}pt}}",
            "\n\\par\\medskip\n".join(_tabular(panel, layout) for panel in panels),
            rf"\par\medskip\parbox{{\linewidth}}{{\scriptsize {' '.join(below)}}}",
            r"\end{table}",
            "",
        ]
    )


def _select(table: Table, cost: bool) -> Table:
    """The table's columns that tell of cost, or the others, the cost without its empty lines."""
    kept = [i for i, head in enumerate(table.heads) if head.cost == cost]
    lines = [line._replace(cells=tuple(line.cells[i] for i in kept)) for line in table.lines]
    if cost:
        lines = [line for line in lines if any(cell.text != ABSENT for cell in line.cells)]
    return replace(table, heads=tuple(table.heads[i] for i in kept), lines=tuple(lines))


def _tabular(table: Table, layout: Layout) -> str:
    rows = [*_head_rows(table.heads), r"\midrule"]
    rows += [_latex_line(line, table, layout) for line in table.lines]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{@{{}}l{'r' * len(table.heads)}@{{}}}}",
            r"\toprule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _spans(names: Iterable[str]) -> list[tuple[str, int, int]]:
    """Stretches of equal names as (name, first column, last column); column 1 is the label's."""
    spans, column = [], 2
    for name, stretch in groupby(names):
        width = len(list(stretch))
        spans.append((name, column, column + width - 1))
        column += width
    return spans


def _head_rows(heads: Sequence[Head]) -> Iterator[str]:
    for level in ([head.group for head in heads], [head.part for head in heads]):
        if any(level):
            spans = _spans(level)
            cells = (rf"\multicolumn{{{b - a + 1}}}{{c}}{{{escape_latex(n)}}}" for n, a, b in spans)
            yield rf" & {' & '.join(cells)} \\"
            yield " ".join(rf"\cmidrule(lr){{{a}-{b}}}" for name, a, b in spans if name)
    yield rf" & {' & '.join(escape_latex(head.heading) for head in heads)} \\"
    if any(head.unit for head in heads):
        units = (escape_latex(f"({head.unit})") if head.unit else "" for head in heads)
        yield rf" & {' & '.join(units)} \\"


def _latex_line(line: Line, table: Table, layout: Layout) -> str:
    columns = zip(*(x.cells for x in table.lines), strict=True)
    widest = [max((cell.spread for cell in column), key=len) for column in columns]
    cells = [_latex_cell(c, room, layout) for c, room in zip(line.cells, widest, strict=True)]
    return rf"{escape_latex(line.label)}{_superscript(*line.marks)} & {' & '.join(cells)} \\"


def _latex_cell(cell: Cell, room: str, layout: Layout) -> str:
    """A cell; where its column has spreads and it has none, a blank keeps the digits in line."""
    text = escape_latex(cell.text)
    if cell.text == ABSENT or cell.text.replace(" ", "").isalpha():  # such as "failed"
        return rf"\multicolumn{{1}}{{c}}{{{text}{_superscript(cell.mark)}}}"
    bold = r"\boldmath" * text.startswith("$")
    text = (rf"\textbf{{{bold}{text}}}" if cell.bold else text) + _superscript(cell.mark)
    spread = rf"{{\{layout.spread_font}\,$\pm$\,{cell.spread or room}}}" if room else ""
    return text + (spread if cell.spread or not room else rf"\phantom{{{spread}}}")


def _superscript(*marks: str) -> str:
    listed = escape_latex(",".join(filter(None, marks)))
    return rf"\textsuperscript{{{listed}}}" if listed else ""


def _digits(text: str) -> float:
    """Approximate width in Computer Modern, in units of a digit."""
    narrow = sum(character in NARROW for character in text)
    medium = sum((c.islower() or c.isdigit()) and c not in NARROW for c in text)
    return 0.56 * narrow + 1.03 * medium + 1.52 * (len(text) - narrow - medium)


def _width(table: Table, layout: Layout) -> float:
    """Approximate width of the tabular in points, a few percent too wide rather than too narrow."""

    def points(cell: Cell) -> float:
        text = _digits(cell.text) * (1.15 if cell.bold else 1.0) + 0.8 * bool(cell.mark)
        spread = (_digits(f"±{cell.spread}") + 1.0) * layout.spread_digit if cell.spread else 0.0
        return text * layout.digit + spread

    widths = []
    for i, head in enumerate(table.heads):
        heading = max(_digits(head.heading), _digits(f"({head.unit})")) * layout.digit
        widths.append(max(heading, *(points(line.cells[i]) for line in table.lines)))
    for level in ([head.group for head in table.heads], [head.part for head in table.heads]):
        for name, a, b in _spans(level):
            lacking = _digits(name) * layout.digit - sum(widths[a - 2 : b - 1])
            widths[b - 2] += max(0.0, lacking - 2 * layout.gap * (b - a))
    labels = max(_digits(line.label) + 0.8 * len(line.marks) for line in table.lines)
    return labels * layout.digit + sum(widths) + 2 * layout.gap * len(widths)


# --- Markdown ------------------------------------------------------------------------------------


def escape_markdown(text: str) -> str:
    """Text for a GitHub-flavoured Markdown table cell or paragraph."""
    return re.sub(r"([\\`*_\[\]<>|~#$]|&(?=#?\w+;))", r"\\\1", printable(text))


def markdown(table: Table) -> str:
    """The table in GitHub-flavoured Markdown, with the caption above and the notes below."""
    heads = [escape_markdown(_markdown_head(head)) for head in table.heads]
    out = [
        f"**{escape_markdown(_sentence(table.title))}** {escape_markdown(table.caption)}",
        "",
        f"| | {' | '.join(heads)} |",
        f"|:--|{'--:|' * len(heads)}",
    ]
    for line in table.lines:
        cells = [_markdown_cell(cell) for cell in line.cells]
        out.append(f"| {escape_markdown(line.label)}{_sup(*line.marks)} | {' | '.join(cells)} |")
    out.append("")
    out += [f"- {_sup(mark)} {escape_markdown(text)}" for mark, text in table.notes]
    out += [
        f"- *{escape_markdown(topic)}:* {escape_markdown(text)}" for topic, text in table.protocol
    ]
    provenance = "\n".join(map(printable, table.provenance)).replace("--", "—")
    return "\n".join([*out, "", f"<!--\n{provenance}\n-->", ""])


def _markdown_head(head: Head) -> str:
    unit = f" ({head.unit})" if head.unit else ""
    part = f", {head.part}" if head.part else ""
    group = "" if head.group == MEASURED else f", {head.group}"
    return f"{head.heading}{unit}{group}{part}"


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text) + (f" ± {cell.spread}" if cell.spread else "")
    return (f"**{text}**" if cell.bold else text) + _sup(cell.mark)


def _sup(*marks: str) -> str:
    listed = escape_markdown(",".join(filter(None, marks)))
    return f"<sup>{listed}</sup>" if listed else ""
