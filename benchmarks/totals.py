"""Metrics of weather and radar, which are functions of totals over a whole test set.

Errors may be weighted by latitude (Rasp et al. 2020, WeatherBench, Section 2.3); events, such as
rain above a threshold, are counted (Veillette et al. 2020, SEVIR, Section 5). A panel makes those
that need latitudes or thresholds, as values that travel with its runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.metrics import FRAME, Array, HasClimatology, Metric, by_tiles
from benchmarks.names import choose

PARTS = 3  # of an event: hits, misses, false alarms


# --- errors --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errors:
    """Mean of |error|^power over a frame's channels and pixels: a value that travels.

    With `latitudes`, in degrees and one for each row of a frame, pixels weigh cos(latitude) over
    its mean. With `channels`, only these count. Called as (pred, true, data_range) -> [B, T], or
    [B, T, 1] where `is_total`. Raises ValueError for frames of other rows or too few channels.
    """

    power: Literal[1, 2]
    latitudes: tuple[float, ...] = ()
    channels: tuple[int, ...] = ()
    is_total: bool = False

    def __call__(self, pred: Tensor, true: Tensor, data_range: float) -> Tensor:
        """Score frames: [B, T, C, H, W] -> [B, T] or [B, T, 1]."""
        parts = (1,) * self.is_total
        return by_tiles(self._score, pred, true, chunk=None, parts=parts)

    def _score(self, pred: Tensor, true: Tensor) -> Tensor:
        errors = (pred.double() - true.double()).abs() ** self.power
        scores = _mean_of_frames(errors, self.latitudes, self.channels)
        return scores[..., None] if self.is_total else scores


def _mean_of_frames(values: Tensor, latitudes: Sequence[float], channels: Sequence[int]) -> Tensor:
    """Means over pixels and chosen channels, weighted by latitude: [b, t, C, H, W] -> [b, t]."""
    if channels:
        if max(channels) >= values.shape[2]:
            raise ValueError(
                f"frames have {values.shape[2]} channels; expected more than {max(channels)}, "
                "which is scored"
            )
        values = values[:, :, list(channels)]
    if latitudes:
        if values.shape[-2] != len(latitudes):
            raise ValueError(
                f"frames have {values.shape[-2]} rows; expected {len(latitudes)}, one for each "
                "latitude"
            )
        weights = torch.tensor(latitudes, dtype=torch.float64).deg2rad().cos()
        values = values * (weights / weights.mean()).to(values.device)[:, None]
    return values.mean(FRAME)


def _broken_are_nan(parts: Tensor, pred: Tensor) -> Tensor:
    """Parts [b, t, K], all NaN where a predicted frame holds one."""
    return parts.masked_fill(pred.isnan().flatten(2).any(2)[..., None], torch.nan)


def root(means: Array) -> Array:
    """Square root of the only part: [..., 1] -> [...]."""
    roots: Array = np.sqrt(means[..., 0])
    return roots


MEAN_MSE = Metric(
    name="mse_mean",
    heading="MSE",
    better="lower",
    digits=4,
    function=Errors(2),
    convention="squared error averaged over a frame's channels and pixels; not clipped",
    degree=2,
    digest="mse_mean",
)
MEAN_MAE = Metric(
    name="mae_mean",
    heading="MAE",
    better="lower",
    digits=4,
    function=Errors(1),
    convention="absolute error averaged over a frame's channels and pixels; not clipped",
    degree=1,
    digest="mae_mean",
)
ROOT_MSE = Metric(
    name="rmse_total",
    heading="RMSE",
    better="lower",
    digits=4,
    function=Errors(2, is_total=True),
    combine=root,
    convention="root of one mean squared error over all sequences, frames, channels and pixels; "
    "not clipped",
    degree=2,
    digest="rmse_total",
)


def latitude_weighted_rmse(latitudes: Sequence[float]) -> Metric:
    """Root of one mean squared error whose pixels weigh cos(latitude) over its mean.

    `latitudes` are those of a frame's rows, in degrees; ValueError unless all lie within ±90.

    Examples:
        >>> metric = latitude_weighted_rmse([-60, 0, 60])
        >>> true = torch.zeros(1, 1, 1, 3, 4)
        >>> pred = true.clone()
        >>> pred[..., 1, :] = 1  # off by 1 on the equator, of weight 1.5
        >>> round(metric.number(metric(pred, true, 1.0).numpy()), 4)
        0.7071
    """
    function = Errors(2, _checked(latitudes), is_total=True)
    return Metric(
        name="rmse_latitude",
        heading="RMSE",
        unit="cos φ",
        better="lower",
        digits=4,
        function=function,
        combine=root,
        convention="root of one mean squared error over all sequences, frames, channels and "
        "pixels, which weigh cos(latitude) over its mean; not clipped",
        degree=2,
        digest=_digest(function),
    )


def latitude_weighted_mae(latitudes: Sequence[float]) -> Metric:
    """Mean absolute error whose pixels weigh cos(latitude) over its mean; as the RMSE above."""
    function = Errors(1, _checked(latitudes))
    return Metric(
        name="mae_latitude",
        heading="MAE",
        unit="cos φ",
        better="lower",
        digits=4,
        function=function,
        convention="absolute error averaged over a frame's channels and pixels, which weigh "
        "cos(latitude) over its mean; not clipped",
        degree=1,
        digest=_digest(function),
    )


def of_channels(
    metric: Metric, name: str, channels: Sequence[int], factor: float = 1.0, unit: str = ""
) -> Metric:
    """An error or the ACC of some channels alone, called after `name` and printed `factor` times.

    For a variable among several that are scaled apart, `factor` leads to its unit: its square does
    for a squared error, and the ACC has none. Raises ValueError for a metric of another kind.
    """
    if not isinstance(metric.function, Errors | Anomalies):
        raise ValueError(
            f"metric {metric.name!r} has no channels to choose from; expected errors or the ACC"
        )
    function = replace(metric.function, channels=tuple(channels))
    power = metric.degree // 2 if metric.combine is root else metric.degree
    units = (metric.unit, unit if power == 1 else f"{unit}^{power}" * bool(power and unit))
    return replace(
        metric,
        name=f"{metric.name}_{name}",
        heading=f"{metric.heading} {name}",
        unit=", ".join(filter(None, units)),
        factor=factor**power,
        function=function,
        convention=f"of {name} alone, {metric.convention}",
        digest=_digest(function),
    )


def _checked(latitudes: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(latitude) for latitude in latitudes)
    if not found or not all(abs(latitude) <= 90 for latitude in found):
        raise ValueError(
            f"latitudes are {found}; expected degrees from -90 to 90, one for each row"
        )
    return found


def _digest(function: Errors | Anomalies | Events) -> str:
    return hashlib.sha256(repr(function).encode()).hexdigest()


# --- anomalies ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anomalies:
    """Mean products of a frame's anomalies, which are its distances from a climatology.

    Three parts: of predicted and true ones, of predicted ones with themselves, and of true ones.
    Pixels weigh and channels count as in `Errors`. A plan has it fitted to the data set
    (`Metric.of`); before that it scores no frames. A value that travels; called as (pred, true,
    data_range) -> [B, T, 3]. Raises ValueError without a climatology or for frames that do not fit.
    """

    latitudes: tuple[float, ...] = ()
    channels: tuple[int, ...] = ()
    # [C, H, W]; a run's key has the data set's provenance instead, which determines it
    climatology: Array | None = field(default=None, compare=False, repr=False)

    def fit(self, data: HasClimatology) -> Self:
        """The same with the climatology of a data set."""
        return replace(self, climatology=data.climatology())

    def __call__(self, pred: Tensor, true: Tensor, data_range: float) -> Tensor:
        """Score frames: [B, T, C, H, W] -> [B, T, 3]."""
        if self.climatology is None:
            raise ValueError(
                "the anomaly correlation has no climatology; Metric.of(dataset) gives it the data "
                "set's"
            )
        if self.climatology.shape != pred.shape[2:]:
            raise ValueError(
                f"frames are {tuple(pred.shape[2:])}; expected {self.climatology.shape}, as the "
                "climatology is"
            )
        normal = torch.from_numpy(data_range * self.climatology)
        return by_tiles(
            lambda p, t: self._score(p, t, normal.to(p.device)), pred, true, chunk=None, parts=(3,)
        )

    def _score(self, pred: Tensor, true: Tensor, normal: Tensor) -> Tensor:
        predicted, observed = (x.double() - normal for x in (pred, true))
        products = (predicted * observed, predicted.square(), observed.square())
        means = [_mean_of_frames(of, self.latitudes, self.channels) for of in products]
        return _broken_are_nan(torch.stack(means, -1), pred)


def correlation(means: Array) -> Array:
    """Of mean products of anomalies [..., 3]; 0 where nothing differs from the climatology."""
    products, predicted, observed = np.moveaxis(means.astype(float), -1, 0)
    lengths = np.sqrt(predicted * observed)
    found: Array = np.divide(products, lengths, out=np.zeros_like(products), where=lengths != 0)
    return found


def anomaly_correlation(latitudes: Sequence[float] | None = None) -> Metric:
    """Anomaly correlation coefficient (ACC) of Rasp et al. 2020, WeatherBench, Section 2.3.

    The correlation, about 0, of how predicted and true frames differ from the data set's
    climatology, over a whole test set; pixels weigh cos(latitude) over its mean if `latitudes` are
    given, those of a frame's rows in degrees. WeatherBench's released scorer instead takes the mean
    of the scored truth for the climatology, and subtracts the anomalies' means. Raises ValueError
    unless latitudes lie within ±90.
    """
    is_weighted = latitudes is not None
    function = Anomalies(() if latitudes is None else _checked(latitudes))
    weighing = ", which weigh cos(latitude) over its mean" * is_weighted
    return Metric(
        name="acc" + "_latitude" * is_weighted,
        heading="ACC",
        unit="cos φ" * is_weighted,
        better="higher",
        digits=4,
        function=function,
        combine=correlation,
        convention="correlation of predicted and true differences from the mean training frame, "
        f"not centred, over all sequences, frames, channels and pixels{weighing}; not clipped; 0 "
        "where there is no difference",
        digest=_digest(function),
    )


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Events:
    """Shares of a frame's pixels that are hits, misses and false alarms: a value that travels.

    An event is a value of `thresholds` or above, in the unit in which frames span `value_range`.
    With `pool` the largest of each `pool` x `pool` pixels counts, at a frame's lower and right
    edge of what is left. Called as (pred, true, data_range) -> [B, T, 3 K], three parts for each
    of K thresholds; NaN for a frame whose prediction holds one.
    """

    thresholds: tuple[float, ...]
    value_range: tuple[float, float]
    pool: int = 1

    def __call__(self, pred: Tensor, true: Tensor, data_range: float) -> Tensor:
        """Count events: [B, T, C, H, W] -> [B, T, 3 K]."""
        low, high = self.value_range
        levels = [(t - low) / (high - low) * data_range for t in self.thresholds]
        parts = (PARTS * len(levels),)
        return by_tiles(
            lambda p, t: self._score(p, t, levels), pred, true, data_range, chunk=None, parts=parts
        )

    def _score(self, pred: Tensor, true: Tensor, levels: Sequence[float]) -> Tensor:
        pooled = [self._pooled(x) for x in (pred, true)]
        found = []
        for level in levels:
            # in the frames' own type, where a level of 8 bits is that of a pixel
            predicted, observed = (x >= x.new_tensor(level) for x in pooled)
            found += [predicted & observed, ~predicted & observed, predicted & ~observed]
        shares = torch.stack([of.double().mean(FRAME) for of in found], -1)
        return _broken_are_nan(shares, pred)

    def _pooled(self, frames: Tensor) -> Tensor:
        if self.pool == 1:
            return frames
        pooled: Tensor = F.max_pool2d(frames.flatten(0, 1), self.pool, ceil_mode=True)
        return pooled.view(*frames.shape[:3], *pooled.shape[2:])


def csi(means: Array) -> Array:
    """Critical success index: hits / (hits + misses + false alarms), averaged over thresholds.

    Examples:
        >>> float(csi(np.array([0.2, 0.1, 0.1])))  # shares of hits, misses, false alarms
        0.5
    """
    hits, misses, false_alarms = _shares(means)
    return _mean(_ratio(hits, hits + misses + false_alarms))


def pod(means: Array) -> Array:
    """Probability of detection: hits / (hits + misses), averaged over thresholds."""
    hits, misses, _ = _shares(means)
    return _mean(_ratio(hits, hits + misses))


def sucr(means: Array) -> Array:
    """Success ratio: hits / (hits + false alarms), averaged over thresholds."""
    hits, _, false_alarms = _shares(means)
    return _mean(_ratio(hits, hits + false_alarms))


def far(means: Array) -> Array:
    """False alarm ratio: false alarms / (hits + false alarms), averaged over thresholds."""
    return 1 - sucr(means)


def hss(means: Array) -> Array:
    """Heidke skill score, averaged over thresholds: 1 is perfect, 0 is chance.

    2 (h c - m f) / ((h + m) (m + c) + (h + f) (f + c)), with the correct negatives c.
    """
    h, m, f = _shares(means)
    c = 1 - h - m - f
    return _mean(_ratio(2 * (h * c - m * f), (h + m) * (m + c) + (h + f) * (f + c)))


def _shares(means: Array) -> tuple[Array, Array, Array]:
    """Hits, misses and false alarms [..., K] of parts [..., 3 K]."""
    hits, misses, false_alarms = np.moveaxis(
        means.reshape(*means.shape[:-1], -1, PARTS).astype(float), -1, 0
    )
    return hits, misses, false_alarms


def _ratio(part: Array, whole: Array) -> Array:
    """The quotient; 1 where there is nothing to find and nothing was found, 0/0."""
    quotient: Array = np.divide(part, whole, out=np.ones_like(part), where=whole != 0)
    return quotient


def _mean(scores: Array) -> Array:
    """Mean over thresholds: [..., K] -> [...]."""
    mean: Array = scores.mean(-1)
    return mean


SCORES = {"csi": csi, "pod": pod, "sucr": sucr, "far": far, "hss": hss}
FORMULAS = {
    "csi": "hits / (hits + misses + false alarms)",
    "pod": "hits / (hits + misses)",
    "sucr": "hits / (hits + false alarms)",
    "far": "false alarms / (hits + false alarms)",
    "hss": "the Heidke skill score",
}


def event_score(
    score: str,
    thresholds: Sequence[float],
    value_range: tuple[float, float],
    *,
    pool: int = 1,
) -> Metric:
    """CSI, POD, SUCR, FAR or HSS of events that are counted over the whole test set.

    `thresholds` are in the unit in which frames span `value_range`, in rising order; of several,
    the number is the mean of each one's (CSI-M). `pool` is the side of the squares of pixels of
    which the largest counts. Where nothing is to be found and nothing was found, a ratio 0/0 counts
    as perfect. Raises ValueError for what does not fit.

    Examples:
        >>> metric = event_score("csi", [16], (0, 255))
        >>> true = torch.tensor([16, 20, 0, 3]).reshape(1, 1, 1, 2, 2) / 255
        >>> pred = torch.tensor([40, 15, 0, 90]).reshape(1, 1, 1, 2, 2) / 255
        >>> round(metric.number(metric(pred, true, 1.0).numpy()), 4)  # one hit, miss, false alarm
        0.3333
    """
    choose("score", score, SCORES)
    low, high = value_range
    levels = tuple(float(threshold) for threshold in thresholds)
    is_rising = all(a < b for a, b in pairwise(levels))
    if not levels or not is_rising or not low < levels[0] <= levels[-1] <= high:
        raise ValueError(
            f"thresholds are {levels}; expected one or more in rising order, above {low:g} and no "
            f"more than {high:g}, as value_range says"
        )
    if pool < 1:
        raise ValueError(f"pool is {pool}; expected 1 or more pixels")
    function = Events(levels, (float(low), float(high)), pool)
    which = ", ".join(f"{level:g}" for level in levels)
    many = len(levels) > 1
    pooled = f" of the largest of each {pool}x{pool} pixels" if pool > 1 else ""
    return Metric(
        name=f"{score}_{'m' if many else which}" + f"_pool{pool}" * (pool > 1),
        heading=f"{score.upper()}-{'M' if many else which}",
        unit=f"pool {pool}" * (pool > 1),
        better="lower" if score == "far" else "higher",
        digits=4,
        function=function,
        combine=SCORES[score],
        convention=f"{FORMULAS[score]}, counted over all sequences, frames and pixels{pooled}; "
        f"an event is {which} or above{', the mean over these thresholds' * many}; 0/0 is perfect",
        digest=_digest(function),
    )
