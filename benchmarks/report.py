"""From stored runs to files: the table in LaTeX and Markdown, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures, files, tables
from benchmarks.data import Dataset
from benchmarks.metrics import METRICS
from benchmarks.names import choose
from benchmarks.published import Column, methods, published
from benchmarks.store import StoredRun
from benchmarks.suite import Suite, Survey
from benchmarks.tables import SurveyLine, Table, TableRow, TableSpec


@dataclass(frozen=True)
class Report:
    """What was written, and the table as text for the screen."""

    text: str
    paths: tuple[Path, ...]


def report(
    suite: Suite,
    scale: str,
    runs: Sequence[StoredRun],
    out: Path,
    name: str,
    beside: Sequence[StoredRun] = (),
) -> Report:
    """Write tables/`name`.tex and .md, records/`name`.json and the figures under `out`.

    Reads the runs' files only. Runs of seeds or rows that failed are shown as failed. `beside` are
    the runs of `suite.beside`; their figures stand beside the others under its name. A suite whose
    columns are all costs has no figures.
    """
    table = tables.build(runs, table_spec(suite, name), beside)
    records = [run.record for run in (*runs, *beside)]
    written = _write(table, out, {f"records/{name}.json": files.to_json(records, indent=1) + "\n"})
    for of, drawn_runs, title in ((suite, runs, name), (suite.beside, beside, None)):
        if of is not None and drawn_runs and not _is_all_cost(of):
            drawn = figures.draw(
                drawn_runs,
                [row.label for row in of.rows],
                out / "figures",
                title or f"{name}-{of.name}",
                target=of.target if scale in of.target_scales else None,
            )
            written = Report(written.text, (*written.paths, *drawn))
    return written


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
