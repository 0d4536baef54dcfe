"""WaST: check values, the released size, wavelets, the frequency loss, late stochastic depth."""

from __future__ import annotations

import math

import pytest
import torch
from model_rows import TAXI, random_frames
from numbered_weights import Statistics, fill, statistics, waves
from torch import Tensor

from baselines.wast import BANDS, FrequencyAttention, WaST, focal_frequency_loss, haar, inverse_haar
from benchmarks.experiment import cost
from tau import Clip

TINY = Clip(4, 4, 2, 8, 12)


def tiny(clip: Clip = TINY, **options: object) -> WaST:
    torch.manual_seed(0)
    sizes = {"hidden": 3, "depths": (1, 1, 1), "kernels": (5, 3), "mlp_ratio": 1}
    return WaST(clip, **{**sizes, **options})


def test_forward_equals_the_reference() -> None:
    model, past = tiny(depths=(1, 2, 1), kernels=(51, 21), mlp_ratio=2), waves(2, TINY)
    assert fill(model, lambda: model(past, 4), scale=lambda r: 0.5 + 0.2 * r) == 304
    assert cost.parameters(model) == 52_670
    expected = Statistics(-4.56292396, 3.82095281, -218.19780050, -0.01094679, -0.00896934)
    with torch.no_grad():
        assert statistics(model(past, 4)) == pytest.approx(expected, rel=0, abs=1e-8)


def test_released_size() -> None:
    parameters, macs = cost.size(WaST, TAXI, {})
    assert parameters == 5_132_822 - (4 * 80 + 8 * 160)  # a second layer scale, never used
    # With means and wavelets by convolution, as released: 1.300403 G, of which fvcore sees 1.048089
    # as it does not count padding "same".
    bands = 8 * TAXI.past * TAXI.height * TAXI.width * (TAXI.channels + 2 * 20)
    means = 4 * (4 * 80 * 32**2 + 8 * 160 * 16**2)
    assert round(macs / 1e9, 6) == 1.296404
    assert (macs + bands + means) / 1e9 == pytest.approx(1.300403, abs=2e-6)


def block_macs(width: int, pixels: int, sides: int, kernel: int, ratio: int) -> int:
    """Closed form at C' channels, in eval mode."""
    hidden, squeezed = max(8, width // 4), round(ratio * width / 4)
    kernels = pixels * width * (10 * kernel + 25 + 3 * 2)
    attention = 2 * sides * (2 * width * hidden + 2 * hidden)
    residual = pixels * ratio * width * (2 * width + 49 + 2 * 2) + 2 * ratio * width * squeezed
    return kernels + attention + residual + pixels * width * (2 * 2 + 2)


def test_macs_of_a_block_follow_the_closed_form() -> None:
    sizes = [cost.size(WaST, TAXI, {"depths": (1, n, 1)})[1] for n in (1, 2)]
    assert sizes[1] - sizes[0] == block_macs(160, 16 * 16, 16 + 16, 21, 4)


# Wavelets and the loss


def test_haar_takes_sums_and_differences_of_neighbours_and_is_orthonormal() -> None:
    x = torch.randn(2, 3, 4, 6, 8, dtype=torch.float64)
    bands = dict(zip(BANDS, haar(x, (2, 3, 4)), strict=True))
    for name, band in bands.items():
        signs = [1 if letter == "L" else -1 for letter in name]
        wanted = sum(
            signs[0] ** t * signs[1] ** r * signs[2] ** c * x[:, :, t::2, r::2, c::2]
            for t in (0, 1)
            for r in (0, 1)
            for c in (0, 1)
        )
        torch.testing.assert_close(band, wanted / 8**0.5)
    torch.testing.assert_close(inverse_haar(list(bands.values()), (2, 3, 4)), x)


def pair() -> tuple[Tensor, Tensor]:
    t, y, x = torch.meshgrid(*(torch.arange(n).double() for n in (10, 64, 64)), indexing="ij")
    waves = (0.3 * t + 0.2 * x + 0.1 * y, 0.31 * t + 0.2 * x + 0.1 * y + 0.05)
    first, second = ((0.5 + 0.5 * torch.sin(wave))[None, :, None] for wave in waves)
    return first, second


def test_the_frequency_loss_equals_the_reference() -> None:
    prediction, target = pair()
    assert focal_frequency_loss(prediction, target).item() == pytest.approx(8.304767e-08, rel=1e-7)


def test_equal_frames_have_no_frequency_loss_and_a_finite_gradient() -> None:
    frames = torch.rand(2, 3, 1, 8, 8, requires_grad=True)
    loss = focal_frequency_loss(frames, frames.detach())
    (gradient,) = torch.autograd.grad(loss, frames)
    assert loss.item() == 0
    assert not gradient.any()


def test_low_frequencies_weigh_nothing() -> None:
    columns = torch.arange(64) / 64
    flat = torch.zeros(1, 1, 1, 64, 64)
    losses = [
        focal_frequency_loss(flat + torch.cos(2 * math.pi * k * columns), flat).item()
        for k in (0, 1, 3, 4)  # a tenth of the LL band's 32 is 3.2
    ]
    assert losses[:3] == pytest.approx([0, 0, 0], abs=1e-9)
    assert losses[3] > 1e-3


def test_the_loss_is_squared_error_plus_the_weighed_frequency_loss() -> None:
    model = tiny(frequency_weight=10.0).eval()
    past, future = random_frames(TINY)
    with torch.no_grad():
        prediction = model(past, 4)
        error = (prediction - future).square().mean()
        expected = error + 10 * focal_frequency_loss(prediction, future)
        torch.testing.assert_close(model.loss(past, future), expected)


def test_attention_weighs_rows_and_columns_apart() -> None:
    torch.manual_seed(0)
    attention = FrequencyAttention(3).eval()
    z = torch.rand(2, 3, 4, 6)
    with torch.no_grad():
        weight = attention(z) / z
    pairs = (
        weight[:, :, 1:, 1:] * weight[:, :, :1, :1] / weight[:, :, 1:, :1] / weight[:, :, :1, 1:]
    )
    torch.testing.assert_close(pairs, torch.ones_like(pairs))  # an outer product
    assert (weight.std(2) > 0).all()
    assert (weight.std(3) > 0).all()


# Stochastic depth and other lengths


def test_stochastic_depth_begins_late_and_rises_with_depth() -> None:
    model = tiny(depths=(1, 2, 2), drop_path=0.4, late=0.25).train()
    blocks = [*model.first, *model.bottleneck, *model.last]
    assert [block.drop_path for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    model.begin_training(8)
    past, future = random_frames(TINY)
    draws = []
    with torch.no_grad():
        for block in blocks:
            block.scale.fill_(10)
        for _ in range(4):
            torch.manual_seed(0)
            draws.append([model.loss(past, future).item(), torch.rand(()).item()])
    assert draws[0][0] == draws[1][0], "the first two of eight losses"
    assert draws[2][0] != draws[0][0]
    assert model.state_dict()["step_count"].item() == 4
    model.eval().loss(past, future)
    assert model.step_count.item() == 4


def test_an_odd_number_of_frames_is_read_with_the_first_one_twice() -> None:
    past = torch.rand(2, 3, 2, 8, 12)
    model, even = tiny(Clip(3, 3, 2, 8, 12)).eval(), tiny().eval()
    even.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = even(torch.cat([past[:, :1], past], dim=1), 4)[:, 1:]
        torch.testing.assert_close(model(past, 3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": Clip(4, 4, 1, 9, 8)}, "frames are 9x8; expected even sizes"),
        ({"depths": (1, 1)}, r"depths is \(1, 1\); expected three"),
        ({"kernels": (51, 20)}, r"kernels is \(51, 20\); expected two odd sizes"),
        ({"late": 1.5}, "late is 1.5; expected 0 <= late < 1"),
    ],
)
def test_bad_options(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        tiny(**options)
