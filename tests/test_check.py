"""The regression check notices what it is there for: a wrong sign, a broken window, a swap."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import broken_window

import tau.model
from benchmarks import metrics
from benchmarks.data import open_dataset
from benchmarks.experiment.execute import execute
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.store import StoredRun
from benchmarks.report.regression import (
    check,
    make_reference,
    other_version,
    precision_of,
    verdict,
)
from benchmarks.suites.smoke import SUITE
from tau.loss import differential_divergence

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference" / "smoke.json"


@pytest.fixture(scope="module")
def data():
    return open_dataset("moving-mnist", None, **SUITE.panels[0].dataset_options["smoke"])


def _faults(rows: list[str], data, tmp_path: Path) -> list[str]:
    runs = plan_panel(SUITE, "smoke", data, "cpu", rows=rows, precision="fp32")
    stored = [execute(run, tmp_path) for run in runs]
    return [fault for fault in check(stored, REFERENCE) if "no run" not in fault]


def test_the_untouched_persistence_baseline_passes(data, tmp_path):
    assert _faults(["Last frame"], data, tmp_path) == []


def test_another_version_of_torch_is_told(reference):
    runs = _with_others(_stored("a", mse=17.0))
    assert other_version(runs, reference) == ""
    runs[0].record["versions"]["torch"] = "2.6.0"
    assert "was made with torch None, and these runs with 2.6.0" in other_version(runs, reference)


@pytest.mark.slow
def test_a_wrong_sign_in_the_divergence_fails(data, tmp_path, monkeypatch):
    def wrong(pred, true, temperature):
        return -differential_divergence(pred, true, temperature)

    monkeypatch.setattr(tau.model, "differential_divergence", wrong)
    faults = _faults(["Ours"], data, tmp_path)
    assert any(fault.startswith("Ours: ") for fault in faults), faults


def test_a_broken_ssim_window_fails(data, tmp_path, monkeypatch):
    assert _faults(["Last frame"], data, tmp_path / "right") == []
    monkeypatch.setattr(metrics, "_window_sums", broken_window)
    faults = _faults(["Last frame"], data, tmp_path / "wrong")
    assert {fault.split()[2] for fault in faults} >= {"ssim", "ssim_range2", "ssim_uint8"}
    assert not any(" mse is" in fault for fault in faults)


def _stored(row: str, seed: int = 0, steps: int = 7, **means: float) -> StoredRun:
    every = dict.fromkeys(metrics.METRICS, 1.0) | means
    record = {
        "row": row,
        "status": "done",
        "seed": seed,
        "steps": steps,
        "scale": "smoke",
        "precision": "fp32",
        "data": {"digest": "d"},
        "means": every,
        "device": {"type": "cpu", "threads": 1},
        "versions": {},
        "commit": None,
    }
    return StoredRun(Path(), record)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    runs = [_stored("a", mse=mse) for mse in (10.9, 11.1)]
    runs += [_stored("b", mse=mse) for mse in (20.9, 21.1)]
    runs += [_stored("floor", steps=0, mse=30.0)] * 2
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(make_reference(runs, [("mse", "a", "b")])))
    return path


def test_tolerances_come_from_thread_counts_and_rounding(reference):
    content = json.loads(reference.read_text())
    assert content["rows"]["a"]["mse"]["value"] == pytest.approx(11.0)
    assert content["rows"]["a"]["mse"]["tolerance"] == pytest.approx(20 * 0.2)
    assert content["rows"]["a"]["mae"]["tolerance"] == pytest.approx(0.01)
    assert content["rows"]["floor"]["mse"]["tolerance"] == pytest.approx(30e-5)
    assert content["made"]["seed"] == 0


def _with_others(*runs: StoredRun) -> list[StoredRun]:
    """The runs, and those of the reference that they leave out, as they were."""
    others = {"a": 11.0, "b": 21.0, "floor": 30.0}
    for run in runs:
        others.pop(run.record["row"], None)
    return [*runs, *(_stored(row, mse=mse) for row, mse in others.items())]


def test_faults_name_row_metric_value_expected_and_tolerance(reference):
    assert check(_with_others(_stored("a", mse=12.0)), reference) == []
    (fault,) = check(_with_others(_stored("a", mse=17.0)), reference)
    assert fault == "a: mse is 17, expected 11 ± 4"
    (fault,) = check(_with_others(_stored("floor", steps=0, mse=30.1)), reference)
    assert fault.startswith("floor: mse is 30.1")


def test_other_seeds_are_not_compared(reference):
    runs = _with_others(_stored("a", mse=11.0))
    assert check([*runs, _stored("a", seed=1, mse=99.0)], reference) == []
    (fault,) = check([*runs[1:], _stored("a", seed=1, mse=11.0)], reference)
    assert fault == "a: no run of seed 0; expected one, as in reference.json"


@pytest.mark.parametrize("value", ["NaN", "Infinity"])  # as JSON stores them
def test_a_value_that_is_not_a_number_is_a_fault(reference, value):
    broken = _stored("a", mse=11.0)
    broken.record["means"]["mae"] = value
    (fault,) = check(_with_others(broken), reference)
    assert fault == f"a: mae is {float(value)}, expected 1 ± 0.01"


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", "{", '{"scale": "smoke"}'),
        *({"made": {}}, {"made": None}, {"rows": []}, {"rows": {"a": {"colour": {}}}}),
        *({"rows": {"a": {"mse": {"value": "x", "tolerance": 1}}}}, {"orderings": [["mse", "a"]]}),
    ],
)
def test_a_damaged_reference_is_named(reference, content):
    if isinstance(content, dict):
        content = json.dumps(json.loads(reference.read_text()) | content)
    reference.write_text(content)
    with pytest.raises(ValueError, match=r"reference\.json is not .*--update writes it again"):
        check(_with_others(), reference)


def test_another_precision_is_refused(reference):
    run = _stored("a", mse=11.0)
    run.record["precision"] = "bf16"
    with pytest.raises(ValueError, match="precision fp32, and row 'a' has bf16"):
        check(_with_others(run), reference)
    assert precision_of(reference) == "fp32"


def test_another_kind_of_device_is_refused(reference):
    run = _stored("a", mse=11.0)
    run.record["device"] = {"type": "cuda", "threads": 1}
    with pytest.raises(
        ValueError, match="made on cpu, and row 'a' runs on cuda: give --device cpu"
    ):
        check(_with_others(run), reference)


def test_a_broken_ordering_is_a_fault(reference):
    content = json.loads(reference.read_text())
    content["rows"]["a"]["mse"]["tolerance"] = 100.0
    reference.write_text(json.dumps(content))
    (fault,) = check(_with_others(_stored("a", mse=22.0)), reference)
    assert fault.startswith("a: mse 22 is not better than b's 21")


def test_missing_failed_and_unknown_rows_are_faults(reference):
    failed = StoredRun(Path(), {**_stored("b").record, "status": "failed", "reason": "boom"})
    faults = check([failed, _stored("floor", mse=30.0), _stored("c")], reference)
    assert [f.partition(":")[0] for f in faults] == ["a", "b", "c"]
    assert "no run" in faults[0] and "boom" in faults[1] and "--update" in faults[2]


def test_other_data_or_scale_is_refused(reference):
    other = _stored("a")
    other.record["data"] = {"digest": "synthetic"}
    with pytest.raises(ValueError, match="made with data d"):
        check([other], reference)


def test_a_reference_refuses_what_does_not_hold():
    runs = [_stored("a", mse=mse) for mse in (10.0, 11.0)]
    with pytest.raises(ValueError, match="not better"):
        make_reference([*runs, *[_stored("b", mse=10.5)] * 2], [("mse", "a", "b")])
    with pytest.raises(ValueError, match="several thread counts"):
        make_reference(runs[:1], [])
    with pytest.raises(ValueError, match=r"one seed, not \[0, 1\]; leave --seeds out"):
        make_reference([*runs, _stored("a", seed=1)], [])
    with pytest.raises(ValueError, match="failed: x"):
        make_reference(
            [StoredRun(Path(), {**runs[0].record, "status": "failed", "reason": "x"})], []
        )
    with pytest.raises(ValueError, match="ordering: row"):
        make_reference(runs, [("mse", "a", "z")])


def test_a_fault_names_its_data_set_where_there_are_several():
    runs = [_stored("a", mse=1.0), _stored("a", mse=float("nan"))]
    runs[0].record.update(status="failed", reason="no luck", data={"digest": "d", "name": "KTH"})
    runs[1].record["data"] = {"digest": "e", "name": "TaxiBJ"}
    assert verdict(runs[:1], None) == ("FAILED a, seed 0: no luck\n", 1)
    said, status = verdict(runs, None)
    assert said.startswith(
        "FAILED a on KTH, seed 0: no luck\nNOT A NUMBER a on TaxiBJ, seed 0: mse"
    )
    assert status == 1
