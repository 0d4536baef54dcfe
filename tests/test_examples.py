"""The scripts in examples/ run as they are written, and what they define opens."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.data import open_dataset
from benchmarks.experiment.plan import Options
from benchmarks.experiment.shard import parse_shard
from benchmarks.run import arguments, main
from benchmarks.suites import find_suite

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        (
            "own_dataset",
            "cooling-plate: 4 past and 4 future frames of 1x32x32; 1,000 training and 100 test",
        ),
        ("from_torch", "MovingBars: trained on 1,800 sequences, validated on 200"),
    ],
)
def test_an_example_runs_from_any_folder_by_the_command_that_it_names(
    name, printed, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    text = (EXAMPLES / f"{name}.py").read_text("utf-8")
    ((options, file),) = re.findall(r"python -m benchmarks\.run (.* )(.*\.py)", text)
    small = ("--scale", "smoke", "--rows", "Last frame", "--no-figures", "--out", "out")
    assert main([*shlex.split(options), str(EXAMPLES / file), *small]) == 0
    out = capsys.readouterr().out
    assert "| Last frame" in out and printed in out


def test_a_trained_model_that_comes_along_forecasts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "forecast.py"))
    printed = re.fullmatch(r"forecast.png: mean squared error (\S+)\n", capsys.readouterr().out)
    assert float(printed[1]) < 200  # the last frame repeated has 284 on average
    with Image.open(tmp_path / "forecast.png") as image:
        assert image.width >= 1000


def test_the_class_of_the_example_opens_with_its_options():
    plate = runpy.run_path(str(EXAMPLES / "own_dataset.py"))["CoolingPlate"]
    dataset = open_dataset(plate)
    assert open_dataset(partial(plate, diffusivity=0.1)).digest != dataset.digest
    (frames,) = dataset.test(8, 8, "cpu")
    assert torch.equal(next(dataset.test(3, 3, "cpu")), frames[:3])
    assert not torch.equal(next(dataset.validation(8, 8, "cpu")), frames)
    assert torch.allclose(frames.sum((3, 4)), frames[:, :1].sum((3, 4)), rtol=1e-4)  # heat stays
    assert (frames.amax((2, 3, 4)).diff() < 1e-6).all()  # and the hottest spot cools
    assert open_dataset(plate, synthetic=True).clip == dataset.clip
    with pytest.raises(ValueError, match=r"diffusivity is 0.3; expected above 0, at most 0.25"):
        open_dataset(plate, diffusivity=0.3)


def test_the_bars_of_the_example_move_down_by_a_row_per_frame():
    bars = runpy.run_path(str(EXAMPLES / "from_torch.py"))["BARS"]
    frames = open_dataset(bars).batch(0, 0, 5, "cpu")
    assert frames.max() > 0
    assert torch.equal(frames[:, 1:], frames[:, :-1].roll(1, 3))


def test_the_notebook_makes_a_film_of_a_video(tmp_path, monkeypatch, capsys):
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "forecast.ipynb").read_text("utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert cells.pop(0) == '%pip install --quiet "..[video]"'
    names: dict[str, object] = {}
    for cell in cells:
        exec(cell, names)  # what a kernel does, but for showing the last value
    printed = capsys.readouterr().out
    assert "frames 0 to 9 of recording 0 (10, 1, 64, 64) uint8" in printed
    errors = re.search(r"per frame: (\S+); of the last frame repeated: (\S+)", printed)
    assert float(errors[1]) < float(errors[2])
    with Image.open(tmp_path / "forecast.gif") as image:
        assert image.n_frames == 20


def test_the_array_job_gives_the_command_a_part_of_the_plan():
    path = EXAMPLES / "slurm.sbatch"
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    (line,) = re.findall(r"^python -m benchmarks.run (.*) &$", path.read_text("utf-8"), re.M)
    given = vars(arguments().parse_args(shlex.split(line.replace("$part", "2/4"))))
    del given["list"]
    options = Options(**given)
    assert parse_shard(str(options.shard)) == (2, 4) and find_suite(str(options.suite))


def test_the_job_with_a_ray_cluster_hands_the_runs_to_it():
    path = EXAMPLES / "ray.sbatch"
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    (line,) = re.findall(r"^ *python -m benchmarks.run (.*)$", path.read_text("utf-8"), re.M)
    given = arguments().parse_args(shlex.split(line))
    assert given.on == "ray://auto" and find_suite(given.suite)
