"""WaST: Wavelet-Driven Spatiotemporal Predictive Learning (Nie et al.; AAAI 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.stochastic_depth import check_rate, kept
from tau.predictor import Clip, Predictor, rollout

# Sub-bands of a clip by the filters, L or H, of time, rows and columns.
BANDS = ("LLL", "LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH")
DETAILS = tuple(band for band in BANDS if band not in ("LLL", "LLH"))
STEPS = 60_250  # of a training on TaxiBJ: 50 epochs of 1,205 batches


def haar(x: Tensor, dims: Sequence[int]) -> list[Tensor]:
    """Sub-bands of one step of the Haar transform along `dims`, each half as long there.

    For each pair (a, b) of neighbours L is (a + b) / sqrt(2), H is (a - b) / sqrt(2); bands are in
    the order of BANDS, with one letter for each of the dims.
    """
    bands = [x]
    for dim in dims:
        pairs = [z.unflatten(dim, (-1, 2)).unbind(dim + 1) for z in bands]
        bands = [z / math.sqrt(2) for a, b in pairs for z in (a + b, a - b)]
    return bands


def inverse_haar(bands: Sequence[Tensor], dims: Sequence[int]) -> Tensor:
    """Inverse of `haar`."""
    for dim in reversed(dims):
        pairs = zip(bands[::2], bands[1::2], strict=True)
        neighbours = [torch.stack((low + high, low - high), dim + 1) for low, high in pairs]
        bands = [z.flatten(dim, dim + 1) / math.sqrt(2) for z in neighbours]
    return bands[0]


class FrequencyAttention(nn.Module):
    """Coordinate attention: z weighed for each channel and row, and each channel and column.

    Means over columns and over rows, one after the other: 1x1 convolution to a quarter of the
    channels, 8 or more, BatchNorm, hard swish; then a 1x1 convolution and a sigmoid for each.
    [B, C, H, W] -> same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, channels // 4)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.BatchNorm2d(hidden)
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Weigh."""
        height, width = z.shape[2:]
        means = torch.cat([z.mean(3), z.mean(2)], dim=2)[..., None]
        joined: Tensor = F.hardswish(self.norm(self.squeeze(means)))
        rows, columns = joined.split((height, width), dim=2)
        of_rows = torch.sigmoid(self.rows(rows))
        of_columns = torch.sigmoid(self.columns(columns)).mT
        return z * of_rows * of_columns


class InvertedResidual(nn.Module):
    """1x1 to `ratio` times the width, depth-wise 7x7, squeeze and excitation, 1x1 back.

    Convolutions are followed by BatchNorm and, but for the last, ReLU. [B, C, H, W] -> same.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = ratio * channels
        squeezed = max(1, round(hidden / 4))
        self.expand = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 7, padding=3, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
        )
        self.excite = nn.Sequential(
            nn.Conv2d(hidden, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, hidden, 1), nn.Sigmoid()
        )
        self.contract = nn.Sequential(
            nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit, without its shortcut."""
        x = self.depthwise(self.expand(x))
        out: Tensor = self.contract(x * self.excite(x.mean((2, 3))[..., None, None]))
        return out


class WaSTBlock(nn.Module):
    """Large and small kernels with attention, then an inverted residual: [B, C, H, W] -> same.

    a = BN(x); x + g (A(BN(K x 5 * a) + BN(5 x K * a)) + A(BN(5 x 5 * a))), all depth-wise; then
    x + g R(BN(x)). g is one layer scale for both, 0.01 at the start. In training either branch is
    left out for a sample with probability `drop_path` times a factor (stochastic depth).
    """

    def __init__(self, channels: int, kernel: int, ratio: int, drop_path: float) -> None:
        super().__init__()

        def depthwise(rows: int, columns: int) -> nn.Sequential:
            padding = (rows // 2, columns // 2)
            conv = nn.Conv2d(channels, channels, (rows, columns), padding=padding, groups=channels)
            return nn.Sequential(conv, nn.BatchNorm2d(channels))

        self.norm1 = nn.BatchNorm2d(channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.01))
        self.high, self.wide = depthwise(kernel, 5), depthwise(5, kernel)
        self.attend_large = FrequencyAttention(channels)
        self.small = depthwise(5, 5)
        self.attend_small = FrequencyAttention(channels)
        self.norm2 = nn.BatchNorm2d(channels)
        self.residual = InvertedResidual(channels, ratio)
        self.drop_path = drop_path

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        """Apply the block; `factor` scales the rate of stochastic depth: a scalar."""
        a, scale = self.norm1(x), self.scale[:, None, None]
        large = self.attend_large(self.high(a) + self.wide(a))
        x = x + self._kept(scale * (large + self.attend_small(self.small(a))), factor)
        x = x + self._kept(scale * self.residual(self.norm2(x)), factor)
        return x

    def _kept(self, x: Tensor, factor: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return x
        return x * kept(x, self.drop_path * factor)


class Embedding(nn.Module):
    """Features [B, E, T, H, W] and frames [B, C, T, H, W] -> [B, 2 E, T, H/2, W/2], six sub-bands.

    Of both the sub-bands with L and with H for columns are laid one after the other in time, where
    the paper speaks of low and high temporal frequencies; of the features only LLL and LLH. The
    other six, [B, 6 E, T/2, H/2, W/2], are for `Reconstruction`.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.frames = nn.Conv3d(4 * channels, 2 * hidden, 3, padding=1)
        self.before = _conv3d(hidden, hidden)
        self.after = _conv3d(hidden, 2 * hidden)

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Transform and join."""
        of_frames = dict(zip(BANDS, haar(frames, (2, 3, 4)), strict=True))
        low, high = (
            torch.cat([of_frames[rest + last] for rest in ("LL", "LH", "HL", "HH")], dim=1)
            for last in "LH"
        )
        embedded = self.frames(torch.cat([low, high], dim=2))
        bands = dict(zip(BANDS, haar(self.before(x), (2, 3, 4)), strict=True))
        details = torch.cat([bands[name] for name in DETAILS], dim=1)
        joined = self.after(torch.cat([bands["LLL"], bands["LLH"]], dim=2))
        return embedded + joined, details


class Reconstruction(nn.Module):
    """Inverse of `Embedding`'s transform: -> features [B, E, T, H, W]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.coarse = _conv3d(2 * hidden, hidden)
        self.details = _conv3d(len(DETAILS) * hidden, len(DETAILS) * hidden, len(DETAILS))

    def forward(self, x: Tensor, details: Tensor) -> Tensor:
        """Transform back."""
        bands = dict(zip(("LLL", "LLH"), self.coarse(x).chunk(2, dim=2), strict=True))
        bands |= dict(zip(DETAILS, self.details(details).chunk(len(DETAILS), dim=1), strict=True))
        return inverse_haar([bands[name] for name in BANDS], (2, 3, 4))


def _conv3d(channels_in: int, channels: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv3d(channels_in, channels, 3, padding=1, groups=groups)
    return nn.Sequential(conv, nn.BatchNorm3d(channels), nn.GELU())


class WaST(Predictor):
    """Large-kernel blocks on (E*T) channels, at full and at half resolution, joined by wavelets.

    A 3-D convolution, `depths[0]` blocks, `Embedding`, `depths[1]` blocks at half the resolution,
    `Reconstruction`, a convolution that joins what the first blocks gave, `depths[2]` blocks,
    BatchNorm, GELU and a 3-D convolution. As many frames out as in, all at once; an odd number of
    past frames is read with the first one twice. Trained with mean squared error plus
    `frequency_weight` times `focal_frequency_loss`.

    hidden: width E. kernels: K of the blocks at full and at half the resolution, odd. mlp_ratio: of
    the inverted residuals. drop_path: stochastic depth rises from 0 in the first block to this in
    the last, and begins after `late` of the training (the released 20 of 50 epochs); `step_count`
    counts the training losses and is in the state dict.

    The defaults are the size released for TaxiBJ, 5.13 M parameters and 1.30 G MACs; no other was.
    (fvcore counts 1.05 G, as it does not see the release's convolutions with padding "same"; the
    release owns 1,600 parameters more, a second layer scale in each block that it never uses.)
    Raises ValueError for options that do not fit each other or the clip.
    """

    capturable = True

    step_count: Tensor

    def __init__(
        self,
        clip: Clip,
        hidden: int = 20,
        depths: Sequence[int] = (2, 8, 2),
        kernels: Sequence[int] = (51, 21),
        mlp_ratio: int = 4,
        drop_path: float = 0.25,
        late: float = 0.4,
        frequency_weight: float = 1e-3,
    ) -> None:
        for name, value in (("hidden", hidden), ("mlp_ratio", mlp_ratio)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if len(depths) != 3 or min(depths) < 1:
            raise ValueError(f"depths is {depths!r}; expected three positive numbers of blocks")
        if len(kernels) != 2 or any(k < 1 or k % 2 == 0 for k in kernels):
            raise ValueError(f"kernels is {kernels!r}; expected two odd sizes")
        check_rate("drop_path", drop_path)
        check_rate("late", late)
        if not 0 <= frequency_weight < math.inf:
            raise ValueError(f"frequency_weight is {frequency_weight}; expected 0 or more")
        if clip.height % 2 or clip.width % 2:
            raise ValueError(
                f"frames are {clip.height}x{clip.width}; expected even sizes, which wavelets halve"
            )
        super().__init__(clip)
        self.late, self.frequency_weight = late, frequency_weight
        self.begin_training(STEPS)
        self.register_buffer("step_count", torch.zeros((), dtype=torch.int64))
        folded = hidden * (clip.past + clip.past % 2)
        last = max(1, sum(depths) - 1)
        rates = iter(drop_path * i / last for i in range(sum(depths)))

        def blocks(width: int, kernel: int, depth: int) -> nn.ModuleList:
            return nn.ModuleList(
                WaSTBlock(width, kernel, mlp_ratio, next(rates)) for _ in range(depth)
            )

        self.stem = _conv3d(clip.channels, hidden)
        self.first = blocks(folded, kernels[0], depths[0])
        self.embedding = Embedding(clip.channels, hidden)
        self.bottleneck = blocks(2 * folded, kernels[1], depths[1])
        self.reconstruction = Reconstruction(hidden)
        self.join = nn.Conv2d(2 * folded, folded, 3, padding=1)
        self.last = blocks(folded, kernels[0], depths[2])
        self.head = nn.Sequential(
            nn.BatchNorm3d(hidden), nn.GELU(), nn.Conv3d(hidden, clip.channels, 3, padding=1)
        )

    def begin_training(self, steps: int) -> None:
        """Let stochastic depth begin after its fraction of so many training losses."""
        self.late_steps = self.late * steps

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W]; T must be clip.past."""
        if past.shape[1] != self.clip.past:
            raise ValueError(
                f"got {past.shape[1]} past frames; this model was built for {self.clip.past}"
            )
        return rollout(self.block, past, horizon)

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Mean squared error plus the weighed frequency loss: a scalar."""
        prediction = self(past, future.shape[1])
        if self.training:
            self.step_count += 1
        error = F.mse_loss(prediction, future)
        return error + self.frequency_weight * focal_frequency_loss(prediction, future)

    def block(self, past: Tensor) -> Tensor:
        """One pass: [B, T, C, H, W] -> the next T frames, same shape."""
        time = past.shape[1]
        frames = torch.cat([past[:, :1], past], dim=1) if time % 2 else past
        frames = frames.transpose(1, 2)
        factor = (self.step_count >= self.late_steps).to(past.dtype)
        skip = _through(self.first, self.stem(frames).flatten(1, 2), factor)
        features = skip.unflatten(1, (-1, frames.shape[2]))
        x, details = self.embedding(features, frames)
        x = _through(self.bottleneck, x.flatten(1, 2), factor).unflatten(1, (-1, x.shape[2]))
        x = self.reconstruction(x, details).flatten(1, 2)
        x = _through(self.last, self.join(torch.cat([x, skip], dim=1)), factor)
        out: Tensor = self.head(x.unflatten(1, (-1, frames.shape[2]))).transpose(1, 2)
        return out[:, -time:].to(past.dtype)


def _through(blocks: nn.ModuleList, x: Tensor, factor: Tensor) -> Tensor:
    for block in blocks:
        x = block(x, factor)
    return x


def focal_frequency_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """HFFL: weighed squared distance of spectra of coarse frames [B, T, C, H, W]: a scalar.

    Spectra, orthonormal, are of the LL band of each frame's Haar transform. A cell at distance d
    weighs log(1 + d) over its largest value in a channel of a frame, without a gradient; cells
    within a tenth of the longer side of a corner of the spectrum, where low frequencies are, weigh
    nothing.
    """
    low = haar((prediction - target).flatten(0, 1), (2, 3))[0]
    distance = torch.view_as_real(torch.fft.fft2(low, norm="ortho")).square().sum(-1)
    weight = distance.detach().sqrt().log1p()
    weight = (weight / weight.amax((2, 3), keepdim=True)).nan_to_num(0).clamp(0, 1)
    rows, columns = (
        torch.minimum(place, place.flip(0))
        for place in (torch.arange(n, device=low.device) for n in low.shape[2:])
    )
    near = (rows[:, None].square() + columns.square()).sqrt() <= 0.1 * max(low.shape[2:])
    return (weight * distance).masked_fill(near, 0).mean()
