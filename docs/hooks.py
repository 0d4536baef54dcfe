"""MkDocs: the site also has the committed tables and figures of results/, as they are."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

RESULTS = Path(__file__).resolve().parent.parent / "results"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add results/figures, and results/tables as pages under their files' names."""
    for path in sorted(RESULTS.glob("figures/*")):
        uri = f"results/figures/{path.name}"
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    for path in sorted(RESULTS.glob("tables/*.md")):
        text = f"# {path.stem}\n\n{path.read_text(encoding='utf-8')}"
        files.append(File.generated(config, f"results/tables/{path.name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that lead from docs/ to results/ in the repository lead to the same on the site."""
    return markdown.replace("](../results/", "](results/")
