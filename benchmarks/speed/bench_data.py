"""Speed of Moving MNIST batches: `python -m pytest benchmarks/speed/bench_data.py`."""

import numpy as np
import pytest
import torch

from benchmarks.data import MovingMNIST

BATCH = 16


@pytest.fixture(scope="module")
def dataset():
    """Moving MNIST from the bundled digits, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield MovingMNIST()
    torch.set_num_threads(threads)


def one_clip(images: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """A clip as public loaders make it: one sample at a time, a digit and a frame at a time."""
    clip = np.zeros((20, 64, 64), np.uint8)
    for _ in range(2):
        image = images[rng.integers(len(images))]
        (x, y), angle = rng.random(2), rng.uniform(0, 2 * np.pi)
        step_x, step_y = 0.1 * np.cos(angle), 0.1 * np.sin(angle)
        for frame in clip:
            x, y = x + step_x, y + step_y
            if not 0 < x < 1:
                x, step_x = min(max(x, 0.0), 1.0), -step_x
            if not 0 < y < 1:
                y, step_y = min(max(y, 0.0), 1.0), -step_y
            left, top = int(36 * x), int(36 * y)
            patch = frame[top : top + 28, left : left + 28]
            np.maximum(patch, image, out=patch)
    return torch.from_numpy(clip[:, None] / 255.0).contiguous().float()


@pytest.mark.benchmark(group="16 Moving MNIST clips")
def test_batched(benchmark, dataset):
    """What training uses."""
    clips = benchmark(lambda: dataset.batch(0, 0, BATCH, "cpu"))
    assert clips.shape == (BATCH, 20, 1, 64, 64)


@pytest.mark.benchmark(group="16 Moving MNIST clips")
def test_per_sample(benchmark, dataset):
    """What it replaces: a loop over samples, then a stack."""
    images, rng = dataset._images.numpy(), np.random.default_rng(0)
    clips = benchmark(lambda: torch.stack([one_clip(images, rng) for _ in range(BATCH)]))
    assert clips.shape == (BATCH, 20, 1, 64, 64)


@pytest.mark.benchmark(group="first test block")
def test_verified_block(benchmark, dataset):
    """250 generated test clips, with their digest."""
    read = MovingMNIST()._test

    def alternate() -> None:  # one block is kept, so each of these makes a new one
        read(250, 251)
        read(500, 501)

    benchmark.pedantic(alternate, rounds=5, warmup_rounds=1)
