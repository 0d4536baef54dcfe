"""The table of data sets: what was found, beside what the paper counts."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.data import Dataset
from benchmarks.experiment.spec import DatasetTable
from benchmarks.report.published import PAPER, SOURCES, published
from benchmarks.report.table import ABSENT, Cell, Head, Line, Table, letter, sentence

FOUND = ("Train", "Validation", "Test", "C×H×W", "Frames")


def list_datasets(table: DatasetTable, opened: Mapping[str, Dataset | Exception]) -> Table:
    """The table of data sets: sequences and shapes that were found, beside the published ones.

    `opened` has each entry's data set by label, or why there is none.
    """
    numbers = published(table.published)
    out: list[Line] = []
    notes: dict[str, str] = {}
    for entry in table.entries:
        dataset = opened[entry.label]
        notes[mark := letter(len(notes))] = (
            dataset.caption
            if not isinstance(dataset, Exception)
            else f"{_absence(dataset)}: {dataset}"
        )
        printed = {
            row["metric"]: row["printed"]
            for _, row in numbers[numbers["method"] == entry.published].iterrows()
            if row["metric"] != "T_out" or row["value"] == entry.published_future
        }
        cells = [*_shape(dataset), *(printed.get(key, ABSENT) for key in ("N_train", "N_test"))]
        cells.append("×".join(printed[key] for key in ("C", "H", "W")))
        cells.append(f"{printed['T_in']} → {printed['T_out']}")
        out.append(Line(entry.label, (mark,), tuple(Cell(cell) for cell in cells)))
    heads = [
        *(Head("found", "", text, "", False) for text in FOUND),
        *(Head("published", "", text, "", False) for text in FOUND if text != "Validation"),
    ]
    found = [(label, of) for label, of in opened.items() if not isinstance(of, Exception)]
    return Table(
        name=table.name,
        title=table.title + " on synthetic data" * any(of.synthetic for _, of in found),
        caption="",
        statements=tuple(map(sentence, table.notes)),
        heads=tuple(heads),
        lines=tuple(out),
        notes=tuple((mark, sentence(text)) for mark, text in notes.items()),
        protocol=(("Published", sentence(f"{table.published} of {SOURCES[PAPER]}")),),
        provenance=tuple(f"{label}: data {of.digest}" for label, of in found),
    )


def _absence(error: Exception) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else "cannot be opened"


def _shape(dataset: Dataset | Exception) -> list[str]:
    if isinstance(dataset, Exception):
        return [ABSENT] * 5
    clip, validation = dataset.clip, dataset.provenance.get("validation_sequences")
    return [
        str(dataset.train_sequences),
        ABSENT if validation is None else str(validation),
        str(dataset.test_sequences),
        f"{clip.channels}×{clip.height}×{clip.width}",
        f"{clip.past} → {clip.future}",
    ]
