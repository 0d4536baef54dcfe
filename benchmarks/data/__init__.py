"""Data sets, one file each: by name in `DATASETS`, or a subclass of `Dataset` in your own file."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data.arrays import OWN_FILES, Arrays
from benchmarks.data.dataset import Dataset
from benchmarks.data.from_torch import FromTorch
from benchmarks.data.generated import MovingTextures
from benchmarks.data.human36m import Human36M
from benchmarks.data.kitti_caltech import KittiCaltech, KittiRawCaltech
from benchmarks.data.kth import KTH, KTHAction
from benchmarks.data.moving_fashion_mnist import MovingFashionMNIST
from benchmarks.data.moving_mnist import MovingMNIST
from benchmarks.data.sevir import SEVIR, SEVIRLowRes
from benchmarks.data.taxibj import TaxiBJ, TaxiBJReleased
from benchmarks.data.weatherbench import (
    WeatherBenchMV,
    WeatherBenchMVReleased,
    WeatherBenchR,
    WeatherBenchT2M,
    WeatherBenchTCC,
    WeatherBenchUV10,
)
from benchmarks.names import choose, nearest
from tau.predictor import Clip

__all__ = [
    "DATASETS",
    "DATA_VARIABLE",
    "KTH",
    "OWN_FILES",
    "SEVIR",
    "Arrays",
    "Dataset",
    "FromTorch",
    "Human36M",
    "KTHAction",
    "KittiCaltech",
    "KittiRawCaltech",
    "MovingFashionMNIST",
    "MovingMNIST",
    "SEVIRLowRes",
    "TaxiBJ",
    "TaxiBJReleased",
    "WeatherBenchMV",
    "WeatherBenchMVReleased",
    "WeatherBenchR",
    "WeatherBenchT2M",
    "WeatherBenchTCC",
    "WeatherBenchUV10",
    "open_dataset",
    "open_own",
]

DATASETS: dict[str, type[Dataset]] = {
    cls.name: cls
    for cls in (
        MovingMNIST,
        MovingFashionMNIST,
        TaxiBJ,
        TaxiBJReleased,
        KTH,
        KTHAction,
        KittiCaltech,
        KittiRawCaltech,
        WeatherBenchT2M,
        WeatherBenchUV10,
        WeatherBenchR,
        WeatherBenchTCC,
        WeatherBenchMV,
        WeatherBenchMVReleased,
        SEVIR,
        SEVIRLowRes,
        Human36M,
    )
}
DATA_VARIABLE = "SPATIOTEMPORAL_DATA"


def open_dataset(
    dataset: str | Callable[..., Dataset],
    root: Path | None = None,
    *,
    synthetic: bool = False,
    **options: Any,
) -> Dataset:
    """Open and check a data set.

    `dataset` is a name in `DATASETS`, a subclass of `Dataset`, a functools.partial of one that
    holds some of its options, or the path of your own data (see `open_own`). `root` is the folder
    that holds the data sets' files; None means the environment variable SPATIOTEMPORAL_DATA, or no
    folder if that is not set. With `synthetic`, a generated stand-in is opened instead. `options`
    are the constructor's. Raises ValueError for an unknown name or option, or a class that lacks a
    part of the contract, and what the constructor raises for unusable files.
    """
    if root is None and os.environ.get(DATA_VARIABLE):
        root = Path(os.environ[DATA_VARIABLE])
    if root is not None and not root.is_dir():
        raise FileNotFoundError(
            f"the data folder {root} does not exist; correct --data or {DATA_VARIABLE}, or give "
            "none"
        )
    if isinstance(dataset, str):
        if dataset not in DATASETS:
            return open_own(_find_own(dataset, root), **options)
        dataset = DATASETS[dataset]
    cls: Callable[..., Dataset] = dataset
    positional: tuple[Any, ...] = ()
    if isinstance(dataset, partial):
        cls, positional = dataset.func, dataset.args
        options = {**dataset.keywords, **options}
    if not (isinstance(cls, type) and issubclass(cls, Dataset)):
        raise ValueError(
            f"{dataset!r} is no data set; expected a name ({', '.join(DATASETS)}), a path, a "
            "subclass of benchmarks.data.Dataset, or a functools.partial of one"
        )
    if synthetic:
        return _construct(_stand_in(cls), f"synthetic {cls.name}", None, options)
    if missing := sorted(cls.__abstractmethods__):
        raise ValueError(
            f"data set {cls.name!r}: the class {cls.__name__} lacks the methods "
            f"{', '.join(missing)}; expected them as benchmarks.data.Dataset declares them"
        )
    return _construct(partial(cls, *positional), cls.name, root, options)


def open_own(path: Path, **options: Any) -> Dataset:
    """Open data of your own (see `Arrays`); raises ValueError for an unknown option."""
    return _construct(partial(Arrays, path), path.name, None, options)


def _find_own(name: str, root: Path | None) -> Path:
    """The user's file or folder of this path, also below the data folder."""
    paths = [Path(name)] if root is None else [Path(name), root / name]
    if name and (found := next((path for path in paths if path.exists()), None)):
        return found
    if Path(name).suffix.lower() in OWN_FILES:
        raise FileNotFoundError(f"no such file: {' or '.join(map(str, paths))}")
    raise ValueError(
        f"data set {name!r} does not exist; {nearest(name, DATASETS)}valid: "
        f"{', '.join(DATASETS)}, or the path of your own data: a folder, or a file that ends "
        f"in {', '.join(OWN_FILES)}"
    )


def _stand_in(dataset: type[Dataset]) -> Callable[..., Dataset]:
    """What generates sequences instead of a data set."""
    if dataset.stand_in is not None:
        return dataset.stand_in
    if not isinstance(clip := getattr(dataset, "clip", None), Clip):
        raise ValueError(
            f"data set {dataset.name!r} has no generated stand-in; expected its task as `clip`, a "
            f"tau.Clip, stated on the class {dataset.__name__}: run it without --data synthetic"
        )
    return partial(MovingTextures, dataset.name, clip)


def _construct(
    constructor: Callable[..., Dataset], name: str, root: Path | None, options: Mapping[str, Any]
) -> Dataset:
    """Call the constructor, with the folder if it takes one, and check what it gives."""
    signature = inspect.signature(constructor)
    parameters = signature.parameters
    fixed = {"root": root} if "root" in parameters else {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    valid = [p.name for p in parameters.values() if p.kind in named and p.name not in fixed]
    for option in options:
        choose(f"data set {name!r}: option", option, valid)
    try:
        signature.bind(**fixed, **options)
    except TypeError as error:
        raise ValueError(f"data set {name!r}: {error} of its constructor {signature}") from error
    dataset = constructor(**fixed, **options)
    dataset.check_contract()
    return dataset
