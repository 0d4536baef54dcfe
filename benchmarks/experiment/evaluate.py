"""Evaluation: streams test sequences through a predictor; keeps scores, and few predictions.

A predictor is given a copy of the past, so that nothing it does reaches the frames it is scored on.
One that is compiled for training predicts eagerly: to compile it for each batch size of an
evaluation takes longer than the evaluation.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.metrics import METRICS, Metric, mse
from tau import Clip, Predictor

UNIT_RANGE = (0.0, 1.0)
SAMPLES = 4  # test sequences whose predictions are kept


class Evaluation(NamedTuple):
    """What is kept of an evaluation, in float32."""

    scores: dict[str, np.ndarray]  # metric -> [sequences, clip.future], or [..., K] of K parts
    samples: dict[str, np.ndarray]
    # past, future and prediction of the first SAMPLES sequences, [N, T, C, H, W], as scored


@contextmanager
def _predicting() -> Iterator[None]:
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        yield


@_predicting()
def evaluate(
    model: Predictor,
    batches: Iterable[Tensor],
    clip: Clip,
    value_range: tuple[float, float] = UNIT_RANGE,
    metrics: Mapping[str, Metric] = METRICS,
) -> Evaluation:
    """Score each predicted frame of each sequence, and keep the first few predictions.

    `batches` are whole sequences [B, past + future, C, H, W]; errors are given in the unit in which
    these span `value_range`. The model predicts in eval mode and float32, whatever it was trained
    in. Raises ValueError if there are no sequences, or predictions do not have the future's shape.
    """
    model.eval()
    span = (value_range[1] - value_range[0]) / clip.data_range
    # One growing buffer per metric: thousands of small tensors that live on would pin freed memory.
    buffers = {name: array("f") for name in metrics}
    parts: dict[str, torch.Size] = {}
    kept: list[Tensor] = []  # past, future and prediction along the axis of time
    for sequences in batches:
        past, future = clip.split(sequences)
        prediction = model(past.clone(), clip.future)
        for name, metric in metrics.items():
            scores = metric(prediction, future, clip.data_range).cpu().double()
            buffers[name].frombytes((scores * span**metric.degree).float().numpy().tobytes())
            parts[name] = scores.shape[2:]
        if (room := SAMPLES - sum(map(len, kept))) > 0:
            kept.append(torch.cat([past, future, prediction], 1)[:room].float().cpu())
    if not all(buffers.values()):
        raise ValueError("there is no test sequence to evaluate on")
    arrays = {
        name: np.array(of).reshape(-1, clip.future, *parts[name]) for name, of in buffers.items()
    }
    frames = np.split(torch.cat(kept).numpy(), [clip.past, clip.frames], axis=1)
    return Evaluation(arrays, dict(zip(("past", "future", "prediction"), frames, strict=True)))


@_predicting()
def mean_squared_error(
    model: Predictor, batches: Iterable[Tensor], value_range: tuple[float, float] = UNIT_RANGE
) -> float:
    """Validation: the `mse` metric, averaged over all frames of all sequences."""
    model.eval()
    span = (value_range[1] - value_range[0]) / model.clip.data_range
    total, frames = 0.0, 0
    for sequences in batches:
        past, future = model.clip.split(sequences)
        scores = mse(model(past.clone(), future.shape[1]), future)
        total += float(scores.cpu().double().sum())
        frames += scores.numel()
    return total / frames * span ** METRICS["mse"].degree
