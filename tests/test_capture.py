"""A CUDA graph replays what an eager step does; what it cannot replay is refused."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from model_rows import MNIST, SHORT, models, random_frames
from torch import Tensor
from torch._subclasses import FakeTensorMode

from baselines import LMCMemory
from benchmarks.data import MovingMNIST
from benchmarks.experiment import capture, cost, train
from benchmarks.experiment.capture import (
    EAGER_CALLS,
    WARM_UP,
    CapturedGradients,
    Gradients,
    at_once,
    draws_nothing_on_the_host,
    is_capturable,
)
from benchmarks.experiment.fabric import make_fabric, seed_generators
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.spec import Row, Suite
from benchmarks.experiment.train import StepTimer
from tau import TAU, Clip, Predictor

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize(
    "draw",
    [random.random, lambda: np.random.rand(), lambda: torch.rand(1)],  # noqa: NPY002
    ids=["Python", "NumPy", "torch"],
)
def test_draws_on_the_host_are_refused(draw: Callable[[], object]) -> None:
    with draws_nothing_on_the_host(TAU(Clip(), 2, 4, 2, 2)):
        pass
    with (
        pytest.raises(ValueError, match="TAU draws random numbers on the host"),
        draws_nothing_on_the_host(TAU(Clip(), 2, 4, 2, 2)),
    ):
        draw()


def test_only_who_promises_it_is_captured() -> None:
    class Plain(Predictor):
        """Without a promise."""

    assert not Plain(Clip()).capturable
    assert TAU(Clip(), 2, 4, 2, 2).capturable
    assert LMCMemory(Clip()).capturable
    assert not LMCMemory(Clip(10, 30)).capturable  # its horizon depends on a tensor's value


def test_a_subclass_of_another_package_promises_it_itself() -> None:
    class Counting(TAU):
        """Inherits the promise, and may break it."""

    class Promising(TAU):
        """Says it itself."""

        capturable = True

    assert is_capturable(TAU(Clip(), 2, 4, 2, 2))
    assert not is_capturable(Counting(Clip(), 2, 4, 2, 2))
    assert is_capturable(Promising(Clip(), 2, 4, 2, 2))


def test_what_is_timed_is_freed_at_once(suite: Suite) -> None:
    """A GPU holds a graph's memory for as long as there is a reference to it."""
    run = plan_panel(suite, "smoke", MovingMNIST(), "cpu", rows=["TAU"], precision="fp32")[0]
    timer = StepTimer(run, make_fabric("cpu", "fp32"))
    timer.step()
    loop = weakref.ref(timer._loop)
    gc.disable()
    try:
        del timer
        assert loop() is None
    finally:
        gc.enable()


@models
def test_who_promises_it_reads_no_value_and_keeps_no_count_in_python(row: Row) -> None:
    model = row.model(SHORT, **row.at("smoke")).train()
    if not model.capturable:
        pytest.skip("is not captured")

    def in_python() -> list[dict[str, Any]]:
        kinds = (bool, int, float, str)
        return [{k: v for k, v in vars(m).items() if isinstance(v, kinds)} for m in model.modules()]

    before = in_python()
    with FakeTensorMode(allow_non_fake_inputs=True):  # whose values cannot be read
        model.loss(*(torch.empty_like(frames) for frames in random_frames(SHORT))).backward()
    assert in_python() == before


class Recorder:
    """Stands in for a CUDA graph where there is none: it launches what it is given."""

    def __init__(self, model: Predictor, gradients: Gradients) -> None:
        self.gradients, self.calls = gradients, 0

    def __call__(self, sequences: Tensor) -> Tensor:
        self.calls += 1
        return self.gradients(sequences)


@pytest.mark.parametrize("promises", [True, False])
def test_training_and_its_timing_go_through_the_graph(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, promises: bool
) -> None:
    graphs: list[Recorder] = []

    def record(model: Predictor, gradients: Gradients) -> Recorder:
        graphs.append(Recorder(model, gradients))
        return graphs[-1]

    def on_a_gpu(model: Predictor, device: torch.device, gradients: Gradients) -> Gradients:
        return at_once(model, torch.device("cuda"), gradients)

    monkeypatch.setattr(capture, "CapturedGradients", record)
    monkeypatch.setattr(train, "at_once", on_a_gpu)
    monkeypatch.setattr(cost, "at_once", on_a_gpu)
    monkeypatch.setattr(TAU, "capturable", promises)
    run = plan_panel(suite, "smoke", MovingMNIST(), "cpu", rows=["TAU"], precision="fp32")[0]
    timer = StepTimer(run, make_fabric("cpu", "fp32"))
    for _ in range(2):
        timer.step()
    cost.throughput(run.build(), run.clip, torch.device("cpu"), 2, repeats=2)
    assert [graph.calls > 0 for graph in graphs] == [True, True] * promises


def _losses(row: Row, capture: bool) -> list[float]:
    torch.manual_seed(0)
    model = row.model(MNIST, **row.at("smoke")).cuda().train()
    model.begin_training(8)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def gradients(sequences: Tensor) -> Tensor:
        loss = model.loss(*MNIST.split(sequences))
        loss.backward()
        return loss.detach()

    step = CapturedGradients(model, gradients) if capture else gradients
    losses = []
    for index in range(EAGER_CALLS + 4):
        seed_generators("step", index)
        losses.append(float(step(torch.rand(2, 20, 1, 64, 64, device="cuda"))))
        optimiser.step()
        optimiser.zero_grad()
    return losses


@needs_cuda
@models
def test_a_replay_gives_what_an_eager_step_gives(row: Row) -> None:
    if not row.model(MNIST, **row.at("smoke")).capturable:
        pytest.skip("is not captured")
    # Sums whose order is free differ between two eager runs too, and grow.
    assert _losses(row, capture=True) == pytest.approx(_losses(row, capture=False), rel=1e-3)


@needs_cuda
@pytest.mark.parametrize("label", ["Conv", "TAU"])
def test_no_step_waits_for_the_gpu(suite: Suite, label: str) -> None:
    dataset = MovingMNIST()
    run = plan_panel(suite, "smoke", dataset, "cuda", rows=[label], precision="fp32")[0]
    timer = StepTimer(run, make_fabric("cuda", "fp32"))
    assert isinstance(timer._loop.gradients, CapturedGradients)
    for _ in range(WARM_UP):
        timer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            timer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    timer.wait()
