"""Evaluation: streams test sequences through a predictor; keeps scores, and few predictions.

A predictor is given a copy of the past, so that nothing it does reaches the frames it is scored on.
One that is compiled for training predicts eagerly: to compile it for each batch size of an
evaluation takes longer than the evaluation. The processes of a group read all batches, predict
every one of so many, and know all scores at the end, in the order of one process.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.experiment.group import ALONE, Group
from benchmarks.experiment.hardware import tf32
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
    """Without gradients, in float32 and eagerly.

    Not in inference mode: what a model keeps of such a forward, no later training could use.
    """
    with torch.no_grad(), tf32(False), torch.compiler.set_stance("force_eager"):
        yield


@_predicting()
def evaluate(
    model: Predictor,
    batches: Iterable[Tensor],
    clip: Clip,
    value_range: tuple[float, float] = UNIT_RANGE,
    metrics: Mapping[str, Metric] = METRICS,
    group: Group = ALONE,
) -> Evaluation:
    """Score each predicted frame of each sequence, and keep the first few predictions.

    `batches` are whole sequences [B, past + future, C, H, W]; errors are given in the unit in which
    these span `value_range`. The model predicts in eval mode and float32 (neither bf16 nor TF32),
    whatever it was trained in. Raises ValueError if there are no sequences, or predictions do not
    have the future's shape.
    """
    model.eval()
    span = (value_range[1] - value_range[0]) / clip.data_range
    # One growing buffer per metric: thousands of small tensors that live on would pin freed memory.
    buffers = {name: array("f") for name in metrics}
    parts: dict[str, tuple[int, ...]] = {}  # of a score, by metric
    numbers = array("q")  # of each sequence: that of its batch
    frames = (clip.frames + clip.future, clip.channels, clip.height, clip.width)
    kept = [torch.empty(0, *frames)]  # past, future and prediction along the axis of time
    for number, sequences in group.share(batches):
        past, future = clip.split(sequences)
        prediction = model(past.clone(), clip.future)
        for name, metric in metrics.items():
            scores = metric(prediction, future, clip.data_range).cpu().double()
            buffers[name].frombytes((scores * span**metric.degree).float().numpy().tobytes())
            parts[name] = tuple(scores.shape[2:])
        numbers.extend([number] * len(sequences))
        room = SAMPLES - sum(map(len, kept))
        if number < SAMPLES and room > 0:  # later batches hold none of the first sequences
            kept.append(torch.cat([past, future, prediction], 1)[:room].float().cpu())
    return _joined(group.gather(_Found(numbers, buffers, parts, torch.cat(kept).numpy())), clip)


class _Found(NamedTuple):
    """What one process has found."""

    numbers: array[int]
    buffers: dict[str, array[float]]
    parts: dict[str, tuple[int, ...]]
    kept: np.ndarray


def _joined(found: Sequence[_Found], clip: Clip) -> Evaluation:
    """What the processes have found, in the order of the sequences."""

    def in_order(numbers: Sequence[array[int]], values: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(values)[np.argsort(np.concatenate(numbers), kind="stable")]

    numbers = [of.numbers for of in found]
    if not any(numbers):
        raise ValueError("there is no test sequence to evaluate on")
    parts = {name: shape for of in found for name, shape in of.parts.items()}
    scores = {
        name: in_order(
            numbers,
            [np.array(of.buffers[name]).reshape(-1, clip.future, *shape) for of in found],
        )
        for name, shape in parts.items()
    }
    first = [of.numbers[: len(of.kept)] for of in found]
    kept = in_order(first, [of.kept for of in found])[:SAMPLES]
    frames = np.split(kept, [clip.past, clip.frames], axis=1)
    return Evaluation(scores, dict(zip(("past", "future", "prediction"), frames, strict=True)))


@_predicting()
def mean_squared_error(
    model: Predictor,
    batches: Iterable[Tensor],
    clip: Clip,
    value_range: tuple[float, float] = UNIT_RANGE,
    group: Group = ALONE,
) -> float:
    """Validation: the `mse` metric, averaged over all frames of all sequences."""
    model.eval()
    span = (value_range[1] - value_range[0]) / clip.data_range
    totals: list[tuple[int, float, int]] = []  # of each batch: its number, error and frames
    for number, sequences in group.share(batches):
        past, future = clip.split(sequences)
        scores = mse(model(past.clone(), clip.future), future)
        totals.append((number, float(scores.cpu().double().sum()), scores.numel()))
    _, errors, frames = zip(*sorted(chain(*group.gather(totals))), strict=True)
    return float(sum(errors) / sum(frames) * span ** METRICS["mse"].degree)
