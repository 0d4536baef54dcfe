"""A trained predictor, loaded from its run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import files
from benchmarks.experiment import code
from benchmarks.experiment.store import CODE, DAMAGED, RECORD, RERUN, check_file, read_run
from benchmarks.names import nearest
from tau import Clip, Predictor

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"  # bundled runs
UNCONDITIONAL = ("tau.", "baselines.", "torch.nn.")  # where the objects lie that need no trust


@dataclass(frozen=True)
class Trained:
    """A trained predictor: called as one, or asked to `predict` in the data's own unit.

    `model` is in eval mode; it takes and gives frames in [0, 1]. `clip` says how many frames are
    given, and their size. `value_range` is what 0 and 1 stand for in the data's unit;
    `divided_by_255` whether uint8 frames of it were divided so.
    """

    model: Predictor
    clip: Clip
    value_range: tuple[float, float]
    divided_by_255: bool

    @torch.no_grad()
    def __call__(self, past: torch.Tensor, horizon: int) -> torch.Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W] in [0, 1]."""
        return self.model(past, horizon)

    def predict(self, past: Any, horizon: int | None = None) -> Any:
        """Predict the frames that follow `past`, in the data's own unit.

        `past` is a NumPy array or a tensor: [B, T, C, H, W], [T, C, H, W], or [T, H, W] of gray
        frames. Its values are numbers in `value_range`; or, if `divided_by_255`, uint8 ones of
        which 255 stands for 1. `horizon` is the number of frames to predict (default: as trained).
        Returns what was given: array or tensor, with the same axes, on the CPU; uint8 if that was
        divided by 255, else float32. Raises ValueError for another shape or type, and for values
        outside the range.
        """
        frames = _as_tensor(past)
        low, high = self.range_of(frames.dtype == torch.uint8)
        is_bytes = frames.dtype == torch.uint8 and self.divided_by_255
        batch = self._batch(frames, low, high)
        device = next((t.device for t in self.model.state_dict().values()), torch.device("cpu"))
        scaled = ((batch.double() - low) / (high - low)).float().to(device)
        predicted = self(scaled, self.clip.future if horizon is None else horizon).cpu().double()
        values = predicted * (high - low) + low
        values = values.round().clamp(0, 255).to(torch.uint8) if is_bytes else values.float()
        if frames.ndim < 5:
            values = values[0]
        if frames.ndim < 4:
            values = values[:, 0]
        return values.numpy() if isinstance(past, np.ndarray) else values

    def range_of(self, is_uint8: bool) -> tuple[float, float]:
        """What 0 and 1 stand for in frames of the data's own unit, of type uint8 or another."""
        return (0.0, 255.0) if is_uint8 and self.divided_by_255 else self.value_range

    def _batch(self, frames: torch.Tensor, low: float, high: float) -> torch.Tensor:
        """The frames as [B, T, C, H, W], checked."""
        clip = self.clip
        wanted = (clip.past, clip.channels, clip.height, clip.width)
        batch = frames[:, None] if frames.ndim == 3 else frames
        batch = batch[None] if batch.ndim == 4 else batch
        if batch.ndim != 5 or tuple(batch.shape[1:]) != wanted or not len(batch):
            raise ValueError(
                f"past has the shape {tuple(frames.shape)}; expected {wanted}, {clip.past} frames "
                f"of {clip.channels}x{clip.height}x{clip.width}, or a batch of these"
            )
        least, most = float(batch.min()), float(batch.max())  # NaN if there is one
        slack = 1e-3 * (high - low)
        if not (low - slack <= least and most <= high + slack):
            raise ValueError(
                f"past has values from {least:g} to {most:g}; expected {low:g} to {high:g}, the "
                "unit of the data that the model was trained on, or uint8"
            )
        return batch


def _as_tensor(past: Any) -> torch.Tensor:
    """Frames of any real type, byte order and strides, as uint8 or float64."""
    expected = "expected uint8 or real numbers"
    if isinstance(past, torch.Tensor):
        if past.dtype.is_complex:
            raise ValueError(f"past is {past.dtype}; {expected}")
        frames: torch.Tensor = past.cpu()  # Metal has no float64
        return frames if frames.dtype == torch.uint8 else frames.double()
    array = np.asarray(past)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"past is {array.dtype}; {expected}")
    kept = np.uint8 if array.dtype == np.uint8 else np.float64
    return torch.from_numpy(array.astype(kept, order="C"))


def load(folder: Path | str, device: str = "cpu", *, trust_code: bool = False) -> Trained:
    """The trained predictor of a finished run, by its folder, or of a bundled one, by name.

    The bundled ones are in benchmarks/pretrained, such as "ours-hour". A run whose model is
    not this project's own brings its code along, in code.json: that is run only with `trust_code`,
    which is to be given after a look at it. Raises FileNotFoundError if the folder holds no
    finished run, ValueError if files are damaged, and PermissionError for code that is not trusted.
    """
    along = sorted(path.name for path in PRETRAINED.glob("*"))
    folder = PRETRAINED / folder if folder in along else Path(folder)
    stored = read_run(folder)
    if stored is None or not stored.done:
        raise FileNotFoundError(
            f"{folder} holds no finished run (no {RECORD}); {nearest(str(folder), along)}finish it "
            f"with the command that started it, or give one of {', '.join(along)}"
        )
    record = stored.record
    check_file(folder / "model.pt", record["files"].get("model.pt", ""))
    try:
        names = [str(record["model"]), *code.named_objects(record["options"])]
        if not all(name.startswith(UNCONDITIONAL) for name in names):
            _install_code(folder, record, trust_code)
        kind = code.find_object(names[0])
        if not (isinstance(kind, type) and issubclass(kind, Predictor)):
            raise ValueError(f"{names[0]} is not a class derived from tau.Predictor")
        clip = Clip(**record["clip"])
        model = kind(clip, **code.decode(record["options"]))
        state = torch.load(folder / "model.pt", map_location=device, weights_only=True)
        model.load_state_dict(state)
        low, high = map(float, record["value_range"])
        divided_by_255 = bool(record["divided_by_255"])
    except (*DAMAGED, AttributeError, ImportError) as error:
        raise ValueError(
            f"{folder} cannot be loaded ({type(error).__name__}: {error}); expected a run of this "
            f"version of the project: {RERUN}"
        ) from error
    return Trained(model.to(device).eval(), clip, (low, high), divided_by_255)


def _install_code(folder: Path, record: Mapping[str, Any], trusted: bool) -> None:
    """Make the code that a run brought along importable, if it is trusted."""
    carried: dict[str, code.Source] = {}
    if CODE in record["files"]:
        check_file(folder / CODE, record["files"][CODE])
        carried = code.from_record(files.read_json(folder / CODE, RERUN))
    if not trusted:
        shown = ", ".join(
            f"{source.file} ({len(source.text.splitlines())} lines)" for source in carried.values()
        )
        kept = f", {shown}, which {folder / CODE} keeps" if carried else ""
        raise PermissionError(
            f"to load {folder} is to run code that is not this project's: {record['model']}{kept}; "
            "look at it and, if you trust it, load(folder, trust_code=True)"
        )
    code.install(carried)
