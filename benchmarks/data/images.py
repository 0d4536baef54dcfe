"""Frames in image files: their pixels, and their order by the numbers in their names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.data.originals import reading
from benchmarks.files import check_regular

IMAGES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
    *(".gif", ".webp", ".pgm", ".ppm", ".pbm", ".pnm"),
)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")  # and no program that Pillow starts
MOST_PIXELS = 1 << 26  # 8192x8192
PLAIN = ("1", "L", "RGB", "I;16", "I;16L", "I;16B", "I", "F")
WITH_ALPHA = {"LA": "L", "RGBA": "RGB"}

COUNT = r"[0-9]+"
DECIMAL = r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+][0-9]+)?"
SIGNED = rf"[-+]?{DECIMAL}"
TIME = r"(?<![0-9])(?=([0-9]{4}(?:[-_.: T]{0,2}[0-9]{2}){%d})(?![0-9]))"  # year, month and so on
YEARS = range(1900, 2101)  # of a time; other numbers are counted as they are
LONG_STEP = 1.5  # usual steps between two numbers, from which on frames are missing


# --- pixels --------------------------------------------------------------------------------------


def read_image(file: Path) -> np.ndarray:
    """A frame [C, H, W]: bool of a bilevel image, else uint8, or 16 bits, int32 or float32.

    Colours of a palette are looked up, and alpha is dropped if all is opaque. Raises ValueError
    for an image that is damaged, huge, animated, or of which Pillow would give something else.
    """
    with (
        reading(file, "an image", "replace or remove it"),
        warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
        Image.open(check_regular(file), formats=FORMATS) as image,
    ):
        pixels = np.asarray(_plain(file, image))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _plain(file: Path, image: Image.Image) -> Image.Image:
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"{file} has {image.width}x{image.height} pixels; expected at most {MOST_PIXELS:,}: "
            "make it smaller"
        )
    if (count := getattr(image, "n_frames", 1)) > 1:
        raise ValueError(f"{file} holds {count} images; expected one: save each frame on its own")
    if ";16" in str(getattr(image, "tile", "")) and image.mode not in PLAIN[3:]:
        raise ValueError(
            f"{file} has 16 bits for each colour, of which 8 would be read; save 8-bit images, or "
            "arrays with numpy.save"
        )
    mode = image.mode
    if mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in WITH_ALPHA and image.getchannel("A").getextrema()[0] == 255:
        image = image.convert(WITH_ALPHA[image.mode])
    if image.mode not in PLAIN:
        what = "has transparent pixels" if image.mode in WITH_ALPHA else "is not gray or RGB"
        raise ValueError(
            f"{file} is an image of mode {mode}, which {what}; convert it with "
            "image.convert('RGB') or image.convert('L')"
        )
    return image


# --- order ---------------------------------------------------------------------------------------


class Frames(NamedTuple):
    """Image files of a recording, in order.

    `numbers` grow by one from frame to frame, and by more where some are missing. `remark` tells
    the order where no number or time in the names grows from frame to frame.
    """

    files: list[Path]
    numbers: list[int]
    remark: str = ""


def in_order(name: str, files: Sequence[Path]) -> Frames:
    """Sort the images of the recording `name` by the numbers in their names.

    Numbers may have a sign, decimals and an exponent, and leading zeros or none. Raises ValueError
    if two files have the same number, or names that differ otherwise are not of one length.
    """
    stems = [file.stem for file in files]
    values = _read_numbers(stems)
    keys = [(stem,) for stem in stems] if values is None else values
    order = sorted(range(len(files)), key=keys.__getitem__)
    for one, other in pairwise(order):
        if keys[one] == keys[other]:
            raise ValueError(
                f"{name}: {files[one].name} and {files[other].name} have the same number; expected "
                "one image for each: remove one"
            )
    if values is None and len({len(stem) for stem in stems}) > 1:
        raise ValueError(
            f"{name}: names such as {files[order[0]].name} and {files[order[-1]].name} give frames "
            "no order; expected one number that grows: rename them to 0.png, 1.png and so on"
        )
    found = [files[index] for index in order]
    column = None if values is None else _growing([values[index] for index in order])
    if column is None or len({after - before for before, after in pairwise(column)}) > 1:
        column = _times([file.stem for file in found]) or column
    if column is not None:
        return Frames(found, _steps(column))
    ends = ", ".join(file.name for file in (*found[:2], found[-1]))
    remark = f"{name}: no number in the names grows from frame to frame; the order is {ends}"
    return Frames(found, list(range(len(found))), remark if len(found) > 1 else "")


def _read_numbers(stems: Sequence[str]) -> list[tuple[Decimal, ...]] | None:
    """The numbers in each name; None if the text around them differs however they are read."""
    # A point is that of a decimal, unless as in 1.9, 1.10 or 2015.6.1 it divides two counts.
    fractions = [digits for stem in stems for digits in re.findall(r"[0-9]\.([0-9]+)", stem)]
    unpadded = any(digits.endswith("0") and len(digits) > 1 for digits in fractions)
    counts = (unpadded and len({len(digits) for digits in fractions}) > 1) or any(
        re.search(r"[0-9]\.[0-9]+\.[0-9]", stem) for stem in stems
    )
    for pattern in (COUNT, DECIMAL, SIGNED) if counts or not fractions else (DECIMAL, SIGNED):
        texts = {tuple(re.split(pattern, stem)) for stem in stems}
        if len(texts) == 1 and len(texts.pop()) > 1:
            return [tuple(map(Decimal, re.findall(pattern, stem))) for stem in stems]
    return None


def _growing(values: Sequence[tuple[Decimal, ...]]) -> list[Decimal] | None:
    """The first of the numbers in names that grows from each name to the next, if one does."""
    for column in map(list, zip(*values, strict=True)):
        if all(before < after for before, after in pairwise(column)):
            return column
    return None


def _times(stems: Sequence[str]) -> list[Decimal] | None:
    """The times in names of one form, if they grow: in seconds, or in months if without a day.

    Their digits are those of year, month, day, hour, minute and second, or of the first two or
    more of these, as in 202001312355 or 2020-01-31T23-55-00. The rest is the same in all names.
    """
    if len({re.sub(r"[0-9]", "0", stem) for stem in stems}) > 1:
        return None
    for pairs in (5, 4, 3, 2, 1):  # of digits after the year
        for match in re.finditer(TIME % pairs, stems[0]):
            start, end = match.span(1)  # of several that overlap, too
            if len({stem[:start] + stem[end:] for stem in stems}) > 1:
                continue
            times = _read_times([stem[start:end] for stem in stems], pairs)
            if times is not None and all(before < after for before, after in pairwise(times)):
                return times
    return None


def _read_times(texts: Sequence[str], pairs: int) -> list[Decimal] | None:
    form = "%Y%m%d%H%M%S"[: 2 + 2 * pairs]
    try:
        times = [datetime.strptime(re.sub(r"[^0-9]", "", text), form) for text in texts]
    except ValueError:
        return None
    if any(time.year not in YEARS for time in times):
        return None
    if form == "%Y%m":
        return [Decimal(12 * time.year + time.month) for time in times]
    return [Decimal((time - datetime.min).total_seconds()) for time in times]


def _steps(column: Sequence[Decimal]) -> list[int]:
    """Count the usual step between growing numbers as one, and long ones as several."""
    steps = [float(after - before) for before, after in pairwise(column)]
    usual = median(steps) if steps else 1.0
    numbers = [0]
    for step in steps:
        numbers.append(
            numbers[-1] + (1 if step < LONG_STEP * usual else max(2, round(step / usual)))
        )
    return numbers
