"""CrevNet: conditionally reversible network (Yu, Lu, Easterbrook, Fidler; ICLR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tau.predictor import Clip, Predictor, check_horizon

FRAMES = 3  # in each step's input and output, which overlap by two

Halves = tuple[Tensor, Tensor]
State = tuple[list[Halves], Tensor]  # (h, c) of each layer, and m


class Autoencoder(nn.Module):
    """The two-way autoencoder, an i-RevNet: `encode` and its inverse `decode` share all weights.

    Pixels are folded into 4 C channels, whose first half, x1, holds the even rows; then come
    stages of `blocks` coupling blocks (x1, x2) -> (x2, x1 + f(x2)), where f is three 3x3x3
    convolutions, the first two of half width. All stages but the first begin with stride 2 in f,
    for which pixels of x1 and x2 are folded again. After n stages the halves are
    [N, 2 C 4^(n-1), D, H/2^n, W/2^n] each: together, as many numbers as the input has.
    """

    def __init__(self, channels: int, blocks: Sequence[int]) -> None:
        super().__init__()
        widths = [2 * channels]
        for stage, depth in enumerate(blocks):
            widths += [2 * channels * 4**stage] * depth
        self.channels = widths[-1]
        self.shrink = [n > n_in for n_in, n in pairwise(widths)]
        self.f = nn.ModuleList(
            residual(n_in, n, first=i == 0) for i, (n_in, n) in enumerate(pairwise(widths))
        )

    def encode(self, windows: Tensor) -> Halves:
        """Windows [N, C, D, H, W] -> the two halves of the latent."""
        x1, x2 = fold_pixels(windows).chunk(2, dim=1)
        for f, shrink in zip(self.f, self.shrink, strict=True):
            added = f(x2)
            if shrink:
                x1, x2 = fold_pixels(x1), fold_pixels(x2)
            x1, x2 = x2, x1 + added
        return x1, x2

    def decode(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Inverse of `encode`."""
        for f, shrink in zip(reversed(self.f), reversed(self.shrink), strict=True):
            before = unfold_pixels(x1) if shrink else x1
            x1 = x2 - f(before)
            x1, x2 = unfold_pixels(x1) if shrink else x1, before
        return unfold_pixels(torch.cat([x1, x2], dim=1))


def residual(channels_in: int, channels: int, first: bool) -> nn.Sequential:
    """Three 3x3x3 convolutions; batch norm and ReLU before each, not before the network's first.

    H and W are halved if `channels` exceeds `channels_in`.
    """
    layers: list[nn.Module] = []
    widths = (channels_in, channels // 2, channels // 2, channels)
    for i, (n_in, n) in enumerate(pairwise(widths)):
        if i or not first:
            layers += [nn.BatchNorm3d(n_in), nn.ReLU(inplace=True)]
        stride = (1, 2, 2) if i == 0 and channels > channels_in else 1
        layers.append(nn.Conv3d(n_in, n, 3, stride=stride, padding=1, bias=False))
    return nn.Sequential(*layers)


class STLSTMCell3d(nn.Module):
    """PredRNN's spatiotemporal LSTM with 3x3x3 convolutions: x, h, c, m [B, C, D, H, W] -> h, c, m.

    i, f, g = s(W_c * [x, h, c]), c' = f c + i g; i, f, g = s(W_m * [x, m, c']), m' = f m + i g;
    h' = sigmoid(W_o * [x, h, c', m']) tanh(W_1 * [c', m']), W_1 1x1x1; s is sigmoid, tanh for g.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv_c = nn.Conv3d(3 * channels, 3 * channels, 3, padding=1)
        self.conv_m = nn.Conv3d(3 * channels, 3 * channels, 3, padding=1)
        self.conv_o = nn.Conv3d(4 * channels, channels, 3, padding=1)
        self.conv_1 = nn.Conv3d(2 * channels, channels, 1)

    def forward(self, x: Tensor, h: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step."""
        c = self.remember(c, self.conv_c(torch.cat([x, h, c], dim=1)))
        m = self.remember(m, self.conv_m(torch.cat([x, m, c], dim=1)))
        o = torch.sigmoid(self.conv_o(torch.cat([x, h, c, m], dim=1)))
        return o * torch.tanh(self.conv_1(torch.cat([c, m], dim=1))), c, m

    def remember(self, memory: Tensor, gates: Tensor) -> Tensor:
        """Forget and write: f memory + i g."""
        gates, g = gates.split((2 * self.channels, self.channels), dim=1)
        i, f = torch.sigmoid(gates).chunk(2, dim=1)
        return f * memory + i * torch.tanh(g)


class ReversiblePredictor(nn.Module):
    """The reversible prediction module: halves of a latent -> those of the next window, and state.

    Each layer reads x1 into its ST-LSTM, mixes the result into x2 by a gate g = sigmoid(W * h),
    x2' = (1 - g) x2 + g h, and swaps the halves. m climbs the layers, and goes from the top one to
    the bottom one of the next step.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList(STLSTMCell3d(channels) for _ in range(layers))
        self.gates = nn.ModuleList(nn.Conv3d(channels, channels, 1) for _ in range(layers))

    def init_state(self, x: Tensor) -> State:
        """Zeros of the shape of a half, x."""
        return [(torch.zeros_like(x), torch.zeros_like(x)) for _ in self.cells], torch.zeros_like(x)

    def forward(self, x1: Tensor, x2: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """One step."""
        layers, m = state
        new = []
        for cell, gate, (h, c) in zip(self.cells, self.gates, layers, strict=True):
            h, c, m = cell(x1, h, c, m)
            new.append((h, c))
            x1, x2 = x2 + torch.sigmoid(gate(h)) * (h - x2), x1
        return x1, x2, (new, m)


class CrevNet(Predictor):
    """Predicts windows of three frames from windows of three frames, one frame later, in a latent.

    A two-way autoencoder turns a window into a latent and back without loss; a reversible module
    steps the latent. The newest frame of each predicted window is the model's prediction; the
    window's frames that lie in the past are replaced by the true ones before it is fed back.
    Training reads true windows alone.

    The defaults are the published Moving MNIST size: 5.00 M parameters, 16.90 G MACs for
    10 -> 10 frames: 17 steps, all encoded, stepped and decoded. (The published 270.7 G are for a
    batch of 16, and in train mode.) Two things differ from the port with published numbers (OpenSTL
    v0.3.0, the last to have it), and neither changes these sizes. That port forgets the past, but
    for its last three frames, before it predicts; here, as in training and in the authors' method,
    the whole past is read. And all known windows are encoded, and all their predictions decoded, at
    once instead of step by step, so in training the statistics of batch norm are over all steps.

    Activations are kept: invertibility, which could recompute the autoencoder's from the latent,
    is not exploited. A training step at the published size holds 124 MB of them a sequence in
    fp32, 39 MB of which are the autoencoder's, the rest the recurrent module's.

    blocks: coupling blocks in each stage of the encoder; the number of stages n also sets the
    width, 2 C 4^(n-1) channels, of the recurrent layers, of which there are `layers`. Raises
    ValueError for frame sizes that 2^n does not divide, and for fewer than three past frames.
    """

    capturable = True

    def __init__(self, clip: Clip, blocks: Sequence[int] = (4, 5, 3), layers: int = 8) -> None:
        if not blocks or min(blocks) < 1:
            raise ValueError(f"blocks is {blocks!r}; expected one or more for each stage")
        if layers < 1:
            raise ValueError(f"layers is {layers}; expected one or more")
        factor = 2 ** len(blocks)
        if clip.height % factor or clip.width % factor:
            raise ValueError(
                f"frames are {clip.height}x{clip.width}; {len(blocks)} stages of blocks need sizes "
                f"divisible by {factor}"
            )
        if clip.past < FRAMES:
            raise ValueError(f"Clip.past is {clip.past}; expected {FRAMES} or more")
        super().__init__(clip)
        self.autoencoder = Autoencoder(clip.channels, blocks)
        self.predictor = ReversiblePredictor(self.autoencoder.channels, layers)

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W]; T is 3 or more."""
        check_horizon(horizon)
        time = past.shape[1]
        # every step is decoded, warm-up included: published costs count them all
        predictions, state = self.follow(fold_windows(past))
        window = predictions[:, -1]
        frames = [window[:, :, -1]]
        for t in range(time - 2, time + horizon - 3):
            seen = past[:, t:].transpose(1, 2)  # none of it from t = time on
            window = torch.cat([seen, window[:, :, seen.shape[2] :]], dim=2)
            predictions, state = self.follow(window[:, None], state)
            window = predictions[:, 0]
            frames.append(window[:, :, -1])
        return torch.stack(frames, dim=1)

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Squared error of all windows, each predicted from true ones: means summed over steps."""
        windows = fold_windows(torch.cat([past, future], dim=1))
        predictions, _ = self.follow(windows[:, :-1])
        return predictions.shape[1] * F.mse_loss(predictions, windows[:, 1:])

    def follow(self, windows: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the window after each of `windows` [B, K, C, 3, H, W]: (predictions, new state).

        Only the prediction module goes step by step.
        """
        halves = self.autoencoder.encode(windows.flatten(0, 1))
        # contiguous, so that one compiled step fits any number of windows
        x1, x2 = (
            [x.contiguous() for x in half.unflatten(0, windows.shape[:2]).unbind(1)]
            for half in halves
        )
        if state is None:
            state = self.predictor.init_state(x1[0])
        steps = []
        for now in zip(x1, x2, strict=True):
            *new, state = self.predictor(*now, state)
            steps.append(new)
        y1, y2 = (torch.stack(half, dim=1).flatten(0, 1) for half in zip(*steps, strict=True))
        return self.autoencoder.decode(y1, y2).unflatten(0, windows.shape[:2]), state

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the prediction module in place, with the arguments of torch.compile."""
        self.predictor.compile(*args, **kwargs)


def fold_windows(frames: Tensor) -> Tensor:
    """All windows of three neighbouring frames: [B, N, C, H, W] -> [B, N-2, C, 3, H, W]."""
    if frames.shape[1] < FRAMES:
        raise ValueError(f"got {frames.shape[1]} frames; expected {FRAMES} or more")
    return frames.unfold(1, FRAMES, 1).movedim(-1, 3)


def fold_pixels(x: Tensor) -> Tensor:
    """[N, C, D, H, W] -> [N, 4 C, D, H/2, W/2]; channel order: row, column, C."""
    n, channels, depth, height, width = x.shape
    split = x.reshape(n, channels, depth, height // 2, 2, width // 2, 2)
    return split.permute(0, 4, 6, 1, 2, 3, 5).reshape(n, -1, depth, height // 2, width // 2)


def unfold_pixels(x: Tensor) -> Tensor:
    """Inverse of `fold_pixels`: [N, 4 C, D, H, W] -> [N, C, D, 2 H, 2 W]."""
    n, _, depth, height, width = x.shape
    split = x.reshape(n, 2, 2, -1, depth, height, width)
    return split.permute(0, 3, 4, 5, 1, 6, 2).reshape(n, -1, depth, 2 * height, 2 * width)
