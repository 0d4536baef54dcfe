"""Moving Fashion-MNIST, 10 to 10 frames: beside OpenSTL's model zoo, which alone has numbers."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.data import MovingFashionMNIST
from benchmarks.experiment.spec import Suite
from benchmarks.suites import ablation, mmnist

ZOO = mmnist.ZOO_200._replace(
    table="MFMNIST STL",
    columns=tuple(
        (metric, "Moving Fashion-MNIST", "10->10", 200) for metric in ("MSE", "MAE", "SSIM", "PSNR")
    ),
    methods={
        label: method for label, method in mmnist.ZOO_200.methods.items() if label != "CrevNet"
    },
)

SUITE = Suite(
    name="mfmnist",
    title="Moving Fashion-MNIST",
    panels=(
        replace(
            mmnist.SUITE.panels[0],
            dataset=MovingFashionMNIST,
            title="Moving Fashion-MNIST",
            left_out={},
        ),
    ),
    rows=[
        replace(row, published=None)
        for row in mmnist.ROWS
        if row.label == "Last frame" or row.label in ZOO.methods
    ],
    training=ablation.TRAINING,
    published_elsewhere=(ZOO,),
)
