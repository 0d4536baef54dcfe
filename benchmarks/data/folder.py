"""Your own recordings: array files, folders of images and videos, prepared into one array."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data.cache import Prepared, is_prepared_folder
from benchmarks.data.formats import FILES
from benchmarks.data.images import IMAGES, Frames, in_order
from benchmarks.data.layout import count
from benchmarks.data.originals import prepare_files
from benchmarks.data.pictures import Pictures
from benchmarks.data.reader import Film, RecordingReader, Source
from benchmarks.data.sources import is_litter
from benchmarks.data.splits import divide
from benchmarks.data.videos import VIDEOS, is_film

VERSION = 3  # of this reader; raise it when the frames it gives change
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


def open_folder(
    path: Path, name: str, layout: str | None, variable: str | None, pictures: Pictures
) -> Folder:
    """Find the recordings below a folder, and prepare their frames if that is not done.

    Raises ValueError, naming the file, for what cannot be read or does not go with the rest.
    """
    found = _find(path)
    if not (found.arrays or found.images or found.videos):
        passed = f"; found {_some(found.unread)}" if found.unread else ""
        passed += f"; passed over what this program made: {_some(found.ours)}" if found.ours else ""
        raise ValueError(
            f"{path} holds no recording; expected array files of [T, C, H, W] "
            f"({', '.join(FILES)}), videos ({', '.join(VIDEOS)}), or folders of images "
            f"({', '.join(IMAGES)}){passed}"
        )
    _check_effect(path, found, layout, variable, pictures)
    ordered = {name: in_order(name, files) for name, files in found.images.items()}
    films = {name: Film(file) for name, file in found.videos.items()}
    sources: dict[str, Source] = {**found.arrays, **ordered, **films}
    sources = {name: sources[name] for name in sorted(sources, key=natural)}
    splits = divide(str(path), list(sources))
    reader = RecordingReader(path, sources, pictures, layout, variable)
    files = [
        *(file for array in found.arrays.values() for file in _files_of(array)),
        *(file for of in found.images.values() for file in of),
        *found.videos.values(),
    ]
    settings = {"layout": layout or "", "variable": variable or ""}
    prepared, notes = _prepare(name, path, files, reader, pictures, settings)
    notes += _notes(found.unread, found.ours, list(ordered.values()))
    return Folder(prepared, splits, reader.dtype, notes)


def open_video(path: Path, name: str, pictures: Pictures) -> Folder:
    """Prepare the frames of a video if that is not done; raises what `read_video` raises."""
    reader = RecordingReader(path, {name: Film(path)}, pictures)
    prepared, notes = _prepare(name, path, [path], reader, pictures, {})
    return Folder(prepared, {}, reader.dtype, notes)


def _prepare(
    name: str,
    path: Path,
    files: list[Path],
    reader: RecordingReader,
    pictures: Pictures,
    settings: dict[str, str],
) -> tuple[Prepared, list[str]]:
    """The frames of `files`, and what was found at them earlier, which is not told by reading."""
    prepared = prepare_files(
        name,
        path,
        files,
        reader.read,
        reader.shape,
        reader.stored,
        reader.total,
        version=VERSION,
        **settings,
        **pictures.described,
    )
    return prepared, list(prepared.notes) if reader.findings is None else []


def _check_effect(
    path: Path, found: _Found, layout: str | None, variable: str | None, pictures: Pictures
) -> None:
    """Raise ValueError for an option that no file in the folder `path` needs."""
    kinds = {array.suffix.lower() for array in found.arrays.values()}
    videos = bool(found.videos)
    for option, value, among in (
        ("layout", layout, bool(kinds)),
        ("variable", variable, bool(kinds - {".npy"})),
        ("fps", pictures.described.get("fps"), videos),
        ("size", pictures.described.get("size"), videos or bool(found.images)),
        ("gray", pictures.described.get("gray"), videos or bool(found.images)),
    ):
        if value is not None and not among:
            raise ValueError(
                f"{path} holds no file on which {option}={value!r} has an effect; leave it out"
            )


# --- finding -------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """Array files, folders of images and videos by their paths below the folder, and other files.

    `ours` are folders of this program, which are passed over.
    """

    arrays: dict[str, Path]
    images: dict[str, list[Path]]
    videos: dict[str, Path]
    unread: list[str]
    ours: list[str]


def _find(root: Path) -> _Found:
    arrays: dict[str, Path] = {}
    images: dict[str, list[Path]] = {}
    videos: dict[str, Path] = {}
    unread: list[str] = []
    ours: list[Path] = []
    for file in _walk(root, ours):
        suffix = file.suffix.lower()
        if suffix in FILES:
            arrays[_name(file, root)] = file
        elif suffix in VIDEOS and (suffix not in IMAGES or is_film(file)):
            videos[_name(file, root)] = file
        elif suffix in IMAGES:
            images.setdefault(_name(file.parent, root), []).append(file)
        else:
            unread.append(_name(file, root))
    names = sorted((_name(folder, root) for folder in ours), key=natural)
    return _Found(arrays, images, videos, sorted(unread, key=natural), names)


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
        if not os.access(folder, os.R_OK | os.X_OK):
            raise PermissionError(
                errno.EACCES,
                f"{folder} may not be read; change its permissions, or give a folder without it",
            )
        content = list(folder.iterdir())
        made = {path for path in content if _holds_runs(path)}
        made |= {path for path in content if made and path.name in RESULTS}
        for path in content:
            if is_litter(path.name):
                continue
            if not path.is_dir() or path.suffix.lower() == ".zarr":
                yield path
            elif path in made or (os.access(path, os.X_OK) and is_prepared_folder(path)):
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
