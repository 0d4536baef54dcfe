"""Convolutional LSTM Network (Shi, Chen, Wang, Yeung, Wong, Woo; NeurIPS 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from baselines.recurrent import Recurrent
from tau.predictor import Clip

State = list[tuple[Tensor, Tensor]]  # (h, c) of each layer


class ConvLSTMCell(nn.Module):
    """One layer: x [B, C_in, H, W], h and c [B, C, H, W] -> new h and c (Eq. 3, no peepholes).

    i, f, o = sigmoid(W_x * x + W_h * h), g = tanh(likewise); c' = f c + i g; h' = o tanh(c').
    """

    def __init__(self, channels_in: int, channels: int, kernel: int) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2, bias=False)
        self.conv_x = conv(channels_in, 4 * channels)
        self.conv_h = conv(channels, 4 * channels)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        i, f, o, g = (self.conv_x(x) + self.conv_h(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class ConvLSTM(Recurrent):
    """A stack of ConvLSTM layers on patches, read out by a 1x1 convolution; no biases.

    The defaults are the published Moving MNIST size: 11.68 M parameters, 56.79 G MACs for
    10 -> 10 frames. OpenSTL's accuracies come from v0.3.0, whose cell computes h' = o tanh(g), so
    the memory c never reaches the output; v1.0.0 has the paper's cell, as this has. Either also
    owns two unused convolutions per layer, hence 15.08 M parameters; the MACs are the same.

    Options as in `Recurrent`; patch is 2 for the other three data sets.
    """

    def __init__(
        self,
        clip: Clip,
        hidden: Sequence[int] = (128, 128, 128, 128),
        kernel: int = 5,
        patch: int = 4,
        sampling_stop: float = 0.4,
    ) -> None:
        super().__init__(clip, hidden, kernel, patch, sampling_stop)
        folded = clip.channels * patch**2
        self.cells = nn.ModuleList(
            ConvLSTMCell(n_in, n, kernel) for n_in, n in pairwise((folded, *hidden))
        )
        self.readout = nn.Conv2d(hidden[-1], folded, 1, bias=False)

    def init_state(self, frame: Tensor) -> State:
        """Zeros."""
        return [(self.zeros(frame, n), self.zeros(frame, n)) for n in self.hidden]

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Up the stack: each layer reads the new h of the layer below."""
        x = frame
        new = []
        for cell, (h, c) in zip(self.cells, state, strict=True):
            x, c = cell(x, h, c)
            new.append((x, c))
        return self.readout(x), new
