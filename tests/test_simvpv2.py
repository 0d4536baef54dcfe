"""SimVPv2: published sizes, the forward check, initial weights."""

from __future__ import annotations

import math

import pytest
import torch
from forward_check import Expected, check
from model_rows import CALTECH, KTH_ONE_PASS, MNIST, TAXI

from baselines.simvpv2 import GatedAttention, SimVPv2
from benchmarks.experiment import cost
from tau import TAU, Clip


def test_forward_equals_the_reference():
    # Values are for the published widths; all channels are equal under constant weights.
    model = SimVPv2(MNIST, spatial_hidden=2, temporal_hidden=4, mlp_ratio=1)
    expected = Expected(0.11396537, 0.34786515, -0.08699288, -0.10842883, -0.12527024)
    check(model, MNIST, expected, scale1=1, scale2=1)


@pytest.mark.parametrize(
    ("clip", "sizes", "gmacs", "count"),
    [
        (MNIST, (64, 512, 4, 8), 16.5260, 46_769_665),
        (TAXI, (32, 256, 2, 8), 2.6129, 9_961_058),
        (KTH_ONE_PASS, (64, 256, 2, 6), 76.7846, 15_632_961),
        (CALTECH, (64, 256, 2, 6), 96.2429, 15_634_243),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_published_size(clip, sizes, gmacs, count):
    names = ("spatial_hidden", "temporal_hidden", "spatial_depth", "temporal_depth")
    options = dict(zip(names, sizes, strict=True))
    model = cost.build_on_meta(SimVPv2, clip, options)
    counted = cost.macs(model, clip)
    assert round(counted / 1e9, 4) == gmacs
    assert cost.parameters(model) == count
    # Beside TAU: twice the 1x1 of the attention; no pooling, no bottleneck (16 wide for all C).
    hidden, width, depth, blocks = sizes
    pixels = clip.height * clip.width // 4 ** (depth // 2)
    more = sum(
        pixels * (c**2 - c) - 2 * c * 16 for c in [clip.past * hidden] + [width] * (blocks - 1)
    )
    assert counted == cost.macs(cost.build_on_meta(TAU, clip, options), clip) + more


def test_attention_is_a_gated_large_kernel():
    torch.manual_seed(0)
    attention = GatedAttention(3)
    x = torch.rand(2, 3, 30, 30, requires_grad=True)
    y = attention(x)
    maps = attention.pointwise(attention.dilated(attention.depthwise(x)))
    torch.testing.assert_close(y, maps[:, :3] * torch.sigmoid(maps[:, 3:]))
    (seen,) = torch.autograd.grad(y[0, 0, 15, 15], x)
    rows = seen[0].abs().sum((0, 2)).nonzero().flatten()
    assert (rows.min(), rows.max()) == (15 - 11, 15 + 11)  # 5x5, then 7x7 with dilation 3
    assert seen[0].abs().amax((1, 2)).min() > 0  # every channel
    assert not seen[1].any()


def test_initial_weights_have_the_released_spread():
    torch.manual_seed(0)
    block = SimVPv2(MNIST).translator[1]  # width 512
    attention = block.attention
    for module, std in (
        (block.project_in, 0.0625),
        (block.project_out, 0.0625),
        (attention.depthwise, 0.283),
        (attention.dilated, 0.202),
        (attention.pointwise, 0.0442),
        (block.mlp.expand, 0.0221),
        (block.mlp.depthwise, math.sqrt(2) / 3),
    ):
        assert module.weight.std().item() == pytest.approx(std, rel=0.02)
        assert not module.bias.any()
    assert block.scale1.unique().tolist() == pytest.approx([0.01])


def test_stochastic_depth_rates_are_the_released_ones():
    with torch.device("meta"):
        model = SimVPv2(KTH_ONE_PASS, temporal_depth=6, drop_path=0.2)
        rates = [block.drop_path for block in model.translator]
    assert rates == pytest.approx([0.01, 0.048, 0.086, 0.124, 0.162, 0.2])


def test_squared_error_is_the_whole_loss():
    clip = Clip(past=3, future=5, channels=2, height=8, width=8)
    model = SimVPv2(clip, 4, 8, 2, 2, 2).eval()
    past, future = torch.rand(2, 3, 2, 8, 8), torch.rand(2, 5, 2, 8, 8)
    with torch.no_grad():
        prediction = model(past, 5)
        assert model.loss(past, future).item() == (prediction - future).square().mean().item()
        torch.testing.assert_close(prediction[:, 3:], model(prediction[:, :3], 2))  # rolled out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_depth": 3}, "even number"),
        ({"spatial_hidden": 5}, "even number"),
        ({"spatial_depth": 14}, "divisible by 128"),
        ({"temporal_depth": 1}, "temporal_depth is 1"),
        ({"drop_path": 1.0}, r"drop_path is 1.0"),
    ],
)
def test_bad_options(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        SimVPv2(MNIST, **options)
