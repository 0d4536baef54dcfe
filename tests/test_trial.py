"""A model that reads values while it is built is tried, counted and trained like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.experiment.execute import execute
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.spec import Row
from benchmarks.experiment.trial import try_run
from tau import Predictor


class Built(Predictor):
    """A convolution of the last frame, which `build` does something to in the constructor."""

    def __init__(self, clip, build, file):
        super().__init__(clip)
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        build(self, Path(file))

    def forward(self, past, horizon):
        return self.conv(past[:, -1]).unsqueeze(1).expand(-1, horizon, -1, -1, -1)


def items(model, file):
    model.rates = [x.item() for x in torch.linspace(0, 1, 4)]


def a_list(model, file):
    model.rates = torch.linspace(0, 1, 4).tolist()


def a_branch(model, file):
    if (model.conv.weight == 0).all():
        raise ValueError("the weights are zero")


def numpy_of_a_tensor(model, file):
    model.rates = np.sqrt(torch.linspace(0, 1, 4).numpy())


def weights_from_numpy(model, file):
    model.conv.weight.data = torch.from_numpy(np.full((1, 1, 3, 3), 1 / 9, np.float32))


def weights_times_numpy(model, file):
    kernel = torch.from_numpy(np.ones((1, 1, 3, 3), np.float32))
    model.conv.weight = nn.Parameter(kernel * model.conv.weight)


def weights_from_a_file(model, file):
    model.conv.load_state_dict(torch.load(file))


def weights_of_a_file_themselves(model, file):
    model.conv.load_state_dict(torch.load(file), assign=True)


def a_check_of_weights_from_a_file(model, file):
    model.conv.load_state_dict(torch.load(file))
    assert "meta" not in str(model.conv.weight), "the weights were not read"


@pytest.mark.parametrize(
    "build",
    [
        *(items, a_list, a_branch, numpy_of_a_tensor, weights_from_numpy, weights_times_numpy),
        *(weights_from_a_file, weights_of_a_file_themselves, a_check_of_weights_from_a_file),
    ],
)
def test_a_constructor_may_read_values(suite, dataset, tmp_path, build):
    file = tmp_path / "weights.pt"
    torch.save(nn.Conv2d(1, 1, 3).state_dict(), file)
    tiny = replace(suite, rows=(Row("Built", Built, {"build": build, "file": str(file)}),))
    (run,) = plan_panel(tiny, "smoke", dataset, "cpu", precision="fp32", epochs=1)
    trial = try_run(run)
    assert (trial.parameters, trial.macs) == (9 + 1, 9 * 16 * 16)
    assert trial.paper == {"paper_parameters": 9 + 1, "paper_macs": 9 * 64 * 64}
    stored = execute(run, tmp_path / "runs")
    assert stored.done and stored.record["cost"]["macs"] == trial.macs


class Checking(Predictor):
    """The last frame, if it has a value."""

    def forward(self, past, horizon):
        assert past.device.type == "cpu", "frames without values"
        return past[:, -1:].expand(-1, horizon, -1, -1, -1)


class Failing(Predictor):
    """A model that cannot be built."""

    def __init__(self, clip):
        super().__init__(clip)
        raise KeyError(f"no weights on {torch.ones(1).device}")


def test_a_prediction_may_need_values(suite, dataset):
    tiny = replace(suite, rows=(Row("Checking", Checking),))
    (run,) = plan_panel(tiny, "smoke", dataset, "cpu", precision="fp32")
    assert try_run(run).macs == 0


def test_a_model_that_cannot_be_built_is_an_error_that_names_the_row(suite, dataset):
    tiny = replace(suite, rows=(Row("Failing", Failing),))
    (run,) = plan_panel(tiny, "smoke", dataset, "cpu", precision="fp32")
    with pytest.raises(ValueError, match="row 'Failing': KeyError: 'no weights on cpu'"):
        try_run(run)
