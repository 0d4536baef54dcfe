"""The files that frames are prepared from: checked before they are read, and watched meanwhile.

What a library raises at a damaged file becomes one line that names the file and says what to do.
"""

from __future__ import annotations

import errno
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from benchmarks.data.array_file import check_stamps
from benchmarks.data.cache import (
    Block,
    Findings,
    Prepared,
    Reader,
    cache_folder,
    fingerprint,
    prepare,
)
from benchmarks.files import Stamp, check_regular

CUT_OFF = (
    "was changed, cut off or removed while frames were prepared from it; none are kept: wait until "
    "it is whole, and run the command again"
)
MOST_PIXELS = 1 << 22  # of an image or a video's frame; those of the data sets have a tenth

# What libraries raise at damaged files: NumPy, h5py, PIL, PyAV, zipfile, gzip.
FAULTS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, MemoryError, RuntimeError, struct.error, zlib.error, lzma.LZMAError),
    *(zipfile.BadZipFile, tokenize.TokenError, Image.DecompressionBombError),
)


@contextmanager
def reading(what: str | Path, kind: str, remedy: str) -> Iterator[None]:
    """Turn what a library raises in the block into one line: `what` cannot be read as `kind`.

    It becomes a ValueError, or stays an OSError if the operating system refused to read. An error
    whose message begins with `what`, which begins with the file's path, says so already.
    """
    try:
        yield
    except FAULTS as error:
        if str(error).startswith(str(what)):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            reason = os.strerror(error.errno)
            raise OSError(error.errno, f"{what} cannot be read ({reason})") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{what} cannot be read as {kind} ({reason}); {remedy}") from error


def check_readable(path: Path) -> Path:
    """Return `path` if it is a regular file that may be read; raises as `check_regular` does.

    Raises PermissionError if it may not be read.
    """
    if not os.access(check_regular(path), os.R_OK):
        raise PermissionError(errno.EACCES, f"{path} may not be read; change its permissions")
    return path


def open_image(
    file: BinaryIO, what: str | Path, formats: tuple[str, ...], remedy: str
) -> Image.Image:
    """Decode an image file to RGB.

    `formats` are those that are expected, by PIL's names. Raises ValueError that begins with `what`
    for another format, for more pixels than MOST_PIXELS, and for a damaged image.
    """
    kind = " or ".join(formats)
    with reading(what, kind, remedy):
        try:
            image = Image.open(file, formats=formats)
        except UnidentifiedImageError as error:  # it would name the object that holds the bytes
            raise ValueError(f"{what} is no {kind}, or damaged; {remedy}") from error
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(
                f"{what} has {image.width}x{image.height} pixels; expected at most "
                f"{MOST_PIXELS:,}; {remedy}"
            )
        return image.convert("RGB")


def prepare_files(
    name: str,
    root: Path,
    files: Iterable[Path],
    reader: Reader,
    shape: Sequence[int],
    dtype: type[np.uint8] | type[np.float32],
    total: int | None = None,
    *,
    version: int,
    **settings: str | int,
) -> Prepared:
    """Open the frames that are prepared of `files`, below the data folder `root`, or prepare them.

    All that `reader` reads is to be in `files`. Its `version` and its own `settings`, each choice
    of which has a folder, are those of `fingerprint`; the other arguments those of `prepare`, which
    this calls. Raises what these raise; and, before
    `reader` begins, the error of `check_readable` for each of `files`; and ChangedError if one of
    them was changed, cut off or removed while they were read, whatever came of it.
    """
    files = list(files)

    def watched(findings: Findings) -> Iterator[Block]:
        stamps = {path: Stamp.of(check_readable(path)) for path in files}
        try:
            yield from reader(findings)
        except (OSError, ValueError):
            check_stamps(stamps, CUT_OFF)
            raise
        check_stamps(stamps, CUT_OFF)

    try:
        source = fingerprint(root, files, version=version, **settings)
    except FileNotFoundError:
        for path in files:
            check_regular(path)
        raise
    return prepare(cache_folder(name, root, **settings), source, watched, shape, dtype, total)
