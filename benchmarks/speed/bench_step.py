"""Speed of a training step on the CPU: `python -m pytest benchmarks/speed/bench_step.py`.

Each way is timed in a process of its own, since the heap's settings hold for a whole process. The
paper's size takes minutes and 7 GB; `-k small` leaves it out. Page faults a step and peak
memory are printed with `--benchmark-json` or `-s`.
"""

import multiprocessing
import os
import resource
from contextlib import nullcontext
from multiprocessing.connection import Connection

import pytest
import torch

from benchmarks.experiment import hardware
from benchmarks.experiment.hardware import has_native_bf16
from tau import TAU, Clip

BATCH = 16
SIZES = {
    "small": {"spatial_hidden": 16, "temporal_hidden": 64, "temporal_depth": 4, "mlp_ratio": 4},
    "paper": {},
}
STEPS = {"small": (3, 6), "paper": (1, 2)}  # to warm up, to time
WAYS = {  # keep freed memory, bf16
    "as glibc does": (False, False),
    "kept": (True, False),
    "kept, bf16": (True, True),
}
needs_bf16 = pytest.mark.skipif(
    not has_native_bf16("cpu"), reason="this processor has neither AVX512-BF16 nor AMX"
)
needs_memory = pytest.mark.skipif(
    os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 12 * 2**30, reason="needs 12 GiB"
)


def train(connection: Connection, size: str, keep: bool, bf16: bool) -> None:
    """In a process: take a step for each message, answer with its page faults; end with None."""
    if keep and not hardware.keep_freed_memory():
        raise RuntimeError("this C library's heap cannot be told to keep freed memory")
    clip = Clip()
    model = TAU(clip, **SIZES[size])
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    frames = torch.rand(BATCH, clip.frames, clip.channels, clip.height, clip.width)
    past, future = frames.split([clip.past, clip.future], dim=1)
    while connection.recv():
        before = hardware.minor_faults()
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            loss = model.loss(past, future)
        loss.backward()
        optimiser.step()
        connection.send(hardware.minor_faults() - before)
    connection.send(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


@pytest.mark.parametrize(
    "way", ["as glibc does", "kept", pytest.param("kept, bf16", marks=needs_bf16)]
)
@pytest.mark.parametrize("size", ["small", pytest.param("paper", marks=needs_memory)])
def test_training_step(benchmark, size, way):
    """A step of TAU on Moving MNIST, batch 16."""
    benchmark.group = f"TAU, {size} size: training step"
    warm_up, rounds = STEPS[size]
    faults = []
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=train, args=(theirs, size, *WAYS[way]), daemon=True
    )
    process.start()
    theirs.close()

    def step() -> None:
        ours.send(True)
        faults.append(ours.recv())

    benchmark.pedantic(step, rounds=rounds, warmup_rounds=warm_up)
    ours.send(None)
    peak = ours.recv()
    process.join()
    timed = faults[-rounds:]
    benchmark.extra_info.update(faults=timed, peak_bytes=peak)
    print(f"\n{size}, {way}: page faults {timed}, peak memory {peak / 2**30:.2f} GiB")
    if way != "as glibc does":
        assert min(timed) < 10_000
