"""What continuous integration trains: rows of Tables 2 and 6, three MetaFormers, in seconds each.

The divergence term weighs as much as the squared error here (alpha 10 instead of 0.1, at which
it is hardly felt in so short a training), so that a fault in it moves the metrics.
"""

from __future__ import annotations

from benchmarks.experiment.spec import Row, Suite
from benchmarks.suites import ablation, metaformers, mmnist
from tau import TAU

ALPHA = 10.0
# A dozen steps do not bring these below the persistence baseline's error.
UNTRAINED = ("Last frame", "CrevNet", "DDPAE", "PhyDNet", "SwinLSTM")
# Of the MetaFormers those with attention, with both, and with convolutions; tests have the others.
MIXERS = ("Swin", "Uniformer", "MogaNet")

_LABELS = {row.label for row in ablation.ROWS}
_ROWS = (
    *ablation.ROWS,
    *(row for row in mmnist.ROWS if row.label not in _LABELS),
    *(row for row in metaformers.METAFORMERS if row.label in MIXERS),
)


def _weighted(row: Row) -> Row:
    if row.model is not TAU or "alpha" in row.options:
        return row
    return row.with_options(alpha=ALPHA)


SUITE = Suite(
    name="smoke",
    title="Smoke test of every row",
    panels=(ablation.MOVING_MNIST,),
    rows=tuple(_weighted(row) for row in _ROWS),
    training={"smoke": ablation.TRAINING["smoke"]},
    notes=(f"The divergence weighs {ALPHA:g} here instead of 0.1.",),
    orderings=tuple(
        ("mse", row.label, "Last frame") for row in _ROWS if row.label not in UNTRAINED
    ),
)
