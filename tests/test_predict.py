"""The command that forecasts gives what the model gives, of the frames that were asked for."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from benchmarks import load
from benchmarks.predict import main, read

MODEL = "convlstm-hour"
LAYOUT = ["--layout", "NTCHW"]  # two sequences might be two frames


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """Two sequences of 25 frames, a square that moves: [2, 25, 1, 64, 64]."""
    frames = np.zeros((2, 25, 1, 64, 64), np.uint8)
    for n, t in np.ndindex(2, 25):
        frames[n, t, 0, 10 + t : 30 + t, 5 + 10 * n : 25 + 10 * n] = 200
    return frames


@pytest.fixture
def sequences(frames: NDArray[np.uint8], tmp_path: Path) -> Path:
    """The sequences in a file."""
    path = tmp_path / "squares.npy"
    np.save(path, frames)
    return path


def test_values_are_those_of_the_model(frames, sequences, tmp_path, capsys):
    out, which = tmp_path / "forecast.npy", ["--sequence", "1", "--start", "3"]
    assert main([MODEL, str(sequences), *LAYOUT, *which, "--out", str(out)]) == 0
    expected = load(MODEL).predict(frames[1, 3:13])
    found = np.load(out)
    assert found.dtype == np.uint8 and np.array_equal(found, expected)
    error = np.square(expected / 255.0 - frames[1, 13:23] / 255.0).sum((1, 2, 3)).mean()
    told = capsys.readouterr().out
    assert told.startswith(f"{out}: 10 frames after frames 3 to 12 of sequence 1; ")
    assert f"mean squared error {error:.4g} over 10 of them" in told


def test_a_recording_is_continued_where_it_ends(frames, tmp_path, capsys):
    path, out = tmp_path / "recording.npy", tmp_path / "forecast.npy"
    np.save(path, frames[0, :, 0].astype(np.float32) / 255)
    options = ["--layout", "THW", "--horizon", "3"]
    assert main([MODEL, str(path), *options, "--out", str(out)]) == 0
    found = np.load(out)
    assert found.shape == (3, 1, 64, 64) and found.dtype == np.float32
    past = frames[0, 15:].astype(np.float32) / 255
    assert np.array_equal(found, load(MODEL).predict(past, 3))
    told = capsys.readouterr().out
    assert "3 frames after frames 15 to 24 of recording 0" in told and "error" not in told


@pytest.mark.parametrize(("start", "tiles"), [("0", 2), ("12", 2), ("15", 1)])
def test_a_film_shows_the_input_and_then_truth_and_forecast(sequences, tmp_path, start, tiles):
    out = tmp_path / "forecast.gif"
    assert main([MODEL, str(sequences), *LAYOUT, "--out", str(out), "--start", start]) == 0
    with Image.open(out) as film:
        assert film.n_frames == 20
        assert film.width == tiles * (3 * 64 + 12) + 6
        film.seek(0)
        first = np.asarray(film.convert("L"))
    assert (first > 180).any() and (first < 20).any()  # the square, and black around it


def test_a_film_as_mp4_has_the_frames_of_the_gif(sequences, tmp_path):
    av = pytest.importorskip("av")
    for suffix in (".gif", ".mp4"):
        out = ["--out", str(tmp_path / f"forecast{suffix}")]
        assert main([MODEL, str(sequences), *LAYOUT, "--start", "12", *out]) == 0
    with av.open(str(tmp_path / "forecast.mp4")) as container:
        assert container.streams.video[0].average_rate == 5
        shown = [
            frame.to_ndarray(format="gray").astype(float) for frame in container.decode(video=0)
        ]
    assert len(shown) == 20 + 4  # the last one rests
    with Image.open(tmp_path / "forecast.gif") as film:
        for time in (0, 9, 10, 19):
            film.seek(time)
            same = np.asarray(film.convert("L"), float)
            height, width = same.shape
            assert shown[time].shape == (height + height % 2, width + width % 2)
            assert np.abs(shown[time][:height, :width] - same).mean() < 6  # of 255


def test_values_as_netcdf_are_those_of_the_model(frames, sequences, tmp_path):
    out = tmp_path / "forecast.nc"
    assert main([MODEL, str(sequences), *LAYOUT, "--out", str(out)]) == 0
    with scipy.io.netcdf_file(out, "r", mmap=False) as file:
        variable = file.variables["forecast"]
        assert variable.dimensions == ("time", "channel", "y", "x")
        assert variable.long_name == b"forecast after frames 0 to 9 of sequence 0 of squares.npy"
        assert np.array_equal(variable[:], load(MODEL).predict(frames[0, :10]))


def test_recordings_of_a_folder_and_what_follows(frames, tmp_path):
    for n in range(2):
        np.save(tmp_path / f"part-{n}.npy", frames[n])
    found = read(tmp_path, 10, 4, sequence=1, start=2)
    assert np.array_equal(found.past, frames[1, 2:12])
    assert np.array_equal(found.following, frames[1, 12:16])
    assert len(read(tmp_path, 10, 4, start=14).following) == 1  # no more follow


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "forecast.mov"], "'.mov'"),
        (["--out", "squares.npy"], "squares.npy exists; move it away"),
        (["--sequence", "2"], "--sequence is 2; .* holds 2, numbered from 0"),
        (["--start", "16"], "--start is 16; sequence 0 of .* has 25 frames; expected 10 or more"),
        (["--start", "-1"], "--start is -1"),
        (["--horizon", "0"], "horizon is 0; expected a positive integer"),
        (
            ["--horizon", "900000000"],
            "900,000,000, which makes .* GiB; expected at most 262,144",
        ),
        (["--horizon", "-5"], "horizon is -5; expected a positive integer"),
        (["--crop", "32x32"], "has frames of 1x32x32; the model takes 1x64x64: .* --size 64x64"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    sequences, tmp_path, monkeypatch, capsys, options, words
):
    monkeypatch.chdir(tmp_path)
    before = sequences.read_bytes()
    out = [] if "--out" in options else ["--out", "forecast.npy"]
    assert main([MODEL, "squares.npy", *LAYOUT, *out, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(words, line)
    assert sequences.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["squares.npy"]


def test_a_truth_that_is_not_finite_is_told_before_anything_is_written(frames, tmp_path, capsys):
    values = frames[0, :, 0] / 255.0
    values[22] = np.nan
    np.save(tmp_path / "hole.npy", values)
    out = tmp_path / "forecast.npy"
    options = ["--layout", "THW", "--start", "8", "--out", str(out)]
    assert main([MODEL, str(tmp_path / "hole.npy"), *options, "--horizon", "5"]) == 2
    assert "after frames 8 to 17 of recording 0 hold NaN" in capsys.readouterr().err
    assert not out.exists()
    assert main([MODEL, str(tmp_path / "hole.npy"), *options, "--horizon", "4"]) == 0


def test_a_link_that_leads_nowhere_is_kept(sequences, tmp_path, capsys):
    out = tmp_path / "forecast.npy"
    out.symlink_to("nowhere.npy")
    assert main([MODEL, str(sequences), *LAYOUT, "--out", str(out)]) == 2
    assert "exists; move it away" in capsys.readouterr().err and out.is_symlink()


def test_one_of_several_arrays_is_chosen_by_name(frames, tmp_path, capsys):
    path = tmp_path / "both.npz"
    np.savez(path, train=frames, test=frames[::-1])
    out = tmp_path / "forecast.npy"
    assert main([MODEL, str(path), *LAYOUT, "--out", str(out)]) == 2
    assert "choose one with --variable" in capsys.readouterr().err
    assert main([MODEL, str(path), *LAYOUT, "--out", str(out), "--variable", "test"]) == 0
    assert np.array_equal(np.load(out), load(MODEL).predict(frames[1, :10]))
