"""What a row's own code does, tried before anything trains: a prediction, its scoring, a loss.

A prediction of the wrong shape or type, frames too small for a metric, or a model that does not fit
the frames is found here in seconds, instead of after hours of training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.experiment import cost
from benchmarks.experiment.code import belongs_to_user
from benchmarks.experiment.evaluate import evaluate
from benchmarks.experiment.plan import Run
from benchmarks.experiment.spec import Row
from benchmarks.experiment.train import is_trainable, make_optimiser
from benchmarks.metrics import METRICS
from benchmarks.names import printable
from tau import Predictor

SEQUENCES = 2  # that are tried: batch normalisation in training needs more than one
STEPS = (2, 4, 8, 16, 32, 64)  # of frame sizes that are proposed
SMALLEST = 8  # of their sides; SSIM needs 7
FAR_OUT = 10.0  # times the data range: beyond it, a model does not predict frames in [0, 1]


class Trial(NamedTuple):
    """What a trial tells of a run, and of its row at the paper's size.

    Parameters; MACs of one sequence and of the whole training, if its length is known; a warning,
    or none.
    """

    parameters: int
    macs: int
    training_macs: int | None
    paper: dict[str, int | None]
    warning: str = ""


def try_run(run: Run) -> Trial:
    """Build a run's model, count it, and take one scored prediction and one loss of it.

    A model of the user's own takes a training step, in the precision of its training.

    Raises ValueError that names the row for whatever is wrong with it.
    """
    device = torch.device(run.device)
    with naming(run.row):
        model = run.build().to(device)
        sequences = next(iter(run.dataset.test(SEQUENCES, SEQUENCES, device)))
        low, high = _try_prediction(model, sequences[:, : run.clip.past].clone(), run.clip.future)
        evaluate(model, [sequences], run.clip, metrics=run.metrics)
        _try_step(run, model, *run.clip.split(sequences.clone()))
    return count(run)._replace(warning=_warning(run, low, high))


def count(run: Run) -> Trial:
    """Count a run's model, without memory for it where shapes alone are enough.

    Raises ValueError that names the row, also for frames too small for a metric.
    """
    clip = run.clip
    frames = torch.zeros(1, 1, clip.channels, clip.height, clip.width)
    with naming(run.row):
        for metric in METRICS.values():
            metric(frames, frames, clip.data_range)
        parameters, macs = cost.size(run.row.model, run.clip, run.options)
        paper = paper_cost(run)
    training = None
    if run.training.epochs is not None:
        sequences = run.training.steps * run.training.batch_size
        # forward and backward cost three times the forward pass
        training = 3 * macs * sequences * bool(parameters)
    return Trial(parameters, macs, training, paper)


def paper_cost(run: Run) -> dict[str, int | None]:
    """Parameters and MACs of the run's row at the paper's size and clip.

    None for a model of the user's own that is not made for the paper's frames.
    """
    parameters: int | None = None
    macs: int | None = None
    try:
        parameters, macs = cost.size(run.row.model, run.paper_clip, run.row.at("paper"))
    except Exception:  # the user's own code may raise anything
        if run.paper_clip == run.clip or not belongs_to_user(run.code):
            raise
    return {"paper_parameters": parameters, "paper_macs": macs}


def fitting_sizes(runs: Iterable[Run]) -> str:
    """Options for the nearest frame sizes that all of these rows take, where theirs is the fault.

    Empty if all take the frames as they are, or no size near by would do. Models of the user's own
    are not asked.
    """
    ours = {run.row.label: run for run in runs if not belongs_to_user(run.code)}.values()
    if not ours or all(_takes(run, run.clip.height, run.clip.width) for run in ours):
        return ""
    clip = next(iter(ours)).clip
    found = {}
    for step in STEPS:
        for option, spare in (("--crop", 0), ("--pad", step - 1)):
            height, width = ((side + spare) // step * step for side in (clip.height, clip.width))
            if option in found or min(height, width) < SMALLEST:
                continue
            if all(_takes(run, height, width) for run in ours):
                found[option] = f"{option} {height}x{width}"
    return " or ".join(found.values())


def _takes(run: Run, height: int, width: int) -> bool:
    try:
        with torch.device("meta"):  # shapes alone
            run.row.build(replace(run.clip, height=height, width=width), run.scale)
    except ValueError:
        return False
    return True


@contextmanager
def naming(row: Row) -> Iterator[None]:
    """Turn what a row's own code raises into ValueError that names the row."""
    prefix = f"row {row.label!r}"
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the row's own code may raise anything
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        said = printable(said)
        raise ValueError(said if said.startswith(prefix) else f"{prefix}: {said}") from error


def _try_step(run: Run, model: Predictor, past: Tensor, future: Tensor) -> None:
    if not is_trainable(model):
        return
    is_bf16 = run.training.precision == "bf16"
    with torch.autocast(past.device.type, torch.bfloat16, enabled=is_bf16):
        loss = model.train().loss(past, future)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        found = f"{loss.dtype} {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss)
        raise ValueError(f"its loss is {found}; expected a floating-point scalar")
    if not loss.requires_grad:
        raise ValueError(
            "its loss has no gradient, though the model has parameters to train; expected a loss "
            "that depends on them, computed with gradients on"
        )
    if belongs_to_user(run.code):
        loss.backward()
        make_optimiser(model, run.training).step()


@torch.no_grad()
def _try_prediction(model: Predictor, past: Tensor, horizon: int) -> tuple[float, float]:
    """Smallest and largest value that an untrained model predicts."""
    prediction = model.eval()(past, horizon)
    wanted = (len(past), horizon, *past.shape[2:])
    if not isinstance(prediction, Tensor) or tuple(prediction.shape) != wanted:
        found = tuple(prediction.shape) if isinstance(prediction, Tensor) else type(prediction)
        raise ValueError(
            f"its prediction has the shape {found}; expected {wanted}: batch, frames, channels, "
            "height, width"
        )
    if prediction.dtype != past.dtype:
        raise ValueError(f"its prediction is {prediction.dtype}; expected {past.dtype}")
    low, high = (float(bound) for bound in prediction.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("its prediction holds NaN or infinity before any training")
    return low, high


def _warning(run: Run, low: float, high: float) -> str:
    span = run.clip.data_range
    if -FAR_OUT * span <= low and high <= (FAR_OUT + 1) * span:
        return ""
    return (
        f"row {run.row.label!r} predicts values from {low:.3g} to {high:.3g} before training; "
        f"frames lie in [0, {span:g}]: is it made for frames of another range?"
    )
