"""`--verify`: others compute the same numbers, and another number of ours is found."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, broken_window, run_folders

from baselines import ConvBaseline
from benchmarks import files, metrics, run
from benchmarks.data import Arrays
from benchmarks.experiment import store
from benchmarks.experiment.engine import Died
from benchmarks.experiment.evaluate import evaluate
from benchmarks.experiment.execute import execute
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.spec import Row
from benchmarks.experiment.store import StoredRun, read_run
from benchmarks.experiment.verify import (
    TOLERANCE,
    compare_counts,
    compare_scores,
    largest_difference,
    others,
    score,
    verify,
)
from benchmarks.further_metrics import RMSE
from benchmarks.metrics import METRICS, MSE, PSNR, SSIM
from benchmarks.report import figures
from benchmarks.run import main
from tau import Predictor


@pytest.fixture
def tiny(suite, clips_file, tmp_path, monkeypatch):
    """A command that trains two rows of the tiny suite on the clips, without figures."""
    monkeypatch.setattr(run, "find_suite", lambda _: replace(suite, rows=suite.rows[:2]))
    monkeypatch.setattr(figures, "draw", lambda *_, **__: [])
    options = ("--precision", "fp32", "--device", "cpu", "--out", str(tmp_path / "out"))
    return ["--suite", "tiny", "--data", str(clips_file), *options]


def verdicts(out: str) -> list[str]:
    """The lines that --verify adds."""
    return [line for line in out.splitlines() if line.startswith(("verified ", "DIFFERS "))]


# --- the command ---------------------------------------------------------------------------------


def test_each_row_gets_a_line_after_its_run_and_from_what_is_stored(tiny, capsys):
    assert main([*tiny, "--verify"]) == 0
    lines = verdicts(capsys.readouterr().out)
    for line, label in zip(lines, ("Last frame", "Conv"), strict=True):
        assert line.startswith(f"verified {label} on own data, seed 0: mse ")
        assert re.search(r"mse \S+, mae \S+, ssim \S+, psnr \S+ \(.* scikit-image and", line)
        assert "and NumPy, 4 sequences); " in line
        assert re.search(r"; [\d,]+ parameters and [\d,]+ MACs, by fvcore the same$", line)
    assert main([*tiny, "--report", "--verify"]) == 0
    assert verdicts(capsys.readouterr().out) == lines


def test_a_changed_sample_and_a_wrong_metric_are_found(tiny, tmp_path, capsys, monkeypatch):
    assert main([*tiny, "--rows", "Conv"]) == 0
    (folder,) = run_folders(tmp_path / "out")
    report = [*tiny, "--report", "--verify"]
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "_window_sums", broken_window)
        assert main(report) == 1
    (line,) = verdicts(capsys.readouterr().out)  # the other row was not run
    assert line.startswith("DIFFERS Conv on own data, seed 0: mse ")
    assert re.search(r"e-\d\d, ssim is 0\.\d+, by others 0\.\d+, psnr \de-", line)

    samples = read_run(folder).samples()
    samples["prediction"][2, 1, 0, 5, 5] += 0.5
    files.write_npz(folder / "samples.npz", samples)
    record = read_run(folder).record
    record["files"]["samples.npz"] = files.sha256(folder / "samples.npz")
    del record[store.CHECKSUM]
    store.write_record(folder, record)
    assert main(report) == 1
    (line,) = verdicts(capsys.readouterr().out)
    assert re.search(r"DIFFERS .*: mse is [\d.]+, by others [\d.]+, mae is [\d.]+, by", line)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (["--dry-run"], "--dry-run and --update"),
        (["--check", "x.json", "--update"], "--dry-run and --update"),
        (["--report", "x.json"], "--report x.json"),
    ],
)
def test_where_there_are_no_samples_to_verify_it_is_refused(tiny, capsys, options, where):
    given = [*tiny[: tiny.index("--precision")], *options, "--verify"]
    assert main(given) == 2
    assert f"--verify has no effect on {where}" in capsys.readouterr().err


def test_a_table_of_data_sets_has_nothing_to_verify(capsys):
    assert main(["--suite", "datasets", "--verify"]) == 2
    assert "--verify has no effect on suite 'datasets'" in capsys.readouterr().err


# --- scores --------------------------------------------------------------------------------------


def noisy(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and its target in float32, [3, 2, 2, 12, 10]; targets lie in [0, 1]."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 256, (3, 2, 2, 12, 10)).astype(np.float32) / 255
    pred = true + rng.normal(0, 0.2, true.shape).astype(np.float32)  # leaves [0, 1]
    if kind == "equal":
        pred[1] = true[1]
    elif kind == "nan":
        pred[1, 0, 0, 3, 3] = np.nan
    elif kind == "infinite":
        pred[1, 0, 0, 3, 3] = np.inf
    return pred, true


@pytest.mark.parametrize("kind", ["noise", "equal", "nan", "infinite"])
@pytest.mark.parametrize("data_range", [1.0, 50.0])
def test_others_compute_every_metric_as_it_is_defined(kind, data_range):
    known = METRICS | {"rmse": RMSE}
    assert others().keys() == known.keys()
    pred, true = (x * np.float32(data_range) for x in noisy(kind))
    for name, metric in known.items():
        ours = metric(torch.from_numpy(pred), torch.from_numpy(true), data_range).numpy()
        theirs = score(others()[name], pred.astype(float), true.astype(float), data_range)
        assert theirs.shape == ours.shape == (3, 2)
        assert largest_difference(ours, theirs)[0] < TOLERANCE, name


def test_the_largest_difference_is_relative_and_sees_what_is_no_number():
    theirs = np.array([[2.0, 4.0], [np.inf, np.nan]])
    assert largest_difference(theirs, theirs)[0] == 0
    assert largest_difference(theirs * [1, 1.25], theirs) == (0.2, 5.0, 4.0)
    for wrong in (np.nan, np.inf, -np.inf):
        ours = np.array([[2.0, wrong], [np.inf, np.nan]])
        assert largest_difference(ours, theirs)[::2] == (np.inf, 4.0)
        assert largest_difference(theirs, ours)[:2] == (np.inf, 4.0)
    assert largest_difference(np.array([1e-13]), np.array([-1e-13]))[0] < TOLERANCE  # an SSIM of 0


@pytest.fixture
def conv(suite, dataset, tmp_path):
    """A run, and what is stored of it."""
    (run,) = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")
    return run, execute(run, tmp_path)


def test_a_metric_that_was_wrong_when_the_run_was_scored_is_found(
    suite, dataset, tmp_path, monkeypatch
):
    (run,) = plan_panel(suite, "smoke", dataset, "cpu", rows=["Last frame"], precision="fp32")
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "_window_sums", broken_window)
        stored = execute(run, tmp_path)
    assert next(compare_scores(run, stored, [MSE, PSNR]))[1]
    assert not next(compare_scores(run, stored, [SSIM]))[1]


def test_scores_in_the_datas_own_unit_are_verified(suite, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "rain.npy", rng.uniform(-20, 30, (20, 4, 1, 8, 8)).astype(np.float32))
    dataset = Arrays(tmp_path / "rain.npy", data_range=(-20, 30))
    (run,) = plan_panel(suite, "smoke", dataset, "cpu", rows=["Last frame"], precision="fp32")
    stored = execute(run, tmp_path / "runs")
    assert stored.means["mae"] > 8 * 8  # of frames in [0, 1], it could not
    ((text, agrees),) = compare_scores(run, stored, list(METRICS.values()))
    assert agrees, text


def test_samples_that_earlier_commits_rounded_are_scored_but_not_beside_the_stored(conv):
    run, stored = conv
    samples = {name: array.astype(np.float16) for name, array in stored.samples().items()}
    files.write_npz(stored.folder / "samples.npz", samples)
    (_, agrees), told = compare_scores(run, stored, list(METRICS.values()))
    assert agrees
    assert told == ("its stored scores are not compared, as its samples are float16", True)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_samples_are_the_first_sequences_as_they_were_scored(dataset, batch_size):
    model = ConvBaseline(dataset.clip, **SMALL)
    scores, samples = evaluate(model, dataset.test(6, batch_size, "cpu"), dataset.clip)
    past, future, prediction = (torch.from_numpy(samples[name]) for name in samples)
    assert list(samples) == ["past", "future", "prediction"] and len(past) == 4
    first = torch.cat(list(dataset.test(6, 6, "cpu")))[:4]
    assert torch.equal(torch.cat([past, future], 1), first)
    for name, metric in METRICS.items():
        again = metric(prediction, future, dataset.clip.data_range).numpy()
        assert (again == scores[name][:4]).all(), name


# --- counts --------------------------------------------------------------------------------------


class Drawing(Predictor):
    """Chooses by its frames' values, and ends the process where fvcore traces it."""

    def forward(self, past, horizon):
        if torch.jit.is_tracing():
            raise SystemExit(3)
        return past[:, -1:].repeat(1, horizon, 1, 1, 1)


def test_a_failed_row_has_no_line_and_one_that_cannot_be_counted_says_why(suite, dataset, tmp_path):
    suite = replace(suite, rows=(suite.rows[0], Row("Drawing", Drawing)))
    runs = plan_panel(suite, "smoke", dataset, "cpu", precision="fp32")
    failed = StoredRun(Path(), {"status": "failed", "reason": "out of luck"})
    runs = [replace(of, panel=suite.panels[0].name) for of in runs]
    text, status = verify(suite, runs, [failed, execute(runs[1], tmp_path)])
    (line,) = verdicts(text)
    assert status == 0 and line.startswith("verified Drawing on moving-mnist, seed 0: mse ")
    assert "; fvcore cannot count it: " in line and "exit status" in line


def test_counts_that_differ_are_told_and_parameters_are_a_fault():
    stored = StoredRun(Path(), {"cost": {"parameters": 1_000, "macs": 25_000}})
    assert compare_counts(stored, (1_000, 25_000)) == (
        "1,000 parameters and 25,000 MACs, by fvcore the same",
        True,
    )
    assert compare_counts(stored, (1_000, 24_000)) == (
        "1,000 parameters and 25,000 MACs, by fvcore 1,000 and 24,000",
        True,
    )
    assert not compare_counts(stored, (999, 25_000))[1]
    for outcome in (Died(-9), ValueError("killed")):
        text, agrees = compare_counts(stored, outcome)
        assert agrees and "fvcore cannot count it: " in text and "killed" in text
