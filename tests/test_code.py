"""A run's key covers the code that its model is made of, wherever that is written."""

from __future__ import annotations

import enum
import importlib
import json
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import baselines.simvp
from benchmarks.experiment import code
from tau import TAU

MODEL = """
'''Doc.'''
from tau import Predictor

class Mine(Predictor):
    '''Doc.'''

    def forward(self, past, horizon):
        return past[:, -1:].expand(-1, horizon, -1, -1, -1)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write modules (name -> text) and import the first of them; its name is new each time."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**texts):
        for name in texts:
            sys.modules.pop(name, None)
        for name, text in texts.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return importlib.import_module(next(iter(texts)).replace("__", "."))

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def digest(model):
    return code.digest(code.code_of(model))


def test_code_counts_but_words_do_not(module):
    digests = [
        digest(module(**{name: text}).Mine)
        for name, text in {
            "mine_a": MODEL,
            "mine_b": MODEL.replace("Doc.", "Other words.") + "# a remark\n",
            "mine_c": MODEL.replace("past[:, -1:]", "past[:, :1]"),
        }.items()
    ]
    assert digests[0] == digests[1] != digests[2]


EVERY_KIND = r"""
import a.b as c
from .d import e, f as g

@decorated(1, *e, **f)
class Class(Base, metaclass=Meta):
    x: int = 1
    y: "Class | None"

    def method(self, a, /, b=1, *args: *Ts, c, d=None, **kwargs) -> dict[str, int]:
        global u
        return

    async def coroutine(self):
        async with x as y, z:
            async for i in j:
                await k
        return [i async for i in j if i] + [*x, *y] + [x[*y, 1:2, ::3, ...]]

def generator():
    yield
    z = yield x
    yield from (lambda x=None, *y: (x := y))(1)
    return {**x, "k": None}, {1, 2}, {k: v for k, v in x}, None

try:
    pass
except* ValueError as error:
    raise TypeError from error
else:
    del x
finally:
    assert x, "text"

match x:
    case [1, -2.5, *rest] | {"k": None, **rest} if rest:
        pass
    case Class(1, y="a" "b") as z:
        pass
    case _:
        pass

while not x or y is not None and 1 < z <= 2:
    x += -y if y else ~z @ w
    if x: continue
    elif y: break
for x, *y in z: ...

values = [True, None, ..., 1, -0.0, 0.1, 1e22, 1e400, 2j, -1e-400j, b"\xff\0'", 0x%s]
texts = ["a" "b", u"u", "\ud800", "\u00e9\U0001f600\n", "{", "{{", "\N{EN DASH}" if x else ""]
texts = [f"", f"a", f"{x}", "a{{" f"{{{x!r}" "b" f"c{y:>{z}.{w}f}", f"{x=}", f"{x = !s:^{y}}"]
texts = [f"{x:{y}}", f"{x:a{y}b}", f"{x:\N{DIGIT ONE}0}", f"{x:%%H:%%M}", f"{f'{x:{y}}'}"]
""" % ("f" * 5000)


def test_the_digest_of_code_is_the_same_in_every_version_of_python():
    """ast.dump differs for empty fields and f-strings, and so does the syntax tree."""
    assert (
        code.digest({"every_kind": code.Source("every_kind.py", EVERY_KIND)})
        == "45f75cf83990eb71db66e147c51551331a099ba44847c2e8ba842c2c6a3a1184"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("x = 1", "x = 1.0"), ("x = 1", "x = True"), ("x = 0.0", "x = -0.0"), ("return", "")),
        *(("x = 'a'", "x = b'a'"), ("x = ''", "x = None"), ("x = 'None'", "x = None")),
        *(("x = '{{'", "x = f'{{'"), ("x = '{}'", "x = f'{x}'"), ("x = f'{x}'", "x = f'{x!r}'")),
        *(("x = f'{x}a'", "x = f'a{x}'"), ("x = f'{x:a}'", "x = f'{x}a'"), ("x = 1", "x: int = 1")),
        *(("f(a, b)", "f(a)(b)"), ("[a, [b]]", "[[a], b]"), ("x = []", "x = [None]")),
        *(("def f(*, a=1, b): ...", "def f(*, a, b=1): ..."), ("from . import a", "import a")),
        *(("if a: b\nc", "if a:\n b\n c"), ("return None", "return"), ("f(a=b)", "f(b=a)")),
    ],
)
def test_code_that_does_something_else_has_another_digest(one, other):
    digests = {
        code.digest(
            {"m": code.Source("m.py", f"def f():\n    'Doc.'\n{textwrap.indent(text, ' ' * 4)}")}
        )
        for text in (one, other)
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 'ab'", "x = ('a'  # a remark\n     f'b')"),
        ("x = f'a{x:{y}}b'", "x = 'a' f'{x:{y}}' 'b' ''"),
        ("x = 1000", "x = 1_000"),
        ("def f():\n    pass", "def f():\n    'Doc.'\n    pass"),
    ],
)
def test_code_in_other_words_has_the_same_digest(one, other):
    assert len({code.digest({"m": code.Source("m.py", text)}) for text in (one, other)}) == 1


def test_a_helper_module_may_have_the_name_of_one_in_some_standard_library(module, tmp_path):
    """Such as chunk, which Python 3.13 has no more: an edit of one's own must count everywhere."""
    mine = module(using="import chunk\nclass Mine:\n    a = chunk.A\n", chunk="A = 1\n").Mine
    assert code.code_of(mine).keys() == {"using", "chunk"}
    using = module(using_json="import json, os.path, xml.dom\nclass Mine:\n    pass\n").Mine
    assert code.code_of(using).keys() == {"using_json"}


HELPED = {
    "a constant of a helper module": ("from helper import SCALE", "SCALE"),
    "a function of a helper module": ("from helper import scale", "scale()"),
    "a helper module": ("import helper", "helper.SCALE"),
    "a helper module by another name": ("import helper as h", "h.SCALE"),
    "a star": ("from helper import *", "SCALE"),
    "an import inside a function": ("", "__import__('helper').SCALE"),
}


@pytest.mark.parametrize("how", HELPED)
def test_editing_a_helper_module_changes_the_key(module, tmp_path, how):
    line, use = HELPED[how]
    inside = "import helper" if "inside" in how else "pass"
    text = f"""
        {line}
        from tau import Predictor

        class Mine(Predictor):
            def forward(self, past, horizon):
                {inside}
                return {use} * past
        """
    helper = "SCALE = 2.0\n\ndef scale():\n    return {}\n"
    mine = module(using=text, helper=helper.format("2.0")).Mine
    before = digest(mine)
    assert digest(mine) == before
    (tmp_path / "helper.py").write_text(helper.format("3.0"))
    assert digest(mine) != before


def test_helpers_of_helpers_and_relative_imports_are_followed(module, tmp_path):
    mine = module(
        own__model="""
        from .layers import block
        from tau import Predictor

        class Mine(Predictor):
            def forward(self, past, horizon):
                return block(past)
        """,
        own__layers="from own import constants\n\ndef block(x):\n    return constants.A * x\n",
        own__constants="A = 1\n",
        own____init__="",
    ).Mine
    assert {"own.model", "own.layers", "own.constants"} <= code.code_of(mine).keys()
    before = digest(mine)
    (tmp_path / "own" / "constants.py").write_text("A = 2\n")
    assert digest(mine) != before


def test_the_code_of_a_built_in_model_is_what_it_is_made_of_and_no_more():
    found = set(code.code_of(TAU))
    assert {"tau.model", "tau.attention", "tau.spatial", "tau.loss", "tau.predictor"} <= found
    assert "tau.spatial" in code.code_of(baselines.SimVP)
    assert not any(name.startswith(("baselines", "benchmarks", "torch")) for name in found)
    assert code.belongs_to_user(code.code_of(TAU)) == {}


def test_what_others_put_into_a_module_is_not_followed(monkeypatch):
    """As torch.compile does; else a key would depend on what the process did before."""
    before = digest(TAU)
    for name in ("tau.model", "tau.spatial"):
        monkeypatch.setattr(
            sys.modules[name], "__import_baselines_dot_simvp", baselines.simvp, raising=False
        )
    assert digest(TAU) == before


def test_an_edited_file_does_not_reach_a_process_that_carries_the_code(module, tmp_path):
    """A suite that is edited while workers start: they run the plan that was made."""
    mine = module(using="from helper import A\nclass Mine:\n    a = A\n", helper="A = 1\n").Mine
    carried = code.code_of(mine)
    (tmp_path / "helper.py").write_text("A = 2\n")
    (tmp_path / "using.py").unlink()
    script = (
        "import pickle, sys\nfrom benchmarks.experiment import code\n"
        "carried, reference = pickle.load(sys.stdin.buffer)\n"
        "code.install(carried)\n"
        "print(pickle.loads(reference).a, code.digest(carried))\n"
    )
    sent = pickle.dumps((carried, pickle.dumps(mine)))
    done = subprocess.run(
        [sys.executable, "-c", script], input=sent, capture_output=True, timeout=120, check=True
    )
    assert done.stdout.decode().split() == ["1", code.digest(carried)]


def test_other_code_of_the_same_name_is_refused(module):
    mine = module(using="class Mine:\n    pass\n").Mine
    carried = code.code_of(mine)
    code.install(carried)  # the same
    changed = {"using": carried["using"]._replace(text="class Mine:\n    a = 1\n")}
    with pytest.raises(ValueError, match="'using' is imported already, with other code"):
        code.install(changed)


# Files


def test_a_file_in_the_current_folder_is_imported(tmp_path, monkeypatch):
    """As `--suite mine.py` in its own folder: the path of modules begins there."""
    (tmp_path / "here_i_am.py").write_text("X = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    from pathlib import Path

    assert code.import_file(Path("here_i_am.py")).X == 1
    assert code.import_file(tmp_path / "here_i_am.py").X == 1
    del sys.modules["here_i_am"]


def test_a_file_that_would_hide_another_module_is_refused(tmp_path, monkeypatch):
    for name in ("json", "numpy", "benchmarks"):
        (tmp_path / f"{name}.py").write_text("")
        with pytest.raises(ValueError, match=f"would hide the module '{name}'"):
            code.import_file(tmp_path / f"{name}.py")


def test_a_file_may_be_called_as_a_folder_of_the_users(tmp_path, monkeypatch):
    """A suite data.py in another folder than the working folder, which has a folder data."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "recordings_of_mine").mkdir()
    path = tmp_path / "suites" / "recordings_of_mine.py"
    path.parent.mkdir()
    path.write_text("X = 1\n")
    assert code.import_file(path).X == 1
    del sys.modules[path.stem]


def test_a_file_may_not_be_called_as_an_installed_package_without_init(tmp_path, monkeypatch):
    (tmp_path / "site-packages" / "name_of_theirs").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    path = tmp_path / "name_of_theirs.py"
    path.write_text("")
    with pytest.raises(ValueError, match="would hide the module 'name_of_theirs'"):
        code.import_file(path)


# Options


class Kind(enum.Enum):
    A = 1
    B = 2


def helper():
    """A function that an option may be."""


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, 0.5, "text", [1, [2]], {"a": {"b": 1}}),
        *(torch.nn.GELU, helper, Kind.B, torch.float32, {"f": [helper]}),
    ],
)
def test_options_come_back_from_a_record(value):
    assert code.decode(code.encode(value, "option")) == value


def test_equal_options_have_equal_records():
    for a, b in (
        (np.float64(0.5), 0.5),
        (np.int32(3), 3),
        (np.bool_(True), True),
        ((1, 2), [1, 2]),
        (np.float32(0.25), 0.25),
    ):
        assert code.encode(a, "") == code.encode(b, "") and type(code.encode(a, "")) is type(b)


@pytest.mark.parametrize(
    "value", [lambda x: x, torch.zeros(2), np.zeros(2), object(), {1: 2}, {1, 2}, "".join]
)
def test_an_option_that_cannot_identify_a_run_is_refused(value):
    with pytest.raises(ValueError, match="option 'f' is"):
        code.encode(value, "option 'f'")


@pytest.mark.parametrize("name", ["tau.model:torch.hub.load", "os:system.__name__", "tau.model:x"])
def test_a_name_in_a_record_leads_to_what_is_defined_there_or_nowhere(name):
    with pytest.raises((ValueError, AttributeError)):
        code.find_object(name)


def test_a_tuple_comes_back_as_one_where_it_is_told_apart():
    value = {"kernel": (3, [5, (7,)]), "kind": Kind.B}
    encoded = code.encode(value, "x", tuples=True)
    assert code.decode(json.loads(json.dumps(encoded))) == value
    assert code.decode(code.encode(value, "x")) == {"kernel": [3, [5, [7]]], "kind": Kind.B}
    assert code.named_objects(encoded) == ["test_code:Kind.B"]


# Packages and files that pass names on

BLOCK = "class Block:\n    a = 1\n"
PACKAGES = {
    "a package": {
        "a_pack/__init__.py": "from .layers import Block\n",
        "a_pack/layers.py": BLOCK,
    },
    "a folder": {"a_pack/layers.py": BLOCK},
    "a module that passes it on": {
        "a_pack.py": "from a_helper import Block\n",
        "a_helper.py": BLOCK,
    },
}


@pytest.mark.parametrize(
    ("kind", "imported"),
    [
        ("a package", "from a_pack import Block"),
        ("a package", "import a_pack\nBlock = a_pack.Block"),
        ("a package", "from a_pack.layers import Block"),
        ("a package", "import a_pack.layers\nBlock = a_pack.layers.Block"),
        ("a folder", "from a_pack.layers import Block"),
        ("a module that passes it on", "from a_pack import Block"),
    ],
)
def test_code_is_carried_with_all_that_it_is_imported_through(module, tmp_path, kind, imported):
    for name, text in PACKAGES[kind].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    mine = module(using_a_pack=f"{imported}\nclass Mine(Block):\n    pass\n").Mine
    carried = code.code_of(mine)
    files = ("using_a_pack.py", *PACKAGES[kind])
    assert set(carried) == {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files
    }
    for path in tmp_path.rglob("*.py"):
        path.unlink()
    script = (
        "import pickle, sys\nfrom benchmarks.experiment import code\n"
        "code.install(pickle.load(sys.stdin.buffer))\n"
        "import using_a_pack\nprint(using_a_pack.Mine.a)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(carried),
        capture_output=True,
        timeout=120,
        check=True,
        cwd=tmp_path.parent,
    )
    assert done.stdout.decode().split() == ["1"]


def test_a_file_finds_the_modules_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "beside_it.py").write_text("X = 1\n")
    (tmp_path / "the_file.py").write_text("from beside_it import X\n")
    found = code.import_file(tmp_path / "the_file.py")
    assert found.X == 1
    for name in ("the_file", "beside_it"):
        del sys.modules[name]
