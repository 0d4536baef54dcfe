"""Files are written whole or not at all, and a trained predictor can be loaded from its folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks
from benchmarks import files
from benchmarks.experiment import execute as execution
from benchmarks.experiment import store
from benchmarks.experiment.execute import execute, find_run, locked
from benchmarks.experiment.plan import plan_panel


def test_arrays_come_back(tmp_path):
    arrays = {"mse": np.arange(6.0).reshape(2, 3)}
    files.write_npz(tmp_path / "scores.npz", arrays)
    run = store.StoredRun(tmp_path, {"status": "done"})
    assert (run.scores()["mse"] == arrays["mse"]).all()


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "record.json").write_text('{"half')
    with pytest.raises(ValueError, match=r"record\.json is not valid JSON"):
        store.read_run(tmp_path)


def test_load_returns_the_evaluated_predictor(suite, dataset, tmp_path):
    run = plan_panel(suite, "smoke", dataset, "cpu", rows=["TAU"], precision="fp32")[0]
    stored = execute(run, tmp_path)
    model = benchmarks.load(tmp_path / run.folder)
    assert not model.model.training
    samples = stored.samples()
    past = torch.from_numpy(samples["past"]).float()
    with torch.no_grad():
        prediction = model(past, 3)
    assert np.abs(prediction.numpy() - samples["prediction"]).max() < 1e-5


def test_a_record_says_what_it_was_measured_with(suite, dataset, tmp_path):
    run = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")[0]
    record = execute(run, tmp_path).record
    stored = json.loads((tmp_path / run.folder / "record.json").read_text())
    assert record == {name: stored[name] for name in record}
    assert record["key"] == run.key and record["seed"] == 0 and record["status"] == "done"
    assert record["versions"]["torch"] == torch.__version__
    assert record["device"]["type"] == "cpu" and record["device"]["threads"] > 0
    assert record["data"]["digest"] == dataset.digest
    assert record["steps"] == 8 and record["test_sequences"] == 4
    assert record["overlap"] == 1
    scores = store.read_run(tmp_path / run.folder).scores()
    for name, mean in record["means"].items():
        assert scores[name].shape == (4, 3)
        assert mean == pytest.approx(scores[name].mean(), rel=1e-5)
    assert record["cost"]["paper_parameters"] > record["cost"]["parameters"] > 0
    assert record["cost"]["training_sequences_per_second"] > 0
    names = {p.name for p in (tmp_path / run.folder).iterdir()}
    assert names == {"record.json", "curve.jsonl", "scores.npz", "samples.npz", "model.pt"}


def test_a_finished_run_is_not_run_again(suite, dataset, tmp_path):
    run = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")[0]
    execute(run, tmp_path)
    path = tmp_path / run.folder / "record.json"
    before = path.stat().st_mtime_ns
    execute(run, tmp_path)
    assert path.stat().st_mtime_ns == before


def test_two_processes_do_not_work_on_one_run(suite, dataset, tmp_path):
    run = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")[0]
    with locked(tmp_path, run), pytest.raises(BlockingIOError, match="another process"):
        execute(run, tmp_path)


# What is stored is not believed


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder that keeps the run of `done`, so that it is trained once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def done(suite, dataset, trained, tmp_path):
    """A run, and its folder below tmp_path when it is done."""
    run = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")[0]
    folder = execute(run, trained).folder
    return run, Path(shutil.copytree(folder, tmp_path / run.folder))


@pytest.mark.parametrize(
    ("name", "value"),
    [("protocol", 99), ("key", "0" * 12), ("seed", 1), ("row", "TAU"), ("scale", "paper")],
)
def test_a_record_of_another_run_is_refused(done, tmp_path, name, value):
    run, folder = done
    store.write_record(folder, store.read_run(folder).record | {name: value})
    with pytest.raises(ValueError, match=rf"record\.json has {name} .*; expected .* move its"):
        find_run(run, tmp_path)


def test_edited_means_are_refused(done, tmp_path):
    run, folder = done
    record = json.loads((folder / "record.json").read_text())
    record["means"]["mse"] = 0.01
    (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"record\.json is damaged or was changed"):
        find_run(run, tmp_path)
    store.write_record(folder, record)
    with pytest.raises(ValueError, match=r"means that are not those of scores\.npz"):
        find_run(run, tmp_path)


def test_scores_of_other_numbers_are_refused(done, tmp_path):
    run, folder = done
    scores = store.read_run(folder).scores()
    files.write_npz(folder / "scores.npz", {name: values[::-1] for name, values in scores.items()})
    with pytest.raises(ValueError, match=r"scores\.npz is damaged or was changed"):
        find_run(run, tmp_path)


@pytest.mark.parametrize("name", ["scores.npz", "samples.npz", "curve.jsonl"])
@pytest.mark.parametrize("how", ["missing", "cut", "flipped", "empty", "folder", "pipe"])
def test_a_damaged_file_is_named_with_the_remedy(done, tmp_path, name, how):
    run, folder = done
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes")
        os.mkfifo(path)
    elif how != "missing":
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 16
        path.write_bytes({"cut": content[:-9], "flipped": flipped, "empty": b""}[how])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        find_run(run, tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", "null", "{}", '{"status": "done"}', "[" * 99_999, "\ud800"],
)
def test_a_damaged_record_is_named_with_the_remedy(done, tmp_path, content):
    run, folder = done
    (folder / "record.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"record\.json .*move its folder away"):
        find_run(run, tmp_path)


@pytest.mark.parametrize("name", ["means", "files", "clip", "status", "cost"])
@pytest.mark.parametrize("value", [None, 3, "x", [], {"mse": "x"}])
def test_an_entry_of_another_kind_is_named(done, tmp_path, name, value):
    run, folder = done
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | {name: value}))
    with pytest.raises(ValueError, match=r"record\.json"):
        find_run(run, tmp_path)


def test_a_run_that_only_reads_its_last_checkpoint_tells_no_memory(
    suite, dataset, tmp_path, monkeypatch
):
    run = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")[0]
    with monkeypatch.context() as patch:
        patch.setattr(execution, "evaluate", None)  # as if it were stopped while it is tested
        assert not execute(run, tmp_path).done
    record = execute(run, tmp_path).record
    assert record["steps"] == 8 and record["cost"]["peak_memory_bytes"] is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_project_around_the_package_is_not_taken_for_its_own(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x"]
    for command in (["init"], ["commit", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    monkeypatch.setattr(store, "ROOT", tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", store.provenance("cpu")["commit"])
    installed = tmp_path / "site-packages"
    installed.mkdir()
    monkeypatch.setattr(store, "ROOT", installed)
    found = store.provenance("cpu")
    assert (found["commit"], found["dirty"]) == (None, None)
