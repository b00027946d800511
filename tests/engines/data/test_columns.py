"""Sketches made of rows: what they say is what a straightforward look at all values says."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.engines.data import columns
from mlops_local.engines.data.columns import Columns
from mlops_local.engines.data.sketch import HASHES, Sketch

_Draw = Callable[[random.Random], Any]
_DAY = dt.date(2024, 2, 29)
KINDS: dict[str, tuple[Any, _Draw]] = {
    "floats": (pl.Float64(), lambda draw: draw.choice([draw.gauss(5, 1e3), 0.0, -0.0, math.nan])),
    "endless": (pl.Float64(), lambda draw: draw.choice([draw.random(), math.inf, -math.inf, math.nan])),
    "far from zero": (pl.Float64(), lambda draw: 1e9 + draw.random()),
    "single floats": (pl.Float32(), lambda draw: draw.randrange(4000) / 8),
    "no numbers": (pl.Float64(), lambda draw: math.nan),
    "large": (pl.Int64(), lambda draw: draw.choice([-(2**63), 2**63 - 1, draw.randrange(-(2**62), 2**62)])),
    "small": (pl.Int8(), lambda draw: draw.randrange(-128, 128)),
    "unsigned": (pl.UInt64(), lambda draw: 2**64 - 1 - draw.randrange(3000) * 2**50),
    "huge": (pl.Int128(), lambda draw: 2**100 + draw.randrange(3000) * 2**90),
    "truth": (pl.Boolean(), lambda draw: draw.random() < 0.3),
    "money": (pl.Decimal(12, 2), lambda draw: decimal.Decimal(draw.randrange(-(10**6), 10**6)) / 100),
    "days": (pl.Date(), lambda draw: _DAY + dt.timedelta(draw.randrange(9))),
    "moments": (pl.Datetime("us"), lambda draw: dt.datetime(2024, 1, 1) + dt.timedelta(seconds=draw.randrange(10**8))),
    "words": (pl.String(), lambda draw: draw.choice(["", "é", "word", "🙂🙂", "a longer one than fits"])),
    "text": (pl.String(), lambda draw: "é" * draw.randrange(3) + str(draw.randrange(10**6))),
    "categories": (pl.Categorical(), lambda draw: draw.choice("abc")),
    "lists": (pl.List(pl.Int64()), lambda draw: [1] * draw.randrange(4)),
    "bytes": (pl.Binary(), lambda draw: draw.randbytes(3)),
    "nothing": (pl.Int64(), lambda draw: None),
    "null": (pl.Null(), lambda draw: None),
}


def _plain(value: Any) -> Any:
    """A value in its physical form."""
    match value:
        case dt.datetime():
            return (value - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
        case dt.date():
            return (value - dt.date(1970, 1, 1)).days
        case decimal.Decimal():
            return float(value)
    return value


def _looked_at(values: list[Any], kind: Any) -> Sketch:
    """What is to be said of a column, in the simplest way."""
    there = [_plain(value) for value in values if value is not None]
    real = [value for value in there if value == value]
    found = Sketch(rows=len(values), nulls=len(values) - len(there), nans=len(there) - len(real))
    if columns.comparable(kind):
        counts = Counter(real)
        found.counts = dict(counts) if len(counts) < HASHES else None
        found.low, found.high = min(real, default=None), max(real, default=None)
    if kind.is_numeric():
        finite = [value for value in real if math.isfinite(value)]
        found.finite = len(finite)
        found.mean = math.fsum(finite) / len(finite) if finite else 0.0
        found.squares = math.fsum((value - found.mean) ** 2 for value in finite)
    if (kind in (pl.String, pl.Categorical) or kind.is_nested()) and there:
        lengths = [len(value) for value in there]
        found.lengths = [min(lengths), max(lengths), sum(lengths)]
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_sketch_says_what_a_look_at_all_values_says(name: str) -> None:
    """Few values or many, with nulls, cut anywhere, on several threads: the same counts, extremes, mean, spread and lengths."""
    kind, value = KINDS[name]
    draw = random.Random(name)
    for rows, cuts in ((5, 1), (900, 3), (6000, 0), (6000, 4)):
        empty = draw.choice([0, 0.2])
        values = [None if draw.random() < empty else value(draw) for _ in range(rows)]
        edges = sorted([0, *(draw.randrange(rows) for _ in range(cuts)), rows])
        with ThreadPoolExecutor(2) as pool:
            made = Columns({"x": kind, "y": kind}, pool)
            for start, end in pairwise(edges):
                series = pl.Series("x", values[start:end], dtype=kind)
                made.feed(pl.DataFrame([series, series.alias("y")]))
            found, twin = made.done().values()
        assert vars(found) == vars(twin)
        expected = _looked_at(values, kind)
        for key in ("rows", "nulls", "nans", "low", "high", "finite", "lengths", "counts"):
            assert getattr(found, key) == getattr(expected, key), (key, rows)
        assert found.mean == pytest.approx(expected.mean, rel=1e-12)
        assert found.squares == pytest.approx(expected.squares, rel=1e-6, abs=1e-30)
        if expected.counts is None and columns.comparable(kind):
            there = {_plain(one) for one in values if one is not None and one == one}
            assert found.distinct == pytest.approx(len(there), rel=0.15)


@given(st.integers(1, 2000), st.integers(0, 2**32), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_column_whose_values_turn_out_to_be_many_is_as_if_that_had_been_known(few: int, seed: int, text: bool) -> None:
    """Where the first rows hold few values and later ones many, hashes, extremes, mean and sample are those of all rows."""
    chance = np.random.default_rng(seed)
    numbers = np.concatenate([chance.integers(0, few, 5000), chance.integers(-(10**6), 10**6, 3000)])
    values = pl.Series(numbers.astype(str)) if text else pl.Series(numbers)
    sketches = []
    for batches in (values[:5000], values[5000:]), (values[:4000], values[4000:7000], values[7000:]), (values.reverse(),):
        made = Columns({"x": values.dtype})
        for batch in batches:
            made.feed(pl.DataFrame({"x": batch}))
        sketches.append(made.done()["x"])
    for other in sketches[1:]:
        assert (other.hashes, other.low, other.high, other.lengths) == (
            sketches[0].hashes,
            sketches[0].low,
            sketches[0].high,
            sketches[0].lengths,
        )
        assert other.mean == pytest.approx(sketches[0].mean) and other.squares == pytest.approx(sketches[0].squares)
        assert (other.points, other.often) == (sketches[0].points, sketches[0].often)
    expected = np.quantile(numbers, 0.25, method="inverted_cdf")
    assert text or sketches[0].points[0][1][32 + 3] == expected  # behind three levels closer to the end


def test_frequent_values_are_found_whatever_they_are() -> None:
    """Among many values, the frequent ones are named exactly: whole numbers beyond what a float holds, infinity, halves."""
    rows = 9000
    for often, kind in ((2**60 + 1, pl.Int64()), (math.inf, pl.Float64()), (0.5, pl.Float32()), ("often", pl.String())):
        base: Any = {pl.Int64(): 2**60 + 2, pl.String(): ""}.get(kind, 1.0)
        values = [often if row % 3 == 0 else (base + row if kind != pl.String() else str(row)) for row in range(rows)]
        made = Columns({"x": kind})
        made.feed(pl.DataFrame({"x": pl.Series(values, dtype=kind)}))
        assert made.done()["x"].often == {often: rows / 3}
