"""TAU and the SimVP family: published sizes, forward checks, and the divergence loss."""

from __future__ import annotations

import math

import pytest
import torch
from forward_check import Expected, check

from baselines import ConvBaseline, LastFrame, SimVP
from tau import TAU, Clip, Predictor, rollout
from tau.loss import differential_divergence

EXPECTED = {
    TAU: Expected(0.11345704, 0.35024421, -0.08652680, -0.10794829, -0.12483043),
    SimVP: Expected(0.10646730, 0.37247815, -0.08700576, 1.51665757, 1.38403813),
    ConvBaseline: Expected(0.10511026, 0.38290730, -0.07935471, -0.09924222, -0.11525845),
}


@pytest.mark.parametrize("model", EXPECTED, ids=lambda m: m.__name__)
def test_forward_check_at_paper_size(model):
    """Constant weights give the published architecture's output, whatever its channel order."""
    scales = {"scale1": 1, "scale2": 1} if model is TAU else {}
    check(model(Clip()), Clip(), EXPECTED[model], atol=1e-7, **scales)


def _waves(step: float, shift: float) -> torch.Tensor:
    t = torch.arange(10, dtype=torch.float64)[:, None, None]
    y = torch.arange(64, dtype=torch.float64)[:, None]
    x = torch.arange(64, dtype=torch.float64)
    return (0.5 + 0.5 * torch.sin(step * t + 0.2 * x + 0.1 * y + shift))[None, :, None]


def test_divergence_check_values():
    """Values of the released loss; its two epsilons of 1e-12 change the sum by 4e-8."""
    pred, true = _waves(0.3, 0.0), _waves(0.31, 0.05)
    elements = 9 * 64 * 64
    divergence = differential_divergence(pred, true)
    assert divergence.item() == pytest.approx(1.158377682583e-06, rel=2e-6)
    assert (elements * divergence).item() == pytest.approx(0.04270247, abs=5e-9)
    reverse = elements * differential_divergence(true, pred)
    assert reverse.item() == pytest.approx(0.04217090, abs=5e-9)
    error = torch.nn.functional.mse_loss(pred, true)
    assert error.item() == pytest.approx(0.0012298926, abs=5e-11)
    assert (error + 0.1 * divergence).item() == pytest.approx(0.0012300084, abs=5e-11)


def test_the_weight_on_the_scale_of_equation_6():
    """Mean error + alpha R, times all elements, is summed error + alpha T'/(T'-1) summed KL."""
    pred, true = _waves(0.3, 0.0), _waves(0.31, 0.05)
    released = torch.nn.functional.mse_loss(pred, true) + 0.1 * differential_divergence(pred, true)
    summed_error = (pred - true).square().sum()
    p = torch.softmax(torch.diff(pred, dim=1).flatten(2) / 0.1, dim=2)
    q = torch.softmax(torch.diff(true, dim=1).flatten(2) / 0.1, dim=2)
    summed_kl = (p * (p / q).log()).sum()
    expected = summed_error + 0.1 * 10 / 9 * summed_kl
    assert (released * pred.numel()).item() == pytest.approx(expected.item(), rel=1e-9)


def test_divergence_is_exactly_zero_for_equal_inputs():
    frames = torch.rand(2, 5, 3, 8, 8)
    assert differential_divergence(frames, frames.clone()).item() == 0.0


@pytest.mark.parametrize("frames", [1, 2])
def test_divergence_is_zero_for_two_frames_or_less(frames):
    pred = torch.rand(2, frames, 1, 4, 4, requires_grad=True)
    assert differential_divergence(pred, torch.rand(2, frames, 1, 4, 4)).item() == 0.0


def test_divergence_has_finite_gradients_at_large_differences():
    pred = (1e4 * torch.randn(2, 4, 1, 8, 8)).requires_grad_()
    divergence = differential_divergence(pred, 1e4 * torch.randn(2, 4, 1, 8, 8))
    divergence.backward()
    assert divergence.isfinite() and divergence > 0
    assert pred.grad.isfinite().all()


def test_divergence_is_never_negative_and_needs_equal_shapes():
    for seed in range(20):
        torch.manual_seed(seed)
        assert differential_divergence(torch.rand(1, 4, 1, 5, 5), torch.rand(1, 4, 1, 5, 5)) >= 0
    with pytest.raises(ValueError, match="equal needed"):
        differential_divergence(torch.rand(1, 4, 1, 5, 5), torch.rand(1, 3, 1, 5, 5))


def test_divergence_is_computed_in_float32_at_least():
    frames = torch.rand(1, 4, 1, 8, 8).bfloat16()
    assert differential_divergence(frames, frames).dtype == torch.float32


def test_ours_without_ddr_is_plain_squared_error():
    clip = Clip(past=4, future=4, height=8, width=8)
    size = {"spatial_hidden": 4, "temporal_hidden": 8, "spatial_depth": 2, "temporal_depth": 2}
    past, future = torch.rand(2, 4, 1, 8, 8), torch.rand(2, 4, 1, 8, 8)
    without, with_ddr = TAU(clip, alpha=0.0, **size).eval(), TAU(clip, alpha=7.0, **size).eval()
    with_ddr.load_state_dict(without.state_dict())
    prediction = without(past, 4)
    error = torch.nn.functional.mse_loss(prediction, future)
    assert without.loss(past, future).item() == error.item()
    expected = error + 7.0 * differential_divergence(prediction, future)
    assert with_ddr.loss(past, future).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_depth": 3}, "even number"),
        ({"spatial_hidden": 5}, "even number"),
        ({"spatial_depth": 14}, "divisible by 128"),
        ({"temporal_depth": 1}, "temporal_depth is 1"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_tau_refuses(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        TAU(Clip(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": (3, 4)}, "odd sizes, at least one"),
        ({"temporal_hidden": 7}, "even number"),
        ({"temporal_depth": 1}, "temporal_depth is 1"),
    ],
)
def test_simvp_refuses(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        SimVP(Clip(), **options)


def test_stochastic_depth_rates_are_the_released_ones():
    """Not zero for drop_path 0: they run from 0.01 to it, and the last block gets it itself."""
    with torch.device("meta"):
        rates = [block.drop_path for block in TAU(Clip()).translator]
        kth = TAU(Clip(height=128, width=128), temporal_depth=6, drop_path=0.1)
    assert rates[0] == 0.01 and rates[-1] == 0.0
    assert rates[1] == pytest.approx(0.01 * 6 / 7)
    expected = [0.01, 0.028, 0.046, 0.064, 0.082, 0.1]
    assert [b.drop_path for b in kth.translator] == pytest.approx(expected)


def test_stochastic_depth_keeps_the_expectation():
    from tau.attention import TemporalBlock

    torch.manual_seed(0)
    block = TemporalBlock(4, 4, mlp_ratio=1, drop_path=0.25).train()
    x = torch.ones(20_000, 4, 1, 1)
    branch = block._branch(x, torch.ones(4))
    kept = branch[:, 0, 0, 0] != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.02)
    assert branch[kept].unique().tolist() == pytest.approx([1 / 0.75])
    assert torch.equal(block.eval()._branch(x, torch.ones(4)), x)


def test_initial_weights_have_the_released_spread():
    torch.manual_seed(0)
    model = TAU(Clip())
    block = model.translator[1]  # width 512
    assert block.mlp.expand.weight.std().item() == pytest.approx(0.0221, rel=0.02)
    assert block.mlp.depthwise.weight.std().item() == pytest.approx(math.sqrt(2) / 3, rel=0.02)
    assert block.project_in.weight.std().item() == pytest.approx(0.0255, rel=0.02)
    assert model.encoder.units[1].conv.weight.std().item() == pytest.approx(0.0199, rel=0.02)
    assert block.scale1.unique().tolist() == pytest.approx([0.01])
    assert block.attention.squeeze.weight.shape == (16, 512)


def test_rollout_feeds_blocks_back_and_cuts():
    past = torch.arange(3.0).reshape(1, 3, 1, 1, 1)

    def block(frames: torch.Tensor) -> torch.Tensor:
        return frames + 3

    assert rollout(block, past, 7).flatten().tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert rollout(block, past, 2).flatten().tolist() == [3, 4]
    with pytest.raises(ValueError, match="horizon is 0"):
        rollout(block, past, 0)


def test_a_predictor_with_another_past_says_so():
    model = TAU(Clip(past=3, future=3, height=8, width=8), 4, 8, 2, 2)
    with pytest.raises(ValueError, match="built for 3"):
        model(torch.rand(1, 4, 1, 8, 8), 3)


def test_last_frame_repeats_it():
    past = torch.rand(2, 3, 1, 4, 4)
    prediction = LastFrame(Clip(3, 5, 1, 4, 4))(past, 5)
    assert prediction.shape == (2, 5, 1, 4, 4)
    assert (prediction == past[:, 2:3]).all()


def test_a_predictor_is_a_forward():
    class Mean(Predictor):
        def forward(self, past, horizon):
            return past.mean(1, keepdim=True).expand(-1, horizon, -1, -1, -1)

    past, future = torch.rand(2, 3, 1, 4, 4), torch.rand(2, 5, 1, 4, 4)
    expected = (past.mean(1, keepdim=True) - future).square().mean()
    assert Mean(Clip(3, 5, 1, 4, 4)).loss(past, future).item() == pytest.approx(expected.item())
