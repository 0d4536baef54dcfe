"""OpenSTL's second table on Moving MNIST: MetaFormers as translators, beside TAU and SimVP.

One shell, one size, one training; rates as released for each. Published: OpenSTL's model zoo, after
200 epochs, which is scale standard, and after 2,000, which is scale paper.
"""

from __future__ import annotations

from dataclasses import replace

from baselines import MetaVP
from benchmarks.experiment.spec import PublishedTable, Row, Suite
from benchmarks.suites import ablation, mmnist, sizes
from benchmarks.suites.notes import NOTES, ZOO
from benchmarks.suites.sizes import BRIEF, at_scales

_TABLE_2 = {row.label: row for row in mmnist.ROWS}


def _row(label: str, mixer: str, lr: float, small: sizes.Sizes = sizes.TAU) -> Row:
    training = at_scales(BRIEF, lr=lr)
    return Row(label, MetaVP, {"mixer": mixer}, small, training, note=NOTES.get(label, ""))


METAFORMERS = (
    _row("ViT", "vit", 5e-4),
    _row("Swin", "swin", 1e-3),
    _row("Uniformer", "uniformer", 5e-4, sizes.UNIFORMER),
    _row("MLP-Mixer", "mlp_mixer", 1e-3),
    _row("ConvMixer", "conv_mixer", 1e-2, sizes.SIMVP),
    _row("PoolFormer", "poolformer", 1e-3),
    _row("ConvNeXt", "convnext", 1e-2),
    _row("VAN", "van", 1e-3),
    _row("HorNet", "hornet", 1e-3),
    _row("MogaNet", "moganet", 1e-3),
)


def _zoo(epochs: int, *metrics: str) -> PublishedTable:
    same = ("ViT", "Uniformer", "MLP-Mixer", "ConvMixer", "ConvNeXt", "VAN", "HorNet", "MogaNet")
    methods = {label: label for label in same} | {
        "SimVP": "IncepU (SimVPv1)",
        "SimVP-v2": "gSTA (SimVPv2)",
        "Swin": "Swin Transformer",
        "PoolFormer": "Poolformer",
        "Ours": "TAU",
    }
    columns = [(metric, "Moving MNIST", "10->10", epochs) for metric in metrics]
    return PublishedTable(ZOO, "MMNIST MetaVP", f"{epochs:,} epochs", columns, methods)


SUITE = Suite(
    name="metaformers",
    title="MetaFormers on Moving MNIST (OpenSTL)",
    panels=mmnist.SUITE.panels,
    rows=(
        *(_TABLE_2[label] for label in ("Last frame", "SimVP", "SimVP-v2")),
        *METAFORMERS,
        _TABLE_2["Ours"],
    ),
    # At the smallest scale as many sequences for TAU and SimVP as for the others.
    training={**ablation.TRAINING, "smoke": replace(ablation.TRAINING["smoke"], sequences=16)},
    published_elsewhere=(_zoo(200, "MSE", "MAE", "SSIM", "FLOPs_G"), _zoo(2_000, "MSE")),
)
