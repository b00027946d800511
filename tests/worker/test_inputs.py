"""Samples of a source's rows."""

from __future__ import annotations

import polars as pl
import pytest

from mlops_local.domain.graph import Source
from mlops_local.worker.inputs import sample

ROWS = pl.DataFrame({"id": range(20_000), "x": [f"{number % 7}" for number in range(20_000)]})


@pytest.mark.parametrize("key", [(), ("id",), ("x", "id")])
def test_a_sample_is_a_part_of_the_rows_in_their_order_and_always_the_same(key: tuple[str, ...]) -> None:
    """About 5 % of the rows from everywhere in the table, the same ones each time, with the same columns."""
    source = Source("rows", "rows.csv", key=key, sample=0.05)
    first = sample(ROWS.lazy(), source).collect()
    assert first.equals(sample(ROWS.lazy(), source).collect())
    assert first.columns == ROWS.columns
    assert 700 < first.height < 1300
    assert first["id"].is_sorted()
    tenths = first.group_by(pl.col("id") // 2000).len()
    assert tenths.height == 10 and tenths["len"].min() > 40


def test_with_a_key_the_choice_follows_the_row_not_its_place() -> None:
    """A row that was taken is taken wherever it stands: a new file changes nothing about the old ones."""
    source = Source("rows", "rows.csv", key=("id",), sample=0.05)
    later = pl.concat([pl.DataFrame({"id": [-5, -4], "x": ["a", "b"]}), ROWS.reverse()])
    taken = set(sample(ROWS.lazy(), source).collect()["id"])
    assert taken == {number for number in sample(later.lazy(), source).collect()["id"] if number >= 0}
