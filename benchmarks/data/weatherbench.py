"""WeatherBench at 5.625 degrees (Rasp et al., JAMES 2020): hourly ERA5 on a grid of 32x64.

Frames are scaled by ranges that are fixed for each variable and hold for every year: those of the
training years would leave extremes of the test years outside [0, 1], and the metric of one variable
among several could not know them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.array_file import ArrayFile
from benchmarks.data.cache import Block, Findings, Prepared
from benchmarks.data.dataset import Check
from benchmarks.data.originals import prepare_files
from benchmarks.data.recordings import Recording, Windows, cut
from benchmarks.data.sources import File, Source, find, missing_files
from benchmarks.data.stored import StoredDataset
from benchmarks.data.weather_files import (
    GRID,
    Variable,
    first_hour,
    open_year,
    read_frames,
    shared_range,
)
from tau.predictor import Clip

CHUNK = 1_000  # frames that are read at a time for their mean
VERSION = 1  # of the reader; raise it when the frames it gives change
SPLITS = ("train", "validation", "test")
Years = tuple[int, int]  # the first and the last

# The ranges hold what ERA5 has, with room to spare: humidity is negative or above 100 % here and
# there, from interpolation and over ice.
T2M = Variable("2m_temperature", "t2m", 170, 340, "K")
U10 = Variable("10m_u_component_of_wind", "u10", -75, 75, "m/s")
V10 = Variable("10m_v_component_of_wind", "v10", -75, 75, "m/s")
TCC = Variable("total_cloud_cover", "tcc", 0, 1, "fraction")
R = Variable("relative_humidity", "r", -50, 200, "%")
T = Variable("temperature", "t", 170, 340, "K")
U = Variable("u_component_of_wind", "u", -150, 150, "m/s")
V = Variable("v_component_of_wind", "v", -150, 150, "m/s")


def _source(name: str, title: str, variables: Sequence[Variable], size: str) -> Source:
    """Where the files of some variables come from."""
    place = "https://dataserv.ub.tum.de/s/m1524895/download?path=%2F5.625deg%2F"
    return Source(
        name=name,
        title=f"WeatherBench at 5.625 degrees: {title}",
        licence="CC BY 4.0 as reported, see the download page; ERA5: Copernicus terms",
        size=size,
        needs=tuple(v.patterns(f"{v.folder}_*_5.625deg.nc") for v in variables),
        files=tuple(
            File(
                f"weatherbench/{v.folder}_5.625deg.zip",
                (f"{place}{v.folder}&files={v.folder}_5.625deg.zip",),
                unpack=f"weatherbench/{v.folder}",
            )
            for v in variables
        ),
        manual=(
            "If the link fails: https://mediatum.ub.tum.de/1524895 has the zip of each variable, "
            "and rsync. Put its files, one a year, into DIR/weatherbench/VARIABLE. No checksums "
            "are published."
        ),
    )


class SpacedWindows(Windows):
    """Sequences of the frames at `offsets` from the places `starts` [N] in frames [F, C, H, W]."""

    def __init__(self, frames: ArrayFile, starts: np.ndarray, offsets: Sequence[int]) -> None:
        super().__init__(frames, starts)
        self.offsets = [offset - offsets[0] for offset in offsets]

    def read(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """The first `length` frames of the windows in `index`: [B, length, C, H, W]."""
        offsets = self.offsets[:length]
        return super().read(index, offsets[-1] + 1)[:, offsets]

    def stretches(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """Places [N, 2] of the first and last frame; weather goes on between frames."""
        return super().stretches(index, self.offsets[:length][-1] + 1)


class WeatherBench(StoredDataset):
    """Fields of ERA5, [C, 32, 64], rows from south to north: 12 hours to the next 12.

    A subclass states `variables`, `clip`, the `step` in hours, and `offsets` where the frames of a
    window do not follow each other. Windows are those of OpenSTL's loader, one step apart and also
    over new year: the last hour of each split's years is left out, and the last window of the rest.
    OpenSTL validates on its test years; here the year between is for validation.

    Variables of one unit are scaled by one range, which is `value_range`. Of several units, each
    variable is scaled by its own, and `value_range` is (0, 1). OpenSTL instead takes (x - mean) /
    std of each channel of the training years.

    `train_years`, `validation_years` and `test_years` are pairs, the first and the last. Raises
    FileNotFoundError if `root` lacks a file, and ValueError as `open_year` and `read_frames` do.
    """

    variables: ClassVar[tuple[Variable, ...]]
    step: ClassVar[int] = 1
    offsets: ClassVar[tuple[int, ...]] = ()
    counts: ClassVar[tuple[int, int, int]] = (52_559, 8_759, 17_495)  # windows of the real files

    def __init__(
        self,
        root: Path | None = None,
        *,
        past: int = 12,
        future: int = 12,
        train_years: Years = (2010, 2015),
        validation_years: Years = (2016, 2016),
        test_years: Years = (2017, 2018),
    ) -> None:
        periods = {"train": train_years, "validation": validation_years, "test": test_years}
        _check_years(periods)
        clip = Clip(past, future, self.clip.channels, *GRID)
        offsets = self.offsets or tuple(range(1 - clip.past, clip.future + 1))
        self._prepared = _prepare(self, root, periods)
        self._train_frames = _inside(self._prepared.recordings, train_years, self.step)
        starts = {
            split: _starts(self._prepared.recordings, years, self.step, offsets)
            for split, years in periods.items()
        }
        windows = {
            split: SpacedWindows(self._prepared.frames, places, offsets)
            for split, places in starts.items()
        }
        hours = _hours_of(offsets, clip.past, self.step)
        told = {split: "-".join(map(str, sorted({*years}))) for split, years in periods.items()}
        counted = ", ".join(
            f"{len(starts[split]):,} windows of {told[split]} for {split}" for split in periods
        )
        super().__init__(
            self.name,
            clip,
            train=windows["train"],
            validation=windows["validation"],
            test=windows["test"],
            value_range=shared_range(self.variables) or (0.0, 1.0),
            provenance={
                "frames_sha256": self._prepared.digest,
                "hours": hours,
                **{f"{split}_years": years for split, years in told.items()},
            },
            caption=(
                f"WeatherBench at 5.625 degrees, {_in_words(self.variables)}: {hours}; {counted}."
            ),
        )
        self.notes = self._prepared.notes

    def climatology(self) -> NDArray[np.float64]:
        """The mean frame of the training years, every hour of which counts once."""
        total = np.zeros((self.clip.channels, *GRID))
        for recording in self._train_frames:
            end = recording.start + recording.length
            for start in range(recording.start, end, CHUNK):
                frames = self._prepared.frames[start : min(start + CHUNK, end)]
                total += frames.sum(0, dtype=np.float64)
        low, high = self.value_range
        mean = total / sum(recording.length for recording in self._train_frames)
        return (mean - low) / (high - low)

    def checks(self) -> list[Check]:
        """Windows of each split: what the real files give."""
        splits = (self._train, self._validation, self._test)
        return [
            Check(f"{split} windows", expected, len(found))
            for split, expected, found in zip(SPLITS, self.counts, splits, strict=True)
        ]


def _check_years(periods: Mapping[str, Years]) -> None:
    for split, (first, last) in periods.items():
        if not 1900 <= first <= last <= 2100:
            raise ValueError(f"{split}_years are {(first, last)}; expected the first and the last")
    for (one, a), (other, b) in combinations(periods.items(), 2):
        if a[0] <= b[1] and b[0] <= a[1]:
            raise ValueError(f"{one}_years {a} and {other}_years {b} overlap; expected years apart")


def _in_words(variables: Sequence[Variable]) -> str:
    """Names, levels and ranges, for a caption."""
    told = []
    for v in variables:
        levels = f" at {', '.join(map(str, v.levels))} hPa" if v.levels else ""
        told.append(f"{v.name}{levels} (from {v.low:g} to {v.high:g} {v.unit})")
    return ", ".join(told)


def _hours_of(offsets: Sequence[int], past: int, step: int) -> str:
    """The hours of a window's frames in words."""
    hours = [offset * step for offset in offsets]
    inputs, targets = (
        f"{of[0]} to {of[-1]}" if len(of) > 4 else ", ".join(map(str, of))
        for of in (hours[:past], hours[past:])
    )
    return f"inputs at hours {inputs}, targets at hours {targets}"


def _starts(
    recordings: Iterable[Recording], years: Years, step: int, offsets: Sequence[int]
) -> np.ndarray:
    """Places of the first frames of a split's windows, by the released rule (`WeatherBench`)."""
    inside = _inside(recordings, years, step)
    return cut(inside, offsets[-1] - offsets[0] + 1, 1)[:-1]


def _inside(recordings: Iterable[Recording], years: Years, step: int) -> list[Recording]:
    """The parts of recordings that lie in these years, without their last hour."""
    first = first_hour(years[0]) // step
    end = -(-(first_hour(years[1] + 1) - 1) // step)
    inside = []
    for recording in recordings:
        a, b = max(recording.first, first), min(recording.first + recording.length, end)
        if a < b:
            start = recording.start + a - recording.first
            inside.append(Recording(recording.name, a, start, b - a))
    return inside


def _prepare(dataset: WeatherBench, root: Path | None, periods: Mapping[str, Years]) -> Prepared:
    assert dataset.source is not None
    if root is None or dataset.source.missing(root):
        raise missing_files(dataset.source, root)
    variables, step = dataset.variables, dataset.step
    years = sorted(y for first, last in periods.values() for y in range(first, last + 1))
    paths: dict[tuple[int, Variable], Path] = {}
    lost = []
    for year, variable in product(years, variables):
        path = find(root, variable.folders, variable.file(year))
        if path is None:
            lost.append(variable.file(year))
        else:
            paths[year, variable] = path
    if lost:
        more = f" and {len(lost) - 3} more" * (len(lost) > 3)
        raise FileNotFoundError(
            f"{dataset.name} needs {', '.join(lost[:3])}{more}; {root} lacks them. Put them there, "
            "or move the variable's folder away: then `python -m benchmarks.data download "
            f"{dataset.name} --data {root}` gets every year"
        )

    def read(findings: Findings) -> Iterator[Block]:
        for year in years:
            opened = [open_year(paths[year, v], v, year) for v in variables]
            whole = first_hour(year + 1) - first_hour(year)
            if (found := len(opened[0].hours)) < whole:
                findings.notes.append(f"{year} has {found:,} of {whole:,} hours")
            yield from read_frames(opened, variables, step)

    return prepare_files(
        dataset.name,
        root,
        paths.values(),
        read,
        (dataset.clip.channels, *GRID),
        np.float32,
        version=VERSION,
        step=step,
        variables=repr(variables),
        years=repr(years),
    )


class WeatherBenchT2M(WeatherBench):
    """Temperature at 2 m, in K."""

    name = "weatherbench-t2m"
    variables = (T2M,)
    clip = Clip(12, 12, 1, *GRID)
    source = _source(name, "temperature at 2 m", variables, "40 years, unpacked 2.9 GB")


class WeatherBenchUV10(WeatherBench):
    """Both components of the wind at 10 m, in m/s."""

    name = "weatherbench-uv10"
    variables = (U10, V10)
    clip = Clip(12, 12, 2, *GRID)
    source = _source(name, "wind at 10 m", variables, "40 years, unpacked 5.7 GB")


class WeatherBenchR(WeatherBench):
    """Relative humidity at 1000 hPa, in %, the level that OpenSTL takes."""

    name = "weatherbench-r"
    variables = (R._replace(levels=(1000,)),)
    clip = Clip(12, 12, 1, *GRID)
    source = _source(
        name, "relative humidity at 1000 hPa", variables, "40 years at 13 levels, unpacked 37 GB"
    )


class WeatherBenchTCC(WeatherBench):
    """Total cloud cover, as a fraction."""

    name = "weatherbench-tcc"
    variables = (TCC,)
    clip = Clip(12, 12, 1, *GRID)
    source = _source(name, "total cloud cover", variables, "40 years, unpacked 2.9 GB")


class WeatherBenchMV(WeatherBench):
    """Humidity, temperature and wind at 150, 500 and 850 hPa, six-hourly: 4 frames to the next 4.

    Twelve channels, in the order r, t, u, v, each at the three levels. From -18, -12, -6 and 0
    hours to 6, 12, 18 and 24, as the published protocol is described.
    """

    name = "weatherbench-mv"
    variables = tuple(v._replace(levels=(150, 500, 850)) for v in (R, T, U, V))
    clip = Clip(4, 4, 12, *GRID)
    step = 6
    counts = (54_048, 1_456, 2_912)
    source = _source(
        name,
        "r, t, u, v at 150, 500 and 850 hPa",
        variables,
        "40 years at 13 levels, unpacked 149 GB",
    )

    def __init__(
        self,
        root: Path | None = None,
        *,
        past: int = 4,
        future: int = 4,
        train_years: Years = (1979, 2015),
        validation_years: Years = (2016, 2016),
        test_years: Years = (2017, 2018),
    ) -> None:
        super().__init__(
            root,
            past=past,
            future=future,
            train_years=train_years,
            validation_years=validation_years,
            test_years=test_years,
        )


class WeatherBenchMVReleased(WeatherBench):
    """The same as OpenSTL's loader gives it, which takes its step of six hours twice.

    Its offsets in hours are used as indices of a series that is six-hourly already: from -102, -66,
    -30 and 0 hours to 6, 42, 78 and 114.
    """

    name = "weatherbench-mv-released"
    variables = WeatherBenchMV.variables
    clip = WeatherBenchMV.clip
    step = WeatherBenchMV.step
    offsets = (-17, -11, -5, 0, 1, 7, 13, 19)
    counts = (54_019, 1_427, 2_883)
    source = _source(
        name,
        "r, t, u, v as released, 36 hours apart",
        WeatherBenchMV.variables,
        "40 years at 13 levels, unpacked 149 GB",
    )

    def __init__(
        self,
        root: Path | None = None,
        *,
        train_years: Years = (1979, 2015),
        validation_years: Years = (2016, 2016),
        test_years: Years = (2017, 2018),
    ) -> None:
        super().__init__(
            root,
            past=self.clip.past,
            future=self.clip.future,
            train_years=train_years,
            validation_years=validation_years,
            test_years=test_years,
        )
