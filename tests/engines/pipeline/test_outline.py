"""What importing a project can depend on."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pytest

from mlops_local.domain.graph import Graph, Step
from mlops_local.engines.pipeline.outline import Outline, outline, relined
from mlops_local.engines.pipeline.sources import discover

PIPELINE = """
import lightgbm as lgb
import polars as pl
import mlops_local as mlops
from helper import shifted

raw = mlops.data("raw.csv")
RATE = 3


@mlops.transform
def features(rows):
    return rows


@mlops.step
def split(raw):
    return shifted(raw, RATE)


delay = mlops.model("delay", label=pl.col("late") > 1, split=split, features=features)


@delay.candidate(cpus=2)
def fit(train, *, rate: float = 0.1):
    return lgb.train(train, rate)


@delay.metric
def cost(y, p):
    return y - p
"""
HELPER = '''
class Plain:
    def method(self):
        return 1


def shifted(value, by):
    """Move it."""
    return inner(value) + by


def inner(value):
    return value
'''


def found(pipeline: str = PIPELINE, helper: str = HELPER, more: Mapping[str, str] | None = None) -> Outline | None:
    """The outline of a project of these files."""
    files = {"pipeline.py": pipeline, "helper.py": helper, **(more or {})}
    texts = {path: textwrap.dedent(text).encode() for path, text in files.items()}
    return discover_outline(texts)


def discover_outline(texts: Mapping[str, bytes]) -> Outline | None:
    return outline(discover("pipeline.py", texts.get))


def digest(pipeline: str = PIPELINE, helper: str = HELPER) -> str:
    made = found(pipeline, helper)
    assert made is not None
    return made.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return shifted(raw, RATE)", "return shifted(raw, RATE) + 1"),
        ("return rows", "more = rows\n    return more"),
        ("return lgb.train(train, rate)", '"""Fit."""\n    # well\n    return lgb.train(rate, train)'),
        ("return y - p", "return [y for y in p if y]"),
    ],
)
def test_the_body_of_a_declared_function_is_not_part_of_it(old: str, new: str) -> None:
    """Steps, transforms, candidates and metrics are kept by what declares them, not run."""
    assert PIPELINE.count(old) == 1
    assert digest(PIPELINE.replace(old, new)) == digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [("return inner(value) + by", "return by"), ("    return value", "    return -value"), ("return 1", "return 2")],
)
def test_the_body_of_what_nothing_uses_while_importing_is_not_part_of_it(old: str, new: str) -> None:
    """Helpers that only steps call may change."""
    assert digest(helper=HELPER.replace(old, new)) == digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 3", "RATE = 4"),
        ("rate: float = 0.1", "rate: float = 0.2"),
        ("rate: float = 0.1", "rate: int = 0.1"),
        ("cpus=2", "cpus=1"),
        ("def split(raw)", "def split(raw, more)"),
        ("def split(raw)", "async def split(raw)"),
        ("def cost", "def costs"),
        ('label=pl.col("late") > 1', 'label=pl.col("late") > 2'),
        ("split=split", "split=fit"),
        ("import lightgbm as lgb", "import lightgbm as lgb, numpy"),
        ("return y - p", "import numpy\n    return y - p"),
        ("@mlops.transform\n", ""),
        ('raw = mlops.data("raw.csv")', 'raw = mlops.data("other.csv")'),
    ],
)
def test_all_else_is_part_of_it(old: str, new: str) -> None:
    """Constants, defaults, annotations, decorators, names, declarations and whatever is imported count."""
    assert old in PIPELINE
    assert digest(PIPELINE.replace(old, new)) != digest()


@pytest.mark.parametrize(
    "use",
    [
        "TABLE = shifted(1, 2)",
        "TABLE = [shifted]",
        "other = shifted",
        "def later(by=shifted): pass",
        "def later(by: shifted): pass",
        "def later(by: 'shifted(1, 2)'): pass",
        "@shifted\ndef later(): pass",
        "class Held:\n    made = shifted(1, 2)",
        "class Held(shifted): pass",
        "try:\n    shifted(1, 2)\nexcept TypeError:\n    pass",
        "for name in ('a',): print(name, shifted)",
        "import helper\nhelper.shifted(1, 2)",
        "import helper as h\nh.shifted(1, 2)",
        "from helper import shifted as moved\nmoved(1, 2)",
        "run = lambda: shifted(1, 2)",
        "def call():\n    return shifted(1, 2)\ncall()",
        "def outer():\n    def inside():\n        return shifted(1, 2)\n    return inside()\nouter()",
        "NAMES = 'shifted'",
        "@mlops.step(inputs={'a': shifted(1, 2)})\ndef later(a): pass",
        "from mlops_local import step\nstep = print\n@step\ndef later(): pass\nprint(shifted)",
    ],
)
def test_a_function_that_importing_may_run_is_part_of_it_with_what_it_calls(use: str) -> None:
    """Called, stored, passed on, by another name, over other functions, or in a text: its body counts, and those behind it."""
    pipeline = f"{PIPELINE}\n{use}\n"
    for old, new in (("return inner(value) + by", "return by"), ("    return value", "    return -value")):
        assert digest(pipeline, HELPER.replace(old, new)) != digest(pipeline)


@pytest.mark.parametrize(
    "use", ["Plain()", "@print\ndef later(): return Plain", "class Own(Plain): pass", "thing = [1]\nthing.method()"]
)
def test_methods_count_with_their_class_and_by_their_own_name(use: str) -> None:
    """A class that importing uses may run any of its methods."""
    pipeline = PIPELINE.replace("import shifted", "import Plain, shifted") + f"\n{use}\n"
    assert digest(pipeline, HELPER.replace("return 1", "return 2")) != digest(pipeline)


@pytest.mark.parametrize("head", ["class Plain(Enum):", "class Plain(metaclass=Meta):", "@dataclass\nclass Plain:"])
def test_methods_of_a_class_that_is_made_by_other_code_count(head: str) -> None:
    """Bases, metaclasses and decorators may run methods while the class is made."""
    helper = HELPER.replace("class Plain:", head)
    assert digest(helper=helper.replace("return 1", "return 2")) != digest(helper=helper)


def test_a_function_behind_an_unknown_decorator_counts() -> None:
    """Only our own declarations are known to leave a function alone; a name bound twice is none of ours."""
    cached = PIPELINE.replace("@mlops.step\n", "@mlops.step\n@cache\n")
    shadowed = PIPELINE.replace("RATE = 3", "mlops = print")
    patched = PIPELINE.replace("RATE = 3", "RATE = 3\nmlops.step = print")
    old, new = "return shifted(raw, RATE)", "return 1"
    assert digest(cached.replace(old, new)) != digest(cached)
    assert digest(shadowed.replace(old, new)) != digest(shadowed)
    assert found(patched) is None


def test_a_modules_own_getattr_counts() -> None:
    """Python calls it without anybody naming it."""
    helper = HELPER + "\n\ndef __getattr__(name):\n    return 1\n"
    assert digest(
        helper=helper.replace("def __getattr__(name):\n    return 1", "def __getattr__(name):\n    return 2")
    ) != digest(helper=helper)


@pytest.mark.parametrize(
    "use",
    [
        "getattr(RATE, 'a' + 'b')",
        "eval('1')",
        "import helper\nprint(helper)",
        "import helper as h\nTOOLS = [h]",
        "import importlib\nimportlib.import_module('hel' + 'per')",
        "import pickle\nTABLE = pickle.loads(b'')",
        "import sys\nsys.modules",
        "def call():\n    return globals()\ncall()",
        "import subprocess\nsubprocess.run(['python', 'helper.py'])",
        "from unittest import mock\nmock.patch('mlops_local.step')",
    ],
)
def test_code_that_may_find_functions_by_other_ways_has_none(use: str) -> None:
    """Names that are made up, modules handed on, what files and other processes name: nothing is left out then."""
    assert found(f"{PIPELINE}\n{use}\n") is None


@pytest.mark.parametrize("body", ["return 1\nreturn 2", "break", "def ", "nonlocal x"])
def test_code_that_does_not_compile_has_none(body: str) -> None:
    """Whoever imports it is to say what is wrong with it."""
    indented = textwrap.indent(body, "    " if body != "return 1\nreturn 2" else "")
    assert found(PIPELINE.replace("    return y - p", indented)) is None


def test_declarations_keep_their_lines() -> None:
    """The graph of an earlier version says where things are now; a declaration inside another statement is not guessed at."""
    before, now = found(), found("\n# a line more" + PIPELINE.replace("return rows", "# another\n    return rows"))
    assert before is not None and now is not None and before.digest == now.digest
    steps = [Step(name, "step", (), file="pipeline.py", line=line) for name, line in (("a", 7), ("b", 12), ("c", 17))]
    moved = relined(Graph(steps=(*steps, Step("d", "command", ()))), before.lines, now)
    assert moved is not None
    assert [step.line for step in moved.steps] == [8, 13, 19, 0]
    assert relined(Graph(steps=(Step("a", "step", (), file="pipeline.py", line=9),)), before.lines, now) is None
