"""Forward values of the reference implementations, independent of gate and channel order.

With every weight constant, a wrong kernel, padding, bias, norm, shortcut or update equation moves
the values below, while the order in which gates or channels are stored does not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tau.predictor import Clip, Predictor

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
NORMS = (*BATCH_NORMS, nn.GroupNorm, nn.LayerNorm)


class Expected(NamedTuple):
    """The prediction's mean, population std, y[0,0,0,0], y[0,0,mid,mid], y[last,0,mid,mid]."""

    mean: float
    std: float
    corner: float
    middle: float
    last_middle: float


def set_constant_weights(model: nn.Module, **others: float) -> None:
    """Set weights of convolutions and linear layers to 0.5/fan_in, biases to 0.01, norms to 1, 0.

    `others` gives the value of every parameter outside such layers, by the last part of its name
    (layer scales, peepholes, ...). Raises KeyError for one that is not named.
    """
    for prefix, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            linear = isinstance(module, nn.Linear)
            outputs = module.out_features if linear else module.out_channels
            values = {"weight": 0.5 * outputs / module.weight.numel(), "bias": 0.01}
        elif isinstance(module, NORMS):
            values = {"weight": 1.0, "bias": 0.0}
            if isinstance(module, BATCH_NORMS):
                module.reset_running_stats()
        else:
            values = others
        for name, parameter in own.items():
            if name not in values:
                raise KeyError(f"no value for parameter {name!r} of {prefix or 'the model'}")
            nn.init.constant_(parameter, values[name])


def check_sequence(clip: Clip) -> Tensor:
    """x[t,c,y,x] = 0.5 + 0.5 sin(0.3t + 0.2x + 0.1y + 0.7c): [1, N, C, H, W], float64."""
    t, c, y, x = torch.meshgrid(
        *(torch.arange(n).double() for n in (clip.frames, clip.channels, clip.height, clip.width)),
        indexing="ij",
    )
    return (0.5 + 0.5 * torch.sin(0.3 * t + 0.2 * x + 0.1 * y + 0.7 * c))[None]


def check(
    model: Predictor, clip: Clip, expected: Expected, atol: float = 1e-7, **others: float
) -> None:
    """Assert that `model`, with constant weights, predicts what the reference does.

    Leaves the model in float64, in eval mode, with the constant weights. `others` as in
    `set_constant_weights`.
    """
    model.double().eval()
    set_constant_weights(model, **others)
    with torch.no_grad():
        y = model(check_sequence(clip)[:, : clip.past], clip.future)[0]
    assert y.shape == (clip.future, clip.channels, clip.height, clip.width)
    middle = (0, clip.height // 2, clip.width // 2)
    found = [y.mean(), y.std(correction=0), y[0, 0, 0, 0], y[0][middle], y[-1][middle]]
    for name, value, wanted in zip(Expected._fields, found, expected, strict=True):
        assert abs(value.item() - wanted) < atol, f"{name}: {value.item():.8f}, not {wanted:.8f}"
