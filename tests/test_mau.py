"""MAU: published sizes, the forward check, attention over the past, scheduled sampling."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from compiled import Backend
from forward_check import Expected, check
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.mau import MAU, MAUCell
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=4, channels=2, height=8, width=12)


def tiny(**options: object) -> MAU:
    torch.manual_seed(0)
    sizes = {"hidden": (4, 4), "kernel": 3, "downsampling": 2, "tau": 2}
    return MAU(TINY, **{**sizes, **options})


def clips(batch: int = 3, clip: Clip = TINY) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, clip.frames, clip.channels, clip.height, clip.width)
    return clip.split(torch.rand(shape, generator=generator))


def fed(model: MAU, frames: Tensor, shown: Tensor) -> Tensor:
    """The N-1 predictions, sample by sample: sample b reads frame t where shown[b, t]."""
    rows = []
    for clip, flags in zip(frames, shown.tolist(), strict=True):
        row: list[Tensor] = []
        state = None
        for t, flag in enumerate(flags):
            s = model.encoder(clip[t : t + 1] if flag else row[-1])
            frame, state = model.step(s, model.init_state(s) if state is None else state)
            row.append(frame)
        rows.append(torch.stack(row, dim=1))
    return torch.cat(rows)


def mean_error(model: MAU, past: Tensor, future: Tensor, shown: Tensor) -> Tensor:
    frames = torch.cat([past, future], dim=1)
    return F.mse_loss(fed(model, frames, shown), frames[:, 1:])


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


def test_macs_equal_fvcores() -> None:
    model = tiny(downsampling=1)
    assert cost.macs(model, TINY) == cost.fvcore_macs(model, TINY)


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
    frames = torch.cat(clips(), dim=1)
    encoded = [net.encoder(frames[:, t]) for t in range(4)]
    state = net.init_state(encoded[0])
    outputs = []
    for s in encoded:
        _, state = net.step(s, state)
        outputs.append(state[0][1][-1])
    past_s, past_t = state[0]
    for kept, wanted in zip((*past_s, *past_t), (*encoded[2:], *outputs[2:]), strict=True):
        assert torch.equal(kept, wanted)


# Forecasting


@pytest.mark.parametrize("horizon", [1, 3, 9])
def test_forecast_feeds_itself(horizon: int) -> None:
    net = tiny().eval()
    past, _ = clips()
    shown = torch.arange(3 + horizon - 1).expand(3, -1) < 3
    with torch.no_grad():
        found = net(past, horizon)
        expected = fed(net, past, shown)[:, -horizon:]
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


def test_a_prediction_depends_on_earlier_frames_only() -> None:
    net = tiny()
    frames = torch.cat(clips(), dim=1).requires_grad_()
    predictions, _ = net.unroll(frames, 7, torch.ones(3, 4, dtype=torch.bool))
    for t in range(7):
        gradient = torch.autograd.grad(predictions[:, t].sum(), frames, retain_graph=True)[0]
        touched = gradient.abs().amax(dim=(0, 2, 3, 4)) > 0
        assert touched.tolist() == [u <= t for u in range(7)]


# Scheduled sampling


@pytest.mark.parametrize("stop", [4, 50_000])
def test_sampling_ends_at_its_step(stop: int) -> None:
    model = tiny(sampling_stop=stop)
    assert model.draw_mask(8, 3, 4).all()
    model.step_count.fill_(stop // 2)
    assert model.forcing_probability().item() == 0.5
    model.step_count.fill_(stop - 1)
    assert model.forcing_probability().item() > 0
    model.step_count += 1
    assert model.forcing_probability().item() == 0
    assert not model.draw_mask(8, 3, 4).any()


def test_the_published_sampling_ends_at_50_000() -> None:
    with torch.device("meta"):
        assert MAU(Clip()).sampling_stop == 50_000


def test_sampling_starts_with_the_truth_and_ends_with_own_predictions() -> None:
    net = tiny(sampling_stop=9)
    past, future = clips()
    truth = torch.ones(3, 6, dtype=torch.bool)
    own = torch.arange(6).expand(3, -1) < 3
    taught, free = (mean_error(net, past, future, shown) for shown in (truth, own))
    assert abs(taught.item() - free.item()) > 1e-6
    torch.testing.assert_close(net.loss(past, future), taught)
    assert net.step_count.item() == 1
    net.step_count.fill_(9)
    torch.testing.assert_close(net.loss(past, future), free)
    net.step_count.zero_()
    torch.testing.assert_close(net.eval().loss(past, future), free)


def test_sampling_is_drawn_for_each_sample_and_frame() -> None:
    net = tiny(sampling_stop=4)
    past, future = clips()
    net.step_count.fill_(2)
    torch.manual_seed(2)
    shown = torch.cat([torch.ones(3, 3, dtype=torch.bool), torch.rand(3, 3) < 0.5], dim=1)
    assert len(set(map(tuple, shown.tolist()))) == 3
    torch.manual_seed(2)
    torch.testing.assert_close(net.loss(past, future), mean_error(net, past, future, shown))


# Training


def test_autocast_and_float64() -> None:
    net = tiny()
    past, future = clips()
    net.step_count.fill_(25_000)
    exact = net.eval()(past, 4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(past, 4)
        loss = net.train().loss(past, future)
    loss.backward()
    assert rounded.dtype == loss.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.double().eval()
    double = net(past.double(), 4)
    assert double.dtype == net.train().loss(past.double(), future.double()).dtype == torch.float64
    torch.testing.assert_close(double, exact.double(), atol=1e-5, rtol=0)


def test_compile_compiles_the_step_once() -> None:
    net = tiny()
    past, future = clips()
    keys = list(net.state_dict())
    expected = net.loss(past, future)
    net.step_count.zero_()
    backend = Backend()
    net.compile(backend=backend)
    torch.testing.assert_close(net.loss(past, future), expected)
    norms = backend.count(F.layer_norm)
    assert norms.count(8) == 1  # 2 layers x 4: the windows look alike from the first step on
    assert set(norms) == {0, 8}  # 0: the encoder
    assert sum(norms[i] == 8 for i in backend.runs) == 6
    assert sum(norms[i] == 0 for i in backend.runs) == 4
    assert list(net.state_dict()) == keys

    twin = copy.deepcopy(net)
    nn.init.zeros_(twin.decoder[-1].weight)
    nn.init.zeros_(twin.decoder[-1].bias)
    assert not twin(past, 1).any()  # its own weights, not the compiled original's


def test_compiled_steps_serve_all_batch_sizes() -> None:
    torch.compiler.reset()
    net = tiny(hidden=(4,), downsampling=1, tau=4)
    net.compile(backend="eager")
    with torch.no_grad(), torch._dynamo.config.patch(fail_on_cache_limit_hit=True):
        for batch in (16, 8, 1):
            past, future = clips(batch)
            net(torch.cat([past, future], dim=1), 1)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, r"hidden is \(\)"),
        ({"hidden": (8, 4)}, r"hidden is \(8, 4\); expected equal widths"),
        ({"kernel": 4}, "kernel is 4"),
        ({"downsampling": 3}, "downsampling is 3; expected a power of two"),
        ({"downsampling": 0}, "downsampling is 0; expected a power of two"),
        ({"downsampling": 32}, r"downsampling is 32; .* 64x48"),
        ({"tau": 0}, "tau is 0"),
        ({"sampling_stop": 0}, "sampling_stop is 0"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        MAU(Clip(height=64, width=48), **options)
