"""Pages to test: of a committed record, with frames that a function makes."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.report import records
from benchmarks.report.page import write_page
from benchmarks.report.table import build
from benchmarks.suites import find_suite

RECORDS = Path(__file__).resolve().parent.parent / "results" / "records"
ROWS = ("Last frame", "PredRNN", "Ours")
HOSTILE = "<img src=x onerror=alert(1)>\"&' </script>"
SHAPE = (2, 3, 1, 8, 8)  # of the past; two sequences


def _of_three_rows(folder: Path) -> Path:
    """A committed record's entries of ROWS and one seed alone, in a file of the same name."""
    committed = RECORDS / "hour-quick-25-minutes.json"
    entries = json.loads(committed.read_text(encoding="utf-8"))
    path = folder / committed.name
    kept = [entry for entry in entries if entry["row"] in ROWS and entry["seed"] == 0]
    path.write_text(json.dumps(kept))
    return path


FOLDER = tempfile.TemporaryDirectory()  # removed when the tests end
RECORD = _of_three_rows(Path(FOLDER.name))


def best_first(metric: str = "mse") -> list[str]:
    """The labels of the record's rows, the lowest mean first; the highest, for SSIM."""
    entries = json.loads(RECORD.read_text(encoding="utf-8"))
    means = {entry["row"]: entry["means"][metric] for entry in entries}
    return sorted(means, key=means.__getitem__, reverse=metric == "ssim")


class Filmed(records.RecordedRun):
    """A recorded run that has frames: the truth of sequence n, frame t is n / 4 + t / 8.

    Two rows predict it, the third its complement.
    """

    @property
    def has_samples(self):
        return True

    def samples(self):
        sequences, frames = np.ogrid[: SHAPE[0], :4]
        level = (sequences / 4 + frames / 8)[..., None, None, None]
        future = np.broadcast_to(level, (SHAPE[0], 4, *SHAPE[2:])).astype(np.float32)
        is_right = self.record["row"] in ("Last frame", "PredRNN")
        prediction = future if is_right else 1 - future
        return {"past": np.full(SHAPE, 0.5), "future": future, "prediction": prediction}


def parts(record=RECORD, kind=None, label=None):
    """Suite, table and panels of a record; `label` renames the row "Ours"."""
    name, _, runs = records.read(record)
    suite = find_suite(name)
    panels = [(panel, runs[panel.name]) for panel in suite.panels if panel.name in runs]
    if kind is not None:
        panels = [(p, [kind(r.folder, dict(r.record)) for r in of]) for p, of in panels]
    if label is not None:
        rows = [replace(r, label=label) if r.label == "Ours" else r for r in suite.rows]
        suite = replace(suite, rows=rows)
        for run in panels[0][1]:
            run.record["row"] = label if run.record["row"] == "Ours" else run.record["row"]
    return suite, build(suite, record.stem, panels), panels


def write(out, **options):
    """The page with films and a hostile label."""
    suite, table, panels = parts(kind=Filmed, label=HOSTILE)
    return write_page(suite, table, panels, out, **options)
