"""Model sizes and learning rates by family and scale; suites list rows.

A scale without an entry has the constructor's defaults: the paper's size on Moving MNIST, and
WaST's on TaxiBJ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Options = Mapping[str, Any]
Sizes = Mapping[str, Options]


def released(**options: Any) -> dict[str, Options]:
    """Options for the scales standard and paper."""
    return {"standard": options, "paper": options}


def at_scales(small: Mapping[str, Options], **options: Any) -> dict[str, Options]:
    """Options by scale: `small` for smoke and quick, the others for standard and paper."""
    return {**small, **released(**options)}


def with_attention(sizes: Sizes) -> Sizes:
    """SimVP's small sizes for TAU, whose MLPs have a ratio of 4 there."""
    return {scale: {**size, "mlp_ratio": 4} for scale, size in sizes.items()}


# --- learning rates ------------------------------------------------------------------------------

SMALL_LR = 5e-3
# Of every row at smoke and quick scale, a user's own among them. bf16 would bring narrow models
# nothing on a CPU, and numbers that only some processors give.
SMALL: Options = {"lr": SMALL_LR, "precision": "fp32"}
# Slower rows have fewer steps in continuous integration; the slowest also at quick scale.
BRIEF: Sizes = {"smoke": {"sequences": 16}}
HALF: Sizes = {**BRIEF, "quick": {"sequences": 80}}
QUARTER: Sizes = {**BRIEF, "quick": {"sequences": 40}}

# At standard and paper scale as released (Adam, one cycle); the paper's text has AdamW with 0.01
# and weight decay 0.05.
LR_1E3 = released(lr=1e-3)
LR_5E4 = released(lr=5e-4)

_ADAMW = {"optimiser": "adamw", "weight_decay": 1e-2}  # as PredFormer was released
_ADAMW_SMALL = dict.fromkeys(("smoke", "quick"), _ADAMW)
ADAMW_1E3 = at_scales(_ADAMW_SMALL, lr=1e-3, **_ADAMW)
ADAMW_5E4 = at_scales(_ADAMW_SMALL, lr=5e-4, **_ADAMW)

# --- Moving MNIST --------------------------------------------------------------------------------

SIMVP: Sizes = {
    "smoke": {"spatial_hidden": 8, "temporal_hidden": 32, "spatial_depth": 2, "temporal_depth": 2},
    "quick": {"spatial_hidden": 8, "temporal_hidden": 128, "spatial_depth": 6, "temporal_depth": 4},
}
TAU = with_attention(SIMVP)
# One block more at smoke scale: the one that attends, in the middle.
UNIFORMER: Sizes = {**TAU, "smoke": {**TAU["smoke"], "temporal_depth": 3}}
RECURRENT: Sizes = {  # ConvLSTM, the PredRNN family, MIM
    "smoke": {"hidden": (16, 16), "patch": 4},
    "quick": {"hidden": (24, 24), "kernel": 3, "patch": 8, "sampling_stop": 0.5},
}
E3DLSTM: Sizes = {
    "smoke": {"hidden": (8, 8), "kernel": 3, "patch": 4},
    "quick": {"hidden": (8, 8), "kernel": 3, "patch": 8, "sampling_stop": 0.5},
}
# The authors' teacher forcing falls by 0.003 per epoch: it ends after 333 epochs.
PHYDNET: Sizes = {
    "smoke": {"hidden": (16, 32), "sampling_stop": 0.5},
    "quick": {"hidden": (32, 32), "sampling_stop": 0.5},
    "paper": {"sampling_stop": 333 / 2_000},
}
CREVNET: Sizes = {
    "smoke": {"blocks": (1, 2), "layers": 2},
    "quick": {"blocks": (1, 1, 1), "layers": 1},
}
LMCMEMORY: Sizes = {
    "smoke": {"hidden": 16, "layers": 2, "motion": (8, 16, 16), "slots": 20},
    "quick": {"hidden": 32, "layers": 2, "motion": (8, 16, 32), "slots": 50},
}
_CONVTTLSTM = {"hidden": (8, 8, 8), "layers": 1, "kernel": 3, "rank": 4, "sampling_stop": 0.9}
CONVTTLSTM: Sizes = {
    "smoke": _CONVTTLSTM,
    "quick": _CONVTTLSTM,
    "standard": {"sampling_stop": 0.9},  # 270 of 200 epochs would not end within the training
    "paper": {"sampling_stop": 270 / 2_000},
}
DDPAE: Sizes = {
    "smoke": {"object_size": 8, "content": 16, "hidden": 16, "code": 32, "width": 4},
    "quick": {"content": 64, "hidden": 32, "code": 128},
}
MAU: Sizes = {
    "smoke": {"hidden": (16, 16), "kernel": 3},
    "quick": {"hidden": (16, 16), "kernel": 3, "sampling_stop": 0.5},
}
PREDNET: Sizes = {"smoke": {"hidden": (16, 32)}, "quick": {"hidden": (8, 16, 32)}}
PREDFORMER: Sizes = {
    "smoke": {"depth": 1, "patch": 4, "hidden": 32, "heads": 4, "mlp_ratio": 2},
    "quick": {"depth": 2, "hidden": 64, "heads": 4},
}
SWINLSTM: Sizes = {
    "smoke": {"hidden": 16, "depths": (2,), "depths_up": (2,), "heads": (2,)},
    "quick": {"hidden": 32, "depths": (2,), "depths_up": (2,), "heads": (4,), "patch": 4},
}

# --- other data sets: fewer, wider units at full resolution ---------------------------------------

WIDE_SIMVP: Sizes = {
    "smoke": SIMVP["smoke"],
    "quick": {"spatial_hidden": 16, "temporal_hidden": 64, "spatial_depth": 2, "temporal_depth": 4},
}
WIDE_TAU = with_attention(WIDE_SIMVP)

# --- TaxiBJ, as released for it at standard and paper scale --------------------------------------

_TAXIBJ_SPATIAL = {
    "spatial_hidden": 32,
    "temporal_hidden": 256,
    "spatial_depth": 2,
    "temporal_depth": 8,
}
TAXIBJ_SIMVP = at_scales(WIDE_SIMVP, **_TAXIBJ_SPATIAL)
TAXIBJ_TAU = at_scales(
    WIDE_TAU,
    **_TAXIBJ_SPATIAL,
    drop_path=0.1,
)
TAXIBJ_SAMPLING = 50_000 / 60_250  # the released steps, of 50 epochs of 1,205
TAXIBJ_RECURRENT = at_scales(
    {
        "smoke": RECURRENT["smoke"],
        "quick": {"hidden": (32, 32), "kernel": 3, "patch": 4},
    },
    patch=2,
    sampling_stop=TAXIBJ_SAMPLING,
)
TAXIBJ_E3DLSTM = at_scales(
    {
        "smoke": E3DLSTM["smoke"],
        "quick": {"hidden": (16, 16), "kernel": 3, "patch": 4},
    },
    patch=2,
    sampling_stop=TAXIBJ_SAMPLING,
)
TAXIBJ_PHYDNET = at_scales(
    {
        "smoke": {"hidden": (16, 32), "stride": 2, "sampling_stop": 0.5},
        "quick": {"hidden": (32, 32), "stride": 4, "sampling_stop": 0.5},
    },
    stride=2,
    sampling_stop=20 / 3,  # it falls by the released 0.003 in each of 50 epochs
)
_PREDFORMER_STS = {"blocks": "STS", "patch": 4}
TAXIBJ_PREDFORMER = at_scales(
    {
        "smoke": {**PREDFORMER["smoke"], **_PREDFORMER_STS},
        "quick": {**PREDFORMER["quick"], **_PREDFORMER_STS},
    },
    **_PREDFORMER_STS,
    depth=2,
    dropout=0.1,
    drop_path=0.1,
)
TAXIBJ_SWINLSTM = at_scales(  # SwinLSTM-B
    {
        "smoke": {**SWINLSTM["smoke"], "depths_up": None, "window": 2, "patch": 4},
        "quick": {**SWINLSTM["quick"], "depths": (4,), "depths_up": None},
    },
    depths=(12,),
    depths_up=None,
    heads=(8,),
    window=8,
    patch=4,
)
TAXIBJ_WAST: Sizes = {
    "smoke": {"hidden": 4, "depths": (1, 1, 1), "kernels": (7, 5), "mlp_ratio": 2},
    "quick": {"hidden": 8, "depths": (1, 2, 1), "kernels": (15, 9), "mlp_ratio": 2},
}

# --- WeatherBench: TaxiBJ's sizes, as released ---------------------------------------------------


def weather_recurrent(steps: int) -> Sizes:
    """Teacher forcing ends after the released 50,000 of so many steps."""
    small = {scale: TAXIBJ_RECURRENT[scale] for scale in ("smoke", "quick")}
    return at_scales(small, patch=2, sampling_stop=50_000 / steps)


# --- KTH and KITTI to Caltech, as released for them ----------------------------------------------

_LARGE_SPATIAL = {"spatial_hidden": 64, "temporal_hidden": 256, "spatial_depth": 2}
LARGE_SIMVP = at_scales(WIDE_SIMVP, **_LARGE_SPATIAL, temporal_depth=4)
LARGE_TAU = at_scales(
    WIDE_TAU,
    **_LARGE_SPATIAL,
    temporal_depth=6,
    drop_path=0.1,
)
KTH_SAMPLING = 50_000 / 32_500  # the released steps, of 100 epochs of 325: it does not end
LARGE_RECURRENT = at_scales(
    {
        "smoke": RECURRENT["smoke"],
        "quick": {"hidden": (32, 32), "kernel": 3, "patch": 4},
    },
    patch=2,
    sampling_stop=KTH_SAMPLING,
)
KTH_E3DLSTM = at_scales(
    {
        "smoke": E3DLSTM["smoke"],
        "quick": {"hidden": (16, 16), "kernel": 3, "patch": 4},
    },
    patch=8,
    sampling_stop=KTH_SAMPLING,
)
CALTECH_PREDNET: Sizes = {"smoke": {"hidden": (8, 16)}, "quick": {"hidden": (16, 32)}}
CALTECH_CREVNET: Sizes = {scale: {"blocks": (1, 1), "layers": 2} for scale in ("smoke", "quick")}

# --- WeatherBench, as released for it -------------------------------------------------------------

_PREDFORMER_TS = {"blocks": "fac-TS", "patch": 4, "mlp_ratio": 2}
PREDFORMER_WEATHER = at_scales(
    {
        "smoke": {**PREDFORMER["smoke"], **_PREDFORMER_TS},
        "quick": {**PREDFORMER["quick"], **_PREDFORMER_TS},
    },
    **_PREDFORMER_TS,
    depth=4,
    dropout=0.1,
    drop_path=0.25,
)
