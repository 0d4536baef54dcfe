"""The rows of all suites, for tests that hold for every model, and frames to feed a model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.experiment.spec import Row, Suite
from benchmarks.suites import find_suite, suite_names
from tau import Clip

SUITES = [suite for name in suite_names() if isinstance(suite := find_suite(name), Suite)]

# The tasks of the published numbers.
MNIST = Clip(10, 10, 1, 64, 64)
TAXI = Clip(4, 4, 2, 32, 32)
KTH = Clip(10, 20, 1, 128, 128)
KTH_ONE_PASS = Clip(10, 10, 1, 128, 128)  # what is published for SimVP and its kin
CALTECH = Clip(10, 1, 3, 128, 160)

SHORT = Clip(3, 2, 1, 16, 16)  # that every model takes, for tests of what no size changes

# One row for each way a model is built at scale smoke; one for each model, and each of its mixers.
ROWS = {
    (row.model, repr(sorted(row.at("smoke").items()))): row
    for suite in SUITES
    for panel in suite.panels
    for row in suite.rows_of(panel)
}
MODELS = {(row.model, row.options.get("mixer")): row for row in ROWS.values()}


def _id(row: Row) -> str:
    return f"{row.model.__name__}-{row.label}"


rows = pytest.mark.parametrize("row", ROWS.values(), ids=_id)
models = pytest.mark.parametrize("row", MODELS.values(), ids=_id)


def random_frames(clip: Clip, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Past and future of `batch` sequences that are the same at every call."""
    generator = torch.Generator().manual_seed(1)
    shape = (batch, clip.frames, clip.channels, clip.height, clip.width)
    return clip.split(clip.data_range * torch.rand(shape, generator=generator))
