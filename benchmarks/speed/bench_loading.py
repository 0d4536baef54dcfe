"""Does loading starve training? `python -m pytest -s benchmarks/speed/bench_loading.py`.

A batch read from a file of frames of each data set's shape, beside the training step of TAU at
the paper's size on it, on the CPU, in one run. Frames are random: only their number counts.
"""

import time

import numpy as np
import pytest
import torch

from benchmarks.data.array_file import NumpyFile
from benchmarks.data.recordings import Recording, Windows, cut
from benchmarks.data.stored import StoredDataset
from benchmarks.experiment import hardware
from benchmarks.suites import caltech, kth20, taxibj

FRAMES = 2_400
# The batch fits the memory of a small machine; both parts of a ratio have the same.
CASES = {
    "taxibj": (taxibj.SUITE, 16, np.float32),
    "kth20": (kth20.SUITE, 2, np.uint8),
    "caltech": (caltech.SUITE, 2, np.uint8),
}


def stored(suite, dtype, path):
    """A data set of random frames in a file, as prepared ones lie there."""
    clip = suite.panels[0].clip
    shape = (FRAMES, clip.channels, clip.height, clip.width)
    np.save(path, np.random.default_rng(0).integers(0, 2, shape, np.uint8).astype(dtype))
    windows = Windows(NumpyFile(path), cut([Recording("a", 0, 0, FRAMES)], clip.frames, 1))
    splits = {"train": windows, "validation": windows, "test": windows}
    return StoredDataset("random", clip, **splits, provenance={}, caption="")


@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_ready_in_a_tenth_of_a_step(benchmark, name, tmp_path):
    """Time of a batch; the step is timed beside it and printed."""
    hardware.keep_freed_memory()
    suite, size, dtype = CASES[name]
    data = stored(suite, dtype, tmp_path / "frames.npy")
    model = suite.rows[-1].build(suite.panels[0].clip, "paper")
    optimiser = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        loss = model.loss(*suite.panels[0].clip.split(data.batch(0, 0, size, "cpu")))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    def seconds() -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    steps = iter(range(1_000_000))
    benchmark.pedantic(lambda: data.batch(0, next(steps), size, "cpu"), rounds=50, warmup_rounds=5)
    whole = min(seconds() for _ in range(2))
    ratio = benchmark.stats["median"] / whole
    benchmark.extra_info.update(step_seconds=whole, ratio=ratio)
    print(f"\n{name}: a batch of {size} takes {ratio:.3%} of TAU's step of {whole:.2f} s")
    assert ratio < 0.1
