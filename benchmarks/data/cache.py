"""Prepared frames: decoded once into one memory-mapped array with an index, atomically.

A prepared set is a folder with `frames.npy`, [F, C, H, W] uint8 or float32, and `index.json`,
which names its recordings. It is built beside its place and renamed when it is whole, by one
process at a time; others wait.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from benchmarks.data.recordings import Recording

CACHE_VARIABLE = "SPATIOTEMPORAL_CACHE"
FORMAT = 2  # of the folder; a reader's own version is part of what it calls its source


class Block(NamedTuple):
    """Frames [n, C, H, W] that follow each other; `first` numbers the first one in its source.

    A block with the name of the one before it, and the next number, continues its recording.
    """

    name: str
    first: int
    frames: np.ndarray


@dataclass(frozen=True)
class Findings:
    """What a reader tells besides frames, kept with them.

    `notes` say what is odd in the source, and are printed when the frames are prepared; `facts` are
    finite numbers by name that would take another pass over the frames, such as the largest value.
    """

    notes: list[str] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)


Reader = Callable[[Findings], Iterable[Block]]


@dataclass(frozen=True)
class Prepared:
    """Prepared frames [F, C, H, W], memory-mapped, and what they are.

    `digest` is the SHA-256 of frames and recordings; `notes` and `facts` are the reader's (see
    `Findings`).
    """

    frames: np.ndarray
    recordings: tuple[Recording, ...]
    digest: str
    notes: tuple[str, ...]
    facts: dict[str, float]


def cache_folder(root: Path, name: str) -> Path:
    """Where a set is prepared: in SPATIOTEMPORAL_CACHE, or else in the data folder `root`."""
    cache = os.environ.get(CACHE_VARIABLE)
    return (Path(cache) if cache else root / "prepared") / name


def fingerprint(root: Path, files: Iterable[Path], **settings: str | int) -> str:
    """What tells whether prepared frames are still those of `files`: names, sizes, times.

    `settings` are the reader's own, its version among them.
    """
    listed = [
        (str(path.relative_to(root)), (stat := path.stat()).st_size, stat.st_mtime_ns)
        for path in sorted(files)
    ]
    text = json.dumps([FORMAT, listed, sorted(settings.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def prepare(
    folder: Path,
    source: str,
    reader: Reader,
    shape: Sequence[int],
    dtype: type[np.uint8] | type[np.float32],
    total: int | None = None,
) -> Prepared:
    """Open the frames prepared in `folder`, or prepare them there first.

    `source` identifies what they are made of (see `fingerprint`): frames made of something else
    are made anew. `reader` yields blocks of frames of `shape` (C, H, W) and `dtype`; `total` is
    how many frames it will yield, if known, for the progress bar. Whatever happens, `folder` holds
    whole frames or none. Raises what `reader` raises, ValueError if it yields nothing, and OSError
    that says what to do if the folder cannot be written to.
    """
    if (found := _open(folder, source)) is not None:
        return found
    with _explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if (found := _open(folder, source)) is not None:
            return found  # another process prepared it in the meantime
        for leftover in folder.parent.glob(f".{folder.name}.partial-*"):
            shutil.rmtree(leftover)  # of a process that was killed: the lock is ours
        with _explained(folder):
            partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        try:
            _build(partial, folder.name, source, reader, tuple(shape), np.dtype(dtype), total)
            partial.chmod(0o755)
            _replace(partial, folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise OSError(
                error.errno,
                f"no room to prepare {folder} ({error.strerror}); nothing half-written was kept: "
                f"make room, or set {CACHE_VARIABLE} to a folder with more",
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    prepared = _open(folder, source)
    assert prepared is not None
    return prepared


def is_prepared(folder: Path, source: str) -> bool:
    """Whether `prepare` would find its work done."""
    return _open(folder, source) is not None


def _open(folder: Path, source: str) -> Prepared | None:
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        frames = np.load(folder / "frames.npy", mmap_mode="r")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None  # not there, or damaged since: a cache is made again
    if index["source"] != source:
        return None
    return Prepared(
        frames,
        tuple(Recording(*recording) for recording in index["recordings"]),
        index["digest"],
        tuple(index["notes"]),
        index["facts"],
    )


def _build(
    folder: Path,
    name: str,
    source: str,
    reader: Reader,
    shape: tuple[int, ...],
    dtype: np.dtype,
    total: int | None,
) -> None:
    findings = Findings()
    recordings: list[Recording] = []
    digest = hashlib.sha256()
    count = 0
    with (
        (folder / "frames.npy").open("wb") as file,
        tqdm(
            total=total,
            desc=f"preparing {name}",
            unit=" frames",
            file=sys.stderr,
            disable=None,  # on a terminal only
        ) as bar,
    ):
        _write_header(file, (0, *shape), dtype)
        for block in reader(findings):
            frames = np.ascontiguousarray(block.frames)
            if frames.shape[1:] != shape or frames.dtype != dtype:
                raise ValueError(
                    f"{block.name}: frames are {frames.dtype} {frames.shape[1:]}; expected {dtype} "
                    f"{shape}"
                )
            if not len(frames):
                continue
            last = recordings[-1] if recordings else None
            if last and (last.name, last.first + last.length) == (block.name, block.first):
                recordings[-1] = last._replace(length=last.length + len(frames))
            else:
                recordings.append(Recording(block.name, block.first, count, len(frames)))
            file.write(frames.data)
            digest.update(frames.data)
            count += len(frames)
            bar.update(len(frames))
        if not count:
            raise ValueError(f"{name}: no frame was found; expected at least one")
        file.seek(0)
        _write_header(file, (count, *shape), dtype)  # as long as before: NumPy leaves room to grow
        file.flush()
        os.fsync(file.fileno())
    digest.update(json.dumps(recordings).encode())
    index = {
        "source": source,
        "digest": digest.hexdigest(),
        "recordings": recordings,
        "notes": findings.notes,
        "facts": findings.facts,
    }
    with (folder / "index.json").open("w", encoding="utf-8") as text:
        json.dump(index, text)
        text.flush()
        os.fsync(text.fileno())
    for note in findings.notes:
        print(f"{name}: {note}", file=sys.stderr)


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _replace(new: Path, place: Path) -> None:
    """Put `new` in the place of a folder that may exist; who has the old one open keeps it."""
    if place.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{place.name}.partial-", dir=place.parent))
        place.replace(old / place.name)
        new.replace(place)
        shutil.rmtree(old)
    else:
        new.replace(place)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say what to do when the place of `folder` cannot be written to."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot prepare {folder} ({error.strerror}); make its folder writable, or set "
            f"{CACHE_VARIABLE} to one that is",
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with _explained(folder):
        lock = wait_for(folder.parent / f".{folder.name}.lock", f"preparing {folder.name}")
    try:
        yield
    finally:
        lock.release()


def wait_for(path: Path, work: str) -> FileLock:
    """Acquire the lock at `path`; says so if another process has it for its `work` and waits."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is {work}; waiting for it", file=sys.stderr)
        lock.acquire()
    return lock
