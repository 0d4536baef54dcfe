"""Table 5 of the TAU paper, left half: KTH, 10 to 20 frames.

The published numbers were measured on the curated images; `--dataset kth` takes the official
videos. Models that predict a block of 10 frames are trained through their own predictions, as
released.
"""

from __future__ import annotations

from baselines import E3DLSTM, ConvLSTM, PredRNN, PredRNNpp, SimVP
from benchmarks.experiment.spec import Row, Suite, Training
from benchmarks.suites import LAST_FRAME, NOTES, PORT, SMALL_RATE, ablation, at_scales, caltech
from tau import TAU, Clip

VOLUMETRIC = {
    "smoke": {"hidden": (8, 8), "kernel": 3, "patch": 4, "sampling_stop": 60},
    "quick": {"hidden": (16, 16), "kernel": 3, "patch": 4, "sampling_stop": 150},
}

TRAINING = {
    "smoke": ablation.TRAINING["smoke"],
    "quick": Training(epochs=6, sequences=160, batch_size=4, validation=32, test=160),
    "standard": caltech.RELEASED,
    "paper": caltech.RELEASED,
}

ROWS = (
    LAST_FRAME,
    Row(
        "ConvLSTM",
        ConvLSTM,
        sizes=at_scales(caltech.RECURRENT, patch=2),
        training=at_scales(SMALL_RATE, rate=1e-3),
        published="ConvLSTM",
        note=NOTES["ConvLSTM"],
    ),
    Row(
        "PredRNN",
        PredRNN,
        sizes=at_scales(caltech.RECURRENT, patch=2),
        training=at_scales(SMALL_RATE, rate=1e-3),
        published="PredRNN",
    ),
    Row(
        "PredRNN++",
        PredRNNpp,
        sizes=at_scales(caltech.RECURRENT, patch=2),
        training=at_scales(SMALL_RATE, rate=1e-3),
        published="PredRNN++",
        note=NOTES["PredRNN++"],
    ),
    Row(
        "E3D-LSTM",
        E3DLSTM,
        sizes=at_scales(VOLUMETRIC, patch=8),
        training=at_scales(SMALL_RATE, rate=5e-4),
        published="E3d-LSTM",
        note=f"m lives, depth is padded and attention is per pixel, as in the paper; {PORT} has "
        "none of these, and its convolutions stride by 2 in depth and space, which counts 216.95 G "
        "for 10 to 20 frames",
    ),
    Row(
        "SimVP",
        SimVP,
        sizes=caltech.SIMVP,
        training=at_scales(SMALL_RATE, rate=1e-3),
        published="SimVP",
    ),
    Row(
        "Ours",
        TAU,
        sizes=caltech.OURS,
        training=at_scales(SMALL_RATE, rate=1e-3),
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
