"""LPIPS, the distance of two frames in the features of AlexNet, with weights from a user's file.

Zhang et al. 2018, Eq. 1, in version 0.1: features of AlexNet's five stages, each of unit length
over its channels; their squared differences, weighted by channel and averaged over space, are added
up. The weights are trained ones, without which the number means nothing: there is neither a default
nor a download.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.files import sha256
from benchmarks.metrics import Metric, by_tiles

NAME = "lpips"
REMEDY = "docs/metrics.md has the lines that make the file"
SMALLEST = 31  # sides that leave the second pooling of AlexNet a window of 3x3
# Of colours in [-1, 1], in the order red, green, blue, as AlexNet was trained on.
MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-10  # added to a feature's length


class Stage(NamedTuple):
    """A convolution of AlexNet with its ReLU, by its number in torchvision's `features`."""

    number: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    pools: bool  # before it, over 3x3 pixels in steps of 2


STAGES = (
    Stage(0, 3, 64, 11, 4, 2, False),
    Stage(3, 64, 192, 5, 1, 2, True),
    Stage(6, 192, 384, 3, 1, 1, True),
    Stage(8, 384, 256, 3, 1, 1, False),
    Stage(10, 256, 256, 3, 1, 1, False),
)


def shapes() -> dict[str, tuple[int, ...]]:
    """What a file of weights holds: names as torchvision and the package lpips have them."""
    found: dict[str, tuple[int, ...]] = {}
    for index, stage in enumerate(STAGES):
        name = f"features.{stage.number}"
        found[f"{name}.weight"] = (stage.outputs, stage.inputs, stage.kernel, stage.kernel)
        found[f"{name}.bias"] = (stage.outputs,)
        found[f"lin{index}.model.1.weight"] = (1, stage.outputs, 1, 1)
    return found


@dataclass(frozen=True)
class LPIPS:
    """Scores frames with the weights in `path`, whose SHA-256 is `digest`: a value that travels.

    Called as (pred, true, data_range) -> [B, T], 0 for equal frames. Frames are gray, repeated to
    three channels, or red, green and blue in this order. Raises ValueError for other channels,
    frames below 31x31 pixels, and a file that has changed.
    """

    path: Path
    digest: str

    def __call__(self, pred: Tensor, true: Tensor, data_range: float) -> Tensor:
        """Score frames: [B, T, C, H, W] -> [B, T]."""
        return by_tiles(
            lambda p, t: self._score(p, t, data_range), pred, true, data_range, chunk=None
        )

    def _score(self, pred: Tensor, true: Tensor, data_range: float) -> Tensor:
        weights = _weights(self.path, self.digest, pred.device)
        features = (_features(x.flatten(0, 1), data_range, weights) for x in (pred, true))
        score = torch.zeros(pred.shape[0] * pred.shape[1], dtype=torch.float64, device=pred.device)
        for index, (x, y) in enumerate(zip(*features, strict=True)):
            head = weights[f"lin{index}.model.1.weight"]
            score += ((x - y).square() * head).sum(1).mean((-2, -1))
        has_nan = pred.isnan().flatten(2).any(2)  # also where no window reaches
        return score.view(pred.shape[:2]).masked_fill(has_nan, torch.nan)


def _features(frames: Tensor, data_range: float, weights: dict[str, Tensor]) -> Iterator[Tensor]:
    """Features of each stage, of length 1 over the channels: [N, C, H, W] -> [N, c, h, w] each."""
    channels, height, width = frames.shape[1:]
    if channels not in (1, 3):
        raise ValueError(
            f"frames have {channels} channels; {NAME} takes 1 or 3: leave it out for these data"
        )
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"frames are {height}x{width} pixels; {NAME} needs {SMALLEST}x{SMALLEST} or more, for "
            "AlexNet's windows: leave it out, or take larger frames"
        )
    x = frames.double().expand(-1, 3, -1, -1) * (2 / data_range) - 1
    mean, std = (x.new_tensor(of).view(-1, 1, 1) for of in (MEAN, STD))
    x = (x - mean) / std
    for stage in STAGES:
        if stage.pools:
            x = F.max_pool2d(x, 3, 2)
        weight, bias = (weights[f"features.{stage.number}.{of}"] for of in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, stage.stride, stage.padding).relu()
        yield x / (x.square().sum(1, keepdim=True).sqrt() + EPSILON)


@lru_cache(maxsize=2)
def _weights(path: Path, digest: str, device: torch.device) -> dict[str, Tensor]:
    """The weights in a file, in float64; ValueError for another digest, or if one is missing."""
    if sha256(path) != digest:
        raise ValueError(f"{path} has changed since the command began; start it again")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read as weights of {NAME} ({type(error).__name__}); {REMEDY}"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}; expected a state dict: {REMEDY}")
    for name, shape in shapes().items():
        value = state.get(name)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            found = "is missing" if value is None else f"is {getattr(value, 'shape', type(value))}"
            raise ValueError(f"{path}: {name} {found}; expected a tensor {shape}: {REMEDY}")
    return {name: state[name].detach().to(device, torch.float64) for name in shapes()}


def with_weights(path: Path) -> Metric:
    """LPIPS with the weights in a file, which is read and checked now.

    Raises FileNotFoundError if it is missing, ValueError if it does not hold what `shapes` says.
    """
    path = path.resolve()  # a row may change its process's folder
    digest = sha256(path)
    _weights(path, digest, torch.device("cpu"))
    return column(digest, LPIPS(path, digest))


def column(digest: str, function: Callable[[Tensor, Tensor, float], Tensor]) -> Metric:
    """LPIPS as a column; `digest` is that of its weights."""
    return Metric(
        name=NAME,
        heading="LPIPS",
        better="lower",
        digits=4,
        function=function,
        convention=f"LPIPS 0.1, AlexNet; weights of SHA-256 {digest[:12]}",
        digest=digest,
    )
