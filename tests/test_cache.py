"""Prepared frames: whole or not there, whatever happens; one process works, the others wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import cache
from benchmarks.data.cache import (
    CACHE_VARIABLE,
    Block,
    cache_folder,
    fingerprint,
    is_prepared,
    prepare,
)
from benchmarks.data.recordings import Recording, Windows, cut

SHAPE = (1, 2, 3)


def frames(first, count):
    numbers = np.arange(first, first + count, dtype=np.uint8)
    return np.broadcast_to(numbers[:, None, None, None], (count, *SHAPE)).copy()


def blocks(findings):
    findings.notes.append("odd")
    findings.facts["largest"] = 23.5
    yield Block("a", 0, frames(0, 5))
    yield Block("a", 5, frames(5, 3))  # goes on
    yield Block("a", 10, frames(10, 2))  # after a gap
    yield Block("b", 12, frames(20, 4))  # another recording


def test_frames_and_recordings_come_back(tmp_path, capsys):
    prepared = prepare(tmp_path / "set", "source", blocks, SHAPE, np.uint8)
    assert prepared.frames[:, 0, 0, 0].tolist() == [*range(8), 10, 11, 20, 21, 22, 23]
    assert isinstance(prepared.frames, np.memmap) and not prepared.frames.flags.writeable
    assert prepared.recordings == (
        Recording("a", 0, 0, 8),
        Recording("a", 10, 8, 2),
        Recording("b", 12, 10, 4),
    )
    assert prepared.notes == ("odd",) and "set: odd" in capsys.readouterr().err
    assert prepared.facts == {"largest": 23.5}
    assert is_prepared(tmp_path / "set", "source") and not is_prepared(tmp_path / "set", "other")
    assert np.array_equal(np.load(tmp_path / "set" / "frames.npy"), prepared.frames)


def test_a_second_call_does_nothing(tmp_path):
    first = prepare(tmp_path / "set", "source", blocks, SHAPE, np.uint8)
    second = prepare(tmp_path / "set", "source", None, SHAPE, np.uint8)
    assert (second.digest, second.recordings) == (first.digest, first.recordings)
    assert (second.notes, second.facts) == (first.notes, first.facts)


def test_another_source_is_prepared_anew_and_the_old_frames_stay_readable(tmp_path):
    first = prepare(tmp_path / "set", "source", blocks, SHAPE, np.uint8)
    other = prepare(
        tmp_path / "set", "other", lambda _: [Block("c", 0, frames(9, 2))], SHAPE, np.uint8
    )
    assert len(other.frames) == 2 and other.digest != first.digest
    assert first.frames[-1, 0, 0, 0] == 23
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["set"]


def test_a_folder_of_an_older_format_is_prepared_anew(tmp_path, monkeypatch):
    (tmp_path / "video").write_text("x")
    monkeypatch.setattr(cache, "FORMAT", 1)
    old = fingerprint(tmp_path, [tmp_path / "video"], version=1)
    first = prepare(tmp_path / "set", old, blocks, SHAPE, np.uint8)
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    del index["facts"]  # which the first format had not
    (tmp_path / "set" / "index.json").write_text(json.dumps(index))
    monkeypatch.undo()
    source = fingerprint(tmp_path, [tmp_path / "video"], version=1)
    assert not is_prepared(tmp_path / "set", source)
    again = prepare(tmp_path / "set", source, blocks, SHAPE, np.uint8)
    assert again.facts == {"largest": 23.5} and again.digest == first.digest


def test_the_digest_sees_frames_and_recordings(tmp_path):
    def digest(name, *of):
        return prepare(tmp_path / name, "", lambda _: of, SHAPE, np.uint8).digest

    whole = digest("one", Block("a", 0, frames(0, 4)))
    assert digest("parts", Block("a", 0, frames(0, 1)), Block("a", 1, frames(1, 3))) == whole
    assert digest("name", Block("b", 0, frames(0, 4))) != whole
    assert digest("first", Block("a", 1, frames(0, 4))) != whole
    assert digest("frame", Block("a", 0, frames(1, 4))) != whole


def test_the_fingerprint_sees_names_sizes_times_and_settings(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1, 1))
    base = fingerprint(tmp_path, [tmp_path / "a"], version=1)
    assert base == fingerprint(tmp_path, [tmp_path / "a"], version=1)
    found = {base, fingerprint(tmp_path, [tmp_path / "b"], version=1)}
    found.add(fingerprint(tmp_path, [tmp_path / "a"], version=2))
    os.utime(tmp_path / "a", (2, 2))
    found.add(fingerprint(tmp_path, [tmp_path / "a"], version=1))
    (tmp_path / "a").write_text("xy")
    os.utime(tmp_path / "a", (1, 1))
    found.add(fingerprint(tmp_path, [tmp_path / "a"], version=1))
    assert len(found) == 5


def test_a_reader_that_fails_leaves_nothing_and_harms_nothing(tmp_path):
    def broken(_):
        yield Block("a", 0, frames(0, 5))
        raise ValueError("bad video")

    with pytest.raises(ValueError, match="bad video"):
        prepare(tmp_path / "set", "source", broken, SHAPE, np.uint8)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]
    whole = prepare(tmp_path / "set", "source", blocks, SHAPE, np.uint8)
    with pytest.raises(ValueError, match="bad video"):
        prepare(tmp_path / "set", "newer", broken, SHAPE, np.uint8)
    again = prepare(tmp_path / "set", "source", None, SHAPE, np.uint8)
    assert again.digest == whole.digest


def test_wrong_or_no_frames_are_refused(tmp_path):
    for block, message in (
        (Block("a", 0, frames(0, 5)[:, :, :1]), r"uint8 \(1, 1, 3\); expected uint8 \(1, 2, 3\)"),
        (Block("a", 0, frames(0, 5).astype(float)), r"float64 .* expected uint8"),
        (Block("a", 0, frames(0, 0)), "no frame was found"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(tmp_path / "set", "s", lambda _, b=block: [b], SHAPE, np.uint8)
    assert not (tmp_path / "set").exists()


def test_the_place_is_beside_the_data_or_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    assert cache_folder(tmp_path, "kth") == tmp_path / "prepared" / "kth"
    monkeypatch.setenv(CACHE_VARIABLE, "/else")
    assert cache_folder(tmp_path, "kth") == Path("/else/kth")


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "prepared").write_text("a file in its place")
    with pytest.raises(OSError, match=f"make its folder writable, or set {CACHE_VARIABLE}"):
        prepare(tmp_path / "prepared" / "set", "s", blocks, SHAPE, np.uint8)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_says_what_to_do(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match=CACHE_VARIABLE):
            prepare(tmp_path / "prepared" / "set", "s", blocks, SHAPE, np.uint8)
    finally:
        tmp_path.chmod(0o700)


def script(tmp_path, body):
    """A Python process that prepares tmp_path/set."""
    head = """
        import resource, signal, sys, time
        from pathlib import Path
        import numpy as np
        from benchmarks.data.cache import Block, prepare
        place, log = Path(sys.argv[1]) / "set", Path(sys.argv[1]) / "log"
    """
    code = textwrap.dedent(head) + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    """A limit on the size of files stands for the disk: the kernel refuses the same write."""
    process = script(
        tmp_path,
        """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        frame = np.zeros((1, 1, 200, 200), np.uint8)
        reader = lambda _: (Block("a", i, frame) for i in range(9))
        try:
            prepare(place, "s", reader, (1, 200, 200), np.uint8)
        except OSError as error:
            print(error, file=sys.stderr)
        """,
    )
    _, err = process.communicate(timeout=60)
    assert "no room to prepare" in err and "nothing half-written was kept" in err
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


@pytest.mark.slow
def test_of_two_processes_one_prepares_and_the_other_waits(tmp_path):
    body = """
        def reader(_):
            with log.open("a") as file:
                file.write("read\\n")
            for i in range(10):
                time.sleep(0.1)
                yield Block("a", i, np.full((1, 1, 4, 4), i, np.uint8))
        prepared = prepare(place, "s", reader, (1, 4, 4), np.uint8)
        assert prepared.frames[:, 0, 0, 0].tolist() == list(range(10))
    """
    processes = [script(tmp_path, body) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert (tmp_path / "log").read_text() == "read\n"


@pytest.mark.slow
def test_a_killed_process_leaves_no_lock_and_its_remains_are_cleared(tmp_path):
    process = script(
        tmp_path,
        """
        def reader(_):
            yield Block("a", 0, np.zeros((1, 1, 2, 3), np.uint8))
            log.write_text("started")
            time.sleep(60)
        prepare(place, "s", reader, (1, 2, 3), np.uint8)
        """,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert list(tmp_path.glob(".set.partial-*")) and not (tmp_path / "set").exists()
    prepare(tmp_path / "set", "s", blocks, SHAPE, np.uint8)
    assert not list(tmp_path.glob(".set.partial-*"))
    assert json.loads((tmp_path / "set" / "index.json").read_text())["source"] == "s"


# Windows


def test_windows_are_cut_from_either_end():
    recordings = [Recording("a", 0, 0, 11), Recording("b", 0, 11, 3), Recording("c", 0, 14, 4)]
    assert cut(recordings, 4, 4).tolist() == [0, 4, 14]
    assert cut(recordings, 4, 4, end_aligned=True).tolist() == [3, 7, 14]
    assert cut(recordings, 4, 3, end_aligned=True).tolist() == [1, 4, 7, 14]
    assert cut(recordings, 3, 1).tolist() == [*range(9), 11, 14, 15]
    assert cut(recordings, 12, 1).tolist() == [] and cut([], 2, 1).dtype == np.int64
    for length, stride in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="expected positive"):
            cut(recordings, length, stride)


def test_windows_read_what_they_say(tmp_path):
    windows = Windows(frames(0, 20), np.array([0, 7, 3]))
    found = windows.read([2, 0], 4)
    assert found.shape == (2, 4, *SHAPE) and found.dtype == np.uint8
    assert found[:, :, 0, 0, 0].tolist() == [[3, 4, 5, 6], [0, 1, 2, 3]]
