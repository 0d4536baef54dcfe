"""PredNet: deep predictive coding networks (Lotter, Kreiman, Cox; ICLR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tau.predictor import Clip, Predictor, check_horizon

Memory = tuple[Tensor, Tensor, Tensor]  # R, its cell, and E of a level
State = list[Memory]
Feedback = Literal["current", "previous"]


class ConvLSTMCell(nn.Module):
    """The update of R (Eq. 4): inputs [B, C_in, H, W], cell [B, C, H, W] -> R, cell [B, C, H, W].

    i, f, o = s(W * inputs), g = tanh(likewise); c' = f c + i g; R = o tanh(c'), where s is the hard
    sigmoid clamp(0.2 x + 0.5, 0, 1).
    """

    def __init__(self, channels_in: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 4 * channels, kernel, padding=kernel // 2)

    def forward(self, inputs: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        i, f, o, g = self.conv(inputs).chunk(4, dim=1)
        c = hard_sigmoid(f) * c + hard_sigmoid(i) * torch.tanh(g)
        r = hard_sigmoid(o) * torch.tanh(c)
        return r, c


def hard_sigmoid(x: Tensor) -> Tensor:
    """clamp(0.2 x + 0.5, 0, 1), as in the authors' code."""
    return (0.2 * x + 0.5).clamp(0, 1)


class Stack(nn.Module):
    """One step of all levels: (frame or None, state) -> (prediction of that frame, new state).

    The prediction is made before the frame is looked at, and stands in for it where that is None.
    `limit` is the largest value of a pixel. Per level: the cell of R, the convolution of its
    prediction A^, and, but for the top level, the one from its error E to the next level's input A.
    All biases start at zero.
    """

    def __init__(self, channels: Sequence[int], kernel: int, limit: float) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

        self.channels = tuple(channels)
        self.limit = limit
        pairs = list(pairwise(channels))
        self.cells = nn.ModuleList(
            ConvLSTMCell(3 * n + above, n, kernel) for n, above in [*pairs, (channels[-1], 0)]
        )
        self.predict = nn.ModuleList(conv(n, n) for n in channels)
        self.climb = nn.ModuleList(conv(2 * n, above) for n, above in pairs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.get_parameter("bias"))

    def init_state(self, frame: Tensor) -> State:
        """Zeros."""
        batch, _, height, width = frame.shape
        state = []
        for i, n in enumerate(self.channels):
            r, c, e = (frame.new_zeros(batch, m, height >> i, width >> i) for m in (n, n, 2 * n))
            state.append((r, c, e))
        return state

    def forward(self, frame: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Down the levels for R, then up for A^, E and A."""
        represented: list[tuple[Tensor, Tensor]] = []
        for cell, (r, c, e) in zip(reversed(self.cells), reversed(state), strict=True):
            inputs = [r, e]
            if represented:
                inputs.append(F.interpolate(represented[-1][0], scale_factor=2))
            represented.append(cell(torch.cat(inputs, dim=1), c))
        represented.reverse()

        predicted = [
            F.relu(conv(r)) for conv, (r, _) in zip(self.predict, represented, strict=True)
        ]
        prediction = predicted[0] = predicted[0].clamp(max=self.limit)
        actual = prediction if frame is None else frame
        errors = [difference(predicted[0], actual)]
        for conv, expected in zip(self.climb, predicted[1:], strict=True):
            actual = F.max_pool2d(F.relu(conv(errors[-1])), 2)
            errors.append(difference(expected, actual))
        return prediction, [(r, c, e) for (r, c), e in zip(represented, errors, strict=True)]


def difference(predicted: Tensor, actual: Tensor) -> Tensor:
    """E (Eq. 3): what was predicted and is not there, and the reverse, [B, 2 C, H, W]."""
    excess = predicted - actual
    return F.relu(torch.cat([excess, -excess], dim=1))


class PredNet(Predictor):
    """Levels that predict their input and pass up what they did not; the lowest predicts frames.

    The paper's: at each step, from the top level down, R_l = ConvLSTM(R_l, E_l, R_{l+1} at twice
    its size); then up, A^_l = ReLU(W * R_l), capped for frames at their largest value,
    E_l = [ReLU(A^_l - A_l), ReLU(A_l - A^_l)] and A_{l+1} = max-pool(ReLU(W * E_l)), where A_0 is
    the frame (Eqs. 1-4). The loss is L_0, on true frames alone and without frame 1, which nothing
    announces. As in the authors' code and in the port that published Moving MNIST numbers
    (OpenSTL v0.3.0), gates are clamp(0.2 x + 0.5, 0, 1) and biases start at zero; levels and widths
    are the port's (the paper's KITTI model has 3, 48, 96, 192).

    hidden: width of R and A in the levels above the frames', which has as many channels as they.
    feedback: what is A_0 after the past, which tells from the second predicted frame on. "current":
    the prediction of that frame, so that E_0 is zero, as the author describes it. "previous": the
    prediction of the frame before, as in both public codes, whose published numbers are so made.

    The defaults have 12.51 M parameters on Moving MNIST and cost 0.84 G MACs a frame,
    16.77 G for 10 -> 10 frames, as each frame takes a whole step. (The published 8.6 G are ten
    frames of three channels.) Frames lie in [0, clip.data_range]. Raises ValueError for options
    that do not fit the clip.
    """

    capturable = True

    def __init__(
        self,
        clip: Clip,
        hidden: Sequence[int] = (32, 64, 128, 256),
        kernel: int = 3,
        feedback: Feedback = "current",
    ) -> None:
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden is {hidden!r}; expected a positive width for each level")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; expected an odd size, which keeps H and W")
        factor = 2 ** len(hidden)
        if clip.height % factor or clip.width % factor:
            raise ValueError(
                f"frames are {clip.height}x{clip.width}; {len(hidden)} levels above them need "
                f"sizes divisible by {factor}"
            )
        if feedback not in get_args(Feedback):
            raise ValueError(
                f"feedback is {feedback!r}; expected one of {', '.join(get_args(Feedback))}"
            )
        super().__init__(clip)
        self.feedback = feedback
        self.stack = Stack((clip.channels, *hidden), kernel, clip.data_range)

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W]; T is free."""
        check_horizon(horizon)
        return self.unroll(past, past.shape[1] + horizon)[:, -horizon:]

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """L_0: mean E of the frames' level over frames 2..N, each after the true ones: a scalar."""
        frames = torch.cat([past, future], dim=1)
        predictions = self.unroll(frames, frames.shape[1])
        return F.l1_loss(predictions[:, 1:], frames[:, 1:]) / 2

    def unroll(self, frames: Tensor, steps: int) -> Tensor:
        """Predictions [B, steps, C, H, W] of frame 0 and on, each made before its frame is read."""
        state = self.stack.init_state(frames[:, 0])
        predictions: list[Tensor] = []
        for t in range(steps):
            frame: Tensor | None = None
            if t < frames.shape[1]:
                frame = frames[:, t].contiguous()
            elif self.feedback == "previous":
                frame = predictions[-1]
            prediction, state = self.stack(frame, state)
            predictions.append(prediction.to(frames.dtype))  # autocast lowers it
        return torch.stack(predictions, dim=1)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile one step in place, with the arguments of torch.compile; the loop stays Python."""
        self.stack.compile(*args, **kwargs)
