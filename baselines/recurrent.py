"""What recurrent predictors share: patches, the loop over time, scheduled sampling, the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.winograd import filters_kept
from tau.predictor import Clip, Predictor, check_horizon

COMPILED = ("encode", "next_frame")


class Recurrent(Predictor):
    """Predicts frame t+1 from frame t, step by step; after the past, from its own predictions.

    A subclass writes `start` (the state before the first frame) and `next_frame` (one step); both
    see frames folded into patches, [B, patch^2 C, H/patch, W/patch], or what its `encode` makes of
    these. Nothing is kept between calls.

    In training, the frames fed after the past are true with probability eta, which falls linearly
    from 1 to 0 over the first `sampling_stop` training losses (scheduled sampling: Bengio et al.,
    NeurIPS 2015; 50,000 is the published setting, of which OpenSTL is one loss, or 2e-5, ahead).
    `step` counts them and is in the state dict.

    hidden: width of each layer. kernel: its convolutions' odd size. Raises ValueError for options
    that do not fit each other or the clip.
    """

    step: Tensor

    def __init__(
        self, clip: Clip, hidden: Sequence[int], kernel: int, patch: int, sampling_stop: int
    ) -> None:
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden is {hidden!r}; expected a positive width for each layer")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; expected an odd size, which keeps H and W")
        if patch < 1 or clip.height % patch or clip.width % patch:
            raise ValueError(
                f"patch is {patch}; expected a divisor of the frame size {clip.height}x{clip.width}"
            )
        if sampling_stop < 1:
            raise ValueError(f"sampling_stop is {sampling_stop}; expected one step or more")
        super().__init__(clip)
        self.hidden = tuple(hidden)
        self.patch = patch
        self.sampling_stop = sampling_stop
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def encode(self, frames: Tensor) -> Tensor:
        """What a step needs of a frame and owes nothing to the state; by default the frame itself.

        [N, C', H', W'] -> [N, ...]. All known frames are encoded at once, before the recurrence.
        """
        return frames

    def start(self, frame: Tensor) -> Any:
        """State before the first step; `frame`, encoded, tells batch, size and device."""
        raise NotImplementedError

    def next_frame(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step: (encoded frame t, state) -> (prediction of frame t+1, new state)."""
        raise NotImplementedError

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames after `past` [B, T, C, H, W]; T is free."""
        check_horizon(horizon)
        steps = past.shape[1] + horizon - 1
        predictions, _ = self.unroll(fold_patches(past, self.patch), steps)
        return unfold_patches(predictions[:, -horizon:], self.patch)

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Mean squared error of the predictions of frames 2..N, past ones included: a scalar."""
        predictions, target, _ = self.unroll_clip(past, future)
        return F.mse_loss(predictions, target)

    @filters_kept()
    def unroll(self, frames: Tensor, steps: int, shown: Tensor | None = None) -> tuple[Tensor, Any]:
        """Run `steps` steps: folded frames [B, K, ...] -> (predictions [B, steps, ...], state).

        Step t reads frame t while there is one, then the prediction of the step before. With
        `shown` [B, K'] (bool) a sample reads one of the last K' frames only where it is true; the
        frames before these are always read. Every step predicts, warm-up included: published costs
        count them all.
        """
        given, dtype = frames.shape[1], frames.dtype
        known = given if shown is None else given - shown.shape[1]
        encoded = self.encode(torch.cat(frames[:, :known].unbind(1))).chunk(known)
        state = self.start(encoded[0].to(dtype))  # autocast lowers it
        predictions: list[Tensor] = []
        for t in range(steps):
            if t < known:
                x = encoded[t]
            else:
                frame = predictions[-1]
                if shown is not None and t < given:
                    flag = shown[:, t - known, None, None, None]
                    frame = torch.where(flag, frames[:, t], frame)
                x = self.encode(frame)
            frame, state = self.next_frame(x, state)
            predictions.append(frame.to(dtype))
        return torch.stack(predictions, dim=1), state

    def unroll_clip(self, past: Tensor, future: Tensor) -> tuple[Tensor, Tensor, Any]:
        """What a loss needs: (predictions, true frames) 2..N, folded, and the last state.

        In training by scheduled sampling, and `step` advances; else the future is only compared.
        """
        frames = fold_patches(torch.cat([past, future], dim=1), self.patch)
        steps = frames.shape[1] - 1
        if self.training:
            shown = self.draw_shown(len(past), past.shape[1], future.shape[1])
            predictions, state = self.unroll(frames[:, :-1], steps, shown)
            self.step += 1
        else:
            predictions, state = self.unroll(frames[:, : past.shape[1]], steps)
        return predictions, frames[:, 1:], state

    def draw_shown(self, batch: int, past: int, future: int) -> Tensor:
        """Draw for each sample and frame of the future that is fed whether the truth is shown.

        [B, future - 1], true with probability eta. One that covers frames of the past as well
        returns them before the others; the first frame is always shown.
        """
        return torch.rand(batch, future - 1, device=self.step.device) < self.eta()

    def eta(self) -> Tensor:
        """Probability that a future frame is shown at this `step`: a scalar tensor, no sync."""
        return (1 - self.step / self.sampling_stop).clamp(min=0)

    def zeros(self, frame: Tensor, channels: int) -> Tensor:
        """A zero state of `channels` maps with the batch, size, dtype and device of `frame`."""
        return frame.new_zeros(len(frame), channels, *frame.shape[2:])

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile one step in place, with the arguments of torch.compile; the loop stays Python.

        Both `forward` and `loss` run the compiled step, and state dict keys do not change.
        """
        for name in COMPILED:
            if getattr(type(self), name) is not getattr(Recurrent, name):
                self.__dict__[name] = torch.compile(getattr(self, name), *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not compiled, as in nn.Module, instead of bound to the original's weights.
        return {name: value for name, value in self.__dict__.items() if name not in COMPILED}


def input_gates(cell: nn.Module, x: Tensor) -> Tensor:
    """What a cell's `conv_x` makes of its input x: all gates in one convolution."""
    conv = cell.conv_x
    assert isinstance(conv, nn.Conv2d)
    gates: Tensor = conv(x)
    return gates


def fold_patches(frames: Tensor, patch: int) -> Tensor:
    """[B, T, C, H, W] -> [B, T, patch^2 C, H/patch, W/patch].

    Channel order: row in the patch, column in the patch, image channel.
    """
    batch, time, channels, height, width = frames.shape
    rows, columns = height // patch, width // patch
    split = frames.reshape(batch, time, channels, rows, patch, columns, patch)
    return split.permute(0, 1, 4, 6, 2, 3, 5).reshape(batch, time, -1, rows, columns)


def unfold_patches(patches: Tensor, patch: int) -> Tensor:
    """Inverse of `fold_patches`: [B, T, patch^2 C, H', W'] -> [B, T, C, patch H', patch W']."""
    batch, time, _, rows, columns = patches.shape
    split = patches.reshape(batch, time, patch, patch, -1, rows, columns)
    return split.permute(0, 1, 4, 5, 2, 6, 3).reshape(
        batch, time, -1, rows * patch, columns * patch
    )
