"""Metrics that score a run only where its panel has them as columns; `benchmarks.metrics` has the
conventions that these share, and the metrics of every run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import lpips
from benchmarks.metrics import FRAME, METRICS, Column, Metric, by_tiles
from benchmarks.names import choose
from benchmarks.totals import MEAN_MAE, MEAN_MSE, ROOT_MSE, anomaly_correlation

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of MS-SSIM, the finest scale first
SIZE, SIGMA = 11, 1.5  # of its window, in pixels
SMALLEST = (SIZE - 1) * 2 ** (len(SCALES) - 1) + 1  # sides that leave the coarsest scale a window


def rmse(pred: Tensor, true: Tensor, *, chunk: int | None = None) -> Tensor:
    """Root of a frame's mean squared error, over channels and pixels: [B, T], in data units.

    A table's number is the mean of these roots over frames and sequences. The root of one mean over
    a whole test set, which others call RMSE, is never smaller.

    Examples:
        >>> true = torch.zeros(1, 2, 1, 8, 8)
        >>> rmse(true + 0.5, true).tolist()
        [[0.5, 0.5]]
    """
    return by_tiles(
        lambda p, t: (p.double() - t.double()).square().mean(FRAME).sqrt(), pred, true, chunk=chunk
    )


def ms_ssim(pred: Tensor, true: Tensor, data_range: float, *, chunk: int | None = None) -> Tensor:
    """Multi-scale structural similarity: [B, T], 1 for equal frames.

    Wang, Simoncelli and Bovik 2003, Eq. 7: five scales with their exponents, an 11x11 Gaussian
    window of sigma 1.5 inside the frame, population covariance, K1 = 0.01, K2 = 0.03; averaged over
    channels. From scale to scale, 2x2 pixels are averaged, and an odd last row or column by itself.
    A scale's negative mean counts as 0, since a power of it is no real number. Raises ValueError
    for frames smaller than 161x161.

    Examples:
        >>> true = torch.linspace(0, 1, 161 * 161).reshape(1, 1, 1, 161, 161)
        >>> round(ms_ssim(true, true, data_range=1.0).item(), 3)
        1.0
        >>> round(ms_ssim(true / 2, true, data_range=1.0).item(), 3)
        0.846
    """
    return by_tiles(lambda p, t: _ms_ssim(p, t, data_range), pred, true, data_range, chunk=chunk)


def _ms_ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Frames [b, t, C, H, W] -> [b, t], from their sum and difference, as `metrics._ssim` does."""
    if min(x.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"frames are {x.shape[-2]}x{x.shape[-1]} pixels; ms_ssim needs {SMALLEST}x{SMALLEST} "
            f"or more, for {SIZE}x{SIZE} windows at {len(SCALES)} scales: leave it out, or take "
            "larger frames"
        )
    x, y = x.double(), y.double()
    c1, c2 = 2 * (0.01 * data_range) ** 2, 2 * (0.03 * data_range) ** 2
    fields = torch.stack([x + y, x - y])
    score = torch.ones_like(x[..., 0, 0])
    for scale, exponent in enumerate(SCALES):
        if scale:
            halved = F.avg_pool2d(fields.flatten(0, -4), 2, ceil_mode=True)
            fields = halved.unflatten(0, fields.shape[:-3])
        means = _gaussian_means(torch.cat([fields, fields.square()]))
        squares = means[:2].square()
        var_s, var_d = (means[2:] - squares).unbind()
        similarity = (var_s - var_d + c2) / (var_s + var_d + c2)
        if scale == len(SCALES) - 1:
            mean_s, mean_d = squares.unbind()
            similarity = similarity * (mean_s - mean_d + c1) / (mean_s + mean_d + c1)
        score = score * similarity.mean((-2, -1)).clamp(min=0) ** exponent
    return score.mean(-1)


def _gaussian_means(x: Tensor) -> Tensor:
    """Weighted means of the windows inside each plane: [..., H, W] -> [..., H - 10, W - 10]."""
    offsets = range(-(SIZE // 2), SIZE // 2 + 1)
    weights = [math.exp(-(i**2) / (2 * SIGMA**2)) for i in offsets]
    for axis in (-2, -1):
        n = x.shape[axis] - SIZE + 1
        shifted = (x.narrow(axis, i, n) * (w / sum(weights)) for i, w in enumerate(weights))
        total = next(shifted)
        for part in shifted:
            total += part
        x = total
    return x


def _score_rmse(pred: Tensor, true: Tensor, data_range: float) -> Tensor:
    return rmse(pred, true)


RMSE = Metric(
    name="rmse",
    heading="RMSE",
    better="lower",
    digits=4,
    function=_score_rmse,
    convention="mean of each frame's root mean squared error over channels and pixels; not clipped",
    degree=1,
)
MS_SSIM = Metric(
    name="ms_ssim",
    heading="MS-SSIM",
    better="higher",
    digits=4,
    function=ms_ssim,
    convention="MS-SSIM at the true data range, five scales, Gaussian 11x11 window",
)
FURTHER: dict[str, Metric] = {
    metric.name: metric
    for metric in (RMSE, MS_SSIM, MEAN_MSE, MEAN_MAE, ROOT_MSE, anomaly_correlation())
}


def find_metric(text: str) -> Metric:
    """The metric that a user names: one of METRICS or FURTHER, or `lpips=FILE` with its weights.

    Raises ValueError, or FileNotFoundError for a file that is missing.
    """
    name, _, file = text.partition("=")
    known = METRICS | FURTHER
    choose("metric", name, [*known, lpips.NAME])
    if name == lpips.NAME:
        if not file:
            raise ValueError(
                "lpips needs its weights, which are not bundled: lpips=FILE; docs/metrics.md has "
                "the lines that make the file"
            )
        return lpips.with_weights(Path(file))
    if text != name:
        raise ValueError(f"metric {text!r}: {name} takes no file; leave {text[len(name) :]!r} out")
    return known[name]


def recorded(name: str, digest: str | None) -> Metric:
    """The metric that a table's record has scores of, as a column; ValueError for an unknown one.

    `digest` is that of its weights. Without the file, such a column is printed but scores nothing.
    """
    if name == lpips.NAME:
        return lpips.column(digest or "", _absent_weights)
    try:
        return (METRICS | FURTHER)[name]
    except KeyError:
        raise ValueError(
            f"there are scores {name!r}, which are no metric of this project; give the --suite "
            "that has the column"
        ) from None


def _absent_weights(pred: Tensor, true: Tensor, data_range: float) -> Tensor:
    raise ValueError("the weights of this lpips are not in a table's record; give lpips=FILE")


def further(columns: Iterable[Column]) -> tuple[Metric, ...]:
    """The metrics among columns that do not score every run."""
    return tuple(c for c in columns if isinstance(c, Metric) and c.name not in METRICS)
