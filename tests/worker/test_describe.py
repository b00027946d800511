from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, Input, Param, Symbol
from mlops_local.engines.pipeline.runner import Workers
from mlops_local.engines.pipeline.sources import discover

HEAD = """\
from typing import NamedTuple
import mlops_local as mlops

flights = mlops.data("data/*.parquet", key=["id"], time="at", outcome="late")

class Split(NamedTuple):
    train: list
    valid: list
    test: list

@mlops.step
def split(flights, *, months: int = 1) -> Split:
    return Split([], [], [])
"""
MODEL = """\
import polars as pl

@mlops.step
def codes(train: "pl.LazyFrame") -> dict:
    return {}

@mlops.transform
def features(rows: pl.DataFrame, codes: dict) -> pl.DataFrame:
    return rows

delay = mlops.model("delay", label=pl.col("late") > 15, split=split, features=features, cluster="day", slices="carrier")

@delay.candidate
def gbm(train: mlops.XY, valid: mlops.XY, codes, *, rate: float = 1):
    return 1

@delay.candidate(gpus=1)
def mlp(train, *, epochs: int = 5):
    return 1

@delay.metric
def cost(y, p, rows):
    return y

@delay.test
def works(predict, rows):
    assert callable(predict)
"""


def describe(root: Path, text: str, **files: str) -> Graph:
    (root / "pipeline.py").write_text(textwrap.dedent(text))
    for name, content in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(content))
    with Workers(root) as workers:
        return workers.describe("pipeline.py", discover("pipeline.py", loader(root)))


def loader(root: Path):  # type: ignore[no-untyped-def]
    def load(path: str) -> bytes | None:
        return (root / path).read_bytes() if (root / path).is_file() else None

    return load


def test_sources_steps_and_outputs(tmp_path: Path) -> None:
    """Sources, multiple outputs, inputs by convention and parameters with their types are described."""
    graph = describe(
        tmp_path,
        HEAD
        + """
import polars as pl
@mlops.step
def count(train: pl.LazyFrame, split__test: pl.DataFrame, codes: "pd.DataFrame", flights) -> int:
    return 1
@mlops.step(inputs={"a": "split.valid", "b": flights, "c": count}, gpus=2)
def codes(a, b, c, *, top: int = 5, names: list = ["x"], name: str | None = None, must: float):
    return 1
""".replace('codes: "pd.DataFrame", ', ""),
    )
    source = graph.source("flights")
    assert (source.pattern, source.key, source.time, source.outcome) == ("data/*.parquet", ("id",), "at", ("late",))
    split, count, codes = graph.step("split"), graph.step("count"), graph.step("codes")
    assert split.outputs == ("train", "valid", "test")
    assert (split.file, split.line, split.code) == ("pipeline.py", 12, (Symbol("pipeline", "split"),))
    assert split.params == (Param("months", 1, type="int"),)
    assert count.inputs == (
        Input("train", "split", "train", "lazy"),
        Input("split__test", "split", "test", "frame"),
        Input("flights", "flights", "", "value"),
    )
    assert codes.inputs == (Input("a", "split", "valid"), Input("b", "flights"), Input("c", "count"))
    assert codes.needs.gpus == 2
    assert codes.params == (
        Param("top", 5, type="int"),
        Param("names", ["x"]),
        Param("name"),
        Param("must", required=True, type="float"),
    )
    assert [step.name for step in graph.steps] == ["split", "count", "codes"]
    assert graph.distributions["polars"].startswith("polars 2")


def test_model_adds_its_nodes(tmp_path: Path) -> None:
    """A model gives a features node, each candidate and each candidate's evaluation, wired to split and states."""
    graph = describe(tmp_path, HEAD + MODEL)
    model = graph.model("delay")
    assert model.candidates == ("gbm", "mlp")
    assert (model.split, model.rows, model.cluster, model.slices) == ("split", "frame", "day", ("carrier",))
    assert model.states == (Input("codes", "codes"),)
    assert model.metrics == (Symbol("pipeline", "cost"),)
    assert model.tests == (Symbol("pipeline", "works"),)
    assert model.declared == Symbol("pipeline", "delay")
    made = graph.step("delay.features")
    assert made.outputs == ("train", "valid", "test")
    assert [item.argument for item in made.inputs] == ["train", "valid", "test", "states.codes"]
    gbm = graph.step("gbm")
    assert gbm.inputs == (
        Input("train", "delay.features", "train", "xy"),
        Input("valid", "delay.features", "valid", "xy"),
        Input("codes", "codes"),
    )
    assert gbm.params == (Param("rate", 1.0, type="float"),)
    assert graph.step("mlp").needs.gpus == 1
    evaluate = graph.step("gbm.evaluate")
    assert [(item.argument, item.node) for item in evaluate.inputs] == [
        ("fitted", "gbm"),
        ("train", "delay.features"),
        ("valid", "delay.features"),
        ("test", "delay.features"),
        ("states.codes", "codes"),
    ]
    names = [step.name for step in graph.steps]
    assert names.index("codes") < names.index("delay.features") < names.index("gbm") < names.index("gbm.evaluate")


def test_declarations_may_live_in_several_modules(tmp_path: Path) -> None:
    """Steps of imported project modules belong to the pipeline, under their own module, once."""
    graph = describe(
        tmp_path,
        "import mlops_local as mlops\nfrom parts.clean import clean, rows\nimport parts.more\n",
        parts__clean="""
            import mlops_local as mlops
            rows = mlops.data("a.csv")
            @mlops.step
            def clean(rows):
                return 1
        """,
        parts__more="""
            import mlops_local as mlops
            from .clean import clean as again
            @mlops.step
            def more(clean):
                return 1
        """,
    )
    assert {step.name: step.code[0].module for step in graph.steps} == {"clean": "parts.clean", "more": "parts.more"}
    assert graph.modules == {"pipeline": "pipeline.py", "parts.clean": "parts/clean.py", "parts.more": "parts/more.py"}


def test_modules_imported_by_code_and_files_read_are_reported(tmp_path: Path) -> None:
    """A module found only while importing, and a file read at import, are named so that they are hashed from then on."""
    (tmp_path / "names.json").write_text('["extra"]')
    graph = describe(
        tmp_path,
        "import importlib, json\nfor name in json.load(open('names.json')):\n    importlib.import_module(name)\n",
        extra="X = 1\n",
    )
    assert graph.modules == {"pipeline": "pipeline.py", "extra": "extra.py"}
    assert graph.reads == ("names.json",)


BAD = {
    "set": (
        "@mlops.step\ndef names(train) -> set[str]:\n    return set()\n",
        "pipeline.py:15: step 'names' is a set, and sets have no order",
        "sorted list",
    ),
    "set in a field": (
        "class Out(NamedTuple):\n    a: int\n    b: 'frozenset[int]'\n"
        "@mlops.step\ndef names(train) -> Out:\n    return Out(1, 2)\n",
        "pipeline.py:18: output 'b' of step 'names' is a set, and sets have no order",
        "sorted list",
    ),
    "cycle": (
        "@mlops.step\ndef a(b):\n    return 1\n@mlops.step\ndef b(a):\n    return 1\n",
        "pipeline.py:15: the steps need each other in a circle: a → b → a",
        "one of them",
    ),
    "unknown input": (
        "@mlops.step\ndef a(trian):\n    return 1\n",
        "pipeline.py:15: 'a' asks for 'trian', and nothing makes it, did you mean 'train'?",
        "there are: flights, split, a, train, valid, test",
    ),
    "positional parameter": (
        "@mlops.step\ndef a(train, depth=3):\n    return 1\n",
        "pipeline.py:15: 'a' asks for 'depth', and nothing makes it",
        "put it after a bare `*`",
    ),
    "a step with several outputs": (
        "@mlops.step\ndef a(split):\n    return 1\n",
        "pipeline.py:15: argument 'split': 'split' has several outputs: train, valid, test",
        "split__train",
    ),
    "an output of several steps": (
        "@mlops.step\ndef again(flights) -> Split:\n    return 1\n@mlops.step\ndef a(train):\n    return 1\n",
        "pipeline.py:18: argument 'train': several steps make 'train': split, again",
        "split__train or again__train",
    ),
    "no such output": (
        "@mlops.step\ndef a(split__tran):\n    return 1\n",
        "pipeline.py:15: argument 'split__tran': 'split' makes no 'tran', did you mean 'train'?",
        "there are: train, valid, test",
    ),
    "two of a name": (
        "@mlops.step\ndef split(flights):\n    return 1\n",
        "pipeline.py:15: 'split' is declared twice, first in line 12",
        "rename one",
    ),
    "star arguments": ("@mlops.step\ndef a(*things):\n    return 1\n", "pipeline.py:15: 'a' takes *things", "name every input"),
    "a default that is no JSON": (
        "@mlops.step\ndef a(train, *, kind=object()):\n    return 1\n",
        "pipeline.py:15: parameter 'kind' of 'a' has a default that is no JSON value",
        "a constant of the module",
    ),
    "inputs for nobody": (
        "@mlops.step(inputs={'rowz': flights})\ndef a(rows):\n    return 1\n",
        "pipeline.py:15: 'a' asks for 'rows', and nothing makes it",
        "there are",
    ),
    "a label that is none": (
        MODEL.replace('pl.col("late") > 15', "True"),
        "pipeline.py:24: label of model 'delay' is a bool, not a polars expression",
        "pl.col",
    ),
    "an unknown metric": (
        MODEL.replace('cluster="day"', 'metric="auk"'),
        "pipeline.py:24: model 'delay' has the metric 'auk', which nobody knows, did you mean 'auc'?",
        "cost",
    ),
    "features that are no transform": (
        MODEL.replace("@mlops.transform\n", ""),
        "pipeline.py:23: features of model 'delay' is no transform: features",
        "@mlops.transform",
    ),
    "a split without parts": (
        MODEL.replace("split=split", "split=codes"),
        "pipeline.py:24: split 'codes' of model 'delay' makes no train and no valid and no test",
        "NamedTuple",
    ),
    "a candidate that lost its name": (
        MODEL + "gbm = 3\n",
        "pipeline.py:24: candidate 'gbm' of model 'delay' is not found under its name",
        "def",
    ),
}


@pytest.mark.parametrize(("text", "message", "hint"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused_with_place_and_hint(text: str, message: str, hint: str, tmp_path: Path) -> None:
    """Each wrong declaration gives one message with file and line, and says the way out."""
    with pytest.raises(ConfigError) as caught:
        describe(tmp_path, HEAD + text)
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_every_problem_is_listed(tmp_path: Path) -> None:
    """Two mistakes are both told at once."""
    with pytest.raises(ConfigError) as caught:
        describe(tmp_path, HEAD + "@mlops.step\ndef a(x):\n    return 1\n@mlops.step\ndef b(y) -> set:\n    return 1\n")
    assert len(caught.value.problems) == 3


def test_duplicate_names_across_modules(tmp_path: Path) -> None:
    """Two modules that declare the same name are told with both places."""
    step = "import mlops_local as mlops\n@mlops.step\ndef same():\n    return 1\n"
    with pytest.raises(ConfigError, match=r"two.py:3: 'same' is declared twice, first in one.py:3"):
        describe(tmp_path, "import one, two\n", one=step, two=step)


def test_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    """A syntax error in any project module is told with its place and the line itself."""
    with pytest.raises(ConfigError) as caught:
        describe(tmp_path, "import helper\n", helper="x = 1\ndef f(:\n    pass\n")
    assert caught.value.message.startswith("helper.py:2: syntax error: ")
    assert "def f(:" in caught.value.traceback


def test_exception_at_import_shows_the_users_traceback(tmp_path: Path) -> None:
    """An exception while importing is told with the user's own frames: ours and the import system's are cut off."""
    with pytest.raises(ConfigError) as caught:
        describe(tmp_path, "import helper\nhelper.f()\n", helper="def f():\n    raise ValueError('no luck')\n")
    assert caught.value.message == "helper.py:2: the module cannot be imported: ValueError: no luck"
    assert caught.value.traceback.splitlines() == [
        "Traceback (most recent call last):",
        '  File "pipeline.py", line 2, in <module>',
        "    helper.f()",
        '  File "helper.py", line 2, in f',
        "    raise ValueError('no luck')",
        "ValueError: no luck",
    ]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("import nothing_like_it.deep\n", "No module named 'nothing_like_it'", "pip install nothing_like_it"),
        ("import sys\nsys.exit(3)\n", "it called sys.exit(3)", ""),
        ("import mlops_local as mlops\nmlops.data(3)\n", "pipeline.py:2: mlops.data: expected a path or glob, got 3", ""),
        ("import mlops_local as mlops\nmlops.nope\n", "module 'mlops_local' has no attribute 'nope'", ""),
        ("import os\nos.kill(os.getpid(), 11)\n", "it was killed by SIGSEGV", ""),
    ],
)
def test_modules_that_cannot_be_imported(text: str, message: str, hint: str, tmp_path: Path) -> None:
    """A missing library, sys.exit, a wrong declaration and a crash at import are each told by name."""
    with pytest.raises(ConfigError) as caught:
        describe(tmp_path, text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_hashed_bytes_are_described_not_the_disk(tmp_path: Path) -> None:
    """What counts is what was read: an edit after that is not seen."""
    (tmp_path / "pipeline.py").write_text("import mlops_local as mlops\n@mlops.step\ndef first():\n    return 1\n")
    sources = discover("pipeline.py", loader(tmp_path))
    (tmp_path / "pipeline.py").write_text("broken(")
    with Workers(tmp_path) as workers:
        assert [step.name for step in workers.describe("pipeline.py", sources).steps] == ["first"]
