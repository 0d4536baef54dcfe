"""KITTI to Caltech Pedestrian: .seq, .hkl and raw images, written here as their programs do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from official_files import (
    encode_jpeg,
    seq_body,
    seq_header,
    write_drive,
    write_hickle_1,
    write_kitti,
    write_seq,
)
from PIL import Image

from benchmarks.data import hkl, kitti_caltech, seq
from benchmarks.data.array_file import NumpyFile
from benchmarks.data.cache import cache_folder
from benchmarks.data.kitti_caltech import KittiCaltech, KittiRawCaltech

SETS = ("set06", "set07", "set08", "set09", "set10")
Color = tuple[int, int, int]
RED = (255, 0, 0)

pytestmark = pytest.mark.usefixtures("one_cache")


# Frames of .seq


def encode_sharply(pixels: np.ndarray) -> bytes:
    return encode_jpeg(Image.fromarray(pixels), subsampling=0)


@cache
def jpeg(color: Color, size: tuple[int, int] = (640, 480)) -> bytes:
    return encode_jpeg(Image.new("RGB", size, color))


def gray(level: int) -> Color:
    return (level, level, level)


def counting(frames: int) -> list[bytes]:
    """Frame k (from 1) has the gray level k + 100."""
    return [jpeg(gray(k + 100)) for k in range(1, frames + 1)]


# Writers of .hkl


def write_hickle_3(path: Path, value: np.ndarray | list[str]) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update(CLASS=b"hickle", VERSION="3.4.7", PYTHON_VERSION="3.6.8")
        file.attrs["type"] = [b"hickle"]
        if isinstance(value, list):
            file["data_0"] = [text.encode() for text in value]
            file["data_0"].attrs["type"] = [b"<class 'list'>"]
            file["data_0"].attrs["py3_string_type"] = [b"<class 'str'>"]
        else:
            file["data_0"] = value
            file["data_0"].attrs["type"] = [b"ndarray"]


def write_hickle_3_group(path: Path, value: np.ndarray | list[str]) -> None:
    """As Python 2 does for a list of both str and unicode: an item each, of either type."""
    if not isinstance(value, list):
        write_hickle_3(path, value)
        return
    with h5py.File(path, "w") as file:
        group = file.create_group("data_0")
        for i, text in enumerate(value):
            dtype = h5py.string_dtype() if i % 2 else f"S{len(text)}"
            group.create_dataset(f"data_{i}", data=[text.encode()], dtype=dtype)


def write_hickle_5(path: Path, value: np.ndarray | list[str]) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update(HICKLE_VERSION="5.0.3", HICKLE_PYTHON_VERSION="3.11.7")
        types = file.create_group("hickle_types_table")
        types["ndarray"] = h5py.Empty("S1")
        if isinstance(value, list):
            group = file.create_group("data")
            group.attrs["num_items"] = len(value)
            for i, text in enumerate(value):
                met = value.index(text)
                if met < i:
                    group.create_dataset(
                        f"data{i}", data=group[f"data{met}"].ref, dtype=h5py.ref_dtype
                    )
                else:
                    letters = np.frombuffer(text.encode(), "S1")
                    group.create_dataset(f"data{i}", data=letters[None])
                group[f"data{i}"].attrs["item_index"] = i
        else:
            file["data"] = value
            file["data"].attrs.update(np_dtype="|u1", type=types["ndarray"].ref)


Writer = Callable[[Path, "np.ndarray | list[str]"], None]
WRITERS = (write_hickle_1, write_hickle_3, write_hickle_3_group, write_hickle_5)


# Whole data folders

DRIVES = {"2011_09_26_drive_0001": 45, "2011_09_26_drive_0002": 7, "2011_09_28_drive_0002": 23}


def write_caltech(root: Path, first: Sequence[bytes]) -> None:
    """The frames `first` as set06/V000, where the archive has it, and short videos."""
    write_seq(root / "Test/set06/set06/V000.seq", first)
    for name in SETS[1:]:
        write_seq(root / name / "V000.seq", counting(3))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KITTI with windows of 20 in two drives of three, and Caltech with one video of 65 frames."""
    folder = tmp_path_factory.mktemp("kitti-caltech")
    write_kitti(folder / "kitti_hkl", "train", DRIVES)
    write_kitti(folder / "kitti_hkl", "val", {"2011_09_26_drive_0005": 25})
    write_caltech(folder / "caltech", counting(65))
    return folder


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(prepared, tmp_path / "data"))


def levels(clips: torch.Tensor) -> np.ndarray:
    """Values of the middle pixel, 0 to 255: [B, T, C]."""
    return (clips[:, :, :, 64, 80] * 255).round().int().numpy()


def train_clips(data: KittiCaltech) -> np.ndarray:
    """`levels` of an epoch, by drive and frame."""
    clips = levels(data.batch(0, 0, data.train_sequences, "cpu"))
    return clips[np.lexsort((clips[:, 0, 1], clips[:, 0, 0]))]


def one_test(data: KittiCaltech) -> torch.Tensor:
    (clips,) = data.test(None, 100, "cpu")
    return clips


# .seq


@pytest.mark.parametrize("padding", [2, 10])
@pytest.mark.parametrize("frames", [0, 7, 5, 9])
def test_frames_are_found_whatever_the_padding_and_the_count(
    tmp_path: Path, padding: int, frames: int
) -> None:
    path = write_seq(tmp_path / "V000.seq", counting(7), frames=frames, padding=padding)
    video = seq.open_video(path)
    assert (video.width, video.height, len(video.places)) == (640, 480, 7)
    for i in (0, 3, 6):
        assert video.frame(i).mode == "RGB"
        assert np.abs(np.asarray(video.frame(i)).astype(int) - (i + 101)).max() <= 1
    expected = {0: (), 7: ()}.get(frames, (f"the header says {frames} frames, the file holds 7",))
    assert video.notes == expected


def test_a_cut_last_frame_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "V000.seq", counting(7))
    path.write_bytes(path.read_bytes()[: -(16 + 100)])  # time, padding, and a hundred of the JPEG
    video = seq.open_video(path)
    assert len(video.places) == 6
    assert "frame 7 is cut off" in video.notes[0]
    assert "7 frames, the file holds 6" in video.notes[1]


def test_the_time_of_the_last_frame_may_be_missing(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "V000.seq", counting(3))
    path.write_bytes(path.read_bytes()[:-16])
    assert len(seq.open_video(path).places) == 3 and not seq.open_video(path).notes


def test_bytes_after_the_last_frame_are_no_frame(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "V000.seq", counting(3))
    path.write_bytes(path.read_bytes() + bytes(512))
    assert len(seq.open_video(path).places) == 3
    path = write_seq(tmp_path / "V001.seq", counting(3), frames=4)  # one is missing
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(ValueError, match=r"V001\.seq: frame 4 at byte \d+ starts with 0000"):
        seq.open_video(path)


def test_a_jpeg_cut_short_names_file_and_frame(tmp_path: Path) -> None:
    jpegs = counting(4)
    whole = jpegs[1]
    jpegs[1] = whole[:-200]
    video = seq.open_video(write_seq(tmp_path / "V000.seq", jpegs))
    with pytest.raises(ValueError, match=r"V000\.seq: frame 2 of 4 is cut short"):
        video.frame(1)
    jpegs[1] = whole[:20] + seq.END
    video = seq.open_video(write_seq(tmp_path / "V001.seq", jpegs))
    with pytest.raises(ValueError, match=r"V001\.seq: frame 2 of 4 is no JPEG, or damaged.*again"):
        video.frame(1)
    data = seq_header(4) + seq_body(jpegs[:1]) + seq_body([whole])[:-300] + seq_body(jpegs[2:])
    path = tmp_path / "V002.seq"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"V002\.seq: frame 3 at byte"):
        seq.open_video(path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "has 0 bytes; expected a .seq header of 1024"),
        (seq_header(3)[:1000], "has 1000 bytes"),
        (seq_header(3), "holds no whole frame"),
        (seq_header(3, magic=0xBEEF) + seq_body(counting(3)), "0xbeef"),
        (seq_header(3, title="Norpix avi\0\0") + seq_body(counting(3)), "expected 0xfeed"),
        (seq_header(3, header_size=8192) + seq_body(counting(3)), "a header of 8192 bytes"),
        (seq_header(3, image_format=200) + bytes(9000), r"format 200 \(colour, not compressed\)"),
        (seq_header(3, image_format=103) + bytes(9000), r"format 103 \(JPEG of a Bayer pattern\)"),
        (seq_header(3, image_format=7) + bytes(9000), r"format 7 \(unknown\); expected 102 or 201"),
    ],
)
def test_what_is_no_video_of_jpegs_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "V000.seq"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=problem) as raised:
        seq.open_video(path)
    assert str(path) in str(raised.value)


def test_a_frame_of_absurd_length_is_not_read(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "V000.seq", counting(2))
    with path.open("r+b") as file:
        file.truncate(1 << 25)  # zeros, which take no room
        file.seek(seq.HEADER_SIZE)
        file.write(((1 << 24) + 1).to_bytes(4, "little"))
    with pytest.raises(
        ValueError, match=r"V000\.seq: frame 1 at byte 1024 .* 16,777,217 bytes; ex"
    ):
        seq.open_video(path)


def test_a_video_cut_off_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "V000.seq", counting(3))
    video = seq.open_video(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"V000\.seq: frame 3 of 3 is cut short"):
        video.frame(2)


def test_gray_jpegs_become_rgb(tmp_path: Path) -> None:
    frame = encode_jpeg(Image.new("L", (640, 480), 90))
    path = tmp_path / "V000.seq"
    path.write_bytes(seq_header(1, image_format=102) + seq_body([frame]))
    assert np.asarray(seq.open_video(path).frame(0))[0, 0].tolist() == [90, 90, 90]


def test_a_frame_of_another_size_than_the_header_says_is_refused(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "V000.seq", [jpeg(RED), jpeg(RED, (320, 240))])
    with pytest.raises(ValueError, match="frame 2 of 2 has 320x240 pixels; expected 640x480"):
        seq.open_video(path).frame(1)


# .hkl

SHAPE = (4, 6, 3)
NAMES = ["road-b"] * 3 + ["city-a"] * 5 + ["city-c"] * 12 + ["city-a"] * 2


def some_frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(NAMES), *SHAPE), np.uint8)


@pytest.mark.parametrize("write", WRITERS)
def test_every_layout_gives_the_same_recordings(tmp_path: Path, write: Writer) -> None:
    images, sources = tmp_path / "X.hkl", tmp_path / "sources.hkl"
    write(images, some_frames())
    write(sources, NAMES)
    assert hkl.read_texts(sources) == NAMES
    blocks = list(hkl.read_recordings(images, sources, SHAPE))
    expected = [("road-b", 0, 3), ("city-a", 0, 5), ("city-c", 0, 12), ("city-a", 0, 2)]
    assert [(block.name, block.first, len(block.frames)) for block in blocks] == expected
    frames = np.concatenate([block.frames for block in blocks])
    assert np.array_equal(frames, some_frames().transpose(0, 3, 1, 2))


def test_frames_are_read_a_chunk_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hickle_1(tmp_path / "X.hkl", some_frames())
    write_hickle_1(tmp_path / "sources.hkl", NAMES)
    assert hkl.CHUNK_BYTES <= 64 << 20
    monkeypatch.setattr(hkl, "CHUNK_BYTES", 5 * 4 * 6 * 3 + 1)
    blocks = list(hkl.read_recordings(tmp_path / "X.hkl", tmp_path / "sources.hkl", SHAPE))
    sizes = [(block.name, block.first, len(block.frames)) for block in blocks]
    assert sizes[:3] == [("road-b", 0, 3), ("city-a", 0, 5), ("city-c", 0, 5)]
    assert sizes[3:] == [("city-c", 5, 5), ("city-c", 10, 2), ("city-a", 0, 2)]
    frames = np.concatenate([block.frames for block in blocks])
    assert np.array_equal(frames, some_frames().transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("images", "sources", "problem"),
    [
        (some_frames().astype(np.float32), NAMES, r"X\.hkl holds float32 .*expected an array"),
        (NAMES, NAMES, r"X\.hkl holds .*expected an array of uint8"),
        (some_frames()[:, :3], NAMES, r"X\.hkl has the shape \(22, 3, 6, 3\)"),
        (some_frames()[0], NAMES, r"X\.hkl has the shape \(4, 6, 3\)"),
        (some_frames()[:-1], NAMES, r"X\.hkl has 21 frames and sources\.hkl 22 names"),
        (some_frames(), NAMES[:-1], r"22 frames and sources\.hkl 21 names.*download both again"),
        (some_frames(), some_frames(), r"sources\.hkl holds uint8 .*expected a list of texts"),
    ],
)
@pytest.mark.parametrize("write", [write_hickle_1, write_hickle_5])
def test_files_that_hold_something_else_are_refused(
    tmp_path: Path,
    write: Writer,
    images: np.ndarray | list[str],
    sources: np.ndarray | list[str],
    problem: str,
) -> None:
    write(tmp_path / "X.hkl", images)
    write(tmp_path / "sources.hkl", sources)
    with pytest.raises(ValueError, match=problem) as raised:
        list(hkl.read_recordings(tmp_path / "X.hkl", tmp_path / "sources.hkl", SHAPE))
    assert str(tmp_path) in str(raised.value)


def test_an_hdf5_file_without_hickles_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sources.hkl"
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"holds \['frames'\]; expected 'data' or 'data_0'"):
        hkl.read_texts(path)


def test_more_frames_than_the_file_can_hold_are_refused(tmp_path: Path) -> None:
    write_hickle_1(tmp_path / "sources.hkl", NAMES)
    with h5py.File(tmp_path / "X.hkl", "w") as file:
        file.create_dataset("data", (10**12, *SHAPE), np.uint8, chunks=(1, *SHAPE))
    with pytest.raises(ValueError, match=r"X\.hkl: /data declares 72,000,000,000,000 bytes"):
        list(hkl.read_recordings(tmp_path / "X.hkl", tmp_path / "sources.hkl", SHAPE))
    with h5py.File(tmp_path / "sources.hkl", "w") as file:
        file.create_dataset("data", (10**12,), "S20")
    with pytest.raises(ValueError, match=r"sources\.hkl: /data declares 20,000,000,000,000 bytes"):
        hkl.read_texts(tmp_path / "sources.hkl")


@pytest.mark.parametrize("name", ["X", "sources"])
@pytest.mark.parametrize("where", ["external storage", "external link", "item"])
def test_values_from_other_files_are_refused(tmp_path: Path, name: str, where: str) -> None:
    """They would show any file of this machine as frames."""
    write_hickle_1(tmp_path / "X.hkl", some_frames())
    write_hickle_1(tmp_path / "sources.hkl", NAMES)
    path, other = tmp_path / f"{name}.hkl", tmp_path / "secret"
    path.rename(other)
    with h5py.File(other) as whole, h5py.File(path, "w") as file:
        data = whole["data"]
        if where == "external link":
            file["data"] = h5py.ExternalLink(other, "data")
        elif where == "external storage":
            file.create_dataset("data", data.shape, data.dtype, external=[(other, 0, 10**6)])
        else:  # of a group, as hickle 5 writes it
            file["data/data0"] = h5py.ExternalLink(other, "data")
    with pytest.raises(ValueError, match=rf"{name}\.hkl.*(other file|expected an array of uint8)"):
        list(hkl.read_recordings(tmp_path / "X.hkl", tmp_path / "sources.hkl", SHAPE))


@pytest.mark.parametrize("write", WRITERS)
def test_a_name_of_absurd_length_is_refused(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "sources.hkl", ["a", "b" * 256, "b" * 256])
    with pytest.raises(ValueError, match=r"sources\.hkl has a text of 256 bytes; expected at"):
        hkl.read_texts(tmp_path / "sources.hkl")


@pytest.mark.parametrize("damage", ["missing", "numbers", "names", "group", "link"])
def test_a_group_that_is_no_whole_list_of_texts_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "sources.hkl"
    write_hickle_5(path, ["a", "b", "c"])
    with h5py.File(path, "a") as file:
        del file["data/data1"]
        if damage == "numbers":
            file["data/data1"] = 4
        elif damage == "group":
            file.create_group("data/data1")
        elif damage == "link":
            file["data/data1"] = h5py.SoftLink("/nothing")
        elif damage == "names":
            file["data/key"] = "b"
    with pytest.raises(ValueError, match=r"sources\.hkl.*expected a (list of texts|text)"):
        hkl.read_texts(path)


@pytest.mark.parametrize("keep", [0, 50, 700, -1])
def test_a_file_cut_short_is_named_with_a_remedy(tmp_path: Path, keep: int) -> None:
    for name, value in (("X.hkl", some_frames()), ("sources.hkl", NAMES)):
        write_hickle_1(tmp_path / name, value)
    path = tmp_path / "X.hkl"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"X\.hkl cannot be read .*download it again"):
        list(hkl.read_recordings(path, tmp_path / "sources.hkl", SHAPE))


def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "sources.hkl"
    write_hickle_1(path, NAMES)
    data = bytearray(path.read_bytes())
    data[600:800] = b"\xee" * 200
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"sources\.hkl cannot be read"):
        hkl.read_texts(path)


# The data set


def test_training_windows_stay_in_a_drive_and_are_counted_from_its_end(prepared: Path) -> None:
    data = KittiCaltech(prepared)
    assert data.train_sequences == 3 == 45 // 20 + 7 // 20 + 23 // 20
    clips = train_clips(data)
    assert clips.shape == (3, 11, 3)
    assert clips[:, 0].tolist() == [[0, 5, 200], [0, 25, 200], [2, 3, 200]]  # drive, frame
    assert np.array_equal(clips[..., 0], np.repeat(clips[:, :1, 0], 11, axis=1))
    assert np.array_equal(clips[..., 1], clips[:, :1, 1] + np.arange(11))


def test_validation_is_of_the_training_side(prepared: Path) -> None:
    (clips,) = KittiCaltech(prepared).validation(9, 9, "cpu")
    assert levels(clips)[:, 0].tolist() == [[0, 5, 200]]  # 25 frames: one window


def test_every_third_test_frame_is_kept_in_windows_counted_from_the_end(prepared: Path) -> None:
    data = KittiCaltech(prepared)
    clips = one_test(data)
    assert data.test_sequences == 1 == 65 // 60
    assert clips.shape == (1, 11, 3, 128, 160) and clips.dtype == torch.float32
    frames = 3 * np.arange(2, 13)  # 65 frames: 21 are kept, the first of them is left over
    assert np.abs(levels(clips)[0] - (frames + 100)[:, None]).max() <= 1


@pytest.mark.parametrize(("frames", "windows"), [(59, 0), (60, 1), (62, 1), (119, 1), (120, 2)])
def test_a_video_of_n_frames_has_floor_n_over_60_windows(
    root: Path, frames: int, windows: int
) -> None:
    write_seq(root / "caltech/set08/V001.seq", counting(frames))
    assert KittiCaltech(root).test_sequences == 1 + windows


@pytest.mark.parametrize(("cut", "train", "test"), [(11, 4 + 2, 1), (4, 11 + 1 + 5, 5), (7, 10, 3)])
def test_cut_sets_the_windows_and_past_and_future_the_clips(
    prepared: Path, cut: int, train: int, test: int
) -> None:
    data = KittiCaltech(prepared, past=3, future=1, cut=cut)
    assert (data.train_sequences, data.test_sequences) == (train, test)
    assert data.clip.frames == 4 and train_clips(data).shape[1] == 4
    starts = train_clips(data)[:, 0, 1]
    assert starts[0] == 45 % cut and starts[1] == 45 % cut + cut


def test_red_stays_red_on_both_sides(root: Path) -> None:
    frames = np.zeros((20, 128, 160, 3), np.uint8)
    frames[..., 0] = 255
    for side in ("train", "val"):
        write_hickle_1(root / f"kitti_hkl/X_{side}.hkl", frames)
        write_hickle_1(root / f"kitti_hkl/sources_{side}.hkl", ["city-a"] * 20)
    write_caltech(root / "caltech", [jpeg(RED)] * 60)
    data = KittiCaltech(root)
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    assert torch.equal(data.batch(0, 0, 1, "cpu"), red.expand(1, 11, 3, 128, 160))
    assert (one_test(data) - red).abs().max() < 3 / 255


def test_bgr_turns_the_test_side_only_and_says_so(root: Path) -> None:
    write_caltech(root / "caltech", [jpeg((250, 100, 10))] * 60)
    rgb, bgr = KittiCaltech(root), KittiCaltech(root, bgr_test=True)
    assert np.abs(levels(one_test(bgr)) - (10, 100, 250)).max() <= 2
    assert torch.equal(one_test(bgr), one_test(rgb).flip(2))
    assert torch.equal(bgr.batch(0, 0, 3, "cpu"), rgb.batch(0, 0, 3, "cpu"))
    assert bgr.provenance["test_channels"] == "BGR" and "BGR" in bgr.caption
    assert "test_channels" not in rgb.provenance and "BGR" not in rgb.caption
    assert bgr.digest != rgb.digest


def test_the_sides_are_different_domains(prepared: Path) -> None:
    data = KittiCaltech(prepared)
    assert np.all(train_clips(data)[..., 2] == 200)  # KITTI's blue; Caltech's frames are gray
    test = levels(one_test(data))
    assert np.array_equal(test[..., 0], test[..., 1]) and test.max() < 170
    assert data.provenance["train_frames_sha256"] != data.provenance["test_frames_sha256"]


def test_a_caltech_frame_is_resized_to_171_columns_and_5_to_164_kept(tmp_path: Path) -> None:
    # of 640 columns, those that reach columns 5 to 164 begin with 18.7 - 1.9 and end 617.5 + 1.9
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[..., 2] = 255
    picture[:, 16:620] = RED
    video = seq.open_video(write_seq(tmp_path / "a.seq", [encode_sharply(picture)]))
    frame = kitti_caltech._caltech_frame(video, 0)
    assert frame.shape == (3, 128, 160) and frame.dtype == np.uint8
    assert frame[0].min() > 250 and frame[1:].max() < 5
    picture[:, :24], picture[:, 612:] = (0, 0, 255), (0, 0, 255)
    video = seq.open_video(write_seq(tmp_path / "b.seq", [encode_sharply(picture)]))
    frame = kitti_caltech._caltech_frame(video, 0)
    assert frame[2, :, 0].min() > 200 and frame[2, :, -1].min() > 200
    assert frame[2, :, 2:-2].max() < 5


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((480, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    video = seq.open_video(write_seq(tmp_path / "a.seq", [encode_sharply(stripes)]))
    frame = kitti_caltech._caltech_frame(video, 0).astype(float)
    assert np.abs(frame - 127.5).max() < 20  # two neighbours' mean would be 0 to 255


def test_frames_that_are_not_kept_are_not_decoded(root: Path) -> None:
    jpegs = counting(60)
    for i in range(60):
        if i % 3 != 2:
            jpegs[i] = seq.START + b"no JPEG" + seq.END
    write_seq(root / "caltech/set08/V001.seq", jpegs)
    assert KittiCaltech(root).test_sequences == 2
    jpegs[32] = seq.START + b"no JPEG" + seq.END
    write_seq(root / "caltech/set08/V001.seq", jpegs)
    with pytest.raises(ValueError, match=r"set08/V001\.seq: frame 33 of 60 is no JPEG"):
        KittiCaltech(root)


def test_a_second_opening_decodes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = KittiCaltech(root)

    def fail(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(seq, "open_video", fail)
    monkeypatch.setattr(hkl, "read_recordings", fail)
    second = KittiCaltech(root)
    assert second.digest == first.digest
    assert torch.equal(one_test(second), one_test(first))
    assert isinstance(second._splits.train.frames, NumpyFile)
    other = KittiCaltech(root, cut=11, bgr_test=True)  # the same frames serve every option
    assert other.provenance["test_frames_sha256"] == first.provenance["test_frames_sha256"]
    write_seq(root / "caltech/set08/V000.seq", counting(6))
    with pytest.raises(AssertionError, match="read again"):
        KittiCaltech(root)


def test_odd_videos_are_noted_with_the_frames(root: Path) -> None:
    path = write_seq(root / "caltech/set08/V001.seq", counting(9))
    path.write_bytes(path.read_bytes()[:-100])
    notes = KittiCaltech(root)._splits.test.notes
    assert "set08/V001: frame 9 is cut off by the end of the file and left out" in notes


def test_provenance_has_digests_and_no_path(root: Path, tmp_path: Path) -> None:
    data = KittiCaltech(root)
    expected = {"name": "kitti-caltech", "past": 10, "future": 1, "cut": 20, "train_drives": 3}
    expected |= {"train_sequences": 3, "validation_sequences": 1, "test_sequences": 1}
    assert expected.items() <= data.provenance.items()
    assert data.provenance["test_videos"] == 5
    assert str(tmp_path) not in json.dumps(data.provenance)
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    assert KittiCaltech(moved).digest == data.digest
    assert KittiCaltech(root, cut=11).digest != data.digest
    write_caltech(moved / "caltech", counting(66)[1:])
    assert KittiCaltech(moved).digest != data.digest


def test_the_caption_says_what_was_measured(prepared: Path) -> None:
    caption = KittiCaltech(prepared).caption
    for words in ("3 sequences", "3 drives", "5 videos", "first 11 frames", "window of 20", "RGB"):
        assert words in caption
    assert "averaged" not in caption
    assert "averaged over 2x2 pixels" in KittiCaltech(prepared, downsample=2).caption


def test_downsampling_averages_squares(prepared: Path) -> None:
    data = KittiCaltech(prepared, downsample=2)
    assert (data.clip.height, data.clip.width) == (64, 80)
    full = one_test(KittiCaltech(prepared))
    mean = full.unflatten(4, (80, 2)).unflatten(3, (64, 2)).mean((4, 6))
    assert torch.allclose(one_test(data), mean, atol=1e-6)
    with pytest.raises(ValueError, match="downsample is 3"):
        KittiCaltech(prepared, downsample=3)


def test_a_clip_must_fit_into_a_window(root: Path) -> None:
    with pytest.raises(ValueError, match=r"past=10 and future=2 .*cut=11 .*at least 12"):
        KittiCaltech(root, future=2, cut=11)
    assert not cache_folder("kitti-hkl-train", root).exists()  # before anything is decoded
    with pytest.raises(ValueError, match=r"Clip\.past is 0"):
        KittiCaltech(root, past=0)


@pytest.mark.parametrize("data", [KittiCaltech, KittiRawCaltech])
def test_missing_files_are_told_before_anything_else(
    tmp_path: Path, data: type[KittiCaltech]
) -> None:
    for root in (None, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=rf"{data.source.name} needs .*download"):
            data(root, past=0)


@pytest.mark.parametrize("name", ["X_train", "sources_train", "X_val", "sources_val"])
def test_each_file_of_kitti_is_needed_once(root: Path, name: str) -> None:
    path = root / f"kitti_hkl/{name}.hkl"
    shutil.copy(path, root / path.name)
    with pytest.raises(ValueError, match=rf"{name}\.hkl 2 times.*expected it once"):
        KittiCaltech(root)
    path.unlink()
    assert KittiCaltech(root).train_sequences == 3
    (root / path.name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"needs kitti_hkl/{name}\.hkl"):
        KittiCaltech(root)


def test_every_test_set_is_needed_and_training_sets_are_not(root: Path) -> None:
    write_seq(root / "caltech/set05/V000.seq", counting(60))
    assert KittiCaltech(root).provenance["test_videos"] == 5
    (root / "caltech/set09/V000.seq").unlink()
    with pytest.raises(FileNotFoundError, match=r"no video .*of Caltech's set09; expected"):
        KittiCaltech(root)


def test_a_video_that_is_there_twice_is_refused(root: Path) -> None:
    write_seq(root / "copy/set06/V000.seq", counting(3))
    with pytest.raises(ValueError, match="set06/V000 is there twice"):
        KittiCaltech(root)


def test_a_video_of_another_size_is_refused(root: Path) -> None:
    path = root / "caltech/set08/V001.seq"
    path.write_bytes(seq_header(3, size=(320, 240)) + seq_body([jpeg(RED, (320, 240))] * 3))
    with pytest.raises(ValueError, match=r"V001\.seq has frames of 320x240 pixels; expected 640x"):
        KittiCaltech(root)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"V001\.seq has 0 bytes"):
        KittiCaltech(root)


def test_a_link_to_caltech_is_followed(root: Path, tmp_path: Path) -> None:
    (root / "caltech").rename(tmp_path / "elsewhere")
    (root / "caltech").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert KittiCaltech(root).test_sequences == 1


def test_recordings_are_named_by_drive_and_by_set_and_video(prepared: Path) -> None:
    splits = KittiCaltech(prepared)._splits
    assert [r.name for r in splits.train.recordings] == [f"city-{name}_sync" for name in DRIVES]
    assert [r.name for r in splits.test.recordings] == [f"{name}/V000" for name in SETS]


@pytest.mark.parametrize(
    ("cut", "train", "test"), [(11, 3738, None), (12, 3424, None), (20, 2042, 1983)]
)
def test_checks_expect_what_the_real_files_give(
    prepared: Path, cut: int, train: int, test: int | None
) -> None:
    checks = {check.what: check for check in KittiCaltech(prepared, cut=cut).checks()}
    expected = {what: check.expected for what, check in checks.items()}
    assert expected["KITTI training drives"] == 57
    assert expected["KITTI training frames"] == 41_396
    assert expected["KITTI validation frames"] == 154
    assert expected["training windows"] == train
    assert expected["Caltech videos"] == 66
    assert expected.get("test windows") == test
    thirtieths = [check for what, check in checks.items() if "thirtieth" in what]
    assert sum(int(n) for check in thirtieths for n in str(check.expected).split()) == 4024
    assert checks["KITTI training frames"].found == 75
    assert checks["Caltech videos"].found == 5
    assert [check.found for check in thirtieths] == ["2", "0", "0", "0", "0"]  # 65 and 3 frames
    assert not any(check.holds for check in checks.values())


# KITTI's raw images


def image(color: Color = RED) -> Image.Image:
    return Image.new("RGB", (1242, 375), color)


@pytest.fixture(scope="module")
def prepared_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives to train on, one with a gap; one of PredNet's test, one of the campus."""
    root = tmp_path_factory.mktemp("kitti-raw-caltech")
    for drive, numbers, color in (
        ("2011_09_28_drive_0001", range(5), (20, 40, 60)),
        ("2011_09_26_drive_0001", [0, 1, 2, 4, 5, 6, 7], RED),
        ("2011_09_26_drive_0005", range(4), (0, 255, 0)),
        ("2011_09_26_drive_0070", range(8), RED),
        ("2011_09_28_drive_0016", range(8), RED),
    ):
        write_drive(root / "kitti_raw", drive, dict.fromkeys(numbers, image(color)))
    write_caltech(root / "caltech", counting(12))
    return root


@pytest.fixture
def raw(prepared_raw: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(prepared_raw, tmp_path / "raw"))


def open_raw(root: Path) -> KittiRawCaltech:
    return KittiRawCaltech(root, past=2, future=1, cut=3)


def test_raw_drives_are_read_without_prednets_test_drives(raw: Path) -> None:
    data = open_raw(raw)
    assert data.name == "kitti-raw-caltech" and data.clip.width == 160
    recordings = [tuple(r) for r in data._splits.train.recordings]
    assert recordings == [
        ("2011_09_26_drive_0001", 0, 0, 3),
        ("2011_09_26_drive_0001", 4, 3, 4),
        ("2011_09_28_drive_0001", 0, 7, 5),
    ]
    assert data._splits.train.notes == ("2011_09_26_drive_0001: no images between 2 and 4",)
    assert data.train_sequences == 3 and data.provenance["train_drives"] == 2
    assert train_clips(data)[:, 0].tolist() == [[20, 40, 60], [255, 0, 0], [255, 0, 0]]
    (validation,) = data.validation(5, 5, "cpu")
    assert levels(validation)[:, 0].tolist() == [[0, 255, 0]]
    assert np.abs(levels(one_test(data))[0, :, 0] - (106, 109, 112)).max() <= 1
    assert "KITTI (2 drives)" in data.caption
    checks = {check.what: check.found for check in data.checks()}
    assert checks["KITTI training frames"] == 12 and checks["KITTI training drives"] == 2


def test_long_drives_are_decoded_in_order_and_in_batches(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = raw / "kitti_raw/2011_09_28/2011_09_28_drive_0001_sync/image_03/data"
    for number in range(5):
        image((number, 0, 0)).save(place / f"{number:010}.png", compress_level=1)
    monkeypatch.setattr(kitti_caltech, "BATCH", 2)
    frames = open_raw(raw)._splits.train.frames[7:]
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_prednets_folders_are_found(raw: Path) -> None:
    drive = raw / "kitti_raw/2011_09_28/2011_09_28_drive_0001_sync"
    nested = raw / "raw/residential/2011_09_28_drive_0001_sync/2011_09_28" / drive.name
    nested.parent.mkdir(parents=True)
    drive.rename(nested)
    assert open_raw(raw).provenance["train_drives"] == 2
    shutil.copytree(nested, drive)
    with pytest.raises(ValueError, match=r"2011_09_28_drive_0001 is in .*expected it once"):
        open_raw(raw)


def test_a_raw_frame_is_resized_to_424_columns_and_the_middle_160_kept(tmp_path: Path) -> None:
    # of 1242 columns, those that reach columns 132 to 291 begin with 388 - 1.5 and end 854 + 1.5
    path = tmp_path / "0000000000.png"
    picture = np.zeros((375, 1242, 3), np.uint8)
    picture[..., 2] = 255
    picture[:, 384:858] = RED
    Image.fromarray(picture).save(path)
    frame = kitti_caltech._kitti_frame(path)
    assert frame.shape == (3, 128, 160) and frame[0].min() == 255 and frame[1:].max() == 0
    picture[:, :391], picture[:, 852:] = (0, 0, 255), (0, 0, 255)
    Image.fromarray(picture).save(path)
    frame = kitti_caltech._kitti_frame(path)
    assert frame[2, :, 0].min() > 100 and frame[2, :, -1].min() > 100
    assert frame[2, :, 2:-2].max() == 0


def test_damaged_raw_images_are_named(raw: Path) -> None:
    path = raw / "kitti_raw/2011_09_28/2011_09_28_drive_0001_sync/image_03/data/0000000002.png"
    data = path.read_bytes()
    for damaged in (b"", data[: len(data) // 2], data[:100] + b"\xee" * 50 + data[150:]):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"0000000002\.png (is no|cannot be read as) PNG.*again"
        ):
            open_raw(raw)
    Image.new("RGB", (1242, 375)).save(path, "BMP")
    with pytest.raises(ValueError, match=r"0000000002\.png is no PNG"):
        open_raw(raw)


@pytest.mark.parametrize("size", [(375, 375), (50_000, 1), (1, 50_000), (375, 1242), (2000, 375)])
def test_images_of_another_aspect_than_kittis_are_refused(raw: Path, size: tuple[int, int]) -> None:
    path = raw / "kitti_raw/2011_09_28/2011_09_28_drive_0001_sync/image_03/data/0000000002.png"
    Image.new("RGB", size).save(path)
    message = rf"0000000002\.png has {size[0]}x{size[1]} pixels; expected KITTI's 1242x375"
    with pytest.raises(ValueError, match=message):
        open_raw(raw)


@pytest.mark.parametrize("size", [(1242, 375), (1224, 370), (1226, 370), (1238, 374), (1241, 376)])
def test_images_of_all_of_kittis_sizes_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, RED).save(tmp_path / "0.png")
    assert kitti_caltech._kitti_frame(tmp_path / "0.png").shape == (3, 128, 160)


def test_an_image_of_absurd_size_is_not_decoded(raw: Path) -> None:
    path = raw / "kitti_raw/2011_09_28/2011_09_28_drive_0001_sync/image_03/data/0000000002.png"
    Image.new("1", (12_420, 3_750)).save(path)
    with pytest.raises(
        ValueError, match=r"0000000002\.png has 12420x3750 pixels; expected at most"
    ):
        open_raw(raw)


def test_empty_and_missing_drives_are_named(raw: Path) -> None:
    place = raw / "kitti_raw/2011_09_28/2011_09_28_drive_0001_sync/image_03/data"
    (place / "0000000002.png").rename(place / "thumbnail.png")
    with pytest.raises(ValueError, match="has 5 images; expected at least one, and numbered ones"):
        open_raw(raw)
    for path in place.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="drive_0001_sync/image_03/data has 0 images"):
        open_raw(raw)
    shutil.rmtree(place)
    validation = raw / "kitti_raw/2011_09_26/2011_09_26_drive_0005_sync"
    shutil.rmtree(validation)
    with pytest.raises(FileNotFoundError, match="none of the 1 drives 2011_09_26_drive_0005"):
        open_raw(raw)


def test_sources_tell_how_to_get_each_file() -> None:
    assert len(KittiRawCaltech.source.files) == 57 + 1 + 1
    assert not any("drive_0104" in file.path for file in KittiRawCaltech.source.files)
    for source in (KittiCaltech.source, KittiRawCaltech.source):
        assert all(url.startswith("https://") for file in source.files for url in file.urls)
        assert source.manual and source.licence and source.title
