"""One file is one table or figure of the paper; each holds a `SUITE`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Options = Mapping[str, Any]


def at_scales(small: Mapping[str, Options], **released: Any) -> dict[str, Options]:
    """Options by scale: `small` for smoke and quick, `released` for standard and paper."""
    return {**small, "standard": released, "paper": released}
