"""Memory and time of an evaluation: `python -m pytest -s benchmarks/speed/bench_evaluate.py`."""

import torch

from benchmarks.data import MovingMNIST
from benchmarks.experiment import hardware
from benchmarks.experiment.cost import peak_memory
from benchmarks.experiment.evaluate import evaluate
from tau import TAU, Clip

CLIPS = 10_000


def test_memory_does_not_grow_with_the_test_set(benchmark):
    """All metrics on 10,000 clips, predicted by a small TAU, 16 at a time.

    The model's own memory is the peak of evaluating a single batch.
    """
    hardware.keep_freed_memory()
    data = MovingMNIST()
    model = TAU(Clip(), 8, 32, 6, 2, 2)
    evaluate(model, data.test(16, 16, "cpu"), data.clip)

    def megabytes(clips: int) -> float:
        with peak_memory(torch.device("cpu")) as peak:
            scores = evaluate(model, data.test(clips, 16, "cpu"), data.clip).scores
        assert scores["mse"].shape == (clips, 10)
        return peak.bytes / 1e6

    own = megabytes(16)
    whole = benchmark.pedantic(megabytes, args=(CLIPS,), rounds=1)
    print(f"peak {whole:.0f} MB, the model's own {own:.0f} MB")
    benchmark.extra_info["peak_mb"] = whole - own
    assert whole - own < 300
