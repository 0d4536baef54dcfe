"""Your own data, in a file or a folder: sequences [N, T, C, H, W] or recordings [T, C, H, W]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data.array_file import ArrayFile
from benchmarks.data.cache import is_prepared_folder
from benchmarks.data.folder import Folder, open_folder, open_video, printable
from benchmarks.data.formats import FILES, open_arrays
from benchmarks.data.images import IMAGES
from benchmarks.data.layout import (
    FEW,
    View,
    arrange,
    count,
    find_layout,
    frame_in_words,
    in_words,
    parse_layout,
    parse_size,
)
from benchmarks.data.pictures import Pictures, parse_fps
from benchmarks.data.recordings import Recording
from benchmarks.data.scan import MOST_PAIRS, Scan, copies, scan
from benchmarks.data.splits import Splits, split_recordings, split_sequences
from benchmarks.data.stored import StoredDataset
from benchmarks.data.videos import VIDEOS
from tau.predictor import Clip

OWN_FILES = (*FILES, *VIDEOS)
OTHER_VIDEOS = (".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".3gp", ".ogv")
DARK = 16  # largest uint8 values below it are taken for labels, or frames that are scaled already


class Content(NamedTuple):
    """What a path holds.

    `arrays` are [N, T, C, H, W] or [T, C, H, W], by split, or one by the path's name; `recordings`
    are by split, or by the path's name, and none if there are whole sequences. `dtype` is the type
    of the values in the path, `pictures` what was done with images and videos, and `sizes` what
    frames were cropped and padded to after that.
    """

    arrays: dict[str, ArrayFile]
    recordings: dict[str, list[Recording]]
    dtype: np.dtype
    notes: list[str]
    pictures: Pictures
    sizes: dict[str, tuple[int, int]]


class Arrays(StoredDataset):
    """Sequences or recordings of your own, of numbers whose range is known or given.

    `path` is an .npy, .npz, HDF5 (.h5, .hdf5), NetCDF (.nc) or Zarr file, a video (.mp4, .mov,
    .avi, .mkv, .webm, .gif), or a folder. Whole
    sequences [N, T, C, H, W]: of each, the first past + future frames are used (by default all, the
    first half being the past). Recordings [T, C, H, W]: windows of past + future frames, which must
    be given, `stride` apart (default: past + future, so that they do not overlap). A video is a
    recording of RGB frames. A folder holds a recording in each array file or video, or in each
    sub-folder of images, in the order of the numbers in their names; windows do not cross missing
    numbers. Folders and videos are prepared once into one array.

    `layout` tells another order of the axes, such as NTHWC; `variable` chooses among the arrays of
    a file. Of videos, `fps` frames per second are taken. The pictures of images and videos become
    `gray`, and of the `size` (such as "64x64") that is told: they are scaled to cover it,
    antialiased, and the excess is cropped evenly. After that, `crop` and `pad` cut frames to their
    middle, and widen them by repeating their outermost pixels, which count in the scores.

    The last tenth (at least one) of the sequences is for test, the tenth before it for validation.
    Of ten recordings or more, the same holds for recordings; of fewer, each gives its last tenth
    of frames and the tenth before. Arrays, or folders, called `train` and `test` set the test split
    apart themselves, and one called `val` that for validation.

    uint8 frames are divided by 255, and bool is 0 and 1. Other numbers need `data_range`: the
    largest value they may have, the smallest being 0, or the pair (smallest, largest); models get
    (value - smallest) / (largest - smallest). Every value is read once when the path is opened.

    Raises FileNotFoundError, ValueError if path or options cannot be used, and
    ModuleNotFoundError for a Zarr file without the package zarr, or a video without av.
    """

    def __init__(
        self,
        path: Path,
        *,
        past: int | None = None,
        future: int | None = None,
        stride: int | None = None,
        data_range: float | Sequence[float] | None = None,
        layout: str | None = None,
        variable: str | None = None,
        size: str | None = None,
        gray: bool = False,
        fps: float | None = None,
        crop: str | None = None,
        pad: str | None = None,
    ) -> None:
        name = printable(path.name if path.name not in ("", "..") else path.resolve().name)
        content = open_content(
            path,
            name,
            layout=layout,
            variable=variable,
            size=size,
            gray=gray,
            fps=fps,
            crop=crop,
            pad=pad,
        )
        splits, rule = _split(name, content, past, future, stride)
        clip = _clip(name, splits, past, future)
        scans = _scan(name, content)
        kept = splits.train.array.dtype
        value_range = _range(name, content.dtype, kept, list(scans.values()), data_range)
        low, high = value_range or (0.0, 1.0)
        super().__init__(
            name,
            clip,
            train=splits.train,
            validation=splits.validation,
            test=splits.test,
            value_range=value_range,
            provenance={
                "data_range": "uint8 / 255" if value_range is None else f"{low!r} to {high!r}",
                "rule": rule,
                **content.pictures.described,
                **{
                    option: f"{height}x{width}" for option, (height, width) in content.sizes.items()
                },
                **{f"sha256 of {label}": found.sha256 for label, found in scans.items()},
            },
            caption=(
                f"{name}: {_describe(content)}{_made(content.pictures)}"
                f"{_resized(**content.sizes)}, "
                f"{'divided by 255' if value_range is None else f'from {low:.9g} to {high:.9g}'}; "
                "trained on "
                f"{count(len(splits.train), 'sequence')}, validated on {len(splits.validation):,}, "
                f"tested on {len(splits.test):,} ({rule})."
            ),
        )
        self.notes = (*content.notes, *_warn_of_copies(scans, splits, clip))


# --- opening -------------------------------------------------------------------------------------


def open_content(
    path: Path,
    name: str,
    *,
    layout: str | None = None,
    variable: str | None = None,
    size: str | None = None,
    gray: bool = False,
    fps: float | None = None,
    crop: str | None = None,
    pad: str | None = None,
) -> Content:
    """What a path holds, with the options of `Arrays`."""
    letters = None if layout is None else parse_layout(layout)
    pictures = Pictures(
        None if size is None else parse_size("size", size),
        gray,
        None if fps is None else parse_fps(fps),
    )
    given = (("crop", crop), ("pad", pad))
    sizes = {option: parse_size(option, text) for option, text in given if text is not None}
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    suffix = path.suffix.lower()
    if path.is_dir() and suffix not in FILES:
        return _of_folder(
            open_folder(path, name, letters, variable, pictures), name, pictures, sizes
        )
    if suffix not in OWN_FILES:
        hint = ": convert it, ffmpeg -i VIDEO VIDEO.mp4" if suffix in OTHER_VIDEOS else ""
        raise ValueError(
            f"{path} is of no kind that is read; expected a file that ends in "
            f"{', '.join(OWN_FILES)}, or a folder of such files or of images "
            f"({', '.join(IMAGES)}){hint}"
        )
    if suffix in VIDEOS:
        _refuse(path, "a video", {"layout": layout, "variable": variable})
        return _of_folder(open_video(path, name, pictures), name, pictures, sizes)
    _refuse(path, "no video or image", pictures.described)
    if is_prepared_folder(path.parent):
        raise ValueError(f"{path} holds prepared frames of this program; give the data themselves")
    arrays = open_arrays(path, variable)
    first = next(iter(arrays.values()))
    letters = letters or find_layout(str(path), first)
    arrays = {label: arrange(str(path), a, letters, **sizes) for label, a in arrays.items()}
    _check_alike(path, arrays)
    lengths = {label: array.shape[0] for label, array in arrays.items()}
    recordings = {label: [Recording(label, 0, 0, n)] for label, n in lengths.items()}
    recordings = {} if "N" in letters else recordings
    return Content(arrays, recordings, first.dtype, [], pictures, sizes)


def _of_folder(
    found: Folder, name: str, pictures: Pictures, sizes: dict[str, tuple[int, int]]
) -> Content:
    recordings: dict[str, list[Recording]] = {}
    for recording in found.prepared.recordings:
        recordings.setdefault(found.splits.get(recording.name, name), []).append(recording)
    frames: ArrayFile = found.prepared.frames
    if sizes:
        frames = View(frames, "TCHW", **sizes)
    return Content({name: frames}, recordings, found.dtype, found.notes, pictures, sizes)


def _refuse(path: Path, what: str, options: Mapping[str, str | None]) -> None:
    """Raise ValueError for an option that was given: it has no effect on such a file."""
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{path} is {what}, so {option}={value!r} has no effect; leave it out")


def _check_alike(path: Path, arrays: Mapping[str, ArrayFile]) -> None:
    """Raise ValueError unless all have one type and shape, but for the first axis."""
    (label, first), *others = arrays.items()
    for other, array in others:
        if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
            raise ValueError(
                f"{path}: {label} is {first.dtype} {first.shape} and {other} {array.dtype} "
                f"{array.shape}; expected the same type, and the same sizes but the first"
            )


def _describe(content: Content) -> str:
    """The axes in words, and the type."""
    array = next(iter(content.arrays.values()))
    if not content.recordings:
        total = sum(len(array) for array in content.arrays.values())
        return f"{in_words('NTCHW', (total, *array.shape[1:]))}, {content.dtype.name}"
    lengths: dict[str, int] = {}
    for recording in _flat(content.recordings):
        lengths[recording.name] = lengths.get(recording.name, 0) + recording.length
    least, most = min(lengths.values()), max(lengths.values())
    return (
        f"{count(len(lengths), 'recording')} of {f'{least:,} to ' if least < most else ''}"
        f"{count(most, 'frame')}, {frame_in_words(array.shape[1:])}, {content.dtype.name}"
    )


def _made(pictures: Pictures) -> str:
    told = pictures.described
    fps = f", {told['fps']} frames per second" if "fps" in told else ""
    size = f", scaled to cover {told['size']} and cropped to it" if "size" in told else ""
    return fps + (", in gray" if pictures.gray else "") + size


def _resized(crop: tuple[int, int] | None = None, pad: tuple[int, int] | None = None) -> str:
    cropped = f", cropped to the middle {crop[0]}x{crop[1]}" if crop else ""
    padded = f", padded to {pad[0]}x{pad[1]} with copies of the outermost pixels" if pad else ""
    return cropped + padded + (", which count in the scores" if pad else "")


def _flat(recordings: Mapping[str, Sequence[Recording]]) -> list[Recording]:
    return [recording for of in recordings.values() for recording in of]


# --- splits, values ------------------------------------------------------------------------------


def _split(
    name: str, content: Content, past: int | None, future: int | None, stride: int | None
) -> tuple[Splits, str]:
    if not content.recordings:
        if stride is not None:
            raise ValueError(
                f"{name} holds whole sequences, so stride={stride} has no effect; leave it out"
            )
        return split_sequences(name, content.arrays)
    if past is None or future is None:
        shape, alone = (
            next(iter(content.arrays.values())).shape,
            len(_flat(content.recordings)) == 1,
        )
        many = alone and shape[1] >= FEW  # gray, flows and colours are channels
        other = f"; if it is {in_words('NTHW', shape)}: --layout NTHW" if many else ""
        raise ValueError(
            f"{name} holds {_describe(content)}, to be cut into windows; give --past and --future, "
            f"in frames{other}"
        )
    return split_recordings(name, content.arrays, content.recordings, past, future, stride)


def _clip(name: str, splits: Splits, past: int | None, future: int | None) -> Clip:
    array = splits.train.array
    channels, height, width = array.shape[-3:]
    if array.ndim == 4:
        assert past is not None and future is not None
        return Clip(past, future, channels, height, width)
    frames = array.shape[1]
    if frames < 2:
        raise ValueError(f"{name} has sequences of 1 frame; expected 2 or more, past and future")
    if past is None:
        past = frames // 2 if future is None else frames - future
    if future is None:
        future = frames - past
    if past < 1 or future < 1 or past + future > frames:
        raise ValueError(
            f"{name} has sequences of {frames} frames; past={past} and future={future} do not fit: "
            "expected positive numbers whose sum is no larger"
        )
    return Clip(past, future, channels, height, width)


def _scan(name: str, content: Content) -> dict[str, Scan]:
    """Read every array once."""
    total = sum(math.prod(array.shape[:-3]) for array in content.arrays.values())
    one_in = -(-total // MOST_PAIRS)
    found = {}
    for label, array in content.arrays.items():
        alone = len(content.arrays) == 1
        recordings = _flat(content.recordings) if alone else content.recordings.get(label, [])
        where = partial(_place, array, recordings)
        what = name if alone else f"{name}: {label}"
        found[label] = scan(what, array, recordings, where, one_in)
    return found


def _place(array: ArrayFile, recordings: Sequence[Recording], index: int) -> str:
    """Name a frame by the number of frames before it in the array."""
    if array.ndim == 5:
        sequence, frame = divmod(index, array.shape[1])
        return f"sequence {sequence}, frame {frame}"
    found = next(r for r in recordings if 0 <= index - r.start < r.length)
    return f"{found.name}, frame {found.first + index - found.start}"


def _range(
    name: str,
    dtype: np.dtype,
    kept: np.dtype,
    scans: Sequence[Scan],
    data_range: float | Sequence[float] | None,
) -> tuple[float, float] | None:
    """Smallest and largest possible value, as given; None for uint8, which is divided by 255.

    `dtype` is the type in the path, `kept` the one that is read from.
    """
    least, most = min(found.low for found in scans), max(found.high for found in scans)
    if dtype == np.bool_:
        if data_range is not None:
            raise ValueError(
                f"{name} is bool, 0 and 1, so data_range={data_range} has no effect; leave it out"
            )
        return 0.0, 1.0
    if data_range is None:
        if dtype == np.uint8 and most >= DARK:
            return None
        dark = ", where 255 would be white: labels, or dark frames" if dtype == np.uint8 else ""
        raise ValueError(
            f"{name} holds {dtype.name} from {least:.9g} to {most:.9g}{dark}; give the range that "
            "its values can have: --data-range HIGH (from 0), or --data-range LOW HIGH"
        )
    low, high = _parse_range(data_range)
    with np.errstate(over="ignore"):  # 0.1 may be stored as 0.100000001
        stored = kept.type if kept.kind == "f" else float
        fits = least >= float(stored(low)) and most <= float(stored(high))
    if not fits:
        raise ValueError(
            f"{name} holds values from {least:.9g} to {most:.9g}; expected {low:.9g} to "
            f"{high:.9g}: scale them, or give a data_range that holds them"
        )
    return low, high


def _parse_range(data_range: float | Sequence[float]) -> tuple[float, float]:
    given = [float(value) for value in np.ravel(data_range)]
    low, high = given if len(given) == 2 else (0.0, given[0] if len(given) == 1 else 0.0)
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(
            f"data_range is {data_range}; expected the largest value, above 0, or the smallest and "
            "the largest"
        )
    return low, high


def _warn_of_copies(scans: Mapping[str, Scan], splits: Splits, clip: Clip) -> list[str]:
    first = next(iter(scans.values()))
    train, test = scans.get("train", first), scans.get("test", first)
    frames, sequences = copies(train, splits.train, test, splits.test, clip.frames)
    if not frames:
        return []
    least = "at least " if train.one_in > 1 else ""
    return [
        f"warning: {least}{frames:,} frames in {sequences:,} of {len(splits.test):,} test "
        "sequences are also trained on, so that scores are too good; keep copies and overlapping "
        "sequences in one split"
    ]
