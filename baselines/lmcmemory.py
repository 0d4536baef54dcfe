"""Video Prediction Recalling Long-term Motion Context (Lee, Kim, Choi, Kim, Ro; CVPR 2021)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.recurrent import STEPS
from tau.predictor import Clip, Predictor, check_horizon, check_unit_range

State = list[tuple[Tensor, Tensor]]  # (h, c) of each layer


class ConvLSTMCell(nn.Module):
    """One layer without peepholes: x, h and c [B, C, H, W] -> new h and c.

    i, f, o = sigmoid(W_x * x + W_h * h), g = tanh(likewise); c' = f c + i g; h' = o tanh(c').
    `conv_x` is W_x.
    """

    def __init__(self, conv_x: nn.Conv2d, channels: int) -> None:
        super().__init__()
        self.conv_x = conv_x
        self.conv_h = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        i, f, o, g = (self.conv_x(x) + self.conv_h(h)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class MotionEncoder(nn.Module):
    """Motion at each place of a sequence: [B, T, C, H, W] -> [B, C', H / 2^n, W / 2^n], n widths.

    3-D convolutions on the T - 1 differences of frames; each width ends with a maximum over 2 x 2
    pixels and, from the second on, over 2 frames while there are as many. Then the mean over time.
    The first two widths have one convolution each, the others two.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for i, (n_in, n) in enumerate(pairwise((channels, *widths))):
            layers: list[nn.Module] = [nn.Conv3d(n_in, n, 3, padding=1), nn.ReLU()]
            if i > 1:
                layers += [nn.Conv3d(n, n, 3, padding=1), nn.ReLU()]
            self.stages.append(nn.Sequential(*layers))

    def forward(self, frames: Tensor) -> Tensor:
        """Encode."""
        x = frames.diff(dim=1).transpose(1, 2)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            x = F.max_pool3d(x, (min(2, x.shape[2]) if i else 1, 2, 2))
        return x.mean(2)


class LMCMemory(Predictor):
    """ConvLSTM layers between a frame encoder and decoder, helped by a memory of long-term motion.

    Once for each sequence, the motion at each place of the past recalls a mixture of memory slots,
    by softmax of cosine similarity; it is decoded to the size of h and, weighed for each channel by
    a gate, joins the top layer's h in the frame decoder. Predictions are fed back; no frame of the
    past is predicted and there is no teacher forcing.

    Memory alignment, in `loss`: a *long* sequence, which reaches into the future, is encoded by an
    encoder of its own and recalls from slots that learn (storing); the past recalls from the same
    slots, held fixed (matching). Both predict the same frames from the same past. The two encoders
    start equal, and a long sequence starts at the same frame in all sequences of a batch, as in the
    authors' code. That code takes two optimiser steps, one for each; here it is one step on the
    sum, so that the state after the past is computed once for both.

    The defaults are the published Moving MNIST size: 33.91 M parameters, of which the storing
    encoder's 13.50 M serve training only; 32.30 G MACs for 10 -> 10 frames, 61.02 for
    10 -> 30. The frames of the past are encoded at once.

    hidden: width of the layers, half of it at the first resolution; even. layers: how many.
    motion: widths of the motion encoders, three or more; each halves the frame, so its sides must
    be divisible by 2^len(motion). slots: of the memory, each motion[-1] wide. bounded: end with a
    sigmoid, as published for KTH. short_stop: over this first fraction of the training,
    by default 5,000 losses of 200 epochs of Moving MNIST, no more frames are predicted in training
    than are given. Raises ValueError for options that do not fit, and for a past of one frame,
    which has no motion.
    """

    step_count: Tensor

    def __init__(
        self,
        clip: Clip,
        hidden: int = 128,
        layers: int = 4,
        motion: Sequence[int] = (64, 128, 256, 512),
        slots: int = 100,
        bounded: bool = False,
        short_stop: float = 0.04,
    ) -> None:
        if hidden < 2 or hidden % 2:
            raise ValueError(f"hidden is {hidden}; expected a positive even width")
        if layers < 1 or slots < 1:
            raise ValueError(f"layers is {layers}, slots is {slots}; expected 1 or more of each")
        if len(motion) < 3 or min(motion) < 1:
            raise ValueError(f"motion is {motion!r}; expected three positive widths or more")
        if clip.height % 2 ** len(motion) or clip.width % 2 ** len(motion):
            raise ValueError(
                f"frames of {clip.height}x{clip.width} cannot be halved {len(motion)} times; "
                "give fewer widths in motion"
            )
        if not 0 <= short_stop < math.inf:
            raise ValueError(
                f"short_stop is {short_stop}; expected a fraction of the training, 0 or more"
            )
        check_motion(clip.past)
        if bounded:
            check_unit_range(clip)
        super().__init__(clip)
        self.capturable = clip.future <= clip.past  # `training_horizon` reads a tensor's value
        half, channels = hidden // 2, clip.channels
        self.short_stop = short_stop
        self.begin_training(STEPS)
        self.encoder = nn.Sequential(
            *(nn.Conv2d(channels, half, 3, stride=2, padding=1), nn.ELU()),
            *(nn.Conv2d(half, half, 3, padding=1), nn.ELU()),
            *(nn.Conv2d(half, hidden, 3, stride=2, padding=1), nn.ELU()),
            *(nn.Conv2d(hidden, hidden, 3, padding=1), nn.ELU()),
        )
        # all W_x are drawn before the first W_h, which fixes the weights that a seed gives
        convs_x = [nn.Conv2d(hidden, 4 * hidden, 3, padding=1) for _ in range(layers)]
        self.cells = nn.ModuleList(ConvLSTMCell(conv_x, hidden) for conv_x in convs_x)
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose2d(2 * hidden, hidden, 3, padding=1), nn.ELU()),
            *(double(hidden, half), nn.ELU()),
            *(nn.ConvTranspose2d(half, half, 3, padding=1), nn.ELU()),
            double(half, channels),
            nn.Sigmoid() if bounded else nn.Identity(),
        )
        squeezed = max(hidden // 8, 1)
        self.gate = nn.Sequential(
            *(nn.Linear(2 * hidden, squeezed), nn.ReLU()),
            *(nn.Linear(squeezed, hidden), nn.Sigmoid()),
        )
        self.matching_encoder = MotionEncoder(channels, motion)
        self.storing_encoder = copy.deepcopy(self.matching_encoder)
        self.slots = nn.Parameter(torch.randn(slots, motion[-1]))
        widths = (*reversed(motion[2:]), hidden)  # from 1 / 2^n of the frame to a quarter
        self.context = nn.Sequential(
            *(layer for n_in, n in pairwise(widths) for layer in (double(n_in, n), nn.ReLU()))
        )
        self.register_buffer("step_count", torch.zeros((), dtype=torch.int64))

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W]; T is free from 2 on."""
        check_horizon(horizon)
        check_motion(past.shape[1])
        context = self.recall(self.matching_encoder(past), self.slots)
        return self.predict(self.observe(past), context, horizon)

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Mean squared plus mean absolute error of the future; in training, storing + matching."""
        if not self.training:
            return error(self(past, future.shape[1]), future)
        check_motion(past.shape[1])
        future = future[:, : self.training_horizon(past.shape[1], future.shape[1])]
        stored = self.recall(self.storing_encoder(self.long_sequence(past, future)), self.slots)
        matched = self.recall(self.matching_encoder(past), self.slots.detach())
        state = [(torch.cat([h, h]), torch.cat([c, c])) for h, c in self.observe(past)]
        predictions = self.predict(state, torch.cat([stored, matched]), future.shape[1])
        self.step_count += 1
        storing, matching = predictions.chunk(2)
        return error(storing, future) + error(matching, future)

    def begin_training(self, steps: int) -> None:
        """Set the short beginning to its fraction of so many training losses."""
        self.short_steps = self.short_stop * steps

    def training_horizon(self, past: int, future: int) -> int:
        """Frames to predict in training at this `step_count`: all, or at first as many as given."""
        if future <= past:  # spares reading `step_count`, which waits for a GPU
            return future
        return past if int(self.step_count) < self.short_steps else future

    def long_sequence(self, past: Tensor, future: Tensor) -> Tensor:
        """Part of past and future, of the longer of both pasts and the future's frames.

        That is all of 10 + 10 frames, 30 of 10 + 30 and 40 of 10 + 40, as published; it starts
        anywhere, drawn once for the whole batch.
        """
        frames = torch.cat([past, future], dim=1)
        total = frames.shape[1]
        length = min(total, max(2 * past.shape[1], future.shape[1]))
        start = torch.randint(total - length + 1, (1,), device=frames.device)
        return frames[:, start + torch.arange(length, device=frames.device)]

    def recall(self, motion: Tensor, slots: Tensor) -> Tensor:
        """Motion at each place recalls from slots: [B, C', H', W'] -> context [B, C, H/4, W/4]."""
        query = F.normalize(motion, dim=1).flatten(2).mT
        weights = torch.softmax(query @ F.normalize(slots, dim=1).mT, dim=-1)
        context: Tensor = self.context((weights @ slots).mT.unflatten(2, motion.shape[2:]))
        return context

    def observe(self, past: Tensor) -> State:
        """State after the past [B, T, C, H, W], from zeros."""
        features = self.encoder(past.transpose(0, 1).flatten(0, 1)).split(len(past))
        shape = features[0].shape
        state = [(past.new_zeros(shape), past.new_zeros(shape)) for _ in self.cells]
        for x in features:
            # not a view: a compiled cell is compiled anew for each place in a tensor
            state = self.step(x.clone(), state)
        return state

    def step(self, x: Tensor, state: State) -> State:
        """Up the stack with an encoded frame: each layer reads the new h of the layer below."""
        new = []
        for cell, (h, c) in zip(self.cells, state, strict=True):
            x, c = cell(x, h, c)
            new.append((x, c))
        return new

    def predict(self, state: State, context: Tensor, horizon: int) -> Tensor:
        """Decode a frame, feed it back, and so on: [B, horizon, C, H, W]."""
        frames = [self.decode(state[-1], context)]
        while len(frames) < horizon:
            state = self.step(self.encoder(frames[-1]), state)
            frames.append(self.decode(state[-1], context))
        return torch.stack(frames, dim=1)

    def decode(self, top: tuple[Tensor, Tensor], context: Tensor) -> Tensor:
        """A frame from the top layer's h and the context, gated by the means of c and context."""
        h, c = top
        means = F.adaptive_avg_pool2d(torch.cat([c, context], dim=1), 1).flatten(1)
        gated = self.gate(means)[..., None, None] * context
        frame: Tensor = self.decoder(torch.cat([h, gated], dim=1))
        return frame.to(c.dtype)  # autocast lowers it

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the cells in place, with the arguments of torch.compile; the loop stays Python.

        Both `forward` and `loss` run the compiled cells, and state dict keys do not change.
        """
        for cell in self.cells:
            cell.compile(*args, **kwargs)


def double(channels_in: int, channels: int) -> nn.ConvTranspose2d:
    """3 x 3 transposed convolution to twice the height and width."""
    return nn.ConvTranspose2d(channels_in, channels, 3, stride=2, padding=1, output_padding=1)


def error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared plus mean absolute error: a scalar."""
    return F.mse_loss(prediction, target) + F.l1_loss(prediction, target)


def check_motion(past: int) -> None:
    """Raise ValueError unless so many past frames show motion: two or more."""
    if past < 2:
        raise ValueError(
            f"past is {past} frame; LMC-Memory recalls by the motion between past frames and needs "
            "two or more"
        )
