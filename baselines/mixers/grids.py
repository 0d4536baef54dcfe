"""Blocks that mix each position of the latent with its neighbours: pooling and convolutions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.mixers.block import (
    Block,
    LayerNorm2d,
    Site,
    check_eighths,
    depthwise,
    init_truncated,
    linear_mlp,
    pointwise_mlp,
    scale,
)
from tau.attention import TemporalBlock
from tau.spatial import init_by_fan_out


class PoolFormer(Block):
    """Yu et al., "MetaFormer is Actually What You Need for Vision", CVPR 2022: average pooling.

    Pooling commutes with a constant, so the first norm's bias cancels and is never trained.
    """

    def __init__(self, at: Site) -> None:
        super().__init__(at)
        self.norm1 = nn.GroupNorm(1, at.channels)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.scale1 = scale(at.channels, 1e-5)
        self.norm2 = nn.GroupNorm(1, at.channels)
        self.mlp = pointwise_mlp(at.channels, at.mlp_ratio)
        self.scale2 = scale(at.channels, 1e-5)
        self.apply(init_truncated)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        z = self.norm1(x)
        x = x + self.drop((self.pool(z) - z) * self.scale1)
        return x + self.drop(self.mlp(self.norm2(x)) * self.scale2)


class ConvMixer(nn.Module):
    """Trockman, Kolter, "Patches Are All You Need?", TMLR 2023: depth-wise 11x11, then 1x1.

    Has neither an MLP nor stochastic depth.
    """

    def __init__(self, at: Site) -> None:
        super().__init__()
        c = at.channels
        self.spatial = nn.Sequential(depthwise(c, 11), nn.GELU(), nn.BatchNorm2d(c))
        self.mix = nn.Sequential(nn.Conv2d(c, c, 1), nn.GELU(), nn.BatchNorm2d(c))
        self.apply(init_by_fan_out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block; as in the paper, the second half has no shortcut."""
        out: Tensor = self.mix(x + self.spatial(x))
        return out


class ConvNeXt(Block):
    """Liu et al., "A ConvNet for the 2020s", CVPR 2022: depth-wise 7x7 and an MLP in one branch."""

    def __init__(self, at: Site) -> None:
        super().__init__(at)
        self.spatial = depthwise(at.channels, 7)
        self.norm = LayerNorm2d(at.channels, eps=1e-6)
        self.mlp = pointwise_mlp(at.channels, at.mlp_ratio)
        self.scale = scale(at.channels, 1e-6)
        self.apply(init_by_fan_out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return x + self.drop(self.mlp(self.norm(self.spatial(x))) * self.scale)


class LargeKernelAttention(nn.Module):
    """x times a large-kernel convolution of x (VAN, Eq. 3): [B, C, H, W] -> same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.large = nn.Sequential(
            depthwise(channels, 5),
            depthwise(channels, 7, dilation=3),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        out: Tensor = x * self.large(x)
        return out


class VAN(TemporalBlock):
    """Guo et al., "Visual Attention Network", CVMJ 2023: TAU's block with another attention."""

    kind = LargeKernelAttention

    def __init__(self, at: Site) -> None:
        super().__init__(at.channels, at.channels, at.mlp_ratio, at.drop_path)
        self.apply(init_by_fan_out)


class GatedConvolution(nn.Module):
    """HorNet's recursive gated convolution of order 4 (Eq. 3-5): [B, C, H, W] -> same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_eighths(channels, "HorNet's recursion")
        self.widths = [channels // 8, channels // 4, channels // 2, channels]
        self.project_in = nn.Conv2d(channels, 2 * channels, 1)
        self.spatial = depthwise(sum(self.widths), 7)
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(self.widths))
        self.project_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        y, rest = self.project_in(x).split([self.widths[0], sum(self.widths)], 1)
        first, *gates = self.spatial(rest).split(self.widths, 1)
        y = y * first
        for widen, gate in zip(self.widen, gates, strict=True):
            y = widen(y) * gate
        out: Tensor = self.project_out(y)
        return out


class HorNet(Block):
    """Rao et al., "HorNet", NeurIPS 2022: high-order spatial interactions by gated convolutions."""

    def __init__(self, at: Site) -> None:
        super().__init__(at)
        self.norm1 = LayerNorm2d(at.channels, eps=1e-6)
        self.mix = GatedConvolution(at.channels)
        self.scale1 = scale(at.channels, 1e-6)
        self.norm2 = LayerNorm2d(at.channels, eps=1e-6)
        self.mlp = linear_mlp(at.channels, at.mlp_ratio * at.channels)
        self.scale2 = scale(at.channels, 1e-6)
        self.mix.apply(init_by_fan_out)
        self.mlp.apply(init_truncated)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = x + self.drop(self.mix(self.norm1(x)) * self.scale1)
        expanded = self.mlp(self.norm2(x).movedim(1, -1)).movedim(-1, 1)
        return x + self.drop(expanded * self.scale2)


class MogaAttention(nn.Module):
    """MogaNet's multi-order gated aggregation (Sec. 4.2): [B, C, H, W] -> same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_eighths(channels, "MogaNet's three groups of channels")
        self.widths = [channels // 8, 3 * channels // 8, channels // 2]
        self.project_in = nn.Conv2d(channels, channels, 1)
        self.decompose = scale(channels, 1e-5)
        self.gate = nn.Conv2d(channels, channels, 1)
        self.low = depthwise(channels, 5)
        self.middle = depthwise(self.widths[1], 5, dilation=2)
        self.high = depthwise(self.widths[2], 7, dilation=3)
        self.value = nn.Conv2d(channels, channels, 1)
        self.project_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Aggregate; as in TAU, with a shortcut of its own."""
        s = self.project_in(x)
        s = F.silu(s + (s - F.adaptive_avg_pool2d(s, 1)) * self.decompose)
        gate = self.gate(s)
        low, middle, high = self.low(s).split(self.widths, 1)
        value = self.value(torch.cat([low, self.middle(middle), self.high(high)], 1))
        out: Tensor = x + self.project_out(F.silu(gate) * F.silu(value))
        return out


class ChannelAggregation(nn.Module):
    """MogaNet's MLP, in which channels are set against what all share: [B, C, H, W] -> same shape.

    Sec. 4.3 of its paper.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = ratio * channels
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.spatial = depthwise(hidden, 3)
        self.shared = nn.Conv2d(hidden, 1, 1)
        self.decompose = scale(hidden, 1e-5)
        self.contract = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix channels."""
        h = F.gelu(self.spatial(self.expand(x)))
        h = h + (h - F.gelu(self.shared(h))) * self.decompose
        out: Tensor = self.contract(h)
        return out


class MogaNet(Block):
    """Li et al., "MogaNet: Multi-order Gated Aggregation Network", ICLR 2024."""

    def __init__(self, at: Site) -> None:
        super().__init__(at)
        self.norm1 = nn.BatchNorm2d(at.channels)
        self.mix = MogaAttention(at.channels)
        self.scale1 = scale(at.channels, 1e-5)
        self.norm2 = nn.BatchNorm2d(at.channels)
        self.mlp = ChannelAggregation(at.channels, at.mlp_ratio)
        self.scale2 = scale(at.channels, 1e-5)
        self.apply(init_by_fan_out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = x + self.drop(self.mix(self.norm1(x)) * self.scale1)
        return x + self.drop(self.mlp(self.norm2(x)) * self.scale2)
