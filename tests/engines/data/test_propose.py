"""Reading what a table is for, and writing its pipeline."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import mlops_local
from mlops_local.domain.assets import ColumnProfile
from mlops_local.domain.errors import DataError
from mlops_local.engines.data import propose

YES_NO = {"no": 700, "yes": 300}


def _columns(**more: ColumnProfile) -> list[ColumnProfile]:
    base = {
        "id": ColumnProfile("id", "Int64", distinct=1000, mean=1.0),
        "age": ColumnProfile("age", "Int64", distinct=60, mean=40.0),
        "city": ColumnProfile("city", "String", distinct=5),
        "name": ColumnProfile("name", "String", distinct=990),
        "when": ColumnProfile("when", "Datetime(time_unit='us', time_zone=None)", distinct=1000),
        "fixed": ColumnProfile("fixed", "Float64", distinct=1, mean=2.0),
        "tags": ColumnProfile("tags", "List(String)"),
        "left": ColumnProfile("left", "String", distinct=2),
    }
    return list({**base, **more}.values())


def _propose(
    target: str = "left", values: Mapping[Any, int] = YES_NO, rows: int = 1000, **more: ColumnProfile
) -> propose.Proposal:
    return propose.propose("data/people.csv", rows, _columns(**more), target, values)


def _render(proposal: propose.Proposal) -> dict[str, str]:
    folder = Path(mlops_local.__file__).parent / "templates" / "blank_data"
    return propose.render(
        proposal,
        project="people",
        pipeline=(folder / "pipeline.py.in").read_text(encoding="utf-8"),
        config=(folder / "mlops.toml.in").read_text(encoding="utf-8"),
    )


def test_columns_get_their_roles() -> None:
    """Numbers and categories become features; keys, the time, constants, free text and lists do not, and each is explained."""
    made = _propose()
    assert (made.task, made.positive, made.time, made.key) == ("binary", "yes", "when", "id")
    assert made.numbers == ("age",) and made.categories == ("city",)
    assert dict(made.left_out) == {
        "id": "names the row",
        "name": "text with about 990 distinct values",
        "fixed": "always the same",
        "tags": "list column",
    }


def test_the_rarer_class_is_yes_when_no_word_says_so() -> None:
    """Of two classes without a known word the rarer one is predicted."""
    assert _propose(values={"red": 10, "blue": 90}).positive == "red"
    assert _propose(values={0: 10, 1: 90}).positive == 1


def test_a_number_is_a_regression() -> None:
    """A numeric target with many values is predicted as a number."""
    target = ColumnProfile("left", "Float64", distinct=900, mean=3.0)
    made = propose.propose("data/people.csv", 1000, _columns(left=target), "left", {float(n): 1 for n in range(21)}, 2.5)
    assert made.task == "regression"
    texts = _render(made)
    assert 'metric="rmse"' in texts["pipeline.py"] and "max_drop = 0.05 " in texts["mlops.toml"]


def test_many_classes_are_refused_with_the_way_out() -> None:
    """Three text classes cannot be one probability: the hint names a class to predict against the rest, and that works."""
    three = {"setosa": 50, "virginica": 50, "versicolor": 50}
    with pytest.raises(DataError) as caught:
        _propose(values=three)
    assert "--target left=setosa" in caught.value.hint
    assert _propose("left=virginica", three).positive == "virginica"


@pytest.mark.parametrize(
    ("target", "values", "said"),
    [
        ("lefft", YES_NO, "did you mean 'left'?"),
        ("left=maybe", YES_NO, "columns: no, yes"),
        ("left", {"no": 1000}, "choose another --target"),
        ("left", {}, "choose another --target"),
    ],
)
def test_a_target_that_cannot_be_is_refused(target: str, values: Mapping[Any, int], said: str) -> None:
    """A column or value that does not exist, or never changes, is refused with what could be meant."""
    with pytest.raises(DataError) as caught:
        _propose(target, values)
    assert said in caught.value.hint


def test_too_few_rows_and_no_features_are_refused() -> None:
    """A table that cannot teach anything is refused before code is written for it."""
    with pytest.raises(DataError, match="too few"):
        _propose(rows=10)
    with pytest.raises(DataError, match="no column is left"):
        propose.propose("a.csv", 1000, [_columns()[0], _columns()[-1]], "left", YES_NO)


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("time", [True, False])
def test_what_is_written_is_valid(task: str, time: bool) -> None:
    """Both files parse, no line is overlong, and the label says what the proposal decided."""
    columns = [item for item in _columns() if time or item.name != "when"]
    values = YES_NO if task == "binary" else {float(n): 1 for n in range(21)}
    if task == "regression":
        columns[-1] = ColumnProfile("left", "Float64", distinct=900, mean=3.0)
    texts = _render(propose.propose("data/people.csv", 1000, columns, "left", values))
    ast.parse(texts["pipeline.py"])
    assert max(map(len, texts["pipeline.py"].splitlines())) <= 128
    assert ('.sort("when"' in texts["pipeline.py"]) == time
    assert tomllib.loads(texts["mlops.toml"])["models"]["left"]["gates"]
    assert ('== "yes"' in texts["pipeline.py"]) == (task == "binary")


def test_awkward_names_still_make_code() -> None:
    """Quotes, spaces, digits and keywords in file, column and value names give valid Python that means them exactly."""
    odd = "wo\"ld it's $be"
    columns = [ColumnProfile("a b", "Int64", distinct=9, mean=1.0), ColumnProfile(odd, "String", distinct=2)]
    text = _render(propose.propose("data/2013 class.csv", 100, columns, odd, {"n'o": 60, 'y"es': 40}))["pipeline.py"]
    tree = ast.parse(text)
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {odd, "a b", 'y"es', "data/2013 class.csv"} <= strings


def test_a_column_name_cannot_become_code() -> None:
    """Line breaks and triple quotes in a header stay data: nothing of them is executed by the written module."""
    evil = 'x\nraise SystemExit("owned")\n"""'
    columns = [ColumnProfile("a", "Int64", distinct=9, mean=1.0), ColumnProfile(evil, "String", distinct=2)]
    columns += [ColumnProfile(f"{evil}{n}", "List(String)") for n in range(5)]
    text = _render(propose.propose("data/a.csv", 100, columns, evil, {"yes": 60, "no": 40}))["pipeline.py"]
    assert not any(isinstance(node, ast.Raise) for node in ast.walk(ast.parse(text)))


def test_a_source_never_takes_a_name_the_pipeline_uses() -> None:
    """A file called train.csv gets another source name, or it would hide the split's output."""
    assert propose.propose("data/train.csv", 1000, _columns(), "left", YES_NO).source == "train_data"
    assert propose.identifier("class") == "class_" and propose.identifier("2013 data") == "_2013_data"
    assert propose.identifier("Köln-Bonn") == "k_ln_bonn"
