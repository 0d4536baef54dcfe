"""From stored runs to files: the table in LaTeX and Markdown, and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures, store, tables
from benchmarks.metrics import METRICS
from benchmarks.published import Column, methods, published
from benchmarks.store import StoredRun
from benchmarks.suite import Suite, choose
from benchmarks.tables import TableRow, TableSpec


@dataclass(frozen=True)
class Report:
    """What was written, and the table as text for the screen."""

    text: str
    paths: tuple[Path, ...]


def report(suite: Suite, scale: str, runs: Sequence[StoredRun], out: Path, name: str) -> Report:
    """Write tables/`name`.tex and .md, records/`name`.json and the figures under `out`.

    Reads the runs' files only. Runs of seeds or rows that failed are shown as failed.
    """
    table = tables.build(runs, table_spec(suite, name))
    markdown = tables.markdown(table)
    paths = {
        out / "tables" / f"{name}.tex": tables.latex(table),
        out / "tables" / f"{name}.md": markdown,
        out / "records" / f"{name}.json": store.to_json([r.record for r in runs], indent=1) + "\n",
    }
    for path, text in paths.items():
        store.write_text(path, text)
    drawn = figures.draw(
        runs,
        [row.label for row in suite.rows],
        out / "figures",
        name,
        target=suite.target if scale in suite.target_scales else None,
    )
    return Report(markdown, (*paths, *drawn))


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
    used = {name: METRICS[name].convention for name in suite.columns}
    return TableSpec(
        name=name,
        title=suite.title,
        rows=tuple(rows),
        columns=tuple(suite.columns),
        published_table=suite.published,
        published_columns=tuple(Column(*column) for column in suite.published_columns),
        caption=" ".join(suite.notes),
        conventions="; ".join(f"{name}: {text}" for name, text in used.items()) + ".",
    )
