"""The Python code that a model is made of: found by its imports, hashed, and carried along.

A run's key covers the source of its model and of every module that this one imports, so that an
edited model is trained afresh. What belongs to the user also travels: a process that trains a row
gets the text that the plan was made from, whatever has become of the files, and a run's folder
keeps it, so that the trained model can be loaded anywhere.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import chain
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch

OURS = ("tau", "baselines")  # of this project, what a model may be made of
OBJECT = "object"  # marks a class, function or the like among encoded options
TUPLE = "tuple"  # and a tuple, where that is asked for
SKIPPED = "benchmarks"  # what measures: PROTOCOL stands for it in a key
STDLIB = Path(ast.__file__).resolve().parent
INSTALLED = {"site-packages", "dist-packages"}  # folders that hold other people's packages


class Source(NamedTuple):
    """A module's file and its text."""

    file: str
    text: str


Code = Mapping[str, Source]  # by the module's name
_beside: set[Path] = set()  # folders of imported files, whose modules these may import


def import_file(path: Path) -> ModuleType:
    """Import a Python file by its path (a user's suite, or the model in it), once.

    It finds the modules beside it, as when Python runs it. Raises FileNotFoundError, and ValueError
    if the file's name is that of another module.
    """
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a Python file")
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and _file(loaded) == path:
        return loaded
    if other := _other_module(name, path):
        raise ValueError(f"{path} would hide the module {name!r} ({other}); rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file; expected a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
        _beside.add(path.parent)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _other_module(name: str, path: Path) -> str:
    """Where a module of this name comes from, if not from `path`; empty if there is none.

    A folder without __init__.py counts where packages are installed. In a user's own folders, where
    Python takes any such folder (data, results) for a package, it does not.
    """
    if (loaded := sys.modules.get(name)) is not None:
        return str(_file(loaded) or "built in")
    found = importlib.util.find_spec(name)
    if found is None:
        return ""
    if found.origin is not None:
        origin = Path(found.origin).resolve()
        return "" if origin == path or origin.parent in _beside else found.origin
    folders = found.submodule_search_locations or ()
    return next((each for each in folders if not INSTALLED.isdisjoint(Path(each).parts)), "")


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file).resolve()


# --- what a model is made of ---------------------------------------------------------------------


def code_of(model: type, others: Iterable[Any] = ()) -> dict[str, Source]:
    """Sources of the modules that define a model and `others`, and of what these import.

    `others` are classes and functions. Imports are read from the source, those inside functions
    too. Followed are the modules beside the model's own, those of tau and baselines, and whatever
    else lies outside the standard library and the installed packages: helper modules of the user.
    A name that is imported from a module is followed to where it is defined; the modules of the
    user's that pass it on, and the packages around all of them, count too. Modules that are
    imported by a name worked out at run time, and files of data, are not seen.
    """
    own = model.__module__.partition(".")[0]
    pending = [model.__module__, *(str(other.__module__) for other in others)]
    found: dict[str, Source] = {}
    while pending:
        name = pending.pop()
        if name in found or not _is_followed(name, own):
            continue
        if package := "" if name.partition(".")[0] in OURS else name.rpartition(".")[0]:
            pending.append(package)  # which is imported first; ours hold no code of their own
        if (source := _source(name)) is not None:
            found[name] = source
            pending += _imports(name, ast.parse(source.text))
    return dict(sorted(found.items()))


def digest(code: Code) -> str:
    """SHA-256 of the code without comments, docstrings and layout, which do not count."""
    text = json.dumps(sorted(_essence(source.text) for source in code.values()))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def belongs_to_user(code: Code) -> dict[str, Source]:
    """The part of `code` that does not come with this project."""
    return {name: source for name, source in code.items() if name.partition(".")[0] not in OURS}


def _is_followed(name: str, own: str) -> bool:
    top = name.partition(".")[0]
    if top in (own, *OURS):
        return True
    if top == SKIPPED:
        return False
    file = _origin(name)  # not the name alone: each version's library has other modules
    return file is not None and STDLIB not in file.parents and INSTALLED.isdisjoint(file.parts)


def _origin(name: str) -> Path | None:
    """The file of a module, imported or not; None if it has none."""
    if name in sys.modules:
        return _file(sys.modules[name])
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # not a module, or an optional one that is missing
        return None
    return Path(spec.origin).resolve() if spec and spec.has_location and spec.origin else None


def _source(name: str) -> Source | None:
    if name in _carried.code:
        return _carried.code[name]
    file = _origin(name)
    if file is None or file.suffix != ".py":
        return None
    return Source(str(file), file.read_text(encoding="utf-8"))


def _imports(name: str, tree: ast.Module) -> Iterator[str]:
    """Names of the modules that `tree`, the source of the module `name`, imports from."""
    module = sys.modules.get(name)
    is_package = hasattr(module, "__path__")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield from (".".join(parts[: i + 1]) for i in range(len(parts)))
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, name, is_package)
            if base.partition(".")[0] not in OURS:
                yield base
            for alias in node.names:
                yield _definition(base, alias.name)


def _absolute(node: ast.ImportFrom, name: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    kept = len(parts) - node.level + is_package
    return ".".join([*parts[: max(kept, 0)], *([node.module] if node.module else [])])


def _definition(base: str, name: str) -> str:
    """The module that holds what `from base import name` gives.

    A submodule, or where a class or function is defined. For a constant, a star, and what is not
    imported yet, `base` itself.
    """
    if f"{base}.{name}" in sys.modules or (name != "*" and _is_submodule(base, name)):
        return f"{base}.{name}"
    value = getattr(sys.modules.get(base), name, None)
    where = value.__module__ if inspect.isclass(value) or inspect.isroutine(value) else None
    return where if where in sys.modules else base


def _is_submodule(base: str, name: str) -> bool:
    folders = getattr(sys.modules.get(base), "__path__", ())
    return any(
        (Path(folder) / f"{name}.py").is_file() or (Path(folder) / name / "__init__.py").is_file()
        for folder in folders
    )


@cache  # a suite's rows share most of their modules, and each takes 10 to 40 ms
def _essence(text: str) -> str:
    """The syntax tree as text, without docstrings, the same in every version of Python.

    Depth first: the length of each list, and what is no list as it is.
    """
    pending: list[Any] = [ast.parse(text)]
    found: list[Any] = []
    while pending:
        item = pending.pop()
        if isinstance(item, ast.AST):
            item = _parts(item)
        if isinstance(item, list):
            pending += reversed(item)
            item = [len(item)]
        found.append(item)
    return json.dumps(found)


def _parts(node: ast.AST) -> list[Any]:
    """A node's type, then name and value of each field; newer versions have more empty fields."""
    fields: dict[str, Any] = dict(ast.iter_fields(node))
    if isinstance(node, ast.JoinedStr):  # versions cut an f-string's text at different places
        return _text(fields["values"])
    if isinstance(node, ast.Constant):
        value: Any = node.value
        if isinstance(value, str):
            return _text([node])
        is_int = type(value) is int  # may have more digits than Python converts to decimal
        return [type(value).__name__, hex(value) if is_int else repr(value)]
    if (
        isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    ):
        fields["body"] = node.body[1:]
    present = [pair for pair in fields.items() if pair[1] not in (None, [])]
    return [type(node).__name__, *chain.from_iterable(present)]


def _text(values: list[Any]) -> list[Any]:
    """A string or f-string: its text with "{}" for each value that is inserted, and these."""
    inserted = [value for value in values if isinstance(value, ast.FormattedValue)]
    texts = (
        "{}" if isinstance(value, ast.FormattedValue) else value.value.replace("{", "{{")
        for value in values
    )
    return ["str", "".join(texts), *inserted]


# --- code that travels ---------------------------------------------------------------------------


class _TextLoader(SourceFileLoader):
    """Loads a module from its text; its file need not exist, or hold it, any more."""

    def __init__(self, name: str, source: Source) -> None:
        super().__init__(name, source.file)
        self._text = source.text

    def get_data(self, path: str) -> bytes:
        """The text."""
        return self._text.encode("utf-8")

    def path_stats(self, path: str) -> dict[str, Any]:
        """None: nothing compiled is kept."""
        raise OSError(f"{path} is not read")


class _Carried(MetaPathFinder):
    """Finds the modules that were carried along."""

    def __init__(self) -> None:
        self.code: dict[str, Source] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of a module that was carried along; None for any other."""
        if (source := self.code.get(fullname)) is None:
            return self._folder(fullname)
        file = Path(source.file)
        folders = [str(file.parent)] if file.name == "__init__.py" else None
        loader = _TextLoader(fullname, source)
        return importlib.util.spec_from_file_location(
            fullname, file, loader=loader, submodule_search_locations=folders
        )

    def _folder(self, name: str) -> ModuleSpec | None:
        """The spec of a folder without __init__.py that modules were carried from, if it is one."""
        folders: dict[str, None] = {}
        for inside, source in self.code.items():
            if inside.startswith(f"{name}."):
                file = Path(source.file)
                deep = inside.count(".") - name.count(".") + (file.name == "__init__.py")
                folders[str(file.parents[deep - 1])] = None
        if not folders:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = list(folders)
        return spec


_carried = _Carried()


def install(code: Code) -> None:
    """Let this process import the modules of `code` from their text, before anything else.

    Raises ValueError if it has imported another module of such a name.
    """
    for name, source in code.items():
        loaded = sys.modules.get(name)
        if loaded is not None and _loaded_text(loaded) != source.text:
            raise ValueError(
                f"the module {name!r} is imported already, with other code than that of "
                f"{source.file}; start Python anew, or rename one of them"
            )
    if _carried not in sys.meta_path:
        sys.meta_path.insert(0, _carried)
    _carried.code.update(code)


def _loaded_text(module: ModuleType) -> str | None:
    source = _source(module.__name__)
    return None if source is None else source.text


# --- options of a model as JSON ------------------------------------------------------------------


def encode(value: Any, what: str, *, tuples: bool = False) -> Any:
    """An option's value as JSON, the same for equal values; classes and functions by their names.

    With `tuples`, they are told from lists, for `decode`. Raises ValueError, which begins with
    `what`, for a value that has no such form.
    """
    if isinstance(value, Enum):
        return {OBJECT: f"{qualified_name(type(value))}.{value.name}"}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: encode(each, what, tuples=tuples) for key, each in value.items()}
    if isinstance(value, list | tuple):
        parts = [encode(each, what, tuples=tuples) for each in value]
        return {TUPLE: parts} if tuples and isinstance(value, tuple) else parts
    if isinstance(value, torch.dtype):
        return {OBJECT: f"torch:{str(value).removeprefix('torch.')}"}
    if inspect.isclass(value) or inspect.isroutine(value):
        try:
            found = attrgetter(value.__qualname__)(sys.modules[value.__module__])
        except (AttributeError, KeyError):
            found = None
        if found is value:
            return {OBJECT: qualified_name(value)}
        raise ValueError(
            f"{what} is {qualified_name(value)}, which no other process finds by this name; "
            "expected a class or function that is defined at the top of a module"
        )
    raise ValueError(
        f"{what} is a {type(value).__name__}; expected numbers, text, lists or dicts of these, or "
        "a class or function, which identify a run"
    )


def decode(value: Any) -> Any:
    """What `encode` was given; tuples come back as lists, unless it told them apart."""
    if isinstance(value, dict) and value.keys() == {OBJECT}:
        return find_object(value[OBJECT])
    if isinstance(value, dict) and value.keys() == {TUPLE}:
        return tuple(decode(each) for each in value[TUPLE])
    if isinstance(value, dict):
        return {key: decode(each) for key, each in value.items()}
    if isinstance(value, list):
        return [decode(each) for each in value]
    return value


def find_object(name: str) -> Any:
    """The class, function, dtype or member of an Enum that `encode` named; imports its module.

    Raises ValueError for a name that leads anywhere else.
    """
    module, _, path = name.partition(":")
    found = attrgetter(path)(importlib.import_module(module))
    if encode(found, name) != {OBJECT: name}:
        raise ValueError(f"{name!r} leads to {found!r}; expected an object that is defined there")
    return found


def qualified_name(thing: Any) -> str:
    """`module:name` of a class or function, as a run's record names its model."""
    return f"{thing.__module__}:{thing.__qualname__}"


def named_objects(encoded: Any) -> list[str]:
    """Names of the objects among encoded options."""
    if isinstance(encoded, dict):
        if encoded.keys() == {OBJECT}:
            return [str(encoded[OBJECT])]
        encoded = list(encoded.values())
    inner = encoded if isinstance(encoded, list) else []
    return [name for each in inner for name in named_objects(each)]


def objects_in(value: Any) -> Iterator[Any]:
    """Classes and functions among an option's values."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from objects_in(each)
    elif isinstance(value, Enum):
        yield type(value)
    elif inspect.isclass(value) or inspect.isfunction(value):
        yield value


# --- code in a record ----------------------------------------------------------------------------


def to_record(code: Code) -> dict[str, list[str]]:
    """The code as JSON: file and text by module."""
    return {name: list(source) for name, source in code.items()}


def from_record(content: Mapping[str, Iterable[str]]) -> dict[str, Source]:
    """The code that `to_record` gave."""
    return {name: Source(*map(str, source)) for name, source in content.items()}
