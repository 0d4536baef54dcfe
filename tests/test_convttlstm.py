"""Conv-TT-LSTM: sizes, reference values, the tensor train, sampling, loss, compilation."""

from __future__ import annotations

import pytest
import torch
from compiled import Backend
from forward_check import Expected, check_sequence, set_constant_weights
from model_rows import random_frames
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.convttlstm import ConvTTLSTM, ConvTTLSTMCell
from benchmarks.experiment import cost
from tau import Clip

TINY = Clip(past=3, future=4, channels=2, height=6, width=8)


def tiny(**options: object) -> ConvTTLSTM:
    torch.manual_seed(0)
    size = {"hidden": (3, 4, 5, 3), "layers": 1, "kernel": 3, "rank": 2}
    return ConvTTLSTM(TINY, **{**size, **options})


# Size and reference values


def macs(
    clip: Clip, hidden: tuple[int, ...], layers: int, kernel: int, order: int, rank: int
) -> int:
    """Closed form: steps x pixels x (tensor trains, gates, read-out)."""
    joined = [n + (hidden[i - 2] if i > 1 else 0) for i, n in enumerate(hidden)]
    taps = 0
    for n, n_in in zip(hidden, (clip.channels, *joined), strict=False):
        inputs = n_in + (layers - 1) * n
        taps += (
            layers * (n * rank * order + rank**2 * (order - 1)) + (inputs + layers * rank) * 4 * n
        )
    step = kernel**2 * taps + joined[-1] * clip.channels
    return (clip.frames - 1) * clip.height * clip.width * step


def test_published_size() -> None:
    model = cost.build_on_meta(ConvTTLSTM, Clip(), {})
    assert cost.parameters(model) == 2_687_281
    short = Clip(past=3, future=1)  # every step costs the same: the published clip has 19, not 3
    size = ((32, 48, 48, 32), 3, 5, 3, 8)
    assert cost.macs(model, short) == cost.published_macs(model, short) == macs(short, *size)
    total = macs(Clip(), *size)
    assert round(total / 1e9, 3) == 208.948
    assert round(total / 19e9, 3) == 10.997
    not_traced = 9 * 4096 * 80  # the read-outs of the past, which the release makes and drops
    assert round((total - not_traced) / 1e9, 3) == 208.945


@pytest.mark.parametrize("order", [1, 2, 4])
def test_macs_of_other_sizes(order: int) -> None:
    expected = macs(TINY, (3, 4, 5, 3), 2, 3, order, 2)
    model = tiny(layers=2, order=order)
    assert cost.macs(model, TINY) == expected
    assert cost.fvcore_macs(model, TINY) == expected


def test_prediction_equals_the_reference() -> None:
    """An eighth of the published width: one channel in the place of eight equal ones.

    The published first layer sees 1 channel of the frame and 8 of the tensor train; here the
    latter is 1, so its weight is 8 times that of the frame.
    """
    model = ConvTTLSTM(Clip(), hidden=(4, 6, 6, 4), rank=1, sigmoid=False).double().eval()
    set_constant_weights(model)
    with torch.no_grad():
        weight = model.cells[0].conv_w.weight
        weight[:, 0], weight[:, 1] = 0.5 / (9 * 25), 8 * 0.5 / (9 * 25)
        y = model(check_sequence(Clip())[:, :10], 10)[0]
    found = [y.mean(), y.std(correction=0), y[0, 0, 0, 0], y[0, 0, 32, 32], y[-1, 0, 32, 32]]
    expected = Expected(0.01424528, 0.00023574, 0.01304263, 0.01432401, 0.01434772)
    assert torch.stack(found).tolist() == pytest.approx(expected, abs=1e-8)


# The cell and the stack


def gates_by_the_equations(cell: ConvTTLSTMCell, x: Tensor, states: list[Tensor]) -> Tensor:
    """The gates from x and all past h, oldest first: each term of the tensor train by itself."""

    def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    weights = cell.conv_k.weight.chunk(cell.order), cell.conv_k.bias.chunk(cell.order)
    train = None
    for i, (weight, bias) in enumerate(zip(*weights, strict=True)):
        term = conv(states[len(states) - cell.order + i], weight, bias)
        train = term if train is None else term + cell.conv_g[i - 1](train)
    return conv(torch.cat([x, train], dim=1), cell.conv_w.weight, cell.conv_w.bias)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@torch.no_grad()
def test_a_layer_reads_its_last_states_through_a_tensor_train(order: int) -> None:
    torch.manual_seed(0)
    cell = ConvTTLSTMCell(2, 3, 3, order, 2).double()
    xs = torch.rand(6, 2, 2, 5, 4, dtype=torch.float64)
    zeros = xs.new_zeros(2, 3, 5, 4)
    memory = (zeros, zeros, ())
    states, c = [zeros] * order, zeros
    for x in xs:
        i, f, o, g = gates_by_the_equations(cell, x, states).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        states.append(o.sigmoid() * c.tanh())
        memory = cell(x, memory)
        torch.testing.assert_close(memory[:2], (states[-1], c))


@torch.no_grad()
def test_blocks_join_those_two_before() -> None:
    model = tiny()
    frame = torch.rand(2, 2, 6, 8)
    _, state = model.step(frame, model.init_state(frame))
    h = [memory[0] for memory in state]
    assert [each.shape[1] for each in h] == [3, 4, 5, 3]
    inputs = (frame, h[0], h[1], torch.cat([h[2], h[0]], dim=1))
    for cell, x, (start, expected) in zip(
        model.cells, inputs, zip(model.init_state(frame), h, strict=True), strict=True
    ):
        assert torch.equal(cell(x, start)[0], expected)
    for sigmoid in (True, False):
        model.sigmoid = sigmoid
        found, _ = model.step(frame, model.init_state(frame))
        expected = model.output(torch.cat([h[3], h[1]], dim=1))
        assert torch.equal(found, expected.sigmoid() if sigmoid else expected)


# Training


@pytest.mark.parametrize(
    ("step", "probability"),
    [
        (0, 1),
        (12_500, 1),  # 20 epochs
        (12_500 + 625, 0.996),
        (12_500 + 125 * 625, 0.5),
        (168_750 - 625, 0.004),
        (168_750, 0),
        (10**6, 0),
    ],
)
def test_sampling_schedule(step: int, probability: float) -> None:
    model = tiny()
    model.step_count.fill_(step)
    assert model.forcing_probability().item() == pytest.approx(probability, abs=1e-6)
    short = tiny()
    short.begin_training(200)
    short.step_count.fill_(step // 625)
    assert short.forcing_probability().item() == pytest.approx(probability, abs=1e-6)


def loss_with(model: ConvTTLSTM, past: Tensor, future: Tensor, known: int) -> Tensor:
    """L1 + L2 of predictions 2..N from the first `known` frames, then from its own."""
    frames = torch.cat([past, future], dim=1)
    predictions, _ = model.unroll(frames[:, :known], frames.shape[1] - 1)
    error = predictions - frames[:, 1:]
    return error.abs().mean() + error.square().mean()


@torch.no_grad()
def test_loss_before_and_after_the_schedule() -> None:
    model = tiny(sampling_stop=0.5)
    model.begin_training(200)
    past, future = random_frames(TINY, 3)
    forced, free = (loss_with(model, past, future, known) for known in (6, 3))
    assert abs(forced.item() - free.item()) > 1e-6
    torch.testing.assert_close(model.loss(past, future), forced)
    assert model.state_dict()["step_count"].item() == 1
    model.step_count.fill_(100)
    torch.testing.assert_close(model.loss(past, future), free)
    model.step_count.zero_()
    torch.testing.assert_close(model.eval().loss(past, future), free)


def test_compile_compiles_the_step() -> None:
    model = tiny(hidden=(3, 3, 3)).eval()
    backend = Backend()
    model.compile(backend=backend)
    with torch.no_grad():
        model(random_frames(TINY, 3)[0], 4)
    in_model = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    # a graph for the first step, one for all others
    assert backend.count(torch.conv2d) == [in_model] * 2


# Options and compilation


def test_predictions_are_unbounded_unless_a_sigmoid_is_asked_for() -> None:
    """As in the authors' trainer, which has it off by default and for Moving MNIST."""
    past, _ = random_frames(TINY, 3)
    model, ended = tiny().eval(), tiny(sigmoid=True).eval()
    nn.init.constant_(model.output.bias, 3)
    nn.init.constant_(ended.output.bias, 3)
    with torch.no_grad():
        assert model(past, 2).max() > 1
        torch.testing.assert_close(ended(past, 1), model(past, 1).sigmoid())


def test_frames_beyond_the_sigmoid_are_refused() -> None:
    wide = Clip(past=3, future=4, channels=2, height=6, width=8, data_range=255.0)
    ConvTTLSTM(wide, hidden=(3,), layers=1)
    with pytest.raises(ValueError, match=r"data_range is 255.0"):
        ConvTTLSTM(wide, hidden=(3,), layers=1, sigmoid=True)


def test_compiled_steps_serve_all_batch_sizes() -> None:
    torch.compiler.reset()
    model = tiny(hidden=(4,)).eval()
    model.compile(backend="eager")
    with torch.no_grad(), torch._dynamo.config.patch(fail_on_cache_limit_hit=True):
        for batch in (16, 8, 1):
            past, _ = random_frames(TINY, batch)
            assert model(past, 2).shape == (batch, 2, 2, 6, 8)
