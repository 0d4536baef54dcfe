"""MAU: published sizes, the forward check, attention over the past, compilation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from compiled import Backend
from forward_check import Expected, check
from model_rows import random_frames
from torch import nn
from torch.nn import functional as F

from baselines.mau import MAU, MAUCell
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=4, channels=2, height=8, width=12)


def tiny(**options: object) -> MAU:
    torch.manual_seed(0)
    sizes = {"hidden": (4, 4), "kernel": 3, "downsampling": 2, "tau": 2}
    return MAU(TINY, **{**sizes, **options})


# The paper's equations and size


def test_forward_equals_the_reference() -> None:
    # At the published width, which scales the products that the attention compares.
    expected = Expected(0.01786271, 0.00686162, 0.01480243, 0.01906565, 0.01954358)
    check(MAU(Clip()), Clip(), expected)


def step_macs(clip: Clip, downsampling: int, c: int = 64) -> int:
    """Closed form of a step: encoder, four layers with LayerNorm's 5, decoder."""
    image = clip.height * clip.width
    total = 2 * image * clip.channels * c  # the 1x1 convolutions into and out of the model
    pixels = image
    while pixels > image // downsampling**2:
        pixels //= 4
        total += 2 * pixels * 9 * c**2  # transposed ones cost their input's pixels
    return total + 4 * pixels * (25 * 8 * c**2 + 40 * c)


@pytest.mark.parametrize(
    ("clip", "downsampling", "gmacs", "count"),
    [
        (Clip(), 4, 17.7912, 4_483_588),
        (Clip(4, 4, 2, 32, 32), 2, 6.0243, 4_409_868),
        (Clip(10, 20, 1, 128, 128), 2, 399.2663, 20_138_372),
        (Clip(10, 1, 3, 128, 160), 2, 172.1500, 24_332_952),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_published_size(clip: Clip, downsampling: int, gmacs: float, count: int) -> None:
    model = cost.build_on_meta(MAU, clip, {"downsampling": downsampling})
    step = step_macs(clip, downsampling)
    assert cost.macs(model, replace(clip, past=1, future=1)) == step
    assert round((clip.frames - 1) * step / 1e9, 4) == gmacs
    c = clip.channels
    dead = (2 * 64 * 64 + 64) + (2 * c * c + c)  # two 1x1 convolutions, published but unused
    assert cost.parameters(model) == count - dead


def test_every_step_is_counted() -> None:
    clip = Clip(past=2, future=2)
    model = cost.build_on_meta(MAU, clip, {})
    assert cost.published_macs(model, clip) == 3 * step_macs(clip, 4)


def test_attention_looks_for_the_past_that_resembles_the_key() -> None:
    torch.manual_seed(0)
    cell = MAUCell(2, 3, 4, 4).double()
    nn.init.constant_(cell.norm_u.weight, 0)
    nn.init.constant_(cell.norm_u.bias, -1e3)  # U = 0: nothing but the trend
    s, *past_t = torch.rand(4, 1, 2, 4, 4).double()
    with torch.no_grad():
        key = cell.norm_key(cell.conv_s(s)[:, 6:])
        alike = (-1e3 * key, 1e3 * key, torch.zeros_like(key))
        _, found = cell(s, alike, tuple(past_t))
        _, alone = cell(s, alike, (past_t[1],) * 3)
        _, other = cell(s, alike, (past_t[0],) * 3)
    torch.testing.assert_close(found, alone)
    assert (found - other).abs().max() > 1e-3


def test_a_layer_remembers_tau_inputs_and_outputs() -> None:
    net = tiny(tau=2).eval()
    frames = torch.cat(random_frames(TINY, 3), dim=1)
    encoded = [net.encoder(frames[:, t]) for t in range(4)]
    state = net.init_state(encoded[0])
    outputs = []
    for s in encoded:
        _, state = net.step(s, state)
        outputs.append(state[0][1][-1])
    past_s, past_t = state[0]
    for kept, wanted in zip((*past_s, *past_t), (*encoded[2:], *outputs[2:]), strict=True):
        assert torch.equal(kept, wanted)


def test_the_published_sampling_ends_at_50_000() -> None:
    with torch.device("meta"):
        assert MAU(Clip()).sampling_steps == 50_000


# Compilation


def test_compile_compiles_the_step_once() -> None:
    net = tiny()
    past, future = random_frames(TINY, 3)
    backend = Backend()
    net.compile(backend=backend)
    net.loss(past, future)
    norms = backend.count(F.layer_norm)
    assert norms.count(8) == 1  # 2 layers x 4: the windows look alike from the first step on
    assert set(norms) == {0, 8}  # 0: the encoder


def test_compiled_steps_serve_all_batch_sizes() -> None:
    torch.compiler.reset()
    net = tiny(hidden=(4,), downsampling=1, tau=4)
    net.compile(backend="eager")
    with torch.no_grad(), torch._dynamo.config.patch(fail_on_cache_limit_hit=True):
        for batch in (16, 8, 1):
            past, future = random_frames(TINY, batch)
            net(torch.cat([past, future], dim=1), 1)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (8, 4)}, r"hidden is \(8, 4\); expected equal widths"),
        ({"downsampling": 3}, "downsampling is 3; expected a power of two"),
        ({"downsampling": 32}, r"downsampling is 32; .* 64x48"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        MAU(Clip(height=64, width=48), **options)
