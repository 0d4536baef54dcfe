"""What several test files share: a data set of a few tiny clips, tiny rows, a suite of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

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


def run_folders(out: Path) -> list[Path]:
    """The folders of the runs below an output folder."""
    return sorted(path for path in (out / "runs").iterdir() if not path.name.startswith("."))


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
