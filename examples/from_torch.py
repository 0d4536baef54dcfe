"""A torch data set that you have already: `FromTorch` turns its items into sequences to compare on.

    python -m benchmarks.run --suite from_torch.py

An item is a sequence [past + future, C, H, W], or a pair (past, future), as here. Without `test`,
the last tenth of the items is for test; the tenth before it is for validation.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks import Panel, Suite
from benchmarks.data import FromTorch
from benchmarks.suites import ablation
from tau import Clip


class MovingBars(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Bars [C, H, W] = [1, 16, 16], uint8, that move down one row per frame: 4 frames, then 4."""

    def __init__(self, items: int, first: int = 0) -> None:
        self.items, self.first = items, first

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.items:
            raise IndexError(index)
        row, grey = divmod(self.first + index, 256)
        frames = torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
        for step, frame in enumerate(frames):
            frame[:, (row + step) % 16] = grey
        return frames[:4], frames[4:]


CLIP = Clip(past=4, future=4, channels=1, height=16, width=16)
BARS = partial(FromTorch, MovingBars(2_000), CLIP, test=MovingBars(500, first=2_000))

SUITE = Suite(
    name="moving-bars",
    title="Moving bars",
    panels=(Panel(BARS),),
    rows=ablation.ROWS,
    training=ablation.TRAINING,
)
