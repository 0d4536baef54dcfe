import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from benchmarks import metrics
from benchmarks.metrics import (
    METRICS,
    mae,
    mse,
    psnr,
    psnr_uint8_wrap,
    ssim,
    ssim_range2,
    ssim_uint8,
)

SHAPES = [(1, 7, 7), (2, 8, 9), (3, 7, 12), (1, 64, 64)]
DTYPES = [torch.float32, torch.float64]
RANGED = [ssim, ssim_range2, ssim_uint8, psnr, psnr_uint8_wrap]
SSIM_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
DECIBEL_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def blobs(generator: torch.Generator, batch: int, time: int, shape: tuple[int, ...]) -> Tensor:
    """Bright blobs on exact black, the look of Moving MNIST: [B, T, C, H, W] in [0, 1]."""
    channels, height, width = shape
    centre = torch.rand(2, batch, time, channels, 1, 1, generator=generator, dtype=torch.float64)
    y = torch.arange(height).view(-1, 1) / height - centre[0]
    x = torch.arange(width) / width - centre[1]
    return (1.6 * torch.exp(-(y**2 + x**2) / 0.03) - 0.1).clamp(0, 1)


def frames(kind: str, shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A prediction and its target, float64 [2, 3, C, H, W]; targets lie in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    size = (2, 3, *shape)
    noise = torch.randn(size, generator=generator, dtype=torch.float64)
    if kind == "noise":
        return tuple(torch.rand(2, *size, generator=generator, dtype=torch.float64))
    if kind == "constant":
        level = torch.linspace(0.05, 0.95, 6, dtype=torch.float64).view(2, 3, 1, 1, 1)
        return (0.9 * level).expand(size), level.expand(size)
    true = blobs(generator, 2, 3, shape)
    if kind == "black":
        return torch.zeros(size, dtype=torch.float64), true
    if kind == "equal":
        return true.clone(), true
    if kind == "bright":  # large means and small variances, where squares cancel
        return 0.97 + 0.001 * noise, 0.97 + 0.0005 * torch.roll(noise, 1)
    assert kind == "blobs"
    return true + 0.1 * noise, true  # leaves [0, 1] on both sides


KINDS = ["blobs", "noise", "constant", "black", "equal", "bright"]


def per_frame(score: Callable[..., float], pred: Tensor, true: Tensor) -> np.ndarray:
    """Apply a NumPy score to each frame [C, H, W], in float64."""
    return np.array(
        [
            [score(p.double().numpy(), t.double().numpy()) for p, t in zip(ps, ts, strict=True)]
            for ps, ts in zip(pred, true, strict=True)
        ]
    )


def to_uint8(x: Tensor, data_range: float = 1.0) -> np.ndarray:
    """What the published codes do: multiply in the frames' precision, let the cast truncate."""
    return (x.numpy() * x.numpy().dtype.type(255 / data_range)).astype(np.uint8)


def skimage_ssim(pred: Tensor, true: Tensor, data_range: float, **options: object) -> np.ndarray:
    return per_frame(
        lambda p, t: structural_similarity(p, t, channel_axis=0, data_range=data_range, **options),
        pred,
        true,
    )


# Against NumPy and scikit-image


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
class TestAgainstReference:
    def test_mse_and_mae(self, kind, shape, dtype):
        pred, true = (x.to(dtype) for x in frames(kind, shape))
        rtol = 1e-6 if dtype == torch.float32 else 1e-13
        squared = per_frame(lambda p, t: ((p - t) ** 2).sum(), pred, true)
        absolute = per_frame(lambda p, t: np.abs(p - t).sum(), pred, true)
        np.testing.assert_allclose(mse(pred, true).numpy(), squared, rtol=rtol)
        np.testing.assert_allclose(mae(pred, true).numpy(), absolute, rtol=rtol)

    @pytest.mark.parametrize(("metric", "factor"), [(ssim, 1), (ssim_range2, 2)])
    def test_ssim(self, kind, shape, dtype, metric, factor):
        pred, true = (x.to(dtype) for x in frames(kind, shape))
        expected = skimage_ssim(pred.clamp(0, 1), true, factor)
        score = metric(pred, true, 1.0)
        assert score.dtype == dtype
        np.testing.assert_allclose(score.numpy(), expected, rtol=0, atol=SSIM_TOLERANCE[dtype])

    def test_ssim_uint8(self, kind, shape, dtype):
        pred, true = (x.to(dtype) for x in frames(kind, shape))
        expected = skimage_ssim(
            torch.from_numpy(to_uint8(pred.clamp(0, 1))), torch.from_numpy(to_uint8(true)), 255
        )
        score = ssim_uint8(pred, true, 1.0).numpy()
        np.testing.assert_allclose(score, expected, rtol=0, atol=SSIM_TOLERANCE[dtype])

    @pytest.mark.filterwarnings("ignore:divide by zero")  # equal frames
    def test_psnr(self, kind, shape, dtype):
        pred, true = (x.to(dtype) for x in frames(kind, shape))
        expected = per_frame(
            lambda p, t: peak_signal_noise_ratio(t, p, data_range=1.0), pred.clamp(0, 1), true
        )
        score = psnr(pred, true, 1.0).numpy()
        np.testing.assert_allclose(score, expected, rtol=0, atol=DECIBEL_TOLERANCE[dtype])

    @pytest.mark.filterwarnings("ignore:divide by zero")  # equal frames
    def test_psnr_uint8_wrap(self, kind, shape, dtype):
        pred, true = (x.to(dtype) for x in frames(kind, shape))
        squares = (to_uint8(pred.clamp(0, 1)) - to_uint8(true)) ** 2
        assert squares.dtype == np.uint8  # it is NumPy that wraps here
        expected = 20 * np.log10(255) - 10 * np.log10(squares.mean((2, 3, 4)))
        score = psnr_uint8_wrap(pred, true, 1.0).numpy()
        np.testing.assert_allclose(score, expected, rtol=0, atol=DECIBEL_TOLERANCE[dtype])


@pytest.mark.parametrize("metric", RANGED)
@pytest.mark.parametrize("kind", ["blobs", "constant"])
@pytest.mark.parametrize("data_range", [255.0, 0.3])
def test_scores_do_not_depend_on_the_unit_of_the_data(metric, kind, data_range):
    pred, true = frames(kind, (2, 8, 9))
    scaled = metric(pred * data_range, true * data_range, data_range)
    torch.testing.assert_close(scaled, metric(pred, true, 1.0), rtol=1e-11, atol=0)


@pytest.mark.parametrize("data_range", [255.0, 0.3])
def test_ssim_and_psnr_of_other_ranges(data_range):
    pred, true = (x * data_range for x in frames("blobs", (2, 8, 9)))
    clipped = pred.clamp(0, data_range)
    decibels = per_frame(
        lambda p, t: peak_signal_noise_ratio(t, p, data_range=data_range), clipped, true
    )
    for metric, expected in [
        (ssim, skimage_ssim(clipped, true, data_range)),
        (ssim_range2, skimage_ssim(clipped, true, 2 * data_range)),
        (psnr, decibels),
    ]:
        score = metric(pred, true, data_range).numpy()
        np.testing.assert_allclose(score, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        {"win_size": 5},
        {"use_sample_covariance": False},
        {"K1": 0.02},
        {"K2": 0.02},
        {"gaussian_weights": True},
        {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},  # Wang 2004
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(2, 11, 12), (1, 64, 64)])
def test_ssim_tolerance_would_notice_another_definition(shape, other):
    pred, true = frames("blobs", shape)
    pred = pred.clamp(0, 1)
    difference = np.abs(skimage_ssim(pred, true, 1.0, **other) - ssim(pred, true, 1.0).numpy())
    assert difference.max() > 100 * SSIM_TOLERANCE[torch.float32]


def test_ssim_tolerance_would_notice_an_11x11_window_or_an_uncropped_border():
    pred, true = (x[0, 0, 0].numpy() for x in frames("blobs", (1, 64, 64)))
    pred = pred.clip(0, 1)
    score = ssim(*(torch.from_numpy(x)[None, None, None] for x in (pred, true)), 1.0).item()
    cropped, full = structural_similarity(pred, true, data_range=1.0, full=True)
    assert score == pytest.approx(cropped, abs=1e-12)
    assert abs(full.mean() - score) > 1e-4
    assert abs(structural_similarity(pred, true, data_range=1.0, win_size=11) - score) > 1e-4


# Closed forms


def frame(*values: float, shape: tuple[int, ...] = (1, 7, 7)) -> Tensor:
    """Constant frames, one a value: float64 [1, T, C, H, W]."""
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1, 1).expand(1, -1, *shape)


def test_mse_and_mae_sum_over_channels_and_pixels():
    pred, true = frame(0.75, 0.5, shape=(2, 8, 9)), frame(0.25, 0.5, shape=(2, 8, 9))
    assert mse(pred, true).tolist() == [[0.25 * 2 * 8 * 9, 0.0]]
    assert mae(pred, true).tolist() == [[0.5 * 2 * 8 * 9, 0.0]]


@pytest.mark.parametrize(("metric", "spread"), [(ssim, 1.0), (ssim_range2, 2.0)])
def test_ssim_of_constant_frames_is_the_luminance_term(metric, spread):
    c1 = (0.01 * spread) ** 2
    score = metric(frame(0.2, 0.9), frame(0.6, 0.3), 1.0)
    expected = [(2 * a * b + c1) / (a * a + b * b + c1) for a, b in [(0.2, 0.6), (0.9, 0.3)]]
    assert score[0].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("metric", "spread"), [(ssim, 1.0), (ssim_range2, 2.0)])
def test_ssim_of_one_bright_pixel_on_black(metric, spread):
    """One window: mean 1/49, sample variance (1/49 - 1/49^2) 49/48 = 1/49, covariance 0."""
    pred, true = torch.zeros(2, 1, 1, 1, 7, 7, dtype=torch.float64)
    pred[..., 2, 5] = 1
    c1, c2 = (0.01 * spread) ** 2, (0.03 * spread) ** 2
    expected = c1 / (1 / 49**2 + c1) * c2 / (1 / 49 + c2)
    assert metric(pred, true, 1.0).item() == pytest.approx(expected, abs=1e-12)


def test_ssim_averages_windows_and_channels():
    """A corner pixel of an 8x9 frame lies in one of six windows; the other channel is right."""
    pred, true = torch.zeros(2, 1, 1, 2, 8, 9, dtype=torch.float64)
    pred[0, 0, 1, 7, 8] = 1
    window = 1e-4 / (1 / 49**2 + 1e-4) * 9e-4 / (1 / 49 + 9e-4)
    assert ssim(pred, true, 1.0).item() == pytest.approx((1 + (5 + window) / 6) / 2, abs=1e-12)


def test_ssim_uint8_truncates_and_does_not_round():
    a, b, c1 = 127, 51, 2.55**2  # 0.5 * 255 = 127.5
    score = ssim_uint8(frame(0.5), frame(0.2), 1.0).item()
    assert score == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-12)


def test_psnr_of_a_tenth_of_the_range_is_20_db():
    for data_range in (1.0, 255.0):
        pred, true = frame(0.5, 0.25) * data_range, frame(0.6, 0.35) * data_range
        assert psnr(pred, true, data_range)[0].tolist() == pytest.approx([20, 20])


def test_psnr_pools_channels():
    """The mean of the channels' own PSNRs (20 dB and 40 dB) would be 30 dB."""
    pred, true = torch.zeros(2, 1, 1, 2, 4, 4, dtype=torch.float64)
    pred[:, :, 0], pred[:, :, 1] = 0.1, 0.01
    assert psnr(pred, true, 1.0).item() == pytest.approx(-10 * math.log10((1e-2 + 1e-4) / 2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_frames(shape, dtype):
    x = frames("blobs", shape)[1].to(dtype)
    expected = {"mse": 0.0, "mae": 0.0, "psnr": math.inf, "psnr_uint8_wrap": math.inf}
    for name, metric in METRICS.items():
        assert (metric(x, x.clone(), 1.0) == expected.get(name, 1.0)).all(), name


# Known mistakes of the field


def single_pixels(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """8-bit levels as frames of one pixel in [0, 1], float32 [B, 1, 1, 1, 1]."""
    return tuple((x.float() / 255).reshape(-1, 1, 1, 1, 1) for x in (a, b))


def test_psnr_uint8_wraps_around():
    """|0 - 1|^2 is 1, but |10 - 26|^2 = 256 becomes 0, |100 - 0|^2 becomes 16, |5 - 20|^2 225."""
    pred, true = single_pixels(torch.tensor([0, 10, 100, 5]), torch.tensor([1, 26, 0, 20]))
    wrapped = 255**2 / 10 ** (psnr_uint8_wrap(pred.double(), true.double(), 1.0) / 10)
    assert wrapped.flatten().tolist() == pytest.approx([1, 0, 16, 225])
    correct = 255**2 / 10 ** (psnr(pred.double(), true.double(), 1.0) / 10)
    assert correct.flatten().tolist() == pytest.approx([1, 256, 10_000, 225])
    assert psnr_uint8_wrap(pred, true, 1.0)[1].item() == math.inf


def test_psnr_uint8_wrap_of_every_pair_of_levels_has_a_floor_of_24_17_db():
    level = torch.arange(256)
    a, b = (x.flatten() for x in torch.meshgrid(level, level, indexing="ij"))
    score = psnr_uint8_wrap(*single_pixels(a, b), 1.0).flatten()
    squares = (a.numpy().astype(np.uint8) - b.numpy().astype(np.uint8)) ** 2
    with np.errstate(divide="ignore"):
        expected = 20 * np.log10(255) - 10 * np.log10(squares.astype(float))
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-6)
    assert score.min().item() == pytest.approx(24.17, abs=0.005)


@pytest.mark.parametrize("kind", ["black", "noise"])
def test_psnr_uint8_wrap_praises_useless_predictions(kind):
    true = frames("blobs", (1, 64, 64))[1]
    pred = frames(kind, (1, 64, 64), seed=1)[0]
    assert psnr(pred, true, 1.0).max() < 16
    assert psnr_uint8_wrap(pred, true, 1.0).min() > 24.17
    assert (psnr_uint8_wrap(pred, true, 1.0) - psnr(pred, true, 1.0)).min() > 10


def test_ssim_range2_is_not_ssim():
    """A wrong range flatters, most of all under noise of low amplitude."""
    generator = torch.Generator().manual_seed(2)
    true = blobs(generator, 2, 3, (1, 64, 64))
    noise = torch.randn(true.shape, generator=generator, dtype=torch.float64)
    noisy = (true + 0.03 * noise).clamp(0, 1)
    shifted = torch.roll(true, 2, -1)
    for pred in (noisy, shifted):
        assert (ssim_range2(pred, true, 1.0) > ssim(pred, true, 1.0)).all()
    assert (ssim_range2(noisy, true, 1.0) - ssim(noisy, true, 1.0)).min() > 0.15
    assert (ssim_range2(shifted, true, 1.0) - ssim(shifted, true, 1.0)).max() < 0.1


def test_ssim_range2_is_the_dynamic_range_old_scikit_image_inferred():
    pred, true = frames("noise", (1, 64, 64))
    np.testing.assert_allclose(
        ssim_range2(pred, true, 1.0).numpy(), skimage_ssim(pred, true, 1 - (-1)), atol=1e-12
    )


def test_ssim_uint8_does_not_see_noise_below_one_level():
    true = torch.zeros(1, 1, 1, 16, 16)
    pred = 0.9 / 255 * torch.rand(true.shape, generator=torch.Generator().manual_seed(0))
    assert ssim_uint8(pred, true, 1.0).item() == 1
    assert ssim(pred, true, 1.0).item() < 0.999


def test_uint8_kinds_keep_all_256_levels_of_float32_frames():
    level = torch.arange(256, dtype=torch.float32).view(1, 1, 1, 16, 16)
    for data_range in (1.0, 255.0):
        x = level / 255 * data_range
        exact = level / 255
        assert psnr_uint8_wrap(x / data_range, exact, 1.0).item() == math.inf
        assert ssim_uint8(x, level * (data_range / 255), data_range).item() == 1
        assert torch.equal(metrics._levels(x, data_range), level)


def test_ssim_does_not_mind_swapped_height_and_width():
    """The published calls pass frames as (W, H, C)."""
    pred, true = frames("blobs", (2, 8, 9))
    swapped = ssim(pred.transpose(-1, -2), true.transpose(-1, -2), 1.0)
    torch.testing.assert_close(swapped, ssim(pred, true, 1.0), rtol=0, atol=1e-12)


def test_predictions_are_clipped_for_ssim_and_psnr_but_not_for_mse_and_mae():
    true = frames("blobs", (1, 16, 16))[1]
    pred = true.clone()
    pred[..., :4, :4], pred[..., 8:, 8:] = -0.4, 1.7
    clipped = pred.clamp(0, 1)
    for metric in RANGED:
        assert torch.equal(metric(pred, true, 1.0), metric(clipped, true, 1.0)), metric.__name__
    for metric in (mse, mae):
        assert (metric(pred, true) > metric(clipped, true)).all(), metric.__name__


# Contract


@pytest.mark.parametrize("name", METRICS)
def test_every_frame_is_scored_alone(name):
    pred, true = frames("blobs", (2, 8, 9))
    score = METRICS[name](pred, true, 1.0)
    assert score.shape == (2, 3)
    for b, t in [(0, 0), (0, 2), (1, 1)]:
        alone = METRICS[name](pred[b : b + 1, t : t + 1], true[b : b + 1, t : t + 1], 1.0)
        torch.testing.assert_close(alone.item(), score[b, t].item(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("metric", [mse, mae, *RANGED])
def test_chunk_does_not_change_scores(metric):
    generator = torch.Generator().manual_seed(0)
    true = blobs(generator, 3, 7, (2, 9, 8))
    pred = true + 0.1 * torch.randn(true.shape, generator=generator, dtype=torch.float64)
    ranges = () if metric in (mse, mae) else (1.0,)
    whole = metric(pred, true, *ranges, chunk=1000)
    for chunk in (None, 1, 2, 7, 8, 14, 20):
        torch.testing.assert_close(
            metric(pred, true, *ranges, chunk=chunk), whole, rtol=1e-13, atol=0
        )
    for chunk in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"chunk is {chunk}"):
            metric(pred, true, *ranges, chunk=chunk)


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_chunk_bounds_the_frames_in_flight(chunk, monkeypatch):
    seen = []
    original = metrics._ssim

    def spy(x: Tensor, y: Tensor, data_range: float) -> Tensor:
        seen.append(x.shape[0] * x.shape[1])
        return original(x, y, data_range)

    monkeypatch.setattr(metrics, "_ssim", spy)
    x = torch.rand(5, 4, 1, 8, 8)
    ssim(x, x, 1.0, chunk=chunk)
    assert max(seen) == chunk
    assert sum(seen) == 20


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_in_float32(name, dtype):
    pred, true = (x.to(dtype) for x in frames("blobs", (1, 8, 9)))
    score = METRICS[name](pred, true, 1.0)
    assert score.dtype == torch.float32
    assert torch.equal(score, METRICS[name](pred.float(), true.float(), 1.0))


@pytest.mark.parametrize("name", METRICS)
def test_inputs_are_left_alone_and_need_no_layout(name):
    pred, true = frames("blobs", (2, 8, 9))
    strided = torch.stack([pred, true], -1).requires_grad_()
    before = strided.detach().clone()
    score = METRICS[name](strided[..., 0], strided[..., 1], 1.0)
    assert not score.requires_grad
    assert torch.equal(strided, before)
    torch.testing.assert_close(score, METRICS[name](pred, true, 1.0), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", METRICS)
def test_autocast_does_not_coarsen_scores(name):
    pred, true = (x.float() for x in frames("blobs", (1, 16, 16)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = METRICS[name](pred, true, 1.0)
    assert torch.equal(inside, METRICS[name](pred, true, 1.0))


@pytest.mark.parametrize("name", METRICS)
def test_a_diverged_prediction_never_gets_a_number(name):
    """A cast to uint8 would turn NaN into 0, and the score would look like any other."""
    pred, true = frames("blobs", (2, 16, 16))
    pred[0, 1, 1, 3, 4] = math.nan
    expected = torch.zeros(2, 3, dtype=torch.bool)
    expected[0, 1] = True
    assert torch.equal(METRICS[name](pred, true, 1.0).isnan(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_agrees_with_cpu(name, dtype):
    pred, true = (x.to(dtype) for x in frames("blobs", (3, 64, 64)))
    score = METRICS[name](pred.cuda(), true.cuda(), 1.0)
    assert score.is_cuda
    rtol = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(score.cpu(), METRICS[name](pred, true, 1.0), rtol=rtol, atol=0)


def test_metrics_know_what_tables_must_say():
    assert list(METRICS) == [
        "mse", "mae", "ssim", "ssim_range2", "ssim_uint8", "psnr", "psnr_uint8_wrap",
    ]  # fmt: skip
    assert len({m.convention for m in METRICS.values()}) == len(METRICS)
    true = blobs(torch.Generator().manual_seed(0), 1, 1, (1, 32, 32))
    near, far = 0.98 * true, torch.roll(true, 9, -1)
    for name in ("mse", "mae", "ssim", "ssim_range2", "ssim_uint8", "psnr"):
        metric = METRICS[name]
        improves = metric(near, true, 1.0) - metric(far, true, 1.0)
        assert improves.item() * {"lower": -1, "higher": 1}[metric.better] > 0, name
    assert {name for name, m in METRICS.items() if m.heading == "PSNR"} == {
        *("psnr", "psnr_uint8_wrap")
    }
    for metric in METRICS.values():
        assert "\n" not in metric.convention


GOOD = torch.zeros(2, 3, 1, 8, 8)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("pred", "true", "message"),
    [
        (GOOD, GOOD[:1], r"\(2, 3, 1, 8, 8\) but true has \(1, 3, 1, 8, 8\)"),
        (GOOD[0], GOOD[0], r"\(3, 1, 8, 8\); expected a non-empty \[B, T, C, H, W\]"),
        (GOOD[:0], GOOD[:0], r"\(0, 3, 1, 8, 8\); expected a non-empty"),
        (GOOD, GOOD.double(), r"pred is torch.float32 but true is torch.float64"),
        (GOOD.byte(), GOOD.byte(), r"torch.uint8; expected floating point"),
        (GOOD.to(torch.complex64), GOOD.to(torch.complex64), r"complex64; expected floating"),
        (GOOD.to("meta"), GOOD, r"pred is on meta but true is on cpu"),
    ],
)
def test_mismatched_frames_are_refused(name, pred, true, message):
    with pytest.raises(ValueError, match=message):
        METRICS[name](pred, true, 1.0)


@pytest.mark.parametrize("metric", [ssim, ssim_range2, ssim_uint8])
@pytest.mark.parametrize("size", [(6, 7), (7, 6), (1, 64)])
def test_frames_smaller_than_the_window_are_refused(metric, size):
    x = torch.zeros(1, 1, 1, *size)
    with pytest.raises(ValueError, match=f"frames are {size[0]}x{size[1]} pixels.* 7x7"):
        metric(x, x, 1.0)


@pytest.mark.parametrize("metric", RANGED)
@pytest.mark.parametrize("data_range", [0, 0.0, -1.0, math.nan, math.inf])
def test_impossible_data_range_is_refused(metric, data_range):
    with pytest.raises(ValueError, match=f"data_range is {data_range}; expected a positive"):
        metric(GOOD, GOOD, data_range)


@pytest.mark.parametrize("metric", RANGED)
def test_data_range_has_no_default(metric):
    with pytest.raises(TypeError, match="data_range"):
        metric(GOOD, GOOD)


@pytest.mark.parametrize("metric", RANGED)
@pytest.mark.parametrize("outlier", [-0.01, 1.01, 255.0, math.nan])
def test_targets_outside_the_range_are_refused(metric, outlier):
    true = GOOD.clone()
    true[1, 2, 0, 3, 3] = outlier
    with pytest.raises(ValueError, match=r"true spans .* but data_range is 1; expected values in"):
        metric(GOOD, true, 1.0)


@pytest.mark.parametrize("metric", RANGED)
def test_rounding_errors_of_targets_are_tolerated(metric):
    exact, true = GOOD.clone(), GOOD.clone()
    exact[..., 0, 0], true[..., 0, 0], true[..., 1, 1] = 1, 1 + 1e-6, -1e-6
    pred = torch.full_like(GOOD, 0.5)
    torch.testing.assert_close(metric(pred, true, 1.0), metric(pred, exact, 1.0))
