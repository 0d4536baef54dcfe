"""Where each data set comes from: files, mirrors, checksums, licences, and steps by hand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from benchmarks.files import is_file, kind

# What systems leave on disks, besides names that begin with a point.
LITTER = {"thumbs.db", "desktop.ini", "__macosx", "lost+found", "system volume information"}
LITTER |= {"$recycle.bin", "#recycle", "#snapshot", "@eadir"}


@dataclass(frozen=True)
class File:
    """A file to download: its path below the data folder, its mirrors in order, its checksum.

    `hash` is "algorithm:hexadecimal" where one is known; `size` is in bytes where it is known. An
    archive is unpacked into the folder `unpack`, below the data folder; nothing else may lie there.
    A file without a mirror is one to get by hand, listed for its checksum.
    """

    path: str
    urls: tuple[str, ...]
    hash: str | None = None
    size: int | None = None
    unpack: str | None = None


@dataclass(frozen=True)
class Source:
    """What a data set is made of.

    `needs` are patterns (of Path.glob, below the data folder; alternatives in one tuple) of what
    must be there before the set can be opened. `manual` says what to do by hand where no file can
    be downloaded directly, or a login is needed.
    """

    name: str
    title: str
    licence: str
    size: str
    needs: tuple[tuple[str, ...], ...]
    files: tuple[File, ...] = ()
    manual: str = ""

    def __post_init__(self) -> None:
        for file in self.files:
            if file.unpack is None:
                continue
            unpacked = [f.unpack for f in self.files if f.unpack is not None and f is not file]
            for other in (*unpacked, *(f.path for f in self.files)):
                if PurePosixPath(other).is_relative_to(file.unpack):
                    raise ValueError(
                        f"{self.name}: {other} lies in {file.unpack}, into which {file.path} is "
                        "unpacked; expected a folder of its own, which appears whole or not at all"
                    )

    def find(self, file: File, root: Path) -> Path | None:
        """Where `file` is: at its path, or where else `needs` has a file of its name."""
        name = PurePosixPath(file.path).name
        others = (p for patterns in self.needs for p in patterns if PurePosixPath(p).name == name)
        paths = (path for pattern in (file.path, *others) for path in _passing(root, pattern))
        return next(filter(is_file, paths), None)

    def found(self, root: Path | None) -> list[str]:
        """Of each of `needs` that is in `root`, the pattern that is met."""
        return [met for patterns in self.needs if (met := _met(patterns, root)) is not None]

    def missing(self, root: Path | None) -> list[str]:
        """Those of `needs` that are not in `root`, as text: a place of each name that would do.

        A folder, named pipe or broken link in the place of a file is named beside it.
        """
        texts = []
        for patterns in self.needs:
            if _met(patterns, root) is None:
                names = {PurePosixPath(pattern).name: pattern for pattern in reversed(patterns)}
                texts.append(" or ".join(reversed(names.values())) + _instead(patterns, root))
        return texts


def _met(patterns: Iterable[str], root: Path | None) -> str | None:
    if root is None:
        return None
    return next((p for p in patterns if any(map(is_file, _passing(root, p)))), None)


def _instead(patterns: Iterable[str], root: Path | None) -> str:
    """What is in the place of a missing file, in brackets; empty if nothing is."""
    if root is None:
        return ""
    paths = (path for p in patterns for path in (root / p, *_passing(root, p)))
    kinds = ((path, kind(path)) for path in paths)
    other = ((path, what) for path, what in kinds if what not in ("a file", "missing"))
    return next((f" ({path} is {what}; expected a file)" for path, what in other), "")


def visible(root: Path, pattern: str) -> Iterator[Path]:
    """What matches `pattern` below `root`, in order, but is not hidden, as unfinished archives are.

    `**` stands for any number of folders. Unlike Path.glob, and in every version of Python, this
    follows links to folders, each folder once, so that loops end, and finds links to nothing.
    Raises OSError for a folder that may not be read: to pass it over would be to lose data without
    a word.
    """
    return _matching(root, PurePosixPath(pattern).parts, set(), skip=False)


def _passing(root: Path, pattern: str) -> Iterator[Path]:
    """`visible`, past folders that may not be read: they may have nothing to do with the set."""
    return _matching(root, PurePosixPath(pattern).parts, set(), skip=True)


def _matching(
    folder: Path, parts: tuple[str, ...], seen: set[object], *, skip: bool
) -> Iterator[Path]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        if (state := (os.path.realpath(folder), rest)) in seen:
            return
        seen.add(state)
        yield from _matching(folder, rest, seen, skip=skip)
    for entry in _entries(folder, skip=skip):
        if part == "**":
            if _is_folder(entry):
                yield from _matching(folder / entry.name, parts, seen, skip=skip)
        elif not fnmatch(entry.name, part):
            continue
        elif not rest:
            yield folder / entry.name
        elif _is_folder(entry):
            yield from _matching(folder / entry.name, rest, seen, skip=skip)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems leave on disks."""
    return name.startswith(".") or name.lower() in LITTER


def _entries(folder: Path, *, skip: bool) -> list[os.DirEntry[str]]:
    """What is in a folder and no litter, in order; nothing if it is none.

    Raises OSError if it may not be read, unless those are to be skipped.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not is_litter(entry.name)]
    except OSError as error:
        if not skip and not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise
        return []
    return sorted(found, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def find(root: Path, folders: Iterable[str], name: str) -> Path | None:
    """Whatever is called `name`, be it a link to nothing, in the first of `folders` that has it."""
    paths = (root / folder / name for folder in folders)
    return next((path for path in paths if path.exists() or path.is_symlink()), None)


def missing_files(source: Source, root: Path | None) -> FileNotFoundError:
    """The error of a data set that lacks files: what is missing, and the command that gets it."""
    where = "no data folder was given" if root is None else f"{root} lacks them"
    place = "DIR" if root is None else str(root)
    return FileNotFoundError(
        f"{source.name} needs {', '.join(source.missing(root))}; {where}. "
        f"`python -m benchmarks.data download {source.name} --data {place}` gets them or says how; "
        "then give --data " + place + ". Or train on generated sequences: --data synthetic"
    )
