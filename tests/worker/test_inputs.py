"""What a step is handed of a source: its types, and samples of its rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mlops_local.domain.graph import Source
from mlops_local.worker import inputs
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "zip,n,joined\n00501,1,2024-05-06\n,,\n"),
        ("a.jsonl", '{"zip": "00501", "n": 1, "joined": "2024-05-06"}\n{"zip": null, "n": null, "joined": null}\n'),
    ],
)
def test_declared_types_hold_without_polars_too(tmp_path: Path, name: str, text: str) -> None:
    """In a project that has pandas alone a zip code keeps its zeros, what is missing is missing and a date is a date."""
    (tmp_path / name).write_text(text)
    source = Source("people", name, schema={"zip": "String", "n": "Int64", "joined": "Date"})
    frame = inputs._pandas(source, {name: str(tmp_path / name)})
    assert frame["zip"][0] == "00501" and frame["n"][0] == 1 and str(frame["n"].dtype) == "Int64"
    assert frame.isna().sum().to_dict() == {"zip": 1, "n": 1, "joined": 1}
    assert frame["joined"].dt.year[0] == 2024
