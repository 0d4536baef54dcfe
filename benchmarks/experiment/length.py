"""How long a training of so many minutes is: its epochs, chosen once on the machine that trains."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import files
from benchmarks.experiment.plan import Run
from benchmarks.experiment.spec import Training
from benchmarks.experiment.store import LENGTH, RERUN
from benchmarks.experiment.train import StepTimer, is_trainable

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LEAST_EPOCHS = 20  # so that rounding to whole epochs moves the end by 2.5 % at most
WARM_UP, LEAST_STEPS = 5, 10
SHARE = 0.03  # of the minutes, that the timing of steps may take


def settle(run: Run, folder: Path, fabric: Fabric) -> Run:
    """The run with the epochs that fill its minutes on this machine; others as they are.

    The first call times a few steps of a model that is thrown away, and writes the result to
    length.json before anything trains: a run that continues ends where it would have ended.
    Raises ValueError for a length.json that is damaged or another run's.
    """
    if run.training.minutes is None or not is_trainable(run.build()):
        return run
    path = folder / LENGTH
    is_chosen = fabric.is_global_zero and path.exists()
    training = fabric.broadcast(_read(path, run) if is_chosen else None)  # of the first process
    if training is None:
        seconds = fabric.broadcast(seconds_per_step(run, fabric))
        training = filling(run.training, seconds)
        if fabric.is_global_zero:
            length = {"epochs": training.epochs, "sequences": training.sequences}
            files.write_json(path, {"key": run.key, "seconds_per_step": seconds, **length})
    return replace(run, training=training)


def filling(training: Training, seconds_per_step: float) -> Training:
    """The training with the epochs that take its minutes, if each step takes so many seconds.

    Epochs have the sequences that they have at this scale, or fewer where fewer than LEAST_EPOCHS
    would fit.

    Examples:
        >>> found = filling(Training(epochs=None, minutes=10, sequences=1_600), 0.1)
        >>> found.epochs, found.sequences, found.steps
        (60, 1600, 6000)
        >>> found = filling(Training(epochs=None, minutes=1, sequences=1_600), 0.1)
        >>> found.epochs, found.sequences, found.steps
        (20, 480, 600)
    """
    assert training.minutes is not None
    steps = max(1, round(60 * training.minutes / seconds_per_step))
    per_epoch = min(training.steps_per_epoch, max(1, steps // LEAST_EPOCHS))
    return replace(
        training,
        epochs=max(1, round(steps / per_epoch)),
        sequences=per_epoch * training.batch_size,
    )


def seconds_per_step(run: Run, fabric: Fabric) -> float:
    """Mean seconds of a training step, once warm; nothing of these steps remains."""
    assert run.training.minutes is not None
    timer = StepTimer(run, fabric)

    def mean_seconds(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            timer.step()
        timer.wait()
        return (time.perf_counter() - start) / steps

    mean_seconds(WARM_UP)
    rough = fabric.broadcast(mean_seconds(WARM_UP))  # all processes take as many steps
    return mean_seconds(max(LEAST_STEPS, round(SHARE * 60 * run.training.minutes / rough)))


def _read(path: Path, run: Run) -> Training:
    """The training with the epochs that `settle` wrote."""
    chosen = files.read_json(path, RERUN)
    try:
        epochs, sequences = chosen["epochs"], chosen["sequences"]
        numbers = all(isinstance(number, int) and number > 0 for number in (epochs, sequences))
        if chosen["key"] != run.key or not numbers:
            raise ValueError(f"it holds {chosen}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not tell the length of run {run.key} ({error}); {RERUN}"
        ) from error
    return replace(run.training, epochs=epochs, sequences=sequences)
