"""PredNet's .hkl files: what hickle dumped into HDF5, read without hickle.

hickle 1 puts an array or a list of texts into the dataset `data`, hickle 2 and 3 into `data_0`.
hickle 4 and 5 put a list of texts into the group `data`, an item each, where an item that was met
before is a reference to it. Newer versions of hickle refuse files of the older ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from benchmarks.data.cache import Block
from benchmarks.data.hdf5 import check_dataset, each, find_object, open_hdf5, reading_hdf5

NAMES = ("data", "data_0")
ITEM = re.compile(r"data_?(\d+)")  # of a group: data0, data1, ...; data_0, ... in hickle 2 and 3
CHUNK_BYTES = 1 << 25
MOST_TEXT = 255  # bytes of a drive's name
REMEDY = "download it again"


def read_recordings(images: Path, sources: Path, shape: tuple[int, int, int]) -> Iterator[Block]:
    """Frames of X_*.hkl [N, H, W, C], uint8, by the names in sources_*.hkl, a chunk at a time.

    `shape` is (H, W, C); blocks are [n, C, H, W], of at most 32 MB. Neighbours with the same name
    are a recording. Raises ValueError, naming the file, if one is damaged, holds something else,
    or the two differ in length.
    """
    names = read_texts(sources)
    rows = max(1, CHUNK_BYTES // int(np.prod(shape)))
    with _opened(images) as array:
        if not isinstance(array, h5py.Dataset) or array.dtype != np.uint8:
            raise ValueError(f"{images} holds {_kind(array)}; expected an array of uint8")
        check_dataset(images, array, REMEDY)
        if not array.shape or array.shape[1:] != shape:
            raise ValueError(f"{images} has the shape {array.shape}; expected (N, *{shape})")
        if len(array) != len(names):
            raise ValueError(
                f"{images} has {len(array)} frames and {sources.name} {len(names)} names; "
                "expected one a frame; download both again"
            )
        changes = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
        for start, stop in pairwise([0, *changes, len(names)]):
            for first in range(start, stop, rows):
                frames = array[first : min(first + rows, stop)].transpose(0, 3, 1, 2)
                yield Block(names[start], first - start, frames)


def read_texts(path: Path) -> list[str]:
    """The list of texts in `path`. Raises ValueError if it is damaged or holds something else."""
    with _opened(path) as node:
        if isinstance(node, h5py.Group):
            items = {int(match[1]): match[0] for match in map(ITEM.fullmatch, node) if match}
            if sorted(items) == list(range(len(node))):
                return [_text(path, find_object(node, items[place])) for place in sorted(items)]
        elif h5py.check_string_dtype(node.dtype) and len(node.shape or ()) == 1:
            check_dataset(path, node, REMEDY)
            return [_decoded(path, text) for text in each(node)]
        raise ValueError(f"{path} holds {_kind(node)}; expected a list of texts")


def _text(path: Path, item: h5py.Dataset | h5py.Group | None) -> str:
    """A text as its letters, as one value, or as a reference to one of these."""
    if isinstance(item, h5py.Dataset) and h5py.check_ref_dtype(item.dtype):
        check_dataset(path, item, REMEDY)
        item = item.file[item[()]]
    if not isinstance(item, h5py.Dataset) or not h5py.check_string_dtype(item.dtype):
        raise ValueError(f"{path} has {_kind(item)} in its list; expected a text")
    check_dataset(path, item, REMEDY)
    return _decoded(path, b"".join(np.ravel(item[()]).tolist()))


def _decoded(path: Path, text: bytes) -> str:
    if len(text) > MOST_TEXT:
        raise ValueError(f"{path} has a text of {len(text):,} bytes; expected at most {MOST_TEXT}")
    return bytes(text).decode()


def _kind(node: h5py.Dataset | h5py.Group | None) -> str:
    if node is None:
        return "a link to nothing"
    if isinstance(node, h5py.Group):
        return f"the group {node.name} of {len(node)}"
    return f"{node.dtype} of the shape {node.shape}"


@contextmanager
def _opened(path: Path) -> Iterator[h5py.Dataset | h5py.Group]:
    """What was dumped into `path`; what h5py says of a damaged file becomes a ValueError."""
    with open_hdf5(path, REMEDY) as file, reading_hdf5(path, REMEDY):
        found = (find_object(file, name, REMEDY) for name in NAMES)
        node = next((node for node in found if node is not None), None)
        if node is None:
            raise ValueError(
                f"{path} holds {sorted(file)[:9]}; expected 'data' or 'data_0', as hickle writes"
            )
        yield node
