"""Suites are checked before anything trains, and a key changes with everything that matters."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import baselines.simvp
from baselines import LastFrame
from benchmarks.data import Arrays
from benchmarks.jobs import find_suite
from benchmarks.suite import Row, Suite, Training, plan, resolve_precision, source_digest
from tau import TAU, Clip


def test_a_misspelt_option_names_the_nearest():
    with pytest.raises(ValueError, match=r"row 'w/o DDR': option 'aplha'.*did you mean 'alpha'"):
        Row("w/o DDR", TAU, aplha=0.0)


def test_a_misspelt_option_of_a_scale_is_found_too():
    with pytest.raises(ValueError, match="did you mean 'temporal_depth'"):
        Row("TAU", TAU, sizes={"quick": {"temporal_deph": 4}})


def test_a_misspelt_training_field_is_found():
    with pytest.raises(ValueError, match="did you mean 'rate'"):
        Row("TAU", TAU, training={"quick": {"rat": 1e-3}})


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
        ("rate", 0.0),
        ("weight_decay", -1.0),
        ("clip_norm", 0.0),
        ("optimiser", "sgd"),
        ("schedule", "onecycl"),
        ("precision", "fp16"),
        ("test", 0),
    ],
)
def test_training_refuses(field, value):
    with pytest.raises(ValueError, match=field if field != "sequences" else "no batch"):
        replace(Training(epochs=1), **{field: value})


def test_equal_labels_are_refused():
    with pytest.raises(ValueError, match="two rows labelled 'a'"):
        Suite(
            "s", "S", "moving-mnist", (Row("a", LastFrame), Row("a", TAU)), {"smoke": Training(1)}
        )


def test_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="did you mean 'psnr'"):
        Suite(
            "s",
            "S",
            "moving-mnist",
            (Row("a", LastFrame),),
            {"smoke": Training(1)},
            columns=("psnrr",),
        )


def test_plan_finds_a_size_that_does_not_fit_the_clip(suite: Suite, dataset: Arrays):
    rows = (Row("deep", TAU, spatial_depth=12),)
    with pytest.raises(ValueError, match=r"row 'deep'.*divisible by 64"):
        plan(replace(suite, rows=rows), "smoke", dataset, "cpu")


def test_plan_refuses_a_batch_larger_than_the_training_set(suite: Suite, dataset: Arrays):
    big = {"smoke": Training(epochs=1, sequences=640, batch_size=64)}
    with pytest.raises(ValueError, match="batch of 64"):
        plan(replace(suite, training=big), "smoke", dataset, "cpu")


def test_plan_names_unknown_rows_and_scales(suite: Suite, dataset: Arrays):
    with pytest.raises(ValueError, match="did you mean 'Conv'"):
        plan(suite, "smoke", dataset, "cpu", rows=["Cnv"])
    with pytest.raises(ValueError, match="valid: smoke"):
        plan(suite, "paper", dataset, "cpu")


def test_plan_is_in_table_order_and_covers_the_seeds(suite: Suite, dataset: Arrays):
    runs = plan(suite, "smoke", dataset, "cpu", rows=["TAU", "Conv"], seeds=[0, 1])
    assert [(r.row.label, r.seed) for r in runs] == [
        ("Conv", 0),
        ("Conv", 1),
        ("TAU", 0),
        ("TAU", 1),
    ]
    assert len({r.key for r in runs}) == 4


def test_options_of_the_row_win_over_those_of_its_size():
    row = Row("TAU", TAU, alpha=0.0, sizes={"smoke": {"alpha": 3.0, "mlp_ratio": 2}})
    assert row.at("smoke") == {"alpha": 0.0, "mlp_ratio": 2}
    assert row.at("paper") == {"alpha": 0.0}


def _key(suite, dataset, **kwargs):
    return plan(suite, "smoke", dataset, "cpu", rows=["TAU"], **kwargs)[0].key


def test_the_key_changes_with_whatever_changes_the_number(suite, dataset, clips_file):
    keys = [_key(suite, dataset), _key(suite, dataset, seeds=[1]), _key(suite, dataset, epochs=3)]
    keys.append(_key(suite, dataset, precision="bf16"))
    options = (Row("TAU", TAU, alpha=0.5, sizes=suite.rows[2].sizes),)
    keys.append(_key(replace(suite, rows=options), dataset))
    keys.append(_key(suite, Arrays(clips_file, past=2)))
    assert len(set(keys)) == len(keys)
    assert _key(suite, dataset) == keys[0]
    assert _key(replace(suite, name="other"), dataset) == keys[0], "a run is shared by suites"


def test_source_digest_sees_code_but_not_words(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = '''
"""Doc."""
from tau import Predictor

class Mine(Predictor):
    """Doc."""

    def forward(self, past, horizon):
        return past[:, -1:].expand(-1, horizon, -1, -1, -1)
'''
    digests = []
    for name, content in {
        "mine_a": text,
        "mine_b": text.replace("Doc.", "Other words.") + "# a remark\n",
        "mine_c": text.replace("past[:, -1:]", "past[:, :1]"),
    }.items():
        (tmp_path / f"{name}.py").write_text(content)
        digests.append(source_digest(__import__(name).Mine))
    assert digests[0] == digests[1] != digests[2]


def test_source_digest_follows_what_a_model_is_made_of(monkeypatch):
    before = source_digest(TAU)
    import benchmarks.suite as module

    real = Path.read_text
    seen = []
    monkeypatch.setattr(
        module.Path, "read_text", lambda path, **kw: seen.append(path.name) or real(path, **kw)
    )
    assert source_digest(TAU) == before
    assert {"model.py", "attention.py", "spatial.py", "loss.py", "predictor.py"} <= set(seen)
    assert "simvp.py" not in seen


def test_source_digest_does_not_follow_what_others_put_into_a_module(monkeypatch):
    """As torch.compile does; else a key would depend on what the process did before."""
    before = source_digest(TAU)
    for name in ("tau.model", "tau.spatial"):
        monkeypatch.setattr(
            sys.modules[name], "__import_baselines_dot_simvp", baselines.simvp, raising=False
        )
    assert source_digest(TAU) == before


def test_precision():
    assert resolve_precision("fp32", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"
    assert resolve_precision("auto", "cpu") in {"fp32", "bf16"}
    with pytest.raises(ValueError, match="tf32"):
        resolve_precision("tf32", "cpu")


def test_a_users_suite_is_a_file(tmp_path):
    path = tmp_path / "my_suite.py"
    path.write_text(
        "from baselines import LastFrame\n"
        "from benchmarks.suite import Row, Suite, Training\n"
        "SUITE = Suite('mine', 'Mine', 'moving-mnist', (Row('a', LastFrame),),"
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
    runs = plan(suite, "smoke", dataset, "cpu")
    assert {run.training.sequences for run in runs} == {dataset.train_sequences}
    assert runs[0].training.steps == dataset.train_sequences // 4
    with pytest.raises(ValueError, match="`plan` fills in"):
        _ = suite.training["smoke"].steps


def test_rows_beside_must_be_rows_of_the_table(suite):
    other = replace(suite, name="other", rows=(Row("Lost frame", LastFrame),))
    with pytest.raises(ValueError, match="did you mean 'Last frame'"):
        replace(suite, beside=other)


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
                assert rows[label].training[scale]["rate"] == rate
            assert rows["Ours"].at(scale)["drop_path"] == 0.1
            assert rows["PredRNN"].at(scale)["patch"] == 2
            depth = {"taxibj": (8, 8)}.get(name, (4, 6))
            found = tuple(rows[label].at(scale)["temporal_depth"] for label in ("SimVP", "Ours"))
            assert found == depth
