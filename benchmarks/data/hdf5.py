"""HDF5 files that are read without trusting them: all values come from the file itself.

HDF5 lets a dataset keep its values in other files, lets a link lead into another file, and lets a
file of a few bytes declare any number of values. A downloaded file could so show any file of this
machine as frames, wait for ever on a named pipe, or fill the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py

from benchmarks.data.originals import reading
from benchmarks.files import check_regular

MOST_PACKED = 2_000  # bytes that one stored byte may stand for; deflate packs 1,032 at most
MOST_CHUNK = 1 << 30  # bytes of a chunk, which HDF5 unpacks as a whole
AT_A_TIME = 500  # values of a list
MOST_LINKS = 16  # soft links that may follow each other, as in HDF5 itself


def reading_hdf5(path: Path, remedy: str = "write it again") -> AbstractContextManager[None]:
    """Turn whatever h5py raises in the block into one line (see `reading`).

    Nothing is raised where the file became shorter since it was opened: HDF5 gives zeros beyond its
    end, so compare its `Stamp` afterwards.
    """
    return reading(path, "HDF5", remedy)


def open_hdf5(path: Path, remedy: str = "write it again") -> h5py.File:
    """Open `path` for reading; close it, or use it as a context manager.

    Raises FileNotFoundError and ValueError as `check_regular` does, so that a named pipe is not
    waited for, and as `reading_hdf5` does for a file that is damaged or may not be read.
    """
    with reading_hdf5(path, remedy):
        try:
            return h5py.File(check_regular(path), "r")
        except OSError as error:
            if "lock" not in str(error):
                raise
            # HDF5's lock fails on network file systems; a file that changes is told by its stamp.
            return h5py.File(path, "r", locking=False)


def find_object(group: h5py.Group, name: str, remedy: str = "write it again") -> Any:
    """The dataset or group at the path `name` below `group`, None if there is none.

    Unlike `group[name]` it never opens another file: raises ValueError, which names the file, for
    a link that leads into one, for soft links that lead in a circle, and for a damaged file.
    """
    with reading_hdf5(Path(group.file.filename), remedy):
        return _follow(group, name, MOST_LINKS)


def _follow(node: Any, name: str, links: int) -> Any:
    node = node.file if name.startswith("/") else node
    for part in name.split("/"):
        if part in ("", "."):
            continue
        key = part.encode(errors="surrogateescape")
        if not isinstance(node, h5py.Group) or not node.id.links.exists(key):
            return None
        kind = node.id.links.get_info(key).type
        if kind == h5py.h5l.TYPE_HARD:
            node = node[part]
        elif kind == h5py.h5l.TYPE_SOFT and links:
            target = node.id.links.get_val(key).decode(errors="surrogateescape")
            node = _follow(node, target, links - 1)
        else:
            what = "links that lead in a circle" if links == 0 else "a link into another file"
            raise ValueError(
                f"{node.file.filename} has {what} at {part!r}; expected all data in the file "
                "itself: copy them into it with h5repack or h5py"
            )
    return node


def each(dataset: h5py.Dataset) -> Iterator[Any]:
    """The values of a list, read a few at a time: what is too long is met before all are read."""
    for first in range(0, len(dataset), AT_A_TIME):
        yield from dataset[first : first + AT_A_TIME]


def check_dataset(path: Path, dataset: h5py.Dataset, remedy: str = "write it again") -> None:
    """Raise ValueError unless the values of `dataset`, opened from `path`, are in that file.

    Refused, before any value is read: external storage, virtual datasets, more values than the
    stored bytes can hold however well they are packed, and chunks too large to unpack.
    """
    with reading_hdf5(path, remedy):
        what, layout = f"{path}: {dataset.name}", dataset.id.get_create_plist()
        if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
            raise ValueError(
                f"{what} takes its values from other files; expected all data in the file itself: "
                "copy them into it with h5repack or h5py"
            )
        item, stored = dataset.dtype.itemsize, dataset.id.get_storage_size()
        declared = item * math.prod((0,) if dataset.shape is None else dataset.shape)
        if declared > MOST_PACKED * min(stored, path.stat().st_size):
            raise ValueError(
                f"{what} declares {declared:,} bytes of values, and the file stores {stored:,} of "
                f"them; expected them all: writing was broken off, or it is damaged; {remedy}"
            )
        if (chunk := item * math.prod(dataset.chunks or (0,))) > MOST_CHUNK:
            raise ValueError(
                f"{what} is stored in chunks of {chunk:,} bytes; expected at most "
                f"{MOST_CHUNK:,}: write it with smaller ones"
            )
