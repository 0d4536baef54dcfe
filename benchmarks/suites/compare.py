"""All rows on your own data: --suite compare --data FILE or FOLDER."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.experiment.spec import Panel, Suite
from benchmarks.suites import ablation

SUITE = Suite(
    name="compare",
    title="Comparison on own data",
    panels=(Panel(None),),
    rows=tuple(replace(row, published=None) for row in ablation.ROWS),
    training={
        scale: replace(training, sequences=None) if scale in ("standard", "paper") else training
        for scale, training in ablation.TRAINING.items()
    },
)
