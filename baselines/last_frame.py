"""The persistence baseline of every table: the last observed frame, repeated."""

from __future__ import annotations

from torch import Tensor

from tau.predictor import Predictor, check_horizon


class LastFrame(Predictor):
    """Repeats the last past frame `horizon` times. No parameters, nothing to train."""

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        """[B, T, C, H, W] -> [B, horizon, C, H, W]."""
        check_horizon(horizon)
        return past[:, -1:].expand(-1, horizon, -1, -1, -1)
