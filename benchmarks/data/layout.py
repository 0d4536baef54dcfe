"""The order of an array's axes, as it is told or as it can only be, and frames in ours.

Letters name the axes in the file's order: N sequences, T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.data.array_file import ArrayFile, Place
from benchmarks.data.originals import MOST_PIXELS
from benchmarks.files import Stamp

AXES = {"N": "sequences", "T": "frames", "C": "channels", "H": "rows", "W": "columns"}
# Names of axes in NetCDF and Zarr files of weather, climate and satellites.
NAMES = {
    "N": ("n", "sample", "sequence", "batch", "member", "number", "ensemble", "realization"),
    "T": ("t", "time", "valid_time", "frame"),
    "C": ("c", "channel", "band", "variable", "level", "lev", "plev", "pressure_level", "depth"),
    "H": ("h", "y", "lat", "latitude", "height", "row", "south_north", "yc", "rlat"),
    "W": ("w", "x", "lon", "longitude", "width", "column", "west_east", "xc", "rlon"),
}
LETTERS = {name: letter for letter, names in NAMES.items() for name in names}
MOST_CHANNELS = 16  # above it, the third axis is taken for another one
FEW = 4  # channels that images have, or columns that frames do not
MOST_HELD = 1 << 34  # bytes of an array that is held in memory, 16 GiB


def parse_layout(text: str) -> str:
    """Letters such as NTHWC; raises ValueError unless each is there once, T, H and W at least."""
    letters = text.upper()
    if unknown := [letter for letter in letters if letter not in AXES]:
        raise ValueError(
            f"layout {text!r} has {unknown[0]!r}; expected the letters "
            f"{', '.join(f'{letter} ({what})' for letter, what in AXES.items())}"
        )
    if not set("THW") <= set(letters):
        raise ValueError(f"layout {text!r} lacks an axis; expected T, H and W, and N or C if any")
    if len(set(letters)) < len(letters):
        raise ValueError(f"layout {text!r} has an axis twice; expected each letter once")
    return letters


def find_layout(label: str, array: ArrayFile) -> str:
    """The order of an array's axes by their names, if the file tells them and all are known.

    Else [N, T, C, H, W] or [T, C, H, W], if that is plausible for its shape. Raises ValueError that
    says which layouts would be.
    """
    shape = array.shape
    named = "".join(LETTERS.get(name.lower(), "?") for name in array.axes)
    if set("THW") <= set(named) <= set(AXES) and len(set(named)) == len(named) == len(shape):
        return named
    natural = {4: "TCHW", 5: "NTCHW"}.get(len(shape))
    if 0 in shape or (natural is None and len(shape) != 3):
        raise ValueError(
            f"{label} has the shape {shape}; expected sequences [N, T, C, H, W] or a recording "
            "[T, C, H, W], none of them 0"
        )
    likely = _likely(shape)
    if likely is None:
        assert natural is not None
        return natural
    options = [f"--layout {letters} if it is {in_words(letters, shape)}" for letters in likely]
    if natural is None:
        taken = "no axis for channels"
    else:
        options.append(f"--layout {natural} if that is right")
        taken = f"which as [{', '.join(natural)}] is {in_words(natural, shape)}"
    raise ValueError(f"{label} has the shape {shape}, {taken}; give {', or '.join(options)}")


def _likely(shape: tuple[int, ...]) -> list[str] | None:
    """Layouts that are more plausible than the natural one; None if that is plausible."""
    if len(shape) == 3:
        return ["THW"]
    first, second, third, last = shape[0], shape[1], shape[-3], shape[-1]
    frames_first = len(shape) == 5 and first < second
    if last <= FEW and third > last:
        return ["THWC" if len(shape) == 4 else "TNHWC" if frames_first else "NTHWC"]
    if third > MOST_CHANNELS:
        if len(shape) == 5:
            return ["NCTHW"] if second <= MOST_CHANNELS else []
        return ["TNHW", "NTHW"] if first < second else ["NTHW", "TNHW"]
    if len(shape) == 5 and second <= FEW < third:
        return ["NCTHW"]
    return ["TNCHW"] if frames_first else None


def in_words(letters: str, shape: Sequence[int]) -> str:
    """Such as "60 sequences of 20 frames, 1 channel of 32x32"."""
    sizes = {"C": 1, **dict(zip(letters, shape, strict=True))}
    groups = count(sizes["N"], "sequence") if "N" in sizes else "1 recording"
    frame = sizes["C"], sizes["H"], sizes["W"]
    return f"{groups} of {count(sizes['T'], 'frame')}, {frame_in_words(frame)}"


def frame_in_words(shape: Sequence[int]) -> str:
    """Such as "1 channel of 32x32"."""
    channels, height, width = shape
    return f"{count(channels, 'channel')} of {height}x{width}"


def count(number: int, what: str) -> str:
    """Such as "1 frame" or "1,000 frames"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def parse_size(option: str, text: str) -> tuple[int, int]:
    """Height and width of a text such as 64x64; ValueError that names the option for another."""
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text.lower(), re.ASCII)
    if found is None or "0" in found.groups():
        raise ValueError(f"{option} is {text!r}; expected height and width, such as 64x64")
    height, width = int(found[1]), int(found[2])
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"{option} is {text}, {height * width:,} pixels; expected at most {MOST_PIXELS:,}"
        )
    return height, width


class View(ArrayFile):
    """An array file as [N, T, C, H, W] or [T, C, H, W], whatever the order of its axes.

    Frames are cut to their middle `crop` (height, width), then widened to `pad` by repeating
    their outermost pixels. What is asked for is read a stretch at a time and transposed, where N
    (or T of a recording) is the first axis, or the second after T or C; else all of it is held in
    memory, and read again where the view is unpickled. Raises ValueError if that is too much.
    """

    def __init__(
        self,
        source: ArrayFile,
        letters: str,
        crop: tuple[int, int] | None = None,
        pad: tuple[int, int] | None = None,
    ) -> None:
        self._source, self._letters = source, letters
        self._ours = "NTCHW" if "N" in letters else "TCHW"
        sizes = {"C": 1, **dict(zip(letters, source.shape, strict=True))}
        full = sizes["H"], sizes["W"]
        self._crop, self._pad = crop or full, pad or crop or full
        _check_sizes(source, full, crop, pad)
        shape = (*(sizes[letter] for letter in self._ours[:-2]), *self._pad)
        super().__init__(source.path, shape, source.dtype, source.stamp)
        self._held = self._hold()

    def current_stamp(self) -> Stamp:
        """That of the file."""
        return self._source.current_stamp()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_held": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._held = self._hold()

    def __getitem__(self, place: Place) -> np.ndarray:
        if self._held is not None:
            return self._held[place].copy()
        lead, times = place if isinstance(place, tuple) else (place, slice(None))
        if isinstance(lead, slice):
            return self._read(slice(*lead.indices(len(self))), times)
        index = range(len(self))[lead]
        found: np.ndarray = self._read(slice(index, index + 1), times)[0]
        return found

    def _read(self, rows: slice, times: slice) -> np.ndarray:
        """Rows of our first axis; `times` of the frames of sequences."""
        source, letters, lead = self._source, self._letters, self._ours[0]
        if letters[0] == lead and rows.stop == rows.start + 1 and letters[1] == "T":
            block, times = source[rows.start, times][None], slice(None)
        elif letters[0] == lead:
            block = source[rows]
        else:
            every = range(source.shape[0])
            if letters[0] == "T":
                every, times = every[times], slice(None)
            block = np.stack([source[index, rows] for index in every])
        return self._arrange(block, times)

    def _arrange(self, block: np.ndarray, times: slice) -> np.ndarray:
        """A block in the file's order in ours, cropped and padded."""
        kept = [letter for letter in self._ours if letter in self._letters]
        block = block.transpose([self._letters.index(letter) for letter in kept])
        if "C" not in kept:
            block = np.expand_dims(block, self._ours.index("C"))
        if "N" in kept:
            block = block[:, times]
        (height, width), (tall, wide) = self._crop, self._pad
        top, left = (block.shape[-2] - height) // 2, (block.shape[-1] - width) // 2
        block = block[..., top : top + height, left : left + width]
        above, before = (tall - height) // 2, (wide - width) // 2
        around = ((above, tall - height - above), (before, wide - width - before))
        if around != ((0, 0), (0, 0)):
            block = np.pad(block, [(0, 0)] * (block.ndim - 2) + list(around), mode="edge")
        return block

    def _hold(self) -> np.ndarray | None:
        letters, lead = self._letters, self._ours[0]
        by_stretch = letters[0] == lead or (letters[1] == lead and letters[0] in "TC")
        if by_stretch and not self._source.whole:
            return None
        size = np.prod([float(n) for n in self._source.shape]) * self.dtype.itemsize
        remedy = "write it as [N, T, C, H, W], or [T, C, H, W], in C order with numpy.save"
        if size > MOST_HELD:
            raise ValueError(
                f"{self.path} has {size:,.0f} bytes, which would all be held in memory; expected "
                f"at most {MOST_HELD:,}: {remedy}"
            )
        try:
            return np.ascontiguousarray(self._arrange(self._source[:], slice(None)))
        except MemoryError as error:
            raise ValueError(f"{self.path} does not fit into memory ({error}); {remedy}") from error


def _check_sizes(
    source: ArrayFile,
    full: tuple[int, int],
    crop: tuple[int, int] | None,
    pad: tuple[int, int] | None,
) -> None:
    for option, size, before, sign in (("crop", crop, full, 1), ("pad", pad, crop or full, -1)):
        if size is None:
            continue
        spare = [sign * (old - new) for old, new in zip(before, size, strict=True)]
        if min(spare) < 0 or max(spare) == 0:
            raise ValueError(
                f"{option} is {size[0]}x{size[1]} and the frames of {source.path.name} are "
                f"{before[0]}x{before[1]}; expected a {'smaller' if sign > 0 else 'larger'} size"
            )


def arrange(
    label: str,
    array: ArrayFile,
    layout: str | None,
    crop: tuple[int, int] | None = None,
    pad: tuple[int, int] | None = None,
) -> ArrayFile:
    """The array as sequences [N, T, C, H, W] or as a recording [T, C, H, W].

    `layout` is the order of its axes; without it, they must be in that order. Raises ValueError if
    its shape does not go with it.
    """
    letters = layout or find_layout(label, array)
    if len(letters) != array.ndim or 0 in array.shape:
        raise ValueError(
            f"{label} has the shape {array.shape}; the layout {letters} needs {len(letters)} axes, "
            "none of them 0"
        )
    if letters in ("NTCHW", "TCHW") and not (crop or pad or array.whole):
        return array
    return View(array, letters, crop, pad)
