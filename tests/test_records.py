"""A table's record stays as it is, whatever is rebuilt from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.report import records
from benchmarks.run import main
from benchmarks.suites import find_suite

RECORD = Path(__file__).parents[1] / "results" / "records" / "hour-quick-25-minutes.json"
WITH_RMSE = """
from dataclasses import replace

from benchmarks.further_metrics import find_metric
from benchmarks.suites.hour import SUITE as HOUR

(panel,) = HOUR.panels
SUITE = replace(HOUR, panels=(replace(panel, columns=(*panel.columns, find_metric("rmse"))),))
"""


@pytest.fixture
def copy(tmp_path):
    """The record in an output folder of its own."""
    path = tmp_path / "out" / "records" / RECORD.name
    path.parent.mkdir(parents=True)
    shutil.copy(RECORD, path)
    return path


def rebuild(path, *more):
    return main(["--report", str(path), "--out", str(path.parents[1]), "--no-figures", *more])


def test_a_record_is_not_changed_by_what_is_rebuilt_from_it(copy, capsys):
    before = copy.read_bytes()
    assert rebuild(copy) == 0
    assert rebuild(copy, "--suite", "mmnist") == 2
    assert "is not a row of 'mmnist'" in capsys.readouterr().err
    assert copy.read_bytes() == before


def test_a_column_that_a_record_lacks_is_left_out_and_named(copy, tmp_path, capsys):
    assert rebuild(copy) == 0
    before = {path.name: path.read_bytes() for path in copy.parents[1].glob("*/*")}
    (tmp_path / "with_rmse_too.py").write_text(WITH_RMSE)
    assert rebuild(copy, "--suite", str(tmp_path / "with_rmse_too.py")) == 0
    assert f"{copy} has no rmse on Moving MNIST: left out" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in copy.parents[1].glob("*/*")} == before


def test_a_record_of_another_table_is_not_replaced(copy, tmp_path, capsys):
    before = copy.read_bytes()
    other = tmp_path / copy.name
    shutil.copy(RECORD.with_name("hour-quick.json"), other)
    assert main(["--report", str(other), "--out", str(copy.parents[1])]) == 2
    assert f"{copy} is the record of another table" in capsys.readouterr().err
    assert copy.read_bytes() == before and not (copy.parents[1] / "tables").exists()


def test_runs_with_unequal_columns_are_refused_by_name(copy):
    _, _, runs = records.read(copy)
    *_, ours = runs["Moving MNIST"]
    told = json.loads(json.dumps(ours.record))
    del told["report"]["sequence_means"]["ssim"]
    runs["Moving MNIST"][-1] = records.RecordedRun(ours.folder, told)
    with pytest.raises(ValueError, match="those of Ours lack ssim, which others have"):
        records.with_columns(find_suite("hour"), runs)
