"""What is measured: Row, Training, Suite, Run, and the plan that turns a suite into runs.

Everything is checked here, before anything trains. A row holds the model class itself; the
constructor's signature is the schema of its options.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.data import Dataset
from benchmarks.experiment.code import (
    Code,
    Source,
    code_of,
    digest,
    encode,
    objects_in,
    qualified_name,
)
from benchmarks.files import to_json
from benchmarks.names import choose
from benchmarks.report.table import METRICS as COLUMNS
from tau import Clip, Predictor

SCALES = ("smoke", "quick", "standard", "paper")
OPTIMISERS = ("adam", "adamw")
SCHEDULES = ("onecycle", "cosine", "constant")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")

# Part of every run's key. Raise it when the loop, the data or the metrics change the numbers, or
# what a record holds changes its meaning; CHANGELOG.md tells what each version was.
PROTOCOL = 2


@dataclass(frozen=True)
class Training:
    """How a row is trained, validated and tested.

    An epoch counts `sequences` training sequences (None: all that the data set has); `rate` is the
    peak of the schedule; onecycle is torch's OneCycleLR stepped every iteration (warm-up over 30 %,
    cosine, Adam's first momentum cycling between 0.95 and 0.85), as TAU was released; cosine, as
    TAU was released for TrafficBJ, changes every epoch: from 1e-5 up over the first tenth of the
    epochs, then down to 1e-6. `clip_norm` bounds the gradient's norm.
    `validation` sequences are drawn from the training side after each epoch; `test` test sequences
    are scored at the end (None: all). Raises ValueError naming the field.
    """

    epochs: int
    sequences: int | None = 10_000
    batch_size: int = 16
    optimiser: str = "adam"
    rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "onecycle"
    clip_norm: float | None = None
    precision: str = "auto"
    validation: int = 1_000
    test: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("sequences", "test"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more, or None for all")
        if self.sequences is not None and self.sequences < self.batch_size:
            raise ValueError(
                f"an epoch of {self.sequences} sequences holds no batch of {self.batch_size}; "
                "expected as many or more: --batch-size makes batches smaller"
            )
        if not self.rate > 0 or self.weight_decay < 0:
            raise ValueError(
                f"rate is {self.rate}, weight_decay is {self.weight_decay}; expected a positive "
                "rate and a weight_decay of 0 or more"
            )
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm is {self.clip_norm}; expected a positive number or None")
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
        """Optimiser steps of the whole training."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True, init=False)
class Row:
    """One line of a table: a label, a model class and its options.

    `options` hold at every scale. `sizes` gives further options for a scale by name; a scale that
    it does not name gets the constructor's defaults, which are the paper's size. `training`
    changes fields of the suite's Training at a scale. `published` is the method's name in
    published.csv; `note` is printed under the table.
    """

    label: str
    model: type[Predictor]
    options: Mapping[str, Any]
    sizes: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Mapping[str, Any]]
    published: str | None
    note: str

    def __init__(
        self,
        label: str,
        model: type[Predictor],
        *,
        sizes: Mapping[str, Mapping[str, Any]] | None = None,
        training: Mapping[str, Mapping[str, Any]] | None = None,
        published: str | None = None,
        note: str = "",
        **options: Any,
    ) -> None:
        for name, value in {
            "label": label,
            "model": model,
            "options": options,
            "sizes": sizes or {},
            "training": training or {},
            "published": published,
            "note": note,
        }.items():
            object.__setattr__(self, name, value)
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"a row's label is {label!r}; expected text")
        if not (inspect.isclass(model) and issubclass(model, Predictor)):
            raise ValueError(f"row {label!r}: {model!r} is not a class derived from tau.Predictor")
        for scale in (*self.sizes, *self.training):
            choose(f"row {label!r}: scale", scale, SCALES)
        for chosen in (self.options, *self.sizes.values()):
            for option in chosen:
                choose(f"row {label!r}: option", option, self._accepted())
        for changes in self.training.values():
            for name in changes:
                choose(f"row {label!r}: training", name, [f.name for f in fields(Training)])

    def but(self, **changes: Any) -> Row:
        """This row with other fields, or further options of its model."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "options"}
        return Row(**{**own, **self.options, **changes})

    def _accepted(self) -> list[str]:
        return [p for p in inspect.signature(self.model).parameters if p != "clip"]

    def at(self, scale: str) -> dict[str, Any]:
        """The constructor's options at a scale."""
        return {**self.sizes.get(scale, {}), **self.options}

    def encoded(self, scale: str) -> dict[str, Any]:
        """The constructor's options at a scale as JSON; ValueError for one without such a form."""
        return {
            name: encode(value, f"row {self.label!r}: option {name!r}")
            for name, value in sorted(self.at(scale).items())
        }

    def code(self, scale: str) -> dict[str, Source]:
        """The source of the model and of the classes and functions among its options."""
        return code_of(self.model, objects_in(self.at(scale)))

    def build(self, clip: Clip, scale: str) -> Predictor:
        """Build the model; raises ValueError that names the row if an option does not fit."""
        try:
            return self.model(clip, **self.at(scale))
        except (ValueError, TypeError) as error:
            raise ValueError(f"row {self.label!r} at scale {scale!r}: {error}") from error


@dataclass(frozen=True)
class Suite:
    """One table or figure: rows on a data set under one training protocol for each scale.

    `data` is a data set's name, or None for a suite that runs on a user's own. `clip` is the
    paper's task, at which parameters and multiply-adds are always given. `columns` are names of
    tables.METRICS. `beside` trains the same rows on another data set and puts its columns into the
    same table; without that set's files it is left out, and the table says so. `published` names
    the table of the TAU paper in published.csv and `published_columns` its columns to print:
    (metric, dataset), and the protocol where the table has several; `also_published` are methods
    that the paper's table has and this suite cannot train yet. `data_options` go to the data set at
    a scale. `target` is a horizontal line (value, label) in the learning curves of the scales in
    `target_scales`. `notes` are sentences for the caption. `orderings` (metric, better row, worse
    row) are what `--check` insists on. `selected` are the rows that are trained unless others are
    asked for (all, if empty). `timing_seconds` is how long a run's speed is measured, in training
    and in inference. A suite that is `timed` for its own sake trains one row at a time, shares no
    runs with suites that are not, and takes medians of five calls or more.
    """

    name: str
    title: str
    data: str | None
    rows: Sequence[Row]
    training: Mapping[str, Training]
    clip: Clip = Clip()  # noqa: RUF009 - frozen, so one instance serves all
    columns: Sequence[str] = ("mse", "mae", "ssim", "psnr")
    seeds: Sequence[int] = (0,)
    data_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    published: str | None = None
    published_columns: Sequence[tuple[str, str] | tuple[str, str, str]] = ()
    also_published: Sequence[str] = ()
    target: tuple[float, str] | None = None
    target_scales: Sequence[str] = ("standard", "paper")
    notes: Sequence[str] = ()
    orderings: Sequence[tuple[str, str, str]] = ()
    beside: Suite | None = None
    selected: Sequence[str] = ()
    timing_seconds: float = 0.3
    timed: bool = False

    def __post_init__(self) -> None:
        check_name("suite", self.name)
        labels = [row.label for row in self.rows]
        if not labels:
            raise ValueError(f"suite {self.name!r} has no rows")
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"suite {self.name!r} has two rows labelled {label!r}")
        for scale in self.training:
            choose(f"suite {self.name!r}: scale", scale, SCALES)
        for label in self.selected:
            choose(f"suite {self.name!r}: selected row", label, labels)
        for column in self.columns:
            choose(f"suite {self.name!r}: column", column, COLUMNS)
        if self.beside is not None:
            for row in self.beside.rows:
                choose(f"suite {self.beside.name!r}: row", row.label, labels)


class SurveyRow(NamedTuple):
    """A data set in a `Survey`: its name, options, and its names in the paper's Table 1."""

    label: str
    data: str
    options: Mapping[str, Any]
    published: str
    published_future: int


@dataclass(frozen=True)
class Survey:
    """A table of data sets, as the TAU paper's Table 1: what is there, beside what is printed."""

    name: str
    title: str
    rows: Sequence[SurveyRow]
    published: str
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_name("suite", self.name)


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


def check_name(what: str, name: str) -> None:
    """Raise ValueError for a name that cannot be part of every file's name."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
        raise ValueError(
            f"the name of a {what} is {name!r}; expected 1 to 60 letters (a to z), digits, '_', "
            "'-' and '.', as files are named after it"
        )


@dataclass(frozen=True)
class Run:
    """One training of one row: what it is, and the key that identifies its result.

    `key` hashes everything that can change the number: model class and source, options, clip,
    training, data, seed, device type, precision, PROTOCOL, the number of processes, and whether it
    was to be timed. `code` is the source that the key was made from. A run can be pickled.
    """

    suite: str
    row: Row
    scale: str
    seed: int
    training: Training
    clip: Clip
    device: str
    key: str
    processes: int = 1  # that share each batch
    code: Code = field(default_factory=dict, repr=False, compare=False)

    @property
    def folder(self) -> str:
        """Name of the run's folder: readable, and unique by its key."""
        return f"{slug(self.row.label)}-{self.scale}-{self.seed}-{self.key}"

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's options."""
        return self.row.at(self.scale)

    def build(self) -> Predictor:
        """Build the model with this run's options."""
        return self.row.build(self.clip, self.scale)


def slug(text: str) -> str:
    """A text as part of a file's name: lower-case letters, digits and hyphens, 60 at most."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "x"


def plan(
    suite: Suite,
    scale: str,
    dataset: Dataset,
    device: str,
    *,
    rows: Sequence[str] | None = None,
    seeds: Iterable[int] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
    processes: int = 1,
) -> list[Run]:
    """All runs of a suite at a scale, in table order; raises ValueError before anything trains.

    `rows` selects by label; `processes` share each batch. No model is built: that runs a row's own
    code (see `trial`).
    """
    choose(f"suite {suite.name!r}: scale", scale, suite.training)
    labels = [row.label for row in suite.rows]
    for label in rows or ():
        choose(f"suite {suite.name!r}: row", label, labels)
    runs: list[Run] = []
    for row in suite.rows:
        if rows and row.label not in rows:
            continue
        try:
            training = replace(suite.training[scale], **row.training.get(scale, {}))
            training = replace(
                training,
                epochs=training.epochs if epochs is None else epochs,
                batch_size=training.batch_size if batch_size is None else batch_size,
                sequences=training.sequences or dataset.train_sequences,
                precision=resolve_precision(
                    training.precision if precision == "auto" else precision, device
                ),
            )
        except ValueError as error:
            raise ValueError(f"row {row.label!r} at scale {scale!r}: {error}") from error
        _check_batch(row, training, dataset, processes)
        code = row.code(scale)
        for seed in suite.seeds if seeds is None else seeds:
            key = run_key(
                *(row, scale, seed, training, dataset, device, code),
                timed=suite.timed,
                processes=processes,
            )
            runs.append(
                Run(
                    *(suite.name, row, scale, seed, training, dataset.clip, device, key),
                    processes=processes,
                    code=code,
                )
            )
    _check_folders(runs)
    _check_comparable(runs)
    return runs


def _check_batch(row: Row, training: Training, dataset: Dataset, processes: int) -> None:
    if training.batch_size > dataset.train_sequences:
        raise ValueError(
            f"row {row.label!r}: a batch of {training.batch_size} needs as many training "
            f"sequences; {dataset.name} has {dataset.train_sequences}: --batch-size makes it "
            "smaller"
        )
    if training.batch_size % processes:
        raise ValueError(
            f"row {row.label!r}: a batch of {training.batch_size} cannot be divided among "
            f"{processes} processes; expected a number of processes that divides it"
        )


def _check_comparable(runs: Sequence[Run]) -> None:
    """Raise ValueError for rows whose trainings no table would compare."""
    for name in ("epochs", "precision"):
        found = {getattr(run.training, name): run.row.label for run in reversed(runs)}
        if len(found) > 1:
            listed = "; ".join(f"{value} for row {label!r}" for value, label in found.items())
            raise ValueError(
                f"rows of one table must have the same {name}, but have {listed}: change them, or "
                "choose rows with --rows"
            )


def _check_folders(runs: Iterable[Run]) -> None:
    """Raise ValueError if two rows are the same training under labels that give one folder."""
    labels: dict[str, str] = {}
    for run in runs:
        other = labels.setdefault(run.folder, run.row.label)
        if other != run.row.label:
            raise ValueError(
                f"rows {other!r} and {run.row.label!r} are one and the same training, and their "
                "labels give one folder's name; choose labels that differ in letters or digits"
            )


def run_key(
    row: Row,
    scale: str,
    seed: int,
    training: Training,
    dataset: Dataset,
    device: str,
    code: Code,
    *,
    timed: bool = False,
    processes: int = 1,
) -> str:
    """Twelve hex digits that identify a run's result (see `Run`)."""
    identity = {
        "protocol": PROTOCOL,
        "model": qualified_name(row.model),
        "source": digest(code),
        "options": row.encoded(scale),
        "clip": vars(dataset.clip),
        "training": encode(vars(training), f"row {row.label!r}: training"),
        "data": dataset.digest,
        "seed": seed,
        "device": device,
        **({"timed": True} if timed else {}),
        **({"processes": processes} if processes > 1 else {}),
    }
    text = to_json(identity, sort_keys=True)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:12]


def resolve_precision(precision: str, device: str) -> str:
    """Turn "auto" into bf16 where the device computes it natively, else fp32.

    Raises ValueError for a precision that the device has not: tf32 off CUDA, bf16 without native
    support on CUDA.
    """
    choose("precision", precision, PRECISIONS)
    if precision == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    if precision == "tf32" and not (
        device == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
    ):
        raise ValueError("precision 'tf32' needs an NVIDIA GPU of compute capability 8 or more")
    if precision == "bf16" and device != "cpu" and not has_native_bf16(device):
        raise ValueError("precision 'bf16' is not native on this GPU; use fp32")
    return precision


def has_native_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware (CPU: AVX512-BF16 or AMX; GPU: native)."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    if device == "cpu" and cpuinfo.is_file():
        words = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
        return not {"avx512_bf16", "amx_bf16"}.isdisjoint(words)
    return False
