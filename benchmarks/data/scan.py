"""One pass over all values of an array: what identifies them, their range, and copied frames."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.data.array_file import ArrayFile
from benchmarks.data.dataset import random_words
from benchmarks.data.recordings import Recording, Stored, Windows

CHUNK_BYTES = 1 << 24  # that are read at a time
CACHED_BYTES = 1 << 18  # that a processor core keeps close
MOST_PAIRS = 1 << 22  # pairs of frames that are compared; of more, an even sample


class Scan(NamedTuple):
    """What reading every value of an array [..., T, C, H, W] tells.

    `pairs` are hashes of two different frames that follow each other, uint64 [P], and `places`
    count the frames before each pair, int64 [P], growing; one pair in `one_in` is kept, chosen by
    its hash.
    """

    sha256: str
    low: float
    high: float
    pairs: np.ndarray
    places: np.ndarray
    one_in: int


def scan(
    label: str,
    array: ArrayFile,
    recordings: Sequence[Recording],
    where: Callable[[int], str],
    one_in: int = 1,
) -> Scan:
    """Read all of an array, in chunks.

    `recordings` are part of the content that `sha256` identifies. Raises ValueError for values that
    are not finite; `where` names the place of a frame by the number of frames before it.
    """
    head = [array.shape, array.dtype.str, recordings]
    digest = hashlib.sha256(json.dumps(head).encode())
    low, high, wrong, first, count = math.inf, -math.inf, 0, "", 0
    hashes = np.empty(0, np.uint64)  # of the last frame of the chunk before
    pairs, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for frames in _chunks(array):
        least, most = float(frames.min()), float(frames.max())  # NaN if there is one
        if not (math.isfinite(least) and math.isfinite(most)):
            found = np.argwhere(~np.isfinite(frames))
            frame, channel, y, x = found[0].tolist()
            first = first or f"{where(count + frame)}, channel {channel}, row {y}, column {x}"
            wrong += len(found)
        low, high = min(low, least), max(high, most)
        digest.update(frames.data)
        before = len(hashes)
        hashes = np.concatenate([hashes, _hashes(frames)])
        pair = hashes[1:] * np.uint64(3) + hashes[:-1]
        kept = np.flatnonzero((hashes[1:] != hashes[:-1]) & (pair % np.uint64(one_in) == 0))
        pairs.append(pair[kept])
        places.append(kept + (count - before))
        hashes, count = hashes[-1:], count + len(frames)
    if wrong:
        raise ValueError(
            f"{label} holds {wrong:,} NaN, infinite or missing values, the first in {first}; "
            "expected finite values: fill or drop them"
        )
    kept_pairs, kept_places = np.concatenate(pairs), np.concatenate(places)
    return Scan(digest.hexdigest(), low, high, kept_pairs, kept_places, one_in)


def _chunks(array: ArrayFile) -> Iterator[np.ndarray]:
    """All frames in order, [n, C, H, W] at a time."""
    frame = array.shape[-3:]
    most = max(1, CHUNK_BYTES // (array.dtype.itemsize * math.prod(frame)))
    length = array.shape[1] if array.ndim == 5 else 1
    if length <= most:  # whole sequences, or frames of a recording
        rows = most // length
        for start in range(0, len(array), rows):
            yield np.ascontiguousarray(array[start : start + rows]).reshape(-1, *frame)
    else:
        for row in range(len(array)):
            for start in range(0, length, most):
                yield np.ascontiguousarray(array[row, start : start + most])


def _hashes(frames: np.ndarray) -> np.ndarray:
    """A hash of each frame [n, C, H, W]: uint64 [n].

    A sum of its words with random odd weights, and of their upper halves with other ones: a word's
    highest bits alone move only the highest bits of a product.
    """
    data = frames.reshape(len(frames), -1).view(np.uint8)
    if spare := -data.shape[1] % 8:
        data = np.pad(data, ((0, 0), (0, spare)))
    words = data.view(np.uint64)
    whole, upper = random_words(2 * words.shape[1], "frame hash").reshape(2, -1) | np.uint64(1)
    rows = max(1, CACHED_BYTES // data.shape[1])
    blocks = (words[start : start + rows] for start in range(0, len(words), rows))
    return np.concatenate([w @ whole + (w >> np.uint64(32)) @ upper for w in blocks])


def copies(
    train: Scan, train_split: Stored, test: Scan, test_split: Stored, length: int
) -> list[int]:
    """Frames of the test split, and sequences with such frames, that are also trained on.

    A frame counts if it and a neighbour that differs from it follow each other in a sequence of
    the training split too. So a scene in which nothing moves, or a black frame, is no copy by
    itself, and overlapping sequences are.
    """
    starts, test_starts = _starts(train_split), _starts(test_split)
    in_test = _within(test.places, test_starts, length)
    trained = train.pairs[_within(train.places, starts, length)]
    wanted = np.append(np.sort(test.pairs[in_test]), np.uint64(0))  # with an end beyond all others
    seen = trained[wanted[np.searchsorted(wanted[:-1], trained)] == trained]
    same = in_test & np.isin(test.pairs, seen)
    places = test.places[same]
    ends = np.searchsorted(places, test_starts + length - 1)
    sequences = int((ends > np.searchsorted(places, test_starts)).sum())
    return [len(np.union1d(places, places + 1)), sequences]


def _starts(split: Stored) -> np.ndarray:
    """Number of frames before the first one of each sequence."""
    if isinstance(split, Windows):
        return split.starts
    return np.arange(split.first, split.last, dtype=np.int64) * split.array.shape[1]


def _within(places: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Whether a sequence of `length` frames, from one of `starts` on, holds place and next."""
    last = np.searchsorted(starts, places, side="right") - 1
    within: np.ndarray = (last >= 0) & (places < starts[last] + length - 1)
    return within
