"""PredRNN (Wang, Long, Wang, Gao, Yu; NeurIPS 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from baselines.recurrent import Recurrent
from tau.predictor import Clip

State = tuple[list[tuple[Tensor, Tensor]], Tensor]  # (h, c) of each layer, and m
Gains = list[tuple[Tensor, Tensor]]  # of c and m, for each layer


class STLSTMCell(nn.Module):
    """One spatiotemporal LSTM layer (Eq. 4): x [B, C_in, H, W], h, c, m [B, C, H, W] -> h, c, m.

    Also returns i g of c and of m: what either memory gains.
    i, f, g = s(W_x * x + W_h * h), c' = f c + i g: the layer's own memory.
    i, f, g = s(V_x * x + V_m * m), m' = f m + i g: the memory that climbs the layers.
    o = sigmoid(W_xo * x + W_ho * h + W_o * [c', m']), h' = o tanh(W_1x1 * [c', m']).
    s is sigmoid, tanh for g; both forget gates add 1 before it.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.channels = channels
        conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2, bias=False)
        self.conv_x = conv(channels_in, 7 * channels)
        self.conv_h = conv(channels, 4 * channels)
        self.conv_m = conv(channels, 3 * channels)
        self.conv_o = conv(2 * channels, channels)
        self.conv_1x1 = nn.Conv2d(2 * channels, channels, 1, bias=False)

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, m: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One step."""
        x_c, x_m = self.conv_x(x).split((4 * self.channels, 3 * self.channels), dim=1)
        i, f, g, o = (x_c + self.conv_h(h)).chunk(4, dim=1)
        gain_c = torch.sigmoid(i) * torch.tanh(g)
        c = torch.sigmoid(f + 1) * c + gain_c
        i, f, g = (x_m + self.conv_m(m)).chunk(3, dim=1)
        gain_m = torch.sigmoid(i) * torch.tanh(g)
        m = torch.sigmoid(f + 1) * m + gain_m
        memories = torch.cat([c, m], dim=1)
        h = torch.sigmoid(o + self.conv_o(memories)) * torch.tanh(self.conv_1x1(memories))
        return h, c, m, gain_c, gain_m


class PredRNN(Recurrent):
    """A stack of ST-LSTM layers on patches, read out by a 1x1 convolution; no biases.

    The memory m passes through the layers from bottom to top, and from the top layer to the bottom
    one of the next step. The defaults are the published Moving MNIST size: 23.84 M parameters,
    115.95 G MACs for 10 -> 10 frames (TAU's Table 6 leaves the read-out out: 115.94).
    Without the authors' optional layer normalisation and time-reversed training, as published.

    Options as in `Recurrent`; layers share m, so all have one width, else ValueError. patch is 2
    for the other three data sets.
    """

    def __init__(
        self,
        clip: Clip,
        hidden: Sequence[int] = (128, 128, 128, 128),
        kernel: int = 5,
        patch: int = 4,
        sampling_stop: float = 0.4,
    ) -> None:
        if len(set(hidden)) > 1:
            raise ValueError(f"hidden is {hidden!r}; expected equal widths, as layers share m")
        super().__init__(clip, hidden, kernel, patch, sampling_stop)
        folded = clip.channels * patch**2
        width = hidden[0]
        self.cells = nn.ModuleList(
            STLSTMCell(folded if i == 0 else width, width, kernel) for i in range(len(hidden))
        )
        self.readout = nn.Conv2d(width, folded, 1, bias=False)

    def init_state(self, frame: Tensor) -> State:
        """Zeros."""
        layers = [(self.zeros(frame, n), self.zeros(frame, n)) for n in self.hidden]
        return layers, self.zeros(frame, self.hidden[0])

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Up the stack: each layer reads the new h and m of the layer below."""
        prediction, state, _ = self.climb(frame, state)
        return prediction, state

    def climb(self, frame: Tensor, state: State) -> tuple[Tensor, State, Gains]:
        """`step`, and what each layer's memories gain."""
        layers, m = state
        x = frame
        new, gains = [], []
        for cell, (h, c) in zip(self.cells, layers, strict=True):
            x, c, m, gain_c, gain_m = cell(x, h, c, m)
            new.append((x, c))
            gains.append((gain_c, gain_m))
        return self.readout(x), (new, m), gains
