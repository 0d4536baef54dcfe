"""An array job on a Slurm that is there; skipped where there is none.

It is examples/slurm.sbatch, of toy rows on a CPU. One of its jobs is requeued by hand while it
trains, as for a job that is preempted, and the other is signalled, as before its time is up.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "slurm.sbatch"
ROWS = ("Last frame", "ConvLSTM", "Ours")
TABLE = ["--suite", "smoke", "--device", "cpu", "--precision", "fp32"]
TABLE += ["--data", "synthetic", "--epochs", "6", "--rows", *ROWS]
PATIENCE = 600  # seconds; Slurm holds a job that was requeued for two minutes


def has_slurm() -> bool:
    if shutil.which("sinfo") is None:
        return False
    found = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, check=False)
    return found.returncode == 0 and bool(found.stdout.strip())


pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not has_slurm(), reason="no Slurm is running"),
]


def wait_for(what: str, is_so) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"waited {PATIENCE} s: {what}"
        time.sleep(0.5)


def queued(job: str) -> list[str]:
    """The states of a job's tasks that have not ended."""
    listed = subprocess.run(["squeue", "-h", "-r", "-j", job, "-o", "%T"], capture_output=True)
    return listed.stdout.decode().split()


def submit(folder: Path) -> str:
    """Submit the example as it stands, but for its table and the resources that it asks for."""
    text = EXAMPLE.read_text()
    command = " ".join(f"'{word}'" for word in (sys.executable, "-m", "benchmarks.run", *TABLE))
    for old, new in (
        ("python -m benchmarks.run --suite mmnist --scale standard --seeds 3", command),
        (" --precision bf16", ""),
        ("--out results", "--out results --checkpoint-seconds 1"),
        ("--array=1-4", "--array=1-2"),
        ("#SBATCH --gpus-per-task=1\n", ""),
        ("--cpus-per-task=8", "--cpus-per-task=1"),
    ):
        assert old in text
        text = text.replace(old, new)
    script = folder / "job.sbatch"
    script.write_text(text)
    said = subprocess.run(
        ["sbatch", "--parsable", str(script)], cwd=folder, capture_output=True, check=True
    )
    return said.stdout.decode().strip()


def means(out: Path) -> dict[str, dict[str, float]]:
    (path,) = (out / "records").glob("*.json")
    entries = json.loads(path.read_text())
    return {entry["row"]: entry["means"] for entry in entries}


def run(*options: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "benchmarks.run", *TABLE, *options]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return done.stderr


def test_an_array_of_jobs_that_are_requeued_makes_the_table_of_one_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as many for the jobs, which inherit it
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    job = submit(tmp_path)
    logs = [tmp_path / f"mmnist-{k}.log" for k in (1, 2)]
    runs = tmp_path / "results" / "runs"
    wait_for("both jobs train", lambda: len(list(runs.glob("*/checkpoint*"))) >= 2)
    subprocess.run(["scontrol", "requeue", f"{job}_1"], check=True)
    subprocess.run(["scancel", "--batch", "--signal=USR1", f"{job}_2"], check=True)
    wait_for("the jobs end", lambda: not queued(job))
    said = [log.read_text() for log in logs]
    assert all("continued" in text or "continues" in text for text in said), said
    run("--report", "--no-figures", "--out", "results", cwd=tmp_path)
    run("--no-figures", "--jobs", "1", "--out", "local", cwd=tmp_path)
    of_jobs, local = means(tmp_path / "results"), means(tmp_path / "local")
    assert of_jobs.keys() == set(ROWS)
    for row, scores in local.items():
        assert of_jobs[row] == pytest.approx(scores, rel=1e-6), row
