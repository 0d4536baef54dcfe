"""Wide convolutions on a CPU with a sixth of the multiplications (Winograd, 1980).

Lavin and Gray (CVPR 2016): an output tile Y of 4 x 4 pixels needs an input tile D of n x n, where
n = 4 + k - 1 for a k x k filter F, and Y = A'[(G F G') . (B' D B)]A: n^2 products for each pair of
channels, not 16 k^2; for k = 5, 64 and not 400. A, B and G interpolate polynomials of degree below
n at n points, one of them infinity (Toom and Cook). All products with one of the n^2 pixels of a
tile, over tiles and channels, are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

TILE = 4
POINTS = {3: (0.0, 0.75, -0.75, 1.5, -1.5), 5: (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)}
WIDTHS = {3: 128, 5: 64}  # from how many channels it is the faster way, measured
_kept: ContextVar[dict[tuple[Tensor, bool], Tensor] | None] = ContextVar("kept", default=None)


class Matrices(NamedTuple):
    """What transforms flattened tiles, and filters: [n^2, n^2], [n^2, k^2] and [16, n^2]."""

    data: Tensor
    filter: Tensor
    output: Tensor


@lru_cache
@torch.inference_mode(False)  # whoever calls first, training uses them too
def matrices(kernel: int, dtype: torch.dtype) -> Matrices:
    """B', G and A' for a k x k filter, as Kronecker squares: for rows and columns at once."""
    points = POINTS[kernel]
    n = TILE + kernel - 1
    output, filters, data = (
        torch.zeros(*s, dtype=torch.float64) for s in ((TILE, n), (n, kernel), (n, n))
    )
    for j, point in enumerate(points):
        others = points[:j] + points[j + 1 :]
        output[:, j] = torch.tensor([point**i for i in range(TILE)], dtype=output.dtype)
        scale = math.prod(point - other for other in others)
        filters[j] = torch.tensor([point**i for i in range(kernel)], dtype=output.dtype) / scale
        data[j, :-1] = polynomial(others)
    output[-1, -1] = filters[-1, -1] = 1.0  # the point at infinity
    data[-1] = polynomial(points)
    return Matrices(*(torch.kron(m, m).to(dtype) for m in (data, filters, output)))


def polynomial(roots: tuple[float, ...]) -> Tensor:
    """Coefficients of prod (x - root), the constant first, in float64."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        coefficients = F.pad(coefficients, (1, 0)) - root * F.pad(coefficients, (0, 1))
    return coefficients


class Grid(NamedTuple):
    """How maps [B, ., H, W] are cut into tiles."""

    batch: int
    height: int
    width: int
    kernel: int

    @property
    def rows(self) -> int:
        """Tiles down; the last may hang over."""
        return -(-self.height // TILE)

    @property
    def columns(self) -> int:
        """Tiles across."""
        return -(-self.width // TILE)

    @property
    def side(self) -> int:
        """Pixels of an input tile's side: n."""
        return TILE + self.kernel - 1

    def transform(self, x: Tensor) -> Tensor:
        """B' D B of all tiles: [B, C, H, W] -> [n^2, tiles, C]."""
        n, before = self.side, self.kernel // 2
        below = TILE * self.rows - self.height + before
        right = TILE * self.columns - self.width + before
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, before, right, before, below))
        windows = padded.unfold(1, n, TILE).unfold(2, n, TILE)  # [B, rows, columns, C, n, n]
        tiles = windows.permute(4, 5, 0, 1, 2, 3).reshape(n * n, -1)
        return (matrices(self.kernel, x.dtype).data @ tiles).view(n * n, -1, x.shape[1])

    def transform_back(self, gradient: Tensor) -> Tensor:
        """Transpose of `transform`: overlapping tiles add up. [n^2, tiles, C] -> [B, C, H, W]."""
        n, channels = self.side, gradient.shape[2]
        flat = matrices(self.kernel, gradient.dtype).data.T @ gradient.reshape(n * n, -1)
        tiles = flat.view(n, n, self.batch, self.rows, self.columns, channels)
        padded = flat.new_zeros(self.batch, self.rows + 1, TILE, self.columns + 1, TILE, channels)
        for down in (0, 1):
            for across in (0, 1):
                part = tiles[TILE * down : TILE * down + TILE, TILE * across : TILE * across + TILE]
                high, wide = part.shape[:2]
                rows, columns = slice(down, down + self.rows), slice(across, across + self.columns)
                padded[:, rows, :high, columns, :wide] += part.permute(2, 3, 0, 4, 1, 5)
        pixels = padded.view(
            self.batch, TILE * self.rows + TILE, TILE * self.columns + TILE, channels
        )
        before = self.kernel // 2
        return pixels[:, before : before + self.height, before : before + self.width].permute(
            0, 3, 1, 2
        )

    def assemble(self, products: Tensor) -> Tensor:
        """A' M A of all tiles, put together: [n^2, tiles, C] -> [B, C, H, W], channels last."""
        channels = products.shape[2]
        flat = matrices(self.kernel, products.dtype).output @ products.view(len(products), -1)
        tiles = flat.view(TILE, TILE, self.batch, self.rows, self.columns, channels)
        pixels = tiles.permute(2, 3, 0, 4, 1, 5).reshape(
            self.batch, TILE * self.rows, TILE * self.columns, channels
        )
        return pixels[:, : self.height, : self.width].permute(0, 3, 1, 2)

    def assemble_back(self, gradient: Tensor) -> Tensor:
        """Transpose of `assemble`: [B, C, H, W] -> [n^2, tiles, C]."""
        channels = gradient.shape[1]
        below, right = TILE * self.rows - self.height, TILE * self.columns - self.width
        pixels = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, right, 0, below))
        tiles = pixels.reshape(self.batch, self.rows, TILE, self.columns, TILE, channels)
        flat = tiles.permute(2, 4, 0, 1, 3, 5).reshape(TILE * TILE, -1)
        output = matrices(self.kernel, gradient.dtype).output
        return (output.T @ flat).view(output.shape[1], -1, channels)


def transform_filter(weight: Tensor) -> Tensor:
    """G F G': weight [C_out, C_in, k, k] -> [n^2, C_in, C_out]."""
    weight = weight.flatten(1, -3)  # depth, if any, among the channels
    channels_out, channels_in, kernel, _ = weight.shape
    flat = weight.permute(2, 3, 1, 0).reshape(kernel * kernel, -1)
    transform = matrices(kernel, weight.dtype).filter
    return (transform @ flat).view(len(transform), channels_in, channels_out)


class Convolve(torch.autograd.Function):
    """Convolution of x [B, C_in, H, W] by a transformed filter [n^2, C_in, C_out] for k x k."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, transformed: Tensor, kernel: int) -> Tensor:
        """[B, C_out, H, W], zeros around x."""
        grid = Grid(len(x), x.shape[2], x.shape[3], kernel)
        ctx.save_for_backward(x, transformed)
        ctx.grid = grid
        return grid.assemble(torch.bmm(grid.transform(x), transformed))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """By the transposed transforms; x is transformed anew, which is n^2 / 16 times its size."""
        x, transformed = ctx.saved_tensors
        grid: Grid = ctx.grid
        products = grid.assemble_back(gradient)
        by_x = by_filter = None
        if ctx.needs_input_grad[0]:
            by_x = grid.transform_back(torch.bmm(products, transformed.mT))
        if ctx.needs_input_grad[1]:
            by_filter = torch.bmm(grid.transform(x).mT, products)
        return by_x, by_filter, None


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve x [B, C_in, H, W], zeros around it, by weight [C_out, C_in, k, k], k = 3 or 5.

    Depth may stand among a weight's channels: x [B, C_in D, H, W], weight [C_out, C_in, D, k, k].
    Differentiable once. In float32 its rounding error is some five times that of a direct sum.
    """
    kept = _kept.get()
    if kept is None:
        transformed = transform_filter(weight)
    else:
        key = (weight, torch.is_grad_enabled())
        if key not in kept:
            kept[key] = transform_filter(weight)
        transformed = kept[key]
    result: Tensor = Convolve.apply(x, transformed, weight.shape[-1])
    return result


@contextmanager
def filters_kept() -> Iterator[None]:
    """Transform each filter once within the block, in which no weight may change."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether this is the faster way for x and weight: wide ones, in float32, on a CPU.

    On a GPU cuDNN chooses by itself. Compilers and tracers are left a plain convolution, and so are
    FLOP counters on the meta device.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined]
        or torch.is_autocast_enabled("cpu")
        or x.device.type != "cpu"
        or not x.dtype == weight.dtype == torch.float32
        or min(weight.shape[:2]) < WIDTHS.get(weight.shape[-1], math.inf)
    )


class Conv2d(nn.Conv2d):
    """Odd k x k convolution that keeps H and W; a wide one on a CPU is Winograd's.

    Parameters are nn.Conv2d's, by the same names. On a CPU maps come out with channels last.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int, bias: bool = True) -> None:
        super().__init__(channels_in, channels, kernel, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: [B, C_in, H, W] -> [B, C_out, H, W]."""
        if not pays(x, self.weight):
            return super().forward(x)
        result = convolve(x, self.weight)
        return result if self.bias is None else result + self.bias[:, None, None]
