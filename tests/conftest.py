"""What several test files share: a data set of a few tiny clips, tiny rows, a suite of them."""

from __future__ import annotations

import io
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any

# Before NumPy is imported: OpenBLAS's threads wait busily for cores that other tests use.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from baselines import ConvBaseline, LastFrame
from benchmarks.data import DATA_VARIABLE, Arrays, MovingMNIST
from benchmarks.data.cache import CACHE_VARIABLE
from benchmarks.experiment.spec import Panel, Row, Suite, Training
from tau import TAU

SMALL = {"spatial_hidden": 4, "temporal_hidden": 8, "spatial_depth": 2, "temporal_depth": 2}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # the tests' tensors are tiny, and tests run side by side


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    caches = tmp_path_factory.mktemp("caches")
    return (caches / str(number) for number in count())


@pytest.fixture(autouse=True)
def _folders(monkeypatch: pytest.MonkeyPatch, _caches: Iterator[Path]) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(next(_caches)))  # made when it is needed


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def one_cache(module_cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test of a module has prepared stays prepared for the others."""
    monkeypatch.setenv(CACHE_VARIABLE, module_cache)


def run_folders(out: Path) -> list[Path]:
    """The folders of the runs below an output folder."""
    return sorted(path for path in (out / "runs").iterdir() if not path.name.startswith("."))


def bounded(work: Callable[[], Any]) -> Any:
    """What `work` returns or raises; fails if it takes more than a minute."""
    outcome: Future[Any] = Future()

    def begin() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=begin, daemon=True).start()
    return outcome.result(60)


def wait_for(is_so: Callable[[], bool], process: subprocess.Popen, seconds: float = 120) -> None:
    """Wait for what a process does; fails if it ends before, and ends it if it takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() >= deadline:
            process.kill()
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        return True


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def broken_window(x: torch.Tensor) -> torch.Tensor:
    """A fault in SSIM's window: the mean of 5x5 pixels instead of 7x7."""
    sums = x.unfold(-2, 5, 1).unfold(-2, 5, 1).sum((-2, -1))
    return sums[..., 1:-1, 1:-1] * (49 / 25)


@pytest.fixture
def clips_file(tmp_path: Path) -> Path:
    """40 clips of a bright square that moves right: [40, 6, 1, 16, 16] uint8."""
    rng = np.random.default_rng(0)
    clips = np.zeros((40, 6, 1, 16, 16), np.uint8)
    for clip in clips:
        y, x = rng.integers(0, 10, 2)
        for t, frame in enumerate(clip):
            frame[0, y : y + 5, (x + t) % 11 : (x + t) % 11 + 5] = 255
    path = tmp_path / "squares.npy"
    np.save(path, clips)
    return path


@pytest.fixture
def dataset(clips_file: Path) -> Arrays:
    """The clips as a data set: 3 frames to 3 frames."""
    return Arrays(clips_file)


@pytest.fixture
def suite() -> Suite:
    """Three rows that train in a moment."""
    return Suite(
        name="tiny",
        title="Tiny",
        panels=(Panel(MovingMNIST),),
        rows=(
            Row("Last frame", LastFrame),
            Row("Conv", ConvBaseline, sizes={"smoke": SMALL}),
            Row("TAU", TAU, sizes={"smoke": {**SMALL, "mlp_ratio": 2}}),
        ),
        training={
            "smoke": Training(
                epochs=2, sequences=16, batch_size=4, val_sequences=4, test_sequences=4
            ),
        },
    )
