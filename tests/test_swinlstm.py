"""SwinLSTM: check values, published sizes, the mask of shifted windows, the roll-out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_rows import MNIST, TAXI
from numbered_weights import Statistics, fill, statistics, waves
from torch import Tensor

from baselines.swinlstm import SwinBlock, SwinLSTM, SwinLSTMCell
from baselines.windows import WindowAttention
from benchmarks.experiment import cost
from tau import Clip

TINY = Clip(3, 2, 2, 16, 16)
B = {"depths": (12,), "depths_up": None, "heads": (4,)}
TAXI_B = {**B, "heads": (8,), "window": 8, "patch": 4}


def tiny(clip: Clip = TINY, **options: object) -> SwinLSTM:
    torch.manual_seed(0)
    sizes = {"hidden": 8, "depths": (3,), "depths_up": None, "heads": (2,)}
    return SwinLSTM(clip, **{**sizes, **options})


# The paper's equations and size


@pytest.mark.parametrize(
    ("size", "options", "tensors", "outputs", "forecasts"),
    [
        (
            *(16, {}, 49),
            Statistics(2053.69070904, 1044.47303297, 98262.50778020, 0.43839955, 0.55171848),
            Statistics(1028.39191937, 525.85877853, 49104.65343771, 0.40967858, 0.55171848),
        ),
        (
            *(32, {"depths": (2, 3), "depths_up": (2, 3), "heads": (2, 4)}, 160),
            Statistics(7540.73667969, 3698.66556532, 362053.34794814, 0.39433520, 0.55741394),
            Statistics(3758.14511077, 1838.95320523, 179944.31748792, 0.36653456, 0.55741394),
        ),
    ],
    ids=["B", "D"],
)
def test_forward_equals_the_reference(size, options, tensors, outputs, forecasts):
    clip = replace(TINY, height=size, width=size)
    model, past = tiny(clip, **options), waves(2, clip)
    assert fill(model, lambda: model(past, 1), table=lambda r: r) == tensors
    with torch.no_grad():
        found = model.unroll(past, 4)
        assert torch.equal(model(past, 2), found[:, 2:])
    assert statistics(found) == pytest.approx(outputs, rel=0, abs=1e-8)
    assert statistics(found[:, 2:]) == pytest.approx(forecasts, rel=0, abs=1e-8)


def dead(model: SwinLSTM) -> int:
    """Parameters of the published count that are never used: a W in every block without input u.

    In the release the way up has a second patch embedding, too.
    """
    blocks = [module for module in model.modules() if isinstance(module, SwinBlock)]
    widths = [block.norm1.normalized_shape[0] for block in blocks if block.join is None]
    return sum(2 * n * n + n for n in widths)


@pytest.mark.parametrize(
    ("clip", "options", "step_gmacs", "gmacs", "published", "embedding"),
    [
        (MNIST, {}, 3.677782, 69.877858, 20_191_969, 4 * 128 + 3 * 128),
        (MNIST, B, 2.689597, 51.102351, 2_778_417, 0),
        (TAXI, TAXI_B, 0.187720, 1.314038, 2_802_402 + 147_584, 0),
    ],
    ids=["D", "B", "taxi-B"],
)
def test_published_size(clip, options, step_gmacs, gmacs, published, embedding):
    model = cost.build_on_meta(SwinLSTM, clip, options)
    step = cost.macs(model, replace(clip, past=1, future=1))
    assert round(step / 1e9, 6) == step_gmacs
    assert round((clip.frames - 1) * step / 1e9, 6) == gmacs
    assert cost.parameters(model) == published - dead(model) - embedding


def test_every_step_is_counted() -> None:
    model = tiny(depths=(2,), depths_up=(1,))
    step = cost.macs(model, replace(TINY, past=1, future=1))
    assert cost.macs(model, TINY) == 4 * step


def test_cells_join_h_then_every_second_block_joins_the_input() -> None:
    torch.manual_seed(0)
    cell = SwinLSTMCell(4, 2, (4, 4), 2, [0.0] * 4).double()
    x, h, c = torch.randn(3, 1, 4, 4, 4).double()
    f = x
    for block, u in zip(cell.blocks, (h, None, x, None), strict=True):
        assert (block.join is None) == (u is None)
        assert block.attention.shift == (1 if u is None else 0)
        f = block(f, u)
    gate = f.sigmoid()
    c = gate * (c + f.tanh())
    found = cell(x, h, torch.randn(1, 4, 4, 4).double() * 0 + (c / gate - f.tanh()))
    torch.testing.assert_close(found, (gate * c.tanh(), c))


# Windows


def seen_by(attention: WindowAttention, row: int, column: int) -> list[tuple[int, int]]:
    """Tokens of an 8x8 grid that an output looks at."""
    x = torch.rand(1, 8, 8, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(attention(x)[0, row, column].square().sum(), x)
    places: Tensor = (gradient[0].abs().amax(-1) > 1e-20).nonzero()
    return [(int(r), int(c)) for r, c in places]


@pytest.mark.parametrize(
    ("shift", "place", "rows", "columns"),
    [
        (0, (0, 5), range(4), range(4, 8)),
        (2, (3, 4), range(2, 6), range(2, 6)),
        (2, (0, 7), range(2), range(6, 8)),  # beside it after the roll, but no neighbours:
        (2, (7, 3), range(6, 8), range(2, 6)),  # rows 0, 1 and columns 0, 1
    ],
)
def test_tokens_see_their_window_and_never_the_opposite_edge(shift, place, rows, columns):
    torch.manual_seed(0)
    attention = WindowAttention(4, 2, (8, 8), 4, shift)
    assert seen_by(attention, *place) == [(r, c) for r in rows for c in columns]


def test_a_grid_no_larger_than_the_window_is_one_window_without_a_shift() -> None:
    model = tiny(depths=(2, 2), depths_up=(2, 2), heads=(1, 1))  # grids of 8, 4 and 2
    found = [
        (module.window, module.shift)
        for module in model.modules()
        if isinstance(module, WindowAttention)
    ]
    assert found == [(4, 0), (4, 2), (4, 0), (4, 0), (2, 0), (2, 0), (4, 0), (4, 0)]


# The pyramid and the roll-out


def test_the_way_up_begins_with_the_deepest_cell() -> None:
    with torch.device("meta"):
        model = SwinLSTM(MNIST)
    cells = [layer for layer in model.network.layers if isinstance(layer, SwinLSTMCell)]
    found = [(c.shape, len(c.blocks), c.blocks[0].attention.heads) for c in cells]
    assert found == [
        ((32, 32, 128), 2, 4),
        ((16, 16, 256), 6, 8),
        ((8, 8, 512), 2, 8),
        ((16, 16, 256), 6, 4),
    ]


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"depths": (1, 2), "depths_up": (2, 1), "heads": (1, 1)}, [0, 0.2, 0.4, 0.4, 0.2, 0]),
        ({"depths": (1, 2), "heads": (1, 1)}, [0.4] * 3),
        ({"depths": (1,), "depths_up": (1,)}, [0, 0.4]),
    ],
)
def test_rates_of_stochastic_depth(options, rates):
    model = tiny(drop_path=0.4, **options)
    found = [m.drop_path.rate for m in model.modules() if isinstance(m, SwinBlock)]
    assert found == pytest.approx(rates)


@pytest.mark.parametrize("patch", [2, 4, 8])
@torch.no_grad()
def test_the_loss_covers_all_outputs_and_reads_the_past_alone(patch) -> None:
    model = tiny(patch=patch).eval()
    frames = torch.rand(2, 5, 2, 16, 16)
    past, future = TINY.split(frames)
    outputs = [model(past[:, :1], 1), model(past[:, :2], 1), model(past, 2)]
    error = (torch.cat(outputs, dim=1) - frames[:, 1:]).square().mean()
    torch.testing.assert_close(model.loss(past, future), error)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    model.loss(past, future)
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (2, 2)}, r"heads is \(2,\); expected 2 numbers, as depths is \(2, 2\)"),
        ({"depths_up": (2, 2)}, r"depths_up is \(2, 2\); expected 1 numbers"),
        ({"heads": (3,)}, r"hidden is 8; expected widths \[8\] that are multiples of .*\(3,\)"),
        ({"patch": 1}, "patch is 1; expected a power of two, 2 or more"),
        ({"patch": 6}, "patch is 6; expected a power of two.* 16x16"),
        ({"window": 3}, "window is 3; expected a divisor of 8x8, .* 16x16"),
        ({"patch": 16, "depths_up": (1,)}, "frames are 16x16; 1 mergings .* divisible by 32"),
    ],
)
def test_bad_options(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        tiny(**options)


def test_a_data_range_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data_range is 255.0"):
        tiny(replace(TINY, data_range=255.0))
