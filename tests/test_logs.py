"""What loggers are told of a run: one run each, whose curve goes on, and which changes nothing."""

from __future__ import annotations

import signal
import struct
from pathlib import Path

import numpy as np
import pytest

from benchmarks import run as command
from benchmarks.experiment import logs
from benchmarks.experiment.execute import execute
from benchmarks.experiment.loggers import TensorBoard
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.train import _Loop
from benchmarks.run import main
from benchmarks.stopping import Stopped


@pytest.fixture
def planned(suite, dataset):
    """Runs of rows that train for 2 epochs of 4 steps."""

    def make(*labels):
        return plan_panel(suite, "smoke", dataset, "cpu", rows=labels, precision="fp32")

    return make


def events(folder: Path) -> list[tuple[str, int, object]]:
    """Tag, step and value of all that TensorBoard's event files in a folder hold, oldest first."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            found += [(v.tag, event.step, v) for v in event.summary.value]
    return found


def steps(found, tag):
    return [step for name, step, _ in found if name == tag]


def stopping_after(epochs):
    """`finish_epoch` of a training that a signal stops after so many epochs."""
    finish_epoch = _Loop.finish_epoch

    def stop(loop, progress):
        finish_epoch(loop, progress)
        if loop.epochs == epochs:
            raise Stopped(signal.SIGTERM)

    return stop


def test_tensorboard_has_curves_metrics_hyperparameters_and_a_forecast(planned, tmp_path):
    (run,) = planned("TAU")
    plain = execute(run, tmp_path / "plain" / "runs")
    logged = execute(run, tmp_path / "runs", log=["tensorboard"])
    assert logged.done, logged.record
    sums = [of.record["files"]["model.pt"] for of in (plain, logged)]
    assert len({(of.record["key"], of.folder.name) for of in (plain, logged)}) == 1
    assert plain.means == logged.means
    assert sums[0] == sums[1], "the weights are the same"
    assert not (tmp_path / "plain" / "logs").exists(), "nothing is logged unless it is asked for"

    found = events(tmp_path / "logs" / run.folder)
    assert steps(found, "train/loss") == steps(found, "train/lr") == list(range(1, 9))
    assert steps(found, "validation/mse") == steps(found, "epoch/train_loss") == [4, 8]
    values = {tag: value.simple_value for tag, _, value in found}
    assert values["validation/mse"] == pytest.approx(logged.curve()["val_mse"].iloc[-1])
    assert values["test/mse"] == pytest.approx(logged.means["mse"])
    first = next(value.simple_value for tag, _, value in found if tag == "train/lr")
    assert first == pytest.approx(run.training.lr / 25), "of the step: one-cycle starts there"
    (text,) = [v.tensor.string_val[0] for tag, _, v in found if tag.startswith("hyper-parameters")]
    for part in (run.key, '"temporal_hidden": 8', '"batch_size": 4', run.dataset.caption):
        assert part.encode() in text
    assert "_hparams_/experiment" in values
    (image,) = [value.image for tag, _, value in found if tag == "test/forecast"]
    assert (image.height, image.width) == (2 * 18, 6 * 18)


def test_a_run_that_continues_goes_on_in_the_same_curve(planned, tmp_path, monkeypatch):
    (run,) = planned("TAU")
    with monkeypatch.context() as context, pytest.raises(Stopped):
        context.setattr(_Loop, "finish_epoch", stopping_after(1))
        execute(run, tmp_path / "runs", log=["tensorboard"])
    assert execute(run, tmp_path / "runs", log=["tensorboard"]).done
    folder = tmp_path / "logs" / run.folder
    assert len(list(folder.iterdir())) == 2 and len(list(folder.parent.iterdir())) == 1
    found = events(folder)
    assert steps(found, "train/loss") == list(range(1, 9))
    assert steps(found, "validation/mse") == [4, 8]


def test_what_no_checkpoint_holds_is_not_logged_twice(planned, tmp_path, monkeypatch):
    """A process that is killed after step 6, where the only checkpoint is of step 3."""
    (run,) = planned("TAU")
    batch = type(run.dataset).batch

    class Killed(BaseException):
        pass

    def killed(self, seed, step, size, device):
        if step == 6:
            raise Killed
        return batch(self, seed, step, size, device)

    def write_only(log, *_):
        log._tell(lambda logger: logger.finalize("aborted"))

    with monkeypatch.context() as context, pytest.raises(Killed):
        context.setattr(type(run.dataset), "batch", killed)
        context.setattr(_Loop, "_due", lambda loop, at_least=0.0: loop.step == 3)
        context.setattr(logs.Log, "__exit__", write_only)  # a killed process tells no more
        execute(run, tmp_path / "runs", log=["tensorboard"])
    assert steps(events(tmp_path / "logs" / run.folder), "train/loss") == [1, 2, 3]
    assert execute(run, tmp_path / "runs", log=["tensorboard"]).done
    assert steps(events(tmp_path / "logs" / run.folder), "train/loss") == list(range(1, 9))


def test_a_long_training_logs_one_step_of_every_few(tmp_path):
    with logs.Log(["tensorboard"], tmp_path / "x") as log:
        log.begin(0, 200_000)
        for step in range(1, 1001):
            log.step(step, 1.0, 0.1)
        log.flush()
    assert steps(events(tmp_path / "x"), "train/loss") == [200, 400, 600, 800, 1000]


def test_a_logger_that_fails_does_not_fail_the_run(planned, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoard, "log_metrics", full)
    (run,) = planned("TAU")
    assert execute(run, tmp_path / "runs", log=["tensorboard"]).done
    said = capsys.readouterr().err
    assert said.count("--log tensorboard fails, and the run goes on without it: OSError") == 1


def test_frames_of_any_number_of_channels_make_a_strip():
    for channels in (1, 2, 3):
        frames = np.linspace(0, 1, 2 * 3 * channels * 4 * 5, dtype=np.float32)
        frames = frames.reshape(2, 3, channels, 4, 5)
        samples = {"past": frames, "future": frames, "prediction": np.full_like(frames, np.nan)}
        assert logs.strip(samples).shape == (2 * 6, 6 * 7, 3)


def test_the_command_logs_each_row_and_says_what_it_does_not(suite, clips_file, tmp_path, capfd):
    out = ["--out", str(tmp_path), "--no-figures", "--data", str(clips_file), "--scale", "smoke"]
    rows = ["--suite", "ablation", "--rows", "Last frame", "--log", "tensorboard"]
    assert main([*rows, *out]) == 0
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name.startswith("last-frame-smoke-0-")
    assert {"test/mse", "test/forecast"} <= {tag for tag, *_ in events(folder)}
    assert f"logs go to {tmp_path / 'logs'}" in capfd.readouterr().err
    assert main([*rows, *out]) == 0
    assert "is stored already, so nothing is logged of it" in capfd.readouterr().err
    assert main([*rows, *out, "--fresh"]) == 0
    names = [path.name for path in (tmp_path / "logs").iterdir()]
    assert sorted(names) == [folder.name, f"{folder.name}.replaced-1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--log", "tensorboard"], "needs tensorboardX: pip install tensorboardX"),
        (["--log", "wandb-offline"], "needs wandb: pip install wandb"),
        (["--log", "wandb", "wandb-offline"], "leave one out"),
        (["--log", "tensorboard", "--dry-run"], "--log has no effect on --dry-run"),
    ],
)
def test_a_logger_that_cannot_work_is_told_before_anything_trains(
    options, message, capsys, monkeypatch
):
    monkeypatch.setattr(command, "execute_all", None)
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    assert main(["--suite", "smoke", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_wandb_logs_offline_into_one_run(planned, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "online")  # to which --log wandb-offline pays no heed
    (run,) = planned("TAU")
    with monkeypatch.context() as context, pytest.raises(Stopped):
        context.setattr(_Loop, "finish_epoch", stopping_after(1))
        execute(run, tmp_path / "runs", log=["wandb-offline"])
    assert execute(run, tmp_path / "runs", log=["wandb-offline"]).done
    parts = [path.name for path in (tmp_path / "logs" / "wandb").glob("offline-run-*")]
    assert len({name.rpartition("-")[2] for name in parts}) == 1 and len(parts) == 2
    content = b"".join(p.read_bytes() for p in (tmp_path / "logs" / "wandb").glob("*/*.wandb"))
    for part in (b"train/loss", b"validation/mse", b"test/mse", b"test/forecast", run.key.encode()):
        assert part in content


@pytest.mark.slow
def test_wandb_that_sends_needs_an_account(monkeypatch, capsys, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setattr(command, "execute_all", None)
    assert main(["--suite", "smoke", "--log", "wandb"]) == 2
    assert "--log wandb-offline" in capsys.readouterr().err
