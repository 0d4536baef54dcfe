"""MAU: A Motion-Aware Unit for Video Prediction and Beyond (Chang et al.; NeurIPS 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from baselines.recurrent import Recurrent
from tau.predictor import Clip

Window = tuple[Tensor, ...]  # the last tau maps of a layer, oldest first
State = list[tuple[Window, Window]]  # (S, T) of each layer


class MAUCell(nn.Module):
    """One motion-aware unit: S, its last tau S and T, all [B, C, H, W] -> new S, new T.

    Attention over the past: a = softmax_j(<S_j, W_k * S> / sqrt(CHW)), trend = sum_j a_j T_j.
    Fusion with the newest T: U = s(W_u * T), T^ = U T + (1 - U) trend.
    Update: t_g, t_t, t_s = W_t * T^, s_g, s_t, s_s = W_s * S;
    T' = s(t_g) t_t + (1 - s(t_g)) s_t, S' = s(s_g) s_s + (1 - s(s_g)) t_s.
    s is sigmoid; every W has a bias and is followed by LayerNorm over its channels, H and W.
    """

    def __init__(self, channels: int, kernel: int, height: int, width: int) -> None:
        super().__init__()

        def conv(maps: int) -> nn.Conv2d:
            return nn.Conv2d(channels, maps * channels, kernel, padding=kernel // 2)

        def norm(maps: int) -> nn.LayerNorm:
            return nn.LayerNorm((maps * channels, height, width))

        self.channels = channels
        self.conv_s, self.norm_s, self.norm_key = conv(4), norm(3), norm(1)  # W_s and W_k
        self.conv_u, self.norm_u = conv(1), norm(1)
        self.conv_t, self.norm_t = conv(3), norm(3)

    def forward(self, s: Tensor, past_s: Window, past_t: Window) -> tuple[Tensor, Tensor]:
        """One step."""
        for_s, for_key = self.conv_s(s).split((3 * self.channels, self.channels), dim=1)
        key = self.norm_key(for_key)
        scores = torch.stack([(key * each).sum(dim=(1, 2, 3)) for each in past_s], dim=1)
        weights = torch.softmax(scores / math.sqrt(key[0].numel()), dim=1)[..., None, None, None]
        weighted = [a * each for a, each in zip(weights.unbind(1), past_t, strict=True)]
        trend = sum(weighted[1:], weighted[0])
        t = past_t[-1]
        t = _mix(self.norm_u(self.conv_u(t)), t, trend)
        t_g, t_t, t_s = self.norm_t(self.conv_t(t)).chunk(3, dim=1)
        s_g, s_t, s_s = self.norm_s(for_s).chunk(3, dim=1)
        return _mix(s_g, s_s, t_s), _mix(t_g, t_t, s_t)


class Encoder(nn.Module):
    """A 1x1 convolution, then one with stride 2 for each halving: [N, C, H, W] -> lowest S.

    S is [N, width, H/2^halvings, W/2^halvings] and has the dtype of the frames, under autocast too.
    """

    def __init__(self, channels: int, width: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 1), _leaky_relu()]
        for _ in range(halvings):
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), _leaky_relu()]
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames one by one."""
        encoded: Tensor = self.layers(frames)
        return encoded.to(frames.dtype)


class MAU(Recurrent):
    """A stack of motion-aware units between a strided encoder and a transposed decoder.

    The defaults are the published Moving MNIST size: 17.79 G MACs for 10 -> 10 frames
    (the attention over the past is element-wise and not counted), 4.48 M parameters. The published
    count, of OpenSTL's port (v0.3.0 and v1.0.0), has 8,259 more: two convolutions that are never
    used (8,266 for two image channels, 8,277 for three). Without the paper's recall of encoder
    features in the decoder, as published.

    hidden, kernel, sampling_stop: as in `Recurrent`; S passes through the layers, so all have one
    width. downsampling: how much smaller S and T are than frames, a power of two; published with 2
    for the other three data sets. tau: how many past states the attention sees. Raises ValueError
    for options that do not fit each other or the clip.
    """

    def __init__(
        self,
        clip: Clip,
        hidden: Sequence[int] = (64, 64, 64, 64),
        kernel: int = 5,
        downsampling: int = 4,
        tau: int = 5,
        sampling_stop: float = 0.4,
    ) -> None:
        super().__init__(clip, hidden, kernel, patch=1, sampling_stop=sampling_stop)
        if len(set(hidden)) > 1:
            raise ValueError(f"hidden is {hidden!r}; expected equal widths, as layers share S")
        if downsampling < 1 or downsampling & (downsampling - 1):
            raise ValueError(f"downsampling is {downsampling}; expected a power of two")
        if clip.height % downsampling or clip.width % downsampling:
            raise ValueError(
                f"downsampling is {downsampling}; expected a divisor of the frame size "
                f"{clip.height}x{clip.width}"
            )
        if tau < 1:
            raise ValueError(f"tau is {tau}; expected one past state or more")
        self.tau = tau
        width, halvings = hidden[0], downsampling.bit_length() - 1
        self.encoder = Encoder(clip.channels, width, halvings)
        size = clip.height // downsampling, clip.width // downsampling
        self.cells = nn.ModuleList(MAUCell(width, kernel, *size) for _ in hidden)
        self.decoder = _decoder(clip.channels, width, halvings)

    def encode(self, frames: Tensor) -> Tensor:
        """Encoder."""
        encoded: Tensor = self.encoder(frames)
        return encoded

    def init_state(self, frame: Tensor) -> State:
        """Zeros; `frame` is encoded."""

        # A compiled step is compiled anew for each mixture of states with and without a gradient,
        # and for each place that views have in a tensor.
        def window() -> Window:
            with_gradient = torch.is_grad_enabled()
            return tuple(
                torch.zeros_like(frame, requires_grad=with_gradient) for _ in range(self.tau)
            )

        return [(window(), window()) for _ in self.hidden]

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Up the stack: (encoded frame t, state) -> (frame t+1, new state)."""
        s = frame.clone()  # windows keep it: not as a view, see `init_state`
        new = []
        for cell, (past_s, past_t) in zip(self.cells, state, strict=True):
            below = s
            s, t = cell(s, past_s, past_t)
            new.append(((*past_s[1:], below), (*past_t[1:], t)))
        return self.decoder(s), new


def _mix(gate: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """s a + (1 - s) b, s the sigmoid of `gate`."""
    return b + torch.sigmoid(gate) * (a - b)


def _decoder(channels: int, width: int, halvings: int) -> nn.Sequential:
    """The encoder's mirror: transposed convolutions, activations between them, 1x1 convolution."""
    layers: list[nn.Module] = []
    for _ in range(halvings):
        up = nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)
        layers += [up, _leaky_relu()]
    return nn.Sequential(*layers[:-1], nn.Conv2d(width, channels, 1))


def _leaky_relu() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)
