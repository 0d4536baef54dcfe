"""OpenSTL's MetaVP: ten MetaFormer blocks as translators in SimVP's shell.

OpenSTL: A Comprehensive Benchmark of Spatio-Temporal Predictive Learning (Tan, Li, Gao, Guan, Wang,
Liu, Wu, Li; NeurIPS 2023, Datasets and Benchmarks), arXiv 2306.11249. The blocks: `mixers`.
"""

from __future__ import annotations

import difflib
from itertools import pairwise

from torch import nn

from baselines.mixers import MIXERS
from baselines.mixers.block import Site
from tau.predictor import Clip
from tau.spatial import TranslatingPredictor, check_spatial


class MetaVP(TranslatingPredictor):
    """Encoder, blocks that mix the (T*S) channels' positions, decoder; trained with squared error.

    mixer: which block: vit, swin, uniformer, mlp_mixer, conv_mixer, poolformer, convnext, van,
    hornet or moganet. The others as in `TAU`, stochastic depth included: rates run linearly from
    0.01 to drop_path, so 0 is "almost none", as released. conv_mixer has neither MLP nor stochastic
    depth, so `mlp_ratio` and `drop_path` have no effect there, and only their defaults are taken.

    The defaults are the released Moving MNIST size: 3.9 M parameters with conv_mixer, 37 to 47 M
    with the others, and 5.6 to 16.9 G MACs. With swin and mlp_mixer, the frame size is that of the
    clip. Raises ValueError for options and sizes that do not fit.
    """

    def __init__(
        self,
        clip: Clip,
        mixer: str = "van",
        spatial_hidden: int = 64,
        temporal_hidden: int = 512,
        spatial_depth: int = 4,
        temporal_depth: int = 8,
        mlp_ratio: int = 8,
        drop_path: float = 0.0,
    ) -> None:
        if mixer not in MIXERS:
            near = difflib.get_close_matches(str(mixer), MIXERS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"mixer is {mixer!r}; {hint}expected one of {', '.join(MIXERS)}")
        check_spatial(clip, spatial_hidden, spatial_depth)
        _check_temporal(temporal_hidden, temporal_depth, mlp_ratio, drop_path)
        if mixer == "conv_mixer" and (mlp_ratio, drop_path) != (8, 0.0):
            raise ValueError(
                f"mlp_ratio is {mlp_ratio}, drop_path is {drop_path}; conv_mixer has neither MLP "
                "nor stochastic depth, so leave both out"
            )
        factor = 2 ** (spatial_depth // 2)
        grid = (clip.height // factor, clip.width // factor)
        folded = clip.past * spatial_hidden
        widths = [folded] + [temporal_hidden] * (temporal_depth - 1) + [folded]
        step = (drop_path - 0.01) / (temporal_depth - 1)
        blocks: list[nn.Module] = []
        for index, (width, width_out) in enumerate(pairwise(widths)):
            rate = drop_path if index == temporal_depth - 1 else 0.01 + index * step
            site = Site(width, grid, index, width == width_out, mlp_ratio, rate)
            blocks.append(MIXERS[mixer](site))
            if width != width_out:
                blocks.append(nn.Conv2d(width, width_out, 1))
        super().__init__(clip, nn.Sequential(*blocks), spatial_hidden, spatial_depth)


def _check_temporal(hidden: int, depth: int, mlp_ratio: int, drop_path: float) -> None:
    for name, value in (("temporal_hidden", hidden), ("mlp_ratio", mlp_ratio)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
    if depth < 2:
        raise ValueError(f"temporal_depth is {depth}; expected 2 or more")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path is {drop_path}; expected 0 <= drop_path < 1")
