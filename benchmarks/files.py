"""Files written whole or not at all, and files that are checked before they are trusted.

What goes wrong with a file is said in one line: the file, what was expected, and what to do.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

PARTIAL = ".partial-"  # begins the name of a file that is being written
ABANDONED_SECONDS = 3600.0  # after which a partial file that nobody guards is taken for left over
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


# --- reading -------------------------------------------------------------------------------------


class Stamp(NamedTuple):
    """What changes when a file is written, replaced or cut short, even if its times are set back.

    On Windows `changed_ns` is the time of creation.
    """

    size: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file or folder, links followed."""
        return cls.of_status(path.stat())

    @classmethod
    def of_status(cls, found: os.stat_result) -> Stamp:
        """The stamp in what os.stat or os.fstat returned."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def local(text: str) -> Path:
    """The folder that --out names; raises ValueError for an address such as s3://bucket."""
    if "://" in text:
        raise ValueError(
            f"--out is {text!r}, an address; expected a folder: mount the storage as one, or write "
            "to a folder here and copy it afterwards"
        )
    return Path(text)


def kind(path: Path) -> str:
    """What `path` is, links followed: "a file", "a folder", "a named pipe" ... or "missing"."""
    try:
        return KINDS.get(stat.S_IFMT(path.stat().st_mode), "of an unknown kind")
    except (FileNotFoundError, NotADirectoryError):
        return "a link to nothing" if path.is_symlink() else "missing"
    except PermissionError:
        return "in a folder without read permission"
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return "a link to itself"


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file, links followed, in a folder that can be searched."""
    return kind(path) == "a file"


def check_regular(path: Path) -> Path:
    """Return `path` if it is a regular file, or a link to one.

    Raises FileNotFoundError if nothing is there, and ValueError for anything else, such as a folder
    or a named pipe, which would keep its reader waiting for ever.
    """
    what = kind(path)
    if what in ("missing", "a link to nothing"):
        raise FileNotFoundError(f"{path} is {what}; expected a file")
    if what != "a file":
        raise ValueError(f"{path} is {what}; expected a file: replace it or move it away")
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a regular file, in hexadecimal."""
    with check_regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file; ValueError that names the file and the `remedy` if damaged."""
    try:
        return json.loads(check_regular(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); {remedy}") from error


# --- writing -------------------------------------------------------------------------------------


def write(path: Path, save: Callable[[BinaryIO], object], *, previous: Path | None = None) -> None:
    """Write a file atomically: `save(file)` fills a partial file beside it, which is then renamed.

    Whatever goes wrong, `path` holds either its old content or all of the new one; the old content
    is kept as `previous`, if that is given. Raises OSError that names the file and what to do when
    there is no room or the folder cannot be written to.
    """
    beside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL, suffix=path.suffix)
        beside = Path(name)
        with os.fdopen(handle, "wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())
        if previous is not None and path.exists():
            path.replace(previous)
        beside.replace(path)
    except BaseException as error:
        if beside is not None:
            with suppress(OSError):
                beside.unlink()
        if (origin := _os_error(error)) is not None:
            raise OSError(origin.errno, f"cannot write {path}: {_reason(origin)}") from error
        raise


def _os_error(error: BaseException | None) -> OSError | None:
    """The OSError that `error` is or came from: torch.save answers one with an error of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _reason(error: OSError) -> str:
    said = error.strerror or str(error)
    if error.errno in FULL:
        return f"{said}; nothing half-written was kept: make room, and the same command continues"
    if error.errno == errno.ENAMETOOLONG:
        return f"{said}; choose shorter names or a shorter --out"
    if error.errno in (errno.EISDIR, errno.ENOTDIR):
        return f"{said}; move what is in its place away"
    return f"{said}; make its folder writable, or choose another one"


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8; of a file name that is not, the bytes are escaped."""
    write(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically; see `to_json`."""
    write_text(path, to_json(content, indent=2) + "\n")


def to_json(content: object, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """JSON text; numbers that JSON lacks become "NaN", "Infinity" and "-Infinity".

    float() turns these back into numbers.
    """
    return json.dumps(
        _encodable(content),
        indent=indent,
        sort_keys=sort_keys,
        ensure_ascii=False,
        allow_nan=False,
    )


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write compressed arrays atomically."""
    write(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def set_aside(path: Path, word: str) -> Path | None:
    """Rename a file or folder to the first free `<name>.<word>-<n>`, which is returned.

    None if nothing is there.
    """
    if not (path.exists() or path.is_symlink()):
        return None
    n = 1
    while (target := path.with_name(f"{path.name}.{word}-{n}")).exists():
        n += 1
    path.rename(target)
    return target


def remove_partial_files(folder: Path, older_than: float = ABANDONED_SECONDS) -> None:
    """Delete what killed processes have left half-written in `folder`.

    With 0 all of it, which is right only for the process that has the folder to itself.
    """
    with suppress(FileNotFoundError):
        for path in folder.glob(f"{PARTIAL}*"):
            with suppress(OSError):  # another process was faster
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _encodable(content: Any) -> Any:
    if isinstance(content, float) and not math.isfinite(content):
        return "NaN" if math.isnan(content) else "Infinity" if content > 0 else "-Infinity"
    if isinstance(content, Mapping):
        return {key: _encodable(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_encodable(value) for value in content]
    return content
