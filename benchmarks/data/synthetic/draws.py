"""Random numbers of generated clips, and smooth random textures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.data.dataset import random_words, unit_interval


@dataclass(frozen=True)
class Draws:
    """Random numbers of `size` clips; each quantity has a stream of its own, by its name."""

    stream: tuple[str | int, ...]
    size: int

    def uniform(self, name: str, low: float, high: float, *shape: int) -> Tensor:
        """Numbers from `low` to `high`: float32 [size, *shape]."""
        words = random_words(self.size * math.prod(shape), *self.stream, name)
        values = low + (high - low) * unit_interval(words)
        return torch.from_numpy(values).float().view(self.size, *shape)

    def choice(self, name: str, count: int, *shape: int) -> Tensor:
        """One of 0..count - 1: int64 [size, *shape]."""
        words = random_words(self.size * math.prod(shape), *self.stream, name)
        return torch.from_numpy((words % np.uint64(count)).astype(np.int64)).view(self.size, *shape)

    def noise(self, name: str, frames: int, *shape: int) -> Tensor:
        """Uniform noise of mean 0 and variance 1, from bytes: float32 [size, frames, *shape]."""
        count = frames * self.size * math.prod(shape)
        words = random_words(-(-count // 8), *self.stream, name).astype("<u8")
        values = torch.from_numpy(words.view(np.uint8)[:count]).float()
        values.sub_(127.5).div_(math.sqrt((256**2 - 1) / 12))
        return values.view(frames, self.size, *shape).movedim(0, 1)


def clouds(draws: Draws, name: str, side: int) -> Tensor:
    """A smooth random texture about 0, the sum of finer and finer grids: [size, side, side]."""
    total = torch.zeros(draws.size, 1, 3, 3)
    for octave, cells in enumerate((3, 6, 12, 24, 48)):
        total = F.interpolate(total, (cells, cells), mode="bicubic", align_corners=True)
        total += 0.6**octave * draws.uniform(f"{name} {octave}", -1, 1, 1, cells, cells)
    return F.interpolate(total, (side, side), mode="bicubic", align_corners=True)[:, 0]
