"""A data set of your own as a class: hot spots that cool on a plate, simulated as they are needed.

    python -m benchmarks.run --suite own_dataset.py

A class states its task and its counts, and gives training, validation and test sequences. All else
that `Dataset` declares has a default; here `value_range` says what 0 and 1 stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks import Panel, Suite
from benchmarks.data import Dataset
from benchmarks.data.dataset import spans
from benchmarks.suites import ablation
from tau import Clip

SPLITS = ("train", "validation", "test")


class CoolingPlate(Dataset):
    """Temperatures of a plate with three hot spots; `diffusivity` is at most 0.25."""

    name = "cooling-plate"
    clip = Clip(past=4, future=4, channels=1, height=32, width=32)
    train_sequences = 1_000
    test_sequences = 100
    value_range = (20.0, 120.0)  # degrees Celsius

    def __init__(self, *, diffusivity: float = 0.2) -> None:
        if not 0 < diffusivity <= 0.25:
            raise ValueError(f"diffusivity is {diffusivity}; expected above 0, at most 0.25")
        self.diffusivity = diffusivity

    def batch(self, seed: int, step: int, size: int, device: torch.device | str) -> Tensor:
        """Fresh plates, which seed, step and size alone decide."""
        return self.simulate("train", [(seed, step, i) for i in range(size)]).to(device)

    def validation(
        self, sequences: int, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """Plates that are never trained on."""
        for start, stop in spans(sequences, self.train_sequences, batch_size):
            yield self.simulate("validation", [(i,) for i in range(start, stop)]).to(device)

    def test(
        self, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """The first of 100 other plates."""
        for start, stop in spans(sequences, self.test_sequences, batch_size):
            yield self.simulate("test", [(i,) for i in range(start, stop)]).to(device)

    def simulate(self, split: str, seeds: list[tuple[int, ...]]) -> Tensor:
        """The heat equation from random hot spots: [len(seeds), 8, 1, 32, 32] in [0, 1]."""
        plate = np.zeros((len(seeds), self.clip.height, self.clip.width))
        for sequence, seed in zip(plate, seeds, strict=True):
            rng = np.random.default_rng((SPLITS.index(split), *seed))
            for y, x in rng.integers(0, 26, (3, 2)):
                sequence[y : y + 6, x : x + 6] = rng.uniform(0.5, 1)
        frames = []
        for _ in range(self.clip.frames):
            around = sum(np.roll(plate, shift, axis) for shift in (-1, 1) for axis in (1, 2))
            plate = plate + self.diffusivity * (around - 4 * plate)
            frames.append(plate)
        return torch.from_numpy(np.stack(frames, 1)[:, :, None].clip(0, 1)).float()


SUITE = Suite(
    name="cooling-plate",
    title="A cooling plate",
    panels=(
        Panel(CoolingPlate, title="copper"),
        Panel(partial(CoolingPlate, diffusivity=0.05), title="steel"),
    ),
    rows=ablation.ROWS,
    training=ablation.TRAINING,
)
