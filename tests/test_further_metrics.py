"""Metrics that a user adds: against other implementations, and from the command to the table."""

from __future__ import annotations

import json
import math
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import run_folders, tensors
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from benchmarks import lpips, run
from benchmarks.experiment.plan import plan_panel, with_metrics
from benchmarks.experiment.spec import Panel
from benchmarks.further_metrics import FURTHER, RMSE, find_metric, ms_ssim, rmse
from benchmarks.metrics import METRICS, MSE, SECONDS_PER_EPOCH, SSIM, Metric, mse
from benchmarks.run import main


def waves(channels: int, height: int, width: int, time: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A prediction that leaves [0, 1], and its target: [1, T, C, H, W]."""
    t, c, y, x = np.ogrid[:time, :channels, :height, :width]
    true = 0.5 + 0.5 * np.sin((0.11 * y + 0.17 * x) * (c + 1) + t) * np.cos(0.05 * x)
    pred = true + 0.3 * np.sin(1.3 * y + 0.7 * x + c) * np.cos(2.1 * x - 0.4 * y + t)
    return pred[None], true[None]


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file of made-up weights of the right names and shapes, the same on every machine."""
    path = tmp_path_factory.mktemp("weights") / "lpips.pt"
    state = {}
    for seed, (name, shape) in enumerate(lpips.shapes().items()):
        values = np.sin(np.arange(math.prod(shape)) * 1.7 + seed) / math.sqrt(math.prod(shape[1:]))
        values = np.abs(values) if name.startswith("lin") else values
        state[name] = torch.from_numpy(values.reshape(shape)).float()
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def every(weights):
    """The three metrics, by name."""
    return FURTHER | {"lpips": lpips.with_weights(weights)}


NAMES = ("rmse", "ms_ssim", "lpips")


# --- against others ------------------------------------------------------------------------------


def test_rmse_is_the_root_of_each_frames_mean_and_not_of_all():
    pred, true = waves(2, 9, 8, time=3)
    pred[:, 1] = true[:, 1]
    expected = np.sqrt(((pred - true) ** 2).mean((2, 3, 4)))
    score = rmse(*tensors(pred, true))
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-13)
    assert score[0, 1] == 0
    np.testing.assert_allclose(score**2 * 2 * 9 * 8, mse(*tensors(pred, true)), rtol=1e-13)
    assert score.mean() < 0.9 * np.sqrt(((pred - true) ** 2).mean())


def other_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """MS-SSIM of two planes in [0, 1], by scikit-image and SciPy."""
    c1, factors = 0.01**2, []
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            odd = [(0, n % 2) for n in x.shape]
            x, y = (
                np.pad(z, odd, mode="edge")
                .reshape(-(-z.shape[0] // 2), 2, -(-z.shape[1] // 2), 2)
                .mean((1, 3))
                for z in (x, y)
            )
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        _, full = structural_similarity(x, y, data_range=1.0, full=True, **options)
        a, b = (gaussian_filter(z, 1.5, truncate=3.5) for z in (x, y))
        if scale < 4:
            full = full / ((2 * a * b + c1) / (a * a + b * b + c1))
        factors.append(max(full[5:-5, 5:-5].mean(), 0) ** exponent)
    return math.prod(factors)


@pytest.mark.parametrize("shape", [(1, 176, 192), (2, 161, 167)])
def test_ms_ssim_is_that_of_scikit_image_and_scipy(shape):
    pred, true = waves(*shape)
    planes = zip(pred[0, 0].clip(0, 1), true[0, 0], strict=True)
    expected = np.mean([other_ms_ssim(p, t) for p, t in planes])
    for data_range in (1.0, 50.0):
        score = ms_ssim(*tensors(pred * data_range, true * data_range), data_range)
        assert score.item() == pytest.approx(expected, rel=1e-10)


def test_ms_ssim_is_that_of_pytorch_msssim():
    """pytorch-msssim 1.0.0, whose window is float32, on the same frames:

    ms_ssim(torch.from_numpy(pred[0]).clamp(0, 1), torch.from_numpy(true[0]), data_range=1.0)
    """
    for shape, expected in [
        ((1, 176, 192), 0.9074946241289022),
        ((3, 256, 176), 0.9334948447667863),
    ]:
        score = ms_ssim(*tensors(*waves(*shape)), 1.0).item()
        assert score == pytest.approx(expected, abs=2e-6)


def test_a_negative_scale_counts_as_none():
    _, true = waves(1, 161, 161)
    assert ms_ssim(*tensors(1 - true, true), 1.0).item() == 0


def test_lpips_is_that_of_the_original_code(every):
    """Of the package lpips 0.1.4 with the same weights and `network.double()`:

    network(*(2 * torch.from_numpy(x[0]).clamp(0, 1).expand(-1, 3, -1, -1) - 1 for x in pair))
    """
    for shape, expected in [
        ((3, 64, 48), [0.005877633776462843, 0.005669403822657703]),
        ((1, 31, 33), [0.0007758742071008909, 0.000720091655064595]),
    ]:
        pred, true = (x * 7 for x in tensors(*waves(*shape, time=2)))
        score = every["lpips"](pred, true, 7.0)
        assert score[0].tolist() == pytest.approx(expected, rel=1e-6)


# --- the contract of every metric ----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_each_frame_is_scored_alone_in_full_precision_and_nan_is_never_lost(every, name):
    metric = every[name]
    pred, true = tensors(*waves(1, 166, 161, time=3))
    before = pred.clone()
    score = metric(pred.requires_grad_(), true, 1.0)
    assert score.shape == (1, 3) and score.dtype == torch.float64 and not score.requires_grad
    assert torch.equal(pred, before)
    alone = metric(pred[:, 1:2], true[:, 1:2], 1.0)
    torch.testing.assert_close(alone, score[:, 1:2], rtol=1e-12, atol=0)
    halves = [x.detach().bfloat16() for x in (pred, true)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = metric(*halves, 1.0)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, metric(*(x.float() for x in halves), 1.0))
    broken = pred.detach().clone()
    broken[0, 1, 0, -1, -1] = math.nan  # where AlexNet's windows do not reach
    assert metric(broken, true, 1.0).isnan().tolist() == [[False, True, False]]
    with pytest.raises(ValueError, match="expected one shape"):
        metric(pred, true[:, :1], 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_each_knows_its_best_score_and_its_direction(every, name):
    metric = every[name]
    pred, true = tensors(*waves(1, 161, 161))
    equal, near, far = (metric(true + w * (pred - true), true, 1.0).item() for w in (0, 0.1, 1))
    assert equal == pytest.approx(0 if metric.lower_is_better else 1, abs=1e-12)
    assert (equal < near < far) if metric.lower_is_better else (equal > near > far)
    shifted = true.clone() + 5
    clips = metric(shifted, true, 1.0) == metric(torch.ones_like(true), true, 1.0)
    assert clips.item() == ("not clipped" not in metric.convention)
    scaled = metric(7 * pred, 7 * true, 7.0).item()
    assert scaled == pytest.approx(7**metric.degree * far, rel=1e-10)


def test_frames_that_a_metric_cannot_score_are_refused_with_the_smallest_size(every):
    for name, height in ("ms_ssim", 161), ("lpips", 31):
        x = torch.rand(1, 1, 1, height, height)
        every[name](x, x, 1.0)
        small = x[..., 1:, :]
        said = f"{height - 1}x{height} pixels; {name} needs {height}x{height} or more"
        with pytest.raises(ValueError, match=said):
            every[name](small, small, 1.0)
    x = torch.rand(1, 1, 2, 32, 32)
    with pytest.raises(ValueError, match="frames have 2 channels; lpips takes 1 or 3"):
        every["lpips"](x, x, 1.0)


# --- what a user names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rsme", "did you mean 'rmse'.*valid: mse, .*rmse, ms_ssim, .*, lpips"),
        ("lpips", "lpips needs its weights, .*lpips=FILE; docs/metrics.md"),
        ("lpips=", "lpips needs its weights"),
        ("rmse=x.pt", "rmse takes no file; leave '=x.pt' out"),
    ],
)
def test_what_is_no_metric_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        find_metric(text)


def test_weights_that_are_missing_damaged_or_others_are_refused(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pt is missing; expected a file"):
        find_metric(f"lpips={tmp_path / 'absent.pt'}")
    state = torch.load(weights, weights_only=True)
    for number, (content, message) in enumerate(
        [
            ([1], "holds a list; expected a state dict"),
            ({"features.0.weight": 1}, "features.0.weight is <class 'int'>; expected a tensor"),
            ({k: v for k, v in state.items() if k != "lin3.model.1.weight"}, "lin3.* is missing"),
            (state | {"features.3.bias": torch.zeros(3)}, r"features.3.bias is .*\[3\].*\(192,\)"),
            (torch.nn.Linear(1, 1), "cannot be read as weights of lpips"),  # code, not weights
        ]
    ):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        with pytest.raises(ValueError, match=f"{message}.*docs/metrics.md"):
            find_metric(f"lpips={path}")
    path.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cannot be read as weights of lpips .*docs/metrics\.md"):
        find_metric(f"lpips={path}")


def test_weights_that_change_under_a_command_are_refused(weights, tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(weights.read_bytes())
    metric = find_metric(f"lpips={path}")
    path.write_bytes(weights.read_bytes() + b"\0")
    lpips._weights.cache_clear()  # as in another process
    x = torch.zeros(1, 1, 1, 32, 32)
    with pytest.raises(ValueError, match=r"w\.pt has changed since the command began"):
        metric(x, x, 1.0)


def test_metrics_are_added_to_the_panels_that_lack_them(suite):
    two = replace(suite, panels=(suite.panels[0], Panel(None, (RMSE, SECONDS_PER_EPOCH))))
    first, second = with_metrics(two, ["rmse", "ssim_range2"]).panels
    assert [c.name for c in first.columns[-2:]] == ["rmse", "ssim_range2"]
    assert [c.name for c in second.columns] == ["rmse", "seconds_per_epoch", "ssim_range2"]
    with pytest.raises(ValueError, match="--metrics has rmse twice"):
        with_metrics(two, ["rmse", "ms_ssim", "rmse"])
    with pytest.raises(ValueError, match="--metrics ssim is a column of the table already"):
        with_metrics(suite, ["ssim"])


# --- runs ----------------------------------------------------------------------------------------


def planned(suite, dataset, *columns):
    panels = (replace(suite.panels[0], columns=columns),)
    return plan_panel(replace(suite, panels=panels), "smoke", dataset, "cpu", rows=["TAU"])[0]


def bias(pred, true, data_range):
    """A metric of a user's own."""
    return (pred - true).mean((-3, -2, -1))


def spread(pred, true, data_range):
    """Another."""
    return (pred - true).std((-3, -2, -1))


BIAS = Metric(
    name="bias", heading="Bias", better="lower", digits=3, function=bias, convention="mean error"
)


def test_the_key_covers_further_metrics_and_nothing_else_of_the_columns(suite, dataset, weights):
    plain = planned(suite, dataset, MSE)
    assert planned(suite, dataset, SSIM, MSE.times(100)).key == plain.key
    one, two = lpips.with_weights(weights), lpips.column("0" * 64, bias)
    runs = [
        planned(suite, dataset, MSE, *more)
        for more in [(), (RMSE,), (BIAS,), (replace(BIAS, function=spread),), (two,), (RMSE, two)]
    ]
    assert len({run.key for run in runs}) == len(runs)
    assert runs[0] == plain and list(plain.metrics) == list(METRICS)
    assert planned(suite, dataset, RMSE).key == runs[1].key
    assert "test_further_metrics" in runs[2].code and "test_further_metrics" not in plain.code
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p, t, r: bias(p, t, r), "metric 'bias': function is .*<lambda>.* top of a module"),
        (mse, "metric 'bias' on .*: TypeError: "),
        (torch.cat, "metric 'bias' on .*: TypeError"),
    ],
)
def test_a_metric_that_cannot_work_is_an_error_before_anything_trains(
    suite, dataset, function, message
):
    with pytest.raises(ValueError, match=message):
        planned(suite, dataset, replace(BIAS, function=function))


def whole(pred, true, data_range):
    """No score of each frame."""
    return (pred - true).mean()


def test_a_metric_that_gives_no_score_for_each_frame_is_refused(suite, dataset):
    with pytest.raises(ValueError, match=r"metric 'bias' gives \(\) for one frame; expected"):
        planned(suite, dataset, replace(BIAS, function=whole))


def test_a_name_of_the_projects_metrics_means_that_metric():
    with pytest.raises(ValueError, match="metric 'mse' is not the one of benchmarks"):
        Panel(None, (replace(BIAS, name="mse"),))


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def command(suite, tmp_path, monkeypatch):
    """Trains the first row of the tiny suite on frames of 32x32, which lpips admits."""
    clips = np.random.default_rng(0).integers(0, 256, (20, 4, 1, 32, 32), np.uint8)
    np.save(tmp_path / "clips.npy", clips)
    monkeypatch.setattr(run, "find_suite", lambda _: replace(suite, rows=suite.rows[:1]))
    out = ("--no-figures", "--out", str(tmp_path / "out"))
    return ["--suite", "tiny", "--data", str(tmp_path / "clips.npy"), *out]


FP32 = ("--precision", "fp32", "--device", "cpu")


def test_columns_go_from_the_command_to_table_record_and_back(command, weights, tmp_path, capsys):
    asked = [*command, *FP32, "--metrics", "rmse", f"lpips={weights}"]
    assert main([*asked, "--verify"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\| RMSE ↓.*\| LPIPS ↓", out)
    assert "rmse: mean of each frame's root mean squared error over channels and pixels" in out
    assert re.search(r"verified .*, rmse \de-\d\d \(.*; no other library here computes lpips;", out)
    (folder,) = run_folders(tmp_path / "out")
    record = json.loads((folder / "record.json").read_text())
    assert list(record["means"]) == [*METRICS, "rmse", "lpips"]
    assert list(record["metrics"]) == ["rmse", "lpips"] and record["metrics"]["rmse"] is None
    assert record["metrics"]["lpips"][:12] in out

    written = {path.name: path.read_bytes() for path in (tmp_path / "out" / "tables").iterdir()}
    (path,) = (tmp_path / "out" / "records").iterdir()
    assert re.search(r"-rmse-lpips-[0-9a-f]{8}\.json$", path.name)
    again = tmp_path / "again"
    rebuild = [*command[:4], "--no-figures", "--report", str(path), "--out", str(again)]
    assert main(rebuild) == 0
    assert {path.name: path.read_bytes() for path in (again / "tables").iterdir()} == written
    assert (again / "records" / path.name).read_bytes() == path.read_bytes()
    assert main([*rebuild, "--metrics", "rmse"]) == 2
    assert "--metrics has no effect on --report" in capsys.readouterr().err

    scores = np.load(folder / "scores.npz")
    np.savez(folder / "scores.npz", **{n: scores[n] for n in scores.files if n != "rmse"})
    assert main([*asked, "--report"]) == 1
    assert "scores.npz is damaged or was changed" in capsys.readouterr().err


def test_a_metric_that_the_frames_are_too_small_for_is_an_error_of_one_line(command, capsys):
    assert main([*command, "--metrics", "ms_ssim"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: metric 'ms_ssim' on clips.npy: frames are 32x32 pixels; ms_ssim")
    assert "needs 161x161 or more" in line and "leave it out" in line


def test_the_plan_shows_the_columns_and_a_reference_takes_none(command, tmp_path, capsys):
    assert main([*command[:4], *FP32, "--metrics", "rmse", "--dry-run"]) == 0
    assert "\ncolumns: mse, mae, ssim, psnr, rmse\n" in capsys.readouterr().out
    update = ["--metrics", "rmse", "--check", str(tmp_path / "x.json"), "--update"]
    assert main([*command, *update]) == 2
    assert "--metrics has no effect on --update" in capsys.readouterr().err


def test_a_table_of_data_sets_has_no_metrics(capsys):
    assert main(["--suite", "datasets", "--metrics", "rmse"]) == 2
    assert "--metrics has no effect on suite 'datasets'" in capsys.readouterr().err


OWN = """
from dataclasses import replace

from baselines import LastFrame
from benchmarks import Panel, Row, Suite, Training
from benchmarks.metrics import MSE, Metric

def bias(pred, true, data_range):
    return (pred - true).mean((-3, -2, -1))

BIAS = Metric(name="bias", heading="Bias", better="lower", digits=3, function=bias,
              convention="mean error", degree=1)
TRAINING = {"smoke": Training(epochs=1, sequences=4, batch_size=4, val_sequences=4)}
SUITE = Suite("own", "Own", (Panel(None, (MSE, BIAS)),), (Row("Last frame", LastFrame),), TRAINING)
"""


def test_a_metric_of_a_users_suite_scores_its_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own_with_a_metric.py"
    path.write_text(OWN)
    asked = ["--suite", str(path), *command[2:]]
    assert main([*asked, *FP32]) == 0
    assert "| Bias ↓" in capsys.readouterr().out
    (record,) = (tmp_path / "out" / "records").iterdir()
    assert main([*asked, "--report", str(record)]) == 0
    assert "| Bias ↓" in capsys.readouterr().out
    at = asked.index("--data")
    other = ["--suite", "compare", *asked[at:], "--report", str(record)]
    assert main(other) == 2
    assert "scores 'bias', which are no metric of this project; give the --suite" in (
        capsys.readouterr().err
    )
