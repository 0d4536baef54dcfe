"""One file is one table or figure of the paper; each holds a `SUITE`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baselines import LastFrame
from benchmarks.suite import Row

Options = Mapping[str, Any]

LAST_FRAME = Row("Last frame", LastFrame, note="repeats the last observed frame; the floor")
SMALL_RATE = {"smoke": {"rate": 5e-3}, "quick": {"rate": 5e-3}}


def at_scales(small: Mapping[str, Options], **released: Any) -> dict[str, Options]:
    """Options by scale: `small` for smoke and quick, `released` for standard and paper."""
    return {**small, "standard": released, "paper": released}
