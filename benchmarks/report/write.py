"""From stored runs to files: the table in LaTeX and Markdown, the figures, and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import files
from benchmarks.data import Dataset
from benchmarks.experiment.plan import Run
from benchmarks.experiment.spec import DatasetTable, Panel, Suite, slug
from benchmarks.experiment.store import DAMAGED, RECORD, RERUN, StoredRun
from benchmarks.metrics import METRICS, Cost
from benchmarks.report import records
from benchmarks.report import table as tables
from benchmarks.report.change import Earlier, compare
from benchmarks.report.datasets import list_datasets
from benchmarks.report.latex import latex, latex_notes
from benchmarks.report.markdown import markdown
from benchmarks.report.scores import curve_of, samples_of
from benchmarks.report.table import Table


@dataclass(frozen=True)
class Report:
    """What was written, the table as text for the screen, and the runs as they are shown."""

    text: str
    paths: tuple[Path, ...]
    runs: tuple[StoredRun, ...] = ()
    page: Path | None = None
    change: str = ""  # since an earlier table, in a line


def report(
    suite: Suite,
    scale: str,
    runs: Mapping[str, Sequence[StoredRun]],
    out: Path,
    name: str,
    *,
    draw: bool = True,
    earlier: Earlier | None = None,
    record: str | None = None,
) -> Report:
    """Write tables/`name`.tex and .md, records/`name`.json and, with `draw`, figures and a page.

    They go below `out`; the page, report/`name`/index.html, compares with an `earlier` table. A
    `record` is that of the runs, where they come from one: it stays as it is.

    `runs` are those of each panel, by its name. Reads the runs' files only. Runs that failed, were
    not run or are damaged are shown as such. A panel whose columns are all costs has no figures,
    and without a finished run there is neither figure nor page.
    """
    found = [(panel, runs[panel.name]) for panel in suite.panels if runs.get(panel.name)]
    checked = [(panel, [_checked(run, suite, panel) for run in of]) for panel, of in found]
    table = tables.build(suite, name, checked)
    shown = [run for _, of in checked for run in of]
    written = _write(
        table, out, {f"records/{name}.json": record or records.to_text(suite, checked)}
    )
    if not draw or not any(run.done for run in shown):
        return replace(written, runs=tuple(shown))
    from benchmarks.report import figures, page  # here, as importing them takes a while

    paths = list(written.paths)
    labels = [row.label for row in suite.rows]
    target = suite.target if scale in suite.target_scales else None
    films: dict[str, Path] = {}
    for panel, of in checked:
        if not all(isinstance(column, Cost) for column in panel.columns):
            stem = figure_stem(suite, panel, name)
            aim = target if panel.has_target else None
            paths += figures.draw(of, labels, out / "figures", stem, target=aim)
            films[panel.name] = out / "figures" / f"{stem}.gif"
    change = (
        None
        if earlier is None
        else compare(suite, earlier, {panel.name: of for panel, of in checked})
    )
    written_page = page.write_page(
        suite, table, checked, out, target=target, change=change, films=films
    )
    return Report(
        written.text,
        (*paths, written_page),
        tuple(shown),
        written_page,
        "" if change is None else change.summary,
    )


def figure_stem(suite: Suite, panel: Panel, name: str) -> str:
    """How the names of a panel's figures begin, in the table `name` of a suite."""
    return name if len(suite.panels) == 1 else f"{name}-{slug(panel.name)}"


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


def _checked(run: StoredRun, suite: Suite, panel: Panel) -> StoredRun:
    """The run, or the same as unusable if something that a report reads of it is damaged.

    All of it is read here, for this run alone, so that it cannot spoil the report of the others.
    """
    if not run.done:
        return run
    reads: dict[str, Callable[[], object]] = {}
    if run.has_samples:
        reads["scores.npz"] = lambda: _check_scores(run)
        reads["samples.npz"] = lambda: samples_of(run)
    reads["curve.jsonl"] = lambda: curve_of(run) if run.trained else None
    # last, as it needs the others
    reads[RECORD] = lambda: tables.build(suite, suite.name, [(panel, [run])])
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
    names = (*METRICS, *run.record.get("metrics", ()))
    shapes = {name: scores[name].shape[:2] for name in names}
    if set(shapes.values()) != {shape}:
        raise ValueError(f"its scores have shapes {shapes}; expected {shape}")


def _unusable(run: StoredRun, reason: str) -> StoredRun:
    return replace(run, record={**run.record, "status": "unusable", "reason": reason})


def report_datasets(
    table: DatasetTable, opened: Mapping[str, Dataset | Exception], out: Path, name: str
) -> Report:
    """Write the table of data sets: `opened` has each entry's data set, or why there is none."""
    return _write(replace(list_datasets(table, opened), name=name), out, {})


def _write(table: Table, out: Path, more: Mapping[str, str]) -> Report:
    for folder in ("tables", "records", "figures"):
        files.remove_partial_files(out / folder)
    text = markdown(table)
    texts = {
        f"tables/{table.name}.tex": latex(table),
        f"tables/{table.name}-notes.tex": latex_notes(table),
        f"tables/{table.name}.md": text,
        **more,
    }
    for path, content in texts.items():
        files.write_text(out / path, content)
    return Report(text, tuple(out / path for path in texts))
