"""MIM: the reference's values, the published cost, memories that start afresh and learn."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from forward_check import Expected, check
from model_rows import random_frames
from torch import Tensor, nn

from baselines.mim import MIM, PeepholeLSTMCell
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=4, channels=2, height=8, width=12)


def tiny(**options: object) -> MIM:
    """Peepholes away from 0, where they start."""
    torch.manual_seed(0)
    model = MIM(TINY, **{"hidden": (4, 4, 4), "kernel": 3, "patch": 2, **options})
    for name, parameter in model.named_parameters():
        if name.endswith("peepholes"):
            nn.init.normal_(parameter, std=0.3)
    return model


# Values are for width 128. All channels of a layer are equal under constant weights, so any width
# gives them.
def test_forward_equals_the_reference() -> None:
    expected = Expected(0.49942724, 0.00470760, 0.37472173, 0.49998988, 0.50000000)
    check(MIM(Clip(), hidden=(2, 2, 2, 2)), Clip(), expected, peepholes=0.1)


def macs(clip: Clip, patch: int, width: int) -> int:
    """Closed form at four layers and kernel 5; MIM-N does not run at the first of the steps."""
    folded, n = clip.channels * patch**2, width
    bottom = 25 * (7 * folded * n + 9 * n * n) + 2 * n * n
    block = 25 * 19 * n * n + 2 * n * n
    change = 25 * 8 * n * n
    steps, positions = clip.frames - 1, (clip.height // patch) * (clip.width // patch)
    return positions * (steps * (bottom + 3 * block + n * folded) + (steps - 1) * 3 * change)


DEAD = 98_304  # parameters that the published port owns and never uses


@pytest.mark.parametrize(
    ("clip", "patch", "gmacs", "published_size"),
    [
        (Clip(), 4, 179.1807, 38_043_648),
        (Clip(4, 4, 2, 32, 32), 2, 64.1015, 37_863_424),
        (Clip(10, 20, 1, 128, 128), 4, 1099.2432, 39_813_120),
        (Clip(10, 1, 3, 128, 160), 2, 1857.6572, 49_160_192),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_published_cost(clip: Clip, patch: int, gmacs: float, published_size: int) -> None:
    model = cost.build_on_meta(MIM, clip, {"patch": patch})
    short = replace(clip, past=2, future=2)
    assert cost.macs(model, short) == macs(short, patch, 128)
    assert round(macs(clip, patch, 128) / 1e9, 4) == gmacs
    assert cost.parameters(model) == published_size - DEAD


def test_the_papers_own_width_costs_what_the_docstring_says() -> None:
    assert f"{macs(Clip(), 4, 64) / 1e9:.2f}" == "45.23"


@pytest.mark.parametrize("part", ["nonstationary", "stationary"])
def test_gradients_flow_through_the_memories_to_the_first_frame(part: str) -> None:
    model = tiny().double()
    model.step_count.fill_(50_000)
    past, future = (x.double() for x in random_frames(TINY))
    weight = getattr(model.blocks[0], part).conv_x.weight
    model.loss(past, future).backward()
    direction = torch.randn_like(weight)
    values = []
    for sign in (1e-5, -1e-5):
        with torch.no_grad():
            weight.add_(direction, alpha=sign)
            values.append(model.loss(past, future))
            weight.sub_(direction, alpha=sign)
    slope = (values[0] - values[1]) / 2e-5
    torch.testing.assert_close((weight.grad * direction).sum(), slope, rtol=1e-6, atol=0)


def test_the_first_block_is_told_the_change_below() -> None:
    model = tiny().eval()
    seen: list[Tensor] = []
    hidden: list[Tensor] = []
    model.blocks[0].nonstationary.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.bottom.register_forward_hook(lambda _, __, out: hidden.append(out[0]))
    with torch.no_grad():
        model(random_frames(TINY)[0], 2)
    assert len(hidden) == 4
    assert len(seen) == 3  # at the first frame there is none
    for d, (before, after) in zip(seen, pairwise(hidden), strict=True):
        assert torch.equal(d, after - before)


def test_peepholes_weigh_positions() -> None:
    cell = PeepholeLSTMCell(1, 1, (1, 3))
    nn.init.zeros_(cell.conv_x.weight)
    nn.init.zeros_(cell.conv_h.weight)
    x, h, c = torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1, 3), torch.full((1, 1, 1, 3), 2.0)
    with torch.no_grad():
        assert not cell.peepholes.any()
        cell.peepholes[1, 0, 0, 1] = 50.0  # f stays open
        cell.peepholes[2, 0, 0, 2] = -50.0  # o shuts
        new_h, new_c = cell(x, h, c)
    kept = 2 * torch.sigmoid(torch.tensor([1.0, 101.0, 1.0]))
    torch.testing.assert_close(new_c.flatten(), kept)
    gate = torch.tensor([0.5, 0.5, 0.0])
    torch.testing.assert_close(new_h.flatten(), gate * torch.tanh(kept))


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_widths_that_do_not_fit_are_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"hidden is \(.*\); expected"):
        MIM(Clip(), hidden=hidden)


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames have \(4, 4\) patches; expected \(4, 6\)"):
        tiny()(torch.rand(1, 2, 2, 8, 8), 1)
