"""A transform that looks beyond its row is refused by name; what it reads is found by taking it away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import polars as pl
import pytest

from mlops_local.domain.errors import StepFailed
from mlops_local.engines.models.rowwise import Transform, check, needed


def frame(rows: int = 300) -> pl.DataFrame:
    """Raw rows with gaps, text and a column nobody reads."""
    return pl.DataFrame(
        {
            "x": [None if at % 17 == 0 else at * 0.37 % 5 for at in range(rows)],
            "kind": ["abc"[at % 3] for at in range(rows)],
            "unused": list(range(rows)),
            "n": [at * 7919 % 101 for at in range(rows)],
        }
    )


def run(function: Callable[..., Any], rows: str = "lazy", **states: Any) -> list[str]:
    """Make features of all rows, then check; returns their names."""
    made = Transform(function, states, rows)
    features = made(frame())
    check(made, frame(), features, seed=1)
    return list(features.columns)


def test_row_wise_transforms_pass() -> None:
    """Arithmetic, look-ups in a state, joins to a state and pandas code are fine."""
    codes = {"a": 1, "b": 2}
    coded = run(
        lambda rows, codes: rows.select(pl.col("x") * 2, k=pl.col("kind").replace_strict(codes, default=0)), codes=codes
    )
    assert coded == ["x", "k"]
    table = pl.LazyFrame({"kind": ["a", "b"], "rate": [0.5, 0.7]})
    joined = run(
        lambda rows, t: rows.join(t, on="kind", how="left", maintain_order="left").select("rate", pl.col("n").log1p()), t=table
    )
    assert joined == ["rate", "n"]
    assert run(lambda rows: pd.DataFrame({"y": rows["x"] * 2, "b": rows["kind"] == "a"}), "pandas") == ["y", "b"]
    assert run(lambda rows: rows.select(pl.col("n") % 7), "frame") == ["n"]


@pytest.mark.parametrize(
    ("function", "column"),
    [
        (lambda rows: rows.select("n", centred=pl.col("x") - pl.col("x").mean()), "column 'centred' changes"),
        (lambda rows: rows.select("n", before=pl.col("x").shift(1)), "column 'before' changes"),
        (lambda rows: rows.select("n", r=pl.col("n").rank()), "column 'r' changes"),
        (lambda rows: rows.select("n", at=pl.int_range(pl.len())), "column 'at' changes"),
        (lambda rows: rows.select("n", s=pl.col("n").max().over("kind")), "column 's' changes"),
        (lambda rows: rows.select("n", f=pl.col("x").fill_null(strategy="forward")), "column 'f' changes"),
        (lambda rows: rows.select("n").sort("n"), "column 'n' changes"),
        (lambda rows: rows.filter(pl.col("n") > 5).select("n"), "returns"),
        (lambda rows: rows.collect().select("kind").to_dummies(), "column 'kind_"),
        (lambda rows: rows.select(pl.col("n").cast(pl.Float64).qcut(3, labels=["a", "b", "c"]).to_physical()), "raises"),
    ],
    ids=["mean", "shift", "rank", "position", "group", "fill", "sort", "filter", "dummies", "quantiles"],
)
@pytest.mark.filterwarnings("ignore:.*qcut:DeprecationWarning")
def test_looking_beyond_the_row_is_refused_by_column(function: Callable[..., Any], column: str) -> None:
    """Whatever the way, the message says not row-wise and names the column; the hint says where it belongs."""
    with pytest.raises(StepFailed, match="not row-wise") as refused:
        run(function)
    assert column in refused.value.message
    assert "train" in refused.value.hint


def test_needed_columns_are_those_that_change_something() -> None:
    """Columns that are read stay, also when read through a selector; others are never asked for."""
    rows = frame()
    columns = rows.columns
    assert needed(Transform(lambda r: r.select(pl.col("x") + pl.col("n")), {}, "lazy"), rows, columns) == ("x", "n")
    whole = needed(Transform(lambda r: r.select(pl.selectors.numeric()), {}, "lazy"), rows, columns)
    assert whole == ("x", "unused", "n")
    either = Transform(lambda r: r.select(pl.coalesce([c for c in ("x", "n") if c in r.collect_schema()])), {}, "lazy")
    assert needed(either, rows, columns) == ("x", "n")


def test_a_transform_that_reads_nothing_still_gets_a_row_count() -> None:
    """One column stays, or a request would have no rows at all."""
    assert len(needed(Transform(lambda r: r.select(one=pl.repeat(1, pl.len())), {}, "lazy"), frame(), frame().columns)) == 1
