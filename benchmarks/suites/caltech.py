"""Table 4 of the TAU paper: trained on KITTI, tested on Caltech Pedestrian, 10 frames to 1."""

from __future__ import annotations

from baselines import ConvLSTM, CrevNet, LastFrame, PredNet, PredRNN, SimVP
from benchmarks.data import KittiCaltech, KittiRawCaltech
from benchmarks.experiment.spec import Panel, Row, Suite, Training
from benchmarks.metrics import MAE, MSE, PSNR, PSNR_UINT8_WRAP, SSIM, SSIM_RANGE2
from benchmarks.suites import ablation, sizes
from benchmarks.suites.notes import NOTES
from benchmarks.suites.sizes import SMALL, released
from tau import TAU, Clip

# As released for this data set, and for KTH: one cycle with Adam, 100 epochs.
RELEASED = Training(epochs=100, sequences=None)

SUITE = Suite(
    name="caltech",
    title="KITTI to Caltech Pedestrian (Table 4)",
    panels=(
        Panel(
            KittiCaltech,
            (MSE, MAE, SSIM, SSIM_RANGE2, PSNR, PSNR_UINT8_WRAP),
            clip=Clip(10, 1, 3, 128, 160),
            dataset_options={"smoke": {"downsample": 8}, "quick": {"downsample": 4}},
            versions=(KittiRawCaltech,),
        ),
    ),
    rows=(
        Row("Last frame", LastFrame, note=NOTES["Last frame"]),
        Row(
            "ConvLSTM",
            ConvLSTM,
            sizes=sizes.LARGE_RECURRENT,
            training=released(lr=5e-3),
            note=NOTES["ConvLSTM"],
        ),
        Row(
            "PredRNN",
            PredRNN,
            sizes=sizes.LARGE_RECURRENT,
            training=released(lr=1e-2),
        ),
        Row(
            "PredNet",
            PredNet,
            {"feedback": "previous"},
            sizes=sizes.CALTECH_PREDNET,
            training=released(lr=1e-3),
            published="PredNet",
            note="the published model has widths 3, 48, 96, 192; " + NOTES["PredNet"],
        ),
        Row(
            "CrevNet",
            CrevNet,
            sizes=sizes.CALTECH_CREVNET,
            training=released(lr=5e-3),
            published="CrevNet",
            note="size and rate as for Moving MNIST, as none were released for these data; "
            + NOTES["CrevNet"],
        ),
        Row(
            "SimVP",
            SimVP,
            sizes=sizes.LARGE_SIMVP,
            training=released(lr=5e-3),
            published="SimVP",
        ),
        Row(
            "Ours",
            TAU,
            sizes=sizes.LARGE_TAU,
            training=released(lr=1e-2),
            published="TAU",
            note="the divergence needs three frames, so with one to predict there is none",
        ),
    ),
    training={
        "smoke": ablation.TRAINING["smoke"],
        "quick": Training(
            epochs=8,
            sequences=120,
            batch_size=4,
            val_sequences=32,
            test_sequences=200,
            **SMALL,
        ),
        "standard": RELEASED,
        "paper": RELEASED,
    },
    published="Table 4",
    published_columns=(("SSIM", "KITTI->Caltech"), ("PSNR", "KITTI->Caltech")),
    also_published=(
        "BeyondMSE",
        "MCnet",
        "DVF",
        "Dual-GAN",
        "CtrlGen",
        "ContextVP",
        "GAN-VGG",
        "G-VGG",
        "SDC-Net",
        "rCycleGan",
        "DPG",
        "G-MAE",
        "GAN-MAE",
        "STMFANet",
    ),
)
