"""MkDocs: the site also has the committed results, a page of each record, a leaderboard, and
the published numbers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from benchmarks.leaderboard import leaderboard, read_table
from benchmarks.report.field import state_of_the_field
from benchmarks.report.page import write_page
from benchmarks.report.table import build
from benchmarks.report.write import figure_stem

RESULTS = Path(__file__).resolve().parent.parent / "results"
BOARDS = "<!-- leaderboard -->"  # what the boards stand in for, in docs/leaderboard.md
FIELD = "<!-- field -->"  # what the published numbers stand in for, in docs/field.md


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add results/figures and results/records, the tables as pages, and the records' reports."""
    for path in sorted((*RESULTS.glob("figures/*"), *RESULTS.glob("records/*.json"))):
        uri = f"results/{path.relative_to(RESULTS).as_posix()}"
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    for path in sorted(RESULTS.glob("tables/*.md")):
        text = f"# {path.stem}\n\n{path.read_text(encoding='utf-8')}"
        files.append(File.generated(config, f"results/tables/{path.name}", content=text))
    for path in sorted(RESULTS.glob("records/*.json")):
        uri = f"results/report/{path.stem}/index.html"
        files.append(File.generated(config, uri, content=_report(path)))
    return files


def _report(path: Path) -> str:
    """The page of a record; raises ValueError as `read_table` does."""
    suite, runs = read_table(path)
    panels = [(panel, runs[panel.name]) for panel in suite.panels if panel.name in runs]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for kind in ("figures", "records"):  # to which the page links
            (out / kind).symlink_to(RESULTS / kind)
        films = {
            panel.name: out / "figures" / f"{figure_stem(suite, panel, path.stem)}.gif"
            for panel, _ in panels
        }
        table = build(suite, path.stem, panels)
        return write_page(suite, table, panels, out, films=films).read_text(encoding="utf-8")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to ../results/ lead to the same on the site; the leaderboard gets its boards."""
    if BOARDS in markdown:
        markdown = markdown.replace(BOARDS, leaderboard(RESULTS / "records"))
    if FIELD in markdown:
        markdown = markdown.replace(FIELD, state_of_the_field())
    return markdown.replace("](../results/", "](results/")
