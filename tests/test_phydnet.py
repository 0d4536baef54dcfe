"""PhyDNet: published sizes, the forward and loss checks, moments, teacher forcing."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from compiled import Backend
from forward_check import Expected, check, check_clip, set_constant_weights
from torch import Tensor

from baselines.phydnet import PhyCell, PhyDNet
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=4, channels=2, height=8, width=12)


def tiny(**options: object) -> PhyDNet:
    torch.manual_seed(0)
    return PhyDNet(TINY, **{"hidden": (4, 64), **options})


def clips(batch: int = 3, clip: Clip = TINY) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, clip.frames, clip.channels, clip.height, clip.width)
    return clip.split(torch.rand(shape, generator=generator))


def fed(model: PhyDNet, frames: Tensor, taught: bool, past: int = 3) -> Tensor:
    """The N-1 predictions, sample by sample and frame by frame."""
    rows = []
    for clip in frames:
        row: list[Tensor] = []
        state = None
        for t in range(frames.shape[1] - 1):
            x = model.encoder(clip[t : t + 1] if t < past or taught else row[-1])
            frame, state = model.step(x, model.init_state(x) if state is None else state)
            row.append(frame)
        rows.append(torch.stack(row, dim=1))
    return torch.cat(rows)


def summed_error(model: PhyDNet, past: Tensor, future: Tensor, taught: bool) -> Tensor:
    frames = torch.cat([past, future], dim=1)
    errors = (fed(model, frames, taught) - frames[:, 1:]).square().mean(dim=(0, 2, 3, 4))
    return errors.sum() + model.physical.moment_error()


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
        loss = model.loss(*Clip().split(check_clip(Clip())))
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


def test_macs_equal_fvcores() -> None:
    model = tiny()
    assert cost.macs(model, TINY) == cost.fvcore_macs(model, TINY)


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


# Forecasting


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("horizon", [1, 3, 9])
def test_forecast_feeds_itself(stride: int, horizon: int) -> None:
    net = tiny(stride=stride).eval()
    past, _ = clips()
    with torch.no_grad():
        found = net(past, horizon)
        frames = torch.cat([past, past.new_zeros(3, horizon, *past.shape[2:])], dim=1)
        expected = fed(net, frames, taught=False)[:, -horizon:]
    assert found.shape == (3, horizon, 2, 8, 12)
    torch.testing.assert_close(found, expected)


def test_known_frames_are_encoded_at_once() -> None:
    net = tiny()
    past, future = clips()
    sizes: list[int] = []
    net.encoder.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    net(past, 3)
    assert sizes == [9, 3, 3]
    sizes.clear()
    net.loss(past, future)
    assert sizes == [9, 3, 3, 3]
    sizes.clear()
    net.eval().loss(past, future)
    assert sizes == [9, 3, 3, 3]


def test_a_prediction_depends_on_earlier_frames_only() -> None:
    net = tiny()
    frames = torch.cat(clips(), dim=1).requires_grad_()
    predictions, _ = net.unroll(frames, 7, torch.ones(3, 4, dtype=torch.bool))
    for t in range(7):
        gradient = torch.autograd.grad(predictions[:, t].sum(), frames, retain_graph=True)[0]
        touched = gradient.abs().amax(dim=(0, 2, 3, 4)) > 0
        assert touched.tolist() == [u <= t for u in range(7)]


@pytest.mark.parametrize("horizon", [0, -1, 2.0])
def test_horizon_is_a_positive_integer(horizon: int) -> None:
    with pytest.raises(ValueError, match=f"horizon is {horizon!r}"):
        tiny()(clips()[0], horizon)


# Teacher forcing


@pytest.mark.parametrize(
    ("epoch", "probability"), [(0, 1), (1, 0.997), (100, 0.7), (333, 0.001), (334, 0), (2000, 0)]
)
def test_forcing_falls_as_published(epoch: int, probability: float) -> None:
    model = tiny()
    model.step_count.fill_(625 * epoch)
    assert model.forcing_probability().item() == pytest.approx(probability, abs=2e-6)


@pytest.mark.parametrize("stop", [1, 4, 208_333])
def test_forcing_ends_at_its_step(stop: int) -> None:
    model = tiny(sampling_stop=stop)
    model.step_count.fill_(stop - 1)
    assert model.forcing_probability().item() == pytest.approx(1 / stop, rel=0.02)
    model.step_count += 1
    assert model.forcing_probability().item() == 0
    assert not model.draw_mask(8, 3, 4).any()


def test_forcing_starts_with_the_truth_and_ends_with_own_predictions() -> None:
    net = tiny(sampling_stop=9)
    past, future = clips()
    taught, free = (summed_error(net, past, future, taught) for taught in (True, False))
    assert abs(taught.item() - free.item()) > 1e-6
    torch.testing.assert_close(net.loss(past, future), taught)
    assert net.step_count.item() == 1
    net.step_count.fill_(9)
    torch.testing.assert_close(net.loss(past, future), free)
    net.step_count.zero_()
    torch.testing.assert_close(net.eval().loss(past, future), free)
    assert net.step_count.item() == 0


def test_one_coin_falls_for_the_whole_batch() -> None:
    model = tiny(sampling_stop=4)
    model.step_count.fill_(3)
    torch.manual_seed(0)
    draws = torch.stack([model.draw_mask(5, 3, 4) for _ in range(1000)])
    assert draws.shape == (1000, 5, 3)
    coins = draws[:, :1, :1]
    assert (draws == coins).all()
    assert coins.double().mean().item() == pytest.approx(0.25, abs=0.07)


def test_one_future_frame_leaves_nothing_to_force() -> None:
    model = tiny(sampling_stop=1)
    past, future = clips()
    losses = [model.loss(past, future[:, :1]).item() for _ in range(2)]
    assert losses[0] == losses[1]


def test_a_restored_model_continues_the_schedule() -> None:
    net = tiny(sampling_stop=4)
    past, future = clips()
    for _ in range(2):
        net.loss(past, future)
    other = PhyDNet(TINY, hidden=(4, 64), sampling_stop=4)
    other.load_state_dict(net.state_dict())
    torch.manual_seed(3)  # both coins before the end fall for the truth
    expected = [net.loss(past, future).item() for _ in range(5)]
    torch.manual_seed(3)
    assert [other.loss(past, future).item() for _ in range(5)] == expected
    assert [loss == expected[0] for loss in expected] == [True, True, False, False, False]


# Training


def test_autocast_and_float64() -> None:
    net = tiny()
    past, future = clips()
    exact = net.eval()(past, 4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(past, 4)
        moments = net.physical.moment_error()
        loss = net.train().loss(past, future)
    loss.backward()
    assert rounded.dtype == loss.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.02
    assert moments.item() == net.physical.moment_error().item()  # not rounded
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.double().eval()
    double = net(past.double(), 4)
    assert double.dtype == net.train().loss(past.double(), future.double()).dtype == torch.float64
    torch.testing.assert_close(double, exact.double(), atol=1e-5, rtol=0)


def test_compile_compiles_the_step_and_the_encoder() -> None:
    net = tiny()
    past, future = clips()
    keys = list(net.state_dict())
    expected = net.loss(past, future)
    net.step_count.zero_()
    backend = Backend()
    net.compile(backend=backend)
    torch.testing.assert_close(net.loss(past, future), expected)
    # encoder: 3 + 2 + 2; step: PhyCell 3, LSTM 2, decoder 2 + 2 + 3
    convolutions = backend.count(torch.conv2d, torch.conv_transpose2d)
    assert set(convolutions) == {7, 12}
    assert sum(convolutions[i] == 12 for i in backend.runs) == 6
    assert sum(convolutions[i] == 7 for i in backend.runs) == 4
    assert len(convolutions) <= 4  # first batch and others; first state and others
    assert list(net.state_dict()) == keys

    twin = copy.deepcopy(net)
    for parameter in twin.parameters():
        torch.nn.init.zeros_(parameter)
    assert (twin(past, 1) == 0.5).all()  # its own weights, not the compiled original's


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, r"hidden is \(\)"),
        ({"hidden": (128, 48)}, r"hidden is \(128, 48\); .* divisible by 32"),
        ({"stride": 3}, "stride is 3; expected 2 or 4"),
        ({"stride": 8}, "stride is 8; expected 2 or 4"),
        ({"stride": 4}, r"stride is 4; .* 62x48"),
        ({"sampling_stop": 0}, "sampling_stop is 0"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        PhyDNet(Clip(height=62, width=48), **options)


def test_frames_beyond_the_sigmoid_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"data_range is 255.0"):
        PhyDNet(Clip(data_range=255.0))
