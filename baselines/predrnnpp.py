"""PredRNN++ (Wang, Gao, Long, Wang, Yu; ICML 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from baselines.recurrent import Recurrent
from tau.predictor import Clip

State = tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]  # (h, c) of each layer, m, and z


class CausalLSTMCell(nn.Module):
    """One causal LSTM layer: x, h, c and m, [B, C, H, W] with C_in and C_m for x and m -> h, c, m.

    The memories follow one another; both forget gates add 1 before the sigmoid.
    i, f = sigmoid, g = tanh(W_x * x + W_h * h + W_c * c), c' = f c + i g.
    i, f = sigmoid(V_x * x + V_c * c' + V_m * m), g = tanh(V_x * x + V_c * c'),
    m' = f tanh(V_m * m) + i g.
    o = tanh(W_xo * x + W_ho * h + W_co * c' + W_mo * m'), h' = o tanh(W_1x1 * [c', m']).
    """

    def __init__(self, channels_in: int, channels_m: int, channels: int, kernel: int) -> None:
        super().__init__()
        n = channels
        self.channels = channels
        conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2, bias=False)
        self.conv_x = conv(channels_in, 7 * n)
        self.conv_h = conv(n, 4 * n)
        self.conv_c = conv(n, 3 * n)
        self.conv_new_c = conv(n, 4 * n)
        self.conv_m = conv(channels_m, 3 * n)
        self.conv_o = conv(n, n)
        self.conv_1x1 = nn.Conv2d(2 * n, n, 1, bias=False)

    def forward(self, x: Tensor, h: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step."""
        n = self.channels
        x_c, x_m, x_o = self.conv_x(x).split((3 * n, 3 * n, n), dim=1)
        h_c, h_o = self.conv_h(h).split((3 * n, n), dim=1)
        i, f, g = (x_c + h_c + self.conv_c(c)).chunk(3, dim=1)
        c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)

        c_m, c_o = self.conv_new_c(c).split((3 * n, n), dim=1)
        gates, g = (x_m + c_m).split((2 * n, n), dim=1)
        m_gates, m = self.conv_m(m).split((2 * n, n), dim=1)
        i, f = (gates + m_gates).chunk(2, dim=1)
        m = torch.sigmoid(f + 1) * torch.tanh(m) + torch.sigmoid(i) * torch.tanh(g)

        o = torch.tanh(x_o + h_o + c_o + self.conv_o(m))
        return o * torch.tanh(self.conv_1x1(torch.cat([c, m], dim=1))), c, m


class GradientHighway(nn.Module):
    """Gradient highway unit: x and z [B, C, H, W] -> new z, a short way through time.

    p = tanh(W_p * x + V_p * z), s = sigmoid(W_s * x + V_s * z), z' = s p + (1 - s) z. Weights
    start within ±0.001, as released.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2, bias=False)
        self.conv_x = conv(channels, 2 * channels)
        self.conv_z = conv(channels, 2 * channels)
        for each in (self.conv_x, self.conv_z):
            nn.init.uniform_(each.weight, -0.001, 0.001)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """One step."""
        p, s = (self.conv_x(x) + self.conv_z(z)).chunk(2, dim=1)
        s = torch.sigmoid(s)
        return s * torch.tanh(p) + (1 - s) * z


class PredRNNpp(Recurrent):
    """Causal LSTM layers on patches, a gradient highway after the first, a 1x1 read-out; no biases.

    The memory m passes through the layers as in PredRNN; the second layer reads the highway's z.
    The defaults are the published Moving MNIST size: 171.74 G MACs for 10 -> 10 frames
    (TAU's Table 6 leaves the read-out out: 171.73), 35.31 M parameters. The paper's own model is
    `hidden=(128, 64, 64, 64)`: 74.75 G.

    OpenSTL's accuracies come from v0.3.0 or earlier, whose cell applies W_c to m, not to c;
    v1.0.0 has the paper's cell, as this has, at the same cost. Either also owns an unused
    convolution per layer, hence 38.58 M parameters. Without the authors' layer normalisation and
    time-reversed training, as published.

    Options as in `Recurrent`; fewer than two layers are a ValueError. patch is 2 for the other
    three data sets.
    """

    def __init__(
        self,
        clip: Clip,
        hidden: Sequence[int] = (128, 128, 128, 128),
        kernel: int = 5,
        patch: int = 4,
        sampling_stop: float = 0.4,
    ) -> None:
        if len(hidden) == 1:
            raise ValueError(f"hidden is {hidden!r}; expected two layers or more")
        super().__init__(clip, hidden, kernel, patch, sampling_stop)
        folded = clip.channels * patch**2
        inputs, memories = (folded, *hidden[:-1]), (hidden[-1], *hidden[:-1])
        self.cells = nn.ModuleList(
            CausalLSTMCell(n_in, n_m, n, kernel)
            for n_in, n_m, n in zip(inputs, memories, hidden, strict=True)
        )
        self.highway = GradientHighway(hidden[0], kernel)
        self.readout = nn.Conv2d(hidden[-1], folded, 1, bias=False)

    def init_state(self, frame: Tensor) -> State:
        """Zeros."""
        layers = [(self.zeros(frame, n), self.zeros(frame, n)) for n in self.hidden]
        return layers, self.zeros(frame, self.hidden[-1]), self.zeros(frame, self.hidden[0])

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Up the stack: each layer reads the new h (the second: z) and m of the layer below."""
        layers, m, z = state
        x = frame
        new = []
        for layer, (cell, (h, c)) in enumerate(zip(self.cells, layers, strict=True)):
            h, c, m = cell(x, h, c, m)
            new.append((h, c))
            x = h
            if layer == 0:
                x = z = self.highway(h, z)
        return self.readout(x), (new, m, z)
