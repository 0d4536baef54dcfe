from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from PIL import Image

from benchmarks.experiment.store import StoredRun
from benchmarks.report import figures, series
from benchmarks.report.figures import (
    animate,
    draw,
    error_per_frame,
    learning_curves,
    pareto,
    save,
    strip,
    trade_off,
)

LABELS = ["Last frame", "SimVP", "Ours"]
PAST, FUTURE, SIDE = 3, 4, 16


@dataclass(frozen=True)
class Run(StoredRun):
    """A stored run that lives in memory."""

    stored: dict[str, Any] = field(default_factory=dict)

    def curve(self) -> pd.DataFrame:
        if not self.record["steps"]:
            raise FileNotFoundError("curve.jsonl")  # as a run that trained nothing
        return self.stored["curve"]

    def scores(self) -> dict[str, np.ndarray]:
        return self.stored["scores"]

    def samples(self) -> dict[str, np.ndarray]:
        return self.stored["samples"]


def make(label: str, seed: int = 0, channels: int = 1, future: int = FUTURE) -> Run:
    rng = np.random.default_rng(7)
    shape = (2, PAST + future, channels, SIDE, SIDE)
    clips = rng.uniform(0, 1, shape).astype(np.float16)
    level = 1 + LABELS.index(label) if label in LABELS else 5
    mse = np.full((6, future), 100.0 / level) + np.arange(future) + seed
    epochs = np.arange(1, 5)
    curve = pd.DataFrame(
        {
            "epoch": epochs,
            "sequences": 40 * epochs,
            "seconds": 60.0 * epochs * (1 + seed),
            "val_mse": 400.0 / (level * epochs) + seed,
        }
    )
    prediction = np.clip(clips[:, PAST:] + 0.1 * level, 0, 1)
    record = {
        "status": "done",
        "row": label,
        "seed": seed,
        "key": f"{level}{seed}",
        "data": {},
        "cost": {"parameters": 0 if label == "Last frame" else 10, "macs": 10**9 * level},
        "means": {"mse": float(mse.mean())},
        "seconds": {"train": 60.0 * (1 + seed)},
        "training": {"epochs": 4, "sequences": 40, "batch_size": 4},
        "steps": 0 if label == "Last frame" else 40,
    }
    samples = {"past": clips[:, :PAST], "future": clips[:, PAST:], "prediction": prediction}
    return Run(Path(), record, {"curve": curve, "scores": {"mse": mse}, "samples": samples})


RUNS = [make(label, seed) for label in LABELS for seed in (0, 1)]
FAILED = Run(Path(), {"status": "failed", "row": "Ours", "seed": 2, "reason": "no memory"})


def texts(figure: Figure) -> dict[str, str]:
    """All texts of a figure with their colours."""
    found = [text for axes in figure.axes for text in axes.texts]
    return {text.get_text(): to_hex(text.get_color()) for text in found}


def markers(axes: Axes) -> list[Line2D]:
    """The lines that are a marker alone."""
    return [line for line in axes.lines if line.get_linestyle() == "None"]


def pixels(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def test_learning_curves_show_the_mean_and_the_range_over_seeds() -> None:
    by_epoch, by_time = learning_curves([*RUNS, FAILED], LABELS).axes
    assert by_epoch.get_yscale() == by_time.get_yscale() == "log"
    assert len(by_epoch.lines) == len(by_epoch.collections) == 2  # nothing for the last frame
    np.testing.assert_allclose(by_epoch.lines[1].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(by_epoch.lines[1].get_ydata(), 400 / (3 * np.arange(1, 5)) + 0.5)
    band = by_epoch.collections[1].get_paths()[0].vertices
    at_one = band[band[:, 0] == 1, 1]
    assert (at_one.min(), at_one.max()) == pytest.approx((400 / 3, 400 / 3 + 1))


def test_time_is_in_minutes() -> None:
    _, by_time = learning_curves(RUNS, LABELS).axes
    np.testing.assert_allclose(by_time.lines[0].get_xdata(), [1.5, 3, 4.5, 6])


def test_an_epoch_that_a_seed_has_no_number_of_is_left_out() -> None:
    gap = make("Ours", 1)
    gap.stored["curve"].loc[0, "val_mse"] = None
    by_epoch, _ = learning_curves([make("Ours"), gap], LABELS).axes
    np.testing.assert_allclose(by_epoch.lines[0].get_xdata(), [2, 3, 4])


def test_seeds_of_unequal_length_are_averaged_at_equal_shares_of_their_trainings() -> None:
    """As in equal time, where a schedule spans as many epochs as a seed had time for."""
    short = make("Ours", 1)  # of which an epoch takes twice as long
    short.stored["curve"] = short.stored["curve"].iloc[:2]
    by_epoch, by_time = learning_curves([make("Ours"), short], LABELS).axes
    shares = np.array([1 / 2, 2 / 3, 5 / 6, 1])  # from the first epoch of the shorter
    np.testing.assert_allclose(by_epoch.lines[0].get_xdata(), 3 * shares)
    np.testing.assert_allclose(by_time.lines[0].get_xdata(), 4 * shares)
    errors = np.asarray(by_epoch.lines[0].get_ydata())
    first = (400 / 6 + 400 / 3 + 1) / 2  # the mean of epochs 2 and 1
    last = (400 / 12 + 400 / 6 + 1) / 2  # of epochs 4 and 2
    assert errors[[0, -1]] == pytest.approx([first, last])
    assert errors[0] > errors[1] > errors[2] > errors[3]


def test_a_gap_in_seeds_of_unequal_length_is_left_out() -> None:
    long, short = make("Ours"), make("Ours", 1)
    long.stored["curve"].loc[2, "val_mse"] = np.inf  # epoch 3
    short.stored["curve"] = short.stored["curve"].iloc[:2]
    by_epoch, _ = learning_curves([long, short], LABELS).axes
    np.testing.assert_allclose(by_epoch.lines[0].get_xdata(), [1.5, 3])


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
def test_curves_of_diverged_runs_are_empty(tmp_path: Path) -> None:
    run = make("Ours")
    run.stored["curve"]["val_mse"] = None
    figure = learning_curves([run], LABELS)
    save(figure, tmp_path / "empty.png")
    assert len(figure.axes[0].lines[0].get_xdata()) == 0
    assert "Ours" not in texts(figure)


@pytest.mark.parametrize("stored", [np.inf, "Infinity", "NaN", None])  # as JSON has them, or not
def test_an_epoch_that_is_not_finite_is_left_out(stored: Any) -> None:
    run = make("Ours")
    run.stored["curve"] = run.stored["curve"].astype({"val_mse": object})
    run.stored["curve"].loc[1, "val_mse"] = stored
    by_epoch, _ = learning_curves([run], LABELS).axes
    np.testing.assert_allclose(by_epoch.lines[0].get_xdata(), [1, 3, 4])


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
def test_a_row_without_an_error_has_a_place_in_every_figure(tmp_path: Path) -> None:
    run = make("Ours")
    run.stored["curve"]["val_mse"] = [9.0, 1.0, 0.0, 0.0]
    run.stored["scores"]["mse"][:] = 0.0
    run.record["means"]["mse"] = 0.0
    samples = run.samples()
    samples["future"][:] = samples["prediction"][:] = 0.0
    assert len(draw([run], LABELS, tmp_path, "x")) == 7
    by_epoch, _ = learning_curves([run], LABELS).axes
    assert by_epoch.get_yscale() == "linear" and list(by_epoch.lines[0].get_ydata())[-1] == 0
    (name, *_), _ = (axes.texts for axes in trade_off([run], LABELS).axes)
    assert name.xy[1] == 0


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
def test_frozen_weights_have_no_curve_and_break_no_figure(tmp_path: Path) -> None:
    frozen = make("SimVP")
    frozen.record["steps"] = 0
    assert len(draw([frozen, make("Ours")], LABELS, tmp_path, "x")) == 7
    for figure in (learning_curves, trade_off):
        assert "SimVP" not in texts(figure([frozen, make("Ours")], LABELS))
    assert "SimVP" in texts(error_per_frame([frozen, make("Ours")], LABELS))
    assert not any("curves" in path.name for path in draw([frozen], LABELS, tmp_path, "y"))


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
def test_only_diverged_rows_break_no_figure(tmp_path: Path) -> None:
    run = make("Ours")
    run.stored["curve"]["val_mse"] = np.inf
    run.stored["scores"]["mse"][:] = np.inf
    run.record["means"]["mse"] = "Infinity"
    run.samples()["prediction"][:] = np.nan
    assert len(draw([run], LABELS, tmp_path, "x")) == 7


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
def test_a_model_that_costs_nothing_has_its_place(tmp_path: Path) -> None:
    run = make("Ours")
    run.record["cost"]["macs"] = 0
    by_macs, by_time = trade_off([run, make("SimVP")], LABELS).axes
    assert (by_macs.get_xscale(), by_time.get_xscale()) == ("linear", "log")
    assert len(draw([run], LABELS, tmp_path, "x")) == 7


HOSTILE = (
    *("$\\undefined$ {} ^_ %", "a\nb\x00\x1b", "not UTF-8: \udcff", "x" * 300, "世界 😀"),
    *("truth", "difference", "input"),
)


@pytest.mark.filterwarnings("ignore:Glyph")  # those that the font lacks are drawn as boxes
def test_any_label_is_drawn_as_text(tmp_path: Path) -> None:
    runs = [make(label) for label in HOSTILE]
    assert len(draw(runs, HOSTILE, tmp_path, "x")) == 7
    names = [figures.shown(label) for label in HOSTILE]
    assert all(name.isprintable() and 0 < len(name) <= series.LABEL_LENGTH for name in names)
    for figure in (learning_curves, error_per_frame, trade_off, strip):
        assert set(names) <= set(texts(figure(runs, HOSTILE)))


def test_a_row_called_truth_does_not_hide_the_truth(tmp_path: Path) -> None:
    path = animate([make("truth"), make("Ours")], ["truth", "Ours"], tmp_path / "a.gif")
    with Image.open(path) as gif:
        assert gif.width == 3 * (3 * SIDE + 2 * figures.BORDER + figures.MARGIN) + figures.MARGIN


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")
def test_one_epoch_and_one_frame_are_enough(tmp_path: Path) -> None:
    run = make("Ours", future=1)
    run.stored["curve"] = run.stored["curve"].iloc[:1]
    assert len(draw([run], LABELS, tmp_path, "x")) == 7


def test_target_is_drawn_and_named_in_both_panels() -> None:
    figure = learning_curves(RUNS, LABELS, target=(35.0, "TAU, 50 epochs (Fig. 8)"))
    for axes in figure.axes:
        assert list(axes.lines[-1].get_ydata()) == [35.0, 35.0]
    assert "TAU, 50 epochs (Fig. 8)" in texts(figure)


def test_error_per_frame_counts_frames_from_one() -> None:
    (axes,) = error_per_frame([*RUNS, FAILED], LABELS).axes
    assert len(axes.lines) == 3
    np.testing.assert_array_equal(axes.lines[2].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(axes.lines[2].get_ydata(), 100 / 3 + np.arange(4) + 0.5)
    assert axes.get_ylim()[0] == 0


def test_a_diverged_row_is_left_out_and_spoils_nothing() -> None:
    broken = make("SimVP")
    broken.stored["scores"]["mse"][0, 0] = np.nan
    broken.stored["samples"]["prediction"][:] = np.inf
    runs = [make("Ours"), broken]
    assert len(error_per_frame(runs, LABELS).axes[0].lines) == 1
    assert "1" in texts(strip(runs, LABELS))  # the differences' scale ends at the data range


def test_a_row_has_one_colour_everywhere() -> None:
    figures_ = [
        learning_curves(RUNS, LABELS),
        learning_curves(RUNS[4:], LABELS),  # alone
        error_per_frame(RUNS, LABELS),
        strip(RUNS, LABELS),
    ]
    colours = {texts(figure)["Ours"] for figure in figures_}
    assert colours == {to_hex(series.COLOURS[2])}
    assert texts(figures_[2])["SimVP"] == to_hex(series.COLOURS[1])


def test_more_rows_than_colours_change_line_and_marker() -> None:
    labels = [f"row {i}" for i in range(2 * len(series.COLOURS))]
    runs = [make(label) for label in labels]
    (axes,) = error_per_frame(runs, labels).axes
    lines = {(line.get_color(), str(line.get_linestyle())) for line in axes.lines}
    leaders = {
        (text.get_color(), str(text.arrow_patch.get_linestyle()))
        for text in axes.texts
        if isinstance(text, Annotation) and text.arrow_patch is not None
    }
    assert len(lines) == len(leaders) == len(labels)
    for panel in trade_off(runs, labels).axes:
        points = {(line.get_color(), line.get_marker()) for line in markers(panel)}
        assert len(points) == len(labels)


def test_names_at_line_ends_do_not_overlap() -> None:
    labels = [f"row {i}" for i in range(5)]  # all end at the same value
    figure = error_per_frame([make(label) for label in labels], labels)
    names = figure.axes[0].texts
    offsets = sorted(text.xyann[1] for text in names)  # points above the common end
    assert len(offsets) == 5
    assert min(np.diff(offsets)) >= 1.2 * names[0].get_fontsize()


@pytest.mark.parametrize(
    ("wished", "placed"),
    [
        ([0, 10, 20], [0, 10, 20]),
        ([0, 0], [-2, 2]),
        ([0, 1, 30], [-1.5, 2.5, 30]),
        ([0, 1, 2, 3], [-4.5, -0.5, 3.5, 7.5]),
        ([0, 4.5, 5], [-2.5 / 3, 9.5 / 3, 21.5 / 3]),  # moving two apart pushes the third
    ],
)
def test_spread_moves_apart_as_little_as_needed(wished: list, placed: list) -> None:
    assert figures._spread(wished, 4) == pytest.approx(placed)


def test_strip_shows_input_truth_prediction_and_difference() -> None:
    figure = strip(RUNS, LABELS)
    shown = pixels(figure)
    assert len(shown) == PAST + FUTURE + 3 * 2 * FUTURE
    sample = RUNS[0].samples()
    truth = np.round(sample["future"][0, 1, 0].astype(float) * 255)
    np.testing.assert_allclose(shown[PAST + 1][..., 0], truth, atol=1)
    assert (shown[PAST + 1] == shown[PAST + 1][..., :1]).all()  # grey
    named = texts(figure)
    assert {"input", "truth", "difference", *LABELS, "1", "7"} <= set(named)


def test_strip_differences_share_one_scale() -> None:
    worst, best = make("Last frame"), make("Ours")
    for run, error in ((worst, 0.5), (best, 0.25)):
        samples = run.samples()
        samples["future"][:] = 0.25
        samples["prediction"][:] = 0.25 + error
    figure = strip([worst, best], LABELS)
    shown = pixels(figure)
    heat = figures.colormaps[figures.HEAT]
    for image, value in ((shown[PAST + 2 * FUTURE], 1.0), (shown[-1], 0.5)):
        np.testing.assert_allclose(image[0, 0] / 255, heat(value)[:3], atol=0.01)
    assert "0.5" in texts(figure)


def test_strip_of_a_chosen_sequence() -> None:
    first, second = (pixels(strip(RUNS, LABELS, sequence=number))[0] for number in (0, 1))
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="sequence is 2; expected 0 to 1"):
        strip(RUNS, LABELS, sequence=2)


def test_strip_skips_frames_of_long_sequences() -> None:
    figure = strip([make("Ours", future=20)], LABELS)
    assert len(pixels(figure)) == 2 + 3 * 10
    assert {"1", "3", "4", "6", "22"} <= set(texts(figure))


def test_colour_frames_are_rgb_and_two_channels_show_the_first() -> None:
    rgb = make("Ours", channels=3)
    image = pixels(strip([rgb], LABELS))[0]
    expected = np.moveaxis(rgb.samples()["past"][0, 0].astype(float), 0, -1)
    np.testing.assert_allclose(image / 255, expected, atol=0.01)

    flow = make("Ours", channels=2)
    image = pixels(strip([flow], LABELS))[0]
    expected = figures.colormaps["viridis"](flow.samples()["past"][0, 0, 0].astype(float))[..., :3]
    np.testing.assert_allclose(image / 255, expected, atol=0.01)


def test_gif_shows_past_then_future_with_the_border_of_each(tmp_path: Path) -> None:
    path = animate([*RUNS, FAILED], LABELS, tmp_path / "a.gif")
    zoom, border = 3, figures.BORDER
    tile = zoom * SIDE + 2 * border
    left = figures.MARGIN + (tile + figures.MARGIN)  # second tile: the last frame
    top = 2 * figures.TEXT + figures.MARGIN
    with Image.open(path) as gif:
        assert gif.n_frames == PAST + FUTURE
        assert gif.width == 4 * (tile + figures.MARGIN) + figures.MARGIN
        seen = []
        for i in range(gif.n_frames):
            gif.seek(i)
            corner = gif.convert("RGB").getpixel((left + 1, top + 1))
            seen.append("#{:02X}{:02X}{:02X}".format(*corner))
            durations = gif.info["duration"]
        assert durations == 5 * figures.FRAME_MS
    near = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in seen]
    for i, colour in enumerate(near):
        expected = 0xD0 if i < PAST else 0x7F
        assert np.abs(colour - expected).max() <= 8
    assert path.stat().st_size < 200_000


def test_a_gif_says_which_runs_it_was_made_of(tmp_path: Path) -> None:
    with Image.open(animate([*RUNS[::-1], FAILED], LABELS, tmp_path / "a.gif")) as gif:
        assert gif.info["comment"] == b"10 11 20 21 30 31"
    many = [make("Ours", seed) for seed in range(100)]
    with Image.open(animate(many, LABELS, tmp_path / "b.gif")) as gif:
        assert gif.info["comment"].decode() == series.keys_of(many)
        assert len(gif.info["comment"]) > 255  # a block of GIF
    samples = RUNS[0].samples()
    tiles = [("forecast", "black", samples["future"][0])]
    with Image.open(figures.film(samples["past"][0], tiles, tmp_path / "c.gif")) as gif:
        assert "comment" not in gif.info


def test_gif_wraps_many_rows(tmp_path: Path) -> None:
    labels = [f"row {i} with a long name" for i in range(20)]
    runs = [make(label) for label in labels]
    with Image.open(animate(runs, labels, tmp_path / "a.gif")) as gif:
        assert gif.width <= figures.GIF_WIDTH
        assert gif.height > 2 * 3 * SIDE


def test_draw_writes_every_figure_and_repeats_to_the_byte(tmp_path: Path) -> None:
    first = draw([*RUNS, FAILED], LABELS, tmp_path / "a", "ablation")
    second = draw([*RUNS, FAILED], LABELS, tmp_path / "b", "ablation")
    assert [path.name for path in first] == [
        *("ablation-curves.png", "ablation-curves.pdf"),
        *("ablation-trade-off.png", "ablation-trade-off.pdf"),
        *("ablation-error-per-frame.png", "ablation-strip.png", "ablation.gif"),
    ]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with Image.open(first[0]) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_a_full_disk_leaves_the_old_figures_and_nothing_half_written(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="the limit of a file's size is of Unix")
    for old in ("x-curves.png", "x-curves.pdf", "x.gif"):
        (tmp_path / old).write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes = {
        "x-curves.png": lambda path: save(learning_curves(RUNS, LABELS), path),
        "x-curves.pdf": lambda path: save(learning_curves(RUNS, LABELS), path),
        "x.gif": lambda path: animate(RUNS, LABELS, path),
    }
    for name, write in writes.items():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            with pytest.raises(OSError, match=f"cannot write .*{name}.*nothing half-written"):
                write(tmp_path / name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(
        writes, b"old"
    )


def test_draw_without_training_or_runs(tmp_path: Path) -> None:
    untrained = draw([make("Last frame")], LABELS, tmp_path, "x")
    assert not any("curves" in path.name for path in untrained)
    assert draw([FAILED], LABELS, tmp_path, "x") == []


def test_wrong_runs_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"rows \['Theirs'\]"):
        error_per_frame([make("Theirs")], LABELS)
    other = make("SimVP")
    other = replace(other, stored={**other.stored, "samples": dict(other.samples())})
    other.samples()["future"] = 1 - other.samples()["future"]
    with pytest.raises(ValueError, match="'Ours' was tested on other sequences"):
        strip([other, make("Ours")], LABELS)
    with pytest.raises(ValueError, match="no finished run"):
        strip([FAILED], LABELS)


def test_rows_whose_samples_are_fewer_or_less_precise_stand_beside_others() -> None:
    """As earlier commits stored them."""
    other = make("SimVP")
    samples = {name: array.astype(np.float16)[:1] for name, array in other.samples().items()}
    runs = [make("Ours"), replace(other, stored={**other.stored, "samples": samples})]
    runs[0].samples()["future"] = runs[0].samples()["future"].astype(np.float32) + 1e-4
    assert strip(runs, LABELS)
    with pytest.raises(ValueError, match="sequence is 1; expected 0 to 0"):
        strip(runs, LABELS, sequence=1)


def test_save_knows_two_formats(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'\.jpg'; expected \.png or \.pdf"):
        save(Figure(), tmp_path / "a.jpg")


def test_synthetic_data_are_marked_in_every_figure(tmp_path: Path, monkeypatch) -> None:
    runs = [make("Ours")]
    runs[0].record["data"] = {"synthetic": "drawn"}
    marks: dict[str, bool] = {}

    def save(figure: Figure, path: Path) -> Path:
        marks[path.name] = figures.SYNTHETIC in [text.get_text() for text in figure.texts]
        return path

    monkeypatch.setattr(figures, "save", save)
    figures.draw(runs, LABELS, tmp_path, "x")
    assert len(marks) == 6 and all(marks.values())
    figures.draw([make("Ours")], LABELS, tmp_path, "x")
    assert not any(marks.values())


def test_the_front_is_what_nothing_beats_in_both() -> None:
    points = [(1.0, 9.0), (2.0, 5.0), (3.0, 6.0), (2.0, 7.0), (4.0, 5.0), (5.0, 1.0)]
    assert pareto(points) == [(1.0, 9.0), (2.0, 5.0), (5.0, 1.0)]


def test_trade_off_names_every_trained_row_in_both_panels() -> None:
    figure = trade_off(RUNS, LABELS)
    trained = {label for label in LABELS if label != "Last frame"}
    for axes in figure.axes:
        assert {text.get_text() for text in axes.texts} == trained
        (front,) = [line for line in axes.lines if line.get_zorder() == 0]
        assert list(map(tuple, front.get_xydata())) == pareto([text.xy for text in axes.texts])
    by_macs, by_time = figure.axes
    shown = {
        text.get_text(): (text.xy, other.xy)
        for text, other in zip(by_macs.texts, by_time.texts, strict=True)
    }
    for label, (on_macs, on_time) in shown.items():
        runs = [run for run in RUNS if run.record["row"] == label]
        assert on_macs[0] == pytest.approx(runs[0].record["cost"]["macs"] / 1e9)
        assert on_time[0] == pytest.approx(1.5)  # minutes: the mean of 1 and 2
        error = np.mean([run.record["means"]["mse"] for run in runs])
        assert on_macs[1] == on_time[1] == pytest.approx(error)


def test_in_equal_time_error_is_drawn_against_parameters() -> None:
    runs = [make(label) for label in LABELS]
    for run in runs:
        run.record["training"]["minutes"] = 7
    by_macs, by_size = trade_off(runs, LABELS).axes
    assert "FLOPs" in by_macs.get_xlabel() and by_size.get_xlabel() == "parameters (M)"
    assert [line.get_xdata()[0] for line in markers(by_size)] == [10 / 1e6] * 2
    assert trade_off(RUNS, LABELS).axes[1].get_xlabel() == "training time (min)"


def test_rows_that_trained_on_fewer_sequences_are_hollow_and_not_on_the_front() -> None:
    short = make("SimVP")  # costs less than Ours
    short.record["steps"] = 10
    figure = trade_off([short, make("Ours")], LABELS)
    for axes in figure.axes:
        faces = {line.get_color(): line.get_markerfacecolor() for line in markers(axes)}
        assert faces == {series.COLOURS[1]: "white", series.COLOURS[2]: series.COLOURS[2]}
        (front,) = [line for line in axes.lines if line.get_zorder() == 0]
        assert len(front.get_xydata()) == 1
    assert figures.HOLLOW in [text.get_text() for text in figure.texts]
    assert not trade_off(RUNS, LABELS).texts
