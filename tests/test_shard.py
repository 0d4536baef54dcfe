"""Parts of a plan: together they are the plan, and each says what it has done."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from benchmarks.experiment import shard as sharding
from benchmarks.experiment.shard import parse_shard, shard
from benchmarks.experiment.trial import Trial
from benchmarks.run import main

COSTS = {"Last frame": 0, "ConvLSTM": 5, "SimVP": 3, "Ours": 4}
COMMAND = ("--suite", "ablation", "--scale", "smoke", "--device", "cpu", "--rows", *COSTS)


@pytest.fixture
def runs(monkeypatch):
    """A plan of four rows with two seeds, whose costs are COSTS."""
    from benchmarks.experiment.plan import Options, adapt, plan
    from benchmarks.suites import ablation

    def costs(runs, call):
        return {run.folder: Trial(1, 1, COSTS[run.row.label], {}) for run in runs}

    monkeypatch.setattr(sharding, "call_on_cpu", costs)
    options = Options("ablation", scale="smoke", device="cpu", rows=list(COSTS), seeds=2)
    return plan(adapt(ablation.SUITE, options), options)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_parts_are_the_whole_plan_and_nothing_twice(runs, parts):
    found = [shard(runs, number, parts) for number in range(1, parts + 1)]
    folders = Counter(run.folder for of in found for run in of)
    assert folders == Counter(run.folder for run in runs)
    assert all(found)
    for of in found:
        assert [run for run in runs if run in of] == of  # in the plan's order


def test_parts_are_balanced_by_cost(runs):
    loads = [sum(COSTS[run.row.label] for run in shard(runs, k, 2)) for k in (1, 2)]
    assert loads == [12, 12]
    loads = [sum(COSTS[run.row.label] for run in shard(runs, k, 4)) for k in (1, 2, 3, 4)]
    assert max(loads) <= 7  # of 24 in all, longest first


def test_more_parts_than_runs_are_refused(runs):
    with pytest.raises(ValueError, match=r"--shard 1/9 makes more parts .* at most N = 8"):
        shard(runs, 1, 9)


@pytest.mark.parametrize(
    "text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.5/2", "²/3"]
)
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(f"--shard is {text!r}; expected K/N")):
        parse_shard(text)


def test_options_of_the_table_are_refused(capsys):
    assert main([*COMMAND, "--shard", "1/2", "--report"]) == 2
    assert "--report has no effect on --shard, which writes no table" in capsys.readouterr().err


def test_parts_are_trained_apart_and_their_table_is_put_together(tmp_path, capsys):
    few = (*COMMAND[:7], "Last frame", "--seeds", "2", "--no-figures", "--out", str(tmp_path))
    for number in (1, 2):
        assert main([*few, "--shard", f"{number}/2"]) == 0
        told = capsys.readouterr()
        assert f"shard {number}/2: 1 of 1 runs done" in told.out
        assert len(re.findall("starts", told.err)) == 1
        assert not (tmp_path / "tables").exists()
    assert main([*few, "--report"]) == 0
    assert "seeds (0, 1)" in capsys.readouterr().out
