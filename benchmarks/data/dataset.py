"""The contract of a data set, and the named random streams that make it reproducible."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tau.predictor import Clip


class Check(NamedTuple):
    """A count, shape or checksum: what it is, what the real files give, what was found."""

    what: str
    expected: str | int
    found: str | int

    @property
    def holds(self) -> bool:
        """Whether the two agree."""
        return self.expected == self.found


class Dataset(ABC):
    """Training, validation and test sequences of one task.

    Every tensor is a batch of sequences [size, past + future, C, H, W], float32 in [0, 1], on the
    device asked for. A value v stands for low + v (high - low) in the data's own unit, which
    `value_range` gives as (low, high); errors are reported in that unit. Validation comes from the
    training side; nothing but `test` touches the test side, which may be another domain (train on
    one city, test on the next).

    A data set is pickled to be read in another process, so it holds places of files, not handles.

    `provenance` is JSON-able and free of paths: it goes into a run's record and, as `digest`, into
    its key. `caption` says the same in one or two sentences for a table.
    """

    name: str
    clip: Clip
    train_sequences: int  # what an epoch counts
    test_sequences: int  # what `test` can give
    provenance: dict[str, str | int]
    caption: str
    notes: tuple[str, ...] = ()  # what is odd or missing, to be read before a run
    value_range: tuple[float, float] = (0.0, 1.0)
    divided_by_255: bool = True  # uint8 frames, so that 255 stands for 1; not numbers with a unit
    synthetic: bool = False  # generated in the place of a real set; `provenance` says so too

    @abstractmethod
    def batch(self, seed: int, step: int, size: int, device: torch.device | str) -> Tensor:
        """Training clips; a pure function of (seed, step, size), so resuming needs no state.

        With several workers, let each ask for its own `step`: step * workers + rank.
        """

    @abstractmethod
    def validation(
        self, sequences: int, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """At most `sequences` clips of the training side, the same at each call."""

    @abstractmethod
    def test(
        self, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """`sequences` test clips in order (None: all), the same ones at each call.

        The last batch may be short.
        """

    def check_unchanged(self) -> None:  # noqa: B027 - nothing to check is a good default
        """Raise OSError if files that were opened have changed since; nothing to check here."""

    def checks(self) -> list[Check]:
        """What `python -m benchmarks.data verify` prints: counts that the real files must give."""
        return []

    @property
    def digest(self) -> str:
        """SHA-256 of `provenance`, which identifies the training source and the test set."""
        return hashlib.sha256(json.dumps(self.provenance, sort_keys=True).encode()).hexdigest()


def spans(sequences: int | None, available: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the batches that cover the first `sequences` of `available` sequences.

    Raises ValueError, at once and not at the first batch, if a number is not positive.
    """
    for label, value in (("sequences", sequences), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{label} is {value}; expected a positive integer")
    end = available if sequences is None else min(sequences, available)
    return ((start, min(start + batch_size, end)) for start in range(0, end, batch_size))


def random_words(count: int, *stream: str | int) -> np.ndarray:
    """`count` uniform 64-bit words [count] of the stream that the names in `stream` identify.

    A hash of the names keys a Philox counter generator. Unlike a torch generator on the CPU, which
    uses 32 bits of its seed, the key has 128, so no two streams meet; and NumPy guarantees raw
    words, unlike its distributions, to stay the same in every version.
    """
    key = hashlib.sha256(json.dumps(stream).encode()).digest()[:16]
    return np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)


def unit_interval(words: np.ndarray) -> np.ndarray:
    """64-bit words to float64, uniform in [0, 1): the 53 leading bits as a fraction."""
    return (words >> np.uint64(11)) * 2.0**-53


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Copy to a device; to a CUDA GPU without waiting for the work that is queued there."""
    if torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def divide_by_255(pixels: Tensor) -> Tensor:
    """Values in 0..255 of any type to float32 in [0, 1], equal to the bit on every device.

    CUDA would multiply by the reciprocal of a plain 255, which is one bit off; a tensor it divides
    by.
    """
    divisor = torch.full((), 255.0, dtype=torch.float32, device=pixels.device)
    return pixels.to(torch.float32, copy=True).div_(divisor)
