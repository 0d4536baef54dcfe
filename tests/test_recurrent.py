"""Patches, and what holds for every recurrent model: the unroll, scheduled sampling, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from forward_check import Expected, check
from model_rows import MODELS, random_frames
from torch import Tensor

from baselines import MAU, ConvLSTM, PhyDNet, PredRNN, PredRNNv2
from baselines.recurrent import Recurrent, fold_patches, unfold_patches
from tau.predictor import Clip

TINY = Clip(past=3, future=4, channels=2, height=8, width=12)
ROWS = [row for row in MODELS.values() if issubclass(row.model, Recurrent)]
KINKED = (PhyDNet, MAU)  # leaky ReLU has kinks, near which a slope is not the gradient
recurrent = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.model.__name__)


@pytest.fixture
def model(row) -> Recurrent:
    torch.manual_seed(0)
    return row.build(TINY, "smoke")


def tiny(**options: object) -> ConvLSTM:
    torch.manual_seed(0)
    return ConvLSTM(TINY, **{"hidden": (4, 4), "kernel": 3, "patch": 2, **options})


def fed(model: Recurrent, frames: Tensor, mask: Tensor) -> Tensor:
    """The N-1 predictions, folded, written out: sample b reads frame t where mask[b, t]."""
    samples = []
    for sequence, flags in zip(fold_patches(frames, model.patch), mask.tolist(), strict=True):
        predictions: list[Tensor] = []
        state = None
        for t, flag in enumerate(flags):
            x = model.encode(sequence[t : t + 1] if flag else predictions[-1])
            state = model.init_state(x) if state is None else state
            frame, state = model.step(x, state)
            predictions.append(frame)
        samples.append(torch.stack(predictions, dim=1))
    return torch.cat(samples)


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


# The equations of ConvLSTM and PredRNN; test_cost.py has their sizes


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


# The unroll


@recurrent
@pytest.mark.parametrize("horizon", [1, 3, 9])
@torch.no_grad()
def test_inference_reads_its_own_predictions_after_the_past(row, model, horizon) -> None:
    model.eval()
    past, _ = random_frames(TINY, 3)
    mask = torch.arange(3 + horizon - 1).expand(3, -1) < 3
    expected = unfold_patches(fed(model, past, mask)[:, -horizon:], model.patch)
    torch.testing.assert_close(model(past, horizon), expected)


@recurrent
def test_a_prediction_depends_on_earlier_frames_only(row, model) -> None:
    frames = fold_patches(torch.cat(random_frames(TINY, 3), dim=1), model.patch)
    frames.requires_grad_()
    predictions, _ = model.unroll(frames, 7, torch.ones(3, 4, dtype=torch.bool))
    for t in range(7):
        gradient = torch.autograd.grad(predictions[:, t].sum(), frames, retain_graph=True)[0]
        touched = gradient.abs().amax(dim=(0, 2, 3, 4)) > 0
        assert touched.tolist() == [u <= t for u in range(7)]


@recurrent
def test_known_frames_are_encoded_at_once(row, model, monkeypatch) -> None:
    sizes: list[int] = []
    encode = model.encode

    def counting(frames: Tensor) -> Tensor:
        sizes.append(len(frames))
        return encode(frames)

    monkeypatch.setattr(model, "encode", counting)
    past, future = random_frames(TINY, 3)
    model.eval()(past, 4)
    assert sizes == [9, 3, 3, 3]  # three frames of three samples, then one at a time
    sizes.clear()
    model.loss(past, future)
    assert sizes == [9, 3, 3, 3]


# Scheduled sampling


@pytest.mark.parametrize(
    ("step", "probability"), [(0, 1), (625, 0.9875), (25_000, 0.5), (50_000, 0), (80_000, 0)]
)
def test_sampling_schedule(step: int, probability: float) -> None:
    model = tiny()
    model.step_count.fill_(step)
    assert model.forcing_probability().item() == pytest.approx(probability, abs=1e-7)


@recurrent
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0], ids=["start", "half", "end"])
@torch.no_grad()
def test_training_reads_the_truth_where_the_drawn_mask_says_so(row, model, part) -> None:
    past, future = random_frames(TINY, 3)
    model.step_count.fill_(round(part * model.sampling_steps))
    torch.manual_seed(2)
    mask = model.draw_mask(3, 3, 4)
    state = torch.get_rng_state()
    always = torch.ones(3, 6 - mask.shape[1], dtype=torch.bool)
    mask = torch.cat([always, mask], dim=1)
    if part == 0 and not isinstance(model, PredRNNv2):
        assert mask.all()
    if part == 1:
        assert torch.equal(mask, torch.arange(6).expand(3, -1) < 3)
    expected = fed(model, torch.cat([past, future], dim=1), mask)
    torch.manual_seed(2)
    predictions, target, _ = model.unroll_with_target(past, future)
    torch.testing.assert_close(predictions, expected)
    frames = torch.cat([past, future], dim=1)
    assert torch.equal(unfold_patches(target, model.patch), frames[:, 1:])
    assert torch.equal(torch.get_rng_state(), state)  # the mask is all that is drawn


@recurrent
@torch.no_grad()
def test_at_the_end_of_sampling_training_and_eval_mode_have_one_loss_and_at_the_start_not(
    row, model
) -> None:
    if isinstance(model, PredRNNv2):
        model.decoupling = 0.0  # a term of training alone
    past, future = random_frames(TINY, 3)
    own = model.eval().loss(past, future)
    forced = model.train().loss(past, future)
    assert abs(forced / own - 1) > 1e-7
    model.step_count.fill_(math.ceil(model.sampling_steps))
    torch.testing.assert_close(model.loss(past, future), own)


@pytest.mark.parametrize("model", [ConvLSTM, PredRNN])
@torch.no_grad()
def test_loss_is_the_squared_error_of_all_predictions(model: type[Recurrent]) -> None:
    torch.manual_seed(0)
    net = model(TINY, hidden=(4, 4), kernel=3, patch=2)
    past, future = random_frames(TINY, 3)
    frames = torch.cat([past, future], dim=1)
    target = fold_patches(frames, 2)[:, 1:]
    forced = fed(net, frames, torch.ones(3, 6, dtype=torch.bool))
    torch.testing.assert_close(net.loss(past, future), (forced - target).square().mean())
    own = fed(net, frames, torch.arange(6).expand(3, -1) < 3)
    torch.testing.assert_close(net.eval().loss(past, future), (own - target).square().mean())


def test_the_mask_is_drawn_for_each_sample_and_frame() -> None:
    model = tiny()
    model.step_count.fill_(25_000)
    torch.manual_seed(2)
    mask = model.draw_mask(4000, 3, 4)
    assert mask.shape == (4000, 3)
    assert ((mask.double().mean(0) - 0.5).abs() < 0.04).all()  # five standard deviations
    correlations = torch.corrcoef(mask.T.double()) - torch.eye(3)
    assert correlations.abs().max() < 0.08
    torch.manual_seed(2)
    assert torch.equal(mask, torch.rand(4000, 3) < 0.5)


@recurrent
def test_one_past_and_one_future_frame_leave_nothing_to_sample(row, model) -> None:
    past, future = random_frames(TINY, 3)
    losses = {model.loss(past[:, :1], future[:, :1]).item() for _ in range(3)}
    assert len(losses) == 1


def test_no_draw_is_made_where_nothing_is_sampled() -> None:
    model = tiny()
    past, future = random_frames(TINY, 3)
    state = torch.get_rng_state()
    model.loss(past, future[:, :1])
    assert torch.equal(torch.get_rng_state(), state)


@recurrent
@torch.no_grad()
def test_step_count_counts_training_losses_only(row, model) -> None:
    past, future = random_frames(TINY, 3)
    model.loss(past, future)
    model.loss(past, future)
    model(past, 2)
    model.eval().loss(past, future)
    assert model.state_dict()["step_count"].dtype == torch.int64
    assert model.state_dict()["step_count"].item() == 2


@recurrent
@torch.no_grad()
def test_a_restored_model_continues_the_schedule(row) -> None:
    model, other = (row.build(TINY, "smoke") for _ in range(2))
    for each in (model, other):
        each.begin_training(round(6 / each.sampling_stop))
    past, future = random_frames(TINY, 3)
    for _ in range(3):
        model.loss(past, future)
    other.load_state_dict(model.state_dict())
    state = torch.get_rng_state()
    expected = [model.loss(past, future).item() for _ in range(4)]
    torch.set_rng_state(state)
    assert [other.loss(past, future).item() for _ in range(4)] == expected
    assert len(set(expected)) > 1  # the draws matter


# Gradients


@recurrent
def test_every_filter_gets_a_finite_gradient(row, model) -> None:
    model.loss(*random_frames(TINY, 3)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if parameter.dim() > 1:
            assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), name


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.model not in KINKED], ids=lambda row: row.model.__name__
)
def test_gradients_flow_through_own_predictions(row, model) -> None:
    """Against the slope of the loss, at the end of sampling, along a random direction."""
    model.double().step_count.fill_(math.ceil(model.sampling_steps))
    past, future = (frames.double() for frames in random_frames(TINY, 3))
    weights = list(model.parameters())
    gradients = torch.autograd.grad(model.loss(past, future), weights)
    directions = [torch.randn_like(weight) for weight in weights]
    losses = []
    for sign in (1e-6, -2e-6):
        with torch.no_grad():
            torch._foreach_add_(weights, directions, alpha=sign)
            losses.append(model.loss(past, future))
    slope = (losses[0] - losses[1]) / 2e-6
    expected = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=0)
