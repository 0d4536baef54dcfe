"""KTH: the list's grammar, the published windows, decoding, and the curated images."""

import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from official_files import KTH_HEADER, kth_list, write_kth_images, write_video
from PIL import Image

from benchmarks.data import kth as kth_module
from benchmarks.data.array_file import NumpyFile
from benchmarks.data.cache import CACHE_VARIABLE, cache_folder
from benchmarks.data.kth import (
    ACTIONS,
    KTH,
    LIST,
    Video,
    gap_free,
    parse_sequences,
    resize,
    split,
    starts,
)
from benchmarks.data.kth import KTHAction as Action
from benchmarks.data.recordings import Recording
from tau.predictor import Clip

# As in the real one: tabs, spaces before tabs, overlaps, disorder, three ranges, a missing video.
ENTRIES = """\
person01_boxing_d1\t\tframes\t1-9, 10-20, 20-21, 24-27
person01_handclapping_d2    \tframes\t1-6, 7-12
person01_jogging_d1    \t\tframes\t5-12, 20-26

person02_running_d4\t\tframes\t12-18, 1-7, 6-9
person13_handclapping_d3\t*missing*
person16_jogging_d2\t\tframes\t1-7
person16_walking_d3\t\tframes\t3-11

person17_handwaving_d2    \tframes\t1-5, 6-14, 11-20
person25_running_d3\t\tframes\t2-9
"""
TEXT = kth_list(ENTRIES)
RANGES = {
    "person01_boxing_d1": [range(1, 22), range(24, 28)],
    "person01_handclapping_d2": [range(1, 13)],
    "person01_jogging_d1": [range(5, 13), range(20, 27)],
    "person02_running_d4": [range(1, 10), range(12, 19)],
    "person16_jogging_d2": [range(1, 8)],
    "person16_walking_d3": [range(3, 12)],
    "person17_handwaving_d2": [range(1, 21)],
    "person25_running_d3": [range(2, 10)],
}
LISTED = sum(len(r) for ranges in RANGES.values() for r in ranges)
OPTIONS = {"past": 2, "future": 2}

pytestmark = pytest.mark.usefixtures("one_cache")


# What the files hold


def noise(frames, name, size=(120, 160)):
    return np.random.default_rng(list(name.encode())).integers(0, 256, (frames, *size), np.uint8)


def moving(frames):
    """A smooth pattern that moves: [frames, 120, 160] uint8 in 40..210."""
    y, x, t = np.ogrid[:120, :160, :frames]
    waves = 125 + 85 * np.sin((x + 2 * t) / 17) * np.cos(y / 23)
    return np.moveaxis(waves.round().astype(np.uint8), 2, 0)


def video_frames(name):
    """Two frames more than the list asks for."""
    return noise(RANGES[name][-1].stop + 1, name)


def write_kth(folder, place=""):
    folder.mkdir(parents=True)
    (folder / LIST).write_bytes(TEXT.encode())
    for name in RANGES:
        path = folder / place.format(action=name.split("_")[1]) / f"{name}_uncomp.avi"
        write_video(path, video_frames(name))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_kth(root / "kth", "{action}")
    return root


@pytest.fixture(scope="module")
def kth(root, module_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, module_cache)
        return KTH(root, **OPTIONS)


@pytest.fixture
def copy(root, tmp_path):
    """A copy of the data folder, nothing prepared, to damage; and one video in it."""
    folder = shutil.copytree(root / "kth", tmp_path / "kth")
    return tmp_path, folder / "walking" / "person16_walking_d3_uncomp.avi"


def bilinear(frame):
    """[H, W] to [128, 128] from the definition: pixel centres at halves, edges repeated."""
    matrices = []
    for size in frame.shape:
        at = np.clip((np.arange(128) + 0.5) * size / 128 - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        matrix = np.zeros((128, size))
        matrix[np.arange(128), low] += 1 - (at - low)
        matrix[np.arange(128), np.minimum(low + 1, size - 1)] += at - low
        matrices.append(matrix)
    return np.round(matrices[0] @ frame @ matrices[1].T).astype(np.uint8)


def origins(clips, known):
    """(video, frame number) of every frame of clips [B, T, 1, 128, 128]."""
    pixels = (clips * 255).round().to(torch.uint8).numpy()
    return [[known[frame.tobytes()] for frame in clip] for clip in pixels]


@pytest.fixture(scope="module")
def known():
    """Where each frame comes from, by its pixels after resizing."""
    found = {}
    for name in RANGES:
        for number, frame in enumerate(video_frames(name), 1):
            found[bilinear(frame).tobytes()] = (name, number)
    return found


# The list


def test_the_list_with_all_its_oddities():
    videos = parse_sequences(TEXT)
    assert list(videos) == [line.split()[0] for line in ENTRIES.splitlines() if line]
    assert {name: list(v.ranges) for name, v in videos.items() if v.ranges} == RANGES
    assert videos["person13_handclapping_d3"] == Video(0, ())
    assert [v.written for v in videos.values()] == [4, 2, 2, 3, 0, 1, 1, 3, 1]
    assert videos["person02_running_d4"].frames == 16
    assert parse_sequences(KTH_HEADER + ENTRIES) == videos


@pytest.mark.parametrize(
    "line, message",
    [
        ("person01_boxing_d2 frames 1-9, 12-", "has the range '12-'"),
        ("person01_boxing_d2 frames 1-9, 9-8", "has the range '9-8'"),
        ("person01_boxing_d2 frames 0-9", "has the range '0-9'"),
        ("person01_boxing_d2 frames 1-9,", "has the range ''"),
        ("person01_boxing_d2 frames 1-9 12-14", "has the range '1-9 12-14'"),
        ("person01_boxing_d2 frames 1-99999999", "has the range '1-99999999'"),
        ("person01_boxing_d2 frames 1-999999", "1 <= FIRST <= LAST <= 9999"),
        ("person01_boxing_d2 frames", "'frames 1-95, 96-185' or '*missing*'"),
        ("person01_boxing_d2", "expected a name from person01_boxing_d1"),
        ("person01_boxing_d5 frames 1-9", "'person01_boxing_d5 frames 1-9'; expected a name"),
        ("person26_boxing_d1 frames 1-9", "expected a name from person01_boxing_d1"),
        ("person00_boxing_d1 frames 1-9", "expected a name from person01_boxing_d1"),
        ("person01_dancing_d1 frames 1-9", "expected a name from person01_boxing_d1"),
        ("</body>", "'</body>'; expected a name"),
        ("person01_jogging_d1 frames 1-9", "person01_jogging_d1 a second time"),
    ],
)
def test_a_bad_line_is_named(line, message):
    number = len(KTH_HEADER.splitlines()) + 4
    lines = ENTRIES.splitlines()
    lines.insert(3, line)
    with pytest.raises(ValueError) as error:
        parse_sequences(KTH_HEADER + "\n".join(lines))
    assert f"line {number}, has " in str(error.value) and message in str(error.value)


def test_a_bad_first_line_and_a_page_in_place_of_the_list_are_refused():
    with pytest.raises(ValueError, match="line 2, has 'person1_boxing_d1 frames 1-9'"):
        parse_sequences("Header\nperson1_boxing_d1 frames 1-9\nperson01_boxing_d1 frames 1-9")
    for text in ("", "<html>\n404 not found\n</html>"):
        with pytest.raises(ValueError, match=r"names no video.*download it again"):
            parse_sequences(text)


def test_numbers_merge_to_ranges_without_a_gap():
    ranges = [range(7, 8), range(3, 6), range(4, 5), range(5, 6), range(9, 10), range(8, 9)]
    assert gap_free(ranges) == (range(3, 6), range(7, 10))
    assert gap_free([range(2, 3)]) == (range(2, 3),) and gap_free([]) == ()
    assert gap_free([range(1, 10**15), range(5, 10**16)]) == (range(1, 10**16),)


# Windows


def published_scan(videos, window):
    """Places of the windows that the published code keeps, from [(action, frame numbers)]."""
    numbers = [number for _, listed in videos for number in listed]
    marks = [mark for mark, (_, listed) in enumerate(videos) for _ in listed]
    found, last = [], len(numbers) - 1
    while last >= window - 1:
        first = last - window + 1
        if marks[first] == marks[last] and numbers[last] - numbers[first] == window - 1:
            found.append(first)
            if videos[marks[last]][0] in ("jogging", "running"):
                last -= 2
            else:
                last -= window - 1
        last -= 1
    return sorted(found)


@pytest.mark.parametrize("window", [3, 4, 5, 8, 13])
def test_windows_equal_the_published_scan_on_random_frame_sets(window):
    rng = np.random.default_rng(window)
    for _ in range(40):
        videos, recordings, place = [], [], 0
        for number in range(rng.integers(1, 6)):
            action = str(rng.choice(ACTIONS))
            listed = np.flatnonzero(rng.random(rng.integers(1, 120)) < rng.choice([0.7, 0.95])) + 1
            videos.append((action, listed.tolist()))
            for run in gap_free(range(n, n + 1) for n in listed.tolist()):
                name = f"person{number + 1:02}_{action}_d1"
                recordings.append(Recording(name, run.start, place, len(run)))
                place += len(run)
        assert starts(recordings, window).tolist() == published_scan(videos, window)


def test_strides_follow_the_action():
    for action, expected in (("walking", [1, 5]), ("jogging", [0, 3, 6]), ("running", [0, 3, 6])):
        recording = Recording(f"person01_{action}_d1", 1, 0, 9 if action == "walking" else 10)
        assert starts([recording], 4).tolist() == expected
    assert starts([], 4).tolist() == []


def test_sides_are_divided_by_person():
    recordings = [Recording(f"person{n:02}_boxing_d1", 1, 0, 9) for n in range(25, 0, -1)]
    splits = [sorted(int(r.name[6:8]) for r in side) for side in split(recordings)]
    assert splits == [list(range(1, 16)), [16], list(range(17, 26))]


# The official videos as a data set


def test_every_window_is_the_published_one_and_of_its_side(kth, known):
    assert kth.name == "kth" and kth.clip == Clip(2, 2, 1, 128, 128)
    splits = {
        "train": kth.batch(0, 0, kth.train_sequences, "cpu"),
        "validation": torch.cat(list(kth.validation(1000, 7, "cpu"))),
        "test": torch.cat(list(kth.test(None, 7, "cpu"))),
    }
    persons = {"train": ("01", "02"), "validation": ("16",), "test": ("17", "25")}
    for side, clips in splits.items():
        found = {}
        for clip in origins(clips, known):
            name, first = clip[0]
            assert clip == [(name, first + i) for i in range(4)]  # no gap, no other video
            found.setdefault(name, []).append(first)
        assert sorted(found) == [name for name in RANGES if name[6:8] in persons[side]]
        for name, firsts in found.items():
            numbers = [number for r in RANGES[name] for number in r]
            scan = published_scan([(name.split("_")[1], numbers)], 4)
            assert sorted(firsts) == [numbers[place] for place in scan]
    assert [len(clips) for clips in splits.values()] == [17, 4, 7]
    assert kth.overlap(None) == 2, "of running's windows of 4 frames, 3 apart"


def test_frames_stay_in_the_file(kth):
    for clips in (kth._train, kth._validation, kth._test):
        assert isinstance(clips.array, NumpyFile)


def test_caption_and_provenance_say_what_is_held_out(kth, root):
    assert kth.caption == (
        "KTH from the official videos: trained on 17 of the 21 training sequences, person 16's 4 "
        "for validation; tested on 7 of persons 17 to 25."
    )
    text = json.dumps(kth.provenance)
    assert json.loads(text) == kth.provenance and str(root) not in text
    assert kth.provenance["train_sequences"] == 17 and kth.provenance["validation_sequences"] == 4
    assert "16 validation" in kth.provenance["split"] and kth.provenance["frames"] == LISTED


def test_checks_have_the_real_counts_with_person_16_in_training(kth):
    checks = kth.checks()
    assert [check.expected for check in checks] == [
        *(599, 2391, 144_246, 83_176),
        *(8_783, 5_045, 4_227, 2_496),
    ]
    found = [check.found for check in checks]
    assert found[:4] == [8, 17, LISTED - 28, 28] and found[4:] == [0] * 4
    assert all(check.holds for check in kth._window_checks({4: (21, 7)}))


def test_a_second_opening_decodes_nothing_and_other_options_share_frames(root, kth, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    again = KTH(root, **OPTIONS)
    assert again.digest == kth.digest
    longer = KTH(root, past=3, future=4, downsample=2)
    assert longer.clip == Clip(3, 4, 1, 64, 64) and longer.digest != kth.digest
    assert longer.provenance["frames_sha256"] == kth.provenance["frames_sha256"]
    assert next(longer.test(1, 1, "cpu")).shape == (1, 7, 1, 64, 64)


def test_without_pyav_the_error_says_how_to_install_it(copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match="videos need PyAV: pip install av"):
        KTH(copy[0])


@pytest.mark.parametrize("folder, place", [("", ""), ("KTH", "videos/all"), ("kth", "")])
def test_archives_may_be_unpacked_anywhere_below_the_list(tmp_path, kth, folder, place):
    write_kth(tmp_path / "data" / folder, place)
    dataset = KTH(tmp_path / "data", **OPTIONS)
    assert dataset.provenance == kth.provenance


def test_a_changed_video_is_decoded_again(copy, kth):
    folder, video = copy
    write_video(video, noise(13, "another"))
    assert KTH(folder, **OPTIONS).provenance["frames_sha256"] != kth.provenance["frames_sha256"]
    write_video(video, video_frames("person16_walking_d3"))
    assert KTH(folder, **OPTIONS).digest == kth.digest


# Decoding


def walking(folder):
    """What is prepared of person 16's walking: the numbers of its frames, and the frames."""
    dataset = KTH(folder, **OPTIONS)
    (recording,) = (r for r in dataset._splits.validation if "walking" in r.name)
    frames = dataset._validation.array[recording.start :][: recording.length, 0]
    return dataset, range(recording.first, recording.first + recording.length), frames


def test_luma_is_stretched_from_16_235_to_0_255(copy):
    folder, video = copy
    luma = noise(12, "luma")
    luma[4, 0, :3] = (0, 16, 235)
    write_video(video, luma, pixels="yuv420p")
    _, numbers, frames = walking(folder)
    expected = np.clip(np.round((luma.astype(float) - 16) * 255 / 219), 0, 255)
    assert numbers == range(3, 12)
    assert np.array_equal(frames, [bilinear(frame) for frame in expected[2:11]])


def test_mpeg4_decodes_within_its_loss(copy):
    folder, video = copy
    write_video(video, moving(12), codec="mpeg4", pixels="yuv420p")
    _, _, frames = walking(folder)
    expected = np.stack([bilinear((frame - 16.0) * 255 / 219) for frame in moving(12)[2:11]])
    error = np.abs(frames - expected.astype(float))
    assert error.mean() < 3 and error.max() < 30
    later = np.stack([bilinear((frame - 16.0) * 255 / 219) for frame in moving(13)[3:12]])
    assert error.mean() < np.abs(frames - later.astype(float)).mean() / 2  # not a frame late


def test_a_truncated_video_keeps_its_good_frames_with_a_note(copy, capsys):
    folder, video = copy
    write_video(video, moving(40), codec="mpeg4", pixels="yuv420p")
    (folder / "kth" / LIST).write_bytes(TEXT.replace("3-11", "3-11, 12-40").encode())
    whole, all_numbers, all_frames = walking(folder)
    assert all_numbers == range(3, 41) and "could not" not in whole.caption
    data = video.read_bytes()
    video.write_bytes(data[: data.index(b"movi") + (len(data) - data.index(b"movi")) // 2])
    capsys.readouterr()
    cut, numbers, frames = walking(folder)
    kept = len(numbers)
    assert numbers.start == 3 and 4 <= kept < 30
    assert np.array_equal(frames, all_frames[:kept])
    note = f"person16_walking_d3: {38 - kept} of 38 listed frames are lost"
    assert note in capsys.readouterr().err
    assert cut.caption.endswith(f" {38 - kept} listed frames could not be decoded.")


@pytest.mark.parametrize("damage", ["erased", "one byte"])
def test_damage_in_the_middle_ends_a_video(copy, capsys, damage):
    folder, video = copy
    write_video(video, moving(12), codec="mpeg4", pixels="yuv420p")
    _, _, good = walking(folder)
    data = bytearray(video.read_bytes())
    chunks = [i for i in range(data.index(b"movi"), len(data)) if data.startswith(b"00dc", i)]
    start, end = chunks[8] + 8, chunks[9]  # the ninth frame
    if damage == "erased":
        data[start:end] = bytes(end - start)
    else:
        data[(start + end) // 2] ^= 0x55
    video.write_bytes(data)
    _, numbers, frames = walking(folder)
    assert numbers == range(3, 9) and np.array_equal(frames, good[:6])
    assert "lost: the video ends or is damaged after frame 8" in capsys.readouterr().err


def test_ranges_beyond_the_end_are_cut_and_the_loss_is_told(copy, capsys):
    folder, _ = copy
    text = TEXT.replace("1-5, 6-14, 11-20", "1-5, 6-14, 11-40, 50-60")
    (folder / "kth" / LIST).write_bytes(text.encode())
    dataset = KTH(folder, **OPTIONS)
    recordings = [r for r in dataset._splits.test if "handwaving" in r.name]
    assert [(r.first, r.length) for r in recordings] == [(1, 22)]  # the video has 22 frames
    assert "29 of 51 listed frames are lost" in capsys.readouterr().err
    assert "29 listed frames could not be decoded" in KTH(folder, **OPTIONS).caption


@pytest.mark.parametrize("content", [b"", b"RIFF", b"<html>not found</html>" * 99])
def test_a_file_that_is_no_video_is_refused(copy, content):
    folder, video = copy
    video.write_bytes(content)
    with pytest.raises(ValueError, match=r"person16_walking_d3_uncomp\.avi has no frame that can"):
        KTH(folder)
    assert not cache_folder("kth", folder).exists()


def test_a_video_of_another_size_or_colour_is_refused(copy):
    folder, video = copy
    write_video(video, noise(12, "large", (240, 320)))
    with pytest.raises(ValueError, match=r"walking_d3_uncomp\.avi has frames of 320x240; expected"):
        KTH(folder)
    write_video(video, noise(12, "colour"), pixels="bgra")
    with pytest.raises(ValueError, match=r"walking_d3_uncomp\.avi stores pixels as bgra; expected"):
        KTH(folder)


def test_a_video_of_absurd_size_is_refused_without_decoding_it(copy):
    folder, video = copy
    data = video.read_bytes()
    size, larger = struct.pack("<II", 160, 120), struct.pack("<II", 12_000, 12_000)
    assert size in data  # in its header; the decoder takes it from there
    video.write_bytes(data.replace(size, larger))
    with pytest.raises(
        ValueError, match=r"walking_d3_uncomp\.avi has no frame that can be decoded"
    ):
        KTH(folder)


def test_a_script_that_names_another_video_is_refused(copy):
    """FFmpeg would follow it to any file, or into the network."""
    folder, video = copy
    other = video.with_name("secret.avi")
    video.rename(other)
    for script in (f"ffconcat version 1.0\nfile {other.name}\n", f"#EXTM3U\n#EXTINF:1,\n{other}\n"):
        video.write_text(script)
        with pytest.raises(ValueError, match=r"walking_d3_uncomp\.avi has no frame that can be"):
            KTH(folder)


def test_a_video_with_a_title_in_another_encoding_is_read(copy, kth):
    folder, video = copy
    data = video.read_bytes()
    title = b"INFOINAM\x06\0\0\0B\xf6zse\0"
    place = data.index(b"movi") - 8  # before the frames
    assert data[place:].startswith(b"LIST")
    video.write_bytes(data[:place] + b"LIST" + struct.pack("<I", len(title)) + title + data[place:])
    assert KTH(folder, **OPTIONS).digest == kth.digest


def test_a_list_that_is_far_too_long_is_refused(copy):
    folder, _ = copy
    (folder / "kth" / LIST).write_bytes(b"person01_boxing_d1 frames 1-9\n" * 40_000)
    with pytest.raises(ValueError, match=rf"{LIST} has over 1,048,576 bytes; expected 38,081"):
        KTH(folder)


# Missing files


def test_without_files_the_error_names_them_and_the_command(tmp_path):
    for options in ({}, {"past": 0}):
        with pytest.raises(FileNotFoundError, match=rf"kth needs .*{LIST}.*no data folder"):
            KTH(None, **options)
        with pytest.raises(FileNotFoundError, match="download kth --data"):
            KTH(tmp_path, **options)
        with pytest.raises(FileNotFoundError, match=r"kth-action needs .*image_.*no data folder"):
            Action(None, **options)
        with pytest.raises(FileNotFoundError, match="download kth-action --data"):
            Action(tmp_path, **options)
    (tmp_path / LIST).write_text(TEXT)
    with pytest.raises(FileNotFoundError, match=r"kth needs kth/\*\*/person\*_uncomp\.avi; "):
        KTH(tmp_path)


def test_a_half_finished_download_is_refused(copy):
    folder, video = copy
    video.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 8 videos .*: person16_walking_d3; unp"):
        KTH(folder)
    shutil.rmtree(folder / "kth" / "boxing")
    shutil.rmtree(folder / "kth" / "running")
    with pytest.raises(FileNotFoundError, match=r"4 of the 8 videos .*running_d4, .*_d3, \.\.\.;"):
        KTH(folder)


def test_a_list_that_lacks_videos_is_refused(copy):
    folder, _ = copy
    (folder / "kth" / LIST).write_text(TEXT[: TEXT.index("person17")])
    with pytest.raises(ValueError, match=r"lacks 2 of the 8 videos .*: person17_.*, person25_"):
        KTH(folder)


def test_two_copies_of_a_video_are_refused(copy):
    folder, video = copy
    shutil.copy(video, folder / "kth")
    with pytest.raises(ValueError, match=r"person16_walking_d3_uncomp\.avi have one name"):
        KTH(folder)


def test_the_video_that_the_list_calls_missing_may_be_there(copy, kth):
    folder, video = copy
    shutil.copy(video, folder / "kth" / "person13_handclapping_d3_uncomp.avi")
    assert KTH(folder, **OPTIONS).digest == kth.digest


def test_impossible_options_are_refused(root, kth):
    for options in ({"past": 0}, {"future": 1.5}):
        with pytest.raises(ValueError, match="expected a positive integer"):
            KTH(root, **options)
    with pytest.raises(ValueError, match="downsample is 3"):
        KTH(root, **OPTIONS, downsample=3)
    with pytest.raises(ValueError, match="no train sequence of 60 frames"):
        KTH(root, past=30, future=30)


def test_sources_have_an_address_and_a_checksum_for_every_archive():
    files = {file.path: file for file in KTH.source.files}
    assert set(files) == {f"kth/{LIST}", *(f"kth/{action}.zip" for action in ACTIONS)}
    for path, file in files.items():
        assert [Path(url).name for url in file.urls] == [Path(path).name] * 2
        if path.endswith(".zip"):
            assert file.unpack == path.removesuffix(".zip")
            assert file.hash.startswith("sha1:") and len(file.hash) == 45
    (archive,) = Action.source.files
    assert archive.unpack == "kth_action" and "drive.google.com" in Action.source.manual


# Resizing


@pytest.mark.parametrize("size", [(120, 160), (128, 128), (64, 50), (300, 129)])
def test_resizing_is_bilinear_between_pixel_centres(size):
    frames = noise(3, "resize", size)
    resized = resize(frames)
    assert resized.shape == (3, 1, 128, 128) and resized.dtype == np.uint8
    expected = np.stack([bilinear(frame) for frame in frames])[:, None]
    if size[0] in (120, 128):  # weights are exact in binary, so ties round alike
        assert np.array_equal(resized, expected)
    assert np.abs(resized - expected.astype(float)).max() <= 1
    assert np.mean(resized != expected) < 0.01


# The curated images

PERSONS = (3, 15, 16, 17, 25)


def image(folder, number):
    """Three channels [H, W, 3] of a size of their own, unlike each other."""
    return np.moveaxis(noise(3, f"{folder}{number}", (16 + number, 24)), 0, 2)


def numbers_of(action, person):
    run = list(range(person, person + 9))
    return run if action == "walking" else [*run, *range(person + 11, person + 14)]


def write_action(tree):
    for action in ACTIONS:
        for person in PERSONS:
            video = f"person{person:02}_{action}_d1"
            pixels = {n: image(f"{video}_uncomp", n) for n in numbers_of(action, person)}
            pictures = {number: Image.fromarray(rgb) for number, rgb in pixels.items()}
            folder = write_kth_images(tree, video, pictures)
            (folder / "Thumbs.db").write_bytes(b"no image")
    (tree / ".DS_Store").write_bytes(b"")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    write_action(root / "kth_action")
    return root


@pytest.fixture(scope="module")
def curated(images, module_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, module_cache)
        return Action(images, **OPTIONS)


@pytest.fixture
def tree(images, tmp_path):
    """A copy of the images, nothing prepared, to damage."""
    return shutil.copytree(images / "kth_action", tmp_path / "kth_action")


def test_curated_windows_are_the_published_ones_and_of_their_side(curated):
    assert curated.name == "kth-action" and curated.clip == Clip(2, 2, 1, 128, 128)
    known = {}
    for action in ACTIONS:
        for person in PERSONS:
            name = f"person{person:02}_{action}_d1"
            for number in numbers_of(action, person):
                frame = image(f"{name}_uncomp", number)[None, :, :, 0]
                known[resize(frame).tobytes()] = (name, number)
    splits = {
        (3, 15): curated.batch(0, 0, curated.train_sequences, "cpu"),
        (16,): torch.cat(list(curated.validation(1000, 7, "cpu"))),
        (17, 25): torch.cat(list(curated.test(None, 7, "cpu"))),
    }
    for persons, clips in splits.items():
        expected = []
        for action in ACTIONS:
            for person in persons:
                numbers = numbers_of(action, person)
                for place in published_scan([(action, numbers)], 4):
                    name = f"person{person:02}_{action}_d1"
                    expected.append([(name, numbers[place + i]) for i in range(4)])
        assert sorted(origins(clips, known)) == sorted(expected)
    assert "the images kth_action" in curated.caption
    assert "trained on 24 of the 36 training sequences, person 16's 12 for" in curated.caption
    assert isinstance(curated._test.array, NumpyFile)


def test_curated_checks_have_the_published_counts(curated):
    assert [check.expected for check in curated.checks()] == [5_200, 3_167, 8_488, 5_041]
    assert [check.found for check in curated.checks()] == [0] * 4
    assert all(check.holds for check in curated._window_checks({4: (36, 24)}))


@pytest.mark.parametrize("place", ["kth", "kth_action/kth_action"])
def test_the_image_folder_may_lie_where_others_put_it(tree, tmp_path, curated, place):
    moved = tmp_path / "moved" / place
    moved.parent.mkdir(parents=True)
    tree.rename(moved)
    assert Action(tmp_path / "moved", **OPTIONS).digest == curated.digest


def test_an_image_that_is_rewritten_in_place_is_read_again(tree, curated, monkeypatch):
    first = Action(tree.parent, **OPTIONS)
    monkeypatch.setattr(kth_module, "_channel_0", None)
    assert Action(tree.parent, **OPTIONS).digest == first.digest == curated.digest
    monkeypatch.undo()
    path = tree / "boxing" / "person03_boxing_d1_uncomp" / "image_0003.png"
    Image.fromarray(image("new", 4)).save(path)
    assert Action(tree.parent, **OPTIONS).digest != first.digest
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"image_0003\.png is no JPEG or PNG, or .*unpack"):
        Action(tree.parent, **OPTIONS)


def test_gray_and_jpeg_images_are_read_like_png(tree, curated):
    folder = tree / "running" / "person25_running_d1_uncomp"
    for number in numbers_of("running", 25):
        path = folder / f"image_{number:04}.png"
        gray = Image.fromarray(image(folder.name, number)[..., 0])
        gray.save(path)
    assert Action(tree.parent, **OPTIONS).digest == curated.digest
    smooth = moving(1)[0]
    for path in folder.glob("*.png"):
        Image.fromarray(np.stack([smooth] * 3, 2)).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    dataset = Action(tree.parent, **OPTIONS)
    recording = next(r for r in dataset._splits.test if r.name == "person25_running_d1")
    frame = dataset._test.array[recording.start][0]
    assert np.abs(frame - bilinear(smooth).astype(float)).max() < 6


@pytest.mark.parametrize("kind", ["BMP", "EPS", "GIF"])
def test_an_image_of_another_format_is_refused(tree, kind):
    """PIL would read a hundred formats, one of them by starting another program."""
    path = tree / "boxing" / "person03_boxing_d1_uncomp" / "image_0003.png"
    Image.new("L", (9, 9)).save(path, kind)
    with pytest.raises(ValueError, match=r"image_0003\.png is no JPEG or PNG, or damaged; unpack"):
        Action(tree.parent)


def test_a_frame_number_of_any_length_is_one(tree, curated):
    folder = tree / "boxing" / "person03_boxing_d1_uncomp"
    for path in folder.glob("image_*.png"):
        path.rename(folder / f"image_{10**30 + int(path.stem[6:])}.png")
    dataset = Action(tree.parent, **OPTIONS)
    assert dataset.train_sequences == curated.train_sequences
    assert dataset.digest != curated.digest  # recordings have the numbers of their frames


def test_an_incomplete_or_odd_image_folder_is_refused(tree):
    folder = tree / "jogging" / "person16_jogging_d1_uncomp"
    double = shutil.copy(folder / "image_0016.png", folder / "image_16.png")
    with pytest.raises(ValueError, match=r"image_16\.png and image_0016\.png are both frame 16"):
        Action(tree.parent)
    Path(double).unlink()
    for path in folder.glob("image_*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"person16_jogging_d1_uncomp has no image_0001\.jpg"):
        Action(tree.parent)
    folder.rename(folder.with_name("person26_jogging_d1_uncomp"))
    with pytest.raises(ValueError, match=r"person26_jogging_d1_uncomp is not a video's folder"):
        Action(tree.parent)
    shutil.rmtree(tree / "jogging")
    with pytest.raises(FileNotFoundError, match=r"jogging has no folder such as person01_jogging_"):
        Action(tree.parent)
    assert not cache_folder("kth-action", tree.parent).exists()
