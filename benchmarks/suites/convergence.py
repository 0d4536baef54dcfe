"""Fig. 8 of the TAU paper: how soon TAU, PhyDNet and CrevNet converge on Moving MNIST.

MSE against epochs and against time, with the line at 35.0, which TAU reaches after 50 epochs.
`--rows` trains any row of Table 2 besides. All have the same epochs, one row at a time.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.experiment.spec import SCALES, Suite
from benchmarks.metrics import EPOCHS_TO_TARGET, MINUTES_TO_TARGET, MSE, SECONDS_PER_EPOCH, SSIM
from benchmarks.suites import ablation, mmnist

# Teacher forcing that is released per epoch, where a training has other lengths than in Table 2.
SCHEDULES = {
    "PhyDNet": {"standard": {"sampling_stop": 20 / 3}, "paper": {"sampling_stop": 5 / 3}},
    "Conv-TT-LSTM": {"paper": {"sampling_stop": 0.9}},
}

SUITE = Suite(
    name="convergence",
    title="Convergence on Moving MNIST (Fig. 8)",
    panels=(
        replace(
            ablation.MOVING_MNIST,
            columns=(MSE, SSIM, EPOCHS_TO_TARGET, MINUTES_TO_TARGET, SECONDS_PER_EPOCH),
        ),
    ),
    rows=tuple(
        replace(row, sizes={**row.sizes, **SCHEDULES.get(row.label, {})}) for row in mmnist.ROWS
    ),
    selected=("PhyDNet", "CrevNet", "Ours"),
    # At small scales as many sequences per epoch as the slowest of these rows has in its own suite.
    training={
        "smoke": replace(ablation.TRAINING["smoke"], sequences=16),
        "quick": replace(ablation.TRAINING["quick"], sequences=80),
        "standard": replace(ablation.TRAINING["standard"], epochs=50),
        "paper": replace(ablation.TRAINING["paper"], epochs=200),
    },
    target=ablation.SUITE.target,
    target_scales=SCALES,
    timed=True,
    notes=("Seconds per epoch are those of 10,000 sequences.",),
)
