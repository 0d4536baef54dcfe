"""Sec. 4.5 of the TAU paper: what each predictor costs on Moving MNIST, at batch size 16.

Every row takes a few steps of training and is then timed, one row at a time: the median of repeated
steps after warming up, of five or more. Its accuracy means nothing here, so no curves are drawn.
"""

from __future__ import annotations

from dataclasses import replace

from baselines import LastFrame
from benchmarks.experiment.spec import Suite, Training
from benchmarks.metrics import INFERENCE_SPEED, PEAK_MEMORY, SECONDS_PER_EPOCH, TRAINING_SPEED
from benchmarks.suites import ablation, mmnist
from benchmarks.suites.sizes import SMALL

_BRIEF = Training(epochs=1, sequences=32, batch_size=16, val_sequences=16, test_sequences=16)

SUITE = Suite(
    name="efficiency",
    title="Efficiency on Moving MNIST (Sec. 4.5)",
    panels=(
        replace(
            ablation.MOVING_MNIST,
            columns=(SECONDS_PER_EPOCH, TRAINING_SPEED, INFERENCE_SPEED, PEAK_MEMORY),
            left_out={},
        ),
    ),
    rows=[row for row in mmnist.ROWS if row.model is not LastFrame],  # which costs nothing
    training={
        **dict.fromkeys(("smoke", "quick"), replace(_BRIEF, **SMALL)),
        **dict.fromkeys(("standard", "paper"), _BRIEF),
    },
    published="Sec 4.5",
    published_columns=(("minutes_per_epoch", "Moving MNIST"),),
    timing_seconds=5.0,
    timed=True,
    notes=("An epoch is 10,000 sequences.",),
)
