"""Data sets by name. One file each; a new one implements `Dataset` and joins `DATASETS`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data.arrays import Arrays
from benchmarks.data.dataset import Dataset
from benchmarks.data.formats import FILES
from benchmarks.data.kitti_caltech import KittiCaltech, KittiRawCaltech
from benchmarks.data.kth import KTH, KTHAction
from benchmarks.data.moving_mnist import MovingMNIST
from benchmarks.data.synthetic import SYNTHETIC
from benchmarks.data.trafficbj import TrafficBJ, TrafficBJReleased
from benchmarks.names import choose, nearest

__all__ = [
    "DATASETS",
    "DATA_VARIABLE",
    "FILES",
    "KTH",
    "Arrays",
    "Dataset",
    "KTHAction",
    "KittiCaltech",
    "KittiRawCaltech",
    "MovingMNIST",
    "TrafficBJ",
    "TrafficBJReleased",
    "open_dataset",
    "open_own",
]

DATASETS: dict[str, Any] = {
    "moving-mnist": MovingMNIST,
    "trafficbj": TrafficBJ,
    "trafficbj-npz": TrafficBJReleased,
    "kth": KTH,
    "kth-action": KTHAction,
    "kitti-caltech": KittiCaltech,
    "kitti-raw-caltech": KittiRawCaltech,
}
for _key, _kind in DATASETS.items():
    _kind.name = _key
DATA_VARIABLE = "SPATIOTEMPORAL_DATA"


def open_dataset(
    name: Any, root: Path | None = None, *, synthetic: bool = False, **options: Any
) -> Dataset:
    """Open and check a data set: a name in `DATASETS`, or the path of your own (see `open_own`).

    `root` is the folder that holds the data sets' files; None means the environment variable
    SPATIOTEMPORAL_DATA, or no folder if that is not set. With `synthetic`, sequences are generated
    in the set's place. `options` are the constructor's. Raises ValueError for an unknown name or
    option, and what the constructor raises for unusable files.
    """
    kind = None
    if not isinstance(name, str):
        kind = name
        name = (kind.func if isinstance(kind, partial) else kind).name
    if root is None and os.environ.get(DATA_VARIABLE):
        root = Path(os.environ[DATA_VARIABLE])
    if root is not None and not root.is_dir():
        raise FileNotFoundError(
            f"the data folder {root} does not exist; correct --data or {DATA_VARIABLE}, or give "
            "none"
        )
    if name not in DATASETS:
        paths = [Path(name)] if root is None else [Path(name), root / name]
        if name and (found := next((path for path in paths if path.exists()), None)):
            return open_own(found, **options)
        if Path(name).suffix.lower() in FILES:
            raise FileNotFoundError(f"no such file: {' or '.join(map(str, paths))}")
        raise ValueError(
            f"data set {name!r} does not exist; {nearest(name, DATASETS)}valid: "
            f"{', '.join(DATASETS)}, or the path of your own data: a folder, or a file that ends "
            f"in {', '.join(FILES)}"
        )
    constructor = SYNTHETIC[name] if synthetic else kind or DATASETS[name]
    _check_options(f"synthetic {name}" if synthetic else name, constructor, options)
    return constructor(None if synthetic else root, **options)


def open_own(path: Path, **options: Any) -> Arrays:
    """Open data of your own (see `Arrays`); raises ValueError for an unknown option."""
    _check_options(path.name, Arrays, options)
    return Arrays(path, **options)


def _check_options(name: str, constructor: Callable[..., Dataset], options: Iterable[str]) -> None:
    parameters = inspect.signature(constructor).parameters.values()
    valid = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in options:
        choose(f"data set {name!r}: option", option, valid)
