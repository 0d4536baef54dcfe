"""A table's report as one HTML file: table, charts, forecasts as films, records.

The file needs nothing beside it, asks nothing of the network, and works from a folder or any host.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import vl_convert
from jinja2 import Environment, PackageLoader
from PIL import Image

from benchmarks import files
from benchmarks.experiment.spec import Panel, Suite
from benchmarks.experiment.store import RECORD, StoredRun
from benchmarks.metrics import Cost
from benchmarks.report.change import Change
from benchmarks.report.charts import charts
from benchmarks.report.scores import trained_on
from benchmarks.report.series import (
    Frames,
    Samples,
    is_synthetic,
    keys_of,
    read_samples,
    sequence_of,
    style_of,
)
from benchmarks.report.table import Cell, Table, commit_of, device_of

MOST_BYTES = 7_000_000  # of films in a page, which makes less than 10 MB with all else
HALVINGS = 6  # of frames that are too large for that, at most
FRAME_MS = 200
CITATION = """@inproceedings{tan2023temporal,
  title     = {Temporal Attention Unit: Towards Efficient Spatiotemporal Predictive Learning},
  author    = {Tan, Cheng and Gao, Zhangyang and Wu, Lirong and Xu, Yongjie and Xia, Jun and
               Li, Siyuan and Li, Stan Z.},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition
               (CVPR)},
  pages     = {18770--18782},
  year      = {2023}
}"""


class Film(NamedTuple):
    """Forecasts of one data set: sprites, whose frames stand beside each other, as data URLs."""

    rows: list[str]
    width: int
    height: int
    past: int
    future: int
    sequences: list[dict[str, Any]]  # "past", "truth", and "forecasts" in the rows' order
    note: str


def write_page(
    suite: Suite,
    table: Table,
    panels: Sequence[tuple[Panel, Sequence[StoredRun]]],
    out: Path,
    *,
    target: tuple[float, str] | None = None,
    change: Change | None = None,
    films: Mapping[str, Path] | None = None,
) -> Path:
    """Write report/NAME/index.html under `out`, and return its path.

    `panels` have their runs as they are shown. `target` is a value and a label for the learning
    curves. `films` are GIFs by panel, for panels whose runs come without frames; one that was made
    of other runs is not shown. A panel whose columns are all costs has neither charts nor films.
    """
    path = out / "report" / table.name / "index.html"
    labels = [row.label for row in suite.rows]
    measured = [x for x in labels if any(r.record["row"] == x for _, of in panels for r in of)]
    scored = [of for of in panels if not all(isinstance(column, Cost) for column in of[0].columns)]
    budget = MOST_BYTES // max(1, len(scored))
    shown = [
        _panel(panel, runs, labels, target if panel.has_target else None, budget)
        | {"index": i, "gif": _link(path, _own((films or {}).get(panel.name), runs))}
        for i, (panel, runs) in enumerate(scored)
    ]
    text = (
        _environment()
        .get_template("page.html")
        .render(
            table=table,
            groups=_groups(table),
            sort_key=sort_key,
            rows=[_style(label, labels) for label in measured],
            panels=shown,
            runs=[_run(run, panel, path) for panel, of in panels for run in of],
            several=len(panels) > 1,
            record=_link(path, out / "records" / f"{table.name}.json"),
            change=change,
            citation=CITATION,
            frame_ms=FRAME_MS,
            vega=_vega(),
        )
    )
    files.write_text(path, text)
    return path


def sort_key(cell: Cell) -> str | None:
    """A printed cell's number as JavaScript reads it, for sorting; None if it is not one."""
    text = cell.text.replace("−", "-").replace("∞", "Infinity").replace(",", "")
    try:
        return None if math.isnan(float(text)) else text
    except ValueError:
        return None


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("benchmarks.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # which browsers cannot read
    return environment


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return script.replace("</script", "<\\/script")  # which would end the page's own


def _groups(table: Table) -> list[tuple[str, int]]:
    """The groups of a table's columns, and how many columns each has."""
    return [(name, len(list(of))) for name, of in groupby(table.heads, lambda head: head.group)]


def _style(label: str, labels: Sequence[str]) -> dict[str, Any]:
    colour, number = style_of(label, labels)
    return {"label": label, "colour": colour, "dashed": number > 0}


def _link(page: Path, path: Path | None) -> str | None:
    """A link from the page to a file or folder, if that exists."""
    if path is None or not path.exists():
        return None
    return quote(Path(os.path.relpath(path, page.parent)).as_posix())


def _own(gif: Path | None, runs: Sequence[StoredRun]) -> Path | None:
    """The GIF, if it was made of these runs, as its comment says."""
    if gif is None or not gif.exists():
        return None
    try:
        with Image.open(gif) as image:
            return gif if image.info.get("comment") == keys_of(runs).encode() else None
    except OSError:  # it is no image
        return None


def _panel(
    panel: Panel,
    runs: Sequence[StoredRun],
    labels: Sequence[str],
    target: tuple[float, str] | None,
    budget: int,
) -> dict[str, Any]:
    done = [run for run in runs if run.done]
    film = _film(done, labels, budget) if done and all(run.has_samples for run in done) else None
    return {
        "name": panel.name,
        "synthetic": is_synthetic(runs),
        "charts": [chart._asdict() for chart in charts(done, labels, target)],
        "film": film and film._asdict(),
    }


def _run(run: StoredRun, panel: Panel, page: Path) -> dict[str, Any]:
    """What a page tells of a run, by heading."""
    record = run.record
    told: dict[str, Any] = {
        "row": record["row"],
        "panel": panel.name,
        "seed": record["seed"],
        "status": record["status"],
        "reason": record.get("reason", ""),
        "link": _link(page, run.folder) if (run.folder / RECORD).is_file() else None,
        "facts": {},
    }
    if run.done:
        told["facts"] = {
            "key": record["key"],
            "commit": commit_of(record),
            "data": record["data"]["digest"],
            "device": f"{device_of(record)}, {record['precision']}",
            "versions": ", ".join(f"{name} {of}" for name, of in record["versions"].items()),
            "trained on": f"{trained_on(record):,} sequences",
            "training": f"{record['seconds']['train'] / 60:.3g} min",
            "finished": record["finished"],
        }
    return told


# --- films ---------------------------------------------------------------------------------------


def _film(runs: Sequence[StoredRun], labels: Sequence[str], budget: int) -> Film:
    """As many stored sequences as fit, of the first seed of each row; at least one."""
    samples = read_samples(runs, labels)
    stored = min(len(arrays["past"]) for arrays in samples.values())
    halved = 0
    sequences = [_sprites(samples, 0, halved)]
    while _size(sequences) > budget and halved < HALVINGS:
        halved += 1
        sequences = [_sprites(samples, 0, halved)]
    for number in range(1, stored):
        more = _sprites(samples, number, halved)
        if _size([*sequences, more]) > budget:
            break
        sequences.append(more)
    past, future, _ = sequence_of(samples, 0)
    height, width = (-(-size // 2**halved) for size in past.shape[-2:])
    note = _note(past, stored, sequences, halved)
    return Film(list(samples), width, height, len(past), len(future), sequences, note)


def _note(past: Frames, stored: int, sequences: Sequence[Any], halved: int) -> str:
    """What a film leaves out of the stored frames."""
    channels = past.shape[1]
    told = [
        f"{len(sequences)} of {stored} stored sequences" * (len(sequences) < stored),
        f"the first of {channels} channels" * (channels not in (1, 3)),
        f"frames averaged over {2**halved}×{2**halved} pixels" * (halved > 0),
    ]
    return ", ".join(filter(None, told))


def _size(sequences: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of the sequences' sprites."""
    return sum(
        len(of["past"]) + len(of["truth"]) + sum(map(len, of["forecasts"])) for of in sequences
    )


def _sprites(samples: Samples, number: int, halved: int) -> dict[str, Any]:
    """A stored sequence as sprites."""
    past, truth, forecasts = sequence_of(samples, number)
    return {
        "past": sprite(past, halved),
        "truth": sprite(truth, halved),
        "forecasts": [sprite(frames, halved) for frames in forecasts.values()],
    }


def sprite(frames: Frames, halved: int = 0) -> str:
    """Frames [T, C, H, W] in [0, 1] beside each other, as a PNG's data URL.

    RGB for three channels, else the first channel in gray; `halved` is how often the size is
    halved. What is not a number is black.
    """
    scaled = np.clip(np.nan_to_num(frames), 0, 1)
    if frames.shape[1] != 3:
        scaled = scaled[:, :1]
    images = [_image(frame) for frame in np.round(scaled * 255).astype(np.uint8)]
    smaller = [image.reduce(2**halved) if halved else image for image in images]
    width, height = smaller[0].size
    whole = Image.new(smaller[0].mode, (width * len(smaller), height))
    for i, image in enumerate(smaller):
        whole.paste(image, (i * width, 0))
    buffer = BytesIO()
    whole.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _image(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame[0] if len(frame) == 1 else np.moveaxis(frame, 0, -1))
