"""A part of a plan, for jobs of a cluster that share nothing but a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.experiment.plan import Run
from benchmarks.experiment.schedule import call_on_cpu
from benchmarks.experiment.trial import Trial, count


def parse_shard(text: str) -> tuple[int, int]:
    """Which part of how many "K/N" is; raises ValueError for anything else, and for K above N."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    number, parts = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= parts:
        raise ValueError(f"--shard is {text!r}; expected K/N with K from 1 to N, such as 1/4")
    return number, parts


def shard(runs: Sequence[Run], number: int, parts: int) -> list[Run]:
    """Part `number`, from 1, of `parts` of a plan; the parts have no run in common.

    Each job works out all parts, by the training's multiply-adds: the longest run goes first, each
    to the part with the least so far. Raises ValueError if there are fewer runs than parts.
    """
    distinct = {run.folder: run for run in runs}  # two panels may ask for the same training
    if parts > len(distinct):
        raise ValueError(
            f"--shard {number}/{parts} makes more parts than the plan has runs, {len(distinct)}; "
            f"expected at most N = {len(distinct)}"
        )
    loads: list[tuple[float, int, list[str]]] = [(0.0, part, []) for part in range(parts)]
    costs = _costs(list(distinct.values()))
    for folder in sorted(costs, key=lambda folder: (-costs[folder], folder)):
        load, part, folders = min(loads)
        loads[part] = (load + costs[folder], part, [*folders, folder])
    mine = set(loads[number - 1][2])
    return [run for run in runs if run.folder in mine]


def _costs(runs: Sequence[Run]) -> dict[str, float]:
    """Multiply-adds of each run's training, by folder; 1 where they are unknown or it has none."""
    macs = {
        folder: outcome.training_macs if isinstance(outcome, Trial) else None
        for folder, outcome in call_on_cpu(runs, count).items()
    }
    return {folder: float(max(1, number or 1)) for folder, number in macs.items()}
