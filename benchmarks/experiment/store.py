"""A run's files: what they are, how they are read and verified, what they were made with.

A run's folder holds checkpoint.pt and the one before it while it trains, and length.json if it
trains for so many minutes; then model.pt (weights), curve.jsonl, scores.npz (metric -> [sequences,
frames], or [sequences, frames, K] of K parts), samples.npz (a few test sequences with predictions),
code.json (the user's modules that the model is made of, if any) and, written last, record.json: its
presence means done. A run that failed has failure.json instead.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import subprocess
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks import files
from benchmarks.metrics import Metric

PACKAGES = ("lightning-fabric", "numpy", "scikit-image", "fvcore")
ROOT = Path(__file__).resolve().parents[2]
RECORD, FAILURE, CODE = "record.json", "failure.json", "code.json"
LENGTH = "length.json"  # how long a training of so many minutes is
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint-before.pt"
RESULTS = ("model.pt", "curve.jsonl", "scores.npz", "samples.npz", CODE)  # a record's files
CHECKSUM = "sha256"  # of record.json without this entry
RERUN = "move its folder away, and the command that made it runs it again"
DAMAGED = (  # what readers raise for files that were cut short or changed
    *(ValueError, KeyError, TypeError, EOFError, RuntimeError, IndexError),
    *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError),
)


class Summary(NamedTuple):
    """What is left of a run's scores, each by metric."""

    sequences: dict[str, np.ndarray]  # mean over frames, float32 [sequences] or [sequences, K]
    frames: dict[str, np.ndarray]  # mean over sequences, float32 [frames] or [frames, K]
    infinite: dict[str, float]  # share of predicted frames with an infinite score


@dataclass(frozen=True)
class StoredRun:
    """A run's folder, read lazily. `record` is record.json, or failure.json of a failed run."""

    folder: Path
    record: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether the run finished; a failed one has a `reason` in its record."""
        return bool(self.record["status"] == "done")

    @property
    def is_final(self) -> bool:
        """Whether there is nothing to do for it: it is done, or damaged and to be moved away."""
        return self.record["status"] in ("done", "unusable")

    @property
    def trained(self) -> bool:
        """Whether a finished run was trained, unlike the last frame repeated or frozen weights."""
        return bool(self.record["steps"])

    @cached_property
    def means(self) -> dict[str, float]:
        """Each metric's number of a table, of all sequences; may be infinite or not a number."""
        return {name: float(value) for name, value in self.record["means"].items()}

    def curve(self) -> pd.DataFrame:
        """Learning curve: epoch, step, sequences, seconds, train_loss, val_mse, lr."""
        path = self.folder / "curve.jsonl"
        text = files.check_regular(path).read_text(encoding="utf-8")
        return pd.read_json(BytesIO(text.encode()), lines=True)

    def scores(self) -> dict[str, np.ndarray]:
        """Per-sequence scores: metric -> [sequences, frames], or [sequences, frames, K]."""
        return _read_npz(self.folder / "scores.npz")

    @cached_property
    def summary(self) -> Summary:
        """The scores as a table and its figures read them; read from the file once."""
        scores = self.scores()

        def means(axis: int) -> dict[str, np.ndarray]:
            return {n: v.mean(axis, dtype=float).astype(np.float32) for n, v in scores.items()}

        infinite = {name: float(np.isinf(values).mean()) for name, values in scores.items()}
        return Summary(sequences=means(axis=1), frames=means(axis=0), infinite=infinite)

    @property
    def has_samples(self) -> bool:
        """Whether `samples` are stored with the run."""
        return True

    def samples(self) -> dict[str, np.ndarray]:
        """A few test sequences: past, future and prediction, each [N, time, C, H, W] in [0, 1]."""
        return _read_npz(self.folder / "samples.npz")


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write record.json, with a checksum of itself among its entries."""
    files.write_json(folder / RECORD, {**record, CHECKSUM: checksum(record)})


def checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its entry CHECKSUM, in hexadecimal."""
    rest = {name: value for name, value in record.items() if name != CHECKSUM}
    text = files.to_json(rest, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def read_run(folder: Path) -> StoredRun | None:
    """The finished or failed run in `folder`; None if it has neither record.

    Raises ValueError for a record that cannot be read or was changed.
    """
    path = folder / RECORD
    if path.exists() or path.is_symlink():
        record = files.read_json(path, RERUN)
        if not isinstance(record, dict) or record.get(CHECKSUM) != checksum(record):
            raise ValueError(
                f"{path} is damaged or was changed: its checksum is not its content's; {RERUN}"
            )
        return StoredRun(folder, record)
    path = folder / FAILURE
    if path.exists() or path.is_symlink():
        record = files.read_json(path, RERUN)
        if not isinstance(record, dict) or not record.keys() >= {"status", "row", "seed", "reason"}:
            raise ValueError(f"{path} is damaged: it lacks what a failure says; {RERUN}")
        return StoredRun(folder, record)
    return None


def check_run(
    stored: StoredRun, expected: Mapping[str, Any], metrics: Mapping[str, Metric]
) -> None:
    """Raise ValueError unless a finished run is the one that was `expected`, and undamaged.

    `expected` gives entries of the record: key, seed, row, protocol and the like. The files must be
    those that the record was written for, and the means those of the scores by these `metrics`.
    """
    path, record = stored.folder / RECORD, stored.record
    for name, value in expected.items():
        if record.get(name) != value:
            raise ValueError(
                f"{path} has {name} {record.get(name)!r}; expected {value!r}: it is another run's; "
                f"{RERUN}"
            )
    for name, digest in record["files"].items():
        if name != "model.pt":  # which is verified when it is loaded
            check_file(stored.folder / name, digest)
    try:
        scores = stored.scores()
        means = {name: metrics[name].number(values) for name, values in scores.items()}
        same = means.keys() == stored.means.keys() and all(
            np.isclose(mean, stored.means[name], rtol=1e-9, atol=0, equal_nan=True)
            for name, mean in means.items()
        )
    except DAMAGED as error:
        raise ValueError(f"{path}: means or scores cannot be read ({error}); {RERUN}") from error
    if not same:
        raise ValueError(
            f"{path} has means that are not those of scores.npz; one of them was changed: {RERUN}"
        )


def check_file(path: Path, digest: str) -> None:
    """Raise ValueError unless `path` has the SHA-256 that its record gives."""
    try:
        found = files.sha256(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; {RERUN}") from error
    if found != digest:
        raise ValueError(
            f"{path} is damaged or was changed: its SHA-256 is {found[:12]}..., the record has "
            f"{str(digest)[:12]}...; {RERUN}"
        )


# --- what a number was measured with -------------------------------------------------------------


def provenance(device: str) -> dict[str, Any]:
    """What a number was measured with: commit, dirty flag, versions, device."""
    top = _git("rev-parse", "--show-toplevel")  # which may be another project's around this one
    commit = _git("rev-parse", "HEAD") if top and Path(top).resolve() == ROOT else None
    return {
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--", "tau", "baselines", "benchmarks"))
        if commit
        else None,
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # with its build, such as +cpu or +cu130
            **{package: version(package) for package in PACKAGES},
        },
        "device": {
            "type": device,
            "name": _gpu() if device == "cuda" else processor(),
            "threads": torch.get_num_threads(),
            "system": platform.platform(),
        },
    }


def _gpu() -> str | None:
    """The GPU's name; None where a command speaks of runs on another machine's."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def processor() -> str:
    """The processor's name, as the system gives it, with its number of usable cores."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {os.cpu_count()} cores"


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # not a checkout, or no git: the record says so with null
    return result.stdout.strip()


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(files.check_regular(path), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DAMAGED as error:
        raise ValueError(f"{path} cannot be read ({error}); {RERUN}") from error
