"""A table in GitHub-flavoured Markdown, with its notes."""

from __future__ import annotations

import re

from benchmarks.names import printable
from benchmarks.report.table import MEASURED, Cell, Head, Table, sentence


def escape_markdown(text: str) -> str:
    """Text for a GitHub-flavoured Markdown table cell or paragraph."""
    return re.sub(r"([\\`*_\[\]<>|~#$]|&(?=#?\w+;))", r"\\\1", printable(text))


def markdown(table: Table) -> str:
    """The table in GitHub-flavoured Markdown, with the caption above and the notes below."""
    heads = [escape_markdown(_markdown_head(head)) for head in table.heads]
    out = [
        f"**{escape_markdown(sentence(table.title))}** "
        + " ".join(escape_markdown(x) for x in (table.caption, *table.statements) if x),
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
