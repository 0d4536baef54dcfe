"""SimVPv2: Towards Simple yet Powerful Spatiotemporal Predictive Learning (Tan, Gao, Li, Li; 2022).

arXiv:2211.12509. Its translator is made of gated spatiotemporal attention (gSTA).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tau.attention import TemporalBlock, temporal_blocks
from tau.predictor import Clip
from tau.spatial import TranslatingPredictor, check_spatial, init_by_fan_out


class GatedAttention(nn.Module):
    """f * sigmoid(g), (f, g) the halves of a large-kernel convolution: [B, C, H, W] -> same shape.

    The large kernel: depth-wise 5x5, depth-wise 7x7 with dilation 3, 1x1 to 2C channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.dilated = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.pointwise = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        joined: Tensor = self.pointwise(self.dilated(self.depthwise(x)))
        f, g = joined.chunk(2, dim=1)
        return f * torch.sigmoid(g)


class GatedBlock(TemporalBlock):
    """`TemporalBlock` with gated attention; weights N(0, 2/fan_out) before the change of width."""

    kind = GatedAttention

    def __init__(
        self, channels: int, channels_out: int, mlp_ratio: int, drop_path: float = 0.0
    ) -> None:
        super().__init__(channels, channels_out, mlp_ratio, drop_path)
        for module in (self.project_in, self.attention, self.project_out):
            module.apply(init_by_fan_out)


class SimVPv2(TranslatingPredictor):
    """Encoder, gated attention blocks on (T*S) channels, decoder; trained with squared error.

    The defaults are the released Moving MNIST size: 46.77 M parameters, 16.53 G MACs
    (batch normalisation counted as in training; 128, 1024, 4 and 24 give its large form).

    Options as in `TAU`, stochastic depth included: rates run linearly from 0.01 to drop_path, so 0
    is "almost none", as released. Raises ValueError for sizes that do not fit the clip.
    """

    def __init__(
        self,
        clip: Clip,
        spatial_hidden: int = 64,
        temporal_hidden: int = 512,
        spatial_depth: int = 4,
        temporal_depth: int = 8,
        mlp_ratio: int = 8,
        drop_path: float = 0.0,
    ) -> None:
        check_spatial(clip, spatial_hidden, spatial_depth)
        folded = clip.past * spatial_hidden
        blocks = temporal_blocks(
            folded, temporal_hidden, temporal_depth, mlp_ratio, drop_path, GatedBlock
        )
        super().__init__(clip, blocks, spatial_hidden, spatial_depth)
