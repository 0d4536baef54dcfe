"""Recordings: stretches of frames without a gap, and the windows that are cut from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from benchmarks.data.array_file import ArrayFile


class Recording(NamedTuple):
    """Frames that follow each other without a gap, and their place in one array of frames.

    `first` numbers the first frame in its source (a video's frame number, a time slot); `start`
    is its place in the array, `length` the number of frames.
    """

    name: str
    first: int
    start: int
    length: int


def cut(
    recordings: Iterable[Recording], length: int, stride: int, *, end_aligned: bool = False
) -> np.ndarray:
    """Places of the first frames of all windows of `length` frames, `stride` apart: int64 [N].

    No window reaches over the end of a recording. Windows are counted from a recording's first
    frame, or, with `end_aligned`, from its last one; either way they are given in order.
    """
    if length < 1 or stride < 1:
        raise ValueError(f"length is {length}, stride is {stride}; expected positive integers")
    starts: list[np.ndarray] = [np.empty(0, np.int64)]
    for recording in recordings:
        spare = recording.length - length
        offset = spare % stride if end_aligned else 0
        starts.append(recording.start + np.arange(offset, spare + 1, stride, dtype=np.int64))
    return np.concatenate(starts)


class Readable(Protocol):
    """Sequences of one split, read by their indices: `Windows`, `Sequences`, or your own."""

    def __len__(self) -> int:
        """How many sequences there are."""

    def read(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """The first `length` frames of the sequences in `index`: [B, length, C, H, W]."""

    def check_unchanged(self) -> None:
        """Raise OSError if what is read is no longer what was opened."""


@runtime_checkable
class Located(Protocol):
    """Sequences that tell which frames they are of: two that share frames are not independent."""

    def stretches(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """Places [N, 2] of the first and last frame of the sequences in `index`, both included."""


def overlap(stretches: np.ndarray) -> int:
    """How many stretches [N, 2], in the order of their recordings, share frames with the next.

    Counts the first: 1 if none do.

    Examples:
        >>> overlap(np.array([[0, 9], [5, 14], [10, 19], [15, 24]]))
        2
    """
    first, last = stretches.astype(np.int64).T
    count = 1
    while count < len(stretches):
        shared = np.maximum(first[count:], first[:-count]) <= np.minimum(
            last[count:], last[:-count]
        )
        if not shared.any():
            break
        count += 1
    return count


class Windows:
    """Sequences cut from frames [F, C, H, W] at the places `starts` [N].

    Only what is read is copied. `reverse_channels` gives BGR for RGB.
    """

    def __init__(
        self, frames: ArrayFile, starts: np.ndarray, *, reverse_channels: bool = False
    ) -> None:
        self.array, self.starts, self.reverse_channels = frames, starts, reverse_channels

    def __len__(self) -> int:
        return len(self.starts)

    def read(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """The first `length` frames of the windows in `index`: [B, length, C, H, W]."""
        out = np.empty((len(index), length, *self.array.shape[1:]), self.array.dtype)
        for sequence, start in zip(out, self.starts[index], strict=True):
            sequence[...] = self.array[int(start) : int(start) + length]
        return out[:, :, ::-1] if self.reverse_channels else out

    def stretches(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """Places [N, 2] of the first and last frame of the windows in `index`."""
        starts = self.starts[index]
        return np.stack([starts, starts + length - 1], axis=1)

    def check_unchanged(self) -> None:
        """Raise ChangedError if the file of frames is no longer what it was."""
        self.array.check_unchanged()


class Sequences:
    """Sequences that a file stores whole: rows `first` to `last` of an array [N, T, C, H, W].

    Only what is read is copied.
    """

    def __init__(self, array: ArrayFile, first: int, last: int) -> None:
        self.array, self.first, self.last = array, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def read(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """The first `length` frames of the sequences in `index`: [B, length, C, H, W]."""
        out = np.empty((len(index), length, *self.array.shape[2:]), self.array.dtype)
        for sequence, place in zip(out, index, strict=True):
            sequence[...] = self.array[self.first + int(place), :length]
        return out

    def check_unchanged(self) -> None:
        """Raise ChangedError if the file is no longer what it was."""
        self.array.check_unchanged()


Stored = Windows | Sequences  # in files
