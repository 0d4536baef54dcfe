"""What recurrent predictors share: patches, the loop over time, scheduled sampling, the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tau.predictor import Clip, Predictor, check_horizon

COMPILED = ("encode", "step")
STEPS = 125_000  # of OpenSTL's training on Moving MNIST: 200 epochs of 625 batches


class Recurrent(Predictor):
    """Predicts frame t+1 from frame t, step by step; after the past, from its own predictions.

    A subclass writes `init_state` (the state before the first frame) and `step`; both see frames
    folded into patches, [B, patch^2 C, H/patch, W/patch], or what its `encode` makes of these.
    No state is kept between calls.

    Training uses scheduled sampling (Bengio et al., NeurIPS 2015): a frame read after the past is
    the true one with the probability of teacher forcing, which falls linearly from 1 to 0 over the
    first `sampling_stop` of the training. `step_count` counts the training losses and is in the
    state dict; `begin_training` tells how many there will be, by default STEPS.

    hidden: width of each layer. kernel: its convolutions' odd size. sampling_stop: a fraction of
    the training; the published 50,000 losses (of which OpenSTL is one ahead) are 0.4 of OpenSTL's
    200 epochs of Moving MNIST. Raises ValueError for options
    that do not fit each other or the clip.
    """

    capturable = True

    step_count: Tensor

    def __init__(
        self, clip: Clip, hidden: Sequence[int], kernel: int, patch: int, sampling_stop: float
    ) -> None:
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden is {hidden!r}; expected a positive width for each layer")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; expected an odd size, which keeps H and W")
        if patch < 1 or clip.height % patch or clip.width % patch:
            raise ValueError(
                f"patch is {patch}; expected a divisor of the frame size {clip.height}x{clip.width}"
            )
        if not 0 < sampling_stop < math.inf:
            raise ValueError(
                f"sampling_stop is {sampling_stop}; expected a positive fraction of the training"
            )
        super().__init__(clip)
        self.hidden = tuple(hidden)
        self.patch = patch
        self.sampling_stop = sampling_stop
        self.begin_training(STEPS)
        self.register_buffer("step_count", torch.zeros((), dtype=torch.int64))

    def begin_training(self, steps: int) -> None:
        """Spread scheduled sampling over its fraction of so many training losses."""
        self.sampling_steps = self.sampling_stop * steps

    def encode(self, frames: Tensor) -> Tensor:
        """The paper's encoder, [N, C', H', W'] -> [N, ...]; without one, the frames themselves.

        All known frames are encoded at once, before the recurrence.
        """
        return frames

    def init_state(self, frame: Tensor) -> Any:
        """State before the first step; `frame`, encoded, gives batch, size and device."""
        raise NotImplementedError

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
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
        predictions, target, _ = self.unroll_with_target(past, future)
        return F.mse_loss(predictions, target)

    def unroll(self, frames: Tensor, steps: int, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        """Run `steps` steps: folded frames [B, K, ...] -> (predictions [B, steps, ...], state).

        Step t reads frame t while there is one, then the prediction of the step before. The
        ground-truth mask `mask` [B, K'] (bool) covers the last K' frames: where it is false, a
        sample reads its prediction of that frame instead. The frames before these are always read.
        Every step predicts, also those that read the past: published costs count them all.
        """
        given, dtype = frames.shape[1], frames.dtype
        known = given if mask is None else given - mask.shape[1]
        encoded = self.encode(torch.cat(frames[:, :known].unbind(1))).chunk(known)
        state = self.init_state(encoded[0].to(dtype))  # autocast lowers it
        predictions: list[Tensor] = []
        for t in range(steps):
            if t < known:
                x = encoded[t]
            else:
                frame = predictions[-1]
                if mask is not None and t < given:
                    truth = mask[:, t - known, None, None, None]
                    frame = torch.where(truth, frames[:, t], frame)
                x = self.encode(frame)
            frame, state = self.step(x, state)
            predictions.append(frame.to(dtype))
        return torch.stack(predictions, dim=1), state

    def unroll_with_target(self, past: Tensor, future: Tensor) -> tuple[Tensor, Tensor, Any]:
        """What a loss needs: predictions and true frames 2..N, folded, and the last state.

        Training uses scheduled sampling and advances `step_count`; in eval mode the model reads
        the past alone.
        """
        frames = fold_patches(torch.cat([past, future], dim=1), self.patch)
        steps = frames.shape[1] - 1
        if self.training:
            mask = self.draw_mask(len(past), past.shape[1], future.shape[1])
            predictions, state = self.unroll(frames[:, :-1], steps, mask)
            self.step_count += 1
        else:
            predictions, state = self.unroll(frames[:, : past.shape[1]], steps)
        return predictions, frames[:, 1:], state

    def draw_mask(self, batch: int, past: int, future: int) -> Tensor:
        """Draw the ground-truth mask of the future frames but the last, each by itself.

        [B, future - 1], true with probability `forcing_probability`. A subclass may also cover
        frames of the past, before the others, but not the first frame, which is always read.
        """
        drawn = torch.rand(batch, future - 1, device=self.step_count.device)
        return drawn < self.forcing_probability()

    def forcing_probability(self) -> Tensor:
        """Probability of teacher forcing at this `step_count`: a scalar tensor, without a sync."""
        return (1 - self.step_count / self.sampling_steps).clamp(min=0)

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
