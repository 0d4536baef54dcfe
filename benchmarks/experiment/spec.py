"""What is measured: Training, Row, Panel and Suite, values that check themselves.

A row holds the model's class and a panel the data set's; the constructor's signature is the schema
of its options.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple

from benchmarks.data import Dataset
from benchmarks.metrics import MAE, METRICS, MSE, PSNR, SSIM, Column, Metric, ToTarget
from benchmarks.names import choose
from tau import Clip, Predictor

SCALES = ("smoke", "quick", "standard", "paper")
SMALL_SCALES = ("smoke", "quick")  # with models smaller than the paper's
OPTIMISERS = ("adam", "adamw")
SCHEDULES = ("onecycle", "cosine", "constant")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")

DatasetClass = type[Dataset] | partial[Any]


@dataclass(frozen=True)
class Training:
    """How a row is trained, validated and tested. Raises ValueError naming the field.

    A training lasts so many epochs, or so many minutes on the machine that trains: then `epochs`
    is None until its first steps have been timed.

    The schedule "onecycle" is torch's OneCycleLR stepped every iteration (warm-up over 30 %,
    cosine, Adam's first momentum cycling between 0.95 and 0.85), as TAU was released. "cosine", as
    TAU was released for TaxiBJ, changes every epoch: from 1e-5 up over the first tenth of the
    epochs, then down to 1e-6.
    """

    epochs: int | None
    sequences: int | None = 10_000  # training sequences per epoch; None: all of the data set
    batch_size: int = 16
    optimiser: str = "adam"
    lr: float = 1e-3  # peak of the schedule
    weight_decay: float = 0.0
    schedule: str = "onecycle"
    max_grad_norm: float | None = None  # bounds the gradient's norm
    precision: str = "auto"
    val_sequences: int = 1_000  # of the training split, scored after each epoch
    test_sequences: int | None = None  # scored at the end; None: all
    minutes: float | None = None  # of training, instead of a number of epochs

    def __post_init__(self) -> None:
        for name in ("batch_size", "val_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("epochs", "sequences", "test_sequences"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more, or None for all")
        if self.minutes is None and self.epochs is None:
            raise ValueError("epochs is None, and so is minutes; expected one of them")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes is {self.minutes}; expected a positive number")
        if self.sequences is not None and self.sequences < self.batch_size:
            raise ValueError(
                f"an epoch of {self.sequences} sequences holds no batch of {self.batch_size}; "
                "expected as many or more: --batch-size makes batches smaller"
            )
        if not self.lr > 0 or self.weight_decay < 0:
            raise ValueError(
                f"lr is {self.lr}, weight_decay is {self.weight_decay}; expected a positive lr and "
                "a weight_decay of 0 or more"
            )
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(
                f"max_grad_norm is {self.max_grad_norm}; expected a positive number or None"
            )
        choose("optimiser", self.optimiser, OPTIMISERS)
        choose("schedule", self.schedule, SCHEDULES)
        choose("precision", self.precision, PRECISIONS)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; ValueError while the number of sequences is left open."""
        if self.sequences is None:
            raise ValueError("sequences is None; `plan` fills in what the data set has")
        return self.sequences // self.batch_size

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training; ValueError while its length is left open."""
        if self.epochs is None:
            raise ValueError("epochs is None; they are chosen where the training starts")
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class Row:
    """One line of a table: a label, a model's class and its options."""

    label: str
    model: type[Predictor]
    options: Mapping[str, Any] = field(default_factory=dict)  # of the constructor, at every scale
    sizes: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # further options by scale; a scale without an entry has the constructor's defaults
    training: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # changes to the suite's Training by scale
    published: str | None = None  # the method's name in published.csv
    note: str = ""  # printed below the table
    seeds: Sequence[int] = ()  # default: the suite's

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label.strip():
            raise ValueError(f"a row's label is {self.label!r}; expected text")
        name = f"row {self.label!r}"
        if not (inspect.isclass(self.model) and issubclass(self.model, Predictor)):
            raise ValueError(f"{name}: {self.model!r} is not a class derived from tau.Predictor")
        for mapping in (self.options, self.sizes, self.training):
            if not isinstance(mapping, Mapping):
                raise ValueError(f"{name}: {mapping!r} is not a mapping of names to values")
        for scale in (*self.sizes, *self.training):
            choose(f"{name}: scale", scale, SCALES)
        accepted = [p for p in inspect.signature(self.model).parameters if p != "clip"]
        for options in (self.options, *self.sizes.values()):
            for option in options:
                choose(f"{name}: option", option, accepted)
        for changes in self.training.values():
            for field_name in changes:
                choose(f"{name}: training", field_name, [f.name for f in fields(Training)])

    def with_options(self, **options: Any) -> Row:
        """This row with further options of its model."""
        return replace(self, options={**self.options, **options})

    def at(self, scale: str) -> dict[str, Any]:
        """The constructor's options at a scale."""
        return {**self.sizes.get(scale, {}), **self.options}

    def build(self, clip: Clip, scale: str) -> Predictor:
        """Build the model; raises ValueError that names the row if an option does not fit."""
        try:
            return self.model(clip, **self.at(scale))
        except (ValueError, TypeError) as error:
            raise ValueError(f"row {self.label!r} at scale {scale!r}: {error}") from error


def name_of(dataset: DatasetClass) -> str:
    """The name of a data set's class, or of a partial of it."""
    kind: Any = dataset.func if isinstance(dataset, partial) else dataset
    return str(kind.name)


@dataclass(frozen=True)
class Panel:
    """Columns on one data set. A table has one or more, and none is special."""

    dataset: DatasetClass | None  # None: the user's own data
    columns: Sequence[Column] = (MSE, MAE, SSIM, PSNR)
    title: str = ""  # names the data set in tables and messages; default: its name
    clip: Clip = Clip()  # noqa: RUF009 - of the paper's task, at which costs are given
    dataset_options: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # further options of the data set by scale
    rows: Sequence[Row] = ()  # replace the suite's rows with the same labels
    training: Mapping[str, Training] = field(default_factory=dict)  # by scale; default: the suite's
    versions: Sequence[DatasetClass] = ()  # the same data in other forms, for --dataset
    has_target: bool = True  # whether the suite's target is an error on this data set
    left_out: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict
    )  # by scale, rows that are trained only if asked for, and why

    def __post_init__(self) -> None:
        for column in self.columns:
            if not isinstance(column, Column):
                raise ValueError(
                    f"panel {self.name!r}: column {column!r} is no Column; expected an object of "
                    "benchmarks.metrics, such as MSE"
                )
            known = METRICS.get(column.name)
            if isinstance(column, Metric) and known and column.function is not known.function:
                raise ValueError(
                    f"panel {self.name!r}: metric {column.name!r} is not the one of "
                    "benchmarks.metrics; give it a name of its own"
                )
        names = [column.name for column in self.columns]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"panel {self.name!r} repeats the columns {sorted(repeated)}")
        for scale in self.left_out:
            choose(f"panel {self.name!r}: scale", scale, SCALES)

    @property
    def name(self) -> str:
        """What the panel is called."""
        if self.title or self.dataset is None:
            return self.title or "own data"
        return name_of(self.dataset)


class PublishedTable(NamedTuple):
    """Columns of another source's table, which stand beside those of the TAU paper."""

    source: str  # as in published.csv
    table: str
    heading: str  # what tells these columns from the paper's, such as how long models trained
    columns: Sequence[tuple[str, str, str] | tuple[str, str, str, int]]
    # metric, data set, protocol, and epochs where the table has several
    methods: Mapping[str, str]  # by row label: the method's name in that table


@dataclass(frozen=True)
class Suite:
    """One table or figure: rows on one data set or several, under one protocol per scale."""

    name: str
    title: str
    panels: Sequence[Panel]
    rows: Sequence[Row]
    training: Mapping[str, Training]  # by scale
    seeds: Sequence[int] = (0,)
    published: str | None = None  # table of the TAU paper in published.csv
    published_columns: Sequence[tuple[str, str] | tuple[str, str, str]] = ()
    # (metric, data set), and the protocol where the published table has several
    also_published: Sequence[str] = ()  # methods of that table without a row here
    published_elsewhere: Sequence[PublishedTable] = ()
    target: tuple[float, str] | None = None  # validation MSE and label: a line in learning curves
    target_scales: Sequence[str] = ("standard", "paper")  # at which that line is drawn
    notes: Sequence[str] = ()  # sentences for the caption
    orderings: Sequence[tuple[str, str, str]] = ()  # metric, better row, worse row: for --check
    selected: Sequence[str] = ()  # rows that are trained unless others are asked for; default: all
    timing_seconds: float = 0.3  # how long speed is measured, in training and in inference
    timed: bool = False  # for its times: one row at a time, no runs shared with other suites

    def __post_init__(self) -> None:
        name = f"suite {self.name!r}"
        check_name("suite", self.name)
        labels = [row.label for row in self.rows]
        for what, found in (("rows", labels), ("panels", [panel.name for panel in self.panels])):
            if not found:
                raise ValueError(f"{name} has no {what}")
            if repeated := {x for x in found if found.count(x) > 1}:
                raise ValueError(f"{name} repeats the {what} {sorted(repeated)}; give other names")
        for scale in self.training:
            choose(f"{name}: scale", scale, SCALES)
        files = [slug(panel.name) for panel in self.panels]
        if len(set(files)) < len(files):
            raise ValueError(
                f"{name} has panels {[panel.name for panel in self.panels]}, whose figures would "
                f"have equal names, {files}; give titles that differ in letters (a to z) or digits"
            )
        for label in self.selected:
            choose(f"{name}: selected row", label, labels)
        for panel in self.panels:
            for row in panel.rows:
                choose(f"{name}, panel {panel.name!r}: row", row.label, labels)
            needing = [c.name for c in panel.columns if isinstance(c, ToTarget)]
            if needing and self.target is None:
                raise ValueError(f"{name}: columns {needing} need a target; give one")

    def rows_of(self, panel: Panel) -> list[Row]:
        """The rows on a panel's data set, in table order."""
        own = {row.label: row for row in panel.rows}
        return [own.get(row.label, row) for row in self.rows]

    def left_out(self, panel: Panel, scale: str) -> dict[str, str]:
        """The rows that are trained on a panel's data set only if asked for, and why."""
        if self.selected:
            return {}
        reasons = panel.left_out.get(scale, {})
        return {row.label: reasons[row.label] for row in self.rows if row.label in reasons}

    def training_of(self, panel: Panel, scale: str) -> Training:
        """How rows are trained on a panel's data set at a scale."""
        return panel.training.get(scale) or self.training[scale]


class DatasetEntry(NamedTuple):
    """A data set in a `DatasetTable`, and its names in the paper's Table 1."""

    label: str
    dataset: DatasetClass
    published: str
    published_future: int


@dataclass(frozen=True)
class DatasetTable:
    """A table of data sets, as the TAU paper's Table 1: what is present, beside what is printed."""

    name: str
    title: str
    entries: Sequence[DatasetEntry]
    published: str
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_name("suite", self.name)


def slug(text: str) -> str:
    """A text as part of a file's name: lower-case letters, digits and hyphens, 60 at most."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "x"


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


def check_name(what: str, name: str) -> None:
    """Raise ValueError for a name that cannot be part of every file's name."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
        raise ValueError(
            f"the name of a {what} is {name!r}; expected 1 to 60 letters (a to z), digits, '_', "
            "'-' and '.', as files are named after it"
        )
