"""A run's files: atomic writing, provenance, reading runs back, loading a trained predictor.

A run's folder holds checkpoint.pt while it trains; then model.pt (weights), curve.jsonl,
scores.npz (metric -> [sequences, frames]), samples.npz (a few test clips with predictions) and,
written last, record.json: its presence means done. A run that failed has failure.json instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch

from tau import Clip, Predictor

PACKAGES = ("torch", "lightning-fabric", "numpy", "scikit-image", "fvcore")
ROOT = Path(__file__).resolve().parent.parent


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
    def trained(self) -> bool:
        """Whether a finished run had parameters to train, unlike the last frame repeated."""
        return bool(self.record["cost"]["parameters"])

    def curve(self) -> pd.DataFrame:
        """Learning curve: epoch, step, sequences, seconds, train_loss, val_mse, rate."""
        return pd.read_json(self.folder / "curve.jsonl", lines=True)

    def scores(self) -> dict[str, np.ndarray]:
        """Per-sequence scores: metric -> [sequences, frames]."""
        return _read_npz(self.folder / "scores.npz")

    def samples(self) -> dict[str, np.ndarray]:
        """A few test clips: past, future and prediction, each [clips, time, C, H, W]."""
        return _read_npz(self.folder / "samples.npz")


def read_run(folder: Path) -> StoredRun | None:
    """The finished or failed run in `folder`; None if it has neither record."""
    for name in ("record.json", "failure.json"):
        path = folder / name
        if path.exists():
            try:
                return StoredRun(folder, json.loads(path.read_text(encoding="utf-8")))
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path} is not valid JSON ({error}); move its folder away to run it again"
                ) from error
    return None


def set_aside(folder: Path) -> None:
    """Rename a run's folder, if it exists, to the first free `<name>.replaced-<n>`."""
    if folder.exists():
        n = 1
        while (target := folder.with_name(f"{folder.name}.replaced-{n}")).exists():
            n += 1
        folder.rename(target)


def load(folder: Path | str, device: str = "cpu") -> Predictor:
    """The trained predictor of a finished run, in eval mode: `load(f)(past, horizon)` predicts.

    Raises FileNotFoundError if the folder holds no finished run.
    """
    folder = Path(folder)
    stored = read_run(folder)
    if stored is None or not stored.done:
        raise FileNotFoundError(
            f"{folder} holds no finished run (no record.json); finish it with the command that "
            "started it"
        )
    record = stored.record
    module_name, _, class_name = record["model"].partition(":")
    module = (
        import_file(Path(record["model_file"]))
        if record["model_file"]
        else importlib.import_module(module_name)
    )
    model: Predictor = getattr(module, class_name)(Clip(**record["clip"]), **record["options"])
    model.load_state_dict(torch.load(folder / "model.pt", map_location=device, weights_only=True))
    return model.to(device).eval()


def import_file(path: Path) -> ModuleType:
    """Import a Python file by its path (a user's suite, or the model in it), once."""
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a Python file with a suite")
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None or importlib.util.find_spec(name) is not None:
        raise ValueError(f"{path} would hide the installed module {name!r}; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def provenance(device: str) -> dict[str, Any]:
    """What a number was measured with: commit, dirty flag, versions, device."""
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--", "tau", "baselines", "benchmarks"))
        if commit
        else None,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "device": {
            "type": device,
            "name": torch.cuda.get_device_name() if device == "cuda" else processor(),
            "threads": torch.get_num_threads(),
            "system": platform.platform(),
        },
    }


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
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
