"""Human3.6M: the lists, the two splits, and frames that are read as they are needed."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from official_files import write_human36m
from PIL import Image

from benchmarks.data import Human36M
from benchmarks.data.__main__ import main
from benchmarks.data.array_file import ChangedError
from benchmarks.data.human36m import read_frame, read_list


def clip(subject: int, first: int) -> str:
    return f"images/S{subject}_Eating 1.54138969_,{first},{first + 70}"


TRAIN = [clip(1, 1), clip(1, 26), clip(8, 1), clip(9, 1)]
TEST = [clip(1, 51), clip(9, 26), clip(11, 1)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_human36m(tmp_path / "human36m", {"train.txt": TRAIN, "test.txt": TEST})
    return tmp_path


def reds(frames: torch.Tensor) -> list[list[int]]:
    """Three times the number of each frame of each sequence, modulo 256, as JPEG keeps it."""
    return [list(sequence) for sequence in (255 * frames[:, :, 0, 9, 9]).round().int().tolist()]


def near(found: list[list[int]], firsts: list[int]) -> bool:
    expected = [[3 * (first + 5 * n) % 256 for n in range(8)] for first in firsts]
    return bool(np.abs(np.array(found) - expected).max() <= 3)


def test_the_lists_split_clips_of_the_same_videos(root: Path) -> None:
    data = Human36M(root)
    assert (data.train_sequences, data.test_sequences) == (3, 3)
    assert near(reds(torch.cat(list(data.test(None, 2, "cpu")))), [1, 51, 26])  # S11, S1, S9
    assert near(reds(torch.cat(list(data.validation(9, 2, "cpu")))), [1])  # S8's
    assert data.overlap(None) == 1
    (first, last), (_, after), (other, _) = data._train.stretches([0, 1, 2], 8)
    assert (last - first, after - last) == (35, 25), "clips of S1, 25 frames apart"
    assert other > after + 1000, "a clip of S9"
    assert data.caption == (
        "Human3.6M, the field's lists: trained on 3 clips, S8's 1 for validation; tested on 3. "
        "Both lists cut clips from the same videos: 2 of 3 test clips share frames with clips of "
        "the training list, so scores do not tell how models do on persons that they have not seen."
    )
    frame = data.batch(0, 0, 1, "cpu")[0, 0, :, 9, 9] * 255
    assert frame[1:].round().tolist() == pytest.approx([100, 200], abs=2), "red, green, blue"


def test_subjects_share_nothing(root: Path) -> None:
    data = Human36M(root, by_subject=True)
    assert (data.train_sequences, data.test_sequences) == (3, 3)
    assert near(reds(torch.cat(list(data.test(None, 2, "cpu")))), [1, 1, 26])  # S11, S9, S9
    assert "split by subject" in data.caption and "share" not in data.caption
    assert data.digest != Human36M(root).digest


def test_frames_of_another_size_are_resized_without_antialiasing(tmp_path: Path) -> None:
    pixels = np.zeros((512, 512, 3), np.uint8)
    pixels[:, 256:] = 240
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100)
    frame = read_frame(tmp_path / "a.jpg")
    assert frame.shape == (3, 256, 256) and frame.dtype == np.uint8
    assert frame[0, 9, 120] == 0 and frame[0, 9, 140] == 240
    edge = frame[0, 9, 126:130].tolist()  # -0.09375 and 1.09375 of the step, clipped at 0
    assert edge == [0, 0, 255, 240] or np.abs(np.subtract(edge, [0, 0, 255, 240])).max() <= 8


def test_a_list_may_end_in_blank_lines(root: Path) -> None:
    path = root / "human36m" / "train.txt"
    path.write_bytes(path.read_bytes() + b"\r\n\r\n")
    assert len(read_list(path)) == 4


@pytest.mark.parametrize(
    "wrong",
    ["images/S1_Eating_,1", clip(1, 1)[:-1], "images/../S1_a.1_,1,71", "/S1_a.1_,1,71", "x,1,71"],
)
def test_a_wrong_line_is_named(root: Path, wrong: str) -> None:
    path = root / "human36m" / "test.txt"
    path.write_text(f"{TEST[0]}\n{wrong}\n")
    with pytest.raises(ValueError, match=r"test\.txt, line 2: .* expected a path") as error:
        Human36M(root)
    assert "\n" not in str(error.value)


def test_a_missing_frame_is_named_before_anything_trains(root: Path) -> None:
    path = root / "human36m" / "images" / "S9_Eating 1.54138969_000036.jpg"
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"S9_Eating 1\.54138969_000036\.jpg is missing"):
        Human36M(root)


def test_a_damaged_frame_is_named_when_it_is_read(root: Path) -> None:
    for path in (root / "human36m" / "images").glob("S11*"):
        path.write_bytes(b"no image")
    data = Human36M(root)
    with pytest.raises(ValueError, match=r"S11_.*\.jpg is no JPEG, or damaged"):
        list(data.test(None, 3, "cpu"))


def test_a_frame_that_is_written_again_is_other_data(root: Path) -> None:
    data = Human36M(root)
    data.check_unchanged()
    sent = pickle.dumps(data)
    for path in (root / "human36m" / "images").glob("S11*"):
        Image.new("RGB", (256, 256), (9, 9, 9)).save(path, quality=50)
    for opened in (data, pickle.loads(sent)):
        with pytest.raises(ChangedError, match=r"a frame below .* was changed"):
            opened.check_unchanged()
    again = Human36M(root)
    assert again.digest != data.digest
    assert again.provenance["train_frames_sha256"] == data.provenance["train_frames_sha256"]


def test_without_files_the_error_says_where_they_come_from(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"human36m/train\.txt.*/vision\.imar\.ro/human"
        ):
            Human36M(folder)


def test_the_lists_lie_in_one_folder(root: Path) -> None:
    (root / "human36m" / "test.txt").rename(root / "test.txt")
    with pytest.raises(ValueError, match=r"test\.txt are in two folders; expected both"):
        Human36M(root)


def test_more_frames_than_a_clip_has_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="past and future are 16 frames; a clip has 15"):
        Human36M(root, future=12)


def test_the_command_says_what_to_do(root: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["download", "human36m", "--data", str(root / "new")]) == 2
    assert "vision.imar.ro" in capsys.readouterr().out
    assert main(["verify", "human36m", "--data", str(root)]) == 1
    out = capsys.readouterr().out
    assert "test clips that share frames with training clips: expected 8483, found 2" in out
