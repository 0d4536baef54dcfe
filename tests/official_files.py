"""Small files in the formats in which the data sets are published, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import socket
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from benchmarks.data.taxibj import h5_name
from benchmarks.data.weather_files import LATITUDES, Variable

# TaxiBJ

FIRST_DAY = {13: datetime.date(2013, 7, 1), 14: datetime.date(2014, 3, 1)}
FIRST_DAY |= {15: datetime.date(2015, 3, 1), 16: datetime.date(2015, 12, 30)}  # over a new year


def dates(year: int, days: int, drop: Collection[tuple[int, int | None]] = ()) -> list[bytes]:
    """yyyymmddSS of whole days; `drop` lists (day, slot) pairs, or whole days as (day, None)."""
    gone = {(d, s) for d, slot in drop for s in (range(1, 49) if slot is None else [slot])}
    return [
        f"{FIRST_DAY[year] + datetime.timedelta(day):%Y%m%d}{slot:02d}".encode()
        for day in range(days)
        for slot in range(1, 49)
        if (day, slot) not in gone
    ]


def write_year(
    folder: Path,
    year: int,
    stamps: Sequence[bytes | str],
    flow: np.ndarray | None = None,
    dtype: Any = "S10",
    **names: str,
) -> None:
    """BJxx_M32x32_T30_InOut.h5: data [N, 2, 32, 32] float64, date [N] of ten bytes.

    `flow` is random counts unless given; `names` rename the two datasets.
    """
    if flow is None:
        rng = np.random.default_rng(year)
        flow = rng.integers(0, 1000, (len(stamps), 2, 32, 32)).astype(np.float64)
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / h5_name(year), "w") as file:
        file.create_dataset(names.get("data", "data"), data=flow)
        file.create_dataset(names.get("date", "date"), data=np.array(stamps, dtype))


def released(count: int, seed: int = 0) -> np.ndarray:
    """Windows of 8 at stride 1, as released: [count, 8, 2, 32, 32] float32 in [-1, 1]."""
    rng = np.random.default_rng(seed)
    frames = rng.uniform(-1, 1, (count + 7, 2, 32, 32)).astype(np.float32)
    return np.stack([frames[i : i + 8] for i in range(count)])


def write_npz(
    path: Path,
    train: np.ndarray,
    test: np.ndarray,
    save: Callable[..., None] = np.savez,
    **changes: np.ndarray | None,
) -> None:
    """dataset.npz from windows of 8; `changes` replace an array, or leave it out if None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "X_train": train[:, :4],
        "Y_train": train[:, 4:],
        "X_test": test[:, :4],
        "Y_test": test[:, 4:],
        **changes,
    }
    save(path, **{name: array for name, array in arrays.items() if array is not None})


# WeatherBench


def write_weather(
    root: Path,
    variable: Variable,
    first: datetime.datetime,
    values: np.ndarray,
    *,
    levels: Sequence[int] = (),
    epoch: str = "hours since 1900-01-01 00:00:00.0",
    latitudes: Sequence[float] = LATITUDES,
    times: np.ndarray | None = None,
    **attributes: Any,
) -> Path:
    """VARIABLE/VARIABLE_YEAR_5.625deg.nc, netCDF-4, as xarray writes it: hourly from `first` on.

    `values` [N, 32, 64], or [N, levels, 32, 64]. `epoch` is told in the units of the times, which
    are counted from it in whole numbers unless `times` gives them.
    """
    path = root / variable.folder / variable.file(first.year)
    path.parent.mkdir(parents=True, exist_ok=True)
    unit, _, since = epoch.partition(" since ")
    seconds = {"hours": 3600, "minutes": 60, "seconds": 1}[unit]
    begin = (first - datetime.datetime.fromisoformat(since)).total_seconds() / seconds
    if times is None:
        times = (begin + np.arange(len(values)) * (3600 // seconds)).astype(np.int64)
    axes = {"time": times, "lat": np.array(latitudes), "lon": np.arange(64) * 5.625}
    if len(levels):
        axes["level"] = np.array(levels, np.int32)
    order = ("time", *(["level"] if len(levels) else []), "lat", "lon")
    with h5py.File(path, "w") as file:
        for name, numbers in axes.items():
            file[name] = numbers
            file[name].make_scale(name)
        file["time"].attrs["units"] = epoch
        file["time"].attrs["calendar"] = "proleptic_gregorian"
        field = file.create_dataset(variable.name, data=values)
        for axis, name in enumerate(order):
            field.dims[axis].attach_scale(file[name])
        for name, value in attributes.items():
            field.attrs[name] = value
    return path


# KTH

KTH_HEADER = """
This database contains sequences of six classes of actions performed by
25 subjects in four different conditions (see below).
Contact: A Person (person@example.org)

Training:   person11, 12, 13, 14, 15, 16, 17, 18
Test:       person22, 02, 03, 05, 06, 07, 08, 09, 10\x20


"""


def kth_list(entries: str) -> str:
    """00sequences.txt: the text before the first video, and `entries`, a line each."""
    return (KTH_HEADER + entries).replace("\n", "\r\n")


def write_video(path: Path, frames: np.ndarray, codec: str = "ffv1", pixels: str = "gray") -> None:
    """An AVI of gray frames [n, H, W] uint8; with yuv420p they are the luma, and chroma is 128.

    The official ones are `codec` mpeg4 and `pixels` yuv420p.
    """
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = pixels
        if codec == "mpeg4":
            stream.codec_context.codec_tag = "DIVX"
        for frame in frames:
            if pixels == "yuv420p":
                chroma = np.full((frame.shape[0] // 2, frame.shape[1]), 128, np.uint8)
                coded = av.VideoFrame.from_ndarray(np.concatenate([frame, chroma]), format=pixels)
            else:
                coded = av.VideoFrame.from_ndarray(frame, format="gray").reformat(format=pixels)
            container.mux(stream.encode(coded))
        container.mux(stream.encode())


def write_kth_images(
    tree: Path, video: str, pictures: Mapping[int, Image.Image], kind: str = "png"
) -> Path:
    """The folder of a video such as person01_boxing_d1 in kth_action; returns it."""
    folder = tree / video.split("_")[1] / f"{video}_uncomp"
    write_images(folder, pictures, f"image_{{:04}}.{kind}")
    return folder


# SEVIR

SEVIR_COLUMNS = (
    "id,file_name,file_index,img_type,time_utc,minute_offsets,episode_id,event_id,event_type,"
    "llcrnrlat,llcrnrlon,urcrnrlat,urcrnrlon,proj,size_x,size_y,height_m,width_m,data_min,data_max,"
    "pct_missing"
)


def sevir_line(
    name: str, file: str, row: int, time: str, kind: str = "vil", missing: str = "0.0"
) -> str:
    """A line of SEVIR's CATALOG.csv."""
    offsets = ":".join(str(minute) for minute in range(-119, 126, 5))
    proj = '"+proj=laea +lat_0=38 +lon_0=-98 +units=m +a=6370997.0 +ellps=sphere "'
    return (
        f"{name},{file},{row},{kind},{time},{offsets},1.0,2.0,Hail,"
        f"35.1,-97.2,38.4,-92.9,{proj},384,384,384000.0,384000.0,0.0,254.0,{missing}"
    )


def sevir_event(number: int, side: int = 384, frames: int = 49) -> np.ndarray:
    """VIL of an event, uint8 [side, side, frames]: frame t of event n has the value 4 t + n."""
    event = np.zeros((side, side, frames), np.uint8)
    event[:] = 4 * np.arange(frames) + number
    return event


def write_sevir(folder: Path, file: str, events: Mapping[str, np.ndarray], **names: str) -> None:
    """An HDF5 file of events by id, in `folder`/data; packed, unlike the official ones.

    `names` rename the arrays vil and id; an empty name leaves one out.
    """
    path = folder / "data" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"vil": np.stack(list(events.values())), "id": np.array([*events], "S20")}
    with h5py.File(path, "w") as opened:
        for name, array in arrays.items():
            if name := names.get(name, name):
                opened.create_dataset(name, data=array, compression=1, chunks=(1, *array.shape[1:]))


# Human3.6M


def write_human36m(folder: Path, lists: Mapping[str, Sequence[str]], side: int = 256) -> None:
    """train.txt and test.txt with the lines of `lists`, and the frames of their clips.

    Frame n of each video has 3 n mod 256 in red, 100 in green and 200 in blue.
    """
    for name, lines in lists.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes("".join(f"{line}\r\n" for line in lines).encode())
        for line in lines:
            video, first, _ = line.split(",")
            for number in range(int(first), int(first) + 40, 5):
                path = folder / f"{video}{number:06}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = Image.new("RGB", (side, side), (3 * number % 256, 100, 200))
                image.save(path, quality=95)


# KITTI


def write_hickle_1(path: Path, value: np.ndarray | list[str]) -> None:
    """An array or a list of texts, as hickle 1 dumps it."""
    with h5py.File(path, "w") as file:
        if isinstance(value, list):
            file["data"] = [text.encode() for text in value]
            file["type"] = [b"list"]
        else:
            file["data"] = value
            file["type"] = [b"ndarray"]


def drive_frames(drive: int, count: int) -> np.ndarray:
    """Frame i (from 0) of a drive has the colour (drive, i modulo 256, 200)."""
    frames = np.empty((count, 128, 160, 3), np.uint8)
    frames[..., 0] = drive
    frames[..., 1] = (np.arange(count) % 256)[:, None, None]
    frames[..., 2] = 200
    return frames


def write_kitti(folder: Path, side: str, lengths: Mapping[str, int]) -> None:
    """X_{side}.hkl and sources_{side}.hkl of drives with so many frames."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [drive_frames(drive, n) for drive, n in enumerate(lengths.values())]
    names = [f"city-{name}_sync" for name, n in lengths.items() for _ in range(n)]
    write_hickle_1(folder / f"X_{side}.hkl", np.concatenate(frames))
    write_hickle_1(folder / f"sources_{side}.hkl", names)


def write_drive(folder: Path, drive: str, pictures: Mapping[int, Image.Image]) -> None:
    """A drive's raw images, in the folders of KITTI's archives."""
    place = folder / drive[:10] / f"{drive}_sync" / "image_03" / "data"
    write_images(place, pictures, "{:010}.png")


# Caltech Pedestrian


def encode_jpeg(image: Image.Image, quality: int = 95, **options: int) -> bytes:
    """The bytes of a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def seq_header(
    frames: int,
    *,
    image_format: int = 201,
    size: tuple[int, int] = (640, 480),
    magic: int = 0xFEED,
    title: str = "Norpix seq\0\0",
    header_size: int = 1024,
) -> bytes:
    """The first 1,024 bytes of a .seq video."""
    width, height = size
    image_bytes = width * height * 3
    padded = (image_bytes + 6 + 511) // 512 * 512
    start = struct.pack("<I", magic) + title.encode("utf-16-le")
    start += struct.pack("<iI", 3, header_size) + "No Description".encode("utf-16-le").ljust(512)
    start += struct.pack(
        "<9I", width, height, 24, 8, image_bytes, image_format, frames, 0, padded
    ) + struct.pack("<d", 30.0)
    return start.ljust(1024, b"\0")


def seq_body(jpegs: Sequence[bytes], padding: int = 10) -> bytes:
    """The frames of a .seq video: size, JPEG, time and padding of each."""
    return b"".join(
        struct.pack("<I", len(jpeg) + 4)
        + jpeg
        + struct.pack("<IH", 1_200_000_000 + i // 30, 33 * (i % 30))
        + bytes(padding)
        for i, jpeg in enumerate(jpegs)
    )


def write_seq(
    path: Path, jpegs: Sequence[bytes], *, frames: int | None = None, padding: int = 10
) -> Path:
    """A .seq video; its header says `frames`, by default as many as there are. Returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(jpegs) if frames is None else frames
    path.write_bytes(seq_header(count) + seq_body(jpegs, padding))
    return path


# Your own data


def write_hdf5(path: Path, **arrays: np.ndarray) -> None:
    """Compressed datasets, in chunks."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=True, compression="gzip")


def write_images(folder: Path, pictures: Mapping[int, Image.Image], name: str) -> None:
    """Numbered pictures; `name`, such as "image_{:04}.png", tells their names and their format.

    A picture that comes again (the same object) is a hard link to the file it has already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[int, Path] = {}
    for number, picture in pictures.items():
        path = folder / name.format(number)
        if id(picture) in written:
            path.hardlink_to(written[id(picture)])
        else:
            picture.save(path, compress_level=1)  # of a PNG: fast
            written[id(picture)] = path


# Stand-ins for a file

STAND_INS = ("a named pipe", "a socket", "a folder", "a link to nothing", "unreadable")


def stand_in(path: Path, what: str) -> str:
    """Put a stand-in at `path`, where a file may be; returns what an error says of it."""
    path.unlink(missing_ok=True)
    if what == "a named pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    elif what == "a socket" and hasattr(socket, "AF_UNIX"):
        with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
            server.bind(path.name)  # by its name: the path of a socket has 107 bytes at most
    elif what == "a folder":
        path.mkdir()
    elif what == "a link to nothing":
        path.symlink_to(path.parent / "nothing")
    elif what == "a link to itself":
        path.symlink_to(path.name)
    elif what == "unreadable" and hasattr(os, "geteuid") and os.geteuid() > 0:
        path.touch(mode=0)
        return "may not be read; change its permissions"
    else:
        pytest.skip(f"this system or user cannot make one: {what}")
    return f"is {what}; expected a file"
