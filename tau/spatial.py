"""Spatial encoder and decoder, and the predictor that puts a translator between them.

The shell of SimVP (Gao et al., CVPR 2022, Sec. 3) in the form TAU was released with: frames are
folded into the batch, encoder and decoder see one frame at a time, and time is handled by a
translator on (T*S) channels at a quarter of the resolution.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from tau.predictor import Clip, Predictor, rollout


class ConvUnit(nn.Module):
    """3x3 convolution, GroupNorm(2), SiLU: [N, C_in, H, W] -> [N, C_out, H', W'].

    `stride` 2 halves the resolution; `upsample` doubles it with a convolution to 4 C_out channels
    and a pixel shuffle. Convolution weights start from N(0, 0.02^2), biases from zero.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int = 1, upsample: bool = False
    ) -> None:
        super().__init__()
        widen = 4 if upsample else 1
        self.conv = nn.Conv2d(channels_in, widen * channels_out, 3, stride=stride, padding=1)
        self.shuffle = nn.PixelShuffle(2) if upsample else nn.Identity()
        self.norm = nn.GroupNorm(2, channels_out)
        nn.init.trunc_normal_(self.conv.weight, std=0.02)
        nn.init.zeros_(_bias(self.conv))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit."""
        return F.silu(self.norm(self.shuffle(self.conv(x))))


class Encoder(nn.Module):
    """`depth` units with strides 1, 2, 1, 2, ...: frames [N, C, H, W] -> (latent, skip).

    latent is [N, hidden, H/2^(depth//2), W/2^(depth//2)]; skip is the first unit's output
    [N, hidden, H, W].
    """

    def __init__(self, channels: int, hidden: int, depth: int) -> None:
        super().__init__()
        strides = [1 + i % 2 for i in range(depth)]
        widths = [channels] + [hidden] * depth
        self.units = nn.ModuleList(
            ConvUnit(widths[i], widths[i + 1], stride=strides[i]) for i in range(depth)
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames one by one."""
        skip: Tensor = self.units[0](frames)
        x = skip
        for unit in list(self.units)[1:]:
            x = unit(x)
        return x, skip


class Decoder(nn.Module):
    """The encoder's mirror: (latent, skip) -> frames [N, C, H, W].

    Up-sampling is by pixel shuffle; the skip is added to the last unit's input; a 1x1 convolution
    reads the frame out, without an activation. (The TAU paper's text says transposed
    convolutions, but only the pixel shuffle gives the multiply-adds of its Table 6.)
    """

    def __init__(self, channels: int, hidden: int, depth: int) -> None:
        super().__init__()
        upsample = [bool(i % 2) for i in range(depth)][::-1]
        self.units = nn.ModuleList(ConvUnit(hidden, hidden, upsample=up) for up in upsample)
        self.readout = nn.Conv2d(hidden, channels, 1)

    def forward(self, latent: Tensor, skip: Tensor) -> Tensor:
        """Decode frames one by one."""
        x = latent
        for unit in list(self.units)[:-1]:
            x = unit(x)
        frames: Tensor = self.readout(self.units[-1](x + skip))
        return frames


class TranslatingPredictor(Predictor):
    """Encoder, translator, decoder: predicts as many frames as it is given, at once.

    `translator` maps [B, T*S, H', W'] to the same shape, channel index t*S + s. Other horizons go
    through `rollout`. `spatial_depth` is even, so that the decoder ends at full resolution with
    the skip; raises ValueError otherwise, or if the frame size is not divisible by
    2^(spatial_depth/2).
    """

    capturable = True

    def __init__(
        self, clip: Clip, translator: nn.Module, spatial_hidden: int, spatial_depth: int
    ) -> None:
        super().__init__(clip)
        self.encoder = Encoder(clip.channels, spatial_hidden, spatial_depth)
        self.translator = translator
        self.decoder = Decoder(clip.channels, spatial_hidden, spatial_depth)

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W]; T must be clip.past."""
        if past.shape[1] != self.clip.past:
            raise ValueError(
                f"got {past.shape[1]} past frames; this model was built for {self.clip.past}"
            )
        return rollout(self.block, past, horizon)

    def block(self, past: Tensor) -> Tensor:
        """One pass: [B, T, C, H, W] -> the next T frames, same shape."""
        batch = past.shape[0]
        latent, skip = self.encoder(past.flatten(0, 1))
        folded = latent.reshape(batch, -1, *latent.shape[2:])
        translated: Tensor = self.translator(folded)
        frames: Tensor = self.decoder(translated.reshape(latent.shape), skip)
        return frames.reshape(past.shape)


def check_spatial(clip: Clip, spatial_hidden: int, spatial_depth: int) -> None:
    """Raise ValueError, before anything is built, if the shell does not fit the clip."""
    if spatial_depth < 2 or spatial_depth % 2:
        raise ValueError(f"spatial_depth is {spatial_depth}; expected an even number, 2 or more")
    if spatial_hidden < 2 or spatial_hidden % 2:
        raise ValueError(
            f"spatial_hidden is {spatial_hidden}; expected an even number (GroupNorm has 2 groups)"
        )
    factor = 2 ** (spatial_depth // 2)
    if clip.height % factor or clip.width % factor:
        raise ValueError(
            f"frames are {clip.height}x{clip.width}; spatial_depth={spatial_depth} needs sizes "
            f"divisible by {factor}"
        )


def init_by_fan_out(module: nn.Module) -> None:
    """Draw a convolution's weights from N(0, 2/fan_out), fan_out = k^2 C_out/groups; bias 0."""
    if isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        nn.init.zeros_(_bias(module))


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise TypeError(f"{conv} has no bias")
    return conv.bias
