"""Files are written whole or not at all, and a trained predictor can be loaded from its folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import benchmarks
from benchmarks import files, store
from benchmarks.execute import execute
from benchmarks.suite import plan


def test_arrays_come_back(tmp_path):
    arrays = {"mse": np.arange(6.0).reshape(2, 3)}
    files.write_npz(tmp_path / "scores.npz", arrays)
    run = store.StoredRun(tmp_path, {"status": "done"})
    assert (run.scores()["mse"] == arrays["mse"]).all()


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "record.json").write_text('{"half')
    with pytest.raises(ValueError, match=r"record\.json is not valid JSON"):
        store.read_run(tmp_path)


def test_load_needs_a_finished_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        store.load(tmp_path)


def test_setting_aside_loses_nothing(tmp_path):
    folder = tmp_path / "run"
    for content in ("first", "second"):
        folder.mkdir()
        (folder / "x").write_text(content)
        store.set_aside(folder)
    store.set_aside(folder)  # nothing there: nothing to do
    names = {p.name: (p / "x").read_text() for p in tmp_path.iterdir()}
    assert names == {"run.replaced-1": "first", "run.replaced-2": "second"}


def test_load_returns_the_evaluated_predictor(suite, dataset, tmp_path):
    run = plan(suite, "smoke", dataset, "cpu", rows=["TAU"], precision="fp32")[0]
    stored = execute(run, suite, dataset, tmp_path)
    model = benchmarks.load(tmp_path / run.folder)
    assert not model.training
    samples = stored.samples()
    past = torch.from_numpy(samples["past"]).float()
    with torch.no_grad():
        prediction = model(past, 3)
    assert np.abs(prediction.numpy() - samples["prediction"]).max() < 2e-3  # stored in float16


def test_a_record_says_what_it_was_measured_with(suite, dataset, tmp_path):
    run = plan(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")[0]
    record = execute(run, suite, dataset, tmp_path).record
    assert record == json.loads((tmp_path / run.folder / "record.json").read_text())
    assert record["key"] == run.key and record["seed"] == 0 and record["status"] == "done"
    assert record["versions"]["torch"] == torch.__version__
    assert record["device"]["type"] == "cpu" and record["device"]["threads"] > 0
    assert record["data"]["digest"] == dataset.digest
    assert record["steps"] == 8 and record["test_sequences"] == 4
    scores = store.read_run(tmp_path / run.folder).scores()
    for name, mean in record["means"].items():
        assert scores[name].shape == (4, 3)
        assert mean == pytest.approx(scores[name].mean(), rel=1e-5)
    assert record["cost"]["paper_parameters"] > record["cost"]["parameters"] > 0
    assert record["cost"]["training_sequences_per_second"] > 0
    names = {p.name for p in (tmp_path / run.folder).iterdir()} - {".lock"}
    assert names == {"record.json", "curve.jsonl", "scores.npz", "samples.npz", "model.pt"}


def test_a_finished_run_is_not_run_again(suite, dataset, tmp_path):
    run = plan(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")[0]
    execute(run, suite, dataset, tmp_path)
    path = tmp_path / run.folder / "record.json"
    before = path.stat().st_mtime_ns
    execute(run, suite, dataset, tmp_path)
    assert path.stat().st_mtime_ns == before


def test_two_processes_do_not_work_on_one_run(suite, dataset, tmp_path):
    from filelock import FileLock

    run = plan(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")[0]
    (tmp_path / run.folder).mkdir()
    with (
        FileLock(tmp_path / run.folder / ".lock"),
        pytest.raises(BlockingIOError, match="another process"),
    ):
        execute(run, suite, dataset, tmp_path)
