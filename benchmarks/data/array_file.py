"""Arrays in files, read a stretch at a time and never mapped into memory.

The kernel ends a process that reads a mapped file beyond an end that was cut off meanwhile. Here a
file that changes while it is read is an error that names it. An array pickles as its place, so that
a process can hand its data set to another one.
"""

from __future__ import annotations

import math
import os
import threading
import tokenize
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from benchmarks.files import Stamp, check_regular

HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
HEADER_FAULTS = (  # what NumPy raises besides ValueError, depending on the place of the damage
    *(EOFError, TypeError, OverflowError, MemoryError, RecursionError),
    *(SyntaxError, tokenize.TokenError, AttributeError, LookupError),
)

MOST_BYTES = 1 << 30  # of a read: macOS refuses those of 2 GiB

Place = int | slice | tuple[int, slice]

CHANGED = (
    "was changed, replaced or removed since it was opened; expected data that stay as they are "
    "until the command ends: run it again"
)


class ChangedError(OSError):
    """A file is no longer what it was when it was opened."""


class ArrayFile(ABC):
    """An array [N, ...] in the file or folder `path`.

    `array[i]`, `array[a:b]` and `array[i, a:b]` read and return a new array. Raises ChangedError
    where the file has become too short for it, or, when it is unpickled, has changed at all.
    """

    whole = False  # whether any reading reads all of it, so that it is better held in memory
    axes: tuple[str, ...] = ()  # their names, where the file tells them

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, stamp: Stamp) -> None:
        self.path, self.shape, self.dtype, self.stamp = path.absolute(), shape, dtype, stamp

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @abstractmethod
    def __getitem__(self, place: Place) -> np.ndarray: ...

    def current_stamp(self) -> Stamp:
        """The stamp of what is in the file's place now."""
        return Stamp.of(self.path)

    def check_unchanged(self) -> None:
        """Raise ChangedError if the file was written, replaced or removed since it was opened."""
        try:
            unchanged = self.current_stamp() == self.stamp
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            self.changed()

    def changed(self) -> NoReturn:
        """Raise ChangedError."""
        raise ChangedError(f"{self.path} {CHANGED}")


def check_stamps(stamps: Mapping[Path, Stamp], what: str = CHANGED) -> None:
    """Raise ChangedError, saying `what` happened, for a file that has another stamp now."""
    for path, stamp in stamps.items():
        try:
            unchanged = Stamp.of(path) == stamp
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            raise ChangedError(f"{path} {what}")


class NumpyFile(ArrayFile):
    """An array of an .npy file in C order; opening reads the header only.

    Raises ValueError, naming the file, if that is not such a file or shorter than its header says.
    """

    def __init__(self, path: Path) -> None:
        self._handle = _open(check_regular(path))
        self._lock = threading.Lock()
        stamp = self._own_stamp()
        try:
            with os.fdopen(os.dup(self._handle), "rb") as file:
                shape, fortran, dtype = read_header(file)
                self.offset = file.tell()
            if fortran and len(shape) > 1:
                raise ValueError("it is in Fortran order; expected C order")
            check_header(shape, dtype, stamp.size - self.offset)
        except ValueError as error:
            raise ValueError(f"{path} cannot be read as .npy ({error}); write it again") from error
        super().__init__(path, shape, dtype, stamp)

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in vars(self).items() if name not in ("_handle", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._handle, self._lock = _open(check_regular(self.path)), threading.Lock()
        if self._own_stamp() != self.stamp:
            self.changed()

    def __del__(self) -> None:
        if "_handle" in vars(self):
            os.close(self._handle)

    def _own_stamp(self) -> Stamp:
        return Stamp.of_status(os.fstat(self._handle))

    def __getitem__(self, place: Place) -> np.ndarray:
        start, shape = self._stretch(place)
        out = np.empty(shape, self.dtype)
        buffer, position = out.reshape(-1).view(np.uint8).data, self.offset + start
        while len(buffer):
            if not (count := self._read(buffer, position)):
                self.changed()
            buffer, position = buffer[count:], position + count
        return out

    def _stretch(self, place: Place) -> tuple[int, tuple[int, ...]]:
        """First byte and shape of what `place` names: one index, or a stretch of the next axis."""
        lead, stretch = place if isinstance(place, tuple) else (None, place)
        shape, start = self.shape, 0
        for part in (lead, stretch):
            if part is None:
                continue
            row = self.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
            if isinstance(part, slice):
                first, stop, step = part.indices(shape[0])
                if step != 1:
                    raise ValueError(f"step is {step}; expected 1")
                return start + first * row, (max(0, stop - first), *shape[1:])
            index = range(shape[0])[part]
            start, shape = start + index * row, shape[1:]
        return start, shape

    def _read(self, buffer: memoryview, position: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._handle, [buffer[:MOST_BYTES]], position)
        with self._lock:  # Windows
            os.lseek(self._handle, position, os.SEEK_SET)
            data = os.read(self._handle, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether its order is Fortran's, and type of an array that numpy.save wrote.

    Raises ValueError for anything else.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version not in HEADER_READERS:
            raise ValueError(f"its format is {version}; expected numbers, in version 1.0 or 2.0")
        shape, fortran, dtype = HEADER_READERS[version](file)
    except HEADER_FAULTS as error:
        raise ValueError(f"its header is damaged: {error}") from error
    return tuple(map(int, shape)), fortran, dtype


def check_header(shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    """Raise ValueError unless the `size` bytes after the header are the numbers it declares."""
    if dtype.hasobject:
        raise ValueError("it holds pickled objects; expected numbers")
    if min(shape, default=0) < 0:
        raise ValueError(f"its header is damaged: the shape is {shape}")
    declared = math.prod(shape) * dtype.itemsize
    if declared != size:
        raise ValueError(
            f"it has {size:,} bytes; expected {declared:,} by its header, {dtype} {shape}: it is "
            "damaged or cut short"
        )
