"""Your own data, in a file or a folder: sequences [N, T, C, H, W] or recordings [T, C, H, W]."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from PIL import Image, UnidentifiedImageError

from benchmarks.data.array_file import NumpyFile
from benchmarks.data.cache import Block, Findings, cache_folder, fingerprint, prepare
from benchmarks.data.recordings import Clips, Recording, Sequences, Windows, cut
from benchmarks.data.stored import StoredDataset
from tau.predictor import Clip

FILES = (".npy", ".npz", ".h5", ".hdf5", ".hdf", ".zarr")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ONE_IN = 10  # one sequence, or recording, or frame in ten is for test, and one for validation
CHUNK_BYTES = 1 << 26
VERSION = 1  # of the folder reader; raise it when the frames it gives change


class Sides(NamedTuple):
    """Training, validation and test clips."""

    train: Clips
    validation: Clips
    test: Clips


class Content(NamedTuple):
    """What a path holds: its clips, their layout [T, C, H, W], and how they were set apart."""

    sides: Sides
    type: np.dtype
    sha256: dict[str, str]
    low: float
    high: float
    rule: str


class Arrays(StoredDataset):
    """Sequences or recordings of your own: uint8, or floats with their range given.

    `path` is an .npy, .npz, HDF5 (.h5, .hdf5) or Zarr file, or a folder. Whole sequences
    [N, T, C, H, W]: a clip is the first past + future frames (all by default, the first half being
    the past). Recordings [T, C, H, W]: windows of past + future frames, which must be given,
    `stride` apart (default: past + future, so that they do not overlap). A folder holds a
    recording in each .npy file, or in each sub-folder of images (gray or RGB, in the order of the
    numbers in their names); it is prepared once into one memory-mapped array.

    The last tenth (at least one) of the sequences is for test, the tenth before it for validation.
    Of ten recordings or more, the same holds for recordings; of fewer, each gives its last tenth
    of frames and the tenth before. Two arrays (in a folder: sub-folders) `train` and `test` set
    the test side apart themselves; the last tenth of `train` is for validation.

    uint8 frames are divided by 255. Floats need `data_range`: the largest value they may have, the
    smallest being 0, or the pair (smallest, largest); the smallest is subtracted. Every value is
    read once and compared with it, when the path is opened.

    Raises FileNotFoundError, ValueError if path or options cannot be used, and
    ModuleNotFoundError for a Zarr file without the package zarr.
    """

    def __init__(
        self,
        path: Path,
        *,
        past: int | None = None,
        future: int | None = None,
        stride: int | None = None,
        data_range: float | Sequence[float] | None = None,
    ) -> None:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        is_folder = path.is_dir() and path.suffix != ".zarr"
        content = (_open_folder if is_folder else _open_file)(path, past, future, stride)
        low, high = _range(path, content, data_range)
        clip = _clip(path, content.sides.train, past, future)
        sides = content.sides
        super().__init__(
            path.name,
            clip,
            train=sides.train,
            validation=sides.validation,
            test=sides.test,
            value_range=(low, high),
            provenance={
                "data_range": f"{low:g} to {high:g}",
                "rule": content.rule,
                **{f"sha256 of {label}": text for label, text in content.sha256.items()},
            },
            caption=(
                f"{path.name}: trained on {len(sides.train):,} sequences, tested on "
                f"{len(sides.test):,} others ({content.rule})."
            ),
        )


# --- files ---------------------------------------------------------------------------------------


def _open_file(path: Path, past: int | None, future: int | None, stride: int | None) -> Content:
    arrays = _load(path)
    first = next(iter(arrays.values()))
    for label, array in arrays.items():
        _check_layout(label, array)
        if array.shape[-3:] != first.shape[-3:] or array.dtype != first.dtype:
            raise ValueError(
                f"{path}: train is {arrays['train'].dtype} {arrays['train'].shape} and test "
                f"{arrays['test'].dtype} {arrays['test'].shape}; expected the same type and the "
                "same sizes but the first"
            )
        if array.ndim != first.ndim or (array.ndim == 5 and array.shape[1] != first.shape[1]):
            raise ValueError(
                f"{path}: train has the shape {arrays['train'].shape} and test "
                f"{arrays['test'].shape}; expected both [N, T, C, H, W] with one T, or both "
                "[T, C, H, W]"
            )
    if first.ndim == 5:
        if stride is not None:
            raise ValueError(
                f"{path} holds whole sequences, so stride={stride} has no effect; leave it out"
            )
        sides, rule = _split_sequences(path, arrays)
    else:
        recordings = {
            label: [Recording(label, 0, 0, array.shape[0])] for label, array in arrays.items()
        }
        sides, rule = _split_recordings(path, arrays, recordings, past, future, stride)
    scans = {label: _scan(label, array) for label, array in arrays.items()}
    return Content(
        sides,
        np.dtype(first.dtype),
        {label: scan.sha256 for label, scan in scans.items()},
        min(scan.low for scan in scans.values()),
        max(scan.high for scan in scans.values()),
        rule,
    )


def _load(path: Path) -> dict[str, Any]:
    """The only array of a file by the file's name, or its arrays `train` and `test`."""
    readers = {".npy": _load_numpy, ".npz": _load_numpy, ".zarr": _load_zarr}
    arrays = readers.get(path.suffix, _load_hdf5)(path)
    if len(arrays) == 1:
        return {path.name: next(iter(arrays.values()))}
    if arrays.keys() != {"train", "test"}:
        raise ValueError(
            f"{path} holds the arrays {sorted(arrays)}; expected one array, or 'train' and 'test'"
        )
    return {name: arrays[name] for name in ("train", "test")}


def _load_numpy(path: Path) -> dict[str, Any]:
    if path.suffix == ".npy":
        return {path.name: NumpyFile(path)}
    try:
        with np.load(path, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); expected numbers that numpy.save or numpy.savez "
            "wrote, without pickled objects"
        ) from error


def _load_hdf5(path: Path) -> dict[str, Any]:
    try:
        file = h5py.File(path, "r")  # stays open: its datasets are read from a batch at a time
    except OSError as error:
        raise ValueError(f"{path} cannot be read as HDF5 ({error}); write it again") from error
    found: dict[str, Any] = {}
    file.visititems(lambda name, x: found.update({name: x} if isinstance(x, h5py.Dataset) else {}))
    return found


def _load_zarr(path: Path) -> dict[str, Any]:
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path} needs the package zarr: pip install zarr") from error
    try:
        opened = zarr.open(str(path), mode="r")
    except (OSError, ValueError, KeyError, zarr.errors.BaseZarrError) as error:
        raise ValueError(f"{path} cannot be read as Zarr ({error}); write it again") from error
    if isinstance(opened, zarr.Array):
        return {path.name: opened}
    return dict(opened.arrays())


def _check_layout(label: str, array: Any) -> None:
    if array.ndim not in (4, 5) or 0 in array.shape:
        raise ValueError(
            f"{label} has the shape {array.shape}; expected sequences [N, T, C, H, W] or a "
            "recording [T, C, H, W], none of them 0 (gray frames have C = 1: array[:, :, None])"
        )
    _check_type(label, np.dtype(array.dtype))


def _check_type(label: str, dtype: np.dtype) -> None:
    if dtype != np.uint8 and (dtype.kind != "f" or dtype.itemsize > 8):
        raise ValueError(
            f"{label} has the type {dtype}; expected uint8, or float16, float32 or float64: "
            "convert it with array.astype"
        )


class Scan(NamedTuple):
    """What reading every value of an array tells."""

    sha256: str
    low: float
    high: float


def _scan(label: str, array: Any) -> Scan:
    """SHA-256 of shape, type and values, and their extremes, read in chunks.

    Raises ValueError for values that are not finite.
    """
    digest = hashlib.sha256(f"{array.shape} {np.dtype(array.dtype).str}".encode())
    low, high = np.inf, -np.inf
    rows = max(1, CHUNK_BYTES // (array.dtype.itemsize * int(np.prod(array.shape[1:]))))
    for start in range(0, array.shape[0], rows):
        chunk = np.ascontiguousarray(array[start : start + rows])
        least, most = float(chunk.min()), float(chunk.max())  # NaN if there is one
        if not (np.isfinite(least) and np.isfinite(most)):
            what = "sequences" if array.ndim == 5 else "frames"
            raise ValueError(
                f"{label} holds NaN or infinity in the {what} {start} to "
                f"{start + len(chunk) - 1}; expected finite values: fill or drop them"
            )
        low, high = min(low, least), max(high, most)
        digest.update(chunk.data)
    return Scan(digest.hexdigest(), low, high)


# --- folders -------------------------------------------------------------------------------------


def _open_folder(path: Path, past: int | None, future: int | None, stride: int | None) -> Content:
    recorded = _find_recordings(path)
    shape, dtype = _frame_of(*next(iter(recorded.items())))
    stored = np.uint8 if dtype == np.uint8 else np.float32
    files = [file for files in recorded.values() for file in files]

    def read(findings: Findings) -> Iterator[Block]:
        low, high = np.inf, -np.inf
        for name, files in recorded.items():
            number = 0
            for chunk in _read_recording(name, files):
                if chunk.shape[1:] != shape or chunk.dtype != dtype:
                    raise ValueError(
                        f"{path}: {name} has frames of {chunk.dtype} {chunk.shape[1:]}, and "
                        f"{next(iter(recorded))} of {dtype} {shape}; expected one size and type"
                    )
                scan = _scan(name, chunk)
                low, high = min(low, scan.low), max(high, scan.high)
                yield Block(name, number, chunk.astype(stored, copy=False))
                number += len(chunk)
        findings.facts.update(low=low, high=high)

    source = fingerprint(path, files, version=VERSION)
    prepared = prepare(cache_folder(path.name, path), source, read, shape, stored)
    divided = _is_divided(recorded)
    by_side: dict[str, list[Recording]] = {}
    for recording in prepared.recordings:
        side = recording.name.partition("/")[0] if divided else path.name
        by_side.setdefault(side, []).append(recording)
    by_side = {side: by_side[side] for side in sorted(by_side, reverse=True)}  # train before test
    arrays = dict.fromkeys(by_side, prepared.frames)
    sides, rule = _split_recordings(path, arrays, by_side, past, future, stride)
    return Content(
        sides,
        np.dtype(stored),
        {path.name: prepared.digest},
        prepared.facts["low"],
        prepared.facts["high"],
        rule,
    )


def _is_divided(recorded: Mapping[str, Any]) -> bool:
    return {name.partition("/")[0] for name in recorded} == {"train", "test"} and all(
        "/" in name for name in recorded
    )


def _find_recordings(path: Path) -> dict[str, list[Path]]:
    """Recordings below a folder by their relative path: one .npy file, or a folder's images."""
    found: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*"), key=_natural):
        if file.suffix == ".npy":
            found[str(file.relative_to(path).with_suffix(""))] = [file]
        elif file.suffix.lower() in IMAGES:
            found.setdefault(str(file.parent.relative_to(path)), []).append(file)
    if not found:
        raise ValueError(
            f"{path} holds no recording; expected .npy files of [T, C, H, W], or sub-folders of "
            f"images ({', '.join(IMAGES)})"
        )
    return found


def _natural(path: Path) -> list[tuple[int, str | int]]:
    """Sort key: frame9 before frame10."""
    return [(0, int(x)) if x.isdigit() else (1, x) for x in re.split(r"(\d+)", str(path)) if x]


def _frame_of(name: str, files: list[Path]) -> tuple[tuple[int, ...], np.dtype]:
    first = next(_read_recording(name, files[:1]))
    return first.shape[1:], first.dtype


def _read_recording(name: str, files: list[Path]) -> Iterator[np.ndarray]:
    """A recording's frames in chunks: [n, C, H, W]."""
    if files[0].suffix != ".npy":
        for file in files:
            yield _read_image(file)[None]
        return
    (array,) = _load_numpy(files[0]).values()
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(
            f"{files[0]} has the shape {array.shape}; expected a recording [T, C, H, W], none of "
            "them 0 (whole sequences [N, T, C, H, W] go into one file)"
        )
    _check_type(name, array.dtype)
    rows = max(1, CHUNK_BYTES // array[0].nbytes)
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _read_image(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            if image.mode not in ("L", "RGB"):
                raise ValueError(
                    f"{file} is an image of mode {image.mode}; expected 8-bit gray (L) or RGB: "
                    "convert it"
                )
            pixels = np.asarray(image)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(
            f"{file} cannot be read as an image ({error}); replace or remove it"
        ) from error
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


# --- sides ---------------------------------------------------------------------------------------


def _split_sequences(path: Path, arrays: Mapping[str, Any]) -> tuple[Sides, str]:
    """Training, validation and test sequences, the last tenths held out."""
    if len(arrays) == 2:
        rest, test_array = arrays["train"], arrays["test"]
        end, held_out = rest.shape[0], max(1, rest.shape[0] // ONE_IN)
        test = Sequences(test_array, 0, test_array.shape[0])
    else:
        (rest,) = arrays.values()
        held_out = max(1, rest.shape[0] // ONE_IN)
        end = rest.shape[0] - held_out
        test = Sequences(rest, end, rest.shape[0])
    if end <= held_out:
        raise ValueError(
            f"{path} leaves {end} sequences to train and validate on; expected at least 2: "
            "give more sequences"
        )
    sides = Sides(Sequences(rest, 0, end - held_out), Sequences(rest, end - held_out, end), test)
    return sides, "the last tenths of the sequences held out"


def _split_recordings(
    path: Path,
    arrays: Mapping[str, Any],
    recordings: Mapping[str, Sequence[Recording]],
    past: int | None,
    future: int | None,
    stride: int | None,
) -> tuple[Sides, str]:
    """Windows of the recordings of each side; no window lies on two sides."""
    if past is None or future is None:
        raise ValueError(
            f"{path} holds recordings, which are cut into windows; give --past and --future, in "
            "frames"
        )
    if past < 1 or future < 1:
        raise ValueError(f"past is {past} and future is {future}; expected positive numbers")
    stride = past + future if stride is None else stride
    first: Sequence[Recording] = next(iter(recordings.values()))  # all, or those for training
    rest, test = first, recordings.get("test", ())
    count = len(first) // ONE_IN
    by = "the last recordings held out" if count else "each recording's last frames held out"
    if len(recordings) == 1:
        rest, test = hold_out(first, count)
    rest, validation = hold_out(rest, count)
    parts = {"train": rest, "validation": validation, "test": test}
    sides = {}
    for side, of in parts.items():
        starts = cut(of, past + future, stride)
        if not len(starts):
            raise ValueError(
                f"{path}: no window of past={past} + future={future} frames fits into the "
                f"{sum(r.length for r in of)} frames for {side} ({by}); give longer recordings, or "
                "a smaller --past or --future"
            )
        frames = list(arrays.values())[-1 if side == "test" else 0]
        sides[side] = Windows(frames, starts)
    return Sides(**sides), f"windows of {past + future} frames, {stride} apart, {by}"


def hold_out(
    recordings: Sequence[Recording], count: int
) -> tuple[Sequence[Recording], Sequence[Recording]]:
    """Set the last `count` recordings apart, or, if 0, the last tenth of the frames of each."""
    if count:
        return recordings[:-count], recordings[-count:]
    rest, held = [], []
    for recording in recordings:
        tenth = max(1, recording.length // ONE_IN)
        kept = recording.length - tenth
        rest.append(recording._replace(length=kept))
        held.append(
            recording._replace(
                first=recording.first + kept, start=recording.start + kept, length=tenth
            )
        )
    return rest, held


def _range(
    path: Path, content: Content, data_range: float | Sequence[float] | None
) -> tuple[float, float]:
    """The values' smallest and largest possible value, as given; (0, 1) for uint8."""
    if content.type == np.uint8:
        if data_range is not None:
            raise ValueError(
                f"{path.name} is uint8 and divided by 255, so data_range={data_range} has no "
                "effect; leave it out, or store floats"
            )
        return 0.0, 1.0
    if data_range is None:
        raise ValueError(
            f"{path.name} holds {content.type} from {content.low:g} to {content.high:g}; give the "
            "range that its values can have: --data-range HIGH (from 0), or --data-range LOW HIGH"
        )
    given = (0.0, data_range) if isinstance(data_range, int | float) else tuple(data_range)
    if len(given) == 1:
        given = (0.0, given[0])
    if len(given) != 2 or not given[0] < given[1]:
        raise ValueError(
            f"data_range is {data_range}; expected the largest value, above 0, or the smallest and "
            "the largest"
        )
    low, high = map(float, given)
    if content.low < low or content.high > high:
        raise ValueError(
            f"{path.name} holds values from {content.low:g} to {content.high:g}; expected "
            f"{low:g} to {high:g}: scale them, or give a data_range that holds them"
        )
    return low, high


def _clip(path: Path, clips: Clips, past: int | None, future: int | None) -> Clip:
    if isinstance(clips, Windows):
        assert past is not None and future is not None
        channels, height, width = clips.array.shape[1:]
        return Clip(past, future, channels, height, width)
    _, frames, channels, height, width = clips.array.shape
    if past is None:
        past = frames // 2 if future is None else frames - future
    if future is None:
        future = frames - past
    if past < 1 or future < 1 or past + future > frames:
        raise ValueError(
            f"{path} has sequences of {frames} frames; past={past} and future={future} do not fit: "
            "expected positive numbers whose sum is no larger"
        )
    return Clip(past, future, channels, height, width)
