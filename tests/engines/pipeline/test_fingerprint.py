from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pytest

from mlops_local.domain.graph import Graph, Input, Model, Param, Step, Symbol
from mlops_local.domain.plan import Part
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline.sources import SourceFile, discover

STEP = Step("fit", "step", (Symbol("pipeline", "fit"),), params=(Param("rate", 0.1),), file="pipeline.py", line=1)
OTHER = Step("other", "step", (Symbol("pipeline", "other"),), file="pipeline.py", line=2)
GRAPH = Graph(steps=(STEP, OTHER), distributions={"polars": "polars 2.1.0", "numpy": "numpy 2.4.6"})

PIPELINE = """
    import math
    import polars as pl
    import mlops_local as mlops
    import tools
    from shapes import Circle, area as measure
    from consts import *
    from pack import deep
    import pack.inner.leaf as leaf

    FACTOR = 3
    UNUSED = 4
    NAMES = ["a", "b"]

    def helper(x, scale=FACTOR):
        return x * scale

    class Cleaner:
        limit: int = 5

        def run(self, rows):
            return rows[: self.limit]

    class Better(Cleaner):
        def more(self):
            return 1

    @mlops.step
    def fit(rows: list, *, rate: float = 0.1) -> list:
        cleaned = Better().run(rows)
        scaled = [helper(row) for row in cleaned]
        return [math.floor(tools.trim(row)) + measure(Circle(1)) + PI + deep() + leaf.value() for row in scaled]

    @mlops.step
    def other(rows):
        return UNUSED + len(NAMES)
"""
MODULES = {
    "pipeline.py": PIPELINE,
    "tools.py": """
        STEP = 2
        def trim(x):
            return x - STEP
        def unused(x):
            return x
    """,
    "shapes.py": """
        from base import Shape
        class Circle(Shape):
            def __init__(self, radius):
                self.radius = radius
        def area(shape):
            return shape.radius ** 2 * shape.factor
    """,
    "base.py": """
        class Shape:
            factor = 2
    """,
    "consts.py": """
        PI = 3
        E = 2
    """,
    "pack/__init__.py": "from pack.inner.core import deep\nfrom .inner import *\n",
    "pack/inner/__init__.py": "",
    "pack/inner/core.py": "def deep():\n    return inside()\n\ndef inside():\n    return 1\n",
    "pack/inner/leaf.py": "from ..knobs import KNOB\n\ndef value():\n    return KNOB\n",
    "pack/knobs.py": "KNOB = 1\nOTHER_KNOB = 2\n",
}


def sources_of(modules: Mapping[str, str]) -> dict[str, SourceFile]:
    def load(path: str) -> bytes | None:
        text = modules.get(path)
        return None if text is None else textwrap.dedent(text).encode()

    return discover("pipeline.py", load)


def of(modules: Mapping[str, str], step: Step = STEP, graph: Graph = GRAPH) -> tuple[str, tuple[Part, ...]]:
    code = fingerprints.parts(step, graph, sources_of(modules))
    return fingerprints.fingerprint(step, code, {param.name: param.default for param in step.params}, {})


def edited(file: str, old: str, new: str) -> dict[str, str]:
    text = MODULES[file]
    assert old in text, f"the edit does not apply: {old!r}"
    return {**MODULES, file: text.replace(old, new, 1)}


NEUTRAL = {
    "comment": ("pipeline.py", "    FACTOR = 3", "    # how much\n    FACTOR = 3  # thrice"),
    "docstring": ("tools.py", "def trim(x):\n", 'def trim(x):\n            """Trim."""\n'),
    "module docstring": ("tools.py", "\n        STEP = 2", '\n        """Tools."""\n        STEP = 2'),
    "class docstring": ("base.py", "class Shape:\n", 'class Shape:\n            """A shape."""\n'),
    "formatting": ("tools.py", "return x - STEP", "return (\n                x\n                - STEP\n            )"),
    "number spelled otherwise": ("consts.py", "PI = 3", "PI = 0x3"),
    "import order": ("pipeline.py", "    import math\n    import polars as pl\n", "    import polars as pl\n    import math\n"),
    "unrelated constant": ("pipeline.py", "UNUSED = 4", "UNUSED = 5"),
    "unrelated list": ("pipeline.py", '["a", "b"]', '["a", "c"]'),
    "unrelated step": ("pipeline.py", "return UNUSED + len(NAMES)", "return UNUSED"),
    "unrelated helper in a used module": (
        "tools.py",
        "def unused(x):\n            return x",
        "def unused(x):\n            return -x",
    ),
    "unrelated star name": ("consts.py", "E = 2", "E = 3"),
    "unrelated knob": ("pack/knobs.py", "OTHER_KNOB = 2", "OTHER_KNOB = 3"),
    "new unrelated function": ("tools.py", "STEP = 2", "STEP = 2\n        def brand_new():\n            return sorted([1])"),
    "type hint": ("tools.py", "def trim(x):", "def trim(x: float) -> float:"),
    "hint of a local": ("pipeline.py", "cleaned = Better()", "cleaned: list = Better()"),
    "hint of a constant": ("tools.py", "STEP = 2", "STEP: int = 2"),
    "annotation of the step": ("pipeline.py", "rows: list, *, rate: float", "rows: tuple, *, rate: int"),
    "default that travels as a parameter": ("pipeline.py", "*, rate: float = 0.1", "*, rate: float = 0.2"),
    "our decorator's arguments": ("pipeline.py", "@mlops.step\n    def fit", "@mlops.step(gpus=1)\n    def fit"),
    "a new source": ("pipeline.py", "    FACTOR = 3", '    flights = mlops.data("data/*.csv", key="id")\n    FACTOR = 3'),
    "a main guard": (
        "pipeline.py",
        "    UNUSED = 4",
        '    UNUSED = 4\n    if __name__ == "__main__":\n        print(fit([1]))',
    ),
    "a type-checking import": (
        "tools.py",
        "STEP = 2",
        "from typing import TYPE_CHECKING\n        if TYPE_CHECKING:\n            import consts\n        STEP = 2",
    ),
    "pass": ("pack/inner/core.py", "def inside():\n", "def inside():\n    pass\n"),
    "a path computed at import": (
        "tools.py",
        "STEP = 2",
        "from pathlib import Path\n        HERE = Path(__file__).parent\n        STEP = 2",
    ),
    "an unrelated logger": (
        "tools.py",
        "STEP = 2",
        "import logging\n        log = logging.getLogger(__name__)\n        STEP = 2",
    ),
}
MEANING = {
    "body": ("pipeline.py", "return [math.floor", "return [1 + math.floor"),
    "helper": ("pipeline.py", "return x * scale", "return x + scale"),
    "helper's default through a constant": ("pipeline.py", "FACTOR = 3", "FACTOR = 4"),
    "helper in another module": ("tools.py", "return x - STEP", "return x + STEP"),
    "constant behind a helper": ("tools.py", "STEP = 2", "STEP = 3"),
    "method of a base class": ("pipeline.py", "return rows[: self.limit]", "return rows[1 : self.limit]"),
    "class attribute": ("pipeline.py", "limit: int = 5", "limit: int = 6"),
    "annotation in a class body": ("pipeline.py", "limit: int = 5", "limit: float = 5"),
    "another method of a class": ("pipeline.py", "return 1\n", "return 2\n"),
    "bases": ("pipeline.py", "class Better(Cleaner):", "class Better(Cleaner, object):"),
    "class through a from-import": ("shapes.py", "self.radius = radius", "self.radius = radius + 1"),
    "base class across modules": ("base.py", "factor = 2", "factor = 3"),
    "renamed from-import": ("shapes.py", "shape.radius ** 2", "shape.radius ** 3"),
    "which function an alias means": (
        "pipeline.py",
        "Circle, area as measure",
        "Circle, area as _area\n    from tools import trim as measure",
    ),
    "standard function behind an alias": ("pipeline.py", "import math\n", "import cmath as math\n"),
    "star-imported constant": ("consts.py", "PI = 3", "PI = 4"),
    "a star-imported name shadowed": ("pipeline.py", "    FACTOR = 3", "    PI = 7\n    FACTOR = 3"),
    "re-export of a package": (
        "pack/__init__.py",
        "from pack.inner.core import deep",
        "from pack.inner.core import inside as deep",
    ),
    "function behind a re-export": ("pack/inner/core.py", "return inside()", "return inside() + 1"),
    "deeper function behind a re-export": ("pack/inner/core.py", "return 1\n", "return 2\n"),
    "relative import": ("pack/knobs.py", "KNOB = 1", "KNOB = 9"),
    "decorator": ("tools.py", "def trim(x):", "import functools\n        @functools.cache\n        def trim(x):"),
    "an option set at import": (
        "tools.py",
        "STEP = 2",
        "import warnings\n        warnings.filterwarnings('ignore')\n        STEP = 2",
    ),
    "an option set in a module only imported": (
        "base.py",
        "class Shape",
        "import random\n        random.seed(3)\n        class Shape",
    ),
    "an attribute patched at import": ("consts.py", "E = 2", "import math\n        math.tau = 7\n        E = 2"),
    "a constant changed in a loop": ("consts.py", "E = 2", "for _ in range(2):\n            PI = PI + 1\n        E = 2"),
    "a constant changed by an augmented assignment": ("consts.py", "E = 2", "PI += 1\n        E = 2"),
    "a constant in a branch": ("consts.py", "PI = 3", "if True:\n            PI = 4\n        else:\n            PI = 3"),
    "a call whose effect cannot be judged": (
        "consts.py",
        "E = 2",
        "E = setup()\n        def setup():\n            global PI\n            PI = 5",
    ),
    "a required parameter more": ("pipeline.py", "rate: float = 0.1)", "rate: float = 0.1, depth: int = 2)"),
}


@pytest.mark.parametrize("edit", NEUTRAL.values(), ids=NEUTRAL)
def test_neutral_edit_reruns_nothing(edit: tuple[str, str, str]) -> None:
    """An edit that cannot change what the step does leaves its fingerprint alone."""
    assert of(edited(*edit))[0] == of(MODULES)[0]


@pytest.mark.parametrize("edit", MEANING.values(), ids=MEANING)
def test_edit_that_matters_changes_the_fingerprint(edit: tuple[str, str, str]) -> None:
    """An edit to anything the step reaches by name, in any module, changes its fingerprint."""
    assert of(edited(*edit))[0] != of(MODULES)[0]


@pytest.mark.parametrize("edit", [MEANING["helper"], MEANING["constant behind a helper"], MEANING["body"]])
def test_other_step_is_left_alone(edit: tuple[str, str, str]) -> None:
    """What only one step reaches does not touch the other's fingerprint."""
    assert of(edited(*edit), OTHER)[0] == of(MODULES, OTHER)[0]


def test_parts_name_the_symbol_and_its_place() -> None:
    """A changed helper can be named: its part carries module, name, file and line."""
    before = {part.what: part for part in of(MODULES)[1]}
    after = {part.what: part for part in of(edited(*MEANING["helper in another module"]))[1]}
    changed = [what for what in before if before[what].value != after[what].value]
    assert changed == ["tools.trim"]
    assert after["tools.trim"].where == "tools.py:3"


def test_a_helper_moved_unchanged_reruns_nothing() -> None:
    """Moving a helper to another module, with its import, is no change of meaning."""
    moved = {
        **edited(
            "pipeline.py", "    def helper(x, scale=FACTOR):\n        return x * scale\n", "    from moved import helper\n"
        ),
        "moved.py": "FACTOR = 3\ndef helper(x, scale=FACTOR):\n    return x * scale\n",
    }
    assert of(moved)[0] == of(MODULES)[0]


def test_two_helpers_that_swap_names_rerun() -> None:
    """The same definitions under each other's names are another program."""
    swapped = "from tools import {} as first, {} as second\ndef fit(rows):\n    return first(rows) - second(rows)\n"
    tools = {"tools.py": "def one(x):\n    return 1\ndef two(x):\n    return 2\n"}
    plain = {**tools, "pipeline.py": swapped.format("one", "two")}
    assert of(plain)[0] != of({**tools, "pipeline.py": swapped.format("two", "one")})[0]


def test_same_named_helpers_of_two_modules_that_swap_rerun() -> None:
    """Which module an alias comes from counts, although both helpers have the same name."""
    text = "from {} import f\nfrom {} import f as g\ndef fit(rows):\n    return f(rows) - g(rows)\n"
    modules = {"one.py": "def f(x):\n    return 1\n", "two.py": "def f(x):\n    return 2\n"}
    first = {**modules, "pipeline.py": text.format("one", "two")}
    assert of(first)[0] != of({**modules, "pipeline.py": text.format("two", "one")})[0]


WIDENED = {
    "globals": ("return globals()['K']", "globals()"),
    "eval": ("return eval('K')", "eval()"),
    "exec": ("exec('x = K')", "exec()"),
    "a name nobody defines": ("return MAGIC", "'MAGIC' is defined nowhere in it"),
}


@pytest.mark.parametrize(("body", "reason"), WIDENED.values(), ids=WIDENED)
def test_code_that_cannot_be_followed_counts_as_its_whole_file(body: str, reason: str) -> None:
    """Dynamic code widens to its file, and the part says why."""
    text = "K = {}\ndef fit(rows):\n    {}\n"
    before, parts = of({"pipeline.py": text.format(1, body)})
    after, _ = of({"pipeline.py": text.format(2, body)})
    assert before != after
    assert any(part.what.startswith("pipeline.py (whole file: ") and reason in part.what for part in parts)


@pytest.mark.parametrize(
    "body",
    [
        "return [getattr(tools, name)() for name in rows]",
        "t = tools\n    return t.f()",
        "return vars(tools)['f']()",
        "import importlib\n    return importlib.import_module('tools').f()",
        "return __import__('tools').f()",
        "import sys\n    return sys.modules['tools'].f()",
        "return [c().f() for c in tools.Base.__subclasses__()]",
    ],
)
def test_modules_used_as_values_count_whole(body: str) -> None:
    """A module that is passed on, looked up or imported by code counts with everything in it."""
    tools = "class Base:\n    pass\nclass A(Base):\n    def f(self):\n        return {0}\ndef f():\n    return {0}\n"
    pipeline = f"import tools\ndef fit(rows):\n    {body}\n"
    assert (
        of({"pipeline.py": pipeline, "tools.py": tools.format(1)})[0]
        != of({"pipeline.py": pipeline, "tools.py": tools.format(2)})[0]
    )


def test_a_registry_filled_by_decorators_counts() -> None:
    """A function that only a registering decorator reaches is not missed."""
    text = """
        REGISTRY = {{}}
        def register(name):
            def keep(function):
                REGISTRY[name] = function
                return function
            return keep
        @register("a")
        def first():
            return {}
        def fit(rows):
            return REGISTRY["a"]()
    """
    assert of({"pipeline.py": text.format(1)})[0] != of({"pipeline.py": text.format(2)})[0]


def test_classes_registered_by_their_base_count() -> None:
    """A subclass that `__init_subclass__` collects is not missed."""
    text = """
        class Base:
            known = []
            def __init_subclass__(cls):
                Base.known.append(cls)
        class Leaf(Base):
            value = {}
        def fit(rows):
            return [item.value for item in Base.known]
    """
    assert of({"pipeline.py": text.format(1)})[0] != of({"pipeline.py": text.format(2)})[0]


def test_docstrings_count_where_they_are_read() -> None:
    """`__doc__` in reached code makes docstrings count."""
    text = "def helper():\n    '''{}'''\ndef fit(rows):\n    return {}\n"
    assert (
        of({"pipeline.py": text.format("a", "helper.__doc__")})[0] != of({"pipeline.py": text.format("b", "helper.__doc__")})[0]
    )
    assert of({"pipeline.py": text.format("a", "helper()")})[0] == of({"pipeline.py": text.format("b", "helper()")})[0]


def test_annotations_count_where_they_are_read() -> None:
    """`get_type_hints` in reached code, and decorators that may read them, make annotations count."""
    read = "import typing\ndef helper(x: {}):\n    return x\ndef fit(rows):\n    return typing.get_type_hints(helper)\n"
    assert of({"pipeline.py": read.format("int")})[0] != of({"pipeline.py": read.format("str")})[0]
    decorated = "import valid\n@valid.check\ndef helper(x: {}):\n    return x\ndef fit(rows):\n    return helper(rows)\n"
    assert of({"pipeline.py": decorated.format("int")})[0] != of({"pipeline.py": decorated.format("str")})[0]


def test_imports_inside_functions_are_followed() -> None:
    """A function-local import, plain, renamed or from a module, is followed like one at the top."""
    for line in (
        "import tools as t\n    return t.f()",
        "from tools import f as g\n    return g()",
        "import pack.tools\n    return pack.tools.f()",
    ):
        pipeline = f"def fit(rows):\n    {line}\n"
        files = {"pipeline.py": pipeline, "pack/__init__.py": ""}
        versions = [
            {**files, "tools.py": body, "pack/tools.py": body}
            for body in ("def f():\n    return 1\n", "def f():\n    return 2\n")
        ]
        assert of(versions[0])[0] != of(versions[1])[0], line


def test_local_names_do_not_reach_the_module() -> None:
    """An argument, a local or a comprehension variable hides a module's name."""
    text = (
        "rows = {0}\nx = {0}\ny = {0}\nz = {0}\ndef fit(rows):\n    x = 1\n    for y in rows:\n"
        "        x += y\n    return [z for z in rows] + [x]\n"
    )
    assert of({"pipeline.py": text.format(1)})[0] == of({"pipeline.py": text.format(2)})[0]


def test_comprehension_reads_its_first_iterable_outside() -> None:
    """`[x for x in x]` reads the module's x."""
    text = "x = [{}]\ndef fit(rows):\n    return [x for x in x]\n"
    assert of({"pipeline.py": text.format(1)})[0] != of({"pipeline.py": text.format(2)})[0]


def test_a_builtin_that_is_shadowed_counts() -> None:
    """A module that gives a builtin's name to a function of its own changes who calls it."""
    text = "def fit(rows):\n    return sorted(rows)\n"
    assert of({"pipeline.py": text})[0] != of({"pipeline.py": "def sorted(rows):\n    return rows\n" + text})[0]


@pytest.mark.parametrize(
    "text",
    [
        "class Tasks:\n    def __init__(self):\n        self.all = []\n"
        "    def task(self, f):\n        self.all.append(f)\n        return f\n"
        "tasks = Tasks()\n@tasks.task\ndef one():\n    return {}\ndef fit(rows):\n    return [f() for f in tasks.all]\n",
        "class Tasks:\n    all = []\n    @classmethod\n    def task(cls, f):\n        cls.all.append(f)\n        return f\n"
        "@Tasks.task\ndef one():\n    return {}\ndef fit(rows):\n    return [f() for f in Tasks.all]\n",
        "tasks = []\ndef keep(f):\n    known = tasks\n    known.append(f)\n@keep\ndef one():\n    return {}\n"
        "def fit(rows):\n    return [f() for f in tasks]\n",
        "tasks = []\n@tasks.append\ndef one():\n    return {}\ndef fit(rows):\n    return [f() for f in tasks]\n",
        "class Meta(type):\n    all = []\n"
        "    def __new__(m, *a):\n        c = super().__new__(m, *a)\n        m.all.append(c)\n        return c\n"
        "class One(metaclass=Meta):\n    value = {}\ndef fit(rows):\n    return [c.value for c in Meta.all]\n",
        "import json\nTABLE = dict(a=1)\nTABLE.update(a={})\ndef fit(rows):\n    return TABLE\n",
        "import json\nTABLE = dict(a=1)\nTABLE['a'] = {}\ndef fit(rows):\n    return TABLE\n",
    ],
)
def test_registries_of_every_sort_count(text: str) -> None:
    """What is collected while the module is imported is not missed, whoever collects it."""
    assert of({"pipeline.py": text.format(1)})[0] != of({"pipeline.py": text.format(2)})[0]


def test_the_last_of_a_star_import_and_a_definition_counts() -> None:
    """A star import may replace a name defined above it."""
    text = "LIMIT = 1\nfrom consts import *\ndef fit(rows):\n    return LIMIT\n"
    assert of({"pipeline.py": text, "consts.py": "LIMIT = 2\n"})[0] != of({"pipeline.py": text, "consts.py": "LIMIT = 3\n"})[0]


def test_methods_of_an_object_made_upstream_count() -> None:
    """A step that calls methods of a value depends on the class, although it never names it."""
    first = Step("first", "step", (Symbol("pipeline", "first"),))
    second = Step("second", "step", (Symbol("pipeline", "second"),), inputs=(Input("first", "first"),))
    graph = Graph(steps=(first, second))
    text = (
        "class Scaler:\n    def run(self, x):\n        return x * {}\ndef first():\n"
        "    return Scaler()\ndef second(first):\n    return first.run(1)\n"
    )
    made = [
        [part.value for part in fingerprints.parts(second, graph, sources_of({"pipeline.py": text.format(n)}))] for n in (1, 2)
    ]
    assert made[0] != made[1]


def test_global_statement_is_followed() -> None:
    """A function that rebinds a module's variable depends on it."""
    text = (
        "count = {}\ndef bump():\n    global count\n    count = count + 1\n    return count\n"
        "def fit(rows):\n    return bump()\n"
    )
    assert of({"pipeline.py": text.format(1)})[0] != of({"pipeline.py": text.format(2)})[0]


def test_library_versions_and_variables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of a library the step reaches, and an environment variable it reads, are parts of their own kind."""
    text = (
        "import os\nimport polars as pl\nLIMIT = int(os.environ.get('LIMIT_ROWS', '3'))\n"
        "def fit(rows):\n    return pl.Series(rows[:LIMIT])\n"
    )
    monkeypatch.setenv("LIMIT_ROWS", "5")
    before, parts = of({"pipeline.py": text})
    env = {part.what: part.value for part in parts if part.kind == "env"}
    assert env["polars"] == "2.1.0"
    assert "numpy" not in env
    upgraded = Graph(steps=GRAPH.steps, distributions={"polars": "polars 2.2.0"})
    assert of({"pipeline.py": text}, graph=upgraded)[0] != before
    monkeypatch.setenv("LIMIT_ROWS", "6")
    assert of({"pipeline.py": text})[0] != before
    assert "5" not in env["$LIMIT_ROWS"] or len(env["$LIMIT_ROWS"]) == 16


def test_libraries_of_what_made_an_input_count() -> None:
    """A step that only calls methods of a value depends on the library that made it."""
    first = Step("first", "step", (Symbol("pipeline", "first"),))
    second = Step("second", "step", (Symbol("pipeline", "second"),), inputs=(Input("first", "first"),))
    graph = Graph(steps=(first, second), distributions={"lightgbm": "lightgbm 4.7.0"})
    text = (
        "def first():\n    import lightgbm\n    return lightgbm.Booster()\ndef second(first):\n"
        "    return first.feature_importance()\n"
    )
    parts = fingerprints.parts(second, graph, sources_of({"pipeline.py": text}))
    assert ("lightgbm", "4.7.0") in {(part.what, part.value) for part in parts}


def test_parameters_and_inputs_count_by_value() -> None:
    """Another parameter, another input content or another way to ask for it is another execution."""
    step = Step(
        "fit",
        "step",
        (Symbol("pipeline", "fit"),),
        inputs=(Input("rows", "split", "train", "lazy"),),
        params=(Param("rate", 1),),
    )
    lazy = Step("fit", "step", step.code, inputs=(Input("rows", "split", "train", "frame"),), params=step.params)
    sources = sources_of(MODULES)

    def made(step: Step, rate: float, content: str) -> str:
        return fingerprints.fingerprint(step, fingerprints.parts(step, GRAPH, sources), {"rate": rate}, {"rows": content})[0]

    found = {made(step, 1, "a"), made(step, 2, "a"), made(step, 1, "b"), made(lazy, 1, "a")}
    assert len(found) == 4
    assert made(step, 1, "a") in found


MODEL = """
    import polars as pl
    import mlops_local as mlops
    LIMIT = 15
    ELSE = 1
    def split(rows): ...
    @mlops.transform
    def features(rows):
        return rows
    delay = mlops.model("delay", label=pl.col("late") > LIMIT, split=split, features=features, slices=["a"])
    @delay.candidate
    def gbm(train):
        return 1
    @delay.test
    def works(predict, rows):
        assert len(rows) > ELSE
"""


def model_steps() -> tuple[Graph, dict[str, Step]]:
    code = (Symbol("pipeline", "features"),)
    steps = {
        "features": Step("delay.features", "features", code, model="delay"),
        "gbm": Step("gbm", "candidate", (Symbol("pipeline", "gbm"),), model="delay"),
        "evaluate": Step("gbm.evaluate", "evaluate", (*code, Symbol("pipeline", "works")), model="delay"),
    }
    model = Model("delay", "split", code[0], declared=Symbol("pipeline", "delay"), candidates=("gbm",))
    return Graph(steps=tuple(steps.values()), models=(model,)), steps


@pytest.mark.parametrize(
    ("old", "new", "reruns"),
    [
        ("LIMIT = 15", "LIMIT = 20", {"features", "evaluate"}),
        ("return rows", "return rows.head()", {"features", "evaluate"}),
        ("ELSE = 1", "ELSE = 2", {"evaluate"}),
        ("return 1", "return 2", {"gbm"}),
        ('slices=["a"]', 'slices=["b"]', set()),  # travels as the step's extras
        ("def split(rows): ...", "def split(rows): return 1", set()),
    ],
)
def test_model_nodes_depend_on_their_own_share(old: str, new: str, reruns: set[str]) -> None:
    """Label and transform belong to features and evaluation, tests to evaluation, a candidate's code to the candidate."""
    graph, steps = model_steps()
    before, after = sources_of({"pipeline.py": MODEL}), sources_of({"pipeline.py": MODEL.replace(old, new)})
    changed = {
        name
        for name, step in steps.items()
        if [part.value for part in fingerprints.parts(step, graph, before)]
        != [part.value for part in fingerprints.parts(step, graph, after)]
    }
    assert changed == reruns


def test_digest_is_unambiguous() -> None:
    """Texts cannot be shifted between parts, and a kind is part of the hash."""
    made = {
        fingerprints.digest("a", "bc"),
        fingerprints.digest("ab", "c"),
        fingerprints.digest("a", "b", "c"),
        fingerprints.digest("a"),
    }
    assert len(made) == 4


def test_every_sort_of_local_variable_can_be_renamed() -> None:
    """Names bound by `except`, `match`, comprehensions and walruses are local too."""
    text = """
E = ValueError
def fit(rows):
    try:
        {a} = 1
    except E as {e}:
        {a} = {e}
    match {a}:
        case [{x}, *{y}]:
            return {x}, {y}
    def inner():
        nonlocal {a}
        {a} = 2
    inner()
    with open("f") as {e}:
        return [({q}, {a}) for {q} in rows if ({x} := {q})]
"""
    names = [{name: f"{name}{number}" for name in "aexyq"} for number in (1, 2)]
    assert of({"pipeline.py": text.format(**names[0])})[0] == of({"pipeline.py": text.format(**names[1])})[0]


def test_a_decorator_that_is_not_known_belongs_to_every_step_of_its_module() -> None:
    """What an unknown library keeps of a function it decorates may come back in any step; known ones keep nothing."""
    text = "import lib\nimport numba\n@{decorator}\ndef unused():\n    return {value}\ndef fit(rows):\n    return lib.all()\n"

    def same(decorator: str) -> bool:
        prints = [of({"pipeline.py": text.format(decorator=decorator, value=value)})[0] for value in (1, 2)]
        return prints[0] == prints[1]

    assert not same("lib.node")
    assert not same("lib.on('start')")
    assert same("numba.njit")
    assert same("numba.njit(cache=True)")
    assert not same("numba.extending.overload(len)")
