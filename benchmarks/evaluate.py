"""Evaluation: streams test clips through a predictor and keeps scores, not predictions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from benchmarks.metrics import METRICS, Metric, mse
from tau import Clip, Predictor


@torch.inference_mode()
def evaluate(
    model: Predictor,
    batches: Iterable[Tensor],
    clip: Clip,
    metrics: Mapping[str, Metric] = METRICS,
) -> dict[str, np.ndarray]:
    """Score each predicted frame of each clip: metric -> float32 [sequences, clip.future].

    `batches` are whole clips [B, past + future, C, H, W]. The model predicts in eval mode and
    float32, whatever it was trained in. Raises ValueError if there are no clips.
    """
    model.eval()
    # One growing buffer a metric: thousands of small tensors that live on would pin freed memory.
    parts = {name: array("f") for name in metrics}
    for clips in batches:
        past, future = clip.split(clips)
        prediction = model(past, clip.future)
        for name, metric in metrics.items():
            scores = metric(prediction, future, clip.data_range).float().cpu()
            parts[name].frombytes(scores.numpy().tobytes())
    if not all(parts.values()):
        raise ValueError("there is no test clip to evaluate on")
    return {name: np.array(part).reshape(-1, clip.future) for name, part in parts.items()}


@torch.inference_mode()
def mean_squared_error(model: Predictor, batches: Iterable[Tensor]) -> float:
    """Validation: the `mse` metric, averaged over all frames of all sequences."""
    model.eval()
    total, frames = 0.0, 0
    for clips in batches:
        past, future = model.clip.split(clips)
        scores = mse(model(past, future.shape[1]), future)
        total += float(scores.double().sum())
        frames += scores.numel()
    return total / frames


@torch.inference_mode()
def sample(model: Predictor, clips: Tensor, clip: Clip) -> dict[str, np.ndarray]:
    """Past, future and prediction of a few clips, float16, for the figures."""
    model.eval()
    past, future = clip.split(clips)
    arrays = {"past": past, "future": future, "prediction": model(past, clip.future)}
    return {name: array.half().cpu().numpy() for name, array in arrays.items()}
