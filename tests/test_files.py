"""Files are written whole or not at all, and checked before they are trusted."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
import time

import pytest
from official_files import stand_in

from benchmarks import files


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def broken(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"a\.json: No space left on device; nothing half-written"):
        files.write(path, broken)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"], "nothing half-written survives"


def test_numbers_that_json_lacks_come_back(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [math.nan, math.inf, -math.inf, 1.5], "b": (1, 2)})
    content = files.read_json(path, "")
    assert [*map(float, content["a"])][1:] == [math.inf, -math.inf, 1.5]
    assert math.isnan(float(content["a"][0])) and content["b"] == [1, 2]


def test_a_name_that_is_too_long_says_what_to_do(tmp_path):
    with pytest.raises(OSError, match=r"x\.json: .*; choose shorter names or a shorter --out"):
        files.write_text(tmp_path / ("x" * 300 + "x.json"), "")


def test_a_folder_that_is_a_file_says_what_to_do(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match=r"cannot write .*a\.json"):
        files.write_text(tmp_path / "out" / "a.json", "")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"{half", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_json_file_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON .*; delete it"):
        files.read_json(tmp_path / "a.json", "delete it")


@pytest.mark.parametrize("what", ["a folder", "a named pipe", "a socket", "a link to nothing"])
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, what):
    message = stand_in(tmp_path / "x", what)
    error = FileNotFoundError if what == "a link to nothing" else ValueError
    for read in (files.check_regular, lambda path: files.read_json(path, "")):
        with pytest.raises(error, match=f"x {message}"):
            read(tmp_path / "x")


def test_partial_files_are_removed_but_not_those_of_a_writer_at_work(tmp_path):
    (tmp_path / f"{files.PARTIAL}old.pt").write_bytes(b"left")
    long_ago = time.time() - 2 * files.ABANDONED_SECONDS
    os.utime(tmp_path / f"{files.PARTIAL}old.pt", (long_ago, long_ago))
    (tmp_path / f"{files.PARTIAL}new.pt").write_bytes(b"growing")
    (tmp_path / "kept.pt").write_bytes(b"mine")
    files.remove_partial_files(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {f"{files.PARTIAL}new.pt", "kept.pt"}
    files.remove_partial_files(tmp_path, older_than=0)
    assert {p.name for p in tmp_path.iterdir()} == {"kept.pt"}
    files.remove_partial_files(tmp_path / "nothing")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits the size of files")
def test_weights_on_a_full_disk_name_the_file_and_the_remedy(tmp_path):
    """A limit on the size of files stands for the disk: the kernel refuses the same write."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        import torch
        from benchmarks import files
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        weights = {"w": torch.zeros(100, 1000)}
        try:
            files.write(Path(sys.argv[1]) / "model.pt", lambda file: torch.save(weights, file))
        except OSError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "model.pt: File too large; nothing half-written was kept: make room" in done.stdout, done
    assert not list(tmp_path.iterdir())


def test_setting_aside_loses_nothing(tmp_path):
    folder = tmp_path / "run"
    for content in ("first", "second"):
        folder.mkdir()
        (folder / "x").write_text(content)
        files.set_aside(folder, "replaced")
    assert files.set_aside(folder, "replaced") is None  # nothing there: nothing to do
    names = {p.name: (p / "x").read_text() for p in tmp_path.iterdir()}
    assert names == {"run.replaced-1": "first", "run.replaced-2": "second"}
