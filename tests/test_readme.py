"""What the README shows works: the example suite runs, the named files and options exist."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.run import arguments, main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path, clips_file):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    (tmp_path / "mine.py").write_text(example)
    options = ["--suite", str(tmp_path / "mine.py"), "--scale", "smoke", "--rows", "Linear"]
    assert main([*options, "--data", str(clips_file), "--out", str(tmp_path)]) == 0


def test_every_option_that_is_mentioned_exists():
    known = {option for action in arguments()._actions for option in action.option_strings}
    known |= {"--nproc-per-node"}  # torchrun's
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert mentioned <= known, mentioned - known


def test_every_file_that_is_linked_exists():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), f"README links {target}"
