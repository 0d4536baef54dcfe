"""Table 2 of the TAU paper: Moving MNIST, 10 to 10 frames."""

from __future__ import annotations

from benchmarks.suite import Suite
from benchmarks.suites import ablation

_TRAINED = ("Last frame", "ConvLSTM", "PredRNN", "SimVP", "Ours")

SUITE = Suite(
    name="mmnist",
    title="Moving MNIST (Table 2)",
    data="moving-mnist",
    rows=tuple(row for row in ablation.ROWS if row.label in _TRAINED),
    training=ablation.TRAINING,
    data_options=ablation.SUITE.data_options,
    columns=("mse", "mae", "ssim", "ssim_range2", "psnr"),
    published="Table 2",
    published_columns=(
        ("MSE", "Moving MNIST"),
        ("MAE", "Moving MNIST"),
        ("SSIM", "Moving MNIST"),
    ),
    also_published=(
        "VPN",
        "PredRNN++",
        "MIM",
        "LMC",
        "E3D-LSTM",
        "Conv-TT-LSTM",
        "DDPAE",
        "PhyDNet",
        "CrevNet",
    ),
    target=ablation.SUITE.target,
)
