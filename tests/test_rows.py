"""Every row of every suite: built, trained, asked for any horizon, blind to the future, reloaded.

Nothing here names a row: a new one in a suite is tested by being there.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from compiled import Backend

from benchmarks.experiment.cost import macs, parameters
from benchmarks.experiment.spec import Row, Suite
from benchmarks.suites import find_suite, suite_names
from tau import TAU, Clip, Predictor

SUITES = [suite for name in suite_names() if isinstance(suite := find_suite(name), Suite)]
SMALL = Clip(past=4, future=4, height=16, width=16)


def _id(row: Row) -> str:
    return f"{row.model.__name__}-{row.label}"


ROWS = {
    (row.model, repr(sorted(row.at("smoke").items()))): row
    for suite in SUITES
    for panel in suite.panels
    for row in suite.rows_of(panel)
}
rows = pytest.mark.parametrize("row", ROWS.values(), ids=_id)
models = pytest.mark.parametrize(
    "row", {row.model: row for row in ROWS.values()}.values(), ids=lambda row: row.model.__name__
)


def _clips(clip: Clip = SMALL, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, clip.frames, clip.channels, clip.height, clip.width)
    return clip.split(torch.rand(shape, generator=generator))


@pytest.fixture
def model(row: Row) -> Predictor:
    torch.manual_seed(0)
    return row.build(SMALL, "smoke")


@rows
def test_one_step_reaches_every_parameter_and_lowers_the_loss(row, model):
    past, future = _clips()
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
@pytest.mark.parametrize("horizon", [1, 4, 12])
def test_any_horizon(row, model, horizon):
    past, _ = _clips()
    model.eval()
    with torch.no_grad():
        prediction = model(past, horizon)
        longer = model(past, 12)
    assert prediction.shape == (2, horizon, 1, 16, 16)
    assert torch.allclose(prediction, longer[:, :horizon], atol=1e-6), "a longer horizon agrees"


@rows
def test_forward_does_not_see_the_future_nor_other_samples(row, model):
    past, future = _clips(batch=3)
    model.eval()
    with torch.no_grad():
        before = model(past, 4)
        model.loss(past, torch.zeros_like(future))
        model(past[:1], 7)  # another batch size and horizon between
        after = model(past, 4)
        alone = model(past[1:2], 4)
    assert torch.equal(before, after), "no state survives a call"
    assert torch.allclose(before[1:2], alone, atol=1e-5), "samples do not mix"


@rows
def test_reload_gives_equal_predictions(row, model, tmp_path):
    past, future = _clips()
    if parameters(model):
        model.train()
        model.loss(past, future).backward()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(99)
    other = row.build(SMALL, "smoke")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(model.eval()(past, 4), other.eval()(past, 4))


@rows
def test_colour_and_oblong_frames(row):
    clip = Clip(past=3, future=3, channels=3, height=8, width=16)
    past, future = _clips(clip)
    torch.manual_seed(0)
    model = row.build(clip, "smoke").eval()
    with torch.no_grad():
        assert model(past, 3).shape == future.shape
        assert model.loss(past, future).shape == ()


@models
def test_an_odd_clip_is_refused_by_the_constructor_or_works(row):
    lengths, channels = ((1, 1), (1, 3), (2, 1), (3, 5)), (1, 2, 3, 5)
    sizes = ((4, 4), (8, 8), (16, 16), (24, 40), (59, 59))
    for (past, future), colours, (height, width) in product(lengths, channels, sizes):
        clip = Clip(past, future, colours, height, width)
        try:
            model = row.build(clip, "smoke")
        except ValueError as error:
            named = re.search(r"past is \d|\d+x\d+", str(error))
            assert named, f"{clip}: {error} does not name what does not fit"
            continue
        seen, wanted = _clips(clip)
        with torch.no_grad():
            assert model.eval()(seen, future).shape == wanted.shape, clip
            loss = model.train().loss(seen, wanted)
        assert loss.shape == (), clip
        assert loss.isfinite(), clip


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
        assert model(255 * _clips(clip)[0].double(), 4).abs().max() > 1


@rows
def test_in_place_compilation_changes_nothing(row, model):
    """What the trainer does on a GPU, here with a backend that only counts its graphs' runs."""
    past, future = _clips()
    twin = copy.deepcopy(model)
    backend = Backend()
    twin.compile(backend=backend)
    assert twin.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        expected = model.eval()(past, 4)
        assert backend.runs == []
        assert torch.allclose(twin.eval()(past, 4), expected, atol=1e-6)
    assert backend.runs, "forward is not compiled"
    torch.manual_seed(0)
    expected = model.train().loss(past, future)
    torch.manual_seed(0)
    backend.runs.clear()
    assert torch.allclose(twin.train().loss(past, future), expected, atol=1e-6)
    assert backend.runs, "loss is not compiled"


def test_rows_that_depart_from_published_code_say_how():
    departing = {"ConvLSTM", "PredRNN++", "MIM", "E3D-LSTM", "PhyDNet", "CrevNet", "PredNet"}
    departing |= {"MAU", "LMC-Memory", "Conv-TT-LSTM", "DDPAE", "PredRNN-v2"}
    notes = {(suite.name, row.label): row.note for suite in SUITES for row in suite.rows}
    assert departing <= {label for _, label in notes}
    assert [place for place, note in notes.items() if place[1] in departing and not note] == []


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


@rows
def test_every_scale_of_every_suite_can_be_built(row):
    different = {
        (repr(row.at(scale)), panel.clip): scale
        for suite in SUITES
        for panel in suite.panels
        if row in suite.rows_of(panel)
        for scale in suite.training
    }
    for (_, clip), scale in different.items():
        with torch.device("meta"):
            model = row.build(clip, scale)
        assert macs(model, clip) >= 0
