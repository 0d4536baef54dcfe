"""Table 6 of the TAU paper in equal time: small models that train for minutes each on a CPU.

Long enough that forecasts show digits, and with three seeds where the paper's claim is about small
differences. On two cores, where two rows train at a time, the suite takes about 55 minutes.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.experiment.spec import Suite, Training
from benchmarks.suites import ablation

SEEDS = {"Conv baseline": (0, 1, 2), "Ours w/o DDR": (0, 1, 2), "Ours": (0, 1, 2)}
LABELS = ("Last frame", "ConvLSTM", "PredRNN", "SimVP", *SEEDS)

SUITE: Suite = replace(
    ablation.SUITE,
    name="hour",
    title="Ablation in equal time",
    panels=(ablation.MOVING_MNIST,),
    rows=tuple(
        replace(row, seeds=SEEDS.get(row.label, ())) for row in ablation.ROWS if row.label in LABELS
    ),
    training={
        "smoke": ablation.TRAINING["smoke"],
        "quick": Training(
            epochs=None,
            minutes=7,
            sequences=800,
            batch_size=4,
            val_sequences=100,
            test_sequences=1_000,
        ),
    },
    published_columns=(("MSE", "Moving MNIST"), ("FLOPs_G", "Moving MNIST")),
)
