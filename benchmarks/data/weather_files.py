"""WeatherBench's files at 5.625 degrees: one for each variable and year, netCDF-4 or classic."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data.array_file import ArrayFile
from benchmarks.data.cache import Block
from benchmarks.data.formats import open_arrays

GRID = (32, 64)
LATITUDES = tuple(5.625 * row - 87.1875 for row in range(GRID[0]))  # degrees, of a frame's rows
LONGITUDES = tuple(5.625 * column for column in range(GRID[1]))
AT_A_TIME = 240  # hours that are read
ROUNDING = 1e-3  # of a range: how far beyond it values are taken for its ends

# What has been unpacked is not downloaded again.
REMEDY = "replace {}; to download its zip again, move {} away first"

UNITS = {"seconds": 1 / 3600, "minutes": 1 / 60, "hours": 1, "days": 24}  # in hours
SINCE = re.compile(
    r"(seconds|minutes|hours|days) since (\d{1,4})-(\d{1,2})-(\d{1,2})"
    r"(?:[T ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d*)?)?)?"
)
CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
EPOCH = datetime.datetime(1970, 1, 1)


class Variable(NamedTuple):
    """A variable: its folder, its name in the files, the range of frames in its unit, its levels.

    `levels` are in hPa; none for a field at the surface.
    """

    folder: str
    name: str
    low: float
    high: float
    unit: str
    levels: tuple[int, ...] = ()

    def file(self, year: int) -> str:
        """Name of a year's file."""
        return f"{self.folder}_{year}_5.625deg.nc"

    def patterns(self, name: str) -> tuple[str, ...]:
        """Where the file `name` may lie below the data folder."""
        return tuple(f"{folder}{name}" for folder in self.folders)

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of its files below the data folder."""
        return tuple(f"{above}{self.folder}/" for above in ("weatherbench/", "weather/", ""))


def shared_range(variables: Sequence[Variable]) -> tuple[float, float] | None:
    """The range by which all variables are scaled; None if they differ in it, or in the unit."""
    ranges = {(v.low, v.high, v.unit) for v in variables}
    low, high, _ = next(iter(ranges))
    return (low, high) if len(ranges) == 1 else None


class Year(NamedTuple):
    """A variable's file of a year: values [N, 32, 64] or [N, levels, 32, 64], hours since 1970."""

    path: Path
    values: ArrayFile
    hours: np.ndarray
    levels: list[int]  # indices of the variable's levels


def open_year(path: Path, variable: Variable, year: int) -> Year:
    """Open and check a file; values are read later.

    Raises ValueError, naming the file, if it lacks the variable, its levels or the grid of 5.625
    degrees from south to north, or has hours that are not in order or not of the year.
    """
    remedy = REMEDY.format(path.name, path.parent)
    values = _array(path, variable.name, remedy)
    hours = _hours(path, year, remedy)
    shape: tuple[int, ...] = (len(hours), *GRID)
    levels: list[int] = []
    if variable.levels:
        found = [round(float(level)) for level in _array(path, "level", remedy)[:]]
        shape = (len(hours), len(found), *GRID)
        if lost := [level for level in variable.levels if level not in found]:
            raise ValueError(f"{path} has the levels {found} hPa; expected {lost} too; {remedy}")
        levels = [found.index(level) for level in variable.levels]
    if values.shape != shape:
        raise ValueError(
            f"{path}: {variable.name} has the shape {values.shape}; expected {shape}, of 5.625 "
            f"degrees; {remedy}"
        )
    _check_axis(path, "lat", LATITUDES, "from south to north", remedy)
    _check_axis(path, "lon", LONGITUDES, "from Greenwich to the east", remedy)
    return Year(path, values, hours, levels)


def _array(path: Path, name: str, remedy: str) -> ArrayFile:
    try:
        (array,) = open_arrays(path, name).values()
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from error
    return array


def _check_axis(path: Path, name: str, expected: Sequence[float], order: str, remedy: str) -> None:
    found = np.asarray(_array(path, name, remedy)[:], float)
    if found.shape != (len(expected),) or not np.allclose(found, expected, rtol=0, atol=1e-3):
        ends = f"{found[0]:g} to {found[-1]:g}" if found.ndim == 1 and len(found) else "nothing"
        raise ValueError(
            f"{path}: {name} has {len(found)} values, {ends}; expected {len(expected)}, "
            f"{expected[0]:g} to {expected[-1]:g}, {order}: sort them, or {remedy}"
        )


def _hours(path: Path, year: int, remedy: str) -> np.ndarray:
    """Hours since 1970 of a file's times, in order and of that year: int64 [N]."""
    time = _array(path, "time", remedy)
    told = {
        name: value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for name, value in getattr(time, "attributes", {}).items()
    }
    units, calendar = told.get("units", ""), told.get("calendar", "standard")
    if (match := SINCE.match(units)) is None or calendar not in CALENDARS:
        raise ValueError(
            f"{path}: time has the units {units!r} and the calendar {calendar!r}; expected such as "
            f"'hours since 1900-01-01 00:00:00' and {CALENDARS[0]!r}; {remedy}"
        )
    unit, *parts = match.groups()
    begin, month, day, hour, minute, second = (int(part or 0) for part in parts)
    try:
        start = datetime.datetime(begin, month, day, hour, minute, second)
    except ValueError as error:
        raise ValueError(f"{path}: time has the units {units!r} ({error}); {remedy}") from error
    since = (start - EPOCH) / datetime.timedelta(hours=1)
    exact = since + np.asarray(time[:], np.float64) * UNITS[unit]
    hours: np.ndarray = np.rint(exact).astype(np.int64)
    first, last = first_hour(year), first_hour(year + 1)
    in_order = len(hours) > 0 and bool((np.diff(hours) > 0).all())
    if not in_order or hours[0] < first or hours[-1] >= last or np.abs(exact - hours).max() > 0.01:
        raise ValueError(
            f"{path}: its {len(hours)} times are not rising full hours of {year}, or another "
            f"year's; {remedy}"
        )
    return hours


def first_hour(year: int) -> int:
    """Hours from 1970 to the year's begin."""
    return (datetime.datetime(year, 1, 1) - EPOCH).days * 24


def read_frames(years: Sequence[Year], variables: Sequence[Variable], step: int) -> Iterator[Block]:
    """Frames of one year from a file of each variable, [n, C, 32, 64] float32.

    In their unit, or in [0, 1] if they have several; of every `step`th hour of a day. Raises
    ValueError, naming file and hour, for a value that is missing or outside its variable's range.
    """
    hours = years[0].hours
    for year in years:
        if not np.array_equal(year.hours, hours):
            raise ValueError(f"{year.path} has other hours than {years[0].path}; expected the same")
    for start in range(0, len(hours), AT_A_TIME):
        chosen = np.flatnonzero(hours[start : start + AT_A_TIME] % step == 0)
        if not len(chosen):
            continue
        taken = hours[start + chosen]
        parts = []
        for year, variable in zip(years, variables, strict=True):
            values = year.values[start : start + AT_A_TIME][chosen]
            frames = values[:, year.levels] if variable.levels else values[:, None]
            frames = _checked(year.path, variable, frames, taken)
            if shared_range(variables) is None:
                frames = (frames - variable.low) / (variable.high - variable.low)
            parts.append(frames.astype(np.float32))
        frames = np.concatenate(parts, 1)
        breaks = np.flatnonzero(np.diff(taken) != step) + 1
        for part in np.split(np.arange(len(taken)), breaks):
            yield Block("weatherbench", int(taken[part[0]]) // step, frames[part])


def _checked(path: Path, variable: Variable, values: np.ndarray, hours: np.ndarray) -> np.ndarray:
    frames = values.astype(np.float64)
    slack = ROUNDING * (variable.high - variable.low)
    fits = (frames >= variable.low - slack) & (frames <= variable.high + slack)  # not so for NaN
    if not fits.all():
        bad = int(np.flatnonzero(~fits.all((1, 2, 3)))[0])
        when = EPOCH + datetime.timedelta(hours=int(hours[bad]))
        wrong = frames[bad][~fits[bad]][0]
        raise ValueError(
            f"{path}: {variable.name} of {when:%Y-%m-%d %H:%M} holds {wrong:g}; expected "
            f"{variable.low:g} to {variable.high:g} {variable.unit}: it is damaged, or in another "
            f"unit: {REMEDY.format(path.name, path.parent)}"
        )
    clipped: np.ndarray = frames.clip(variable.low, variable.high)
    return clipped
