"""What the command shows of its runs: one line on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pytest
from conftest import Terminal

from benchmarks import run as command
from benchmarks.experiment import progress, view
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.progress import Epoch, Progress, Said, Step, Warned
from benchmarks.experiment.store import StoredRun
from benchmarks.experiment.trial import Trial
from benchmarks.experiment.view import View
from benchmarks.metrics import MSE, PSNR
from benchmarks.run import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def clock(monkeypatch):
    """The view's clock, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(view.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def runs(suite, dataset):
    return plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], seeds=range(4))


def shown(runs, **options):
    seen = View(len(runs), {runs[0].panel: (MSE, PSNR)}, **options)
    seen.trials = {run.folder: Trial(1, 1, 1000, {}) for run in runs}
    return seen


def stored(run):
    record = {"status": "done", "means": {"mse": 1.234, "psnr": 20.0}, "seconds": {"train": 90.0}}
    return StoredRun(Path(run.folder), record)


def test_time_left_is_that_of_all_rows_on_the_jobs_there_are(runs, clock):
    seen = shown(runs)
    seen.jobs, seen.waiting = 2, list(runs[2:])
    for run in runs[:2]:
        seen.starts(run, 1)
    assert seen.seconds_left() is None, "nothing tells yet"
    for run in runs[:2]:
        seen.receive(run.folder, Step(0, 100, math.nan, math.nan))
    clock[0] = 10.0
    seen.receive(runs[0].folder, Step(50, 100, 0.1, 0.1))  # 10 s more
    seen.receive(runs[1].folder, Step(20, 100, 0.1, 0.1))  # 40 s more
    # 700 MACs in 20 s: 28.6 s for each of the others, both after the first
    assert seen.seconds_left() == pytest.approx(10 + 2 * 1000 / 700 * 20)
    seen.trials = {run.folder: Trial(1, 1, None, {}) for run in runs}
    seen.waiting = [replace(r, training=replace(r.training, minutes=2.0)) for r in seen.waiting]
    assert seen.seconds_left() == pytest.approx(40 + 120)


def test_a_run_that_continues_is_timed_from_where_it_does(runs, clock):
    seen = shown(runs[:1])
    seen.starts(runs[0], 1)
    seen.receive(runs[0].folder, Step(80, 100, math.nan, math.nan))
    clock[0] = 5.0
    seen.receive(runs[0].folder, Step(90, 100, 0.1, 0.1))
    assert seen.seconds_left() == pytest.approx(5.0)


def test_a_terminal_has_one_line_for_all_rows(runs, clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with shown(runs) as seen:
        seen.waiting = list(runs[2:])
        for run in runs[:2]:
            seen.starts(run, 1)
            seen.receive(run.folder, Step(0, 100, math.nan, math.nan))
        for run in runs[:2]:
            clock[0] += 10.0
            seen.receive(run.folder, Step(50, 100, 0.1234, 0.1))
            seen.receive(run.folder, Epoch("epoch 1"))
        line = terminal.getvalue().rpartition("\r")[2]
        assert "0 of 4 done" in line and "25%" in line and " left | " in line
        assert "Conv 50/100 loss 0.1234; Conv seed 1 50/100 loss 0.1234" in line
        seen.ends(runs[0], stored(runs[0]))
        seen.receive(runs[1].folder, Said("continued"))
    lines = [part.rpartition("\r")[2] for part in terminal.getvalue().splitlines()]
    own = f"Conv on {runs[0].panel}, seed 0: MSE 1.23, PSNR 20.00 dB, 1.5 minutes of training"
    assert [line for line in lines if line.startswith("Conv")] == [own, "Conv: continued"]
    assert "epoch 1" not in terminal.getvalue() and "starts" not in terminal.getvalue()


def test_a_log_has_plain_lines_and_no_line_that_is_redrawn(runs, capsys):
    with shown(runs) as seen:
        seen.starts(runs[0], 1)
        for message in (Step(0, 9, math.nan, 1.0), Epoch("epoch 1"), Step(9, 9, 0.1, 1.0)):
            seen.receive(runs[0].folder, message)
        seen.ends(runs[0], stored(runs[0]))
    err = capsys.readouterr().err
    where = f"Conv on {runs[0].panel}, seed 0"
    numbers = "MSE 1.23, PSNR 20.00 dB, 1.5 minutes of training"
    assert err == f"{where}: starts (1 of 4)\nConv: epoch 1\n{where}: {numbers}\n"


def test_quiet_shows_failures_alone(runs, capsys):
    with shown(runs, quiet=True) as seen:
        for run in runs[:2]:
            seen.starts(run, 1)
            seen.receive(run.folder, Epoch("epoch 1"))
            seen.receive(run.folder, Warned("x"))
            seen.receive(run.folder, Warned("--log fails", is_error=True))
        seen.ends(runs[0], stored(runs[0]))
        seen.ends(runs[1], StoredRun(Path(), {"status": "failed", "reason": "no luck"}))
    failed = f"Conv on {runs[0].panel}, seed 1: failed: no luck"
    assert capsys.readouterr().err == f"--log fails\n{failed}\n"


def test_a_quiet_command_prints_the_table_and_the_paths(clips_file, tmp_path, capfd):
    rows = ["--suite", "ablation", "--scale", "smoke", "--rows", "Last frame", "--no-figures"]
    assert main([*rows, "--data", str(clips_file), "--out", str(tmp_path), "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert err == "" and "| Last frame" in out and str(tmp_path / "tables") in out


def test_what_a_library_says_in_each_process_is_shown_once(runs, capsys):
    seen = shown(runs)
    for run in runs:
        seen.receive(run.folder, Warned("x.py:1: UserWarning: old"))
    assert capsys.readouterr().err == "x.py:1: UserWarning: old\n"


@pytest.fixture
def pipe(monkeypatch):
    """The end at which messages of this process arrive."""
    receiver, sender = Pipe(duplex=False)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(progress.logging, "lastResort", progress.logging.lastResort)
    progress.deliver_through(sender)
    yield receiver
    progress.deliver_to(None)
    receiver.close()
    sender.close()


def test_a_process_sends_its_steps_and_warnings(pipe, monkeypatch):
    Progress("Conv", 100, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nstyle", UserWarning, stacklevel=1)
    library = progress.logging.getLogger("some.package")
    monkeypatch.setattr(library, "propagate", False)  # to pytest's own handlers
    library.warning("chatter")
    found = [pipe.recv() for _ in range(4) if pipe.poll()]
    assert found[0][:2] == (3, 100) and found[1] == Said("continued at step 3 of 100")
    assert isinstance(found[2], Warned) and found[2].text.endswith("UserWarning: old style")
    assert found[3] == Warned("chatter") and not pipe.poll()


@pytest.mark.skipif(os.name != "posix", reason="Windows has pipes of another kind")
def test_a_training_does_not_wait_for_whoever_reads_its_progress(pipe):
    told = Progress("Conv", 100, 0)
    for _ in range(3000):
        told.say("x" * 5000)
    received = 0
    while pipe.poll():
        assert isinstance(pipe.recv(), Step | Said)
        received += 1
    assert received < 3000
    pipe.close()
    told.say("nobody hears")


def test_the_list_is_a_table_of_a_hundred_columns(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["suite", "rows", "data", "sets", "scales", "title"]
    assert max(map(len, lines)) <= 100
    (ablation,) = [line for line in lines if line.startswith("ablation")]
    assert ablation.split()[1] == "10" and "moving-mnist, taxibj" in ablation
    assert "    Last frame, ConvLSTM" in lines[lines.index(ablation) + 1]


@pytest.mark.slow
def test_a_file_that_hides_a_package_is_named(tmp_path):
    (tmp_path / "numpy.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--list"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'numpy.py'} hides the package 'numpy'")
    assert done.stderr.count("\n") == 1


def test_shells_complete_suites_and_rows():
    shtab = pytest.importorskip("shtab")
    script = shtab.complete(command.completion(), shell="bash")
    for word in ("ablation", "PredRNN++", "kth-action", "--quiet", "wandb-offline"):
        assert word in script


def test_completion_takes_what_the_command_takes():
    parser = command.completion()
    assert parser.parse_args(["--suite", "mmnist", "--rows", "Ours"]).rows == ["Ours"]
