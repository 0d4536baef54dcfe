"""A table in LaTeX (booktabs), and its notes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from benchmarks.names import printable
from benchmarks.report.table import ABSENT, Cell, Head, Line, Table, sentence

SPECIAL = {
    **{character: "\\" + character for character in "&%$#_{}"},
    **{character: f"${character}$" for character in "<>|"},
    **{character: f"{{{character}}}" for character in "[]*"},  # after \\ these would be arguments
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "–": "--",
        "—": "---",
        "…": r"\ldots{}",
        "†": r"$\dagger$",
        "‡": r"$\ddagger$",
        "§": r"\S{}",
    },
    **{"‘": "`", "’": "'", "“": "``", "”": "''", '"': "''"},
    **{"±": r"$\pm$", "×": r"$\times$", "⊗": r"$\otimes$", "·": r"$\cdot$", "−": "$-$"},
    **{"→": r"$\rightarrow$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "∞": r"$\infty$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "α": r"$\alpha$", "β": r"$\beta$", "τ": r"$\tau$"},
    **{"φ": r"$\varphi$"},
    **{"²": "$^2$", "³": "$^3$", "°": r"$^{\circ}$", "µ": r"$\mu$"},
}
LIGATURES = ("--", "``", "''", "?`", "!`")  # that TeX would print as one other character


def escape_latex(text: str) -> str:
    """Text for pdflatex without packages; a character it cannot set is printed as U+XXXX."""

    def one(character: str) -> str:
        if character in SPECIAL:
            return SPECIAL[character]
        accented = "À" <= character <= "ÿ" and character.isalpha() and character not in "ÐÞðþ"
        return character if character.isascii() or accented else f"U+{ord(character):04X}"

    plain = unicodedata.normalize("NFC", printable(text))
    return "".join(one(c) + "{}" * (plain[i : i + 2] in LIGATURES) for i, c in enumerate(plain))


class Layout(NamedTuple):
    """Fonts of the cells and of the spreads, their digits' widths, and the space beside a column.

    Widths are in points: Computer Modern's small sizes are wider for their height.
    """

    font: str
    digit: float
    spread_font: str
    spread_digit: float
    gap: float


NARROW = " .,:;'|()iljtfI"
TEXT_WIDTH = 345.0  # points: the article class's
TOO_WIDE = 1.03  # that an estimated width may be: tables are 5 % narrower than estimated
LAYOUTS = (
    Layout("small", 4.63, "scriptsize", 3.99, 4),
    Layout("footnotesize", 4.26, "tiny", 3.41, 3),
    Layout("scriptsize", 3.99, "tiny", 3.41, 2),
)


def latex(table: Table) -> str:
    """The table as a LaTeX `table` environment; needs booktabs and nothing else.

    A table too wide for an article's page in footnotesize is set as two, accuracy above cost, and
    what is too wide in scriptsize even so as more. What its marks mean, and the protocol, is in
    `latex_notes`.
    """
    together = [table]
    halves = (_select(table, cost=False), _select(table, cost=True))
    apart = [half for half in halves if half.heads and half.lines]
    options = [(together, x) for x in LAYOUTS[:2]] + [(apart, x) for x in LAYOUTS]
    fitting = (o for o in options if all(_fits(part, o[1]) for part in o[0]))
    smallest = ([part for half in apart for part in _narrow(half, LAYOUTS[-1])], LAYOUTS[-1])
    parts, layout = next(fitting, smallest)
    caption = rf"\textbf{{{escape_latex(sentence(table.title))}}} {escape_latex(table.caption)}"
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            *(f"% {printable(line)}" for line in table.provenance),
            r"\begin{table}[t]",
            r"\centering",
            r"\setlength{\abovecaptionskip}{0pt}",
            r"\setlength{\belowcaptionskip}{6pt}",
            rf"\caption[{{{escape_latex(table.title)}}}]{{\small {caption.strip()}}}",
            rf"\label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.name)}}}",
            rf"\{layout.font}",
            rf"\setlength{{\tabcolsep}}{{{layout.gap:g}pt}}",
            "\n\\par\\medskip\n".join(_tabular(part, layout) for part in parts),
            r"\end{table}",
            "",
        ]
    )


def latex_notes(table: Table) -> str:
    """What the table's marks mean, its statements and its protocol, as a LaTeX paragraph."""
    below = [rf"{_superscript(mark)}\,{escape_latex(text)}" for mark, text in table.notes]
    below += [escape_latex(text) for text in table.statements]
    below += [
        rf"\emph{{{escape_latex(topic)}:}} {escape_latex(text)}" for topic, text in table.protocol
    ]
    opening = rf"% notes of table {printable(table.name)}"
    return "\n".join([opening, r"{\scriptsize\noindent", *below, r"\par}", ""])


def _select(table: Table, cost: bool) -> Table:
    """The table's columns that tell of cost, or the others, the cost without its empty lines."""
    kept = [i for i, head in enumerate(table.heads) if head.cost == cost]
    return _columns(table, kept, keep_empty=not cost)


def _columns(table: Table, kept: Sequence[int], *, keep_empty: bool = False) -> Table:
    """Some of the table's columns, without the lines that have nothing in them."""
    lines = [line._replace(cells=tuple(line.cells[i] for i in kept)) for line in table.lines]
    if not keep_empty:
        lines = [line for line in lines if any(cell.text != ABSENT for cell in line.cells)]
    return replace(table, heads=tuple(table.heads[i] for i in kept), lines=tuple(lines))


def _narrow(table: Table, layout: Layout) -> list[Table]:
    """The table in as many parts as the page's width needs, cut between groups where possible.

    As it is, if a column of it does not fit beside its rows' labels.
    """
    heads, parts, first = table.heads, [], 0
    while first < len(heads):
        ends = range(first + 1, len(heads) + 1)
        fitting = [e for e in ends if _fits(_columns(table, range(first, e)), layout)]
        if not fitting:
            return [table]
        last = fitting[-1]
        if last < len(heads):
            between = [e for e in fitting if heads[e - 1][:2] != heads[e][:2]]  # group and part
            last = (between or fitting)[-1]
        parts.append(_columns(table, range(first, last)))
        first = last
    return [part for part in parts if part.lines]


def _fits(table: Table, layout: Layout) -> bool:
    return not table.lines or _width(table, layout) <= TOO_WIDE * TEXT_WIDTH


def _tabular(table: Table, layout: Layout) -> str:
    rows = [*_head_rows(table.heads), r"\midrule"]
    rows += [_latex_line(line, table, layout) for line in table.lines]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{@{{}}l{'r' * len(table.heads)}@{{}}}}",
            r"\toprule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _spans(names: Iterable[str]) -> list[tuple[str, int, int]]:
    """Stretches of equal names as (name, first column, last column); column 1 is the label's."""
    spans, column = [], 2
    for name, stretch in groupby(names):
        width = len(list(stretch))
        spans.append((name, column, column + width - 1))
        column += width
    return spans


def _head_rows(heads: Sequence[Head]) -> Iterator[str]:
    for level in ([head.group for head in heads], [head.part for head in heads]):
        if any(level):
            spans = _spans(level)
            cells = (rf"\multicolumn{{{b - a + 1}}}{{c}}{{{escape_latex(n)}}}" for n, a, b in spans)
            yield rf" & {' & '.join(cells)} \\"
            yield " ".join(rf"\cmidrule(lr){{{a}-{b}}}" for name, a, b in spans if name)
    yield rf" & {' & '.join(escape_latex(head.heading) for head in heads)} \\"
    if any(head.unit for head in heads):
        units = (escape_latex(f"({head.unit})") if head.unit else "" for head in heads)
        yield rf" & {' & '.join(units)} \\"


def _latex_line(line: Line, table: Table, layout: Layout) -> str:
    rooms = _rooms(table)
    cells = [_latex_cell(c, room, layout) for c, room in zip(line.cells, rooms, strict=True)]
    return rf"{escape_latex(line.label)}{_superscript(*line.marks)} & {' & '.join(cells)} \\"


def _rooms(table: Table) -> list[str]:
    """The longest spread of each column, whose room cells without one leave blank."""
    columns = zip(*(line.cells for line in table.lines), strict=True)
    return [max((cell.spread for cell in column), key=len) for column in columns]


def _latex_cell(cell: Cell, room: str, layout: Layout) -> str:
    """A cell; where its column has spreads and it has none, a blank keeps the digits in line."""
    text = escape_latex(cell.text)
    if cell.text == ABSENT or cell.text.replace(" ", "").isalpha():  # such as "failed"
        return rf"\multicolumn{{1}}{{c}}{{{text}{_superscript(cell.mark)}}}"
    bold = r"\boldmath" * text.startswith("$")
    text = (rf"\textbf{{{bold}{text}}}" if cell.bold else text) + _superscript(cell.mark)
    spread = rf"{{\{layout.spread_font}\,$\pm$\,{cell.spread or room}}}" if room else ""
    return text + (spread if cell.spread or not room else rf"\phantom{{{spread}}}")


def _superscript(*marks: str) -> str:
    listed = escape_latex(",".join(filter(None, marks)))
    return rf"\textsuperscript{{{listed}}}" if listed else ""


def _digits(text: str) -> float:
    """Approximate width in Computer Modern, in units of a digit."""
    narrow = sum(character in NARROW for character in text)
    medium = sum((c.islower() or c.isdigit()) and c not in NARROW for c in text)
    return 0.56 * narrow + 1.03 * medium + 1.52 * (len(text) - narrow - medium)


def _width(table: Table, layout: Layout) -> float:
    """Approximate width of the tabular in points, a few percent too wide rather than too narrow."""

    def points(cell: Cell, room: str) -> float:
        text = _digits(cell.text) * (1.15 if cell.bold else 1.0) + 0.8 * bool(cell.mark)
        return text * layout.digit + (_digits(f"±{room}") + 1.0) * layout.spread_digit * bool(room)

    widths = []
    for i, (head, room) in enumerate(zip(table.heads, _rooms(table), strict=True)):
        heading = max(_digits(head.heading), _digits(f"({head.unit})")) * layout.digit
        widths.append(max(heading, *(points(line.cells[i], room) for line in table.lines)))
    for level in ([head.group for head in table.heads], [head.part for head in table.heads]):
        for name, a, b in _spans(level):
            lacking = _digits(name) * layout.digit - sum(widths[a - 2 : b - 1])
            widths[b - 2] += max(0.0, lacking - 2 * layout.gap * (b - a))
    labels = max(_digits(line.label) + 0.8 * len(line.marks) for line in table.lines)
    return labels * layout.digit + sum(widths) + 2 * layout.gap * len(widths)
