"""The command: python -m benchmarks.data {list,download,verify,prepare}."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from benchmarks.command import end_process, explain, print_error, run_command
from benchmarks.data import DATA_VARIABLE, DATASETS, open_dataset
from benchmarks.data.cache import MARKER, cache_root
from benchmarks.data.dataset import Check, Dataset
from benchmarks.data.download import Unavailable, file_checks, is_filled, obtain
from benchmarks.data.sources import Source
from benchmarks.data.stored import StoredDataset
from benchmarks.files import kind
from benchmarks.names import choose

WIDTH = 100
UNEXPECTED = "a file of the set may be damaged: `verify` compares them"


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
        help=f"folder with the data sets' files (default: ${DATA_VARIABLE})",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for title, run, text in (
        ("list", _list, "what each set is, where it comes from, what is present, what is missing"),
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
    """Run the command; returns its exit status.

    0: done; 1: `verify` finds a difference; 2: it cannot be done; 128 + n: ended by signal n.
    """
    args = arguments().parse_args(argv)
    return run_command(
        lambda: _run(args),
        stopped="what was downloaded is kept, and the same command continues",
        unexpected=UNEXPECTED,
    )


def _run(args: argparse.Namespace) -> int:
    if args.name is not None:
        choose("data set", args.name, DATASETS)
    status: int = args.run(args.name, _root(args.data, new=args.run is _download))
    return status


def _root(option: str | None, *, new: bool) -> Path | None:
    """The data folder, which may be missing if it is `new`; None if none is given."""
    if option == "":
        raise ValueError("--data is empty; expected a folder, . for the current one")
    folder = option or os.environ.get(DATA_VARIABLE)
    if not folder:
        return None
    root = Path(folder)
    found = kind(root)
    if found == "a folder" and not os.access(root, os.R_OK | os.X_OK):
        found = "without read permission"
    if found != "a folder" and not (new and found == "missing"):
        raise FileNotFoundError(
            f"the data folder {root} is {found}; expected a folder: correct --data or "
            f"{DATA_VARIABLE}"
        )
    return root


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
    failures: list[Exception] = []
    for file in source.files:
        try:
            print(f"{file.path}: {obtain(source, file, root)}", flush=True)
        except (Unavailable, ValueError, FileExistsError) as error:  # the other files may do
            failures.append(error)
    missing = source.missing(root)
    if source.manual and (missing or failures):
        print(_wrapped("by hand: ", source.manual), f"DIR is {root}", sep="\n", flush=True)
    for failure in failures:
        print_error(str(failure))
    if missing and not failures:
        unpacked = [f.unpack for f in source.files if f.unpack and is_filled(root / f.unpack)]
        folders = " or ".join(unpacked)
        hint = f"; if {folders} holds something else, move it away" if folders else ""
        print_error(f"{name} still needs {'; '.join(missing)}{hint}")
    return 2 if failures or missing else 0


def _verify(name: str, root: Path | None) -> int:
    checks: list[Check] = []
    source = _source(name)
    for file in source.files:
        path = None if root is None else source.find(file, root)
        if path is None:
            found = "missing" if root is None else kind(root / file.path)
            if found == "missing":
                print(f"absent   {file.path}")
            else:
                checks.append(_shown(Check(f"kind of {file.path}", "a file", found)))
            continue
        for check in file_checks(file, path):
            checks.append(_shown(check))
        if file.hash is None:
            size = tqdm.format_sizeof(path.stat().st_size, "B")
            print(f"unknown  {file.path}: {size}, and no checksum is published", flush=True)
    try:
        checks += map(_shown, _open(name, root).checks())
    except Exception as error:
        if all(check.holds for check in checks):
            raise
        print_error(explain(error, UNEXPECTED))
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
    if not made and isinstance(dataset, StoredDataset) and dataset.is_prepared:
        print(f"{name} was prepared already: nothing to do")
    elif not made:
        print(f"{name} needs no preparation")
    return 0


def _source(name: str) -> Source:
    source = DATASETS[name].source
    if source is None:
        raise ValueError(f"data set {name!r} states no source; expected its files and mirrors")
    return source


def _open(name: str, root: Path | None) -> Dataset:
    return open_dataset(name, root)


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


if __name__ == "__main__":
    end_process(main())
