"""Published numbers: what papers and model zoos print, to stand beside measured ones.

published.csv has one row per printed number. `uncertain` is true where the row that a number
belongs to had to be inferred, where a paper repeats a number that another paper has, or where it
was found in an index of papers. `value` keeps the printed digits.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.names import choose

PAPER = "TAU_CVPR2023"
ZOO = "OpenSTL_model_zoo"
SOURCES = {
    PAPER: "the TAU paper (Tan et al., CVPR 2023)",
    ZOO: "the OpenSTL model zoo",
    "PredFormer_arXiv2410.04733": "the PredFormer preprint (Tang et al., arXiv 2410.04733)",
    "SwinLSTM_ICCV2023": "the SwinLSTM paper (Tang et al., ICCV 2023)",
    "VMRNN_CVPRW2024": "the VMRNN paper (Tang et al., CVPR Workshops 2024)",
    "WaveSFNet_arXiv2603.23284": "the WaveSFNet preprint (arXiv 2603.23284)",
    "Earthformer_NeurIPS2022": "the Earthformer paper (Gao et al., NeurIPS 2022)",
}


class PublishedColumn(NamedTuple):
    """One published column. Name the protocol or the epochs where a table has several."""

    metric: str
    dataset: str
    protocol: str | None = None
    epochs: int | None = None


class Value(NamedTuple):
    """One published number, and as it was printed."""

    value: float
    printed: str
    uncertain: bool


class Convention(NamedTuple):
    """What a reader must know before comparing with a published metric of these tables."""

    source: str
    tables: tuple[str, ...]
    metric: str
    text: str


WEATHER = tuple(f"Weather {name} 5.625" for name in ("t2m", "uv10", "r", "tcc"))
MANY = tuple(f"Weather MV {name}" for name in ("r", "t", "u", "v"))
CONVENTIONS = (
    Convention(
        PAPER,
        ("Table 2", "Table 6"),
        "MSE",
        "The paper does not state for how many epochs TAU was trained",
    ),
    Convention(
        PAPER,
        ("Table 2", "Table 6"),
        "MSE",
        "Released codes clip the frames of PredRNN, PredRNN++, MIM and E3D-LSTM to [0, 1] before "
        "their MSE",
    ),
    Convention(PAPER, ("Table 3", "Table 6"), "MSEx100", "TaxiBJ's MSE is printed times 100"),
    Convention(
        PAPER,
        ("Table 2",),
        "SSIM",
        "Published SSIM mixes conventions: going by the released evaluation codes, ConvLSTM, "
        "PredRNN and PredRNN++ are scored on 8-bit frames (like ssim_uint8); MIM, LMC, "
        "Conv-TT-LSTM, PhyDNet, SimVP and TAU with data range 2 (like ssim_range2); the others are "
        "unknown",
    ),
    Convention(
        PAPER,
        ("Table 3", "Table 4", "Table 5"),
        "SSIM",
        "Published SSIM of SimVP and TAU uses data range 2 (like ssim_range2); other rows may "
        "differ",
    ),
    Convention(
        PAPER,
        ("Table 4", "Table 5"),
        "PSNR",
        "Published PSNR of SimVP and TAU comes from 8-bit subtraction that wraps around (like "
        "psnr_uint8_wrap): it cannot fall below 24.17 dB, and TAU's exceeds the correct "
        "value by 6 to 7 dB",
    ),
    Convention(
        PAPER,
        ("Table 6",),
        "FLOPs_G",
        "Published FLOPs count batch normalisation in training mode and leave out the recurrent "
        "models' output convolution; those of PredRNN++, MIM and E3D-LSTM belong to wider "
        "re-implementations than the models whose MSE stands beside them",
    ),
    Convention(
        PAPER,
        ("Sec 4.5",),
        "minutes_per_epoch",
        "Published times are of a Tesla V100 at batch size 16; those of CrevNet and PhyDNet are "
        "printed as approximate",
    ),
    Convention(
        ZOO,
        (
            *("MMNIST STL", "MMNIST MetaVP", "TaxiBJ STL", "TaxiBJ MetaVP"),
            *("MFMNIST STL", "MFMNIST MetaVP"),
        ),
        "MSE",
        "The model zoo chose checkpoints on the test set",
    ),
    Convention(
        ZOO,
        ("MMNIST STL", "TaxiBJ STL", "MFMNIST STL"),
        "MSE",
        "The model zoo's ConvLSTM ignores its cell state",
    ),
    Convention(
        ZOO,
        (
            *("MMNIST STL", "MMNIST MetaVP", "TaxiBJ STL", "TaxiBJ MetaVP"),
            *("KTH STL", "KTH MetaVP", "KittiCaltech STL", "KittiCaltech MetaVP"),
            *("MFMNIST STL", "MFMNIST MetaVP"),
        ),
        "SSIM",
        "Published SSIM uses data range 2 (like ssim_range2)",
    ),
    Convention(
        ZOO,
        ("MMNIST STL",),
        "PSNR",
        "Published PSNR of SimVP and SimVP-v2 at 200 epochs comes from 8-bit subtraction that "
        "wraps around (like psnr_uint8_wrap)",
    ),
    Convention(
        ZOO,
        (*WEATHER, *MANY),
        "RMSE",
        "The model zoo's weather numbers have no weights by latitude, and its checkpoints were "
        "chosen on the test years",
    ),
    Convention(
        ZOO,
        ("Weather t2m 5.625",),
        "RMSE",
        "The model zoo's PhyDNet diverged on temperature (MSE 285.9)",
    ),
    Convention(
        ZOO,
        ("Weather r 5.625", "Weather tcc 5.625"),
        "RMSE",
        "Some of the model zoo's numbers cannot be right: on humidity ConvLSTM has those of "
        "PredRNN++, and E3D-LSTM those of MIM, in all three metrics; on cloud cover E3D-LSTM has "
        "those of MIM",
    ),
    Convention(
        ZOO,
        MANY,
        "RMSE",
        "Published numbers of many variables are of frames 36 hours apart, as the loader takes its "
        "step of six hours twice: only --dataset weatherbench-mv-released has them",
    ),
    Convention(
        ZOO,
        ("KTH STL", "KTH MetaVP"),
        "FLOPs_G",
        "Published FLOPs of models that predict blocks count one block of 10 frames, though 20 "
        "frames take two; those of recurrent models count the whole rollout",
    ),
    Convention(
        "Earthformer_NeurIPS2022",
        ("results",),
        "CSI-M",
        "Published numbers of the Earthformer paper were found in an index of papers",
    ),
)


@cache
def all_published() -> pd.DataFrame:
    """All rows of published.csv, with `printed` beside `value`; not to be changed."""
    types = {"value": "str", "epochs": "Int64", "uncertain": "bool"}
    path = Path(__file__).with_name("published.csv")
    rows = pd.read_csv(path, dtype=types, keep_default_na=True)
    rows = rows.rename(columns={"value": "printed"})
    rows.insert(6, "value", rows["printed"].astype(float))
    return rows


def published(table: str, source: str = PAPER) -> pd.DataFrame:
    """Rows of one published table, with columns as in published.csv and `printed`.

    Raises ValueError if the source has no such table.
    """
    rows = all_published()
    of_source = rows[rows["source"] == source]
    if of_source.empty:
        raise ValueError(f"source {source!r} is unknown; expected one of {sorted(SOURCES)}")
    chosen = of_source[of_source["table"] == table]
    if chosen.empty:
        tables = sorted(of_source["table"].unique())
        raise ValueError(f"{source} has no table {table!r}; expected one of {tables}")
    return chosen.reset_index(drop=True)


def methods(source: str = PAPER) -> list[str]:
    """Names of all methods that a source has numbers for."""
    rows = all_published()
    return sorted(rows.loc[rows["source"] == source, "method"].unique())


def lookup(rows: pd.DataFrame, method: str, column: PublishedColumn) -> Value | None:
    """The number of `method` in `column`, or None where the table leaves the cell blank.

    `rows` come from `published`. Raises ValueError if the table has no such method or column, or
    if several numbers fit.
    """
    choose("published method", method, dict.fromkeys(rows["method"]))
    in_column = (rows["metric"] == column.metric) & (rows["dataset"] == column.dataset)
    if column.protocol is not None:
        in_column &= rows["protocol"] == column.protocol
    if column.epochs is not None:
        in_column &= (rows["epochs"] == column.epochs).fillna(False).astype(bool)
    if not in_column.any():
        pairs = sorted(set(zip(rows["metric"], rows["dataset"], strict=True)))
        raise ValueError(f"no published numbers for {column}; metrics and data sets are {pairs}")
    found = rows[in_column & (rows["method"] == method)]
    if len(found) > 1:
        protocols, epochs = (
            found[name].dropna().unique().tolist() for name in ("protocol", "epochs")
        )
        raise ValueError(
            f"{len(found)} published numbers of {method!r} fit {column}; name its protocol (of "
            f"{protocols}) or epochs (of {epochs})"
        )
    if found.empty:
        return None
    row = found.iloc[0]
    return Value(float(row["value"]), str(row["printed"]), bool(row["uncertain"]))


def conventions(source: str, table: str, metrics: set[str]) -> list[str]:
    """Sentences a caption needs for these published metrics, without full stops."""
    return [
        convention.text
        for convention in CONVENTIONS
        if convention.source == source
        and table in convention.tables
        and convention.metric in metrics
    ]
