"""TaxiBJ (Zhang, Zheng, Qi, AAAI 2017), TrafficBJ in the TAU paper: taxi flow in 32x32 regions.

Two data sets that share frames but not their split, so scores on one do not compare with scores on
the other: `TaxiBJ` from the four official HDF5 files, split as in the TAU paper's Table 1, and
`TaxiBJReleased` from the .npz that was released with SimVP and OpenSTL.
"""

from __future__ import annotations

import datetime
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import h5py
import numpy as np

from benchmarks.data.cache import Block, Findings, Prepared
from benchmarks.data.dataset import Check
from benchmarks.data.hdf5 import check_dataset, each, find_object, open_hdf5, reading_hdf5
from benchmarks.data.originals import prepare_files, reading
from benchmarks.data.recordings import Recording, Windows, cut
from benchmarks.data.sources import File, Source, find, missing_files, visible
from benchmarks.data.stored import StoredDataset, smaller
from tau.predictor import Clip

FOLDERS = ("", "taxibj", "trafficbj", "TaxiBJ", "TaxiBJ/data", "taxibj/data")
YEARS = (13, 14, 15, 16)
FRAME = (2, 32, 32)  # inflow, outflow
SLOTS = 48  # half hours of a day
MOST_FRAMES = 366 * SLOTS  # of a file
MOST_FLOW = 1_000_000  # in half an hour and a region: the real files have up to LARGEST
TEST_DAYS = 28
VALIDATION_DAYS = 7
VERSION = 1  # of the reader; raise it when the frames it gives change

# Of the real files: frames stored, of complete days, gap-free runs, windows of 8, largest flow.
STORED = {13: 4888, 14: 4780, 15: 5596, 16: 7220}
COMPLETE, RUNS, LARGEST = 21_360, 57, 1292
TRAIN_WINDOWS, TEST_WINDOWS = 19_627, 1_334
RELEASED = {"train": 20_461, "test": 500}
MOST_WINDOWS = sum(STORED.values())  # of a split of the released file
REMEDY = "download it again"

MD5 = {
    13: "24cec8a5310d4982ffcee43c7aa3ad70",
    14: "bfe5144413e950207cad50999b3910ab",
    15: "70fa80fcb4441f2df18d3dde246dc5fb",
    16: "6592f29581f0ed5fc930d2c7f40f8e6f",
}


def h5_name(year: int) -> str:
    """Name of a year's official file."""
    return f"BJ{year}_M32x32_T30_InOut.h5"


def _patterns(name: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" if folder else name for folder in FOLDERS)


RELEASED_PATTERNS = (
    "taxibj-npz/**/dataset.npz",
    "trafficbj-npz/**/dataset.npz",
    *_patterns("dataset.npz"),
)


class Year(NamedTuple):
    """An official file: flow [N, 2, 32, 32], and each frame's half hour since 1970 [N]."""

    flow: np.ndarray
    slots: np.ndarray


def read_year(path: Path) -> Year:
    """Read and check BJxx_M32x32_T30_InOut.h5: `data` and `date` (yyyymmdd and slot 01 to 48).

    Raises ValueError, naming file and place, if it is not HDF5, lacks a dataset, has another shape
    or type, times that are not in order, or flow that is negative, not finite or far too large.
    """
    remedy = f"download {path.name} again"
    with open_hdf5(path, remedy) as file, reading_hdf5(path, remedy):
        flow, dates = (_dataset(path, file, name, remedy) for name in ("data", "date"))
        if (flow.shape or ())[1:] != FRAME or flow.dtype.kind not in "fiu":
            raise ValueError(
                f"{path}: data is {flow.dtype} {flow.shape}; expected numbers of the shape (N, 2, "
                f"32, 32); {remedy}"
            )
        if dates.shape != flow.shape[:1]:
            raise ValueError(
                f"{path} has {len(flow)} frames and dates of the shape {dates.shape}; expected one "
                f"date a frame; {remedy}"
            )
        if not 0 < len(flow) <= MOST_FRAMES:
            raise ValueError(
                f"{path} has {len(flow):,} frames; expected thousands, and at most a year's "
                f"{MOST_FRAMES:,}; {remedy}"
            )
        texts: list[str] = []
        slots: list[int] = []
        for date in each(dates):
            texts.append(_text(date))
            slots.append(_slot(path, texts[-1]))
        year = Year(flow[()], np.array(slots, np.int64))
    _check_order(path, year.slots, texts, remedy)
    _check_flow(path, year.flow, texts, remedy)
    return year


def _dataset(path: Path, file: h5py.File, name: str, remedy: str) -> h5py.Dataset:
    dataset = find_object(file, name, remedy)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(
            f"{path} has {sorted(file)[:9]}; expected the datasets 'data' and 'date'; {remedy}"
        )
    check_dataset(path, dataset, remedy)
    return dataset


def _check_order(path: Path, slots: np.ndarray, dates: Sequence[str], remedy: str) -> None:
    wrong = np.flatnonzero(np.diff(slots) <= 0)
    if len(wrong):
        first, then = (dates[i] for i in (wrong[0], wrong[0] + 1))
        problem = "repeats" if first == then else "is not later"
        raise ValueError(
            f"{path}: frame {wrong[0] + 1} has the date {then} after {first}, which {problem}; "
            f"expected dates in order, each once; {remedy}"
        )


def _check_flow(path: Path, flow: np.ndarray, dates: Sequence[str], remedy: str) -> None:
    if not (flow.min() >= 0 and flow.max() <= MOST_FLOW):  # not so for NaN
        bad = np.flatnonzero(~((flow >= 0) & (flow <= MOST_FLOW)).all(axis=(1, 2, 3)))[0]
        raise ValueError(
            f"{path}: the flow of {dates[bad]} (frame {bad}) holds values from {flow[bad].min()} "
            f"to {flow[bad].max()}; expected counts from 0 to about {LARGEST:,}; {remedy}"
        )


def _text(date: Any) -> str:
    return date.decode("ascii", "replace") if isinstance(date, bytes) else str(date)


def _slot(path: Path, text: str) -> int:
    """Half hours from 1970 to a date yyyymmddSS, where SS is 01 for 00:00 to 00:30."""
    try:
        if len(text) != 10:
            raise ValueError("not ten digits")
        day = datetime.date(int(text[:4]), int(text[4:6]), int(text[6:8]))
        slot = int(text[8:])
        if not 1 <= slot <= SLOTS:
            raise ValueError("no such slot")
    except ValueError as error:
        raise ValueError(
            f"{path} has the date {text[:20]!r} ({error}); expected yyyymmddSS with SS from 01 to "
            f"{SLOTS}"
        ) from error
    return (day.toordinal() - datetime.date(1970, 1, 1).toordinal()) * SLOTS + slot - 1


def complete_days(slots: np.ndarray) -> np.ndarray:
    """Which frames [N] (bool) belong to a day that has all 48 half hours."""
    days, places, counts = np.unique(slots // SLOTS, return_inverse=True, return_counts=True)
    del days
    complete: np.ndarray = (counts == SLOTS)[places]
    return complete


class Split(NamedTuple):
    """First frames of the windows of each split; `published_train` counts all before the test."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    published_train: int


def split_windows(
    recordings: Sequence[Recording],
    frames: int,
    past: int,
    future: int,
    test_days: int,
    validation_days: int,
) -> Split:
    """All gap-free windows, split by the day of their first future frame (see `TaxiBJ`).

    `frames` is the number of all frames; complete days only, so 48 are a day.
    """
    starts = cut(recordings, past + future, 1)
    target, ends = starts + past, starts + past + future
    test = frames - SLOTS * test_days
    validation = test - SLOTS * validation_days
    return Split(
        train=starts[(target < validation) & (ends <= validation)],
        validation=starts[(target >= validation) & (target < test)],
        test=starts[target >= test],
        published_train=int((target < test).sum()),
    )


class TaxiBJ(StoredDataset):
    """TaxiBJ as in the TAU paper: 4 frames to 4, [2, 32, 32], values in [0, 1].

    From the four official files BJ13 to BJ16. Incomplete days are dropped; a window of past +
    future frames never reaches over a gap or the end of a file. A window is for test if its first
    future frame lies in the last `test_days` complete days. On the real files this gives 19,627 and
    1,334 windows, the paper's Table 1; the authors do not state their rule, and no other rule that
    was tried gives these numbers. Up to future - 1 frames of a training window may lie in the test
    period. Flow is divided by the largest flow before that period.

    The published protocol validates on the test set. Here the windows whose first future frame
    lies in the seven days before the test period are for validation, and the training windows that
    share a frame with them are left out.

    Raises FileNotFoundError if `root` lacks a file, and ValueError as `read_year` does.
    """

    name = "taxibj"
    clip = Clip(4, 4, *FRAME)
    source: ClassVar[Source] = Source(
        name=name,
        title="TaxiBJ: taxi flow in Beijing, half-hourly, 2013 to 2016",
        licence="none stated; cite the paper",
        size="four HDF5 files, about 370 MB",
        needs=tuple(_patterns(h5_name(year)) for year in YEARS),
        files=tuple(File(f"taxibj/{h5_name(year)}", (), f"md5:{MD5[year]}") for year in YEARS),
        manual=(
            "The links that the authors gave (OneDrive "
            "https://1drv.ms/f/s!Akh6N7xv3uVmhOhDKwx3bm5zpHkDOQ, Baidu pan.baidu.com/s/1qYq7ja8) "
            "are reported dead. Ask a colleague or the authors for TaxiBJ's four .h5 files and put "
            "them into DIR/taxibj; `verify` knows their checksums. The other data set, "
            "taxibj-npz, can be downloaded."
        ),
    )

    def __init__(
        self,
        root: Path | None = None,
        *,
        past: int = 4,
        future: int = 4,
        downsample: int = 1,
        test_days: int = TEST_DAYS,
        validation_days: int = VALIDATION_DAYS,
    ) -> None:
        for name, value in (("test_days", test_days), ("validation_days", validation_days)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected a positive number of days")
        clip = Clip(past, future, *FRAME)
        smaller(clip, downsample)  # an error now, not after reading the files
        if root is None or self.source.missing(root):
            raise missing_files(self.source, root)
        paths = {year: find(root, FOLDERS, h5_name(year)) for year in YEARS}
        self._prepared = _prepare_years(root, {y: p for y, p in paths.items() if p}, test_days)
        frames = self._prepared.frames
        split = split_windows(
            self._prepared.recordings, len(frames), past, future, test_days, validation_days
        )
        self._split = split
        super().__init__(
            self.name,
            clip,
            train=Windows(frames, split.train),
            validation=Windows(frames, split.validation),
            test=Windows(frames, split.test),
            downsample=downsample,
            provenance={
                "frames_sha256": self._prepared.digest,
                "split": f"first future frame in the last {test_days} days",
                "validation_days": validation_days,
            },
            caption=(
                f"TaxiBJ: {split.published_train:,} training windows, of which "
                f"{len(split.train):,} are trained on and {len(split.validation):,} (the last "
                f"{validation_days} days) are for validation; tested on the {len(split.test):,} "
                f"whose first target lies in the last {test_days} days."
            ),
        )

    def checks(self) -> list[Check]:
        """Frames, runs, windows: what the real files give."""
        frames = self._prepared.frames
        largest = self._prepared.facts["largest flow"]
        return [
            Check("frames of complete days", COMPLETE, len(frames)),
            Check("gap-free runs", RUNS, len(self._prepared.recordings)),
            Check("largest flow", str(LARGEST), f"{largest:g}"),
            Check("training windows (Table 1)", TRAIN_WINDOWS, self._split.published_train),
            Check("test windows (Table 1)", TEST_WINDOWS, len(self._split.test)),
        ]


def _prepare_years(root: Path, paths: dict[int, Path], test_days: int) -> Prepared:
    def read(findings: Findings) -> Iterator[Block]:
        years = {year: read_year(path) for year, path in paths.items()}
        kept = {}
        for year, (flow, slots) in years.items():
            complete = complete_days(slots)
            if not complete.any():
                raise ValueError(f"{paths[year]} has no complete day; expected over a hundred")
            if dropped := int((~complete).sum()):
                findings.notes.append(f"BJ{year}: {dropped} frames of incomplete days left out")
            kept[year] = Year(flow[complete], slots[complete])
        total = sum(len(year.slots) for year in kept.values())
        train = total - SLOTS * test_days
        if train <= 0:
            raise ValueError(
                f"the files hold {total // SLOTS} complete days; expected more than the "
                f"{test_days} that are for test"
            )
        largest, before = 0.0, 0
        for flow, _ in kept.values():
            inside = flow[: max(0, train - before)]
            largest = max(largest, float(inside.max(initial=0)))
            before += len(flow)
        if not largest > 0:
            raise ValueError("there is no flow in the training days; expected counts up to 1292")
        findings.facts["largest flow"] = largest
        for year, (flow, slots) in kept.items():
            breaks = np.flatnonzero(np.diff(slots) != 1) + 1
            for part in np.split(np.arange(len(slots)), breaks):
                frames = (flow[part] / largest).astype(np.float32)
                yield Block(f"BJ{year}", int(slots[part[0]]), frames)

    return prepare_files(
        "taxibj",
        root,
        paths.values(),
        read,
        FRAME,
        np.float32,
        version=VERSION,
        test_days=test_days,
    )


class TaxiBJReleased(StoredDataset):
    """TaxiBJ as released with SimVP and OpenSTL: dataset.npz, cut at 500 test windows.

    X_train, Y_train, X_test, Y_test of [N, 4, 2, 32, 32] in [-1, 1]; values become (x + 1) / 2.
    20,461 training windows and 500 test windows on the real file: the windows of `TaxiBJ`, split
    elsewhere, so its numbers are comparable with OpenSTL's and not with the paper's. The last 336
    training windows (7 days), or a tenth if that is less, are for validation, and the 7 before
    them, which share frames with them, are left out.

    One preparation of these data stores windows reversed in time, which would make a model predict
    the past. Where neighbouring windows overlap, their order tells; reversed ones are refused.

    Raises FileNotFoundError if `root` lacks the file, ValueError if it is not such a file.
    """

    name = "taxibj-npz"
    clip = Clip(4, 4, *FRAME)
    source: ClassVar[Source] = Source(
        name=name,
        title="TaxiBJ as released with SimVP and OpenSTL, another split",
        licence="none stated; cite the paper",
        size="one .npz, about 1.3 GB unpacked",
        needs=(RELEASED_PATTERNS,),
        files=(
            File(
                "taxibj_dataset.zip",
                (
                    "https://github.com/chengtan9907/OpenSTL/releases/download/v0.1.0/"
                    "taxibj_dataset.zip",
                ),
                unpack="taxibj-npz",
            ),
        ),
    )

    def __init__(self, root: Path | None = None, *, downsample: int = 1) -> None:
        if root is None or self.source.missing(root):
            raise missing_files(self.source, root)
        path = next(path for pattern in RELEASED_PATTERNS for path in visible(root, pattern))
        clip = self.clip
        smaller(clip, downsample)  # an error now, not after reading the file

        def read(findings: Findings) -> Iterator[Block]:
            return _read_released(path, findings)

        self._prepared = prepare_files(
            "taxibj-npz", root, [path], read, FRAME, np.float32, version=VERSION
        )
        starts = {
            split: cut(
                [r for r in self._prepared.recordings if r.name == split], clip.frames, clip.frames
            )
            for split in ("train", "test")
        }
        windows = starts["train"]
        held_out = min(SLOTS * VALIDATION_DAYS, len(windows) // 10)
        gap = clip.frames - 1
        self._counts = {split: len(at) for split, at in starts.items()}
        splits = {
            "train": windows[: max(0, len(windows) - held_out - gap)],
            "validation": windows[len(windows) - held_out :],
            "test": starts["test"],
        }
        frames = self._prepared.frames
        super().__init__(
            self.name,
            clip,
            train=Windows(frames, splits["train"]),
            validation=Windows(frames, splits["validation"]),
            test=Windows(frames, splits["test"]),
            downsample=downsample,
            provenance={"frames_sha256": self._prepared.digest, "split": "as released"},
            caption=(
                f"TaxiBJ as released in dataset.npz (not the paper's split): "
                f"{self._counts['train']:,} training windows, of which {len(splits['train']):,} "
                f"are trained on and {held_out:,} are for validation; tested on "
                f"{self._counts['test']:,}."
            ),
        )

    def checks(self) -> list[Check]:
        """Windows of both splits, as in the released file."""
        return [
            Check(f"{split} windows", RELEASED[split], self._counts[split])
            for split in ("train", "test")
        ]


def _read_released(path: Path, findings: Findings) -> Iterator[Block]:
    """Windows of an .npz, a few hundred at a time: the arrays are larger than they need be."""
    with reading(path, ".npz", REMEDY), zipfile.ZipFile(path) as archive:
        for split in ("train", "test"):
            yield from _read_split(path, archive, split, findings)


def _read_split(
    path: Path, archive: zipfile.ZipFile, split: str, findings: Findings
) -> Iterator[Block]:
    names = [f"X_{split}", f"Y_{split}"]
    for name in names:
        if f"{name}.npy" not in archive.namelist():
            found = sorted(n.removesuffix(".npy") for n in archive.namelist())
            raise ValueError(
                f"{path} holds {found[:9]}; expected X_train, Y_train, X_test and Y_test; {REMEDY}"
            )
    with archive.open(f"{names[0]}.npy") as x, archive.open(f"{names[1]}.npy") as y:
        past, future = (
            _Array(path, name, file, archive.getinfo(f"{name}.npy").file_size)
            for name, file in zip(names, (x, y), strict=True)
        )
        if past.count != future.count:
            raise ValueError(
                f"{path}: {names[0]} has {past.count} windows and {names[1]} {future.count}; "
                "expected as many"
            )
        forward = backward = place = 0
        last: np.ndarray | None = None
        while place < past.count:
            windows = np.concatenate([past.read(256), future.read(256)], axis=1)
            chain = windows if last is None else np.concatenate([last, windows])
            forward += _overlaps(chain[:-1, 1], chain[1:, 0])
            backward += _overlaps(chain[:-1, 0], chain[1:, 1])
            last = windows[-1:]
            yield Block(split, 8 * place, windows.reshape(-1, *FRAME))
            place += len(windows)
    if backward > forward:
        raise ValueError(
            f"{path}: in {names[0]} each window's second frame is the first frame of the window "
            "before it, so its windows run backwards in time and a model would learn the past; "
            "use the released file, or reverse them: X, Y = Y[:, ::-1], X[:, ::-1]"
        )
    if not forward:
        findings.notes.append(
            f"the windows of {names[0]} do not overlap: whether time runs forward is not known"
        )


def _overlaps(one: np.ndarray, other: np.ndarray) -> int:
    return int((one == other).all(axis=(1, 2, 3)).sum())


class _Array:
    """An array [N, 4, 2, 32, 32] in [-1, 1] inside an archive, read from its start.

    Raises ValueError for another array, one that is not as long as it says, or other values.
    """

    def __init__(self, path: Path, name: str, file: IO[bytes], size: int) -> None:
        self._file, self._what = file, f"{path}: {name}"
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{self._what} has the .npy format {version}; expected (1, 0)")
        shape, fortran, self._dtype = np.lib.format.read_array_header_1_0(file)
        wanted = (4, *FRAME)
        if shape[1:] != wanted or fortran or self._dtype.kind != "f":
            raise ValueError(
                f"{self._what} is {self._dtype} {shape}; expected floats of the shape "
                "(N, 4, 2, 32, 32)"
            )
        self.count = self._left = int(shape[0])
        self._window = math.prod(wanted) * self._dtype.itemsize  # in bytes
        if self.count > MOST_WINDOWS or self.count * self._window != size - file.tell():
            raise ValueError(
                f"{self._what} says it has {self.count:,} windows, in {size:,} bytes; expected "
                f"thousands, and {self._window:,} bytes for each; {REMEDY}"
            )

    def read(self, windows: int) -> np.ndarray:
        """The next windows, float32 in [0, 1]."""
        data = self._file.read(min(windows, self._left) * self._window)
        raw = np.frombuffer(data, self._dtype).astype(np.float32)
        values = ((raw + 1) / 2).reshape(-1, 4, *FRAME)
        if not (values.min() >= 0 and values.max() <= 1):  # not so for NaN
            raise ValueError(f"{self._what} holds values outside -1 to 1; {REMEDY}")
        self._left -= windows
        return values
