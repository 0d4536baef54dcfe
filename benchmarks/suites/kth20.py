"""Table 5 of the TAU paper, left half: KTH, 10 to 20 frames.

The published numbers were measured on the curated images; `--dataset kth` takes the official
videos. Models that predict a block of 10 frames are trained through their own predictions, as
released.
"""

from __future__ import annotations

from baselines import E3DLSTM, ConvLSTM, LastFrame, PredRNN, PredRNNpp, SimVP
from benchmarks.data import KTH, KTHAction
from benchmarks.experiment.spec import Panel, Row, Suite, Training
from benchmarks.metrics import MSE, PSNR, PSNR_UINT8_WRAP, SSIM, SSIM_RANGE2
from benchmarks.suites import ablation, caltech, sizes
from benchmarks.suites.notes import NOTES, PORT
from benchmarks.suites.sizes import SMALL, released
from tau import TAU, Clip

TRAINING = {
    "smoke": ablation.TRAINING["smoke"],
    "quick": Training(
        epochs=6, sequences=160, batch_size=4, val_sequences=32, test_sequences=160, **SMALL
    ),
    "standard": caltech.RELEASED,
    "paper": caltech.RELEASED,
}

ROWS = (
    Row("Last frame", LastFrame, note=NOTES["Last frame"]),
    Row(
        "ConvLSTM",
        ConvLSTM,
        sizes=sizes.LARGE_RECURRENT,
        training=released(lr=1e-3),
        published="ConvLSTM",
        note=NOTES["ConvLSTM"],
    ),
    Row(
        "PredRNN",
        PredRNN,
        sizes=sizes.LARGE_RECURRENT,
        training=released(lr=1e-3),
        published="PredRNN",
    ),
    Row(
        "PredRNN++",
        PredRNNpp,
        sizes=sizes.LARGE_RECURRENT,
        training=released(lr=1e-3),
        published="PredRNN++",
        note=NOTES["PredRNN++"],
    ),
    Row(
        "E3D-LSTM",
        E3DLSTM,
        sizes=sizes.KTH_E3DLSTM,
        training=released(lr=5e-4),
        published="E3d-LSTM",
        note=f"m lives, depth is padded and attention is per pixel, as in the paper; {PORT} has "
        "none of these, and its convolutions stride by 2 in depth and space, which counts 216.95 G "
        "for 10 to 20 frames",
    ),
    Row(
        "SimVP",
        SimVP,
        sizes=sizes.LARGE_SIMVP,
        training=released(lr=1e-3),
        published="SimVP",
    ),
    Row(
        "Ours",
        TAU,
        sizes=sizes.LARGE_TAU,
        training=released(lr=1e-3),
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
PANEL = Panel(
    KTHAction,
    (MSE, SSIM, SSIM_RANGE2, PSNR, PSNR_UINT8_WRAP),
    clip=Clip(10, 20, 1, 128, 128),
    dataset_options={"smoke": {"downsample": 8}, "quick": {"downsample": 4}},
    versions=(KTH,),
)

SUITE = Suite(
    name="kth20",
    title="KTH, 10 to 20 frames (Table 5)",
    panels=(PANEL,),
    rows=ROWS,
    training=TRAINING,
    published="Table 5",
    published_columns=(("SSIM", "KTH", "10->20"), ("PSNR", "KTH", "10->20")),
    also_published=(*ALSO_PUBLISHED, "VPN", "Znet", "MSNET"),
)
