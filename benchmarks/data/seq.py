"""Norpix .seq videos whose frames are JPEGs, as Caltech Pedestrian's are.

The layout is that of StreamPix 3, which Piotr Dollár's Matlab toolbox writes too. Little-endian: a
header of 1,024 bytes; then, frame by frame, four bytes with the size of itself and the JPEG, the
JPEG, six bytes of time, and padding of 2 or 10 bytes.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image

from benchmarks.data.originals import open_image, reading
from benchmarks.files import check_regular

MAGIC, TITLE = 0xFEED, "Norpix seq".encode("utf-16-le")
HEADER = struct.Struct("<I24siI512s9Id")
HEADER_SIZE = 1024
FORMATS = {
    1: "gray PNG",
    2: "colour PNG",
    100: "gray, not compressed",
    101: "Bayer pattern, not compressed",
    102: "gray JPEG",
    103: "JPEG of a Bayer pattern",
    200: "colour, not compressed",
    201: "colour JPEG",
}
READABLE = (102, 201)
START, END = b"\xff\xd8", b"\xff\xd9"  # of a JPEG
MOST_JPEG = 1 << 24  # bytes
REMEDY = "unpack it from its archive again, or download it again"


class Place(NamedTuple):
    """Where a JPEG is in the file: its first byte, and how many bytes it has."""

    offset: int
    size: int


@dataclass(frozen=True)
class Video:
    """A video: its frame size in pixels, and where its frames are; `notes` say what is odd."""

    path: Path
    width: int
    height: int
    places: tuple[Place, ...]
    notes: tuple[str, ...]

    def frame(self, number: int) -> Image.Image:
        """Frame `number` (from 0), decoded to RGB; may be called from several threads.

        Raises ValueError, naming file and frame, if it is cut short, damaged, or of another size
        than the header says.
        """
        what = f"{self.path}: frame {number + 1} of {len(self.places)}"
        place = self.places[number]
        with self.path.open("rb") as file:
            jpeg = _read(file, place.offset, place.size)
        if not jpeg.endswith(END):
            raise ValueError(f"{what} is cut short: its JPEG has no end; {REMEDY}")
        frame = open_image(io.BytesIO(jpeg), what, ("JPEG",), REMEDY)
        if frame.size != (self.width, self.height):
            raise ValueError(
                f"{what} has {frame.width}x{frame.height} pixels; expected {self.width}x"
                f"{self.height}, as the header says; {REMEDY}"
            )
        return frame


def open_video(path: Path) -> Video:
    """Read the header, and find the frames by their sizes; no frame is decoded.

    Frames are counted in the file: the header's number may be 0 or wrong. A last frame that the
    end of the file cuts off is left out. Raises ValueError if `path` is not a .seq file, its
    frames are not JPEGs, it holds none, or it is damaged between two frames.
    """
    length = check_regular(path).stat().st_size
    if length < HEADER_SIZE:
        raise ValueError(
            f"{path} has {length} bytes; expected a .seq header of {HEADER_SIZE}; {REMEDY}"
        )
    with reading(path, "a .seq video", REMEDY), path.open("rb") as file:
        magic, title, _, header_size, _, width, height, *numbers, _ = HEADER.unpack(
            _read(file, 0, HEADER.size)
        )
        image_format, declared = numbers[3:5]
        if magic != MAGIC or not title.startswith(TITLE):
            raise ValueError(
                f"{path} starts with {magic:#x} and {title[: len(TITLE)]!r}; expected {MAGIC:#x} "
                f"and 'Norpix seq' in UTF-16; {REMEDY}"
            )
        if header_size != HEADER_SIZE:
            raise ValueError(
                f"{path} has a header of {header_size} bytes; expected {HEADER_SIZE}, as "
                "StreamPix 3 writes: convert it"
            )
        if image_format not in READABLE:
            raise ValueError(
                f"{path} has the image format {image_format} "
                f"({FORMATS.get(image_format, 'unknown')}); expected 102 or 201 (JPEG): convert it"
            )
        places, cut = _places(path, file, length, declared)
    if not places:
        raise ValueError(f"{path} holds no whole frame; expected at least one; {REMEDY}")
    notes = [f"frame {len(places) + 1} is cut off by the end of the file and left out"] * cut
    if declared not in (0, len(places)):
        notes.append(f"the header says {declared} frames, the file holds {len(places)}")
    return Video(path, width, height, tuple(places), tuple(notes))


def _places(path: Path, file: BinaryIO, length: int, declared: int) -> tuple[list[Place], bool]:
    """Places of all whole frames, and whether one more begins that the end of the file cuts off."""
    places: list[Place] = []
    position = HEADER_SIZE
    while position + 6 <= length:
        size, start = struct.unpack("<I2s", _read(file, position, 6))
        if start != START or not 8 <= size <= MOST_JPEG:
            if 0 < declared <= len(places):
                break  # what follows the last frame is no frame
            raise ValueError(
                f"{path}: frame {len(places) + 1} at byte {position} starts with "
                f"{start.hex()} and has {size:,} bytes; expected a JPEG ({START.hex()}) of at most "
                f"{MOST_JPEG:,}: the frame before it is cut short, or the file is damaged; {REMEDY}"
            )
        end = position + size
        if end > length:
            return places, True
        places.append(Place(position + 4, size - 4))
        position = end + 8  # six bytes of time and two of padding; eight more follow if zero
        if _read(file, position, 4) == bytes(4):
            position += 8
    return places, False


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)
