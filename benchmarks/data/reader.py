"""Reads recordings of one frame size and type: array files, folders of images, and videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data.array_file import ArrayFile
from benchmarks.data.cache import Block, Findings
from benchmarks.data.formats import open_arrays
from benchmarks.data.images import Frames, read_image
from benchmarks.data.layout import arrange, in_words
from benchmarks.data.pictures import Pictures
from benchmarks.data.videos import probe, read_video

CHUNK_BYTES = 1 << 26


class Film(NamedTuple):
    """A recording that is a video."""

    file: Path


Source = Path | Frames | Film  # an array file, images in order, a video


class RecordingReader:
    """Reads `sources`, recordings by name found at `where`, as frames of one `shape` [C, H, W].

    `dtype` is their type in the files, `stored` the one that is kept; `total` is how many frames
    there may be, if that is told. `findings` are what reading found, None until it began.
    """

    def __init__(
        self,
        where: Path,
        sources: dict[str, Source],
        pictures: Pictures,
        layout: str | None = None,
        variable: str | None = None,
    ) -> None:
        self._where, self._sources, self._pictures = where, sources, pictures
        self._layout, self._variable = layout, variable
        self._has_colours = False
        self.findings: Findings | None = None
        self.total: int | None = None
        self._first, first = next(iter(sources.items()))
        if isinstance(first, Film):
            found = probe(first.file, pictures)
            self.shape, self.dtype = found.frame.shape, found.frame.dtype
            self.total = found.total if len(sources) == 1 else None
        elif isinstance(first, Frames):
            image = read_image(first.files[0])
            self.dtype = image.dtype
            self.shape = self._picture(first.files[0], image).shape
        else:
            array = self._open(first)
            self.shape, self.dtype = array.shape[1:], array.dtype

    @property
    def stored(self) -> type[np.uint8] | type[np.float32]:
        """The type of the frames that are given."""
        return np.uint8 if self.dtype in (np.uint8, np.bool_) else np.float32

    def read(self, findings: Findings) -> Iterator[Block]:
        """All frames, in blocks."""
        self.findings = findings
        for name, source in self._sources.items():
            for file, number, frames in self._read(source):
                if frames.shape[1:] != self.shape:
                    raise self._unlike(file, self.dtype, frames.shape[1:])
                yield Block(name, number, frames)
        if self._pictures.gray and not self._has_colours:
            raise ValueError(
                f"{self._where} has no frame in colours, so gray has no effect; leave it out"
            )

    def _read(self, source: Source) -> Iterator[tuple[Path, int, np.ndarray]]:
        """Frames [n, C, H, W] of a recording with their file and the number of the first one."""
        if isinstance(source, Frames):
            for file, number in zip(source.files, source.numbers, strict=True):
                yield file, number, self._picture(file, read_image(file))[None]
            return
        if isinstance(source, Film):
            self._has_colours, number = True, 0
            assert self.findings is not None
            for frames in read_video(source.file, self._pictures, self.findings):
                if self.dtype != np.uint8:
                    raise self._unlike(source.file, frames.dtype, frames.shape[1:])
                yield source.file, number, frames
                number += len(frames)
            return
        array = self._open(source)
        row = int(np.prod(array.shape[1:])) * array.dtype.itemsize
        rows = max(1, CHUNK_BYTES // row)
        for start in range(0, len(array), rows):
            yield source, start, self._convert(source, array[start : start + rows])

    def _picture(self, file: Path, image: np.ndarray) -> np.ndarray:
        """An image [C, H, W] as a frame."""
        self._has_colours |= len(image) == 3
        if self._pictures.size is not None and image.dtype == np.bool_:
            raise ValueError(
                f"{file} is bilevel, which size={self._pictures.described['size']} would blur; "
                "convert it with image.convert('L')"
            )
        return self._pictures.frame(self._convert(file, image))

    def _open(self, path: Path) -> ArrayFile:
        unnamed = path.suffix.lower() == ".npy"
        arrays = open_arrays(path, None if unnamed else self._variable)
        if len(arrays) > 1:
            raise ValueError(
                f"{path} holds the arrays {', '.join(arrays)}; expected one recording in each file "
                "of a folder: give the file itself as --data"
            )
        array = arrange(str(path), arrays[path.name], self._layout)
        if array.ndim == 5:
            raise ValueError(
                f"{path} has the shape {array.shape}, {in_words('NTCHW', array.shape)}; expected a "
                "recording [T, C, H, W], as whole sequences go into one file, --data FILE"
            )
        return array

    def _unlike(self, file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> ValueError:
        return ValueError(
            f"{file} has frames of {dtype} {shape}, and {self._first} of {self.dtype} "
            f"{self.shape}; expected one size and type"
        )

    def _convert(self, file: Path, frames: np.ndarray) -> np.ndarray:
        """Frames [..., C, H, W] of the type that is kept."""
        if frames.dtype != self.dtype:
            raise self._unlike(file, frames.dtype, frames.shape[-3:])
        with np.errstate(over="ignore", invalid="ignore"):
            kept = frames.astype(self.stored, copy=False)
            if frames.dtype.kind in "iu":
                lost = kept.astype(frames.dtype) != frames
            else:
                lost = np.isinf(kept) & np.isfinite(frames)
        if lost.any():
            raise ValueError(
                f"{file} holds {frames[lost][0]}, which float32 cannot keep; expected smaller "
                "values: scale them"
            )
        return kept
