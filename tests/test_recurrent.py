"""Patches, the unroll, scheduled sampling, ConvLSTM and PredRNN."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from compiled import Backend
from forward_check import Expected, check
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.convlstm import ConvLSTM
from baselines.predrnn import PredRNN
from baselines.recurrent import Recurrent, fold_patches, unfold_patches
from tau.predictor import Clip

MODELS = (ConvLSTM, PredRNN)
TINY = Clip(past=3, future=4, channels=2, height=8, width=12)


def tiny(model: type[Recurrent], **options: object) -> Recurrent:
    torch.manual_seed(0)
    return model(TINY, **{"hidden": (4, 4), "kernel": 3, "patch": 2, **options})


def clips(batch: int = 3, clip: Clip = TINY) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, clip.frames, clip.channels, clip.height, clip.width)
    frames = torch.rand(shape, generator=generator)
    return frames[:, : clip.past], frames[:, clip.past :]


def fed(model: Recurrent, frames: Tensor, shown: Tensor) -> Tensor:
    """The N-1 predictions, folded, written out: sample b reads frame t where shown[b, t]."""
    rows = []
    for clip, flags in zip(fold_patches(frames, model.patch), shown.tolist(), strict=True):
        row: list[Tensor] = []
        state = model.init_state(clip[:1])
        for t, flag in enumerate(flags):
            encoded = model.encode(clip[t : t + 1] if flag else row[-1])
            frame, state = model.step(encoded, state)
            row.append(frame)
        rows.append(torch.stack(row, dim=1))
    return torch.cat(rows)


def mean_error(model: Recurrent, past: Tensor, future: Tensor, shown: Tensor) -> Tensor:
    frames = torch.cat([past, future], dim=1)
    target = fold_patches(frames, model.patch)[:, 1:]
    return (fed(model, frames, shown) - target).square().mean()


# Patches


def test_patches_are_ordered_by_row_column_channel() -> None:
    frames = torch.arange(2 * 3 * 2 * 4 * 6).reshape(2, 3, 2, 4, 6)
    folded = fold_patches(frames, 2)
    assert folded.shape == (2, 3, 8, 2, 3)
    for row, column, channel in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)):
        found = folded[:, :, row * 4 + column * 2 + channel]
        assert torch.equal(found, frames[:, :, channel, row::2, column::2])


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_unfolding_inverts_folding(patch: int) -> None:
    frames = torch.rand(2, 3, 2, 8, 12)
    assert torch.equal(unfold_patches(fold_patches(frames, patch), patch), frames)


# The paper's equations and size


# Values are for width 128. All channels of a layer are equal under constant weights, so any width
# gives them.
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ConvLSTM, Expected(0.00250562, 0.00152562, 0.00038830, 0.00553834, 0.00204789)),
        (PredRNN, Expected(0.49758861, 0.00924752, 0.33421458, 0.49964050, 0.49999997)),
    ],
)
def test_forward_equals_the_reference(model: type[Recurrent], expected: Expected) -> None:
    check(model(Clip(), hidden=(2, 2, 2, 2)), Clip(), expected)


def macs(model: type[Recurrent], clip: Clip, patch: int, hidden: tuple[int, ...], k: int) -> int:
    """Closed form: steps x positions x (gates' convolutions, 1x1 ones, read-out)."""
    folded = clip.channels * patch**2
    per_position = hidden[-1] * folded
    for n_in, n in pairwise((folded, *hidden)):
        if model is ConvLSTM:
            per_position += k * k * 4 * n * (n_in + n)
        else:
            per_position += k * k * (7 * n_in * n + 9 * n * n) + 2 * n * n
    return (clip.frames - 1) * (clip.height // patch) * (clip.width // patch) * per_position


DATA_SETS = {
    "Moving MNIST": (Clip(), 4, {ConvLSTM: 56.7904, PredRNN: 115.9515}),
    "TaxiBJ": (Clip(4, 4, 2, 32, 32), 2, {ConvLSTM: 20.7374, PredRNN: 42.3960}),
    "KTH": (Clip(10, 20, 1, 128, 128), 2, {ConvLSTM: 1368.4525, PredRNN: 2799.5469}),
    "Caltech": (Clip(10, 1, 3, 128, 160), 2, {ConvLSTM: 595.1455, PredRNN: 1215.9287}),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("data", DATA_SETS)
def test_published_multiply_adds(model: type[Recurrent], data: str) -> None:
    clip, patch, published = DATA_SETS[data]
    with torch.device("meta"):
        paper = model(clip, patch=patch)
        past = torch.empty(1, clip.past, clip.channels, clip.height, clip.width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        paper(past, clip.future)
    expected = macs(model, clip, patch, (128,) * 4, 5)
    assert counter.get_total_flops() == 2 * expected  # it counts a multiply-add twice
    assert round(expected / 1e9, 4) == published[model]


class Forecast(nn.Module):
    """A traceable model: the horizon is fixed."""

    def __init__(self, model: Recurrent, horizon: int) -> None:
        super().__init__()
        self.model = model
        self.horizon = horizon

    def forward(self, past: Tensor) -> Tensor:
        return self.model(past, self.horizon)


@pytest.mark.parametrize("model", MODELS)
def test_fvcore_counts_every_step(model: type[Recurrent]) -> None:
    # fvcore cannot trace convolutions on the meta device, so this is a small model
    past, _ = clips(1)
    analysis = FlopCountAnalysis(Forecast(tiny(model).eval(), TINY.future), past)
    analysis.unsupported_ops_warnings(False)
    assert analysis.total() == macs(model, TINY, 2, (4, 4), 3)


@pytest.mark.parametrize(("model", "size"), [(ConvLSTM, 11_675_648), (PredRNN, 23_838_720)])
def test_published_parameters(model: type[Recurrent], size: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in model(Clip()).parameters()) == size


# Forecasting


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("horizon", [1, 3, 9])
def test_forecast_feeds_itself(model: type[Recurrent], horizon: int) -> None:
    net = tiny(model).eval()
    past, _ = clips()
    shown = torch.arange(3 + horizon - 1).expand(3, -1) < 3
    with torch.no_grad():
        found = net(past, horizon)
        expected = unfold_patches(fed(net, past, shown)[:, -horizon:], 2)
    assert found.shape == (3, horizon, 2, 8, 12)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("model", MODELS)
def test_a_prediction_depends_on_earlier_frames_only(model: type[Recurrent]) -> None:
    net = tiny(model)
    past, future = clips()
    frames = fold_patches(torch.cat([past, future], dim=1), 2).requires_grad_()
    predictions, _ = net.unroll(frames, 7, torch.ones(3, 4, dtype=torch.bool))
    for t in range(7):
        gradient = torch.autograd.grad(predictions[:, t].sum(), frames, retain_graph=True)[0]
        touched = gradient.abs().amax(dim=(0, 2, 3, 4)) > 0
        assert touched.tolist() == [u <= t for u in range(7)]


@pytest.mark.parametrize("model", MODELS)
def test_no_state_is_kept_between_calls(model: type[Recurrent]) -> None:
    net = tiny(model).eval()
    past, _ = clips()
    with torch.no_grad():
        three = net(past, 4)
        two = net(past[:2], 4)
        again = net(past, 4)
    assert torch.equal(again, three)
    torch.testing.assert_close(two, three[:2])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("horizon", [0, -1, 2.0])
def test_horizon_is_a_positive_integer(model: type[Recurrent], horizon: int) -> None:
    with pytest.raises(ValueError, match=f"horizon is {horizon!r}"):
        tiny(model)(clips()[0], horizon)


# Scheduled sampling


@pytest.mark.parametrize(
    ("step", "eta"), [(0, 1), (625, 0.9875), (25_000, 0.5), (50_000, 0), (80_000, 0)]
)
def test_sampling_schedule(step: int, eta: float) -> None:
    model = tiny(ConvLSTM)
    model.step_count.fill_(step)
    assert model.forcing_probability().item() == pytest.approx(eta, abs=1e-7)


@pytest.mark.parametrize("model", MODELS)
def test_sampling_starts_with_the_truth_and_ends_with_own_predictions(
    model: type[Recurrent],
) -> None:
    net = tiny(model)
    past, future = clips()
    truth = torch.ones(3, 6, dtype=torch.bool)
    own = torch.arange(6).expand(3, -1) < 3
    taught, free = (mean_error(net, past, future, shown) for shown in (truth, own))
    assert abs(taught.item() - free.item()) > 1e-6
    torch.testing.assert_close(net.loss(past, future), taught)
    net.step_count.fill_(50_000)
    torch.testing.assert_close(net.loss(past, future), free)
    net.step_count.zero_()
    torch.testing.assert_close(net.eval().loss(past, future), free)


@pytest.mark.parametrize("model", MODELS)
def test_sampling_is_drawn_for_each_sample_and_frame(model: type[Recurrent]) -> None:
    net = tiny(model)
    past, future = clips()
    net.step_count.fill_(25_000)
    torch.manual_seed(2)
    shown = torch.cat([torch.ones(3, 3, dtype=torch.bool), torch.rand(3, 3) < 0.5], dim=1)
    state = torch.get_rng_state()
    assert len(set(map(tuple, shown.tolist()))) == 3
    torch.manual_seed(2)
    torch.testing.assert_close(net.loss(past, future), mean_error(net, past, future, shown))
    assert torch.equal(torch.get_rng_state(), state)  # one draw a loss


def test_sampling_shows_the_future_half_of_the_time_at_half_of_the_stop() -> None:
    model = tiny(ConvLSTM)
    model.step_count.fill_(25_000)
    torch.manual_seed(0)
    shown = model.draw_mask(4000, 3, 4)
    assert shown.shape == (4000, 3)
    rates = shown.double().mean(0)
    assert ((rates - 0.5).abs() < 0.04).all()  # five standard deviations


def test_one_future_frame_leaves_nothing_to_sample() -> None:
    model = tiny(ConvLSTM)
    past, future = clips()
    state = torch.get_rng_state()
    losses = [model.loss(past, future[:, :1]).item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("model", MODELS)
def test_gradients_flow_through_own_predictions(model: type[Recurrent]) -> None:
    net = tiny(model).double()
    net.step_count.fill_(50_000)
    past, future = (x.double() for x in clips())
    weight = net.readout.weight
    net.loss(past, future).backward()
    direction = torch.ones_like(weight)
    values = []
    for sign in (1e-5, -1e-5):
        with torch.no_grad():
            weight.add_(direction, alpha=sign)
            values.append(net.loss(past, future))
            weight.sub_(direction, alpha=sign)
    slope = (values[0] - values[1]) / 2e-5
    torch.testing.assert_close((weight.grad * direction).sum(), slope, rtol=1e-6, atol=0)


# Training


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_gets_a_gradient(model: type[Recurrent]) -> None:
    net = tiny(model)
    net.loss(*clips()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), name


def test_step_counts_training_losses_only() -> None:
    model = tiny(ConvLSTM)
    model.loss(*clips())
    model.loss(*clips())
    model(clips()[0], 2)
    model.eval().loss(*clips())
    assert model.step_count.dtype == torch.int64
    assert model.step_count.item() == 2


@pytest.mark.parametrize("model", MODELS)
def test_a_restored_model_continues_the_schedule(model: type[Recurrent]) -> None:
    net = tiny(model, sampling_stop=4)
    past, future = clips()
    for _ in range(2):
        net.loss(past, future)
    other = model(TINY, hidden=(4, 4), kernel=3, patch=2, sampling_stop=4)
    other.load_state_dict(net.state_dict())
    state = torch.get_rng_state()
    expected = [net.loss(past, future).item() for _ in range(3)]
    torch.set_rng_state(state)
    assert [other.loss(past, future).item() for _ in range(3)] == expected
    assert len(set(expected)) > 1  # the draws matter


@pytest.mark.parametrize("model", MODELS)
def test_autocast_and_float64(model: type[Recurrent]) -> None:
    net = tiny(model)
    past, future = clips()
    net.step_count.fill_(25_000)
    exact = net.eval()(past, 4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(past, 4)
        loss = net.train().loss(past, future)
    loss.backward()
    assert rounded.dtype == loss.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.01
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.double().eval()
    double = net(past.double(), 4)
    assert double.dtype == net.train().loss(past.double(), future.double()).dtype == torch.float64
    torch.testing.assert_close(double, exact.double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", MODELS)
def test_compile_compiles_the_step(model: type[Recurrent]) -> None:
    net = tiny(model)
    past, future = clips()
    keys = list(net.state_dict())
    expected = net.loss(past, future)
    net.step_count.zero_()
    backend = Backend()
    net.compile(backend=backend)
    torch.testing.assert_close(net.loss(past, future), expected)
    assert len(backend.runs) == 6
    in_model = sum(isinstance(module, nn.Conv2d) for module in net.modules())
    assert set(backend.count(torch.conv2d)) == {in_model}  # all of a step, nothing of the loop
    net(past, 5)
    assert len(backend.runs) == 6 + 7
    assert list(net.state_dict()) == keys

    twin = copy.deepcopy(net)
    nn.init.zeros_(twin.readout.weight)
    assert not twin(past, 1).any()  # its own weights, not the compiled original's


# Options


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 5}, r"patch is 5; .* 64x48"),
        ({"patch": 32}, r"patch is 32; .* 64x48"),
        ({"patch": 0}, "patch is 0"),
        ({"kernel": 4}, "kernel is 4"),
        ({"kernel": -1}, "kernel is -1"),
        ({"hidden": ()}, r"hidden is \(\)"),
        ({"hidden": (0, 0)}, r"hidden is \(0, 0\)"),
        ({"sampling_stop": 0}, "sampling_stop is 0"),
    ],
)
def test_bad_options(model: type[Recurrent], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(Clip(height=64, width=48), **options)


def test_predrnn_needs_equal_widths() -> None:
    with pytest.raises(ValueError, match=r"hidden is \(8, 4\)"):
        PredRNN(Clip(), hidden=(8, 4))
    assert ConvLSTM(Clip(), hidden=(8, 4)).eval()(torch.rand(1, 2, 1, 64, 64), 1).shape[1] == 1
