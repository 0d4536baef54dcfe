"""Downloads that continue where they broke off, of which nothing partial is taken for whole.

A file grows as NAME.part beside its place; NAME.part.json tells from which mirror, and which
version of the file (ETag or Last-Modified), its bytes are. With these a Range request continues it
under If-Range (RFC 9110, sections 13.1.5 and 14), in this process or a later one, and never joins
two versions. Only when length and checksum are right does it get its name. An archive is likewise
unpacked beside its folder, which is renamed when it is whole.
"""

from __future__ import annotations

import errno
import json
import lzma
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pooch
import requests
from requests import Response
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from benchmarks.data.cache import wait_for
from benchmarks.data.dataset import Check
from benchmarks.data.sources import File, Source

ATTEMPTS = 3  # at one mirror, in a row, that bring nothing new
PAUSE = 1.0  # seconds before the next attempt; doubled with each that brings nothing new
TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for the next bytes
CHUNK = 1 << 16


class Unavailable(Exception):
    """No mirror gave the file; the message says what each of them did."""


class _Refusal(Exception):
    """Why one mirror cannot give the file."""


class _BrokenOff(Exception):
    """A transfer ended before the file did; the next one continues it."""


def file_checks(file: File, path: Path) -> Iterator[Check]:
    """Size and checksum of `path`, as far as those of `file` are known."""
    if file.size is not None:
        yield Check(f"bytes of {file.path}", file.size, path.stat().st_size)
    if file.hash is not None:
        algorithm, _, expected = file.hash.partition(":")
        found = pooch.file_hash(str(path), alg=algorithm)
        yield Check(f"{algorithm.upper()} of {file.path}", expected.lower(), found)


def obtain(source: Source, file: File, root: Path) -> str:
    """Bring `file`, unpacked if it is an archive, into `root`; returns in words what was done.

    What is whole is left alone. Two processes may ask for the same file: one works, the others
    wait. Raises Unavailable if no mirror gives the file, ValueError if an archive cannot be
    unpacked or a member would leave its folder, OSError that says what to do if `root` cannot be
    written to; what has arrived is kept for the next call.
    """
    path = root / file.path
    if not file.urls and (lack := _lack(source, file, root)):
        raise Unavailable(f"{file.path}: {lack}; it has no mirror and is to be got by hand")
    with _explained(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if file.unpack is not None and is_filled(root / file.unpack):
                return f"{file.unpack} is there already"
            archive = source.find(file, root)
            if archive is not None and (fault := _fault(file, archive)):
                print(f"{archive}: {fault}; downloading it again", file=sys.stderr)
                archive = None
            if archive is not None:
                done = "is there already" + (", its checksum right" if file.hash else "")
            else:
                done = f"downloaded from {_download(file, path)}"
            if file.unpack is not None:
                _unpack(archive or path, root / file.unpack)
                done += f", unpacked into {file.unpack}"
            return done


def _lack(source: Source, file: File, root: Path) -> str:
    """Why `file` is of no use yet; empty if it is there or unpacked."""
    if file.unpack is not None and is_filled(root / file.unpack):
        return ""
    path = source.find(file, root)
    return "is not there" if path is None else _fault(file, path)


def _fault(file: File, path: Path) -> str:
    """What is wrong with `path`, as far as can be told; empty if nothing is."""
    for check in file_checks(file, path):
        if not check.holds:
            return f"{check.what} {check.found}; expected {check.expected}"
    if file.unpack is not None and not (tarfile.is_tarfile(path) or zipfile.is_zipfile(path)):
        return "neither a whole zip nor a tar archive"
    return ""


def _download(file: File, path: Path) -> str:
    """Download `file` to `path`; returns the mirror that gave it."""
    part = _Part(path)
    refusals = []
    for url in file.urls:
        print(f"{file.path}: downloading from {url}", file=sys.stderr)
        try:
            _fill_and_check(url, file, part)
        except _Refusal as refusal:
            print(f"{file.path}: {refusal}", file=sys.stderr)
            refusals.append(f"\n  {url}: {refusal}")
            continue
        part.finish(path)
        return url
    raise Unavailable(
        f"no mirror gave {file.path}:{''.join(refusals)}\ntry again later, or get it elsewhere and "
        f"put it at {path}"
    )


class _Version(NamedTuple):
    """Which file a part is of: its mirror, and the ETag or date that it had there."""

    url: str
    tag: str | None


class _Part:
    """The bytes of a file that have arrived."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> _Version | None:
        """None if it is unknown."""
        try:
            return _Version(**json.loads(self._note.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # none, or half-written
            return None

    def begin(self, version: _Version) -> None:
        """Forget all bytes; the next ones are of `version`."""
        self.discard()
        self._note.write_text(json.dumps(version._asdict()), encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        """Give the file its name."""
        self.path.replace(path)
        self._note.unlink(missing_ok=True)


def _fill_and_check(url: str, file: File, part: _Part) -> None:
    """Bring all of `file` from `url` into `part`; raises _Refusal if that mirror does not."""
    continued = part.size > 0
    _fill(url, file, part)
    fault = _fault(file, part.path)
    if fault and continued:  # what was there before may be to blame, and not this mirror
        part.discard()
        _fill(url, file, part)
        fault = _fault(file, part.path)
    if fault:
        part.discard()
        raise _Refusal(f"what it gives is wrong: {fault}")


def _fill(url: str, file: File, part: _Part) -> None:
    failures, most = 0, part.size
    while True:
        try:
            return _transfer(url, file, part)
        except (requests.ConnectionError, requests.Timeout, HTTPError, _BrokenOff) as error:
            failures = 0 if part.size > most else failures + 1
            most = max(most, part.size)
            if failures == ATTEMPTS:
                raise _Refusal(f"{error}, {ATTEMPTS} times") from error
            print(f"{file.path}: {error}; trying again", file=sys.stderr)
        except requests.RequestException as error:
            raise _Refusal(str(error)) from error
        time.sleep(PAUSE * 2**failures)


def _transfer(url: str, file: File, part: _Part) -> None:
    """Ask `url` once for what `part` lacks, and append what comes."""
    have, version = part.size, part.version
    headers = {"Accept-Encoding": "identity"}  # lengths and ranges are those of the file itself
    if have and version is not None and version.url == url and version.tag is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": version.tag}
    elif have and file.hash is not None:
        headers |= {"Range": f"bytes={have}-"}  # the checksum will tell whether the parts fit
    else:
        have = 0
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # nothing is lacking
            usable = False
        elif have and response.status_code == requests.codes.partial_content:
            usable = _continues(response, have, url, version)
        elif response.status_code == requests.codes.ok:
            usable, have = True, 0
        else:
            raise _Refusal(f"HTTP status {response.status_code} {response.reason}")
        if usable:
            _receive(response, _Version(url, _tag(response)), file, part, have)
            return
    part.discard()
    _transfer(url, file, part)  # from the start


def _receive(response: Response, version: _Version, file: File, part: _Part, have: int) -> None:
    """Append the body of `response` to the first `have` bytes of `part`, all of it or none."""
    total = _total(response, file)
    if total is not None and shutil.disk_usage(part.path.parent).free < total - have:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part.path))
    if not have:
        part.begin(version)
    with (
        part.path.open("ab" if have else "wb") as out,
        tqdm(
            total=total,
            initial=have,
            desc=Path(file.path).name,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            file=sys.stderr,
            disable=None,  # on a terminal only
        ) as bar,
    ):
        while chunk := response.raw.read(CHUNK):  # undecoded, unlike iter_content
            out.write(chunk)
            bar.update(len(chunk))
        out.flush()
        os.fsync(out.fileno())
    if total is not None and (size := part.size) != total:
        if size > total:
            part.discard()
        raise _BrokenOff(f"the transfer ended at byte {size} of {total}")


def _total(response: Response, file: File) -> int | None:
    """Length of the whole file, None if only its checksum will tell that it is whole.

    Raises _Refusal for a body that is not the file, or whose end could not be told from a break.
    """
    headers = response.headers
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html" and file.hash is None:
        raise _Refusal("sent a web page instead of the file; it may ask for a login")
    coding = headers.get("Content-Encoding", "identity").lower()
    if coding != "identity" and not file.path.endswith((".gz", ".tgz")):  # there it is the file's
        raise _Refusal(f"sent the file in {coding} encoding, unasked")
    if response.status_code == requests.codes.partial_content:
        total = headers["Content-Range"].rpartition("/")[2]
    else:
        total = headers.get("Content-Length", "")
    chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()  # has an end of its own
    if total.isdecimal() and not (chunked and response.status_code == requests.codes.ok):
        if file.size is not None and int(total) != file.size:
            raise _Refusal(f"has a file of {total} bytes; expected {file.size}")
        return int(total)
    if file.size is None and file.hash is None and not chunked:
        raise _Refusal("does not tell the file's length, so that its end could not be told")
    return file.size


def _continues(response: Response, have: int, url: str, version: _Version | None) -> bool:
    """Whether a partial response begins at byte `have` of the file that the part is of."""
    place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if place is None or int(place[1]) != have:
        return False
    tag = _tag(response)
    return version is None or version.url != url or tag is None or tag == version.tag


def _tag(response: Response) -> str | None:
    """The strong ETag, or else the date; a weak ETag does not identify bytes."""
    etag = response.headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def is_filled(folder: Path) -> bool:
    """Whether `folder` exists and is not empty: what is unpacked there is whole."""
    return folder.is_dir() and any(folder.iterdir())


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into `folder`, which is not there or empty."""
    print(f"unpacking {archive}", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.partial-*"):
        shutil.rmtree(leftover)  # of a process that was killed: the lock is ours
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(partial, filter="data")
        else:
            with zipfile.ZipFile(archive) as zipped:
                _extract_zip(zipped, partial)
        partial.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()
        partial.replace(folder)
    except tarfile.FilterError as error:
        raise ValueError(f"{archive} is not unpacked: {error}") from error
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,  # of zipfile, for a kind of compression
    ) as error:
        raise ValueError(
            f"{archive} cannot be unpacked ({error}); delete it and download it again"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extract_zip(zipped: zipfile.ZipFile, folder: Path) -> None:
    """Extract all, refusing names that leave `folder`, of which zipfile would cut the dots."""
    for name in zipped.namelist():
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{zipped.filename} is not unpacked: {name!r} would leave its folder")
    zipped.extractall(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = wait_for(path.with_name(f".{path.name}.lock"), f"downloading {path}")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Say what to do when the data folder `root` cannot be written to."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "make room; the same command then continues"
        else:
            remedy = "make its folder writable, or give another one with --data"
        raise OSError(error.errno, f"cannot write into {root} ({error}); {remedy}") from error
