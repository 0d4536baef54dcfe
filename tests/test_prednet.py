"""PredNet: sizes, the paper's equations, feedback, loss, a live start, compilation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from compiled import Backend
from model_rows import random_frames
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.prednet import PredNet
from benchmarks.experiment import cost
from tau import Clip

TINY = Clip(past=3, future=4, channels=2, height=8, width=12)


both_rules = pytest.mark.parametrize("feedback", ["current", "previous"])


def tiny(clip: Clip = TINY, **options: object) -> PredNet:
    torch.manual_seed(0)
    return PredNet(clip, hidden=(3, 5), **options).eval()


# Size


def macs(clip: Clip, channels: tuple[int, ...]) -> int:
    """Closed form: frames x levels' pixels x (R, its up-sampled input, A^, and A of the next)."""
    frame = 0
    for i, n in enumerate(channels):
        above = channels[i + 1] if i + 1 < len(channels) else 0
        pixels = clip.height * clip.width // 4**i
        frame += pixels * (9 * (4 * n * (3 * n + above) + n * n + 2 * n * above) + above)
    return clip.frames * frame


@pytest.mark.parametrize(
    ("clip", "size", "per_frame", "total"),
    [
        (Clip(), 12_510_842, 0.8383, 16.766),
        (Clip(4, 4, 2, 32, 32), 12_512_926, 0.2117, 1.694),
        (Clip(10, 20, 1, 128, 128), 12_510_842, 3.3531, 100.593),
        (Clip(10, 1, 3, 128, 160), 12_515_244, 4.2813, 47.095),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_published_size(clip: Clip, size: int, per_frame: float, total: float) -> None:
    model = cost.build_on_meta(PredNet, clip, {})
    assert cost.parameters(model) == size
    short, channels = replace(clip, past=1, future=2), (clip.channels, 32, 64, 128, 256)
    assert cost.macs(model, short) == macs(short, channels)
    assert round(macs(clip, channels) / clip.frames / 1e9, 4) == per_frame
    assert round(macs(clip, channels) / 1e9, 3) == total


@both_rules
def test_fvcore_leaves_out_the_last_way_up_only(feedback: str) -> None:
    """Nothing reads what the last step makes of its own prediction, and a trace shows that."""
    unread = 96 * 9 * 2 * 2 * 3 + 24 * 9 * (3 * 3 + 2 * 3 * 5) + 6 * 9 * 5 * 5
    assert cost.fvcore_macs(tiny(feedback=feedback), TINY) == macs(TINY, (2, 3, 5)) - unread


# The paper's equations


def by_the_equations(
    model: PredNet, frames: Tensor, horizon: int, feedback: str = "current"
) -> tuple[Tensor, Tensor]:
    """Predictions and E_0 of all steps; each gate, level and unit by itself."""
    stack = model.stack
    top = len(stack.cells) - 1
    sizes = [
        frames[:, 0].new_zeros(len(frames), n, 8 >> i, 12 >> i) for i, n in enumerate((2, 3, 5))
    ]
    r, c, e = list(sizes), list(sizes), [torch.cat([z, z], dim=1) for z in sizes]
    predictions, errors = [], []
    for t in range(frames.shape[1] + horizon):
        for i in reversed(range(top + 1)):
            x = torch.cat([r[i], e[i]], dim=1)
            if i < top:
                up = r[i + 1].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
                x = torch.cat([x, up], dim=1)
            conv = stack.cells[i].conv
            gates = [
                F.conv2d(x, weight, bias, padding=1)
                for weight, bias in zip(conv.weight.chunk(4), conv.bias.chunk(4), strict=True)
            ]
            write, forget, show = (torch.clip(0.2 * gate + 0.5, 0, 1) for gate in gates[:3])
            c[i] = forget * c[i] + write * gates[3].tanh()
            r[i] = show * c[i].tanh()
        for i in range(top + 1):
            predicted = stack.predict[i](r[i]).relu()
            if i == 0:
                predicted = predicted.minimum(torch.tensor(stack.limit))
                predictions.append(predicted)
                if t < frames.shape[1]:
                    actual = frames[:, t]
                elif feedback == "current":
                    actual = predictions[t]
                else:
                    actual = predictions[t - 1]
            e[i] = torch.cat([(predicted - actual).relu(), (actual - predicted).relu()], dim=1)
            if i < top:
                climbed = stack.climb[i](e[i]).relu()
                b, n, height, width = climbed.shape
                actual = climbed.reshape(b, n, height // 2, 2, width // 2, 2).amax((3, 5))
        errors.append(e[0])
    return torch.stack(predictions, dim=1), torch.stack(errors, dim=1)


def with_biases(model: PredNet, scale: float = 1.0) -> PredNet:
    """`model` with random biases, which start at zero; all parameters are then times `scale`."""
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, -0.2, 0.2)
        parameter.data *= scale
    return model


@both_rules
@pytest.mark.parametrize("scale", [1, 20])  # the larger weights saturate gates and predictions
@torch.no_grad()
def test_prediction_follows_the_equations(feedback: str, scale: float) -> None:
    model = with_biases(tiny(feedback=feedback), scale)
    past, _ = random_frames(TINY)
    for frames in (past, past[:, :1]):
        expected, errors = by_the_equations(model, frames, 5, feedback)
        time = frames.shape[1]
        torch.testing.assert_close(model(frames, 5), expected[:, time:])
        assert errors[:, time:].any() == (feedback == "previous")
    assert (expected == 1).any() == (scale == 20)


@torch.no_grad()
def test_the_two_rules_part_at_the_second_predicted_frame() -> None:
    past, _ = random_frames(TINY)
    models = (with_biases(tiny(feedback=each)) for each in ("current", "previous"))
    current, previous = (model(past, 3) for model in models)
    assert torch.equal(current[:, 0], previous[:, 0])
    assert (current - previous).abs().amax((0, 2, 3, 4))[1:].min() > 1e-4


@torch.no_grad()
def test_current_feedback_takes_a_prediction_for_its_frame() -> None:
    model = with_biases(tiny())
    past, _ = random_frames(TINY)
    prediction = model(past, 4)
    assert torch.equal(model(torch.cat([past, prediction[:, :2]], dim=1), 2), prediction[:, 2:])


@torch.no_grad()
def test_previous_feedback_takes_it_for_the_next_frame() -> None:
    model = with_biases(tiny(feedback="previous"))
    past, _ = random_frames(TINY)
    last = model.unroll(past, 3)[:, -1:]  # of the last frame of the past
    prediction = model(past, 4)
    fed = torch.cat([past, last, prediction[:, :1]], dim=1)
    assert torch.equal(model(fed, 2), prediction[:, 2:])


@torch.no_grad()
def test_loss_is_the_lowest_error_after_the_first_frame() -> None:
    model = tiny()
    past, future = random_frames(TINY)
    _, errors = by_the_equations(model, torch.cat([past, future], dim=1), 0)
    torch.testing.assert_close(model.loss(past, future), errors[:, 1:].mean())
    torch.testing.assert_close(model.train().loss(past, future), errors[:, 1:].mean())


def test_a_prediction_depends_on_earlier_frames_only() -> None:
    model = with_biases(tiny())
    frames = torch.cat(random_frames(TINY), dim=1).requires_grad_()
    predictions = model.unroll(frames, 7)
    for t in range(1, 7):
        gradient = torch.autograd.grad(predictions[:, t].sum(), frames, retain_graph=True)[0]
        touched = gradient.abs().amax(dim=(0, 2, 3, 4)) > 0
        assert touched.tolist() == [u < t for u in range(7)]
    assert torch.equal(predictions[0, 0], predictions[1, 0])  # of the first frame: from nothing


def test_biases_start_at_zero() -> None:
    biases = [p for name, p in tiny().named_parameters() if name.endswith("bias")]
    assert len(biases) == 3 + 3 + 2
    assert not any(bias.any() for bias in biases)


def test_predictions_reach_the_largest_pixel_value_and_no_further() -> None:
    model = tiny(Clip(past=3, future=4, channels=2, height=8, width=12, data_range=40.0))
    past, _ = random_frames(model.clip)
    assert model(past, 4).max() < 40
    nn.init.constant_(model.stack.predict[0].bias, 100)
    assert (model(past, 4) == 40).all()


@pytest.mark.parametrize("seed", range(12))
def test_one_channel_starts_alive(seed: int) -> None:
    torch.manual_seed(seed)
    model = PredNet(Clip(past=2, future=2, height=16, width=16), hidden=(4, 8))
    frames = torch.zeros(1, 4, 1, 16, 16)  # dark, with a square that moves
    for t in range(4):
        frames[:, t, :, 4 + t : 9 + t, 6:10] = 1
    model.loss(frames[:, :2], frames[:, 2:]).backward()
    stack = model.stack
    for conv in (stack.predict[0], *(cell.conv for cell in stack.cells)):
        assert conv.weight.grad.any()


# Compilation


@both_rules
def test_compile_compiles_the_step(feedback: str) -> None:
    model = tiny(feedback=feedback)
    backend = Backend()
    model.compile(backend=backend)
    with torch.no_grad():
        model(random_frames(TINY)[0], 4)
    assert len(backend.runs) == 7
    # one graph with a frame and, where a prediction is its own frame, one without
    assert backend.count(torch.conv2d) == [3 + 3 + 2] * (2 if feedback == "current" else 1)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (4, 4, 4)}, "frames are 12x16; 3 levels .* divisible by 8"),
        ({"hidden": (4,), "feedback": "last"}, "feedback is 'last'; expected .*current, previous"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredNet(Clip(height=12, width=16), **options)
