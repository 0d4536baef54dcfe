"""Eidetic 3D LSTM (Wang, Jiang, Yang, Li, Long, Fei-Fei; ICLR 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.recurrent import Recurrent
from tau.predictor import Clip

Layer = tuple[Tensor, Tensor, Tensor]  # h, c and the tokens of all c so far
State = tuple[Tensor, list[Layer], Tensor]  # the frame before, the layers, m


class WindowConv(nn.Conv3d):
    """2 x k x k convolution of a window, [B, C_in, 2, H, W] -> [B, C_out, 2, H, W]; no bias.

    Padded to keep the size: k/2 zeros around each slice, one slice of zeros after the newer one.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int) -> None:
        padding = (0, kernel // 2, kernel // 2)
        super().__init__(channels_in, channels, (2, kernel, kernel), padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return super().forward(F.pad(x, (0, 0, 0, 0, 0, 1)))


def tokens(maps: Tensor) -> Tensor:
    """One token for each slice and pixel: [B, C, 2, H, W] -> [B, 2HW, C]."""
    return maps.flatten(2).mT.contiguous()


def recall(query: Tensor, history: Tensor) -> Tensor:
    """softmax(R K^T) K, without 1/sqrt(C) (Eq. 2): R [B, N, C], K [B, M, C] -> [B, N, C]."""
    keys = history[:, None]
    return F.scaled_dot_product_attention(query[:, None], keys, keys, scale=1.0)[:, 0]


class E3DLSTMCell(nn.Module):
    """One layer on windows of two frames: x [B, C_in, 2, H, W]; h, c, m [B, C, 2, H, W].

    i, r, g = s(W_x * x + W_h * h), c' = LN(c + recall(r, all c so far)) + i g.
    i, f, g = s(V_x * x + V_m * m), m' = f tanh(W_mm * m) + i g: the memory that climbs the layers.
    o = tanh(W_xo * x + W_ho * h + W_co * c' + W_mo * m'),
    h' = sigmoid(o) tanh(W_1x1x1 * [c', m']).
    s is sigmoid, tanh for g; f adds 1 before it. The paper's o has the sigmoid alone and its m'
    has f m; the tanh of both, and W_mm, are the authors' code's.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.channels = channels
        self.conv_x = WindowConv(channels_in, 7 * channels, kernel)
        self.conv_h = WindowConv(channels, 4 * channels, kernel)
        self.conv_m = WindowConv(channels, 4 * channels, kernel)
        self.conv_co = WindowConv(channels, channels, kernel)
        self.conv_mo = WindowConv(channels, channels, kernel)
        self.conv_1x1 = nn.Conv3d(2 * channels, channels, 1, bias=False)
        self.norm = nn.LayerNorm((channels, 2, *size))

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, m: Tensor, history: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step: new h, c, m and history, the tokens [B, M, C] of all c up to this one."""
        n = self.channels
        x_c, x_m, x_o = self.conv_x(x).split((3 * n, 3 * n, n), dim=1)
        h_c, h_o = self.conv_h(h).split((3 * n, n), dim=1)
        m_m, m_old = self.conv_m(m).split((3 * n, n), dim=1)
        i, r, g = (x_c + h_c).chunk(3, dim=1)
        recalled = recall(tokens(torch.sigmoid(r)), history).mT.unflatten(2, c.shape[2:])
        c = self.norm(c + recalled) + torch.sigmoid(i) * torch.tanh(g)
        i, f, g = (x_m + m_m).chunk(3, dim=1)
        m = torch.sigmoid(f + 1) * torch.tanh(m_old) + torch.sigmoid(i) * torch.tanh(g)
        o = torch.tanh(x_o + h_o + self.conv_co(c) + self.conv_mo(m))
        h = torch.sigmoid(o) * torch.tanh(self.conv_1x1(torch.cat([c, m], dim=1)))
        return h, c, m, torch.cat([history, tokens(c)], dim=1)


class E3DLSTM(Recurrent):
    """A stack of E3D-LSTM layers on windows of the last two frames fed; no biases.

    Before the first frame there are zeros. A 2 x 1 x 1 convolution reads the top layer out.
    Trained with squared plus absolute error. A step attends to the cells of all steps before it,
    so time and memory grow with the square of the sequence's length.

    The defaults are the size that TAU's Table 6 counts: 51.35 M parameters, 545.42 G
    MACs for 10 -> 10 frames, 545.40 without the read-out. The 298.85 printed there, and
    the accuracies of that code, belong to OpenSTL's port (v0.3.0 and v1.0.0), which differs in
    three ways: its convolutions have no padding in depth, so they compute one slice (half the
    MACs) and repeat it; its cell returns the m that it was given, so that m stays zero (in
    the authors' code too); its attention mixes channels and pixels into tokens. Here both slices
    are computed, m lives, and a token is a pixel's vector, as the paper has it; parameters are the
    same. The authors' TensorFlow code also has biases, and layer normalisation after each
    convolution; like the port, this has neither.

    Options as in `Recurrent`; layers share m, so all have one width, else ValueError. The authors'
    width is 64. patch is 2 for TaxiBJ and 8 for KTH, where the port also strides by 2.
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
        size = (clip.height // patch, clip.width // patch)
        width = hidden[0]
        self.cells = nn.ModuleList(
            E3DLSTMCell(folded if i == 0 else width, width, kernel, size)
            for i in range(len(hidden))
        )
        self.readout = nn.Conv3d(width, folded, (2, 1, 1), bias=False)

    def init_state(self, frame: Tensor) -> State:
        """Zeros, one zero cell in each history among them."""
        shape = (len(frame), self.hidden[0], 2, *frame.shape[2:])
        layers = []
        for _ in self.hidden:
            c = frame.new_zeros(shape)
            layers.append((frame.new_zeros(shape), c, tokens(c)))
        return torch.zeros_like(frame), layers, frame.new_zeros(shape)

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Up the stack: each layer reads the new h and m of the layer below."""
        before, layers, m = state
        x = torch.stack([before, frame], dim=2)
        new = []
        for cell, (h, c, history) in zip(self.cells, layers, strict=True):
            x, c, m, history = cell(x, h, c, m, history)
            new.append((x, c, history))
        return self.readout(x).squeeze(2), (frame, new, m)

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Mean squared plus mean absolute error of frames 2..N, past ones included: a scalar."""
        predictions, target, _ = self.unroll_with_target(past, future)
        return F.mse_loss(predictions, target) + F.l1_loss(predictions, target)
