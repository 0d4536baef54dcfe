"""Check values at random-looking weights: a rule fills the weights, in the order of their use."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from forward_check import BATCH_NORMS, CONVOLUTIONS, NORMS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tau.predictor import Clip

TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
Rule = Callable[[Tensor], Tensor]  # from the numbers r of a tensor to its values


class Statistics(NamedTuple):
    """Of an output y: sum, sum of squares, sum of (i mod 97) y_i, first and last element."""

    total: float
    squares: float
    weighted: float
    first: float
    last: float


def statistics(y: Tensor) -> Statistics:
    y = y.flatten()
    weights = torch.arange(len(y)) % 97
    values = y.sum(), y.square().sum(), (weights * y).sum(), y[0], y[-1]
    return Statistics(*(value.item() for value in values))


def numbers(n: int, shape: torch.Size) -> Tensor:
    """r of the n-th tensor, between -1/2 and 1/2, in float64."""
    j = torch.arange(shape.numel())
    return (((31 * j * j + 17 * j + 101 * n) % 1009).double() / 1008 - 0.5).reshape(shape)


def waves(batch: int, clip: Clip) -> Tensor:
    """Past frames x[b,t,c,y,x] = 0.5 + 0.5 sin(0.3t + 0.2x + 0.1y + 0.7c + 1.1b), in float64."""
    sizes = batch, clip.past, clip.channels, clip.height, clip.width
    b, t, c, y, x = torch.meshgrid(*(torch.arange(n).double() for n in sizes), indexing="ij")
    return 0.5 + 0.5 * torch.sin(0.3 * t + 0.2 * x + 0.1 * y + 0.7 * c + 1.1 * b)


def fill(model: nn.Module, forward: Callable[[], Any], **rules: Rule) -> int:
    """Fill the parameters in the order in which `forward` first uses them; returns their number.

    The model gets float64 and eval mode. Running means and variances of batch norms count, after
    the norm's own. `rules` has those of parameters outside of convolutions, linear layers and
    norms, by the last part of their names. A parameter that is not used, and one without a rule,
    fail.
    """
    model.double().eval()
    places = {}
    for module in model.modules():
        named = dict(module.named_parameters(recurse=False))
        if isinstance(module, BATCH_NORMS):
            named |= {name: module.get_buffer(name) for name in ("running_mean", "running_var")}
        places.update({id(tensor): (module, name, tensor) for name, tensor in named.items()})
    used = _Uses(set(places))
    with used, torch.no_grad():
        forward()
        order: dict[int, None] = {}
        for key in used.order:
            module = places[key][0]
            norm = isinstance(module, BATCH_NORMS)
            order |= dict.fromkeys([id(t) for t in _norm(module)] if norm else [key])
        assert order.keys() == places.keys(), "a parameter is never used"
        for n, key in enumerate(order, 1):
            module, name, tensor = places[key]
            tensor.copy_(_value(module, name, numbers(n, tensor.shape), rules))
    return len(order)


def _norm(module: nn.Module) -> list[Tensor]:
    parameters = [module.get_parameter(name) for name in ("weight", "bias")]
    return [*parameters, *(module.get_buffer(name) for name in ("running_mean", "running_var"))]


def _value(module: nn.Module, name: str, r: Tensor, rules: dict[str, Rule]) -> Tensor:
    if not isinstance(module, (nn.Linear, *CONVOLUTIONS, *NORMS)):
        return rules[name](r)
    if name in ("bias", "running_mean"):
        return 0.1 * r
    if isinstance(module, NORMS):
        return 1 + 0.2 * r
    fan = (r[:, 0] if isinstance(module, TRANSPOSED) else r[0]).numel()
    return 3 * r / math.sqrt(fan)


class _Uses(TorchFunctionMode):
    """Keeps the identities of those tensors that functions are called with, each once, in order."""

    def __init__(self, wanted: set[int]) -> None:
        super().__init__()
        self.wanted = wanted
        self.order: dict[int, None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        called = [id(value) for value in (*args, *(kwargs or {}).values())]
        self.order |= dict.fromkeys(key for key in called if key in self.wanted)
        return func(*args, **(kwargs or {}))
