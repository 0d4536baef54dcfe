"""The report as a page, what it shows, and what it says has changed."""

from __future__ import annotations

import base64
import json
import re
import shutil
import webbrowser
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pages
import pandas as pd
import pytest
import vl_convert
from PIL import Image

from benchmarks.report import page as page_module
from benchmarks.report import records
from benchmarks.report.change import Earlier, compare, read_earlier
from benchmarks.report.charts import MOST_POINTS, charts
from benchmarks.report.leaderboard import boards, leaderboard
from benchmarks.report.page import sort_key, sprite
from benchmarks.report.table import Cell, build
from benchmarks.run import main

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
    film = tmp_path / "figures" / "film #1.gif"
    film.parent.mkdir()
    film.write_bytes(b"")
    suite, table, panels = pages.parts()
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


def test_charts_are_valid_vega_lite():
    _, found = all_charts(pages.RECORD)
    for chart in found:
        for spec in chart.specs.values():
            spec = {**spec, "width": 300, "datasets": {"values": list(chart.values)}}
            compiled = json.dumps(vl_convert.vegalite_to_vega(spec))
            assert '"shown"' in compiled
            svg = vl_convert.vegalite_to_svg(spec)
            assert "Ours" in svg and "NaN" not in svg


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


def changed(change, rows=("Ours",)):
    """What is said of the rows' MSE after `change` of their runs, and the whole change."""
    suite, _, panels = pages.parts()
    before = {panel.name: of for panel, of in panels}
    _, _, after = pages.parts(kind=records.RecordedRun)
    for run in after[0][1]:
        if run.record["row"] in rows:
            change(run)
    fresh = [records.RecordedRun(run.folder, run.record) for run in after[0][1]]
    found = compare(suite, Earlier("old", before), {after[0][0].name: fresh})
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


def test_other_sequences_and_diverged_runs_do_not_compare():
    def other(run):
        run.record["data"] = {**run.record["data"], "digest": "another"}

    assert changed(other)[0]["Ours"].verdict == "other test sequences"
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
    shutil.copy(pages.RECORD, tmp_path / "the-same.json")
    text = leaderboard(tmp_path)
    assert len(boards(tmp_path)) == 2  # equal minutes apart, costs not at all
    assert text.count("| Ours |") == 2  # and a record that repeats another's runs adds nothing
    for minutes, expected in ((25, ["Ours", "ConvLSTM"]), (7, ["PredRNN", "Ours w/o DDR"])):
        board = text.split(f", {minutes} minutes per row", 1)[1]
        assert re.findall(r"^\| \d+ \| ([^|]+) \|", board, re.MULTILINE)[:2] == expected
    assert "(results/report/hour-quick/index.html)" in text
    assert "| **89.16** |" in text


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
    assert f"{path}\nmetrics against hour-quick: 4 equal, 4 worse, 4 better" in output
    assert opened == [path.as_uri()]
    assert "Change since hour-quick" in " ".join(read(path).texts)


@pytest.mark.parametrize("option", [["--open"], ["--against", str(pages.RECORD)]])
def test_without_figures_there_is_no_page_to_open(tmp_path, capsys, option):
    arguments = ["--report", str(pages.RECORD), "--out", str(tmp_path), "--no-figures", *option]
    assert main(arguments) == 2
    assert f"{option[0]} has no effect on --no-figures" in capsys.readouterr().err
