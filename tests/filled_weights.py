"""Weights and inputs by formula, and sums of the output, in the order in which weights are used.

Other implementations of the same equations, filled the same way, give the same sums: a check of
every weight's role, whatever the modules are called and in which order they are made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from forward_check import BATCH_NORMS, CONVOLUTIONS, NORMS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tau.predictor import Clip, Predictor

TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


class Sums(NamedTuple):
    """The sums of y, y^2 and (i mod 97) y_i over the flat output, and its first and last number."""

    plain: float
    squares: float
    weighted: float
    first: float
    last: float


class _FirstUse(TorchFunctionMode):
    """Collects the known tensors that torch's functions are given, in the order of first use."""

    def __init__(self, known: Mapping[int, tuple[nn.Module, str]]) -> None:
        super().__init__()
        self.known, self.used = known, dict[int, None]()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for argument in (*args, *(kwargs or {}).values()):
            if isinstance(argument, Tensor) and id(argument) in self.known:
                self.used[id(argument)] = None
        return function(*args, **(kwargs or {}))


def fill(model: Predictor, past: Tensor, horizon: int, scales: float = 0.5) -> int:
    """Fill a model by formula and return the number of tensors; leaves it in float64, eval mode.

    Tensor n = 1, 2, ... in the order of first use, a layer's weight before its bias, batch norm's
    mean and variance after them. With flat index j, r = ((31 j^2 + 17 j + 101 n) mod 1009) / 1008
    - 1/2: weights are 3 r / sqrt(fan in), biases and means 0.1 r, a norm's weights and variances
    1 + 0.2 r, tables of relative positions r, and every other parameter is `scales` + 0.2 r.
    """
    model.double().eval()
    owners = {
        id(tensor): (module, name)
        for module in model.modules()
        for name, tensor in (
            *module.named_parameters(recurse=False),
            *(module.named_buffers(recurse=False) if isinstance(module, BATCH_NORMS) else ()),
        )
    }
    with torch.no_grad(), _FirstUse(owners) as seen:
        model(past, horizon)
    done: dict[int, Tensor] = {}
    for key in seen.used:
        module, name = owners[key]
        whole = isinstance(module, (*CONVOLUTIONS, nn.Linear, *NORMS))
        order = ("weight", "bias", "running_mean", "running_var") if whole else (name,)
        for part in order:
            tensor = getattr(module, part, None)
            if tensor is not None and id(tensor) not in done:
                done[id(tensor)] = tensor
                tensor.data = _values(len(done), module, part, tensor, scales)
    assert {id(p) for p in model.parameters()} <= done.keys(), "a parameter is not used"
    return len(done)


def _values(n: int, module: nn.Module, name: str, tensor: Tensor, scales: float) -> Tensor:
    j = torch.arange(tensor.numel())
    r = ((31 * j**2 + 17 * j + 101 * n) % 1009).double() / 1008 - 0.5
    r = r.reshape(tensor.shape)
    if name in ("bias", "running_mean"):
        return 0.1 * r
    if isinstance(module, NORMS):
        return 1 + 0.2 * r
    if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
        outputs = tensor.shape[1] if isinstance(module, TRANSPOSED) else tensor.shape[0]
        return 3 * r / math.sqrt(tensor.numel() / outputs)
    return r if name == "table" else scales + 0.2 * r


def wave(clip: Clip, batch: int = 2) -> Tensor:
    """Past frames 0.5 + 0.5 sin(0.3t + 0.2x + 0.1y + 0.7c + 1.1b): [B, T, C, H, W], float64."""
    sizes = (batch, clip.past, clip.channels, clip.height, clip.width)
    b, t, c, y, x = torch.meshgrid(*(torch.arange(n).double() for n in sizes), indexing="ij")
    return 0.5 + 0.5 * torch.sin(0.3 * t + 0.2 * x + 0.1 * y + 0.7 * c + 1.1 * b)


def sums(y: Tensor) -> Sums:
    """The sums of a prediction."""
    flat = y.flatten()
    weights = torch.arange(len(flat)) % 97
    found = (flat.sum(), flat.square().sum(), (weights * flat).sum(), flat[0], flat[-1])
    return Sums(*(value.item() for value in found))
