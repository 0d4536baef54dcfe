"""Differential divergence regularisation (TAU, Sec. 3.4, Eq. 3-6)."""

from __future__ import annotations

import torch
from torch import Tensor


def differential_divergence(pred: Tensor, true: Tensor, temperature: float = 0.1) -> Tensor:
    """KL divergence between the frame-to-frame changes of prediction and truth: a scalar.

    pred, true: [B, T', C, H, W]. Eq. 3-5: forward differences in time, softmax(difference /
    temperature) over channel, height and width of each step, KL(pred || true).

    Reduction, as released: the mean over batch, T'-1 steps and C*H*W elements of p log(p/q).
    Added to the element-mean squared error with weight alpha = 0.1, it weighs alpha T'/(T'-1) on
    the scale of Eq. 6 (summed squared error plus summed divergence, weight 1): 0.111 for 10
    frames, 0.133 for 4, 0.105 for 20. Zero where T' <= 2, also as released. Nothing is detached.

    Computed in log space: exactly zero for equal inputs, finite gradients at any difference. The
    release has p log(p / (q + 1e-12) + 1e-12), which differs by about 1e-4 of the value on frames
    in [0, 1], and greatly on changes far beyond 1 (docs/deviations.md). Half precision is raised to
    float32. Raises ValueError if shapes differ.

    Examples:
        >>> true = torch.linspace(0, 1, 12).reshape(1, 3, 1, 2, 2).square()
        >>> differential_divergence(true, true).item()
        0.0
        >>> abs(differential_divergence(true + 1, true).item()) < 1e-6  # levels do not count
        True
        >>> differential_divergence(true.flip(1), true).item() > 0
        True
    """
    if pred.shape != true.shape:
        raise ValueError(f"pred is {tuple(pred.shape)}, true is {tuple(true.shape)}; equal needed")
    if pred.shape[1] <= 2:
        return pred.new_zeros(())
    log_p = _log_softmax_of_changes(pred, temperature)
    log_q = _log_softmax_of_changes(true, temperature)
    return (log_p.exp() * (log_p - log_q)).mean()


def _log_softmax_of_changes(frames: Tensor, temperature: float) -> Tensor:
    dtype = torch.promote_types(frames.dtype, torch.float32)
    changes = torch.diff(frames.to(dtype), dim=1).flatten(2)
    return torch.log_softmax(changes / temperature, dim=2)
