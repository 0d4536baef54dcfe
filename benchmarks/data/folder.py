"""A folder of your own recordings: array files, and folders of images, prepared into one array."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data.array_file import ArrayFile
from benchmarks.data.cache import Block, Findings, Prepared, is_prepared_folder
from benchmarks.data.formats import FILES, open_arrays
from benchmarks.data.images import IMAGES, Frames, in_order, read_image
from benchmarks.data.layout import arrange, count, in_words
from benchmarks.data.originals import prepare_files
from benchmarks.data.splits import divide

CHUNK_BYTES = 1 << 26
VERSION = 2  # of this reader; raise it when the frames it gives change
LITTER = ("thumbs.db", "desktop.ini", "__macosx")  # besides names that begin with a point
RESULTS = ("tables", "records", "figures")  # beside the runs, in a folder for --out


class Folder(NamedTuple):
    """Prepared frames [F, C, H, W] and their recordings.

    `splits` are those of the recordings by name, if names tell them. `dtype` is the frames' type
    in the folder; they are stored as uint8 or float32. `notes` say what is not read, or odd.
    """

    prepared: Prepared
    splits: dict[str, str]
    dtype: np.dtype
    notes: list[str]


def open_folder(path: Path, name: str, layout: str | None, variable: str | None) -> Folder:
    """Find the recordings below a folder, and prepare their frames if that is not done.

    Raises ValueError, naming the file, for what cannot be read or does not go with the rest.
    """
    arrays, images, unread, ours = _find(path)
    if not (arrays or images):
        found = f"; found {_some(unread)}" if unread else ""
        found += f"; passed over what this program made: {_some(ours)}" if ours else ""
        raise ValueError(
            f"{path} holds no recording; expected array files of [T, C, H, W] "
            f"({', '.join(FILES)}), or folders of images ({', '.join(IMAGES)}){found}"
        )
    _check_effect(path, arrays, layout, variable)
    sources: dict[str, Path | Frames] = {**arrays}
    sources |= {name: in_order(name, files) for name, files in images.items()}
    sources = {name: sources[name] for name in sorted(sources, key=natural)}
    splits = divide(str(path), list(sources))
    reader = _Reader(sources, layout, variable)
    files = [
        *(file for array in arrays.values() for file in _files_of(array)),
        *(file for of in images.values() for file in of),
    ]
    prepared = prepare_files(
        name,
        path,
        files,
        reader.read,
        reader.shape,
        reader.stored,
        version=VERSION,
        layout=layout or "",
        variable=variable or "",
    )
    frames = [found for found in sources.values() if isinstance(found, Frames)]
    return Folder(prepared, splits, reader.dtype, _notes(unread, ours, frames))


def _check_effect(
    path: Path, arrays: dict[str, Path], layout: str | None, variable: str | None
) -> None:
    """Raise ValueError for an option that no file in the folder `path` needs."""
    kinds = {array.suffix.lower() for array in arrays.values()}
    for option, value, among in (
        ("layout", layout, kinds),
        ("variable", variable, kinds - {".npy"}),
    ):
        if value is not None and not among:
            raise ValueError(
                f"{path} holds no file on which {option}={value!r} has an effect; leave it out"
            )


class _Reader:
    """Reads recordings of one frame size and type."""

    def __init__(
        self, sources: dict[str, Path | Frames], layout: str | None, variable: str | None
    ) -> None:
        self._sources, self._layout, self._variable = sources, layout, variable
        self._first, first = next(iter(sources.items()))
        if isinstance(first, Path):
            array = self._open(first)
            self.shape, self.dtype = array.shape[1:], array.dtype
        else:
            frame = read_image(first.files[0])
            self.shape, self.dtype = frame.shape, frame.dtype
        self.stored = np.uint8 if self.dtype in (np.uint8, np.bool_) else np.float32

    def read(self, _: Findings) -> Iterator[Block]:
        """All frames, in blocks."""
        for name, source in self._sources.items():
            for file, number, frames in self._read(source):
                if frames.shape[1:] != self.shape or frames.dtype != self.dtype:
                    raise ValueError(
                        f"{file} has frames of {frames.dtype} {frames.shape[1:]}, and "
                        f"{self._first} of {self.dtype} {self.shape}; expected one size and type"
                    )
                yield Block(name, number, self._convert(file, frames))

    def _read(self, source: Path | Frames) -> Iterator[tuple[Path, int, np.ndarray]]:
        """Frames [n, C, H, W] of a recording with their file and the number of the first one."""
        if isinstance(source, Frames):
            for file, number in zip(source.files, source.numbers, strict=True):
                yield file, number, read_image(file)[None]
            return
        array = self._open(source)
        row = int(np.prod(array.shape[1:])) * array.dtype.itemsize
        rows = max(1, CHUNK_BYTES // row)
        for start in range(0, len(array), rows):
            yield source, start, array[start : start + rows]

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

    def _convert(self, file: Path, frames: np.ndarray) -> np.ndarray:
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


# --- finding -------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """Array files and folders of images by their paths below the folder, files of other kinds.

    `ours` are folders of this program, which are passed over.
    """

    arrays: dict[str, Path]
    images: dict[str, list[Path]]
    unread: list[str]
    ours: list[str]


def _find(root: Path) -> _Found:
    arrays: dict[str, Path] = {}
    images: dict[str, list[Path]] = {}
    unread: list[str] = []
    ours: list[Path] = []
    for file in _walk(root, ours):
        if file.suffix.lower() in FILES:
            arrays[_name(file, root)] = file
        elif file.suffix.lower() in IMAGES:
            images.setdefault(_name(file.parent, root), []).append(file)
        else:
            unread.append(_name(file, root))
    names = sorted((_name(folder, root) for folder in ours), key=natural)
    return _Found(arrays, images, sorted(unread, key=natural), names)


def _walk(root: Path, ours: list[Path]) -> Iterator[Path]:
    """Files below `root`, and Zarr folders, through links; hidden files left out.

    Folders that this program made are not entered, but added to `ours`.
    """
    if is_prepared_folder(root):
        raise ValueError(f"{root} holds prepared frames of this program; give the data themselves")
    pending: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while pending:
        folder, above = pending.pop()
        status = folder.stat()
        identity = status.st_dev, status.st_ino
        if identity in above:
            continue  # a link to a folder that it is in
        content = list(folder.iterdir())
        made = {path for path in content if _holds_runs(path)}
        made |= {path for path in content if made and path.name in RESULTS}
        for path in content:
            if path.name.startswith(".") or path.name.lower() in LITTER:
                continue
            if not path.is_dir() or path.suffix.lower() == ".zarr":
                yield path
            elif path in made or is_prepared_folder(path):
                ours.append(path)
            else:
                pending.append((path, above | {identity}))


def _holds_runs(folder: Path) -> bool:
    """Whether runs of this program lie in `folder`; in `runs`, or `runs-1-threads` and so on."""
    return folder.name.startswith("runs") and (
        (folder / ".locks").is_dir() or any(folder.glob("*/record.json"))
    )


def _files_of(array: Path) -> list[Path]:
    return [path for path in array.rglob("*") if path.is_file()] if array.is_dir() else [array]


def _name(path: Path, root: Path) -> str:
    """Path below `root`, in letters that can be printed and stored."""
    return printable(path.relative_to(root).as_posix())


def printable(name: str) -> str:
    """A file's name, with bytes that are no text written as \\x00."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key: r9 before r10."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(x), x) if x[:1] in "0123456789" and x else (1, 0, x) for x in parts]


# --- notes ---------------------------------------------------------------------------------------


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _notes(unread: list[str], ours: list[str], recordings: list[Frames]) -> list[str]:
    notes = [f"not read: {count(len(unread), 'file')}, {_some(unread)}"] if unread else []
    if ours:
        notes.append(f"passed over, as this program made them: {_some(ours)}")
    if remarks := [found.remark for found in recordings if found.remark]:
        more = f" (and so in {len(remarks) - 1} others)" if len(remarks) > 1 else ""
        notes.append(remarks[0] + more)
    gaps = [
        (found.files[index], step - 1)
        for found in recordings
        for index, step in enumerate(np.diff(found.numbers).tolist())
        if step > 1
    ]
    if gaps:
        missing = count(sum(missing for _, missing in gaps), "frame")
        where = f"{count(len(gaps), 'gap')}, the first after {gaps[0][0].name}"
        notes.append(f"missing: {missing} in {where}; no sequence crosses a gap")
    return notes
