"""KTH human actions (Schüldt, Laptev, Caputo, ICPR 2004): 25 persons, six actions, gray frames.

Two data sets that share a protocol but not their frames, so scores on one do not compare with
scores on the other: `KTH` from the official videos, and `KTHAction` from the curated images that
the published numbers were measured on.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.data.cache import Block, Findings, Prepared
from benchmarks.data.dataset import Check
from benchmarks.data.originals import (
    MOST_PIXELS,
    check_readable,
    open_image,
    prepare_files,
    reading,
)
from benchmarks.data.pyav import import_av, open_container
from benchmarks.data.recordings import Recording, Windows, cut
from benchmarks.data.sources import File, Source, find, missing_files, visible
from benchmarks.data.stored import StoredDataset, smaller
from tau.predictor import Clip

SIDE = 128
VIDEO_SIZE = (160, 120)  # width, height
ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
STRIDE = {"jogging": 3, "running": 3}  # of the others: the window, so that none overlap
VALIDATION_PERSON = 16  # the last of the training split
FIRST_TEST_PERSON = 17
BATCH = 64  # frames resized at a time
VERSION = 1  # of the readers; raise it when the frames they give change
REMEDY = "unpack its archive again"

# Pixel formats whose first plane is luma in bytes. Unless they say otherwise, it spans 16 to 235.
LUMA_FORMATS = ("yuv420p", "yuvj420p", "gray")
FULL_RANGE = ("yuvj420p", "gray")
JPEG_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG: full
STRETCHED = np.clip(np.round((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)

LIST = "00sequences.txt"
MOST_LIST = 1 << 20  # bytes
LIST_FOLDERS = ("kth", "KTH", "")
IMAGE_FOLDERS = ("kth_action", "kth_action/kth_action", "kth")

# Of the real files, persons 1 to 16 and 17 to 25; windows by their length.
VIDEOS, RANGES = 599, 2391
FRAMES = (144_246, 83_176)
WINDOWS = {30: (8_783, 5_045), 50: (4_227, 2_496)}
ACTION_WINDOWS = {30: (5_200, 3_167), 20: (8_488, 5_041)}

SHA1 = {
    "boxing": "adb36ed9c29c846d44d2ba15f348bd115c951bbd",
    "handclapping": "d3b81261aa822ef63d0d1523f945bfaff27814d2",
    "handwaving": "0792f7cd69f7f895a205c08ac212ddaa7177e370",
    "jogging": "21943bdbcef9dad106db0d74661e49eaeaa15a25",
    "running": "da83bb313edfd4455fffdda6263696fa10d43c6f",
    "walking": "a3e81537271a0ab4576591774baa38c2d97b7e3a",
}
LICENCE = "non-commercial use; cite Schüldt, Laptev and Caputo, ICPR 2004"

_NAME = rf"person(?:0[1-9]|1\d|2[0-5])_(?:{'|'.join(ACTIONS)})_d[1-4]"
_ENTRY = re.compile(rf"({_NAME})\s+(?:frames\s+(.+)|\*missing\*)")
_RANGE = re.compile(r"(\d{1,4})\s*-\s*(\d{1,4})")
_FOLDER = re.compile(rf"({_NAME})_uncomp")
_IMAGE = re.compile(r"image_(\d+)\.(?:jpg|png)")


# The list of the official videos


class Video(NamedTuple):
    """What the list says of a video: how many ranges it names, and the frames these cover.

    `ranges` are gap-free and in order, and number frames from 1. A video that the list calls
    missing has none.
    """

    written: int
    ranges: tuple[range, ...]

    @property
    def frames(self) -> int:
        """Frames in all ranges."""
        return sum(map(len, self.ranges))


def gap_free(ranges: Iterable[range]) -> tuple[range, ...]:
    """All numbers that are in `ranges`, as ranges without a gap between them, in order."""
    merged: list[range] = []
    for numbers in sorted(ranges, key=lambda numbers: numbers.start):
        if merged and numbers.start <= merged[-1].stop:
            last = merged.pop()
            numbers = range(last.start, max(last.stop, numbers.stop))
        merged.append(numbers)
    return tuple(merged)


def parse_sequences(text: str) -> dict[str, Video]:
    """Read 00sequences.txt: of each video, by its name without "_uncomp.avi", the frames to use.

    Free text, then lines "person01_boxing_d1 frames 1-95, 96-185" or "... *missing*", with any
    white space. Ranges count from 1, include both ends, and may overlap or be out of order. Raises
    ValueError, naming the line, for anything else, and if there is no such line at all.
    """
    videos: dict[str, Video] = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            if line and (videos or re.match(r"person\d+_", line)):
                raise _bad_line(
                    number,
                    f"{line!r}; expected a name from person01_boxing_d1 to person25_walking_d4, "
                    "and 'frames 1-95, 96-185' or '*missing*'",
                )
            continue  # blank, or the text before the first video
        name, written = entry.groups()
        if name in videos:
            raise _bad_line(number, f"{name} a second time; expected each video once")
        ranges = [] if written is None else [_range(number, r) for r in written.split(",")]
        videos[name] = Video(len(ranges), gap_free(ranges))
    if not videos:
        raise ValueError(
            f"{LIST} names no video; expected lines such as 'person01_boxing_d1 frames 1-95': "
            "download it again"
        )
    return videos


def _range(number: int, written: str) -> range:
    match = _RANGE.fullmatch(written.strip())
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last:
        raise _bad_line(
            number,
            f"the range {written.strip()!r}; expected FIRST-LAST with 1 <= FIRST <= LAST <= 9999",
        )
    return range(first, last + 1)


def _bad_line(number: int, problem: str) -> ValueError:
    return ValueError(f"{LIST}, line {number}, has {problem}: download it again")


# The protocol


def starts(recordings: Iterable[Recording], length: int) -> np.ndarray:
    """First frames of the published windows of `length` frames: int64 [N].

    The published code scans each video from its last frame backwards, keeps a window if its frames
    have consecutive numbers, and goes on one window earlier, or 3 frames earlier for jogging and
    running. That is the same as to cut each gap-free recording from its end: where no window fits
    any more the scan goes back frame by frame, and the next one that fits ends at the end of the
    recording before. (Windows of 2 frames are not: 3 frames back may jump over that end.)
    """
    parts = [
        cut([recording], length, STRIDE.get(action(recording), length), end_aligned=True)
        for recording in recordings
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def person(recording: Recording) -> int:
    """1 to 25, from the name of the video."""
    return int(recording.name[6:8])


def action(recording: Recording) -> str:
    """One of `ACTIONS`, from the name of the video."""
    return recording.name.split("_")[1]


class Splits(NamedTuple):
    """Recordings of each split, by person."""

    train: list[Recording]  # 1 to 15
    validation: list[Recording]  # 16
    test: list[Recording]  # 17 to 25

    @property
    def published(self) -> tuple[list[Recording], list[Recording]]:
        """The two splits of the published protocol, which has no validation."""
        return self.train + self.validation, self.test


def split(recordings: Sequence[Recording]) -> Splits:
    """Divide recordings by person."""
    return Splits(
        [r for r in recordings if person(r) < VALIDATION_PERSON],
        [r for r in recordings if person(r) == VALIDATION_PERSON],
        [r for r in recordings if person(r) >= FIRST_TEST_PERSON],
    )


class _Persons(StoredDataset):
    """What both sources share: splits by person, the protocol's windows, their counts."""

    clip = Clip(10, 20, 1, SIDE, SIDE)

    def __init__(
        self, title: str, clip: Clip, prepared: Prepared, downsample: int, lost: int = 0
    ) -> None:
        self._splits = split(prepared.recordings)
        train, validation, test = (
            Windows(prepared.frames, starts(recordings, clip.frames)) for recordings in self._splits
        )
        super().__init__(
            self.name,
            clip,
            train=train,
            validation=validation,
            test=test,
            downsample=downsample,
            provenance={
                "frames_sha256": prepared.digest,
                "frames": len(prepared.frames),
                "split": "persons 1-15 train, 16 validation, 17-25 test",
            },
            caption=(
                f"{title}: trained on {len(train):,} of the {len(train) + len(validation):,} "
                f"training sequences, person 16's {len(validation):,} for validation; tested on "
                f"{len(test):,} of persons 17 to 25."
                + (f" {lost:,} listed frames could not be decoded." if lost else "")
            ),
        )

    def _window_checks(self, expected: Mapping[int, tuple[int, int]]) -> list[Check]:
        return [
            Check(f"{split} windows of {length} frames", count, len(starts(recordings, length)))
            for length, counts in expected.items()
            for split, count, recordings in zip(
                ("training", "test"), counts, self._splits.published, strict=True
            )
        ]


def resize(frames: np.ndarray) -> np.ndarray:
    """Gray frames [n, H, W] uint8 to [n, 1, 128, 128] uint8: bilinear, without antialiasing.

    The aspect is not kept. The same interpolation as cv2.resize, rounded to the nearest integer.
    """
    pixels = torch.from_numpy(frames).unsqueeze(1).float()
    small = F.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    resized: np.ndarray = small.round_().to(torch.uint8).numpy()
    return resized


# The official videos


def _urls(name: str) -> tuple[str, ...]:
    return (
        f"https://www.csc.kth.se/cvap/actions/{name}",
        f"http://www.nada.kth.se/cvap/actions/{name}",
    )


class KTH(_Persons):
    """KTH from the official videos and 00sequences.txt: 10 frames to 20, [1, 128, 128].

    Windows of past + future frames are cut as published (`starts`), from persons 1 to 16 for
    training and 17 to 25 for test. The published protocol has no validation: here person 16's
    windows are for validation and not trained on. With 30 frames this gives 8,783 (person 16's
    among them) and 5,045 windows. The paper's Table 1 has 5,200 and 3,167, which these files do not
    give with any window: see `KTHAction`.

    Frames are the videos' luma with black at 0 and white at 255, resized by `resize`. The list says
    which are used. A damaged video gives the frames before the damage, and the caption says how
    many are lost.

    `root` or its folder kth holds the list, and the videos in any folder below. Raises
    FileNotFoundError if files are missing, ValueError for an unusable list or video, and
    ModuleNotFoundError without PyAV, which is needed the first time.
    """

    name = "kth"
    source: ClassVar[Source] = Source(
        name=name,
        title="KTH human actions: the official videos and 00sequences.txt",
        licence=LICENCE,
        size="six zips, about 1.1 GB; prepared frames take another 3.7 GB",
        needs=(
            tuple(f"{folder}/{LIST}" if folder else LIST for folder in LIST_FOLDERS),
            ("kth/**/person*_uncomp.avi", "**/person*_uncomp.avi"),
        ),
        files=(
            File(f"kth/{LIST}", _urls(LIST)),
            *(
                File(
                    f"kth/{name}.zip",
                    _urls(f"{name}.zip"),
                    f"sha1:{SHA1[name]}",
                    unpack=f"kth/{name}",
                )
                for name in ACTIONS
            ),
        ),
    )

    def __init__(
        self, root: Path | None = None, *, past: int = 10, future: int = 20, downsample: int = 1
    ) -> None:
        listing = None if root is None else find(root, LIST_FOLDERS, LIST)
        if root is None or listing is None or self.source.missing(root):
            raise missing_files(self.source, root)
        clip = Clip(past, future, 1, SIDE, SIDE)
        smaller(clip, downsample)  # an error now, not after minutes of decoding
        videos = parse_sequences(_read_list(listing))
        self._videos = {name: video for name, video in videos.items() if video.ranges}
        paths = _find_videos(listing.parent, videos)

        def read(findings: Findings) -> Iterator[Block]:
            for name, video in self._videos.items():
                yield from _read_video(paths[name], name, video, findings)

        listed = sum(video.frames for video in self._videos.values())
        files = [listing, *(paths[name] for name in self._videos)]
        prepared = prepare_files(
            "kth", root, files, read, (1, SIDE, SIDE), np.uint8, listed, version=VERSION
        )
        lost = listed - len(prepared.frames)
        super().__init__("KTH from the official videos", clip, prepared, downsample, lost)

    def checks(self) -> list[Check]:
        """Videos, ranges, frames, and windows of 30 and 50: what the real files give."""
        train, test = (sum(r.length for r in split) for split in self._splits.published)
        return [
            Check("videos", VIDEOS, len(self._videos)),
            Check("ranges in the list", RANGES, sum(v.written for v in self._videos.values())),
            Check("training frames", FRAMES[0], train),
            Check("test frames", FRAMES[1], test),
            *self._window_checks(WINDOWS),
        ]


def _read_list(path: Path) -> str:
    with check_readable(path).open("rb") as file:
        content = file.read(MOST_LIST + 1)
    if len(content) > MOST_LIST:
        raise ValueError(f"{path} has over {MOST_LIST:,} bytes; expected 38,081: download it again")
    return content.decode("latin-1")


def _find_videos(folder: Path, videos: Mapping[str, Video]) -> dict[str, Path]:
    """Paths of the videos below `folder` by name: all that have ranges, and none unknown."""
    paths: dict[str, Path] = {}
    for path in visible(folder, "**/person*_uncomp.avi"):
        name = path.name.removesuffix("_uncomp.avi")
        if name in paths:
            raise ValueError(f"{path} and {paths[name]} have one name; remove one of them")
        paths[name] = path
    needed = [name for name, video in videos.items() if video.ranges]
    if missing := [name for name in needed if name not in paths]:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(needed)} videos in {LIST} are not below {folder}: "
            f"{_first_few(missing)}; unpack their archives again, all six of them"
        )
    if unknown := sorted(paths.keys() - videos.keys()):
        raise ValueError(
            f"{LIST} lacks {len(unknown)} of the {len(paths)} videos below {folder}: "
            f"{_first_few(unknown)}; download it again, or remove videos that are not KTH's"
        )
    return paths


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _read_video(path: Path, name: str, video: Video, findings: Findings) -> Iterator[Block]:
    decoded = found = 0
    with closing(_decode(path)) as frames:
        for wanted in video.ranges:
            decoded += sum(1 for _ in islice(frames, wanted.start - 1 - decoded))
            for first in range(wanted.start, wanted.stop, BATCH):
                batch = list(islice(frames, min(BATCH, wanted.stop - first)))
                if batch:
                    yield Block(name, first, resize(np.stack(batch)))
                decoded += len(batch)
                found += len(batch)
    if not decoded:
        raise ValueError(f"{path} has no frame that can be decoded; {REMEDY}")
    if found < video.frames:
        findings.notes.append(
            f"{name}: {video.frames - found} of {video.frames} listed frames are lost: the video "
            f"ends or is damaged after frame {decoded}"
        )


def _decode(path: Path) -> Generator[np.ndarray, None, None]:
    """Gray frames [120, 160] uint8 of a video, until it ends or is damaged.

    The number of frames in its header is not to be trusted.
    """
    av = import_av()
    with reading(path, "an AVI video", REMEDY):
        try:
            with open_container(path, "avi", MOST_PIXELS) as container:
                if not container.streams.video:
                    return
                for frame in container.decode(video=0):
                    if frame.is_corrupt:
                        return  # and so may be those that are predicted from it
                    yield _luma(path, frame)
        except av.FFmpegError as error:
            if isinstance(error, (OSError, MemoryError)):
                raise  # not the video's fault


def _luma(path: Path, frame: Any) -> np.ndarray:
    """A frame's luma [120, 160] uint8, black 0 and white 255.

    Luma from 16 to 235, as most codecs store it, is stretched, as every player does it and as the
    published frames have it.
    """
    if (frame.width, frame.height) != VIDEO_SIZE:
        raise ValueError(
            f"{path} has frames of {frame.width}x{frame.height}; expected 160x120, as in the "
            "official videos"
        )
    if frame.format.name not in LUMA_FORMATS:
        raise ValueError(
            f"{path} stores pixels as {frame.format.name}; expected {' or '.join(LUMA_FORMATS)}, "
            "as in the official videos"
        )
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    luma = rows[: frame.height, : frame.width]
    if frame.format.name in FULL_RANGE or frame.color_range == JPEG_RANGE:
        return luma.copy()
    stretched: np.ndarray = STRETCHED[luma]
    return stretched


# The curated images


class KTHAction(_Persons):
    """KTH from the curated images kth_action that PredRNN released: 10 to 20, [1, 128, 128].

    The published numbers were measured on these images: frames with the person in view, so jogging
    and running have fewer windows than the official videos give. With 30 frames they give the
    paper's Table 1, 5,200 (person 16's among them) and 3,167 windows. Windows and splits are those
    of `KTH`; a frame's number is the one in its file's name. Frames are channel 0, resized by
    `resize` from any size.

    `root` holds kth_action/<action>/personNN_<action>_dM_uncomp/image_XXXX.jpg or .png, or the six
    folders in kth. Raises FileNotFoundError if files are missing, and ValueError for an image that
    cannot be read, a folder without images, or one with two images of the same number.
    """

    name = "kth-action"
    source: ClassVar[Source] = Source(
        name=name,
        title="KTH human actions: the curated images kth_action",
        licence=LICENCE,
        size="one zip; the size is not published",
        needs=(tuple(f"{folder}/*/person*_uncomp/image_*" for folder in IMAGE_FOLDERS),),
        files=(
            File(
                "kth_action.zip",
                (
                    "https://github.com/chengtan9907/OpenSTL/releases/download/v0.1.0/kth_action.zip",
                ),
                unpack="kth_action",
            ),
        ),
        manual=(
            "The same images are in PredRNN's folder "
            "https://drive.google.com/drive/folders/1_M1O4TuQOhYcNdXXuNoNjYyzGrSM9pBF and in "
            "E3D-LSTM's https://www.dropbox.com/s/ppmob712dzgogly/kth_action.tar.gz. Unpack them "
            "so that DIR/kth_action/boxing/person01_boxing_d1_uncomp holds image_0001.jpg, or the "
            "like. No checksum is published; `verify` counts windows."
        ),
    )

    def __init__(
        self, root: Path | None = None, *, past: int = 10, future: int = 20, downsample: int = 1
    ) -> None:
        if root is None or self.source.missing(root):
            raise missing_files(self.source, root)
        clip = Clip(past, future, 1, SIDE, SIDE)
        smaller(clip, downsample)  # an error now, not after minutes of decoding
        videos = {name: _find_images(f) for name, f in _find_image_folders(root).items()}

        def read(_: Findings) -> Iterator[Block]:
            for name, images in videos.items():
                yield from _read_images(name, images)

        files = [image for images in videos.values() for image in images.values()]
        prepared = prepare_files(
            "kth-action", root, files, read, (1, SIDE, SIDE), np.uint8, len(files), version=VERSION
        )
        super().__init__("KTH from the images kth_action", clip, prepared, downsample)

    def checks(self) -> list[Check]:
        """Windows of 30 (Table 1) and 20 (PredRNN): what the real files give."""
        return self._window_checks(ACTION_WINDOWS)


def _find_image_folders(root: Path) -> dict[str, Path]:
    """Folders of images by the name of their video, from all six actions."""
    tree = next(
        root / folder
        for folder in IMAGE_FOLDERS
        if any(visible(root / folder, "*/person*_uncomp/image_*"))
    )
    folders: dict[str, Path] = {}
    for name in ACTIONS:
        found = list(visible(tree, f"{name}/person*_uncomp"))
        if not found:
            raise FileNotFoundError(
                f"{tree / name} has no folder such as person01_{name}_d1_uncomp; expected images "
                f"of {', '.join(ACTIONS)}: unpack the archive again"
            )
        for folder in found:
            match = _FOLDER.fullmatch(folder.name)
            if match is None or match[1].split("_")[1] != name:
                raise ValueError(
                    f"{folder} is not a video's folder; expected a name from person01_{name}_d1_"
                    f"uncomp to person25_{name}_d4_uncomp: correct it, or move it away"
                )
            folders[match[1]] = folder
    return folders


def _find_images(folder: Path) -> dict[int, Path]:
    """Images of a video by their numbers."""
    images: dict[int, Path] = {}
    for path in visible(folder, "image_*"):
        if match := _IMAGE.fullmatch(path.name):
            number = int(match[1])
            if number in images:
                raise ValueError(
                    f"{path} and {images[number].name} are both frame {number}; remove one of them"
                )
            images[number] = path
    if not images:
        raise ValueError(f"{folder} has no image_0001.jpg, .png or the like; {REMEDY}")
    return images


def _read_images(name: str, images: Mapping[int, Path]) -> Iterator[Block]:
    for run in gap_free(range(number, number + 1) for number in images):
        for first in range(run.start, run.stop, BATCH):
            numbers = range(first, min(first + BATCH, run.stop))
            frames = [resize(_channel_0(images[number])[np.newaxis]) for number in numbers]
            yield Block(name, first, np.concatenate(frames))


def _channel_0(path: Path) -> np.ndarray:
    """The first channel of an image, [H, W] uint8; all three are equal in a gray image."""
    with path.open("rb") as file:
        return np.array(open_image(file, path, ("JPEG", "PNG"), REMEDY).getchannel(0))
