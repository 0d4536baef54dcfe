"""Generated stand-ins for the real data sets, so that any suite runs without data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.data.dataset import Dataset, random_words, spans, to_device, unit_interval
from benchmarks.data.stored import average_pool, smaller
from tau.predictor import Clip

VERSION = 1  # of the generator; raise it when the sequences it makes change
WAVES = 4  # per channel
WARNING = "It is not the real data, and scores on it do not compare with published ones."


class MovingTextures(Dataset):
    """Stand-in for the data set `real` of the task `clip`: textures that move at constant velocity.

    `past` and `future` change the number of frames; a longer sequence begins as the shorter one.
    `downsample` average-pools the frames. Random numbers are equal on every machine, pixels to
    rounding. Raises ValueError for an option out of range.
    """

    synthetic = True
    train_sequences = 10_000
    test_sequences = 1_000

    def __init__(
        self,
        real: str,
        clip: Clip,
        *,
        past: int | None = None,
        future: int | None = None,
        downsample: int = 1,
    ) -> None:
        frames = {"past": past, "future": future}
        self._full = replace(clip, **{name: n for name, n in frames.items() if n is not None})
        self.clip, self._downsample = smaller(self._full, downsample), downsample
        self.name = f"synthetic {real}"
        title = f"moving textures of {clip.channels}x{clip.height}x{clip.width}"
        self.provenance = {"name": self.name, "synthetic": title, "version": VERSION}
        self.provenance |= {name: getattr(self._full, name) for name in frames}
        self.provenance["downsample"] = downsample
        self.caption = f"Synthetic stand-in for {real}: {title}. {WARNING}"

    def batch(self, seed: int, step: int, size: int, device: torch.device | str) -> Tensor:
        """Fresh sequences for training: [size, past + future, C, H, W] in [0, 1]."""
        return self.share(seed, step, size, device, 0, 1)

    def share(
        self, seed: int, step: int, size: int, device: torch.device | str, rank: int, processes: int
    ) -> Tensor:
        """Its part of a batch, which is made by itself."""
        if size < 1:
            raise ValueError(f"size is {size}; expected a positive integer")
        part = size // processes
        places = range(rank * part, (rank + 1) * part)
        return self._generate(places, device, "train", seed, step)

    def validation(
        self, sequences: int, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """Fixed sequences like those of training, from random streams that training never uses."""
        batches = spans(sequences, self.train_sequences, batch_size)
        return (self._generate(range(*batch), device, "validation") for batch in batches)

    def test(
        self, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """The first `sequences` of the 1,000 test sequences."""
        batches = spans(sequences, self.test_sequences, batch_size)
        return (self._generate(range(*batch), device, "test") for batch in batches)

    def climatology(self) -> NDArray[np.float64]:
        """The waves' mean, as their phases are uniform and their sum stays in [0, 1]."""
        return np.full((self.clip.channels, self.clip.height, self.clip.width), 0.5)

    def _generate(self, index: range, device: torch.device | str, *stream: str | int) -> Tensor:
        frames = np.stack([texture(self._full, self.name, *stream, i) for i in index])
        return to_device(average_pool(torch.from_numpy(frames), self._downsample), device)


def texture(clip: Clip, *stream: str | int) -> np.ndarray:
    """Plane waves of the named random stream: [past + future, C, H, W] float32 in [0, 1].

    sin(a + b) is the imaginary part of exp(ia) exp(ib), so that a frame is the product of a matrix
    of its rows' phases and one of its columns', [T, C, H, WAVES] and [T, C, WAVES, W].
    """
    draws = unit_interval(random_words(2 + 3 * WAVES * clip.channels, *stream))
    heading, speed = 2 * np.pi * draws[0], 0.5 + 2 * draws[1]  # 0.5 to 2.5 pixels per frame
    direction, phase, length = np.moveaxis(draws[2:].reshape(clip.channels, WAVES, 3, 1), 2, 0)
    number = 2 * np.pi / (8 + 24 * length)  # of wavelengths from 8 to 32 pixels
    moved = speed * np.arange(clip.frames).reshape(-1, 1, 1, 1)
    y = np.arange(clip.height) - moved * np.sin(heading)
    x = np.arange(clip.width) - moved * np.cos(heading)
    rows = number * np.sin(2 * np.pi * direction) * y + 2 * np.pi * phase
    columns = number * np.cos(2 * np.pi * direction) * x
    total = (np.exp(1j * rows).swapaxes(-1, -2) @ np.exp(1j * columns)).imag
    frames: np.ndarray = np.clip(0.5 + total / (2 * WAVES), 0, 1).astype(np.float32)
    return frames
