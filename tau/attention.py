"""The temporal attention unit: statical times dynamical attention (TAU, Sec. 3.3)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tau.spatial import init_by_fan_out


class TemporalAttention(nn.Module):
    """Statical (SA) times dynamical (DA) attention times the input: [B, C, H, W] -> same shape.

    SA, inside a frame: depth-wise 5x5, depth-wise 7x7 with dilation 3, 1x1. DA, between frames
    (they lie along the channels): average pool, bottleneck, sigmoid. As released, the bottleneck
    is C // max(C // 16, 4) wide (16 for every width the paper uses) and has no biases.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.dilated = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        bottleneck = max(1, channels // max(channels // 16, 4))
        self.squeeze = nn.Linear(channels, bottleneck, bias=False)
        self.excite = nn.Linear(bottleneck, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh `x` by both attentions."""
        statical: Tensor = self.pointwise(self.dilated(self.depthwise(x)))
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
        dynamical = torch.sigmoid(self.excite(F.relu(self.squeeze(pooled))))
        return dynamical[:, :, None, None] * statical * x


class ConvMLP(nn.Module):
    """1x1 to `ratio` times the width, depth-wise 3x3, GELU, 1x1 back: [B, C, H, W] -> same."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = ratio * channels
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.contract = nn.Conv2d(hidden, channels, 1)
        self.apply(init_by_fan_out)

    def forward(self, x: Tensor) -> Tensor:
        """Mix channels and, through the depth-wise 3x3, neighbours."""
        out: Tensor = self.contract(F.gelu(self.depthwise(self.expand(x))))
        return out


class TemporalBlock(nn.Module):
    """x + g1 A(norm(x)), then x + g2 MLP(norm(x)), then 1x1 if the width changes.

    A(z) = z + 1x1(attention(GELU(1x1(z)))). g1 and g2 are per-channel layer scales, 0.01 at the
    start. `drop_path` is the probability that a residual branch is left out for a sample in
    training (stochastic depth; kept branches are scaled up). [B, C, H, W] -> [B, C_out, H, W].
    """

    kind: type[nn.Module] = TemporalAttention  # of attention: a module made from its channels

    def __init__(
        self, channels: int, channels_out: int, mlp_ratio: int, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.project_in = nn.Conv2d(channels, channels, 1)
        self.attention = self.kind(channels)
        self.project_out = nn.Conv2d(channels, channels, 1)
        self.scale1 = nn.Parameter(torch.full((channels,), 0.01))
        self.norm2 = nn.BatchNorm2d(channels)
        self.mlp = ConvMLP(channels, mlp_ratio)
        self.scale2 = nn.Parameter(torch.full((channels,), 0.01))
        self.drop_path = drop_path
        self.change_width = (
            nn.Conv2d(channels, channels_out, 1) if channels_out != channels else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        z = self.norm1(x)
        attended = z + self.project_out(self.attention(F.gelu(self.project_in(z))))
        x = x + self._branch(attended, self.scale1)
        x = x + self._branch(self.mlp(self.norm2(x)), self.scale2)
        out: Tensor = self.change_width(x)
        return out

    def _branch(self, x: Tensor, scale: Tensor) -> Tensor:
        factor = scale[:, None, None]
        if self.training and self.drop_path > 0:
            keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path
            factor = factor * (keep / (1 - self.drop_path))
        return x * factor


def temporal_blocks(
    folded: int,
    hidden: int,
    depth: int,
    mlp_ratio: int,
    drop_path: float,
    block: type[TemporalBlock] = TemporalBlock,
) -> nn.Sequential:
    """`depth` blocks: [B, folded, H, W] -> the same, `hidden` wide after the first.

    Stochastic depth runs linearly from 0.01 in the first block to `drop_path` in the last, as
    released. Raises ValueError for fewer than two blocks, a width or MLP ratio below 1, or a
    `drop_path` outside [0, 1).
    """
    for name, value in (("temporal_hidden", hidden), ("mlp_ratio", mlp_ratio)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
    if depth < 2:
        raise ValueError(f"temporal_depth is {depth}; expected 2 or more")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path is {drop_path}; expected 0 <= drop_path < 1")
    widths = [folded] + [hidden] * (depth - 1) + [folded]
    steps = [i / (depth - 1) for i in range(depth)]
    rates = [0.01 + (drop_path - 0.01) * step for step in steps[:-1]] + [drop_path]
    return nn.Sequential(
        *(
            block(width, width_out, mlp_ratio, rate)
            for (width, width_out), rate in zip(pairwise(widths), rates, strict=True)
        )
    )
