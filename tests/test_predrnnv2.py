"""PredRNN-v2: the reference's values, the published cost, decoupling, reverse sampling."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from forward_check import Expected, check, check_sequence, set_constant_weights
from model_rows import random_frames
from torch import nn
from torch.nn import functional as F

from baselines.predrnn import PredRNN
from baselines.predrnnv2 import PredRNNv2
from baselines.recurrent import fold_patches
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=4, channels=2, height=8, width=12)
SIZE = {"hidden": (4, 4), "kernel": 3, "patch": 2}


def tiny(**options: object) -> PredRNNv2:
    torch.manual_seed(0)
    return PredRNNv2(TINY, **{**SIZE, **options})


# The paper's equations and size


# Values are for width 128. All channels of a layer are equal under constant weights, so any width
# gives them.
def test_forward_equals_the_reference() -> None:
    expected = Expected(0.49758861, 0.00924752, 0.33421458, 0.49964050, 0.49999997)
    check(PredRNNv2(Clip(), hidden=(2, 2, 2, 2)), Clip(), expected)


def test_loss_equals_the_reference() -> None:
    model = PredRNNv2(Clip(), hidden=(2, 2, 2, 2)).double()
    set_constant_weights(model)
    model.step_count.fill_(50_000)  # sampling has ended: the past is read, the future is not
    past, future = Clip().split(check_sequence(Clip()))
    with torch.no_grad():
        total = model.loss(past, future).item()
        error = model.eval().loss(past, future).item()
    assert error == pytest.approx(0.1796236013, abs=1e-10)
    assert (total - error) / 0.1 == pytest.approx(0.9836374214, abs=1e-9)
    assert total == pytest.approx(0.2779873434, abs=1e-10)


def macs(clip: Clip, patch: int, decoupling: bool) -> int:
    """Closed form at four layers of 128 and kernel 5: PredRNN's and, in training, the adapter's."""
    folded, n = clip.channels * patch**2, 128
    per_position = n * folded + 8 * n * n * decoupling
    for n_in in (folded, n, n, n):
        per_position += 25 * (7 * n_in * n + 9 * n * n) + 2 * n * n
    return (clip.frames - 1) * (clip.height // patch) * (clip.width // patch) * per_position


@pytest.mark.parametrize(
    ("clip", "patch", "gmacs", "size"),
    [
        (Clip(), 4, 116.5891, 23_855_104),
        (Clip(4, 4, 2, 32, 32), 2, 42.6309, 23_674_880),
        (Clip(10, 20, 1, 128, 128), 2, 2815.1162, 23_584_768),
        (Clip(10, 1, 3, 128, 160), 2, 1222.6396, 23_764_992),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_published_cost(clip: Clip, patch: int, gmacs: float, size: int) -> None:
    model = cost.build_on_meta(PredRNNv2, clip, {"patch": patch})
    short = replace(clip, past=2, future=2)
    assert cost.macs(model, short, train=True) == macs(short, patch, decoupling=True)
    assert round(macs(clip, patch, decoupling=True) / 1e9, 4) == gmacs
    assert cost.parameters(model) == size


def test_inference_does_not_pay_for_decoupling() -> None:
    clip = Clip(4, 4, 2, 32, 32)
    model = cost.build_on_meta(PredRNNv2, clip, {"patch": 2})
    assert cost.macs(model, clip) == macs(clip, 2, decoupling=False)
    assert f"{macs(Clip(), 4, decoupling=False) / 1e9:.2f}" == "115.95"


def test_predictions_are_those_of_predrnn() -> None:
    model = tiny().eval()
    predrnn = PredRNN(TINY, **SIZE).eval()
    predrnn.load_state_dict({k: v for k, v in model.state_dict().items() if k != "adapter.weight"})
    past, _ = random_frames(TINY, 3)
    with torch.no_grad():
        assert torch.equal(model(past, 6), predrnn(past, 6))


# Memory decoupling


def test_overlap_is_the_mean_cosine_of_adapted_gains() -> None:
    model = tiny()
    generator = torch.Generator().manual_seed(2)
    gains = [tuple(torch.randn(2, 3, 4, 4, 6, generator=generator)) for _ in range(2)]
    cosines = []
    with torch.no_grad():
        for of_c, of_m in gains:
            for c, m in zip(model.adapter(of_c), model.adapter(of_m), strict=True):
                for a, b in zip(c, m, strict=True):
                    cosines.append((a * b).sum().abs() / (a.norm() * b.norm()))
        assert len(cosines) == 2 * 3 * 4
        torch.testing.assert_close(model.overlap(gains), torch.stack(cosines).mean())


def test_the_loss_adds_the_weighted_overlap_of_every_step() -> None:
    model = tiny(decoupling=0.3)
    model.step_count.fill_(50_000)
    past, future = random_frames(TINY, 3)
    frames = fold_patches(torch.cat([past, future], dim=1), 2)
    frame = frames[:, 0]
    memories, _ = model.init_state(frame)
    overlaps, errors = [], []
    with torch.no_grad():
        for t in range(6):
            x = frames[:, t] if t < 3 else frame
            frame, memories, gains = model.climb(x, memories)
            overlaps.append(model.overlap(gains))
            errors.append(F.mse_loss(frame, frames[:, t + 1]))
        expected = torch.stack(errors).mean() + 0.3 * torch.stack(overlaps).mean()
        torch.testing.assert_close(model.loss(past, future), expected)


def test_gains_are_what_the_memories_gain() -> None:
    cell = tiny().cells[1]
    nn.init.zeros_(cell.conv_x.weight)
    x, h, c, m = torch.randn(4, 2, 4, 3, 3, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        _, _, _, from_h, from_m = cell(x, h, c, m)
        _, new_c, _, gain_c, _ = cell(x, h, torch.zeros_like(c), m)
        assert torch.equal(gain_c, new_c)  # with nothing to keep
        assert torch.equal(gain_c, from_h)  # whatever is kept
        assert not cell(x, torch.zeros_like(h), c, m)[3].any()
        assert not cell(x, h, c, torch.zeros_like(m))[4].any()
        assert from_m.any()


def test_black_frames_have_finite_gradients() -> None:
    model = tiny()
    past, future = (torch.zeros_like(x) for x in random_frames(TINY, 3))
    loss = model.loss(past, future)
    loss.backward()
    assert loss.item() == 0  # there are no biases: nothing is gained
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# Reverse scheduled sampling


@pytest.mark.parametrize(
    ("step", "of_past", "of_future"),
    [
        (0, 0.5, 0.5),
        (25_000, 0.5, 0.5),
        (27_500, 0.6967346701, 0.45),
        (30_000, 0.8160602794, 0.4),
        (40_000, 0.9751064658, 0.2),
        (49_990, 0.9966234941, 0.0002),
        (50_000, 1.0, 0.0),
        (90_000, 1.0, 0.0),
    ],
)
@pytest.mark.parametrize("stop", [50_000, 5_000])
def test_schedule(step: int, of_past: float, of_future: float, stop: int) -> None:
    model = tiny()
    model.begin_training(5 * stop // 2)
    model.step_count.fill_(step * stop // 50_000)
    assert model.past_forcing_probability().item() == pytest.approx(of_past, abs=1e-6)
    assert model.forcing_probability().item() == pytest.approx(of_future, abs=1e-6)


def test_the_mask_follows_the_schedule() -> None:
    model = tiny()
    model.step_count.fill_(30_000)
    torch.manual_seed(0)
    mask = model.draw_mask(4000, 3, 4)
    assert mask.shape == (4000, 5)  # all but the first
    assert mask.dtype == torch.bool
    rates = mask.double().mean(0)
    expected = torch.tensor([0.816, 0.816, 0.4, 0.4, 0.4], dtype=torch.float64)
    assert ((rates - expected).abs() < 0.04).all()  # five standard deviations
    assert abs(torch.corrcoef(mask[:, :2].T.double())[0, 1]) < 0.08  # each frame by itself


def test_training_reads_its_own_predictions_of_the_past_too() -> None:
    model = tiny(decoupling=0.0)
    past, future = random_frames(TINY, 1)
    torch.manual_seed(0)
    losses = {round(model.loss(past, future[:, :1]).item(), 7) for _ in range(40)}
    assert len(losses) == 4  # two frames of the past, each true or predicted
    assert model.step_count.item() == 40
