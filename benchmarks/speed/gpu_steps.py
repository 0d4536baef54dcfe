"""Seconds per training step on a GPU, for rows, precisions, memory formats and ways to launch.

    python benchmarks/speed/gpu_steps.py --seconds 100 --out steps.json

One way after another, each warmed up for three steps, then the median of up to 20; one that does
not run is told in its line. What has no time left is not measured, and said. With `--compiled`
another process compiles meanwhile, which takes longer than all else; its ways are timed last.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.experiment.capture import WARM_UP, CapturedGradients, gradients_of, is_capturable
from benchmarks.suites.mmnist import ROWS
from tau import Clip

PRECISIONS = ("fp32", "tf32", "bf16")
LAYOUTS = ("contiguous", "channels_last")
LAUNCHES = ("eager", "graph")  # a CUDA graph
COMPILED = ("no", "forward", "loss")  # what is compiled; "forward": as in training
STEPS = 20  # that are timed; the median counts
TRIALS = ("off", "on")  # cuDNN's, of algorithms


class Way(NamedTuple):
    """How a row's step is computed."""

    row: str
    precision: str
    layout: str
    launch: str
    trials: str
    compiled: str


def measure(way: Way, batch_size: int, device: str, scale: str) -> Iterator[dict[str, Any]]:
    """Yield once warmed up, then the result of timing."""
    row = next(row for row in ROWS if row.label == way.row)
    clip = Clip()
    is_tf32 = way.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_tf32
    torch.backends.cudnn.benchmark = way.trials == "on"
    torch.manual_seed(0)
    model = row.model(clip, **row.at(scale)).to(device).train()
    if way.layout == "channels_last":
        model.to(memory_format=torch.channels_last)
    if way.launch == "graph" and not is_capturable(model):
        raise ValueError(f"{way.row} is not capturable")
    loss_of = model.loss
    if way.compiled == "forward":
        model.compile()
    elif way.compiled == "loss":
        loss_of = torch.compile(model.loss)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    shape = (batch_size, clip.frames, clip.channels, clip.height, clip.width)
    sequences = torch.rand(shape, device=device)

    autocast = torch.autocast(device, torch.bfloat16, enabled=way.precision == "bf16")
    eager = gradients_of(loss_of, clip, autocast)
    gradients = CapturedGradients(model, eager) if way.launch == "graph" else eager

    def step() -> float:
        start = time.perf_counter()
        gradients(sequences)
        optimiser.step()
        optimiser.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    begin = time.perf_counter()
    for _ in range(WARM_UP):
        step()
    warm_up = {"warm_up_seconds": time.perf_counter() - begin}
    yield warm_up
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begin, seconds = time.perf_counter(), [step(), step()]
    while len(seconds) < STEPS and time.perf_counter() - begin < 2:
        seconds.append(step())
    seconds.sort()
    quartiles = statistics.quantiles(seconds, method="inclusive")
    result = {"seconds": quartiles[1], "quartiles": [quartiles[0], quartiles[2]], **warm_up}
    if device == "cuda" and way.launch == "eager":
        result["peak_bytes"] = torch.cuda.max_memory_allocated()
    yield result


def work(connection: Connection, way: Way, *options: Any) -> None:
    """In a process: warm up, tell it, wait for the turn, time."""
    try:
        steps = measure(way, *options)
        connection.send(next(steps))
        connection.recv()
        connection.send(next(steps))
    except Exception as error:
        connection.send({"error": shorten(error)})


def shorten(error: Exception) -> str:
    """An error in at most 300 characters."""
    return f"{type(error).__name__}: {error}"[:300]


def time_ways(ways: Sequence[Way], seconds: float, *options: Any) -> list[dict[str, Any]]:
    """Time all ways, as `measure` with these options, within so many seconds; print them."""
    deadline = time.monotonic() + seconds
    context = multiprocessing.get_context("spawn")
    compiling: dict[Way, tuple[Connection, Any]] = {}
    for way in ways:
        if way.compiled != "no":
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, way, *options), daemon=False)
            process.start()
            theirs.close()
            compiling[way] = ours, process
    table = []
    for way in sorted(ways, key=compiling.__contains__):
        result: dict[str, Any] = {"error": "no time left"}
        left = deadline - time.monotonic()
        try:
            if way in compiling:
                connection, process = compiling[way]
                if connection.poll(max(0, left)) and "error" not in (result := connection.recv()):
                    connection.send("your turn")
                    result = connection.recv()
                process.kill()
            elif left > 0:
                *_, result = measure(way, *options)
        except Exception as error:
            result = {"error": shorten(error)}
        gc.collect()
        torch.cuda.empty_cache()
        table.append(way._asdict() | result)
        told = result.get("error") or f"{1e3 * result['seconds']:9.2f} ms"
        print(f"{way.row:<14} {' '.join(way[1:]):<42} {told}", flush=True)
    return table


def main() -> None:
    """Time all ways; print and store a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", default=[row.label for row in ROWS[1:]])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", default="standard")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["bf16"])
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["contiguous"])
    parser.add_argument("--launches", nargs="+", choices=LAUNCHES, default=LAUNCHES)
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=["off"])
    parser.add_argument("--compiled", nargs="+", choices=COMPILED, default=["no"])
    parser.add_argument("--seconds", type=float, default=100, help="that all may take")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    choices = args.rows, args.precisions, args.layouts, args.launches, args.trials, args.compiled
    ways = [Way(*choice) for choice in itertools.product(*choices)]
    table = time_ways(ways, args.seconds, args.batch_size, args.device, args.scale)
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    record = {"gpu": gpu, "torch": torch.__version__, "batch_size": args.batch_size, "steps": table}
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
