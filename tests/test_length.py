"""Rows that train for equal minutes: how many steps, also after a stop, and what is told."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace

import pytest
import torch

from benchmarks.experiment import length, schedule
from benchmarks.experiment.execute import execute
from benchmarks.experiment.fabric import make_fabric
from benchmarks.experiment.length import filling, seconds_per_step, settle
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.spec import Suite, Training
from benchmarks.experiment.store import LENGTH
from benchmarks.experiment.train import _Loop
from benchmarks.metrics import PEAK_MEMORY
from benchmarks.report import figures, stats
from benchmarks.report.markdown import markdown
from benchmarks.report.table import build
from benchmarks.run import main
from benchmarks.stopping import Stopped


def planned(suite: Suite, dataset, minutes=0.01, **changes):
    return plan_panel(suite, "smoke", dataset, "cpu", precision="fp32", minutes=minutes, **changes)


@pytest.fixture
def timed(monkeypatch):
    """Sets what a step is taken to last, per label; counts the timings."""
    seconds = {"Conv": 0.02, "TAU": 0.03}
    calls = []

    def measured(run, fabric):
        calls.append(run.row.label)
        return seconds[run.row.label]

    monkeypatch.setattr(length, "seconds_per_step", measured)
    return seconds, calls


@pytest.mark.parametrize("minutes", [0.5, 3, 60, 1_000])
@pytest.mark.parametrize("seconds", [0.003, 0.07, 1.3])
@pytest.mark.parametrize("sequences", [4, 180, 10_000])
def test_epochs_fill_the_minutes(minutes, seconds, sequences):
    training = Training(epochs=None, minutes=minutes, sequences=sequences, batch_size=4)
    filled = filling(training, seconds)
    wanted = round(60 * minutes / seconds)
    assert abs(filled.steps - wanted) <= max(0.026 * wanted, 0.5)
    assert filled.steps_per_epoch <= training.steps_per_epoch
    assert filled.epochs >= min(20, wanted)
    assert filled.minutes == minutes


def test_a_step_longer_than_all_the_time_is_one_step():
    filled = filling(Training(epochs=None, minutes=0.1, sequences=40, batch_size=4), 100.0)
    assert (filled.epochs, filled.steps) == (1, 1)


def test_timing_takes_real_steps_and_leaves_nothing(suite, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    steps = []
    advance = _Loop.advance
    monkeypatch.setattr(_Loop, "advance", lambda loop: steps.append(loop.step) or advance(loop))
    (run,) = planned(suite, dataset, rows=["TAU"])
    assert seconds_per_step(run, make_fabric("cpu", "fp32")) > 0
    assert steps == list(range(len(steps))) and len(steps) >= 20
    assert sorted(tmp_path.iterdir()) == before


def test_the_length_is_chosen_once_and_trained_to_its_end(suite, dataset, tmp_path, timed):
    _, calls = timed
    (run,) = planned(suite, dataset, rows=["TAU"])
    stored = execute(run, tmp_path)
    assert stored.done, stored.record.get("reason")
    training = stored.record["training"]
    assert (training["minutes"], training["epochs"], training["sequences"]) == (0.01, 20, 4)
    assert stored.record["steps"] == 20 and calls == ["TAU"]
    assert list(stored.curve()["sequences"]) == list(range(4, 84, 4))


def test_a_stopped_run_ends_where_it_would_have_ended(suite, dataset, tmp_path, timed, monkeypatch):
    seconds, calls = timed
    (run,) = planned(suite, dataset, rows=["TAU"])
    whole = execute(run, tmp_path / "whole")
    finish_epoch = _Loop.finish_epoch

    def stop(loop, progress):
        finish_epoch(loop, progress)
        if loop.epochs == 7:
            raise Stopped(signal.SIGTERM)

    with monkeypatch.context() as context, pytest.raises(Stopped):
        context.setattr(_Loop, "finish_epoch", stop)
        execute(run, tmp_path / "part")
    seconds["TAU"] = 1e-5  # another machine would now train for longer
    resumed = execute(run, tmp_path / "part")
    assert resumed.means == whole.means and calls == ["TAU", "TAU"]
    assert resumed.record["training"] == whole.record["training"]


@pytest.mark.parametrize(("minutes", "threads"), [(0.01, 2), (None, 4)])
def test_a_row_alone_has_the_threads_that_it_has_beside_others(
    suite, dataset, tmp_path, monkeypatch, minutes, threads
):
    """Or a table of equal time could not be made of two commands."""
    given = []

    class Recording(schedule.Pool):
        def __init__(self, size, threads, device, view):
            given.append((size, threads))
            raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "Pool", Recording)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    epochs = None if minutes else 1
    runs = planned(suite, dataset, minutes, epochs=epochs, rows=["TAU"])
    with pytest.raises(KeyboardInterrupt):
        schedule.execute_all(runs, tmp_path, jobs=2)
    assert given == [(1, threads)]


@pytest.mark.parametrize("content", ["", "{}", '{"key": "another", "epochs": 3, "sequences": 4}'])
def test_a_damaged_length_is_named_with_the_remedy(suite, dataset, tmp_path, timed, content):
    (run,) = planned(suite, dataset, rows=["TAU"])
    (tmp_path / LENGTH).write_text(content)
    with pytest.raises(ValueError, match=rf"{LENGTH}.*move its folder away"):
        settle(run, tmp_path, make_fabric("cpu", "fp32"))


def test_a_table_tells_minutes_and_what_each_row_had(suite, dataset, tmp_path, timed):
    runs = planned(suite, dataset)
    panel = suite.panels[0]
    stored = [execute(run, tmp_path) for run in runs]
    assert [run.record["status"] for run in stored] == ["done"] * 3
    text = markdown(build(suite, "t", [(panel, stored)]))
    assert "0.01 minutes for each row, on this machine" in text
    for row, told in zip(stored[1:], ("30 epochs, 120", "20 epochs, 80"), strict=True):
        took = f"{row.record['seconds']['train'] / 60:.3g}"
        assert f"{told} sequences in all, in {took} minutes" in text
    curves = figures.learning_curves(stored, [row.label for row in suite.rows])
    assert curves.axes[0].get_xlabel() == "epoch"  # epochs of 4 sequences for both

    other = {"name": "another processor", "type": "cpu", "threads": 1}
    moved = replace(stored[1], record=stored[1].record | {"device": other})
    with pytest.raises(ValueError, match="runs of one table must agree in device"):
        build(suite, "t", [(panel, [stored[0], moved, stored[2]])])


def test_curves_of_unequal_epochs_are_over_sequences(suite, dataset, tmp_path, timed):
    seconds, _ = timed
    seconds["Conv"] = 0.01  # 60 steps: epochs of three batches
    stored = [execute(run, tmp_path) for run in planned(suite, dataset)]
    curves = figures.learning_curves(stored, [row.label for row in suite.rows])
    assert curves.axes[0].get_xlabel() == "training sequences"
    longest = max(line.get_xdata()[-1] for line in curves.axes[0].lines)
    assert longest == 240


def test_rows_with_fewer_sequences_than_others_are_marked(suite, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(stats, "LEAST_SEQUENCES", 4)
    short = replace(suite.rows[1], training={"smoke": {"sequences": 8}})
    suite = replace(suite, rows=(suite.rows[0], short, suite.rows[2]))
    runs = plan_panel(suite, "smoke", dataset, "cpu", precision="fp32")
    stored = [execute(run, tmp_path) for run in runs]
    text = markdown(build(suite, "t", [(suite.panels[0], stored)]))
    assert "trained on 16 sequences, where others have 32" in text
    assert "rows that trained on fewer sequences are left out" in text
    conv, best = (re.search(rf"^\| {label}.*$", text, re.M)[0] for label in ("Conv", "TAU"))
    assert "**" not in conv and "**" in best
    assert re.search(r"\| Conv<sup>a</sup> \|", text) and "| TAU |" in text
    costs = replace(suite.panels[0], columns=(PEAK_MEMORY,))  # which compare all the same
    assert "where others have" not in markdown(build(suite, "t", [(costs, stored)]))


# The command


SUITE = """
from baselines import ConvBaseline, LastFrame
from benchmarks import Panel, Row, Suite, Training
from benchmarks.data import MovingMNIST
SUITE = Suite(
    "minutes", "Minutes", (Panel(MovingMNIST),),
    (Row("Last frame", LastFrame), Row("Conv", ConvBaseline, dict(spatial_hidden=4,
     temporal_hidden=8, spatial_depth=2, temporal_depth=2))),
    {"smoke": Training(epochs=2, sequences=16, batch_size=4, val_sequences=4, test_sequences=4)},
)
"""


@pytest.fixture
def command(tmp_path, clips_file, request):
    name = "minutes_" + re.sub(r"\W", "_", request.node.name)  # a module of this name, once
    path = tmp_path / f"{name}.py"
    path.write_text(SUITE)
    out = ("--out", str(tmp_path / "out"), "--no-figures", "--device", "cpu")
    return ["--suite", str(path), "--data", str(clips_file), *out]


def test_minutes_on_the_command_line(command, tmp_path, capsys):
    assert main([*command, "--minutes", "0.005"]) == 0
    assert "0.005 minutes for each row" in capsys.readouterr().out
    (record,) = (tmp_path / "out" / "records").iterdir()
    assert "-0.005-minutes-" in record.name
    frame, conv = json.loads(record.read_text())
    assert conv["steps"] >= 1 and frame["steps"] == 0
    assert main([*command, "--minutes", "0.005", "--dry-run"]) == 0
    assert "0.005 minutes of training in all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "0"], "minutes is 0.0; expected a positive number"),
        (["--minutes", "nan"], "minutes is nan; expected a positive number"),
        (["--minutes", "1", "--epochs", "2"], "--epochs 2 and --minutes 1 both tell how long"),
    ],
)
def test_minutes_that_make_no_sense_are_refused(command, capsys, options, message):
    assert main([*command, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_training_needs_epochs_or_minutes():
    with pytest.raises(ValueError, match="epochs is None, and so is minutes"):
        Training(epochs=None)
