"""The command, as a user types it: help, plan, run, report, errors, exit statuses."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import run_folders

from benchmarks import run
from benchmarks.data import open_dataset
from benchmarks.experiment import schedule as workers
from benchmarks.experiment.hardware import elsewhere
from benchmarks.experiment.plan import Options, adapt, plan, plan_panel
from benchmarks.experiment.store import CHECKSUM, RECORD, write_record
from benchmarks.report import figures
from benchmarks.run import arguments, main
from benchmarks.suites import convergence, find_suite, with_models

SUITE = """
from baselines import ConvBaseline, LastFrame
from benchmarks import Panel, Row, Suite, Training
from benchmarks.data import MovingMNIST

SUITE = Suite(
    name="mine",
    title="Mine",
    panels=(Panel(MovingMNIST),),
    rows=(
        Row("Last frame", LastFrame),
        Row("Conv", ConvBaseline, dict(spatial_hidden=4, temporal_hidden=8, spatial_depth=2,
            temporal_depth=2)),
    ),
    training={"smoke": Training(epochs=1, sequences=16, batch_size=4, val_sequences=4,
                                test_sequences=4)},
)
"""


@pytest.fixture
def mine(tmp_path, clips_file, request):
    """The arguments of a suite of a user's own on data of their own."""
    name = "mine_" + re.sub(r"\W", "_", request.node.name)  # a module of this name, once
    path = tmp_path / f"{name}.py"
    path.write_text(SUITE)
    data = ("--data", str(clips_file), "--precision", "fp32")
    return ["--suite", str(path), *data, "--out", str(tmp_path / "out")]


@pytest.fixture(autouse=True)
def _figures(request, monkeypatch):
    """Figures take seconds: only tests that look at them draw them."""
    if request.node.get_closest_marker("figures") is None:
        monkeypatch.setattr(figures, "draw", lambda *_, **__: [])


def prepared(*options):
    """The runs that a command's options ask for."""
    given = vars(arguments().parse_args(options))
    del given["list"]
    asked = Options(**given)
    suite = with_models(find_suite(asked.suite), asked.add or ())
    return plan(adapt(suite, asked), asked)


def test_help_explains_every_option_in_a_line():
    for action in arguments()._actions:
        assert action.help, f"{action.option_strings} has no help"
        assert len(action.help) < 90, f"{action.option_strings}: {action.help}"


def test_list_names_suites_and_rows(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    for word in ("ablation", "mmnist", "smoke", "Ours w/o DDR", "PredRNN"):
        assert word in out


@pytest.mark.figures
def test_a_run_writes_table_figures_and_records(mine, tmp_path, capsys):
    assert main(mine) == 0
    out = capsys.readouterr().out
    assert "Conv" in out and "Last frame" in out
    produced = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    for suffix in (".tex", ".md", ".json", "-curves.png", "-strip.png", ".gif"):
        assert any(name.startswith("mine-smoke") and name.endswith(suffix) for name in produced), (
            f"no {suffix} in {sorted(produced)}"
        )
    for path in (line for line in out.splitlines() if line.startswith(str(tmp_path))):
        assert (tmp_path / path).exists()


def test_report_rebuilds_without_training(mine, tmp_path, capsys, monkeypatch):
    assert main(mine) == 0
    tables = tmp_path / "out" / "tables"
    before = {p.name: p.read_bytes() for p in tables.iterdir()}
    for path in tables.iterdir():
        path.unlink()
    monkeypatch.setattr(run, "execute_all", None)  # training now would raise
    assert main([*mine, "--report"]) == 0
    assert {p.name: p.read_bytes() for p in tables.iterdir()} == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_runs_of_a_gpu_are_reported_without_one(mine, tmp_path, capsys):
    """As on a login node: what was stored there is a run's record with another key."""
    assert main([*mine, "--report", "--device", "cuda"]) == 2
    assert "--device cuda finds runs of one" in capsys.readouterr().err
    assert main(mine) == 0
    asked = Options(**{k: v for k, v in vars(arguments().parse_args(mine)).items() if k != "list"})
    asked = dataclasses.replace(asked, device="cuda")
    runs = tmp_path / "out" / "runs"
    of_row = {json.loads((f / RECORD).read_text())["row"]: f for f in run_folders(tmp_path / "out")}
    for planned in plan(adapt(find_suite(asked.suite), asked), asked, elsewhere("cuda")):
        shutil.copytree(of_row[planned.row.label], runs / planned.folder)
        record = json.loads((runs / planned.folder / RECORD).read_text())
        del record[CHECKSUM]
        device = {**record["device"], "type": "cuda", "name": "a GPU"}
        write_record(
            runs / planned.folder,
            {**record, "key": planned.key, "folder": planned.folder, "device": device},
        )
    for more in ([], ["--devices", "1"]):
        assert main([*mine, "--report", "--device", "cuda", *more]) == 0
        assert "a GPU" in capsys.readouterr().out


@pytest.mark.figures
def test_a_record_alone_rebuilds_its_table_and_curves(mine, tmp_path, capsys):
    """Without the runs and without the data, as it is committed."""
    assert main([*mine, "--seeds", "2"]) == 0
    out = tmp_path / "out"
    printed = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    record = tmp_path / next((out / "records").iterdir()).name
    record.write_bytes(next((out / "records").iterdir()).read_bytes())
    shutil.rmtree(out)
    Path(mine[mine.index("--data") + 1]).unlink()
    at = mine.index("--precision")
    assert main([*mine[:at], *mine[at + 2 :], "--report", str(record)]) == 0
    assert {path.name: path.read_bytes() for path in (out / "tables").iterdir()} == printed
    assert (out / "records" / record.name).read_bytes() == record.read_bytes()
    kinds = ("curves.png", "curves.pdf", "trade-off.png", "trade-off.pdf", "error-per-frame.png")
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert drawn == {f"{record.stem}-{kind}" for kind in kinds}


def test_a_record_takes_no_options_that_change_a_training(mine, tmp_path, capsys):
    assert main([*mine, "--report", str(tmp_path / "x.json")]) == 2
    assert "--precision has no effect on --report" in capsys.readouterr().err


COMMITTED = sorted((Path(__file__).parents[1] / "results" / "records").glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_record_rebuilds_its_table(path, tmp_path):
    draw = [] if path.stem == "ablation-quick" else ["--no-figures"]
    assert main(["--report", str(path), "--out", str(tmp_path), *draw]) == 0
    for rebuilt in (tmp_path / "tables").iterdir():
        assert rebuilt.read_text() == (path.parents[1] / "tables" / rebuilt.name).read_text()


@pytest.mark.parametrize("content", [None, "{", "[]", "[1]", '[{"row": "x"}]', "{}"])
def test_what_is_no_record_is_refused(content, tmp_path, capsys):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert main(["--report", str(path)]) == 2
    assert "give a file of records/" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--report", "--against"])
@pytest.mark.parametrize("part", ["means", "sequence_means"])
def test_a_record_that_was_changed_is_refused(part, option, tmp_path, capsys):
    committed = next(path for path in COMMITTED if path.stem == "hour-quick-25-minutes")
    entries = json.loads(committed.read_text())
    if part == "means":
        entries[1]["means"]["mse"] -= 1
    else:
        entries[1]["report"]["sequence_means"]["mse"][0] = 0.0
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(entries))
    other = [] if option == "--report" else ["--report", str(committed)]
    assert main([*other, option, str(path), "--out", str(tmp_path / "out")]) == 2
    wrong = f"{entries[1]['row']}, seed 0: its checksum is not its content's"
    assert wrong in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_report_without_runs_is_an_error(mine, capsys):
    assert main([*mine, "--report"]) == 2
    assert "no stored run of this plan" in capsys.readouterr().err


def test_dry_run_shows_keys_and_cost_and_writes_nothing(mine, tmp_path, capsys):
    assert main([*mine, "--dry-run", "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert len(set(re.findall(r"\b[0-9a-f]{12}\b", out))) == 4
    assert "new" in out and "GMACs" in out and "0.021 GMACs" in out
    assert not (tmp_path / "out").exists()


def test_fresh_moves_old_runs_aside(mine, tmp_path):
    assert main([*mine, "--rows", "Conv"]) == 0
    assert main([*mine, "--rows", "Conv", "--fresh"]) == 0
    names = [p.name for p in run_folders(tmp_path / "out")]
    assert len(names) == 2 and sum(name.endswith(".replaced-1") for name in names) == 1


def test_a_partial_run_does_not_overwrite_the_whole_table(mine, tmp_path):
    assert main(mine) == 0
    tables = tmp_path / "out" / "tables"
    before = {p.name: p.read_bytes() for p in tables.iterdir()}
    assert main([*mine, "--rows", "Conv"]) == 0
    assert main([*mine, "--epochs", "2"]) == 0
    assert before.items() <= {p.name: p.read_bytes() for p in tables.iterdir()}.items()
    assert len(list(tables.iterdir())) == 3 * len(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suite", "ablaton"], "did you mean 'ablation'"),
        (["--suite", "absent.py"], "does not exist"),
        (["--suite", "ablation", "--rows", "Our"], "did you mean 'Ours'"),
        (["--suite", "smoke", "--scale", "paper"], "valid: smoke"),
        (["--suite", "smoke", "--data", "/nowhere"], "does not exist"),
        (["--suite", "smoke", "--data", "absent.npy"], "no such file"),
        (["--suite", "smoke", "--past", "3"], "--past is for your own data"),
        (["--suite", "smoke", "--data", "synthetic", "--stride", "3"], "--stride is for your own"),
        (["--suite", "kth20", "--dataset", "kth"], "python -m benchmarks.data download kth --data"),
        (["--suite", "kth20", "--dataset", "ktt"], "did you mean 'kth'"),
        (["--suite", "datasets", "--rows", "KTH"], "--rows has no effect on suite 'datasets'"),
        (["--suite", "compare"], "runs on your own data; give --data"),
        (["--suite", "compare", "--data", "synthetic"], "runs on your own data; give --data"),
        (["--suite", "taxibj"], "python -m benchmarks.data download taxibj"),
        (["--suite", "taxibj"], "--data synthetic"),
        (["--suite", "caltech"], "python -m benchmarks.data download kitti-caltech"),
        (["--suite", "kth40"], "python -m benchmarks.data download kth-action --data DIR"),
        (["--suite", "smoke", "--precision", "tf32", "--device", "cpu"], "tf32"),
    ],
)
def test_bad_input_is_an_error_before_anything_trains(options, message, capsys, monkeypatch):
    monkeypatch.setattr(run, "execute_all", None)
    assert main(options) == 2
    assert message in capsys.readouterr().err


def test_bad_own_data_is_an_error_before_anything_trains(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "execute_all", None)
    clips = np.full((20, 4, 1, 8, 8), 0.5, np.float32)
    clips[3, 2] = np.nan
    np.save(tmp_path / "clips.npy", clips)
    data = ("--data", str(tmp_path / "clips.npy"), "--data-range", "1")
    assert main(["--suite", "smoke", *data]) == 2
    said = "clips.npy holds 64 NaN, infinite or missing values, the first in sequence 3, frame 2,"
    assert said in capsys.readouterr().err


UNLUCKY = """
class Unlucky(ConvBaseline):
    losses = 0

    def loss(self, past, future):
        Unlucky.losses += 1
        if Unlucky.losses > 2:  # not yet when the row is tried
            raise RuntimeError("out of luck")
        return super().loss(past, future)
"""


def test_a_failed_row_is_shown_and_the_status_says_so(mine, tmp_path, capsys):
    path = Path(mine[1])
    text = path.read_text().replace("SUITE =", UNLUCKY + "\nSUITE =")
    path.write_text(text.replace('Row("Conv", ConvBaseline', 'Row("Conv", Unlucky'))
    for options in ([], ["--report"]):
        assert main([*mine, *options]) == 1
        out = capsys.readouterr().out
        assert "| Conv<sup>a</sup> | failed | failed |" in out
        assert "failed: seed 0 (RuntimeError: out of luck)" in out
        assert re.search(r"\| Last frame \| [\d.]+", out)
        assert "FAILED Conv, seed 0: RuntimeError: out of luck" in out


def test_a_report_says_which_rows_were_not_run(mine, tmp_path, capsys):
    assert main([*mine, "--rows", "Last frame"]) == 0
    capsys.readouterr()
    assert main([*mine, "--report"]) == 0
    out = capsys.readouterr().out
    assert "| Conv<sup>a</sup> | not run | not run |" in out and "not run: seed 0." in out
    assert "FAILED" not in out


@pytest.mark.parametrize("still", [slice(None, None, 3), slice(None)], ids=["some", "all"])
def test_frames_that_are_predicted_exactly_are_printed_one_way(mine, tmp_path, capsys, still):
    """Static recordings have an infinite PSNR, which no row may be bold beside without a word."""
    path = Path(mine[mine.index("--data") + 1])
    clips = np.load(path)
    clips[still] = clips[still, :1]
    np.save(path, clips)
    assert main(mine) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\| Last frame .*\| \*\*∞\*\*<sup>§</sup> \|", printed)
    assert not re.search(r"\| Conv .*\*\*[\d.]+\*\* \| [\d.]+ \| [\d.]+ \|", printed)
    assert re.search(r"of all predicted ones, [\d.]+% \(Last frame, PSNR dB\)", printed)
    assert main([*mine, "--report"]) == 0
    assert capsys.readouterr().out == printed
    notes, tex = sorted(
        (tmp_path / "out" / "tables").glob("*.tex"), key=lambda p: "notes" not in p.name
    )
    assert "infinite score" in notes.read_text()
    (markdown,) = (tmp_path / "out" / "tables").glob("*.md")
    assert r"\textbf{\boldmath$\infty$}\textsuperscript{\S{}}" in tex.read_text()
    assert markdown.read_text() in printed
    (record,) = (tmp_path / "out" / "records").iterdir()
    assert json.loads(record.read_text())[0]["means"]["psnr"] == "Infinity"


def test_own_data_are_not_titled_as_the_suites(mine, tmp_path, capsys):
    assert main([*mine, "--rows", "Last frame"]) == 0
    assert capsys.readouterr().out.startswith("**Own data: squares.npy, rows of mine.**")


def test_check_and_update(mine, tmp_path, capsys):
    """A reference is written, holds for the same code, and fails when a metric moves."""
    reference = tmp_path / "reference.json"
    check = [*mine, "--check", str(reference)]
    assert main(check) == 2, "no reference yet"
    assert "--update writes it" in capsys.readouterr().err
    assert main([*check, "--update", "--seeds", "2"]) == 2
    assert "leave --seeds out" in capsys.readouterr().err
    assert main([*check, "--update"]) == 0
    assert main(check) == 0
    content = json.loads(reference.read_text())
    content["rows"]["Last frame"]["mse"]["value"] += 1.0
    reference.write_text(json.dumps(content))
    assert main(check) == 1
    assert re.search(
        r"REGRESSION Last frame: mse is [\d.]+, expected [\d.]+ ±", capsys.readouterr().out
    )


def test_update_needs_check(capsys):
    with pytest.raises(SystemExit):
        main(["--suite", "smoke", "--update"])
    assert "--update needs --check" in capsys.readouterr().err


def test_a_wrong_published_name_is_an_error_before_anything_trains(mine, capsys, monkeypatch):
    monkeypatch.setattr(run, "execute_all", None)
    path = Path(mine[1])
    text = path.read_text().replace(
        '"Last frame", LastFrame', '"Last frame", LastFrame, published="TAUU"'
    )
    path.write_text(text)
    assert main(mine) == 2
    assert "did you mean 'TAU'" in capsys.readouterr().err


# Other data


TWO = """
from baselines import ConvBaseline, LastFrame
from benchmarks import Panel, Row, Suite, Training
from benchmarks.data import MovingMNIST, TaxiBJ
from benchmarks.metrics import MSE
from tau import Clip

ROWS = (
    Row("Last frame", LastFrame),
    Row("Conv", ConvBaseline, dict(spatial_hidden=4, temporal_hidden=8, spatial_depth=2,
        temporal_depth=2)),
)
TRAINING = {"smoke": Training(epochs=1, sequences=8, batch_size=4, val_sequences=4,
                              test_sequences=4)}
SMALL = {"smoke": {"downsample": 4}}
TAXI = Panel(TaxiBJ, (MSE.times(100),), "TaxiBJ", Clip(4, 4, 2, 32, 32), SMALL)
SUITE = Suite("two", "Two", (Panel(MovingMNIST, dataset_options=SMALL), TAXI), ROWS, TRAINING)
"""


@pytest.fixture
def two(tmp_path, request):
    """A suite on Moving MNIST and, beside it, on TaxiBJ."""
    path = tmp_path / ("two_" + re.sub(r"\W", "_", request.node.name) + ".py")
    path.write_text(TWO)
    return ["--suite", str(path), "--precision", "fp32", "--out", str(tmp_path / "out")]


def test_a_suite_on_two_data_sets_leaves_out_the_one_without_files(two, tmp_path, capsys):
    assert main(two) == 0
    captured = capsys.readouterr()
    assert "TaxiBJ is left out: taxibj needs" in captured.err
    assert "TaxiBJ was not measured" in captured.out
    assert len(run_folders(tmp_path / "out")) == 2


@pytest.mark.figures
def test_synthetic_data_train_everything_and_are_marked(two, tmp_path, capsys):
    options = [*two, "--data", "synthetic"]
    assert main(options) == 0
    out = capsys.readouterr().out
    assert "measured, TaxiBJ" in out and "on synthetic data" in out
    folder = tmp_path / "out"
    records = json.loads(next((folder / "records").iterdir()).read_text())
    assert [r["suite"] for r in records] == ["two"] * 4
    assert all("synthetic" in r["data"] for r in records)
    names = {p.name for p in (folder / "figures").iterdir()}
    (name,) = (path.stem for path in (folder / "records").iterdir())
    assert re.fullmatch("two-smoke-synthetic-fp32-[0-9a-f]{8}", name)
    assert {f"{name}-moving-mnist-strip.png", f"{name}-taxibj-strip.png"} <= names
    assert all(
        "synthetic" in p.name for kind in ("tables", "figures") for p in (folder / kind).iterdir()
    )
    shutil.rmtree(folder / "figures")
    assert main([*options, "--report", "--no-figures"]) == 0
    assert not any((folder / "figures").glob("*"))


def test_synthetic_data_are_refused_by_a_real_reference(two, tmp_path, capsys):
    reference = ["--check", str(tmp_path / "reference.json")]
    assert main([*two, *reference, "--update"]) == 0
    assert main([*two, *reference]) == 0
    assert main([*two, *reference, "--data", "synthetic"]) == 2
    assert "(synthetic)" in capsys.readouterr().err


def test_the_table_of_data_sets(tmp_path, capsys):
    options = ["--suite", "datasets", "--out", str(tmp_path)]
    assert main(options) == 0
    out = capsys.readouterr().out
    assert "| 10000 | – | 10000 |" in out and "19627" in out and "missing: " in out
    assert main([*options, "--data", "synthetic"]) == 0
    out = capsys.readouterr().out
    assert "missing: " not in out and "Synthetic" in out
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {
        f"datasets{kind}{end}"
        for kind in ("", "-synthetic")
        for end in (".md", ".tex", "-notes.tex")
    }


def test_compare_trains_every_row_on_a_folder_of_recordings(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for i in range(3):
        np.save(tmp_path / "mine" / f"{i}.npy", rng.random((60, 1, 8, 8), np.float32))
    options = ["--suite", "compare", "--scale", "smoke", "--rows", "Last frame", "--epochs", "1"]
    options += ["--data", str(tmp_path / "mine"), "--out", str(tmp_path / "out")]
    assert main([*options, "--past", "2", "--future", "2"]) == 2
    assert "--data-range" in capsys.readouterr().err
    assert main([*options, "--past", "2", "--future", "2", "--data-range", "0", "1"]) == 0
    assert "windows of 4 frames" in capsys.readouterr().out


def test_another_data_set_takes_the_place_of_the_suites(clips_file, tmp_path, capsys):
    options = [
        "--suite",
        "kth20",
        "--scale",
        "smoke",
        "--data",
        "synthetic",
        "--rows",
        "Last frame",
    ]
    (run,) = prepared(*options, "--dataset", "taxibj")
    assert run.dataset.name == "synthetic taxibj"
    own = ["--suite", "smoke", "--data", str(clips_file), "--dataset", "kth"]
    assert main(own) == 2
    assert "--dataset kth has no effect on your own data" in capsys.readouterr().err


def planned(*options):
    """Labels of the rows that a command would train."""
    runs = prepared("--scale", "smoke", "--device", "cpu", *options)
    return [run.row.label for run in runs]


def test_selected_rows_are_trained_unless_others_are_asked_for():
    assert planned("--suite", "convergence") == ["PhyDNet", "CrevNet", "Ours"]
    assert planned("--suite", "convergence", "--rows", "MIM", "Ours") == ["MIM", "Ours"]
    rows = [row.label for row in find_suite("mmnist").rows]
    assert ["Last frame", *planned("--suite", "efficiency")] == rows


def test_rows_that_a_panel_leaves_out_are_trained_only_if_asked_for(capsys):
    quick = ["--scale", "quick", "--suite"]
    left = {"E3D-LSTM", "LMC-Memory", "Conv-TT-LSTM", "PredNet"}
    all_rows = {suite: [r.label for r in find_suite(suite).rows] for suite in ("mmnist", "hour")}
    assert planned(*quick, "mmnist") == [x for x in all_rows["mmnist"] if x not in left]
    assert "PredNet is left out on Moving MNIST at scale quick: so short" in capsys.readouterr().err
    assert planned(*quick, "mmnist", "--rows", "PredNet", "Ours") == ["PredNet", "Ours"]
    assert list(dict.fromkeys(planned(*quick, "hour"))) == all_rows["hour"]
    assert left < set(planned(*quick, "efficiency"))
    assert left < set(planned(*quick, "mmnist", "--epochs", "500"))
    assert left < set(planned(*quick, "mmnist", "--minutes", "60"))
    assert "is left out" not in capsys.readouterr().err
    assert left < set(planned("--suite", "mmnist"))  # at another scale


def test_a_timed_suite_trains_one_row_at_a_time(monkeypatch):
    monkeypatch.setattr(workers.torch, "get_num_threads", lambda: 4)
    for suite, expected in (("efficiency", 1), ("mmnist", 4)):
        runs = prepared("--suite", suite, "--scale", "smoke", "--device", "cpu")
        assert workers._default_jobs(runs[0]) == expected


LINEAR = f"{Path(__file__).resolve().parent.parent / 'examples' / 'own_model.py'}:Linear"


@pytest.mark.slow
def test_a_model_of_a_file_is_a_row_at_the_end(tmp_path, capsys):
    options = ["--suite", "ablation", "--scale", "smoke", "--device", "cpu", "--epochs", "1"]
    asked = [*options, "--rows", "Last frame", "Linear", "--out", str(tmp_path)]
    assert main([*asked, "--add", LINEAR]) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("| L")]
    assert rows[0].startswith("| Last frame") and rows[-1].startswith("| Linear | ")
    record = next((tmp_path / "records").iterdir())
    assert record.name.startswith("ablation-smoke-linear-")
    again = ["--report", str(record), "--out", str(tmp_path / "again")]
    assert main([*again, "--add", LINEAR]) == 0
    assert rows[-1] in capsys.readouterr().out.splitlines()
    assert main(again) == 2  # the record does not hold the class
    assert "Linear" in capsys.readouterr().err


def test_a_model_of_a_file_is_selected_too():
    assert prepared("--suite", "convergence", "--add", LINEAR)[-1].row.label == "Linear"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Linear", "--add is 'Linear'; expected FILE.py:CLASS"),
        ("nowhere.py:Linear", "nowhere.py does not exist"),
        ("{}:Missing", "has no 'Missing'; expected a class of that name"),
        ("{}:replace", "is not a class derived from tau.Predictor"),
        ("{}:TAU", "suite 'ablation' has a row 'TAU'; rename the class"),
    ],
)
def test_what_cannot_be_added_is_told(name, words, tmp_path, capsys):
    file = tmp_path / f"added_{len(words)}.py"  # a module of this name, once
    file.write_text("from dataclasses import replace\nfrom tau import TAU\n")
    names = [name.format(file)] * (1 + name.endswith("TAU"))  # once it would be a row
    options = ["--suite", "ablation", "--scale", "smoke", "--device", "cpu", "--dry-run"]
    assert main([*options, "--add", *names]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.figures
def test_efficiency_is_measured_and_shown(tmp_path, capsys):
    options = ["--suite", "efficiency", "--scale", "smoke", "--device", "cpu", "--epochs", "1"]
    assert main([*options, "--rows", "Ours", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "*Metrics:*" not in out and "1 epoch of" in out and "memory is the peak" in out
    assert "the median ± half the IQR" in out
    (ours,) = [line for line in out.splitlines() if line.startswith("| Ours")]
    assert re.search(r"\| [\d.]+ ± [\d.]+ \|", ours)
    (record,) = json.loads(next((tmp_path / "records").iterdir()).read_text())
    cost = record["cost"]
    assert cost["seconds_per_epoch"] == pytest.approx(
        10_000 / cost["training_sequences_per_second"]
    )
    assert cost["seconds_per_epoch_spread"] == pytest.approx(
        cost["seconds_per_epoch"]
        * cost["training_sequences_per_second_spread"]
        / cost["training_sequences_per_second"]
    )
    assert ours.endswith("| 2.5 |")  # the paper's minutes per epoch
    assert not (tmp_path / "figures").exists()  # of models that were hardly trained


@pytest.mark.figures
def test_convergence_draws_its_target_and_finds_when_it_is_reached(tmp_path, capsys, monkeypatch):
    suite = find_suite("convergence")
    lines = []
    learning_curves = figures.learning_curves

    def draw(runs, labels, *, target=None):
        lines.append(target)
        return learning_curves(runs, labels, target=target)

    monkeypatch.setattr(figures, "learning_curves", draw)
    options = ["--suite", "convergence", "--scale", "smoke", "--device", "cpu", "--epochs", "2"]
    options += ["--rows", "Last frame", "Ours", "--out", str(tmp_path)]
    assert main(options) == 0
    capsys.readouterr()
    (curve,) = [pd.read_json(p, lines=True) for p in tmp_path.glob("runs/*/curve.jsonl")]
    assert list(curve["epoch"]) == [1, 2] and curve["seconds"].is_monotonic_increasing
    # A target between the two epochs' errors is reached in one of them.
    reachable = float(curve["val_mse"].mean())
    monkeypatch.setattr(
        convergence, "SUITE", dataclasses.replace(suite, target=(reachable, "half-way"))
    )
    assert main([*options, "--report"]) == 0
    assert lines == [suite.target, (reachable, "half-way")]
    (ours,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| Ours")]
    when = curve[curve["val_mse"] <= reachable].iloc[0]
    cells = [cell.strip() for cell in ours.split("|")]
    epoch, minutes = map(float, cells[4:6])
    assert epoch == when["epoch"] and minutes == pytest.approx(when["seconds"] / 60, rel=0.1)


def test_a_timed_suite_shares_no_runs_with_others():
    changed = dataclasses.replace(find_suite("convergence"), timed=False)
    dataset = open_dataset("moving-mnist", synthetic=True)
    keys = [
        {run.key for run in plan_panel(suite, "quick", dataset, "cpu", precision="fp32")}
        for suite in (find_suite("convergence"), changed)
    ]
    assert not keys[0] & keys[1]
