"""PhyDNet: published sizes, the forward and loss checks, moments, teacher forcing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from forward_check import Expected, check, check_sequence, set_constant_weights
from model_rows import random_frames

from baselines.phydnet import PhyCell, PhyDNet
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=4, channels=2, height=8, width=12)


def tiny(**options: object) -> PhyDNet:
    torch.manual_seed(0)
    return PhyDNet(TINY, **{"hidden": (4, 64), **options})


# The paper's equations and size


def test_forward_equals_the_reference() -> None:
    # Values are for widths (128, 128, 64). Channels are equal under constant weights, so only the
    # widths' ratios matter.
    expected = Expected(0.51055946, 0.02945403, 0.50093443, 0.50512265, 0.53299536)
    check(PhyDNet(Clip(), hidden=(64, 64, 32)), Clip(), expected)


def test_loss_equals_the_reference() -> None:
    model = PhyDNet(Clip()).double().eval()
    set_constant_weights(model)
    with torch.no_grad():
        loss = model.loss(*Clip().split(check_sequence(Clip())))
        moments = model.physical.moment_error()
    assert loss.item() == pytest.approx(3.6350107063, abs=1e-7)
    assert moments.item() == pytest.approx(1.3010839635, abs=1e-7)


def step_macs(clip: Clip, stride: int) -> int:
    """Closed form of a step: encoder, PhyCell, LSTM, decoder, with GroupNorm's 5."""
    pixels = clip.height * clip.width // stride**2
    above = clip.height * clip.width // 4  # behind the encoder's first stride
    below = 4 * pixels  # behind the decoder's
    unit = 9 * 64 * 64 + 5 * 64  # a 3x3 convolution at the latent width, with its norm
    encoder = above * (9 * 32 * clip.channels + 5 * 32 + 9 * 32 * 32 + 5 * 32)
    encoder += pixels * (9 * 32 * 64 + 5 * 64)
    # A transposed convolution costs its input's pixels.
    decoder = pixels * 9 * 64 * 32 + below * (5 * 32 + 9 * 32 * 32 + 5 * 32)
    decoder += below * 9 * 32 * clip.channels
    phycell = pixels * (49 * 64 * 49 + 5 * 49 + 49 * 64 + 9 * 128 * 64)
    lstm = pixels * 9 * sum(4 * n * (n_in + n) for n_in, n in ((64, 128), (128, 128), (128, 64)))
    return encoder + decoder + pixels * 8 * unit + phycell + lstm


MOMENTS = 64 * 2 * 49 * 7**3  # multiply-adds of the moment term, which the published counts include


@pytest.mark.parametrize(
    ("clip", "stride", "published", "count"),
    [
        (Clip(), 4, 15.3275, 3_091_732),
        (Clip(4, 4, 2, 32, 32), 2, 5.5981, 3_092_309),
        (Clip(10, 20, 1, 128, 128), 4, 93.5675, 3_091_732),
        (Clip(10, 1, 3, 128, 160), 4, 40.3910, 3_092_886),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_published_size(clip: Clip, stride: int, published: float, count: int) -> None:
    model = cost.build_on_meta(PhyDNet, clip, {"stride": stride})
    step = step_macs(clip, stride)
    assert cost.macs(model, replace(clip, past=1, future=1)) == step
    assert round(((clip.frames - 1) * step + MOMENTS) / 1e9, 4) == published
    assert cost.parameters(model) == count


def test_every_step_is_counted() -> None:
    clip = Clip(past=2, future=2)
    model = cost.build_on_meta(PhyDNet, clip, {})
    assert cost.published_macs(model, clip) == 3 * step_macs(clip, 4)


# Moments


def derivative_filters(channels: int) -> PhyCell:
    """A PhyCell whose filters have the wanted moments: k_n = M^-1 D_n M^-T."""
    cell = PhyCell(channels).double()
    inverse = cell.moments.inverse()
    filters = inverse @ torch.eye(49).double().reshape(49, 7, 7) @ inverse.T
    with torch.no_grad():
        cell.derive.weight.copy_(filters[:, None].expand(-1, channels, -1, -1))
    return cell


def test_derivative_filters_have_no_moment_error() -> None:
    cell = derivative_filters(3)
    assert cell.moment_error().item() < 1e-12
    with torch.no_grad():
        cell.derive.weight[5, 2] = 0  # moment 1 at one place lacks: 1 of 49 x 49, in one channel
    assert cell.moment_error().item() == pytest.approx(1 / 49**2, rel=1e-6)
    with torch.no_grad():
        cell.derive.weight.zero_()
    assert cell.moment_error().item() == pytest.approx(3 / 49, rel=1e-6)


def test_filters_without_moment_error_differentiate() -> None:
    derive = derivative_filters(1).derive
    y, x = torch.meshgrid(torch.arange(11).double(), torch.arange(11).double(), indexing="ij")
    with torch.no_grad():
        found = derive((y**2 * x)[None, None])[0, :, 5, 5] - derive.bias
    expected = torch.zeros(7, 7).double()
    # value, d/dx, d/dy, d2/dydx, d2/dy2, d3/dy2dx at (5, 5)
    expected[0, 0], expected[0, 1], expected[1, 0] = 125, 25, 50
    expected[1, 1], expected[2, 0], expected[2, 1] = 10, 10, 2
    torch.testing.assert_close(found.reshape(7, 7), expected, atol=1e-4, rtol=0)


# Teacher forcing


@pytest.mark.parametrize(
    ("epoch", "probability"), [(0, 1), (1, 0.997), (100, 0.7), (333, 0.001), (334, 0), (2000, 0)]
)
def test_forcing_falls_as_published(epoch: int, probability: float) -> None:
    model = tiny()
    model.step_count.fill_(625 * epoch)
    assert model.forcing_probability().item() == pytest.approx(probability, abs=2e-6)


def test_one_draw_decides_for_the_whole_batch() -> None:
    model = tiny(sampling_stop=0.5)
    model.begin_training(8)
    model.step_count.fill_(3)
    torch.manual_seed(0)
    draws = torch.stack([model.draw_mask(5, 3, 4) for _ in range(1000)])
    assert draws.shape == (1000, 5, 3)
    first = draws[:, :1, :1]
    assert (draws == first).all()
    assert first.double().mean().item() == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("training", [False, True])
def test_loss_sums_the_errors_of_frames_and_adds_the_moment_error(training: bool) -> None:
    net = tiny().train(training)
    past, future = random_frames(TINY, 3)
    predictions, target, _ = net.unroll_with_target(past, future)
    errors = (predictions - target).square().mean(dim=(0, 2, 3, 4))
    expected = errors.sum() + net.physical.moment_error()
    net.step_count.zero_()
    torch.testing.assert_close(net.loss(past, future), expected)


def test_autocast_does_not_round_the_moments() -> None:
    net = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        moments = net.physical.moment_error()
    assert moments.item() == net.physical.moment_error().item()


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (128, 48)}, r"hidden is \(128, 48\); .* divisible by 32"),
        ({"stride": 3}, "stride is 3; expected 2 or 4"),
        ({"stride": 8}, "stride is 8; expected 2 or 4"),
        ({"stride": 4}, r"stride is 4; .* 62x48"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        PhyDNet(Clip(height=62, width=48), **options)
