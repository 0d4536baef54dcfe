"""Sec. 4.5 of the TAU paper: what each predictor costs on Moving MNIST, at batch size 16.

Every row takes a few steps of training and is then timed, one row at a time: the median of repeated
steps after warming up, of five or more. Its accuracy means nothing here, so no curves are drawn.
"""

from __future__ import annotations

from benchmarks.experiment.spec import Suite, Training
from benchmarks.suites import LAST_FRAME, ablation, mmnist

_BRIEF = Training(epochs=1, sequences=32, batch_size=16, validation=16, test=16)

SUITE = Suite(
    name="efficiency",
    title="Efficiency on Moving MNIST (Sec. 4.5)",
    data="moving-mnist",
    rows=[row for row in mmnist.ROWS if row.label != LAST_FRAME.label],  # which costs nothing
    training=dict.fromkeys(("smoke", "quick", "standard", "paper"), _BRIEF),
    data_options=ablation.SUITE.data_options,
    published="Sec 4.5",
    published_columns=(("minutes_per_epoch", "Moving MNIST"),),
    columns=(
        "seconds_per_epoch",
        "training_sequences_per_second",
        "inference_sequences_per_second",
        "peak_memory_bytes",
    ),
    timing_seconds=5.0,
    timed=True,
    notes=("An epoch is 10,000 sequences.",),
)
