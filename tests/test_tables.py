import math
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from baselines import LastFrame
from benchmarks.data import MovingMNIST
from benchmarks.experiment.spec import (
    DatasetEntry,
    DatasetTable,
    Panel,
    PublishedTable,
    Row,
    Suite,
    Training,
)
from benchmarks.experiment.store import StoredRun
from benchmarks.metrics import (
    EPOCHS_TO_TARGET,
    MAE,
    MINUTES_TO_TARGET,
    MSE,
    PEAK_MEMORY,
    PSNR,
    SECONDS_PER_EPOCH,
    SSIM,
    TRAINING_SPEED,
    Column,
)
from benchmarks.report import scores
from benchmarks.report import table as tables
from benchmarks.report.datasets import list_datasets
from benchmarks.report.latex import escape_latex, latex, latex_notes
from benchmarks.report.markdown import escape_markdown, markdown
from benchmarks.report.table import check_published
from benchmarks.suites import find_suite, suite_names
from tau import Clip

SEQUENCES, FRAMES = 60, 4
HARD = np.random.default_rng(0).lognormal(0, 0.4, SEQUENCES)


@dataclass(frozen=True)
class Run(StoredRun):
    """A stored run that lives in memory."""

    stored: dict[str, np.ndarray] = field(default_factory=dict)

    def scores(self) -> dict[str, np.ndarray]:
        return self.stored


def make(label: str, seed: int = 0, level: float = 50.0, **changes: Any) -> Run:
    rng = np.random.default_rng([seed, *map(ord, label)])
    mse = level * HARD[:, None] * np.linspace(0.5, 1.5, FRAMES) * rng.normal(1, 0.02, (60, 4))
    scores = {"mse": mse, "mae": 2 * mse, "ssim": 1 - mse / 999, "psnr": 30 - np.log(mse)}
    trained = changes.pop("trained", True)
    size = {"parameters": 910_000, "macs": 600_000_000} if trained else {"parameters": 0, "macs": 0}
    paper = {"paper_parameters": 44_656_001, "paper_macs": 15_952_646_000}
    record = {
        "status": "done",
        "protocol": 2,
        "row": label,
        "seed": seed,
        "key": f"{label}{seed}",
        "scale": "quick",
        "training": {
            "epochs": 8,
            "sequences": 1000,
            "batch_size": 16,
            "optimiser": "adam",
            "lr": 1e-3,
            "schedule": "onecycle",
        },
        "clip": {"past": 10, "future": FRAMES, "channels": 1, "height": 64, "width": 64},
        "data": {"caption": "Moving MNIST & 100% real digits", "digest": "0f" * 32},
        "test_sequences": SEQUENCES,
        "versions": {"torch": "2.13.0"},
        "device": {"type": "cpu", "name": "Some CPU", "threads": 2},
        "precision": "fp32",
        "processes": 1,
        "value_range": [0.0, 1.0],
        "steps": 500 if trained else 0,
        "seconds": {"train": 90.0 if trained else 0.0},
        "commit": "c0ffee",
        "dirty": False,
        "means": {name: float(values.mean()) for name, values in scores.items()},
        "cost": size | (paper if trained else {f"paper_{name}": 0 for name in size}),
    }
    return Run(Path(f"{label}-{seed}"), record | changes, scores)


def fail(label: str, seed: int = 0, reason: str = "RuntimeError: out of memory", **of: Any) -> Run:
    record = make(label, seed).record
    measured = ("means", "cost", "steps", "seconds", "test_sequences")
    kept = {key: record[key] for key in record if key not in measured}
    return Run(Path(f"{label}-{seed}"), kept | {"status": "failed", "reason": reason} | of)


def line(label: str, published: str | None = None, note: str = "") -> Row:
    return Row(label, LastFrame, published=published, note=note)


def with_columns(suite: Suite, *columns: Column) -> Suite:
    return replace(suite, panels=(replace(suite.panels[0], columns=columns),))


def measure(runs: list[Run], suite: Suite) -> pd.DataFrame:
    return scores.measure(suite, suite.panels[0], runs)


def with_notes(table: tables.Table) -> str:
    return latex(table) + latex_notes(table)


def said(table: tables.Table) -> str:
    return " ".join((table.caption, *table.statements))


def build(runs: list[Run], suite: Suite, *others: list[Run]) -> tables.Table:
    """The table of runs on the suite's first data set, and of others on the next ones."""
    found = [runs, *others, *([] for _ in suite.panels[1 + len(others) :])]
    return tables.build(suite, suite.name, list(zip(suite.panels, found, strict=True)))


SPEC = Suite(
    name="ablation",
    title="Ablation_1 (Table 6)",
    panels=(Panel(MovingMNIST, (MSE, SSIM), title="Moving MNIST"),),
    rows=(
        line("Last frame", None, "the persistence baseline"),
        line("SimVP", "SimVP"),
        line("Ours w/o DDR", "TAU w/o DDR"),
        line("Ours", "TAU"),
        line("MIM", "MIM"),
    ),
    training={"quick": Training(1)},
    published="Table 6",
    published_columns=(
        ("MSE", "Moving MNIST"),
        ("FLOPs_G", "Moving MNIST"),
        ("MSEx100", "TaxiBJ"),
    ),
    notes=("Validation is not the test set",),
)
RUNS = [
    make("Last frame", level=200, trained=False),
    *(make("SimVP", seed, level=80) for seed in (0, 1, 2)),
    *(make("Ours w/o DDR", seed) for seed in (0, 1, 2)),
    *(make("Ours", seed) for seed in (0, 1, 2)),
]


def cells(text: str, label: str) -> list[str]:
    """Cells of a Markdown row, by its label."""
    (row,) = [
        line for line in text.splitlines() if re.match(rf"\| {re.escape(label)}( \||<)", line)
    ]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[2:-1]]


def test_rows_that_a_panel_leaves_out_are_named_with_the_reason() -> None:
    panel = replace(SPEC.panels[0], left_out={"quick": {"SimVP": "it is slow", "Nobody": "no row"}})
    suite = replace(SPEC, panels=(panel,))
    ours, simvp = make("Ours"), make("SimVP", level=70)
    told = "Left out at scale quick: SimVP, as it is slow."
    others = [make(row.label) for row in SPEC.rows if row.label not in ("SimVP", "Ours")]
    assert told in build([ours, *others], suite).statements
    assert told not in build([ours], suite).statements  # the user chose the rows
    assert not any("Left out" in text for text in build([ours, simvp], suite).statements)
    assert not any("Left out" in text for text in build([ours], SPEC).statements)


def test_measure_gives_mean_and_sample_deviation() -> None:
    frame = measure(RUNS, SPEC)
    means = [run.record["means"]["mse"] for run in RUNS if run.record["row"] == "Ours"]
    assert list(frame.index) == ["Last frame", "SimVP", "Ours w/o DDR", "Ours"]
    assert frame.at["Ours", "mse"] == pytest.approx(np.mean(means))
    assert frame.at["Ours", "mse_std"] == pytest.approx(np.std(means, ddof=1))
    assert np.isnan(frame.at["Last frame", "mse_std"])
    assert frame.at["Ours", "seeds"] == [0, 1, 2]


def test_bold_marks_the_best_and_what_cannot_be_told_from_it() -> None:
    frame = measure(RUNS, SPEC)
    assert list(frame["mse_best"]) == [False, False, True, True]
    assert list(frame["ssim_best"]) == [False, False, True, True]
    text = markdown(build(RUNS, SPEC))
    assert cells(text, "Ours w/o DDR")[0].startswith("**")
    assert not cells(text, "SimVP")[0].startswith("**")


def test_markdown_row_holds_measured_cost_and_published_apart() -> None:
    text = markdown(build(RUNS, SPEC))
    heads = text.splitlines()[2].split("|")[2:-1]
    assert [head.strip() for head in heads] == [
        *("MSE ↓", "SSIM ↑", "Params (M), paper size", "FLOPs (G), paper size"),
        *("Params (M), run size", "FLOPs (G), run size"),
        *("MSE ↓, published, Moving MNIST", "FLOPs (G), published, Moving MNIST"),
        "MSE ↓ (×100), published, TaxiBJ",
    ]
    row = cells(text, "SimVP")
    frame = measure(RUNS, SPEC)
    assert row[0] == f"{frame.at['SimVP', 'mse']:.2f} ± {frame.at['SimVP', 'mse_std']:.2f}"
    assert row[2:] == ["44.66", "15.95", "0.91", "0.60", "23.8", "19.43", "41.4"]


def test_one_seed_shows_the_mean_alone() -> None:
    table = build([make("Ours"), make("SimVP", level=80)], SPEC)
    assert not any(cell.spread for line in table.lines for cell in line.cells)
    assert "One run per row (seed 0)" in said(table)
    assert "±" not in markdown(table)


def test_run_size_is_left_out_where_it_is_the_papers() -> None:
    run = make("Ours")
    cost = run.record["cost"]
    cost |= {name: cost[f"paper_{name}"] for name in ("parameters", "macs")}
    groups = {head.group for head in build([run], SPEC).heads}
    assert groups == {"measured", "paper size", "published"}


def test_failed_row_says_so_and_why() -> None:
    table = build([*RUNS[:-3], fail("Ours", 0, "ValueError: 50% |bad|\nmore")], SPEC)
    assert dict(table.notes)["b"] == "failed: seed 0 (ValueError: 50% |bad| more)."
    text = markdown(table)
    assert cells(text, "Ours<sup>b</sup>")[:3] == ["failed", "failed", "–"]
    assert r"Ours\textsuperscript{b} & \multicolumn{1}{c}{failed} & " in latex(table)


def test_a_failed_seed_leaves_the_mean_of_the_others() -> None:
    table = build([*RUNS[:-1], fail("Ours", 2)], SPEC)
    assert "the mean is over the other seeds" in dict(table.notes)["b"]
    assert "0, 1, 2 for SimVP, Ours w/o DDR; 0, 1 for Ours" in said(table)


def test_a_damaged_or_missing_run_is_shown_as_such_and_names_the_file() -> None:
    reason = "/a/long/way/results/runs/ours-0/scores.npz is damaged or was changed"
    damaged = fail("Ours", 0, reason, status="unusable")
    damaged = replace(damaged, folder=Path("/a/long/way/results/runs/ours-0"))
    runs = [*RUNS[:-3], damaged, fail("Ours", 1), fail("Ours", 2, "", status=tables.NOT_RUN)]
    table = build(runs, SPEC)
    assert dict(table.notes)["b"] == (
        "failed: seed 1 (RuntimeError: out of memory); not run: seed 2; "
        "unusable: seed 0 (ours-0/scores.npz is damaged or was changed)."
    )
    assert cells(markdown(table), "Ours<sup>b</sup>")[0] == "unusable"
    assert build(RUNS[:-3], SPEC).lines[2].cells == table.lines[2].cells
    check_structure(with_notes(table))


def test_only_failures_still_make_a_table() -> None:
    table = build([fail("Ours"), fail("SimVP")], SPEC)
    assert "No run has finished." in said(table)
    assert cells(markdown(table), "SimVP<sup>a</sup>")[:2] == ["failed", "failed"]
    check_structure(with_notes(table))


def test_frozen_weights_are_shown_as_not_trained() -> None:
    frozen = make("Ours", steps=0)
    table = build([frozen, make("SimVP"), make("Last frame", trained=False)], SPEC)
    noted = {line.label: dict(table.notes)[line.marks[0]] for line in table.lines if line.marks}
    assert noted["Ours"] == "not trained, as none of its parameters is trainable."
    assert noted["Last frame"] == "the persistence baseline."
    assert "SimVP" not in noted


def test_more_notes_than_letters() -> None:
    labels = [f"row {i}" for i in range(30)]
    rows = tuple(line(label, note=f"note {label}") for label in labels)
    spec = replace(SPEC, rows=rows, published=None, published_columns=())
    table = build([make(label) for label in labels], spec)
    marks = [line.marks[0] for line in table.lines]
    assert (marks[0], marks[25], *marks[26:]) == ("a", "z", "aa", "ab", "ac", "ad")
    assert [dict(table.notes)[mark] for mark in marks] == [f"note {label}." for label in labels]


def test_published_rows_have_dashes_and_a_mark() -> None:
    text = markdown(build(RUNS, SPEC))
    assert cells(text, "MIM<sup>†</sup>") == ["–"] * 6 + ["44.2", "179.17", "42.9"]
    assert "not measured here" in text


def test_rows_with_nothing_to_show_are_left_out() -> None:
    labels = [line.label for line in build(RUNS[1:], SPEC).lines]
    assert labels == ["SimVP", "Ours w/o DDR", "Ours", "MIM"]


def test_uncertain_published_values_are_marked() -> None:
    columns = (("MAE", "Moving MNIST"),)
    rows = (line("Ours", "TAU"), line("VPN", "VPN"))
    spec = replace(SPEC, rows=rows, published="Table 2", published_columns=columns)
    text = markdown(build([make("Ours")], spec))
    assert cells(text, "Ours")[-1] == "60.3<sup>‡</sup>"
    assert cells(text, "VPN")[-1] == "–"
    assert "- <sup>‡</sup> published, but" in text


ZOO_TABLE = PublishedTable(
    "OpenSTL_model_zoo",
    "MMNIST STL",
    "zoo, 200",
    (("MSE", "Moving MNIST", "10->10", 200), ("FLOPs_G", "Moving MNIST", "10->10", 200)),
    {"Last frame": "MAU", "Ours": "TAU"},
)


def test_another_sources_numbers_stand_behind_the_papers() -> None:
    spec = replace(SPEC, published_elsewhere=(ZOO_TABLE,))
    table = build([make("Ours"), make("SimVP", level=80)], spec)
    assert [(head.heading, head.part) for head in table.heads if head.group == "published"] == [
        *(("MSE ↓", "Moving MNIST"), ("FLOPs", "Moving MNIST"), ("MSE ↓", "TaxiBJ")),
        *(("MSE ↓", "zoo, 200"), ("FLOPs", "zoo, 200")),
    ]
    text = markdown(table)
    assert "MSE ↓, published, zoo, 200" in text
    assert cells(text, "Ours")[-5:] == ["19.8", "15.96", "34.4", "24.60", "16.0"]
    assert cells(text, "SimVP")[-5:] == ["23.8", "19.43", "41.4", "–", "–"]
    assert cells(text, "Last frame<sup>†,a</sup>")[-3:] == ["–", "26.86", "17.8"]
    said = dict(table.protocol)["Published"]
    assert said.startswith("Table 6 of the TAU paper (Tan et al., CVPR 2023), not measured here.")
    assert "MMNIST STL of the OpenSTL model zoo after 200 epochs, not measured here." in said
    assert "chose checkpoints on the test set" in said
    check_structure(with_notes(table))


def test_a_table_may_have_another_sources_numbers_alone() -> None:
    apart = replace(SPEC, published=None, published_columns=(), published_elsewhere=(ZOO_TABLE,))
    table = build([make("Ours")], apart)
    assert [line.label for line in table.lines] == ["Last frame", "Ours"]
    assert "TAU paper" not in dict(table.protocol)["Published"]


@pytest.mark.parametrize("stored", [math.nan, "NaN"])  # before and after it was written as JSON
def test_scores_that_are_not_a_number_are_shown_and_never_bold(stored: Any) -> None:
    broken = make("SimVP", level=1)
    broken.stored["mse"][3, 2] = np.nan
    broken.record["means"]["mse"] = stored
    table = build([broken, make("Ours")], SPEC)
    first = {line.label: line.cells[0] for line in table.lines}
    assert (first["SimVP"].text, first["SimVP"].bold) == ("nan", False)
    assert first["Ours"].bold
    assert "not a finite number" in dict(table.notes)["*"]


WITH_PSNR = with_columns(SPEC, MSE, PSNR)


def flawless(label: str, frames: int, seed: int = 0, stored: Any = math.inf, level: float = 80):
    """A run that predicts so many of its 60 * 4 frames exactly."""
    run = make(label, seed, level=level)
    for name, value in (("psnr", np.inf), ("mse", 0.0)):
        run.stored[name].flat[:frames] = value
    run.record["means"] |= {"psnr": stored, "mse": float(run.stored["mse"].mean())}
    return run


@pytest.mark.parametrize("stored", [math.inf, "Infinity"])
def test_a_mean_that_is_infinite_is_the_best_and_says_why(stored: Any) -> None:
    table = build([flawless("SimVP", 80, stored=stored), make("Ours")], WITH_PSNR)
    text = markdown(table)
    assert cells(text, "SimVP")[1] == "**∞**<sup>§</sup>"
    assert not cells(text, "Ours")[1].startswith("**")
    note = (
        "a frame that is predicted without an error has an infinite score; such frames are, of all "
        "predicted ones, 33.3% (SimVP, PSNR dB)."
    )
    assert dict(table.notes)["§"] == note and f"- <sup>§</sup> {note}" in text
    assert "infinite means are equally good and not tested" in said(table)
    assert r"\textbf{\boldmath$\infty$}\textsuperscript{\S{}}" in latex(table)
    check_structure(with_notes(table))


def test_infinite_means_are_equally_good_and_their_shares_are_told() -> None:
    seeds = [flawless("Ours", frames, seed) for seed, frames in ((0, 0), (1, 240), (2, 239))]
    seeds[0].record["means"]["psnr"] = 30.0
    table = build([flawless("SimVP", 1), make("Ours w/o DDR"), *seeds], WITH_PSNR)
    bold = {line.label: line.cells[1].bold for line in table.lines if line.label != "MIM"}
    assert bold == {"SimVP": True, "Ours w/o DDR": False, "Ours": True}
    assert "0.417% (SimVP, PSNR dB), 66.5% (Ours, PSNR dB)" in dict(table.notes)["§"]


@pytest.mark.parametrize(("share", "said"), [(1, "100%"), (1 - 1e-6, "99.9%"), (1e-5, "0.001%")])
def test_hardly_all_frames_are_not_said_to_be_all(share: float, said: str) -> None:
    frame = measure([flawless("SimVP", 240)], WITH_PSNR)
    frame.loc["SimVP", "psnr_infinite"] = share
    group = tables.Group(WITH_PSNR.panels[0], [], frame, True)
    assert list(tables._flawless([group])) == [f"{said} (SimVP, PSNR dB)"]


def test_an_infinite_error_is_no_feat() -> None:
    diverged = make("SimVP", level=1)
    diverged.stored["mse"][3, 2] = np.inf
    diverged.record["means"]["mse"] = "Infinity"
    table = build([diverged, make("Ours")], SPEC)
    text = markdown(table)
    assert cells(text, "SimVP")[0] == "∞<sup>\\*</sup>" and cells(text, "Ours")[0].startswith("**")
    assert "§" not in dict(table.notes) and "equally good" not in said(table)


@pytest.mark.parametrize(
    ("mse", "printed"),
    [
        (3.5, "3.50"),
        (0.0, "0.00"),
        (1.2345e-7, "1.23e-07"),  # precipitation in kg per square metre and second
        (0.04567, "0.0457"),
        (1234567.891, "1234567.89"),
        (1.0512e13, "1.05e+13"),  # Pascal
    ],
)
def test_numbers_of_any_unit_keep_digits_that_tell_them_apart(mse: float, printed: str) -> None:
    run = make("Ours")
    run.record["means"]["mse"] = mse
    assert cells(markdown(build([run], SPEC)), "Ours")[0] == printed


def test_values_are_printed_in_the_columns_unit() -> None:
    spec = with_columns(SPEC, MSE.times(100), PEAK_MEMORY)
    run = make("Ours")
    run.record["means"]["mse"] = 0.34449
    run.record["cost"]["peak_memory_bytes"] = 3 * 2**29
    assert cells(markdown(build([run], spec)), "Ours")[:2] == ["34.45", "1.50"]
    run.record["cost"]["peak_memory_bytes"] = None
    assert cells(markdown(build([run], spec)), "Ours")[1] == "–"


def test_caption_and_notes_state_the_protocol() -> None:
    table = build(RUNS, SPEC)
    protocol = dict(table.protocol)
    assert "60 test sequences" in protocol["Data"]
    assert "quick: 8 epochs of 1,000 sequences, batch size 16; Adam" in protocol["Training"]
    setting = "learning rate 0.001, one-cycle schedule; fp32; Some CPU, 2 threads per row."
    assert protocol["Training"].endswith(setting)
    assert protocol["Data"].endswith("frames of 1×64×64.")
    assert protocol["Metrics"] == f"mse: {MSE.convention}; ssim: {SSIM.convention}."
    assert "one multiply-add" in protocol["Cost"]
    assert "batch size 1" in protocol["Cost"]
    assert "Table 6 of the TAU paper" in protocol["Published"]
    assert "wider re-implementations" in protocol["Published"]
    assert table.caption.startswith("Mean ± sample std over")
    assert table.statements[0] == "Validation is not the test set."
    assert "paired bootstrap" in said(table)
    for text in (latex(table), markdown(table)):
        assert "c0ffee" in text
        assert "Ours2" in text  # a run's key


def test_notes_say_the_unit_of_errors_and_the_number_of_processes() -> None:
    run = make("Ours", value_range=[200.0, 320.0], processes=2, precision="bf16")
    protocol = dict(build([run], SPEC).protocol)
    assert "errors are in the data's own unit, which spans 200 to 320" in protocol["Data"]
    assert "2 processes share each batch" in protocol["Training"]
    assert "; bf16; " in protocol["Training"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scale", {"scale": "paper"}),
        ("data digest", {"data": {"caption": "other", "digest": "ff"}}),
        ("clip", {"clip": {"past": 4, "future": 4, "channels": 1, "height": 64, "width": 64}}),
        ("test_sequences", {"test_sequences": 59}),
        ("precision", {"precision": "bf16"}),
        ("processes", {"processes": 2}),
        ("protocol", {"protocol": 1}),
        ("weights of metrics", {"metrics": {"lpips": "00"}}),
        ("device type", {"device": {"type": "cuda", "name": "Some GPU", "threads": 2}}),
        ("epochs", {"training": {**RUNS[1].record["training"], "epochs": 9}}),
    ],
)
def test_runs_that_disagree_are_named(name: str, change: dict) -> None:
    odd = make("Ours", 1, **change)
    with pytest.raises(ValueError, match=f"agree in {name}") as error:
        build([make("SimVP"), make("Ours"), odd], SPEC)
    assert "Ours seed 1 (Ours-1)" in str(error.value)
    assert "SimVP seed 0 (SimVP-0)" in str(error.value)


@pytest.mark.parametrize(("name", "value"), [("device", "another, 8 cores"), ("threads", 8)])
def test_times_of_different_machines_do_not_share_a_table(name: str, value: object) -> None:
    device = RUNS[1].record["device"]
    odd = make("Ours", device={**device, {"device": "name"}.get(name, name): value})
    build([make("SimVP"), odd], SPEC)
    timed = replace(with_columns(SPEC, MSE, SECONDS_PER_EPOCH), published=None)
    with pytest.raises(ValueError, match=f"agree in {name}"):
        build([make("SimVP"), odd], replace(timed, published_columns=()))


def test_epochs_of_a_model_without_parameters_do_not_matter() -> None:
    training = {**RUNS[1].record["training"], "epochs": 1}
    build([make("Last frame", trained=False, training=training), make("Ours")], SPEC)


def test_bad_runs_are_rejected() -> None:
    with pytest.raises(ValueError, match="no runs"):
        build([], SPEC)
    with pytest.raises(ValueError, match="'ablation', which has"):
        build([make("Theirs")], SPEC)
    with pytest.raises(ValueError, match="repeat a row and a seed"):
        build([make("Ours"), make("Ours")], SPEC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": (line("Ours", "TAO"),)}, "did you mean 'TAU'"),
        ({"published": "Table 66"}, "no table 'Table 66'"),
        ({"published_columns": (("SSIM", "Moving MNIST"),)}, "no published numbers"),
        (
            {"published_elsewhere": (ZOO_TABLE._replace(methods={"Ours": "TAUU"}),)},
            "did you mean 'TAU'",
        ),
        ({"published_elsewhere": (ZOO_TABLE._replace(source="nobody"),)}, "'nobody' is unknown"),
    ],
)
def test_a_wrong_published_name_fails_at_once(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_published(replace(SPEC, **change))


def test_columns_that_tell_when_a_target_is_reached_need_one() -> None:
    with pytest.raises(ValueError, match="need a target"):
        with_columns(SPEC, MSE, EPOCHS_TO_TARGET)


# --- LaTeX ---------------------------------------------------------------------------------------


def check_structure(text: str) -> None:
    """Balanced braces and environments, equal columns a line, nothing left unescaped."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[&%$#_{}]", "", body)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert body.isascii() or all(c.isalpha() for c in body if not c.isascii())
    assert "%" not in bare
    assert "#" not in bare
    assert bare.count("$") % 2 == 0
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        opened.append(name) if kind == "begin" else None
        assert kind == "begin" or opened.pop() == name
    assert not opened

    tabulars = re.findall(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}(.*?)\\end", bare, re.S)
    assert tabulars
    for columns, content in tabulars:
        lines = [line for line in content.splitlines() if line.endswith("\\\\")]
        assert len(lines) >= 3
        for line in lines:
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert line.count("&") + 1 + sum(spans) == len(columns)
        rules = [int(n) for n in re.findall(r"\\cmidrule\(lr\)\{\d+-(\d+)\}", content)]
        assert max(rules) == len(columns)
    # outside tabulars and mathematics no special character is bare
    prose = re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}|\$[^$]*\$", "", bare, flags=re.S)
    assert not re.search(r"[&_^~<>|]", prose)


NASTY = 'a & b_c 5% $x$ #1 {y} \\ ~ ^ <z> |w| "q" ± × → ↓ α é 世 — … ∞ § ² µ'
HOSTILE = (
    "50%&#_{}~^\\<>|\"'",
    "$x$ $$ \\( \\] $\\undefined$",
    r"\input{/etc/passwd} \end{table} \write18{ls} ^^41 \\",
    "[2cm] ] begins and ends with [",
    "* begins with a star",
    "-- --- `` '' ?` !` ,, << >>",
    "{unbalanced",
    "unbalanced}}",
    "😀 👩‍🔬 世界 \u202eright to left",
    "e\u0301 combined, z\u0335 alone, \ufb01 \ufeff\u200b",
    "\x00\x07\x1b[31m\x7f\x85 control",
    "two\nlines\r\nand\u2028three\ttabs",
    "not UTF-8: \udcff\udce4",
    "<b>bold</b> &lt;i&gt; <!-- --> <script>",
    "x" * 300,
)


def hostile() -> tables.Table:
    """A table of rows called as in HOSTILE; the same texts are all else that can be named."""
    rows = tuple(line(label, "TAU", label) for label in HOSTILE)
    text = " ".join(HOSTILE[:-1])
    panels = (replace(SPEC.panels[0], title=text), TAXI)
    spec = replace(SPEC, title=text, notes=(text,), rows=rows, panels=panels)
    data = {"caption": text, "digest": HOSTILE[11]}
    runs = [make(label, data=data, commit=HOSTILE[10]) for label in HOSTILE[1:]]
    failed = [fail(HOSTILE[0], 0, text), fail(HOSTILE[0], 1, text, status="unusable")]
    return build([*failed, *runs], spec, [taxi(label, 1.0) for label in HOSTILE])


@cache
def variants() -> dict[str, str]:
    """LaTeX of tables narrow and wide (in two parts), of failures, of cells that are not finite."""
    wide = with_columns(SPEC, MSE, MAE, SSIM, PSNR)
    narrow = replace(with_columns(SPEC, MSE), published_columns=SPEC.published_columns[:2])
    nasty = replace(
        SPEC,
        title=NASTY,
        notes=(NASTY,),
        rows=(line(f"Ours {NASTY[:30]}", "TAU", NASTY), line("SimVP")),
    )
    failures = [*RUNS[:-3], fail("Ours", 0, NASTY), fail("Ours", 1, "", status=tables.NOT_RUN)]
    broken = make("Last frame", trained=False)
    broken.record["means"] |= {"mse": math.inf, "psnr": math.nan}
    return {
        "narrow": with_notes(build(RUNS, narrow)),
        "wide": with_notes(build(RUNS, wide)),
        "one seed": with_notes(build([run for run in RUNS if run.record["seed"] == 0], wide)),
        "one row": with_notes(build(RUNS[-1:], narrow)),
        "failures": with_notes(build(failures, wide)),
        "only failures": with_notes(build([fail("Ours"), fail("SimVP")], wide)),
        "not finite": with_notes(build([broken, flawless("SimVP", 9), make("Ours")], wide)),
        "nasty": with_notes(build([make(f"Ours {NASTY[:30]}"), fail("SimVP", 0, NASTY)], nasty)),
        "very wide": with_notes(widened(build(RUNS, wide), 4)),
    }


def widened(table: tables.Table, times: int) -> tables.Table:
    """The table with its columns repeated, as those of weather and radar have many."""
    lines = tuple(line._replace(cells=line.cells * times) for line in table.lines)
    return replace(table, heads=table.heads * times, lines=lines)


VARIANTS = (
    *("narrow", "wide", "one seed", "one row", "failures", "only failures", "not finite", "nasty"),
    "very wide",
)


@pytest.mark.parametrize("name", VARIANTS)
def test_latex_is_well_formed(name: str) -> None:
    check_structure(variants()[name])


def test_the_structural_check_finds_faults() -> None:
    good = variants()["narrow"]
    for old, new in (
        (r"\end{tabular}", r"\end{tabula}"),
        ("Ours & ", "Ours & & "),
        (r"\textbf{", r"\textbf"),
        ("Ablation\\_1", "Ablation_1"),
        ("5\\%", "5%"),
    ):
        assert old in good
        with pytest.raises(AssertionError):
            check_structure(good.replace(old, new))


def test_a_narrow_table_is_one_and_a_wide_one_is_cut_by_topic() -> None:
    assert variants()["narrow"].count(r"\begin{tabular}") == 1
    wide = variants()["wide"]
    accuracy, cost = re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", wide, re.S)
    assert "PSNR" in accuracy
    assert "TaxiBJ" in accuracy
    assert "FLOPs" not in accuracy
    assert "15.95" in cost
    assert "179.17" in cost
    assert "MSE" not in cost


def test_a_table_too_wide_for_two_parts_is_cut_into_more_that_fit() -> None:
    very_wide = widened(build(RUNS, with_columns(SPEC, MSE, MAE, SSIM, PSNR)), 4)
    parts = re.findall(r"\\begin\{tabular\}\{@\{\}l(r+)@", latex(very_wide))
    assert len(parts) > 2 and sum(map(len, parts)) == len(very_wide.heads)


@pytest.mark.parametrize("name", suite_names())
def test_latex_can_print_what_stands_above_a_suites_columns(name: str) -> None:
    suite = find_suite(name)
    columns = [c for panel in getattr(suite, "panels", ()) for c in panel.columns]
    texts = [suite.title, *(f"{c.title} {c.heading} {c.unit}" for c in columns)]
    assert not [text for text in texts if "U+" in escape_latex(text)]


def test_escaping() -> None:
    assert escape_latex("a_b & 5% {#}") == r"a\_b \& 5\% \{\#\}"
    assert escape_latex("10→20 ×2\n é 世") == r"10$\rightarrow$20 $\times$2 é U+4E16"
    assert escape_latex("e\u0301 z\u0335 \x00 \udcff") == "é zU+0335 U+0000 U+DCFF"
    assert escape_latex("a--b [x] *") == "a-{}-b {[}x{]} {*}"
    assert escape_markdown("a|b *c* _d_ <e> $f$") == r"a\|b \*c\* \_d\_ \<e\> \$f\$"
    assert escape_markdown("&lt; &#60; & A&B\n\x1b[1m") == r"\&lt; \&\#60; & A&B U+001B\[1m"


def test_hostile_texts_stay_text_in_markdown() -> None:
    text = markdown(hostile())
    assert all(character.isprintable() or character == "\n" for character in text)
    table, comment = text.split("\n<!--\n")
    unescaped = re.sub(r"\\[\\`*_\[\]<>|~#$&]", "", table)
    assert set(re.findall(r"<[^>]*>", unescaped)) == {"<sup>", "</sup>"}
    assert not re.search(r"[`$\[\]~#\\]|&\w+;", unescaped)
    assert comment.count("-->") == 1 and comment.endswith("\n-->\n")
    rows = [line for line in unescaped.splitlines() if line.startswith("|")]
    assert len(rows) == len(HOSTILE) + 2
    assert len({row.count("|") for row in rows}) == 1
    notes = table.splitlines()[len(rows) + 2 :]
    assert all(line.startswith("- ") for line in notes if line)


def test_hostile_texts_stay_text_in_latex() -> None:
    text = with_notes(hostile())
    check_structure(text)
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"\textbackslash{}input\{/etc/passwd\}" in body
    assert not re.search(r"\\(input|write|undefined)", body)


PREAMBLE = r"""
\documentclass{article}
\IfFileExists{booktabs.sty}{\usepackage{booktabs}}{  % which a small installation lacks
  \let\toprule\hline\let\midrule\hline\let\bottomrule\hline
  \def\cmidrule(##1)##2{\cline{##2}}
}
\hbadness=10000
\begin{document}
"""


def compile_latex(tmp_path: Path, tables: Iterable[str]) -> str:
    """The log of pdflatex for a document of these tables, which must compile."""
    pdflatex = shutil.which("pdflatex")
    if pdflatex is None:
        pytest.skip("pdflatex is not installed")
    source = PREAMBLE + "\n\\clearpage\n".join(tables) + "\\end{document}\n"
    (tmp_path / "table.tex").write_text(source, encoding="utf-8")
    result = subprocess.run(
        [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert result.returncode == 0, result.stdout[-2000:]
    log = (tmp_path / "table.log").read_text(encoding="utf-8", errors="replace")
    assert "Missing character" not in log
    assert (tmp_path / "table.pdf").stat().st_size > 10_000
    return log


@pytest.mark.slow
def test_latex_compiles_and_fits_the_page(tmp_path: Path) -> None:
    assert "Overfull" not in compile_latex(tmp_path, variants().values())


@pytest.mark.slow
def test_latex_of_hostile_texts_compiles(tmp_path: Path) -> None:
    text = with_notes(hostile())
    assert text.count(r"\begin{tabular}") == 2  # in two halves
    assert "/etc/passwd)" not in compile_latex(tmp_path, [text])


@pytest.mark.slow
def test_every_committed_table_compiles_and_fits_the_page(tmp_path: Path) -> None:
    paths = sorted((Path(__file__).parents[1] / "results" / "tables").glob("*.tex"))
    assert paths
    log = compile_latex(tmp_path, (path.read_text(encoding="utf-8") for path in paths))
    assert "Overfull" not in log


# Two data sets in one table, and the table of data sets


TAXI = Panel(MovingMNIST, (MSE.times(100),), title="TaxiBJ")


def with_taxi() -> Suite:
    return Suite(
        name="both",
        title="Both",
        panels=(Panel(MovingMNIST, (MSE,), title="Moving MNIST"), TAXI),
        rows=(line("Conv", "Conv Baseline"), line("Ours", "TAU"), line("PredRNN++", "PredRNN++")),
        training={"quick": Training(1)},
        published="Table 6",
        published_columns=(("MSE", "Moving MNIST"), ("MSEx100", "TaxiBJ")),
    )


def taxi(label: str, level: float, **changes: Any) -> Run:
    clip = {"past": 4, "future": FRAMES, "channels": 2, "height": 32, "width": 32}
    data = {"caption": "TaxiBJ's taxis", "digest": "ab" * 32}
    return make(label, level=level, clip=clip, data=data, **changes)


def test_a_second_data_set_has_columns_of_its_own() -> None:
    runs = [make("Conv", level=60.0), make("Ours", level=50.0)]
    others = [taxi("Conv", 0.3), taxi("Ours", 0.4)]
    table = build(runs, with_taxi(), others)
    heads = [(head.group, head.heading, head.unit, head.part) for head in table.heads]
    assert heads[:2] == [
        ("measured, Moving MNIST", "MSE ↓", "", ""),
        ("measured, TaxiBJ", "MSE ↓", "×100", ""),
    ]
    assert [head[3] for head in heads[-2:]] == ["Moving MNIST", "TaxiBJ"]
    text = markdown(table)
    alone = scores.measure(with_taxi(), TAXI, others)
    assert f"{alone.at['Conv', 'mse']:.2f}" in cells(text, "Conv")[1]
    assert cells(text, "Ours")[0].startswith("**") and cells(text, "Conv")[1].startswith("**")
    assert cells(text, "PredRNN++")[-2:] == ["46.4", "44.8"]
    topics = [topic for topic, _ in table.protocol]
    assert topics[:4] == [
        *("Data, Moving MNIST", "Training, Moving MNIST"),
        *("Data, TaxiBJ", "Training, TaxiBJ"),
    ]
    assert "TaxiBJ's taxis" in text and "4×2×32×32" not in text and "2×32×32" in text
    check_structure(with_notes(table))


def test_without_runs_the_second_data_set_is_left_out_and_the_caption_says_so() -> None:
    table = build([make("Conv"), make("Ours")], with_taxi())
    assert not any("TaxiBJ" in head.group for head in table.heads)
    assert "TaxiBJ was not measured." in said(table)


def test_a_failure_on_the_second_data_set_is_noted() -> None:
    table = build([make("Conv"), make("Ours")], with_taxi(), [taxi("Conv", 0.3), fail("Ours")])
    note = next(text for _, text in table.notes if "out of memory" in text)
    assert note.startswith("on TaxiBJ failed: seed 0")
    assert [cell.text for cell in table.lines[1].cells[:2]].index("failed") == 1


def test_synthetic_data_are_named_in_the_title() -> None:
    data = {"caption": "Synthetic", "digest": "00", "synthetic": "drawn"}
    table = build([make("Conv", data=data)], with_taxi())
    assert table.title == "Both on synthetic data"


@dataclass
class Found:
    clip: Any
    train_sequences: int = 18
    test_sequences: int = 7
    provenance: dict[str, Any] = field(default_factory=lambda: {"validation_sequences": 3})
    caption: str = "A tiny KTH"
    synthetic: bool = False
    digest: str = "77"


def test_data_sets_stand_beside_what_the_paper_counts() -> None:
    entries = (
        DatasetEntry("KTH", MovingMNIST, "KTH", 40),
        DatasetEntry("Taxi", MovingMNIST, "TrafficBJ", 4),
        DatasetEntry("Damaged", MovingMNIST, "TrafficBJ", 4),
    )
    opened = {
        "KTH": Found(Clip(10, 40, 1, 128, 128)),
        "Taxi": FileNotFoundError("no BJ13"),
        "Damaged": ValueError("BJ14 is cut short"),
    }
    table = list_datasets(DatasetTable("datasets", "Data sets", entries, "Table 1"), opened)
    text = markdown(table)
    found = ["18", "3", "7", "1×128×128", "10 → 40"]
    assert cells(text, "KTH") == [*found, "5200", "3167", "1×128×128", "10 → 40"]
    absent = ["–"] * 5
    assert cells(text, "Taxi") == [*absent, "19627", "1334", "2×32×32", "4 → 4"]
    assert "A tiny KTH." in text and "missing: no BJ13." in text
    assert "cannot be opened: BJ14 is cut short." in text
    check_structure(with_notes(table))


# Columns of time


def test_the_target_is_reached_at_the_first_epoch_below_it() -> None:
    spec = Suite(
        name="fig8",
        title="Convergence",
        panels=(Panel(MovingMNIST, (MSE, EPOCHS_TO_TARGET, MINUTES_TO_TARGET)),),
        rows=(line("Last frame"), line("SimVP"), line("Ours")),
        training={"quick": Training(1)},
        target=(35.0, "TAU"),
    )

    class Curved(Run):
        def curve(self) -> pd.DataFrame:
            values = {"Ours": [60.0, 35.0, 36.0, 20.0], "SimVP": [60.0, 50.0, 40.0, 36.0]}
            mse = values["SimVP" if self.record["seed"] else self.record["row"]]
            seconds = [90.0 * (i + 1) for i in range(4)]
            return pd.DataFrame({"epoch": range(1, 5), "seconds": seconds, "val_mse": mse})

    runs = [make("Last frame", trained=False), make("SimVP"), make("Ours")]
    table = build([Curved(r.folder, r.record, r.stored) for r in runs], spec)
    text = markdown(table)
    assert cells(text, "Ours")[1:3] == ["2", "3.0"]
    assert cells(text, "SimVP")[1:3] == cells(text, "Last frame")[1:3] == ["–", "–"]
    assert "The target is a validation MSE of 35; – where not reached." in said(table)

    seeds = [Curved(r.folder, r.record, r.stored) for r in (runs[2], make("Ours", 1))]
    table = build(seeds, spec)
    assert cells(markdown(table), "Ours")[1:3] == ["–", "–"]
    assert any("the target was reached by 1 of 2 seeds" in text for _, text in table.notes)


def test_a_speed_has_the_spread_that_was_measured_within_the_run() -> None:
    spec = Suite(
        name="speed",
        title="Efficiency",
        panels=(Panel(MovingMNIST, (TRAINING_SPEED,)),),
        rows=(line("Ours"), line("SimVP")),
        training={"quick": Training(1)},
    )
    runs = [make("Ours"), make("SimVP"), make("SimVP", 1)]
    for run, speed in zip(runs, (20.0, 30.0, 34.0), strict=True):
        run.record["cost"] |= {
            "training_sequences_per_second": speed,
            "training_sequences_per_second_spread": 1.5,
        }
    text = markdown(build(runs[:2], spec))
    assert cells(text, "Ours")[0] == "20.0 ± 1.5"
    assert "the median ± half the IQR" in text
    several = build(runs, spec)
    assert cells(markdown(several), "SimVP")[0] == "32.0 ± 2.8"  # over two seeds
    assert cells(markdown(several), "Ours")[0] == "20.0"  # which no ± of another kind follows
    assert "half the IQR" not in said(several)


# What compares


def test_a_batch_size_that_leaves_out_another_remainder_does_not_make_a_row_shorter() -> None:
    training = {**RUNS[1].record["training"], "batch_size": 8}
    runs = [make("SimVP", level=80), make("Ours", training=training, steps=1_003)]
    frame = measure(runs, SPEC)
    assert not frame["is_shorter"].any() and frame.at["Ours", "mse_best"]
    runs[1].record["steps"] = 980
    assert list(measure(runs, SPEC)["is_shorter"]) == [False, True]


def test_from_few_test_sequences_nothing_is_bold() -> None:
    few = [
        Run(r.folder, {**r.record, "test_sequences": 9}, {k: v[:9] for k, v in r.stored.items()})
        for r in (make("SimVP", level=80), make("Ours"))
    ]
    table = build(few, SPEC)
    assert "**" not in markdown(replace(table, title="")).partition("\n\n")[2]
    assert "From fewer than 10 test sequences it cannot be told" in said(table)
    assert "Bold:" not in said(table)


def test_windows_that_share_frames_are_resampled_in_blocks() -> None:
    runs = [make("SimVP", level=80), make("Ours")]
    assert "over test sequences, 10,000" in said(build(runs, SPEC))
    for run in runs:
        run.record["overlap"] = 3
    told = said(build(runs, SPEC))
    assert "on Moving MNIST in blocks of 6, twice the number in a row that share frames" in told
    for run in runs:
        run.record["overlap"] = 4
    assert not measure(runs, SPEC)["mse_best"].any()
    told = said(build(runs, SPEC))
    assert "From fewer than 10 blocks of test sequences that share frames it cannot be told" in told


@pytest.mark.parametrize(("level", "misleads"), [(200.0, True), (20.0, False)])
def test_ssim_misleads_where_a_row_that_trained_nothing_is_best_by_it_alone(
    level: float, misleads: bool
) -> None:
    still = make("Last frame", level=level, trained=False)
    still.record["means"]["ssim"] = 0.99
    assert ("SSIM misleads" in said(build([still, make("Ours")], SPEC))) == misleads


def test_small_sizes_keep_two_digits() -> None:
    run = make("Ours")
    run.record["cost"] |= {"parameters": 11_980, "macs": 98_000_000}
    text = markdown(build([run], SPEC))
    assert cells(text, "Ours")[4:6] == ["0.012", "0.098"]
