"""One run from its plan to its record: train, evaluate, measure, store."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric

from benchmarks import cost, files, store
from benchmarks.data import Dataset
from benchmarks.evaluate import evaluate, sample
from benchmarks.store import StoredRun
from benchmarks.suite import PROTOCOL, Run, Suite, model_file, qualified_name
from benchmarks.train import train

LEAST_CALLS = 5  # that a suite of timings takes its median of
SAMPLES = 4  # test clips whose predictions are kept for the figures


def make_fabric(device: str, precision: str) -> Fabric:
    """A Fabric for one device, or for the process group that torchrun describes."""
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
            precision == "tf32"
        )
        torch.backends.cudnn.benchmark = True
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def execute(
    run: Run,
    suite: Suite,
    dataset: Dataset,
    runs: Path,
    checkpoint_seconds: float | None = None,
) -> StoredRun:
    """Bring a run to its end and return it; one that is done already is only read.

    A run that raises is stored as failed, with its reason, and is tried again the next time.
    Raises BlockingIOError if another process works on the same run.
    """
    folder = runs / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(run.device, run.training.precision)
    with _locked(folder, fabric):
        stored = store.read_run(folder)
        if stored is not None and stored.done:
            return stored
        base = _describe(run, dataset)
        try:
            measured = _measure(run, suite, dataset, folder, fabric, checkpoint_seconds)
            record = {**base, "status": "done", **measured}
        except Exception as error:  # any fault of one row must not stop the others
            failure = {**base, "status": "failed", "reason": f"{type(error).__name__}: {error}"}
            if fabric.is_global_zero:
                files.write_json(
                    folder / "failure.json", failure | {"traceback": traceback.format_exc()}
                )
            if fabric.world_size > 1:
                raise  # the other processes wait for this one
            return StoredRun(folder, failure)
        if fabric.is_global_zero:
            files.write_json(folder / "record.json", record)
            (folder / "failure.json").unlink(missing_ok=True)
            (folder / "checkpoint.pt").unlink(missing_ok=True)
        fabric.barrier()
    return StoredRun(folder, record)


def _measure(
    run: Run,
    suite: Suite,
    dataset: Dataset,
    folder: Path,
    fabric: Fabric,
    checkpoint_seconds: float | None,
) -> dict[str, Any]:
    with cost.peak_memory(fabric.device) as peak:
        model, trained = train(run, dataset, folder, fabric, checkpoint_seconds)
    if not fabric.is_global_zero:
        return {}  # one process evaluates and stores
    files.write(folder / "model.pt", lambda file: torch.save(model.state_dict(), file))
    start = time.perf_counter()
    batches = dataset.test(run.training.test, run.training.batch_size, fabric.device)
    scores = evaluate(model, batches, run.clip)
    seconds = {"train": trained["train"], "evaluate": time.perf_counter() - start}
    files.write_npz(folder / "scores.npz", scores)
    clips = next(iter(dataset.test(SAMPLES, SAMPLES, fabric.device)))
    files.write_npz(folder / "samples.npz", sample(model, clips, run.clip))
    speed = cost.throughput(
        model,
        run.clip,
        fabric.device,
        run.training.batch_size,
        run.training.precision,
        seconds=suite.timing_seconds,
        least=LEAST_CALLS if suite.timed else 1,
    )
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": trained["steps"],
        "seconds": seconds,
        "test_sequences": len(scores["mse"]),
        "means": {name: float(values.mean(dtype=float)) for name, values in scores.items()},
        "cost": {
            "parameters": cost.parameters(model),
            "macs": cost.macs(model, run.clip),
            **paper_cost(run, suite),
            **speed,
            **_epoch(speed, dataset.train_sequences),
            "peak_memory_bytes": peak.bytes,
        },
    }


def _epoch(speed: dict[str, float | None], sequences: int) -> dict[str, float | None]:
    """Seconds to train on so many sequences, and their spread: that of the speed, in proportion."""
    rate, spread = (speed[f"training_sequences_per_second{end}"] for end in cost.SPREADS)
    return {
        "seconds_per_epoch": rate and sequences / rate,
        "seconds_per_epoch_spread": rate and spread and sequences * spread / rate**2,
    }


def paper_cost(run: Run, suite: Suite) -> dict[str, int]:
    """Parameters and multiply-adds of the run's row at the paper's size and clip."""
    with torch.device("meta"):
        model = run.row.build(suite.clip, "paper")
    return {
        "paper_parameters": cost.parameters(model),
        "paper_macs": cost.macs(model, suite.clip),
    }


def _describe(run: Run, dataset: Dataset) -> dict[str, Any]:
    return {
        "status": "started",
        "protocol": PROTOCOL,
        "suite": run.suite,
        "row": run.row.label,
        "model": qualified_name(run.row.model),
        "model_file": model_file(run.row.model),
        "options": run.options,
        "seed": run.seed,
        "key": run.key,
        "scale": run.scale,
        "training": asdict(run.training),
        "precision": run.training.precision,
        "clip": asdict(run.clip),
        "data": {**dataset.provenance, "caption": dataset.caption, "digest": dataset.digest},
        **store.provenance(run.device),
    }


@contextmanager
def _locked(folder: Path, fabric: Fabric) -> Iterator[None]:
    if not fabric.is_global_zero:
        yield
        return
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise BlockingIOError(
            f"another process is working on {folder}; wait for it, or choose another --out"
        ) from error
