"""Files of arrays of your own, none of them trusted: .npy, .npz, HDF5, NetCDF and Zarr.

What a library raises at a damaged file becomes one line that names the file and says what to do.
Files that declare more than they can hold are refused before anything is read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
import traceback
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import scipy.io

from benchmarks.data.array_file import (
    ArrayFile,
    NumpyFile,
    Place,
    check_header,
    read_header,
)
from benchmarks.data.hdf5 import check_dataset, find_object, open_hdf5, reading_hdf5
from benchmarks.data.originals import FAULTS, reading
from benchmarks.data.splits import check_division, told_splits, without_split
from benchmarks.files import Stamp, check_regular

FILES = (".npy", ".npz", ".h5", ".hdf5", ".hdf", ".nc", ".zarr")
FEWEST_AXES = 3  # of frames; what has fewer is a coordinate, a date or a mean
UNPACKED = 1 << 30  # bytes that any compressed file may unpack to
MOST_PACKED = 2_000  # bytes of a chunked array that one stored byte may stand for
MOST_LOADED = 100  # the same where all of them are held in memory
WRITE_AGAIN = "write it again"
PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
KEPT = (*PACKING, "units", "calendar")  # attributes of an array


def open_arrays(path: Path, variable: str | None = None) -> dict[str, ArrayFile]:
    """The array in `path`, by the file's name, or the arrays of its splits, by their names.

    Scale, offset and missing values that the attributes of an array tell are applied. Arrays of
    fewer than three axes are passed over. `variable` chooses among several. Raises
    FileNotFoundError or ValueError if there is none that can be read, or several remain, and
    ModuleNotFoundError for a Zarr file without the package zarr.
    """
    suffix = path.suffix.lower()
    if suffix != ".zarr":
        check_regular(path)
    if suffix == ".npy":
        if variable is not None:
            raise ValueError(
                f"{path} holds one array without a name, so variable={variable!r} has no effect; "
                "leave it out"
            )
        arrays: dict[str, ArrayFile] = {path.name: _open_numpy(path)}
    else:
        kinds: dict[str, tuple[Any, type]] = {
            ".npz": (_npz_shapes, WholeFile),
            ".zarr": (_zarr_shapes, ZarrFile),
        }
        otherwise = (
            (_netcdf3_shapes, NetCDF3File) if _is_netcdf3(path) else (_hdf5_shapes, HDF5File)
        )
        shapes, constructor = kinds.get(suffix, otherwise)
        chosen = _choose(path, shapes(path), variable)
        arrays = {label: constructor(path, name) for label, name in chosen.items()}
    for label, array in arrays.items():
        check_type(str(path) if label == path.name else f"{path}: {label}", array.dtype)
    return {label: unpack(array) for label, array in arrays.items()}


def check_type(label: str, dtype: np.dtype) -> None:
    """Raise ValueError unless these are numbers: bool, integers, or floats of at most 64 bits."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(
            f"{label} has the type {dtype}; expected bool, integers, or floats of 16 to 64 bits: "
            "convert it with array.astype"
        )


def _choose(path: Path, shapes: Mapping[str, tuple[int, ...]], name: str | None) -> dict[str, str]:
    """Names of the arrays to read, by label."""
    found = [key for key, shape in shapes.items() if len(shape) >= FEWEST_AXES]
    if name is not None:
        found = [name] if name in shapes else [key for key in found if without_split(key) == name]
    if len(found) == 1:
        return {path.name: found[0]}
    listed = ", ".join(f"{key or path.name} {shapes[key]}" for key in sorted(shapes)) or "nothing"
    if not found:
        what = "no array of three axes or more" if name is None else f"no array {name!r}"
        raise ValueError(f"{path} has {what}; it holds {listed}")
    splits = {split: key for key, split in told_splits(found).items()}
    if len(splits) < len(found) or len({without_split(key) for key in found}) > 1:
        raise ValueError(
            f"{path} holds {listed}; expected one array, or one for each split, called train, test "
            "and perhaps val: choose with --variable NAME"
        )
    check_division(str(path), splits)
    return {split: splits[split] for split in ("train", "validation", "test") if split in splits}


# --- NumPy ---------------------------------------------------------------------------------------


class WholeFile(ArrayFile):
    """An array that cannot be read in stretches: `name` in an .npz, or an .npy in Fortran order.

    Every reading reads all of it.
    """

    whole = True

    def __init__(self, path: Path, name: str | None) -> None:
        stamp, self.name = Stamp.of(path), name
        with reading(path, path.suffix, WRITE_AGAIN), _stream(path, name) as (stream, size):
            shape, _, dtype = read_header(stream)
            check_header(shape, dtype, size - stream.tell())
        check_unpacked(path, size, stamp.size, MOST_LOADED)
        super().__init__(path, shape, dtype, stamp)

    def __getitem__(self, place: Place) -> np.ndarray:
        self.check_unchanged()
        with (
            reading(self.path, self.path.suffix, WRITE_AGAIN),
            _stream(self.path, self.name) as (stream, _),
        ):
            array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        self.check_unchanged()
        return array[place]


def check_unpacked(path: Path, declared: int, stored: int, most: int) -> None:
    """Raise ValueError if an array of `declared` bytes comes from far too few `stored` ones."""
    if declared > max(UNPACKED, most * stored):
        raise ValueError(
            f"{path} declares {declared:,} bytes of values, and stores {stored:,}; expected at "
            f"most {most} times as many: it is damaged, or write it with numpy.save"
        )


@contextmanager
def _stream(path: Path, name: str | None) -> Iterator[tuple[IO[bytes], int]]:
    """An .npy file, or one in an .npz, and how many bytes it has."""
    if name is None:
        with path.open("rb") as file:
            yield file, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as stream:
            yield stream, member.file_size


def _open_numpy(path: Path) -> ArrayFile:
    with reading(path, ".npy", WRITE_AGAIN), path.open("rb") as file:
        shape, fortran, _ = read_header(file)
    return WholeFile(path, None) if fortran and len(shape) > 1 else NumpyFile(path)


def _npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    shapes = {}
    with reading(path, ".npz", WRITE_AGAIN), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as stream:
                    shapes[member.filename.removesuffix(".npy")] = read_header(stream)[0]
    return shapes


# --- HDF5 and Zarr -------------------------------------------------------------------------------


class HDF5File(ArrayFile):
    """A dataset of an HDF5 or NetCDF-4 file, all of whose values are in that file."""

    def __init__(self, path: Path, name: str) -> None:
        stamp, self.name = Stamp.of(path), name
        self._dataset = _open_dataset(path, name)
        with reading_hdf5(path):
            self.attributes = {n: x for n, x in self._dataset.attrs.items() if n in KEPT}
            self.axes = tuple(_axis_name(axis) for axis in self._dataset.dims)
            super().__init__(path, self._dataset.shape, self._dataset.dtype, stamp)

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in vars(self).items() if name != "_dataset"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.check_unchanged()
        self._dataset = _open_dataset(self.path, self.name)

    def __getitem__(self, place: Place) -> np.ndarray:
        try:
            with reading_hdf5(self.path):
                values: np.ndarray = self._dataset[place]
                return values
        finally:
            self.check_unchanged()  # HDF5 gives zeros beyond the end of a file that was cut


def _open_dataset(path: Path, name: str) -> h5py.Dataset:
    dataset = find_object(open_hdf5(path), name)  # the file stays open as long as the dataset
    check_dataset(path, dataset)
    return dataset


def _axis_name(axis: Any) -> str:
    """Of an axis of a dataset: its label, or the last part of its coordinate's path."""
    return str(axis.label or (axis[0].name if len(axis) else "")).rpartition("/")[2]


def _hdf5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            shapes[name] = node.shape

    with open_hdf5(path) as file, reading_hdf5(path):
        file.visititems(visit)  # follows no link out of the file
        if not shapes:
            for name in file:
                find_object(file, name)  # says so if it is a link that leads out
    return shapes


class ZarrFile(ArrayFile):
    """An array of a Zarr folder; `name` is empty if the folder is the array."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        stamp = _folder_stamp(path)
        array = self._array = _zarr_arrays(path)[name]
        with reading(path, "Zarr", WRITE_AGAIN):
            super().__init__(path, tuple(array.shape), np.dtype(array.dtype), stamp)
            self.attributes = {n: x for n, x in array.attrs.items() if n in KEPT}
            names = getattr(array.metadata, "dimension_names", None)  # of version 3
            names = names or array.attrs.get("_ARRAY_DIMENSIONS") or ()
            self.axes = tuple(map(str, names))
            if "_ARRAY_DIMENSIONS" in array.attrs and array.fill_value is not None:
                self.attributes.setdefault("_FillValue", array.fill_value)  # as xarray means it
            for codec in (*array.compressors, *array.filters):
                if "pickle" in str(getattr(codec, "codec_id", "")):
                    raise ValueError(f"{path} holds pickled objects; expected numbers")
        declared = math.prod(self.shape) * self.dtype.itemsize
        check_unpacked(path, declared, stamp.size, MOST_PACKED)

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in vars(self).items() if name != "_array"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.check_unchanged()
        self._array = _zarr_arrays(self.path)[self.name]

    def __getitem__(self, place: Place) -> np.ndarray:
        with reading(self.path, "Zarr", WRITE_AGAIN):
            return np.asarray(self._array[place])

    def current_stamp(self) -> Stamp:
        """The stamps of all files in the folder, as one."""
        return _folder_stamp(self.path)


def _zarr_arrays(path: Path) -> dict[str, Any]:
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path} needs the package zarr: pip install zarr") from error
    with reading(path, "Zarr", WRITE_AGAIN):
        opened = zarr.open(zarr.storage.LocalStore(path, read_only=True), mode="r")
        if isinstance(opened, zarr.Array):
            return {"": opened}
        members = opened.members(max_depth=None)
        return {name: node for name, node in members if isinstance(node, zarr.Array)}


def _zarr_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if not path.is_dir():
        raise ValueError(f"{path} is a file; expected a folder, as zarr.save writes it")
    _folder_stamp(path)  # refuses what would be waited for
    return {name: tuple(array.shape) for name, array in _zarr_arrays(path).items()}


def _folder_stamp(folder: Path) -> Stamp:
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    stamps = [Stamp.of(check_regular(path)) for path in files]
    names = [str(path.relative_to(folder)) for path in files]
    text = json.dumps([names, stamps]).encode(errors="surrogateescape")
    key = int.from_bytes(hashlib.sha256(text).digest()[:8])
    modified = max((stamp.modified_ns for stamp in stamps), default=0)
    changed = max((stamp.changed_ns for stamp in stamps), default=0)
    return Stamp(sum(stamp.size for stamp in stamps), modified, changed, key)


# --- classic NetCDF ------------------------------------------------------------------------------


class NetCDF3File(ArrayFile):
    """A variable of a classic NetCDF file, which is opened anew for each reading."""

    def __init__(self, path: Path, name: str) -> None:
        stamp, self.name = Stamp.of(path), name
        with _opened_netcdf3(path) as file:
            found = vars(file.variables[name])
            self.attributes = {key: found[key] for key in KEPT if key in found}
            self.axes = tuple(found["dimensions"])
            shape, dtype = found["data"].shape, found["data"].dtype
            del found  # which would keep the file mapped
        super().__init__(path, shape, dtype, stamp)

    def __getitem__(self, place: Place) -> np.ndarray:
        self.check_unchanged()  # as the file is mapped into memory for a moment
        with _opened_netcdf3(self.path) as file:
            values = np.array(file.variables[self.name].data[place])
        self.check_unchanged()
        return values


@contextmanager
def _opened_netcdf3(path: Path) -> Iterator[Any]:
    with reading(path, "NetCDF", WRITE_AGAIN), path.open("rb") as stream:
        try:
            file = scipy.io.netcdf_file(stream, "r", mmap=True)
        except FAULTS as error:
            with warnings.catch_warnings(action="ignore"):  # scipy's, as it drops what it began
                traceback.clear_frames(error.__traceback__)
            raise
        with file:
            yield file


def _is_netcdf3(path: Path) -> bool:
    """Whether a file is classic NetCDF; raises ValueError for its largest, latest kind."""
    if path.is_dir():
        return False
    with path.open("rb") as start:
        magic = start.read(4)
    if magic == b"CDF\x05":
        raise ValueError(f"{path} is NetCDF of kind CDF-5; convert it: nccopy -k nc4 OLD NEW")
    return magic in (b"CDF\x01", b"CDF\x02")


def _netcdf3_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with _opened_netcdf3(path) as file:
        return {name: tuple(variable.shape) for name, variable in file.variables.items()}


# --- packed values -------------------------------------------------------------------------------


class Unpacked(ArrayFile):
    """Values of an array in their unit, float64: stored * scale + offset, NaN where missing."""

    def __init__(
        self, source: ArrayFile, scale: float, offset: float, missing: list[float], unsigned: bool
    ) -> None:
        super().__init__(source.path, source.shape, np.dtype(np.float64), source.stamp)
        self.axes = source.axes
        self.attributes = getattr(source, "attributes", {})
        self._source, self._scale, self._offset = source, scale, offset
        self._missing, self._unsigned = missing, unsigned

    def current_stamp(self) -> Stamp:
        """That of the file."""
        return self._source.current_stamp()

    def __getitem__(self, place: Place) -> np.ndarray:
        stored = self._source[place]
        missing = np.isin(stored.astype(np.float64), self._missing)
        if self._unsigned:
            stored = stored.view(stored.dtype.str.replace("i", "u"))
        values = stored.astype(np.float64) * self._scale + self._offset
        values[missing] = np.nan
        return values


def unpack(array: ArrayFile) -> ArrayFile:
    """The values that an array stands for by the conventions of NetCDF and xarray.

    Raises ValueError for an attribute that is not a number.
    """
    attributes = getattr(array, "attributes", {})
    scale, offset, *missing = (_numbers(array.path, attributes, name) for name in PACKING[:4])
    unsigned = str(_text(attributes.get("_Unsigned", ""))).lower() == "true"
    unsigned = unsigned and array.dtype.kind == "i"
    lost = [value for of in missing for value in of if not math.isnan(value)]
    factors = (scale or [1.0])[0], (offset or [0.0])[0]
    if factors == (1, 0) and not (lost or unsigned):
        return array
    return Unpacked(array, *factors, lost, unsigned)


def _numbers(path: Path, attributes: Mapping[str, Any], name: str) -> list[float]:
    """The numbers that an attribute holds; xarray writes some to Zarr as base64."""
    value = _text(attributes.get(name, []))
    try:
        if isinstance(value, str) and value.endswith("="):
            value = struct.unpack("<d", base64.standard_b64decode(value))[0]
        return [float(number) for number in np.ravel(value)]
    except (ValueError, TypeError, struct.error) as error:
        raise ValueError(f"{path} has the {name} {value!r}; expected a number") from error


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
