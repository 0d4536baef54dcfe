"""What --dry-run prints: runs, keys, sizes, costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.experiment.plan import Run
from benchmarks.experiment.schedule import look_up, pool_for_trials, try_all
from benchmarks.experiment.spec import Suite
from benchmarks.experiment.store import CHECKPOINT
from benchmarks.experiment.trial import Trial, count, try_run

LAYOUT = "{:<16} {:>4} {:<12} {:<10} {:>8} {:>9} {:>6} {:>12} {:>9}"
HEADS = ("row", "seed", "key", "state", "params", "GMACs", "epochs", "train TMACs", "precision")


def describe_plan(suite: Suite, runs: Sequence[Run], folder: Path) -> str:
    """The plan as text; each row is tried at a small scale, else counted.

    Raises ValueError for a row that cannot work.
    """
    small = runs[0].is_small
    with pool_for_trials(runs[0].device if small else "cpu") as pool:
        trials = try_all(runs, pool, try_run if small else count)
    sizes: dict[str, Trial] = {}
    for run in runs:
        trial = trials[run.folder]
        if not isinstance(trial, Trial):
            raise ValueError(f"row {run.row.label!r}: {trial.reason}")
        sizes[run.folder] = trial
    return "\n".join(_lines(suite, runs, sizes, folder, small))


def _lines(
    suite: Suite, runs: Sequence[Run], sizes: dict[str, Trial], folder: Path, small: bool
) -> Iterator[str]:
    yield suite.title
    for panel in suite.panels:
        of_panel = [run for run in runs if run.panel == panel.name]
        if not of_panel:
            continue
        clip = of_panel[0].clip
        yield of_panel[0].dataset.caption
        yield f"past frames: {clip.past}; future frames, to predict: {clip.future}"
        yield f"columns: {', '.join(column.name for column in panel.columns)}"
        yield LAYOUT.format(*HEADS)
        yield from (_line(run, sizes[run.folder], folder) for run in of_panel)
        if small:
            yield f"at the paper's size on {panel.name}:"
            for label, cost in {r.row.label: sizes[r.folder].paper for r in of_panel}.items():
                parameters, macs = cost["paper_parameters"], cost["paper_macs"]
                if parameters is None or macs is None:
                    yield f"  {label:<16} is not made for its frames"
                else:
                    yield f"  {label:<16} {parameters / 1e6:8.2f}M {macs / 1e9:9.3f} GMACs"
    yield f"{len(runs)} run{'s' * (len(runs) > 1)}, {_cost(runs, sizes)}; runs go to {folder}"


def _cost(runs: Sequence[Run], sizes: dict[str, Trial]) -> str:
    minutes = [run.training.minutes for run in runs if sizes[run.folder].parameters]
    if any(minutes):
        return f"{sum(filter(None, minutes)):g} minutes of training in all, one after the other"
    total = sum(size.training_macs or 0 for size in sizes.values())
    return f"{total / 1e12:.1f} TMACs of training"


def _line(run: Run, size: Trial, folder: Path) -> str:
    return LAYOUT.format(
        run.row.label[:16],
        run.seed,
        run.key,
        _state(run, folder),
        f"{size.parameters / 1e6:.2f}M",
        f"{size.macs / 1e9:.3f}",
        run.training.epochs or f"{run.training.minutes:g} m",
        "?" if size.training_macs is None else f"{size.training_macs / 1e12:.1f}",
        run.training.precision,
    )


def _state(run: Run, folder: Path) -> str:
    """What there is of a run: a result, a checkpoint, or nothing."""
    stored = look_up(run, folder)
    if stored is not None:
        return str(stored.record["status"])
    return "checkpoint" if (folder / run.folder / CHECKPOINT).exists() else "new"
