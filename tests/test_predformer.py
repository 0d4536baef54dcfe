"""PredFormer: check values of all variants, published sizes, dropout and stochastic depth."""

from __future__ import annotations

import math

import pytest
import torch
from model_rows import MNIST, TAXI, random_frames
from numbered_weights import Statistics, fill, statistics, waves
from torch import Tensor, nn

from baselines.predformer import Blocks, GatedTransformerBlock, PredFormer, axes
from benchmarks.experiment import cost
from tau import Clip

OBLONG = Clip(3, 3, 2, 16, 24)
WEATHER = Clip(12, 12, 1, 32, 64)
HUMAN = Clip(4, 4, 3, 256, 256)


def tiny(blocks: Blocks = "TSST", **options: object) -> PredFormer:
    torch.manual_seed(0)
    sizes = {"depth": 1, "patch": 4, "hidden": 8, "heads": 2, "mlp_ratio": 1}
    return PredFormer(OBLONG, blocks, **{**sizes, **options})


# In float64. All but fac-ST's are of the release too, with a position code in float64. Its tokens
# of fac-ST stay in the order patch, frame, which gives a third value of 2270.81199028.
@pytest.mark.parametrize(
    ("blocks", "tensors", "parameters", "expected"),
    [
        (
            *("full", 34, 6_576),
            Statistics(-462.31737470, 2902.20880025, -27219.13740925, 0.27128060, -0.26440653),
        ),
        (
            *("fac-ST", 62, 12_048),
            Statistics(312.15712572, 5234.66417745, 2540.72825848, 0.64616657, -1.15990784),
        ),
        (
            *("fac-TS", 62, 12_048),
            Statistics(456.79446337, 5246.07187057, 10158.57579591, 0.36569848, -1.14752369),
        ),
        (
            *("ST", 66, 12_112),
            Statistics(-1120.38181082, 2813.08700816, -51784.34334114, -0.17931368, -0.44149681),
        ),
        (
            *("TS", 66, 12_112),
            Statistics(-1095.13352084, 2684.03808188, -52426.05023411, 0.03755216, -0.26888560),
        ),
        (
            *("STS", 96, 17_616),
            Statistics(-1406.74085778, 3676.93293284, -62407.59059088, -1.29227288, 0.15571769),
        ),
        (
            *("TST", 96, 17_616),
            Statistics(-1398.24804485, 3285.97053822, -64235.05337725, -0.67098963, 0.19175790),
        ),
        (
            *("STTS", 126, 23_120),
            Statistics(-1011.93676788, 4936.82111610, -48090.93560037, -2.11974885, 0.35265888),
        ),
        (
            *("TSST", 126, 23_120),
            Statistics(-1038.64105473, 5012.03213944, -50129.33396866, -1.99001823, 0.35336465),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_forward_equals_the_reference(blocks, tensors, parameters, expected):
    model = tiny(blocks, depth=2, hidden=16, mlp_ratio=2)
    past = waves(2, OBLONG)
    assert fill(model, lambda: model(past, 3)) == tensors
    assert cost.parameters(model) == parameters
    with torch.no_grad():
        assert statistics(model(past, 3)) == pytest.approx(expected, rel=0, abs=1e-8)


def closed_form(clip: Clip, blocks: Blocks, depth: int, patch: int, ratio: int) -> tuple[int, int]:
    """Parameters and multiply-adds at width 256."""
    width, pixels = 256, clip.channels * patch**2
    places = clip.height * clip.width // patch**2
    tokens, linear = clip.past * places, 4 + 3 * ratio
    parameters = (pixels + 1) * width + 2 * width + (width + 1) * pixels
    macs = tokens * (2 * width * pixels + 5 * width)
    length = {"S": places, "T": clip.past, "full": tokens}
    for axis, count in axes(blocks, depth):
        parameters += count * (linear * width**2 + (6 + 2 * ratio) * width) + 2 * width
        block = linear * width**2 + 2 * length[axis] * width + 10 * width
        macs += tokens * (count * block + 5 * width)
    return parameters, macs


@pytest.mark.parametrize(
    ("blocks", "clip", "depth", "patch", "ratio", "parameters", "gmacs"),
    [
        # fvcore rounds each matrix product to four digits: it prints 21.200859, 16.477864, ...
        ("full", MNIST, 24, 8, 4, 25_285_952, 21.201224),
        ("fac-TS", MNIST, 12, 8, 4, 25_286_464, 16.459858),
        ("TSST", MNIST, 6, 8, 4, 25_297_728, 16.477880),
        ("STS", MNIST, 8, 8, 4, 25_297_728, 16.548659),
        ("TST", MNIST, 8, 8, 4, 25_297_728, 16.407101),
        ("STS", TAXI, 2, 4, 4, 6_333_216, 1.655636),
        ("fac-TS", WEATHER, 4, 4, 2, 5_273_360, 8.543404),
        ("TSST", HUMAN, 3, 8, 4, 12_731_328, 65.071481),
    ],
)
def test_published_size(blocks, clip, depth, patch, ratio, parameters, gmacs):
    options = {"blocks": blocks, "depth": depth, "patch": patch, "mlp_ratio": ratio}
    found = cost.size(PredFormer, clip, options)
    assert found == closed_form(clip, blocks, depth, patch, ratio)
    assert found[0] == parameters
    assert round(found[1] / 1e9, 6) == gmacs


def test_initial_weights_have_the_released_spread():
    torch.manual_seed(0)
    model = PredFormer(MNIST, depth=1)
    linears = [m for m in model.transformers.modules() if isinstance(m, nn.Linear)]
    assert len(linears) == 4 * 5
    for linear in linears:
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.03)
        assert linear.bias is None or not linear.bias.any()
    for linear, fan in ((model.embed, 64), (model.head[1], 256)):
        assert linear.weight.std().item() == pytest.approx(1 / math.sqrt(3 * fan), rel=0.03)


@pytest.mark.parametrize(("blocks", "sequences"), [("ST", [6, 48]), ("full", [2])])
def test_stochastic_depth_leaves_a_branch_out_for_whole_sequences(blocks, sequences):
    """Of the tokens of a frame of a sample in space, of a place of a sample in time."""
    model = tiny(blocks, drop_path=0.5).train()
    kept: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        kept.append((output / inputs[0]).flatten(1))

    for block in model.modules():
        if isinstance(block, GatedTransformerBlock):
            block.drop_path.register_forward_hook(keep)
    model(random_frames(OBLONG)[0], 3)
    assert [len(each) for each in kept] == [n for n in sequences for _ in range(2)]
    for each in kept:
        assert ((each - each[:, :1]).abs() < 1e-5).all()
    factors = torch.cat([each[:, 0] for each in kept])
    assert all(min(abs(x), abs(x - 2)) < 1e-5 for x in factors.tolist())
    if blocks == "ST":
        assert 0.3 < (factors > 1).double().mean() < 0.7


def test_dropout_is_of_training_only_and_not_of_attention_weights():
    model = tiny(dropout=0.5)
    past, future = random_frames(OBLONG)
    with torch.no_grad():
        assert len({model.train().loss(past, future).item() for _ in range(4)}) == 4
        assert len({model.eval().loss(past, future).item() for _ in range(4)}) == 1
        attention = model.transformers[0].blocks[0].attention.train()
        x = torch.rand(1, 5, 8)
        attended = [attention(x) for _ in range(64)]
        whole = attention.eval()(x)
    for each in attended:
        dropped = each == 0
        assert torch.allclose(each[~dropped], 2 * whole[~dropped])


def test_squared_error_is_the_whole_loss_and_blocks_are_fed_back():
    model = tiny().eval()
    past, _ = random_frames(OBLONG)
    with torch.no_grad():
        prediction = model(past, 5)
        future = torch.rand_like(prediction)
        assert model.loss(past, future).item() == (prediction - future).square().mean().item()
        torch.testing.assert_close(prediction[:, 3:], model(prediction[:, :3], 2))
        with pytest.raises(ValueError, match="got 2 past frames; this model was built for 3"):
            model(past[:, :2], 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": "TTS"}, "blocks is 'TTS'; expected one of full, fac-ST"),
        ({"hidden": 10, "heads": 4}, "hidden is 10; expected an even multiple of 4 heads"),
        ({"patch": 5}, "patch is 5; expected a divisor of the frame size 16x24"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 <= dropout < 1"),
    ],
)
def test_bad_options(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        tiny(**options)
