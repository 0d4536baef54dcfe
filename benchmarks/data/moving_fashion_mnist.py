"""Moving Fashion-MNIST: the motion and random streams of Moving MNIST, with clothes for digits.

OpenSTL's data set, of the images of Xiao, Rasul and Vollgraf (arXiv:1708.07747).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmarks.data import mnist, sources
from benchmarks.data.mnist import IdxFile
from benchmarks.data.moving_mnist import (
    TEST_SHAPE,
    MovingMNIST,
    StoredSequences,
    TestSet,
    check_stored,
    generated_test,
)
from benchmarks.data.sources import File, Source, missing_files, visible

FOLDERS = ("moving_fmnist", "fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "fmnist")
TEST_FILE = "fmnist_test_seq.npy"
TEST_PATTERNS = (*(f"{folder}/**/{TEST_FILE}" for folder in FOLDERS), TEST_FILE)
LOOKED_AT = 4  # sequences, to tell values up to 255 from those up to 1

TRAIN = IdxFile(
    "train-images-idx3-ubyte",
    "the 60,000 Fashion-MNIST training items",
    60_000,
    md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    family="Fashion-MNIST",
    noun="items",
)
TEST = IdxFile(
    "t10k-images-idx3-ubyte",
    "the 10,000 Fashion-MNIST test items",
    10_000,
    md5="bef4ecab320f06d8554ea6380940ec79",
    family="Fashion-MNIST",
    noun="items",
)


def _patterns(file: IdxFile) -> tuple[str, ...]:
    return tuple(f"{folder}/{file.name}.gz" for folder in FOLDERS)


def _file(file: IdxFile) -> File:
    mirror = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    url = f"{mirror}{file.name}.gz"
    return File(f"{FOLDERS[0]}/{file.name}.gz", (url,), f"md5:{file.md5}")


class MovingFashionMNIST(MovingMNIST):
    """Moving Fashion-MNIST: endless training sequences from the training items, 10,000 to test.

    `digits` is the number of items. `root` holds, in a folder of its own, as the names are those of
    MNIST's files, `train-images-idx3-ubyte.gz` and, to test on, `fmnist_test_seq.npy` (uint8 or
    float32, 0 to 255) or `t10k-images-idx3-ubyte.gz`; both .gz files are verified. Without the
    .npy, or with `generated_test`, a fixed test set is generated from the test items. The items in
    the .npy, of which no checksum is published, are training items.

    Raises FileNotFoundError if `root` lacks what is needed, ValueError for a file that is not the
    official one or an option out of range.
    """

    name = "moving-fashion-mnist"
    title = "Moving Fashion-MNIST"
    stand_in = None
    source: ClassVar[Source] = Source(
        name=name,
        title="Moving Fashion-MNIST: two bouncing pieces of clothing",
        licence="MIT (Fashion-MNIST, Zalando); fmnist_test_seq.npy: none stated",
        size="three files; the test sequences are 0.8 GB, or 3.3 GB as float32",
        needs=(_patterns(TRAIN), (*TEST_PATTERNS, *_patterns(TEST))),
        files=(
            _file(TRAIN),
            _file(TEST),
            File(
                f"{TEST_FILE}.tar",
                (
                    "https://github.com/chengtan9907/OpenSTL/releases/download/v0.1.0/"
                    f"{TEST_FILE}.tar",
                ),
                unpack=f"{FOLDERS[0]}/test",
            ),
        ),
    )

    @staticmethod
    def _train_file() -> IdxFile:
        return TRAIN

    @classmethod
    def _open(
        cls, root: Path | None, *, digits: int, frames: int, generated: bool
    ) -> tuple[mnist.Digits, TestSet]:
        if root is None or cls.source.missing(root):
            raise missing_files(cls.source, root)
        train, test = (sources.find(root, FOLDERS, f"{file.name}.gz") for file in (TRAIN, TEST))
        stored = next((path for pattern in TEST_PATTERNS for path in visible(root, pattern)), None)
        assert train is not None
        if stored is not None and not generated:
            test_set = _stored_test(stored, digits=digits, frames=frames)
            return mnist.read_idx(train, TRAIN), test_set
        if test is None:
            raise FileNotFoundError(
                f"{root} lacks {TEST.name}.gz to generate a test set from; "
                f"`python -m benchmarks.data download {cls.name} --data {root}` gets it"
            )
        items = mnist.read_idx(train, TRAIN)
        return items, generated_test(mnist.read_idx(test, TEST), digits=digits, frames=frames)


def _stored_test(path: Path, *, digits: int, frames: int) -> TestSet:
    """OpenSTL's test sequences; ValueError if they lack what is asked for, or are others."""
    check_stored(path, digits, frames)
    sequences = StoredSequences(path, frames, dtypes=(np.uint8, np.float32), expected_md5=None)
    if (largest := float(sequences(0, min(LOOKED_AT, TEST_SHAPE[1])).max())) <= 1:
        raise ValueError(
            f"{path}: the largest value of its first {LOOKED_AT} sequences is {largest:g}; "
            f"expected up to 255: download {TEST_FILE} again"
        )
    return TestSet(
        sequences,
        {"test_set": TEST_FILE, "test_set_md5": sequences.md5},
        "OpenSTL's test set, whose items are training items",
    )
