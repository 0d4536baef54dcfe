"""Attention in windows of a grid of tokens (Liu et al., "Swin Transformer", ICCV 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Size = tuple[int, int]  # rows and columns of a grid of tokens


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows of a token grid: [B, H, W, D] -> same shape.

    softmax(q k^T / sqrt(d) + b) v (Eq. 4), where b is learned for each head and each offset of a
    key from its query. With a shift, windows begin so many rows and columns later, and the last
    ones join both edges of the grid; tokens that are no neighbours there do not see each other.
    """

    pairs: Tensor
    mask: Tensor

    def __init__(self, width: int, heads: int, grid: Size, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.project = nn.Linear(width, width)
        nn.init.trunc_normal_(self.table, std=0.02)
        self.register_buffer("pairs", _offsets(window), persistent=False)  # rows of the table
        self.register_buffer("mask", _mask(grid, window, shift), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside the windows."""
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        heads = self.qkv(_split(x, self.window)).unflatten(-1, (3, self.heads, -1))
        q, k, v = heads.transpose(-4, -2).unbind(-3)  # [B, windows, heads, tokens, d] each
        bias = self.table[self.pairs].movedim(-1, 0) + self.mask  # [windows, heads, tokens, tokens]
        mixed = F.scaled_dot_product_attention(q, k, v, bias).transpose(-3, -2).flatten(-2)
        out = _join(self.project(mixed), (x.shape[1], x.shape[2]), self.window)
        return out.roll((self.shift, self.shift), (1, 2)) if self.shift else out


def _split(x: Tensor, window: int) -> Tensor:
    """[B, H, W, D] -> [B, windows, window^2, D], both in row-major order."""
    batch, height, width, channels = x.shape
    split = x.reshape(batch, height // window, window, width // window, window, channels)
    return split.transpose(2, 3).reshape(batch, -1, window**2, channels)


def _join(x: Tensor, grid: Size, window: int) -> Tensor:
    """Inverse of `_split`."""
    height, width = grid
    split = x.reshape(len(x), height // window, width // window, window, window, -1)
    return split.transpose(2, 3).reshape(len(x), height, width, -1)


def _offsets(window: int) -> Tensor:
    """Row of the table for each query and key of a window: [window^2, window^2]."""
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    dy, dx = (of.flatten()[:, None] - of.flatten() + window - 1 for of in (y, x))
    return dy * (2 * window - 1) + dx


def _mask(grid: Size, window: int, shift: int) -> Tensor:
    """0 where a query may see a key, -inf between both borders: [windows, 1, tokens, tokens]."""
    y, x = (torch.arange(length) >= length - shift for length in grid)
    region = _split((2 * y[:, None] + x)[None, ..., None], window)[0]  # [windows, tokens, 1]
    apart = region != region.transpose(1, 2)
    return torch.zeros(apart.shape).masked_fill(apart, float("-inf"))[:, None]
