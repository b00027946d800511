"""What a model should not know: a feature that is the label, rows of test in train."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain.graph import Model, Symbol
from mlops_local.domain.xy import XY
from mlops_local.worker import leaks


def _xy(features: dict[str, list[float | None]], labels: list[int], start: int = 0) -> XY:
    X = pl.DataFrame(features)
    return XY(X, pl.Series("label", labels), X.with_columns(id=pl.int_range(start, start + X.height)))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2))
def test_the_area_is_the_chance_of_a_positive_above_a_negative(rows: list[tuple[int, bool]]) -> None:
    """Over all pairs of a positive and a negative, ties count half."""
    positives, negatives = ([value for value, label in rows if label is wanted] for wanted in (True, False))
    found = leaks.auc(pl.Series([value for value, _ in rows]), pl.Series([label for _, label in rows]))
    if positives and negatives:
        pairs = [(one > other) + (one == other) / 2 for one in positives for other in negatives]
        assert found == pytest.approx(np.mean(pairs))
    else:
        assert found == 0.5


def _model(folds: int = 0) -> Model:
    return Model("late", "split", Symbol("pipeline", "features"), folds=folds)


def test_a_feature_that_tells_the_label_is_found() -> None:
    """Whichever way it points, and once where there are folds; a good honest feature and a number as label are not."""
    labels = [0, 1] * 150
    train = _xy({"same": [-float(x) for x in labels], "honest": [x + i % 3 for i, x in enumerate(labels)]}, labels)
    test = _xy({"same": [0.0], "honest": [1.0]}, [0], start=300)
    (found,) = leaks.found(_model(3), train, train)
    assert found.line.startswith("late: leakage same: it tells the label by itself (AUC 1.000 on train)")
    assert (found.severity, found.columns, found.rows) == ("warning", ("same",), 300)
    assert leaks.found(_model(3), train, test, fold=1) == []
    assert leaks.found(_model(), _xy({"x": [*map(float, range(300))]}, [*range(300)]), test) == []


def test_rows_of_test_in_train_are_counted_and_shown() -> None:
    """Rows that are the same in every column, by their key, private values hidden; of folds in each, and not over all."""
    train, test = _xy({"x": [1.0, 2.0, 3.0]}, [0, 0, 1]), _xy({"x": [3.0, 4.0]}, [0, 1], start=2)
    (found,) = leaks.found(_model(), train, test, key=["id", "x"], private=["x"])
    assert found.line.startswith("late: overlap of test with train: 1 of 2 rows of test are in train too")
    assert (found.failed, found.rows, found.samples) == (1, 2, ({"x": "(private)", "id": "2"},))
    (bare,) = leaks.found(_model(), train, test)
    assert bare.samples == ({"x": "3.0", "id": "2"},)
    long = [XY(part.X, part.y, part.rows.with_columns(x=pl.lit("long" * 999))) for part in (train, test)]
    assert len(leaks.found(_model(), *long)[0].samples[0]["x"]) == 200
    assert leaks.found(_model(3), train, test) == []
    assert [item.rule for item in leaks.found(_model(3), train, test, fold=2)] == ["overlap of test with train in fold 2"]
