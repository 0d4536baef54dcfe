"""Downloads from a server on this machine that misbehaves in every way that servers do."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import shutil
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import Terminal, bounded
from official_files import stand_in

from benchmarks.data import download
from benchmarks.data.download import Unavailable, file_checks, obtain
from benchmarks.data.sources import File, Source

CONTENT = bytes(range(256)) * 1200  # 300 KB: several chunks
OTHER = bytes(reversed(CONTENT))
HALF = len(CONTENT) // 2
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Answer:
    """What the server does with a request; the defaults are those of a good server."""

    def __init__(
        self,
        content=CONTENT,
        status=200,
        ranges=True,
        if_range=True,
        etag='"one"',
        modified=None,
        cut=None,  # bytes of the body after which the connection ends
        length=None,  # a Content-Length other than the body's
        chunked=False,
        content_range=None,
        headers=(),
        gate=None,  # waited for before the body
        first=None,  # called before anything is sent
        drip=(),  # bytes sent one at a time, slowly, in the place of the answer or of its body
        body_drips=False,
    ):
        self.__dict__.update(locals())

    def reply(self, handler):
        if self.first:
            self.first()
        handler.close_connection = True
        if self.drip and not self.body_drips:
            return self.send_slowly(handler)
        asked = handler.headers["Range"]
        tag = self.etag if self.etag and not self.etag.startswith("W/") else self.modified
        start, status = 0, self.status
        fits = not self.if_range or handler.headers["If-Range"] in (None, tag)
        if asked and self.ranges and fits and status == 200:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(self.content) else 416
        total = len(self.content)
        body = self.content[start:] if status in (200, 206) else b""
        handler.send_response(status)
        if status == 206:
            place = self.content_range or f"bytes {start}-{total - 1}/{total}"
            handler.send_header("Content-Range", place)
        if status == 416:
            handler.send_header("Content-Range", f"bytes */{total}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        if self.modified:
            handler.send_header("Last-Modified", self.modified)
        if self.chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        elif self.length != "none":
            handler.send_header("Content-Length", str(self.length or len(body)))
        for header in self.headers:
            handler.send_header(*header)
        handler.end_headers()
        if self.gate:
            assert self.gate.wait(5)
        body = body[: self.cut]
        if self.drip:
            self.send_slowly(handler)
        elif self.chunked:
            middle = len(body) // 2
            for part in filter(None, (body[:middle], body[middle:])):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if self.cut is None:
                handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.wfile.write(body)

    def send_slowly(self, handler):
        """A byte every few milliseconds, until the other side or the test is done."""
        with contextlib.suppress(OSError):
            for byte in self.drip:
                handler.wfile.write(bytes([byte]))
                if handler.server.closing.wait(0.005):
                    return


class Server:
    """Answers each path by its list of answers in turn, the last one again and again."""

    def __init__(self):
        self.answers, self.requests = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.requests.append((self.path, self.headers["Range"], self.headers["If-Range"]))
                answers = outer.answers.get(self.path, [Answer(status=404)])
                (answers.pop(0) if len(answers) > 1 else answers[0]).reply(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def serve(self, path, *answers):
        """Answer `path` so; returns its address."""
        self.answers[path] = list(answers)
        return self.url + path

    @property
    def ranges(self):
        return [asked for _, asked, _ in self.requests]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PAUSE", 0)
    server = Server()
    yield server
    server.http.closing.set()
    server.http.shutdown()
    server.http.server_close()


def get(root, *urls, path="set/data.bin", hash=SHA256, size=None, unpack=None):
    """Download one file; returns what was said."""
    file = File(path, urls, hash, size, unpack)
    return obtain(Source("set", "A set", "free", "small", (), (file,)), file, root)


def left(root):
    """Files below `root`, locks aside."""
    files = (p for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")
    return sorted(str(p.relative_to(root)) for p in files)


def assert_whole(root, content=CONTENT):
    assert left(root) == ["set/data.bin"]
    assert (root / "set/data.bin").read_bytes() == content


# Whole files


def test_a_file_arrives_once(server, tmp_path):
    url = server.serve("/a", Answer())
    assert get(tmp_path, url, size=len(CONTENT)) == f"downloaded from {url}"
    assert_whole(tmp_path)
    assert get(tmp_path, url) == "is already present, its checksum right"
    assert len(server.requests) == 1


def test_without_checksum_a_file_that_is_there_is_left_alone(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/data.bin").write_bytes(b"mine")
    assert get(tmp_path, server.serve("/a", Answer()), hash=None) == "is already present"
    assert server.requests == []
    assert_whole(tmp_path, b"mine")


@pytest.mark.parametrize("known", [{"size": len(CONTENT), "hash": None}, {"hash": SHA256}])
def test_a_wrong_file_that_is_there_is_replaced(server, tmp_path, capsys, known):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/data.bin").write_bytes(OTHER[1:])
    get(tmp_path, server.serve("/a", Answer()), **known)
    assert_whole(tmp_path)
    assert "downloading it again" in capsys.readouterr().err


def test_a_wrong_file_stays_until_there_is_a_right_one(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/data.bin").write_bytes(OTHER)
    with pytest.raises(Unavailable):
        get(tmp_path, server.serve("/a", Answer(status=404)))
    assert_whole(tmp_path, OTHER)


def test_a_file_counts_wherever_the_set_finds_it(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT)
    file = File("set/data.bin", (server.serve("/a", Answer()),), SHA256)
    source = Source("set", "A set", "free", "small", (("data.bin", "set/data.bin"),), (file,))
    assert source.find(file, tmp_path) == tmp_path / "data.bin"
    assert obtain(source, file, tmp_path) == "is already present, its checksum right"
    assert server.requests == []


def test_checks_name_what_is_expected_and_found(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(OTHER)
    file = File("data.bin", (), SHA256.upper().replace("SHA256", "sha256"), len(CONTENT) + 1)
    size, checksum = file_checks(file, path)
    assert (size.expected, size.found, size.holds) == (len(CONTENT) + 1, len(CONTENT), False)
    assert checksum.what == "SHA256 of data.bin"
    assert checksum.found == hashlib.sha256(OTHER).hexdigest() != checksum.expected
    path.write_bytes(CONTENT)
    assert [check.holds for check in file_checks(file, path)] == [False, True]


# Transfers that break off


@pytest.mark.parametrize("known", [SHA256, None])
def test_a_broken_transfer_continues_where_it_broke(server, tmp_path, known):
    url = server.serve("/a", Answer(cut=HALF), Answer(cut=100), Answer())
    get(tmp_path, url, hash=known)
    assert_whole(tmp_path)
    assert server.requests == [
        ("/a", None, None),
        ("/a", f"bytes={HALF}-", '"one"'),
        ("/a", f"bytes={HALF + 100}-", '"one"'),
    ]


def test_a_later_call_continues_what_an_earlier_one_left(server, tmp_path):
    url = server.serve("/a", Answer(cut=HALF), Answer(status=500), Answer())
    with pytest.raises(Unavailable, match="500"):
        get(tmp_path, url, hash=None)
    assert left(tmp_path) == ["set/data.bin.part", "set/data.bin.part.json"]
    get(tmp_path, url, hash=None)
    assert_whole(tmp_path)
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF}-"]


def test_attempts_are_counted_only_while_they_bring_nothing(server, tmp_path):
    answers = [Answer(cut=1000) for _ in range(2 * download.ATTEMPTS)]
    get(tmp_path, server.serve("/a", *answers, Answer()))
    assert_whole(tmp_path)
    server.serve("/b", Answer(cut=1000), Answer(cut=0))
    server.requests.clear()
    with pytest.raises(Unavailable, match=f"{download.ATTEMPTS} times"):
        get(tmp_path, server.url + "/b", path="other.bin")
    assert len(server.requests) == 1 + download.ATTEMPTS


def test_a_server_that_starts_over_and_breaks_off_each_time_is_given_up(server, tmp_path):
    with pytest.raises(Unavailable, match=f"{download.ATTEMPTS} times"):
        get(tmp_path, server.serve("/a", Answer(cut=1000, ranges=False)))
    assert "set/data.bin" not in left(tmp_path)


def test_a_chunked_transfer_continues(server, tmp_path):
    url = server.serve("/a", Answer(chunked=True, cut=HALF), Answer(chunked=True))
    get(tmp_path, url, hash=None)
    assert_whole(tmp_path)
    assert server.ranges[0] is None and server.ranges[1].startswith("bytes=")


@pytest.mark.parametrize(("known", "second"), [(SHA256, f"bytes={HALF}-"), (None, None)])
def test_another_mirror_continues_only_under_a_checksum(server, tmp_path, known, second):
    one = server.serve("/one", Answer(cut=HALF), Answer(status=503))
    two = server.serve("/two", Answer(etag='"two"'))
    assert get(tmp_path, one, two, hash=known) == f"downloaded from {two}"
    assert_whole(tmp_path)
    assert server.requests[-1] == ("/two", second, None)


def test_a_part_that_lacks_nothing_is_only_checked(server, tmp_path):
    url = server.serve("/a", Answer(cut=HALF), Answer(status=500), Answer())
    with pytest.raises(Unavailable):
        get(tmp_path, url)
    (tmp_path / "set/data.bin.part").write_bytes(CONTENT)
    get(tmp_path, url)
    assert_whole(tmp_path)
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={len(CONTENT)}-"]


def test_a_part_that_is_too_long_is_dropped(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/data.bin.part").write_bytes(CONTENT + b"more")
    get(tmp_path, server.serve("/a", Answer()))
    assert_whole(tmp_path)
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_rotten_part_does_not_condemn_the_mirror(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/data.bin.part").write_bytes(OTHER[:HALF])
    (tmp_path / "set/data.bin.part.json").write_text("{half-writ")
    get(tmp_path, server.serve("/a", Answer()))
    assert_whole(tmp_path)
    assert server.ranges == [f"bytes={HALF}-", None]


def test_nothing_listens(server, tmp_path):
    server.http.server_close()
    with pytest.raises(Unavailable, match=r"refused.*, 3 times"):
        get(tmp_path, server.url + "/a")
    assert left(tmp_path) == []


# Servers without end, and slow ones


@pytest.fixture
def impatient(monkeypatch):
    """Slow servers are given up soon, and not at all after a call of what this gives."""
    monkeypatch.setattr(download, "SLOWEST", 10**6)
    monkeypatch.setattr(download, "WINDOW", 0.2)
    return lambda: monkeypatch.setattr(download, "WINDOW", 600)


def test_a_server_that_drips_is_given_up_and_another_one_continues(server, tmp_path, impatient):
    slow = server.serve("/slow", Answer(drip=CONTENT, body_drips=True))
    good = server.serve("/good", Answer(first=impatient))
    assert bounded(lambda: get(tmp_path, slow, good)) == f"downloaded from {good}"
    assert_whole(tmp_path)
    assert server.ranges[1].startswith("bytes=")


def test_what_a_server_dripped_is_kept_and_the_reason_told(server, tmp_path, impatient):
    url = server.serve("/slow", Answer(drip=CONTENT, body_drips=True))
    with pytest.raises(Unavailable, match=r"sent \d+ bytes in \d+ s; expected 1000000 or more"):
        bounded(lambda: get(tmp_path, url))
    part = (tmp_path / "set/data.bin.part").read_bytes()
    assert part and CONTENT.startswith(part)


def test_a_server_that_ends_after_each_byte_is_given_up(server, tmp_path, impatient):
    with pytest.raises(Unavailable, match="expected 1000000 or more a second"):
        bounded(lambda: get(tmp_path, server.serve("/slow", Answer(cut=1))))
    assert left(tmp_path) == ["set/data.bin.part", "set/data.bin.part.json"]


@pytest.mark.parametrize(
    "drip",
    [
        itertools.chain(b"HTTP/1.1 200 OK\r\n", itertools.cycle(b"X-A: b\r\n")),
        itertools.cycle(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["headers", "interim answers"],
)
def test_headers_that_drip_are_given_up(server, tmp_path, monkeypatch, drip):
    monkeypatch.setattr(download, "ANSWER", 0.2)
    with pytest.raises(Unavailable, match="did not answer within 0 s"):
        bounded(lambda: get(tmp_path, server.serve("/slow", Answer(drip=drip))))
    assert left(tmp_path) == []


def test_a_server_that_is_slow_but_fast_enough_is_not_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "WINDOW", 0.05)
    monkeypatch.setattr(download, "SLOWEST", 1)
    few = CONTENT[:100]
    url = server.serve("/a", Answer(few, drip=few, body_drips=True))
    bounded(lambda: get(tmp_path, url, hash=None))
    assert_whole(tmp_path, few)


class Endless(Answer):
    """Begins as another answer does, but its body goes on until the other side is done."""

    def reply(self, handler):
        super().reply(handler)
        with contextlib.suppress(OSError):
            while not handler.server.closing.is_set():
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(CONTENT), CONTENT))


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_body_without_end_is_given_up(server, tmp_path, monkeypatch, size):
    monkeypatch.setattr(download, "LARGEST", 10**6)
    bad = server.serve("/bad", Endless(chunked=True, cut=len(CONTENT)))
    with pytest.raises(Unavailable, match=f"sends more than {size or 10**6:,} bytes"):
        bounded(lambda: get(tmp_path, bad, size=size))
    assert left(tmp_path) == []
    good = server.serve("/good", Answer(chunked=True))
    assert bounded(lambda: get(tmp_path, bad, good, size=size)) == f"downloaded from {good}"
    assert_whole(tmp_path)


def test_a_length_beyond_all_measure_is_refused_at_once(server, tmp_path):
    for length in (10**15, 10**17):
        url = server.serve("/a", Answer(length=length))
        with pytest.raises(Unavailable, match=f"has a file of {length} bytes; expected at most"):
            get(tmp_path, url)
    assert left(tmp_path) == []


@pytest.mark.parametrize("length", ["1" * 5000, "-5", "many"])
def test_a_length_that_is_no_number_is_passed_over(server, tmp_path, length):
    get(tmp_path, server.serve("/a", Answer(length=length)))
    assert_whole(tmp_path)


# Redirects


def redirect(target, **options):
    return Answer(b"", status=302, headers=[("Location", target)], **options)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,a"])
def test_a_redirect_to_another_protocol_is_refused(server, tmp_path, target):
    with pytest.raises(Unavailable, match=f"redirects to {target}; expected an address of http"):
        get(tmp_path, server.serve("/a", redirect(target)))
    assert left(tmp_path) == []


@pytest.mark.parametrize("target", ["http://[", "http://", "//", "http://a b/"])
def test_a_redirect_to_what_is_no_address_is_refused(server, tmp_path, target):
    with pytest.raises(Unavailable):
        get(tmp_path, server.serve("/a", redirect(target)))
    assert left(tmp_path) == []


def test_redirects_in_a_circle_end(server, tmp_path):
    server.serve("/b", redirect("/a"))
    with pytest.raises(Unavailable, match="redirects"):
        get(tmp_path, server.serve("/a", redirect("/b")))


def test_a_redirect_is_followed_whatever_its_body(server, tmp_path):
    server.serve("/b", Answer())
    url = server.serve("/a", Endless(status=302, headers=[("Location", "/b")], chunked=True, cut=0))
    assert bounded(lambda: get(tmp_path, url)) == f"downloaded from {url}"
    assert_whole(tmp_path)


# Servers that get ranges wrong, and files that change


def test_a_server_that_ignores_ranges_sends_all_again(server, tmp_path):
    get(tmp_path, server.serve("/a", Answer(cut=HALF), Answer(ranges=False)), hash=None)
    assert_whole(tmp_path)


@pytest.mark.parametrize("place", ["bytes 0-9/10", "bytes 7", "chapters 1-2/3"])
def test_a_wrong_content_range_starts_over(server, tmp_path, place):
    url = server.serve("/a", Answer(cut=HALF), Answer(content_range=place), Answer())
    get(tmp_path, url, hash=None)
    assert_whole(tmp_path)
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_a_part_of_a_part_is_asked_on(server, tmp_path):
    stop = HALF + 1000
    place = f"bytes {HALF}-{stop - 1}/{len(CONTENT)}"
    part = Answer(CONTENT[:stop], content_range=place)
    get(tmp_path, server.serve("/a", Answer(cut=HALF), part, Answer()), hash=None)
    assert_whole(tmp_path)
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={stop}-"]


@pytest.mark.parametrize("if_range", [True, False], ids=["200", "206 of the new file"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"etag": '"one"'}, {"etag": '"two"'}),
        (
            {"etag": None, "modified": "Wed, 01 Jan 2020 00:00:00 GMT"},
            {"etag": None, "modified": "Thu, 02 Jan 2020 00:00:00 GMT"},
        ),
    ],
    ids=["ETag", "Last-Modified"],
)
def test_two_versions_of_a_file_are_never_joined(server, tmp_path, before, after, if_range):
    new = Answer(OTHER, if_range=if_range, **after)
    get(tmp_path, server.serve("/a", Answer(cut=HALF, **before), new), hash=None)
    assert_whole(tmp_path, OTHER)


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_version_or_a_checksum_nothing_is_continued(server, tmp_path, etag):
    url = server.serve("/a", Answer(cut=HALF, etag=etag), Answer(OTHER, etag=etag))
    get(tmp_path, url, hash=None)
    assert_whole(tmp_path, OTHER)
    assert server.ranges == [None, None]


def test_a_part_of_what_was_asked_for_as_a_whole_is_refused(server, tmp_path):
    with pytest.raises(Unavailable, match="206"):
        get(tmp_path, server.serve("/a", Answer(status=206)))
    assert left(tmp_path) == []


# Mirrors that do not have the file


def test_what_each_mirror_said_is_told(server, tmp_path):
    statuses = (404, 403, 500)
    urls = [server.serve(f"/{status}", Answer(status=status)) for status in statuses]
    with pytest.raises(Unavailable) as error:
        get(tmp_path, *urls)
    for url, status in zip(urls, statuses, strict=True):
        assert f"{url}: HTTP status {status}" in str(error.value)
    assert str(tmp_path / "set/data.bin") in str(error.value)
    assert len(server.requests) == 3
    assert left(tmp_path) == []
    assert get(tmp_path, *urls, server.serve("/a", Answer())).endswith("/a")


def test_a_wrong_byte_is_noticed_and_both_sums_are_told(server, tmp_path):
    wrong = CONTENT[:HALF] + b"!" + CONTENT[HALF + 1 :]
    bad, good = server.serve("/bad", Answer(wrong)), server.serve("/good", Answer())
    with pytest.raises(Unavailable) as error:
        get(tmp_path, bad)
    assert hashlib.sha256(wrong).hexdigest() in str(error.value)
    assert SHA256.removeprefix("sha256:") in str(error.value)
    assert left(tmp_path) == []
    assert get(tmp_path, bad, good) == f"downloaded from {good}"
    assert_whole(tmp_path)


def test_a_file_of_another_size_is_refused_before_it_is_sent(server, tmp_path):
    url = server.serve("/a", Answer(length=HALF))
    with pytest.raises(Unavailable, match=f"file of {HALF} bytes; expected {len(CONTENT)}"):
        get(tmp_path, url, hash=None, size=len(CONTENT))
    assert left(tmp_path) == []


def test_a_content_length_that_is_too_short_is_noticed(server, tmp_path):
    with pytest.raises(Unavailable, match="expected"):
        get(tmp_path, server.serve("/a", Answer(length=HALF)))
    assert left(tmp_path) == []


def test_a_file_whose_end_cannot_be_told_is_refused(server, tmp_path):
    url = server.serve("/a", Answer(length="none", cut=HALF))
    with pytest.raises(Unavailable, match="length"):
        get(tmp_path, url, hash=None)
    with pytest.raises(Unavailable, match="expected"):
        get(tmp_path, url)
    assert left(tmp_path) == []
    server.requests.clear()
    get(tmp_path, url, hash=None, size=len(CONTENT))  # which tells
    assert_whole(tmp_path)
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_a_web_page_is_not_the_file(server, tmp_path):
    page = Answer(b"<html>Sign in</html>", headers=[("Content-Type", "text/html; charset=utf-8")])
    with pytest.raises(Unavailable, match="web page"):
        get(tmp_path, server.serve("/a", page), hash=None)
    assert left(tmp_path) == []


def test_bytes_are_kept_as_they_are_stored(server, tmp_path):
    zipped = gzip.compress(CONTENT)
    answer = Answer(zipped, headers=[("Content-Encoding", "x-gzip")])
    url = server.serve("/a", answer)
    get(tmp_path, url, path="data.gz", hash=None)
    assert (tmp_path / "data.gz").read_bytes() == zipped
    with pytest.raises(Unavailable, match="x-gzip encoding"):
        get(tmp_path, url, hash=None)


def test_a_file_without_mirror_is_to_be_got_by_hand(tmp_path):
    with pytest.raises(Unavailable, match="by hand"):
        get(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    (tmp_path / "set/data.bin").write_bytes(OTHER)
    with pytest.raises(Unavailable, match="expected"):
        get(tmp_path)
    (tmp_path / "set/data.bin").write_bytes(CONTENT)
    assert get(tmp_path) == "is already present, its checksum right"


# What else is in a file's place


def put(kind, path, elsewhere):
    """Put something that is no file at `path`; a link leads to a file of another's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a link":
        path.symlink_to(elsewhere)
    else:
        stand_in(path, kind)


KINDS = ["a named pipe", "a folder", "a link to nothing", "a link to itself", "a link"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["data.bin", "data.bin.part", "data.bin.part.json", "unpacked"])
def test_what_is_no_file_is_not_written_to(server, tmp_path, kind, name):
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    path = tmp_path / "data/set" / name
    put(kind, path, mine)
    if (name, kind) in {("data.bin", "a link"), ("unpacked", "a folder")}:
        return  # a file or folder of the user's own
    url = server.serve("/a", Answer(zip_of(**MEMBERS)))
    with pytest.raises(FileExistsError) as error:
        bounded(lambda: get(tmp_path / "data", url, hash=None, unpack="set/unpacked"))
    links = name == "data.bin"
    found = kind if links or not kind.startswith("a link") else "a link"
    what = "a folder" if name == "unpacked" else "a file"
    assert str(error.value) == (
        f"{path} is {found}; expected {what}, or nothing: move it away, then repeat the command"
    )
    assert server.requests == []
    assert mine.read_bytes() == b"mine"


def test_a_wrong_file_that_is_a_link_is_replaced_and_its_target_stays(server, tmp_path):
    mine = tmp_path / "mine"
    mine.write_bytes(OTHER)
    (tmp_path / "data/set").mkdir(parents=True)
    (tmp_path / "data/set/data.bin").symlink_to(mine)
    get(tmp_path / "data", server.serve("/a", Answer()))
    assert_whole(tmp_path / "data")
    assert mine.read_bytes() == OTHER and not (tmp_path / "data/set/data.bin").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
def test_a_file_to_get_by_hand_is_not_a_fifo(tmp_path):
    put("a named pipe", tmp_path / "set/data.bin", None)
    with pytest.raises(Unavailable, match=r"set/data\.bin: is a named pipe; .*by hand"):
        bounded(lambda: get(tmp_path))


@pytest.mark.parametrize(
    "note",
    [
        "[]",
        "7",
        "{}",
        '{"url": 1, "tag": 5}',
        '{"url": "URL", "tag": "a\\r\\nHost: b"}',
        "[" * 10**5,
        "\udcff",
    ],
)
def test_a_note_of_another_kind_is_as_none(server, tmp_path, note):
    url = server.serve("/a", Answer())
    (tmp_path / "set").mkdir()
    (tmp_path / "set/data.bin.part").write_bytes(OTHER[:HALF])
    text = note.replace("URL", url)
    (tmp_path / "set/data.bin.part.json").write_text(text, "utf-8", "surrogateescape")
    get(tmp_path, url, hash=None)
    assert_whole(tmp_path)
    assert server.ranges == [None]


# The disk, and other processes


def test_a_full_disk_keeps_what_has_arrived(server, tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    url = server.serve("/a", Answer())
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, hard))
    try:
        with pytest.raises(OSError, match=r"cannot get .*data\.bin.*make room"):
            get(tmp_path, url, hash=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "set/data.bin" not in left(tmp_path)
    get(tmp_path, url, hash=None)
    assert_whole(tmp_path)
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_too_little_room_is_told_before_the_transfer(server, tmp_path, monkeypatch):
    room = shutil.disk_usage(tmp_path)._replace(free=len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    with pytest.raises(OSError, match="make room"):
        get(tmp_path, server.serve("/a", Answer()))
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_written_to_is_told(server, tmp_path):
    (tmp_path / "set").write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot get .*/set\); move away .*--data"):
        get(tmp_path, server.serve("/a", Answer()))
    assert server.requests == []


def test_of_two_at_once_one_works_and_the_other_waits(server, tmp_path, capsys):
    gate = threading.Event()
    url = server.serve("/a", Answer(gate=gate))
    said = []
    threads = [
        threading.Thread(target=lambda: said.append(get(tmp_path, url)), daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    noted = ""
    for _ in range(500):
        noted += capsys.readouterr().err
        if "waiting" in noted and server.requests:
            break
        threads[0].join(0.01)
    gate.set()
    for thread in threads:
        thread.join(5)
    assert "another process is downloading" in noted
    assert sorted(said) == [f"downloaded from {url}", "is already present, its checksum right"]
    assert len(server.requests) == 1
    assert_whole(tmp_path)


def test_a_bar_is_shown_on_a_terminal_only(server, tmp_path, monkeypatch):
    for name, screen in (("a", Terminal()), ("b", io.StringIO())):
        monkeypatch.setattr(sys, "stderr", screen)
        get(tmp_path, server.serve("/a", Answer()), path=name)
        assert ("307k" in screen.getvalue()) == screen.isatty()


# Archives


def zip_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


MEMBERS = {"a.txt": b"A" * 1000, "deep/b.txt": b"B"}


def test_an_archive_is_unpacked_once(server, tmp_path):
    url = server.serve("/a", Answer(zip_of(**MEMBERS)))
    said = get(tmp_path, url, path="set.archive", hash=None, unpack="set")
    assert said == f"downloaded from {url}, unpacked into set"
    assert left(tmp_path) == ["set.archive", "set/a.txt", "set/deep/b.txt"]
    assert (tmp_path / "set/a.txt").read_bytes() == MEMBERS["a.txt"]
    assert (tmp_path / "set").stat().st_mode & 0o755 == 0o755
    (tmp_path / "set.archive").unlink()  # not needed any more
    (tmp_path / "set/a.txt").write_bytes(b"mine")
    again = get(tmp_path, url, path="set.archive", hash=None, unpack="set")
    assert again == "set is already present"
    assert len(server.requests) == 1
    assert (tmp_path / "set/a.txt").read_bytes() == b"mine"


def test_an_archive_that_was_put_there_is_unpacked(tmp_path):
    (tmp_path / "set").mkdir()  # empty: not unpacked yet
    (tmp_path / "set.zip").write_bytes(zip_of(**MEMBERS))
    said = get(tmp_path, path="set.zip", hash=None, unpack="set")
    assert said == "is already present, unpacked into set"
    assert left(tmp_path) == ["set.zip", "set/a.txt", "set/deep/b.txt"]


def test_an_archive_that_cannot_be_unpacked_stays_and_nothing_of_it(server, tmp_path):
    url = server.serve("/a", Answer(zip_of(**{"good.txt": b"good", "../evil.txt": b"evil"})))
    with pytest.raises(ValueError, match=r"set\.zip cannot be unpacked: .*evil.*delete it"):
        get(tmp_path, url, path="deep/set.zip", hash=None, unpack="deep/set")
    assert left(tmp_path) == ["deep/set.zip"]
    assert not (tmp_path / "deep/set").exists()


def test_a_disk_that_fills_while_unpacking_keeps_the_archive(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "set.zip").write_bytes(zip_of(**MEMBERS, c=bytes(10**6)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, hard))
    try:
        with pytest.raises(OSError, match=r"cannot unpack .*set\.zip into .*/set .*make room"):
            get(tmp_path, path="set.zip", hash=None, unpack="set")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left(tmp_path) == ["set.zip"]
    get(tmp_path, path="set.zip", hash=None, unpack="set")
    assert left(tmp_path) == ["set.zip", "set/a.txt", "set/c", "set/deep/b.txt"]


def test_what_is_no_archive_is_refused_as_such(server, tmp_path):
    cut = Answer(zip_of(**MEMBERS)[:-10])
    with pytest.raises(Unavailable, match="neither a whole zip nor a tar"):
        get(tmp_path, server.serve("/a", cut), path="set.zip", hash=None, unpack="set")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "files",
    [
        [("a.zip", "set"), ("b.zip", "set")],
        [("set/a.zip", "set")],
        [("a.zip", "set"), ("b.zip", "set/b")],
        [("a.zip", "set"), ("set/b.txt", None)],
        [("a.zip", "")],
    ],
)
def test_an_unpacked_folder_is_its_archives_own(files):
    with pytest.raises(ValueError, match="of its own"):
        Source("s", "", "", "", (), tuple(File(path, (), unpack=into) for path, into in files))


def test_archives_may_lie_beside_each_other():
    files = (File("set/a.zip", (), unpack="set/a"), File("set/b.zip", (), unpack="set/b"))
    assert Source("s", "", "", "", (), files).files == files


def test_a_note_is_readable(server, tmp_path):
    url = server.serve("/a", Answer(cut=HALF), Answer(status=500))
    with pytest.raises(Unavailable):
        get(tmp_path, url)
    note = json.loads((tmp_path / "set/data.bin.part.json").read_text())
    assert note == {"url": url, "tag": '"one"'}
