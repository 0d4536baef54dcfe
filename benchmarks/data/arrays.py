"""Your own sequences: an .npy or .npz file of shape [N, T, C, H, W]."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.data.dataset import Dataset, divide_by_255, random_words, spans
from tau.predictor import Clip

ONE_IN = 10  # one sequence in ten is for test, and one for validation
CHUNK_BYTES = 1 << 26


class Arrays(Dataset):
    """Sequences [N, T, C, H, W] from a file: uint8, or floats in [0, data_range].

    uint8 frames are divided by 255; an .npy is memory-mapped. The last tenth of the sequences (at
    least one) is for test, the tenth before it for validation, the rest for training. An .npz with
    the two arrays `train` and `test` sets the test sequences apart itself; the last tenth of
    `train` is for validation. A clip is the first past + future frames of a sequence: all of them
    by default, the first half being the past. Training sees each sequence once an epoch, in an
    order drawn from (seed, epoch).

    Every value is read once, when the file is opened. Raises FileNotFoundError, or ValueError if
    the file or an option cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        past: int | None = None,
        future: int | None = None,
        data_range: float = 1.0,
    ) -> None:
        arrays = _load(path)
        for label, array in arrays.items():
            _check_layout(label, array, data_range)
        self._train, self._validation, self._test = _split(path, arrays)
        self.name = path.name
        self.clip = _clip(path, self._train.shape, past, future, data_range)
        self.train_sequences = len(self._train)
        self.test_sequences = len(self._test)
        self.provenance = {
            "name": self.name,
            "past": self.clip.past,
            "future": self.clip.future,
            "data_range": str(data_range),
            "train_sequences": len(self._train),
            "validation_sequences": len(self._validation),
            "test_sequences": len(self._test),
        }
        for label, array in arrays.items():
            self.provenance[f"sha256 of {label}"] = _check_values(label, array, data_range)
        self.caption = (
            f"{self.name}: trained on {len(self._train):,} sequences, tested on "
            f"{len(self._test):,} others."
        )

    def batch(self, seed: int, step: int, size: int, device: torch.device | str) -> Tensor:
        """Training clips: [size, past + future, C, H, W]; a batch may reach into the next epoch."""
        if size < 1:
            raise ValueError(f"size is {size}; expected a positive integer")
        count = self.train_sequences
        places = range(step * size, (step + 1) * size)
        index = [_order(seed, place // count, count)[place % count] for place in places]
        return self._clips(self._train[index, : self.clip.frames], device)

    def validation(
        self, sequences: int, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """The first `sequences` of the sequences set apart from the training side."""
        return self._stream(self._validation, sequences, batch_size, device)

    def test(
        self, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """The first `sequences` of the test sequences."""
        return self._stream(self._test, sequences, batch_size, device)

    def _stream(
        self,
        source: np.ndarray,
        sequences: int | None,
        batch_size: int,
        device: torch.device | str,
    ) -> Iterator[Tensor]:
        batches = spans(sequences, len(source), batch_size)
        return (self._clips(source[a:b, : self.clip.frames], device) for a, b in batches)

    def _clips(self, rows: np.ndarray, device: torch.device | str) -> Tensor:
        dtype = np.uint8 if rows.dtype == np.uint8 else np.float32
        clips = torch.from_numpy(np.require(rows, dtype, ["C", "W"])).to(device)
        return divide_by_255(clips) if dtype == np.uint8 else clips


@lru_cache(maxsize=2)  # the epoch at hand, and the one that a batch may reach into
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.argsort(random_words(count, "arrays", "train", seed, epoch), kind="stable")


def _load(path: Path) -> dict[str, np.ndarray]:
    """The array of an .npy or one-array .npz by its file name, or an .npz's `train` and `test`."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.name: loaded}
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); expected numbers that numpy.save or numpy.savez "
            "wrote, without pickled objects"
        ) from error
    if len(arrays) == 1:
        return {path.name: next(iter(arrays.values()))}
    if arrays.keys() != {"train", "test"}:
        raise ValueError(
            f"{path} holds the arrays {sorted(arrays)}; expected one array, or 'train' and 'test'"
        )
    return arrays


def _check_layout(label: str, array: np.ndarray, data_range: float) -> None:
    if array.ndim != 5 or 0 in array.shape:
        raise ValueError(
            f"{label} has the shape {array.shape}; expected [N, T, C, H, W], none of them 0 "
            "(gray frames have C = 1: array[:, :, None])"
        )
    if array.dtype == np.uint8:
        if data_range != 1.0:
            raise ValueError(
                f"{label} is uint8 and divided by 255, so data_range={data_range} has no effect; "
                "leave it out, or store floats"
            )
    elif array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ValueError(
            f"{label} has the type {array.dtype}; expected uint8, or float16, float32 or float64: "
            "convert it with array.astype"
        )


def _split(path: Path, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and test sequences: views, the last tenths held out."""
    if arrays.keys() == {"train", "test"}:
        rest, test = arrays["train"], arrays["test"]
        if rest.shape[1:] != test.shape[1:] or rest.dtype != test.dtype:
            raise ValueError(
                f"{path}: train is {rest.dtype} {rest.shape} and test {test.dtype} {test.shape}; "
                "expected the same type and the same T, C, H, W"
            )
        held_out = max(1, len(rest) // ONE_IN)
    else:
        (whole,) = arrays.values()
        held_out = max(1, len(whole) // ONE_IN)
        rest, test = whole[:-held_out], whole[-held_out:]
    if len(rest) <= held_out:
        raise ValueError(
            f"{path} leaves {len(rest)} sequences to train and validate on; expected at least 2: "
            "give more sequences"
        )
    return rest[:-held_out], rest[-held_out:], test


def _clip(
    path: Path, shape: tuple[int, ...], past: int | None, future: int | None, data_range: float
) -> Clip:
    _, frames, channels, height, width = shape
    if past is None:
        past = frames // 2 if future is None else frames - future
    if future is None:
        future = frames - past
    if past < 1 or future < 1 or past + future > frames:
        raise ValueError(
            f"{path} has sequences of {frames} frames; past={past} and future={future} do not fit: "
            "expected positive numbers whose sum is no larger"
        )
    return Clip(past, future, channels, height, width, float(data_range))


def _check_values(label: str, array: np.ndarray, data_range: float) -> str:
    """SHA-256 of shape, type and values, read in chunks; ValueError for values out of range."""
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str}".encode())
    rows = max(1, CHUNK_BYTES // array[0].nbytes)
    for start in range(0, len(array), rows):
        chunk = np.ascontiguousarray(array[start : start + rows])
        if chunk.dtype != np.uint8:
            low, high = chunk.min(), chunk.max()  # NaN if there is one
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError(
                    f"{label} holds NaN or infinity in the sequences {start} to "
                    f"{start + len(chunk) - 1}; expected finite values: fill or drop them"
                )
            if low < 0 or high > data_range:
                raise ValueError(
                    f"{label} holds values from {low} to {high}; expected 0 to {data_range}: shift "
                    "or scale them, or open it with data_range=LARGEST"
                )
        digest.update(chunk.data)
    return digest.hexdigest()
