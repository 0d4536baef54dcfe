"""One run from its plan to its record: train, evaluate, measure, store."""

from __future__ import annotations

import errno
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from filelock import FileLock, Timeout

from benchmarks import files
from benchmarks.experiment import code, cost, store
from benchmarks.experiment.evaluate import evaluate
from benchmarks.experiment.fabric import make_fabric, seed_generators
from benchmarks.experiment.group import Group, LostProcessError, is_lost, ranked
from benchmarks.experiment.length import settle
from benchmarks.experiment.logs import Log, logs_of
from benchmarks.experiment.plan import PROTOCOL, Run, encoded_options
from benchmarks.experiment.store import StoredRun
from benchmarks.experiment.train import train
from benchmarks.experiment.trial import Trial, count
from benchmarks.names import printable

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
LEAST_CALLS = 5  # that a suite of timings takes its median of


def execute(
    run: Run,
    runs: Path,
    checkpoint_seconds: float | None = None,
    log: Sequence[str] = (),
    counted: Trial | None = None,
) -> StoredRun:
    """Run to completion and return what is stored; a run that is done already is only read.

    `log` names the loggers that are told of it (see `logs`); `counted` is what a trial of the run
    has counted, which takes seconds.

    A run that raises is stored as failed, with its reason, and is tried again the next time. In a
    group of processes, the first one returns what is stored, and one that fails its failure.
    Raises BlockingIOError if another process works on the same run, ValueError if what is stored
    is damaged, LostProcessError if another process of the group has ended, and Stopped when a
    signal asks for it.
    """
    folder = runs / run.folder
    with _naming_lost(run):
        fabric = make_fabric(run.device, run.training.precision)
        with locked(runs, run, fabric.is_global_zero):
            stored = fabric.broadcast(find_run(run, runs) if fabric.is_global_zero else None)
            if stored is not None and stored.done:
                return stored
            base = describe(run)
            if fabric.is_global_zero:
                folder.mkdir(parents=True, exist_ok=True)
                files.remove_partial_files(folder, older_than=0)
                (folder / store.FAILURE).unlink(missing_ok=True)
            try:
                run = settle(run, folder, fabric)
                names = log if fabric.is_global_zero else ()
                params = {"panel": run.panel, **base, "training": _encoded(run)}
                with Log(names, logs_of(runs) / run.folder, params) as logger:
                    counts = counted or count(run)
                    measured = _measure(run, folder, fabric, checkpoint_seconds, counts, logger)
            except (Exception, SystemExit) as error:  # a fault of one row must not stop the others
                if run.processes > 1 and is_lost(error):
                    raise  # which is not this row's fault
                return store_failure(runs, base, _reason(error), traceback.format_exc())
            record = {**base, "status": "done", **measured}
            if fabric.is_global_zero:
                store.write_record(folder, record)
                for name in (store.CHECKPOINT, store.PREVIOUS):
                    (folder / name).unlink(missing_ok=True)
            fabric.barrier()
    return StoredRun(folder, record)


@contextmanager
def _naming_lost(run: Run) -> Iterator[None]:
    """Raise LostProcessError for what fails here because another process of the group has ended."""
    try:
        yield
    except RuntimeError as error:
        if run.processes == 1 or not is_lost(error):
            raise
        raise LostProcessError(
            f"{run.row.label}: another of the {run.processes} processes has ended, so this one "
            "ends too; checkpoints stay, and the same command continues; it said: "
            f"{printable(str(error))[:300]}"
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"SystemExit: the row called sys.exit({error.code!r})"
    return printable(f"{type(error).__name__}: {error}")


def store_failure(
    runs: Path, base: Mapping[str, Any], reason: str, trace: str | None = None
) -> StoredRun:
    """Store why a run failed; where that cannot be written, it is said and only returned."""
    failure = {**base, "status": "failed", "reason": reason}
    folder = runs / base["folder"]
    try:
        files.write_json(folder / store.FAILURE, failure | {"traceback": trace})
    except OSError as error:
        print(f"{base['row']}, seed {base['seed']}: not stored as failed: {error}", file=sys.stderr)
    return StoredRun(folder, failure)


def find_run(run: Run, runs: Path) -> StoredRun | None:
    """The stored result of exactly this run, verified; None if there is none.

    Raises ValueError, naming the file and what to do, for one that is damaged or was changed.
    """
    stored = store.read_run(runs / run.folder)
    if stored is not None and stored.done:
        store.check_run(
            stored,
            {
                "protocol": PROTOCOL,
                "key": run.key,
                "seed": run.seed,
                "row": run.row.label,
                "scale": run.scale,
                "clip": asdict(run.clip),
            },
            run.metrics,
        )
    return stored


def put_in_place(run: Run, runs: Path, content: Mapping[str, bytes]) -> StoredRun:
    """Store the files of a run that was executed elsewhere, by their paths beside `runs`.

    A run that is done already stays as it is; one that has failed there keeps its checkpoints from
    here. Raises BlockingIOError if another process works on it, and ValueError if what is stored is
    damaged.
    """
    with locked(runs, run):
        stored = find_run(run, runs)
        if stored is None or not stored.done:
            folder = runs / run.folder
            is_done = any(Path(name).name == store.RECORD for name in content)
            checkpoints = (store.CHECKPOINT, store.PREVIOUS) if is_done else ()
            for name in (store.FAILURE, *checkpoints):
                (folder / name).unlink(missing_ok=True)
            for name in sorted(content, key=lambda name: Path(name).name == store.RECORD):
                files.write(runs.parent / name, partial(_write, content=content[name]))
            stored = find_run(run, runs)
    assert stored is not None  # done or failed, as `execute` leaves it
    return stored


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)


def _measure(
    run: Run,
    folder: Path,
    fabric: Fabric,
    checkpoint_seconds: float | None,
    counted: Trial,
    log: Log,
) -> dict[str, Any]:
    dataset = run.dataset
    with cost.peak_memory(fabric.device) as peak:
        model, trained = train(run, folder, fabric, checkpoint_seconds, log)
    # not of a run that only reads its last checkpoint
    has_peak = trained["new_steps"] > 0 or trained["steps"] == 0
    group = Group.of(fabric)
    group.equal_buffers(model)
    if fabric.is_global_zero:
        files.write(folder / "model.pt", lambda file: torch.save(model.state_dict(), file))
    start = time.perf_counter()
    batches = dataset.test(run.training.test_sequences, run.training.batch_size, fabric.device)
    seed_generators("test", run.seed, *ranked(group))
    scores, samples = evaluate(model, batches, run.clip, dataset.value_range, run.metrics, group)
    if not fabric.is_global_zero:
        return {}  # one process stores
    seconds = {"train": trained["train"], "evaluate": time.perf_counter() - start}
    files.write_npz(folder / "scores.npz", scores)
    files.write_npz(folder / "samples.npz", samples)
    own = code.belongs_to_user(run.code)
    if own:
        files.write_json(folder / store.CODE, code.to_record(own))
    speed = cost.throughput(
        model,
        run.clip,
        fabric.device,
        run.training.batch_size // run.processes,
        run.training.precision,
        seconds=run.timing_seconds,
        least=LEAST_CALLS if run.timed else 1,
        alone=run.processes == 1,
    )
    dataset.check_unchanged()  # last: what was read must be what the plan describes
    measured = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": trained["steps"],
        "training": _encoded(run),
        "seconds": seconds,
        "test_sequences": len(scores["mse"]),
        "means": {name: run.metrics[name].number(values) for name, values in scores.items()},
        "cost": {
            "parameters": counted.parameters,
            "macs": counted.macs,
            **counted.paper,
            **speed,
            **_epoch(speed, dataset.train_sequences, run.processes),
            "peak_memory_bytes": peak.bytes if has_peak else None,
        },
        "files": {
            name: files.sha256(folder / name) for name in store.RESULTS if (folder / name).exists()
        },
    }
    log.end(measured, samples)
    return measured


def _encoded(run: Run) -> Any:
    return code.encode(asdict(run.training), "training")


def _epoch(
    speed: dict[str, float | None], sequences: int, processes: int
) -> dict[str, float | None]:
    """Seconds to train on so many sequences, and their spread: that of the speed, in proportion.

    None for several processes, whose speed together is not measured.
    """
    rate, spread = (speed[f"training_sequences_per_second{end}"] for end in cost.SPREADS)
    rate = rate if processes == 1 else None
    return {
        "seconds_per_epoch": rate and sequences / rate,
        "seconds_per_epoch_spread": rate and spread and sequences * spread / rate**2,
    }


def describe(run: Run) -> dict[str, Any]:
    """What a record says of a run before it is measured."""
    dataset = run.dataset
    return {
        "status": "started",
        "protocol": PROTOCOL,
        "suite": run.suite,
        "row": run.row.label,
        "model": code.qualified_name(run.row.model),
        "options": encoded_options(run.row, run.scale, tuples=bool(code.belongs_to_user(run.code))),
        "seed": run.seed,
        "key": run.key,
        "folder": run.folder,
        "scale": run.scale,
        "training": _encoded(run),
        "precision": run.training.precision,
        "processes": run.processes,
        "clip": asdict(run.clip),
        "value_range": list(dataset.value_range),
        "divided_by_255": dataset.divided_by_255,
        "overlap": _overlap(run),
        "data": {**dataset.provenance, "caption": dataset.caption, "digest": dataset.digest},
        **({"metrics": {m.name: m.digest for m in run.further}} if run.further else {}),
        **store.provenance(run.device),
    }


def _overlap(run: Run) -> int:
    """See `Dataset.overlap`, which a user may have written."""
    value = int(run.dataset.overlap(run.training.test_sequences))
    if value < 1:
        raise ValueError(f"data set {run.dataset.name!r}: overlap is {value}; expected 1 or more")
    return value


def lock_of(runs: Path, run: Run) -> FileLock:
    """The lock of a run's folder; it lies beside it, as the folder may be moved aside.

    flock(2) on Unix: the system lets go of it when its holder ends, however that ends.
    """
    folder = runs / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{run.folder}.lock")


def acquire(lock: FileLock) -> bool:
    """Take a lock, unless another process has it; whether it is taken.

    Raises OSError, saying what to do, on a file system without locks.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in WITHOUT_LOCKS:
            raise
        raise OSError(
            f"{lock.lock_file} cannot be locked ({error}): its file system has no file locks; "
            "mount it with them, or choose an --out on another one"
        ) from error
    return True


@contextmanager
def locked(runs: Path, run: Run, needed: bool = True) -> Iterator[None]:
    """Hold a run's lock; raises BlockingIOError if another process has it."""
    if not needed:
        yield
        return
    lock = lock_of(runs, run)
    if not acquire(lock):
        raise BlockingIOError(
            f"another process is working on {runs / run.folder}; wait for it, or choose another "
            "--out"
        )
    try:
        yield
    finally:
        lock.release()
