import copy
import math
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from model_rows import CALTECH, KTH, KTH_ONE_PASS, MNIST, TAXI
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from baselines import MIM, ConvBaseline, ConvLSTM, LastFrame, PredRNN, PredRNNpp, SimVP, SimVPv2
from benchmarks.experiment import cost, hardware
from benchmarks.experiment.evaluate import evaluate, mean_squared_error
from tau import TAU, Clip, Predictor

CPU = torch.device("cpu")
TINY = Clip(past=2, future=2, channels=2, height=16, width=8)
LONGER = Clip(past=2, future=3, channels=1, height=8, width=16)  # two passes of a block
SHORTER = Clip(past=3, future=1, channels=1, height=8, width=8)

SMALL = {
    TAU: {"spatial_hidden": 4, "temporal_hidden": 10, "temporal_depth": 2, "mlp_ratio": 2},
    SimVP: {"spatial_hidden": 4, "temporal_hidden": 16, "temporal_depth": 2, "kernels": (3, 5)},
    ConvBaseline: {"spatial_hidden": 4, "temporal_hidden": 16, "temporal_depth": 2},
    ConvLSTM: {"hidden": (6, 4), "kernel": 3, "patch": 2},
    PredRNN: {"hidden": (4, 4), "kernel": 3, "patch": 2},
    LastFrame: {},
}


def small(model: type[Predictor], clip: Clip) -> Predictor:
    return model(clip, **SMALL[model])


# --- counting, against fvcore --------------------------------------------------------------------


@pytest.mark.parametrize("clip", [TINY, LONGER, SHORTER], ids=["block", "longer", "shorter"])
@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.__name__)
def test_macs_equal_fvcores_to_the_last_one(model, clip):
    built = small(model, clip)
    assert cost.macs(built, clip) == cost.fvcore_macs(built, clip)


def test_macs_equal_fvcores_in_train_mode():
    model = small(TAU, LONGER)
    counted = cost.macs(model, LONGER, train=True)
    assert counted == cost.fvcore_macs(model, LONGER, train=True)
    assert counted > cost.macs(model, LONGER)


class Operator(Predictor):
    """A predictor that applies one operator to its first frame."""

    def __init__(self, operator):
        super().__init__(Clip(1, 1, 4, 6, 8))
        self.operator = operator

    def forward(self, past, horizon):
        return self.operator(past[:, 0])


def sampled(x):
    return F.grid_sample(x, torch.zeros(1, 3, 5, 2, device=x.device), align_corners=False)


def masked_attention(x):
    return F.scaled_dot_product_attention(x, x, x, torch.zeros(6, 6, device=x.device))


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("operator", "expected"),  # multiply-adds in eval mode
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), 3 * 4 * 9 * 6 * 2),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), 6 * 8 * 9 * 4 * 6),
        (nn.Linear(8, 5), 24 * 8 * 5),
        (lambda x: x @ x.mT, 4 * 6 * 6 * 8),
        (lambda x: F.scaled_dot_product_attention(x, x[..., :3, :], x[..., :3, :5]), 4 * 18 * 13),
        (masked_attention, 4 * 36 * 16),
        (nn.BatchNorm2d(4), 2 * 192),
        (nn.BatchNorm2d(4, affine=False), 192),
        (nn.InstanceNorm2d(4, affine=True), 5 * 192),
        (nn.GroupNorm(2, 4), 5 * 192),
        (nn.GroupNorm(2, 4, affine=False), 4 * 192),
        (nn.LayerNorm((4, 6, 8)), 5 * 192),
        (lambda x: F.adaptive_avg_pool2d(x, 1) + 1, 192),
        (lambda x: F.adaptive_avg_pool2d(x, (2, 3)) + 1, 192),
        (nn.Upsample(scale_factor=2), 4 * 192),
        (nn.UpsamplingBilinear2d(scale_factor=2), 4 * 4 * 192),
        (sampled, 4 * 4 * 15),
        (lambda x: torch.softmax(F.silu(x) * x, dim=1) + x.mean(), 0),
    ],
)
def test_each_operator_is_counted_as_fvcore_does(operator, expected, train):
    model = Operator(copy.deepcopy(operator))
    counted = cost.macs(model, model.clip, train)
    assert counted == cost.fvcore_macs(model, model.clip, train)
    if not train:
        assert counted == expected


# --- counting, against closed forms at the published sizes ---------------------------------------


def shell_macs(clip: Clip, hidden: int, depth: int) -> int:
    """SimVP's encoder and decoder: 3x3 units with GroupNorm, and the 1x1 read-out."""
    pixels = [clip.height * clip.width // 4**level for level in range(depth)]
    unit = 9 * hidden**2 + 5 * hidden
    encoder = [pixels[(i + 1) // 2] * unit for i in range(1, depth)]
    encoder.append(pixels[0] * (9 * clip.channels * hidden + 5 * hidden))
    decoder = [pixels[i // 2] * unit for i in range(depth)]
    return clip.past * (sum(encoder) + sum(decoder) + pixels[0] * hidden * clip.channels)


def latent_pixels(clip: Clip, depth: int) -> int:
    return clip.height * clip.width // 4 ** (depth // 2)


def tau_macs(
    clip: Clip, hidden: int, width: int, blocks: int, depth: int, train: bool, norms: bool = True
) -> int:
    folded, pixels = clip.past * hidden, latent_pixels(clip, depth)
    per_norm = (5 if train else 2) * norms
    total = 2 * pixels * folded * width  # the two 1x1 convolutions that change the width
    for c in [folded] + [width] * (blocks - 1):
        squeeze = c // max(c // 16, 4)
        pool = norms * c
        total += pixels * (19 * c**2 + 146 * c + 2 * per_norm * c + pool) + 2 * c * squeeze
    return (
        total + shell_macs(clip, hidden, depth) - (0 if norms else shell_norms(clip, hidden, depth))
    )


def shell_norms(clip: Clip, hidden: int, depth: int) -> int:
    pixels = [clip.height * clip.width // 4**level for level in range(depth)]
    levels = [(i + 1) // 2 for i in range(depth)] + [i // 2 for i in range(depth)]
    return clip.past * 5 * hidden * sum(pixels[level] for level in levels)


def simvp_macs(
    clip: Clip, hidden: int, width: int, blocks: int, depth: int, kernels: tuple[int, ...]
) -> int:
    folded, half = clip.past * hidden, width // 2
    shapes = [(folded, width)] + [(width, width)] * blocks
    shapes += [(2 * width, width)] * (blocks - 2) + [(2 * width, folded)]
    branches = sum(k**2 for k in kernels)
    return shell_macs(clip, hidden, depth) + latent_pixels(clip, depth) * sum(
        c_in * half + branches * half * c_out // 8 + 5 * len(kernels) * c_out
        for c_in, c_out in shapes
    )


def recurrent_macs(clip: Clip, patch: int, per_layer: Callable[[int, int], int]) -> int:
    """Four layers of 128, `per_layer(C_in, C)` each, and the 1x1 read-out, at every step."""
    folded = patch**2 * clip.channels
    step = per_layer(folded, 128) + 3 * per_layer(128, 128) + 128 * folded
    return (clip.frames - 1) * clip.height * clip.width // patch**2 * step


def convlstm_layer(c_in: int, c: int) -> int:
    return 25 * 4 * c * (c_in + c)


def predrnn_layer(c_in: int, c: int) -> int:
    return 25 * (7 * c_in * c + 9 * c**2) + 2 * c**2


SIMVP = (3, 5, 7, 11)
DEAD = 3_407_872  # parameters that the published ConvLSTM owns and never uses


def on_meta(model: type[Predictor], clip: Clip, sizes: tuple[int, ...]) -> Predictor:
    """A model of SimVP's family with (hidden, width, blocks, depth), on the meta device."""
    names = ("spatial_hidden", "temporal_hidden", "temporal_depth", "spatial_depth")
    return cost.build_on_meta(model, clip, dict(zip(names, sizes, strict=True)))


@pytest.mark.parametrize(
    ("clip", "sizes", "gmacs", "count"),
    [
        (MNIST, (64, 512, 8, 4), 15.9526, 44_656_001),
        (TAXI, (32, 256, 8, 2), 2.4918, 9_545_442),
        (KTH_ONE_PASS, (64, 256, 6, 2), 73.7726, 14_955_201),
        (CALTECH, (64, 256, 6, 2), 92.4779, 14_956_483),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_tau_costs_its_closed_form(clip, sizes, gmacs, count):
    model = on_meta(TAU, clip, sizes)
    counted = cost.macs(model, clip)
    assert counted == tau_macs(clip, *sizes, train=False)
    assert round(counted / 1e9, 4) == gmacs
    assert cost.macs(model, clip, train=True) == tau_macs(clip, *sizes, train=True)
    assert cost.parameters(model) == count


@pytest.mark.parametrize(
    ("clip", "sizes", "gmacs", "count"),
    [
        (MNIST, (64, 512, 8, 4), 19.4305, 57_946_113),
        (TAXI, (32, 256, 8, 2), 3.6143, 13_794_914),
        (KTH_ONE_PASS, (64, 256, 4, 2), 48.2560, 8_600_641),
        (CALTECH, (64, 256, 4, 2), 60.5821, 8_601_923),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_simvp_costs_its_closed_form(clip, sizes, gmacs, count):
    model = on_meta(SimVP, clip, sizes)
    counted = cost.macs(model, clip)
    assert counted == simvp_macs(clip, *sizes, kernels=SIMVP)
    assert round(counted / 1e9, 4) == gmacs
    assert cost.parameters(model) == count


@pytest.mark.parametrize(
    ("clip", "sizes"),
    [
        (MNIST, (64, 512, 8, 4)),
        (TAXI, (32, 256, 8, 2)),
        (KTH_ONE_PASS, (64, 256, 4, 2)),
        (CALTECH, (64, 256, 4, 2)),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_the_conv_baseline_costs_its_closed_form(clip, sizes):
    model = on_meta(ConvBaseline, clip, sizes)
    assert cost.macs(model, clip) == simvp_macs(clip, *sizes, kernels=(3,))


def test_the_conv_baseline_has_5_95_million_parameters():
    model = cost.build_on_meta(ConvBaseline, MNIST, {})
    assert f"{cost.parameters(model) / 1e6:.2f}" == "5.95"


@pytest.mark.parametrize(
    ("clip", "patch", "gmacs", "count"),
    [
        (MNIST, 4, 56.7904, 11_675_648),
        (TAXI, 2, 20.7374, 14_980_096 - DEAD),
        (KTH, 2, 1368.4525, 14_928_384 - DEAD),
        (CALTECH, 2, 595.1455, 15_031_808 - DEAD),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_convlstm_costs_its_closed_form(clip, patch, gmacs, count):
    model = cost.build_on_meta(ConvLSTM, clip, {"patch": patch})
    short = replace(clip, past=2, future=2)
    assert cost.macs(model, short) == recurrent_macs(short, patch, convlstm_layer)
    assert round(recurrent_macs(clip, patch, convlstm_layer) / 1e9, 4) == gmacs
    assert cost.parameters(model) == count


@pytest.mark.parametrize(
    ("clip", "patch", "gmacs", "count"),
    [
        (MNIST, 4, 115.9515, 23_838_720),
        (TAXI, 2, 42.3960, 23_658_496),
        (KTH, 2, 2799.5469, 23_568_384),
        (CALTECH, 2, 1215.9287, 23_748_608),
    ],
    ids=["mnist", "taxi", "kth", "caltech"],
)
def test_predrnn_costs_its_closed_form(clip, patch, gmacs, count):
    model = cost.build_on_meta(PredRNN, clip, {"patch": patch})
    short = replace(clip, past=2, future=2)
    assert cost.macs(model, short) == recurrent_macs(short, patch, predrnn_layer)
    assert round(recurrent_macs(clip, patch, predrnn_layer) / 1e9, 4) == gmacs
    assert cost.parameters(model) == count


@pytest.mark.parametrize(
    ("model", "options", "printed"),
    [
        (PredRNN, {}, "115.94"),
        (PredRNNpp, {}, "171.73"),
        (MIM, {}, "179.17"),
        (SimVPv2, {}, "16.53"),
        (SimVP, {}, "19.43"),
        (ConvBaseline, {}, "6.11"),
        (TAU, {}, "15.96"),
        (TAU, {"alpha": 0.0}, "15.96"),
    ],
    ids=[
        "PredRNN",
        "PredRNN++",
        "MIM",
        "SimVP-v2",
        "SimVP",
        "Conv Baseline",
        "TAU",
        "TAU without DDR",
    ],
)
def test_published_flops_to_the_printed_digit(model, options, printed):
    built = cost.build_on_meta(model, MNIST, options)
    assert f"{cost.published_macs(built, MNIST) / 1e9:.2f}" == printed


def test_torchs_own_counter_gives_twice_the_convolutions_and_linear_layers():
    def flops(model):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.ones(1, 10, 1, 64, 64, device="meta"), 10)
        return counter.get_total_flops()

    sizes = (64, 512, 8, 4)
    assert flops(on_meta(TAU, MNIST, sizes)) == 2 * tau_macs(MNIST, *sizes, False, norms=False)
    convlstm = cost.build_on_meta(ConvLSTM, MNIST, {"hidden": (8,)})  # nothing else in it
    assert flops(convlstm) == 2 * cost.macs(convlstm, MNIST)


# --- counting leaves things as they are ----------------------------------------------------------


def state_of(model: Predictor) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_unchanged(model: Predictor, state: dict[str, torch.Tensor]) -> None:
    assert model.state_dict().keys() == state.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("count", [cost.macs, cost.fvcore_macs])
def test_counting_in_train_mode_changes_no_state(count):
    model = small(TAU, TINY).eval()
    before, rng = state_of(model), torch.get_rng_state()
    count(model, TINY, train=True)
    assert_unchanged(model, before)
    assert not any(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_model_of_any_size_is_counted_without_its_weights():
    model = cost.build_on_meta(TAU, TINY, {**SMALL[TAU], "spatial_hidden": 20_000})
    assert cost.parameters(model) > 10**10
    assert cost.macs(model, TINY) > 10**10


def test_a_tensor_in_two_places_is_counted_and_kept_once():
    model = Operator(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    model.operator[1].weight = model.operator[0].weight
    assert cost.parameters(model) == 64 + 8 + 8
    assert cost.macs(model, model.clip) == 2 * 24 * 64


def test_attention_is_counted_where_a_value_is_read():
    def operator(x):
        assert x.sum() > 0
        return F.scaled_dot_product_attention(x, x, x)

    model = Operator(operator)
    assert cost.macs(model, model.clip) == 4 * 36 * 16


def test_fvcore_asks_for_a_real_model():
    model = cost.build_on_meta(TAU, TINY, SMALL[TAU])
    with pytest.raises(ValueError, match="meta device"):
        cost.fvcore_macs(model, TINY)


# --- speed ---------------------------------------------------------------------------------------


def measure(model: Predictor, **options) -> dict[str, float | None]:
    return cost.throughput(model, model.clip, CPU, 2, **{"repeats": 2, **options})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_throughput_measures_and_changes_nothing(precision):
    model = small(PredRNN, TINY)
    model.readout.eval()
    before, rng = state_of(model), torch.get_rng_state()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    speeds = measure(model, precision=precision)
    names = {"training_sequences_per_second", "inference_sequences_per_second"}
    assert set(speeds) == names | {f"{name}_spread" for name in names}
    assert all(speeds[name] > 0 and math.isfinite(speeds[name]) for name in names)
    assert_unchanged(model, before)
    assert model.training and not model.readout.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    assert tf32 == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


def test_state_comes_back_when_a_model_fails():
    class Failing(LastFrame):
        def __init__(self):
            super().__init__(TINY)
            self.weight = nn.Parameter(torch.zeros(1))
            self.register_buffer("calls", torch.zeros(()))

        def loss(self, past, future):
            self.calls += 1
            raise RuntimeError("no loss today")

    model = Failing()
    with pytest.raises(RuntimeError, match="no loss today"):
        measure(model)
    assert model.calls == 0 and model.training


class Sleeper(Predictor):
    """Takes 20 ms to predict and 60 ms for a loss; the first call takes 40 ms more."""

    def __init__(self, clock):
        super().__init__(TINY)
        self.weight = nn.Parameter(torch.ones(1))
        self.clock, self.calls = clock, 0

    def forward(self, past, horizon):
        self.clock.now += 0.02 + 0.04 * (self.calls == 0)
        self.calls += 1
        return past[:, :horizon]

    def loss(self, past, future):
        self.clock.now += 0.06
        return (self.weight * past).sum()


class Clock:
    now = 0.0


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock.now)
    return clock


def test_throughput_counts_sequences_after_warming_up(clock):
    assert measure(Sleeper(clock)) == {
        "training_sequences_per_second": pytest.approx(2 / 0.06),
        "training_sequences_per_second_spread": None,
        "inference_sequences_per_second": pytest.approx(2 / 0.02),
        "inference_sequences_per_second_spread": None,
    }


def test_the_spread_is_half_the_range_between_the_quartiles(clock):
    class Uneven(Sleeper):
        def forward(self, past, horizon):
            self.calls += 1
            self.clock.now += (9, 0.1, 0.2, 0.4, 0.5, 1.0)[self.calls - 1]
            return past[:, :horizon]

    speeds = measure(Uneven(clock), seconds=99.0, repeats=5)  # 20, 10, 5, 4, 2 a second
    assert speeds["inference_sequences_per_second"] == pytest.approx(5)
    assert speeds["inference_sequences_per_second_spread"] == pytest.approx((10 - 4) / 2)


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"seconds": 0.05}, 1),  # the first takes longer, so it counts
        ({"seconds": 0.07, "repeats": 9}, 1 + 4),
        ({"seconds": 9.0, "repeats": 3}, 1 + 3),
        ({"seconds": 0.01, "least": 5}, 1 + 5),  # however slow, to have a median and a spread
        ({"seconds": 0.01, "repeats": 2, "least": 5}, 1 + 5),
    ],
)
def test_throughput_takes_no_longer_than_asked(clock, options, calls):
    model = Sleeper(clock)
    measure(model, **options)
    assert model.calls == calls


def test_a_slow_model_is_called_once(clock):
    model = Sleeper(clock)
    assert measure(model, seconds=0.05)["inference_sequences_per_second"] == pytest.approx(2 / 0.06)


def test_a_model_without_weights_has_no_training_speed():
    speeds = measure(LastFrame(TINY))
    assert speeds["training_sequences_per_second"] is None
    assert speeds["inference_sequences_per_second"] > 0


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'fp64'; expected 'fp32', 'tf32' or 'bf16'"):
        measure(LastFrame(TINY), precision="fp64")


# --- memory --------------------------------------------------------------------------------------

MIB = 2**20
measurable = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's resettable peak"
)


@measurable
def test_peak_memory_sees_what_the_block_held_and_no_more():
    earlier = torch.ones(256 * MIB // 4)  # a peak before the block
    del earlier
    with cost.peak_memory(CPU) as peak:
        torch.ones(64 * MIB // 4)
    assert peak.bytes is not None
    assert 64 * MIB <= peak.bytes + 4 * MIB < 128 * MIB


def test_peak_memory_first_gives_back_what_the_heap_keeps(monkeypatch):
    calls = []
    monkeypatch.setattr(cost.hardware, "release_freed_memory", lambda: calls.append("released"))
    with cost.peak_memory(CPU):
        calls.append("block")
    assert calls == ["released", "block"]


@measurable
def test_peak_memory_is_that_of_the_block_not_of_what_follows():
    with cost.peak_memory(CPU) as peak:
        pass
    kept = torch.ones(64 * MIB // 4)
    assert peak.bytes is not None and peak.bytes < 32 * MIB < kept.nbytes


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_peak_memory_is_unknown_where_it_cannot_be_reset(monkeypatch, error):
    def refuse(*_, **__):
        raise error("clear_refs")

    monkeypatch.setattr(cost.Path, "write_text", refuse)
    with cost.peak_memory(CPU) as peak:
        pass
    assert peak.bytes is None


def test_peak_memory_is_unknown_on_other_devices():
    with cost.peak_memory(torch.device("meta")) as peak:
        pass
    assert peak.bytes is None


def test_a_group_is_timed_without_the_graph_that_it_does_not_train_with(monkeypatch):
    monkeypatch.setattr(cost, "at_once", None)
    assert measure(small(PredRNN, TINY), alone=False)["training_sequences_per_second"] > 0
    with pytest.raises(TypeError, match="not callable"):
        measure(small(PredRNN, TINY))


def test_a_prediction_that_is_scored_is_in_float32_whatever_it_was_trained_in():
    """Neither in bf16 nor in TF32; and outside as it was."""

    class Asking(LastFrame):
        allowed: tuple[bool, ...] = ()

        def forward(self, past, horizon):
            matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
            self.allowed = (matmul.allow_tf32, cudnn.allow_tf32, torch.is_grad_enabled())
            return super().forward(past, horizon)

    model = Asking(TINY)
    sequences = torch.rand(2, TINY.frames, TINY.channels, TINY.height, TINY.width)
    with hardware.tf32(True):
        evaluate(model, [sequences], TINY)
        assert model.allowed == (False, False, False)
        mean_squared_error(model, [sequences], TINY)
        assert model.allowed == (False, False, False)
        assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
