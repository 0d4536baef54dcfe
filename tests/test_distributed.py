"""Two processes on the CPU train one run as torchrun starts them, with synchronised gradients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_folders

from benchmarks.experiment.schedule import execute_here

ROOT = Path(__file__).resolve().parent.parent

SUITE = """
import torch
from benchmarks import Panel, Row, Suite, Training
from benchmarks.data import MovingMNIST
from tau import Predictor


class Shift(Predictor):
    '''One weight whose gradient is the mean over all processes' clips.'''

    def __init__(self, clip):
        super().__init__(clip)
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, past, horizon):
        return self.weight * torch.ones_like(past[:, :1]).expand(-1, horizon, -1, -1, -1)

    def loss(self, past, future):
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        loss = self.weight * (1.0 + rank)
        self.seen += 1
        return loss.sum()


SUITE = Suite(
    "two_ranks", "Two ranks", (Panel(MovingMNIST),), (Row("shift", Shift),),
    {"smoke": Training(epochs=1, sequences=8, batch_size=4, val_sequences=4, test_sequences=4,
                       lr=1.0, schedule="constant", max_grad_norm=1.2)},
)
"""


def test_fresh_is_refused_in_a_group(tmp_path):
    with pytest.raises(ValueError, match="--fresh does not work under torchrun"):
        execute_here([], tmp_path, resume=False, checkpoint_seconds=None)


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path, clips_file):
    path = tmp_path / "two_ranks_suite.py"
    path.write_text(SUITE)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "benchmarks.run", "--suite", str(path), "--data", str(clips_file)),
        *("--out", str(tmp_path / "out"), "--device", "cpu", "--precision", "fp32"),
        "--no-figures",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    (folder,) = run_folders(tmp_path / "out")
    record = json.loads((folder / "record.json").read_text())
    assert record["steps"] == 2 and record["status"] == "done"
    # gradients 1 and 2 average to 1.5, so both processes step alike and rank 0 stores the result
    assert result.stdout.count("shift") == 1, "one process prints the table"
