"""Seconds a training step on a GPU, for each precision, memory format and way to compile.

    python benchmarks/speed/gpu_steps.py --rows Ours --out steps.json

Compiled ways are compiled in parallel, each in its own process, and timed one at a time once all
are ready, so the whole takes about as long as its slowest compilation: 80 s for two ways of TAU on
16 cores beside an H200. Ask for a few ways at a time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.suites.mmnist import ROWS
from tau import Clip

PRECISIONS = ("fp32", "tf32", "bf16")
LAYOUTS = ("contiguous", "channels_last")
COMPILED = ("eager", "forward", "loss")  # what is compiled
STEPS = 20  # that are timed; the median counts
Way = tuple[str, str, str, str]  # row, what is compiled, precision, layout


def measure(way: Way, batch_size: int, device: str, scale: str) -> Any:
    """Generator: yields after warming up, then the result of timing."""
    label, compiled, precision, layout = way
    row = next(row for row in ROWS if row.label == label)
    clip = Clip()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = False  # as in training
    torch.manual_seed(0)
    model = row.model(clip, **row.at(scale)).to(device).train()
    if layout == "channels_last":
        model.to(memory_format=torch.channels_last)
    loss_of = model.loss
    if compiled == "forward":
        model.compile()
    elif compiled == "loss":
        loss_of = torch.compile(model.loss)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    shape = (batch_size, clip.frames, clip.channels, clip.height, clip.width)
    past, future = torch.rand(shape, device=device).split([clip.past, clip.future], dim=1)

    def step() -> float:
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(past, future)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    begin = time.perf_counter()
    for _ in range(3):
        step()
    warm_up = time.perf_counter() - begin
    if device == "cuda":
        torch.cuda.empty_cache()
    yield warm_up
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step()
    seconds = [step() for _ in range(STEPS)]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    yield {"seconds": statistics.median(seconds), "warm_up_seconds": warm_up, "peak_bytes": peak}


def work(connection: Connection, way: Way, *options: Any) -> None:
    """In a process: warm up, tell it, wait for the turn, time."""
    try:
        steps = measure(way, *options)
        connection.send(next(steps))
        connection.recv()
        connection.send(next(steps))
    except Exception as error:
        connection.send({"error": f"{type(error).__name__}: {error}"[:300]})


def main() -> None:
    """Time all ways; print and store a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", default=["Ours"])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", default="standard")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--compiled", nargs="+", choices=COMPILED, default=COMPILED)
    parser.add_argument("--wait", type=float, default=100, help="seconds that compiling may take")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    options = args.batch_size, args.device, args.scale
    context = multiprocessing.get_context("spawn")
    ways = list(itertools.product(args.rows, args.compiled, args.precisions, args.layouts))
    waiting: dict[Way, Connection] = {}
    processes: dict[Way, Any] = {}
    for way in ways:
        if way[1] != "eager":
            waiting[way], theirs = context.Pipe()
            processes[way] = context.Process(
                target=work, args=(theirs, way, *options), daemon=False
            )
            processes[way].start()
            theirs.close()
    results: dict[Way, dict[str, Any]] = {}
    deadline = time.monotonic() + args.wait
    for way, connection in waiting.items():
        ready: Any = {"error": f"not ready after {args.wait:g} s"}
        try:
            if connection.poll(max(0, deadline - time.monotonic())):
                ready = connection.recv()
            else:
                processes[way].kill()
        except EOFError:
            ready = {"error": "its process ended"}
        if isinstance(ready, dict):
            results[way] = ready
        else:
            print(f"{way} is ready after {ready:.1f} s", flush=True)
    for way in ways:
        if way[1] == "eager":
            try:
                results[way] = list(measure(way, *options))[-1]
            except Exception as error:
                results[way] = {"error": f"{type(error).__name__}: {error}"[:300]}
        elif way not in results:
            waiting[way].send("your turn")
            results[way] = waiting[way].recv()
        print(*way, results[way], flush=True)
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    table = [
        dict(zip(("row", "compiled", "precision", "layout"), w, strict=True)) | r
        for w, r in results.items()
    ]
    record = {"gpu": gpu, "torch": torch.__version__, "batch_size": args.batch_size, "steps": table}
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    for process in processes.values():
        process.kill()
    for line in sorted((t for t in table if "seconds" in t), key=lambda t: t["seconds"]):
        print(
            f"{line['row']:<14} {line['compiled']:<8} {line['precision']} {line['layout']:<14}"
            f"{1e3 * line['seconds']:8.2f} ms"
        )


if __name__ == "__main__":
    main()
