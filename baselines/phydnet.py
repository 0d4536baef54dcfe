"""PhyDNet: Disentangling Physical Dynamics from Unknown Factors (Le Guen, Thome; CVPR 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.recurrent import Recurrent
from tau.predictor import Clip, check_unit_range

State = tuple[Tensor, list[tuple[Tensor, Tensor]]]  # h of the PhyCell; (h, c) of each LSTM layer


class PhyCell(nn.Module):
    """A partial differential equation, corrected by data: x, h [B, C, H, W] -> new h.

    Prediction: p = h + F(h), F a 1x1 mixture of 49 normalised 7x7 filters of h. Correction:
    h' = p + K (x - p), K = sigmoid(W * [x, h]). `moment_error` makes filter n a partial
    derivative, of order n // 7 in rows and n % 7 in columns.
    """

    moments: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.derive = nn.Conv2d(channels, 49, 7, padding=3)
        self.norm = nn.GroupNorm(7, 49)
        self.combine = nn.Conv2d(49, channels, 1)
        self.gain = nn.Conv2d(2 * channels, channels, 3, padding=1)
        taylor = [[(j - 3) ** i / math.factorial(i) for j in range(7)] for i in range(7)]
        self.register_buffer("moments", torch.tensor(taylor), persistent=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """One step."""
        gain = torch.sigmoid(self.gain(torch.cat([x, h], dim=1)))
        predicted: Tensor = h + self.combine(self.norm(self.derive(h)))
        return predicted + gain * (x - predicted)

    def moment_error(self) -> Tensor:
        """Squared error of the filters' moments, the paper's constraint on them: a scalar.

        The moments of a 7x7 filter k are M k M^T, M_ij = (j - 3)^i / i!. Filter n should have
        moment 1 at (n // 7, n % 7) and 0 elsewhere. A mean over filters and moments, a sum over
        the channels filtered.
        """
        filters = self.derive.weight.transpose(0, 1)
        with torch.autocast(filters.device.type, enabled=False):
            moments = self.moments @ filters @ self.moments.T
        wanted = torch.eye(49, dtype=filters.dtype, device=filters.device).reshape(49, 7, 7)
        return (moments - wanted).square().mean(dim=(1, 2, 3)).sum()


class BiasedLSTMCell(nn.Module):
    """A ConvLSTM layer, x [B, C_in, H, W], h and c [B, C, H, W] -> h, c; one 3x3 on [x, h], biased.

    i, f, o = sigmoid(W * [x, h] + b), g = tanh(likewise); c' = f c + i g; h' = o tanh(c').
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in + channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        i, f, o, g = self.conv(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class Encoder(nn.Module):
    """Frames [N, C, H, W] -> [N, 2 width, H/stride, W/stride]: the PhyCell's input, the LSTM's.

    Three convolutions for both, two for each.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        half = width // 2
        self.shared = nn.Sequential(
            _down(channels, half, 2), _down(half, half), _down(half, width, stride // 2)
        )
        self.physical = nn.Sequential(_down(width, width), _down(width, width))
        self.residual = nn.Sequential(_down(width, width), _down(width, width))

    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames one by one."""
        shared = self.shared(frames)
        return torch.cat([self.physical(shared), self.residual(shared)], dim=1)


class Decoder(nn.Module):
    """Both parts of a frame [B, width, H/stride, W/stride] -> the frame [B, C, H, W], in (0, 1).

    Two transposed convolutions for each, three and a sigmoid for their sum.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        half = width // 2
        self.physical = nn.Sequential(_up(width, width), _up(width, width))
        self.residual = nn.Sequential(_up(width, width), _up(width, width))
        self.shared = nn.Sequential(
            _up(width, half, 2), _up(half, half), _transposed(half, channels, stride // 2)
        )

    def forward(self, physical: Tensor, residual: Tensor) -> Tensor:
        """Decode one step."""
        return torch.sigmoid(self.shared(self.physical(physical) + self.residual(residual)))


class PhyDNet(Recurrent):
    """A PhyCell beside a stack of ConvLSTM layers, between encoders and decoders of their own.

    The defaults are the published Moving MNIST size: 3.09 M parameters, 15.33 G MACs for
    10 -> 10 frames. Built as the authors released it last, with separate encoders. Frames are in
    [0, 1].

    `loss` is the paper's. OpenSTL's port (v0.3.0 and v1.0.0) takes that scalar L for a prediction
    and minimises mean((L - future)^2), whose pull fades as L nears the mean pixel. Parameters are
    the same. The port's count, 15.3275 G, includes the matrix products of the moment error,
    0.0022 G, which are part of `loss` here and not of inference.

    Teacher forcing: one draw decides for all future frames of a batch, or a process's part of it.
    Its probability falls linearly from 1 to 0 over `sampling_stop` of the training; the default
    falls by the released 0.003 in each of OpenSTL's 200 epochs (step by step, not at the epoch's
    end), to 0.4.

    hidden: widths of the ConvLSTM layers; the last, a multiple of 32, is also the latent width.
    stride: how much smaller latents are than frames, 4 or 2; published with 2 for TaxiBJ. Raises
    ValueError for options that do not fit each other or the clip.
    """

    def __init__(
        self,
        clip: Clip,
        hidden: Sequence[int] = (128, 128, 64),
        stride: int = 4,
        sampling_stop: float = 5 / 3,
    ) -> None:
        super().__init__(clip, hidden, kernel=3, patch=1, sampling_stop=sampling_stop)
        width = hidden[-1]
        if width % 32:
            raise ValueError(
                f"hidden is {hidden!r}; expected a last width divisible by 32 (GroupNorm has 16 "
                "groups, also at half the width)"
            )
        if stride not in (2, 4) or clip.height % stride or clip.width % stride:
            raise ValueError(
                f"stride is {stride}; expected 2 or 4, a divisor of the frame size "
                f"{clip.height}x{clip.width}"
            )
        check_unit_range(clip)
        self.encoder = Encoder(clip.channels, width, stride)
        self.physical = PhyCell(width)
        self.residual = nn.ModuleList(
            BiasedLSTMCell(n_in, n) for n_in, n in pairwise((width, *hidden))
        )
        self.decoder = Decoder(clip.channels, width, stride)

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Sum over frames 2..N of each frame's mean squared error, plus the moment error."""
        predictions, target, _ = self.unroll_with_target(past, future)
        error = target.shape[1] * F.mse_loss(predictions, target)
        return error + self.physical.moment_error()

    def encode(self, frames: Tensor) -> Tensor:
        """Encoder."""
        encoded: Tensor = self.encoder(frames)
        return encoded

    def draw_mask(self, batch: int, past: int, future: int) -> Tensor:
        """Draw the ground-truth mask of the future frames, [B, future - 1]: one draw for all."""
        drawn = torch.rand(1, 1, device=self.step_count.device) < self.forcing_probability()
        return drawn.expand(batch, future - 1)

    def init_state(self, frame: Tensor) -> State:
        """Zeros; `frame` is encoded."""
        layers = [(self.zeros(frame, n), self.zeros(frame, n)) for n in self.hidden]
        return self.zeros(frame, self.hidden[-1]), layers

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of both branches: (encoded frame t, state) -> (frame t+1, new state)."""
        physical, layers = state
        x_physical, x = frame.chunk(2, dim=1)
        physical = self.physical(x_physical, physical)
        new = []
        for cell, (h, c) in zip(self.residual, layers, strict=True):
            x, c = cell(x, h, c)
            new.append((x, c))
        return self.decoder(physical, x), (physical, new)


def _down(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1)
    return nn.Sequential(conv, nn.GroupNorm(16, channels), nn.LeakyReLU(0.2, inplace=True))


def _up(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    conv = _transposed(channels_in, channels, stride)
    return nn.Sequential(conv, nn.GroupNorm(16, channels), nn.LeakyReLU(0.2, inplace=True))


def _transposed(channels_in: int, channels: int, stride: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(
        channels_in, channels, 3, stride=stride, padding=1, output_padding=stride - 1
    )
