"""The blocks that `MetaVP` translates with: one for each paper, [B, C, H, W] -> same shape.

As in OpenSTL's SimVP shell: pre-norm residual branches, an MLP that is `Site.mlp_ratio` times as
wide, per-sample stochastic depth. Published: OpenSTL (Tan et al., NeurIPS 2023, Datasets and
Benchmarks), arXiv 2306.11249. What differs from that code is said at the class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.stochastic_depth import kept


@dataclass(frozen=True)
class Site:
    """Where a block stands in its translator."""

    channels: int
    grid: tuple[int, int]  # height and width of the latent
    index: int  # of the block, from 0
    keeps_width: bool  # whether no change of width follows
    mlp_ratio: int
    drop_path: float  # probability that a branch is left out for a sample, in training


class Block(nn.Module):
    """A block with stochastic depth, one sample at a time; kept branches are scaled up."""

    def __init__(self, at: Site) -> None:
        super().__init__()
        self.drop_path = at.drop_path

    def drop(self, branch: Tensor) -> Tensor:
        """The branch, without it for some samples in training: [B, ...] -> same shape."""
        if not self.training or self.drop_path == 0:
            return branch
        return branch * kept(branch, self.drop_path).to(branch.dtype)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each position: [B, C, H, W] -> same shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def scale(channels: int, start: float) -> nn.Parameter:
    """A layer scale [C, 1, 1] that starts at `start`."""
    return nn.Parameter(torch.full((channels, 1, 1), start))


def depthwise(channels: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """A depth-wise convolution that keeps the size."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        channels, channels, kernel, padding=padding, dilation=dilation, groups=channels
    )


def linear_mlp(channels: int, hidden: int) -> nn.Sequential:
    """Linear, GELU, linear over the last axis."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))


def pointwise_mlp(channels: int, ratio: int) -> nn.Sequential:
    """1x1 convolution to `ratio` times the width, GELU, 1x1 back."""
    hidden = ratio * channels
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, channels, 1))


def init_truncated(module: nn.Module) -> None:
    """Draw weights of linear layers and 1x1 convolutions from N(0, 0.02^2), cut at 2; bias 0."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def check_eighths(channels: int, what: str) -> None:
    """Raise ValueError for a width that cannot be divided into eighths."""
    if channels % 8:
        raise ValueError(
            f"a block is {channels} channels wide; {what} needs a multiple of 8, so choose "
            "temporal_hidden and clip.past * spatial_hidden as such"
        )
