"""Memory and time of an evaluation: `python -m pytest -s benchmarks/speed/bench_evaluate.py`."""

import torch

from benchmarks import heap
from benchmarks.cost import peak_memory
from benchmarks.data import MovingMNIST
from benchmarks.evaluate import evaluate
from tau import TAU, Clip

CLIPS = 10_000


def test_memory_does_not_grow_with_the_test_set(benchmark):
    """All metrics on 10,000 clips, predicted by a small TAU, 16 at a time."""
    heap.keep_freed_memory()
    data = MovingMNIST()
    model = TAU(Clip(), 8, 32, 6, 2, 2)
    evaluate(model, data.test(16, 16, "cpu"), data.clip)

    def run() -> dict:
        with peak_memory(torch.device("cpu")) as peak:
            scores = evaluate(model, data.test(CLIPS, 16, "cpu"), data.clip)
        benchmark.extra_info["peak_mb"] = peak.bytes / 1e6
        return scores

    scores = benchmark.pedantic(run, rounds=1)
    assert scores["mse"].shape == (CLIPS, 10)
    print(f"peak above the model's own: {benchmark.extra_info['peak_mb']:.0f} MB")
    assert benchmark.extra_info["peak_mb"] < 300
