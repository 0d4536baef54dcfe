"""Downloads that continue where they broke off, of which nothing partial is taken for whole.

A file grows as NAME.part beside its place; NAME.part.json tells from which mirror, and which
version of the file (ETag or Last-Modified), its bytes are. With these a Range request continues it
under If-Range (RFC 9110, sections 13.1.5 and 14), in this process or a later one, and never joins
two versions. Only when length and checksum are right does it get its name. A mirror that sends
without end, or too slowly, is given up, and the next one is asked.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import pooch
import requests
from requests import Response
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from benchmarks.data.archive import is_archive, unpack
from benchmarks.data.cache import wait_for
from benchmarks.data.dataset import Check
from benchmarks.data.sources import File, Source
from benchmarks.files import kind

ATTEMPTS = 3  # at one mirror, in a row, that bring nothing new
PAUSE = 1.0  # seconds before the next attempt; doubled with each that brings nothing new
TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for the next bytes
ANSWER = 300.0  # seconds until the headers have arrived, redirects included
WINDOW = 300.0  # seconds over which a mirror must be faster than SLOWEST
SLOWEST = 1000  # bytes a second, at which Caltech's 11 GB would take four months
LARGEST = 100 * 10**9  # bytes of a file of unknown size: five times KITTI's longest drive
CHUNK = 1 << 16
LENGTH = r"\d{1,18}"  # of a file, as a header may tell it
TAG = re.compile(r"[\x20-\x7e\x80-\xff]+")  # what may be sent back in If-Range


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
    unpacked, FileExistsError if a folder, named pipe or the like has a file's name, OSError that
    says what to do if `root` cannot be written to; what has arrived is kept for the next call.
    """
    path = root / file.path
    if not file.urls and (lack := _lack(source, file, root)):
        raise Unavailable(f"{file.path}: {lack}; it has no mirror and is to be got by hand")
    with _explained(f"get {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if file.unpack is not None:
                if is_filled(root / file.unpack):
                    return f"{file.unpack} is already present"
                _expect("a folder", root / file.unpack)
            present = source.find(file, root)
            if present is not None and (fault := _fault(file, present)):
                print(f"{present}: {fault}; downloading it again", file=sys.stderr)
                present = None
            if present is not None:
                done = "is already present" + (", its checksum right" if file.hash else "")
            else:
                done = f"downloaded from {_download(file, path)}"
            if file.unpack is not None:
                _unpack(present or path, root / file.unpack)
                done += f", unpacked into {file.unpack}"
            return done


def _expect(what: str, *places: Path, links: bool = False) -> None:
    """Raise FileExistsError if one of `places` is neither `what`, such as "a file", nor missing.

    A link counts as what it leads to only with `links`: nothing is written through a link.
    """
    for place in places:
        found = "a link" if place.is_symlink() and not links else kind(place)
        if found not in (what, "missing"):
            raise FileExistsError(
                f"{place} is {found}; expected {what}, or nothing: move it away, then "
                "repeat the command"
            )


def _lack(source: Source, file: File, root: Path) -> str:
    """Why `file` is of no use yet; empty if it is present or unpacked."""
    if file.unpack is not None and is_filled(root / file.unpack):
        return ""
    path = source.find(file, root)
    return f"is {kind(root / file.path)}" if path is None else _fault(file, path)


def _fault(file: File, path: Path) -> str:
    """What is wrong with `path`, as far as can be told; empty if nothing is."""
    for check in file_checks(file, path):
        if not check.holds:
            return f"{check.what} {check.found}; expected {check.expected}"
    if file.unpack is not None and not is_archive(path):
        return "neither a whole zip nor a tar archive"
    return ""


def _download(file: File, path: Path) -> str:
    """Download `file` to `path`; returns the mirror that gave it."""
    _expect("a file", path, links=True)
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
    """The bytes of a file that have arrived; FileExistsError if something is in their place."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")
        _expect("a file", self.path, self._note)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> _Version | None:
        """None if it is unknown."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            url, tag = note["url"], note["tag"]
            return _Version(url, tag if tag is None or TAG.fullmatch(tag) else None)
        except (FileNotFoundError, ValueError, TypeError, LookupError, RecursionError):
            return None  # no note, a half-written one, or somebody else's

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


class _Pace:
    """A mirror's speed over all attempts; raises _Refusal if it is below SLOWEST for WINDOW."""

    def __init__(self) -> None:
        self._start, self._bytes = time.monotonic(), 0

    def count(self, size: int) -> None:
        """Add `size` bytes that have arrived just now."""
        self._bytes += size
        seconds = time.monotonic() - self._start
        if seconds < WINDOW:
            return
        if self._bytes < SLOWEST * WINDOW:
            raise _Refusal(
                f"sent {self._bytes} bytes in {seconds:.0f} s; expected {SLOWEST} or more a second"
            )
        self._start, self._bytes = time.monotonic(), 0


def _fill(url: str, file: File, part: _Part) -> None:
    failures, most, pace = 0, part.size, _Pace()
    while True:
        try:
            return _transfer(url, file, part, pace)
        except (requests.ConnectionError, requests.Timeout, HTTPError, _BrokenOff) as error:
            failures = 0 if part.size > most else failures + 1
            most = max(most, part.size)
            if failures == ATTEMPTS:
                raise _Refusal(f"{error}, {ATTEMPTS} times") from error
            print(f"{file.path}: {error}; trying again", file=sys.stderr)
        except requests.RequestException as error:
            raise _Refusal(str(error)) from error
        time.sleep(PAUSE * 2**failures)


def _transfer(url: str, file: File, part: _Part, pace: _Pace) -> None:
    """Ask `url` once for what `part` lacks, and append what comes."""
    have, version = part.size, part.version
    headers = {"Accept-Encoding": "identity"}  # lengths and ranges are those of the file itself
    if have and version is not None and version.url == url and version.tag is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": version.tag}
    elif have and file.hash is not None:
        headers |= {"Range": f"bytes={have}-"}  # the checksum will tell whether the parts fit
    else:
        have = 0
    with _ask(url, headers) as response:
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
            total = _total(response, file)
            _expect_room(part, total, have)
            if not have:
                part.begin(_Version(url, _tag(response)))
            _receive(response, file, total, part, pace)
            return
    part.discard()
    _transfer(url, file, part, pace)  # from the start


class _Session(requests.Session):
    """Follows redirects to http and https only, and does not read the body of a redirect."""

    def get_redirect_target(self, resp: Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            resp.close()  # requests would read all of the body into memory
            if urlsplit(urljoin(resp.url, target)).scheme not in ("http", "https"):
                raise _Refusal(f"redirects to {target}; expected an address of http or https")
        return target


def _ask(url: str, headers: dict[str, str]) -> Response:
    """The response of `url`, its body unread; raises _Refusal if it takes longer than ANSWER.

    The request runs in a thread, as TIMEOUT alone never ends headers that arrive byte by byte.
    """
    answer: Future[Response] = Future()

    def get() -> None:
        try:
            with _Session() as session:
                answer.set_result(session.get(url, headers=headers, stream=True, timeout=TIMEOUT))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=get, daemon=True).start()
    if not wait([answer], ANSWER).done:
        raise _Refusal(f"did not answer within {ANSWER:.0f} s")
    try:
        return answer.result()
    except requests.RequestException:
        raise
    except ValueError as error:
        raise _Refusal(f"redirects to an address that is not valid ({error})") from error


def _expect_room(part: _Part, total: int | None, have: int) -> None:
    """Raise OSError if the disk has too little room for `total` bytes, `have` of them present."""
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and free < total - have:
        numbers = [tqdm.format_sizeof(number, "B") for number in (total - have, free)]
        raise OSError(errno.ENOSPC, "{} are needed, {} are free".format(*numbers), str(part.path))


def _receive(response: Response, file: File, total: int | None, part: _Part, pace: _Pace) -> None:
    """Append the body of `response` to `part`, up to `total` bytes, if that is known."""
    have, limit = part.size, LARGEST if total is None else total
    with (
        part.path.open("ab") as out,
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
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            have += len(chunk)
            if have > limit:
                break
            out.write(chunk)
            bar.update(len(chunk))
            pace.count(len(chunk))
        out.flush()
        os.fsync(out.fileno())
    if have > limit:
        part.discard()
        raise _Refusal(f"sends more than {limit:,} bytes")
    if total is not None and have != total:
        raise _BrokenOff(f"the transfer ended at byte {have} of {total}")


def _total(response: Response, file: File) -> int | None:
    """Length of the whole file, None if only its checksum will tell that it is whole.

    Raises _Refusal for a body that is not the file, or whose end could not be told from a break.
    """
    headers = response.headers
    media = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media == "text/html" and file.hash is None:
        raise _Refusal("sent a web page instead of the file; it may ask for a login")
    coding = headers.get("Content-Encoding", "identity").lower()
    if coding != "identity" and not file.path.endswith((".gz", ".tgz")):  # there it is the file's
        raise _Refusal(f"sent the file in {coding} encoding, unasked")
    if response.status_code == requests.codes.partial_content:
        total = headers["Content-Range"].rpartition("/")[2]
    else:
        total = headers.get("Content-Length", "")
    chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()  # has an end of its own
    if re.fullmatch(LENGTH, total) and not (chunked and response.status_code == requests.codes.ok):
        if file.size is not None and int(total) != file.size:
            raise _Refusal(f"has a file of {total} bytes; expected {file.size}")
        if file.size is None and int(total) > LARGEST:
            raise _Refusal(f"has a file of {total} bytes; expected at most {LARGEST}")
        return int(total)
    if file.size is None and file.hash is None and not chunked:
        raise _Refusal("does not tell the file's length, so that its end could not be told")
    return file.size


def _continues(response: Response, have: int, url: str, version: _Version | None) -> bool:
    """Whether a partial response begins at byte `have` of the file that the part is of."""
    place = re.fullmatch(
        rf"bytes ({LENGTH})-{LENGTH}/({LENGTH}|\*)", response.headers.get("Content-Range", "")
    )
    if place is None or int(place[1]) != have:
        return False
    tag = _tag(response)
    return version is None or version.url != url or tag is None or tag == version.tag


def _tag(response: Response) -> str | None:
    """The strong ETag, or else the date; a weak ETag does not identify bytes."""
    etag = response.headers.get("ETag")
    strong = etag is not None and not etag.startswith("W/")
    tag = etag if strong else response.headers.get("Last-Modified")
    return tag if tag is not None and TAG.fullmatch(tag) else None


def is_filled(folder: Path) -> bool:
    """Whether `folder` exists and is not empty: what is unpacked there is whole."""
    return folder.is_dir() and any(folder.iterdir())


def _unpack(archive: Path, folder: Path) -> None:
    print(f"unpacking {archive}", file=sys.stderr)
    with _explained(f"unpack {archive} into {folder}"):
        unpack(archive, folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    place = path.with_name(f".{path.name}.lock")
    _expect("a file", place)
    lock = wait_for(place, f"downloading {path}")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _explained(work: str) -> Iterator[None]:
    """Say what to do when the disk does not let `work` be done, unless the error says so itself."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        reason = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "make room; what was downloaded is kept, and the same command continues"
        elif error.errno in (errno.EEXIST, errno.ENOTDIR):
            remedy = "move away the file that has a folder's name, or give another --data"
        else:
            remedy = "make it readable and writable, or give another folder with --data"
        raise OSError(f"cannot {work} ({reason}); {remedy}") from error
