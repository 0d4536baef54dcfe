"""What one row does to its process reaches no other row, and a stopped command loses nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import run_folders, wait_for
from filelock import FileLock

from benchmarks.experiment.execute import acquire
from benchmarks.run import main
from benchmarks.stopping import Stopped, deferred, stoppable

ROOT = Path(__file__).resolve().parent.parent

SUITE = """
import ctypes, os, sys, threading, time
import torch
from benchmarks import Panel, Row, Suite, Training
from benchmarks.data import MovingMNIST
from tau import Predictor


class Scale(Predictor):
    '''The last frame times a weight; `act` says what it does to its process, and when.'''

    def __init__(self, clip, act=None, at=0, trainable=True):
        super().__init__(clip)
        self.weight = torch.nn.Parameter(torch.ones(()), requires_grad=trainable)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.act, self.at = act, at

    def forward(self, past, horizon):
        if self.act == "spoil the truth":
            base = past if past._base is None else past._base
            with torch.inference_mode():
                base.zero_()
        if self.act == "exit in forward":
            sys.exit(0)
        prediction = self.weight * past[:, -1:].expand(-1, horizon, -1, -1, -1)
        if self.act == "frame too many":
            return torch.cat([prediction, prediction[:, :1]], 1)
        if self.act == "channels":
            return prediction.repeat(1, 1, 2, 1, 1)
        if self.act == "integers":
            return (255 * prediction).long()
        if self.act == "half":
            return prediction.half()
        if self.act == "list":
            return list(prediction)
        if self.act == "nan after training" and self.calls > 1 and not self.training:
            return prediction * float("nan")
        if self.act == "nan":
            return prediction * float("nan")
        if self.act == "zeros":
            return torch.zeros_like(prediction)
        return prediction

    def loss(self, past, future):
        self.calls += 1
        if self.calls > self.at:
            if self.act == "sys.exit":
                sys.exit(0)
            if self.act == "os._exit":
                os._exit(0)
            if self.act == "crash":
                ctypes.string_at(0)
            if self.act == "kill":
                os.kill(os.getpid(), 9)
            if self.act == "leave a process behind":
                if child := os.fork():
                    print(child, file=open("left behind", "w"), flush=True)
                    os._exit(3)
                time.sleep(600)
                os._exit(0)
            if self.act == "raise":
                raise RuntimeError("out\\n of luck")
            if self.act == "interrupt":
                raise KeyboardInterrupt
            if self.act == "no gradient":
                return torch.zeros(())
            if self.act == "vector":
                return super().loss(past, future).expand(2)
            if self.act == "disturb":
                torch.set_grad_enabled(False)
                torch.set_default_dtype(torch.float64)
                torch.set_num_threads(3)
                os.chdir("/")
                torch.set_grad_enabled(True)
                threading.Thread(target=time.sleep, args=(3600,)).start()
            if self.act == "change the data":
                stat = os.stat("squares.npy")
                with open("squares.npy", "r+b") as file:
                    file.seek(-100, os.SEEK_END)
                    file.write(bytes(100))
                os.utime("squares.npy", ns=(stat.st_atime_ns, stat.st_mtime_ns))
            if self.act == "slow":
                time.sleep(0.05)
        return super().loss(past, future)


TRAINING = Training(epochs=2, sequences=8, batch_size=4, val_sequences=4, test_sequences=4,
                    precision="fp32")
SUITE = Suite("acting", "Acting", (Panel(MovingMNIST),), ROWS, {"smoke": TRAINING})
"""


@pytest.fixture
def acting(tmp_path, clips_file, request):
    """The command on a suite of rows that act: labels with the options of `Scale`."""

    def command(training: str = "", **rows: dict) -> list[str]:
        name = "acting_" + re.sub(r"\W", "_", request.node.name)
        listed = "".join(f"Row({label!r}, Scale, {options!r})," for label, options in rows.items())
        text = SUITE.replace("ROWS,", f"({listed}),")
        if training:
            text = text.replace("Training(epochs=2, sequences=8", f"Training({training}")
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        out = ("--out", str(tmp_path / "out"), "--device", "cpu", "--no-figures")
        return ["--suite", str(path), "--data", str(clips_file), *out]

    return command


def records(tmp_path: Path) -> dict[str, dict]:
    found = {}
    for folder in run_folders(tmp_path / "out"):
        for name in ("record.json", "failure.json"):
            if (folder / name).exists():
                content = json.loads((folder / name).read_text())
                found[content["row"]] = content
    return found


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("sys.exit", "the row called sys.exit(0)"),
        ("os._exit", "ended with exit status 0 and without a result"),
        ("kill", "killed (SIGKILL; out of memory?)"),
        ("raise", "RuntimeError: out of luck"),
        ("interrupt", "KeyboardInterrupt"),
        pytest.param("crash", "crashed with SIGSEGV", marks=pytest.mark.slow),
    ],
)
def test_a_row_that_ends_its_process_fails_and_the_others_are_reported(
    acting, tmp_path, capsys, act, reason
):
    assert main(acting(A={}, bad={"act": act, "at": 2}, C={})) == 1
    out = capsys.readouterr().out
    found = records(tmp_path)
    assert [found[row]["status"] for row in ("A", "bad", "C")] == ["done", "failed", "done"]
    assert reason in found["bad"]["reason"]
    assert f"FAILED bad, seed 0: {found['bad']['reason']}" in out
    assert re.search(r"\| bad.*\| failed \|", out) and "| C |" in out
    assert (tmp_path / "out" / "tables").is_dir()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_a_row_leaves_behind_is_not_waited_for(acting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(acting(A={"act": "leave a process behind", "at": 1})) == 1
    os.kill(int((tmp_path / "left behind").read_text()), signal.SIGKILL)  # it is still there
    assert "ended with exit status 3" in records(tmp_path)["A"]["reason"]


def test_a_row_that_exits_when_it_is_tried_fails_alone(acting, tmp_path, capsys):
    assert main(acting(A={}, bad={"act": "exit in forward"})) == 1
    found = records(tmp_path)
    assert (found["A"]["status"], found["bad"]["status"]) == ("done", "failed")
    assert "exit status 0 and without a result" in found["bad"]["reason"]


def test_a_row_that_changes_its_process_does_not_change_the_next_ones(
    acting, tmp_path, monkeypatch
):
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    command = [*acting(A={}, bad={"act": "disturb"}, C={}), "--jobs", "1", "--out", "out"]
    assert main(command) == 0
    found = records(tmp_path)
    assert found["bad"]["status"] == "done", "stored where it was asked for"
    assert found["A"]["means"] == found["C"]["means"]
    assert found["C"]["device"]["threads"] == threads


def test_a_row_that_changes_the_past_does_not_change_the_truth(acting, tmp_path):
    """One that zeroed the whole sequence through past._base had the best score."""
    assert main(acting(A={"act": "zeros", "trainable": False}, bad={"act": "spoil the truth"})) == 0
    found = records(tmp_path)
    assert found["bad"]["means"]["mse"] > 0
    assert found["bad"]["means"]["mse"] == pytest.approx(found["A"]["means"]["mse"], rel=0.5)


def test_a_row_with_nothing_to_train_is_scored_as_it_is(acting, tmp_path, capsys):
    assert main(acting(A={}, frozen={"trainable": False})) == 0
    found = records(tmp_path)
    assert found["frozen"]["status"] == "done" and found["frozen"]["steps"] == 0
    assert "| frozen<sup>a</sup> |" in (out := capsys.readouterr().out)
    assert "<sup>a</sup> not trained, as none of its parameters is trainable." in out


def test_scores_that_are_not_numbers_are_in_the_exit_status(acting, tmp_path, capsys):
    assert main(acting(A={}, bad={"act": "nan after training"})) == 1
    out = capsys.readouterr().out
    assert re.search(r"NOT A NUMBER bad, seed 0: .*mse", out)


WRONG = {
    "frame too many": r"its prediction has the shape \(2, 4, 1, 16, 16\); expected \(2, 3, 1",
    "channels": r"its prediction has the shape \(2, 3, 2, 16, 16\); expected \(2, 3, 1",
    "integers": r"its prediction is torch\.int64; expected torch\.float32",
    "half": r"its prediction is torch\.float16; expected torch\.float32",
    "list": r"its prediction has the shape .*list.*; expected",
    "nan": "its prediction holds NaN or infinity before any training",
    "no gradient": "its loss has no gradient",
    "vector": r"its loss is torch\.float32 \(2,\); expected a floating-point scalar",
    "raise": "RuntimeError: out of luck",
}


@pytest.mark.parametrize("act", WRONG)
def test_what_is_wrong_with_a_row_is_found_before_anything_trains(acting, tmp_path, capsys, act):
    assert main(acting(A={}, bad={"act": act})) == 2
    error = capsys.readouterr().err
    assert re.search(f"error: row 'bad': {WRONG[act]}", error), error
    assert not (tmp_path / "out").exists() or not records(tmp_path)


def test_frames_too_small_for_a_metric_are_found_before_anything_trains(acting, tmp_path, capsys):
    import numpy as np

    clips = np.random.default_rng(0).integers(0, 256, (40, 6, 1, 4, 4), np.uint8)
    np.save(tmp_path / "tiny.npy", clips)
    command = acting(A={})
    command[command.index("--data") + 1] = str(tmp_path / "tiny.npy")
    assert main(command) == 2
    assert "row 'A': frames are 4x4 pixels; SSIM needs at least 7x7" in capsys.readouterr().err


def test_all_rows_that_cannot_work_are_named_at_once(acting, capsys):
    assert main(acting(A={}, b={"act": "list"}, c={"act": "nan"})) == 2
    error = capsys.readouterr().err
    assert "row 'b'" in error and "row 'c'" in error and "Traceback" not in error


# Stopping and going on


def start(command, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.run", *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_signals if os.name == "posix" else None,
    )


def _heed_signals():
    """Undo what nohup, or a shell's background, has made of them."""
    for name in ("SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


SLOW = {"A": {"act": "slow"}, "B": {"act": "slow", "at": 1}}
LONG = "epochs=1, sequences=4000"  # 1,000 steps of 50 ms


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_writes_checkpoints_and_ends_with_a_line(acting, tmp_path, name):
    number = getattr(signal, name)
    command = acting(**SLOW, training=LONG)
    process = start([*command, "--jobs", "2", "--checkpoint-seconds", "0"])
    runs = tmp_path / "out" / "runs"
    wait_for(lambda: len(list(runs.glob("*/checkpoint.pt"))) == 2, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 128 + number, err
    assert f"stopped by {name}; the same command continues" in err
    steps = [torch.load(path, weights_only=True)["step"] for path in runs.glob("*/checkpoint.pt")]
    assert len(steps) == 2 and all(0 < step < 1000 for step in steps)
    assert len(re.findall(r"stopped after step \d+ of 1000, checkpoint written", err)) == 2
    assert "leaked" not in err


@pytest.mark.slow
def test_two_commands_on_one_plan_share_the_work(acting, tmp_path):
    command = acting(**SLOW, training="epochs=1, sequences=160")
    processes = [start([*command, "--jobs", "1", "--no-figures"]) for _ in range(2)]
    results = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    text = results[0][1] + results[1][1]
    for row in "AB":
        assert len(re.findall(rf"^{row}: epoch 1 ", text, re.M)) == 1, text
    assert all("| A |" in out and "| B |" in out for out, _ in results)


def test_fresh_leaves_a_run_alone_that_another_command_has_in_work(acting, tmp_path, capsys):
    command = acting(A={}, B={"at": 1})
    assert main(command) == 0
    before = sorted(p.name for p in run_folders(tmp_path / "out"))
    locks = sorted((tmp_path / "out" / "runs" / ".locks").iterdir())
    with FileLock(locks[-1]):
        assert main([*command, "--fresh"]) == 2
    assert "another process is working on" in capsys.readouterr().err
    assert sorted(p.name for p in run_folders(tmp_path / "out")) == before


HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "run.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    lock = FileLock(path)
    assert not acquire(lock)
    holder.kill()
    holder.communicate()
    assert path.exists() and acquire(lock)
    lock.release()


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks"), NotImplementedError("none")])
def test_a_file_system_without_locks_is_named(acting, tmp_path, capsys, monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", fail)
    assert main(acting(A={})) == 2
    assert "its file system has no file locks; mount it with them" in capsys.readouterr().err


def test_a_suite_that_is_edited_meanwhile_runs_as_it_was_planned(acting, tmp_path, monkeypatch):
    from benchmarks.experiment import schedule as workers

    command = acting(A={}, B={"at": 1})
    path = Path(command[1])
    text = path.read_text()
    start_process = workers.Pool.start

    def edit_first(self, *args, **more):
        path.write_text("raise RuntimeError('edited')")
        return start_process(self, *args, **more)

    monkeypatch.setattr(workers.Pool, "start", edit_first)
    assert main(command) == 0
    assert {record["status"] for record in records(tmp_path).values()} == {"done"}
    path.write_text(text)


def test_partial_files_of_a_killed_process_are_removed(acting, tmp_path):
    command = acting(A={"act": "raise", "at": 2})
    assert main(command) == 1
    (folder,) = run_folders(tmp_path / "out")
    (folder / ".partial-x.pt").write_bytes(b"half")
    main(command)
    assert not list(folder.glob(".partial-*"))


# Data that change


def test_data_that_change_while_a_run_reads_them_fail_it(acting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(acting(A={"act": "change the data", "at": 2})) == 1
    (record,) = records(tmp_path).values()
    assert record["status"] == "failed"
    assert "squares.npy was changed, replaced or removed" in record["reason"]


# Environments


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {
            **{"RANK": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"},
            **{"SLURM_JOB_NAME": "bash", "HOME": "", "PYTHONIOENCODING": "ascii"},
        },
        {
            **{"RANK": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "0", "LOCAL_RANK": "1"},
            **{"HOME": "/proc", "XDG_CACHE_HOME": "/proc/x", "SPATIOTEMPORAL_CACHE": ""},
            **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        },
    ],
    ids=["of Slurm", "of nonsense"],
)
def test_a_plain_command_runs_whatever_surrounds_it(acting, tmp_path, environment):
    command = acting(**{"A ± ü": {"trainable": False}})
    process = start([*command, "--no-figures"], **environment)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "MSE" in out and (tmp_path / "out" / "tables").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="needs a POSIX shell")
def test_closed_standard_streams_are_no_matter(acting, tmp_path):
    command = [sys.executable, "-m", "benchmarks.run", *acting(A={"trainable": False})]
    command = shlex.join([*command, "--no-figures"])
    process = subprocess.Popen(["sh", "-c", f"{command} <&- >&- 2>&-"], cwd=ROOT)
    assert process.wait(timeout=600) == 0
    assert records(tmp_path)["A"]["status"] == "done"
    assert list((tmp_path / "out" / "tables").glob("*.md"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written_is_named(acting, monkeypatch, capsys):
    command = acting(A={"trainable": False})
    with Path("/dev/full").open("w", buffering=1) as full, monkeypatch.context() as context:
        context.setattr(sys, "stdout", full)
        assert main(command) == 2
    assert "error: standard output cannot be written: No space left" in capsys.readouterr().err


# Signals


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT"])
def test_a_signal_in_a_deferred_block_comes_after_it(name):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # nohup may have it ignored
    done = []
    with pytest.raises(Stopped) as stopped, stoppable():
        with deferred():
            with deferred():
                os.kill(os.getpid(), number)
                done.append("inner")
            done.append("outer")
        done.append("never")
    signal.signal(number, before)
    assert done == ["inner", "outer"] and stopped.value.status == 128 + number


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_of_others_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with stoppable():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
