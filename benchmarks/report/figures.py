"""Figures of stored runs: learning curves, cost against error, error per frame, predictions.

A row has the same colour in every figure, by its place among the suite's labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from matplotlib.transforms import Bbox, ScaledTranslation
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks import files
from benchmarks.data.pyav import import_av
from benchmarks.experiment.store import StoredRun
from benchmarks.report.scores import curve_of
from benchmarks.report.series import (
    SYNTHETIC,
    Frames,
    by_label,
    costs_and_errors,
    in_equal_time,
    is_synthetic,
    keys_of,
    mean_curve,
    pareto,
    read_samples,
    sequence_of,
    shown,
    style_of,
)

# By round of colours.
LINES = ("-", (0, (4, 1.5)), (0, (1, 1)))
MARKERS = ("o", "s", "^")
HOLLOW = "hollow: trained on fewer sequences"

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.4,
    "lines.markersize": 2.2,
    "axes.xmargin": 0.02,
    "pdf.fonttype": 42,  # text stays text
    "text.parse_math": False,  # also where it has dollar signs
    "savefig.dpi": 200,
}

FRAME_INCHES = 0.5  # strip: width of a frame
NARROW = 3  # a logarithmic axis of less has too few of the ticks 1, 2, 5
TRUTH, HEAT = "truth", "inferno"  # a tile's name; colours of differences
FRAME_MS = 200  # GIF; sizes are in pixels
GIF_WIDTH, BORDER, MARGIN, TEXT, GIF_COLOURS = 1000, 3, 6, 18, 64


def draw(
    runs: Sequence[StoredRun],
    labels: Sequence[str],
    folder: Path,
    name: str,
    *,
    target: tuple[float, str] | None = None,
    sequence: int = 0,
) -> list[Path]:
    """Write every figure of finished runs into `folder` and return the paths.

    `labels` are all rows of the suite, in order. `target` is a value and a label for the learning
    curves. `sequence` chooses the stored one that strip and GIF show, with each row's first seed.
    Without a finished run nothing is drawn, without a trained one no learning curves, and
    without stored samples neither strip nor GIF.
    """
    done = [run for run in runs if run.done]
    if not done:
        return []
    paths = []
    if any(run.trained for run in done):
        curves = _marked(learning_curves(done, labels, target=target), done)
        paths += [save(curves, folder / f"{name}-curves{kind}") for kind in (".png", ".pdf")]
        costs = _marked(trade_off(done, labels), done)
        paths += [save(costs, folder / f"{name}-trade-off{kind}") for kind in (".png", ".pdf")]
    per_frame = _marked(error_per_frame(done, labels), done)
    paths.append(save(per_frame, folder / f"{name}-error-per-frame.png"))
    if not all(run.has_samples for run in done):
        return paths
    predictions = _marked(
        strip(done, labels, sequence=sequence), done, below=22
    )  # and below its scale
    paths.append(save(predictions, folder / f"{name}-strip.png"))
    paths.append(animate(done, labels, folder / f"{name}.gif", sequence=sequence))
    return paths


def _marked(figure: Figure, runs: Sequence[StoredRun], below: float = 2) -> Figure:
    """The figure, with a line so many points below it if its data are synthetic."""
    if is_synthetic(runs):
        _write_below(figure, SYNTHETIC, "right", below)
    return figure


def _write_below(figure: Figure, text: str, side: str, below: float = 2) -> None:
    """Write a line so many points below a figure, at its end that is "left" or "right"."""
    place = figure.transFigure + ScaledTranslation(0, -below / 72, figure.dpi_scale_trans)
    x = float(side == "right")
    figure.text(x, 0, text, ha=side, va="top", fontsize=7, color="0.3", transform=place)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure atomically as PNG (200 dpi) or PDF, by the path's suffix, without a date."""
    dates = {".png": {"Software": None}, ".pdf": {"CreationDate": None}}
    if path.suffix not in dates:
        raise ValueError(f"{path} has suffix {path.suffix!r}; expected .png or .pdf")
    options: dict[str, Any] = {
        **{"format": path.suffix[1:], "metadata": dates[path.suffix]},
        **{"bbox_inches": "tight", "pad_inches": 0.03},
    }
    with matplotlib.rc_context(STYLE):
        files.write(path, lambda file: figure.savefig(file, **options))
    return path


# --- curves --------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def learning_curves(
    runs: Sequence[StoredRun], labels: Sequence[str], *, target: tuple[float, str] | None = None
) -> Figure:
    """Validation MSE over epochs and over minutes of training: mean and range over seeds.

    Where rows differ in an epoch's sequences, over the sequences so far instead of epochs. Rows
    that trained nothing have no curve. An epoch that is not finite for all seeds is left out.
    """
    figure = Figure(figsize=(6.9, 2.6))
    by_epoch, by_time = figure.subplots(1, 2, sharey=True)
    ends: dict[str, float] = {}
    lowest: list[float] = []
    trained = [run.record for run in runs if run.done and run.trained]
    has_equal_epochs = len({record["training"]["sequences"] for record in trained}) == 1
    for label, of in by_label(runs, labels).items():
        if not all(run.trained for run in of):
            continue
        curve = mean_curve([curve_of(run) for run in of])
        style = _line_style(label, labels) | {"marker": "o" if len(curve) <= 20 else ""}
        by_length = curve.index if has_equal_epochs else curve["sequences"]
        for axes, x in ((by_epoch, by_length), (by_time, curve["seconds"] / 60)):
            axes.fill_between(x, curve["min"], curve["max"], alpha=0.2, lw=0, color=style["color"])
            axes.plot(x, curve["mean"], **style)
        if not curve.empty:
            ends[label] = float(curve["mean"].iloc[-1])
            lowest.append(float(curve["min"].min()))
    if target is not None:
        for axes in (by_epoch, by_time):
            axes.axhline(target[0], color="0.25", lw=0.8, ls=(0, (1, 2)), zorder=1)
        by_epoch.annotate(
            target[1],
            (0, target[0]),
            (2, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=7,
            color="0.25",
        )
    _logarithmic(by_epoch, "y", lowest)
    by_epoch.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    xlabel = "epoch" if has_equal_epochs else "training sequences"
    by_epoch.set(xlabel=xlabel, ylabel="validation MSE per frame", xlim=(0, None))
    by_time.set(xlabel="training time (min)", xlim=(0, None))
    by_time.tick_params(labelleft=False)
    by_epoch.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    longest = max((len(shown(label)) for label in ends), default=0)
    names = 0.3 + 0.065 * longest  # inches between the panels
    figure.subplots_adjust(0.08, 0.16, 0.99, 0.98, wspace=2 * names / (0.91 * 6.9 - names))
    _label_ends(by_epoch, ends, labels)
    return figure


@matplotlib.rc_context(STYLE)
def error_per_frame(runs: Sequence[StoredRun], labels: Sequence[str]) -> Figure:
    """Test MSE of each predicted frame: mean over sequences, mean and range over seeds.

    Rows with scores that are not finite (diverged) are left out.
    """
    figure = Figure(figsize=(3.4, 2.4))
    axes = figure.subplots()
    ends: dict[str, float] = {}
    for label, of in by_label(runs, labels).items():
        errors = np.stack([run.summary.frames["mse"] for run in of])
        if not np.isfinite(errors).all():
            continue
        frames = np.arange(1, errors.shape[1] + 1)
        style = _line_style(label, labels)
        axes.fill_between(
            frames, errors.min(0), errors.max(0), alpha=0.2, lw=0, color=style["color"]
        )
        axes.plot(frames, errors.mean(0), marker="o", **style)
        ends[label] = float(errors[:, -1].mean())
    axes.set(xlabel="predicted frame", ylabel="test MSE")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    _label_ends(axes, ends, labels)
    return figure


def _line_style(label: str, labels: Sequence[str]) -> dict[str, Any]:
    colour, number = style_of(label, labels)
    return {"color": colour, "linestyle": LINES[number]}


def _logarithmic(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Give axis "x" or "y" a logarithmic scale, if it has values and all are above 0.

    Ticks are 20, 50, 100 rather than powers of ten, as errors span one decade or two, and evenly
    spaced numbers where they span less than a factor of NARROW.
    """
    if not values or min(values) <= 0:
        return
    axes.set(**{f"{which}scale": "log"})
    axis: Axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes, f"get_{which}lim")()
    if high < NARROW * low:
        axis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _label_ends(axes: Axes, ends: Mapping[str, float], labels: Sequence[str]) -> None:
    """Write each row's name beside the end of its line, moved apart where names would overlap."""
    if not ends:
        return
    axes.set_ylim(axes.get_ylim())  # the names' places hold for these limits
    apart = 9.5 * axes.figure.dpi / 72  # pixels between names
    at = {label: axes.transData.transform((0, value))[1] for label, value in ends.items()}
    order = sorted(at, key=at.__getitem__)
    placed = _spread([at[label] for label in order], apart)
    for label, height in zip(order, placed, strict=True):
        style = _line_style(label, labels)
        axes.annotate(
            shown(label),
            xy=(1.0, ends[label]),
            xytext=(9, (height - at[label]) * 72 / axes.figure.dpi),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=style["color"],
            arrowprops={
                **style,
                "arrowstyle": "-",
                "lw": 0.6,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def _spread(heights: Sequence[float], apart: float) -> list[float]:
    """Ascending positions at least `apart`, each group of neighbours centred on its own mean."""
    groups: list[list[float]] = []  # [sum of wished-for positions, members]
    for height in heights:
        groups.append([height, 1])
        while len(groups) > 1:
            (low, few), (high, many) = groups[-2:]
            if high / many - low / few >= apart * (few + many) / 2:
                break
            groups[-2:] = [[low + high, few + many]]
    return [
        total / count + apart * (i - (count - 1) / 2)
        for total, count in groups
        for i in range(int(count))
    ]


# --- predictions ---------------------------------------------------------------------------------


def _rgb(frames: Frames) -> NDArray[np.uint8]:
    """Frames [T, C, H, W] in [0, 1] as RGB [T, H, W, 3]: grey, RGB, or the first channel."""
    scaled = np.clip(np.nan_to_num(frames), 0, 1)
    if frames.shape[1] == 3:
        return _bytes(np.moveaxis(scaled, 1, -1))
    return _bytes(colormaps["gray" if frames.shape[1] == 1 else "viridis"](scaled[:, 0])[..., :3])


def _bytes(values: Frames) -> NDArray[np.uint8]:
    return np.round(values * 255).astype(np.uint8)


def _fit(label: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The label, cut to a width in pixels."""
    if font.getlength(label) <= width:
        return label
    kept = max(n for n in range(len(label)) if n == 0 or font.getlength(label[:n] + "…") <= width)
    return label[:kept] + "…"


@matplotlib.rc_context(STYLE)
def strip(runs: Sequence[StoredRun], labels: Sequence[str], *, sequence: int = 0) -> Figure:
    """A test sequence as in the paper's Figs. 5 to 7: input, truth, then each row's prediction.

    Below each prediction stands its absolute difference from the truth, averaged over channels, on
    one scale for all rows that ends at their largest or at 1, the whole range of values. Of more
    than ten frames every second (third, ...) is shown.
    """
    past, future, predictions = sequence_of(read_samples(runs, labels), sequence)
    errors = {label: np.abs(p - future).mean(1) for label, p in predictions.items()}
    finite = [error[np.isfinite(error)] for error in errors.values()]
    largest = min(float(np.concatenate(finite).max(initial=0.0)), 1.0) or 1.0
    height, width = past.shape[-2:]
    inch = width / FRAME_INCHES  # in pixels of a frame
    times = range(1, len(past) + len(future) + 1)
    # images, frame numbers to print above, label, its size and colour, space above in inches
    lines: list[tuple[NDArray[np.uint8], Sequence[int], str, float, str, float]] = [
        (_rgb(past), times[: len(past)], "input", 8, "black", 0.0),
        (_rgb(future), times[len(past) :], TRUTH, 8, "black", 0.22),
    ]
    for label, prediction in predictions.items():
        colour = _line_style(label, labels)["color"]
        heat = colormaps[HEAT](np.nan_to_num(errors[label] / largest, nan=1.0, posinf=1.0))[..., :3]
        lines.append((_rgb(prediction), (), shown(label), 8, colour, 0.09))
        lines.append((_bytes(heat), (), "difference", 7, "0.5", 0.03))

    every = max(1, -(-max(len(past), len(future)) // 10))
    columns = -(-max(len(past), len(future)) // every)
    step = width + 0.03 * inch
    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    top = 0.0
    for images, numbers, label, size, colour, space in lines:
        top += space * inch
        for column, i in enumerate(range(0, len(images), every)):
            left = column * step
            axes.imshow(
                images[i],
                extent=(left, left + width, top + height, top),
                interpolation="nearest",
            )
            if numbers:
                x, y = left + width / 2, top - 0.03 * inch
                axes.text(x, y, str(numbers[i]), ha="center", va="bottom", fontsize=7, color="0.4")
        axes.text(
            -0.08 * inch,
            top + height / 2,
            label,
            ha="right",
            va="center",
            fontsize=size,
            color=colour,
        )
        top += height
    axes.set(xlim=(0, columns * step), ylim=(top, 0))
    axes.set_axis_off()
    figure.set_size_inches(columns * step / inch, top / inch)
    _scale_bar(figure, largest, figure.get_figwidth(), figure.get_figheight())
    return figure


def _scale_bar(figure: Figure, largest: float, width: float, height: float) -> None:
    """The differences' colours and their range, below the figure's left end."""
    bar = figure.add_axes((0, -0.15 / height, 1.2 / width, 0.08 / height))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=HEAT, aspect="auto")
    bar.set_axis_off()
    for x, text, side in ((0, "0", "right"), (1, f"{largest:.2g}", "left")):
        bar.annotate(
            text,
            (x, 0.5),
            (-3 if side == "right" else 3, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=7,
            color="0.4",
        )


def animate(
    runs: Sequence[StoredRun], labels: Sequence[str], path: Path, *, sequence: int = 0
) -> Path:
    """Write a GIF of truth beside all rows, as `film` does, each in its row's colour.

    Its comment has the keys of the runs (see `keys_of`).
    """
    past, future, predictions = sequence_of(read_samples(runs, labels), sequence)
    tiles = [(TRUTH, "black", future)]
    for label, frames in predictions.items():
        tiles.append((shown(label), _line_style(label, labels)["color"], frames))
    return film(past, tiles, path, SYNTHETIC * is_synthetic(runs), keys_of(runs))


def film(
    past: Frames,
    tiles: Sequence[tuple[str, str, Frames]],
    path: Path,
    mark: str = "",
    comment: str = "",
) -> Path:
    """Write a .gif or .mp4: the input frames `past`, then each tile's frames in step.

    All are [T, C, H, W] in [0, 1]; a tile has a name, a colour and its frames, as many as the
    others. A grey border means input, a border in the tile's colour what follows. The last frame
    rests. A GIF has the `comment` in its file.
    """
    horizon = len(tiles[0][2])
    height, width = past.shape[-2:]
    zoom = 3 if width <= 64 else 2
    tile_width, tile_height = zoom * width + 2 * BORDER, zoom * height + 2 * BORDER
    columns = min(len(tiles), max(1, GIF_WIDTH // (tile_width + MARGIN)))
    rows = -(-len(tiles) // columns)
    columns = -(-len(tiles) // rows)  # as even as possible
    size = (
        columns * (tile_width + MARGIN) + MARGIN,
        rows * (tile_height + TEXT + MARGIN) + MARGIN + TEXT,
    )
    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)
    images = []
    for time in range(len(past) + horizon):
        is_input, step = time < len(past), time - len(past)
        image = Image.new("RGB", size, "white")
        pen = ImageDraw.Draw(image)
        now = f"input {time + 1}/{len(past)}"
        if not is_input:
            now = f"prediction {step + 1}/{horizon}"
        now = f"{now}   {mark}".rstrip()
        pen.text((MARGIN, MARGIN / 2), now, "#808080" if is_input else "black", font)
        for i, (name, colour, frames) in enumerate(tiles):
            x = MARGIN + i % columns * (tile_width + MARGIN)
            y = TEXT + MARGIN + i // columns * (tile_height + TEXT + MARGIN)
            name = _fit(name, font, tile_width)
            pen.text((x + tile_width / 2, y), name, colour, font, anchor="ma")
            y += TEXT
            box = (x, y, x + tile_width - 1, y + tile_height - 1)
            pen.rectangle(box, fill="#D0D0D0" if is_input else colour)
            frame = past[time] if is_input else frames[step]
            picture = Image.fromarray(_rgb(frame[None])[0])
            picture = picture.resize((zoom * width, zoom * height), Image.Resampling.NEAREST)
            image.paste(picture, (x + BORDER, y + BORDER))
        images.append(image)
    if path.suffix.lower() == ".mp4":
        return _write_mp4(images, path)
    return _write_gif(images, len(past), path, comment)


def _write_mp4(images: Sequence[Image.Image], path: Path) -> Path:
    """Write images atomically as H.264, which every browser shows."""
    av = import_av()
    width, height = (side + side % 2 for side in images[0].size)  # which it needs to be even
    rested = [*images, *[images[-1]] * 4]

    def save(file: BinaryIO) -> None:
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(1000, FRAME_MS))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for image in rested:
                whole = Image.new("RGB", (width, height), "white")
                whole.paste(image)
                container.mux(stream.encode(av.VideoFrame.from_image(whole)))
            container.mux(stream.encode())

    files.write(path, save)
    return path


def _write_gif(images: Sequence[Image.Image], past: int, path: Path, comment: str) -> Path:
    """Write images atomically in one palette, that of the last of the `past` and the last of all.

    One palette for all is smaller, and nothing flickers.
    """
    width, height = images[0].size
    seen = Image.new("RGB", (width, 2 * height))
    seen.paste(images[past - 1])
    seen.paste(images[-1], (0, height))
    palette = seen.quantize(GIF_COLOURS)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    options: dict[str, Any] = {
        **{"format": "GIF", "save_all": True, "append_images": rest, "loop": 0, "optimize": True},
        **{"duration": [FRAME_MS] * len(rest) + [5 * FRAME_MS], "comment": comment},
    }
    files.write(path, lambda file: first.save(file, **options))
    return path


# --- cost against accuracy -----------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def trade_off(runs: Sequence[StoredRun], labels: Sequence[str]) -> Figure:
    """Test MSE against FLOPs of inference and against minutes of training, one point per row.

    In equal time, against parameters instead of minutes. Means over seeds, with their range where
    there are several. The line is the Pareto front: what no other row beats in both. Rows that
    trained on fewer sequences than others are hollow and not part of it; those that trained nothing
    are left out, as are diverged ones.
    """
    figure = Figure(figsize=(6.9, 2.8))
    panels = figure.subplots(1, 2, sharey=True)
    points = costs_and_errors(runs, labels)
    costs = {"macs": "FLOPs of inference (G)", "minutes": "training time (min)"}
    if in_equal_time(runs):
        costs = {"macs": costs["macs"], "parameters": "parameters (M)"}
    for axes, (cost, xlabel) in zip(panels, costs.items(), strict=True):
        for point in points:
            _draw_point(axes, point, cost, labels)
        front = pareto([(point[cost], point["mean"]) for point in points if point["compares"]])
        axes.plot(*zip(*front, strict=True), color="0.7", lw=0.8, zorder=0, ls="-")
        axes.set(xlabel=xlabel)
        axes.margins(0.12, 0.1)
        _logarithmic(axes, "x", [point[cost] for point in points])
    panels[0].set(ylabel="test MSE per frame")
    _logarithmic(panels[0], "y", [point["min"] for point in points])
    figure.subplots_adjust(0.08, 0.17, 0.99, 0.97, wspace=0.06)
    for axes, cost in zip(panels, costs, strict=True):
        places = {point["row"]: (point[cost], point["mean"]) for point in points}
        _label_points(figure, axes, places, labels)
    if not all(point["compares"] for point in points):
        _write_below(figure, HOLLOW, "left")
    return figure


def _draw_point(axes: Axes, point: Mapping[str, Any], cost: str, labels: Sequence[str]) -> None:
    """Draw a row's mean error against a cost, over the range of its seeds."""
    colour, number = style_of(point["row"], labels)
    face = colour if point["compares"] else "white"
    x = point[cost]
    axes.plot([x, x], [point["min"], point["max"]], color=colour, lw=0.8)
    axes.plot(x, point["mean"], MARKERS[number], ms=4.5, color=colour, mfc=face)


OFFSETS = ((5, -2), (4, 5), (4, -9), (4, 12), (4, -16))
PLACES = [(side * x, y) for x, y in OFFSETS for side in (1, -1)]  # in points


def _label_points(
    figure: Figure,
    axes: Axes,
    points: Mapping[str, tuple[float, float]],
    labels: Sequence[str],
) -> None:
    """Name the points, each where no other name or point stands, if there is such a place."""
    if not points:
        return
    renderer = FigureCanvasAgg(figure).get_renderer()
    taken = [
        Bbox.from_bounds(x - 3, y - 3, 6, 6)
        for x, y in axes.transData.transform(list(points.values()))
    ]
    for label, point in sorted(points.items(), key=lambda item: item[1][1]):
        text = axes.annotate(
            shown(label),
            point,
            PLACES[0],
            textcoords="offset points",
            fontsize=6.5,
            color=_line_style(label, labels)["color"],
        )
        overlaps = []
        for place in PLACES:
            text.set(position=place, ha="left" if place[0] > 0 else "right")
            box = text.get_window_extent(renderer)
            outside = box.x1 > axes.bbox.x1 or box.x0 < axes.bbox.x0
            overlaps.append(sum(box.overlaps(other) for other in taken) + 9 * outside)
            if not overlaps[-1]:
                break
        best = PLACES[overlaps.index(min(overlaps))]
        text.set(position=best, ha="left" if best[0] > 0 else "right")
        taken.append(text.get_window_extent(renderer))
