import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.experiment.store import StoredRun
from benchmarks.report import stats


def test_over_seeds_divides_by_n_minus_one() -> None:
    assert stats.over_seeds([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt(7.0)), 3)


def test_one_seed_has_no_spread() -> None:
    assert stats.over_seeds([4.5]) == (4.5, None, 1)


@pytest.mark.filterwarnings("error")
def test_an_infinite_or_missing_number_leaves_no_std() -> None:
    assert stats.over_seeds([4.5, math.inf]) == (math.inf, None, 2)
    mean, std, _ = stats.over_seeds([4.5, math.nan])
    assert math.isnan(mean) and std is None


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]]])
def test_over_seeds_rejects_what_is_not_one_number_per_seed(values: list) -> None:
    with pytest.raises(ValueError, match="one number per seed"):
        stats.over_seeds(values)


@dataclass(frozen=True)
class Scored(StoredRun):
    mse: np.ndarray

    def scores(self) -> dict[str, np.ndarray]:
        return {"mse": self.mse}


def test_per_sequence_and_per_frame_average_the_right_axes() -> None:
    first = np.array([[1.0, 3.0], [5.0, 7.0], [0.0, 2.0]])  # three sequences, two frames
    seeds = [first, first + 10]
    np.testing.assert_allclose(stats.per_sequence(seeds), [7.0, 11.0, 6.0])
    of_frames = [Scored(Path(), {}, scores).summary.frames["mse"] for scores in seeds]
    np.testing.assert_allclose(of_frames, [[2.0, 4.0], [12.0, 14.0]])


def test_seeds_with_different_test_sets_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\), \(4, 2\)"):
        stats.per_sequence([np.zeros((3, 2)), np.zeros((4, 2))])


def test_bootstrap_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=50), rng.normal(0.2, 1.0, size=50)
    difference = a - b
    again = np.random.default_rng(7)
    extreme = 0
    for _ in range(200):
        drawn = again.integers(50, size=50)
        mean = np.mean([difference[i] - difference.mean() for i in drawn])
        extreme += abs(mean) >= abs(difference.mean())
    assert 10 < extreme < 190  # the case is neither trivially significant nor trivially not
    assert stats.paired_bootstrap(a, b, samples=200, seed=7) == (extreme + 1) / 201


def test_bootstrap_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=41), rng.normal(0.3, 1.0, size=41)
    values = []
    for chunk in (1, 7, 64, 1000):
        monkeypatch.setattr(stats, "CHUNK", chunk)
        values.append(stats.paired_bootstrap(a, b, samples=500))
    assert len(set(values)) == 1


def test_bootstrap_agrees_with_the_normal_theory() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=400)
    difference = (noise - noise.mean()) / noise.std() + 0.09  # mean 0.09, standard error 0.05
    p = stats.paired_bootstrap(difference, np.zeros(400))
    assert p == pytest.approx(math.erfc(1.8 / math.sqrt(2)), abs=0.02)


def test_overlapping_windows_need_blocks() -> None:
    """Means of 8 values in a row, 1.5 standard errors from zero: p is 0.13.

    Of that variance a block of B has the sum over shifts k of (1 - |k|/B) (1 - |k|/8) / 8.
    """
    count = 8_000
    noise = np.random.default_rng(2).normal(size=count)
    noise = (noise - noise.mean()) / noise.std() + 1.5 / math.sqrt(count)
    windows = np.convolve(np.append(noise, noise[:7]), np.ones(8) / 8, "valid")
    for block, share in ((1, 1 / 8), (8, 0.672), (16, 0.836)):
        p = stats.paired_bootstrap(windows, np.zeros(count), samples=2_000, block=block)
        assert p == pytest.approx(math.erfc(1.5 / math.sqrt(2 * share)), abs=0.025)
    parts = windows[None, :, None]
    of_parts = stats.paired_bootstrap(
        parts, 0 * parts, samples=2_000, block=16, combine=lambda means: means[..., 0]
    )
    assert of_parts == pytest.approx(p, abs=1e-3)


@pytest.mark.parametrize(("block", "is_told"), [(10, True), (11, False)])
def test_bootstrap_needs_ten_blocks(block: int, is_told: bool) -> None:
    a = np.arange(100.0)
    assert (stats.paired_bootstrap(a, a + 1, block=block) < 0.05) == is_told
    group = stats.best_group({"a": a, "b": a + 1}, lower_is_better=True, block=block)
    assert group == ({"a"} if is_told else set())


def test_bootstrap_rejects_an_empty_block() -> None:
    with pytest.raises(ValueError, match="block is 0"):
        stats.paired_bootstrap([1.0], [2.0], block=0)


def test_bootstrap_is_two_sided_and_paired() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(50, 20, size=300)  # sequences differ far more than the two models do
    a, b = hard + rng.normal(0, 0.1, 300), hard + rng.normal(0.1, 0.1, 300)
    forward, backward = stats.paired_bootstrap(a, b), stats.paired_bootstrap(b, a)
    assert forward == backward == 1 / 10_001
    assert stats.paired_bootstrap(a, rng.permutation(b)) > 0.5  # unpaired, it drowns


def test_equal_scores_have_p_one() -> None:
    scores = np.linspace(0, 1, 20)
    assert stats.paired_bootstrap(scores, scores, samples=99) == 1.0


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, 2.0], [1.0], "same test sequences"),
        ([], [], "same test sequences"),
        ([1.0, math.nan], [1.0, 2.0], "not finite"),
    ],
)
def test_bootstrap_rejects_bad_scores(a: list, b: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stats.paired_bootstrap(a, b)


def test_bootstrap_rejects_no_samples() -> None:
    with pytest.raises(ValueError, match="samples is 0"):
        stats.paired_bootstrap([1.0], [2.0], samples=0)


@pytest.fixture
def scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    hard = rng.normal(50, 20, size=200)
    return {
        "good": hard + rng.normal(0, 1, 200),
        "as good": hard + rng.normal(0, 1, 200),
        "worse": hard + rng.normal(3, 1, 200),
    }


def test_best_group_holds_what_cannot_be_told_apart(scores: dict[str, np.ndarray]) -> None:
    assert stats.best_group(scores, lower_is_better=True) == {"good", "as good"}
    assert stats.best_group(scores, lower_is_better=False) == {"worse"}


def test_best_group_agrees_with_the_pairwise_test(scores: dict[str, np.ndarray]) -> None:
    close = {
        "a": scores["good"],
        "b": scores["good"] + np.random.default_rng(4).normal(0.1, 1, 200),
    }
    together = stats.best_group(close, lower_is_better=True) == {"a", "b"}
    assert together == (stats.paired_bootstrap(close["a"], close["b"]) >= 0.05)


def test_a_diverged_row_is_never_best(scores: dict[str, np.ndarray]) -> None:
    scores["diverged"] = np.full(200, -np.inf)
    scores["broken"] = np.full(200, np.nan)
    assert stats.best_group(scores, lower_is_better=True) == {"good", "as good"}
    assert stats.best_group({"broken": [math.nan]}, lower_is_better=True) == set()


def exact_in(values: np.ndarray, *sequences: int) -> np.ndarray:
    """PSNRs of which those of some sequences are infinite."""
    values = values.copy()
    values[list(sequences)] = np.inf
    return values


@pytest.mark.filterwarnings("error")
def test_an_infinite_mean_is_the_best_where_higher_is_better(scores: dict[str, np.ndarray]) -> None:
    exact = exact_in(scores["good"] - 20, 7)  # one exact prediction, and otherwise the worst
    assert stats.best_group(scores | {"exact": exact}, lower_is_better=False) == {"exact"}


def test_infinite_means_are_equal(scores: dict[str, np.ndarray]) -> None:
    both = {"a": exact_in(scores["good"], 7), "b": exact_in(scores["worse"], *range(100))}
    assert stats.best_group(both | scores, lower_is_better=False) == {"a", "b"}
    nan = both["b"].copy()
    nan[150] = np.nan
    assert stats.best_group(both | {"b": nan}, lower_is_better=False) == {"a"}


def test_an_infinite_error_is_never_best(scores: dict[str, np.ndarray]) -> None:
    scores["diverged"] = exact_in(scores["good"] - 40, 3)
    assert stats.best_group(scores, lower_is_better=True) == {"good", "as good"}


def test_best_group_of_one(scores: dict[str, np.ndarray]) -> None:
    assert stats.best_group({"only": scores["worse"]}, lower_is_better=True) == {"only"}


def test_best_group_rejects_different_test_sets(scores: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="'short'"):
        stats.best_group(scores | {"short": np.zeros(3)}, lower_is_better=True)


@pytest.mark.parametrize(("sequences", "is_told"), [(1, False), (9, False), (10, True)])
def test_from_few_sequences_no_difference_is_told(sequences: int, is_told: bool) -> None:
    a = np.linspace(1, 2, sequences)
    assert (stats.paired_bootstrap(a, a + 1) < 0.05) == is_told
    best = {"a"} if is_told else set()
    assert stats.best_group({"a": a, "b": a + 1}, lower_is_better=True) == best
    parts = np.stack([a, a], axis=-1)[None]
    assert stats.best_group({"a": parts, "b": parts + 1}, True, lambda of: of[..., 0]) == best
