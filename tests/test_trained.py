"""A trained predictor is loaded without running a stranger's code, and speaks the data's unit."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import ConvBaseline, LastFrame
from benchmarks import load
from benchmarks.data import Arrays
from benchmarks.experiment import code, store
from benchmarks.experiment.execute import execute
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.spec import Panel, Row, Suite, Training
from benchmarks.experiment.trained import PRETRAINED, Trained
from tau import Clip, Predictor


@pytest.fixture(scope="module")
def conv(tmp_path_factory):
    """The folder of a run of the Conv baseline on uint8 sequences, 3 frames to 3."""
    folder = tmp_path_factory.mktemp("conv")
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (40, 6, 1, 16, 16), "u1"))
    small = {"spatial_hidden": 4, "temporal_hidden": 8, "spatial_depth": 2, "temporal_depth": 2}
    suite = Suite(
        "s",
        "S",
        (Panel(None),),
        (Row("Conv", ConvBaseline, small),),
        {"smoke": Training(epochs=1, sequences=8, batch_size=4, val_sequences=4, test_sequences=4)},
    )
    dataset = Arrays(folder / "x.npy")
    (run,) = plan_panel(suite, "smoke", dataset, "cpu", precision="fp32")
    return execute(run, folder).folder


class Double(Predictor):
    """The last frame, doubled: exact in any unit."""

    def __init__(self, clip: Clip) -> None:
        super().__init__(clip)

    def forward(self, past, horizon):
        return 2 * past[:, -1:].expand(-1, horizon, -1, -1, -1)


CLIP = Clip(2, 3, 1, 8, 8)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 1, 8, 8), (5, 2, 1, 8, 8)])
@pytest.mark.parametrize("kind", ["uint8", "float64", "int64", "torch"])
def test_predict_takes_and_gives_the_datas_own_unit(shape, kind):
    low, high = (0, 255) if kind == "uint8" else (200, 320)
    trained = Trained(Double(CLIP).eval(), CLIP, (200.0, 320.0), divided_by_255=kind == "uint8")
    past = np.random.default_rng(0).integers(low, low + (high - low) // 2, shape)
    past = torch.from_numpy(past).float() if kind == "torch" else past.astype(kind)
    for horizon in (None, 1, 7):
        predicted = trained.predict(past, horizon)
        assert type(predicted) is type(past)
        frames = shape.index(2)
        assert predicted.shape == (*shape[:frames], horizon or 3, *shape[frames + 1 :])
        assert str(predicted.dtype).endswith("uint8" if kind == "uint8" else "float32")
        last = np.take(np.asarray(past, float), [-1], axis=frames)
        expected = low + 2 * (last - low)
        assert np.allclose(np.asarray(predicted, float), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("past", "message"),
    [
        (
            np.zeros((2, 1, 8, 9)),
            r"shape \(2, 1, 8, 9\); expected \(2, 1, 8, 8\), 2 frames of 1x8x8",
        ),
        (np.zeros((3, 1, 8, 8)), r"shape \(3, 1, 8, 8\)"),
        (np.zeros((0, 2, 1, 8, 8)), "expected"),
        (np.zeros((8, 8)), "expected"),
        (np.full((2, 1, 8, 8), 321.0), "values from 321 to 321; expected 200 to 320, the unit"),
        (np.full((2, 1, 8, 8), np.nan), "values from nan"),
        (np.zeros((2, 1, 8, 8), complex), "complex128; expected uint8 or real numbers"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.cfloat), "complex64; expected uint8 or real numbers"),
        (np.zeros((2, 1, 8, 8), "U1"), "<U1; expected uint8 or real numbers"),
    ],
)
def test_predict_says_what_it_expects(past, message):
    with pytest.raises(ValueError, match=message):
        Trained(Double(CLIP).eval(), CLIP, (200.0, 320.0), divided_by_255=False).predict(past)


def test_labels_in_bytes_are_numbers_and_not_divided_by_255(tmp_path):
    """A mask of 0 and 1, which --data-range 1 trains on as it is."""
    past = np.random.default_rng(0).integers(0, 2, (2, 1, 8, 8)).astype(np.uint8)
    trained = Trained(Double(CLIP).eval(), CLIP, (0.0, 1.0), divided_by_255=False)
    for kind in (np.uint8, bool, np.uint16, ">f4", np.float16):
        predicted = trained.predict(past.astype(kind))
        assert predicted.dtype == np.float32
        assert (predicted == 2 * past[-1:]).all()
    torch16 = torch.from_numpy(past.astype(np.uint16))
    assert (trained.predict(torch16) == torch.from_numpy(predicted)).all()
    assert (trained.predict(past[::-1]) == 2 * past[:1]).all(), "of negative strides"


@pytest.mark.parametrize("data_range", [None, 255])
def test_a_run_knows_whether_its_bytes_were_divided(data_range, tmp_path):
    clips = np.random.default_rng(0).integers(0, 255, (12, 4, 1, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "x.npy", clips)
    row = Row("Last", LastFrame)
    training = Training(epochs=1, sequences=8, batch_size=4, val_sequences=4, test_sequences=4)
    dataset = Arrays(tmp_path / "x.npy", data_range=data_range)
    suite = Suite("s", "S", (Panel(None),), (row,), {"smoke": training})
    (run,) = plan_panel(suite, "smoke", dataset, "cpu")
    predicted = load(execute(run, tmp_path).folder).predict(clips[0, :2])
    assert predicted.dtype == (np.uint8 if data_range is None else np.float32)
    assert np.allclose(predicted, clips[0, 1], rtol=1e-6)


def test_a_run_of_this_projects_own_model_needs_no_trust(conv):
    trained = load(conv)
    assert trained.predict(np.zeros((3, 16, 16), np.uint8)).shape == (3, 16, 16)
    frames = torch.zeros(1, 3, 1, 16, 16)
    assert torch.equal(trained(frames, 3), trained.model(frames, 3))


def change_record(folder, tmp_path, **entries):
    copy = tmp_path / "run"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    record = store.read_run(copy).record
    store.write_record(copy, record | entries)
    return copy


@pytest.mark.parametrize(
    "entries",
    [
        {"model": "os:system"},
        {"model": "subprocess:Popen"},
        {"model": "stranger:Model"},
        {"options": {"act": {"object": "os:system"}}},
        {"options": {"deep": [{"x": {"object": "shutil:rmtree"}}]}},
        {"model": "tau_evil:Model"},
    ],
)
def test_a_record_that_names_foreign_code_is_not_followed(conv, tmp_path, entries):
    copy = change_record(conv, tmp_path, **entries)
    with pytest.raises(PermissionError, match=r"look at it and, if you trust it, .*trust_code"):
        load(copy)


@pytest.mark.parametrize(
    "name", ["tau.predictor:rollout", "tau.model:torch.hub.load", "tau.loss:x", "baselines.no:X"]
)
def test_a_record_that_names_no_predictor_is_refused(conv, tmp_path, name):
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(change_record(conv, tmp_path, model=name))


@pytest.mark.parametrize("how", ["cut", "flipped", "missing"])
def test_damaged_weights_are_refused(conv, tmp_path, how):
    copy = change_record(conv, tmp_path)
    path = copy / "model.pt"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    path.unlink()
    if how != "missing":
        path.write_bytes({"cut": content[:-9], "flipped": flipped}[how])
    with pytest.raises(ValueError, match=r"model\.pt is (damaged|missing)"):
        load(copy)


MODEL = """
from tau import Predictor
from {helper} import FACTOR

class Mine(Predictor):
    def __init__(self, clip, kind=None):
        super().__init__(clip)
        self.kind = kind

    def forward(self, past, horizon):
        return FACTOR * past[:, -1:].expand(-1, horizon, -1, -1, -1)
"""


def test_a_users_model_is_loaded_with_trust_from_the_code_that_it_was_trained_with(
    suite, dataset, tmp_path, monkeypatch
):
    """Also where its files have changed since, or do not exist any more."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_to_load.py").write_text(MODEL.format(helper="helper_to_load"))
    (tmp_path / "helper_to_load.py").write_text("FACTOR = 0.5\n")
    mine = code.import_file(tmp_path / "mine_to_load.py").Mine
    tiny = replace(suite, rows=(Row("Mine", mine, {"kind": torch.nn.GELU}),))
    (run,) = plan_panel(tiny, "smoke", dataset, "cpu", precision="fp32")
    folder = execute(run, tmp_path / "runs").folder
    assert {"mine_to_load", "helper_to_load"} == json.loads(
        (folder / "code.json").read_text()
    ).keys()
    for name in ("mine_to_load", "helper_to_load"):
        (tmp_path / f"{name}.py").unlink()
        del sys.modules[name]
    with pytest.raises(PermissionError, match=r"mine_to_load\.py \(\d+ lines\)"):
        load(folder)
    assert "mine_to_load" not in sys.modules, "nothing was run"
    frames = np.full((3, 16, 16), 100, np.uint8)
    loaded = load(folder, trust_code=True)
    assert (loaded.predict(frames) == 50).all() and loaded.model.kind is torch.nn.GELU
    for name in ("mine_to_load", "helper_to_load"):
        sys.modules.pop(name, None)
        code._carried.code.pop(name, None)


def test_code_that_was_changed_after_training_is_refused(suite, dataset, tmp_path, monkeypatch):
    (tmp_path / "mine_changed.py").write_text(
        "from tau import Predictor\n\nclass Mine(Predictor):\n"
        "    def forward(self, past, horizon):\n"
        "        return past[:, -1:].expand(-1, horizon, -1, -1, -1)\n"
    )
    mine = code.import_file(tmp_path / "mine_changed.py").Mine
    tiny = replace(suite, rows=(Row("Mine", mine),))
    (run,) = plan_panel(tiny, "smoke", dataset, "cpu", precision="fp32")
    folder = execute(run, tmp_path / "runs").folder
    path = folder / "code.json"
    path.write_text(path.read_text().replace("past[:, -1:]", "past[:, :1]"))
    with pytest.raises(ValueError, match=r"code\.json is damaged or was changed"):
        load(folder, trust_code=True)
    del sys.modules["mine_changed"]


def test_load_needs_a_finished_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no finished run"):
        load(Path("nowhere"))


# Models that come along


@pytest.mark.parametrize("path", sorted(PRETRAINED.iterdir()), ids=lambda path: path.name)
def test_a_model_that_comes_along_is_small_and_forecasts_by_its_name(path):
    assert (path / "model.pt").stat().st_size <= 3e6
    trained = load(path.name)
    clip = trained.clip
    frames = np.zeros((clip.past, clip.height, clip.width), np.uint8)
    assert trained.predict(frames).shape == (clip.future, clip.height, clip.width)
    assert abs(trained.predict(frames).astype(int)).max() < 128  # of nothing, nothing is forecast


def test_an_unknown_name_is_refused_with_those_that_come_along(tmp_path):
    with pytest.raises(FileNotFoundError, match="or give one of convlstm-hour, ours-hour, simvp"):
        load("our-hours")
