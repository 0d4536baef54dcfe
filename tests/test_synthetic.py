"""Generated stand-ins: the contract, streams that never meet, and motion that can be predicted."""

from __future__ import annotations

import inspect
import itertools
import json

import pytest
import torch
from torch.nn import functional as F

from benchmarks.data import DATASETS, Dataset, MovingMNIST, open_dataset
from benchmarks.data.generated import MovingTextures
from tau import Clip

TEXTURES = [name for name in DATASETS if name != "moving-mnist"]
CLIP = Clip(2, 2, 2, 12, 16)
SHAPES = {
    "moving-fashion-mnist": (20, 1, 64, 64),
    "taxibj": (8, 2, 32, 32),
    "taxibj-npz": (8, 2, 32, 32),
    "kth": (30, 1, 128, 128),
    "kth-action": (30, 1, 128, 128),
    "kitti-caltech": (11, 3, 128, 160),
    "kitti-raw-caltech": (11, 3, 128, 160),
    **{f"weatherbench-{name}": (24, 1, 32, 64) for name in ("t2m", "r", "tcc")},
    "weatherbench-uv10": (24, 2, 32, 64),
    **{f"weatherbench-{name}": (8, 12, 32, 64) for name in ("mv", "mv-released")},
    "sevir": (25, 1, 384, 384),
    "sevir-lr": (13, 1, 128, 128),
    "human36m": (8, 3, 256, 256),
}


@pytest.fixture(scope="module")
def small() -> MovingTextures:
    return MovingTextures("small", CLIP)


# The contract


@pytest.mark.parametrize("name", TEXTURES)
def test_sequences_have_the_shape_and_range_of_the_real_set(name):
    dataset = open_dataset(name, synthetic=True)
    frames = dataset.batch(0, 0, 2, "cpu")
    assert frames.shape == (2, *SHAPES[name]) and frames.dtype == torch.float32
    assert 0 <= frames.min() < 0.2 and 0.8 < frames.max() <= 1
    assert 0.1 < frames.std() < 0.3
    assert (dataset.train_sequences, dataset.test_sequences) == (10_000, 1_000)
    if frames.shape[2] > 1:
        assert (frames[:, :, 0] - frames[:, :, 1]).abs().mean() > 0.05


def test_a_batch_is_a_pure_function_of_seed_step_and_size(small):
    first = small.batch(3, 5, 2, "cpu")
    for other in ((4, 5), (3, 6), (5, 3), (3 + 2**32, 5)):
        assert not torch.equal(small.batch(*other, 2, "cpu"), first)
    assert torch.equal(small.batch(3, 5, 2, "cpu"), first)
    assert torch.equal(MovingTextures("small", CLIP).batch(3, 5, 2, "cpu"), first)


def test_no_sequence_is_in_two_places_of_a_split_or_in_two_splits(small):
    frames = torch.cat(
        [
            *(small.batch(seed, step, 4, "cpu") for seed in (0, 1) for step in (0, 1)),
            *small.validation(4, 4, "cpu"),
            *small.test(4, 4, "cpu"),
            MovingTextures("another", CLIP).batch(0, 0, 4, "cpu"),
        ]
    )
    apart = (frames.unsqueeze(0) - frames.unsqueeze(1)).abs().flatten(2).amax(-1)
    assert apart.fill_diagonal_(1).min() > 0.1


@pytest.mark.parametrize("split", ["validation", "test"])
def test_fixed_sequences_are_the_same_at_every_call_and_batch_size(small, split):
    read, count = getattr(small, split), 11
    whole = torch.cat(list(read(count, count, "cpu")))
    parts = list(read(count, 4, "cpu"))
    assert [len(part) for part in parts] == [4, 4, 3]
    assert torch.equal(torch.cat(parts), whole)


def test_without_a_number_all_test_sequences_are_given(small):
    assert sum(len(frames) for frames in small.test(None, 64, "cpu")) == small.test_sequences


def test_a_longer_sequence_begins_as_the_shorter_one(small):
    long = MovingTextures("small", CLIP, past=3, future=4)
    for a, b in (
        (long.batch(0, 1, 2, "cpu"), small.batch(0, 1, 2, "cpu")),
        (next(long.test(2, 2, "cpu")), next(small.test(2, 2, "cpu"))),
    ):
        assert a.shape[1] == 7 and torch.allclose(a[:, :4], b, atol=1e-6)


def test_downsample_averages_squares_of_pixels(small):
    quarter = MovingTextures("small", CLIP, downsample=4)
    frames, pooled = small.batch(0, 0, 2, "cpu"), quarter.batch(0, 0, 2, "cpu")
    assert (quarter.clip.height, quarter.clip.width) == (3, 4)
    expected = frames.unflatten(-1, (-1, 4)).unflatten(-3, (-1, 4)).mean((-1, -3))
    assert torch.allclose(pooled, expected, atol=1e-6)
    assert quarter.digest != small.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downsample": 0}, "downsample is 0; expected a divisor"),
        ({"downsample": 5}, "downsample is 5; expected a divisor"),
        ({"past": 0}, "Clip.past is 0; expected a positive integer"),
        ({"future": -1}, "Clip.future is -1; expected a positive integer"),
        ({"test_days": 3}, "'synthetic kth': option 'test_days' does not exist"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        open_dataset("kth", synthetic=True, **options)


def test_the_climatology_is_the_mean_of_many_textures(small):
    class Few(MovingTextures):
        train_sequences = 500

    averaged = Dataset.climatology(Few("small", small.clip))
    assert small.climatology().shape == averaged.shape
    assert abs(averaged - small.climatology()).max() < 0.06


def test_sizes_out_of_range_are_refused(small):
    with pytest.raises(ValueError, match="size is 0; expected a positive integer"):
        small.batch(0, 0, 0, "cpu")
    for read in (small.validation, small.test):
        with pytest.raises(ValueError, match="sequences is 0"):
            read(0, 4, "cpu")
        with pytest.raises(ValueError, match="batch_size is 0"):
            read(4, 0, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_sequences_come_to_the_device_asked_for(small):
    assert torch.equal(small.batch(0, 0, 2, "cuda").cpu(), small.batch(0, 0, 2, "cpu"))
    assert next(small.test(2, 2, "cuda")).is_cuda


# Motion


def shifted(frames: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Frames [C, H, W] moved to the right by x pixels and down by y."""
    matrix = torch.tensor([[1.0, 0, -2 * x / frames.shape[-1]], [0, 1, -2 * y / frames.shape[-2]]])
    grid = F.affine_grid(matrix[None], [1, *frames.shape], align_corners=False)
    return F.grid_sample(frames[None], grid, mode="bicubic", align_corners=False)[0]


def inner_error(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other)[:, 4:-4, 4:-4].square().mean().item()


def test_all_channels_move_at_one_constant_velocity():
    """The shift that best explains the first step explains all the others."""
    steps = torch.arange(-10, 11) / 4
    velocities = []
    for frames in MovingTextures("moving", Clip(3, 3, 2, 32, 32)).batch(0, 0, 4, "cpu"):
        errors = {
            (x, y): inner_error(shifted(frames[0], x, y), frames[1])
            for x in steps.tolist()
            for y in steps.tolist()
        }
        x, y = min(errors, key=errors.__getitem__)
        velocities.append((x, y))
        assert 0.25 <= (x**2 + y**2) ** 0.5 <= 2.75
        for before, after in itertools.pairwise(frames):
            for channel in (0, 1):
                one, two = before[[channel]], after[[channel]]
                assert inner_error(shifted(one, x, y), two) < 0.2 * inner_error(one, two)
    assert len(set(velocities)) == len(velocities)


# Marks


@pytest.mark.parametrize("real", DATASETS)
def test_every_stand_in_is_marked_and_reads_no_folder(real, tmp_path):
    dataset = open_dataset(real, tmp_path, synthetic=True)
    assert dataset.synthetic and dataset.name == f"synthetic {real}"
    assert dataset.provenance["name"] == dataset.name and dataset.provenance["synthetic"]
    assert dataset.caption.startswith("Synthetic ")
    assert "not the real data" in dataset.caption and "do not compare" in dataset.caption
    assert str(tmp_path) not in json.dumps(dataset.provenance)
    assert open_dataset(real, synthetic=True).digest == dataset.digest
    assert open_dataset(real, synthetic=True, future=3).digest != dataset.digest


@pytest.mark.parametrize("real", DATASETS)
def test_a_stand_in_has_the_task_of_the_real_set_and_its_default_frames(real):
    clip = open_dataset(real, synthetic=True).clip
    assert clip == DATASETS[real].clip
    parameters = inspect.signature(DATASETS[real]).parameters
    for name in {"past", "future"} & parameters.keys():
        assert parameters[name].default == getattr(clip, name)


def test_digests_differ_between_stand_ins():
    found = {open_dataset(name, synthetic=True).digest for name in DATASETS}
    assert len(found) == len(DATASETS)


def test_a_class_of_your_own_that_states_its_task_has_a_stand_in():
    class Mine(Dataset):
        clip = CLIP

    dataset = open_dataset(Mine, synthetic=True, past=1)
    assert dataset.name == "synthetic Mine" and dataset.clip == Clip(1, 2, 2, 12, 16)
    del Mine.clip
    with pytest.raises(ValueError, match=r"'Mine' has no generated stand-in; .*class Mine"):
        open_dataset(Mine, synthetic=True)


def test_synthetic_moving_mnist_is_moving_mnist_of_the_bundled_digits(tmp_path):
    options = {"digits": 1, "downsample": 2}
    stand_in = open_dataset("moving-mnist", tmp_path, synthetic=True, **options)
    bundled = MovingMNIST(**options)
    assert torch.equal(stand_in.batch(0, 1, 3, "cpu"), bundled.batch(0, 1, 3, "cpu"))
    assert torch.equal(next(stand_in.test(3, 3, "cpu")), next(bundled.test(3, 3, "cpu")))
    assert not bundled.synthetic and stand_in.digest != bundled.digest
    with pytest.raises(ValueError, match="option 'generated_test' does not exist"):
        open_dataset("moving-mnist", synthetic=True, generated_test=True)
