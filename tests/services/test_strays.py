"""One word makes a column of numbers text, and a training fails on it: what the person reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_local.domain.errors import StepFailed
from mlops_local.services import init, sql, train
from mlops_local.services.project import find

PIPELINE = """import polars as pl
import mlops_local as mlops

rows = mlops.data("data/*.csv", private=["secret"])


@mlops.step
def total(rows: pl.LazyFrame) -> float:
    return rows.select(pl.col("v").cast(pl.Float64).sum()).collect().item()


@mlops.step
def kept(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@mlops.step
def mean(kept: pl.LazyFrame) -> float:
    return kept.filter(pl.col("v") > 1).collect().height


@mlops.step
def private(kept: pl.LazyFrame) -> float:
    rows = kept.collect()
    try:
        rows.select(pl.col("secret").cast(pl.Int64))
    except pl.exceptions.PolarsError as error:
        raise KeyError(rows["secret"][0], "v") from error


@mlops.step
def other(rows: pl.LazyFrame) -> float:
    raise ValueError("no such luck")
"""


def test_a_training_that_fails_on_a_word_names_it(tmp_path: Path) -> None:
    """File, line, column, value and the declaration, also where another step handed the rows on; no frame of polars' own."""
    init.create(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("v,secret\n1,1\n2,2\noops,x\n4,4\n")
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    with pytest.raises(StepFailed) as caught:
        train.train(find(tmp_path), ["total", "mean"], keep_going=True)
    number, refused = "where 3 of 4 values are numbers: mend it; schema", "of source rows refuses such a file"
    assert caught.value.hint.splitlines() == [
        f'data/a.csv, line 4: \'oops\' in column v, {number}={{"v": "Int64"}} {refused}',
        f'      data/a.csv, line 4: a value in column secret, {number}={{"secret": "Int64"}} {refused}',
    ]
    assert len(caught.value.problems) == 3 and not any("\n" in line for line in caught.value.problems)
    assert "pipeline.py" in caught.value.traceback and "site-packages/polars/" not in caught.value.traceback
    with pytest.raises(StepFailed, match="no such luck") as caught:
        train.train(find(tmp_path), ["other"])
    assert caught.value.hint.startswith("its output: mlops logs")


def test_an_error_of_a_step_quotes_no_private_value(tmp_path: Path) -> None:
    """A library lists the values it fails on; those of private columns are hidden in error, traceback and record."""
    init.create(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("v,secret\n1,Ann\n2,Bob\n")
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    with pytest.raises(StepFailed, match=r"KeyError: \(\(private\), 'v'\)") as caught:
        train.train(find(tmp_path), ["private"])
    assert "column 'secret'" in caught.value.traceback
    (told,) = sql.sql(find(tmp_path), "SELECT error FROM step WHERE state = 'failed'").rows
    assert not any(value in f"{told} {caught.value.traceback}" for value in ("Ann", "Bob"))
