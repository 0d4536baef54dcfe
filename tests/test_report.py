"""Reports of stored runs: their names, what they say of other data and of runs without result."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import files
from benchmarks.experiment import plan as planning
from benchmarks.experiment.execute import execute
from benchmarks.experiment.plan import (
    NAME_BYTES,
    Options,
    adapt,
    plan,
    plan_panel,
    table_name,
)
from benchmarks.experiment.spec import Suite
from benchmarks.experiment.store import StoredRun
from benchmarks.metrics import MSE, SECONDS_PER_EPOCH, SSIM
from benchmarks.report.write import planned
from benchmarks.report.write import report as write_report
from benchmarks.run import arguments
from benchmarks.suites import find_suite


def report(suite, scale, runs, out, name):
    return write_report(suite, scale, {suite.panels[0].name: runs}, out, name)


# --- names ---------------------------------------------------------------------------------------


def prepared(*options):
    """The suite as a command's options have it, its runs, and the options."""
    given = vars(arguments().parse_args([*options, "--device", "cpu"]))
    del given["list"]
    asked = Options(**given)
    suite = find_suite(asked.suite)
    runs = []
    if isinstance(suite, Suite):
        if asked.check is not None:
            asked = replace(asked, precision="fp32")  # as the reference's
        suite = adapt(suite, asked)
        runs = plan(suite, asked)
    precision = "auto" if asked.check is not None else asked.precision
    # without a trace in the name, on machines with a GPU too
    return suite, runs, replace(asked, device="auto", precision=precision)


def name(*options):
    suite, runs, asked = prepared(*options)
    return table_name(suite, asked, runs)


FEW = ("--suite", "convergence", "--scale", "smoke")  # three rows: quick to plan
ONE_ROW = ("--rows", "Last frame")
REFERENCE = {
    "precision": "fp32",
    "scale": "",
    "data": "",
    "made": {"seed": 0},
    "orderings": [],
    "rows": {},
}


@pytest.fixture
def clips(tmp_path):
    """A function that saves the clips of a seed under a name, and returns --data and the path."""

    def save(where, seed=0, frames=6):
        path = tmp_path / where
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        np.save(path, rng.integers(0, 255, (40, frames, 1, 16, 16), np.uint8))
        return "--data", str(path)

    return save


def test_a_plain_request_has_a_plain_name():
    assert name("--suite", "ablation", "--scale", "quick") == "ablation-quick"
    assert name("--suite", "datasets") == "datasets"
    assert name("--suite", "datasets", "--data", "synthetic") == "datasets-synthetic"
    options = ("--seeds", "3", "--epochs", "5", "--data", "synthetic", "--precision", "fp32")
    assert name(*FEW, *options) == "convergence-smoke-3-seeds-5-epochs-synthetic-fp32"


def test_requests_of_different_content_have_different_names(tmp_path, clips, monkeypatch):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "floats.npy", rng.random((40, 6, 1, 16, 16), np.float32))
    np.save(tmp_path / "recording.npy", rng.integers(0, 256, (400, 1, 16, 16), np.uint8))
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps(REFERENCE))
    own = (*clips("x.npy"), *ONE_ROW)
    floats = ("--data", str(tmp_path / "floats.npy"), *ONE_ROW, "--data-range")
    windows = ("--data", str(tmp_path / "recording.npy"), *ONE_ROW, "--past", "3", "--future", "3")
    requests = [
        (),
        ("--rows", "PredRNN"),
        ("--rows", "PredRNN++"),
        ("--rows", "PredRNN", "PredRNN++"),
        ("--seeds", "2"),
        ("--epochs", "2"),
        ("--batch-size", "2"),
        ("--data", "synthetic"),
        ("--data", "synthetic", "--dataset", "kth"),
        ("--data", "synthetic", "--dataset", "taxibj"),
        ("--precision", "fp32"),
        ("--check", str(reference)),
        own,
        (*own, "--past", "2"),
        (*own, "--future", "2"),
        (*clips("a/x.npy", seed=1), *ONE_ROW),
        (*clips("b/x.npy", seed=2), *ONE_ROW),
        windows,
        (*windows, "--stride", "2"),
        (*floats, "1"),
        (*floats, "2"),
        (*floats, "-1", "2"),
    ]
    names = [name(*FEW, *request) for request in requests]
    names += [name(*FEW, *own, "--pad", "20x20"), name(*FEW, *own, "--crop", "8x8")]
    names.append(name(*FEW, *own, "--layout", "NTCHW"))
    monkeypatch.setattr(planning, "group_size", lambda: 2)
    names.append(name(*FEW))
    assert names[-1] == "convergence-smoke-2-processes"
    assert len(set(names)) == len(names), sorted(names)
    assert not [x for x in names for y in names if x.startswith(f"{y}-moving-mnist")]


def test_suites_of_one_name_in_two_files_have_tables_of_their_own(tmp_path, monkeypatch):
    names = []
    for folder in ("one", "two"):
        path = tmp_path / folder / "a_suite_in_two_folders.py"
        path.parent.mkdir()
        path.write_text("from benchmarks.suites.smoke import SUITE")
        monkeypatch.chdir(path.parent)
        names += [name("--suite", str(path), *ONE_ROW), name("--suite", path.name, *ONE_ROW)]
        monkeypatch.delitem(sys.modules, path.stem)
    assert len(set(names)) == 2
    assert all(found.startswith("smoke-smoke-") for found in names)


def test_one_request_has_one_name_however_it_is_spelled(tmp_path, clips, monkeypatch):
    _, path = clips("folder/x.npy")
    monkeypatch.chdir(tmp_path)
    spelled = [path, "folder/x.npy", "./folder/../folder/x.npy"]
    assert len({name(*FEW, *ONE_ROW, "--data", text) for text in spelled}) == 1
    rows = [("PredRNN", "SimVP"), ("SimVP", "PredRNN"), ("SimVP", "PredRNN", "SimVP")]
    assert len({name(*FEW, "--rows", *labels) for labels in rows}) == 1


def test_other_content_in_the_same_file_has_another_name(clips):
    names = [name(*FEW, *ONE_ROW, *clips("x.npy", seed)) for seed in (0, 1)]
    assert len(set(names)) == 2
    assert all(re.fullmatch("convergence-smoke-last-frame-x-[0-9a-f]{8}", found) for found in names)


@pytest.mark.parametrize(
    "file",
    [
        *("x" * 228 + ".npy", "my_data 50%&#_ü.npy", "64²/x.npy", "²/².npy", "..a b.npy"),
        *("世界.npy", "new\nline.npy", os.fsdecode(b"not UTF-8 \xff\xe4.npy")),
    ],
)
def test_any_file_gives_a_name_that_is_short_and_safe(clips, file):
    try:
        data = clips(file)
    except OSError:
        pytest.skip("this file system has no such names")
    found = name(*FEW, *data, "--rows", "Conv-TT-LSTM", "E3D-LSTM", "LMC-Memory", "--seeds", "10")
    assert re.fullmatch("[a-z0-9-]+-[0-9a-f]{8}", found)
    assert len(found) <= NAME_BYTES


def test_a_default_that_is_said_does_not_change_a_name():
    said = ("--precision", "".join(["au", "to"]))  # another object than the default
    assert name(*FEW, *said) == name(*FEW)


def test_the_longest_name_of_a_file_has_less_than_200_bytes(clips):
    data = clips("x" * 99 + ".npy")
    suite, runs, asked = prepared(*FEW, *data, "--rows", "Conv-TT-LSTM", "E3D-LSTM")
    suite = replace(suite, name="n" * 60)
    asked = replace(asked, seeds=10**9, epochs=10**9, past=10**9, stride=10**9)
    found = table_name(suite, asked, runs)
    assert len(f"{found}-{'n' * 60}-error-per-frame.png") < 200
    assert table_name(suite, replace(asked, epochs=1), runs) != found


# --- other data than the suite's -----------------------------------------------------------------


def shown(*options):
    return prepared(*options)[0]


@pytest.mark.parametrize("name", ["mmnist", "ablation", "kth20", "caltech", "efficiency"])
def test_own_data_do_not_stand_beside_published_numbers(name, clips):
    data = clips("mine.npy", frames=20)
    suite = shown("--suite", name, "--scale", "smoke", *data, "--rows", "Ours")
    assert suite.title == f"Own data: mine.npy, rows of {name}"
    assert (suite.published, suite.published_columns, len(suite.panels)) == (None, (), 1)
    assert suite.published_elsewhere == ()
    assert not suite.notes and not any(row.note for row in suite.rows)
    assert suite.target is None and suite.panels[0].title == ""


def test_own_data_have_no_target_to_reach(clips):
    data = clips("mine.npy", frames=20)
    suite = shown("--suite", "convergence", "--scale", "smoke", *data)
    assert suite.target is None
    assert suite.panels[0].columns == (MSE, SSIM, SECONDS_PER_EPOCH)


def test_a_suite_for_own_data_keeps_what_it_says(clips):
    suite = shown("--suite", "compare", "--scale", "smoke", *clips("mine.npy", frames=20))
    assert suite.title == "Comparison on own data" and any(row.note for row in suite.rows)


def test_another_data_set_has_a_title_of_its_own_and_no_published_numbers():
    options = ("--suite", "kth20", "--scale", "smoke", "--data", "synthetic", "--dataset")
    suite = shown(*options, "taxibj")
    assert suite.title == "Data set taxibj, rows of kth20"
    assert suite.published_columns == () and not any(row.note for row in suite.rows)
    assert shown(*options, "kth-action") is find_suite("kth20")


@pytest.mark.parametrize("name", ["kth20", "kth40"])
def test_another_version_of_the_same_data_set_is_named_in_the_title(name):
    options = ("--scale", "smoke", "--data", "synthetic", "--rows", "Ours", "--dataset", "kth")
    suite, runs, _ = prepared("--suite", name, *options)
    own = find_suite(name)
    assert suite.title == f"{own.title}, on kth"
    assert suite.published_columns == own.published_columns
    assert runs[0].clip.future == own.panels[0].clip.future


# --- runs without a result -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder that keeps the runs of `stored`, so that they are trained once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def stored(suite, dataset, trained, tmp_path):
    """The finished runs of three tiny rows, Last frame, Conv and TAU, below tmp_path/out."""
    folder = tmp_path / "out" / "runs"
    runs = plan_panel(suite, "smoke", dataset, "cpu", precision="fp32", epochs=1)
    done = [execute(run, trained) for run in runs]
    shutil.copytree(trained, folder)
    return [StoredRun(folder / run.folder.name, run.record) for run in done]


def test_a_damaged_run_is_shown_as_unusable_and_the_others_stay(suite, stored, tmp_path):
    out = tmp_path / "out"
    whole = report(suite, "smoke", stored, out, "whole")
    (stored[1].folder / "samples.npz").write_bytes(b"PK\x03\x04 cut short")
    found = report(suite, "smoke", stored, out, "damaged")
    lines = {line.split("|")[1].strip(): line for line in found.text.splitlines() if "|" in line}
    assert "| unusable |" in lines["Conv<sup>a</sup>"]
    assert f"{stored[1].folder.name}/samples.npz cannot be read" in found.text
    for label in ("Last frame", "TAU"):
        assert lines[label].replace("*", "") in whole.text.replace("*", "")
    assert [run.record["status"] for run in found.runs] == ["done", "unusable", "done"]
    names = [path.name.replace("whole", "damaged") for path in whole.paths]
    assert [path.name for path in found.paths] == names and all(p.exists() for p in found.paths)
    (record,) = [r for r in json.loads((out / "records/damaged.json").read_text()) if "reason" in r]
    assert record["row"] == "Conv" and "samples.npz" in record["reason"]


@pytest.mark.parametrize("file", ["scores.npz", "samples.npz", "curve.jsonl"])
def test_whatever_is_damaged_is_named(suite, stored, tmp_path, file):
    run = stored[2]
    path = run.folder / file
    whole = path.read_bytes()
    other = io.BytesIO()
    np.savez(other, mse=np.zeros((2, 2)), past=np.zeros(3))
    for content in (None, b"", whole[: len(whole) // 2], other.getvalue(), b'{"epoch": 1}'):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        (found,) = report(suite, "smoke", [run], tmp_path / "out", "x").runs
        assert found.record["status"] == "unusable" and file in found.record["reason"]
        path.write_bytes(whole)
    (found,) = report(suite, "smoke", [run], tmp_path / "out", "x").runs
    assert found.done


@pytest.mark.parametrize(
    "changes",
    [{"training": []}, {"cost": {}}, {"device": None}, {"value_range": 3}, {"data": "?"}],
)
def test_a_damaged_record_is_named(suite, stored, tmp_path, changes):
    run = StoredRun(stored[2].folder, stored[2].record | changes)
    (found,) = report(suite, "smoke", [run], tmp_path / "out", "x").runs
    assert found.record["status"] == "unusable" and "record.json" in found.record["reason"]


def test_a_report_without_a_finished_run_says_so_and_draws_nothing(suite, dataset, tmp_path):
    runs = plan_panel(suite, "smoke", dataset, "cpu", precision="fp32")
    folder = tmp_path / "runs"
    missing = [planned(run, None, folder) for run in runs]
    failed = StoredRun(folder / "x", missing[1].record | {"status": "failed", "reason": "bad luck"})
    found = report(suite, "smoke", [missing[0], failed, missing[2]], tmp_path, "x")
    assert "No run has finished." in found.text and "failed: seed 0 (bad luck)" in found.text
    assert found.text.count("not run: seed 0.") == 2
    assert {path.suffix for path in found.paths} == {".tex", ".md", ".json"}
    assert not (tmp_path / "figures").exists()


def test_a_failure_of_another_row_is_not_taken_for_this_rows(suite, dataset, tmp_path):
    """Labels that differ in signs only share a folder."""
    (run,) = plan_panel(suite, "smoke", dataset, "cpu", precision="fp32", rows=["Conv"])
    record = {"status": "failed", "row": "Conv!", "seed": 0, "reason": "bad luck"}
    found = planned(run, StoredRun(tmp_path / run.folder, record), tmp_path)
    assert found.record["status"] == "unusable" and "row 'Conv!'" in found.record["reason"]
    assert found.record["row"] == "Conv"
    text = report(suite, "smoke", [found], tmp_path, "x").text
    assert "Conv<sup>a</sup> | unusable |" in text


def test_what_killed_commands_left_half_written_is_removed(suite, stored, tmp_path):
    out = tmp_path / "out"
    left = [out / folder / f"{files.PARTIAL}x.md" for folder in ("tables", "records", "figures")]
    for path in left:
        path.parent.mkdir()
        path.write_text("half")
        os.utime(path, (1, 1))
    new = out / "tables" / f"{files.PARTIAL}y.md"
    new.write_text("another command writes this")
    report(suite, "smoke", stored[:1], out, "x")
    assert not any(path.exists() for path in left) and new.exists()
