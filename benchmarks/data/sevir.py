"""SEVIR (Veillette et al., NeurIPS 2020): vertically integrated liquid (VIL) over storms in the US.

An event is a film of 384 x 384 km, 49 frames 5 minutes apart, stored whole in an HDF5 file with the
time as its last axis. Events are read from there: the set is too large to be kept twice.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

import h5py
import numpy as np

from benchmarks.data.dataset import Check
from benchmarks.data.formats import HDF5File
from benchmarks.data.generated import MovingTextures
from benchmarks.data.hdf5 import check_dataset, find_object, open_hdf5, reading_hdf5
from benchmarks.data.originals import check_readable
from benchmarks.data.sources import File, Source, find, missing_files, visible
from benchmarks.data.stored import StoredDataset, smaller
from benchmarks.files import sha256
from tau.predictor import Clip

CATALOGUE = "CATALOG.csv"
COLUMNS = ("id", "file_name", "file_index", "img_type", "time_utc", "pct_missing")
KIND = "vil"
MISSING = 255  # the code of a pixel without a value; others are from 0 to 254
VALUE_RANGE = (0.0, 255.0)
SPLITS = ("train", "validation", "test")
ENDS = (datetime.datetime(2019, 1, 1), datetime.datetime(2019, 6, 1))  # of the first two, inclusive
EVENTS = {"train": 11_906, "validation": 3_020, "test": 4_053}  # in the field, a third of its clips
REMEDY = "delete it and download it again"
URL = "https://sevir.s3.amazonaws.com"
PERIODS = {
    "STORMEVENTS": ("0101_0630", "0701_1231"),
    "RANDOMEVENTS": ("0101_0430", "0501_0831", "0901_1231"),
}
FILES = tuple(  # random events begin in May 2017
    f"{KIND}/{year}/SEVIR_VIL_{which}_{year}_{period}.h5"
    for year in (2017, 2018, 2019)
    for which, periods in PERIODS.items()
    for period in (periods[1:] if (which, year) == ("RANDOMEVENTS", 2017) else periods)
)


class Event(NamedTuple):
    """An event of the catalogue: its id, file, and row in the file's array."""

    id: str
    file: str
    row: int


class Catalogue(NamedTuple):
    """Events by split, and how many rows were left out: some pixel missing, or an id repeated."""

    events: Mapping[str, Sequence[Event]]
    incomplete: int
    repeated: int


def read_catalogue(path: Path) -> Catalogue:
    """The VIL events of CATALOG.csv, in its order, split by their time (UTC).

    Left out, as in the public loaders, are events with a missing pixel (pct_missing is not 0), and
    then those whose id another event of the split has. Raises ValueError that names the file and
    line for a catalogue that is damaged or lacks a column.
    """
    found: dict[str, list[Event]] = {split: [] for split in SPLITS}
    incomplete = 0
    with check_readable(path).open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        try:
            if lacking := [name for name in COLUMNS if name not in (lines.fieldnames or ())]:
                raise ValueError(f"it lacks the columns {', '.join(lacking)}")
            for line in lines:
                if None in line.values() or None in line:
                    raise ValueError("it has more or fewer columns than the first")
                if line["img_type"] != KIND:
                    continue
                if not line["pct_missing"] or float(line["pct_missing"]) != 0:
                    incomplete += 1
                else:
                    found[_split(line["time_utc"])].append(_event(line))
        except (ValueError, csv.Error) as error:
            raise ValueError(
                f"{path} cannot be read as SEVIR's catalogue (line {lines.line_num}: {error}); "
                f"{REMEDY}"
            ) from error
    repeated = 0
    for split, events in found.items():
        counts = Counter(event.id for event in events)
        found[split] = [event for event in events if counts[event.id] == 1]
        repeated += len(events) - len(found[split])
    return Catalogue(found, incomplete, repeated)


def _event(line: Mapping[str, str]) -> Event:
    event = Event(line["id"], line["file_name"], int(line["file_index"]))
    path = PurePosixPath(event.file)
    if event.row < 0 or not path.name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"no event is in row {event.row} of {event.file!r}")
    return event


def _split(time: str) -> str:
    """The split of an event at a time such as 2019-06-01 00:00:00."""
    try:
        at = datetime.datetime.fromisoformat(time).replace(tzinfo=None)
    except ValueError as error:
        raise ValueError(f"time_utc is {time!r}; expected yyyy-mm-dd hh:mm:ss") from error
    return SPLITS[sum(at > end for end in ENDS)]


def open_events(path: Path, shape: tuple[int, ...], events: Sequence[Event]) -> HDF5File:
    """The array `vil` of a file, uint8 [N, *shape], in which all `events` are.

    Raises ValueError that names the file if it has another shape or type, or lacks an event; where
    the file has an array `id`, it must have the events' ids.
    """
    remedy = f"delete {path.name} and download it again"
    with open_hdf5(path, remedy) as file, reading_hdf5(path, remedy):
        vil, ids = (find_object(file, name, remedy) for name in (KIND, "id"))
        if not isinstance(vil, h5py.Dataset) or vil.shape is None:
            raise ValueError(
                f"{path} has {sorted(file)[:9]}; expected the array {KIND!r}; {remedy}"
            )
        if vil.dtype != np.uint8 or vil.shape[1:] != shape:
            raise ValueError(
                f"{path}: {KIND} is {vil.dtype} {vil.shape}; expected uint8 (N, "
                f"{', '.join(map(str, shape))}); {remedy}"
            )
        if (last := max(event.row for event in events)) >= len(vil):
            raise ValueError(
                f"{path} has {len(vil)} events, and the catalogue names row {last}; {remedy}"
            )
        if isinstance(ids, h5py.Dataset):
            check_dataset(path, ids, remedy)
            if ids.shape != vil.shape[:1]:
                raise ValueError(
                    f"{path} has {len(vil)} events and ids of the shape {ids.shape}; {remedy}"
                )
            _check_ids(path, ids[()], events)
    return HDF5File(path, KIND)


def _check_ids(path: Path, names: np.ndarray, events: Sequence[Event]) -> None:
    for event in events:
        name = names[event.row]
        found = name.decode("latin-1") if isinstance(name, bytes) else str(name)
        if found != event.id:
            raise ValueError(
                f"{path}: row {event.row} is the event {found!r}, and {event.id!r} in the "
                f"catalogue; download {path.name} and {CATALOGUE} again"
            )


class EventWindows:
    """Windows of events: of each event in turn, one from each of the frames `starts`.

    `files` hold events [N, H, W, T]; `places` [E, 2] are the file and row of each event. One event
    at a time is read. Pixels without a value become 0.
    """

    def __init__(
        self, files: Sequence[HDF5File], places: np.ndarray, starts: Sequence[int]
    ) -> None:
        self.files, self.places, self.starts = files, places, starts

    def __len__(self) -> int:
        return len(self.places) * len(self.starts)

    def read(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """The first `length` frames of the windows in `index`: [B, length, 1, H, W] uint8."""
        height, width = self.files[0].shape[1:3]
        out = np.empty((len(index), length, 1, height, width), np.uint8)
        read: tuple[int, int] | None = None
        for i in np.argsort(index, kind="stable"):  # windows of one event follow each other
            number, window = divmod(int(index[i]), len(self.starts))
            file, row = place = (int(self.places[number, 0]), int(self.places[number, 1]))
            if place != read:
                event, read = self.files[file][row], place
            start = self.starts[window]
            out[i, :, 0] = np.moveaxis(event[..., start : start + length], -1, 0)
        out[out == MISSING] = 0
        return out

    def stretches(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """Places [N, 2] of the first and last frame, as if each event followed the one before."""
        event, window = np.divmod(np.asarray(index), len(self.starts))
        first = event * self.files[0].shape[3] + np.asarray(self.starts)[window]
        return np.stack([first, first + length - 1], axis=1)

    def check_unchanged(self) -> None:
        """Raise ChangedError if a file is no longer what it was."""
        for file in self.files:
            file.check_unchanged()


class SEVIR(StoredDataset):
    """SEVIR's VIL: 13 frames to 12, 5 minutes apart, [1, 384, 384], values 0 to 254 of 255.

    An event gives three windows, which begin 12 frames after each other. Events after 1 June 2019
    are for test, as in the whole field; those from 2019 before are for validation, the others for
    training, as in Earthformer (Gao et al., NeurIPS 2022). Which events are left out is told by
    `read_catalogue`. Pixels that are missing all the same (255) count as 0. As in the files, a
    frame's first row is its south edge.

    `root` or its folder sevir holds CATALOG.csv, and the files that it names, in data or beside it.
    Frames are read from these as they are needed. Raises FileNotFoundError if files are missing,
    and ValueError as `read_catalogue` and `open_events` do.
    """

    name = "sevir"
    clip = Clip(13, 12, 1, 384, 384)
    is_prepared = False
    title: ClassVar[str] = "SEVIR VIL"
    event_frames: ClassVar[int] = 49
    source: ClassVar[Source] = Source(
        name=name,
        title="SEVIR VIL: radar of storms in the US, 2017 to 2019",
        licence="no restrictions on the use (AWS Open Data registry); cite the paper",
        size=f"{CATALOGUE} and {len(FILES)} HDF5 files, over 100 GB",
        needs=(
            (f"sevir/{CATALOGUE}", CATALOGUE),
            tuple(
                f"{folder}{KIND}/*/SEVIR_VIL_*.h5"
                for folder in ("sevir/data/", "sevir/", "data/", "")
            ),
        ),
        files=(
            File(f"sevir/{CATALOGUE}", (f"{URL}/{CATALOGUE}",)),
            *(File(f"sevir/data/{name}", (f"{URL}/data/{name}",)) for name in FILES),
        ),
        manual=(
            "`aws s3 cp --no-sign-request --recursive s3://sevir/data/vil DIR/sevir/data/vil` "
            f"gets the same files in parallel, and s3://sevir/{CATALOGUE} goes to DIR/sevir."
        ),
    )

    def __init__(
        self, root: Path | None = None, *, past: int = 13, future: int = 12, downsample: int = 1
    ) -> None:
        shape = type(self).clip.height, type(self).clip.width
        clip = Clip(past, future, 1, *shape)
        smaller(clip, downsample)  # an error now, not after reading the catalogue
        if clip.frames > self.event_frames:
            raise ValueError(
                f"past and future are {clip.frames} frames; an event has {self.event_frames}"
            )
        if root is None or self.source.missing(root):
            raise missing_files(self.source, root)
        path = next(p for pattern in self.source.needs[0] for p in visible(root, pattern))
        catalogue = read_catalogue(path)
        self._counts = {split: len(events) for split, events in catalogue.events.items()}
        files = self._open_files(root, path.parent, catalogue, (*shape, self.event_frames))
        numbers = {name: number for number, name in enumerate(files)}
        starts = range(0, self.event_frames - clip.frames + 1, future)
        splits = {
            split: EventWindows(
                list(files.values()),
                np.array([(numbers[e.file], e.row) for e in events], np.int32).reshape(-1, 2),
                starts,
            )
            for split, events in catalogue.events.items()
        }
        sizes = {name: file.stamp.size for name, file in files.items()}
        made_of = json.dumps([dict(catalogue.events), sizes], sort_keys=True)
        super().__init__(
            self.name,
            clip,
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            downsample=downsample,
            provenance={
                "catalogue_sha256": sha256(path),
                "events_sha256": hashlib.sha256(made_of.encode()).hexdigest(),
                "split": "by time: to 2019-01-01, to 2019-06-01, after",
            },
            caption=self._caption(catalogue, splits),
        )
        self.value_range = VALUE_RANGE

    def checks(self) -> list[Check]:
        """Events of each split: what the real catalogue gives."""
        return [
            Check(f"{split} events", EVENTS[split], count) for split, count in self._counts.items()
        ]

    def _open_files(
        self, root: Path, base: Path, catalogue: Catalogue, shape: tuple[int, ...]
    ) -> dict[str, HDF5File]:
        """The files of all events, by their names in the catalogue."""
        events: dict[str, list[Event]] = {}
        for of_split in catalogue.events.values():
            for event in of_split:
                events.setdefault(event.file, []).append(event)
        paths = {name: find(base, ("data", ""), name) for name in events}
        packed = any(file.unpack for file in self.source.files) if self.source else False
        unpacked = f", once {base} is moved away" * packed
        if missing := [name for name, path in paths.items() if path is None]:
            raise FileNotFoundError(
                f"{len(missing)} of the {len(events)} files that {base / CATALOGUE} names are not "
                f"in {base / 'data'}: {missing[0]}{', ...' * (len(missing) > 1)}; `python -m "
                f"benchmarks.data download {self.name} --data {root}` gets them{unpacked}"
            )
        return {
            name: open_events(path, shape, events[name])
            for name, path in paths.items()
            if path is not None
        }

    def _caption(self, catalogue: Catalogue, splits: Mapping[str, EventWindows]) -> str:
        return (
            f"{self.title}: trained on {len(splits['train']):,} windows of events until 1 January "
            f"2019, {len(splits['validation']):,} until 1 June 2019 for validation; tested on "
            f"{len(splits['test']):,} of later events. {catalogue.incomplete:,} events with "
            f"missing pixels and {catalogue.repeated:,} with repeated ids are left out."
        )


class SEVIRLowRes(SEVIR):
    """SEVIR-LR, as released with Earthformer: 7 frames to 6, 10 minutes apart, [1, 128, 128].

    The events and splits of `SEVIR`, an event's 25 frames reduced to pixels of 3 km: by the largest
    of each 3x3 pixels, if public code for it is what was run, while `SEVIR(downsample=3)` averages.
    Three windows of an event begin 6 frames after each other. `root` holds the folder sevir_lr.
    """

    name = "sevir-lr"
    clip = Clip(7, 6, 1, 128, 128)
    title = "SEVIR-LR VIL"
    event_frames = 25
    source: ClassVar[Source] = Source(
        name=name,
        title="SEVIR-LR: SEVIR's VIL at 128x128 pixels and every 10 minutes",
        licence=SEVIR.source.licence,
        size="one zip; the size is not published",
        needs=(
            (f"sevir_lr/**/{CATALOGUE}", f"sevirlr/{CATALOGUE}"),
            (f"sevir_lr/**/{KIND}/*/SEVIR_VIL_*.h5", f"sevirlr/**/{KIND}/*/SEVIR_VIL_*.h5"),
        ),
        files=(
            File(
                "sevir_lr.zip",
                ("https://deep-earth.s3.amazonaws.com/datasets/sevir_lr.zip",),
                unpack="sevir_lr",
            ),
        ),
    )

    def __init__(
        self, root: Path | None = None, *, past: int = 7, future: int = 6, downsample: int = 1
    ) -> None:
        super().__init__(root, past=past, future=future, downsample=downsample)


class SyntheticSEVIR(MovingTextures):
    """Stand-in for SEVIR; `downsample` makes the textures' frames smaller, not their waves."""

    real: ClassVar[type[SEVIR]] = SEVIR
    value_range = VALUE_RANGE

    def __init__(
        self, *, past: int | None = None, future: int | None = None, downsample: int = 1
    ) -> None:
        clip = smaller(self.real.clip, downsample)
        super().__init__(self.real.name, clip, past=past, future=future)


class SyntheticSEVIRLowRes(SyntheticSEVIR):
    """Stand-in for SEVIR-LR."""

    real = SEVIRLowRes


SEVIR.stand_in, SEVIRLowRes.stand_in = SyntheticSEVIR, SyntheticSEVIRLowRes
