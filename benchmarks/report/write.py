"""From stored runs to files: the table in LaTeX and Markdown, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import files
from benchmarks.data import Dataset
from benchmarks.experiment.spec import Run, Suite, Survey
from benchmarks.experiment.store import DAMAGED, RECORD, RERUN, StoredRun
from benchmarks.metrics import METRICS
from benchmarks.names import choose
from benchmarks.report import figures
from benchmarks.report import table as tables
from benchmarks.report.published import Column, methods, published
from benchmarks.report.table import SurveyLine, Table, TableRow, TableSpec


@dataclass(frozen=True)
class Report:
    """What was written, the table as text for the screen, and the runs as they are shown."""

    text: str
    paths: tuple[Path, ...]
    runs: tuple[StoredRun, ...] = ()


def report(
    suite: Suite,
    scale: str,
    runs: Sequence[StoredRun],
    out: Path,
    name: str,
    beside: Sequence[StoredRun] = (),
) -> Report:
    """Write tables/`name`.tex and .md, records/`name`.json and the figures under `out`.

    Reads the runs' files only. Runs that failed, were not run or are damaged are shown as such.
    `beside` are the runs of `suite.beside`; their figures stand beside the others under its name. A
    suite whose columns are all costs has no figures.
    """
    spec = table_spec(suite, name)
    runs = [_checked(run, spec) for run in runs]
    beside = [_checked(run, spec.beside) for run in beside if spec.beside is not None]
    table = tables.build(runs, spec, beside)
    shown = (*runs, *beside)
    records = files.to_json([run.record for run in shown], indent=1) + "\n"
    written = _write(table, out, {f"records/{name}.json": records})
    paths = list(written.paths)
    for of, drawn, title in ((suite, runs, name), (suite.beside, beside, None)):
        if of is not None and drawn and not _is_all_cost(of):
            paths += figures.draw(
                drawn,
                [row.label for row in of.rows],
                out / "figures",
                title or f"{name}-and-{of.name}",
                target=of.target if scale in of.target_scales else None,
            )
    return Report(written.text, tuple(paths), shown)


def planned(run: Run, stored: StoredRun | None, folder: Path) -> StoredRun:
    """What a report shows of a planned run: what is stored of it, or that nothing is."""
    place = {"row": run.row.label, "seed": run.seed}
    if stored is None:
        return StoredRun(folder / run.folder, {**place, "status": tables.NOT_RUN, "reason": ""})
    if any(stored.record[name] != value for name, value in place.items()):
        found = f"row {stored.record['row']!r}, seed {stored.record['seed']!r}"
        reason = f"{stored.folder} holds a run of {found}; {RERUN}"
        return _unusable(replace(stored, record=stored.record | place), reason)
    return stored


def _checked(run: StoredRun, spec: TableSpec) -> StoredRun:
    """The run, or the same as unusable if something that a report reads of it is damaged.

    All of it is read here, for this run alone, so that it cannot spoil the report of the others.
    """
    if not run.done:
        return run
    reads: dict[str, Callable[[], object]] = {
        "scores.npz": lambda: _check_scores(run),
        "samples.npz": lambda: figures.samples_of(run),
        "curve.jsonl": lambda: figures.curve_of(run) if run.trained else None,
        RECORD: lambda: tables.build([run], spec),  # last, as it needs the others
    }
    for name, read in reads.items():
        path = run.folder / name
        try:
            read()
        except (OSError, AttributeError, OverflowError, *DAMAGED) as error:
            said = str(error)
            if str(path) not in said:
                said = f"{path} cannot be used ({type(error).__name__}: {said}); {RERUN}"
            return _unusable(run, said)
    return run


def _check_scores(run: StoredRun) -> None:
    shape = (run.record["test_sequences"], run.record["clip"]["future"])
    scores = run.scores()
    shapes = {name: scores[name].shape for name in METRICS}
    if set(shapes.values()) != {shape}:
        raise ValueError(f"its scores have shapes {shapes}; expected {shape}")


def _unusable(run: StoredRun, reason: str) -> StoredRun:
    return replace(run, record={**run.record, "status": "unusable", "reason": reason})


def _is_all_cost(suite: Suite) -> bool:
    """Whether the suite tells what its rows cost, and nothing of what they predict."""
    return all(tables.METRICS[name].cost for name in suite.columns)


def survey(plan: Survey, opened: Mapping[str, Dataset | Exception], out: Path, name: str) -> Report:
    """Write the table of data sets: `opened` has each row's data set, or why there is none."""
    lines = [
        SurveyLine(row.label, opened[row.label], row.published, row.published_future)
        for row in plan.rows
    ]
    table = tables.survey(lines, name, plan.title, plan.published, " ".join(plan.notes))
    return _write(table, out, {})


def _write(table: Table, out: Path, more: Mapping[str, str]) -> Report:
    for folder in ("tables", "records", "figures"):
        files.remove_partial_files(out / folder)
    markdown = tables.markdown(table)
    texts = {
        f"tables/{table.name}.tex": tables.latex(table),
        f"tables/{table.name}.md": markdown,
        **more,
    }
    for path, text in texts.items():
        files.write_text(out / path, text)
    return Report(markdown, tuple(out / path for path in texts))


def table_spec(suite: Suite, name: str) -> TableSpec:
    """What a suite's table shows."""
    in_table = set(published(suite.published)["method"]) if suite.published else set()
    for row in suite.rows:
        if row.published is not None:
            choose(f"row {row.label!r}: published", row.published, methods())
    rows = [
        TableRow(row.label, row.published if row.published in in_table else None, row.note)
        for row in suite.rows
    ]
    rows[1:1] = [TableRow(method, method) for method in suite.also_published]
    return TableSpec(
        name=name,
        title=suite.title,
        rows=tuple(rows),
        columns=tuple(suite.columns),
        published_table=suite.published,
        published_columns=tuple(Column(*column) for column in suite.published_columns),
        caption=" ".join(suite.notes),
        conventions=_conventions(suite),
        target=None if suite.target is None else suite.target[0],
        beside=None if suite.beside is None else table_spec(suite.beside, suite.beside.name),
    )


def _conventions(suite: Suite) -> str:
    columns = [*suite.columns, *(suite.beside.columns if suite.beside else ())]
    stored = dict.fromkeys(
        tables.METRICS[name].stored or name for name in columns if not tables.METRICS[name].cost
    )
    return "; ".join(f"{name}: {METRICS[name].convention}" for name in stored)
