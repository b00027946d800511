"""A transform's answer becomes the same float32 matrix everywhere, and its states survive as data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain.errors import DataError, IntegrityError, StepFailed
from mlops_local.engines.models.transform import load_function, load_state, matrix, run, save_state

ROWS = pl.DataFrame({"x": [1.0, None, 3.0], "kind": ["a", "b", None]})


@pytest.mark.parametrize("rows", ["lazy", "frame", "pandas"])
def test_rows_arrive_as_asked_for_and_come_back_as_a_frame(rows: str) -> None:
    """The function sees the type it annotates; lazy, eager and pandas answers are all one frame."""
    kinds = {"lazy": pl.LazyFrame, "frame": pl.DataFrame, "pandas": pd.DataFrame}

    def double(given: Any, factor: float) -> Any:
        assert isinstance(given, kinds[rows])
        return pd.DataFrame({"x": given["x"] * factor}) if rows == "pandas" else given.select(pl.col("x") * factor)

    made = run(double, ROWS, {"factor": 2.0}, rows)
    assert matrix(made, ["x"])[[0, 2]].tolist() == [[2.0], [6.0]]


def test_an_answer_that_is_no_frame_is_said() -> None:
    """A Series or None is named by its type."""
    with pytest.raises(StepFailed, match="returned Series"):
        run(lambda rows: rows["x"], ROWS, {}, "frame")


def test_the_matrix_is_float32_with_gaps_as_nan() -> None:
    """Columns by name in the asked order; booleans and integers as numbers."""
    frame = pl.DataFrame({"b": [True, None], "i": [7, 8], "f": [0.1, None]})
    made = matrix(frame, ["f", "b", "i"])
    assert made.dtype == np.float32 and made.flags["C_CONTIGUOUS"]
    assert np.array_equal(made, np.array([[0.1, 1, 7], [np.nan, np.nan, 8]], dtype=np.float32), equal_nan=True)
    with pytest.raises(DataError, match="no column 'gone'"):
        matrix(frame, ["gone"])


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none() | st.tuples(st.integers(), st.text()), inner)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_states_come_back_as_they_were(value: Any) -> None:
    """Nested dicts with any plain keys, tuples and lists survive JSON with their types."""
    state, data = save_state("codes", value)
    assert (state.file, state.kind) == ("states/codes.json", "json")
    back = load_state(state, data)
    assert back == value and repr(back) == repr(value)


def test_tables_and_arrays_come_back_as_they_were() -> None:
    """Frames, lazy frames, series and arrays keep type, schema and values."""
    back = {}
    for name, value in {"f": ROWS, "l": ROWS.lazy(), "s": ROWS["x"], "a": np.eye(3, dtype=np.float32)}.items():
        back[name] = load_state(*save_state(name, value))
    assert back["f"].equals(ROWS) and back["l"].collect().equals(ROWS) and back["s"].equals(ROWS["x"])
    assert back["a"].dtype == np.float32 and np.array_equal(back["a"], np.eye(3))
    assert load_state(*save_state("n", {"m": np.float64(0.5), 3: np.int64(4)})) == {"m": 0.5, 3: 4}


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, [np.array([object()])], lambda: 1])
def test_a_state_that_is_an_object_is_refused(value: Any) -> None:
    """A bundle holds data; what is not is named with the state."""
    with pytest.raises(StepFailed, match="state 'scaler' holds"):
        save_state("scaler", value)


def test_a_function_that_is_not_there_is_an_integrity_error() -> None:
    """transform.py and manifest must belong together."""
    with pytest.raises(IntegrityError, match="no function 'features'"):
        load_function(b"x = 1", "features", "0" * 32)


def test_two_bundles_do_not_see_each_other() -> None:
    """Loading a second version leaves the functions of the first as they are."""
    first = load_function(b"A = 1\ndef features(): return A", "features", "a" * 32)
    second = load_function(b"A = 2\ndef features(): return A", "features", "b" * 32)
    assert (first(), second()) == (1, 2)
