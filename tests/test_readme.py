"""What the README and the other pages show works: examples run, files and options exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import predict, run
from benchmarks.data import __main__ as data
from benchmarks.suites import find_suite

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "own_model.py"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
SMALL = ("--scale", "smoke", "--epochs", "1", "--rows", "Linear", "--no-figures", "--out")  # little


def test_the_readme_shows_the_example_that_is_in_the_folder():
    assert re.findall(r"```python\n(.*?)```", README, flags=re.S) == [EXAMPLE.read_text("utf-8")]


def numbers(text):
    return set(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text))


def test_the_numbers_of_the_readme_stand_in_the_table_that_it_links():
    """In the row of the same label, or in that row's notes."""
    (target,) = re.findall(r"\[The\s+table\s+with\s+its\s+notes\]\((\S+\.md)\)", README)
    table = (ROOT / target).read_text("utf-8")
    cells = re.compile(r"^\| ([^|<]+?)(?:<sup>(.*?)</sup>)? \|(.*)$", re.M)
    stored = {}
    for label, marks, row in cells.findall(table):
        notes = [re.findall(rf"^- <sup>{mark}</sup>.*$", table, re.M) for mark in marks.split(",")]
        stored[label] = numbers(f"{row} {notes}")
    shown = re.search(r"(?:^\|.*\n)+", README, re.M)[0]
    rows = {label: numbers(row) for label, _, row in cells.findall(shown)}
    assert rows.keys() <= stored.keys() and len(rows) > 1
    for label, found in rows.items():
        assert found and found <= stored[label], (label, found - stored[label])


@pytest.mark.slow
def test_the_example_runs_in_its_folder_by_the_command_that_it_names(tmp_path):
    (command,) = re.findall(r"python (-m .*\.py)", EXAMPLE.read_text("utf-8"))
    done = subprocess.run(
        [sys.executable, *shlex.split(command), *SMALL, str(tmp_path)],
        cwd=EXAMPLE.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "| Linear |" in done.stdout


@pages
def test_every_option_that_a_page_mentions_exists(page):
    known = {
        option
        for parser in (run.arguments(), data.arguments(), predict.arguments())
        for action in parser._actions
        for option in action.option_strings
    }
    known |= {"--nnodes", "--rdzv-backend", "--rdzv-endpoint"}  # of torchrun
    known |= {"--nproc-per-node", "--shell", "--prog", "--logdir"}  # of other commands
    known |= {"--head", "--port", "--address", "--set"}  # of ray and helm
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text("utf-8")))
    assert mentioned <= known, mentioned - known


@pages
def test_every_command_that_a_page_shows_is_accepted(page):
    text = re.sub(r"```python.*?```", "", page.read_text("utf-8"), flags=re.S)
    for module, options in re.findall(r"-m benchmarks\.(run|data|predict) ([^\n#`]+)", text):
        parser = {"run": run, "data": data, "predict": predict}[module].arguments()
        try:
            args = parser.parse_args(shlex.split(options))
        except SystemExit as error:
            assert error.code == 0, f"{page.name}: {options}"  # --help
            continue
        if module == "run" and args.suite and not args.suite.endswith(".py"):
            suite = find_suite(args.suite)
            labels = {row.label for row in getattr(suite, "rows", ())}
            labels |= {name.rpartition(":")[2] for name in args.add or ()}
            assert labels >= set(args.rows or ()), f"{page.name}: {options}"


@pages
def test_every_file_and_heading_that_a_page_links_exists(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text("utf-8")):
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name} links {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
            anchors = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in anchors, f"{page.name} links {target}#{anchor}"


@pages
def test_every_file_of_the_project_that_a_page_names_exists(page):
    folders = "tau|baselines|benchmarks|tests|examples|docs"
    for target in re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text("utf-8")):
        assert (ROOT / target).exists(), f"{page.name} names {target}"


def test_the_walk_names_functions_that_are_in_the_files():
    """A step is `file`: and the names in it, up to the next file or step."""
    text = (ROOT / "docs" / "walk.md").read_text("utf-8")
    steps = re.findall(
        r"`((?:tau|benchmarks)/[\w/]+\.py)`:(.*?)(?=`[\w/]+\.py`|\n\d+\.|\n#)", text, re.S
    )
    assert len(steps) > 10
    for file, rest in steps:
        source = (ROOT / file).read_text("utf-8")
        for name in re.findall(r"`([\w.]+)`", rest):
            for part in name.split("."):
                assert re.search(rf"\b{part}\b", source), f"{file} has no {part}"
