"""The contract between data sets, predictors and the benchmark: Clip, Predictor, rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Clip:
    """The shape of a task: `past` frames are given, `future` frames are asked for.

    A frame is [channels, height, width]; `data_range` is the largest value minus the smallest
    (1.0 for frames in [0, 1]). Raises ValueError if a size is not a positive integer or
    `data_range` is not positive.

    Examples:
        >>> clip = Clip(past=4, future=6, channels=2, height=32, width=32)
        >>> past, future = clip.split(torch.zeros(8, 10, 2, 32, 32))
        >>> list(past.shape), list(future.shape)
        ([8, 4, 2, 32, 32], [8, 6, 2, 32, 32])
    """

    past: int = 10
    future: int = 10
    channels: int = 1
    height: int = 64
    width: int = 64
    data_range: float = 1.0

    def __post_init__(self) -> None:
        for name in ("past", "future", "channels", "height", "width"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"Clip.{name} is {value!r}; expected a positive integer")
        if not self.data_range > 0:
            raise ValueError(f"Clip.data_range is {self.data_range!r}; expected a positive number")

    @property
    def frames(self) -> int:
        """Frames of a whole sequence, past and future."""
        return self.past + self.future

    def split(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Whole sequences [B, past + future, C, H, W] -> (past, future), as views."""
        if clips.shape[1] != self.frames:
            raise ValueError(f"sequences have {clips.shape[1]} frames; expected {self.frames}")
        return clips[:, : self.past], clips[:, self.past :]


class Predictor(nn.Module):
    """Predicts frames: forward(past [B, T, C, H, W], horizon) -> [B, horizon, C, H, W].

    `forward` never sees the future; `loss` does, and returns the scalar to minimise. What a model
    needs besides (teacher forcing, extra loss terms) lives in its own `loss`.

    `capturable`: whether a CUDA graph may replay `loss` and its gradients in every training step,
    which saves launching its operations one by one. True promises that these are the same in each
    step: what changes, random numbers and counts of steps, is drawn and kept in tensors on the
    device, and no value of a tensor is read. A subclass of another package makes it itself, as its
    own code may keep less.
    """

    capturable: bool = False

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames that follow `past` [B, T, C, H, W]."""
        raise NotImplementedError

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        """Mean squared error of the prediction of `future` [B, T', C, H, W]: a scalar."""
        return F.mse_loss(self(past, future.shape[1]), future)

    def begin_training(self, steps: int) -> None:
        """Hear, before the first training loss, how many there will be.

        For schedules of a model's own (teacher forcing), whose length is a fraction of the
        training; a model without one ignores it, as here.
        """

    if TYPE_CHECKING:

        def __call__(self, past: Tensor, horizon: int) -> Tensor:
            """Forward."""


def check_horizon(horizon: int) -> None:
    """Raise ValueError if `horizon` is not a positive integer."""
    if not isinstance(horizon, int) or horizon < 1:
        raise ValueError(f"horizon is {horizon!r}; expected a positive integer")


def check_unit_range(clip: Clip) -> None:
    """Raise ValueError unless frames fit in [0, 1], where the predictions of some models end."""
    if clip.data_range > 1:
        raise ValueError(
            f"data_range is {clip.data_range}; this model's predictions stay in [0, 1], so scale "
            "frames to that range"
        )


def rollout(block: Callable[[Tensor], Tensor], past: Tensor, horizon: int) -> Tensor:
    """Make a fixed-block predictor answer any horizon: [B, T, C, H, W] -> [B, horizon, C, H, W].

    `block` maps the T newest frames to the next T. Blocks are fed back until `horizon` frames
    exist, and the last one is cut; gradients flow through every pass, as in SimVP and TAU.
    Raises ValueError if `horizon` is not a positive integer.

    Examples:
        >>> past = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1, 1)
        >>> rollout(lambda frames: 10 * frames, past, horizon=3).flatten().tolist()
        [10.0, 20.0, 100.0]
    """
    check_horizon(horizon)
    blocks = [block(past)]
    while sum(b.shape[1] for b in blocks) < horizon:
        blocks.append(block(torch.cat([past, *blocks], dim=1)[:, -past.shape[1] :]))
    if len(blocks) == 1:
        return blocks[0][:, :horizon]
    return torch.cat(blocks, dim=1)[:, :horizon]
