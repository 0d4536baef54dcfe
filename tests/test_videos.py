"""Videos of your own: every frame at its time, upright, in its colours; or one clear line."""

from __future__ import annotations

import re
import struct
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from benchmarks.data import Arrays, reader
from benchmarks.data.arrays import open_content
from benchmarks.predict import main as predict

WINDOWS = {"past": 1, "future": 1}


def noise(count, height=8, width=10, seed=0):
    """Frames [T, H, W, 3] of black, white and the six pure colours, no two of them equal."""
    drawn = np.random.default_rng(seed).integers(0, 2, (count, height, width, 3), np.uint8)
    return drawn * np.uint8(255)


def film(path, frames, codec="ffv1", pixels="bgr0", *, rate=25, times=None, source="rgb24", **of):
    """Write a video; `times` count parts 1 / `rate` of a second, `of` is set on the encoder."""
    if path.suffix == ".gif":  # FFmpeg's palette has no white
        first, *others = (Image.fromarray(frame).quantize(8) for frame in frames)
        first.save(path, save_all=True, append_images=others, duration=40)
        return path
    options = of.pop("options", {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        for name, value in of.items():
            setattr(stream.codec_context, name, value)
        for index, frame in enumerate(frames):
            picture = frame
            if isinstance(frame, np.ndarray):
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=source)
            picture.pts = index if times is None else times[index]
            picture.time_base = Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def read(path, **options):
    """All frames of a recording, [T, H, W, C], as they were written."""
    (array,) = open_content(path, path.name, **options).arrays.values()
    return np.moveaxis(array[:], 1, -1)


def refused(path, message, kind=ValueError, **options):
    with pytest.raises(kind, match=message) as caught:
        Arrays(path, **WINDOWS, **options)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


# Frames


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mkv", "ffv1", "bgr0"),
        ("a.AVI", "ffv1", "bgr0"),
        ("a.mov", "png", "rgb24"),
        ("a.gif", "", ""),
    ],
)
def test_every_frame_is_read_in_order_with_its_colours(tmp_path, name, codec, pixels):
    frames = noise(40, 7, 9)
    path = film(tmp_path / name, frames, codec, pixels)
    assert np.array_equal(read(path), frames)
    dataset = Arrays(path, **WINDOWS, stride=1)
    assert f"{name}: 1 recording of 40 frames, 3 channels of 7x9, uint8," in dataset.caption
    last = next(dataset.test(None, 99, "cpu"))[-1, -1]
    assert np.array_equal(last.numpy(), np.moveaxis(frames[-1], -1, 0) / np.float32(255))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mpeg4"), ("a.mp4", "libx264"), ("a.webm", "libvpx-vp9")]
)
def test_lossy_videos_are_close(tmp_path, name, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV lacks {codec}")
    shades = np.linspace(20, 230, 30).astype(np.uint8)
    frames = np.empty((30, 48, 64, 3), np.uint8)
    frames[..., 0], frames[..., 1] = shades[:, None, None], 255 - shades[:, None, None]
    frames[..., 2] = np.linspace(30, 200, 64)
    found = read(film(tmp_path / name, frames, codec, "yuv420p"))
    assert found.shape == frames.shape and abs(found.astype(int) - frames).mean() < 6


def shown(matrix, full):
    """What a player shows for Y, U, V = 100, 90, 200, by the definition of the colour matrix."""
    red, blue = matrix
    y, u, v = (100, 90 - 128, 200 - 128) if full else (100 - 16, 90 - 128, 200 - 128)
    y, u, v = np.array([y, u, v]) / ([255, 255, 255] if full else [219, 224, 224])
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.clip([r, (y - red * r - blue * b) / (1 - red - blue), b], 0, 1) * 255


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("space", "matrix"), [(1, (0.2126, 0.0722)), (5, (0.299, 0.114)), (9, (0.2627, 0.0593))]
)
def test_the_declared_matrix_and_range_of_colours_count(tmp_path, space, matrix, full):
    frame = av.VideoFrame(16, 16, "yuv444p")
    frame.colorspace, frame.color_range = space, 2 if full else 1
    for plane, value in zip(frame.planes, (100, 90, 200), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)

    tags = {"colorspace": space, "color_range": 2 if full else 1}
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv444p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = read(tmp_path / "a.mkv")[0]
    assert abs(found - shown(matrix, full)).max() <= 1


def test_transparent_pixels_are_black_and_that_is_told(tmp_path, capsys):
    frames = np.concatenate([noise(20), np.full((20, 8, 10, 1), 255, np.uint8)], axis=-1)
    assert np.array_equal(
        read(film(tmp_path / "a.mov", frames, "png", "rgba", source="rgba")), frames[..., :3]
    )
    frames[3, 2, 4] = (255, 200, 100, 0)
    frames[4, 2, 4] = (255, 200, 100, 51)
    found = read(film(tmp_path / "b.mov", frames, "png", "rgba", source="rgba"))
    assert found[3, 2, 4].tolist() == [0, 0, 0] and found[4, 2, 4].tolist() == [51, 40, 20]
    assert "b.mov: transparent pixels are black" in capsys.readouterr().err


# Sizes


def test_pictures_are_scaled_to_cover_the_size_and_cropped_in_the_middle(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (12, 48, 80, 3), np.uint8)
    path = film(tmp_path / "a.mkv", frames)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    small = F.interpolate(pixels, size=(24, 40), mode="bilinear", antialias=True)[..., 8:-8]
    found = read(path, size="24x24")
    assert abs(found - small.permute(0, 2, 3, 1).numpy()).max() <= 1
    luma = (small * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    gray = read(path, size="24x24", gray=True)
    assert gray.shape == (12, 24, 24, 1) and abs(gray[..., 0] - luma.numpy()).max() <= 1.5
    assert np.array_equal(read(path, size="24x24", crop="20x22"), found[:, 2:-2, 1:-1])
    padded = read(path, size="24x24", crop="20x22", pad="21x22")
    assert np.array_equal(padded[:, :20], found[:, 2:-2, 1:-1])
    assert np.array_equal(read(path, size="48x80"), frames)
    assert read(path, size="100x90").shape == (12, 100, 90, 3)  # larger


def turned(path, matrix):
    """Write another display matrix [[a, b], [c, d]] into an MP4 or QuickTime file."""
    content = bytearray(path.read_bytes())
    rows = [[matrix[0][0], matrix[0][1], 0], [matrix[1][0], matrix[1][1], 0], [0, 0, 1 << 14]]
    unturned = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    place = content.index(unturned, content.index(b"tkhd"))
    content[place : place + 36] = struct.pack(">9i", *(round(x * 65536) for r in rows for x in r))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[1, 0], [0, 1]], lambda x: x),
        ([[0, 1], [-1, 0]], lambda x: np.rot90(x, -1, (1, 2))),  # x' = -y, y' = x: clockwise
        ([[-1, 0], [0, -1]], lambda x: np.rot90(x, 2, (1, 2))),
        ([[0, -1], [1, 0]], lambda x: np.rot90(x, 1, (1, 2))),
        ([[-1, 0], [0, 1]], lambda x: x[:, :, ::-1]),
    ],
)
def test_a_phones_rotation_is_applied(tmp_path, matrix, expected):
    frames = noise(10)
    path = turned(film(tmp_path / "a.mov", frames, "png", "rgb24"), matrix)
    assert np.array_equal(read(path), expected(frames))


def test_a_rotation_by_other_angles_is_refused(tmp_path):
    path = film(tmp_path / "a.mov", noise(10), "png", "rgb24")
    refused(turned(path, [[0.7, 0.7], [-0.7, 0.7]]), "turned or stretched.*expected quarter turns")


def test_pixels_become_square(tmp_path):
    frames = np.full((10, 32, 48, 3), 90, np.uint8)
    path = tmp_path / "a.avi"
    film(path, frames, "mpeg4", "yuv420p", sample_aspect_ratio=Fraction(2, 1))
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2
    assert read(path).shape == (10, 32, 96, 3)
    assert read(path, size="16x16").shape == (10, 16, 16, 3)


# Times


def test_a_variable_frame_rate_is_refused_or_sampled_at_even_times(tmp_path, capsys):
    frames = noise(7)
    path = film(tmp_path / "a.mkv", frames, rate=1000, times=[0, 100, 200, 250, 300, 900, 1000])
    refused(path, "variable frame rate, such as 10 and 20 frames per second; give --fps")
    shown = [0, 1, 2, 4, 4, 4, 4, 4, 4, 5, 6]  # frame 3 is gone before 300 ms
    assert np.array_equal(read(path, fps=10), frames[shown])
    assert "a.mkv: 5 frames repeat the one before" in capsys.readouterr().err
    assert np.array_equal(read(path, fps=2), frames[[0, 4, 6]])


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_a_dropped_frame_is_no_even_step(tmp_path, name):
    frames = noise(20)
    times = [index + (index >= 9) for index in range(20)]
    path = film(tmp_path / name, frames, rate=30, times=times)
    refused(path, "variable frame rate, such as 1.* and (30|30.3) frames per second; give --fps")
    assert np.array_equal(read(path, fps=30), frames[[*range(9), 8, *range(9, 20)]])


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.avi", "ffv1")])
@pytest.mark.parametrize(("fps", "step"), [(30, 1), (15, 2), (10, 3), (None, 1)])
def test_times_that_the_container_rounds_lose_no_frame(tmp_path, name, codec, fps, step):
    frames = noise(60, 4, 4)
    path = film(tmp_path / name, frames, codec, rate=30)
    assert np.array_equal(read(path, fps=fps), frames[::step])


def test_fps_is_told_and_part_of_what_identifies_the_data(tmp_path):
    path = film(tmp_path / "a.mkv", noise(90), rate=30)
    one, other = (Arrays(path, fps=fps, **WINDOWS) for fps in (30, 10))
    assert ", 10 frames per second" in other.caption and one.digest != other.digest
    assert other.provenance["fps"] == "10"
    for fps in (0, -1, float("nan"), 1e9):
        with pytest.raises(ValueError, match=r"fps is .*; expected frames per second, above 0"):
            Arrays(path, fps=fps, **WINDOWS)


def test_one_of_several_streams_is_read_and_that_is_told(tmp_path, capsys):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 8, 10, "bgr0"
        for index, frame in enumerate(noise(20)):
            for stream in streams:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.pts = index
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode())
    assert np.array_equal(read(tmp_path / "a.mkv"), noise(20))
    assert re.search("stream [01] is read, of 2 video streams", capsys.readouterr().err)


# What cannot be shown as it was meant


@pytest.mark.parametrize(
    ("pixels", "of", "message"),
    [
        ("yuv420p10le", {"color_trc": 16, "colorspace": 9}, r"is HDR \(PQ\).*ffmpeg .*tonemap"),
        ("yuv420p10le", {"color_trc": 18, "colorspace": 9}, r"is HDR \(HLG\)"),
        ("yuv420p10le", {}, r"stores 10 bits for each colour \(yuv420p10le\).*ffmpeg -i"),
        ("gray16le", {}, "stores 16 bits"),
    ],
)
def test_deep_and_hdr_videos_are_refused_with_the_way_to_convert_them(
    tmp_path, pixels, of, message
):
    refused(film(tmp_path / "a.mkv", noise(10, 16, 16), pixels=pixels, **of), message)


def test_interlaced_videos_are_refused(tmp_path):
    path = tmp_path / "a.avi"
    film(path, noise(10, 32, 32), "mpeg2video", "yuv420p", options={"flags": "+ilme+ildct"})
    refused(path, "is interlaced.*bwdif")


# Damage


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.gif"])
def test_a_video_that_was_cut_gives_what_is_left_and_says_so(tmp_path, capsys, name):
    frames = noise(40, 20, 20)
    path = film(tmp_path / name, frames)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    found = read(path)
    whole = len(found) - 1  # the last one may be cut
    assert 20 < whole < 30 and np.array_equal(found[:whole], frames[:whole])
    assert f"{name}: " in capsys.readouterr().err
    told = Arrays(path, **WINDOWS).notes  # again, of what is prepared
    assert len(told) == 1 and "frames" in told[0]


def test_a_whole_video_has_no_notes(tmp_path, capsys):
    for name, *codec in (
        ("a.mkv",),
        ("a.avi",),
        ("a.gif", "", ""),
        ("a.mov", "png", "rgb24"),
    ):
        read(film(tmp_path / name, noise(20), *codec))
    assert capsys.readouterr().err == ""


def test_files_that_are_no_such_video_are_refused(tmp_path):
    mp4 = film(tmp_path / "cut.mp4", noise(20, 32, 32), "mpeg4", "yuv420p")
    mp4.write_bytes(mp4.read_bytes()[:-200])  # of its index
    refused(mp4, "cannot be read as a .mp4 video .*replace or remove it")
    secret = film(tmp_path / "secret.mkv", noise(20))
    for name, text in (
        ("a.mp4", f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n"),
        ("a.avi", f"ffconcat version 1.0\nfile {secret}\n"),
        ("a.mkv", ""),
    ):
        (tmp_path / name).write_text(text)
        refused(tmp_path / name, "cannot be read as a .* video")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    refused(tmp_path / "sound.mkv", "holds no video")


def test_without_pyav_the_way_to_install_it_is_told(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mkv", noise(20))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match="pip install av"):
        Arrays(path, **WINDOWS)


# Folders


def test_videos_arrays_and_images_are_recordings_of_one_folder(tmp_path):
    frames = noise(60)
    film(tmp_path / "b.mkv", frames[:20])
    film(tmp_path / "c.gif", frames[20:40])
    np.save(tmp_path / "a.npy", np.moveaxis(frames[40:50], -1, 1))
    (tmp_path / "d").mkdir()
    for index, frame in enumerate(frames[50:]):
        Image.fromarray(frame).save(tmp_path / "d" / f"{index}.{'gif' if index % 2 else 'png'}")
    found = open_content(tmp_path, "mine")
    (recordings,) = found.recordings.values()
    assert [(r.name, r.length) for r in recordings] == [
        ("a.npy", 10),
        ("b.mkv", 20),
        ("c.gif", 20),
        ("d", 10),
    ]
    assert np.array_equal(read(tmp_path)[:50], np.concatenate([frames[40:50], frames[:40]]))
    film(tmp_path / "e.mkv", noise(9, 8, 8))
    refused(tmp_path, r"has frames of uint8 \(3, 8, 8\), and a.npy of uint8 \(3, 8, 10\)")


def test_names_of_videos_set_the_splits(tmp_path):
    for name, seed in (("train", 1), ("test", 2)):
        (tmp_path / name).mkdir()
        film(tmp_path / name / "a.mkv", noise(30, seed=seed))
    dataset = Arrays(tmp_path, **WINDOWS)
    expected = np.moveaxis(noise(30, seed=2)[:2], -1, 1)
    assert np.array_equal(next(dataset.test(1, 1, "cpu"))[0].numpy(), expected / np.float32(255))


def test_images_are_scaled_and_gray_too(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (12, 16, 24), np.uint16)
    for index, pixels in enumerate(deep):
        for name, image in (
            ("deep", Image.fromarray(pixels)),
            ("plain", Image.fromarray((pixels >> 8).astype(np.uint8))),
            ("colours", Image.fromarray(np.stack([pixels >> 8] * 3, -1).astype(np.uint8))),
            ("bilevel", Image.fromarray(pixels > 32768)),
        ):
            (tmp_path / name / "r").mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / name / "r" / f"{index}.png")
    small = F.interpolate(
        torch.from_numpy(deep.astype(np.float32))[:, None], (8, 12), mode="bilinear", antialias=True
    )[..., 2:-2]
    found = read(tmp_path / "deep", size="8x8")[..., 0]
    np.testing.assert_allclose(found, small[:, 0].numpy(), rtol=1e-4, atol=0.1)
    gray = read(tmp_path / "colours", gray=True)
    assert np.array_equal(gray[..., 0], (deep >> 8).astype(np.uint8))
    refused(tmp_path / "plain", "has no frame in colours, so gray has no effect", gray=True)
    refused(tmp_path / "bilevel", "is bilevel, which size=8x8 would blur", size="8x8")
    refused(tmp_path / "plain", "no file on which fps='5' has an effect", fps=5)


@pytest.mark.parametrize("option", [{"size": "8x8"}, {"gray": True}, {"fps": 5.0}])
def test_options_of_pictures_have_no_effect_on_arrays(tmp_path, option):
    path = tmp_path / "mine" / "a.npy"
    path.parent.mkdir()
    np.save(path, noise(30)[..., :1].transpose(0, 3, 1, 2))
    refused(path, f"no video or image, so {next(iter(option))}=.* has no effect", **option)
    refused(path.parent, f"no file on which {next(iter(option))}=.* has an effect", **option)


def test_options_of_arrays_have_no_effect_on_a_video(tmp_path):
    path = film(tmp_path / "a.mkv", noise(30))
    refused(path, "is a video, so layout='THWC' has no effect", layout="THWC")
    refused(path, "is a video, so variable='x' has no effect", variable="x")


# The cache, the command


def test_a_video_is_decoded_once_for_each_size(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mkv", noise(20))
    whole, small = read(path), read(path, size="4x4")
    film(tmp_path / "b.mkv", noise(20, seed=1))

    def fail(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(reader, "read_video", fail)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(read(path.relative_to(tmp_path), size="4x4"), small)
    assert np.array_equal(read(path), whole)
    film(path, noise(20, seed=2))
    with pytest.raises(AssertionError, match="decoded again"):
        read(path)


def test_a_forecast_goes_on_from_a_video(tmp_path, capsys):
    frames = np.full((12, 90, 120, 3), 40, np.uint8)
    for index, frame in enumerate(frames):
        frame[20:50, 5 * index : 5 * index + 30] = 220
    path, out = film(tmp_path / "clip.mkv", frames), tmp_path / "forecast.npy"
    asked = ["convlstm-hour", str(path), "--out", str(out), "--horizon", "2"]
    assert predict([*asked, "--size", "64x64"]) == 2
    told = "frames of 3x64x64; the model takes 1x64x64: of videos and images, --size 64x64 --gray"
    assert told in capsys.readouterr().err
    assert predict([*asked, "--size", "64x64", "--gray", "--fps", "25"]) == 0
    assert np.load(out).shape == (2, 1, 64, 64)
