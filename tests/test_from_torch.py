"""A torch data set as a data set of the benchmark: splits, values, digests, and its errors."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset

from benchmarks.data import FromTorch, open_dataset
from tau import Clip

CLIP = Clip(1, 2, 1, 2, 4)
SHAPE = (3, 1, 2, 4)


class Items:
    """Item i is filled with grey[i]: a map-style data set without torch."""

    def __init__(self, greys, kind=np.asarray):
        self.greys, self.kind = list(greys), kind

    def __len__(self):
        return len(self.greys)

    def __getitem__(self, index):
        return self.kind(np.full(SHAPE, self.greys[index], np.uint8))


def pair(frames):
    return torch.from_numpy(frames[:1]), torch.from_numpy(frames[1:])


def as_list(frames):
    return [frames]


def unit(frames):
    return frames / 255


def greys(batches) -> list[int]:
    frames = torch.cat(list(batches))
    assert frames.shape[1:] == SHAPE and frames.dtype == torch.float32
    assert torch.equal(frames, frames[:, :1, :, :1, :1].expand_as(frames))
    return [round(255 * value) for value in frames[:, 0, 0, 0, 0].tolist()]


def splits(dataset) -> tuple[list[int], list[int], list[int]]:
    count = dataset.train_sequences
    return (
        greys([dataset.batch(0, 0, count, "cpu")]),
        greys(dataset.validation(1000, 4, "cpu")),
        greys(dataset.test(None, 4, "cpu")),
    )


def test_the_last_tenth_is_for_test_and_the_tenth_before_for_validation():
    train, validation, test = splits(FromTorch(Items(range(50)), CLIP))
    assert sorted(train) == list(range(41)) and train != sorted(train)
    assert (validation, test) == ([*range(41, 45)], [*range(45, 50)])


def test_held_out_is_the_fraction_of_both():
    train, validation, test = splits(FromTorch(Items(range(40)), CLIP, held_out=0.25))
    assert (len(train), validation, test) == (23, [*range(23, 30)], [*range(30, 40)])


def test_a_given_test_set_is_all_there_is_to_test_and_nothing_else_is():
    dataset = FromTorch(Items(range(50)), CLIP, test=Items(range(100, 107)))
    train, validation, test = splits(dataset)
    assert sorted(train) == list(range(45))
    assert (validation, test) == ([*range(45, 50)], [*range(100, 107)])
    assert dataset.test_sequences == 7 and "tested on 7 (as given)" in dataset.caption


def test_few_of_many_are_evenly_spaced():
    dataset = FromTorch(Items(range(10)), CLIP, test=Items(range(100, 120)))
    assert greys(dataset.test(4, 3, "cpu")) == [100, 105, 110, 115]


def big_endian(frames):
    frames = frames.astype(">f8") / 255
    frames.flags.writeable = False
    return frames


@pytest.mark.parametrize("kind", [pair, as_list, unit, big_endian, torch.from_numpy])
def test_pairs_lists_arrays_and_tensors_are_the_same_sequences(kind):
    plain = splits(FromTorch(Items(range(20)), CLIP))
    assert splits(FromTorch(Items(range(20), kind), CLIP)) == plain


def test_torchs_own_tensor_dataset_is_read():
    frames = torch.arange(20).view(-1, 1, 1, 1, 1).expand(-1, *SHAPE) / 255
    for data in (TensorDataset(frames), TensorDataset(frames[:, :1], frames[:, 1:])):
        dataset = FromTorch(data, CLIP)
        assert dataset.name == "TensorDataset" and splits(dataset)[2] == [18, 19]


def test_values_are_scaled_by_the_range_that_is_given():
    def celsius(frames):
        return frames.astype(np.int64) - 10

    dataset = FromTorch(Items(range(20), celsius), CLIP, value_range=(-10, 10))
    assert dataset.value_range == (-10, 10) and not dataset.divided_by_255
    (test,) = dataset.test(None, 4, "cpu")
    assert torch.allclose(20 * test[:, 0, 0, 0, 0], torch.tensor([18.0, 19.0]))
    flags = FromTorch(Items([0, 1] * 10, lambda frames: frames > 0), CLIP)
    assert set(flags.test(None, 4, "cpu").__next__().unique().tolist()) == {0, 1}


def test_downsample_averages_pixels():
    dataset = FromTorch(Items(range(20)), CLIP, downsample=2)
    assert (dataset.clip.height, dataset.clip.width) == (1, 2)
    assert dataset.batch(0, 0, 3, "cpu").shape == (3, 3, 1, 1, 2)


def test_a_batch_is_a_pure_function_of_seed_step_and_size():
    dataset, again = (FromTorch(Items(range(60)), CLIP) for _ in range(2))
    first = dataset.batch(1, 2, 8, "cpu")
    assert torch.equal(again.batch(1, 2, 8, "cpu"), first)
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).batch(1, 2, 8, "cpu"), first)
    assert not torch.equal(dataset.batch(2, 2, 8, "cpu"), first)
    epoch = greys(dataset.batch(1, step, 7, "cpu") for step in range(7))
    assert sorted(epoch) == list(range(49))  # 60 less 6 for test and 5 for validation


def test_other_items_counts_ranges_and_names_give_another_digest():
    data = Items(range(30))
    plain = FromTorch(data, CLIP)
    others = [
        FromTorch(Items(range(1, 31)), CLIP),
        FromTorch(Items(range(31)), CLIP),
        FromTorch(Items([*range(29), 7]), CLIP),
        FromTorch(data, CLIP, held_out=0.2),
        FromTorch(data, CLIP, test=Items(range(27, 30))),
        FromTorch(data, CLIP, value_range=(0, 255)),
        FromTorch(data, CLIP, downsample=2),
        FromTorch(data, CLIP, name="mine"),
    ]
    digests = [dataset.digest for dataset in (plain, *others)]
    assert len(set(digests)) == len(digests)
    assert FromTorch(Items(range(30)), CLIP).digest == plain.digest


def test_it_opens_as_a_partial():
    dataset = open_dataset(partial(FromTorch, Items(range(20)), CLIP), held_out=0.2, name="mine")
    assert dataset.name == "mine" and dataset.test_sequences == 4
    with pytest.raises(ValueError, match="missing a required argument: 'dataset'"):
        open_dataset(FromTorch)
    with pytest.raises(ValueError, match="option 'heldout' does not exist; did you mean 'held_o"):
        open_dataset(partial(FromTorch, Items(range(20)), CLIP, heldout=0.2))
    with pytest.raises(ValueError, match="has no generated stand-in"):
        open_dataset(partial(FromTorch, Items(range(20)), CLIP), synthetic=True)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (lambda frames: frames[:2], r"\[2, 1, 2, 4\]"),
        (lambda frames: frames[:, 0], r"\[3, 2, 4\]"),
        (lambda frames: (frames[:2], frames[2:]), r"\[2, 1, 2, 4\] and \[1, 1, 2, 4\]"),
        (lambda frames: (frames, 3), "ndarray and int"),
        (lambda frames: (frames[:1], frames[1:] / 255), "torch.uint8 and torch.float64"),
        (lambda frames: frames * 1j, "ndarray"),
        (lambda frames: torch.from_numpy(frames) * 1j, "torch.complex64"),
        (lambda frames: {"video": frames}, "dict"),
        (lambda frames: frames.astype(np.int64), "torch.int64"),
        (lambda frames: frames + 1.5, "values from "),
        (lambda frames: frames * np.nan, "values from nan to nan"),
    ],
)
def test_an_item_that_does_not_fit_is_named_with_what_is_expected(kind, found):
    expected = r"expected .* \[3, 1, 2, 4\], or a pair \[1, 1, 2, 4\] and \[2, 1, 2, 4\], .* 0 to 1"
    with pytest.raises(ValueError, match=rf"^Items: item \d+ has {found}.*; {expected}"):
        FromTorch(Items(range(1, 21), kind), CLIP)


def test_values_outside_the_given_range_are_named_with_the_item_of_the_test_set():
    with pytest.raises(ValueError, match=r"^Items: test: item 2 has values from 9 to 9; .* 0 to 8"):
        FromTorch(Items(range(8)), CLIP, test=Items([1, 2, 9]), value_range=(0, 8))


def test_items_of_two_types_are_refused():
    def mixed(frames):
        return frames if frames.flat[0] % 2 else unit(frames)

    with pytest.raises(ValueError, match="Items has items of float32 and of uint8; expected one"):
        FromTorch(Items(range(20), mixed), CLIP)


def test_random_transforms_are_refused():
    def noisy(frames):
        return torch.rand(SHAPE)  # as a transform from torchvision would be

    with pytest.raises(ValueError, match=r"other train sequences .*leave random transforms out"):
        FromTorch(Items(range(20), noisy), CLIP)


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (Endless(), {}, "Endless is a Endless without a length; expected a map-style"),
        (Items(range(2)), {}, "has 1 item.*expected at least 3 items"),
        (Items([]), {}, "has 0 items"),
        (Items(range(9)), {"test": Items([])}, "has no test sequence"),
        (Items(range(9)), {"test": Endless()}, "test is a Endless without a length"),
        (Items(range(9)), {"held_out": 0}, "held_out is 0; expected a fraction"),
        (Items(range(9)), {"held_out": 1.0}, "held_out is 1.0; expected a fraction"),
        (Items(range(9)), {"value_range": (1, 1)}, r"value_range is \(1, 1\); expected"),
        (Items(range(9)), {"downsample": 3}, "downsample is 3; expected a divisor"),
    ],
)
def test_what_cannot_be_split_or_scaled_is_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        FromTorch(data, CLIP, **options)


def test_testing_on_the_training_set_is_refused():
    data = Items(range(20))
    with pytest.raises(ValueError, match="test is the training data set itself"):
        FromTorch(data, CLIP, test=data)
