"""The command: python -m benchmarks.data {list,download,verify,prepare}."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from benchmarks.data import DATA_VARIABLE, DATASETS
from benchmarks.data.cache import MARKER, cache_root
from benchmarks.data.dataset import Check, Dataset
from benchmarks.data.download import Unavailable, file_checks, is_filled, obtain
from benchmarks.data.sources import Source
from benchmarks.data.stored import StoredDataset
from benchmarks.names import choose

WIDTH = 100


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data",
        description="Get the data sets, verify them, and decode their frames once.",
    )
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        help=f"folder with the data sets' files (default: ${DATA_VARIABLE})",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for title, run, text in (
        ("list", _list, "what each set is, where it comes from, what is there and what is missing"),
        ("download", _download, "get a set's files, continuing what broke off, and unpack them"),
        ("verify", _verify, "compare a set's files and counts with those of the real data"),
        ("prepare", _prepare, "decode a set's frames now, so that later runs open it at once"),
    ):
        command = commands.add_parser(title, parents=[data], help=text, description=text)
        command.set_defaults(run=run, name=None)
        if run is not _list:
            command.add_argument("name", metavar="NAME", help="a data set; list shows them")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 if `verify` finds a difference, 2 for what cannot be done."""
    args = arguments().parse_args(argv)
    root = args.data
    if root is None and os.environ.get(DATA_VARIABLE):
        root = Path(os.environ[DATA_VARIABLE])
    try:
        if args.name is not None:
            choose("data set", args.name, DATASETS)
        if root is not None and not root.is_dir() and args.run is not _download:
            raise FileNotFoundError(
                f"the data folder {root} does not exist; correct --data or {DATA_VARIABLE}"
            )
        status: int = args.run(args.name, root)
        return status
    except (ValueError, OSError, ModuleNotFoundError, Unavailable) as error:
        return _error(error)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def _list(_: None, root: Path | None) -> int:
    for name in DATASETS:
        source = _source(name)
        hosts = dict.fromkeys(str(urlsplit(u).hostname) for f in source.files for u in f.urls)
        print(_wrapped(f"{name}: ", source.title))
        for label, text in (
            ("licence", source.licence),
            ("size", source.size),
            ("from", ", ".join(hosts)),
            ("by hand", source.manual),
            ("found", "; ".join(source.found(root))),
            ("needs" if root is None else "missing", "; ".join(source.missing(root))),
        ):
            if text:
                print(_wrapped(f"  {label:<9}", text))
        print()
    if root is None:
        print(f"--data DIR, or {DATA_VARIABLE}, shows what is found there and what is missing")
    return 0


def _download(name: str, root: Path | None) -> int:
    if root is None:
        raise ValueError(
            f"download needs a folder to put the files into: give --data DIR, or set "
            f"{DATA_VARIABLE}"
        )
    source = _source(name)
    failures: list[Unavailable] = []
    for file in source.files:
        try:
            print(f"{file.path}: {obtain(source, file, root)}", flush=True)
        except Unavailable as error:
            failures.append(error)
    missing = source.missing(root)
    if source.manual and (missing or failures):
        print(_wrapped("by hand: ", source.manual), f"DIR is {root}", sep="\n", flush=True)
    for failure in failures:
        _error(failure)
    if missing and not failures:
        unpacked = [f.unpack for f in source.files if f.unpack and is_filled(root / f.unpack)]
        folders = " or ".join(unpacked)
        hint = f"; if {folders} holds something else, move it away" if folders else ""
        _error(f"{name} still needs {'; '.join(missing)}{hint}")
    return 2 if failures or missing else 0


def _verify(name: str, root: Path | None) -> int:
    checks: list[Check] = []
    source = _source(name)
    for file in source.files:
        path = None if root is None else source.find(file, root)
        if path is None:
            print(f"absent   {file.path}")
            continue
        for check in file_checks(file, path):
            checks.append(_shown(check))
        if file.hash is None:
            size = tqdm.format_sizeof(path.stat().st_size, "B")
            print(f"unknown  {file.path}: {size}, and no checksum is published", flush=True)
    try:
        checks += map(_shown, _open(name, root).checks())
    except (ValueError, OSError) as error:
        if all(check.holds for check in checks):
            raise
        _error(error)
    wrong = sum(not check.holds for check in checks)
    print(f"{wrong} of {len(checks)} differ" if wrong else f"all {len(checks)} agree")
    return 1 if wrong else 0


def _prepare(name: str, root: Path | None) -> int:
    before = _prepared()
    dataset = _open(name, root)
    made = _prepared().items() - before.items()
    for folder, _ in sorted(made):
        size = tqdm.format_sizeof((folder / "frames.npy").stat().st_size, "B")
        print(f"{name} is prepared: {size} in {folder}")
    if not made and isinstance(dataset, StoredDataset):
        print(f"{name} was prepared already: nothing to do")
    elif not made:
        print(f"{name} needs no preparation")
    return 0


def _source(name: str) -> Source:
    constructor: Any = DATASETS[name]
    source: Source = constructor.source
    return source


def _open(name: str, root: Path | None) -> Dataset:
    return DATASETS[name](root)


def _prepared() -> dict[Path, int]:
    """Folders of prepared frames, of all sets, and when they were made."""
    markers = cache_root().glob(f"*/{MARKER}")
    return {marker.parent: marker.stat().st_mtime_ns for marker in markers}


def _shown(check: Check) -> Check:
    mark = "ok" if check.holds else "DIFFERS"
    line = f"{mark:<9}{check.what}: expected {check.expected}, found {check.found}"
    if len(line) > WIDTH:
        pairs = (("expected", check.expected), ("found", check.found))
        line = f"{mark:<9}{check.what}:" + "".join(f"\n{k:>17} {v}" for k, v in pairs)
    print(line, flush=True)
    return check


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * (11 if head.startswith(" ") else 4),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _error(error: Exception | str) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
