"""Who imports whom, one way; read from the source, not at run time."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ("tau", "baselines", "benchmarks")


def _imports(path: Path) -> set[str]:
    """Modules of the project that a file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            base = ROOT / str(node.module).replace(".", "/")
            for alias in node.names:
                submodule = (base / alias.name).is_dir() or (base / f"{alias.name}.py").is_file()
                found.add(f"{node.module}.{alias.name}" if submodule else str(node.module))
    return {name for name in found if name.partition(".")[0] in PROJECT}


def _files(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    return files


def test_tau_imports_torch_only():
    for path in _files("tau"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for name in names:
                top = name.partition(".")[0]
                standard = {"__future__", "collections", "dataclasses", "itertools", "math"}
                assert top in {"torch", "tau", "typing"} | standard, f"{path} imports {name}"


def test_baselines_import_torch_and_tau_only():
    for path in _files("baselines"):
        for name in _imports(path):
            assert name.partition(".")[0] in {"tau", "baselines"}, f"{path} imports {name}"


def test_suites_alone_name_models():
    models = {"baselines", "tau.model"}
    for path in _files("benchmarks"):
        if "suites" in path.parts or "speed" in path.parts:
            continue
        for name in _imports(path):
            assert not any(name == m or name.startswith(f"{m}.") for m in models), (
                f"{path} imports {name}"
            )


# tau <- baselines; tau, metrics <- data <- experiment <- report; suites see what they name, run all
FORBIDDEN = {
    "benchmarks/data": ("experiment", "report", "suites"),
    "benchmarks/experiment": ("report", "suites"),
    "benchmarks/report": ("suites",),
    "benchmarks/suites": ("report",),
}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder):
    for path in _files(folder):
        for name in _imports(path):
            for other in FORBIDDEN[folder]:
                package = f"benchmarks.{other}"
                assert name != package and not name.startswith(f"{package}."), (
                    f"{path} imports {name}"
                )


def test_spec_knows_neither_printing_nor_argparse_nor_the_loop():
    for path in _files("benchmarks"):
        text = path.read_text(encoding="utf-8")
        if path.name not in ("run.py", "predict.py", "__main__.py", "gpu_steps.py"):
            assert "argparse" not in text, path
    spec = _imports(ROOT / "benchmarks" / "experiment" / "spec.py")
    assert {name.split(".")[1] for name in spec if "." in name} <= {"data", "metrics", "names"}


def test_nothing_imports_run():
    for folder in PROJECT:
        for path in _files(folder):
            assert not any(n.startswith("benchmarks.run") for n in _imports(path)), path


def test_no_cycles():
    graph = {}
    for folder in PROJECT:
        for path in _files(folder):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            graph[name] = _imports(path)
    known = set(graph)
    graph = {name: {i for i in found if i in known} for name, found in graph.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            pytest.fail(" -> ".join((*trail[trail.index(name) :], name)))
        if name in done:
            return
        for other in graph[name]:
            if other != name:
                visit(other, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())
