"""Memory In Memory (Wang, Zhang, Zhu, Long, Wang, Yu; CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from baselines.predrnn import STLSTMCell
from baselines.recurrent import Recurrent
from tau.predictor import Clip


class Memory(NamedTuple):
    """What a MIM block keeps between two steps, each [B, C, H, W]."""

    h: Tensor
    c: Tensor  # also the hidden state of MIM-S
    s: Tensor  # cell state of MIM-S
    n: Tensor  # hidden state of MIM-N
    c_n: Tensor  # cell state of MIM-N


class State(NamedTuple):
    """Of the whole stack: h and c of the ST-LSTM layer, m, which climbs, and the blocks'."""

    first: bool  # no frame has been read
    h: Tensor
    c: Tensor
    m: Tensor
    blocks: list[Memory]


class PeepholeLSTMCell(nn.Module):
    """ConvLSTM whose gates see the cell: x, h, c [B, C, H, W] -> h, c; `size` is (H, W).

    i, f = sigmoid(W_x * x + W_h * h + p c), the forget gate adding 1; g = tanh(W_x * x + W_h * h);
    c' = f c + i g; o = sigmoid(W_x * x + W_h * h + p c'), h' = o tanh(c'). The peepholes p weigh
    each channel and position by itself and start at 0.
    """

    def __init__(self, channels: int, kernel: int, size: tuple[int, int]) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2, bias=False)
        self.conv_x = conv(channels, 4 * channels)
        self.conv_h = conv(channels, 4 * channels)
        self.peepholes = nn.Parameter(torch.zeros(3, channels, *size))

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        p_i, p_f, p_o = self.peepholes
        i, f, g, o = (self.conv_x(x) + self.conv_h(h)).chunk(4, dim=1)
        i, f = torch.sigmoid(i + p_i * c), torch.sigmoid(f + p_f * c + 1)
        c = f * c + i * torch.tanh(g)
        return torch.sigmoid(o + p_o * c) * torch.tanh(c), c


class MIMBlock(nn.Module):
    """An ST-LSTM layer whose forget gate is two recurrent cells: x, d, memory, m -> memory, m.

    n, c_n = MIM-N(d, n, c_n): the trend of the change d in the layer below; None leaves it as is.
    T, s = MIM-S(n, c, s): what c keeps. c' = T + i g, with i, g = a(W_x * x + W_h * h).
    m' = f m + i g, with i, f, g = a(W_x * x + W_m * m), the same W_x; the forget gate adds 1.
    o = sigmoid(W_xo * x + W_ho * h + W_mo * m), h' = o tanh(W_1x1 * [c', m']).
    a is sigmoid, tanh for g.
    """

    def __init__(self, channels: int, kernel: int, size: tuple[int, int]) -> None:
        super().__init__()
        n = channels
        self.nonstationary = PeepholeLSTMCell(n, kernel, size)  # MIM-N
        self.stationary = PeepholeLSTMCell(n, kernel, size)  # MIM-S
        conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2, bias=False)
        self.conv_x = conv(n, 4 * n)
        self.conv_h = conv(n, 3 * n)
        self.conv_m = conv(n, 4 * n)
        self.conv_1x1 = nn.Conv2d(2 * n, n, 1, bias=False)

    def forward(self, x: Tensor, d: Tensor | None, old: Memory, m: Tensor) -> tuple[Memory, Tensor]:
        """One step."""
        n, c_n = old.n, old.c_n
        if d is not None:
            n, c_n = self.nonstationary(d, n, c_n)
        kept, s = self.stationary(n, old.c, old.s)
        x_i, x_g, x_o, x_f = self.conv_x(x).chunk(4, dim=1)
        h_i, h_g, h_o = self.conv_h(old.h).chunk(3, dim=1)
        m_i, m_g, m_o, m_f = self.conv_m(m).chunk(4, dim=1)
        c = kept + torch.sigmoid(x_i + h_i) * torch.tanh(x_g + h_g)
        m = torch.sigmoid(x_f + m_f + 1) * m + torch.sigmoid(x_i + m_i) * torch.tanh(x_g + m_g)
        o = torch.sigmoid(x_o + h_o + m_o)
        h = o * torch.tanh(self.conv_1x1(torch.cat([c, m], dim=1)))
        return Memory(h, c, s, n, c_n), m


class MIM(Recurrent):
    """An ST-LSTM layer and MIM blocks on patches, read out by a 1x1 convolution; no biases.

    The first block is told the change of the ST-LSTM's h since the last frame, each other block the
    n of the block below. At the first frame there is no change to tell.

    The defaults are the published Moving MNIST size: 179.18 G MACs for 10 -> 10 frames
    (TAU's Table 6 leaves the read-out out: 179.17), 37.95 M parameters. The paper's own model is
    `hidden=(64, 64, 64, 64)`: 45.23 G.

    OpenSTL's accuracies come from its port (v0.3.0 and v1.0.0), which keeps the cell
    state of each MIM-S from one batch to the next, test batches too, and cuts its gradient at every
    step. Here it starts at 0 with each sequence and gradients flow through it, as in the authors'
    code, at the same cost. The port also owns an unused convolution in each MIM-N, hence its
    38.04 M parameters. The authors' TensorFlow code has biases, layer normalisation and peepholes
    that start at random; like the port, this has none of them, nor their time-reversed training and
    weight averaging.

    Options as in `Recurrent`. Fewer than two layers or unequal widths are a ValueError. As
    peepholes are weights of a position, frames must have the clip's size. patch is 2 for TaxiBJ
    and KITTI -> Caltech.
    """

    def __init__(
        self,
        clip: Clip,
        hidden: Sequence[int] = (128, 128, 128, 128),
        kernel: int = 5,
        patch: int = 4,
        sampling_stop: float = 0.4,
    ) -> None:
        if len(hidden) == 1 or len(set(hidden)) > 1:
            raise ValueError(f"hidden is {hidden!r}; expected two layers or more of equal widths")
        super().__init__(clip, hidden, kernel, patch, sampling_stop)
        folded = clip.channels * patch**2
        self.size = (clip.height // patch, clip.width // patch)
        width = hidden[0]
        self.bottom = STLSTMCell(folded, width, kernel)
        self.blocks = nn.ModuleList(MIMBlock(width, kernel, self.size) for _ in hidden[1:])
        self.readout = nn.Conv2d(width, folded, 1, bias=False)

    def init_state(self, frame: Tensor) -> State:
        """Zeros; raises ValueError for frames that are not of the clip's size."""
        if frame.shape[2:] != self.size:
            raise ValueError(
                f"frames have {tuple(frame.shape[2:])} patches; expected {self.size}, as peepholes "
                "weigh positions; build the model for a clip of this size"
            )

        def zeros() -> Tensor:
            return self.zeros(frame, self.hidden[0])

        blocks = [Memory(zeros(), zeros(), zeros(), zeros(), zeros()) for _ in self.blocks]
        return State(True, zeros(), zeros(), zeros(), blocks)

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Up the stack: each block reads the new h, m and n of the layer below."""
        h, c, m, _, _ = self.bottom(frame, state.h, state.c, state.m)
        x, d = h, h - state.h
        blocks = []
        for block, old in zip(self.blocks, state.blocks, strict=True):
            new, m = block(x, None if state.first else d, old, m)
            x, d = new.h, new.n
            blocks.append(new)
        return self.readout(x), State(False, h, c, m, blocks)
