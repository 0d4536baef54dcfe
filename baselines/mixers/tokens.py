"""Blocks that mix tokens, the positions of the latent: attention and perceptrons."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.mixers.block import (
    Block,
    Site,
    check_eighths,
    depthwise,
    init_truncated,
    linear_mlp,
    pointwise_mlp,
)
from baselines.windows import WindowAttention
from tau.spatial import init_by_fan_out

HEADS = 8


class SelfAttention(nn.Module):
    """Multi-head self-attention with 8 heads among tokens: [..., N, C] -> same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_eighths(channels, f"attention with {HEADS} heads")
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        heads = self.qkv(x).unflatten(-1, (3, HEADS, -1)).transpose(-4, -2)  # [..., heads, 3, N, d]
        q, k, v = heads.unbind(-3)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.project(mixed.transpose(-3, -2).flatten(-2))
        return out


class ViT(Block):
    """Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021: attention over all positions.

    As released, without any positional encoding: attention alone cannot tell where a token is.
    """

    def __init__(self, at: Site) -> None:
        super().__init__(at)
        self.norm1 = nn.LayerNorm(at.channels)
        self.attention = SelfAttention(at.channels)
        self.norm2 = nn.LayerNorm(at.channels)
        self.mlp = linear_mlp(at.channels, at.mlp_ratio * at.channels)
        self.apply(init_truncated)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        tokens = x.flatten(2).transpose(1, 2)  # [B, H*W, C]
        tokens = tokens + self.drop(self.attention(self.norm1(tokens)))
        tokens = tokens + self.drop(self.mlp(self.norm2(tokens)))
        return tokens.transpose(1, 2).reshape(x.shape)


class Swin(Block):
    """Liu et al., "Swin Transformer", ICCV 2021: attention in windows, shifted in odd blocks.

    The window is 7x7 if 7 divides the latent's height, else a sixteenth of the height, from 4 to 8;
    it is not larger than the latent, and is then not shifted. Shifted windows are masked, as in the
    paper; OpenSTL leaves the mask out, so that opposite borders mix. Raises ValueError for a latent
    that windows do not tile.
    """

    def __init__(self, at: Site) -> None:
        super().__init__(at)
        height, width = at.grid
        window = min(7 if height % 7 == 0 else min(max(4, height // 16), 8), height, width)
        if height % window or width % window:
            raise ValueError(
                f"the latent is {height}x{width}, which windows of {window}x{window} do not tile; "
                "choose another frame size or spatial_depth"
            )
        shift = window // 2 if at.index % 2 and window < min(at.grid) else 0
        check_eighths(at.channels, f"attention with {HEADS} heads")
        self.norm1 = nn.LayerNorm(at.channels)
        self.attention = WindowAttention(at.channels, HEADS, at.grid, window, shift)
        self.norm2 = nn.LayerNorm(at.channels)
        self.mlp = linear_mlp(at.channels, at.mlp_ratio * at.channels)
        self.apply(init_truncated)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = x.movedim(1, -1)
        x = x + self.drop(self.attention(self.norm1(x)))
        x = x + self.drop(self.mlp(self.norm2(x)))
        return x.movedim(-1, 1)


class UniformerConv(Block):
    """Li et al., "UniFormer", ICLR 2022: its local block, with convolution in attention's place."""

    def __init__(self, at: Site) -> None:
        super().__init__(at)
        c = at.channels
        self.position = depthwise(c, 3)
        self.norm1 = nn.BatchNorm2d(c)
        self.mix = nn.Sequential(nn.Conv2d(c, c, 1), depthwise(c, 5), nn.Conv2d(c, c, 1))
        self.norm2 = nn.BatchNorm2d(c)
        self.mlp = pointwise_mlp(c, at.mlp_ratio)
        self.apply(init_by_fan_out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = x + self.position(x)
        x = x + self.drop(self.mix(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class UniformerAttention(ViT):
    """UniFormer's global block: a depth-wise convolution for position, then ViT's, scaled."""

    def __init__(self, at: Site) -> None:
        super().__init__(at)
        self.position = depthwise(at.channels, 3)
        self.scale1 = nn.Parameter(torch.full((at.channels,), 1e-6))
        self.scale2 = nn.Parameter(torch.full((at.channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = x + self.position(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.drop(self.attention(self.norm1(tokens)) * self.scale1)
        tokens = tokens + self.drop(self.mlp(self.norm2(tokens)) * self.scale2)
        return tokens.transpose(1, 2).reshape(x.shape)


def uniformer(at: Site) -> Block:
    """As released: global, but for the first block and where the width changes."""
    return UniformerAttention(at) if at.keeps_width and at.index else UniformerConv(at)


class MLPMixer(Block):
    """Tolstikhin et al., "MLP-Mixer", NeurIPS 2021: a perceptron over positions, one over channels.

    As released, the hidden width over positions is half the number of channels.
    """

    def __init__(self, at: Site) -> None:
        super().__init__(at)
        self.norm1 = nn.LayerNorm(at.channels, eps=1e-6)
        self.tokens = linear_mlp(at.grid[0] * at.grid[1], max(1, at.channels // 2))
        self.norm2 = nn.LayerNorm(at.channels, eps=1e-6)
        self.mlp = linear_mlp(at.channels, at.mlp_ratio * at.channels)
        self.apply(init_truncated)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        tokens = x.flatten(2).transpose(1, 2)  # [B, H*W, C]
        tokens = tokens + self.drop(self.tokens(self.norm1(tokens).mT).mT)
        tokens = tokens + self.drop(self.mlp(self.norm2(tokens)))
        return tokens.transpose(1, 2).reshape(x.shape)
