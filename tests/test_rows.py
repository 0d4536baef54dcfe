"""Every row of every suite: built, trained, asked for any horizon, blind to the future, reloaded.

Nothing here names a row: a new one in a suite is tested by being there.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from dataclasses import replace
from functools import partial
from itertools import cycle, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from compiled import Backend
from forward_check import CONVOLUTIONS
from model_rows import MODELS, SHORT, SUITES, models, random_frames, rows
from torch import Tensor

from baselines import DDPAE, PredNet
from baselines.recurrent import Recurrent
from benchmarks.experiment import cost
from benchmarks.experiment.cost import parameters
from benchmarks.experiment.spec import Row
from benchmarks.experiment.verify import count
from benchmarks.suites.smoke import MIXERS
from tau import TAU, Clip, Predictor
from tau.spatial import TranslatingPredictor

SMALL = Clip(past=4, future=4, height=16, width=16)
# Of the mixers in one shell, those that stand for a kind of graph each.
COMPILED = [row for (_, mixer), row in MODELS.items() if not mixer or row.label in MIXERS]


@pytest.fixture
def model(row: Row) -> Predictor:
    torch.manual_seed(0)
    return row.build(SMALL, "smoke")


def loss_and_gradients(model: Predictor, clip: Clip) -> tuple[Tensor, list[Tensor]]:
    """Of a training loss, always with the same draws."""
    torch.manual_seed(0)
    loss = model.train().loss(*random_frames(clip))
    weights = list(model.parameters())
    return loss, list(torch.autograd.grad(loss, weights)) if weights else []


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


# Training


@rows
def test_one_step_reaches_every_parameter_and_lowers_the_loss(row, model):
    past, future = random_frames(SMALL)
    weights = dict(model.named_parameters())
    if not weights:
        assert parameters(model) == 0
        return
    model.train()
    losses = []
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(8):
        torch.manual_seed(0)
        loss = model.loss(past, future)
        optimiser.zero_grad()
        loss.backward()
        if not losses:
            for name, weight in weights.items():
                assert weight.grad is not None, f"{name} has no gradient"
                assert weight.grad.isfinite().all(), f"{name} has a gradient that is not finite"
                assert weight.grad.abs().max() > 0, f"{name} has a zero gradient"
        losses.append(loss.item())
        optimiser.step()
    assert losses[-1] < losses[0]


@rows
def test_autocast_rounds_and_float64_agrees(row, model):
    past, future = random_frames(SMALL)
    if isinstance(model, Recurrent):
        model.step_count.fill_(model.sampling_steps // 2)  # half true frames, half predictions
    with torch.no_grad():
        exact = model.eval()(past, 6)
        double = copy.deepcopy(model).double()(past.double(), 6)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(past, 6)
    assert double.dtype == torch.float64
    assert relative_error(double, exact) < 1e-4
    if not isinstance(model, TranslatingPredictor):  # their blocks keep the dtype of autocast
        assert rounded.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train().loss(past, future)
    assert loss.dtype == torch.float32
    if parameters(model):
        assert 0 < relative_error(rounded.float(), exact) < 0.1
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.double().loss(past.double(), future.double()).dtype == torch.float64


# Predictions


@rows
@pytest.mark.parametrize("horizon", [1, 4, 12])
def test_any_horizon(row, model, horizon):
    past, _ = random_frames(SMALL)
    model.eval()
    with torch.no_grad():
        prediction = model(past, horizon)
        longer = model(past, 12)
    assert prediction.shape == (2, horizon, 1, 16, 16)
    assert torch.allclose(prediction, longer[:, :horizon], atol=1e-6), "a longer horizon agrees"


@models
@pytest.mark.parametrize("horizon", [0, -1, 2.0])
def test_a_horizon_that_is_not_a_positive_integer_is_refused(row, model, horizon):
    with pytest.raises(ValueError, match=f"horizon is {horizon!r}"):
        model(random_frames(SMALL)[0], horizon)


@rows
def test_forward_does_not_see_the_future_nor_other_samples(row, model):
    past, future = random_frames(SMALL, batch=3)
    model.eval()
    with torch.no_grad():
        before = model(past, 4)
        model.loss(past, torch.zeros_like(future))
        model.loss(past.flip(0), future)
        model(past[:1], 7)  # another batch size and horizon between
        after = model(past, 4)
        alone = model(past[1:2], 4)
    assert torch.equal(before, after), "no state survives a call"
    assert torch.allclose(before[1:2], alone, atol=1e-5), "samples do not mix"


@rows
def test_colour_and_oblong_frames(row):
    clip = Clip(past=3, future=3, channels=3, height=8, width=16)
    past, future = random_frames(clip)
    torch.manual_seed(0)
    model = row.build(clip, "smoke").eval()
    with torch.no_grad():
        assert model(past, 3).shape == future.shape
        assert model.loss(past, future).shape == ()


@models
def test_predictions_can_cover_the_range_of_the_data_or_it_is_refused(row):
    clip = replace(SMALL, data_range=255.0)
    torch.manual_seed(0)
    try:
        model = row.build(clip, "smoke").double().eval()
    except ValueError as error:
        assert "data_range is 255.0" in str(error)
        return
    for parameter in model.parameters():
        parameter.data *= 10
    with torch.no_grad():
        assert model(random_frames(clip)[0].double(), 4).abs().max() > 1


# Copies


@rows
def test_copies_pickles_and_reloaded_weights_give_equal_predictions(row, model, tmp_path):
    past, future = random_frames(SMALL)
    if parameters(model):
        model.train().loss(past, future).backward()  # batch norms and counters move
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(99)
    reloaded = row.build(SMALL, "smoke")
    reloaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        expected = model.eval()(past, 4)
        for other in (reloaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other.eval()(past, 4), expected)


@pytest.mark.parametrize("row", COMPILED, ids=lambda row: row.label)
def test_in_place_compilation_changes_nothing(row):
    """What the trainer does on a GPU, here with a backend that only counts its graphs' runs."""
    torch.manual_seed(0)
    model = row.build(SHORT, "smoke")
    past, _ = random_frames(SHORT)
    twin = copy.deepcopy(model)
    backend = Backend()
    twin.compile(backend=backend)
    assert twin.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        expected = model.eval()(past, 2)
        assert backend.runs == []
        assert torch.allclose(twin.eval()(past, 2), expected, atol=1e-6)
    assert backend.runs, "forward is not compiled"
    backend.runs.clear()
    torch.testing.assert_close(loss_and_gradients(twin, SHORT), loss_and_gradients(model, SHORT))
    assert backend.runs, "loss is not compiled"
    if isinstance(model, Recurrent):  # all of a step is one graph, and so is an encoder
        encoder = type(model).encode is not Recurrent.encode
        assert len(backend.runs) == 4 + 2 * encoder, "the past's frames are encoded at once"
        sizes = backend.count(torch.conv2d, torch.conv_transpose2d, torch.conv3d)
        whole = max(sizes) + (min(sizes) if encoder else 0)
        assert whole >= sum(isinstance(module, CONVOLUTIONS) for module in model.modules())
    copied = copy.deepcopy(twin)
    for weight in (*copied.parameters(), *model.parameters()):
        torch.nn.init.constant_(weight, 0.01)
    with torch.no_grad():
        assert torch.allclose(copied.eval()(past, 2), model.eval()(past, 2), atol=1e-6), (
            "a copy of a compiled model has weights of its own"
        )


# Cost


@rows
def test_fvcore_counts_the_same(row):
    """But for torch's fused LSTM, and for a last way up that no prediction reads."""
    run = SimpleNamespace(build=partial(row.build, SHORT, "smoke"), clip=SHORT)
    ours, theirs = cost.size(row.model, SHORT, row.at("smoke")), count(run)
    if row.model in (DDPAE, PredNet):
        assert ours[0] == theirs[0] and ours[1] > theirs[1]
    else:
        assert ours == theirs


# Options


@models
def test_an_odd_clip_is_refused_by_the_constructor_or_works(row):
    lengths, channels = ((1, 1), (1, 3), (2, 1), (3, 5)), cycle((1, 2, 3, 5))
    sizes = ((4, 4), (8, 8), (16, 16), (24, 40), (59, 59))
    for (height, width), (past, future) in product(sizes, lengths):
        clip = Clip(past, future, next(channels), height, width)
        try:
            model = row.build(clip, "smoke")
        except ValueError as error:
            named = re.search(r"past is \d|\d+x\d+", str(error))
            assert named, f"{clip}: {error} does not name what does not fit"
            continue
        seen, wanted = random_frames(clip)
        with torch.no_grad():
            assert model.eval()(seen, future).shape == wanted.shape, clip
            loss = model.train().loss(seen, wanted)
        assert loss.shape == (), clip
        assert loss.isfinite(), clip


def bad_values(default: Any) -> list[Any]:
    """Values that no option with this default can have."""
    if isinstance(default, bool):
        return []
    if isinstance(default, str):
        return ["nonsense"]
    if isinstance(default, tuple):
        return [(), (0,), (0, 0), (*default[:-1], -1)]
    return [float("nan"), -1.0] if isinstance(default, float) else [0, -1]


ZERO_MEANS_NONE, ODD = {"short_stop"}, {"kernel"}


@models
def test_a_bad_option_is_refused_with_its_name_and_value(row):
    for name, parameter in inspect.signature(row.model).parameters.items():
        for value in [] if name == "clip" else bad_values(parameter.default) + [4] * (name in ODD):
            if value == 0 and name in ZERO_MEANS_NONE:
                continue
            with torch.device("meta"), pytest.raises(ValueError) as refused:
                row.with_options(**{name: value}).build(SMALL, "smoke")
            assert f"{name} is {value!r}" in str(refused.value)


# Suites


def test_rows_that_depart_from_published_code_say_how():
    departing = {"ConvLSTM", "PredRNN++", "MIM", "E3D-LSTM", "PhyDNet", "CrevNet", "PredNet"}
    departing |= {"Swin", "ConvMixer", "MAU", "LMC-Memory", "Conv-TT-LSTM", "DDPAE", "PredRNN-v2"}
    departing |= {"SwinLSTM", "WaST"}
    notes = {(suite.name, row.label): row.note for suite in SUITES for row in suite.rows}
    assert departing <= {label for _, label in notes}
    assert [place for place, note in notes.items() if place[1] in departing and not note] == []


def test_numbers_published_elsewhere_belong_to_rows():
    named = [(s, label) for s in SUITES for of in s.published_elsewhere for label in of.methods]
    assert named
    assert all(label in {row.label for row in suite.rows} for suite, label in named)


def test_the_page_of_deviations_has_every_model():
    page = Path(__file__).parent.parent / "docs" / "deviations.md"
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {name.removeprefix("the ") for each in headings for name in re.split(", | and ", each)}
    labels = {row.label for suite in SUITES for row in suite.rows if row.model is not TAU}
    assert labels - {"Last frame"} | {"TAU"} <= named


def test_notes_on_openstl_name_its_versions():
    notes = [row.note for suite in SUITES for row in suite.rows if "OpenSTL" in row.note]
    assert notes
    assert [note for note in notes if not re.search(r"\bv\d+\.\d+\.\d+", note)] == []


BUILT: set[tuple[object, str, object]] = set()


@rows
def test_every_scale_of_every_suite_can_be_built(row):
    different = {
        (repr(row.at(scale)), panel.clip): scale
        for suite in SUITES
        for panel in suite.panels
        if row in suite.rows_of(panel)
        for scale in suite.training
    }
    for (options, clip), scale in different.items():
        if (row.model, options, clip) in BUILT:  # for a row that differs in its training alone
            continue
        BUILT.add((row.model, options, clip))
        with torch.device("meta"):
            model = row.build(clip, scale).eval()
            past = torch.empty(1, clip.past, clip.channels, clip.height, clip.width)
            with torch.no_grad():
                assert model(past, 1).shape[1] == 1  # it runs at this size
