"""Means and spreads over seeds, and a paired bootstrap over test sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Combine = Callable[[Array], Array]  # parts of a score [..., K] -> numbers [...]

RESAMPLES = 10_000
SIGNIFICANCE = 0.05
LEAST_SEQUENCES = 10  # or blocks: of fewer, chance alone can give resamples that all have one sign
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


def number(scores: ArrayLike, combine: Combine | None = None) -> float:
    """The mean of scores [N]; of parts [S, N, K], what `combine` makes of each seed's, averaged.

    Examples:
        >>> number([1.0, 3.0])
        2.0
        >>> parts = [[[1.0, 4.0], [3.0, 4.0]]]  # one seed, two sequences, two parts
        >>> number(parts, lambda means: means[..., 0] / means[..., 1])
        0.5
    """
    values = np.asarray(scores, dtype=np.float64)
    return float(values.mean() if combine is None else combine(values.mean(axis=1)).mean())


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    samples: int = RESAMPLES,
    *,
    block: int = 1,
    seed: int = 0,
    combine: Combine | None = None,
) -> float:
    """Two-sided p-value of "a and b have the same mean" for paired scores [N].

    The differences are shifted to mean zero and resampled with replacement; p is the share of
    resampled means at least as far from zero as the observed one, both counts plus one (Davison
    and Hinkley, Bootstrap Methods, 1997, eq. 4.11), so it is never below 1 / (samples + 1).
    With `combine` the scores are parts [S, N, K], seeds may differ in number, and what is tested is
    the difference of their `number`, less the observed one in each resample. Blocks of
    `block` sequences in a row are resampled, from any place on the circle of them all (Politis and
    Romano, A circular block-resampling procedure for stationary data, 1992), and taken as
    independent. Fewer than LEAST_SEQUENCES blocks tell nothing, and p is 1.
    Raises ValueError if the scores are not paired, empty or not finite.

    Examples:
        >>> a = np.arange(20.0)
        >>> paired_bootstrap(a, a)
        1.0
        >>> paired_bootstrap(a, a + 1 + 0.1 * np.sin(a)) < 0.001
        True
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    paired = first.shape == second.shape and first.ndim == 1
    if combine is not None:
        paired = first.ndim == second.ndim == 3 and first.shape[1:] == second.shape[1:]
    if not paired or not first.size * second.size:
        raise ValueError(
            f"scores have shapes {first.shape} and {second.shape}; expected one score for each "
            "of the same test sequences"
        )
    return float(_p_values([first], second, samples, seed, combine, block)[0])


def best_group(
    scores: Mapping[str, ArrayLike],
    lower_is_better: bool,
    combine: Combine | None = None,
    block: int = 1,
) -> set[str]:
    """Label with the best mean and all whose difference from it is not significant at 5 %.

    `scores` holds one score per test sequence [N] for each label, in the same order of
    sequences; with `combine` parts [S, N, K], of which it makes the mean (see `number`). Where
    higher is better, a mean can be infinite, as PSNR is without an error: then the labels with such
    a mean are the group, and nothing is tested. Any other label with a score that is not finite (a
    diverged run) is never in the group. For fewer than LEAST_SEQUENCES blocks of `block` sequences
    (see `paired_bootstrap`) the group is empty.
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
    seeds = 0 if combine is None else 1  # axes in which they may differ
    if len({shape[seeds:] for shape in shapes.values()}) > 1:
        raise ValueError(f"scores have shapes {shapes}; expected the same test sequences for all")
    means = {label: number(values, combine) for label, values in arrays.items()}
    perfect = {label for label, mean in means.items() if mean == np.inf}
    if perfect and not lower_is_better:
        return perfect
    if any(values.shape[seeds] // block < LEAST_SEQUENCES for values in arrays.values()):
        return set()
    finite = {label: values for label, values in arrays.items() if np.isfinite(values).all()}
    if not finite:
        return set()
    best = (min if lower_is_better else max)(finite, key=lambda label: means[label])
    rivals = [label for label in finite if label != best]
    if not rivals:
        return {best}
    others = [finite[label] for label in rivals]
    p_values = _p_values(others, finite[best], RESAMPLES, 0, combine, block)
    return {best} | {r for r, p in zip(rivals, p_values, strict=True) if p >= SIGNIFICANCE}


def _p_values(
    others: Sequence[Array],
    one: Array,
    samples: int,
    seed: int,
    combine: Combine | None,
    block: int,
) -> Array:
    """Two-sided p-values of `others` against `one`; all meet the same resamples."""
    for name, value in (("samples", samples), ("block", block)):
        if value < 1:
            raise ValueError(f"{name} is {value!r}; expected a positive integer")
    if not all(np.isfinite(values).all() for values in (*others, one)):
        raise ValueError("scores hold values that are not finite; expected finite numbers")
    if combine is None:
        observed, resampled = _of_means(others, one)
    else:
        observed, resampled = _of_parts(others, one, combine)
    sequences = one.shape[0 if combine is None else 1]
    if sequences // block < LEAST_SEQUENCES:
        return np.ones(len(others))
    generator = np.random.default_rng(seed)
    extreme = np.zeros(len(others), dtype=np.int64)
    for start in range(0, samples, CHUNK):
        count = min(CHUNK, samples - start)
        first = generator.integers(sequences, size=(count, -(-sequences // block), 1))
        blocks = (first + np.arange(block)) % sequences
        drawn = blocks.reshape(count, -1)[:, :sequences]
        for row, differences in enumerate(resampled(drawn)):
            extreme[row] += np.count_nonzero(np.abs(differences) >= abs(observed[row]))
    return (extreme + 1) / (samples + 1)


# From resamples, as indices [count, N], to differences [count] less the observed, of each row.
Resampled = Callable[[NDArray[np.int64]], Iterator[Array]]


def _of_means(others: Sequence[Array], one: Array) -> tuple[Array, Resampled]:
    """Differences of the means of scores [N], as observed [R] and when resampled."""
    differences = np.stack(others) - one
    observed: Array = differences.mean(axis=1)
    centred = differences - observed[:, None]
    return observed, lambda drawn: (values.take(drawn).mean(axis=1) for values in centred)


def _of_parts(others: Sequence[Array], one: Array, combine: Combine) -> tuple[Array, Resampled]:
    """The same of the numbers that `combine` makes of parts [S, N, K]."""
    observed = np.array([number(values, combine) - number(one, combine) for values in others])

    def resampled(drawn: NDArray[np.int64]) -> Iterator[Array]:
        sequences = drawn.shape[1]
        weights = np.stack([np.bincount(row, minlength=sequences) for row in drawn]) / sequences
        ours = combine(weights @ one).mean(axis=0)
        for values, of in zip(others, observed, strict=True):
            yield combine(weights @ values).mean(axis=0) - ours - of

    return observed, resampled


def _stack(seeds: Sequence[ArrayLike]) -> Array:
    arrays = [np.asarray(scores, dtype=np.float64) for scores in seeds]
    shapes = [scores.shape for scores in arrays]
    if not arrays or len(set(shapes)) > 1 or arrays[0].ndim != 2:
        raise ValueError(f"scores have shapes {shapes}; expected the same [N, T] for every seed")
    return np.stack(arrays)
