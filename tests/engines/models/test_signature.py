"""Rows are checked against the signature value by value, and every misfit is named."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain.assets import Column
from mlops_local.domain.errors import DataError
from mlops_local.engines.models.signature import RowErrors, conform, describe, gaps_in, validate

UTC = dt.timezone.utc
INT = Column("a", "integer", "Int16", nullable=False)
FLOAT = Column("a", "number", "Float64", nullable=False)
BOOL = Column("a", "boolean", "Boolean", nullable=False)
TEXT = Column("a", "string", "String", nullable=False)
TIME = Column("a", "datetime", "Datetime(time_unit='us', time_zone='UTC')", nullable=False)
NEW_YORK = Column("a", "datetime", "Datetime(time_unit='ms', time_zone='America/New_York')", nullable=False)
NAIVE = Column("a", "datetime", "Datetime(time_unit='ns', time_zone=None)", nullable=False)
DATE = Column("a", "date", "Date", nullable=False)
ENUM = Column("a", "string", "Enum(categories=['x', 'y'])", nullable=False)
NOON = dt.datetime(2013, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "given", "kept"),
    [
        (INT, 3, 3),
        (INT, 3.0, 3),
        (INT, True, 1),
        (FLOAT, 3, 3.0),
        (FLOAT, 2**60, float(2**60)),
        (FLOAT, False, 0.0),
        (BOOL, 1, True),
        (BOOL, 0.0, False),
        (TEXT, "", ""),
        (TEXT, "ä\x00", "ä\x00"),
        (TIME, "2013-07-01T12:00:00Z", NOON),
        (TIME, "2013-07-01T12:00:00", NOON),
        (TIME, "2013-07-01 14:00:00+02:00", NOON),
        (TIME, "2013-07-01", NOON.replace(hour=0)),
        (NEW_YORK, "2013-07-01T12:00:00Z", NOON),
        (NAIVE, "2013-07-01T14:00:00+02:00", NOON.replace(tzinfo=None)),
        (DATE, "2013-07-01", dt.date(2013, 7, 1)),
        (ENUM, "y", "y"),
        (Column("a", "integer", "UInt64", nullable=False), 2**64 - 1, 2**64 - 1),
    ],
)
def test_values_that_fit(column: Column, given: Any, kept: Any) -> None:
    """Widening, whole decimals, 0/1 and ISO 8601 are taken; the frame has the training type."""
    frame = validate([column], [{"a": given, "b": "ignored"}])
    assert frame.columns == ["a"] and str(frame.schema["a"]) == column.polars
    assert frame["a"][0] == kept


@pytest.mark.parametrize(
    ("column", "given", "expected", "got"),
    [
        (INT, 3.5, "an integer", "number 3.5"),
        (INT, "3", "an integer", "string '3'"),
        (INT, 40000, "fits Int16", "integer 40000"),
        (INT, 1e300, "an integer", "number 1e+300"),
        (Column("a", "integer", "Int64", nullable=False), float(2**54), "an integer", "number 1.8"),
        (Column("a", "integer", "UInt8", nullable=False), -1, "fits UInt8", "integer -1"),
        (FLOAT, "1.5", "a number", "string '1.5'"),
        (FLOAT, None, "a number", "null"),
        (FLOAT, float("nan"), "a number", "nan"),
        (FLOAT, float("inf"), "a finite number", "inf"),
        (FLOAT, 10**400, "a finite number", "integer 1000"),
        (FLOAT, [1], "a number", "list [1]"),
        (BOOL, 2, "a boolean, 0 or 1", "integer 2"),
        (BOOL, "true", "a boolean", "string 'true'"),
        (TEXT, 5, "a string", "integer 5"),
        (TEXT, None, "a string", "null"),
        (TIME, "yesterday", "ISO 8601", "string 'yesterday'"),
        (TIME, 1372680000, "ISO 8601", "integer 1372680000"),
        (TIME, "0001-01-01T00:00:00+14:00", "within years", "string"),
        (DATE, "2013-7-1", "YYYY-MM-DD", "string '2013-7-1'"),
        (DATE, "2013-07-01T12:00:00", "YYYY-MM-DD", "string"),
        (ENUM, "z", "fits Enum", "string 'z'"),
    ],
)
def test_values_that_do_not_fit(column: Column, given: Any, expected: str, got: str) -> None:
    """Each is refused with row, column, what was expected and what came; also among good values."""
    good = {"integer": 1, "number": 1.0, "boolean": True, "string": "x", "datetime": "2013-01-01", "date": "2013-01-01"}
    with pytest.raises(RowErrors) as refused:
        validate([column], [{"a": good[column.type]}, {"a": given}])
    (error,) = refused.value.errors
    assert (error.row, error.column) == (1, "a")
    assert expected in error.expected and got in error.got
    assert "row 1, column 'a'" in refused.value.message


def test_gaps_only_where_training_had_some() -> None:
    """null, NaN and an absent column are gaps, kept as training wrote them."""
    as_null = Column("a", "number", "Float64", nullable=True)
    as_nan = Column("a", "number", "Float64", nullable=True, missing="nan")
    rows: list[dict[str, Any]] = [{"a": None}, {"a": float("nan")}, {}]
    assert validate([as_null], rows)["a"].to_list() == [None, None, None]
    assert validate([as_nan], rows)["a"].is_nan().all()
    with pytest.raises(RowErrors) as refused:
        validate([FLOAT], rows)
    assert [error.got for error in refused.value.errors] == ["null", "number nan", "no such column"]


def test_every_error_is_counted_and_the_first_hundred_kept() -> None:
    """A large bad request has a bounded answer, in row order."""
    with pytest.raises(RowErrors) as refused:
        validate([INT, Column("b", "string", "String", nullable=False)], [{"a": "x", "b": 1}] * 300)
    assert refused.value.count == 600 and len(refused.value.errors) == 100
    assert [(error.row, error.column) for error in refused.value.errors[:3]] == [(0, "a"), (0, "b"), (1, "a")]


@pytest.mark.parametrize("row", [None, 3, "a", [1, 2]])
def test_a_row_is_an_object(row: Any) -> None:
    """Anything else is named by its place."""
    with pytest.raises(RowErrors, match="row 1: expected an object"):
        validate([INT], [{"a": 1}, row])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.lists(st.fixed_dictionaries({}, optional={"a": JSON}), max_size=5),
    st.sampled_from([INT, FLOAT, BOOL, TEXT, TIME, NAIVE, DATE, ENUM]),
)
def test_any_json_is_answered_or_refused(rows: list[dict[str, Any]], column: Column) -> None:
    """Whatever comes: a frame of the right type without gaps, or errors. Never another exception."""
    try:
        frame = validate([column], rows)
    except RowErrors as refused:
        assert refused.count >= 1
    else:
        assert frame["a"].null_count() == 0 and frame.height == len(rows) and str(frame.schema["a"]) == column.polars


def training() -> pl.DataFrame:
    """One column of each kind, some with gaps."""
    return pl.DataFrame(
        {
            "i": pl.Series([1, None, 3], dtype=pl.Int32),
            "f": [0.5, float("nan"), 2.0],
            "s": ["x", "y", "z"],
            "c": pl.Series(["x", "y", "x"], dtype=pl.Categorical),
            "b": [True, False, None],
            "t": pl.Series([NOON] * 3, dtype=pl.Datetime("us", "UTC")),
            "d": [dt.date(2013, 1, day) for day in (1, 2, 3)],
            "e": pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y"])),
        }
    )


def test_a_described_frame_takes_its_own_examples_and_rows() -> None:
    """What training saw can be sent as JSON and comes back as the same frame, gaps and all."""
    frame = training()
    signature = describe(frame, frame.columns)
    assert [(c.name, c.type, c.nullable, c.missing) for c in signature[:3]] == [
        ("i", "integer", True, "null"),
        ("f", "number", True, "nan"),
        ("s", "string", False, "null"),
    ]
    example = json.loads(json.dumps({column.name: column.example for column in signature}))
    assert validate(signature, [example]).schema == frame.schema
    rows = json.loads(json.dumps(frame.to_dicts(), default=lambda value: value.isoformat()))
    assert validate(signature, rows).equals(frame)
    assert conform(signature, frame.reverse().select(reversed(frame.columns))).equals(frame.reverse())


def test_gaps_elsewhere_make_a_column_nullable() -> None:
    """What only the test month lacks may be lacking when serving."""
    frame = training().drop_nulls()
    assert gaps_in(frame, ["s", "i"]) == {}
    assert describe(frame, ["s"], {"s": "null"})[0].nullable


def test_a_type_without_json_form_is_refused() -> None:
    """A list column cannot be asked for in a request."""
    with pytest.raises(DataError, match="column 'l' of type List"):
        describe(pl.DataFrame({"l": [[1]]}), ["l"])


def test_conform_follows_the_same_rules() -> None:
    """Frames are widened, refused and completed as rows are; gaps pass as they are."""
    assert conform([FLOAT], pl.DataFrame({"a": [1, None]}))["a"].to_list() == [1.0, None]
    assert conform([INT], pl.DataFrame({"a": [2.0]}))["a"].to_list() == [2]
    nullable = Column("a", "number", "Float64", nullable=True)
    assert conform([nullable], pl.DataFrame({"b": [1, 2]}))["a"].to_list() == [None, None]
    for frame, got in [
        (pl.DataFrame({"a": [1.5]}), "number 1.5"),
        (pl.DataFrame({"a": ["1"]}), "string '1'"),
        (pl.DataFrame({"b": [1]}), "no such column"),
    ]:
        with pytest.raises(RowErrors) as refused:
            conform([INT], frame)
        assert refused.value.errors[0].got == got


def test_a_bundle_of_a_type_this_polars_does_not_know_is_refused() -> None:
    """Only polars types are read from a manifest, and nothing in it is evaluated."""
    for text in ("Float12", "Datetime(__import__('os').getcwd())", "Enum(categories=3)"):
        with pytest.raises(DataError, match="column type"):
            validate([Column("a", "number", text)], [{"a": 1}])
