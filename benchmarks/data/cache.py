"""Prepared frames: decoded once into one array on disk with an index, atomically.

A prepared set is a folder with `frames.npy`, [F, C, H, W] uint8 or float32, `index.json`, which
names its recordings, and a marker that says which data it was made of. It is built beside its place
and renamed when it is whole, by one process at a time; others wait. Nothing but such a folder is
ever replaced or deleted, and readers pass over it (`is_prepared_folder`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pooch
from filelock import FileLock, Timeout
from tqdm import tqdm

from benchmarks.data.array_file import NumpyFile
from benchmarks.data.recordings import Recording
from benchmarks.files import FULL, Stamp, write_json

CACHE_VARIABLE = "SPATIOTEMPORAL_CACHE"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
FORMAT = 3  # of the folder; a reader's own version is part of what it calls its source
FRAMES, INDEX, MARKER = "frames.npy", "index.json", ".spatiotemporal-prepared.json"
INDEX_KEYS = {"source", "digest", "recordings", "notes", "facts"}  # of every format
CHUNK_BYTES = 1 << 24


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
    """Prepared frames [F, C, H, W] on disk, and what they are.

    `digest` is the SHA-256 of frames and recordings; `notes` and `facts` are the reader's (see
    `Findings`).
    """

    frames: NumpyFile
    recordings: tuple[Recording, ...]
    digest: str
    notes: tuple[str, ...]
    facts: dict[str, float]


def cache_root() -> Path:
    """Where sets are prepared: SPATIOTEMPORAL_CACHE, or else the platform's cache folder."""
    cache = os.environ.get(CACHE_VARIABLE)
    return (Path(cache) if cache else Path(pooch.os_cache("spatiotemporal-benchmarks"))).resolve()


def cache_folder(name: str, path: Path, **settings: str | int) -> Path:
    """Where the set `name` is prepared whose files are in `path`, read with these settings.

    Each path and each choice of settings has a folder of its own. Equal names, links and relative
    paths do not meet: the resolved path is part of the name.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "data"
    place = hashlib.sha256(os.fsencode(path.resolve()))
    if settings:
        place.update(json.dumps(sorted(settings.items())).encode(errors="surrogateescape"))
    return cache_root() / f"{readable}-{place.hexdigest()[:12]}.frames"


def is_prepared_folder(folder: Path) -> bool:
    """Whether this module made `folder`, in this format or an older one: it is never data."""
    if (folder / MARKER).is_file():
        return True
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(index, dict) and index.keys() >= INDEX_KEYS and (folder / FRAMES).is_file()


def fingerprint(root: Path, files: Iterable[Path], **settings: str | int) -> str:
    """What tells whether prepared frames are still those of `files` below `root`, or of `root`.

    The resolved root; of each file its name and its stamp, which a copy, a replacement and a
    change in place all alter, even with size and times kept. `settings` are the reader's own, its
    version among them.
    """
    prefix = f"{root}{os.sep}"  # of a hundred thousand files: relative_to would take seconds
    listed = [
        ("" if path == root else str(path).removeprefix(prefix), *Stamp.of(path))
        for path in sorted(files, key=str)
    ]
    text = json.dumps([FORMAT, str(root.resolve()), listed, sorted(settings.items())])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


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
    are prepared again, and so are frames that were changed since. `reader` yields blocks of frames
    of `shape` (C, H, W) and `dtype`; `total` is how many frames it will yield, if known, for the
    progress bar. Whatever happens, `folder` holds whole frames or none. Raises what `reader`
    raises, ValueError if it yields nothing, and OSError that says what to do if the folder cannot
    be written to, or holds anything but prepared frames.
    """
    if (found := _open(folder, source)) is not None:
        return found
    check_replaceable(folder)  # now, not after minutes of decoding
    with _explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if (found := _open(folder, source)) is not None:
            return found  # another process prepared it in the meantime
        for leftover in folder.parent.glob(f".{folder.name}.partial-*"):
            # Of a process that was killed: the lock is ours. What is still read stays on NFS.
            shutil.rmtree(leftover, ignore_errors=True)
        with _explained(folder):
            partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        try:
            _build(partial, folder.name, source, reader, tuple(shape), np.dtype(dtype), total)
            partial.chmod(0o755)
            _replace(partial, folder)
        except OSError as error:
            if error.errno not in FULL:
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
    """The frames prepared in `folder` from `source`; None if they are to be prepared (again)."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["format"] != FORMAT or index["source"] != source:
            return None
        frames = NumpyFile(folder / FRAMES)
        recordings = tuple(Recording(*recording) for recording in index["recordings"])
        described = tuple(index["shape"]), np.dtype(index["dtype"])
        kept = Prepared(
            frames, recordings, index["digest"], tuple(index["notes"]), dict(index["facts"])
        )
        stamp = Stamp(*index["stamp"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # damaged, or of an older format
    if (frames.shape, frames.dtype) != described:
        print(f"{folder}: prepared frames of another shape; preparing them again", file=sys.stderr)
        return None
    if frames.stamp != stamp:  # written to, or moved here as a whole: the frames themselves tell
        if _digest(frames, recordings) != kept.digest:
            print(f"{folder}: prepared frames were changed; preparing again", file=sys.stderr)
            return None
        with suppress(OSError):  # a cache that is read-only is hashed each time
            write_json(folder / INDEX, index | {"stamp": frames.stamp})
    return kept


def _digest(frames: NumpyFile, recordings: Sequence[Recording]) -> str:
    digest = hashlib.sha256()
    rows = max(1, CHUNK_BYTES // max(1, frames[0].nbytes))
    for start in range(0, len(frames), rows):
        digest.update(frames[start : start + rows].data)
    return _finished(digest, recordings)


def _finished(digest: Any, recordings: Sequence[Recording]) -> str:
    digest.update(json.dumps(recordings).encode())
    return str(digest.hexdigest())


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
        (folder / FRAMES).open("wb") as file,
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
    index = {
        "format": FORMAT,
        "source": source,
        "digest": _finished(digest, recordings),
        "shape": [count, *shape],
        "dtype": dtype.str,
        "stamp": Stamp.of(folder / FRAMES),
        "recordings": recordings,
        "notes": findings.notes,
        "facts": findings.facts,
    }
    write_json(folder / INDEX, index)
    write_json(folder / MARKER, {"made by": "benchmarks.data", "prepared": name, "source": source})
    for note in findings.notes:
        print(f"{name}: {note}", file=sys.stderr)


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def check_replaceable(folder: Path) -> None:
    """Raise FileExistsError if `folder` is anything but prepared frames, or not there."""
    if not (folder.exists() or folder.is_symlink()):
        return
    ours = not folder.is_symlink() and (folder / MARKER).is_file()
    content = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not ours or content - {FRAMES, INDEX, MARKER, ".DS_Store"}:
        raise FileExistsError(
            errno.EEXIST,
            f"{folder} is or holds something that is not prepared frames; nothing in it is "
            f"touched: move it away, or set {CACHE_VARIABLE} to another folder",
        )


def _replace(new: Path, place: Path) -> None:
    """Rename `new` to `place`, where older prepared frames may be; who reads these keeps them."""
    check_replaceable(place)
    if place.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{place.name}.partial-", dir=place.parent))
        place.replace(old / place.name)
        new.replace(place)
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.replace(place)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say what to do when the place of `folder` cannot be written to."""
    try:
        yield
    except OSError as error:
        remedy = "make its folder writable, or set {} to one that is"
        if error.errno in NO_LOCKS:
            remedy = "its file system has no locks: set {} to a folder on a local disk"
        raise OSError(
            error.errno,
            f"cannot prepare {folder} ({error.strerror}); {remedy.format(CACHE_VARIABLE)}",
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
