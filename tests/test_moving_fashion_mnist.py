"""Moving Fashion-MNIST: Moving MNIST's motion, other images, and a test file of two types."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from official_files import stand_in

from benchmarks.data import MovingFashionMNIST, mnist, moving_fashion_mnist, moving_mnist
from benchmarks.data.__main__ import main

TEST_FILE = moving_fashion_mnist.TEST_FILE


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data folder with .gz files of 7 training items, all 10s, and 5 test items, all 200s."""
    folder = tmp_path / "data" / "moving_fmnist"
    folder.mkdir(parents=True)
    for part, count, value in (("TRAIN", 7, 10), ("TEST", 5, 200)):
        file = getattr(moving_fashion_mnist, part)
        pixels = np.full((count, 28, 28), value, np.uint8).tobytes()
        data = gzip.compress(struct.pack(">4I", mnist.MAGIC, count, 28, 28) + pixels, mtime=0)
        (folder / f"{file.name}.gz").write_bytes(data)
        md5 = hashlib.md5(data).hexdigest()
        monkeypatch.setattr(moving_fashion_mnist, part, replace(file, count=count, md5=md5))
    monkeypatch.setattr(moving_mnist, "BLOCK", 5)
    for module in (moving_mnist, moving_fashion_mnist):
        monkeypatch.setattr(module, "TEST_SHAPE", (20, 12, 64, 64))
    return folder.parent


@pytest.fixture
def stored(root: Path) -> np.ndarray:
    """The test sequences of a file beside them, from 0 to 255: [20, 12, 64, 64]."""
    array = np.random.default_rng(0).integers(0, 256, (20, 12, 64, 64), np.uint8)
    np.save(root / "moving_fmnist" / TEST_FILE, array)
    return array


def levels(frames: torch.Tensor) -> list[int]:
    return (255 * frames).round().int().unique().tolist()


def test_the_motion_is_that_of_moving_mnist(root: Path) -> None:
    data = MovingFashionMNIST(root)
    images = torch.full((7, 28, 28), 10, dtype=torch.uint8)
    stream = ("moving-mnist", "train", 3, 4)
    expected = moving_mnist.generate(images, stream, 2, digits=2, frames=20)
    found = data.batch(3, 4, 2, "cpu")
    assert torch.equal((255 * found[:, :, 0]).round().to(torch.uint8), expected)


def test_without_the_test_file_test_items_move(root: Path) -> None:
    data = MovingFashionMNIST(root)
    test = torch.cat(list(data.test(None, 5, "cpu")))
    assert len(test) == 12 and levels(test) == [0, 200]
    assert levels(next(data.validation(4, 4, "cpu"))) == [0, 10]
    assert data.caption == (
        "Moving Fashion-MNIST, 2 items, 64x64 pixels: trained on sequences generated from the "
        "60,000 Fashion-MNIST training items, tested on a fixed test set (not the published one) "
        "generated from the 10,000 Fashion-MNIST test items."
    )
    assert data.provenance["test_set"] == "generated from 5 fashion-mnist test items"
    assert all(check.holds for check in data.checks())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_published_test_file_is_preferred_in_either_type(
    root: Path, stored: np.ndarray, dtype: type
) -> None:
    (root / "moving_fmnist" / "t10k-images-idx3-ubyte.gz").unlink()
    np.save(root / "moving_fmnist" / TEST_FILE, stored.astype(dtype))
    data = MovingFashionMNIST(root)
    expected = torch.from_numpy(stored.swapaxes(0, 1)[:, :, None] / np.float32(255))
    assert torch.equal(torch.cat(list(data.test(None, 5, "cpu"))), expected)
    assert "OpenSTL's test set" in data.caption
    again = pickle.loads(pickle.dumps(data))
    assert again.digest == data.digest
    pooled = MovingFashionMNIST(root, downsample=2, past=3, future=2)
    assert next(pooled.test(2, 2, "cpu")).shape == (2, 5, 1, 32, 32)


def test_another_test_file_is_another_test_set(root: Path, stored: np.ndarray) -> None:
    first = MovingFashionMNIST(root).digest
    np.save(root / "moving_fmnist" / TEST_FILE, stored ^ 1)
    assert MovingFashionMNIST(root).digest != first
    assert levels(next(MovingFashionMNIST(root, generated_test=True).test(4, 4, "cpu")))[-1] == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:, :, :, :60], r"expected uint8 or float32 \(20, 12, 64, 64\)"),
        (lambda a: a.astype(np.float64), "float64 .* expected uint8 or float32"),
        (lambda a: a.astype(np.float32) / 255, "largest value of its first 4 .* is 1; .* 255"),
        (lambda a: a.astype(np.float32) * 2, "values from 0.0 to 510.0; expected 0 to 255"),
        (lambda a: np.where(a > 9, np.nan, a).astype(np.float32), "values from nan to nan"),
    ],
)
def test_a_wrong_test_file_is_refused(root, stored, change, message) -> None:
    path = root / "moving_fmnist" / TEST_FILE
    np.save(path, np.ascontiguousarray(change(stored)))
    with pytest.raises(ValueError, match=message) as error:
        MovingFashionMNIST(root)
    assert str(path) in str(error.value)


def test_the_digits_of_mnist_are_refused(root: Path) -> None:
    path = root / "moving_fmnist" / "train-images-idx3-ubyte.gz"
    pixels = np.full((7, 28, 28), 11, np.uint8).tobytes()
    path.write_bytes(gzip.compress(struct.pack(">4I", mnist.MAGIC, 7, 28, 28) + pixels))
    with pytest.raises(ValueError, match=r"has the MD5 .*: the items are not Fashion-MNIST's"):
        MovingFashionMNIST(root)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (
            ["train-images-idx3-ubyte.gz"],
            "needs moving_fmnist/train-images-idx3-ubyte.gz; .* download moving-f",
        ),
        (["t10k-images-idx3-ubyte.gz"], f"needs .*{TEST_FILE} or .*t10k-images-idx3-ubyte.gz; "),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_gets_it(root, gone, message) -> None:
    for name in gone:
        (root / "moving_fmnist" / name).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        MovingFashionMNIST(root)
    with pytest.raises(FileNotFoundError, match="no data folder was given"):
        MovingFashionMNIST()


def test_a_generated_test_set_needs_test_items(root: Path, stored: np.ndarray) -> None:
    (root / "moving_fmnist" / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks t10k-.* download moving-fashion-mnist"):
        MovingFashionMNIST(root, generated_test=True)
    with pytest.raises(ValueError, match=r"2 digits in 20 frames; asked for 2 in 21"):
        MovingFashionMNIST(root, future=11)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", TEST_FILE])
def test_what_is_no_file_is_refused(root: Path, stored: np.ndarray, name: str) -> None:
    path = root / "moving_fmnist" / name
    message = stand_in(path, "a named pipe")
    with pytest.raises((ValueError, OSError)) as error:
        MovingFashionMNIST(root)
    assert f"{path} {message}" in str(error.value)


def test_the_command_verifies_and_prepares(root: Path, stored: np.ndarray, capsys) -> None:
    assert main(["prepare", "moving-fashion-mnist", "--data", str(root)]) == 0
    assert "needs no preparation" in capsys.readouterr().out
    main(["verify", "moving-fashion-mnist", "--data", str(root)])
    out = capsys.readouterr().out
    assert "training items: expected 7, found 7" in out
    assert "test sequences (fmnist_test_seq.npy): expected 12, found 12" in out
    assert "MD5 of moving_fmnist/train-images-idx3-ubyte.gz" in out
