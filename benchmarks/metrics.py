"""Scores of predicted frames, one number per sequence and frame: [B, T, C, H, W] -> [B, T].

A metric's name fixes its convention. Frames lie in [0, data_range]; predictions are clipped to it
before the SSIM and PSNR kinds, not before MSE and MAE. Scores are computed in float64 and returned
in float32, or in float64 for float64 frames. Metal (MPS) has no float64: its frames are scored on
the CPU. A NaN in a predicted frame makes that frame's score NaN. No gradients flow.

`chunk` is the number of frames scored at once. It bounds memory and does not change a score; by
default intermediate results fit the cache of a CPU, or about 0.5 GB of a GPU.

Every function raises ValueError if `pred` and `true` differ in shape, dtype or device or are not
non-empty 5-D floating tensors, or if `chunk` is not a positive integer. Those that take a
`data_range` raise it if that is not positive and finite or if `true` exceeds [0, data_range].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

WINDOW = 7
FRAME = (-3, -2, -1)  # channel, height, width


def mse(pred: Tensor, true: Tensor, *, chunk: int | None = None) -> Tensor:
    """Squared error summed over a frame's channels and pixels: [B, T], in squared data units.

    Examples:
        >>> true = torch.zeros(1, 2, 1, 8, 8)
        >>> mse(true + 0.5, true).tolist()  # 64 pixels, each off by 0.5
        [[16.0, 16.0]]
    """
    return by_tiles(
        lambda p, t: (p.double() - t.double()).square().sum(FRAME), pred, true, chunk=chunk
    )


def mae(pred: Tensor, true: Tensor, *, chunk: int | None = None) -> Tensor:
    """Absolute error summed over a frame's channels and pixels: [B, T], in data units.

    Examples:
        >>> true = torch.zeros(1, 2, 1, 8, 8)
        >>> mae(true + 0.5, true).tolist()  # 64 pixels, each off by 0.5
        [[32.0, 32.0]]
    """
    return by_tiles(
        lambda p, t: (p.double() - t.double()).abs().sum(FRAME), pred, true, chunk=chunk
    )


def ssim(pred: Tensor, true: Tensor, data_range: float, *, chunk: int | None = None) -> Tensor:
    """Structural similarity with scikit-image's defaults: [B, T], 1 for equal frames.

    Wang et al. 2004, Eq. 13, with a uniform 7x7 window, sample covariance, K1 = 0.01, K2 = 0.03;
    averaged over the windows that lie inside the frame, then over channels. Raises ValueError for
    frames smaller than the window.

    Examples:
        >>> true = torch.linspace(0, 1, 64).reshape(1, 1, 1, 8, 8)
        >>> round(ssim(true, true, data_range=1.0).item(), 3)
        1.0
        >>> round(ssim(true / 2, true, data_range=1.0).item(), 3)
        0.642
    """
    return by_tiles(lambda p, t: _ssim(p, t, data_range), pred, true, data_range, chunk=chunk)


def ssim_range2(
    pred: Tensor, true: Tensor, data_range: float, *, chunk: int | None = None
) -> Tensor:
    """`ssim` computed as if the data spanned twice its range: [B, T]; not comparable with `ssim`.

    scikit-image before 0.20 inferred a range of 2 for floating frames in [0, 1]; the numbers
    published with SimVP and OpenSTL contain it.

    Examples:
        >>> black = torch.zeros(1, 1, 1, 8, 8)
        >>> round(ssim(black + 0.02, black, data_range=1.0).item(), 3)
        0.2
        >>> round(ssim_range2(black + 0.02, black, data_range=1.0).item(), 3)
        0.5
    """
    return by_tiles(lambda p, t: _ssim(p, t, 2 * data_range), pred, true, data_range, chunk=chunk)


def ssim_uint8(
    pred: Tensor, true: Tensor, data_range: float, *, chunk: int | None = None
) -> Tensor:
    """`ssim` of frames scaled to [0, 255] and truncated to integers, as in PredRNN's code: [B, T].

    Truncation removes noise below 1/255 of the range from a black background.

    Examples:
        >>> black = torch.zeros(1, 1, 1, 8, 8)
        >>> round(ssim_uint8(black + 0.003, black, data_range=1.0).item(), 3)  # less than 1/255
        1.0
    """
    return by_tiles(
        lambda p, t: _ssim(_levels(p, data_range), _levels(t, data_range), 255),
        pred,
        true,
        data_range,
        chunk=chunk,
    )


def psnr(pred: Tensor, true: Tensor, data_range: float, *, chunk: int | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each frame, channels pooled: [B, T] in dB.

    10 log10(data_range^2 / mean squared error); infinite where the frames are equal.

    Examples:
        >>> true = torch.zeros(1, 1, 1, 8, 8)
        >>> round(psnr(true + 0.1, true, data_range=1.0).item(), 2)
        20.0
        >>> round(psnr(true + 0.1, true, data_range=255.0).item(), 2)  # another range
        68.13
    """
    return by_tiles(
        lambda p, t: _decibels((p.double() - t.double()).square(), data_range),
        pred,
        true,
        data_range,
        chunk=chunk,
    )


def psnr_uint8_wrap(
    pred: Tensor, true: Tensor, data_range: float, *, chunk: int | None = None
) -> Tensor:
    """PSNR as SimVP and TAU print it, from 8-bit arithmetic that overflows: [B, T] in dB.

    Frames are scaled to [0, 255] and truncated; difference and square wrap modulo 256, so a
    difference of 16 counts as none. At least 24.17 dB, whatever is predicted; infinite where every
    wrapped square is 0. Only for standing beside numbers published in this convention.

    Examples:
        >>> true = torch.zeros(1, 1, 1, 8, 8)
        >>> pred = torch.full_like(true, 16.5 / 255)  # 16 levels off, and 16 * 16 = 256 wraps to 0
        >>> psnr_uint8_wrap(pred, true, data_range=1.0).item()
        inf
        >>> round(psnr(pred, true, data_range=1.0).item(), 2)
        23.78
    """

    def score(p: Tensor, t: Tensor) -> Tensor:
        difference = _levels(p, data_range).double() - _levels(t, data_range).double()
        # (d mod 256)^2 = d^2 mod 256, exact in floats, which unlike uint8 keep a NaN.
        return _decibels(difference.square().remainder(256), 255)

    return by_tiles(score, pred, true, data_range, chunk=chunk)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A number that a table shows of each run: what it is called, headed and printed as."""

    name: str  # in a run's record
    heading: str
    better: Literal["lower", "higher"]  # gives the arrow
    digits: int  # after the decimal point
    unit: str = ""  # empty if there is none to print
    factor: float = 1.0  # printed = factor times stored

    @property
    def lower_is_better(self) -> bool:
        """Whether less is better."""
        return self.better == "lower"

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↓" if self.lower_is_better else "↑"

    @property
    def title(self) -> str:
        """The heading, with its unit."""
        return f"{self.heading} {self.unit}".rstrip()

    def times(self, factor: float) -> Self:
        """The same column printed `factor` times as large, which its unit says."""
        return replace(self, factor=factor, unit=f"×{factor:g}")


class HasClimatology(Protocol):
    """What a metric may ask of a data set."""

    def climatology(self) -> Array:
        """The mean training frame: [C, H, W], in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Metric(Column):
    """A metric of predicted frames; called as (pred, true, data_range) -> [B, T].

    `convention` is the line for a caption. A score of frames that are multiplied by s is
    s^`degree` times theirs. A metric that is not among METRICS scores the runs of the panels that
    have it as a column; its `function` is one at the top of a module, or a value that can be
    pickled, of which `digest` says what its scores depend on.

    A table prints the mean over sequences and frames. Where that is no mean, such as a root or a
    ratio of totals over a whole test set, `function` gives K parts of a score, [B, T, K], and
    `combine` makes the table's number of their means: [..., K] -> [...], at the top of a module.
    A `function` that needs more of the data set than its frames has a method `fit` (see `of`).
    """

    function: Callable[[Tensor, Tensor, float], Tensor]
    convention: str
    degree: int = 0
    digest: str | None = None
    combine: Callable[[Array], Array] | None = None

    def __call__(self, pred: Tensor, true: Tensor, data_range: float) -> Tensor:
        """Score frames: [B, T, C, H, W] -> [B, T], or [B, T, K] if there is a `combine`."""
        return self.function(pred, true, data_range)

    def of(self, data: HasClimatology) -> Self:
        """The metric for a data set: fitted to it, where its function has to be."""
        fit = getattr(self.function, "fit", None)
        return self if fit is None else replace(self, function=fit(data))

    def number(self, scores: NDArray[np.floating]) -> float:
        """A table's number, of the scores [sequences, frames] or [sequences, frames, K]."""
        if self.combine is None:
            return float(scores.mean(dtype=float))
        return float(self.combine(scores.mean((0, 1), dtype=float)))


@dataclass(frozen=True, kw_only=True)
class Cost(Column):
    """What a run costs, measured once and not for each test sequence: never tested for bold."""


@dataclass(frozen=True, kw_only=True)
class ToTarget(Cost):
    """Where a learning curve first reaches the suite's target."""

    curve: str  # column of the learning curve that is read there


MSE = Metric(
    name="mse",
    heading="MSE",
    better="lower",
    digits=2,
    function=lambda pred, true, data_range: mse(pred, true),
    convention="squared error summed over a frame's channels and pixels; not clipped",
    degree=2,
)
MAE = Metric(
    name="mae",
    heading="MAE",
    better="lower",
    digits=2,
    function=lambda pred, true, data_range: mae(pred, true),
    convention="absolute error summed over a frame's channels and pixels; not clipped",
    degree=1,
)
SSIM = Metric(
    name="ssim",
    heading="SSIM",
    better="higher",
    digits=4,
    function=ssim,
    convention="SSIM at the true data range, uniform 7x7 window, sample covariance",
)
SSIM_RANGE2 = Metric(
    name="ssim_range2",
    heading="SSIM",
    better="higher",
    digits=4,
    unit="range 2",
    function=ssim_range2,
    convention="SSIM at twice the data range, as old scikit-image inferred for float frames",
)
SSIM_UINT8 = Metric(
    name="ssim_uint8",
    heading="SSIM",
    better="higher",
    digits=4,
    unit="8-bit",
    function=ssim_uint8,
    convention="SSIM of frames truncated to 8 bits, range 255",
)
PSNR = Metric(
    name="psnr",
    heading="PSNR",
    better="higher",
    digits=2,
    unit="dB",
    function=psnr,
    convention="mean of each frame's PSNR at the true data range, channels pooled",
)
PSNR_UINT8_WRAP = Metric(
    name="psnr_uint8_wrap",
    heading="PSNR",
    better="higher",
    digits=2,
    unit="wrapped",
    function=psnr_uint8_wrap,
    convention="PSNR from 8-bit differences that wrap modulo 256; never below 24.17 dB",
)
# Every run is scored by all of these; `further_metrics` has those that a user may add.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (MSE, MAE, SSIM, SSIM_RANGE2, SSIM_UINT8, PSNR, PSNR_UINT8_WRAP)
}

SECONDS_PER_EPOCH = Cost(
    name="seconds_per_epoch", heading="Epoch", better="lower", digits=1, unit="s"
)
TRAINING_SPEED = Cost(
    name="training_sequences_per_second",
    heading="Training",
    better="higher",
    digits=1,
    unit="seq./s",
)
INFERENCE_SPEED = Cost(
    name="inference_sequences_per_second",
    heading="Inference",
    better="higher",
    digits=1,
    unit="seq./s",
)
PEAK_MEMORY = Cost(
    name="peak_memory_bytes",
    heading="Memory",
    better="lower",
    digits=2,
    unit="GiB",
    factor=2.0**-30,
)
EPOCHS_TO_TARGET = ToTarget(
    name="epochs_to_target",
    heading="To target",
    better="lower",
    digits=0,
    unit="epochs",
    curve="epoch",
)
MINUTES_TO_TARGET = ToTarget(
    name="minutes_to_target",
    heading="To target",
    better="lower",
    digits=1,
    unit="min",
    factor=1 / 60,
    curve="seconds",
)


def by_tiles(
    score: Callable[[Tensor, Tensor], Tensor],
    pred: Tensor,
    true: Tensor,
    data_range: float | None = None,
    *,
    chunk: int | None,
    parts: tuple[int, ...] = (),
) -> Tensor:
    """Score frames [B, T, C, H, W] by tiles of at most `chunk` frames: [B, T, *parts].

    `score` takes tiles [b, t, C, H, W] of predicted and true frames and gives [b, t, *parts].
    Predictions are clipped if there is a data range. Raises what the module's docstring says.
    """
    _check_frames(pred, true)
    if data_range is not None:
        _check_range(true, data_range)
    if chunk is None:
        elements = 2**22 if pred.is_cuda else 2**16
        chunk = max(1, elements // math.prod(pred.shape[2:]))
    if not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk is {chunk!r}; expected a positive number of frames")

    device = torch.device("cpu") if pred.device.type == "mps" else pred.device
    dtype = torch.float64 if pred.dtype is torch.float64 else torch.float32
    pred, true = pred.detach(), true.detach()
    scores = torch.empty((*pred.shape[:2], *parts), dtype=dtype, device=pred.device)
    sequences = max(1, chunk // pred.shape[1])
    for b in range(0, pred.shape[0], sequences):
        for t in range(0, pred.shape[1], chunk):
            tile = slice(b, b + sequences), slice(t, t + chunk)
            p = pred[tile].to(device, dtype)
            if data_range is not None:
                p = p.clamp(0, data_range)
            scores[tile] = score(p, true[tile].to(device, dtype))
    return scores


def _ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Mean structural similarity of the frames x and y: [..., C, H, W] -> [...].

    Needs the window means of four fields instead of five: with s = x + y and d = x - y,
    4 mu_x mu_y = mu_s^2 - mu_d^2 and 2 (mu_x^2 + mu_y^2) = mu_s^2 + mu_d^2, and likewise for the
    covariance and the variances.
    """
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(
            f"frames are {x.shape[-2]}x{x.shape[-1]} pixels; SSIM needs at least {WINDOW}x{WINDOW}"
        )
    x, y = x.double(), y.double()
    s, d = x + y, x - y
    means = _window_sums(torch.stack([s, d, s.square(), d.square()])) / WINDOW**2
    squares = means[:2].square()
    mean_s, mean_d = squares.unbind()
    var_s, var_d = ((means[2:] - squares) * (WINDOW**2 / (WINDOW**2 - 1))).unbind()
    c1, c2 = 2 * (0.01 * data_range) ** 2, 2 * (0.03 * data_range) ** 2
    luminance = (mean_s - mean_d + c1) / (mean_s + mean_d + c1)
    structure = (var_s - var_d + c2) / (var_s + var_d + c2)
    return (luminance * structure).mean(FRAME)


def _window_sums(x: Tensor) -> Tensor:
    """Sums over the 7x7 windows inside each plane: [..., H, W] -> [..., H - 6, W - 6].

    One axis at a time, 7 = 2 + 2 + 2 + 1; no running sum, whose rounding errors would pile up.
    """
    for axis in (-2, -1):
        n = x.shape[axis] - WINDOW + 1
        twos = x.narrow(axis, 0, n + 4) + x.narrow(axis, 1, n + 4)
        sevens = twos.narrow(axis, 0, n) + twos.narrow(axis, 2, n)
        sevens += twos.narrow(axis, 4, n)
        sevens += x.narrow(axis, 6, n)
        x = sevens
    return x


def _levels(x: Tensor, data_range: float) -> Tensor:
    """Frames in [0, data_range] as 8-bit levels: truncated, not rounded, and left in floats.

    They are scaled in their own precision, as in the published codes.
    """
    return (x * (255 / data_range)).trunc()


def _decibels(squared_error: Tensor, peak: float) -> Tensor:
    """Squared errors [..., C, H, W] -> peak signal-to-noise ratio [...] in dB."""
    return -10 * (squared_error.mean(FRAME) / peak**2).log10()


def _check_frames(pred: Tensor, true: Tensor) -> None:
    if pred.shape != true.shape:
        raise ValueError(
            f"pred has shape {tuple(pred.shape)} but true has {tuple(true.shape)}; "
            "expected one shape [B, T, C, H, W]"
        )
    if pred.ndim != 5 or pred.numel() == 0:
        raise ValueError(
            f"frames have shape {tuple(pred.shape)}; expected a non-empty [B, T, C, H, W]"
        )
    if pred.dtype != true.dtype:
        raise ValueError(
            f"pred is {pred.dtype} but true is {true.dtype}; convert one to the other's dtype"
        )
    if not pred.is_floating_point():
        raise ValueError(
            f"frames are {pred.dtype}; expected floating point: convert both with .float()"
        )
    if pred.device != true.device:
        raise ValueError(
            f"pred is on {pred.device} but true is on {true.device}; move one to the other's device"
        )


def _check_range(true: Tensor, data_range: float) -> None:
    if not 0 < data_range < math.inf:
        raise ValueError(f"data_range is {data_range!r}; expected a positive, finite number")
    low, high = (bound.item() for bound in true.aminmax())
    slack = 1e-3 * data_range  # for rounding; well below one of 255 levels
    if not -slack <= low <= high <= data_range + slack:
        raise ValueError(
            f"true spans [{low:g}, {high:g}] but data_range is {data_range:g}; expected values in "
            f"[0, {data_range:g}]: shift and scale both tensors, or correct data_range"
        )
