"""Several processes on the CPU train one run: as --devices starts them, and as torchrun does."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import run_folders
from torch import nn

from benchmarks.data import Arrays, MovingMNIST
from benchmarks.data.cache import CACHE_VARIABLE
from benchmarks.data.generated import MovingTextures
from benchmarks.experiment import hardware, schedule, server
from benchmarks.experiment.execute import _naming_lost
from benchmarks.experiment.group import Group, LostProcessError, Synchronised
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.schedule import Pool, execute_here
from benchmarks.run import main
from tau import TAU, Clip

ROOT = Path(__file__).resolve().parent.parent

SUITE = """
import os, signal, time
from pathlib import Path
import torch
from baselines import ConvLSTM
from benchmarks import Panel, Row, Suite, Training
from benchmarks.data import MovingMNIST
from benchmarks.stopping import is_asked
from tau import TAU, Predictor


class Unlucky(Predictor):
    '''A weight, and a second process that is killed at its first start; its next stops the command.

    Then the first process waits until it is asked to: the stop belongs to this step, the fourth.
    '''

    def __init__(self, clip, command=0, log=""):
        super().__init__(clip)
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.command, self.log = command, Path(log)

    def forward(self, past, horizon):
        return self.weight * past[:, -1:].expand(-1, horizon, -1, -1, -1)

    def loss(self, past, future):
        self.calls += 1
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else None
        deadline = time.monotonic() + 60
        while rank == 0 and self.calls == 4 and not is_asked():
            assert time.monotonic() < deadline, "the first process was not asked to stop"
            time.sleep(0.01)
        if rank == 1:
            starts = self.log.read_text() if self.log.exists() else ""
            if (len(starts), int(self.calls)) in ((0, 3), (1, 4)):
                self.log.write_text(starts + "x")
                os.kill(*((self.command, signal.SIGINT) if starts else (os.getpid(), 9)))
        return super().loss(past, future)


SUITE = Suite(
    "group", "Group", (Panel(MovingMNIST),),
    (
        Row("TAU", TAU, dict(spatial_hidden=4, temporal_hidden=8, spatial_depth=2, temporal_depth=2,
                             mlp_ratio=2, drop_path=0.0)),
        Row("ConvLSTM", ConvLSTM, dict(hidden=(4, 4), patch=2, sampling_stop=1e-9)),
        Row("Unlucky", Unlucky, dict(command=COMMAND, log=LOG)),
    ),
    {"smoke": Training(epochs=2, sequences=18, batch_size=6, val_sequences=7, test_sequences=13,
                       lr=1e-2, precision="fp32", max_grad_norm=1.0)},
)
"""


def results(out: Path) -> dict[str, dict]:
    """What is stored of each row: record, learning curve, scores, samples, names of weights."""
    found = {}
    for folder in run_folders(out):
        record = json.loads((folder / "record.json").read_text())
        curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
        found[record["row"]] = {
            "record": record,
            "curve": [(point["step"], point["train_loss"], point["val_mse"]) for point in curve],
            "weights": torch.load(folder / "model.pt", weights_only=True).keys(),
            **{name: dict(np.load(folder / f"{name}.npz")) for name in ("scores", "samples")},
        }
    return found


class Story(NamedTuple):
    """What commands printed, and what is stored of each row at the end, by number of processes."""

    killed: str
    stopped: str
    torchrun: subprocess.CompletedProcess[str]
    stored: dict[int, dict[str, dict]]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One process trains three rows; two share them, are killed, stopped and continued; then three.

    Noise is predicted, of which 16 sequences are tested.
    """
    tmp = tmp_path_factory.mktemp("group")
    clips, starts, path = tmp / "noise.npy", tmp / "starts", tmp / f"{tmp.name}_suite.py"
    np.save(clips, np.random.default_rng(0).integers(0, 256, (160, 6, 1, 16, 16), np.uint8))
    path.write_text(SUITE.replace("COMMAND", str(os.getpid())).replace("LOG)", f"{str(starts)!r})"))
    common = ["--suite", str(path), "--data", str(clips), "--device", "cpu", "--no-figures"]

    def train(out: str, *options: str) -> tuple[int, str]:
        with redirect_stderr(io.StringIO()) as error:
            status = main([*common, "--out", str(tmp / out), *options])
        return status, error.getvalue()

    two = ["--rows", "TAU", "Unlucky", "--checkpoint-seconds", "0"]
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background has it ignored
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp / "cache"))
        assert train("alone")[0] == 0
        status, killed = train("two", "--devices", "2", *two)
        assert status == 1, killed
        status, stopped = train("two", "--devices", "2", *two)
        assert status == 128 + signal.SIGINT, stopped
        signal.signal(signal.SIGINT, before)
        line = [sys.executable, "-m", *torchrun, "benchmarks.run", *common, *two]
        line += ["--out", str(tmp / "two")]
        rest = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        assert rest.returncode == 0, rest.stderr[-3000:]
        status, error = train("three", "--devices", "3", "--rows", "TAU", "ConvLSTM")
        assert status == 0, error
    names = {1: "alone", 2: "two", 3: "three"}
    return Story(killed, stopped, rest, {n: results(tmp / name) for n, name in names.items()})


pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.mark.parametrize(
    ("processes", "row"), [(2, "TAU"), (2, "Unlucky"), (3, "TAU"), (3, "ConvLSTM")]
)
def test_a_group_computes_what_one_process_computes(story, processes, row):
    """Batches, their statistics, clipped gradients, validation, and the test, in its order."""
    found, alone = story.stored[processes][row], story.stored[1][row]
    assert found["record"]["processes"] == processes and alone["record"]["processes"] == 1
    assert found["record"]["key"] != alone["record"]["key"]
    assert found["weights"] == alone["weights"]
    np.testing.assert_allclose(found["curve"], alone["curve"], rtol=1e-3)
    assert len(found["scores"]["mse"]) == 13
    for kind in ("scores", "samples"):
        for name, values in alone[kind].items():
            np.testing.assert_allclose(found[kind][name], values, rtol=1e-3, atol=1e-3)


def test_a_killed_process_ends_its_row_and_no_other(story):
    assert "process 1 of 2 was killed (SIGKILL" in story.killed
    assert "TAU on own data, seed 0: MSE" in story.killed
    assert "continued at step 2 of 6" in story.stopped


def test_a_stopped_command_stops_all_processes_after_one_step(story):
    assert "stopped after step 4 of 6, checkpoint written" in story.stopped
    assert "stopped by SIGINT; the same command continues" in story.stopped


def test_torchrun_continues_what_devices_began_and_prints_one_table(story):
    assert story.torchrun.stderr.count("continued at step 4 of 6") == 1
    assert story.torchrun.stdout.count("| Unlucky |") == 1


def test_parts_of_a_batch_are_the_batch(clips_file):
    textures = MovingTextures("small", Clip(2, 2, 1, 16, 16))
    for dataset in (Arrays(clips_file), textures, MovingMNIST(None)):
        parts = [dataset.share(1, 5, 6, "cpu", rank, 3) for rank in range(3)]
        assert torch.equal(torch.cat(parts), dataset.batch(1, 5, 6, "cpu"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_synchronised_batch_normalisation_leaves_a_model_as_it_was(device):
    model = TAU(Clip(height=16, width=16), spatial_hidden=4, temporal_hidden=8)
    names, modules = list(model.state_dict()), [type(module) for module in model.modules()]
    synchronised = Synchronised(model, torch.device(device), Group(0, 2))
    kinds = [module for module in model.modules() if type(module) is nn.BatchNorm2d]
    assert not kinds and list(model.state_dict()) == names
    assert any(isinstance(m, nn.SyncBatchNorm) for m in model.modules()) == (device == "cuda")
    synchronised.undo()
    assert [type(module) for module in model.modules()] == modules


def lets_the_other_down(run):
    """The second process fails; the first does not heed the signal that it gets for that."""
    if os.environ["RANK"] == "1":
        raise ValueError("the cause")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def test_the_cause_is_told_and_not_who_was_killed_for_it(suite, dataset, monkeypatch):
    monkeypatch.setattr(schedule, "execute", lets_the_other_down)
    monkeypatch.setattr(schedule, "GRACE_SECONDS", 0.5)
    (run,) = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], processes=2)
    found: dict[str, object] = {}
    with Pool(1, 1, "cpu") as pool:
        pool.start(lets_the_other_down, run)
        while not found:
            found = pool.outcomes()
    (outcome,) = found.values()
    assert isinstance(outcome, ValueError) and str(outcome) == "the cause"


def test_what_the_library_said_of_a_lost_process_is_told(suite, dataset):
    (run,) = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], processes=2)
    with (
        pytest.raises(LostProcessError, match="it said: NCCL error: no space in /dev/shm"),
        _naming_lost(run),
    ):
        raise RuntimeError("NCCL error: no space in /dev/shm")


# What is refused


def test_fresh_is_refused_in_a_group(tmp_path):
    with pytest.raises(ValueError, match="--fresh does not work under torchrun"):
        execute_here([], tmp_path, resume=False, checkpoint_seconds=None)


SMOKE = ["--suite", "smoke", "--data", "synthetic", "--device", "cpu"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--devices", "3"],
            "a batch of 4 cannot be divided equally among 3 processes; expected 1, 2 or 4 of them, "
            "or --batch-size 3 or 6",
        ),
        (["--out", "s3://bucket/x"], "--out is 's3://bucket/x', an address; expected a folder"),
    ],
)
def test_what_cannot_be_is_named_before_anything_trains(options, message, capsys, monkeypatch):
    monkeypatch.setattr(Pool, "start", None)
    assert main([*SMOKE, *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--devices", "--jobs"])
def test_torchrun_alone_says_how_many_processes_there_are(option, capsys, monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("RANK", "0")
    assert main([*SMOKE, option, "2"]) == 2
    assert f"{option} has no effect on processes that torchrun started" in capsys.readouterr().err


# Several GPUs on one machine, without one


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 3, ["0", "1", "2"]),
        ("2, 0", 2, ["2", "0"]),
        ("GPU-8932f937,1,7", 2, ["GPU-8932f937", "1"]),  # there is no eighth
        ("MIG-1a,MIG-2b", 1, ["MIG-1a", "MIG-2b"]),
        ("", 0, []),
    ],
)
def test_gpus_are_named_as_the_environment_names_them(visible, count, names, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.gpus() == names


def test_more_devices_than_there_are_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(hardware, "gpus", lambda: ["GPU-8932f937", "1"])
    hardware.check_devices(2, "cuda")
    hardware.check_devices(64, "cpu")
    with pytest.raises(ValueError, match=r"--devices 3, but this process may use 2 GPUs \(GPU-89"):
        hardware.check_devices(3, "cuda")
    with pytest.raises(ValueError, match="--devices 2, but mps is one GPU"):
        hardware.check_devices(2, "mps")
    monkeypatch.setattr(hardware, "gpus", lambda: ["MIG-1a", "MIG-2b"])
    with pytest.raises(ValueError, match="MIG instances cannot share a training"):
        hardware.check_devices(2, "cuda")


def visible(run):
    """The GPUs that a run's process sees."""
    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_each_row_sees_the_gpu_with_the_fewest_rows(monkeypatch):
    forked = server.context("cpu")
    monkeypatch.setattr(server, "context", lambda device: forked)
    monkeypatch.setattr(hardware, "gpus", lambda: ["GPU-8932f937", "1"])
    monkeypatch.setattr(schedule, "execute", visible)
    runs = [
        SimpleNamespace(folder=name, code={}, timed=False, device="cuda", processes=processes)
        for name, processes in (("a", 1), ("b", 1), ("c", 1), ("group", 2))
    ]
    assert schedule._default_jobs(runs[0]) == 2
    found = {}
    with Pool(4, 1, "cuda") as pool:
        for run in runs:
            pool.start(visible, run)
        while not pool.is_idle:
            found |= pool.outcomes()
        assert pool.sharing(2) == ""
        assert pool.sharing(4) == "--jobs 4: 4 processes at a time share 2 GPUs in turn"
    assert found == {"a": "GPU-8932f937", "b": "1", "c": "GPU-8932f937", "group": "1,GPU-8932f937"}
