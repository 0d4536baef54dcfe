"""PredRNN++: the reference's values, the published cost, the highway."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from forward_check import Expected, check
from model_rows import random_frames

from baselines.predrnnpp import GradientHighway, PredRNNpp
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=4, channels=2, height=8, width=12)


def tiny(hidden: tuple[int, ...] = (4, 6, 5)) -> PredRNNpp:
    torch.manual_seed(0)
    return PredRNNpp(TINY, hidden=hidden, kernel=3, patch=2)


# Values are for width 128. All channels of a layer are equal under constant weights, so any width
# gives them.
@pytest.mark.parametrize("hidden", [(2, 2, 2, 2), (3, 1, 2, 2)], ids=["equal", "unequal"])
def test_forward_equals_the_reference(hidden: tuple[int, ...]) -> None:
    expected = Expected(0.07499166, 0.10411320, 0.00000661, 0.00443377, 0.40217500)
    check(PredRNNpp(Clip(), hidden=hidden), Clip(), expected)


def macs(clip: Clip, patch: int, hidden: tuple[int, ...], k: int) -> int:
    """Closed form: steps x positions x (cells, highway, read-out)."""
    folded = clip.channels * patch**2
    per_position = k * k * 4 * hidden[0] ** 2 + hidden[-1] * folded
    inputs, memories = (folded, *hidden[:-1]), (hidden[-1], *hidden[:-1])
    for n_in, n_m, n in zip(inputs, memories, hidden, strict=True):
        per_position += k * k * (7 * n_in * n + 3 * n_m * n + 12 * n * n) + 2 * n * n
    return (clip.frames - 1) * (clip.height // patch) * (clip.width // patch) * per_position


DEAD = 3_276_800  # parameters that the published port owns and never uses


@pytest.mark.parametrize(
    ("clip", "patch", "gmacs", "published_size"),
    [
        (Clip(), 4, 171.7358, 38_584_320),
        (Clip(4, 4, 2, 32, 32), 2, 62.9481, 38_404_096),
        (Clip(10, 20, 1, 128, 128), 2, 4161.8569, 38_313_984),
        (Clip(10, 1, 3, 128, 160), 2, 1803.1313, 38_494_208),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_published_cost(clip: Clip, patch: int, gmacs: float, published_size: int) -> None:
    model = cost.build_on_meta(PredRNNpp, clip, {"patch": patch})
    size = (128,) * 4, 5
    short = replace(clip, past=2, future=2)
    assert cost.macs(model, short) == macs(short, patch, *size)
    assert round(macs(clip, patch, *size) / 1e9, 4) == gmacs
    assert cost.parameters(model) == published_size - DEAD


def test_the_papers_own_widths() -> None:
    hidden = (128, 64, 64, 64)
    model = cost.build_on_meta(PredRNNpp, Clip(), {"hidden": hidden})
    short = Clip(past=2, future=2)
    assert cost.macs(model, short) == macs(short, 4, hidden, 5)
    assert f"{macs(Clip(), 4, hidden, 5) / 1e9:.2f}" == "74.75"


@pytest.mark.parametrize("switch", [-1.0, 1.0], ids=["closed", "open"])
def test_the_highway_carries_z_when_closed_and_p_when_open(switch: float) -> None:
    highway = GradientHighway(1, 1)
    with torch.no_grad():
        highway.conv_x.weight.copy_(torch.tensor([0.5, 100 * switch]).view(2, 1, 1, 1))
        highway.conv_z.weight.zero_()
        x, z = torch.rand(2, 1, 3, 3) + 1, torch.rand(2, 1, 3, 3)
        torch.testing.assert_close(highway(x, z), z if switch < 0 else torch.tanh(0.5 * x))


def test_highway_weights_start_small() -> None:
    model = tiny((8, 8))
    for weight in model.highway.parameters():
        assert 0.0009 < weight.abs().max() <= 0.001


def test_the_upper_layers_see_the_frame_through_the_highway_and_m_only() -> None:
    model = tiny((4, 4)).eval()
    past, _ = random_frames(TINY)
    torch.nn.init.zeros_(model.cells[1].conv_m.weight)
    with torch.no_grad():
        assert (model(past, 2) - model(past.flip(0), 2)).abs().max() > 0
        for weight in model.highway.parameters():
            weight.zero_()
        assert not model(past, 2).any()


@pytest.mark.parametrize("hidden", [(), (8,)])
def test_fewer_than_two_layers_are_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"hidden is \(.*\); expected"):
        PredRNNpp(Clip(), hidden=hidden)
