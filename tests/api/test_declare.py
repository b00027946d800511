from __future__ import annotations

import pickle
import subprocess
import sys

import polars as pl
import pytest

import mlops_local as mlops
from mlops_local.domain.errors import ConfigError


@mlops.step
def double(rows: int, *, times: int = 2) -> int:
    """Multiply."""
    return rows * times


@mlops.transform
def same(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Nothing."""
    return rows


def test_decorators_return_the_function_unchanged() -> None:
    """A step is still its function: called, pickled and documented as before."""
    assert double(3, times=4) == 12
    assert pickle.loads(pickle.dumps(double)) is double
    assert double.__doc__ == "Multiply."
    assert same.__name__ == "same"


def test_every_spelling_of_a_decorator() -> None:
    """Bare and with arguments, on steps, candidates and metrics; the model collects what is declared."""
    model = mlops.model("delay", label=pl.col("late"), split=double, features=same, slices="carrier")

    @mlops.step(gpus=1, inputs={"rows": "flights"})
    def other(rows: int) -> int:
        return rows

    @model.candidate
    def one() -> int:
        return 1

    @model.candidate(gpus=2)
    def two() -> int:
        return 2

    @model.metric
    def cost() -> int:
        return 3

    @model.metric(whole=True)
    def total() -> int:
        return 4

    @model.test
    def works() -> None:
        return None

    assert model.candidates == [one, two]
    assert model.metrics == [cost, total]
    assert model.tests == [works]
    assert (one(), two(), cost(), total(), other(5)) == (1, 2, 3, 4, 5)
    assert (model.slices, model.primary) == (("carrier",), "auc")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mlops.data(""), "expected a path or glob"),
        (lambda: mlops.data("a.csv", kind="image"), "kind is 'table' or 'files'"),
        (lambda: mlops.model("a b", label=1, split=1, features=1), "a name has letters"),
        (lambda: mlops.step(3), "decorates functions, got 3"),  # type: ignore[call-overload]
        (lambda: mlops.step(int), "decorates functions, got <class 'int'>"),
    ],
)
def test_wrong_declarations_are_config_errors(call: object, message: str) -> None:
    """What cannot be declared is told where it is declared."""
    assert callable(call)
    with pytest.raises(ConfigError, match=message):
        call()


def test_seed_is_the_steps_own_and_zero_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mlops.seed()` gives the running step's seed, 0 elsewhere."""
    monkeypatch.delenv("MLOPS_SEED", raising=False)
    assert mlops.seed() == 0
    monkeypatch.setenv("MLOPS_SEED", "42")
    assert mlops.seed() == 42


def test_declaring_loads_nothing_heavy() -> None:
    """Declaring a pipeline imports no polars, numpy, duckdb or click; `run` stays a function when its module is imported."""
    code = """
import sys
import mlops_local as mlops
mlops.data("a.csv"); mlops.step(lambda x: x); mlops.XY; mlops.concat
heavy = {"polars", "numpy", "duckdb", "click", "textual", "lightgbm", "torch"} & set(sys.modules)
assert not heavy, heavy
import mlops_local.api.run, mlops_local.api.load
assert callable(mlops.run) and callable(mlops.load_model)
from mlops_local import *
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_unknown_names_are_attribute_errors() -> None:
    """A misspelt name fails like any attribute."""
    with pytest.raises(AttributeError, match="has no attribute 'stap'"):
        _ = mlops.stap
