"""From a suite and what the user asked for to runs; every check before training is here."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.data import DATASETS, OWN_FILES, Dataset, open_dataset, open_own
from benchmarks.data.stored import StoredDataset
from benchmarks.experiment.code import (
    Code,
    code_of,
    digest,
    encode,
    objects_in,
    qualified_name,
)
from benchmarks.experiment.fabric import group_size
from benchmarks.experiment.hardware import (
    Machine,
    check_devices,
    choose_device,
    resolve_precision,
    this_machine,
)
from benchmarks.experiment.spec import (
    SMALL_SCALES,
    DatasetClass,
    DatasetTable,
    Panel,
    Row,
    Suite,
    Training,
    name_of,
    slug,
)
from benchmarks.files import to_json
from benchmarks.further_metrics import find_metric, further
from benchmarks.metrics import METRICS, Metric, ToTarget
from benchmarks.names import choose, printable
from tau import Clip, Predictor

# Part of every run's key. Raise it when the loop, the data or the metrics change the numbers, or
# what a record holds changes its meaning; CHANGELOG.md tells what each version was.
PROTOCOL = 2

SYNTHETIC_DATA = "synthetic"
STORED_RUNS = "stored runs"  # that --report reads where it names no record
# Options that change what a table holds, in the order in which a table's name has them.
IN_NAME = (
    *("add", "rows", "seeds", "epochs", "minutes", "batch_size", "dataset", "data"),
    *("past", "future", "stride", "data_range", "layout", "variable"),
    *("size", "gray", "fps", "crop", "pad", "precision", "device"),
)
OF_OWN_DATA = (
    *("past", "future", "stride", "data_range", "layout", "variable"),
    *("size", "gray", "fps", "crop", "pad"),
)
# Bytes of a table's name: with the longest name of a panel, and with what tells its files apart,
# less than 200.
NAME_BYTES, PART_BYTES = 110, 30


@dataclass(frozen=True)
class Options:
    """What the user asked for: the command's options, None where nothing was said."""

    suite: str | None  # None: that of the record in `report`
    scale: str | None = None
    add: Sequence[str] | None = None  # models of the user's, as FILE.py:CLASS
    rows: Sequence[str] | None = None
    metrics: Sequence[str] | None = None  # further columns, as `find_metric` takes them
    seeds: int | None = None
    epochs: int | None = None
    minutes: float | None = None  # of training on this machine, instead of epochs
    batch_size: int | None = None
    device: str = "auto"
    devices: int | None = None  # of this machine, that share each batch
    precision: str = "auto"
    data: str | None = None  # a folder, a file, or "synthetic"
    dataset: str | None = None
    past: int | None = None  # from here to `pad`: of the user's own data
    future: int | None = None
    stride: int | None = None
    data_range: Sequence[float] | None = None
    layout: str | None = None
    variable: str | None = None
    size: str | None = None
    gray: bool = False
    fps: float | None = None
    crop: str | None = None
    pad: str | None = None
    out: Path = Path("results")
    report: str | None = None  # a table's record, or STORED_RUNS
    figures: bool = True
    against: Path | None = None  # an earlier table's record, which the page compares with
    open: bool = False  # the page in a browser
    dry_run: bool = False
    fresh: bool = False  # move stored runs aside instead of continuing them
    checkpoint_seconds: float | None = None
    jobs: int | None = None
    shard: str | None = None  # K/N: train the K-th of N parts of the plan, and write no table
    on: str | None = None  # "ray" or "ray://ADDRESS": what hands the runs out
    cpus_per_run: int | None = None  # there
    gpus_per_run: float | None = None
    check: Path | None = None
    update: bool = False  # of the reference in `check`
    verify: bool = False  # have others compute the table's numbers again
    log: Sequence[str] = ()  # names of loggers
    quiet: bool = False  # print errors, the table and the paths alone

    def __post_init__(self) -> None:
        if self.data is not None and not self.data.strip():
            raise ValueError("--data is empty; expected a folder, a file or 'synthetic'")
        if self.epochs is not None and self.minutes is not None:
            raise ValueError(
                f"--epochs {self.epochs} and --minutes {self.minutes:g} both tell how long rows "
                "train; leave one out"
            )
        if not self.figures:
            self.refuse(("against", "open"), "--no-figures, which writes no page")

    @property
    def root(self) -> Path | None:
        """What --data names, if that is a folder or a file."""
        return None if self.data in (None, SYNTHETIC_DATA) else Path(str(self.data))

    @property
    def of_own_data(self) -> dict[str, Any]:
        """The options of the user's own data that were given."""
        found = {name: getattr(self, name) for name in OF_OWN_DATA}
        return {
            name: value for name, value in found.items() if value is not None and value is not False
        }

    def refuse(self, names: Iterable[str], where: str) -> None:
        """Raise ValueError for the first of these options that was given: it has no effect."""
        defaults = {option.name: option.default for option in fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                off = "no-" if defaults[name] is True else ""
                option = f"--{off}{name.replace('_', '-')}"
                raise ValueError(f"{option} has no effect on {where}; leave it out")

    def is_own(self, panel: Panel) -> bool:
        """Whether --data names the user's own data."""
        root = self.root
        return root is not None and (
            panel.dataset is None or root.suffix.lower() in OWN_FILES or root.is_file()
        )


@dataclass(frozen=True)
class Run:
    """One training of one row on one data set: a value that any process can execute.

    `key` hashes everything that can change the number: model class and source, options, clip,
    training, data, seed, device type, precision, PROTOCOL, the number of processes, whether it was
    to be timed, and the metrics that score it besides METRICS. `code` is the source that the key
    was made from; `reopen` opens the data set again, from the files of another machine.
    """

    suite: str
    panel: str
    row: Row
    scale: str
    seed: int
    training: Training
    dataset: Dataset
    device: str
    key: str
    paper_clip: Clip  # at which costs are given besides the run's own
    timed: bool = False
    timing_seconds: float = 0.3
    processes: int = 1  # that share each batch
    further: tuple[Metric, ...] = ()  # metrics of its panel that do not score every run
    code: Code = field(default_factory=dict, repr=False, compare=False)
    reopen: Callable[[], Dataset] | None = field(default=None, repr=False, compare=False)

    @property
    def clip(self) -> Clip:
        """The task."""
        return self.dataset.clip

    @property
    def metrics(self) -> dict[str, Metric]:
        """What scores it, by name."""
        return METRICS | {metric.name: metric for metric in self.further}

    @property
    def is_small(self) -> bool:
        """Whether the scale has models smaller than the paper's, which train in moments."""
        return self.scale in SMALL_SCALES

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


def adapt(suite: Suite, options: Options) -> Suite:
    """The suite as the options have it: on its own data sets, on another one, or on own data.

    On other data it has one panel, and neither title, published numbers, target nor notes of its
    own. A set that the paper counts as the same, such as KTH's videos beside its images, keeps all
    but the title.
    """
    first = suite.panels[0]
    own = options.is_own(first)
    if options.check is not None:  # a reference is of one data set
        suite = replace(suite, panels=(first,))
    named = None if first.dataset is None else name_of(first.dataset)
    if not own and options.dataset in (None, named):
        return suite
    if own and options.dataset is not None:
        raise ValueError(
            f"--dataset {options.dataset} has no effect on your own data; leave it out"
        )
    if own and first.dataset is None:
        return suite
    dataset: DatasetClass | None = None
    what = f"Own data: {Path(str(options.data)).name}"
    if not own:
        what = f"Data set {options.dataset}"
        dataset = DATASETS[choose("data set", str(options.dataset), DATASETS)]
        for version in first.versions:
            if name_of(version) == options.dataset:
                panel = replace(first, dataset=version, title="")
                return replace(suite, title=f"{suite.title}, on {options.dataset}", panels=(panel,))
    columns = tuple(c for c in first.columns if not isinstance(c, ToTarget))
    return replace(
        suite,
        title=f"{what}, rows of {suite.name}",
        panels=(replace(first, dataset=dataset, title="", columns=columns, left_out={}),),
        rows=tuple(replace(row, note="") for row in suite.rows),
        published=None,
        published_columns=(),
        also_published=(),
        published_elsewhere=(),
        target=None,
        notes=(),
    )


def with_metrics(suite: Suite, asked: Sequence[str]) -> Suite:
    """The suite with these metrics as columns of every panel, after its own.

    Raises ValueError for a metric that is unknown, given twice, or on every panel already, and what
    `find_metric` raises.
    """
    metrics = {}
    for text in asked:
        metric = find_metric(text)
        if metric.name in metrics:
            raise ValueError(f"--metrics has {metric.name} twice; leave one of them out")
        metrics[metric.name] = metric
    held = [{column.name for column in panel.columns} for panel in suite.panels]
    for name in metrics:
        if all(name in names for names in held):
            raise ValueError(f"--metrics {name} is a column of the table already; leave it out")
    panels = tuple(
        replace(panel, columns=(*panel.columns, *(m for n, m in metrics.items() if n not in names)))
        for panel, names in zip(suite.panels, held, strict=True)
    )
    return replace(suite, panels=panels)


# --- runs ----------------------------------------------------------------------------------------


def plan(suite: Suite, options: Options, machine: Machine | None = None) -> list[Run]:
    """All runs of a suite that options ask for, by panel and in table order.

    `machine` is what trains them (None: this one). A panel whose data are not present is left out
    with a message, unless all are. Raises ValueError or FileNotFoundError before anything trains.
    No model is built: that runs a row's own code (see `trial`).
    """
    machine = machine or this_machine(options.device)
    device = choose_device(options.device, machine)
    scale = options.scale or _default_scale(suite, device)
    choose(f"suite {suite.name!r}: scale", scale, suite.training)
    if options.report is None:
        check_devices(options.devices, device)
    processes = options.devices or group_size()
    runs: list[Run] = []
    missing: dict[str, FileNotFoundError] = {}
    for panel in suite.panels:
        try:
            dataset = _open(suite, panel, scale, options)
        except FileNotFoundError as error:
            missing[panel.name] = error
            continue
        found = plan_panel(
            suite,
            scale,
            dataset,
            device,
            panel=panel,
            rows=options.rows or suite.selected,
            seeds=range(options.seeds) if options.seeds else None,
            epochs=options.epochs,
            minutes=options.minutes,
            batch_size=options.batch_size,
            precision=options.precision,
            processes=processes,
            machine=machine,
            scores=options.report is None or options.verify,
        )
        opener = None if options.data == SYNTHETIC_DATA else _opener(panel, scale, options)
        runs += [replace(run, reopen=opener) for run in found]
    for name, why in missing.items():
        if len(missing) == len(suite.panels):
            raise why
        print(f"{name} is left out: {why}", file=sys.stderr)
    return runs


def plan_panel(
    suite: Suite,
    scale: str,
    dataset: Dataset,
    device: str,
    *,
    panel: Panel | None = None,
    rows: Sequence[str] | None = None,
    seeds: Iterable[int] | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
    processes: int = 1,
    machine: Machine | None = None,
    scores: bool = True,
) -> list[Run]:
    """All runs of a suite's panel (default: the first) on its data set, in table order.

    `rows` selects by label, by default all but those that the panel leaves out; `processes` share
    each batch; `machine` is what trains them (None: this one). Without `scores` nothing is to be
    scored, so no metric is fitted to the data. Raises ValueError.
    """
    panel = panel or suite.panels[0]
    machine = machine or this_machine(device)
    choose(f"suite {suite.name!r}: scale", scale, suite.training)
    for label in rows or ():
        choose(f"suite {suite.name!r}: row", label, [row.label for row in suite.rows])
    metrics = further(panel.columns)
    if scores:
        metrics = tuple(_fitted(metric, dataset) for metric in metrics)
        _check_metrics(metrics, dataset)
    runs: list[Run] = []
    is_own_length = epochs is not None or minutes is not None  # for which the reasons do not hold
    left_out = {} if rows or is_own_length else suite.left_out(panel, scale)
    for label, reason in left_out.items():
        print(
            f"{label} is left out on {panel.name} at scale {scale}: {reason}; --rows has it",
            file=sys.stderr,
        )
    for row in suite.rows_of(panel):
        if (rows and row.label not in rows) or row.label in left_out:
            continue
        try:
            training = replace(suite.training_of(panel, scale), **row.training.get(scale, {}))
            if epochs is not None or minutes is not None:
                training = replace(training, epochs=epochs, minutes=minutes)
            training = replace(
                training,
                batch_size=training.batch_size if batch_size is None else batch_size,
                sequences=training.sequences or dataset.train_sequences,
                precision=resolve_precision(
                    training.precision if precision == "auto" else precision, device, machine
                ),
            )
        except ValueError as error:
            raise ValueError(f"row {row.label!r} at scale {scale!r}: {error}") from error
        _check_batch(row, training, dataset, processes)
        others = [*objects_in(row.at(scale)), *dataset.classes(), *_functions(metrics)]
        code = code_of(row.model, others)
        for seed in (row.seeds or suite.seeds) if seeds is None else seeds:
            run = Run(
                suite=suite.name,
                panel=panel.name,
                row=row,
                scale=scale,
                seed=seed,
                training=training,
                dataset=dataset,
                device=device,
                key="",
                paper_clip=panel.clip,
                timed=suite.timed,
                timing_seconds=suite.timing_seconds,
                processes=processes,
                further=metrics,
                code=code,
            )
            runs.append(replace(run, key=run_key(run)))
    _check_folders(runs)
    _check_comparable(runs)
    return runs


def run_key(run: Run) -> str:
    """Twelve hex digits that identify a run's result (see `Run`)."""
    row = f"row {run.row.label!r}"
    identity = {
        "protocol": PROTOCOL,
        "model": qualified_name(run.row.model),
        "source": digest(run.code),
        "options": encoded_options(run.row, run.scale),
        "clip": vars(run.clip),
        "training": encode(vars(run.training), f"{row}: training"),
        "data": run.dataset.digest,
        "seed": run.seed,
        "device": run.device,
        **({"timed": True} if run.timed else {}),
        **({"shares_of_a_batch": run.processes} if run.processes > 1 else {}),
        **({"metrics": {m.name: _identity(m) for m in run.further}} if run.further else {}),
    }
    text = to_json(identity, sort_keys=True)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:12]


def encoded_options(row: Row, scale: str, *, tuples: bool = False) -> dict[str, Any]:
    """The constructor's options at a scale as JSON; ValueError for one without such a form.

    With `tuples`, these are told from lists, as a model of the user's own may need.
    """
    return {
        name: encode(value, f"row {row.label!r}: option {name!r}", tuples=tuples)
        for name, value in sorted(row.at(scale).items())
    }


def _identity(metric: Metric) -> Any:
    """What tells a metric from another of its name, as JSON; ValueError if nothing does."""
    what = f"metric {metric.name!r}: function"
    if metric.digest is not None or metric.combine is None:
        return metric.digest or encode(metric.function, what)
    return encode([metric.function, metric.combine], what)


def _functions(metrics: Iterable[Metric]) -> Iterator[Any]:
    """The functions whose source a key covers."""
    for metric in metrics:
        yield metric.function
        if metric.combine is not None:
            yield metric.combine


def _fitted(metric: Metric, dataset: Dataset) -> Metric:
    with _naming(metric, dataset):
        return metric.of(dataset)


def _check_metrics(metrics: Iterable[Metric], dataset: Dataset) -> None:
    """Raise ValueError for a metric that cannot score the frames of a data set."""
    clip = dataset.clip
    frames = torch.zeros(1, 1, clip.channels, clip.height, clip.width)
    for metric in metrics:
        with _naming(metric, dataset):
            score = metric(frames, frames, clip.data_range)
        has_parts = metric.combine is not None
        if (
            not isinstance(score, Tensor)
            or tuple(score.shape[:2]) != (1, 1)
            or score.ndim != 2 + has_parts
        ):
            found = tuple(score.shape) if isinstance(score, Tensor) else type(score)
            wanted = "(1, 1, K): K parts of a" if has_parts else "(1, 1): a"
            raise ValueError(
                f"metric {metric.name!r} gives {found} for one frame; expected a tensor {wanted} "
                "score for each sequence and frame"
            )
        with _naming(metric, dataset):
            metric.number(score.numpy())


@contextmanager
def _naming(metric: Metric, dataset: Dataset) -> Iterator[None]:
    """Turn what a metric's own code raises into ValueError that names it."""
    try:
        yield
    except Exception as error:  # the user's own code may raise anything
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"metric {metric.name!r} on {dataset.name}: {printable(said)}") from error


def _check_batch(row: Row, training: Training, dataset: Dataset, processes: int) -> None:
    if training.batch_size > dataset.train_sequences:
        raise ValueError(
            f"row {row.label!r}: a batch of {training.batch_size} needs as many training "
            f"sequences; {dataset.name} has {dataset.train_sequences}: --batch-size makes it "
            "smaller"
        )
    if rest := training.batch_size % processes:
        fitting = [n for n in range(1, training.batch_size + 1) if not training.batch_size % n]
        sizes = [training.batch_size - rest, training.batch_size - rest + processes]
        raise ValueError(
            f"row {row.label!r}: a batch of {training.batch_size} cannot be divided equally among "
            f"{processes} processes; expected {_either(fitting)} of them, or --batch-size "
            f"{_either([size for size in sizes if size])}"
        )


def _either(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last


def _check_comparable(runs: Sequence[Run]) -> None:
    """Raise ValueError for rows whose trainings no table would compare."""
    for name in ("epochs", "minutes", "precision"):
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


# --- names and data sets --------------------------------------------------------------------------


def open_datasets(table: DatasetTable, options: Options) -> dict[str, Dataset | Exception]:
    """The table's data sets by label, or why one is not present.

    Raises ValueError for an option that has no effect on a table of data sets.
    """
    kept = ("suite", "data", "out", "report", "quiet")
    others = [option.name for option in fields(options) if option.name not in kept]
    options.refuse(others, f"suite {table.name!r}, which trains nothing")
    opened: dict[str, Dataset | Exception] = {}
    for entry in table.entries:
        try:
            opened[entry.label] = open_dataset(
                entry.dataset, options.root, synthetic=options.data == SYNTHETIC_DATA
            )
        except (ValueError, OSError, ModuleNotFoundError) as error:
            opened[entry.label] = error
    return opened


def table_name(suite: Suite | DatasetTable, options: Options, runs: Sequence[Run] = ()) -> str:
    """Name of the table, its record and figures: suite and scale, and what else was asked for.

    Labels of rows, places of files and their content do not fit into a name; a hash of the request
    then tells names apart. A name has letters, digits and "_.-", at most NAME_BYTES of them.
    """
    asked: dict[str, Any] = {name: getattr(options, name) for name in IN_NAME}
    if options.add:
        asked["add"] = [name.rpartition(":")[2] for name in options.add]
    if runs and options.rows:
        asked["rows"] = list(dict.fromkeys(run.row.label for run in runs))
    if runs and options.check is not None:  # which gives the precision
        asked |= {"precision": runs[0].training.precision, "check": "check"}
    if runs and runs[0].processes > 1:
        asked["processes"] = runs[0].processes
    asked["metrics"] = [text.partition("=")[0] for text in options.metrics or ()] or None
    by_default = {"precision": "auto", "device": "auto"}
    asked = {
        name: value
        for name, value in asked.items()
        if value is not None and value is not False and value != by_default.get(name)
    }
    parts = [suite.name, *(run.scale for run in runs[:1])]
    name = "-".join([*parts, *(_part(option, value) for option, value in asked.items())])

    given = str(options.suite)
    places = {"suite": given} if given.endswith(".py") else {}
    if options.root is not None:
        places["data"] = str(options.root)
    parted = (added.rpartition(":") for added in options.add or ())
    places |= {f"add {label}": file for file, _, label in parted}
    weights = {m.name: m.digest for m in (runs[0].further if runs else ()) if m.digest}
    if not asked.keys() & {"rows"} and not places and not weights and len(name) <= NAME_BYTES:
        return name
    request = {"name": parts, **asked, **{k: str(Path(v).resolve()) for k, v in places.items()}}
    request |= {f"weights of {metric}": digest for metric, digest in weights.items()}
    if isinstance(suite, Suite) and runs and options.is_own(suite.panels[0]):
        request["digest"] = runs[0].dataset.digest
    text = to_json(request, sort_keys=True).encode(errors="backslashreplace")
    ending = f"-{hashlib.sha256(text).hexdigest()[:8]}"
    return name[: NAME_BYTES - len(ending)].rstrip("-") + ending


def _part(option: str, value: Any) -> str:
    """An option as part of a table's name, which can be cut or ambiguous."""
    if value is True:
        return option
    if isinstance(value, int | float):
        return f"{value:g}-{option}"
    texts = [Path(value).resolve().stem] if option == "data" else value
    texts = [texts] if isinstance(texts, str) else texts
    shown = (f"{x:g}" if isinstance(x, float) else str(x) for x in texts)
    return slug("-".join(shown))[:PART_BYTES].rstrip("-")


def _default_scale(suite: Suite, device: str) -> str:
    wanted = ("standard", "quick") if device == "cuda" else ("quick",)
    return next((scale for scale in wanted if scale in suite.training), next(iter(suite.training)))


def _open(suite: Suite, panel: Panel, scale: str, options: Options) -> Dataset:
    """The panel's data set, or the user's own."""
    own = options.of_own_data
    if options.is_own(panel):
        dataset = _opener(panel, scale, options)()
        for line in (() if options.dry_run else (dataset.caption,)) + dataset.notes:
            print(line, file=sys.stderr)
        return dataset
    if own:
        raise ValueError(
            f"--{next(iter(own)).replace('_', '-')} is for your own data: --data FILE that ends in "
            f"{', '.join(OWN_FILES)}, or --suite compare --data FOLDER"
        )
    if panel.dataset is None:
        raise ValueError(f"suite {suite.name!r} runs on your own data; give --data FILE or FOLDER")
    try:
        dataset = _opener(panel, scale, options)()
        for line in (*dataset.notes, *_unofficial(dataset)):
            print(line, file=sys.stderr)
        return dataset
    except FileNotFoundError as error:
        if options.root is None or not options.root.is_dir():
            raise
        raise FileNotFoundError(
            f"{error}; if these are recordings of your own: --suite compare --data {options.data}"
        ) from error


def _unofficial(dataset: Dataset) -> Iterator[str]:
    """A line if files that are read are not whole: their counts are not the official ones."""
    checks = dataset.checks() if isinstance(dataset, StoredDataset) else []
    odd = [check for check in checks if not check.holds]
    if odd:
        yield (
            f"{dataset.name}: {len(odd)} of {len(checks)} counts are not those of the official "
            f"files, such as {odd[0].what}: expected {odd[0].expected}, found {odd[0].found}; "
            f"python -m benchmarks.data verify {dataset.name} lists them"
        )


def _opener(panel: Panel, scale: str, options: Options) -> Callable[[], Dataset]:
    """What opens the panel's data set, or the user's own; it can be pickled."""
    if options.is_own(panel):
        return partial(open_own, Path(str(options.data)), **options.of_own_data)
    assert panel.dataset is not None
    return partial(
        open_dataset,
        panel.dataset,
        options.root,
        synthetic=options.data == SYNTHETIC_DATA,
        **panel.dataset_options.get(scale, {}),
    )
