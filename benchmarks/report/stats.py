"""Means and spreads over seeds, and a paired bootstrap over test sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

RESAMPLES = 10_000
SIGNIFICANCE = 0.05
CHUNK = 64  # resamples drawn at a time: bounds the memory, does not change the result


class Summary(NamedTuple):
    """A mean over seeds and its sample std: None for one seed, or a number that is not finite."""

    mean: float
    std: float | None
    seeds: int


def over_seeds(values: ArrayLike) -> Summary:
    """Mean and sample std (divisor n - 1) of one number per seed [S].

    Raises ValueError if there is no value or more than one dimension.

    Examples:
        >>> over_seeds([1.0, 2.0, 3.0])
        Summary(mean=2.0, std=1.0, seeds=3)
        >>> over_seeds([1.0])
        Summary(mean=1.0, std=None, seeds=1)
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"values have shape {numbers.shape}; expected one number per seed")
    has_std = numbers.size > 1 and np.isfinite(numbers).all()
    std = float(numbers.std(ddof=1)) if has_std else None
    return Summary(float(numbers.mean()), std, numbers.size)


def per_sequence(seeds: Sequence[ArrayLike]) -> Array:
    """Mean over frames, then over seeds: scores [N, T] of each seed -> [N].

    Examples:
        >>> per_sequence([[[1.0, 3.0], [5.0, 7.0]]]).tolist()  # one seed, two sequences, two frames
        [2.0, 6.0]
    """
    means: Array = _stack(seeds).mean(axis=(0, 2))
    return means


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, samples: int = RESAMPLES, *, seed: int = 0
) -> float:
    """Two-sided p-value of "a and b have the same mean" for paired scores [N].

    The differences are shifted to mean zero and resampled with replacement; p is the share of
    resampled means at least as far from zero as the observed one, both counts plus one (Davison
    and Hinkley, Bootstrap Methods, 1997, eq. 4.11), so it is never below 1 / (samples + 1).
    Raises ValueError if the scores are not paired, empty or not finite.

    Examples:
        >>> a = np.arange(20.0)
        >>> paired_bootstrap(a, a)
        1.0
        >>> paired_bootstrap(a, a + 1 + 0.1 * np.sin(a)) < 0.001
        True
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or first.size == 0:
        raise ValueError(
            f"scores have shapes {first.shape} and {second.shape}; expected one score for each "
            "of the same test sequences"
        )
    return float(_p_values((first - second)[None], samples, seed)[0])


def best_group(scores: Mapping[str, ArrayLike], lower_is_better: bool) -> set[str]:
    """Label with the best mean and all whose difference from it is not significant at 5 %.

    `scores` holds one score per test sequence [N] for each label, in the same order of
    sequences. Where higher is better, a mean can be infinite, as PSNR is without an error: then the
    labels with such a mean are the group, and nothing is tested. Any other label with a score that
    is not finite (a diverged run) is never in the group.
    Raises ValueError if the labels have different numbers of sequences.

    Examples:
        >>> a = np.arange(20.0)
        >>> noise = 0.1 * np.sin(a)
        >>> scores = {"A": a, "nearly A": a + noise + 0.01, "worse": a + noise + 1}
        >>> sorted(best_group(scores, lower_is_better=True))
        ['A', 'nearly A']
    """
    arrays = {label: np.asarray(values, dtype=np.float64) for label, values in scores.items()}
    shapes = {label: values.shape for label, values in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"scores have shapes {shapes}; expected the same test sequences for all")
    perfect = {label for label, values in arrays.items() if values.mean() == np.inf}
    if perfect and not lower_is_better:
        return perfect
    finite = {label: values for label, values in arrays.items() if np.isfinite(values).all()}
    if not finite:
        return set()
    best = (min if lower_is_better else max)(finite, key=lambda label: finite[label].mean())
    rivals = [label for label in finite if label != best]
    if not rivals:
        return {best}
    differences = np.stack([finite[label] - finite[best] for label in rivals])
    p_values = _p_values(differences, RESAMPLES, seed=0)
    return {best} | {r for r, p in zip(rivals, p_values, strict=True) if p >= SIGNIFICANCE}


def _p_values(differences: Array, samples: int, seed: int) -> Array:
    """Two-sided p-values for differences [R, N]; every row meets the same resamples."""
    if samples < 1:
        raise ValueError(f"samples is {samples!r}; expected a positive integer")
    if not np.isfinite(differences).all():
        raise ValueError("scores hold values that are not finite; expected finite numbers")
    observed = differences.mean(axis=1)
    centred = differences - observed[:, None]
    sequences = differences.shape[1]
    generator = np.random.default_rng(seed)
    extreme = np.zeros(len(differences), dtype=np.int64)
    for start in range(0, samples, CHUNK):
        count = min(CHUNK, samples - start)
        drawn = generator.integers(sequences, size=(count, sequences))
        for row, values in enumerate(centred):
            means = values.take(drawn).mean(axis=1)
            extreme[row] += np.count_nonzero(np.abs(means) >= abs(observed[row]))
    return (extreme + 1) / (samples + 1)


def _stack(seeds: Sequence[ArrayLike]) -> Array:
    arrays = [np.asarray(scores, dtype=np.float64) for scores in seeds]
    shapes = [scores.shape for scores in arrays]
    if not arrays or len(set(shapes)) > 1 or arrays[0].ndim != 2:
        raise ValueError(f"scores have shapes {shapes}; expected the same [N, T] for every seed")
    return np.stack(arrays)
