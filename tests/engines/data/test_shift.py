"""How far a column moved: the index and the distance, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from mlops_local.engines.data import shift
from mlops_local.engines.data.columns import Columns
from mlops_local.engines.data.sketch import Sketch


def _of(values: pl.Series) -> Sketch:
    columns = Columns({"x": values.dtype})
    columns.feed(pl.DataFrame({"x": values}))
    return columns.done()["x"]


def test_equal_columns_have_not_moved() -> None:
    """Of a column with itself the index and the distance are 0, whatever it holds."""
    for values in (pl.Series([1, 2, 2, None]), pl.Series(["a", None]), pl.Series([float("nan"), 1.0]), pl.Series([True])):
        found = shift.column("x", _of(values), _of(values))
        assert found.psi == 0 and found.ks in (0, None)


def test_the_distance_is_the_largest_between_the_distribution_functions() -> None:
    """Kolmogorov-Smirnov's distance and p-value are what their definitions give on all values."""
    draw = np.random.default_rng(3)
    old, new = draw.normal(size=900).round(1), draw.normal(0.3, size=700).round(1)
    points = np.union1d(old, new)
    expected = max(abs((old <= point).mean() - (new <= point).mean()) for point in points)
    found = shift.column("x", _of(pl.Series(old)), _of(pl.Series(new)))
    assert found.ks == pytest.approx(expected)
    scaled = expected * math.sqrt(900 * 700 / 1600)
    assert found.ks_p == pytest.approx(2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 50)))


def test_the_index_counts_bins_missing_values_and_what_lies_beyond() -> None:
    """Ten bins of the first side, one for missing, below and above each, and half a row in each."""
    old, new = pl.Series(range(100)), pl.Series([*range(50, 150), None])
    was = np.array([0, 0, *[10] * 10, 0]) + 0.5
    now = np.array([1, 0, *[0] * 5, *[10] * 5, 50]) + 0.5
    # the first bin holds its lower end too: the quantiles of 0..99 at tenths are 0, 9, 19, …, 99
    expected = sum(
        (n / now.sum() - w / was.sum()) * math.log((n / now.sum()) / (w / was.sum())) for n, w in zip(now, was, strict=True)
    )
    assert shift.psi(_of(old), _of(new)) == pytest.approx(expected)


@pytest.mark.parametrize("size", [500, 3000])  # every value counted, or a sample
def test_numbers_that_became_infinite_have_moved(size: int) -> None:
    """Infinity counts as a missing value does, and not as more of the finite ones: the distance is between those."""
    old = pl.Series(np.arange(size, dtype=np.float64))
    new = pl.concat([old, pl.Series([math.inf, -math.inf] * (size // 2))])
    found = shift.column("x", _of(old), _of(new))
    missing = shift.psi(_of(old), _of(pl.concat([old, pl.Series([None] * size, dtype=pl.Float64)])))
    assert found.psi == pytest.approx(missing) and (found.psi or 0) > 3
    assert found.ks == pytest.approx(0, abs=0.001) and found.ks_p == 1
    times = old.cast(pl.Int64).cast(pl.Datetime("us"))
    assert shift.psi(_of(times), _of(times.dt.offset_by("1h"))) == pytest.approx(
        shift.psi(_of(old), _of(old + size * 1000)), rel=0.01
    )


def test_text_moves_by_its_frequent_values() -> None:
    """A value that was never there counts as another one; a null is a value of its own."""
    old, new = pl.Series(["a"] * 60 + ["b"] * 40), pl.Series(["a"] * 60 + ["c"] * 30 + [None] * 10)
    found = shift.column("x", _of(old), _of(new))
    was, now = np.array([0, 60, 40, 0]) + 0.5, np.array([10, 60, 0, 30]) + 0.5
    expected = sum((n / 102 - w / 102) * math.log(n / w) for n, w in zip(now, was, strict=True))
    assert found.psi == pytest.approx(expected) and found.ks is None
    assert (found.nulls_before, found.nulls_after) == (0, 0.1)
    assert shift.psi(_of(old), Sketch()) is None


def test_numbers_and_text_are_not_compared() -> None:
    """A column that became another type has no index; one that lost all its values has moved."""
    numbers, text = _of(pl.Series([1.0, 2.0])), _of(pl.Series(["1", "2"]))
    assert shift.psi(numbers, text) is None and shift.psi(text, numbers) is None
    for lost in (pl.Series([None, None], dtype=pl.Float64), pl.Series([math.nan, math.nan])):
        assert (shift.psi(numbers, _of(lost)) or 0) > 1
