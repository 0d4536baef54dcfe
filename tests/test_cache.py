"""Prepared frames: whole or not there, whatever happens; one process works, the others wait."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from benchmarks.data import array_file, cache
from benchmarks.data.array_file import NumpyFile
from benchmarks.data.cache import (
    CACHE_VARIABLE,
    Block,
    cache_folder,
    fingerprint,
    is_prepared,
    prepare,
)
from benchmarks.data.recordings import Recording, Windows, cut, overlap
from benchmarks.experiment import server

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
    assert prepared.frames[:][:, 0, 0, 0].tolist() == [*range(8), 10, 11, 20, 21, 22, 23]
    assert prepared.recordings == (
        Recording("a", 0, 0, 8),
        Recording("a", 10, 8, 2),
        Recording("b", 12, 10, 4),
    )
    assert prepared.notes == ("odd",) and "set: odd" in capsys.readouterr().err
    assert prepared.facts == {"largest": 23.5}
    assert is_prepared(tmp_path / "set", "source") and not is_prepared(tmp_path / "set", "other")
    assert np.array_equal(np.load(tmp_path / "set" / "frames.npy"), prepared.frames[:])


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
    assert first.frames[13][0, 0, 0] == 23
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


def test_the_fingerprint_sees_whatever_may_differ(tmp_path):
    for name in ("one/a", "one/b", "two/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1, 1))

    def of(name="one/a", **settings):
        path = tmp_path / name
        return fingerprint(path.parent, [path], **settings)

    found = [of(version=1), of("one/b", version=1), of("two/a", version=1), of(version=2)]
    assert of(version=1) == found[0]
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert fingerprint(tmp_path / "link", [tmp_path / "link/a"], version=1) == found[0]
    overwrite(tmp_path / "one" / "a", lambda data: data.__setitem__(0, ord("y")))
    found.append(of(version=1))  # of the same name, size and time
    (tmp_path / "new").write_text("y")
    os.utime(tmp_path / "new", (1, 1))
    (tmp_path / "new").replace(tmp_path / "one" / "a")
    found.append(of(version=1))
    assert len(set(found)) == len(found)


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


def test_frames_are_prepared_in_the_platforms_cache_folder_or_where_the_variable_says(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "else"))
    assert cache_folder("kth", tmp_path).parent == tmp_path / "else"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    place = cache_folder("kth", tmp_path).parent
    assert place.name == "spatiotemporal-benchmarks"
    assert place.parent == tmp_path / "home" or sys.platform != "linux"


def test_a_data_folder_has_one_place_whatever_it_is_called(tmp_path, monkeypatch):
    (tmp_path / "data" / "clips").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data" / "clips")
    (tmp_path / "other" / "clips").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "data" / "clips")
    one = cache_folder("clips", tmp_path / "data" / "clips")
    for same in (Path(), Path("../clips"), tmp_path / "link", tmp_path / "data/../link"):
        assert cache_folder("clips", same) == one
    assert cache_folder("clips", tmp_path / "other" / "clips") != one
    assert cache_folder("clips", Path("..")) != one


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "ü" * 300, "x" * 300])
def test_any_name_gives_a_folder_right_below_the_cache(tmp_path, monkeypatch, name):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    folder = cache_folder(name, tmp_path)
    assert folder.parent == tmp_path and not folder.name.startswith(".")
    folder.mkdir()


def user_files(place):
    """What may stand where prepared frames are to go, and must stay."""
    yield "recordings", lambda: (place.mkdir(), (place / "r0.npy").write_bytes(b"mine"))
    yield "an empty folder", place.mkdir
    yield "a file", lambda: place.write_bytes(b"mine")
    yield "a link to a folder", lambda: place.symlink_to(place.parent / "mine")
    yield "a dangling link", lambda: place.symlink_to(place.parent / "nothing")


@pytest.mark.parametrize("what", [name for name, _ in user_files(Path())])
def test_what_is_not_prepared_frames_is_never_replaced(tmp_path, what):
    place = tmp_path / "set"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "r0.npy").write_bytes(b"mine")
    dict(user_files(place))[what]()

    def content():
        return {
            str(p): p.readlink() if p.is_symlink() else p.is_file() and p.read_bytes()
            for p in tmp_path.rglob("*")
            if not p.name.endswith(".lock")
        }

    before = content()
    with pytest.raises(FileExistsError, match="nothing in it is touched: move it away"):
        prepare(place, "s", blocks, SHAPE, np.uint8)
    assert content() == before


def test_prepared_frames_with_a_file_of_the_users_are_not_replaced(tmp_path):
    prepare(tmp_path / "set", "old", blocks, SHAPE, np.uint8)
    (tmp_path / "set" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="move it away"):
        prepare(tmp_path / "set", "new", blocks, SHAPE, np.uint8)
    assert (tmp_path / "set" / "notes.txt").read_text() == "mine"
    assert is_prepared(tmp_path / "set", "old")


def test_prepared_frames_are_told_from_data(tmp_path):
    prepare(tmp_path / "set", "s", blocks, SHAPE, np.uint8)
    assert cache.is_prepared_folder(tmp_path / "set")
    (tmp_path / "set" / cache.MARKER).unlink()  # as older versions have it
    assert cache.is_prepared_folder(tmp_path / "set")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "frames.npy").write_bytes(b"x")
    (tmp_path / "data" / "index.json").write_text('{"mine": 1}')
    assert not cache.is_prepared_folder(tmp_path / "data")
    assert not cache.is_prepared_folder(tmp_path / "nothing")


def overwrite(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def zero_a_frame(data):
    data[-6:] = bytes(6)


def cut_short(data):
    del data[-6:]


def change_the_shape(data):
    data[:128] = data[:128].replace(b"(14, 1, 2, 3)", b"(14, 1, 3, 2)")


@pytest.mark.parametrize("change", [zero_a_frame, cut_short, change_the_shape])
def test_prepared_frames_that_were_changed_are_prepared_again(tmp_path, change, capsys):
    first = prepare(tmp_path / "set", "s", blocks, SHAPE, np.uint8)
    overwrite(tmp_path / "set" / "frames.npy", change)
    assert not is_prepared(tmp_path / "set", "s")
    again = prepare(tmp_path / "set", "s", blocks, SHAPE, np.uint8)
    assert again.digest == first.digest and again.frames[13][0, 0, 0] == 23
    with pytest.raises(OSError, match="was changed, replaced or removed"):
        first.frames.check_unchanged()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 3}', "\xff", "[" * 100_000])
def test_a_damaged_index_is_prepared_again(tmp_path, text):
    prepare(tmp_path / "set", "s", blocks, SHAPE, np.uint8)
    (tmp_path / "set" / "index.json").write_text(text)
    assert prepare(tmp_path / "set", "s", blocks, SHAPE, np.uint8).frames[0][0, 0, 0] == 0


def test_a_cache_that_was_moved_as_a_whole_is_kept(tmp_path):
    first = prepare(tmp_path / "set", "s", blocks, SHAPE, np.uint8)
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    second = prepare(tmp_path / "copy", "s", None, SHAPE, np.uint8)
    assert second.digest == first.digest


def test_frames_travel_to_another_process_as_a_place(tmp_path):
    prepared = prepare(tmp_path / "set", "s", blocks, SHAPE, np.uint8)
    sent = pickle.dumps(Windows(prepared.frames, np.array([0, 8])))
    assert pickle.loads(sent).read([1], 2)[0, :, 0, 0, 0].tolist() == [10, 11]
    overwrite(tmp_path / "set" / "frames.npy", zero_a_frame)
    with pytest.raises(OSError, match=r"frames\.npy was changed"):
        pickle.loads(sent)


def test_stretches_of_an_array_are_those_of_numpy(tmp_path):
    array = np.arange(4 * 3 * 2 * 5, dtype=">f4").reshape(4, 3, 2, 5)
    np.save(tmp_path / "a.npy", array)
    stored = NumpyFile(tmp_path / "a.npy")
    assert (stored.shape, stored.ndim, len(stored)) == ((4, 3, 2, 5), 4, 4)
    for place in (0, -1, slice(None), slice(1, 3), slice(3, 99), slice(2, 2), (2, slice(1, 3))):
        assert np.array_equal(stored[place], array[place]), place
    for wrong in (4, (0, slice(0, 3, 2)), slice(None, None, -1)):
        with pytest.raises((IndexError, ValueError)):
            stored[wrong]


def test_an_array_is_read_in_parts_that_every_system_allows(tmp_path, monkeypatch):
    array = np.arange(4 * 3 * 2 * 5).reshape(4, 3, 2, 5)
    np.save(tmp_path / "a.npy", array)
    monkeypatch.setattr(array_file, "MOST_BYTES", 100)
    assert np.array_equal(NumpyFile(tmp_path / "a.npy")[:], array)


def test_an_array_of_nothing_but_a_header_is_refused(tmp_path):
    """A size of 10^15 in the header must not make anyone wait, or fill the memory."""
    with (tmp_path / "huge.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**15, 1, 64, 64)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ValueError, match=r"huge\.npy cannot be read .*cut short"):
        NumpyFile(tmp_path / "huge.npy")


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "prepared").write_text("a file in its place")
    with pytest.raises(OSError, match=f"make its folder writable, or set {CACHE_VARIABLE}"):
        prepare(tmp_path / "prepared" / "set", "s", blocks, SHAPE, np.uint8)


def test_a_file_system_without_locks_says_what_to_do(tmp_path, monkeypatch):
    def refuse(lock, timeout=None):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(
        OSError, match=f"no locks: set {CACHE_VARIABLE} to a folder on a local disk"
    ):
        prepare(tmp_path / "set", "s", blocks, SHAPE, np.uint8)


@pytest.mark.parametrize("fails", [OSError(errno.EBUSY, "busy"), None])
def test_frames_that_a_file_system_holds_on_to_do_not_stop_others(tmp_path, monkeypatch, fails):
    """As NFS does with files that are read elsewhere; and what a file manager leaves."""
    prepare(tmp_path / "set", "old", blocks, SHAPE, np.uint8)
    (tmp_path / "set" / ".DS_Store").write_bytes(b"x")
    if fails:

        def refuse(path, ignore_errors=False, **_):
            if not ignore_errors:
                raise fails

        monkeypatch.setattr(cache.shutil, "rmtree", refuse)
    for source in ("new", "newer"):
        prepare(tmp_path / "set", source, blocks, SHAPE, np.uint8)
        assert is_prepared(tmp_path / "set", source)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_says_what_to_do(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match=CACHE_VARIABLE):
            prepare(tmp_path / "prepared" / "set", "s", blocks, SHAPE, np.uint8)
    finally:
        tmp_path.chmod(0o700)


def start(call, folder):
    """A process that calls a function of this module with a folder."""
    process = server.context("cpu").Process(target=call, args=(folder,))
    process.start()
    return process


def fill_the_disk(folder):
    """A limit on the size of files stands for the disk: the kernel refuses the same write."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    frame = np.zeros((1, 1, 200, 200), np.uint8)
    try:
        prepare(
            folder / "set",
            "s",
            lambda _: (Block("a", i, frame) for i in range(9)),
            (1, 200, 200),
            np.uint8,
        )
    except OSError as error:
        (folder / "log").write_text(str(error))


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    process = start(fill_the_disk, tmp_path)
    process.join(300)
    assert process.exitcode == 0
    error = (tmp_path / "log").read_text()
    assert "no room to prepare" in error and "nothing half-written was kept" in error
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def prepare_slowly(folder):
    def reader(_):
        with (folder / "log").open("a") as file:
            file.write("read\n")
        for i in range(10):
            time.sleep(0.1)
            yield Block("a", i, np.full((1, 1, 4, 4), i, np.uint8))

    prepared = prepare(folder / "set", "s", reader, (1, 4, 4), np.uint8)
    assert prepared.frames[:][:, 0, 0, 0].tolist() == list(range(10))


@pytest.mark.slow
def test_of_two_processes_one_prepares_and_the_other_waits(tmp_path):
    processes = [start(prepare_slowly, tmp_path) for _ in range(2)]
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "log").read_text() == "read\n"


def prepare_for_ever(folder):
    def reader(_):
        yield Block("a", 0, np.zeros((1, 1, 2, 3), np.uint8))
        (folder / "log").write_text("started")
        time.sleep(600)

    prepare(folder / "set", "s", reader, (1, 2, 3), np.uint8)


@pytest.mark.slow
def test_a_killed_process_leaves_no_lock_and_its_remains_are_cleared(tmp_path):
    process = start(prepare_for_ever, tmp_path)
    deadline = time.monotonic() + 300
    while not (tmp_path / "log").exists():
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
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


def test_how_many_windows_in_a_row_share_frames():
    recordings = [Recording("a", 0, 0, 11), Recording("b", 0, 11, 4)]
    for stride, expected in ((1, 4), (2, 2), (3, 2), (4, 1)):
        starts = cut(recordings, 4, stride)
        assert overlap(np.stack([starts, starts + 3], axis=1)) == expected
    assert overlap(np.array([[9, 12], [7, 9], [0, 6]])) == 2, "in any order"
    assert overlap(np.array([[0, 3]])) == 1


def test_windows_read_what_they_say(tmp_path):
    np.save(tmp_path / "frames.npy", frames(0, 20))
    windows = Windows(NumpyFile(tmp_path / "frames.npy"), np.array([0, 7, 3]))
    found = windows.read([2, 0], 4)
    assert found.shape == (2, 4, *SHAPE) and found.dtype == np.uint8
    assert found[:, :, 0, 0, 0].tolist() == [[3, 4, 5, 6], [0, 1, 2, 3]]
