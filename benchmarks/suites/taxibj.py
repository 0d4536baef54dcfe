"""Table 3 of the TAU paper: TrafficBJ (TaxiBJ), 4 to 4 half hours, MSE times 100."""

from __future__ import annotations

from baselines import (
    E3DLSTM,
    MIM,
    ConvBaseline,
    ConvLSTM,
    PhyDNet,
    PredRNN,
    PredRNNpp,
    SimVP,
)
from benchmarks.experiment.spec import Row, Suite, Training
from benchmarks.suites import LAST_FRAME, NOTES, SMALL_RATE, at_scales
from tau import TAU, Clip

TRANSLATING = {
    "smoke": {"spatial_hidden": 8, "temporal_hidden": 32, "spatial_depth": 2, "temporal_depth": 2},
    "quick": {"spatial_hidden": 16, "temporal_hidden": 64, "spatial_depth": 2, "temporal_depth": 4},
}
ATTENTION = {scale: size | {"mlp_ratio": 4} for scale, size in TRANSLATING.items()}
RECURRENT = {
    "smoke": {"hidden": (16, 16), "patch": 4, "sampling_stop": 60},
    "quick": {"hidden": (32, 32), "kernel": 3, "patch": 4, "sampling_stop": 300},
}
VOLUMETRIC = {
    "smoke": {"hidden": (8, 8), "kernel": 3, "patch": 4, "sampling_stop": 60},
    "quick": {"hidden": (16, 16), "kernel": 3, "patch": 4, "sampling_stop": 300},
}
PHYSICAL = {
    "smoke": {"hidden": (16, 32), "stride": 2, "sampling_stop": 60},
    "quick": {"hidden": (32, 32), "stride": 4, "sampling_stop": 300},
}
# Teacher forcing falls by the released 0.003 an epoch, as on Moving MNIST, but an epoch has 1,205
# steps: 19,627 sequences, less those held out for validation, in batches of 16. 1,205 / 0.003.
PHYSICAL_STOP = 401_667

# As released for this data set: sizes, rates (Adam, cosine with 5 epochs of warm-up), 50 epochs.
SPATIAL = {"spatial_hidden": 32, "temporal_hidden": 256, "spatial_depth": 2, "temporal_depth": 8}
OURS = at_scales(ATTENTION, **SPATIAL, drop_path=0.1)
RELEASED = Training(epochs=50, sequences=None, schedule="cosine")
TRAINING = {
    "smoke": Training(epochs=3, sequences=160, batch_size=4, validation=16, test=64),
    "quick": Training(epochs=10, sequences=240, batch_size=4, validation=64, test=400),
    "standard": RELEASED,
    "paper": RELEASED,
}

ROWS = (
    LAST_FRAME,
    Row(
        "ConvLSTM",
        ConvLSTM,
        sizes=at_scales(RECURRENT, patch=2),
        training=at_scales(SMALL_RATE, rate=5e-4),
        published="ConvLSTM",
        note=NOTES["ConvLSTM"],
    ),
    Row(
        "PredRNN",
        PredRNN,
        sizes=at_scales(RECURRENT, patch=2),
        training=at_scales(SMALL_RATE, rate=1e-4),
        published="PredRNN",
    ),
    Row(
        "PredRNN++",
        PredRNNpp,
        sizes=at_scales(RECURRENT, patch=2),
        training=at_scales(SMALL_RATE, rate=1e-4),
        published="PredRNN++",
        note=NOTES["PredRNN++"],
    ),
    Row(
        "MIM",
        MIM,
        sizes=at_scales(RECURRENT, patch=2),
        training=at_scales(SMALL_RATE, rate=1e-2),
        published="MIM",
        note=NOTES["MIM"],
    ),
    Row(
        "E3D-LSTM",
        E3DLSTM,
        sizes=at_scales(VOLUMETRIC, patch=2),
        training=at_scales(SMALL_RATE, rate=5e-3),
        published="E3D-LSTM",
        note=NOTES["E3D-LSTM"],
    ),
    Row(
        "PhyDNet",
        PhyDNet,
        sizes=at_scales(PHYSICAL, stride=2, sampling_stop=PHYSICAL_STOP),
        training=at_scales(SMALL_RATE, rate=5e-4),
        published="PhyDNet",
        note=NOTES["PhyDNet"],
    ),
    Row(
        "SimVP",
        SimVP,
        sizes=at_scales(TRANSLATING, **SPATIAL),
        training=at_scales(SMALL_RATE, rate=1e-3),
        published="SimVP",
    ),
    Row("Ours", TAU, sizes=OURS, training=at_scales(SMALL_RATE, rate=5e-4), published="TAU"),
)

SUITE = Suite(
    name="taxibj",
    title="TrafficBJ (Table 3)",
    data="trafficbj",
    clip=Clip(4, 4, 2, 32, 32),
    rows=ROWS,
    training=TRAINING,
    columns=("mse_x100", "mae", "ssim", "ssim_range2"),
    published="Table 3",
    published_columns=(("MSEx100", "TaxiBJ"), ("MAE", "TaxiBJ"), ("SSIM", "TaxiBJ")),
    data_options={"smoke": {"downsample": 2}},
)

# The rows that Table 6 has besides, for the ablation's second column.
ABLATION = Suite(
    name="trafficbj",
    title="TrafficBJ",
    data=SUITE.data,
    clip=SUITE.clip,
    rows=(
        *(row for row in ROWS[:-1] if row.label != "PhyDNet"),
        Row(
            "Conv baseline",
            ConvBaseline,
            sizes=at_scales(TRANSLATING, **SPATIAL),
            training=at_scales(SMALL_RATE, rate=1e-3),
        ),
        Row("Ours w/o DDR", TAU, alpha=0.0, sizes=OURS, training=at_scales(SMALL_RATE, rate=5e-4)),
        ROWS[-1],
    ),
    training=TRAINING,
    columns=("mse_x100",),
    data_options=SUITE.data_options,
)
