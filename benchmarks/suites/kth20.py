"""Table 5 of the TAU paper, left half: KTH, 10 to 20 frames.

The published numbers were measured on the curated images; `--dataset kth` takes the official
videos. Models that predict a block of 10 frames are trained through their own predictions, as
released.
"""

from __future__ import annotations

from baselines import E3DLSTM, ConvLSTM, LastFrame, PredRNN, PredRNNpp, SimVP
from benchmarks.suite import Row, Suite, Training
from benchmarks.suites import ablation, at_scales, caltech
from tau import TAU, Clip

VOLUMETRIC = {
    "smoke": {"hidden": (8, 8), "kernel": 3, "patch": 4, "sampling_stop": 60},
    "quick": {"hidden": (16, 16), "kernel": 3, "patch": 4, "sampling_stop": 150},
}
RATE = {"smoke": {"rate": 5e-3}, "quick": {"rate": 5e-3}}

# As released for this data set: sizes and rates (Adam, one cycle), 100 epochs.
RELEASED = Training(epochs=100, sequences=None)
TRAINING = {
    "smoke": ablation.TRAINING["smoke"],
    "quick": Training(epochs=6, sequences=160, batch_size=4, validation=32, test=160),
    "standard": RELEASED,
    "paper": RELEASED,
}

ROWS = (
    Row("Last frame", LastFrame, note="repeats the last observed frame; the floor"),
    Row(
        "ConvLSTM",
        ConvLSTM,
        sizes=at_scales(caltech.RECURRENT, patch=2),
        training=at_scales(RATE, rate=1e-3),
        published="ConvLSTM",
    ),
    Row(
        "PredRNN",
        PredRNN,
        sizes=at_scales(caltech.RECURRENT, patch=2),
        training=at_scales(RATE, rate=1e-3),
        published="PredRNN",
    ),
    Row(
        "PredRNN++",
        PredRNNpp,
        sizes=at_scales(caltech.RECURRENT, patch=2),
        training=at_scales(RATE, rate=1e-3),
        published="PredRNN++",
    ),
    Row(
        "E3D-LSTM",
        E3DLSTM,
        sizes=at_scales(VOLUMETRIC, patch=8),
        training=at_scales(RATE, rate=5e-4),
        published="E3d-LSTM",
        note="released with patches of 8 and strided attention, which is left out",
    ),
    Row(
        "SimVP",
        SimVP,
        sizes=at_scales(
            caltech.TRANSLATING,
            spatial_hidden=64,
            temporal_hidden=256,
            spatial_depth=2,
            temporal_depth=4,
        ),
        training=at_scales(RATE, rate=1e-3),
        published="SimVP",
    ),
    Row(
        "Ours",
        TAU,
        sizes=at_scales(
            caltech.ATTENTION,
            spatial_hidden=64,
            temporal_hidden=256,
            spatial_depth=2,
            temporal_depth=6,
            drop_path=0.1,
        ),
        training=at_scales(RATE, rate=1e-3),
        published="TAU",
    ),
)

ALSO_PUBLISHED = (
    "MCnet",
    "SAVP",
    "DFN",
    "fRNN",
    "SV2Pv",
    "VarNet",
    "SAVP-VAE",
    "STMFANet",
)
COLUMNS = ("mse", "ssim", "ssim_range2", "psnr", "psnr_uint8_wrap")

SUITE = Suite(
    name="kth20",
    title="KTH, 10 to 20 frames (Table 5)",
    data="kth-action",
    clip=Clip(10, 20, 1, 128, 128),
    rows=ROWS,
    training=TRAINING,
    columns=COLUMNS,
    published="Table 5",
    published_columns=(("SSIM", "KTH", "10->20"), ("PSNR", "KTH", "10->20")),
    also_published=(*ALSO_PUBLISHED, "VPN", "Znet", "MSNET"),
    data_options={"smoke": {"downsample": 8}, "quick": {"downsample": 4}},
)
