"""Training resumes bit-exact, stops at a non-finite loss, and does what its options say."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_folders, wait_for

from benchmarks import load
from benchmarks.experiment import store
from benchmarks.experiment.execute import (
    describe,
    execute,
    lock_of,
    put_in_place,
    store_failure,
)
from benchmarks.experiment.fabric import make_fabric
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.ray_cluster import Tasks
from benchmarks.experiment.spec import Row, Suite, Training
from benchmarks.experiment.store import CHECKPOINT, PREVIOUS
from benchmarks.experiment.train import (
    NonFiniteLossError,
    is_compiled,
    make_optimiser,
    make_schedule,
    train,
)
from benchmarks.experiment.view import View
from benchmarks.run import main
from benchmarks.stopping import Stopped, stoppable
from tau import TAU, Predictor

ROOT = Path(__file__).resolve().parent.parent


def _run(suite: Suite, dataset, label="TAU", **changes):
    training = {"smoke": replace(suite.training["smoke"], **changes)}
    return plan_panel(
        replace(suite, training=training), "smoke", dataset, "cpu", rows=[label], precision="fp32"
    )[0]


def _train(run, dataset, folder, **kwargs):
    folder.mkdir(exist_ok=True)
    return train(run, folder, make_fabric("cpu", "fp32"), **kwargs)[0]


def _equal(a: Predictor, b: Predictor) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


class Interrupted(Exception):
    pass


def _interrupting(batch, stop):
    """A data set's `batch` that raises once, when it is asked for step `stop`."""
    calls = []

    def interrupting(self, seed, step, size, device):
        if step == stop and not calls:
            calls.append(step)
            raise Interrupted
        return batch(self, seed, step, size, device)

    return interrupting


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder and a dictionary for the trainings that several tests start from: each is once."""
    return tmp_path_factory.mktemp("kept"), {}


@pytest.fixture
def whole(suite, dataset, kept):
    """TAU trained without a stop; its folder is `kept[0] / "whole"`."""
    folder, models = kept
    if "whole" not in models:
        models["whole"] = _train(_run(suite, dataset), dataset, folder / "whole")
    return models["whole"]


@pytest.fixture
def stopped(suite, dataset, kept, monkeypatch, tmp_path):
    """A folder with the checkpoints of a training that stopped after step 6 of 8."""
    folder = kept[0] / "stopped"
    if not folder.exists():
        with monkeypatch.context() as context:
            context.setattr(type(dataset), "batch", _interrupting(type(dataset).batch, 6))
            with pytest.raises(Interrupted):
                _train(_run(suite, dataset), dataset, folder, checkpoint_seconds=0)
    return Path(shutil.copytree(folder, tmp_path / "part"))


class Random(Predictor):
    """The last frame, blurred at random in training and in evaluation, by all generators."""

    def __init__(self, clip):
        super().__init__(clip)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, past, horizon):
        noise = 0.1 * torch.rand(()) + 0.1 * random.random() + 0.1 * np.random.rand()  # noqa: NPY002
        return (self.weight + noise) * past[:, -1:].expand(-1, horizon, -1, -1, -1)


@pytest.mark.parametrize(
    ("changes", "timed", "expected"),
    [
        ({"epochs": 1, "sequences": 40_000}, False, True),  # 10,000 steps of four
        ({"epochs": 1, "sequences": 39_996}, False, False),
        ({"epochs": 1, "sequences": 40}, True, True),
        ({"epochs": None, "minutes": 5.0}, False, True),  # not settled yet
        ({"epochs": 1, "sequences": 4_000_000, "minutes": 4.0}, False, False),  # being timed
        ({"epochs": None, "minutes": 4.0}, True, True),
    ],
)
def test_trainings_that_are_long_enough_are_compiled(suite, dataset, changes, timed, expected):
    run = _run(suite, dataset)
    training = replace(run.training, batch_size=4, **changes)
    assert is_compiled(replace(run, training=training, timed=timed)) is expected


def test_the_library_says_nothing_of_its_own() -> None:
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("lightning_fabric")
    logger.addHandler(handler)
    try:
        make_fabric("cpu", "bf16")
    finally:
        logger.removeHandler(handler)
    assert not [record.getMessage() for record in said]


def test_random_models_resume_to_the_same_scores(suite, dataset, tmp_path, monkeypatch):
    suite = replace(suite, rows=(Row("Random", Random),))
    run = _run(suite, dataset, "Random")
    whole = execute(run, tmp_path / "whole")
    with monkeypatch.context() as context:
        context.setattr(type(dataset), "batch", _interrupting(type(dataset).batch, 5))
        assert not execute(run, tmp_path / "part", 0).done
    for generator in (torch.manual_seed, random.seed, np.random.seed):
        generator(7)  # whatever the interrupted process left behind
    resumed = execute(run, tmp_path / "part")
    assert resumed.means == whole.means
    for name, values in whole.samples().items():
        assert (values == resumed.samples()[name]).all()
    assert whole.curve()["val_mse"].tolist() == resumed.curve()["val_mse"].tolist()


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_resuming_equals_not_stopping_to_the_bit(
    suite, dataset, tmp_path, monkeypatch, whole, kept, stop
):
    """Stopped at any step, mid-epoch (an epoch is 4 steps) or at its end."""
    run = _run(suite, dataset)
    monkeypatch.setattr(type(dataset), "batch", _interrupting(type(dataset).batch, stop))
    with pytest.raises(Interrupted):
        _train(run, dataset, tmp_path / "part", checkpoint_seconds=0)
    saved = torch.load(tmp_path / "part" / "checkpoint.pt", weights_only=True)
    assert saved["step"] == stop
    torch.manual_seed(1234)  # whatever the interrupted process left behind
    resumed = _train(run, dataset, tmp_path / "part", checkpoint_seconds=0)
    assert _equal(whole, resumed)
    curves = [
        [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
        for folder in (kept[0] / "whole", tmp_path / "part")
    ]
    for a, b in zip(*curves, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}
    assert [point["step"] for point in curves[0]] == [4, 8]


def _damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "of step 999999":
        path.write_bytes(content)
        torch.save(torch.load(path, weights_only=True) | {"step": 999_999}, path)
    elif kind == "of another model":
        torch.save({"model": {"x": torch.zeros(1)}}, path)
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1  # in the middle of a weight
        path.write_bytes({"cut": content[:-99], "flipped": flipped, "empty": b""}[kind])


KINDS = ["cut", "flipped", "empty", "folder", "pipe", "of step 999999", "of another model"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "names", [(CHECKPOINT,), (CHECKPOINT, PREVIOUS), (PREVIOUS,)], ids=["new", "both", "old"]
)
def test_a_damaged_checkpoint_is_set_aside_and_the_run_goes_on_from_the_one_before(
    suite, dataset, whole, stopped, capsys, kind, names
):
    if kind == "pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes")
    for name in names:
        _damage(stopped / name, kind)
    resumed = _train(_run(suite, dataset), dataset, stopped, checkpoint_seconds=0)
    err = capsys.readouterr().err
    assert (f"{CHECKPOINT} is damaged" in err) is (CHECKPOINT in names)
    step = {(CHECKPOINT,): 5, (PREVIOUS,): 6}.get(names)
    assert [f"continued at step {step} of 8"] * bool(step) == re.findall("continued.* 8", err)
    if CHECKPOINT in names or kind in ("folder", "pipe"):  # a file would be replaced anyhow
        assert (stopped / f"{names[0]}.damaged-1").exists(), "nothing is deleted"
    assert _equal(whole, resumed)


def test_being_killed_between_two_renames_loses_nothing(suite, dataset, tmp_path, whole, kept):
    folder = Path(shutil.copytree(kept[0] / "whole", tmp_path / "x"))
    (folder / CHECKPOINT).replace(folder / PREVIOUS)
    assert _equal(whole, _train(_run(suite, dataset), dataset, folder))


@pytest.mark.parametrize("when", [2, 3, 4, 8])
def test_a_stop_writes_a_checkpoint_that_resumes_to_the_same_end(
    suite, dataset, tmp_path, monkeypatch, whole, when
):
    """In the middle of an epoch, in the validation at its end, and at the very end."""
    run = _run(suite, dataset)
    name = "validation" if when % 4 == 0 else "batch"
    count = when // 4 if when % 4 == 0 else when
    original = getattr(type(dataset), name)
    calls = []

    def signalled(self, *args):
        calls.append(args)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args)

    with monkeypatch.context() as context:
        context.setattr(type(dataset), name, signalled)
        with pytest.raises(Stopped), stoppable():
            _train(run, dataset, tmp_path / "part", checkpoint_seconds=1e9)
    state = torch.load(tmp_path / "part" / CHECKPOINT, weights_only=True)
    assert state["step"] == when
    assert _equal(whole, _train(run, dataset, tmp_path / "part"))
    points = (tmp_path / "part" / "curve.jsonl").read_text().splitlines()
    assert [json.loads(point)["step"] for point in points] == [4, 8]


def test_seeds_give_different_models_and_a_seed_the_same(suite, dataset, tmp_path, whole):
    a = _train(_run(suite, dataset), dataset, tmp_path / "a")
    assert _equal(a, whole)
    other = replace(_run(suite, dataset), seed=1)
    assert not _equal(a, _train(other, dataset, tmp_path / "c"))


class Exploding(TAU):
    """Its loss is not a number from the third step on."""

    calls = 0

    def loss(self, past, future):
        Exploding.calls += 1
        loss = super().loss(past, future)
        return loss * float("nan") if Exploding.calls >= 3 else loss


def test_a_non_finite_loss_stops_at_its_step(suite, dataset, tmp_path):
    Exploding.calls = 0
    row = Row("exploding", Exploding, sizes=suite.rows[2].sizes)
    run = _run(replace(suite, rows=(row,)), dataset, label="exploding")
    with pytest.raises(NonFiniteLossError, match=r"nan at step 3 of 8.* checkpoint stays in"):
        _train(run, dataset, tmp_path / "x", checkpoint_seconds=0)
    state = torch.load(tmp_path / "x" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2, "the last good checkpoint stays"
    assert all(v.isfinite().all() for v in state["model"].values() if v.is_floating_point())


def test_a_checkpoint_that_was_never_written_is_not_told_of(suite, dataset, tmp_path):
    Exploding.calls = 2
    row = Row("exploding", Exploding, sizes=suite.rows[2].sizes)
    run = _run(replace(suite, rows=(row,)), dataset, label="exploding")
    with pytest.raises(NonFiniteLossError, match=r"nan at step 1 of 8.* precision fp32$"):
        _train(run, dataset, tmp_path / "x", checkpoint_seconds=1000)


def test_a_failed_row_is_recorded_and_tried_again(suite, dataset, tmp_path):
    Exploding.calls = 0
    row = Row("exploding", Exploding, sizes=suite.rows[2].sizes)
    tiny = replace(suite, rows=(row,))
    run = _run(tiny, dataset, label="exploding")
    failed = execute(run, tmp_path)
    assert not failed.done and "nan at step 3" in failed.record["reason"]
    assert (tmp_path / run.folder / "failure.json").exists()
    Exploding.calls = -1000
    again = execute(run, tmp_path)
    assert again.done and not (tmp_path / run.folder / "failure.json").exists()


def test_clipping_bounds_the_gradient_that_is_applied(suite, dataset, tmp_path, monkeypatch):
    norms = []
    step = torch.optim.Adam.step

    def watching(self, *args, **kwargs):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watching)
    _train(_run(suite, dataset), dataset, tmp_path / "free")
    free, norms[:] = list(norms), []
    bound = min(free) / 2
    _train(_run(suite, dataset, max_grad_norm=bound), dataset, tmp_path / "clipped")
    assert norms and max(norms) <= bound * 1.001


def test_one_cycle_is_the_released_schedule():
    """Values of torch's OneCycleLR for rate 1e-3 and 125,000 steps (200 epochs of Moving MNIST)."""
    training = Training(epochs=200)
    assert training.steps == 125_000
    model = torch.nn.Linear(1, 1)
    optimiser = make_optimiser(model, training)
    schedule = make_schedule(optimiser, training)
    expected = {0: 4e-5, 37_499: 1e-3, 60_000: 8.455e-4, 90_000: 3.455e-4}
    momenta = {}
    optimiser.step()
    for step in range(90_001):
        if step in expected:
            assert schedule.get_last_lr()[0] == pytest.approx(expected[step], rel=1e-3)
            momenta[step] = optimiser.param_groups[0]["betas"][0]
        schedule.step()
    assert momenta[0] == pytest.approx(0.95) and momenta[37_499] == pytest.approx(0.85)


def test_weight_decay_and_optimiser_are_honoured():
    model = torch.nn.Linear(1, 1)
    chosen = make_optimiser(model, Training(epochs=1, optimiser="adamw", weight_decay=0.05))
    assert type(chosen) is torch.optim.AdamW
    assert chosen.param_groups[0]["weight_decay"] == 0.05


def test_the_cosine_is_the_one_released_for_taxibj():
    """timm's CosineLRScheduler: t_initial 50, 5 warm-up epochs from 1e-5, lr_min 1e-6."""
    training = Training(
        epochs=50, sequences=32, batch_size=16, lr=5e-4, schedule="cosine", val_sequences=1
    )
    optimiser = make_optimiser(torch.nn.Linear(1, 1), training)
    schedule = make_schedule(optimiser, training)
    rates = []
    for _ in range(training.steps):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert rates[0] == rates[1] == pytest.approx(1e-5), "two steps an epoch"
    assert rates[2] == pytest.approx(1e-5 + (5e-4 - 1e-5) / 5)
    assert rates[10] == pytest.approx(1e-6 + 0.5 * (5e-4 - 1e-6) * (1 + math.cos(math.pi / 10)))
    assert rates[50] == pytest.approx(1e-6 + 0.5 * (5e-4 - 1e-6))
    assert rates[-1] == pytest.approx(
        1e-6 + 0.5 * (5e-4 - 1e-6) * (1 + math.cos(math.pi * 49 / 50))
    )


def test_a_constant_schedule_is_constant():
    training = Training(epochs=1, schedule="constant", lr=0.5)
    optimiser = make_optimiser(torch.nn.Linear(1, 1), training)
    schedule = make_schedule(optimiser, training)
    for _ in range(3):
        optimiser.step()
        schedule.step()
        assert schedule.get_last_lr() == [0.5]


def test_a_checkpoint_of_another_run_is_refused(suite, dataset, tmp_path):
    run = _run(suite, dataset)
    _train(run, dataset, tmp_path / "x")
    with pytest.raises(ValueError, match="belongs to run"):
        _train(replace(run, key="0" * 12), dataset, tmp_path / "x")


def test_bf16_is_used_when_asked_for(suite, dataset, tmp_path):
    seen = []

    class Watching(TAU):
        def loss(self, past, future):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().loss(past, future)

    sys.modules[__name__].Watching = Watching  # type: ignore[attr-defined]
    row = Row("w", Watching, sizes=suite.rows[2].sizes)
    tiny = replace(suite, rows=(row,))
    for precision, expected in (("fp32", False), ("bf16", True)):
        seen.clear()
        run = plan_panel(tiny, "smoke", dataset, "cpu", precision=precision)[0]
        folder = tmp_path / precision
        folder.mkdir()
        train(run, folder, make_fabric("cpu", precision))
        assert seen and set(seen) == {expected}


HELD = """
import os
from multiprocessing import parent_process
from pathlib import Path

from benchmarks import Panel, Row, Suite, Training
from benchmarks.data import MovingMNIST
from tau import TAU


class Held(TAU):
    '''Where the environment names a file, step 18 makes it, and waits for the command to end.'''

    calls = 0

    def loss(self, past, future):
        Held.calls += 1
        if Held.calls == 18 and "HELD" in os.environ:
            Path(os.environ["HELD"]).touch()
            parent_process().join()
        return super().loss(past, future)


SIZES = dict(spatial_hidden=8, temporal_hidden=16, spatial_depth=2, temporal_depth=2, mlp_ratio=2)
TRAINING = Training(epochs=2, sequences=240, batch_size=8, val_sequences=4, test_sequences=4)
SUITE = Suite("killed", "Killed", (Panel(MovingMNIST),), (Row("Held", Held, SIZES),),
              {"smoke": TRAINING})
"""


@pytest.mark.slow
def test_kill_9_and_the_same_command_give_the_same_result(clips_file, tmp_path):
    """A real process, killed without warning in the middle of an epoch.

    Its worker must end with it, or the same command would find the run locked.
    """
    suite = tmp_path / "killed_suite.py"
    suite.write_text(HELD)

    def options(out: str) -> list[str]:
        return [
            *("--suite", str(suite), "--data", str(clips_file), "--out", str(tmp_path / out)),
            *("--precision", "fp32", "--device", "cpu", "--no-figures"),
        ]

    assert main(options("whole")) == 0
    process = subprocess.Popen(
        [
            *("env", "OMP_NUM_THREADS=1", f"HELD={tmp_path / 'held'}"),
            *(sys.executable, "-m", "benchmarks.run", *options("killed")),
            *("--checkpoint-seconds", "0", "--jobs", "2"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for((tmp_path / "held").exists, process, 600)
        (checkpoint,) = tmp_path.glob("killed/runs/*/checkpoint.pt")
        assert torch.load(checkpoint, weights_only=True)["step"] == 17, "of 30 in an epoch"
    finally:
        process.kill()
        process.wait()
    assert main(options("killed")) == 0
    (whole,), (killed,) = run_folders(tmp_path / "whole"), run_folders(tmp_path / "killed")
    assert _equal(*(load(folder, trust_code=True).model for folder in (whole, killed)))
    scores = [store.read_run(folder).scores() for folder in (whole, killed)]
    for name, values in scores[0].items():
        assert (values == scores[1][name]).all()


def test_what_failed_elsewhere_leaves_the_checkpoints_here(suite, dataset, tmp_path):
    (run,) = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")
    runs = tmp_path / "runs"
    (runs / run.folder).mkdir(parents=True)
    (runs / run.folder / CHECKPOINT).write_bytes(b"hours of training")
    failed = store_failure(tmp_path / "node" / "runs", describe(run), "out of memory")
    name = f"runs/{run.folder}/{store.FAILURE}"
    content = {name: (failed.folder / store.FAILURE).read_bytes()}
    assert put_in_place(run, runs, content).record["reason"] == "out of memory"
    assert (runs / run.folder / CHECKPOINT).read_bytes() == b"hours of training"


def test_what_a_node_has_sent_back_waits_for_its_place(suite, dataset, tmp_path, capsys):
    """Another command has the run in work; or a disk is full."""
    (run,) = plan_panel(suite, "smoke", dataset, "cpu", rows=["Conv"], precision="fp32")
    failed = store_failure(tmp_path / "node" / "runs", describe(run), "out of memory")
    content = {f"runs/{run.folder}/{store.FAILURE}": (failed.folder / store.FAILURE).read_bytes()}
    tasks = object.__new__(Tasks)
    tasks._folder, tasks._names, tasks._sent, tasks._told = tmp_path / "runs", {}, {}, set()
    tasks._sent[run.folder] = (run, content)
    tasks.view = View()
    lock = lock_of(tasks._folder, run)
    lock.acquire()
    assert tasks._put_in_place() == tasks._put_in_place() == {} and not tasks.is_idle
    assert capsys.readouterr().err.count("its files are kept, and wait for their place") == 1
    lock.release()
    (stored,) = tasks._put_in_place().values()
    assert stored.record["reason"] == "out of memory" and tasks.is_idle
