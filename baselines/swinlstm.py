"""SwinLSTM: a recurrent cell of Swin Transformer blocks (Tang, Li, Zhang, Tang; ICCV 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.stochastic_depth import StochasticDepth, check_rate
from baselines.windows import Size, WindowAttention
from tau.predictor import Clip, Predictor, check_horizon, check_unit_range

State = list[tuple[Tensor, Tensor]]  # (h, c) of each cell, in the order of a step


class SwinBlock(nn.Module):
    """A Swin Transformer block with an optional second input: x, u [B, H, W, D] -> same shape.

    z = LN(x), or W [LN(x), LN(u)] with the same LN; x + attention(z), then x + MLP(LN(x)), each
    with stochastic depth. MLP: linear to 4 D, GELU, linear.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        grid: Size,
        window: int,
        shift: int,
        drop_path: float,
        second: bool,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.join = nn.Linear(2 * width, width) if second else None
        self.attention = WindowAttention(width, heads, grid, window, shift)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Apply the block; without `second`, it does not look at u."""
        z = self.norm1(x)
        if self.join is not None:
            z = self.join(torch.cat([z, self.norm1(u)], dim=-1))
        x = x + self.drop_path(self.attention(z))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class SwinLSTMCell(nn.Module):
    """One recurrent layer of Swin blocks: x, h, c [B, H, W, D] -> h, c.

    The first block joins x and h; every other one joins its input and x, those between have no
    second input and shifted windows. With F the last block's output and s the sigmoid,
    c' = s(F) (c + tanh(F)) and h' = s(F) tanh(c'): one gate for all.
    """

    def __init__(
        self, width: int, heads: int, grid: Size, window: int, rates: Sequence[float]
    ) -> None:
        super().__init__()
        self.shape = (*grid, width)
        shift = window // 2
        if min(grid) <= window:
            window, shift = min(grid), 0
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, grid, window, shift * (i % 2), rate, second=i % 2 == 0)
            for i, rate in enumerate(rates)
        )

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        f, u = x, h
        for block in self.blocks:
            f = block(f, u)
            u = x
        gate = torch.sigmoid(f)
        c = gate * (c + torch.tanh(f))
        return gate * torch.tanh(c), c


class PatchEmbedding(nn.Module):
    """A p x p convolution of stride p, LayerNorm: [B, C, H, W] -> [B, H/p, W/p, D]."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, patch, stride=patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, frame: Tensor) -> Tensor:
        """Embed a frame."""
        out: Tensor = self.norm(self.conv(frame).permute(0, 2, 3, 1))
        return out


class PatchMerging(nn.Module):
    """2x2 neighbours to one token, LayerNorm, linear: [B, H, W, D] -> [B, H/2, W/2, 2 D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Merge; the second of the four neighbours is the one below."""
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.reduce(self.norm(torch.cat(corners, dim=-1)))
        return out


class PatchExpanding(nn.Module):
    """Linear, one token to 2x2, LayerNorm: [B, H, W, D] -> [B, 2 H, 2 W, D/2]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(width // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Expand; a token's numbers are in the order row, column, channel."""
        split = self.expand(x).unflatten(-1, (2, 2, -1)).permute(0, 1, 3, 2, 4, 5)
        out: Tensor = self.norm(split.flatten(3, 4).flatten(1, 2))
        return out


class SwinLSTMStep(nn.Module):
    """One step: (frame t [B, C, H, W], state) -> (prediction of frame t+1, in (0, 1), new state).

    `layers` are cells, and between them what changes the resolution.
    """

    def __init__(self, embed: nn.Module, layers: Sequence[nn.Module], readout: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.layers = nn.ModuleList(layers)
        self.readout = readout

    def init_state(self, frame: Tensor) -> State:
        """Zeros."""
        cells = [layer for layer in self.layers if isinstance(layer, SwinLSTMCell)]
        shapes = [(len(frame), *cell.shape) for cell in cells]
        return [(frame.new_zeros(shape), frame.new_zeros(shape)) for shape in shapes]

    def forward(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Through all layers."""
        x = self.embed(frame)
        states, new = iter(state), []
        for layer in self.layers:
            if isinstance(layer, SwinLSTMCell):
                x, c = layer(x, *next(states))
                new.append((x, c))
            else:
                x = layer(x)
        return torch.sigmoid(self.readout(x.permute(0, 3, 1, 2))), new


class SwinLSTM(Predictor):
    """SwinLSTM-D: cells down and up a pyramid of token grids; SwinLSTM-B: cells on one grid.

    Frame t+1 is predicted from frame t, after the past from the prediction of frame t, in training
    too: there is no teacher forcing. The loss is the squared error of frames 2..N, past ones
    included. Frames are in [0, 1].

    On the way down a cell stands before each merging of patches, on the way up before each
    expanding; no skips join both ways. A 3x3 transposed convolution of stride 2 for each halving
    of `patch`, all D wide but the last, and a sigmoid give the frame. The release has one, which
    fits a patch of 2 alone; a second one is what its author names for a patch of 4.

    hidden: width D; merging doubles it. depths: blocks of each cell, on the way down. depths_up:
    of each cell on the way up, the deepest first; None: no merging, which is SwinLSTM-B. heads: of
    each cell of `depths`; on the way up in reverse. window: rows and columns of a window, fewer
    where the grid is smaller. patch: 2, 4, ... drop_path: stochastic depth of all blocks in
    SwinLSTM-B; in SwinLSTM-D it rises from 0 to this on the way down, and falls to 0 on the way up.

    The defaults are the published Moving MNIST size: 69.88 G MACs for 10 -> 10 frames, 18.85 M
    parameters, where the release owns 1.35 M more that it never uses. (It lists the depths on the
    way up as 6, 2 and reads them from the end, so that its deepest cell has 2 blocks.) Raises
    ValueError for options that do not fit each other or the clip.
    """

    capturable = True

    def __init__(
        self,
        clip: Clip,
        hidden: int = 128,
        depths: Sequence[int] = (2, 6),
        depths_up: Sequence[int] | None = (2, 6),
        heads: Sequence[int] = (4, 8),
        window: int = 4,
        patch: int = 2,
        drop_path: float = 0.1,
    ) -> None:
        _check_lists(depths, depths_up, heads)
        widths = [hidden << (i if depths_up else 0) for i in range(len(depths))]
        if hidden < 1 or any(n % m for n, m in zip(widths, heads, strict=True)):
            raise ValueError(
                f"hidden is {hidden}; expected widths {widths} that are multiples of the heads "
                f"{tuple(heads)}"
            )
        grids = _grids(clip, patch, window, len(depths) if depths_up else 0)
        check_rate("drop_path", drop_path)
        check_unit_range(clip)
        super().__init__(clip)
        layers: list[nn.Module] = []
        if depths_up is None:
            for depth, count in zip(depths, heads, strict=True):
                rates = [drop_path] * depth
                layers.append(SwinLSTMCell(hidden, count, grids[0], window, rates))
        else:
            down = _rates(depths, 0.0, drop_path)
            for width, count, grid, rates in zip(widths, heads, grids[:-1], down, strict=True):
                layers += [SwinLSTMCell(width, count, grid, window, rates), PatchMerging(width)]
            up = _rates(depths_up, drop_path, 0.0)
            deepest_first = (widths[::-1], heads[::-1], grids[:0:-1], up)
            for width, count, grid, rates in zip(*deepest_first, strict=True):
                cell = SwinLSTMCell(2 * width, count, grid, window, rates)
                layers += [cell, PatchExpanding(2 * width)]
        embed = PatchEmbedding(clip.channels, hidden, patch)
        self.network = SwinLSTMStep(embed, layers, _readout(hidden, clip.channels, patch))

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W]; T is free."""
        check_horizon(horizon)
        return self.unroll(past, past.shape[1] + horizon - 1)[:, -horizon:]

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Mean squared error of the predictions of frames 2..N: a scalar."""
        frames = torch.cat([past, future], dim=1)
        return F.mse_loss(self.unroll(past, frames.shape[1] - 1), frames[:, 1:])

    def unroll(self, past: Tensor, steps: int) -> Tensor:
        """Predictions [B, steps, C, H, W] of frame 2 and on, read from the past, then from them."""
        predictions: list[Tensor] = []
        state = self.network.init_state(past)
        for t in range(steps):
            frame = past[:, t].contiguous() if t < past.shape[1] else predictions[-1]
            prediction, state = self.network(frame, state)
            predictions.append(prediction.to(past.dtype))  # autocast lowers it
        return torch.stack(predictions, dim=1)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile one step in place, with the arguments of torch.compile; the loop stays Python."""
        self.network.compile(*args, **kwargs)


def _check_lists(
    depths: Sequence[int], depths_up: Sequence[int] | None, heads: Sequence[int]
) -> None:
    given = {"depths": depths, "depths_up": depths_up, "heads": heads}
    for name, values in given.items():
        if values is not None and (not values or min(values) < 1):
            raise ValueError(f"{name} is {values!r}; expected a positive number for each cell")
    for name, values in given.items():
        if values is not None and len(values) != len(depths):
            raise ValueError(
                f"{name} is {values!r}; expected {len(depths)} numbers, as depths is {depths!r}"
            )


def _grids(clip: Clip, patch: int, window: int, mergings: int) -> list[Size]:
    """The grid of tokens before any merging, after one, ...; ValueError if one does not fit."""
    frame = f"{clip.height}x{clip.width}"
    if patch < 2 or patch & (patch - 1) or clip.height % patch or clip.width % patch:
        raise ValueError(
            f"patch is {patch}; expected a power of two, 2 or more, that divides the frame size "
            f"{frame}"
        )
    if window < 1:
        raise ValueError(f"window is {window}; expected 1 or more")
    sizes = [(clip.height // patch, clip.width // patch)]
    for _ in range(mergings):
        rows, columns = sizes[-1]
        if rows % 2 or columns % 2:
            raise ValueError(
                f"frames are {frame}; {mergings} mergings of patches of {patch} need sizes "
                f"divisible by {patch * 2**mergings}"
            )
        sizes.append((rows // 2, columns // 2))
    for rows, columns in sizes:
        side = min(window, rows, columns)
        if rows % side or columns % side:
            raise ValueError(
                f"window is {window}; expected a divisor of {rows}x{columns}, a grid of tokens of "
                f"frames of {frame}"
            )
    return sizes


def _rates(depths: Sequence[int], start: float, end: float) -> list[list[float]]:
    """Rates of stochastic depth of each cell's blocks, from `start` to `end` over all of them."""
    total = sum(depths)
    rates = iter(start + (end - start) * i / max(1, total - 1) for i in range(total))
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _readout(width: int, channels: int, patch: int) -> nn.Sequential:
    widths = [width] * (patch.bit_length() - 1) + [channels]
    return nn.Sequential(
        *(
            nn.ConvTranspose2d(n_in, n, 3, stride=2, padding=1, output_padding=1)
            for n_in, n in pairwise(widths)
        )
    )
