"""SEVIR's VIL, 13 to 12 frames of 5 minutes: nowcasts of storms, by events above six thresholds.

The whole frames are of scale paper; the others average-pool them. No size or rate was released for
this family on SEVIR: both are those of Moving MNIST, with larger patches for the recurrent models.
"""

from __future__ import annotations

from dataclasses import replace

from baselines import ConvLSTM, LastFrame, PredRNN, SimVP
from benchmarks.data import SEVIR
from benchmarks.experiment.spec import Panel, PublishedTable, Row, Suite, Training
from benchmarks.suites import sizes
from benchmarks.suites.notes import NOTES
from benchmarks.suites.sizes import BRIEF, LR_1E3, SMALL, at_scales
from benchmarks.totals import MEAN_MSE, event_score
from tau import TAU, Clip

THRESHOLDS = (16, 74, 133, 160, 181, 219)
RANGE = (0, 255)
MSE = replace(MEAN_MSE, factor=1000 / 255**2, digits=3, unit="×1000")
COLUMNS = (
    event_score("csi", THRESHOLDS, RANGE),
    *(event_score("csi", THRESHOLDS, RANGE, pool=pool) for pool in (4, 16)),
    *(event_score("csi", [threshold], RANGE) for threshold in THRESHOLDS),
    *(event_score(score, THRESHOLDS, RANGE) for score in ("pod", "sucr", "far", "hss")),
    MSE,
)

RECURRENT = {**sizes.LARGE_RECURRENT, "standard": {"patch": 4}, "paper": {"patch": 8}}
FULL = Training(epochs=50, sequences=None)
TRAINING = {
    "smoke": Training(
        epochs=2, sequences=16, batch_size=4, val_sequences=4, test_sequences=16, **SMALL
    ),
    "quick": Training(
        epochs=8, sequences=120, batch_size=4, val_sequences=32, test_sequences=200, **SMALL
    ),
    "standard": FULL,
    "paper": FULL,
}

ROWS = (
    Row("Last frame", LastFrame, note=NOTES["Last frame"]),
    Row(
        "ConvLSTM",
        ConvLSTM,
        sizes=RECURRENT,
        training=at_scales(BRIEF, lr=5e-4),
        note="the published numbers are of Earthformer's ConvLSTM, from an index of papers: "
        "another size and training",
    ),
    Row("PredRNN", PredRNN, sizes=RECURRENT, training=at_scales(BRIEF, lr=5e-4)),
    Row("SimVP", SimVP, sizes=sizes.WIDE_SIMVP, training=LR_1E3),
    Row("Ours", TAU, sizes=sizes.WIDE_TAU, training=LR_1E3),
)

SUITE = Suite(
    name="sevir",
    title="SEVIR, 13 to 12 frames",
    panels=(
        Panel(
            SEVIR,
            COLUMNS,
            title="SEVIR",
            clip=Clip(13, 12, 1, 384, 384),
            dataset_options={
                "smoke": {"downsample": 12},
                "quick": {"downsample": 6},
                "standard": {"downsample": 3},
            },
        ),
    ),
    rows=ROWS,
    training=TRAINING,
    published_elsewhere=(
        PublishedTable(
            "Earthformer_NeurIPS2022",
            "results",
            "384x384",
            (("CSI-M", "SEVIR VIL", "13->12"), ("MSEx1000", "SEVIR VIL", "13->12")),
            {"ConvLSTM": "ConvLSTM"},
        ),
    ),
    notes=(
        "Thresholds are of VIL's 8-bit code, 0 to 254.",
        "MSE is of values divided by 255.",
        "FAR is 1 - SUCR.",
    ),
)
