"""PredFormer: Video Prediction Transformers without Recurrence or Convolution (Tang et al.; 2024).

arXiv:2410.04733. Its nine variants differ in what their blocks attend to, and in which order.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.recurrent import fold_patches
from baselines.stochastic_depth import StochasticDepth, check_rate
from tau.predictor import Clip, Predictor, rollout

Blocks = Literal["full", "fac-ST", "fac-TS", "ST", "TS", "STS", "TST", "TSST", "STTS"]
Axis = Literal["S", "T", "full"]


class Attention(nn.Module):
    """Multi-head self-attention, softmax(q k^T / sqrt(d)) v: [N, L, D] -> same shape.

    q, k and v have no bias. Dropout acts on the output; weights of attention are never dropped.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Attend to all tokens of a sequence."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.dropout(self.project(attended))
        return out


class SwiGLU(nn.Module):
    """W_3 (SiLU(W_1 z) * W_2 z), `ratio` times as wide inside: [..., D] -> same shape."""

    def __init__(self, width: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(width, ratio * width)
        self.expand = nn.Linear(width, ratio * width)
        self.contract = nn.Linear(ratio * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        """Apply the gated linear unit."""
        product = self.dropout(F.silu(self.gate(z)) * self.expand(z))
        out: Tensor = self.dropout(self.contract(product))
        return out


class GatedTransformerBlock(nn.Module):
    """x + attention(LN(x)), then x + SwiGLU(LN(x)), each with stochastic depth: [N, L, D] -> same.

    A branch is left out for one of the N sequences at a time.
    """

    def __init__(
        self, width: int, heads: int, ratio: int, dropout: float, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = SwiGLU(width, ratio, dropout)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = x + self.drop_path(self.attention(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class Transformer(nn.Module):
    """Blocks along one axis, closed by a LayerNorm: tokens [B, T, N, D] -> same shape.

    axis: "S", the N tokens of a frame attend to each other; "T", the T tokens of a place; "full",
    all T N tokens.
    """

    def __init__(self, axis: Axis, blocks: list[GatedTransformerBlock], width: int) -> None:
        super().__init__()
        self.axis = axis
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Lay the tokens out in sequences, apply the blocks, and put the tokens back."""
        if self.axis == "T":
            x = x.transpose(1, 2)
        sequences = x.flatten(1, 2) if self.axis == "full" else x.flatten(0, 1)
        out: Tensor = self.norm(self.blocks(sequences)).reshape(x.shape)
        return out.transpose(1, 2) if self.axis == "T" else out


def axes(blocks: Blocks, depth: int) -> list[tuple[Axis, int]]:
    """The transformers of a variant, in order: the axis of each, and its number of blocks."""
    letters: dict[str, Axis] = {"S": "S", "T": "T"}
    if blocks == "full":
        return [("full", depth)]
    if blocks.startswith("fac-"):
        return [(letters[x], depth) for x in blocks.removeprefix("fac-")]
    return [(letters[x], 1) for x in blocks] * depth


class PredFormer(Predictor):
    """Transformers on the patches of all frames; as many frames out as in, all at once.

    Each patch is a token: a linear map of its pixels, plus a sinusoidal code of its place in the
    row of all T N tokens, time first. After the transformers, LayerNorm and a linear map read each
    token's patch out. Trained with plain squared error; AdamW, weight decay 0.01, as released.

    blocks: the variant. "full": `depth` blocks in which every token sees every other. "fac-ST",
    "fac-TS": `depth` blocks in space, then `depth` in time, or the reverse. Others, such as "TSST":
    `depth` layers, each with these blocks in this order, T in time and S in space. A LayerNorm
    closes each run of blocks in the first three, and each single block in the others, so that no
    residual stream crosses it, as released.

    patch: rows and columns of a patch. hidden: width D. heads: of attention. mlp_ratio: of a
    SwiGLU's width to D. dropout: after attention, and twice in a SwiGLU. drop_path: of every
    block's branches. The defaults are the published Moving MNIST size: 25.30 M parameters,
    16.48 G MACs. Raises ValueError for options that do not fit each other or the clip.
    """

    capturable = True

    def __init__(
        self,
        clip: Clip,
        blocks: Blocks = "TSST",
        depth: int = 6,
        patch: int = 8,
        hidden: int = 256,
        heads: int = 8,
        mlp_ratio: int = 4,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        if blocks not in get_args(Blocks):
            raise ValueError(f"blocks is {blocks!r}; expected one of {', '.join(get_args(Blocks))}")
        for name, value in (("depth", depth), ("heads", heads), ("mlp_ratio", mlp_ratio)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if hidden < 1 or hidden % 2 or hidden % heads:
            raise ValueError(f"hidden is {hidden}; expected an even multiple of {heads} heads")
        if patch < 1 or clip.height % patch or clip.width % patch:
            raise ValueError(
                f"patch is {patch}; expected a divisor of the frame size {clip.height}x{clip.width}"
            )
        check_rate("dropout", dropout)
        check_rate("drop_path", drop_path)
        super().__init__(clip)
        self.patch = patch
        pixels = clip.channels * patch**2

        def gtb() -> GatedTransformerBlock:
            return GatedTransformerBlock(hidden, heads, mlp_ratio, dropout, drop_path)

        self.embed = nn.Linear(pixels, hidden)
        self.transformers = nn.Sequential(
            *(
                Transformer(axis, [gtb() for _ in range(count)], hidden)
                for axis, count in axes(blocks, depth)
            )
        )
        self.head = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, pixels))
        self.transformers.apply(_init)

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W]; T must be clip.past."""
        if past.shape[1] != self.clip.past:
            raise ValueError(
                f"got {past.shape[1]} past frames; this model was built for {self.clip.past}"
            )
        return rollout(self.block, past, horizon)

    def block(self, past: Tensor) -> Tensor:
        """One pass: [B, T, C, H, W] -> the next T frames, same shape."""
        patches = fold_patches(past, self.patch)
        tokens = self.embed(patches.flatten(3).transpose(2, 3))
        _, time, places, width = tokens.shape
        code = positions(time * places, width, past).unflatten(0, (time, places))
        read: Tensor = self.head(self.transformers(tokens + code))
        # A token's numbers are in the order image channel, row, column.
        folded = read.transpose(2, 3).unflatten(3, patches.shape[3:])
        return F.pixel_shuffle(folded, self.patch).to(past.dtype)


def positions(count: int, width: int, like: Tensor) -> Tensor:
    """The sinusoidal code of places 0, 1, ...: [count, width], with the dtype and device of `like`.

    Row P has sin(P w) and cos(P w) in turn, for w = 10000^(-2 i / width), i = 0, 1, ...
    """
    place = torch.arange(count, dtype=like.dtype, device=like.device)
    i = torch.arange(0, width, 2, dtype=like.dtype, device=like.device)
    angle = place[:, None] * 10_000 ** (-i / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
