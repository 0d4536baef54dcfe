"""The report as a page, what it shows, and what it says has changed."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import sys
import webbrowser
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from unittest.mock import MagicMock

import numpy as np
import pages
import pandas as pd
import pytest
import vl_convert
from PIL import Image

from benchmarks.leaderboard import boards, leaderboard
from benchmarks.metrics import INFERENCE_SPEED
from benchmarks.report import page as page_module
from benchmarks.report import records
from benchmarks.report.change import Earlier, compare, read_earlier
from benchmarks.report.charts import MOST_POINTS, charts
from benchmarks.report.page import sort_key, sprite
from benchmarks.report.series import COLOURS, by_row, keys_of
from benchmarks.report.table import Cell, build
from benchmarks.run import main
from benchmarks.suites import weatherbench

# --- the file ------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Addresses, texts and the JSON of a page."""

    def __init__(self):
        super().__init__()
        self.addresses, self.texts, self.tags, self.data, self._inside = [], [], [], None, None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = dict(attrs).get("type") if tag == "script" else tag
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if self._inside == "application/json" and self.data is None:
            self.data = json.loads(data)
        elif self._inside not in ("script", "style", None):
            self.texts.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def test_a_page_needs_nothing_beside_it_and_labels_are_text(tmp_path):
    path = pages.write(tmp_path)
    assert path == tmp_path / "report" / pages.RECORD.stem / "index.html"
    found = read(path)
    assert found.data is not None and len(found.data["panels"][0]["film"]["sequences"]) == 2
    assert all(address.startswith("#") for address in found.addresses)
    assert "img" not in found.tags
    assert found.texts.count(pages.HOSTILE) >= 3  # switch, table, film
    assert path.stat().st_size < 2e6


def test_links_lead_to_files_that_exist(tmp_path):
    (tmp_path / "records").mkdir()
    shutil.copy(pages.RECORD, tmp_path / "records")
    suite, table, panels = pages.parts()
    film = tmp_path / "figures" / "film #1.gif"
    film.parent.mkdir()
    Image.new("P", (1, 1)).save(film, comment=keys_of(panels[0][1]))
    done = panels[0][1][0]
    own = tmp_path / "runs" / "a b"
    own.mkdir(parents=True)
    (own / "record.json").write_text("{}")
    panels[0][1][0] = type(done)(own, done.record)
    path = page_module.write_page(suite, table, panels, tmp_path, films={panels[0][0].name: film})
    links = [address for address in read(path).addresses if not address.startswith("#")]
    assert sorted(links) == [
        "../../figures/film%20%231.gif",
        f"../../records/{pages.RECORD.name}",
        "../../runs/a%20b/",
        "../../runs/a%20b/record.json",
    ]


def test_a_film_that_was_not_made_of_the_runs_is_not_shown(tmp_path):
    suite, table, panels = pages.parts()
    panel, runs = panels[0]
    film = tmp_path / "film.gif"
    for comment in ("", "0123456789ab", keys_of(runs[:1]), None):
        if comment is None:
            film.write_bytes(b"no image")
        else:
            Image.new("P", (1, 1)).save(film, comment=comment)
        path = page_module.write_page(suite, table, panels, tmp_path, films={panel.name: film})
        assert "img" not in read(path).tags, comment


def test_films_and_charts_find_their_data_behind_a_panel_of_costs_alone(tmp_path):
    suite, _, ((panel, runs),) = pages.parts(kind=pages.Filmed)
    costs = replace(panel, title="Speed", columns=(INFERENCE_SPEED,))
    panels = [(costs, runs), (panel, runs)]
    suite = replace(suite, panels=(costs, panel))
    path = page_module.write_page(suite, build(suite, "two", panels), panels, tmp_path)
    shown = read(path).data["panels"]
    assert [of["name"] for of in shown] == [panel.name]
    places = re.findall(r'class="(?:film|chart)" data-panel="(\d+)"', path.read_text("utf-8"))
    assert places == ["0"] * 4  # a film and three charts
    assert shown[0]["film"] is not None and len(shown[0]["charts"]) == 3


@pytest.mark.parametrize(
    ("text", "key"),
    [
        *(("286.20", "286.20"), ("1,500", "1500"), ("1.2e-05", "1.2e-05")),
        *(("−∞", "-Infinity"), ("∞", "Infinity")),
        *(("–", None), ("nan", None), ("failed", None), ("not run", None)),
    ],
)
def test_columns_are_sorted_by_number(text, key):
    assert sort_key(Cell(text)) == key


def test_a_page_of_diverged_runs_can_be_read(tmp_path):
    suite, _, panels = pages.parts(kind=records.RecordedRun)
    for run in panels[0][1]:
        told = run.record["report"]
        infinite = [float("inf")] * len(told["frame_means"]["mse"])
        curve = [{**point, "val_mse": None} for point in told["curve"]]
        run.record["report"] = {**told, "frame_means": {"mse": infinite}, "curve": curve}
        run.record["means"] = {**run.record["means"], "mse": float("nan"), "psnr": float("inf")}
    fresh = [(p, [records.RecordedRun(r.folder, r.record) for r in of]) for p, of in panels]
    path = page_module.write_page(suite, build(suite, "diverged", fresh), fresh, tmp_path)
    assert read(path).data["panels"][0]["charts"] == []
    assert "nan" in path.read_text("utf-8") and 'data-value="Infinity"' in path.read_text("utf-8")


# --- films ---------------------------------------------------------------------------------------


def decoded(url):
    assert url.startswith("data:image/png;base64,")
    return Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_sprite_has_the_frames_beside_each_other(channels):
    frames = np.random.default_rng(0).uniform(size=(3, channels, 4, 6))
    image = np.asarray(decoded(sprite(frames)))
    shown = frames if channels == 3 else frames[:, :1]
    expected = np.concatenate(np.round(shown * 255).astype(np.uint8), axis=-1)
    np.testing.assert_array_equal(np.moveaxis(np.atleast_3d(image), -1, 0), expected)


def test_what_a_sprite_cannot_show_is_black_or_white():
    frames = np.array([np.nan, -1, 2, np.inf]).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(np.asarray(decoded(sprite(frames))), [[0, 0], [255, 255]])


def test_a_halved_sprite_has_means_of_pixels():
    frames = np.zeros((1, 1, 4, 4))
    frames[..., :2, :2] = [[0, 1], [1, 0]]
    image = np.asarray(decoded(sprite(frames, halved=1)))
    assert image.tolist() == [[128, 0], [0, 0]]


@pytest.mark.parametrize(
    ("most", "sequences", "size", "told"),
    [(10**6, 2, 8, ""), (1000, 1, 8, "1 of 2 stored"), (10, 1, 1, "64×64 pixels")],
)
def test_films_keep_a_page_small(tmp_path, monkeypatch, most, sequences, size, told):
    monkeypatch.setattr(page_module, "MOST_BYTES", most)
    found = read(pages.write(tmp_path))
    film = found.data["panels"][0]["film"]
    assert (len(film["sequences"]), film["width"]) == (sequences, size)
    assert decoded(film["sequences"][0]["truth"]).size == (4 * size, size)
    assert told in film["note"]
    assert film["note"] in " ".join(found.texts)


# --- charts --------------------------------------------------------------------------------------


def all_charts(record):
    suite, _, panels = pages.parts(record)
    runs = [run for run in panels[0][1] if run.done]
    return runs, charts(runs, [row.label for row in suite.rows], (35.0, "target"))


def test_charts_show_means_and_ranges_over_seeds():
    runs, (curves, costs, frames) = all_charts(pages.RECORDS / "hour-quick.json")
    ours = [run for run in runs if run.record["row"] == "Ours"]
    assert len(ours) == 3
    last = [run.curve()["val_mse"].astype(float).iloc[-1] for run in ours]
    end = [value for value in curves.values if value["row"] == "Ours"][-1]
    assert (end["mean"], end["min"], end["max"]) == pytest.approx(
        (np.mean(last), min(last), max(last))
    )
    assert not any(value["row"] == "Last frame" for value in curves.values)
    assert list(curves.specs) == ["epochs", "sequences", "minutes"]
    (cost,) = [value for value in costs.values if value["row"] == "Ours"]
    assert cost["mean"] == pytest.approx(np.mean([run.means["mse"] for run in ours]))
    assert cost["macs"] == ours[0].record["cost"]["macs"] / 1e9
    first = next(value for value in frames.values if value["row"] == "Ours")
    assert first["mean"] == pytest.approx(np.mean([run.summary.frames["mse"][0] for run in ours]))
    assert "Ours" in curves.description and "Ours" in costs.description


@pytest.mark.parametrize("record", [pages.RECORD, pages.RECORDS / "mmnist-quick.json"])
def test_charts_are_valid_vega_lite(record):
    _, found = all_charts(record)
    for chart in found:
        for spec in chart.specs.values():
            spec = {**spec, "width": 300, "datasets": {"values": list(chart.values)}}
            compiled = json.dumps(vl_convert.vegalite_to_vega(spec))
            assert '"shown"' in compiled
            svg = vl_convert.vegalite_to_svg(spec)
            assert "Ours" in svg and "NaN" not in svg


def test_rows_that_trained_on_fewer_sequences_are_pale_and_named():
    _, (_, costs, _) = all_charts(pages.RECORDS / "mmnist-quick.json")
    pale = [value["row"] for value in costs.values if not value["compares"]]
    assert pale == ["PhyDNet", "CrevNet", "SwinLSTM"]
    assert f"fewer sequences: {', '.join(pale)}." in costs.description
    points = costs.specs["FLOPs"]["layer"][1]
    test = {"test": "datum.compares", "value": 1}
    assert points["encoding"]["opacity"]["condition"] == test
    assert "sequences" in [of["field"] for of in points["encoding"]["tooltip"]]


def test_minutes_are_a_cost_unless_all_rows_had_the_same():
    (_, (_, timed, _)), (_, (_, others, _)) = (
        all_charts(path) for path in (pages.RECORD, pages.RECORDS / "mmnist-quick.json")
    )
    assert list(timed.specs) == ["FLOPs", "parameters"]
    assert list(others.specs) == ["minutes", "FLOPs", "parameters"]
    assert "Pale" not in timed.description


def test_a_second_round_of_colours_has_another_dash_and_shape():
    suite, _, ((_, runs),) = pages.parts()
    labels = [*(f"row {i}" for i in range(len(COLOURS))), *(row.label for row in suite.rows)]
    curves, costs, _ = charts(runs, labels)
    places = ((curves, "epochs", "strokeDash"), (costs, "FLOPs", "shape"))
    for chart, x, channel in places:
        drawn = chart.specs[x]["layer"][1]["encoding"][channel]["scale"]["range"]
        assert len(drawn) == len(labels) and drawn[0] != drawn[len(COLOURS)]


def test_descriptions_round_no_number_away():
    suite, _, panels = pages.parts(kind=records.RecordedRun)
    (run,) = [run for run in panels[0][1] if run.record["row"] == "Ours"]
    told = run.record["report"]
    curve = [{**point, "val_mse": 1e-9 * point["val_mse"]} for point in told["curve"]]
    frames = {"mse": [1e-9 * error for error in told["frame_means"]["mse"]]}
    scale(run, 1e-9)
    run.record["report"] = {**run.record["report"], "curve": curve, "frame_means": frames}
    small = records.RecordedRun(run.folder, run.record)
    for chart in charts([small], [row.label for row in suite.rows]):
        assert re.search(r"Ours \d\.\d+e-0[78]", chart.description)


def test_long_curves_are_thinned_to_their_ends():
    suite, _, panels = pages.parts(kind=records.RecordedRun)
    run = next(run for run in panels[0][1] if run.record["row"] == "Ours")
    epochs = np.arange(1, 2001)
    run.record["report"] = run.record["report"] | {
        "curve": pd.DataFrame(
            {"epoch": epochs, "sequences": epochs, "seconds": epochs, "val_mse": 1 / epochs}
        ).to_dict("records")
    }
    curve = charts([run], [row.label for row in suite.rows])[0].values
    assert len(curve) == MOST_POINTS
    assert (curve[0]["epochs"], curve[-1]["epochs"]) == (1, 2000)


# --- change --------------------------------------------------------------------------------------


def changed(change, rows=("Ours",), both=lambda run: None):
    """What is said of the rows' MSE after `change` of their runs, and the whole change.

    `both` changes all runs first, also those before.
    """
    suite, _, ((panel, before),) = pages.parts(kind=records.RecordedRun)
    _, _, ((_, after),) = pages.parts(kind=records.RecordedRun)
    for run in (*before, *after):
        both(run)
    for run in after:
        if run.record["row"] in rows:
            change(run)
    old, new = ([records.RecordedRun(r.folder, r.record) for r in of] for of in (before, after))
    found = compare(suite, Earlier("old", {panel.name: old}), {panel.name: new})
    return {line.row: line for line in found.lines if line.metric == "MSE"}, found


def scale(run, factor):
    told = run.record["report"]
    means = {**told["sequence_means"], "mse": [factor * x for x in told["sequence_means"]["mse"]]}
    run.record["report"] = {**told, "sequence_means": means}
    run.record["means"] = {**run.record["means"], "mse": factor * run.record["means"]["mse"]}


@pytest.mark.parametrize(("factor", "verdict"), [(0.9, "better"), (1.1, "worse"), (1.0, "equal")])
def test_a_change_says_what_is_better_and_worse(factor, verdict):
    lines, found = changed(lambda run: scale(run, factor))
    assert lines["Ours"].verdict == verdict
    assert lines["PredRNN"].verdict == "equal" and lines["PredRNN"].difference == "0"
    before, after = float(lines["Ours"].before), float(lines["Ours"].after)
    assert after == pytest.approx(factor * before, abs=0.01)
    assert f"1 {verdict}" in found.summary or verdict == "equal"


def test_noise_is_no_change():
    def noise(run):
        told = run.record["report"]
        values = np.array(told["sequence_means"]["mse"])
        values += np.random.default_rng(1).normal(0, 30, len(values))
        means = {**told["sequence_means"], "mse": values.tolist()}
        run.record["report"] = {**told, "sequence_means": means}

    assert changed(noise)[0]["Ours"].verdict == "not significant"


def test_small_numbers_are_not_rounded_away():
    lines, _ = changed(lambda run: scale(run, 0.9), both=lambda run: scale(run, 1e-9))
    line = lines["Ours"]
    assert (line.before, line.after, line.verdict) == ("8.92e-08", "8.02e-08", "better")
    assert line.difference == "-8.92e-09"
    larger, _ = changed(lambda run: scale(run, 1.1), both=lambda run: scale(run, 1e-9))
    assert larger["Ours"].difference == "+8.92e-09"


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        ({"data": {"digest": "another"}}, "other test sequences"),
        ({"protocol": 1}, "other protocol"),
        ({"metrics": {"mse": "another digest"}}, "other weights"),
    ],
)
def test_what_was_scored_otherwise_does_not_compare(other, verdict):
    assert changed(lambda run: run.record.update(other))[0]["Ours"].verdict == verdict


def test_diverged_runs_do_not_compare():
    assert changed(lambda run: scale(run, float("nan")))[0]["Ours"].verdict == "not finite"


def test_rows_of_one_side_are_named():
    def fail(run):
        run.record["status"] = "failed"

    lines, found = changed(fail)
    assert "Ours" not in lines
    assert found.only_before == ("Ours",) and "Only before: Ours." in found.statements


def test_a_record_without_a_common_row_is_refused():
    suite, _, _ = pages.parts()
    with pytest.raises(ValueError, match="none has a result there on"):
        read_earlier(pages.RECORD, suite, ["SimVP"])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_earlier(pages.RECORD.with_name("none.json"), suite, ["Ours"])


# --- leaderboard ---------------------------------------------------------------------------------


def test_the_leaderboard_ranks_what_compares(tmp_path):
    for name in ("hour-quick", "hour-quick-25-minutes", "efficiency-quick"):
        shutil.copy(pages.RECORDS / f"{name}.json", tmp_path)
    shutil.copy(tmp_path / "hour-quick.json", tmp_path / "the-same.json")
    text = leaderboard(tmp_path)
    assert len(boards(tmp_path)) == 2  # equal minutes apart, costs not at all
    assert text.count("| Ours |") == 2  # and a record that repeats another's runs adds nothing
    for minutes, name in ((25, "hour-quick-25-minutes"), (7, "hour-quick")):
        _, _, runs = records.read(tmp_path / f"{name}.json")
        rows = by_row(runs["Moving MNIST"])
        means = {row: np.mean([run.means["mse"] for run in of]) for row, of in rows.items()}
        board = text.split(f", {minutes} minutes per row", 1)[1].split("###")[0]
        assert ranked(board) == sorted(means, key=means.get)
        assert re.search(r"^\| 1 \| [^|]+ \| \*\*", board, re.MULTILINE)
    assert "(results/report/hour-quick/index.html)" in text


def rewritten(path, change, source=pages.RECORD):
    """A committed record in a file at `path`, each entry and what it reports changed."""
    entries = json.loads(source.read_text(encoding="utf-8"))
    for entry in entries:
        change(entry, entry["report"])
        entry["report"]["sha256"] = records._checksum(entry)
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def ranked(text):
    """The rows of a leaderboard's tables, in order."""
    return re.findall(r"^\| \d+ \| ([^|]+) \|", text, re.MULTILINE)


def test_a_record_without_a_common_metric_is_ranked_by_its_own(tmp_path):
    """Such as one of WeatherBench, whose scores are parts of numbers of the whole test set."""

    def weather(entry, told):
        errors = [error / 4096 for error in told["sequence_means"]["mse"]]
        parts = [[error] for error in errors]
        told |= {"suite": "weatherbench", "panel": "t2m"}
        told["sequence_means"] = {"rmse_total": parts, "rmse_latitude": parts}
        means = dict.fromkeys(told["sequence_means"], float(np.sqrt(np.mean(errors))))
        entry |= {"means": means, "metrics": {m.name: m.digest for m in weatherbench.COLUMNS}}

    rewritten(tmp_path / "weather.json", weather)
    shutil.copy(pages.RECORD, tmp_path)
    text = leaderboard(tmp_path)
    assert [[m.name for m in board.metrics] for board in boards(tmp_path)] == [
        *(["mse", "mae", "ssim", "psnr"], ["rmse_total", "rmse_latitude"])
    ]
    assert ranked(text) == pages.best_first() * 2
    assert "| RMSE ↓ | RMSE ↓ (cos φ) |" in text
    assert "| Ours | **0.1475** | **0.1475** |" in text  # the root of 89.16 / 4096


def test_an_entry_without_a_metric_takes_it_from_nobody(tmp_path):
    def only_mse(entry, told):
        entry["key"] += " of another"
        told["sequence_means"] = {"mse": told["sequence_means"]["mse"]}

    shutil.copy(pages.RECORD, tmp_path)
    rewritten(tmp_path / "short.json", only_mse)
    (board,) = boards(tmp_path)
    assert [metric.name for metric in board.metrics] == ["mse", "mae", "ssim", "psnr"]
    text = leaderboard(tmp_path)
    assert ranked(text) == [label for label in pages.best_first() for _ in range(2)]
    assert text.count("| **89.16** | – | – | – |") == 1


def test_a_metric_of_other_weights_is_another(tmp_path):
    for digest in ("0a" * 32, "1b" * 32):

        def further(entry, told, digest=digest):
            entry["key"] += digest
            entry["metrics"] = {"lpips": digest}
            told["sequence_means"]["lpips"] = told["sequence_means"]["mse"]
            entry["means"]["lpips"] = entry["means"]["mse"]

        rewritten(tmp_path / f"{digest}.json", further)
    (board,) = boards(tmp_path)
    assert [metric.name for metric in board.metrics][-2:] == ["lpips", "lpips"]
    assert [[entry.has(m) for m in board.metrics[-2:]] for entry in board.entries] == [
        *([True, False], [True, False], [True, False]),
        *([False, True], [False, True], [False, True]),
    ]
    text = leaderboard(tmp_path)
    assert "weights of SHA-256 0a0a" in text and "weights of SHA-256 1b1b" in text


def test_runs_in_several_records_stand_there_once_with_the_most_metrics(tmp_path):
    def only_mse(entry, told):
        told["sequence_means"] = {"mse": told["sequence_means"]["mse"]}

    rewritten(tmp_path / "a.json", only_mse)
    shutil.copy(pages.RECORD, tmp_path / "b.json")
    (board,) = boards(tmp_path)
    assert [entry.record for entry in board.entries] == ["b"] * 3


def test_a_diverged_row_ranks_last(tmp_path):
    def diverge(entry, told):
        if entry["row"] == "Ours":
            entry["means"]["mse"] = "NaN"
            told["sequence_means"]["mse"] = ["NaN"] * len(told["sequence_means"]["mse"])

    rewritten(tmp_path / "diverged.json", diverge)
    finite = [label for label in pages.best_first() if label != "Ours"]
    assert ranked(leaderboard(tmp_path)) == [*finite, "Ours"]


def test_a_leaderboard_rounds_no_number_away(tmp_path):
    def shrink(entry, told):
        entry["means"]["mse"] *= 1e-9
        told["sequence_means"]["mse"] = [1e-9 * x for x in told["sequence_means"]["mse"]]

    rewritten(tmp_path / "small.json", shrink)
    assert "| **8.92e-08** |" in leaderboard(tmp_path)


OTHERS = {
    "protocol": 1,
    "processes": 2,
    "precision": "fp32",
    "clip": {"past": 2, "future": 18},
    "device": {"type": "cpu", "name": "another", "threads": 1},
}


@pytest.mark.parametrize("name", [*OTHERS, "threads"])
def test_what_must_agree_in_a_table_must_agree_on_a_board(tmp_path, name):
    def other(entry, told):
        entry["key"] += " of another"
        if name == "threads":
            entry["device"] |= {"threads": 3}
        else:
            entry[name] = OTHERS[name]

    shutil.copy(pages.RECORD, tmp_path)
    rewritten(tmp_path / "other.json", other)
    one, another = boards(tmp_path)
    assert len(one.entries) == len(another.entries) == 3
    assert one[:3] != another[:3]  # which a reader can tell


def test_threads_keep_rows_apart_in_equal_time_alone(tmp_path):
    def other(entry, told):
        entry["key"] += " of another"
        entry["device"] |= {"threads": 3}

    source = pages.RECORDS / "convergence-quick.json"
    shutil.copy(source, tmp_path)
    rewritten(tmp_path / "other.json", other, source)
    (board,) = boards(tmp_path)
    assert len(board.entries) == 6


# --- the site ------------------------------------------------------------------------------------


@pytest.fixture
def hooks(monkeypatch):
    """docs/hooks.py; MkDocs need not be installed."""
    for name in ("", ".config", ".config.defaults", ".structure", ".structure.files"):
        monkeypatch.setitem(sys.modules, f"mkdocs{name}", MagicMock())
    monkeypatch.setitem(sys.modules, "mkdocs.structure.pages", MagicMock())
    path = pages.RECORDS.parents[1] / "docs" / "hooks.py"
    spec = importlib.util.spec_from_file_location("hooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_shows_the_further_metrics_of_a_record(tmp_path, hooks):
    def further(entry, told):
        entry["metrics"] = {"rmse": None}
        entry["means"]["rmse"] = 0.15
        told["sequence_means"]["rmse"] = told["sequence_means"]["mse"]
        told["infinite_shares"]["rmse"] = 0.0

    text = hooks._report(rewritten(tmp_path / "further.json", further))
    assert "rmse: mean of each frame" in text and ">0.1500<" in text


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("panel", "KTH", "suite 'hour' on KTH"),
        ("suite", "mine", "suite 'mine' on Moving MNIST"),
        ("row", "Mine", "rows Mine:"),
    ],
)
def test_a_record_of_what_the_suites_lack_is_refused_by_name(tmp_path, hooks, place, value, told):
    def other(entry, report):
        (entry if place == "row" else report)[place] = value

    path = rewritten(tmp_path / "other.json", other)
    for show in (hooks._report, lambda path: leaderboard(path.parent)):
        with pytest.raises(ValueError, match=rf"other\.json is of .*{told}.*move the record out"):
            show(path)


def test_a_leaderboard_names_a_file_that_is_no_record(tmp_path):
    (tmp_path / "broken.json").write_text("[]")
    with pytest.raises(ValueError, match=r"broken\.json does not rebuild a table"):
        leaderboard(tmp_path)


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.figures
def test_a_rebuilt_table_has_a_page_and_opens_it(tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    arguments = ["--report", str(pages.RECORD), "--out", str(tmp_path), "--open"]
    assert main([*arguments, "--against", str(pages.RECORDS / "hour-quick.json")]) == 0
    path = tmp_path / "report" / pages.RECORD.stem / "index.html"
    output = capsys.readouterr().out
    assert f"{path}\nmetrics against hour-quick: 8 better, 4 equal" in output
    assert opened == [path.as_uri()]
    assert "Change since hour-quick" in " ".join(read(path).texts)


@pytest.mark.parametrize("option", [["--open"], ["--against", str(pages.RECORD)]])
def test_without_figures_there_is_no_page_to_open(tmp_path, capsys, option):
    arguments = ["--report", str(pages.RECORD), "--out", str(tmp_path), "--no-figures", *option]
    assert main(arguments) == 2
    assert f"{option[0]} has no effect on --no-figures" in capsys.readouterr().err
