"""Fig. 8 of the TAU paper: how soon TAU, PhyDNet and CrevNet converge on Moving MNIST.

MSE against epochs and against time, with the line at 35.0, which TAU reaches after 50 epochs.
`--rows` trains any row of Table 2 besides. All have the same epochs, one row at a time.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.experiment.spec import SCALES, Suite
from benchmarks.suites import ablation, mmnist

SUITE = Suite(
    name="convergence",
    title="Convergence on Moving MNIST (Fig. 8)",
    data="moving-mnist",
    rows=mmnist.ROWS,
    selected=("PhyDNet", "CrevNet", "Ours"),
    # At small scales as many sequences an epoch as the slowest of these rows has in its own suite.
    training={
        "smoke": replace(ablation.TRAINING["smoke"], sequences=16),
        "quick": replace(ablation.TRAINING["quick"], sequences=80),
        "standard": replace(ablation.TRAINING["standard"], epochs=50),
        "paper": replace(ablation.TRAINING["paper"], epochs=200),
    },
    data_options=ablation.SUITE.data_options,
    columns=("mse", "ssim", "epochs_to_target", "minutes_to_target", "seconds_per_epoch"),
    target=ablation.SUITE.target,
    target_scales=SCALES,
    timed=True,
    notes=("Seconds an epoch are those of 10,000 sequences.",),
)
