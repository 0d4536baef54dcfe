"""Metrics of totals over a test set: against plain loops, and from the command to the table."""

from __future__ import annotations

import json
import math
import pickle
import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import run_folders, tensors

from benchmarks import files, run
from benchmarks.data import Arrays
from benchmarks.experiment.execute import execute, find_run
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.store import CHECKSUM, read_run, write_record
from benchmarks.experiment.verify import (
    TOLERANCE,
    compare_scores,
    largest_difference,
    other_of,
    score,
)
from benchmarks.further_metrics import RMSE
from benchmarks.metrics import MSE
from benchmarks.report import figures, stats
from benchmarks.run import main
from benchmarks.totals import (
    MEAN_MAE,
    MEAN_MSE,
    ROOT_MSE,
    SCORES,
    Errors,
    anomaly_correlation,
    event_score,
    latitude_weighted_mae,
    latitude_weighted_rmse,
    of_channels,
)

GRID = np.linspace(-87.1875, 87.1875, 32)  # of WeatherBench at 5.625 degrees
THRESHOLDS = (16, 74, 133, 160, 181, 219)
RANGE = (0, 255)


def number(metric, pred: np.ndarray, true: np.ndarray) -> float:
    """The table's number of frames [N, T, C, H, W] in [0, 1]."""
    return metric.number(metric(*tensors(pred, true), 1.0).numpy())


def noisy(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction that leaves [0, 1], and its target of 8 bits, in float32."""
    rng = np.random.default_rng(1)
    true = rng.integers(0, 256, shape).astype(np.float32) / 255
    return true + rng.normal(0, 0.3, shape).astype(np.float32), true


# --- errors --------------------------------------------------------------------------------------


def test_errors_on_the_polar_rows_weigh_less():
    """Values of WeatherBench's weights, computed apart: 2 of 32 rows are off by 1."""
    true = np.zeros((2, 3, 1, 32, 64))
    pred = true.copy()
    pred[..., [0, 31], :] = 1
    weighted = latitude_weighted_rmse(GRID)
    assert number(ROOT_MSE, pred, true) == 0.25
    assert number(weighted, pred, true) == pytest.approx(0.06939217, abs=5e-9)
    assert number(latitude_weighted_mae(GRID), pred, true) == pytest.approx(0.06939217**2, abs=5e-9)
    for metric in (weighted, ROOT_MSE, MEAN_MSE, MEAN_MAE, latitude_weighted_mae(GRID)):
        assert number(metric, true + 1, true) == pytest.approx(1, rel=1e-12)
    single = true.copy()
    single[..., 15, :] = 1
    assert number(weighted, single, true) ** 2 * 32 == pytest.approx(1.56827425, abs=5e-9)


def test_a_root_of_totals_is_that_of_all_errors_and_not_the_mean_of_roots():
    pred, true = (x.astype(float) for x in noisy(5, 3, 2, 8, 9))
    pred[0] += 1
    squares = [(p - t) ** 2 for p, t in zip(pred.ravel(), true.ravel(), strict=True)]
    expected = math.sqrt(sum(squares) / len(squares))
    assert number(ROOT_MSE, pred, true) == pytest.approx(expected, rel=1e-12)
    assert number(MEAN_MSE, pred, true) == pytest.approx(expected**2, rel=1e-12)
    assert number(MEAN_MAE, pred, true) == pytest.approx(np.abs(pred - true).mean(), rel=1e-12)
    assert number(RMSE, pred, true) < 0.9 * expected


def test_weighted_errors_are_those_of_a_plain_loop_over_rows_and_chosen_channels():
    pred, true = (x.astype(float) for x in noisy(2, 2, 3, 4, 5))
    latitudes = (-80.0, -10.0, 30.0, 85.0)
    cosines = [math.cos(math.radians(latitude)) for latitude in latitudes]
    total, count = 0.0, 0
    for n, t, c, h, w in np.ndindex(pred.shape):
        if c in (0, 2):
            weight = cosines[h] / (sum(cosines) / 4)
            total += weight * (pred[n, t, c, h, w] - true[n, t, c, h, w]) ** 2
            count += 1
    metric = latitude_weighted_rmse(latitudes)
    metric = replace(metric, function=replace(metric.function, channels=(0, 2)))
    assert number(metric, pred, true) == pytest.approx(math.sqrt(total / count), rel=1e-12)
    assert metric(*tensors(7 * pred, 7 * true), 1.0).mean().item() == pytest.approx(
        7**metric.degree * total / count, rel=1e-12
    )


def test_a_variable_among_several_is_in_its_unit_or_the_square_of_it():
    told = {}
    for metric in (ROOT_MSE, MEAN_MSE, MEAN_MAE, anomaly_correlation(GRID)):
        of_t = of_channels(metric, "t", (0,), 170, "K")
        told[of_t.name] = (of_t.factor, of_t.unit)
    assert told == {
        "rmse_total_t": (170, "K"),
        "mse_mean_t": (170**2, "K^2"),
        "mae_mean_t": (170, "K"),
        "acc_latitude_t": (1, "cos φ"),
    }


def test_what_does_not_fit_the_frames_is_refused():
    x = torch.zeros(1, 1, 2, 16, 32)
    with pytest.raises(ValueError, match="frames have 16 rows; expected 32, one for each latitude"):
        latitude_weighted_rmse(GRID)(x, x, 1.0)
    with pytest.raises(ValueError, match="frames have 2 channels; expected more than 2"):
        Errors(2, channels=(0, 2))(x, x, 1.0)
    for latitudes in ((), (0.0, 90.5), (math.nan,)):
        with pytest.raises(ValueError, match=r"latitudes are .*expected degrees from -90 to 90"):
            latitude_weighted_mae(latitudes)


# --- anomalies -----------------------------------------------------------------------------------


class Climate(NamedTuple):
    """A data set of which nothing is known but its mean frame."""

    frame: np.ndarray

    def climatology(self) -> np.ndarray:
        return self.frame


def anomaly_correlation_by_loops(pred, true, climatology, latitudes, channels) -> float:
    products = [0.0, 0.0, 0.0]
    for n, t, c, h, w in np.ndindex(pred.shape):
        if c in channels:
            weight = math.cos(math.radians(latitudes[h]))
            f, o = (x[n, t, c, h, w] - climatology[c, h, w] for x in (pred, true))
            for i, product in enumerate((f * o, f * f, o * o)):
                products[i] += weight * product
    return products[0] / math.sqrt(products[1] * products[2])


def test_the_anomaly_correlation_is_that_of_plain_loops():
    pred, true = (x.astype(float) for x in noisy(3, 2, 3, 4, 5))
    climate = Climate(np.random.default_rng(3).uniform(0, 1, (3, 4, 5)))
    latitudes = (-80.0, -10.0, 30.0, 85.0)
    of_two = of_channels(anomaly_correlation(latitudes), "wind", (0, 2)).of(climate)
    for metric, weights, channels in (
        (anomaly_correlation().of(climate), (0.0,) * 4, (0, 1, 2)),
        (anomaly_correlation(latitudes).of(climate), latitudes, (0, 1, 2)),
        (of_two, latitudes, (0, 2)),
    ):
        expected = anomaly_correlation_by_loops(pred, true, climate.frame, weights, channels)
        assert number(metric, pred, true) == pytest.approx(expected, rel=1e-12)
        frames = tensors(255 * pred, 255 * true)
        assert metric.number(metric(*frames, 255.0).numpy()) == pytest.approx(expected, rel=1e-12)


def test_the_anomaly_correlation_tells_skill_over_the_climatology():
    _, true = noisy(4, 3, 1, 8, 8)
    climate = Climate(true.mean((0, 1), dtype=float))
    metric = anomaly_correlation().of(climate)
    normal = np.tile(climate.frame.astype(np.float32), (4, 3, 1, 1, 1))
    assert number(metric, true, true) == pytest.approx(1, abs=1e-6)
    assert number(metric, 2 * normal - true, true) == pytest.approx(-1, abs=1e-6)
    assert number(metric, (normal + true) / 2, true) == pytest.approx(1, abs=1e-6)
    zero = anomaly_correlation().of(Climate(np.zeros((1, 8, 8))))
    assert number(zero, np.zeros_like(true), true) == 0, "0/0: the climatology has no skill"
    true[0, 0, 0, 0, 0] = np.nan
    assert math.isnan(number(metric, true, normal))


def test_an_anomaly_correlation_needs_a_climatology_that_fits():
    x = torch.zeros(1, 1, 1, 8, 8)
    with pytest.raises(ValueError, match="has no climatology; Metric"):
        anomaly_correlation()(x, x, 1.0)
    with pytest.raises(ValueError, match=r"frames are \(1, 8, 8\); expected \(2, 8, 8\)"):
        anomaly_correlation().of(Climate(np.zeros((2, 8, 8))))(x, x, 1.0)
    assert ROOT_MSE.of(Climate(np.zeros((2, 8, 8)))) is ROOT_MSE


def test_a_plan_fits_the_metric_to_the_mean_training_frame(suite, dataset, clips_file):
    """Of 40 clips the first 32 are trained on."""
    expected = np.load(clips_file)[: dataset.train_sequences].mean((0, 1)) / 255
    assert dataset.train_sequences == 32
    panels = (replace(suite.panels[0], columns=(anomaly_correlation(),)),)
    run = plan_panel(replace(suite, panels=panels), "smoke", dataset, "cpu", rows=["Conv"])[0]
    for planned in (run, pickle.loads(pickle.dumps(run))):
        found = planned.metrics["acc"].function.climatology
        np.testing.assert_allclose(found, expected, atol=1e-7)


def test_a_report_fits_no_metric_and_its_faults_are_named(suite, dataset):
    class Own(Arrays):
        def climatology(self):
            raise KeyError("mean.npy")

    panels = (replace(suite.panels[0], columns=(anomaly_correlation(),)),)
    own = Own(dataset._train.array.path)
    with pytest.raises(ValueError, match=r"metric 'acc' on .*: KeyError: 'mean\.npy'"):
        plan_panel(replace(suite, panels=panels), "smoke", own, "cpu")
    assert plan_panel(replace(suite, panels=panels), "smoke", own, "cpu", scores=False)


# --- events --------------------------------------------------------------------------------------


def counted(pred, true, threshold: int, pool: int = 1) -> tuple[int, int, int, int]:
    """Hits, misses, false alarms and correct negatives of all frames, by a plain loop."""
    counts = [0, 0, 0, 0]
    *frames, height, width = pred.shape
    for index in np.ndindex(*frames):
        for y in range(0, height, pool):
            for x in range(0, width, pool):
                block = (*index, slice(y, y + pool), slice(x, x + pool))
                found = float(pred[block].max()) * 255 >= threshold
                there = round(float(true[block].max()) * 255) >= threshold
                counts[{(1, 1): 0, (0, 1): 1, (1, 0): 2, (0, 0): 3}[found, there]] += 1
    return tuple(counts)


@pytest.mark.parametrize("pool", [1, 4])
def test_event_scores_are_those_of_counts_by_a_plain_loop(pool):
    pred, true = noisy(2, 2, 1, 10, 8)  # 10 rows leave an edge of 2 beside pools of 4
    each = {name: [] for name in SCORES}
    for threshold in THRESHOLDS:
        h, m, f, c = counted(pred, true, threshold, pool)
        assert min(h, m, f) > 0 or pool > 1
        each["csi"].append(h / (h + m + f))
        each["pod"].append(h / (h + m))
        each["sucr"].append(h / (h + f))
        each["far"].append(f / (h + f))
        each["hss"].append(
            2 * (h * c - m * f) / w if (w := (h + m) * (m + c) + (h + f) * (f + c)) else 1.0
        )
    for name, values in each.items():
        mean = event_score(name, THRESHOLDS, RANGE, pool=pool)
        assert number(mean, pred, true) == pytest.approx(np.mean(values), rel=1e-6), name
        for threshold, value in zip(THRESHOLDS, values, strict=True):
            alone = event_score(name, [threshold], RANGE, pool=pool)
            assert number(alone, pred, true) == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_totals_are_counted_before_the_ratio_is_taken():
    true = np.zeros((2, 1, 1, 2, 2), np.float32)
    true[0] = 1
    pred = true.copy()
    pred[1, ..., 0] = 1  # two false alarms beside four hits
    metric = event_score("csi", [128], RANGE)
    assert number(metric, pred, true) == pytest.approx(4 / 6)
    assert np.mean([number(metric, p[None], t[None]) for p, t in zip(pred, true, strict=True)]) == (
        0.5
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_of_256_levels_is_an_event_at_its_own_threshold(dtype):
    levels = np.arange(1, 256)
    frames = (levels.astype(dtype) / dtype(255)).reshape(-1, 1, 1, 1, 1)
    for level, frame in zip(levels, frames, strict=True):
        metric = event_score("csi", [level], RANGE)
        hits, misses, false_alarms = metric(*tensors(frame[None], frame[None]), 1.0).flatten()
        assert (hits, misses, false_alarms) == (1, 0, 0), level
    just_below = tensors(frames[14][None], frames[15][None])  # 15 and 16
    assert event_score("csi", [16], RANGE)(*just_below, 1.0).flatten().tolist() == [0, 1, 0]


def test_nothing_to_find_and_nothing_found_is_perfect_and_nan_is_never_lost():
    nothing = np.zeros((1, 2, 1, 4, 4), np.float32)
    broken = nothing.copy()
    broken[0, 1, 0, 3, 3] = np.nan
    for name in SCORES:
        metric = event_score(name, [16, 74], RANGE)
        assert number(metric, nothing, nothing) == (0 if name == "far" else 1)
        found = metric(*tensors(broken, nothing), 1.0)
        assert found.isnan().all(-1).tolist() == [[False, True]]
        assert math.isnan(number(metric, broken, nothing))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("cis", [16], RANGE), "did you mean 'csi'"),
        (("csi", [], RANGE), r"thresholds are \(\); expected one or more in rising order"),
        (("csi", [74, 16], RANGE), "rising order, above 0 and no more than 255"),
        (("csi", [0, 16], RANGE), "above 0"),
        (("csi", [256], RANGE), "no more than 255"),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        event_score(*options)
    with pytest.raises(ValueError, match="pool is 0"):
        event_score("csi", [16], RANGE, pool=0)


# --- others, keys --------------------------------------------------------------------------------

EVERY = (
    *(
        MEAN_MSE,
        MEAN_MAE,
        ROOT_MSE,
        latitude_weighted_rmse(GRID[:10]),
        latitude_weighted_mae(GRID[:10]),
    ),
    *(event_score(name, THRESHOLDS, RANGE) for name in SCORES),
    event_score("csi", [74], RANGE, pool=4),
    anomaly_correlation().of(Climate(np.full((1, 10, 8), 0.4))),
    anomaly_correlation(GRID[:10]).of(Climate(np.full((1, 10, 8), 0.4))),
)


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_others_compute_the_same_parts_and_a_copy_is_equal(metric):
    pred, true = noisy(2, 2, 1, 10, 8)
    pred[1, 0, 0, 3, 3] = np.nan
    ours = metric(*tensors(pred, true), 1.0).numpy()
    theirs = score(other_of(metric), pred.astype(float), true.astype(float), 1.0)
    assert theirs.shape == ours.shape
    assert largest_difference(ours, theirs)[0] < TOLERANCE
    assert pickle.loads(pickle.dumps(metric)) == metric


def test_metrics_of_other_latitudes_thresholds_and_pools_have_other_names_or_digests():
    told = [(metric.name, metric.digest) for metric in EVERY]
    told += [
        (m.name, m.digest)
        for m in (latitude_weighted_rmse(GRID), event_score("csi", [1, 2], RANGE))
    ]
    assert len(set(told)) == len(told)


# --- the bootstrap -------------------------------------------------------------------------------


def test_the_bootstrap_of_a_ratio_resamples_sequences_and_combines_then():
    rng = np.random.default_rng(2)
    combine = SCORES["csi"]
    a = rng.dirichlet([3, 2, 2, 9], (2, 30))[..., :3]  # two seeds of 30 sequences
    b = rng.dirichlet([3, 2, 3, 9], (1, 30))[..., :3]
    one, other = (np.mean([combine(seed.mean(0)) for seed in x]) for x in (a, b))
    assert stats.number(a, combine) == pytest.approx(one, rel=1e-12)
    again = np.random.default_rng(7)
    extreme = 0
    for _ in range(200):
        drawn = again.integers(30, size=30)
        means = [np.mean([combine(seed[drawn].mean(0)) for seed in x]) for x in (a, b)]
        extreme += abs(means[0] - means[1] - (one - other)) >= abs(one - other)
    assert 2 < extreme < 190
    found = stats.paired_bootstrap(a, b, samples=200, seed=7, combine=combine)
    assert found == (extreme + 1) / 201
    assert stats.paired_bootstrap(a, a, samples=50, combine=combine) == 1
    with pytest.raises(ValueError, match="of the same test sequences"):
        stats.paired_bootstrap(a, b[:, :20], combine=combine)


def test_the_best_group_of_ratios_may_differ_from_that_of_means():
    csi, stormy = SCORES["csi"], (np.arange(200) % 2 == 0)[:, None]
    of_storms = np.where(stormy, [0.6, 0.2, 0.2], [0.001, 0.005, 0.004])[None]
    of_drizzle = np.where(stormy, [0.5, 0.3, 0.2], [0.005, 0.003, 0.002])[None]
    scores = {"of storms": of_storms, "of drizzle": of_drizzle}
    assert stats.best_group(scores, False, csi) == {"of storms"}
    means = {label: csi(parts[0]) for label, parts in scores.items()}
    assert stats.best_group(means, False) == {"of drizzle"}


def test_the_best_group_of_ratios_has_what_differs_within_noise_alone():
    hits = np.random.default_rng(0).uniform(0.1, 0.5, (1, 200))
    good = np.stack([hits, 0.1 * hits, 0.1 * hits], -1)
    noise = np.where(np.arange(200) % 2, 0.051, -0.049)[:, None]  # 0.001 is a third of its error
    scores = {"good": good, "as good": good + noise * [1, 0, 0], "worse": good * [1, 3, 3]}
    scores["broken"] = np.full_like(good, np.nan)
    assert stats.best_group(scores, False, SCORES["csi"]) == {"good", "as good"}
    assert stats.best_group(scores, True, SCORES["far"]) == {"good", "as good"}
    with pytest.raises(ValueError, match="expected the same test sequences"):
        stats.best_group(scores | {"short": good[:, :9]}, False, SCORES["csi"])


def test_a_mean_as_parts_has_the_p_value_of_the_mean():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, 40), rng.normal(0.4, 1, 40)
    parts = (x[None, :, None] for x in (a, b))
    assert stats.paired_bootstrap(*parts, samples=500, combine=lambda m: m[..., 0]) == (
        pytest.approx(stats.paired_bootstrap(a, b, samples=500), abs=2 / 501)
    )


# --- the command ---------------------------------------------------------------------------------

CSI = event_score("csi", (30, 60), (0, 100), pool=2)
COLUMNS = (MSE, ROOT_MSE, CSI, latitude_weighted_mae(GRID[:16]), anomaly_correlation())


@pytest.fixture
def command(suite, clips_file, tmp_path, monkeypatch):
    """Two rows of the tiny suite, with two seeds, whose panel has metrics of totals."""
    panels = (replace(suite.panels[0], columns=COLUMNS),)
    chosen = replace(suite, panels=panels, rows=suite.rows[:2])
    monkeypatch.setattr(run, "find_suite", lambda _: chosen)
    monkeypatch.setattr(figures, "draw", lambda *_, **__: [])
    options = ("--precision", "fp32", "--device", "cpu", "--seeds", "2")
    return ["--suite", "tiny", "--data", str(clips_file), *options, "--out", str(tmp_path / "out")]


def test_totals_go_from_the_command_to_table_record_page_and_back(command, tmp_path, capsys):
    assert main([*command, "--no-figures"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\| RMSE ↓ \| CSI-M ↑.*pool 2", out)
    assert "an event is 30, 60 or above, the mean over these thresholds; 0/0 is perfect" in out
    folders = run_folders(tmp_path / "out")
    assert len(folders) == 4
    for folder in folders:
        record = json.loads((folder / "record.json").read_text())
        scores = np.load(folder / "scores.npz")
        assert scores["csi_m_pool2"].shape == (*scores["mse"].shape, 6)
        mse = scores["mse"].mean(dtype=float) / math.prod(
            record["clip"][x] for x in ("channels", "height", "width")
        )
        assert record["means"]["rmse_total"] == pytest.approx(math.sqrt(mse), rel=1e-6)
        shares = scores["csi_m_pool2"].mean((0, 1), dtype=float)
        assert record["means"]["csi_m_pool2"] == pytest.approx(
            np.mean([h / (h + m + f) if h + m + f else 1 for h, m, f in shares.reshape(-1, 3)])
        )
    written = {path.name: path.read_bytes() for path in (tmp_path / "out" / "tables").iterdir()}
    (path,) = (tmp_path / "out" / "records").iterdir()
    rebuild = [*command[:4], "--report", str(path), "--against", str(path), "--out"]
    capsys.readouterr()
    assert main([*rebuild, str(tmp_path / "again")]) == 0
    assert "10 equal" in capsys.readouterr().out
    for name, content in written.items():
        assert (tmp_path / "again" / "tables" / name).read_bytes() == content
    assert (tmp_path / "again" / "records" / path.name).read_bytes() == path.read_bytes()
    (page,) = (tmp_path / "again" / "report").rglob("index.html")
    assert "CSI-M" in page.read_text(encoding="utf-8")


def test_totals_in_the_datas_own_unit_are_stored_found_again_and_verified(suite, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "rain.npy", rng.uniform(-20, 30, (20, 4, 1, 8, 8)).astype(np.float32))
    dataset = Arrays(tmp_path / "rain.npy", data_range=(-20, 30))
    columns = (
        *(ROOT_MSE, latitude_weighted_rmse(GRID[:8]), event_score("csi", [0, 9], (-20, 30))),
        anomaly_correlation(GRID[:8]),
    )
    panels = (replace(suite.panels[0], columns=columns),)
    (run,) = plan_panel(
        replace(suite, panels=panels),
        "smoke",
        dataset,
        "cpu",
        rows=["Last frame"],
        precision="fp32",
    )
    stored = execute(run, tmp_path / "runs")
    assert 15 < stored.means["rmse_total"] < 25  # of two uniform values, 20.4; not of [0, 1]
    assert 0.3 < stored.means["csi_m"] < 0.45
    ((text, agrees),) = compare_scores(run, stored, columns)
    assert agrees and re.match(
        r"rmse_total \S+, rmse_latitude \S+, csi_m \S+, acc_latitude \S+ \(", text
    )
    assert abs(stored.means["acc_latitude"]) < 0.3  # of noise
    assert find_run(run, tmp_path / "runs").means == stored.means
    scores = stored.scores()
    scores["csi_m"][0, 0, 0] += 0.1
    files.write_npz(stored.folder / "scores.npz", scores)
    record = read_run(stored.folder).record
    record["files"]["scores.npz"] = files.sha256(stored.folder / "scores.npz")
    del record[CHECKSUM]
    write_record(stored.folder, record)
    with pytest.raises(ValueError, match=r"has means that are not those of scores\.npz"):
        find_run(run, tmp_path / "runs")


def mean_only(pred, true, data_range):
    """One score of each frame, where parts are expected."""
    return (pred - true).mean((-3, -2, -1))


def test_a_metric_that_gives_no_parts_to_combine_is_refused(suite, dataset):
    panels = (
        replace(suite.panels[0], columns=(replace(ROOT_MSE, function=mean_only, digest=None),)),
    )
    with pytest.raises(ValueError, match=r"'rmse_total' gives \(1, 1\) .* \(1, 1, K\): K parts"):
        plan_panel(replace(suite, panels=panels), "smoke", dataset, "cpu")


def parts(pred, true, data_range):
    """Two parts of a score, of a user's own: squared error and energy."""
    return torch.stack(
        [(pred - true).square().sum((-3, -2, -1)), true.square().sum((-3, -2, -1))], -1
    )


def share(means):
    """The error's share of the energy."""
    return means[..., 0] / np.maximum(means[..., 1], 1e-9)


def excess(means):
    """Another combination of the same parts."""
    return means[..., 0] - means[..., 1]


def third(means):
    """There is none."""
    return means[..., 2]


def test_the_key_covers_how_parts_are_combined_and_a_fault_there_is_found_first(suite, dataset):
    def planned(combine):
        metric = replace(ROOT_MSE, name="own", function=parts, combine=combine, digest=None)
        panels = (replace(suite.panels[0], columns=(metric,)),)
        return plan_panel(replace(suite, panels=panels), "smoke", dataset, "cpu")[0]

    assert planned(share).key == planned(share).key != planned(excess).key
    with pytest.raises(
        ValueError, match=r"metric 'own' on .*: IndexError: index 2 is out of bounds"
    ):
        planned(third)
