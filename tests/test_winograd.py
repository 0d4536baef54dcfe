"""Winograd's convolution against the direct one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from baselines import e3dlstm, winograd
from baselines.convlstm import ConvLSTM
from baselines.e3dlstm import E3DLSTM, WindowConv
from baselines.mim import MIM
from baselines.predrnn import PredRNN
from baselines.predrnnpp import PredRNNpp
from baselines.recurrent import Recurrent
from baselines.winograd import Conv2d, convolve, filters_kept
from tau.predictor import Clip

SIZES = [(8, 8), (7, 10), (1, 3), (4, 5)]


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


class Counter:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *args: Tensor) -> Tensor:
        self.calls += 1
        return self.function(*args)


@pytest.fixture
def convolutions(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts Winograd's convolutions."""
    counter = Counter(winograd.convolve)
    monkeypatch.setattr(winograd, "convolve", counter)
    return counter


@pytest.fixture
def transforms(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts transformed filters."""
    counter = Counter(winograd.transform_filter)
    monkeypatch.setattr(winograd, "transform_filter", counter)
    return counter


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_the_direct_sum(
    kernel: int, size: tuple[int, int], layout: torch.memory_format
) -> None:
    x, weight = draw(2, 3, *size), draw(5, 3, kernel, kernel)
    found = convolve(x.contiguous(memory_format=layout), weight)
    expected = F.conv2d(x, weight, padding=kernel // 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    gradient = torch.randn_like(expected)
    both = (torch.autograd.grad(y, (x, weight), gradient) for y in (found, expected))
    torch.testing.assert_close(*both, rtol=0, atol=1e-11)


def test_depth_may_stand_among_the_channels() -> None:
    x, weight = draw(2, 3, 2, 6, 6), draw(4, 3, 2, 5, 5)
    found = convolve(x.flatten(1, 2), weight)
    expected = F.conv3d(x, weight, padding=(0, 2, 2)).squeeze(2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    both = (torch.autograd.grad(y.square().sum(), (x, weight)) for y in (found, expected))
    torch.testing.assert_close(*both, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kernel", [3, 5])
def test_rounding_error_in_float32(kernel: int) -> None:
    """Bounded by itself: how exact the direct sum is depends on the processor."""
    x, weight = draw(2, 128, 16, 16), draw(128, 128, kernel, kernel)
    exact = F.conv2d(x, weight, padding=kernel // 2)
    found = (convolve(x.float(), weight.float()) - exact).std()
    assert found < 1e-5 * exact.std()


@pytest.mark.parametrize(
    ("kernel", "channels_in", "channels", "fast"),
    [
        *((5, 64, 64, True), (5, 48, 512, False), (5, 512, 48, False)),
        *((3, 128, 128, True), (3, 96, 512, False), (3, 512, 96, False)),
        *((1, 512, 512, False), (7, 128, 128, False)),
    ],
)
def test_wide_ones_take_it(
    convolutions: Counter, kernel: int, channels_in: int, channels: int, fast: bool
) -> None:
    torch.manual_seed(0)
    conv = Conv2d(channels_in, channels, kernel)
    x = draw(1, channels_in, 4, 4, dtype=torch.float32)
    expected = F.conv2d(x, conv.weight, conv.bias, padding=kernel // 2)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)
    assert convolutions.calls == fast


def test_other_precisions_and_tracers_take_the_direct_sum(convolutions: Counter) -> None:
    conv = Conv2d(64, 64, 5)
    x = torch.zeros(1, 64, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
    conv.double()(x.double())
    conv.float()
    torch.jit.trace(conv, x, check_trace=False)
    torch.compile(conv, backend="eager")(x)
    with FlopCounterMode(display=False) as counter:
        conv.to("meta")(x.to("meta"))
    assert counter.get_total_flops() == 2 * 64 * 64 * 64 * 25
    assert convolutions.calls == 0


def test_kept_filters_are_transformed_once(transforms: Counter) -> None:
    weight = draw(4, 3, 5, 5)
    frames = draw(3, 1, 3, 6, 6)
    with filters_kept():
        found = sum(convolve(frame, weight).square().sum() for frame in frames)
        assert transforms.calls == 1
        with torch.no_grad():  # a filter without a graph is not one to train
            convolve(frames[0], weight)
        assert transforms.calls == 2
    expected = F.conv2d(frames.flatten(0, 1), weight, padding=2).square().sum()
    both = (torch.autograd.grad(y, (frames, weight)) for y in (found, expected))
    torch.testing.assert_close(*both, rtol=0, atol=1e-9)


def test_filters_are_transformed_anew_when_weights_have_changed(transforms: Counter) -> None:
    weight, x = draw(4, 3, 5, 5), draw(1, 3, 6, 6)
    for _ in range(2):
        with filters_kept():
            found = convolve(x, weight)
        torch.testing.assert_close(found, F.conv2d(x, weight, padding=2), rtol=0, atol=1e-11)
        with torch.no_grad():
            weight.add_(1)
    assert transforms.calls == 2


def test_training_may_follow_inference() -> None:
    winograd.matrices.cache_clear()
    weight, x = draw(4, 3, 5, 5), draw(1, 3, 6, 6)
    with torch.inference_mode():
        found = convolve(x, weight)
    convolve(x, weight).sum().backward()
    torch.testing.assert_close(found, F.conv2d(x, weight, padding=2), rtol=0, atol=1e-11)
    assert weight.grad is not None and weight.grad.abs().sum() > 0


def test_a_second_derivative_is_refused() -> None:
    x, weight = draw(1, 3, 6, 6), draw(4, 3, 5, 5)
    (first,) = torch.autograd.grad(convolve(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("model", [ConvLSTM, PredRNN, PredRNNpp, MIM, E3DLSTM])
def test_recurrent_models_train_the_same(
    model: type[Recurrent], monkeypatch: pytest.MonkeyPatch, transforms: Counter
) -> None:
    clip = Clip(past=2, future=2, height=16, width=24)
    torch.manual_seed(0)
    net = model(clip, hidden=(64, 64))
    past, future = clip.split(torch.rand(2, 4, 1, 16, 24))
    losses, gradients = [], []
    for _ in range(2):
        net.zero_grad()
        torch.manual_seed(1)
        loss = net.loss(past, future)
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in net.parameters() if p.grad is not None])
        for module in (winograd, e3dlstm):
            monkeypatch.setattr(module, "pays", lambda x, weight: False)
    wide = [m for m in net.modules() if isinstance(m, Conv2d | WindowConv) and m.in_channels >= 64]
    assert transforms.calls == len(wide)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)
    for fast, direct in zip(*gradients, strict=True):
        assert (fast - direct).norm() <= 1e-4 * direct.norm()
