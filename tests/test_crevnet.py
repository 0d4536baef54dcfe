"""CrevNet: sizes, reference values, invertibility, what is fed, memory, compilation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from compiled import Backend
from forward_check import Expected, check, check_sequence, set_constant_weights
from model_rows import random_frames
from torch import Tensor, nn

from baselines.crevnet import Autoencoder, CrevNet, fold_pixels, fold_windows, unfold_pixels
from benchmarks.experiment import cost
from tau import Clip

TINY = Clip(past=4, future=3, channels=2, height=8, width=12)


def tiny(clip: Clip = TINY) -> CrevNet:
    """A small model whose batch norms have seen data."""
    torch.manual_seed(0)
    model = CrevNet(clip, blocks=(1, 2), layers=3)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm3d)):
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    return model.eval()


# Size and reference values


def macs(clip: Clip, blocks: tuple[int, ...], layers: int, per_norm: int) -> int:
    """Closed form: steps x (twice the autoencoder, and the recurrent layers)."""
    pixels = [3 * clip.height * clip.width // 4 ** (i + 1) for i in range(len(blocks))]
    widths = [2 * clip.channels * 4**i for i in range(len(blocks))]
    autoencoder = 0
    for i, depth in enumerate(blocks):
        n, half = widths[i], widths[i] // 2
        first = widths[max(i - 1, 0)]  # width of the first block's input
        inputs = first + (depth - 1) * n
        convolutions = 27 * half * (inputs + depth * (half + n))
        norms = pixels[i] * (depth * 2 * half + (depth - 1) * n)
        if i:
            norms += pixels[i - 1] * first
        autoencoder += pixels[i] * convolutions + per_norm * norms
    n = widths[-1]
    layer = 27 * (2 * 9 + 4) * n**2 + (2 + 1) * n**2
    return (clip.frames - 3) * (2 * autoencoder + pixels[-1] * layers * layer)


def test_published_size() -> None:
    model = cost.build_on_meta(CrevNet, Clip(), {})
    assert cost.parameters(model.autoencoder) == 104_516
    assert cost.parameters(model.predictor) == 4_892_928
    assert cost.parameters(model) == 4_997_444
    short = Clip(past=3, future=1)  # every step costs the same: the published clip has 17, not 1
    assert cost.macs(model, short) == macs(short, (4, 5, 3), 8, 2)
    assert cost.published_macs(model, short) == macs(short, (4, 5, 3), 8, 5)
    assert round(macs(Clip(), (4, 5, 3), 8, 2) / 1e9, 4) == 16.9032
    in_training = macs(Clip(), (4, 5, 3), 8, 5)
    assert round(in_training / 1e9, 4) == 16.9177
    assert round(16 * in_training / 1e9, 4) == 270.6824  # published: a batch of 16


def test_macs_of_other_clips() -> None:
    model = tiny()
    expected = macs(TINY, (1, 2), 3, 2)
    assert cost.macs(model, TINY) == expected
    assert cost.fvcore_macs(model, TINY) == expected


@pytest.mark.slow
def test_prediction_equals_the_reference_with_warm_up() -> None:
    expected = Expected(0.01046825, 0.01200974, 0.05101027, 0.03104158, 0.00628915)
    check(CrevNet(Clip()), Clip(), expected)


@pytest.mark.slow
def test_prediction_from_one_window_equals_the_reference_without_warm_up() -> None:
    class Forgetful(CrevNet):
        def forward(self, past: Tensor, horizon: int) -> Tensor:
            return super().forward(past[:, -3:], horizon)

    expected = Expected(0.01000110, 0.01159173, 0.05005566, 0.02954723, 0.00627413)
    check(Forgetful(Clip()), Clip(), expected)


@pytest.mark.slow
def test_loss_equals_the_reference() -> None:
    model = CrevNet(Clip()).double().eval()
    set_constant_weights(model)
    with torch.no_grad():
        loss = model.loss(*Clip().split(check_sequence(Clip())))
    assert loss.item() == pytest.approx(5.4838068776, abs=1e-9)


# The autoencoder


@pytest.fixture(scope="module")
def trained() -> Autoencoder:
    """The autoencoder of the published size after a few training steps."""
    torch.manual_seed(0)
    model = CrevNet(Clip(past=3, future=1), layers=1).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(4):
        loss = model.loss(*random_frames(model.clip))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.autoencoder


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_the_autoencoder_is_invertible(trained: Autoencoder, training: bool) -> None:
    autoencoder = trained.train(training)
    torch.manual_seed(1)
    frames = torch.rand(2, 1, 3, 64, 64)
    x1, x2 = autoencoder.encode(frames)
    assert x1.shape == x2.shape == (2, 32, 3, 8, 8)
    latent = torch.cat([x1, x2], dim=1).flatten()
    assert (latent.sort().values - frames.flatten().sort().values).abs().max() > 0.1
    # Rounding grows with the latent. Largest errors measured: 5e-7 in eval mode; in training, where
    # batch norm divides by the spread and the latent reaches 3.8, 8e-6.
    limit = 1e-5 * max(1.0, latent.abs().max().item())
    found = autoencoder.decode(x1, x2)
    torch.testing.assert_close(found, frames, atol=limit, rtol=0)
    others = x2, torch.randn_like(x1)  # not the latent of these frames
    again = autoencoder.encode(autoencoder.decode(*others))
    torch.testing.assert_close(again, others, atol=limit, rtol=0)


def test_pixels_are_folded_by_row_column_channel() -> None:
    x = torch.arange(2 * 3 * 2 * 4 * 6).reshape(2, 3, 2, 4, 6)
    folded = fold_pixels(x)
    assert folded.shape == (2, 12, 2, 2, 3)
    for row, column, channel in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 2)):
        found = folded[:, row * 6 + column * 3 + channel]
        assert torch.equal(found, x[:, channel, :, row::2, column::2])
    assert torch.equal(unfold_pixels(folded), x)


def held_for_backward(model: nn.Module, compute: Callable[[], Tensor]) -> int:
    """Bytes of activations that `compute` keeps for its gradient; weights do not count."""
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage  # alive, so that no other takes its number
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        assert compute().requires_grad
    for parameter in model.parameters():
        storages.pop(parameter.untyped_storage()._cdata, None)
    return sum(storage.nbytes() for storage in storages.values())


def test_memory_in_training() -> None:
    """It is what the class says, at the published size; measured on shapes alone."""
    model = cost.build_on_meta(CrevNet, Clip(), {})
    assert model.training
    frames = torch.empty(1, 10, 1, 64, 64, device="meta")
    held = held_for_backward(model, lambda: model.loss(frames, frames))
    assert round(held / 1e6) == 124
    autoencoder = model.autoencoder
    fed = torch.empty(17, 1, 3, 64, 64, device="meta")
    held = held_for_backward(autoencoder, lambda: autoencoder.decode(*autoencoder.encode(fed)))
    assert round(held / 1e6) == 39


# What is fed


def one_by_one(model: CrevNet, fed: list[Tensor]) -> Tensor:
    """The window predicted after the windows `fed` [B, C, 3, H, W], each treated by itself."""
    state = model.predictor.init_state(model.autoencoder.encode(fed[0])[0])
    for window in fed:
        *halves, state = model.predictor(*model.autoencoder.encode(window), state)
    return model.autoencoder.decode(*halves)


@pytest.mark.parametrize("time", [3, 4, 6])
@torch.no_grad()
def test_prediction_feeds_itself_and_keeps_what_was_observed(time: int) -> None:
    model = tiny()
    past = torch.rand(2, time, 2, 8, 12)
    found = model(past, 5)
    frames = list(past.unbind(1))
    fed = [torch.stack(frames[t : t + 3], dim=2) for t in range(time - 2)]
    for k in range(5):
        predicted = one_by_one(model, fed)
        torch.testing.assert_close(found[:, k], predicted[:, :, 2], atol=1e-5, rtol=1e-4)
        window = predicted.clone()
        if k == 0:
            window[:, :, 0], window[:, :, 1] = past[:, -2], past[:, -1]
        if k == 1:
            window[:, :, 0] = past[:, -1]
        fed.append(window)


@torch.no_grad()
def test_loss_is_the_sum_over_steps_from_true_windows() -> None:
    model = tiny()
    past, future = random_frames(TINY)
    true = fold_windows(torch.cat([past, future], dim=1))
    expected = torch.zeros(())
    for t in range(1, true.shape[1]):
        error = one_by_one(model, list(true[:, :t].unbind(1))) - true[:, t]
        expected += error.square().mean()
    assert true.shape == (2, 5, 2, 3, 8, 12)
    torch.testing.assert_close(model.loss(past, future), expected)


def test_a_prediction_depends_on_earlier_windows_only() -> None:
    model = tiny()
    fed = fold_windows(torch.cat(random_frames(TINY), dim=1)).clone().requires_grad_()
    predictions, _ = model.follow(fed)
    for t in range(5):
        gradient = torch.autograd.grad(predictions[:, t].sum(), fed, retain_graph=True)[0]
        touched = gradient.abs().amax(dim=(0, 2, 3, 4, 5)) > 0
        assert touched.tolist() == [u <= t for u in range(5)]


# Compilation


def test_compile_compiles_the_recurrent_step() -> None:
    model = tiny(Clip(past=4, future=3, height=8, width=8))
    past, future = random_frames(model.clip)
    backend = Backend()
    model.compile(backend=backend)
    with torch.no_grad():
        model(past, 3)
        model.loss(past, future)
    assert len(backend.runs) == 4 + 4  # two windows of the past and two of its own; four true ones
    # one graph: all of a step, and nothing else
    assert backend.count(torch.conv3d) == [5 * 3]


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (2, 0)}, r"blocks is \(2, 0\)"),
        ({"blocks": (1, 1, 1, 1)}, "frames are 24x48; 4 stages .* divisible by 16"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrevNet(Clip(height=24, width=48), **options)


def test_three_frames_are_the_fewest() -> None:
    with pytest.raises(ValueError, match=r"Clip\.past is 2; expected 3 or more"):
        CrevNet(Clip(past=2))
    model = tiny()
    with pytest.raises(ValueError, match="got 2 frames; expected 3 or more"):
        model(torch.rand(1, 2, 2, 8, 12), 1)
