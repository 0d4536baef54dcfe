"""KITTI to Caltech Pedestrian: trained on one city's streets, tested on another's.

The protocol is PredNet's (Lotter, Kreiman, Cox, ICLR 2017), with the windows of SimVP and TAU. Two
data sets that differ in the training split only: `KittiCaltech` reads PredNet's prepared files,
`KittiRawCaltech` KITTI's own images.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from benchmarks.data import hkl, seq
from benchmarks.data.cache import Block, Findings, Prepared, Reader
from benchmarks.data.dataset import Check
from benchmarks.data.originals import check_readable, open_image, prepare_files
from benchmarks.data.recordings import Windows, cut
from benchmarks.data.sources import File, Source, missing_files, visible
from benchmarks.data.stored import StoredDataset, smaller
from tau.predictor import Clip

CHANNELS, HEIGHT, WIDTH = 3, 128, 160
VERSION = 1  # of the readers; raise it when the frames they give change
BATCH = 256  # images that are decoded before any is written: 16 MB

T = TypeVar("T")

# KITTI: drives of the categories city, residential and road, and how many images each has.
DRIVES = {
    "2011_09_26": {
        1: 108, 2: 77, 5: 154, 9: 447, 11: 233, 13: 144, 14: 314, 15: 297, 17: 114, 18: 270,
        19: 481, 20: 86, 22: 800, 23: 474, 27: 188, 28: 430, 29: 430, 32: 390, 35: 131, 36: 803,
        39: 395, 46: 125, 48: 22, 51: 438, 52: 78, 56: 294, 57: 361, 59: 373, 60: 78, 61: 703,
        64: 570, 70: 420, 79: 100, 84: 383, 86: 706, 87: 729, 91: 340, 93: 433, 95: 268, 96: 475,
        101: 936, 104: 312, 106: 227, 113: 87, 117: 660,
    },
    "2011_09_28": {1: 106, 2: 376},
    "2011_09_29": {4: 339, 26: 158, 71: 1059},
    "2011_09_30": {16: 279, 18: 2762, 20: 1104, 27: 1106, 28: 5177, 33: 1594, 34: 1224},
    "2011_10_03": {27: 4544, 34: 4663, 42: 1170, 47: 837},
}  # fmt: skip
IMAGES = {
    f"{date}_drive_{drive:04}": images
    for date, drives in DRIVES.items()
    for drive, images in drives.items()
}
VALIDATION = ("2011_09_26_drive_0005",)
TEST = tuple(
    f"2011_09_26_drive_{drive}" for drive in ("0070", "0079", "0104")
)  # PredNet's; left out
TRAINING = tuple(drive for drive in IMAGES if drive not in VALIDATION + TEST)

# Caltech: of each video of a set, one thirtieth of its frames, rounded down.
SETS = {
    "set06": (61, 61, 59, 59, *(61,) * 15),
    "set07": (61, 61, 61, 61, 65, 72, 61, 61, 61, 61, 61, 60),
    "set08": (59, 59, 61, 61, 61, 61, 61, 61, 61, 56, 56),
    "set09": (62, 62, 61, 61, 59, 66, 61, 61, 61, 61, 61, 62),
    "set10": (*(61,) * 11, 57),
}
EVERY = 3  # one frame in three is kept: 10 of 30 a second, as in KITTI
VIDEO_SIZE = (640, 480)
RESIZED_WIDTHS = range(400, 451)  # of KITTI's images of height 128: those of 1242x375 have 424
RESIZED_WIDTH, LEFT = 171, 5  # of a Caltech frame of height 128, and where its crop begins

# Below the data folder. They begin with a folder, so that a link to KITTI or Caltech is followed.
VIDEOS = "*/**/V*.seq"
IMAGE_FOLDERS = "*/**/*_sync/image_03/data"  # of the right colour camera

CALTECH = File(
    "caltech_data_and_labels.zip",
    ("https://data.caltech.edu/records/f6rph-90m20/files/data_and_labels.zip?download=1",),
    unpack="caltech",
)
CALTECH_MANUAL = (
    "Caltech Pedestrian: DIR/caltech needs the videos set06/V000.seq to set10/V011.seq, in folders "
    "as deep as the archive has them; unpack any setNN.tar in it. Training sets are not needed."
)
LICENCE = "KITTI: CC BY-NC-SA 3.0. Caltech Pedestrian: see data.caltech.edu/records/f6rph-90m20"


class Part(NamedTuple):
    """Frames that are prepared by themselves."""

    name: str  # of their folder in the cache
    files: list[Path]
    read: Reader


class Splits(NamedTuple):
    """Prepared frames of the two cities: KITTI's to train and validate, Caltech's to test."""

    train: Prepared
    validation: Prepared
    test: Prepared


def _patterns(name: str) -> tuple[str, ...]:
    return f"kitti_hkl/{name}", name, f"*/{name}", f"*/*/{name}"


class KittiCaltech(StoredDataset):
    """KITTI to Caltech Pedestrian: 10 frames to 1, [3, 128, 160] RGB in [0, 1], 10 a second.

    Trained on PredNet's X_train.hkl and validated on its X_val.hkl; tested on Caltech's sets 06 to
    10, of which every third frame is kept (3, 6, 9, ...), resized to 128x171 with antialiased
    bilinear interpolation, and cropped to columns 5 to 164.

    Windows of `cut` frames are cut from each drive or video, counted from its last frame, so that
    none overlap; a sequence is the first past + future frames of one. On the real files cut=20
    gives 2,042 and 1,983, the TAU paper's Table 1, though that describes sequences of 11 frames;
    cut=11 gives 3,738 for KITTI. OpenSTL's loader trains on RGB and tests on BGR; `bgr_test` does
    so too, to stand beside numbers that were measured with it.

    Raises FileNotFoundError if `root` lacks a file, and ValueError for a damaged one or for options
    that do not fit.
    """

    name = "kitti-caltech"
    clip = Clip(10, 1, CHANNELS, HEIGHT, WIDTH)
    source: ClassVar[Source] = Source(
        name=name,
        title="KITTI, as PredNet prepared it, to Caltech Pedestrian",
        licence=LICENCE,
        size="KITTI 2.5 GB unpacked, and Caltech's archive; 2.5 GB more for each when prepared",
        needs=(
            _patterns("X_train.hkl"),
            _patterns("sources_train.hkl"),
            _patterns("X_val.hkl"),
            _patterns("sources_val.hkl"),
            (f"caltech/{VIDEOS}", VIDEOS),
        ),
        files=(
            File(
                "kitti_data.zip",
                ("https://www.dropbox.com/s/rpwlnn6j39jjme4/kitti_data.zip?dl=1",),
                unpack="kitti_hkl",
            ),
            CALTECH,
        ),
        manual=(
            "KITTI: if the link fails, download X_train.hkl, sources_train.hkl, X_val.hkl and "
            "sources_val.hkl by hand from "
            "https://figshare.com/articles/dataset/KITTI_hkl_files/7985684 into DIR/kitti_hkl. "
            "Downloads that were cut short are common: X_train.hkl has more than 2,543,370,240 "
            "bytes. " + CALTECH_MANUAL
        ),
    )
    kitti: ClassVar[str] = "KITTI as PredNet prepared it"  # for the caption

    def __init__(
        self,
        root: Path | None = None,
        *,
        past: int = 10,
        future: int = 1,
        cut: int = 20,
        downsample: int = 1,
        bgr_test: bool = False,
    ) -> None:
        if root is None or self.source.missing(root):
            raise missing_files(self.source, root)
        clip = Clip(past, future, CHANNELS, HEIGHT, WIDTH)
        smaller(clip, downsample)  # an error now, not after minutes of decoding
        if clip.frames > cut:
            raise ValueError(
                f"past={past} and future={future} do not fit into windows of cut={cut} frames; "
                f"expected cut to be at least {clip.frames}"
            )
        splits = _prepare(root, *self._kitti_parts(root), _caltech_part(_find_videos(root)))
        train, validation = (_windows(split, cut) for split in splits[:2])
        test = _windows(splits.test, cut, reverse_channels=bgr_test)
        averaged = f", averaged over {downsample}x{downsample} pixels" if downsample > 1 else ""
        order = "RGB in training but BGR in the test, as OpenSTL has it" if bgr_test else "RGB"
        drives, tested = _names(splits.train), _names(splits.test)
        self._splits, self._cut = splits, cut
        super().__init__(
            self.name,
            clip,
            train=train,
            validation=validation,
            test=test,
            downsample=downsample,
            provenance={
                "cut": cut,
                "train_drives": drives,
                "test_videos": tested,
                "train_frames_sha256": splits.train.digest,
                "validation_frames_sha256": splits.validation.digest,
                "test_frames_sha256": splits.test.digest,
                **({"test_channels": "BGR"} if bgr_test else {}),
            },
            caption=(
                f"Trained on {len(train):,} sequences of {self.kitti} ({drives} drives), tested on "
                f"{len(test):,} of Caltech Pedestrian's sets 06 to 10 ({tested} videos, every "
                f"third frame): the first {clip.frames} frames of each window of {cut}; windows do "
                "not overlap and are counted from a recording's end. Frames are "
                f"{HEIGHT}x{WIDTH}{averaged}, resized bilinearly with antialiasing and cropped, "
                f"{order}."
            ),
        )

    def _kitti_parts(self, root: Path) -> tuple[Part, Part]:
        """Frames to train and to validate on."""
        return _hkl_part(root, "train"), _hkl_part(root, "val")

    def checks(self) -> list[Check]:
        """Drives, videos, frames and windows: what the real files give with these options."""
        train, validation, test = self._splits
        cut = self._cut
        checks = [
            Check("KITTI training drives", len(TRAINING), _names(train)),
            Check("KITTI training frames", _images(TRAINING), len(train.frames)),
            Check("KITTI validation frames", _images(VALIDATION), len(validation.frames)),
            Check("training windows", _images(TRAINING, cut), self.train_sequences),
            Check("Caltech videos", sum(map(len, SETS.values())), _names(test)),
        ]
        for name, thirtieths in SETS.items():
            lengths = [r.length for r in test.recordings if r.name.startswith(name)]
            checks.append(
                Check(
                    f"a thirtieth of the frames of each video of {name}",
                    " ".join(map(str, thirtieths)),
                    " ".join(str(length * EVERY // 30) for length in lengths),
                )
            )
        if cut % 10 == 0:  # a window is then a number of thirtieths
            windows = sum(n // (cut // 10) for thirtieths in SETS.values() for n in thirtieths)
            checks.append(Check("test windows", windows, self.test_sequences))
        return checks


class KittiRawCaltech(KittiCaltech):
    """`KittiCaltech`, trained on KITTI's raw images instead of PredNet's prepared files.

    The right colour camera of the drives of the categories city, residential and road, resized to a
    height of 128 with antialiased bilinear interpolation and cropped to the middle 160 columns.
    Drive 2011_09_26 0005 is for validation; PredNet's three test drives are left out. The frames
    are PredNet's but for the interpolation, so scores may differ a little.
    """

    name = "kitti-raw-caltech"
    source: ClassVar[Source] = Source(
        name=name,
        title="KITTI's raw images to Caltech Pedestrian",
        licence=LICENCE,
        size="KITTI about 165 GB and Caltech's archive; 2.5 GB more for each when prepared",
        needs=(
            (f"kitti_raw/{IMAGE_FOLDERS}/*.png", f"{IMAGE_FOLDERS}/*.png"),
            (f"caltech/{VIDEOS}", VIDEOS),
        ),
        files=(
            *(
                File(
                    f"kitti_raw/{drive}_sync.zip",
                    (
                        "https://s3.eu-central-1.amazonaws.com/avg-kitti/raw_data/"
                        f"{drive}/{drive}_sync.zip",
                    ),
                    unpack=f"kitti_raw/{drive}",
                )
                for drive in TRAINING + VALIDATION
            ),
            CALTECH,
        ),
        manual=(
            "KITTI: of each drive only DATE/DRIVE_sync/image_03/data is needed, in DIR/kitti_raw "
            "or elsewhere in DIR. " + CALTECH_MANUAL
        ),
    )
    kitti: ClassVar[str] = "KITTI"

    def _kitti_parts(self, root: Path) -> tuple[Part, Part]:
        drives = _find_drives(root)
        return _raw_part("train", drives), _raw_part("val", drives)


def _images(drives: Iterable[str], cut: int = 1) -> int:
    return sum(IMAGES[drive] // cut for drive in drives)


def _names(prepared: Prepared) -> int:
    return len({recording.name for recording in prepared.recordings})


def _windows(prepared: Prepared, size: int, *, reverse_channels: bool = False) -> Windows:
    starts = cut(prepared.recordings, size, size, end_aligned=True)
    return Windows(prepared.frames, starts, reverse_channels=reverse_channels)


def _prepare(root: Path, *parts: Part) -> Splits:
    for part in parts:  # before minutes go into preparing the first one
        for file in part.files:
            check_readable(file)
    shape = (CHANNELS, HEIGHT, WIDTH)
    return Splits(
        *(
            prepare_files(part.name, root, part.files, part.read, shape, np.uint8, version=VERSION)
            for part in parts
        )
    )


# PredNet's files


def _hkl_part(root: Path, split: str) -> Part:
    images, sources = _locate(root, f"X_{split}.hkl"), _locate(root, f"sources_{split}.hkl")

    def read(_: Findings) -> Iterator[Block]:
        return hkl.read_recordings(images, sources, (HEIGHT, WIDTH, CHANNELS))

    return Part(f"kitti-hkl-{split}", [images, sources], read)


def _locate(root: Path, name: str) -> Path:
    paths = sorted({path for pattern in _patterns(name) for path in visible(root, pattern)})
    found = list({os.path.realpath(path): path for path in reversed(paths)}.values())
    if len(found) > 1:
        raise ValueError(
            f"{root} has {name} {len(found)} times ({found[0]}, {found[1]}); expected it once: "
            "move the others away"
        )
    return found[0]


def _decode(
    name: str, first: int, items: Sequence[T], frame: Callable[[T], np.ndarray]
) -> Iterator[Block]:
    """`frame` of each of `items`, decoded by several threads, in order and in blocks."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), BATCH):
            frames = list(pool.map(frame, items[start : start + BATCH]))
            yield Block(name, first + start, np.stack(frames))


# KITTI's raw images


def _find_drives(root: Path) -> dict[str, list[Path]]:
    """Images by drive, in order, of the drives that are used.

    Raises FileNotFoundError if none is there to train or to validate on, and ValueError if a drive
    is there twice, has no image, or one whose name is no number.
    """
    drives: dict[str, list[Path]] = {}
    for folder in visible(root, IMAGE_FOLDERS):
        drive = folder.parents[1].name.removesuffix("_sync")
        if drive not in TRAINING + VALIDATION:
            continue
        images = list(visible(folder, "*.png"))
        if drive in drives:
            raise ValueError(
                f"{drive} is in {drives[drive][0].parent} and in {folder}; expected it once: move "
                "the other away"
            )
        if not images or not all(image.stem.isdecimal() for image in images):
            raise ValueError(
                f"{folder} has {len(images)} images; expected at least one, and numbered ones "
                "(0000000000.png): unpack the drive again"
            )
        drives[drive] = sorted(images, key=_number)
    for wanted in (TRAINING, VALIDATION):
        if not drives.keys() & set(wanted):
            raise FileNotFoundError(
                f"{root} has none of the {len(wanted)} drives {wanted[0]} to {wanted[-1]}; "
                "expected DATE/DRIVE_sync/image_03/data of at least one: unpack them"
            )
    return drives


def _number(image: Path) -> int:
    return int(image.stem)


def _raw_part(split: str, drives: dict[str, list[Path]]) -> Part:
    wanted = VALIDATION if split == "val" else TRAINING
    chosen = {drive: drives[drive] for drive in wanted if drive in drives}

    def read(findings: Findings) -> Iterator[Block]:
        for drive, images in chosen.items():
            numbers = [_number(image) for image in images]
            gaps = [i for i in range(1, len(images)) if numbers[i] != numbers[i - 1] + 1]
            for i in gaps:
                findings.notes.append(
                    f"{drive}: no images between {numbers[i - 1]} and {numbers[i]}"
                )
            for start, stop in pairwise([0, *gaps, len(images)]):
                yield from _decode(drive, numbers[start], images[start:stop], _kitti_frame)

    files = [image for images in chosen.values() for image in images]
    return Part(f"kitti-raw-{split}", files, read)


def _kitti_frame(path: Path) -> np.ndarray:
    """An image of KITTI, resized to a height of 128 and cropped in the middle: [3, 128, 160]."""
    remedy = "unpack the drive again, or download it again"
    with path.open("rb") as file:
        frame = open_image(file, path, ("PNG",), remedy)
    width = round(HEIGHT / frame.height * frame.width)
    if width not in RESIZED_WIDTHS:
        raise ValueError(
            f"{path} has {frame.width}x{frame.height} pixels; expected KITTI's 1242x375 or nearly "
            f"so; {remedy}"
        )
    return _shrink(frame, width, (width - WIDTH) // 2)


def _shrink(frame: Image.Image, width: int, left: int) -> np.ndarray:
    """Resize to 128 x width, antialiased and bilinear, and crop to 160 columns: [3, 128, 160]."""
    small = frame.resize((width, HEIGHT), Image.Resampling.BILINEAR)
    return np.asarray(small.crop((left, 0, left + WIDTH, HEIGHT))).transpose(2, 0, 1)


# Caltech's videos


def _find_videos(root: Path) -> dict[str, Path]:
    """Videos of the test sets by their names, such as set06/V000, in order.

    A video belongs to the nearest folder above it that is named like a set. Raises
    FileNotFoundError if a set has none, and ValueError if a video is there twice.
    """
    videos: dict[str, Path] = {}
    for path in visible(root, VIDEOS):
        folders = (parent.name for parent in path.relative_to(root).parents)
        folder = next((name for name in folders if re.fullmatch(r"set\d\d", name)), "")
        name = f"{folder}/{path.stem}"
        if folder in SETS and name in videos:
            raise ValueError(
                f"{name} is there twice, {videos[name]} and {path}; expected it once: move the "
                "other away"
            )
        if folder in SETS:
            videos[name] = path
    missing = [folder for folder in SETS if not any(folder in name for name in videos)]
    if missing:
        raise FileNotFoundError(
            f"{root} has no video (V000.seq and so on) of Caltech's {', '.join(missing)}; expected "
            "some of each test set, set06 to set10: unpack the archives of these sets"
        )
    return dict(sorted(videos.items()))


def _caltech_part(videos: dict[str, Path]) -> Part:
    def read(findings: Findings) -> Iterator[Block]:
        for name, path in videos.items():
            video = seq.open_video(path)
            if (video.width, video.height) != VIDEO_SIZE:
                raise ValueError(
                    f"{path} has frames of {video.width}x{video.height} pixels; expected "
                    "640x480: it is not Caltech's"
                )
            for problem in video.notes:
                findings.notes.append(f"{name}: {problem}")
            kept = range(EVERY - 1, len(video.places), EVERY)
            yield from _decode(name, 0, kept, partial(_caltech_frame, video))

    return Part("caltech-test", list(videos.values()), read)


def _caltech_frame(video: seq.Video, number: int) -> np.ndarray:
    return _shrink(video.frame(number), RESIZED_WIDTH, LEFT)
