"""`mlops.out_of_fold` as a plain function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import mlops_local as mlops
from mlops_local.domain.errors import UsageError


@given(st.integers(2, 6), st.integers(6, 50), st.booleans(), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_no_row_is_encoded_by_what_it_was_learned_from(folds: int, rows: int, grouped: bool, seed: int) -> None:
    """Each row once, in order, by a state of the other rows alone (of other groups alone); the last state is of all."""
    frame = pl.DataFrame({"id": range(rows), "group": [at % 6 for at in range(rows)]})

    def apply(part: pl.DataFrame, learned: pl.DataFrame) -> pl.DataFrame:
        assert not set(part["id"]) & set(learned["id"])
        assert part.height + learned.height == rows
        assert not grouped or not set(part["group"]) & set(learned["group"])
        return part.select("id")

    encoded, state = mlops.out_of_fold(
        lambda part: part, frame, apply, folds=folds, seed=seed, group="group" if grouped else ""
    )
    assert encoded["id"].to_list() == list(range(rows))
    assert state.equals(frame)


def test_lazy_pandas_series_and_arrays() -> None:
    """What goes in may be lazy or pandas; what comes out is of the kind that `apply` makes, in the order of the rows."""
    frame = pl.DataFrame({"x": range(10)})
    doubled = [2 * at for at in range(10)]
    made = [
        mlops.out_of_fold(len, frame.lazy(), lambda part, count: part.lazy().select(pl.col("x") * 2))[0]["x"],
        mlops.out_of_fold(len, frame, lambda part, count: part["x"] * 2)[0],
        mlops.out_of_fold(len, frame, lambda part, count: part["x"].to_numpy() * 2)[0],
        mlops.out_of_fold(len, pd.DataFrame({"x": range(10)}), lambda part, count: part["x"] * 2)[0],
    ]
    assert [list(values) for values in made] == [doubled] * 4
    assert isinstance(made[3], pd.Series) and list(made[3].index) == list(range(10))


def test_an_honest_encoding_knows_nothing_of_noise() -> None:
    """Labels without any pattern by tail number: encoded in-sample they look predictable, out of fold they do not."""
    random = np.random.default_rng(0)
    frame = pl.DataFrame({"tail": random.integers(0, 400, 3000), "late": random.integers(0, 2, 3000)})

    def shares(rows: pl.DataFrame) -> dict[int, float]:
        return dict(rows.group_by("tail").agg(pl.col("late").mean()).iter_rows())

    def look_up(rows: pl.DataFrame, learned: dict[int, float]) -> pl.Series:
        return rows["tail"].replace_strict(learned, default=0.5, return_dtype=pl.Float64)

    honest, state = mlops.out_of_fold(shares, frame, look_up, seed=1)
    assert roc_auc_score(frame["late"], look_up(frame, state)) > 0.65
    assert roc_auc_score(frame["late"], honest) < 0.53


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"folds": 1}, "cannot be encoded in 1 parts"),
        ({"folds": 11}, "10 rows cannot be encoded in 11 parts"),
        ({"group": "kind", "folds": 3}, "'kind' has 2 values, too few for 3 parts"),
        ({"apply": lambda part, state: part["x"].unique()[:1]}, "apply gave 1 lines for 2 rows"),
    ],
)
def test_what_cannot_be_encoded_is_said(options: dict[str, Any], told: str) -> None:
    """Too few rows or groups, and an encoding that lost rows."""
    frame = pl.DataFrame({"x": range(10), "kind": [0, 1] * 5})
    with pytest.raises(UsageError, match=told):
        mlops.out_of_fold(len, frame, **{"apply": lambda part, state: part, **options})
