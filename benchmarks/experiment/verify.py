"""A table's numbers computed again by others, from what its runs stored.

scikit-image and NumPy score the samples in float64; fvcore counts the model from a real prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.experiment import cost
from benchmarks.experiment.engine import Died
from benchmarks.experiment.plan import Run
from benchmarks.experiment.schedule import call_on_cpu
from benchmarks.experiment.spec import Suite
from benchmarks.experiment.store import StoredRun
from benchmarks.metrics import Column, Metric
from benchmarks.totals import Anomalies, Errors, Events

Floats = NDArray[np.float64]
Other = Callable[[Floats, Floats, float], Any]  # of two frames [C, H, W] and their range

# Relative. Scores are stored in float32, which rounds them by up to 2^-24 = 6e-8; all rows at smoke
# scale differ by that, and by 2e-12 at most before they are rounded. Another SSIM window, range, K
# or covariance makes a difference above 1e-4, as the tests of metrics show.
TOLERANCE = 1e-6
LEAST = 1e-6  # that a difference is relative to: an SSIM may be 0 but for rounding
# scikit-image's options for the convention that `metrics.ssim` names
WINDOW: dict[str, Any] = {"win_size": 7, "gaussian_weights": False, "use_sample_covariance": True}
WINDOW |= {"K1": 0.01, "K2": 0.03}


def verify(suite: Suite, runs: Sequence[Run], stored: Sequence[StoredRun]) -> tuple[str, int]:
    """A line for each finished run on how closely others agree, and the command's exit status.

    `stored` are those of the runs. Models are built and counted in processes of their own.
    """
    done = [(run, of) for run, of in zip(runs, stored, strict=True) if of.done]
    columns = {panel.name: panel.columns for panel in suite.panels}
    counted = call_on_cpu([run for run, _ in done], count)
    lines, status = "", 0
    for run, of in done:
        counts = compare_counts(of, counted[run.folder])
        found = [*compare_scores(run, of, columns[run.panel]), counts]
        word, status = ("verified", status) if all(agree for _, agree in found) else ("DIFFERS", 1)
        said = "; ".join(text for text, _ in found)
        lines += f"{word} {run.row.label} on {run.panel}, seed {run.seed}: {said}\n"
    return lines, status


def compare_scores(
    run: Run, stored: StoredRun, columns: Sequence[Column]
) -> Iterator[tuple[str, bool]]:
    """What to say of a run's scores, as stored and as computed now, and whether others agree."""
    samples, scores = stored.samples(), stored.scores()
    pred, true = (samples[name].astype(np.float32) for name in ("prediction", "future"))
    # Samples in float16, as earlier commits kept them, are not the frames that were scored.
    are_scored = samples["prediction"].dtype == np.float32
    data_range = run.clip.data_range
    low, high = stored.record["value_range"]
    texts, agree = [], True
    metrics = [run.metrics[column.name] for column in columns if isinstance(column, Metric)]
    checked = []
    for metric in metrics:
        if (by_others := other_of(metric)) is None:
            continue
        checked.append(metric)
        theirs = score(by_others, pred.astype(float), true.astype(float), data_range)
        ours = [metric(torch.from_numpy(pred), torch.from_numpy(true), data_range).numpy()]
        if are_scored:
            unit = ((high - low) / data_range) ** metric.degree
            ours.append(scores[metric.name][: len(pred)] / unit)
        relative, own, other = max(largest_difference(of, theirs) for of in ours)
        agrees = relative <= TOLERANCE
        values = f"is {own:.9g}, by others {other:.9g}"
        texts.append(f"{metric.name} {f'{relative:.1g}' if agrees else values}")
        agree &= agrees
    if texts:
        tested = f"{len(pred)} sequence{'s' * (len(pred) > 1)}"
        what = f"largest relative difference from scikit-image and NumPy, {tested}"
        yield f"{', '.join(texts)} ({what})", agree
    if unchecked := [metric.name for metric in metrics if metric not in checked]:
        yield f"no other library here computes {', '.join(unchecked)}", True
    if texts and not are_scored:
        yield "its stored scores are not compared, as its samples are float16", True


def other_of(metric: Metric) -> Other | None:
    """The same score by others; None if none of them computes it."""
    if isinstance(metric.function, Errors):
        return partial(errors, metric.function)
    if isinstance(metric.function, Anomalies):
        return partial(anomalies, metric.function)
    if isinstance(metric.function, Events):
        return partial(events, metric.function)
    return others().get(metric.name)


def errors(of: Errors, pred: Floats, true: Floats, data_range: float) -> Any:
    """A frame's mean error by NumPy's weighted average."""
    mean = weighted_mean(of, np.abs(pred - true) ** of.power)
    return [mean] if of.is_total else mean


def anomalies(of: Anomalies, pred: Floats, true: Floats, data_range: float) -> Any:
    """A frame's mean products of anomalies, likewise."""
    assert of.climatology is not None
    anomaly = np.stack([pred, true]) - data_range * of.climatology
    first, second = anomaly[[0, 0, 1]], anomaly[[1, 0, 1]]
    return [weighted_mean(of, product) for product in first * second]


def weighted_mean(of: Errors | Anomalies, values: Floats) -> Any:
    """Mean of a frame's values [C, H, W] over the channels that count, weighted by latitude."""
    chosen = values[list(of.channels)] if of.channels else values
    weights = np.cos(np.deg2rad(of.latitudes)) if of.latitudes else None
    return np.average(chosen.mean((0, 2)), weights=weights)


def events(of: Events, pred: Floats, true: Floats, data_range: float) -> Any:
    """Shares of hits, misses and false alarms by scikit-image's blocks and NumPy's histogram."""
    from skimage.measure import block_reduce

    low, high = of.value_range
    found: list[float] = []
    frames = [x.clip(0, data_range).astype(np.float32) for x in (pred, true)]
    pooled = [block_reduce(x, (1, of.pool, of.pool), np.max).ravel() for x in frames]
    for threshold in of.thresholds:
        level = np.float32((threshold - low) / (high - low) * data_range)
        (_, false_alarms), (misses, hits) = np.histogram2d(
            pooled[1] >= level, pooled[0] >= level, 2, [[0, 1], [0, 1]]
        )[0]
        found += [hits, misses, false_alarms]
    return np.array(found) / pooled[0].size


def others() -> Mapping[str, Other]:
    """For each metric's name the same score by others, of two frames [C, H, W] and their range."""
    from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

    ssim: Callable[..., float] = partial(structural_similarity, channel_axis=0, **WINDOW)

    def levels(x: Floats, r: float) -> NDArray[np.uint8]:
        return (x.clip(0, r).astype(np.float32) * np.float32(255 / r)).astype(np.uint8)

    def wrapped(p: Floats, t: Floats, r: float) -> float:
        squares = (levels(p, r) - levels(t, r)) ** 2  # uint8, which wraps
        return float(20 * np.log10(255) - 10 * np.log10(squares.mean()))

    return {
        "mse": lambda p, t, r: t.size * mean_squared_error(t, p),
        "mae": lambda p, t, r: np.abs(t - p).sum(),
        "ssim": lambda p, t, r: ssim(t, p.clip(0, r), data_range=r),
        "ssim_range2": lambda p, t, r: ssim(t, p.clip(0, r), data_range=2 * r),
        "ssim_uint8": lambda p, t, r: ssim(levels(t, r), levels(p, r), data_range=255),
        "psnr": lambda p, t, r: peak_signal_noise_ratio(t, p.clip(0, r), data_range=r),
        "psnr_uint8_wrap": wrapped,
        "rmse": lambda p, t, r: np.sqrt(np.square(t - p).mean()),
    }


def score(other: Other, pred: Floats, true: Floats, data_range: float) -> Floats:
    """Frames [N, T, C, H, W] scored by others: [N, T] or [N, T, K], NaN for one that holds one."""
    pairs = zip(pred.reshape(-1, *pred.shape[2:]), true.reshape(-1, *true.shape[2:]), strict=True)
    found = []
    with np.errstate(divide="ignore"):  # the PSNR of equal frames is infinite
        for p, t in pairs:
            missing = np.isnan(p)
            scores = np.asarray(other(np.where(missing, 0, p), t, data_range), float)
            found.append(np.full_like(scores, np.nan) if missing.any() else scores)
    return np.stack(found).reshape(*pred.shape[:2], *found[0].shape)


def largest_difference(ours: NDArray[Any], theirs: Floats) -> tuple[float, float, float]:
    """The largest relative difference of two arrays of scores, and the two that differ so.

    A score that is infinite or NaN differs infinitely from any other.
    """
    ours = ours.astype(float)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        relative = np.abs(ours - theirs) / np.maximum(np.abs(ours), np.abs(theirs)).clip(LEAST)
    relative = np.where(same, 0, np.where(np.isnan(relative), np.inf, relative))
    worst = np.unravel_index(relative.argmax(), relative.shape)
    return float(relative[worst]), float(ours[worst]), float(theirs[worst])


def count(run: Run) -> tuple[int, int]:
    """Parameters and MACs of a run's model at its size, counted by fvcore."""
    from fvcore.nn import parameter_count

    model = run.build()
    return parameter_count(model)[""], cost.fvcore_macs(model, run.clip)


def compare_counts(stored: StoredRun, counted: Any) -> tuple[str, bool]:
    """What to say of a run's parameters and MACs beside `count`'s, and whether they agree.

    Different MACs are no fault: fvcore counts nothing for operators that it does not know.
    """
    if isinstance(counted, Died | Exception):
        reason = counted.reason if isinstance(counted, Died) else counted
        return f"fvcore cannot count it: {reason}", True
    ours = stored.record["cost"]["parameters"], stored.record["cost"]["macs"]
    same = "the same" if ours == counted else f"{counted[0]:,} and {counted[1]:,}"
    return f"{ours[0]:,} parameters and {ours[1]:,} MACs, by fvcore {same}", ours[0] == counted[0]
