"""SimVP: Simpler yet Better Video Prediction (Gao, Tan, Wu, Li; CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tau.predictor import Clip
from tau.spatial import TranslatingPredictor, check_spatial


class Inception(nn.Module):
    """1x1 to half the hidden width, then the sum of parallel grouped k x k branches.

    A branch: k x k convolution, GroupNorm, LeakyReLU(0.2). [B, C_in, H, W] -> [B, C_out, H, W].
    """

    def __init__(
        self, channels_in: int, bottleneck: int, channels_out: int, kernels: Sequence[int]
    ) -> None:
        super().__init__()
        groups = 8 if bottleneck % 8 == 0 and channels_out % 8 == 0 else 1
        self.reduce = nn.Conv2d(channels_in, bottleneck, 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(bottleneck, channels_out, k, padding=k // 2, groups=groups) for k in kernels
        )
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels_out) for _ in kernels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = self.reduce(x)
        branches = [
            F.leaky_relu(norm(conv(x)), 0.2)
            for conv, norm in zip(self.convs, self.norms, strict=True)
        ]
        return sum(branches[1:], branches[0])


class InceptionU(nn.Module):
    """SimVP's translator: `depth` Inception blocks down, `depth` up, U-shaped in its skips only.

    The resolution never changes. Block i > 0 of the second half sees its input concatenated with
    the output of the mirrored block of the first half. [B, T*S, H, W] -> same shape.
    """

    def __init__(self, folded: int, hidden: int, depth: int, kernels: Sequence[int]) -> None:
        super().__init__()
        half = hidden // 2
        self.down = nn.ModuleList(
            Inception(folded if i == 0 else hidden, half, hidden, kernels) for i in range(depth)
        )
        self.up = nn.ModuleList(
            Inception(
                hidden if i == 0 else 2 * hidden,
                half,
                folded if i == depth - 1 else hidden,
                kernels,
            )
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Translate past latents into future ones."""
        skips: list[Tensor] = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        x = self.up[0](x)
        for block in list(self.up)[1:]:
            x = block(torch.cat([x, skips.pop()], dim=1))
        return x


class SimVP(TranslatingPredictor):
    """Encoder, Inception U-Net on (T*S) channels, decoder; trained with plain squared error.

    The defaults are the Moving MNIST size of the release that TAU's Table 6 counts: 57.95 M
    parameters, 19.43 G MACs. (The authors' first code differs: transposed convolutions,
    LeakyReLU in the encoder, concatenated skip.) spatial_hidden, spatial_depth: width and units of
    encoder and decoder. temporal_hidden, temporal_depth: width and blocks of each half of the
    translator. kernels: odd sizes of its branches. Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        clip: Clip,
        spatial_hidden: int = 64,
        temporal_hidden: int = 512,
        spatial_depth: int = 4,
        temporal_depth: int = 8,
        kernels: Sequence[int] = (3, 5, 7, 11),
    ) -> None:
        check_spatial(clip, spatial_hidden, spatial_depth)
        if temporal_depth < 2:
            raise ValueError(f"temporal_depth is {temporal_depth}; expected 2 or more")
        if temporal_hidden < 2 or temporal_hidden % 2:
            raise ValueError(f"temporal_hidden is {temporal_hidden}; expected an even number")
        if not kernels or any(k < 1 or k % 2 == 0 for k in kernels):
            raise ValueError(f"kernels is {kernels!r}; expected odd sizes, at least one")
        translator = InceptionU(
            clip.past * spatial_hidden, temporal_hidden, temporal_depth, kernels
        )
        super().__init__(clip, translator, spatial_hidden, spatial_depth)
