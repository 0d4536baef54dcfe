"""Data sets whose sequences are stored: windows of recordings, or sequences of a user's file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.data.dataset import Dataset, divide_by_255, random_words, spans, to_device
from benchmarks.data.recordings import Located, Readable, overlap
from tau.predictor import Clip

CLIMATOLOGY_BYTES = 1 << 26  # of training sequences that are averaged at a time


class StoredDataset(Dataset):
    """A fixed set of sequences in each split, read and converted a batch at a time.

    `clip` is the task at the stored frame size. Values x become (x - low) / (high - low) for the
    `value_range` (low, high); without one, uint8 frames are divided by 255, and floats are in
    [0, 1] as they are. `downsample` average-pools the converted frames. Training sees each sequence
    once per epoch, in an order drawn from (seed, epoch). `train` and `test` may come from
    different domains.

    Raises ValueError for an option that does not fit, or a split without a sequence.
    """

    is_prepared: ClassVar[bool] = True  # frames are decoded once, and not read where they are

    def __init__(
        self,
        name: str,
        clip: Clip,
        *,
        train: Readable,
        validation: Readable,
        test: Readable,
        provenance: Mapping[str, str | int],
        caption: str,
        value_range: tuple[float, float] | None = None,
        downsample: int = 1,
    ) -> None:
        for split, stored in (("train", train), ("validation", validation), ("test", test)):
            if not len(stored):
                raise ValueError(
                    f"{name} has no {split} sequence of {clip.frames} frames; expected at least "
                    "one: is the data folder complete?"
                )
        self.name = name
        self.clip = smaller(clip, downsample)
        self._train, self._validation, self._test = train, validation, test
        self.value_range, self._downsample = value_range or (0.0, 1.0), downsample
        self.divided_by_255 = value_range is None
        self.train_sequences = len(train)
        self.test_sequences = len(test)
        self.provenance = {
            "name": name,
            "past": clip.past,
            "future": clip.future,
            "train_sequences": len(train),
            "validation_sequences": len(validation),
            "test_sequences": len(test),
            **({} if downsample == 1 else {"downsample": downsample}),
            **provenance,
        }
        self.caption = caption

    def batch(self, seed: int, step: int, size: int, device: torch.device | str) -> Tensor:
        """Training sequences [size, past + future, C, H, W]; some may be of the next epoch."""
        if size < 1:
            raise ValueError(f"size is {size}; expected a positive integer")
        count = self.train_sequences
        places = range(step * size, (step + 1) * size)
        index = [int(_order(seed, place // count, count)[place % count]) for place in places]
        return self._convert(self._train.read(index, self.clip.frames), device)

    def share(
        self, seed: int, step: int, size: int, device: torch.device | str, rank: int, processes: int
    ) -> Tensor:
        """Its part of a batch, of which nothing else is read: a batch is a stretch of an epoch."""
        return self.batch(seed, step * processes + rank, size // processes, device)

    def validation(
        self, sequences: int, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """Sequences held out of the training split: `sequences` of them, evenly spaced."""
        return self._stream(self._validation, sequences, batch_size, device)

    def test(
        self, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """Test sequences: all, or `sequences` of them, evenly spaced over the whole split."""
        return self._stream(self._test, sequences, batch_size, device)

    def climatology(self) -> NDArray[np.float64]:
        """The mean frame of the training sequences, which are read once and in order."""
        bytes_each = 4 * math.prod(self._train.read([0], self.clip.frames).shape)
        batches = spans(None, len(self._train), max(1, CLIMATOLOGY_BYTES // bytes_each))
        return self._mean_frame(
            self._convert(self._train.read(np.arange(a, b), self.clip.frames), "cpu")
            for a, b in batches
        )

    def overlap(self, sequences: int | None) -> int:
        """How many of the test sequences in a row share frames; 1 where `test` does not tell."""
        if not isinstance(self._test, Located):
            return 1
        chosen = evenly_spaced(sequences, len(self._test))
        return overlap(self._test.stretches(chosen, self.clip.frames))

    def check_unchanged(self) -> None:
        """Raise ChangedError if a file that sequences are read from is no longer what it was."""
        for split in (self._train, self._validation, self._test):
            split.check_unchanged()

    def _stream(
        self, split: Readable, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        batches = spans(sequences, len(split), batch_size)
        chosen = evenly_spaced(sequences, len(split))
        return (
            self._convert(split.read(chosen[a:b], self.clip.frames), device) for a, b in batches
        )

    def _convert(self, stored: np.ndarray, device: torch.device | str) -> Tensor:
        if stored.dtype == np.uint8 and self.divided_by_255:
            values = torch.from_numpy(np.ascontiguousarray(stored))
            frames = divide_by_255(to_device(values, device))
        else:
            low, high = self.value_range
            if (low, high) != (0.0, 1.0):  # in float64: equal content gives equal frames
                stored = (stored.astype(np.float64) - low) / (high - low)
            frames = to_device(torch.from_numpy(stored.astype(np.float32, copy=False)), device)
        return average_pool(frames, self._downsample)


def average_pool(frames: Tensor, downsample: int) -> Tensor:
    """Frames [B, T, C, H, W] averaged over squares of `downsample` pixels; as they are for 1."""
    if downsample == 1:
        return frames
    pooled = F.avg_pool2d(frames.flatten(0, 1), downsample)
    return pooled.view(*frames.shape[:3], *pooled.shape[2:])


def smaller(clip: Clip, downsample: int) -> Clip:
    """The task on average-pooled frames; ValueError if their size does not divide so."""
    if downsample < 1 or clip.height % downsample or clip.width % downsample:
        raise ValueError(
            f"downsample is {downsample}; expected a divisor of the frame size "
            f"{clip.height}x{clip.width}"
        )
    return replace(clip, height=clip.height // downsample, width=clip.width // downsample)


def evenly_spaced(sequences: int | None, available: int) -> np.ndarray:
    """Evenly spaced indices of `sequences` of `available` sequences (None: all): int64."""
    count = available if sequences is None else min(sequences, available)
    return np.arange(count) * available // count


@lru_cache(maxsize=2)  # the epoch at hand, and the one that a batch may reach into
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.argsort(random_words(count, "arrays", "train", seed, epoch), kind="stable")
