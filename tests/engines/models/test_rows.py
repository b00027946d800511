"""A row is named by its values, not by how they are stored."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.engines.models.rows import identity, row_hashes

UTC = dt.timezone.utc


def hashes(**columns: object) -> list[str]:
    """Row hashes of a frame with those columns."""
    frame = pl.DataFrame(columns)
    return row_hashes(frame, frame.columns).to_list()


def test_equal_values_of_other_types_are_the_same_row() -> None:
    """A CSV read as int64 and a Parquet of int8, floats and categories name the same rows."""
    plain = hashes(a=[1, 2, None], b=["x", "y", None], t=[dt.datetime(2013, 1, 1, 5)] * 3)
    other = pl.DataFrame(
        {
            "t": pl.Series([dt.datetime(2013, 1, 1, 5, tzinfo=UTC)] * 3).dt.convert_time_zone("America/New_York").cast(
                pl.Datetime("ns", "America/New_York")
            ),
            "b": pl.Series(["x", "y", None], dtype=pl.Categorical),
            "a": pl.Series([1.0, 2.0, None], dtype=pl.Float32),
            "extra": [9, 9, 9],
        }
    )  # fmt: skip
    assert row_hashes(other, ("a", "b", "t")).to_list() == plain


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"a": ["1"], "b": ["2"]}, {"a": ["12"], "b": [""]}),
        ({"a": ["x\x1fy"], "b": ["z"]}, {"a": ["x"], "b": ["y\x1fz"]}),
        ({"a": [1]}, {"a": ["1"]}),
        ({"a": [None]}, {"a": ["n"]}),
        ({"a": [0]}, {"a": [None]}),
        ({"a": [0.1]}, {"a": [0.1 + 2**-53]}),
        ({"a": [float("nan")]}, {"a": [None]}),
        ({"a": [2**53]}, {"a": [2**53 + 1]}),
    ],
)
def test_different_values_are_different_rows(one: dict[str, object], two: dict[str, object]) -> None:
    """Neighbouring columns, separators, types and gaps cannot be confused."""
    assert hashes(**one) != hashes(**two)


def test_nan_and_zero_have_one_form() -> None:
    """Every NaN is one NaN, and minus zero is zero."""
    assert hashes(a=[float("nan")]) == hashes(a=[-float("nan")])
    assert hashes(a=[-0.0]) == hashes(a=[0.0]) == hashes(a=[0])


@given(st.lists(st.tuples(st.one_of(st.none(), st.floats(width=64)), st.one_of(st.none(), st.text())), min_size=1, max_size=20))
def test_order_moves_with_the_rows(rows: list[tuple[float | None, str | None]]) -> None:
    """Reversing the rows reverses the hashes: nothing but the row's own values counts."""
    schema = {"a": pl.Float64, "b": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    assert row_hashes(frame.reverse(), ("a", "b")).to_list() == row_hashes(frame, ("b", "a")).to_list()[::-1]


def test_hashes_are_the_same_in_every_process() -> None:
    """No seed of the process enters: a hash kept today is found again."""
    script = (
        "import polars as pl; from mlops_local.engines.models.rows import row_hashes\n"
        "print(row_hashes(pl.DataFrame({'a': [1.5]}), ['a'])[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashes(a=[1.5])[0] == "a7d9153a29c32a092183cdc742c6ef00"


def test_the_longest_unique_key_names_rows() -> None:
    """A declared key is taken when it is there and unique; else the content."""
    frame = pl.DataFrame({"day": [1, 1, 2], "flight": [7, 8, 7], "x": [0, 0, 0]})
    assert identity(frame, [("day",), ("day", "flight")], ("x",)) == ("day", "flight")
    assert identity(frame, [("day",), ("gone", "day", "flight")], ("day", "x")) == ("day", "x")
    assert identity(frame, [], ("x",)) == ("x",)
