"""The "Conv Baseline" of TAU's Table 6."""

from __future__ import annotations

from baselines.simvp import SimVP
from tau.predictor import Clip


class ConvBaseline(SimVP):
    """TAU's encoder and decoder around SimVP's translator with 3x3 kernels only.

    INFERRED: the paper gives no more than "the same number of blocks with vanilla 3x3
    convolutions" and 6.11 G MACs. Of the designs that keep TAU's encoder, decoder, width
    512 and 8 blocks, this alone costs that: 6.108 G, with 5.95 M parameters. Its convolutions are
    grouped (8 groups) and preceded by 1x1 ones, as in SimVP. Options as in `SimVP`.
    """

    def __init__(
        self,
        clip: Clip,
        spatial_hidden: int = 64,
        temporal_hidden: int = 512,
        spatial_depth: int = 4,
        temporal_depth: int = 8,
    ) -> None:
        super().__init__(
            clip, spatial_hidden, temporal_hidden, spatial_depth, temporal_depth, kernels=(3,)
        )
