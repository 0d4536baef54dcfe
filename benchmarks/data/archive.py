"""Zip and tar archives: unpacked completely or not at all, with limits on what they unpack to.

Bytes are counted while unpacking, since the sizes that an archive declares may be false. Members
must be files and folders with relative names; an archive with anything else is refused.
"""

from __future__ import annotations

import errno
import glob
import lzma
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, NamedTuple

from tqdm import tqdm

# An archive may unpack to FACTOR times its size: images, videos and most HDF5 files hardly shrink.
# Arrays do, so that any archive may unpack to SMALLEST_LIMIT bytes: TaxiBJ's have 1.3 GB.
FACTOR, SMALLEST_LIMIT = 10, 4 * 10**9
MEMBERS = 1_000_000  # KTH's images, the most numerous, are fewer than 300,000
DEPTH = 100  # of nested folders; Python removes them by recursion
HEADER = 1 << 20  # bytes of an extended header of tar, which is read as a whole
EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
CHUNK = 1 << 20

FILE, FOLDER = "a file", "a folder"
DAMAGE = (  # what zipfile and tarfile raise for damaged, encrypted and exotic archives
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,  # NotImplementedError and RecursionError, too
    ArithmeticError,
    LookupError,
    MemoryError,
)


class _Member(NamedTuple):
    name: str
    kind: str  # FILE, FOLDER, or what else it is: such members are not unpacked
    size: int  # in bytes, as declared
    open: Callable[[], IO[bytes] | None]


def is_archive(path: Path) -> bool:
    """Whether `path` begins as a tar archive does, or ends as a zip does."""
    if (tar := _open_tar(path)) is not None:
        tar.close()
    return tar is not None or zipfile.is_zipfile(path)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack `archive` into `folder`, which must be missing or empty, and appears when complete.

    Raises ValueError, and leaves nothing, if the archive is damaged, encrypted, empty or beyond the
    limits above, or if a member is not a file or folder of its own inside `folder`; OSError if the
    disk is full or cannot be written to. The caller holds a lock against other processes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a process that was killed
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    remedy = (
        "delete it and download it again, or, if it is known to be right, unpack it with another "
        f"tool into {folder}"
    )
    try:
        with _blamed(f"{archive} cannot be unpacked", remedy), _members(archive) as batches:
            _write(batches, place, _Room(archive, place))
        place.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()
        place.replace(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _blamed(what: str, remedy: str = "") -> Iterator[None]:
    """Raise ValueError with `what` and `remedy` for any exception that a bad archive causes."""
    try:
        yield
    except (*DAMAGE, OSError) as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError):
            if error.errno not in (None, errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG):
                raise
            reason = error.strerror or reason
        raise ValueError(f"{what}: {reason}" + (remedy and f"; {remedy}")) from error


class _Room:
    """Counts what an archive unpacks to, and refuses what exceeds its limits or the free disk."""

    def __init__(self, archive: Path, place: Path) -> None:
        self._place = place
        self._limit = max(SMALLEST_LIMIT, FACTOR * archive.stat().st_size)
        self._bytes = self._members = 0

    def announce(self, members: list[_Member]) -> None:
        """Count members that come next; refuse them if they declare too many bytes."""
        self._members += len(members)
        if self._members > MEMBERS:
            raise ValueError(f"it has more than {MEMBERS:,} members, which is the limit")
        size = sum(member.size for member in members)
        self._check(self._bytes + size)
        free = shutil.disk_usage(self._place).free
        if free < size:
            needed, free = (tqdm.format_sizeof(number, "B") for number in (size, free))
            raise OSError(errno.ENOSPC, f"{needed} are needed, {free} are free")

    def take(self, size: int) -> None:
        """Count `size` bytes that were unpacked, whatever was declared."""
        self._bytes += size
        self._check(self._bytes)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ValueError(
                f"it unpacks to more than {self._limit:,} bytes, the limit for an archive of this "
                "size"
            )


def _write(batches: Iterable[list[_Member]], place: Path, room: _Room) -> None:
    for batch in batches:
        room.announce(batch)
        for member in batch:
            name = repr(member.name[:200])
            with _blamed(f"member {name}"):
                _write_member(member, place, room)
    if not any(place.iterdir()):
        raise ValueError("it is empty")


def _write_member(member: _Member, place: Path, room: _Room) -> None:
    name = PureWindowsPath(member.name)  # whose parts and anchors include those of POSIX
    if name.anchor or ".." in name.parts:
        raise ValueError("a name that leaves the folder")
    if len(name.parts) > DEPTH:
        raise ValueError(f"a name of more than {DEPTH} folders")
    if any("\ud800" <= letter <= "\udfff" for letter in member.name):  # stand for bytes
        raise ValueError("a name that is not UTF-8")
    if member.kind not in (FILE, FOLDER):
        raise ValueError(f"{member.kind}; only plain files and folders are unpacked")
    target = place / member.name
    try:
        (target if member.kind == FOLDER else target.parent).mkdir(parents=True, exist_ok=True)
        if member.kind == FILE:
            with target.open("xb") as out:
                _copy(member, out, room)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError("the name of another member") from error


def _copy(member: _Member, out: IO[bytes], room: _Room) -> None:
    source = member.open()
    assert source is not None  # only for members that are not files
    with source:
        while chunk := source.read(CHUNK):
            room.take(len(chunk))
            out.write(chunk)
    if out.tell() != member.size:
        raise ValueError(f"it ends at byte {out.tell():,}; expected {member.size:,} bytes")


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[list[_Member]]]:
    """The members in batches: all of a zip, which lists them first; one at a time of a tar."""
    if (tar := _open_tar(archive)) is not None:
        with tar:
            yield ([_tar_member(tar, info)] for info in tar)
    else:
        with zipfile.ZipFile(archive) as zipped:
            yield iter([[_zip_member(zipped, info) for info in zipped.infolist()]])


def _zip_member(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    unix = info.external_attr >> 16 if info.create_system == 3 else 0
    if info.flag_bits & 1:
        kind = "encrypted"
    elif info.is_dir():
        kind = FOLDER
    else:
        kind = FILE if stat.S_IFMT(unix) in (0, stat.S_IFREG) else "a link or device"
    return _Member(info.filename, kind, info.file_size, partial(zipped.open, info))


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    kind = FILE if info.isreg() else FOLDER if info.isdir() else "a link or device"
    return _Member(info.name, kind, info.size, partial(tar.extractfile, info))


def _open_tar(path: Path) -> tarfile.TarFile | None:
    """The tar archive at `path`, compressed or not; None if it is not one."""
    try:
        return tarfile.open(path, tarinfo=_TarInfo, encoding="utf-8")
    except DAMAGE:
        return None


class _TarInfo(tarfile.TarInfo):
    """A header that is refused if it is damaged, where tarfile would take it for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarInfo:
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):  # zeros are the end
                raise tarfile.ReadError(str(error)) from error
            raise
        if member.type in EXTENDED and member.size > HEADER:
            raise tarfile.ReadError(f"a header of {member.size:,} bytes; expected {HEADER:,}")
        return member
