"""The contract of a data set, and the named random streams that make it reproducible."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.data.sources import Source
from tau.predictor import Clip

CLIMATOLOGY_BATCH = 32  # sequences that are read at a time for their mean
SAMPLE = 16  # sequences of a split that tell data apart whose content nobody describes


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
    """The contract of a data set: training, validation and test sequences of one task.

    A subclass states `clip`, `train_sequences` and `test_sequences`, on the class or in its
    constructor, and implements `batch`, `validation` and `test`; everything else has a default. If
    its constructor has a parameter `root`, `open_dataset` passes the data folder (a Path, or None).

    Every tensor is a batch of sequences [size, past + future, C, H, W], float32 in [0, 1], on the
    device asked for. A value v stands for low + v (high - low) in the data's own unit, which
    `value_range` gives as (low, high); errors are reported in that unit. Validation comes from the
    training split; nothing but `test` touches the test split, which may be another domain (train on
    one city, test on the next).

    A data set is pickled to be read in another process, so it holds paths of files, not handles.
    """

    name: str  # by default the class's own
    clip: Clip  # the shape of the task; on the class, also of what `--data synthetic` generates
    train_sequences: int  # what an epoch counts
    test_sequences: int  # what `test` can give
    notes: tuple[str, ...] = ()  # what is odd or missing, to be read before a run
    value_range: tuple[float, float] = (0.0, 1.0)
    synthetic: bool = False  # generated as a stand-in for a real set; `provenance` says so too
    source: ClassVar[Source | None] = None  # files to download and verify; None if there are none
    stand_in: ClassVar[type[Dataset] | None] = None  # `--data synthetic`; None: moving textures

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = cls.__name__

    @abstractmethod
    def batch(self, seed: int, step: int, size: int, device: torch.device | str) -> Tensor:
        """`size` training sequences; a pure function of (seed, step, size), so that a run resumes.

        A loop of your own with workers may let each ask for its own `step`: step * workers + rank.
        """

    def share(
        self, seed: int, step: int, size: int, device: torch.device | str, rank: int, processes: int
    ) -> Tensor:
        """The `rank`-th of `processes` equal parts of `batch(seed, step, size)`, in its order.

        `processes` divides `size`. Here the whole batch is made, and the rest of it dropped: a
        subclass that reads slowly may read its part alone.
        """
        part = size // processes
        return self.batch(seed, step, size, device)[rank * part : (rank + 1) * part]

    @abstractmethod
    def validation(
        self, sequences: int, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """At most `sequences` sequences of the training split, the same at each call."""

    @abstractmethod
    def test(
        self, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """At most `sequences` test sequences (None: all), the same ones at each call.

        The last batch may be short.
        """

    @cached_property
    def provenance(self) -> dict[str, str | int]:
        """What identifies the data: JSON-able, without paths, part of a run's record and its key.

        By default, name, shape, counts and the content of a few sequences (`sample_digests`): state
        it yourself where sequences are not bit-exact on every machine.
        """
        low, high = self.value_range
        return {
            "name": self.name,
            "past": self.clip.past,
            "future": self.clip.future,
            "train_sequences": self.train_sequences,
            "test_sequences": self.test_sequences,
            "value_range": f"{low!r} to {high!r}",
            **self.sample_digests(),
        }

    @cached_property
    def caption(self) -> str:
        """The data in one or two sentences for a table."""
        clip = self.clip
        return (
            f"{self.name}: {clip.past} past and {clip.future} future frames of "
            f"{clip.channels}x{clip.height}x{clip.width}; {self.train_sequences:,} training and "
            f"{self.test_sequences:,} test sequences."
        )

    @cached_property
    def divided_by_255(self) -> bool:
        """Whether uint8 frames are divided by 255, rather than scaled from `value_range`."""
        return tuple(self.value_range) == (0.0, 1.0)

    @property
    def digest(self) -> str:
        """SHA-256 of `provenance`, which identifies the training source and the test set."""
        return hashlib.sha256(json.dumps(self.provenance, sort_keys=True).encode()).hexdigest()

    def climatology(self) -> NDArray[np.float64]:
        """The mean frame of an epoch's training sequences: [C, H, W], in [0, 1].

        For metrics of anomalies alone: it reads them all. A subclass may know it from elsewhere;
        what it reads for that belongs into `provenance`, as it is not part of a key by itself.
        """
        count, size = self.train_sequences, min(CLIMATOLOGY_BATCH, self.train_sequences)
        steps = range(-(-count // size))
        return self._mean_frame(
            self.batch(0, step, size, "cpu")[: count - step * size] for step in steps
        )

    def _mean_frame(self, batches: Iterable[Tensor]) -> NDArray[np.float64]:
        """The mean over sequences and frames of batches: [C, H, W]."""
        total, frames = torch.zeros((), dtype=torch.float64), 0
        for batch in batches:
            total = total + batch.sum((0, 1), dtype=torch.float64)
            frames += batch.shape[0] * batch.shape[1]
        mean: NDArray[np.float64] = (total / frames).numpy()
        return mean

    def overlap(self, sequences: int | None) -> int:
        """How many sequences in a row, of those that `test(sequences)` gives, share frames.

        Sequences that do are not independent, and are resampled in blocks. 1, as here, if there are
        none: a subclass that cuts windows out of recordings says more.
        """
        return 1

    def check_unchanged(self) -> None:  # noqa: B027 - nothing to check is a good default
        """Raise OSError if files that were opened have changed since; nothing to check here."""

    def checks(self) -> list[Check]:
        """What `python -m benchmarks.data verify` prints: counts that the real files must give."""
        return []

    def classes(self) -> tuple[type, ...]:
        """The classes that the data set is made of, whose source travels with it and its key."""
        return (type(self),)

    def check_contract(self) -> None:
        """Raise ValueError naming what the subclass lacks, or states with another type."""
        for attribute in ("clip", "train_sequences", "test_sequences"):
            value = getattr(self, attribute, None)
            kind, wanted = (Clip, "a tau.Clip") if attribute == "clip" else (int, "1 or more")
            if not isinstance(value, kind) or (isinstance(value, int) and value < 1):
                found = "is missing" if value is None else f"is {value!r}"
                raise ValueError(
                    f"data set {self.name!r}: {attribute} {found}; expected {wanted}, stated on "
                    f"the class {type(self).__name__} or set in its __init__"
                )

    def sample_digests(self) -> dict[str, str | int]:
        """SHA-256 of up to 16 sequences of each split, by the split's name and "_sample_sha256".

        Raises ValueError if they do not fit the contract, or are others when asked for again.
        """
        train, test = (min(SAMPLE, n) for n in (self.train_sequences, self.test_sequences))
        reads: dict[str, Callable[[], Iterable[Tensor]]] = {
            "train": lambda: [self.batch(0, 0, train, "cpu")],
            "validation": lambda: self.validation(SAMPLE, SAMPLE, "cpu"),
            "test": lambda: self.test(test, SAMPLE, "cpu"),
        }

        def checked(split: str) -> Iterator[np.ndarray]:
            for frames in list(reads[split]()) or (None,):
                yield self._check_sequences(split, frames).contiguous().numpy()

        return {
            f"{split}_sample_sha256": content_digest(self.name, split, partial(checked, split))
            for split in reads
        }

    def _check_sequences(self, split: str, frames: object) -> Tensor:
        clip = self.clip
        shape = (clip.frames, clip.channels, clip.height, clip.width)
        found = f"a {type(frames).__name__}" if frames is not None else "no sequence"
        if isinstance(frames, Tensor):
            found = f"{frames.dtype} {tuple(frames.shape)}"
            if frames.dtype == torch.float32 and frames.shape[1:] == shape and len(frames):
                low, high = float(frames.min()), float(frames.max())
                if low >= 0 and high <= 1:  # not so for NaN
                    return frames
                found = f"values from {low:.9g} to {high:.9g}"
        raise ValueError(
            f"data set {self.name!r} gives {found} as {split} sequences; expected torch.float32 "
            f"[sequences, {', '.join(map(str, shape))}] in [0, 1]"
        )


def content_digest(name: str, split: str, read: Callable[[], Iterable[np.ndarray]]) -> str:
    """SHA-256 of the arrays that `read` gives; ValueError if it gives others the second time."""
    first, again = (hashlib.sha256(b"".join(a.tobytes() for a in read())) for _ in range(2))
    if first.digest() != again.digest():
        raise ValueError(
            f"data set {name!r} gives other {split} sequences when they are read again; expected "
            "the same ones: draw random numbers from a seed, and leave random transforms out"
        )
    return first.hexdigest()


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
    """Values in 0..255 of any type to float32 in [0, 1], bit-exact on every device.

    CUDA would multiply by the reciprocal of a plain 255, which is one bit off; a tensor it divides
    by.
    """
    divisor = torch.full((), 255.0, dtype=torch.float32, device=pixels.device)
    return pixels.to(torch.float32, copy=True).div_(divisor)
