"""The state of the field: what is published for each data set, and where sources disagree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

import pandas as pd

from benchmarks.report.markdown import escape_markdown
from benchmarks.report.published import CONVENTIONS, PAPER, SOURCES, ZOO, all_published

SHORT = {  # what a table calls its sources
    PAPER: "TAU",
    ZOO: "OpenSTL",
    "PredFormer_arXiv2410.04733": "PredFormer",
    "SwinLSTM_ICCV2023": "SwinLSTM",
    "VMRNN_CVPRW2024": "VMRNN",
    "WaveSFNet_arXiv2603.23284": "WaveSFNet",
    "Earthformer_NeurIPS2022": "Earthformer",
}
ERRORS = ("MSE", "RMSE", "MAE", "SSIM", "PSNR", "LPIPS", "CSI-M")  # a row's rank goes by the first
COSTS = ("Params_M", "FLOPs_G")  # frames per second are left out, as the machines differ
HEADINGS = {"Params_M": "parameters (M)", "FLOPs_G": "FLOPs (G)"}
HIGHER_IS_BETTER = ("SSIM", "PSNR", "CSI-M")
SCALED = re.compile(r"(\w+?)x(10+)")  # a metric printed so many times as large
# What the model zoo calls otherwise in its two tables, or another source than it.
ALIASES = {
    "convlstms": "convlstm",
    "simvpincepu": "simvp",
    "incepusimvpv1": "simvp",
    "simvpgstas": "gstasimvpv2",
    "openstlvit": "vit",
    "openstlswin": "swintransformer",
}


class Claim(NamedTuple):
    """What one source prints of a method on a data set."""

    method: str
    source: str
    tables: list[str]  # that print all of it, or parts
    epochs: int | None
    printed: dict[str, str]  # by metric; a star where it is uncertain

    @property
    def length(self) -> str:
        """After how many epochs."""
        return "not stated" if self.epochs is None else f"{self.epochs:,}"


def state_of_the_field() -> str:
    """The sources, then a section per data set and horizon, in Markdown."""
    parts = [f"- {SHORT[name]}: {escape_markdown(text)}" for name, text in SOURCES.items()]
    rows = all_published()
    named = [_dataset(*of) for of in zip(rows["dataset"], rows["table"], strict=True)]
    for (dataset, protocol), of in rows.assign(dataset=named).groupby(
        ["dataset", "protocol"], sort=False
    ):
        if claims := _claims(of):
            horizon = str(protocol).replace("->", " to ")
            parts.append(f"\n## {escape_markdown(str(dataset))}, {horizon} frames\n")
            parts += _table(claims)
            parts += ["", *(f"- {escape_markdown(line)}." for line in _conventions(claims))]
            parts += _disagreements(claims)
    return "\n".join(parts) + "\n"


def _dataset(dataset: str, table: str) -> str:
    """The data set; of WeatherBench's several variables, also which one is scored."""
    if " MV " in dataset:
        part = table.removeprefix("Weather MV ") if table.startswith("Weather MV ") else "sum"
        dataset += ", mean of the four" if part == "sum" else f", {part}"
    return dataset.replace("->", " to ").replace("deg", "°")


def _claims(rows: pd.DataFrame) -> list[Claim]:
    """What each source prints of each method after so many epochs; the best first."""
    claims: dict[tuple[object, ...], Claim] = {}
    columns = ("method", "source", "table", "epochs", "metric", "printed", "uncertain")
    for method, source, table, epochs, metric, printed, uncertain in zip(
        *(rows[name] for name in columns), strict=True
    ):
        length = None if pd.isna(epochs) else int(epochs)
        if found := SCALED.fullmatch(metric):
            metric = found[1]
            printed = format(Decimal(printed) / int(found[2]), "f")
        if metric in ERRORS + COSTS:
            claim = Claim(method, source, [table], length, {})
            claim = claims.setdefault((method, source, table, length), claim)
            claim.printed[metric] = printed + "*" * bool(uncertain)
    return sorted(_merged(claims.values()), key=_rank)


def _merged(claims: Iterable[Claim]) -> list[Claim]:
    """A source's tables that print the same of a method, or other metrics, are one claim."""
    merged: list[Claim] = []
    for claim in claims:
        for other in merged:
            same = _plain(other.method) == _plain(claim.method)
            if same and (other.source, other.epochs) == (claim.source, claim.epochs):
                shared = other.printed.keys() & claim.printed.keys()
                if all(other.printed[name] == claim.printed[name] for name in shared):
                    other.printed.update(claim.printed)
                    other.tables.extend(claim.tables)
                    break
        else:
            merged.append(claim)
    return merged


def _plain(method: str) -> str:
    """What a method is called, whatever the spelling."""
    plain = re.sub(r"[^a-z0-9]", "", method.lower().replace("++", "pp"))
    return ALIASES.get(plain, plain)


def _rank(claim: Claim) -> tuple[float, ...]:
    """By squared error; those without one by what they have, after the others."""
    rank = []
    for metric in ERRORS:
        number = float(claim.printed.get(metric, "inf").rstrip("*"))
        rank.append(-number if metric in HIGHER_IS_BETTER and number < float("inf") else number)
    return tuple(rank)


def _table(claims: list[Claim]) -> Iterator[str]:
    metrics = [name for name in ERRORS + COSTS if any(name in of.printed for of in claims)]
    heads = [HEADINGS.get(name, name) for name in metrics]
    yield f"| method | {' | '.join(heads)} | epochs | source |"
    yield f"|:--|{'--:|' * len(metrics)}--:|:--|"
    for claim in claims:
        cells = [escape_markdown(claim.printed.get(name, "")) for name in metrics]
        tables = ", ".join(table for table in claim.tables if table != "results")
        source = escape_markdown(f"{SHORT[claim.source]}, {tables}".rstrip(", "))
        yield (
            f"| {escape_markdown(claim.method)} | {' | '.join(cells)} | {claim.length} | {source} |"
        )


def _conventions(claims: list[Claim]) -> list[str]:
    """What must be known of these numbers, each said once with its source.

    Not that some are printed as multiples, as these are divided here.
    """
    lines: dict[str, None] = {}
    for convention in CONVENTIONS:
        for claim in claims:
            of_its_tables = set(claim.tables) & set(convention.tables)
            is_shown = of_its_tables and convention.metric in claim.printed
            if claim.source == convention.source and is_shown:
                lines[f"{SHORT[claim.source]}: {convention.text}"] = None
    return list(lines)


def _disagreements(claims: Iterable[Claim]) -> list[str]:
    """A table of the numbers of a method that cannot all be right; nothing if there are none."""
    by_method: dict[str, list[Claim]] = {}
    for claim in claims:
        by_method.setdefault(_plain(claim.method), []).append(claim)
    lines = []
    for of in by_method.values():
        for metric in ERRORS + COSTS:
            having = [claim for claim in of if metric in claim.printed]
            if any(_differ(a, b, metric) for a in having for b in having):
                told = (f"{c.printed[metric]} ({SHORT[c.source]}, {c.length})" for c in having)
                printed = escape_markdown("; ".join(dict.fromkeys(told)))
                method = escape_markdown(having[0].method)
                lines.append(f"| {method} | {HEADINGS.get(metric, metric)} | {printed} |")
    heads = ["", "Where sources disagree:", "", "| method | metric | printed (source, epochs) |"]
    return [*heads, "|:--|:--|:--|", *lines] if lines else []


def _differ(a: Claim, b: Claim, metric: str) -> bool:
    """Whether both cannot be right: after as many epochs they differ by more than rounding."""
    texts = [claim.printed[metric].rstrip("*") for claim in (a, b)]
    step = max(Decimal(1).scaleb(int(Decimal(text).as_tuple().exponent)) for text in texts)
    comparable = a.epochs == b.epochs or None in (a.epochs, b.epochs)
    return comparable and abs(Decimal(texts[0]) - Decimal(texts[1])) > step / 2
