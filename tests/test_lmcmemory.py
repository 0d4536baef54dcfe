"""LMC-Memory: motion, recall, the two phases of its loss; its published size, cost and values."""

from __future__ import annotations

import pytest
import torch
from compiled import Backend
from forward_check import check_sequence, set_constant_weights
from torch import Tensor
from torch.nn import functional as F

from baselines.lmcmemory import LMCMemory, error
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=3, channels=2, height=16, width=8)


def tiny(clip: Clip = TINY, **options: object) -> LMCMemory:
    torch.manual_seed(0)
    small = {"hidden": 8, "layers": 2, "motion": (4, 4, 6), "slots": 5}
    return LMCMemory(clip, **{**small, **options})


def sequences(past: int = 3, future: int = 3, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(batch, past + future, 2, 16, 8, generator=generator)
    return frames[:, :past], frames[:, past:]


# The published values, size and cost


def test_forward_equals_the_reference() -> None:
    # Values are for the published widths. Under constant weights the channels of a layer are equal,
    # so any width gives them; slots differ, and keep theirs.
    clip = Clip()
    model = LMCMemory(clip, hidden=2, motion=(1, 1, 1, 512)).double().eval()
    set_constant_weights(model, slots=0.0)
    slot, channel = torch.meshgrid(
        torch.arange(100.0).double(), torch.arange(512.0).double(), indexing="ij"
    )
    model.slots.data = 0.5 + 0.5 * torch.sin(0.3 * slot + 0.2 * channel)
    with torch.no_grad():
        y = model(check_sequence(clip)[:, : clip.past], clip.future)[0, :, 0]
    found = torch.stack([y.mean(), y.std(correction=0), y[0, 0, 0], y[0, 32, 32], y[-1, 32, 32]])
    expected = [0.01193801, 0.00096282, 0.01070052, 0.01091001, 0.01091086]
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=0, atol=1e-8)


def test_published_parameters() -> None:
    model = cost.build_on_meta(LMCMemory, Clip(), {})
    found = {name: cost.parameters(part) for name, part in model.named_children()}
    assert found == {
        "encoder": 259_008,
        "cells": 4_722_688,
        "decoder": 406_337,
        "gate": 6_288,
        "matching_encoder": 13_495_680,
        "storing_encoder": 13_495_680,
        "context": 1_474_944,
    }
    assert cost.parameters(model) == 33_911_825


def macs(horizon: int) -> int:
    """Closed form for 10 frames of 64 x 64 and the published widths."""
    quarter, half, full = 16**2, 32**2, 64**2
    steps = 10 + horizon - 1
    encoder = 9 * (half * 64 + half * 64**2 + quarter * 64 * 128 + quarter * 128**2)
    cells = quarter * 9 * 4 * 8 * 128**2
    decoder = 9 * (quarter * 256 * 128 + quarter * 128 * 64 + half * 64**2 + half * 64)
    gate = quarter * 256 + 256 * 16 + 16 * 128
    motion = 27 * (9 * full * 64 + 9 * half * 64 * 128)
    motion += 27 * 4 * quarter * (128 * 256 + 256**2) + 27 * 2 * 64 * (256 * 512 + 512**2)
    recall = 2 * 16 * 100 * 512 + 9 * (16 * 512 * 256 + 64 * 256 * 128)
    return steps * (encoder + cells) + horizon * (decoder + gate) + motion + recall


@pytest.mark.parametrize(("horizon", "published"), [(10, 32.302), (30, 61.016)])
def test_published_multiply_adds(horizon: int, published: float) -> None:
    clip = Clip(10, horizon)
    model = cost.build_on_meta(LMCMemory, clip, {})
    assert cost.macs(model, clip) == macs(horizon)
    assert round(macs(horizon) / 1e9, 3) == published


# The parts


def test_frames_read_at_once_or_one_by_one_give_one_state() -> None:
    model = tiny()
    past, _ = sequences(5)
    with torch.no_grad():
        found = model.observe(past)
        state = model.observe(past[:, :1])
        for frame in past[:, 1:].unbind(1):
            state = model.step(model.encoder(frame), state)
    for layer, expected in zip(found, state, strict=True):
        torch.testing.assert_close(layer, expected)


def test_prediction_feeds_itself() -> None:
    model = tiny().eval()
    past, _ = sequences()
    with torch.no_grad():
        found = model(past, 4)
        context = model.recall(model.matching_encoder(past), model.slots)  # of the past alone
        seen = past
        for frame in found.unbind(1):
            torch.testing.assert_close(model.decode(model.observe(seen)[-1], context), frame)
            seen = torch.cat([seen, frame[:, None]], dim=1)


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 9, 19])
def test_motion_is_that_of_differences_in_order(frames: int) -> None:
    encoder = tiny().matching_encoder
    torch.manual_seed(0)
    sequence = torch.rand(2, frames, 2, 16, 8)
    motion = encoder(sequence)
    assert motion.shape == (2, 6, 2, 1)
    torch.testing.assert_close(encoder(sequence + 0.5), motion)
    assert (encoder(sequence.flip(1)) - motion).abs().max() > 1e-4


def test_motion_pools_two_frames_from_the_second_width_on() -> None:
    model = cost.build_on_meta(LMCMemory, Clip(), {})
    shapes = []
    for stage in model.matching_encoder.stages:
        stage.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[2:])))
    model.matching_encoder(torch.empty(1, 10, 1, 64, 64, device="meta"))
    assert shapes == [(9, 64, 64), (9, 32, 32), (4, 16, 16), (2, 8, 8)]


def test_each_place_recalls_by_the_cosine_with_each_slot() -> None:
    model = tiny()
    model.context = torch.nn.Identity()
    torch.manual_seed(0)
    motion, slots = torch.randn(2, 6, 3, 2), torch.randn(5, 6)
    found = model.recall(motion, slots)
    for b, y, x in [(0, 0, 0), (0, 2, 1), (1, 1, 0)]:
        cosines = F.cosine_similarity(motion[b, :, y, x], slots)
        torch.testing.assert_close(found[b, :, y, x], torch.softmax(cosines, dim=0) @ slots)


def test_the_context_is_gated_for_each_channel() -> None:
    model = tiny()
    h, c, context = torch.rand(3, 2, 8, 4, 2).unbind(0)
    means = torch.cat([c, context], dim=1).mean((2, 3))
    gate = model.gate(means)
    assert gate.shape == (2, 8)
    assert ((gate > 0) & (gate < 1)).all()
    expected = model.decoder(torch.cat([h, context * gate[:, :, None, None]], dim=1))
    torch.testing.assert_close(model.decode((h, c), context), expected)


def test_bounded_ends_with_a_sigmoid() -> None:
    past, _ = sequences()
    open_end, bounded = (tiny(bounded=b).eval()(past, 2) for b in (False, True))
    torch.testing.assert_close(bounded[:, 0], torch.sigmoid(open_end[:, 0]))


# Memory alignment


@pytest.mark.parametrize(
    ("past", "future", "length"), [(4, 4, 8), (4, 12, 12), (4, 16, 16), (4, 8, 8), (4, 1, 5)]
)
def test_the_long_sequence_starts_anywhere_but_alike_in_a_batch(
    past: int, future: int, length: int
) -> None:
    frames = torch.arange(past + future).expand(3, -1)[..., None, None, None]
    model = tiny()
    starts = set()
    for _ in range(200):
        found = model.long_sequence(frames[:, :past], frames[:, past:])[..., 0, 0, 0]
        start = int(found[0, 0])
        assert torch.equal(found, (start + torch.arange(length)).expand(3, -1))
        starts.add(start)
    assert starts == set(range(past + future - length + 1))


def test_the_long_sequence_is_drawn_from_torchs_generator() -> None:
    """So that a resumed run, which restores it, goes on as it would have."""
    model = tiny(short_stop=0)
    past, future = sequences(2, 7)
    torch.manual_seed(0)
    first = [model.loss(past, future).item() for _ in range(4)]
    torch.manual_seed(0)
    assert [model.loss(past, future).item() for _ in range(4)] == first
    assert len(set(first)) > 1


def test_the_two_motion_encoders_start_equal_and_apart() -> None:
    model = tiny()
    pairs = zip(
        model.matching_encoder.parameters(), model.storing_encoder.parameters(), strict=True
    )
    for matching, storing in pairs:
        assert torch.equal(matching, storing)
        assert matching is not storing
        assert matching.data_ptr() != storing.data_ptr()


def phases(model: LMCMemory, past: Tensor, future: Tensor, long: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of storing and matching, one after the other."""
    contexts = (
        model.recall(model.storing_encoder(long), model.slots),
        model.recall(model.matching_encoder(past), model.slots),
    )
    storing, matching = (
        error(model.predict(model.observe(past), context, future.shape[1]), future)
        for context in contexts
    )
    return storing, matching


def test_loss_is_storing_plus_matching_which_leaves_the_slots_alone() -> None:
    model = tiny()
    past, future = sequences()
    storing, matching = phases(model, past, future, torch.cat([past, future], dim=1))
    loss = model.loss(past, future)
    torch.testing.assert_close(loss, storing + matching)
    stored, matched, found = (
        dict(
            zip(
                dict(model.named_parameters()),
                torch.autograd.grad(value, list(model.parameters()), materialize_grads=True),
                strict=True,
            )
        )
        for value in (storing, matching, loss)
    )
    assert matched["slots"].abs().max() > 0
    matched["slots"].zero_()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, stored[name] + matched[name], msg=name)


def test_loss_in_eval_mode_is_that_of_forward() -> None:
    model = tiny().eval()
    past, future = sequences()
    difference = model(past, 3) - future
    expected = difference.square().mean() + difference.abs().mean()
    torch.testing.assert_close(model.loss(past, future), expected)
    assert model.step_count == 0


def test_first_no_more_frames_are_predicted_than_given() -> None:
    model = tiny(short_stop=0.5)
    model.begin_training(4)
    past, future = sequences(2, 5)
    losses = []
    for step in range(3):
        torch.manual_seed(0)
        losses.append(model.loss(past, future).item())
        assert model.state_dict()["step_count"] == step + 1
    model.step_count.zero_()
    short = model.loss(past, future[:, :2]).item()
    assert losses[:2] == [short, short]
    assert abs(losses[2] - short) > 1e-6


@pytest.mark.parametrize(("step", "horizon"), [(0, 10), (4_999, 10), (5_000, 30), (9_000, 30)])
def test_published_schedule(step: int, horizon: int) -> None:
    model = tiny()
    model.step_count.fill_(step)
    assert model.training_horizon(10, 30) == horizon
    assert model.training_horizon(10, 7) == 7


def test_one_compiled_step_serves_all_layers_and_steps() -> None:
    model = tiny().eval()
    backend = Backend()
    model.compile(backend=backend)
    with torch.no_grad():
        for batch in (16, 8, 1):
            model(sequences(batch=batch)[0], 4)
    assert len(backend.graphs) == 3  # for the first batch size, for any other, and for 1
    assert len(backend.runs) == 3 * 2 * (3 + 3)  # batches x layers x (past, predictions fed back)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 7}, "hidden is 7"),
        ({"motion": (4, 4)}, r"motion is \(4, 4\)"),
        ({"motion": (4, 4, 4, 4)}, "16x8 cannot be halved 4 times"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_one_frame_shows_no_motion() -> None:
    model = tiny()
    past, future = sequences(1)
    one = Clip(past=1, future=3, channels=2, height=16, width=8)
    for call in (lambda: tiny(one), lambda: model(past, 2), lambda: model.loss(past, future)):
        with pytest.raises(ValueError, match=r"past is 1 frame; .* needs two or more"):
            call()


def test_frames_beyond_the_sigmoid_are_refused() -> None:
    wide = Clip(past=3, future=3, channels=2, height=16, width=8, data_range=255.0)
    tiny(wide)
    with pytest.raises(ValueError, match=r"data_range is 255.0"):
        tiny(wide, bounded=True)
