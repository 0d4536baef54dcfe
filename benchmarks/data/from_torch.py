"""Any map-style torch data set as a `Dataset`: its items are the sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from benchmarks.data.dataset import SAMPLE, content_digest
from benchmarks.data.stored import StoredDataset, evenly_spaced
from tau.predictor import Clip


class FromTorch(StoredDataset):
    """The items of a torch data set, which has `len()` and gives item i as `dataset[i]`.

    An item is a sequence [past + future, C, H, W], tensor or array, or a pair (past, future) of
    such. `test` is a data set of the same kind to test on; without it, the last `held_out` of the
    items is. The same fraction of what is left, from its end, is for validation.

    uint8 is divided by 255 and floats are in [0, 1]; other values need `value_range`, the smallest
    and the largest value that they may have. Every item is checked when it is read. `downsample`
    average-pools the frames.

    Runs are told apart by the counts and the content of 16 items of each split: give the data set
    another `name` if its items change elsewhere only. `dataset` must give the same item each time,
    so leave random transforms out, and be picklable, to be read in other processes. Raises
    ValueError naming the item, what was found and what is expected.
    """

    def __init__(
        self,
        dataset: Any,
        clip: Clip,
        *,
        test: Any = None,
        held_out: float = 0.1,
        value_range: tuple[float, float] | None = None,
        downsample: int = 1,
        name: str | None = None,
    ) -> None:
        name = name or type(dataset).__name__
        if not 0 < held_out < 1:
            raise ValueError(f"held_out is {held_out}; expected a fraction between 0 and 1")
        if value_range is not None and not (
            value_range[0] < value_range[1] and math.isfinite(value_range[1] - value_range[0])
        ):
            raise ValueError(f"value_range is {value_range}; expected (smallest, largest) value")
        if test is dataset:
            raise ValueError(
                f"{name}: test is the training data set itself; expected another one, or none to "
                "hold out a part of the items"
            )
        share = f"{100 * held_out:.3g} %"
        rest = Items(name, dataset, clip, value_range)
        if test is None:
            rest, tested = rest.divide(held_out)
        else:
            tested = Items(f"{name}: test", test, clip, value_range)
        trained, validated = rest.divide(held_out)
        splits = {"train": trained, "validation": validated, "test": tested}
        super().__init__(
            name,
            clip,
            **splits,
            provenance={"data_range": "as given" if value_range is None else str(value_range)},
            caption=(
                f"{name}: trained on {len(trained):,} sequences, validated on {len(validated):,} "
                f"(the last {share} of the training split), tested on {len(tested):,} "
                f"({f'the last {share} of all' if test is None else 'as given'})."
            ),
            value_range=value_range,
            downsample=downsample,
        )
        for split, items in splits.items():
            self.provenance[f"{split}_items_sha256"] = items.sample_digest(split)

    def classes(self) -> tuple[type, ...]:
        """This class, and those of the torch data sets."""
        splits = (self._train, self._validation, self._test)
        return (type(self), *(type(of.dataset) for of in splits if isinstance(of, Items)))


class Items:
    """Items `first` to `last` of a torch data set, as sequences that a `StoredDataset` reads."""

    def __init__(
        self,
        name: str,
        dataset: Any,
        clip: Clip,
        value_range: tuple[float, float] | None,
        first: int = 0,
        last: int | None = None,
    ) -> None:
        self.name, self.dataset, self.clip, self.value_range = name, dataset, clip, value_range
        self.first = first
        if last is None:
            if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
                raise ValueError(
                    f"{name} is a {type(dataset).__name__} without a length; expected a map-style "
                    "torch data set: len(dataset) items, of which dataset[i] is one"
                )
            last = len(dataset)
        self.last = last

    def __len__(self) -> int:
        return self.last - self.first

    def divide(self, held_out: float) -> tuple[Items, Items]:
        """All but the last fraction, at least one item, and that fraction."""
        middle = self.last - max(1, int(held_out * len(self)))
        if middle <= self.first:
            raise ValueError(
                f"{self.name} has {len(self)} items to train on and to hold {held_out} of them "
                "out; expected at least 3 items, or 2 and a test set"
            )
        whole = (self.name, self.dataset, self.clip, self.value_range)
        return Items(*whole, self.first, middle), Items(*whole, middle, self.last)

    def read(self, index: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """The items in `index`, checked: [B, past + future, C, H, W] uint8 or float32."""
        items = [self._item(self.first + int(place))[:length].numpy() for place in index]
        if len(kinds := {item.dtype.name for item in items}) > 1:
            raise ValueError(
                f"{self.name} has items of {' and of '.join(sorted(kinds))}; expected one type"
            )
        return np.stack(items)

    def sample_digest(self, split: str) -> str:
        """SHA-256 of up to 16 evenly spaced items; ValueError if they change when read again."""
        chosen = evenly_spaced(SAMPLE, len(self))
        return content_digest(self.name, split, lambda: [self.read(chosen, self.clip.frames)])

    def check_unchanged(self) -> None:
        """Nothing to check: the data set is the user's."""

    def _item(self, place: int) -> Tensor:
        item = self.dataset[place]
        given = item if isinstance(item, (tuple, list)) else [item]
        parts = [part for part in map(_tensor, given) if part is not None]
        if len(parts) < len(given):
            raise self._error(place, " and ".join(type(part).__name__ for part in given))
        past, future, *frame = astuple(self.clip)[:5]
        shapes = [list(part.shape) for part in parts]
        if shapes not in ([[past + future, *frame]], [[past, *frame], [future, *frame]]):
            raise self._error(place, " and ".join(map(str, shapes)))
        if len({part.dtype for part in parts}) > 1:
            raise self._error(place, " and ".join(str(part.dtype) for part in parts))
        values = torch.cat(parts)
        if values.is_floating_point() or values.dtype == torch.bool:
            values = values.float()
        plain = values.dtype in (torch.uint8, torch.float32)
        if values.is_complex() or not (plain or self.value_range):
            raise self._error(place, str(values.dtype))
        low, high = self.value_range or (0, 255 if values.dtype == torch.uint8 else 1)
        if not bool(((values >= low) & (values <= high)).all()):  # not so for NaN
            raise self._error(place, f"values from {values.min():.9g} to {values.max():.9g}")
        return values

    def _error(self, place: int, found: str) -> ValueError:
        past, future, *frame = astuple(self.clip)[:5]
        low, high = self.value_range or (0, 1)
        return ValueError(
            f"{self.name}: item {place} has {found}; expected a tensor or array "
            f"{[past + future, *frame]}, or a pair {[past, *frame]} and {[future, *frame]}, of "
            f"values from {low:.9g} to {high:.9g}"
            + (" or uint8; give another range as value_range" if self.value_range is None else "")
        )


def _tensor(part: object) -> Tensor | None:
    """A tensor or an array of numbers as a tensor on the CPU; None if it is something else."""
    if isinstance(part, np.ndarray) and part.dtype.kind in "biuf":
        return torch.from_numpy(np.array(part, part.dtype.newbyteorder("=")))
    return part.detach().cpu() if isinstance(part, Tensor) else None
