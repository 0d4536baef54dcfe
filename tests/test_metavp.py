"""MetaVP: the reference's values, published sizes and costs, and what is particular to a mixer."""

from __future__ import annotations

import math

import pytest
import torch
from model_rows import CALTECH, KTH_ONE_PASS, MNIST, TAXI
from numbered_weights import Statistics, fill, statistics, waves
from torch import nn

from baselines import MetaVP
from baselines.mixers import MIXERS
from baselines.mixers.block import Block, Site
from baselines.mixers.tokens import Swin, UniformerAttention, UniformerConv
from benchmarks.experiment import cost
from benchmarks.suites.metaformers import METAFORMERS
from tau import Clip

WEATHER = Clip(12, 12, 1, 32, 64)
CLIP = Clip(past=3, future=3, channels=2, height=16, width=24)
SMALL = {"spatial_hidden": 8, "temporal_hidden": 16, "spatial_depth": 2, "temporal_depth": 3}

mixers = pytest.mark.parametrize("mixer", MIXERS)


def small(mixer: str, **options) -> MetaVP:
    torch.manual_seed(0)
    return MetaVP(CLIP, mixer, **SMALL, **options)


def place(channels: int = 16, grid: tuple[int, int] = (8, 12), index: int = 1, **changes) -> Site:
    options = {"keeps_width": True, "mlp_ratio": 8, "drop_path": 0.0, **changes}
    return Site(channels, grid, index, **options)


# --- the reference's values ----------------------------------------------------------------------

VALUES = {  # tensors, parameters, sums
    "vit": (58, 27258, 2026.92359518, 2241.56725736, 97511.25316657, 0.00995952, -0.37451841),
    "swin": (61, 28434, -1573.5958877, 1188.76256404, -73935.68509127, -0.31555602, 0.25217621),
    "uniformer": (78, 27146, 2433.36525801, 2629.95419079, 114798.98330775, 0.28473864, -0.1408849),
    "mlp_mixer": (
        58,
        28374,
        1945.45024125,
        2177.71871704,
        92320.86838539,
        -0.00889301,
        -0.19449816,
    ),
    "conv_mixer": (
        58,
        12746,
        2212.29146602,
        1982.77284697,
        104701.83083566,
        0.01511747,
        -0.28080029,
    ),
    "poolformer": (52, 22794, -704.3976242, 920.87083458, -33715.89033456, -0.16293793, 0.07547602),
    "convnext": (49, 25426, -986.67669748, 1343.57920073, -44278.05059252, -0.22395854, 0.20910705),
    "van": (100, 34962, -1806.88664128, 1773.45984456, -85296.27607422, -0.15899763, -0.21334457),
    "hornet": (88, 32288, 2421.36418711, 2758.46090542, 116444.42100798, 0.31380255, -0.23776553),
    "moganet": (124, 36207, 1897.56494874, 2165.3147015, 88552.07095729, 0.11149737, 0.12584648),
}
UNMASKED = Statistics(-1582.56088683, 1183.03298401, -74064.94798929, -0.45861509, 0.26405459)


SCALE_NAMES = ("scale", "scale1", "scale2", "decompose")


def filled(model: MetaVP) -> int:
    """Fill by the reference's rules; the number of tensors."""
    scales = {name: lambda r: 0.5 + 0.2 * r for name in SCALE_NAMES}
    past = waves(2, CLIP)
    return fill(model, lambda: model(past, CLIP.future), table=lambda r: r, **scales)


def predicted(model: MetaVP) -> Statistics:
    with torch.no_grad():
        return statistics(model(waves(2, CLIP), CLIP.future))


@mixers
def test_forward_equals_the_reference(mixer):
    model = small(mixer)
    tensors, parameters, *expected = VALUES[mixer]
    assert filled(model) == tensors
    assert cost.parameters(model) == parameters
    assert predicted(model) == pytest.approx(expected, abs=1e-7)


def test_swin_without_its_mask_is_what_openstl_computes():
    model = small("swin")
    filled(model)
    shifted = model.translator[2]
    assert shifted.attention.mask.isinf().any()
    shifted.attention.mask.zero_()
    assert predicted(model) == pytest.approx(UNMASKED, abs=1e-7)


# --- published sizes and costs -------------------------------------------------------------------


def block_macs(mixer: str, c: int, hw: int, is_inner: bool) -> int:
    """Of a block in eval mode, as fvcore counts OpenSTL's code; windows are 4x4."""
    attended = hw * (20 * c * c + 10 * c) + 2 * hw * hw * c
    forms = {
        "vit": attended,
        "swin": hw * (20 * c * c + 10 * c) + 2 * hw * 4**2 * c,
        "uniformer": attended + 9 * hw * c if is_inner else hw * (18 * c * c + 38 * c),
        "mlp_mixer": hw * (2 * (c // 2) * c + 16 * c * c + 10 * c),
        "conv_mixer": hw * (c * c + 4 * c),
        "poolformer": hw * (16 * c * c + 10 * c),
        "convnext": hw * (16 * c * c + 54 * c),
        "van": hw * (19 * c * c + 150 * c),
        "hornet": hw
        * (19 * c * c + c * c // 32 + c * c // 8 + c * c // 2 + 49 * 15 * c // 8 + 5 * c),
        "moganet": hw * (20 * c * c + 110 * c + 25 * 3 * c // 8 + 49 * c // 2),
    }
    return forms[mixer]


def unseen_macs(mixer: str, c: int, hw: int) -> int:
    """Of a block, what fvcore does not see in OpenSTL's code: padding "same", a layer norm."""
    return {"conv_mixer": 121 * hw * c, "hornet": 5 * hw * c}.get(mixer, 0)


def shell_macs(clip: Clip, hidden: int, depth: int) -> int:
    """Encoder and decoder: a convolution and a group norm in each unit, then the read-out."""
    full = clip.height * clip.width
    encoder, decoder, hw = 0, full * hidden * clip.channels, full
    for unit in range(depth):
        hw //= 4 if unit % 2 else 1
        wide = clip.channels if unit == 0 else hidden
        encoder += hw * (9 * wide * hidden + 5 * hidden)
        up = 4 * hw if unit % 2 else hw  # the mirrored unit: its positions after the shuffle
        decoder += 9 * up * hidden**2 + 5 * up * hidden
    return clip.past * (encoder + decoder)


def macs(mixer: str, clip: Clip, sizes: tuple[int, int, int, int], whole: bool) -> int:
    hidden, width, depth, blocks = sizes
    hw, folded = clip.height * clip.width // 4 ** (depth // 2), clip.past * hidden
    total = shell_macs(clip, hidden, depth) + 2 * hw * folded * width * (folded != width)
    for index, c in enumerate([folded] + [width] * (blocks - 1)):
        total += block_macs(mixer, c, hw, 0 < index < blocks - 1)
        total += unseen_macs(mixer, c, hw) * whole
    return total


DATA = {  # task; widths and depths, of which ViT and Uniformer have fewer blocks on two
    "MMNIST": (MNIST, (64, 512, 4, 8)),
    "TaxiBJ": (TAXI, (32, 256, 2, 8)),
    "WeatherBench": (WEATHER, (32, 256, 2, 8)),
    "KTH": (KTH_ONE_PASS, (64, 256, 2, 6)),
    "Caltech": (CALTECH, (64, 256, 2, 6)),
}
GMACS = {  # on these, as fvcore counts OpenSTL's code
    "vit": (16.928309, 2.795733, 7.990477, 112.169845, 155.238400),
    "swin": (16.409264, 2.559803, 6.885278, 75.935252, 95.181210),
    "uniformer": (16.448717, 2.709750, 7.453082, 78.334394, 103.548846),
    "mlp_mixer": (14.650802, 2.179170, 5.918491, 66.623898, 83.542016),
    "conv_mixer": (5.450400, 0.230064, 0.945750, 18.258330, 23.085056),
    "poolformer": (14.076183, 2.057535, 5.608112, 63.603999, 79.767142),
    "convnext": (14.123762, 2.079162, 5.657133, 63.950029, 80.199680),
    "van": (15.951430, 2.491253, 6.695223, 73.764700, 92.468019),
    "hornet": (16.271077, 2.544964, 6.839722, 75.328717, 94.423040),
    "moganet": (16.519426, 2.609877, 6.998778, 76.736430, 96.182682),
}
PARAMETERS = {  # on Moving MNIST
    "vit": 46_102_273,
    "swin": 46_105_409,
    "uniformer": 44_834_817,
    "mlp_mixer": 38_192_449,
    "conv_mixer": 3_919_361,
    "poolformer": 37_115_393,
    "convnext": 37_313_921,
    "van": 44_520_833,
    "hornet": 45_738_305,
    "moganet": 46_777_065,
}


@mixers
@pytest.mark.parametrize("data", DATA)
def test_the_closed_form_gives_the_published_cost(mixer, data):
    clip, sizes = DATA[data]
    if mixer in ("vit", "uniformer") and data in ("KTH", "Caltech"):
        sizes = (*sizes[:3], 4)
    published = GMACS[mixer][list(DATA).index(data)]
    assert round(macs(mixer, clip, sizes, whole=False) / 1e9, 6) == published


@mixers
def test_a_model_has_the_published_size_and_costs_its_closed_form(mixer):
    model = cost.build_on_meta(MetaVP, MNIST, {"mixer": mixer})
    assert cost.parameters(model) == PARAMETERS[mixer]
    assert cost.macs(model, MNIST) == macs(mixer, *DATA["MMNIST"], whole=True)


# --- the translator ------------------------------------------------------------------------------


def test_the_defaults_are_van_at_the_moving_mnist_size():
    model = cost.build_on_meta(MetaVP, MNIST, {})
    assert cost.parameters(model) == PARAMETERS["van"]


def test_stochastic_depth_rates_are_the_released_ones():
    with torch.device("meta"):
        model = MetaVP(KTH_ONE_PASS, "hornet", temporal_depth=6, drop_path=0.2)
    rates = [block.drop_path for block in model.translator if isinstance(block, Block)]
    assert rates == pytest.approx([0.01, 0.048, 0.086, 0.124, 0.162, 0.2])


def test_a_branch_is_left_out_for_whole_samples_in_training_alone():
    torch.manual_seed(0)
    block = Block(place(drop_path=0.25))
    ones = torch.ones(4000, 2, 3)
    dropped = block.drop(ones)
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(ones)), "samples are whole"
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert block.eval().drop(ones) is ones
    assert block.train().drop(ones.bfloat16()).dtype == torch.bfloat16


def test_uniformer_attends_in_the_middle_alone():
    blocks = [m for m in small("uniformer").translator if isinstance(m, Block)]
    kinds = (UniformerConv, UniformerAttention, UniformerConv)
    assert tuple(map(type, blocks)) == kinds
    even = MetaVP(CLIP, "uniformer", **SMALL | {"temporal_hidden": 24}).translator  # no new width
    assert tuple(map(type, even)) == (UniformerConv, UniformerAttention, UniformerAttention)


# --- mixers --------------------------------------------------------------------------------------


@mixers
def test_initial_weights_have_the_released_spread(mixer):
    torch.manual_seed(0)
    block = MIXERS[mixer](place(channels=512, grid=(16, 16)))
    layers = {name: m for name, m in block.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    layers.pop("position", None)  # PyTorch's default
    assert layers
    truncated = mixer in ("vit", "swin", "uniformer", "mlp_mixer", "poolformer")
    for name, layer in layers.items():
        expected = 0.02
        if not truncated and isinstance(layer, nn.Conv2d):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels / layer.groups
            expected = math.sqrt(2 / fan_out)
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.04), name
        assert not layer.bias.any(), name


@pytest.mark.parametrize(
    ("mixer", "start"),
    [
        *(("uniformer", 1e-6), ("convnext", 1e-6), ("hornet", 1e-6)),
        *(("poolformer", 1e-5), ("moganet", 1e-5), ("van", 1e-2)),
    ],
)
def test_layer_scales_start_as_released(mixer, start):
    scales = [p for n, p in MIXERS[mixer](place()).named_parameters() if "scale" in n]
    assert len(scales) == 1 + (mixer != "convnext")
    assert torch.cat([p.flatten() for p in scales]).unique().tolist() == pytest.approx([start])


def test_vit_cannot_tell_where_a_token_is():
    torch.manual_seed(0)
    block = MIXERS["vit"](place()).double().eval()
    x = torch.rand(1, 16, 8, 12).double()
    order = torch.randperm(96)
    shuffled = x.flatten(2)[..., order].reshape(x.shape)
    torch.testing.assert_close(block(shuffled), block(x).flatten(2)[..., order].reshape(x.shape))


def seen_by(block: nn.Module, y: int, x: int, grid: tuple[int, int]) -> set[tuple[int, int]]:
    """The positions that an output position depends on."""
    past = torch.rand(1, 16, *grid, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(past)[0, :, y, x].sum(), past)
    return {(i, j) for i, j in gradient[0].abs().sum(0).nonzero().tolist()}


def test_swin_sees_its_window_and_no_opposite_border():
    torch.manual_seed(0)
    grid = (8, 12)
    plain, shifted = (Swin(place(index=index)).eval() for index in (0, 1))
    window = {(i, j) for i in range(4) for j in range(4)}
    assert seen_by(plain, 1, 2, grid) == window
    assert seen_by(shifted, 3, 3, grid) == {(i + 2, j + 2) for i, j in window}
    assert seen_by(shifted, 0, 11, grid) == {(i, j) for i in (0, 1) for j in (10, 11)}
    shifted.attention.mask.zero_()
    assert seen_by(shifted, 0, 11, grid) == {(i, j) for i in (6, 7, 0, 1) for j in (10, 11, 0, 1)}


@pytest.mark.parametrize(
    ("grid", "window", "shift"),
    [
        *(((14, 14), 7, 3), ((16, 16), 4, 2), ((64, 80), 4, 2), ((128, 128), 8, 4)),
        *(((4, 8), 4, 0), ((2, 6), 2, 0)),
    ],
)
def test_swins_window_is_the_released_one(grid, window, shift):
    blocks = [Swin(place(grid=grid, index=index)).attention for index in (0, 1)]
    assert [(block.window, block.shift) for block in blocks] == [(window, 0), (window, shift)]


def test_poolformers_first_bias_cancels():
    block = MIXERS["poolformer"](place()).double()
    x = torch.rand(2, 16, 8, 12).double()
    before = block(x)
    nn.init.constant_(block.norm1.bias, 3.0)
    torch.testing.assert_close(block(x), before)


# --- options and rates ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixer": "vann"}, "mixer is 'vann'; did you mean 'van'\\? expected one of vit, swin"),
        ({"mixer": "x"}, "mixer is 'x'; expected one of vit, swin, uniformer, mlp_mixer"),
        ({"mixer": "conv_mixer", "drop_path": 0.1}, "drop_path is 0.1; conv_mixer has neither"),
        ({"mixer": "conv_mixer", "mlp_ratio": 4}, "mlp_ratio is 4, .* so leave both out"),
        (
            {"mixer": "vit", "temporal_hidden": 20},
            "20 channels wide; .* 8 heads .* temporal_hidden",
        ),
        ({"mixer": "moganet", "spatial_hidden": 6}, "60 channels wide; MogaNet's three groups"),
        ({"mixer": "hornet", "temporal_hidden": 4}, "4 channels wide; HorNet's recursion"),
        ({"temporal_depth": 1}, "temporal_depth is 1"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
    ],
)
def test_bad_options(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        MetaVP(MNIST, **options)


def test_a_latent_that_windows_do_not_tile_is_refused():
    with torch.device("meta"), pytest.raises(ValueError, match=r"latent is 25x16, .* of 4x4"):
        MetaVP(Clip(height=100, width=64), "swin")


def test_rates_are_the_released_ones():
    rates = {row.options["mixer"]: row.training["standard"]["lr"] for row in METAFORMERS}
    assert list(rates) == list(MIXERS)
    slow, fast = {"vit", "uniformer"}, {"conv_mixer", "convnext"}
    assert rates == {m: 5e-4 if m in slow else 1e-2 if m in fast else 1e-3 for m in MIXERS}
    assert all(row.at("paper") == {"mixer": row.options["mixer"]} for row in METAFORMERS)
