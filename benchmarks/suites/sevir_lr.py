"""SEVIR-LR, 7 to 6 frames of 10 minutes at 128x128 pixels, as released with Earthformer."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.data import SEVIRLowRes
from benchmarks.experiment.spec import Suite
from benchmarks.suites import sevir
from tau import Clip

RECURRENT = {**sevir.RECURRENT, "paper": sevir.RECURRENT["standard"]}

SUITE = Suite(
    name="sevir_lr",
    title="SEVIR-LR, 7 to 6 frames",
    panels=(
        replace(
            sevir.SUITE.panels[0],
            dataset=SEVIRLowRes,
            title="SEVIR-LR",
            clip=Clip(7, 6, 1, 128, 128),
            dataset_options={"smoke": {"downsample": 4}, "quick": {"downsample": 2}},
        ),
    ),
    rows=[
        replace(row, sizes=RECURRENT) if row.sizes is sevir.RECURRENT else row for row in sevir.ROWS
    ],
    training=sevir.TRAINING,
    notes=sevir.SUITE.notes,
)
