"""Counted numbers: two arrays that are a mapping, and say what a dictionary of the same would."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.engines.data import columns, counted, sketch, summary
from mlops_local.engines.data.columns import Columns
from mlops_local.engines.data.counted import Counted
from mlops_local.engines.data.sketch import HASHES, LEVELS, Sketch

WHOLE = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), max_size=30)
FLOATING = st.lists(st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.5]), max_size=30)


def _of(values: list[Any], kind: Any) -> Sketch:
    made = Columns({"x": kind})
    made.feed(pl.DataFrame({"x": pl.Series(values, dtype=kind)}))
    return made.done()["x"]


@given(st.tuples(WHOLE, WHOLE) | st.tuples(FLOATING, FLOATING))
@settings(max_examples=80, deadline=None)
def test_counted_numbers_are_what_a_dictionary_of_them_is(values: tuple[list[Any], list[Any]]) -> None:
    """Kept and read back, added up, asked one by one, or for the most frequent: the answers are those of a Counter."""
    kind = pl.Float64() if any(isinstance(value, float) for part in values for value in part) else pl.Int64()
    one, other = (sketch.from_json(json.loads(json.dumps(sketch.to_json(_of(part, kind))))).counts or {} for part in values)
    plain = Counter(values[0])
    assert one == plain and len(one) == len(plain)
    assert all(one[value] == count for value, count in plain.items()) and 0.25 not in one
    assert list(one) == sorted(plain) and list(one.values()) == [plain[value] for value in one]
    whole = Counter(values[0] + values[1])
    both = counted.both(one, other)
    assert both == whole
    least = sorted(whole.items(), key=lambda item: (-item[1], item[0]))[:3]
    assert sorted(sketch.most(both, 3).items(), key=lambda item: (-item[1], item[0])) == least


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=30))
def test_hashes_and_quantiles_of_counted_numbers_are_those_of_the_rows(values: list[int]) -> None:
    """What follows from the counts is what would have been kept of the rows themselves."""
    counts = _of(values, pl.Int64()).counts
    assert isinstance(counts, Counted)
    rows = np.array(values, dtype=np.int64)
    assert list(counted.hashes(counts)) == sorted(set(counted.hashed(rows, np.empty(len(rows), dtype=np.uint64)).tolist()))
    ((many, quantiles),) = counted.quantiles(counts, LEVELS)
    assert many == len(values)
    assert quantiles == np.quantile(rows.astype(float), LEVELS, method="inverted_cdf").tolist()


@pytest.mark.parametrize("often", [1, 200, 300, 70_000])
def test_numbers_are_counted_however_often_they_are_there(often: int) -> None:
    """How often a number is there is never too much for where it is kept, also when it is added up."""
    part = _of([7] * often + [9], pl.Int64())
    total = sketch.add([sketch.from_json(json.loads(json.dumps(sketch.to_json(part))))] * 3)
    assert total.counts == {7: 3 * often, 9: 3}


def test_few_numbers_that_become_many_by_adding_up_are_estimated_as_if_they_had_been_many() -> None:
    """Files with few numbers each: together their distinct values, quantiles and frequent values are those of all rows."""
    parts = [_of([number * 900 + row for row in range(900)] + [math.pi] * 300, pl.Float64()) for number in range(5)]
    whole = sketch.add(parts)
    assert whole.counts is None and whole.distinct == pytest.approx(4501, rel=0.1)
    found = summary.column("x", pl.Float64(), whole)
    assert found.top[0] == (str(math.pi), 1500)
    assert found.quantiles[2:] == pytest.approx((1500, 3000, 4200), abs=90)
    assert whole.sampled == 6000


def test_distinct_values_are_never_said_to_be_more_than_there_are() -> None:
    """An estimate above the number of values that are there is cut to it: nulls and NaN are none."""
    hashes = range(1, HASHES + 1)  # as if of many more
    assert Sketch(rows=3000, nulls=100, nans=20, hashes=hashes).distinct == 2880


def test_of_very_many_columns_fewer_rows_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples of a wide table together stay below a limit, and what is said of them says from how many values it is."""
    monkeypatch.setattr(columns, "_CELLS", 18_000)
    values = pl.Series(range(20_000))
    made = Columns({"x": pl.Int64(), "y": pl.Int64(), "z": pl.Int64()})
    for start in range(0, 20_000, 7_000):
        part = values[start : start + 7_000]
        made.feed(pl.DataFrame({"x": part, "y": part, "z": part}))
    found = made.done()["y"]
    assert found.sampled == 6_000 and (found.low, found.high) == (0, 19_999)
    assert found.points[0][0] == pytest.approx(20_000)
    assert summary.column("y", pl.Int64(), found).quantiles[2] == pytest.approx(10_000, rel=0.05)


@pytest.mark.parametrize("others", [[], [1.0] * 5, [float(row) for row in range(5000)]])
def test_the_negative_zero_is_shown_as_zero(others: list[float]) -> None:
    """Whether few values or many, of a column with both zeros one is said, and that without a sign."""
    found = summary.column("x", pl.Float64(), _of([-0.0, 0.0, -0.0, *others], pl.Float64()))
    assert found.min == "0.0" and "-0.0" not in dict(found.top)
