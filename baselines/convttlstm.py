"""Conv-TT-LSTM (Su, Byeon, Kossaifi, Huang, Kautz, Anandkumar; NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.recurrent import Recurrent
from tau.predictor import Clip, check_unit_range

Memory = tuple[Tensor, Tensor, tuple[Tensor, ...]]  # h, c and the last M maps of h, oldest first
State = list[Memory]  # of each layer
SKIP = 2  # a block's output is joined by that of the block two before it


class ConvTTLSTMCell(nn.Module):
    """One layer: a ConvLSTM whose recurrent input is a tensor train of its last M states h.

    V_0 = K_0 * h_{t-M}, V_l = K_l * h_{t-M+l} + G_l * V_{l-1}, in `rank` channels, l < M = `order`;
    i, f, o = sigmoid(W * [x, V_{M-1}]), g = tanh(likewise); c' = f c + i g; h' = o tanh(c').
    Each state is mapped by all K at once, when it is new. All convolutions have biases.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int, order: int, rank: int) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

        self.order = order
        self.conv_k = conv(channels, order * rank)
        self.conv_g = nn.ModuleList(conv(rank, rank) for _ in range(order - 1))
        self.conv_w = conv(channels_in + rank, 4 * channels)

    def forward(self, x: Tensor, memory: Memory) -> Memory:
        """One step: x [B, C_in, H, W], memory -> new memory."""
        h, c, maps = memory
        new = self.conv_k(h)
        if not maps:  # the first step: all states are zero; copies, so that all others are alike
            maps = tuple(new.clone() for _ in range(self.order))
        maps = (*maps[1:], new)
        v, *others = (each.chunk(self.order, dim=1)[i] for i, each in enumerate(maps))
        for conv, each in zip(self.conv_g, others, strict=True):
            v = each + conv(v)
        i, f, o, g = self.conv_w(torch.cat([x, v], dim=1)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c, maps


class ConvTTLSTM(Recurrent):
    """Blocks of Conv-TT-LSTM layers at full resolution, read out by a 1x1 convolution.

    From the third block on, a block's output is concatenated with that of the block two before.
    The defaults are the published Moving MNIST size: 2.69 M parameters; 11.00 G MACs a
    step, 208.95 G for 10 -> 10 frames. (The published 10.76 G a step are 4,096 times the rounded
    parameters, in units of 2^10 x 10^6.)

    Scheduled sampling: in released training the probability of teacher forcing is 1 until the
    validation loss has not fallen for 20 epochs, then falls by 0.004 an epoch. A predictor sees no
    validation loss, so here it falls as early as that rule allows: it is 1 for 20 epochs and
    reaches 0 after another 250, 1.35 of OpenSTL's 200. `sampling_stop` shortens both.

    hidden: width of each block. layers: Conv-TT-LSTM layers in a block. order: past states that a
    layer reads, each by itself, as published (the paper also has windows of several). rank:
    channels of the tensor train. sigmoid: whether predictions end with one, for frames in [0, 1]:
    the authors' trainer has it off by default and for Moving MNIST, and on for KTH and other data
    sets. The others as in `Recurrent`, without patches. Raises ValueError for options that do not
    fit each other or the clip.
    """

    def __init__(
        self,
        clip: Clip,
        hidden: Sequence[int] = (32, 48, 48, 32),
        layers: int = 3,
        kernel: int = 5,
        order: int = 3,
        rank: int = 8,
        sampling_stop: float = 1.35,
        sigmoid: bool = False,
    ) -> None:
        for name, value in (("layers", layers), ("order", order), ("rank", rank)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected one or more")
        if sigmoid:
            check_unit_range(clip)
        super().__init__(clip, hidden, kernel, 1, sampling_stop)
        self.layers = layers
        self.sigmoid = sigmoid
        self.cells = nn.ModuleList()
        width = clip.channels
        for i, n in enumerate(hidden):
            widths = [width] + [n] * (layers - 1)
            self.cells.extend(ConvTTLSTMCell(n_in, n, kernel, order, rank) for n_in in widths)
            width = n + hidden[i - SKIP] if i >= SKIP else n
        self.output = nn.Conv2d(width, clip.channels, 1)

    def init_state(self, frame: Tensor) -> State:
        """Zeros, not mapped yet; h and c apart, as compilers cannot tell one tensor as two."""
        widths = [n for n in self.hidden for _ in range(self.layers)]
        return [(self.zeros(frame, n), self.zeros(frame, n), ()) for n in widths]

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Up the stack: each layer reads the new h of the layer below."""
        x = frame
        new: State = []
        for i, (cell, memory) in enumerate(zip(self.cells, state, strict=True)):
            new.append(cell(x, memory))
            x = new[i][0]
            below = i - SKIP * self.layers
            if below >= 0 and (i + 1) % self.layers == 0:  # the last layer of a block
                x = torch.cat([x, new[below][0]], dim=1)
        frame = self.output(x)
        return torch.sigmoid(frame) if self.sigmoid else frame, new

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Mean absolute plus mean squared error of the predictions of frames 2..N: a scalar."""
        predictions, target, _ = self.unroll_with_target(past, future)
        return F.l1_loss(predictions, target) + F.mse_loss(predictions, target)

    def forcing_probability(self) -> Tensor:
        """Probability of teacher forcing: 1 up to 2/27 of the stop, then linearly to 0."""
        return (27 / 25 * super().forcing_probability()).clamp(max=1)
