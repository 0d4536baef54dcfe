"""A model that reads values while it is built is tried, counted and trained like any other."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import load
from benchmarks.experiment.execute import execute
from benchmarks.experiment.plan import plan_panel
from benchmarks.experiment.spec import Row
from benchmarks.experiment.trial import try_run
from benchmarks.run import main
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


# What a model of the user's own may be, and what of it is found before it trains


class Caching(Predictor):
    """A weight times a mask that is made in the first forward and kept."""

    def __init__(self, clip):
        super().__init__(clip)
        self.weight = nn.Parameter(torch.ones(1))
        self.mask = None

    def forward(self, past, horizon):
        if self.mask is None:
            self.mask = torch.ones_like(past[:1, :1])
        return (self.weight * self.mask * past[:, -1:]).expand(-1, horizon, -1, -1, -1)


class Spectral(Predictor):
    """Complex weights of the last frame's spectrum."""

    def __init__(self, clip):
        super().__init__(clip)
        shape = (clip.channels, clip.height, clip.width // 2 + 1)
        self.weight = nn.Parameter(torch.ones(shape, dtype=torch.cfloat))

    def forward(self, past, horizon):
        frame = torch.fft.irfft2(self.weight * torch.fft.rfft2(past[:, -1]), s=past.shape[-2:])
        return frame.unsqueeze(1).expand(-1, horizon, -1, -1, -1)


class Normed(Built):
    """A convolution whose weight is a function of its parameters."""

    def __init__(self, clip):
        super().__init__(clip, lambda model, file: None, "")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that there is a newer way
            nn.utils.weight_norm(self.conv)


class Short(Built):
    """A model that needs two of the past frames, and says so of itself."""

    def __init__(self, clip):
        super().__init__(replace(clip, past=2), lambda model, file: None, "")


@pytest.mark.parametrize("model", [Caching, Spectral, Normed, Short])
def test_a_model_of_an_unusual_kind_is_tried_trained_and_loaded(suite, dataset, tmp_path, model):
    tiny = replace(suite, rows=(Row("Mine", model),))
    (run,) = plan_panel(tiny, "smoke", dataset, "cpu", precision="fp32", epochs=1)
    assert try_run(run).parameters > 0
    stored = execute(run, tmp_path / "runs")
    assert stored.done, stored.record["reason"]
    assert stored.record["cost"]["training_sequences_per_second"] > 0
    trained = load(stored.folder, trust_code=True)
    assert trained.clip == run.clip
    past = stored.samples()["past"]
    expected = stored.samples()["prediction"]
    np.testing.assert_allclose(trained.predict(past), expected, rtol=1e-5, atol=1e-6)


class InPlace(Built):
    """A forward that edits what its gradient needs."""

    def __init__(self, clip):
        super().__init__(clip, lambda model, file: None, "")

    def forward(self, past, horizon):
        frame = self.conv(past[:, -1]).sigmoid()
        frame += frame.clone()
        return frame.unsqueeze(1).expand(-1, horizon, -1, -1, -1)


class InFloat(Built):
    """A loss that reads its frames with NumPy, which has no bf16."""

    def __init__(self, clip):
        super().__init__(clip, lambda model, file: None, "")

    def loss(self, past, future):
        frame = self.conv(past[:, -1])
        return (frame - float(frame.detach().numpy().mean())).square().mean()


@pytest.mark.parametrize(
    ("model", "precision", "message"),
    [
        (InPlace, "fp32", "RuntimeError: .* modified by an inplace operation"),
        (InFloat, "bf16", "TypeError: .*BFloat16"),
    ],
)
def test_a_training_step_that_fails_is_found_before_training(
    suite, dataset, model, precision, message
):
    tiny = replace(suite, rows=(Row("Mine", model),))
    (run,) = plan_panel(tiny, "smoke", dataset, "cpu", precision=precision)
    with pytest.raises(ValueError, match=f"row 'Mine': {message}"):
        try_run(run)


class InColour(Predictor):
    """The last frame, of three channels alone."""

    def __init__(self, clip):
        super().__init__(clip)
        if clip.channels != 3:
            raise ValueError(f"clip.channels is {clip.channels}; expected 3")

    def forward(self, past, horizon):
        return past[:, -1:].expand(-1, horizon, -1, -1, -1)


def test_a_model_for_its_own_data_need_not_fit_the_papers_frames(tmp_path, capsys):
    np.save(tmp_path / "rgb.npy", np.full((40, 6, 3, 16, 16), 255, np.uint8))
    (tmp_path / "in_colour_alone.py").write_text(
        "from tau import Predictor\n\n\n" + inspect.getsource(InColour)
    )
    command = ["--suite", "compare", "--scale", "smoke", "--data", str(tmp_path / "rgb.npy")]
    command += ["--add", f"{tmp_path / 'in_colour_alone.py'}:InColour", "--rows", "InColour"]
    command += ["--out", str(tmp_path / "out"), "--no-figures", "--device", "cpu"]
    assert main([*command, "--dry-run"]) == 0
    assert "InColour         is not made for its frames" in capsys.readouterr().out
    assert main(command) == 0
    row = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("| InColour"))
    assert "| – | – | 0 | 0 |" in row
