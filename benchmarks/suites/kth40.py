"""Table 5 of the TAU paper, right half: KTH, 10 to 40 frames."""

from __future__ import annotations

from benchmarks.experiment.spec import Suite
from benchmarks.suites import kth20
from tau import Clip

SUITE = Suite(
    name="kth40",
    title="KTH, 10 to 40 frames (Table 5)",
    data="kth-action",
    clip=Clip(10, 40, 1, 128, 128),
    rows=kth20.ROWS,
    training=kth20.TRAINING,
    columns=kth20.COLUMNS,
    published="Table 5",
    published_columns=(("SSIM", "KTH", "10->40"), ("PSNR", "KTH", "10->40")),
    also_published=kth20.ALSO_PUBLISHED,
    data_options={
        "smoke": {"future": 40, "downsample": 8},
        "quick": {"future": 40, "downsample": 4},
        "standard": {"future": 40},
        "paper": {"future": 40},
    },
)
