"""All rows on your own data: --suite compare --data FILE or FOLDER."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.suite import Row, Suite
from benchmarks.suites import ablation


def _unpublished(row: Row) -> Row:
    return Row(
        row.label,
        row.model,
        sizes=row.sizes,
        training=row.training,
        note=row.note,
        **row.options,
    )


SUITE = Suite(
    name="compare",
    title="Comparison on own data",
    data=None,
    rows=tuple(_unpublished(row) for row in ablation.ROWS),
    training={
        scale: replace(training, sequences=None) if scale in ("standard", "paper") else training
        for scale, training in ablation.TRAINING.items()
    },
)
