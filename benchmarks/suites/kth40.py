"""Table 5 of the TAU paper, right half: KTH, 10 to 40 frames."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from benchmarks.data import KTH, KTHAction
from benchmarks.experiment.spec import Suite
from benchmarks.suites import kth20
from tau import Clip

SUITE = Suite(
    name="kth40",
    title="KTH, 10 to 40 frames (Table 5)",
    panels=(
        replace(
            kth20.PANEL,
            dataset=partial(KTHAction, future=40),
            clip=Clip(10, 40, 1, 128, 128),
            versions=(partial(KTH, future=40),),
        ),
    ),
    rows=kth20.ROWS,
    training=kth20.TRAINING,
    published="Table 5",
    published_columns=(("SSIM", "KTH", "10->40"), ("PSNR", "KTH", "10->40")),
    also_published=kth20.ALSO_PUBLISHED,
)
