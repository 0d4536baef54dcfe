"""The contract of a data set: a class in the user's file, opened by itself or as a partial."""

from __future__ import annotations

import json
import pickle
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.data import DATASETS, Dataset, MovingMNIST, open_dataset
from benchmarks.data.dataset import SAMPLE, spans
from tau import Clip

CLIP = Clip(1, 2, 1, 2, 3)


class Grey(Dataset):
    """The least that a data set needs."""

    clip = CLIP
    train_sequences = 40
    test_sequences = 20

    def sequences(self, *values: float) -> torch.Tensor:
        return torch.tensor(values).view(-1, 1, 1, 1, 1).expand(-1, 3, 1, 2, 3).float() / 1000

    def batch(self, seed, step, size, device):
        return self.sequences(*(100 * seed + 10 * step + i for i in range(size))).to(device)

    def validation(self, sequences, batch_size, device):
        for a, b in spans(sequences, 40, batch_size):
            yield self.sequences(*range(300 + a, 300 + b)).to(device)

    def test(self, sequences, batch_size, device):
        for a, b in spans(sequences, 20, batch_size):
            yield self.sequences(*range(500 + a, 500 + b)).to(device)


def altered(**members):
    """`Grey` with other members, under its name."""
    return type("Grey", (Grey,), members)


def test_three_methods_and_three_attributes_make_a_data_set():
    dataset = open_dataset(Grey)
    assert isinstance(dataset, Grey) and dataset.name == "Grey"
    assert dataset.provenance["name"] == "Grey" and dataset.provenance["past"] == 1
    assert json.loads(json.dumps(dataset.provenance)) == dataset.provenance
    expected = "Grey: 1 past and 2 future frames of 1x2x3; 40 training and 20 test sequences."
    assert dataset.caption == expected
    assert dataset.value_range == (0, 1) and dataset.notes == () and not dataset.synthetic
    assert dataset.checks() == [] and dataset.source is None and dataset.overlap(None) == 1
    assert dataset.divided_by_255 and not open_dataset(altered(value_range=(0, 9))).divided_by_255
    dataset.check_unchanged()
    again = pickle.loads(pickle.dumps(dataset))
    assert again.digest == dataset.digest == open_dataset(Grey).digest


def test_what_a_class_states_takes_the_place_of_the_defaults():
    stated = altered(name="mine", caption="Mine.", provenance={"name": "mine", "version": 3})
    dataset = open_dataset(stated)
    assert (dataset.name, dataset.caption) == ("mine", "Mine.")
    assert dataset.provenance == {"name": "mine", "version": 3}


@pytest.mark.parametrize(
    "members",
    [
        {"name": "another"},
        {"clip": Clip(2, 1, 1, 2, 3)},
        {"train_sequences": 41},
        {"test_sequences": 21},
        {"value_range": (0.0, 2.0)},
        {"batch": lambda self, seed, step, size, device: self.sequences(*range(7, size + 7))},
        {"test": lambda self, *_: [self.sequences(7)]},
        {"validation": lambda self, *_: [self.sequences(7)]},
    ],
)
def test_data_that_differ_have_another_digest(members):
    assert open_dataset(altered(**members)).digest != open_dataset(altered()).digest


def test_the_same_sequences_in_other_batches_have_the_same_digest():
    def one_by_one(self, sequences, batch_size, device):
        return Grey.test(self, sequences, 1, device)

    assert open_dataset(altered(test=one_by_one)).digest == open_dataset(altered()).digest


@pytest.mark.parametrize("attribute", ["clip", "train_sequences", "test_sequences"])
@pytest.mark.parametrize("value", [None, "many", 0, -1])
def test_an_attribute_that_is_missing_or_wrong_is_named(attribute, value):
    found = "is missing" if value is None else f"is {value!r}"
    with pytest.raises(ValueError, match=rf"'Grey': {attribute} {found}; .* class Grey or"):
        open_dataset(altered(**{attribute: value}))


def test_methods_that_are_missing_are_named():
    class Half(Dataset):
        clip = CLIP
        train_sequences = test_sequences = 3

        def batch(self, seed, step, size, device):
            return torch.zeros(size, 3, 1, 2, 3)

    with pytest.raises(ValueError, match=r"the class Half lacks the methods test, validation"):
        open_dataset(Half)


@pytest.mark.parametrize(
    ("give", "found"),
    [
        (lambda: torch.zeros(2, 3, 1, 2, 3, dtype=torch.uint8), r"torch.uint8 \(2, 3, 1, 2, 3\)"),
        (lambda: torch.zeros(2, 3, 2, 3), r"torch.float32 \(2, 3, 2, 3\)"),
        (lambda: torch.zeros(0, 3, 1, 2, 3), r"torch.float32 \(0, 3, 1, 2, 3\)"),
        (lambda: torch.full((2, 3, 1, 2, 3), 2.0), "values from 2 to 2"),
        (lambda: torch.full((2, 3, 1, 2, 3), torch.nan), "values from nan to nan"),
        (lambda: np.zeros((2, 3, 1, 2, 3), np.float32), "a ndarray"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_sequences_that_do_not_fit_the_contract_are_named(give, found, split):
    members = {
        "train": {"batch": lambda self, *_: give()},
        "validation": {"validation": lambda self, *_: iter([give()])},
        "test": {"test": lambda self, *_: iter([give()])},
    }
    message = rf"'Grey' gives {found} as {split} sequences; expected torch.float32 \[sequences, 3,"
    with pytest.raises(ValueError, match=message):
        _ = open_dataset(altered(**members[split])).digest


def test_a_split_without_a_sequence_is_named():
    with pytest.raises(ValueError, match="gives no sequence as test sequences"):
        _ = open_dataset(altered(test=lambda self, *_: iter(()))).digest


@pytest.mark.parametrize("method", ["batch", "test"])
def test_sequences_that_change_when_read_again_are_refused(method):
    def random(self, *_):
        frames = torch.rand(SAMPLE, 3, 1, 2, 3)
        return frames if method == "batch" else iter([frames])

    with pytest.raises(ValueError, match=r"gives other (train|test) sequences when .* read again"):
        _ = open_dataset(altered(**{method: random})).digest


# Opening a class


def test_every_data_set_is_found_by_the_name_of_its_class():
    assert all(cls.name == name for name, cls in DATASETS.items())
    assert all(cls.source is not None and cls.source.name == name for name, cls in DATASETS.items())
    assert list(DATASETS) == [
        "moving-mnist",
        "moving-fashion-mnist",
        "taxibj",
        "taxibj-npz",
        "kth",
        "kth-action",
        "kitti-caltech",
        "kitti-raw-caltech",
        *(f"weatherbench-{name}" for name in ("t2m", "uv10", "r", "tcc", "mv", "mv-released")),
        "sevir",
        "sevir-lr",
        "human36m",
    ]


def test_a_class_or_a_partial_of_one_opens_as_its_name_does(tmp_path):
    by_name = open_dataset("moving-mnist", past=3, downsample=2)
    for given, options in (
        (MovingMNIST, {"past": 3, "downsample": 2}),
        (partial(MovingMNIST, downsample=2), {"past": 3}),
        (partial(MovingMNIST, downsample=4, past=3), {"downsample": 2}),
    ):
        assert open_dataset(given, **options).digest == by_name.digest
    stand_in = open_dataset(partial(MovingMNIST, downsample=2), tmp_path, synthetic=True)
    assert stand_in.synthetic and stand_in.clip.height == 32
    with pytest.raises(FileNotFoundError, match="lacks train-images-idx3-ubyte"):
        open_dataset(MovingMNIST, tmp_path)


def test_the_data_folder_comes_to_a_class_that_takes_it(tmp_path):
    def take(self, root=None, *, note="none"):
        self.root, self.note = root, note

    rooted = altered(__init__=take)
    dataset = open_dataset(rooted, tmp_path, note="here")
    assert (dataset.root, dataset.note) == (tmp_path, "here")
    assert open_dataset(Grey, tmp_path).digest == open_dataset(Grey).digest


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (partial(MovingMNIST, downsampel=2), "option 'downsampel' does not exist; did you mean"),
        (partial(Grey, past=2), "'Grey': option 'past' does not exist"),
        (altered(__init__=lambda self, root, rate: None), "missing a required argument: 'rate'"),
        (dict, "<class 'dict'> is no data set; expected a name"),
        (open_dataset, "is no data set; .* a subclass of benchmarks.data.Dataset"),
        (partial(dict, a=1), "is no data set"),
    ],
)
def test_what_cannot_be_opened_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        open_dataset(given)
