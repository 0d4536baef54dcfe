"""Archives that are damaged, hostile or odd: unpacked whole, or refused with one line."""

from __future__ import annotations

import errno
import gzip
import io
import os
import random
import shutil
import struct
import tarfile
import zipfile

import pytest

from benchmarks.data import archive
from benchmarks.data.archive import is_archive, unpack

FILES = {"a.txt": b"A" * 1000, "deep/b.txt": b"B", "deep/é.txt": bytes(range(256))}
ZIP_METHODS = {"stored": 0, "deflated": 8, "bzip2": 12, "lzma": 14}
TAR_MODES = ("w", "w:gz", "w:bz2", "w:xz")


def zip_of(files, method=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, content) pairs, or of a dictionary."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as zipped:
        for name, content in getattr(files, "items", lambda: files)():
            zipped.writestr(name, content)
    return buffer.getvalue()


def tar_of(files, mode="w", format=tarfile.PAX_FORMAT):
    """A tar of (name or TarInfo, content) pairs, or of a dictionary."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as tar:
        for name, content in getattr(files, "items", lambda: files)():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def both(files):
    """The same members as a zip and as a tar."""
    return [pytest.param(zip_of(files), id="zip"), pytest.param(tar_of(files), id="tar")]


def every_kind():
    zips = [pytest.param(zip_of(FILES, m), id=f"zip {name}") for name, m in ZIP_METHODS.items()]
    tars = [pytest.param(tar_of(FILES, m), id=f"tar {m}") for m in TAR_MODES]
    return zips + tars


def patched(content, signature, offset, code, value):
    """A zip with a field of all headers of one kind overwritten."""
    content, place = bytearray(content), -1
    while (place := content.find(signature, place + 1)) >= 0:
        struct.pack_into(code, content, place + offset, value)
    return bytes(content)


def flagged(content, code, local, central, value):
    """A zip with a field overwritten in the local headers and in the directory."""
    content = patched(content, b"PK\3\4", local, code, value)
    return patched(content, b"PK\1\2", central, code, value)


def refused(tmp_path, content):
    """Unpack what is to be refused; returns the reason, one line without archive and remedy."""
    path = tmp_path / "set.archive"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        unpack(path, tmp_path / "set")
    text = str(error.value)
    assert text.startswith(f"{path} cannot be unpacked: ") and "\n" not in text
    assert text.endswith(
        "; delete it and download it again, or, if it is known to be right, unpack it with another "
        f"tool into {tmp_path / 'set'}"
    )
    assert list(tmp_path.iterdir()) == [path]
    return text.removeprefix(f"{path} cannot be unpacked: ").rpartition("; delete")[0]


def unpacked(tmp_path, content):
    (tmp_path / "set.archive").write_bytes(content)
    unpack(tmp_path / "set.archive", tmp_path / "set")
    files = (path for path in (tmp_path / "set").rglob("*") if path.is_file())
    return {path.relative_to(tmp_path / "set").as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("content", every_kind())
def test_every_kind_of_archive_is_unpacked(tmp_path, content):
    assert unpacked(tmp_path, content) == FILES
    assert is_archive(tmp_path / "set.archive")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "set.archive"]
    assert (tmp_path / "set").stat().st_mode & 0o755 == 0o755


def test_folders_may_be_listed_twice_or_not_at_all(tmp_path):
    folder = tarfile.TarInfo("deep")
    folder.type = tarfile.DIRTYPE
    top = tarfile.TarInfo("./")
    top.type = tarfile.DIRTYPE
    pairs = [(top, b""), *FILES.items(), (folder, b""), (folder, b"")]
    assert unpacked(tmp_path, tar_of(pairs)) == FILES


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".set.partial-killed").mkdir()
    (tmp_path / "set").mkdir()
    assert unpacked(tmp_path, zip_of(FILES)) == FILES
    assert not list(tmp_path.glob(".set.partial-*"))


# Too much


@pytest.mark.parametrize(
    "content",
    [
        zip_of({"zeros": bytes(10**6)}),
        zip_of({f"{i}": bytes(10**4) for i in range(100)}),
        tar_of({"zeros": bytes(10**6)}, "w:gz"),
        tar_of({f"{i}": bytes(10**4) for i in range(100)}, "w:xz"),
    ],
    ids=["zip", "zip of many", "tar", "tar of many"],
)
def test_an_archive_that_grows_too_much_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.setattr(archive, "SMALLEST_LIMIT", 10**5)
    assert len(content) < 10**6 / archive.FACTOR
    limit = max(10**5, len(content) * archive.FACTOR)
    assert f"it unpacks to more than {limit:,} bytes" in refused(tmp_path, content)
    monkeypatch.setattr(archive, "SMALLEST_LIMIT", 10**6)
    assert sum(map(len, unpacked(tmp_path, content).values())) == 10**6


def test_a_large_archive_may_grow_more_than_a_small_one(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "SMALLEST_LIMIT", 1)
    noise = random.Random(0).randbytes(10**5)
    assert unpacked(tmp_path, zip_of({"noise": noise, "zeros": bytes(5 * 10**5)}))["noise"] == noise


def test_a_zip_that_declares_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    content = zip_of({"zeros": bytes(10**6)})
    monkeypatch.setattr(archive, "SMALLEST_LIMIT", 10**5)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda zipped, info: pytest.fail("unpacked"))
    assert refused(tmp_path, content).startswith("it unpacks to more than 100,000 bytes")


class _Endless(io.RawIOBase):
    given = 0

    def read(self, size=-1):
        self.given += size
        assert self.given < 10**8
        return bytes(size)


def test_sizes_are_counted_whatever_was_declared(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "SMALLEST_LIMIT", 10**6)
    content = zip_of({"a.txt": b"A"})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda zipped, info: _Endless())
    reason = refused(tmp_path, content)
    assert reason.startswith("member 'a.txt': it unpacks to more than 1,000,000 bytes")


@pytest.mark.parametrize("declared", [1, 999, 1001, 2**32 - 2])
def test_a_size_that_is_not_the_members_is_refused(tmp_path, monkeypatch, declared):
    monkeypatch.setattr(archive, "SMALLEST_LIMIT", 2**33)
    content = flagged(zip_of({"a.txt": b"A" * 1000}), "<I", 22, 24, declared)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(2**40))
    assert refused(tmp_path, content)


@pytest.mark.parametrize("content", both({f"{i}": b"" for i in range(6)}))
def test_an_archive_with_too_many_members_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.setattr(archive, "MEMBERS", 5)
    assert "more than 5 members" in refused(tmp_path, content)
    monkeypatch.setattr(archive, "MEMBERS", 6)
    assert len(unpacked(tmp_path, content)) == 6


class Disk:
    def __init__(self, free):
        self.free = free


@pytest.mark.parametrize("content", both(FILES))
def test_a_disk_that_is_too_full_is_told_before_it_is_filled(tmp_path, monkeypatch, content):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(999))
    path = tmp_path / "set.archive"
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"kB are needed, 999B are free") as error:
        unpack(path, tmp_path / "set")
    assert "cannot be unpacked" not in str(error.value)  # the archive is not to blame
    assert list(tmp_path.iterdir()) == [path]


# Members


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "a/../b", "..", "C:\\evil", "..\\evil", "C:evil"]
)
@pytest.mark.parametrize("build", [zip_of, tar_of])
def test_names_that_leave_the_folder_are_refused(tmp_path, build, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    reason = refused(inner, build({"good": b"good", name: b"evil"}))
    assert reason == f"member {name!r}: a name that leaves the folder"
    assert list(tmp_path.iterdir()) == [inner]


@pytest.mark.parametrize("content", both({"good": b"good", "x" * 300: b"", "deep": b""}))
def test_names_that_are_too_long_are_refused_and_shown_in_part(tmp_path, content):
    assert refused(tmp_path, content) == f"member {'x' * 200!r}: {os.strerror(errno.ENAMETOOLONG)}"


@pytest.mark.parametrize("content", both({"a/" * 2000 + "b": b""}))
def test_folders_that_are_too_deep_are_refused(tmp_path, content):
    assert refused(tmp_path, content).endswith(": a name of more than 100 folders")


def test_names_that_are_not_utf8_are_refused(tmp_path):
    content = tar_of({"good": b"", "not-\udcff": b""}, format=tarfile.GNU_FORMAT)
    assert refused(tmp_path, content) == "member 'not-\\udcff': a name that is not UTF-8"
    content = zip_of({"not-é": b""}).replace("not-é".encode(), b"not-\xff\xff")
    assert "utf-8" in refused(tmp_path, content)


@pytest.mark.parametrize(
    ("names", "second"),
    [
        (("a", "a"), "a"),
        (("a", "a/b"), "a/b"),
        (("a/b", "a"), "a"),
        (("a/b", "./a/b"), "./a/b"),
        (("a/b", "a//b"), "a//b"),
        (("good", "."), "."),
    ],
)
@pytest.mark.parametrize("build", [zip_of, tar_of])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_in_one_place_are_refused(tmp_path, build, names, second):
    content = build([(name, b"content") for name in names])
    assert refused(tmp_path, content) == f"member {second!r}: the name of another member"


@pytest.mark.parametrize(
    "kind", ["SYMTYPE", "LNKTYPE", "FIFOTYPE", "CHRTYPE", "BLKTYPE", "CONTTYPE"]
)
@pytest.mark.parametrize("target", ["good", "../../evil", "/etc/passwd"])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind, target):
    info = tarfile.TarInfo("odd")
    info.type, info.linkname = getattr(tarfile, kind), target
    content = tar_of([("good", b"good"), (info, b"")])
    if kind == "CONTTYPE":  # a plain file, to all systems of today
        assert unpacked(tmp_path, content) == {"good": b"good", "odd": b""}
    else:
        assert refused(tmp_path, content).startswith("member 'odd': a link or device; only plain")


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, mode):
    info = zipfile.ZipInfo("odd")
    info.create_system, info.external_attr = 3, mode << 16
    content = zip_of([("good", b"good"), (info, b"/etc/passwd")])
    assert refused(tmp_path, content).startswith("member 'odd': a link or device; only plain")


# Archives that Python cannot read


def test_an_encrypted_zip_is_refused(tmp_path):
    content = flagged(zip_of(FILES), "<H", 6, 8, 1)
    assert refused(tmp_path, content).startswith("member 'a.txt': encrypted; only plain files")


@pytest.mark.parametrize("method", [9, 97, 99], ids=["deflate64", "wavpack", "AES"])
def test_an_unsupported_compression_is_refused(tmp_path, method):
    content = flagged(zip_of(FILES), "<H", 8, 10, method)
    assert refused(tmp_path, content) == (
        "member 'a.txt': That compression method is not supported"
    )


@pytest.mark.parametrize("content", both({}))
def test_an_archive_without_members_is_refused(tmp_path, content):
    assert refused(tmp_path, content) == "it is empty"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tgz"])
def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path, pack):
    content = bytearray(tar_of({"a": b"A", "b": b"B", "c": b"C"}))
    content[1024] ^= 1  # in the second member's name: the header's checksum is wrong now
    assert refused(tmp_path, pack(content)) == "bad checksum"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tgz"])
def test_a_tar_that_was_cut_is_refused(tmp_path, pack):
    assert refused(tmp_path, pack(tar_of(FILES)[:1400])).startswith("member 'a.txt': ")


def extended(size, *, times=1):
    """The beginning of a tar: extended headers that say to be of `size` bytes each."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, size
    header = info.tobuf(tarfile.USTAR_FORMAT)
    return (header + bytes(-size % 512 + size)) * times


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    content = tar_of({"a": b"A"})[:1024] + extended(archive.HEADER + 1)
    assert "a header of 1,048,577 bytes" in refused(tmp_path, gzip.compress(content))
    (tmp_path / "set.archive").write_bytes(gzip.compress(extended(archive.HEADER + 1)))
    assert not is_archive(tmp_path / "set.archive")


def test_headers_without_end_are_refused(tmp_path):
    content = tar_of({"a": b"A"})[:1024] + extended(0, times=3000)
    assert refused(tmp_path, content)


@pytest.mark.parametrize("content", every_kind())
def test_damage_anywhere_leaves_all_or_nothing(tmp_path, content):
    draw = random.Random(len(content))
    for _ in range(20):
        damaged = bytearray(content)
        if draw.random() < 0.2:
            del damaged[draw.randrange(len(damaged)) :]
        else:
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path = tmp_path / "set.archive"
        path.write_bytes(damaged)
        if is_archive(path):
            try:
                unpack(path, tmp_path / "set")
            except ValueError as error:
                assert str(error).startswith(f"{path} cannot be unpacked: ")
                assert list(tmp_path.iterdir()) == [path]
            shutil.rmtree(tmp_path / "set", ignore_errors=True)
