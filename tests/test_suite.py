"""Suites are checked before anything trains, and a key changes with everything that matters."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from baselines import LastFrame
from benchmarks.data import Arrays, MovingMNIST
from benchmarks.experiment import hardware, plan
from benchmarks.experiment.code import Source
from benchmarks.experiment.hardware import resolve_precision
from benchmarks.experiment.plan import Run, plan_panel, run_key
from benchmarks.experiment.spec import DatasetTable, Panel, Row, Suite, Training
from benchmarks.metrics import MSE
from benchmarks.suites import find_suite, suite_names
from benchmarks.suites.sizes import SMALL_LR
from tau import TAU, Clip


def test_a_misspelt_option_names_the_nearest():
    with pytest.raises(ValueError, match=r"row 'w/o DDR': option 'aplha'.*did you mean 'alpha'"):
        Row("w/o DDR", TAU, {"aplha": 0.0})


def test_a_misspelt_option_of_a_scale_is_found_too():
    with pytest.raises(ValueError, match="did you mean 'temporal_depth'"):
        Row("TAU", TAU, sizes={"quick": {"temporal_deph": 4}})


def test_a_misspelt_training_field_is_found():
    with pytest.raises(ValueError, match="did you mean 'lr'"):
        Row("TAU", TAU, training={"quick": {"lrr": 1e-3}})


def test_an_unknown_scale_is_found():
    with pytest.raises(ValueError, match=r"'quik'.*did you mean 'quick'"):
        Row("TAU", TAU, sizes={"quik": {}})


def test_a_row_needs_a_predictor():
    with pytest.raises(ValueError, match="not a class derived from"):
        Row("linear", torch.nn.Linear)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("sequences", 3),
        ("batch_size", 0),
        ("lr", 0.0),
        ("weight_decay", -1.0),
        ("max_grad_norm", 0.0),
        ("optimiser", "sgd"),
        ("schedule", "onecycl"),
        ("precision", "fp16"),
        ("test_sequences", 0),
    ],
)
def test_training_refuses(field, value):
    with pytest.raises(ValueError, match=field if field != "sequences" else "no batch"):
        replace(Training(epochs=1), **{field: value})


def test_equal_labels_are_refused():
    with pytest.raises(ValueError, match="repeats the rows \\['a'\\]"):
        Suite(
            "s",
            "S",
            (Panel(MovingMNIST),),
            (Row("a", LastFrame), Row("a", TAU)),
            {"smoke": Training(1)},
        )


def test_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match=r"'psnr' is no Column; .* benchmarks\.metrics"):
        Panel(MovingMNIST, columns=("psnr",))
    with pytest.raises(ValueError, match="repeats the columns \\['mse'\\]"):
        Panel(MovingMNIST, columns=(MSE, MSE.times(100)))


def test_equal_labels_after_cleaning_are_refused_where_they_give_one_folder(suite, dataset):
    rows = (Row("TAU", TAU), Row("T.A.U", TAU), Row("tau!", TAU))
    plan_panel(
        replace(suite, rows=rows[:2]), "smoke", dataset, "cpu"
    )  # folders tau-... and t-a-u-...
    with pytest.raises(ValueError, match=r"'TAU' and 'tau!' .* choose labels that differ"):
        plan_panel(replace(suite, rows=rows), "smoke", dataset, "cpu")
    differ = (Row("TAU", TAU), Row("TAU++", TAU, {"alpha": 0.5}))
    folders = [
        run.folder for run in plan_panel(replace(suite, rows=differ), "smoke", dataset, "cpu")
    ]
    assert len(set(folders)) == 2, "keys tell them apart"


@pytest.mark.parametrize("label", ["", "  ", None, 3])
def test_a_label_is_text(label):
    with pytest.raises(ValueError, match="label"):
        Row(label, TAU)


@pytest.mark.parametrize("name", ["", "..", "a/../b", "../x", "/tmp/x", "a b", "ü", "x" * 61, None])
def test_a_suites_name_is_part_of_file_names(suite, name):
    with pytest.raises(ValueError, match="the name of a suite"):
        replace(suite, name=name)
    with pytest.raises(ValueError, match="the name of a suite"):
        DatasetTable(name, "title", (), "Table 1")


@pytest.mark.parametrize("label", ["../../x", "/etc/passwd", "..", "\0", "ü" * 300, "ΤΑΥ", "a/b"])
def test_any_label_gives_a_folder_right_below_the_runs(suite, dataset, tmp_path, label):
    (run,) = plan_panel(replace(suite, rows=(Row(label, TAU),)), "smoke", dataset, "cpu")
    (tmp_path / run.folder).mkdir()
    assert (tmp_path / run.folder).parent == tmp_path and len(run.folder) < 100


@pytest.mark.parametrize(("name", "value"), [("epochs", 5), ("precision", "bf16")])
def test_rows_that_no_table_compares_are_found_before_they_are_trained(suite, dataset, name, value):
    training = {"smoke": replace(suite.training["smoke"], precision="fp32")}
    rows = (suite.rows[0], replace(suite.rows[1], training={"smoke": {name: value}}))
    differing = replace(suite, rows=rows, training=training)
    with pytest.raises(ValueError, match=f"the same {name}, but have .* row 'Conv'"):
        plan_panel(differing, "smoke", dataset, "cpu")
    assert plan_panel(differing, "smoke", dataset, "cpu", rows=["Conv"])


def test_a_batch_that_processes_cannot_share_is_refused(suite: Suite, dataset: Arrays):
    with pytest.raises(ValueError, match="batch of 4 cannot be divided equally among 3 processes"):
        plan_panel(suite, "smoke", dataset, "cpu", processes=3)
    keys = {plan_panel(suite, "smoke", dataset, "cpu", processes=n)[1].key for n in (1, 2, 4)}
    assert len(keys) == 3, "the number of processes is part of a run"


def test_plan_refuses_a_batch_larger_than_the_training_set(suite: Suite, dataset: Arrays):
    big = {"smoke": Training(epochs=1, sequences=640, batch_size=64)}
    with pytest.raises(ValueError, match="batch of 64"):
        plan_panel(replace(suite, training=big), "smoke", dataset, "cpu")


def test_a_suite_without_the_standard_scale_is_quick_on_a_gpu_too():
    for name, *expected in (
        ("ablation", "standard", "quick"),
        ("hour", "quick", "quick"),
        ("smoke", "smoke", "smoke"),
    ):
        suite = find_suite(name)
        assert [plan._default_scale(suite, device) for device in ("cuda", "cpu")] == expected


@pytest.mark.parametrize("name", [n for n in suite_names() if n != "datasets"])
def test_a_row_of_the_users_own_trains_with_the_rate_of_the_others(name: str) -> None:
    suite = find_suite(name)
    assert isinstance(suite, Suite)
    rates = {"ConvLSTM": SMALL_LR / 2, "PredRNN": SMALL_LR / 2} if name == "hour" else {}
    for scale in {"smoke", "quick"} & suite.training.keys():
        of_all = suite.training[scale].lr
        assert of_all == SMALL_LR and suite.training[scale].precision == "fp32"
        for row in suite.rows:
            found = row.training.get(scale, {}).get("lr", of_all)
            assert found == (rates.get(row.label, of_all) if scale == "quick" else of_all)


def test_plan_names_unknown_rows_and_scales(suite: Suite, dataset: Arrays):
    with pytest.raises(ValueError, match="did you mean 'Conv'"):
        plan_panel(suite, "smoke", dataset, "cpu", rows=["Cnv"])
    with pytest.raises(ValueError, match="valid: smoke"):
        plan_panel(suite, "paper", dataset, "cpu")


def test_plan_is_in_table_order_and_covers_the_seeds(suite: Suite, dataset: Arrays):
    runs = plan_panel(suite, "smoke", dataset, "cpu", rows=["TAU", "Conv"], seeds=[0, 1])
    assert [(r.row.label, r.seed) for r in runs] == [
        ("Conv", 0),
        ("Conv", 1),
        ("TAU", 0),
        ("TAU", 1),
    ]
    assert len({r.key for r in runs}) == 4


def test_options_of_the_row_win_over_those_of_its_size():
    row = Row("TAU", TAU, {"alpha": 0.0}, sizes={"smoke": {"alpha": 3.0, "mlp_ratio": 2}})
    assert row.at("smoke") == {"alpha": 0.0, "mlp_ratio": 2}
    assert row.at("paper") == {"alpha": 0.0}


@pytest.fixture(params=["fp32", "bf16"])
def native(request, monkeypatch):
    """The precision that this processor is taken to compute natively."""
    monkeypatch.setattr(hardware, "has_native_bf16", lambda device: request.param == "bf16")
    return request.param


def _key(suite, dataset, **kwargs):
    return plan_panel(suite, "smoke", dataset, "cpu", rows=["TAU"], **kwargs)[0].key


def test_the_key_changes_with_whatever_changes_the_number(suite, dataset, clips_file, native):
    keys = [_key(suite, dataset), _key(suite, dataset, seeds=[1]), _key(suite, dataset, epochs=3)]
    keys.append(_key(suite, dataset, precision="fp32" if native == "bf16" else "bf16"))
    keys.append(_key(suite, dataset, processes=2))
    options = (Row("TAU", TAU, {"alpha": 0.5}, sizes=suite.rows[2].sizes),)
    keys.append(_key(replace(suite, rows=options), dataset))
    keys.append(_key(suite, Arrays(clips_file, past=2)))
    assert len(set(keys)) == len(keys)
    assert _key(suite, dataset) == keys[0]
    assert _key(replace(suite, name="other"), dataset) == keys[0], "a run is shared by suites"


def test_the_key_depends_on_the_precision_and_not_on_the_processor(suite, dataset, monkeypatch):
    keys = {}
    for native in (False, True):
        monkeypatch.setattr(hardware, "has_native_bf16", lambda device, native=native: native)
        for precision in ("auto", "fp32", "bf16"):
            keys[native, precision] = _key(suite, dataset, precision=precision)
    assert keys[False, "fp32"] == keys[True, "fp32"] == keys[False, "auto"]
    assert keys[False, "bf16"] == keys[True, "bf16"] == keys[True, "auto"]


class Kind(Enum):
    SMOOTH = 0.1


class Optioned(LastFrame):
    """A model with options of every kind."""

    def __init__(self, clip, numbers, words, kind, layer, dtype):
        super().__init__(clip)


def test_the_key_is_the_same_on_every_machine(monkeypatch):
    """Python, NumPy, torch and the processor do not count; a change here makes every run anew."""
    monkeypatch.setattr(plan, "PROTOCOL", 0)
    options = {
        "numbers": (1, -0.0, 0.1, 1e-5, 1e22, 2**70, np.float32(0.1), np.int64(3), math.inf),
        "words": {"b": "\ud800é", "a": None, "c": [True]},
        "kind": Kind.SMOOTH,
        "layer": torch.nn.GELU,
        "dtype": torch.float32,
    }
    run = Run(
        suite="does not count",
        panel="nor does this",
        row=Row("A row's label does not count", Optioned, options),
        scale="smoke",
        seed=0,
        training=Training(epochs=1, precision="fp32"),
        dataset=SimpleNamespace(clip=Clip(), digest="0" * 64),
        device="cpu",
        key="",
        paper_clip=Clip(),
        timed=True,
        processes=2,
        code={"optioned": Source("anywhere/at/all.py", "class Optioned: ...\n")},
    )
    key = run_key(run)
    assert key == "8bfabc7870f4"


def test_the_changelog_ends_with_the_protocol_of_this_version():
    text = (Path(__file__).resolve().parent.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    section = text.partition("\n## Protocol versions\n")[2].partition("\n## ")[0]
    versions = [int(number) for number in re.findall(r"^### (\d+)", section, flags=re.M)]
    assert versions == list(range(plan.PROTOCOL, 0, -1)), "newest first"


def test_precision(native):
    assert resolve_precision("fp32", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"
    assert resolve_precision("auto", "cpu") == native
    with pytest.raises(ValueError, match="tf32"):
        resolve_precision("tf32", "cpu")


def test_a_users_suite_is_a_file(tmp_path):
    path = tmp_path / "my_suite.py"
    path.write_text(
        "from baselines import LastFrame\n"
        "from benchmarks import Panel, Row, Suite, Training\n"
        "SUITE = Suite('mine', 'Mine', (Panel(None),), (Row('a', LastFrame),),"
        " {'smoke': Training(1)})\n"
    )
    assert find_suite(str(path)).name == "mine"
    with pytest.raises(FileNotFoundError, match="absent"):
        find_suite(str(tmp_path / "absent.py"))
    (tmp_path / "empty_suite.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="has no SUITE"):
        find_suite(str(tmp_path / "empty_suite.py"))
    with pytest.raises(ValueError, match="did you mean 'ablation'"):
        find_suite("ablaton")


def test_clip_checks_its_sizes():
    with pytest.raises(ValueError, match=r"Clip\.past is 0"):
        Clip(past=0)
    with pytest.raises(ValueError, match="data_range"):
        Clip(data_range=0.0)
    with pytest.raises(ValueError, match="7 frames"):
        Clip(past=3, future=3).split(torch.zeros(1, 7, 1, 4, 4))


def test_sequences_may_be_all_that_the_data_set_has(suite, dataset):
    suite = replace(suite, training={"smoke": Training(epochs=1, sequences=None, batch_size=4)})
    runs = plan_panel(suite, "smoke", dataset, "cpu")
    assert {run.training.sequences for run in runs} == {dataset.train_sequences}
    assert runs[0].training.steps == dataset.train_sequences // 4
    with pytest.raises(ValueError, match="`plan` fills in"):
        _ = suite.training["smoke"].steps


def test_rows_of_a_panel_must_be_rows_of_the_table(suite):
    panel = Panel(MovingMNIST, title="other", rows=(Row("Lost frame", LastFrame),))
    with pytest.raises(ValueError, match="did you mean 'Last frame'"):
        replace(suite, panels=(*suite.panels, panel))


def test_a_panel_has_rows_of_its_own_in_the_places_of_the_suites(suite):
    panel = Panel(MovingMNIST, title="other", rows=(Row("Conv", TAU),))
    suite = replace(suite, panels=(*suite.panels, panel))
    assert [row.model for row in suite.rows_of(panel)] == [LastFrame, TAU, TAU]
    assert suite.rows_of(suite.panels[0]) == list(suite.rows)


def test_panels_have_names_of_their_own(suite):
    with pytest.raises(ValueError, match=r"repeats the panels \['moving-mnist'\]"):
        replace(suite, panels=(Panel(MovingMNIST), Panel(MovingMNIST)))


def test_a_row_may_have_options_called_as_fields_of_a_row():
    class Odd(LastFrame):
        def __init__(self, clip, training=0, note=""):
            super().__init__(clip)

    assert Row("odd", Odd, {"training": 3, "note": "x"}).at("paper") == {"training": 3, "note": "x"}


def test_released_settings_of_every_data_set():
    """Rates, sizes, schedule and epochs as released, one line each in the suites."""
    expected = {
        "taxibj": {"ConvLSTM": 5e-4, "PredRNN": 1e-4, "SimVP": 1e-3, "Ours": 5e-4},
        "kth20": {"ConvLSTM": 1e-3, "PredRNN": 1e-3, "SimVP": 1e-3, "Ours": 1e-3},
        "kth40": {"ConvLSTM": 1e-3, "PredRNN": 1e-3, "SimVP": 1e-3, "Ours": 1e-3},
        "caltech": {"ConvLSTM": 5e-3, "PredRNN": 1e-2, "SimVP": 5e-3, "Ours": 1e-2},
    }
    for name, rates in expected.items():
        suite = find_suite(name)
        for scale in ("standard", "paper"):
            training = suite.training[scale]
            wanted = (50, "cosine") if name == "taxibj" else (100, "onecycle")
            assert (training.epochs, training.schedule, training.batch_size) == (*wanted, 16)
            rows = {row.label: row for row in suite.rows}
            for label, rate in rates.items():
                assert rows[label].training[scale]["lr"] == rate
            assert rows["Ours"].at(scale)["drop_path"] == 0.1
            assert rows["PredRNN"].at(scale)["patch"] == 2
            depth = {"taxibj": (8, 8)}.get(name, (4, 6))
            found = tuple(rows[label].at(scale)["temporal_depth"] for label in ("SimVP", "Ours"))
            assert found == depth
