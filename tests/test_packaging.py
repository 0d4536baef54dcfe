"""The versions that are declared, pinned and tested are the same ones."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import benchmarks

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, flags=re.M))


def declared(*extras):
    texts = [
        *PROJECT["dependencies"],
        *(text for extra in extras for text in PROJECT["optional-dependencies"][extra]),
    ]
    return {requirement.name: requirement for requirement in map(Requirement, texts)}


def test_the_lowest_versions_that_are_tested_are_the_declared_ones():
    lowest = {
        name: Version(bound.version)
        for name, requirement in declared("video", "zarr", "test").items()
        for bound in requirement.specifier
        if bound.operator == ">="
    }
    assert {name: Version(v) for name, v in pins("constraints-lowest.txt").items()} == lowest


def test_every_dependency_is_pinned_within_its_declared_range():
    pinned = pins("constraints.txt")
    for name, requirement in declared(*PROJECT["optional-dependencies"]).items():
        assert pinned[name] in requirement.specifier, name


def test_pre_commit_runs_the_ruff_that_tox_runs():
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert f"rev: v{pins('constraints.txt')['ruff']}\n" in text


@pytest.mark.parametrize("package", ["tau", "baselines", "benchmarks"])
def test_type_checkers_find_the_types_of_each_package(package):
    assert (ROOT / package / "py.typed").is_file()


def test_the_version_is_the_installed_one():
    try:
        expected = importlib.metadata.version(PROJECT["name"])
    except importlib.metadata.PackageNotFoundError:
        expected = "0+unknown"
    assert benchmarks.__version__ == expected
