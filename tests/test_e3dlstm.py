"""E3D-LSTM: windows, recall, the living memory; its published size, cost and values."""

from __future__ import annotations

import pytest
import torch
from forward_check import Expected, check, check_sequence, set_constant_weights
from model_rows import random_frames
from torch import Tensor
from torch.nn import functional as F

from baselines import e3dlstm
from baselines.e3dlstm import E3DLSTM, WindowConv, recall, tokens
from benchmarks.experiment import cost
from tau.predictor import Clip

TINY = Clip(past=3, future=3, channels=2, height=8, width=12)


def tiny(**options: object) -> E3DLSTM:
    torch.manual_seed(0)
    return E3DLSTM(TINY, **{"hidden": (4, 4), "kernel": 3, "patch": 2, **options})


# The published values, size and cost


def recall_of(width: int):
    """Recall of a layer of `width` equal channels, computed from those that there are."""

    def widened(query: Tensor, history: Tensor) -> Tensor:
        return recall(query * (width / query.shape[2]), history)

    return widened


def test_forward_equals_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    # Under constant weights all channels are equal, and recall alone, which adds their products
    # without 1/sqrt(C), knows how many there are: 128 in the reference.
    expected = Expected(0.00436838, 0.03636977, -0.05526273, 0.06216377, 0.06786985)
    monkeypatch.setattr(e3dlstm, "recall", recall_of(128))
    check(E3DLSTM(Clip(), hidden=(2,) * 4), Clip(), expected)


def test_under_constant_weights_recall_alone_knows_the_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    past = check_sequence(TINY)[:, : TINY.past]

    def prediction(width: int) -> Tensor:
        model = tiny(hidden=(width, width)).double().eval()
        set_constant_weights(model)
        with torch.no_grad():
            return model(past, 3)

    wide, narrow = prediction(6), prediction(2)
    assert (wide - narrow).abs().max() > 1e-6
    monkeypatch.setattr(e3dlstm, "recall", recall_of(6))
    torch.testing.assert_close(prediction(2), wide, rtol=0, atol=1e-12)


def macs(clip: Clip, patch: int, read_out: bool = True) -> int:
    """Closed form for four layers of 128, convolutions computing both slices."""
    n, folded, steps = 128, clip.channels * patch**2, clip.frames - 1
    pixels = clip.height * clip.width // patch**2
    per_slice = sum(50 * (7 * n_in + 10 * n) * n + 2 * n * n for n_in in (folded, n, n, n))
    norms = 4 * 5 * 2 * pixels * n
    attention = 4 * 2 * n * (2 * pixels) ** 2 * steps * (steps + 1) // 2
    return steps * pixels * (2 * per_slice + read_out * 2 * n * folded) + steps * norms + attention


@pytest.mark.parametrize(
    ("clip", "patch", "count"),
    [
        (Clip(), 4, 51_347_456),
        (Clip(4, 4, 2, 32, 32), 2, 50_987_008),
        (Clip(10, 20, 1, 128, 128), 8, 53_510_144),
        (Clip(10, 1, 3, 128, 160), 4, 54_886_400),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_published_parameters(clip: Clip, patch: int, count: int) -> None:
    assert cost.parameters(cost.build_on_meta(E3DLSTM, clip, {"patch": patch})) == count


@pytest.mark.parametrize("clip", [Clip(4, 4, 2, 32, 32), Clip(1, 2, 3, 32, 40)], ids=str)
def test_multiply_adds_equal_the_closed_form(clip: Clip) -> None:
    model = cost.build_on_meta(E3DLSTM, clip, {"patch": 2})
    assert cost.macs(model, clip) == macs(clip, 2)


def test_multiply_adds_at_the_published_size() -> None:
    assert round(macs(Clip(), 4) / 1e9, 2) == 545.42
    model = cost.build_on_meta(E3DLSTM, Clip(), {})
    assert cost.published_macs(model, Clip()) == macs(Clip(), 4, read_out=False)


# The parts


def test_a_window_is_padded_with_zeros_after_the_newer_slice() -> None:
    torch.manual_seed(0)
    conv = WindowConv(3, 5, 3)
    x = torch.rand(2, 3, 2, 6, 4)
    older, newer = conv.weight.unbind(2)
    first = F.conv2d(x[:, :, 0], older, padding=1) + F.conv2d(x[:, :, 1], newer, padding=1)
    second = F.conv2d(x[:, :, 1], older, padding=1)
    torch.testing.assert_close(conv(x), torch.stack([first, second], dim=2))


def test_recall_mixes_cells_by_products_of_pixels_vectors() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 2, 3, 4)
    cells = [torch.randn(2, 5, 2, 3, 4) for _ in range(3)]
    history = torch.cat([tokens(c) for c in cells], dim=1)
    found = recall(tokens(maps), history).mT.unflatten(2, (2, 3, 4))
    places = [(b, d, y, x) for b in (0, 1) for d in (0, 1) for y in range(3) for x in range(4)]
    for b, d, y, x in places:
        vectors = torch.stack([c[b, :, e, v, u] for c in cells for s, e, v, u in places if s == 0])
        weights = torch.softmax(vectors @ maps[b, :, d, y, x], dim=0)
        torch.testing.assert_close(found[b, :, d, y, x], weights @ vectors)


def test_history_holds_the_zero_cell_and_all_cells_since() -> None:
    model = tiny()
    frame = torch.rand(2, 8, 4, 6)
    state = model.init_state(frame)
    seen = [[tokens(c)] for _, c, _ in state[1]]
    for _ in range(3):
        _, state = model.step(frame, state)
        for history, (_, c, _) in zip(seen, state[1], strict=True):
            history.append(tokens(c))
    for history, (_, _, found) in zip(seen, state[1], strict=True):
        assert torch.equal(found, torch.cat(history, dim=1))
        assert not found[:, : 2 * 4 * 6].any()
        assert found[:, 2 * 4 * 6 :].any()


def test_each_part_of_the_state_reaches_the_prediction() -> None:
    model = tiny()
    frame = torch.rand(2, 8, 4, 6)
    _, (before, layers, m) = model.step(frame, model.init_state(frame))
    assert torch.equal(before, frame)
    parts = [before, m, *(part for layer in layers for part in layer)]
    leaves = [part.detach().requires_grad_() for part in parts]
    state = (leaves[0], [tuple(leaves[2:5]), tuple(leaves[5:8])], leaves[1])
    prediction, (_, _, new_m) = model.step(frame, state)
    for gradient in torch.autograd.grad(prediction.sum(), leaves, retain_graph=True):
        assert gradient.abs().max() > 0
    assert torch.autograd.grad(new_m.sum(), leaves[1])[0].abs().max() > 0  # m lives on


# Training


def own_errors(model: E3DLSTM, past: Tensor, future: Tensor) -> tuple[Tensor, Tensor]:
    """Squared and absolute error of frames 2..N when the model reads its own predictions."""
    with torch.no_grad():
        predictions = [model(past[:, :t], 1) for t in range(1, TINY.past)]
        predictions.append(model(past, TINY.future))
    difference = torch.cat(predictions, dim=1) - torch.cat([past, future], dim=1)[:, 1:]
    return difference.square().mean(), difference.abs().mean()


def test_loss_is_squared_plus_absolute_error_of_all_predictions() -> None:
    model = tiny().eval()
    squared, absolute = own_errors(model, *random_frames(TINY))
    torch.testing.assert_close(model.loss(*random_frames(TINY)), squared + absolute)


def test_layers_share_m_and_so_their_width() -> None:
    with pytest.raises(ValueError, match=r"hidden is \(8, 4\)"):
        E3DLSTM(Clip(), hidden=(8, 4))
