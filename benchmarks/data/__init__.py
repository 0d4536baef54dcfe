"""Data sets by name. One file each; a new one implements `Dataset` and joins `DATASETS`."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.data.arrays import Arrays
from benchmarks.data.dataset import Dataset
from benchmarks.data.moving_mnist import MovingMNIST

__all__ = ["DATASETS", "DATA_VARIABLE", "Arrays", "Dataset", "MovingMNIST", "open_dataset"]

DATASETS: dict[str, Callable[..., Dataset]] = {"moving-mnist": MovingMNIST}
DATA_VARIABLE = "SPATIOTEMPORAL_DATA"


def open_dataset(name: str, root: Path | None = None, **options: Any) -> Dataset:
    """Open and check a data set: a name in `DATASETS`, or the path of an .npy or .npz file.

    `root` is the folder that holds the data sets' files; None means the environment variable
    SPATIOTEMPORAL_DATA, or no folder if that is not set. `options` are the constructor's. Raises
    ValueError for an unknown name or option, and what the constructor raises for unusable files.
    """
    if root is None and os.environ.get(DATA_VARIABLE):
        root = Path(os.environ[DATA_VARIABLE])
    if root is not None and not root.is_dir():
        raise FileNotFoundError(
            f"the data folder {root} does not exist; correct --data or {DATA_VARIABLE}, or give "
            "none"
        )
    if name in DATASETS:
        constructor = DATASETS[name]
        _check_options(name, constructor, options)
        return constructor(root, **options)
    if Path(name).suffix in (".npy", ".npz"):
        _check_options(name, Arrays, options)
        paths = [Path(name)] if root is None else [Path(name), root / name]
        for path in paths:
            if path.is_file():
                return Arrays(path, **options)
        raise FileNotFoundError(f"no such file: {' or '.join(map(str, paths))}")
    raise ValueError(
        f"unknown data set {name!r}{_nearest(name, DATASETS)}; expected one of "
        f"{', '.join(DATASETS)}, or the path of an .npy or .npz file"
    )


def _check_options(name: str, constructor: Callable[..., Dataset], options: Iterable[str]) -> None:
    parameters = inspect.signature(constructor).parameters.values()
    valid = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in valid:
            raise ValueError(
                f"data set {name!r} has no option {option!r}{_nearest(option, valid)}; "
                f"expected {', '.join(valid)}"
            )


def _nearest(word: str, valid: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.0)
    return f"; did you mean {matches[0]!r}?" if matches else ""
