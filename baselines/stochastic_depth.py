"""Stochastic depth (Huang et al., ECCV 2016), which transformers of several papers share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """In training, leaves x [N, ...] out for each of the N with probability `rate`.

    What is kept is divided by 1 - rate. In eval mode x passes as it is.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Draw, and leave out or scale."""
        return x * kept(x, self.rate) if self.training and self.rate > 0 else x


def kept(x: Tensor, rate: float | Tensor) -> Tensor:
    """Drawn for each of x's N: 0 with probability `rate`, else 1 / (1 - rate): [N, 1, ...]."""
    drawn = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device)
    return (drawn >= rate) / (1 - rate)


def check_rate(name: str, rate: float) -> None:
    """Raise ValueError unless a rate of dropping lies in [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} is {rate}; expected 0 <= {name} < 1")
