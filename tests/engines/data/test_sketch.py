"""Sketches of columns: added up from parts they say what the whole says."""

from __future__ import annotations

import json
import math
import random
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.engines.data import images, sketch, spread, summary
from mlops_local.engines.data.columns import Columns
from mlops_local.engines.data.sketch import Sketch

VALUES = st.lists(st.one_of(st.none(), st.floats(width=32), st.integers(-3, 3).map(float)), max_size=40)


def _of(values: list[float | None], *cuts: int) -> Sketch:
    columns = Columns({"x": pl.Float64()})
    edges = [0, *cuts, len(values)]
    for start, end in pairwise(edges):
        columns.feed(pl.DataFrame({"x": pl.Series(values[start:end], dtype=pl.Float64)}))
    return columns.done()["x"]


@given(VALUES, st.data())
@settings(max_examples=60)
def test_parts_add_up_to_the_whole(values: list[float | None], data: st.DataObject) -> None:
    """However rows are cut into batches and files, counts, extremes, values and spread are those of all rows; so in JSON."""
    cut = data.draw(st.integers(0, len(values)))
    whole = _of(values)
    batches = _of(values, cut)
    parts = [sketch.from_json(json.loads(json.dumps(sketch.to_json(part)))) for part in (_of(values[:cut]), _of(values[cut:]))]
    for other in (batches, sketch.add(parts)):
        assert (other.rows, other.nulls, other.nans, other.low, other.high) == (
            whole.rows,
            whole.nulls,
            whole.nans,
            whole.low,
            whole.high,
        )
        assert other.counts == whole.counts and other.hashes == whole.hashes and other.finite == whole.finite
        assert other.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-9)
        assert math.sqrt(other.squares) == pytest.approx(math.sqrt(whole.squares), rel=1e-5, abs=1e-5 * (abs(whole.mean) + 1))
    clean = [value for value in values if value is not None and not math.isnan(value)]
    assert whole.distinct == len(set(clean))


def test_many_values_are_estimated_within_their_error() -> None:
    """Distinct values within 10 %, quantiles within 1.5 % of the rows, whether of one file or of several together."""
    drawn = np.random.default_rng(5).exponential(size=60_000)
    parts = []
    for piece in np.split(drawn, [10_000, 45_000]):
        columns = Columns({"x": pl.Float64()})
        columns.feed(pl.DataFrame({"x": piece}))
        parts.append(columns.done()["x"])
    whole = sketch.add(parts)
    assert whole.counts is None and whole.distinct == pytest.approx(60_000, rel=0.1)
    found = spread.of(whole)
    assert found is not None
    for level in (0.05, 0.5, 0.95):
        assert (drawn <= found.quantile(level)).mean() == pytest.approx(level, abs=0.015)
    assert sum(spread.histogram(found, 60_000)[2]) == pytest.approx(60_000, rel=0.001)


def test_a_large_file_is_sampled_by_place_alone() -> None:
    """The sample of a file does not depend on the batches it was read in, and frequent values are found in it."""
    rows = 4 * sketch.SAMPLE + 7_000
    values = pl.Series([index if index % 3 else 5 for index in range(rows)])
    found = []
    for step in (rows, 31_000, 3_000):
        columns = Columns({"x": pl.Int64()})
        for start in range(0, rows, step):
            columns.feed(pl.DataFrame({"x": values[start : start + step]}))
        found.append(columns.done()["x"])
    for other in found[1:]:
        assert (found[0].points, found[0].often, found[0].hashes) == (other.points, other.often, other.hashes)
    assert found[0].often[5] == pytest.approx(rows / 3, rel=0.05)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=60))
@settings(max_examples=60)
def test_few_values_have_an_exact_distribution(values: list[int]) -> None:
    """Shares below and up to a value, quantiles and histograms of columns with few values are exact."""
    found = spread.of(_of([float(value) for value in values]))
    assert found is not None
    for value in (-21, *values, 3.5, 21):
        below, upto = found.at([value])
        assert below[0] == pytest.approx(np.mean(np.array(values) < value))
        assert upto[0] == pytest.approx(np.mean(np.array(values) <= value))
    assert found.quantile(0.5) == sorted(values)[(len(values) + 1) // 2 - 1]
    assert sum(spread.histogram(found, len(values), whole=True)[2]) == len(values)


def test_pictures_say_their_size(tmp_path: Path) -> None:
    """Width and height are read from the first bytes of each format; damaged or cut files have none and harm nothing."""
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc2" + struct.pack(">HBHH", 8, 8, 48, 64) + b"rest"
    formats = {
        "png": b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + struct.pack(">II", 64, 48),
        "gif": b"GIF89a" + struct.pack("<HH", 64, 48),
        "bmp": b"BM" + b"\0" * 16 + struct.pack("<ii", 64, -48),
        "jpg": jpeg,
        "webp": b"RIFF0000WEBPVP8X" + b"\0" * 8 + (63).to_bytes(3, "little") + (47).to_bytes(3, "little"),
    }
    draw = random.Random(1)
    for suffix, content in formats.items():
        file = tmp_path / f"a.{suffix}"
        file.write_bytes(content)
        assert images.dimensions(file) == (64, 48), suffix
        for cut in range(len(content) - 5):
            file.write_bytes(content[:cut] + draw.randbytes(3))
            images.dimensions(file)
    with pytest.raises(FileNotFoundError):
        images.dimensions(tmp_path / "gone.png")


@given(
    st.one_of(
        st.lists(st.none() | st.integers(0, 9)),
        st.lists(st.none() | st.integers(-(2**40), 2**40)),
        st.lists(st.text("aé", max_size=3)),
    )
)
@settings(max_examples=60)
def test_plain_values_are_said_as_polars_says_them(values: list[int | str | None]) -> None:
    """The profile of whole numbers and text is the same whether it is made with polars or without; of one value too."""
    kind = pl.String() if any(isinstance(value, str) for value in values) else pl.Int64()
    columns = Columns({"x": kind})
    columns.feed(pl.DataFrame({"x": pl.Series(values, dtype=kind)}))
    with_polars = summary.column("x", kind, columns.done()["x"])
    without = summary.column("x", summary.Plain(str(kind)), sketch.plain(values))
    assert without.mean == pytest.approx(with_polars.mean)
    assert without.std == pytest.approx(with_polars.std)
    assert replace(without, mean=None, std=None) == replace(with_polars, mean=None, std=None)


@given(st.integers(-(2**40), 2**40), st.integers(1, 5))
@settings(max_examples=20)
def test_one_value_is_spread_as_many_are(value: int, count: int) -> None:
    """What is said of a column with one value without working it out is what working it out would say."""
    said = summary.column("x", summary.Plain("Int64"), sketch.plain([value] * count))
    found = spread.of(sketch.plain([value] * count))
    assert found is not None
    assert (said.bins_from, said.bins_to, said.bins) == spread.histogram(found, count, whole=True)
    assert said.quantiles == tuple(found.quantile(level) for level in said.LEVELS)


def test_the_smallest_hashes_of_all_parts_are_kept() -> None:
    """However many parts come, and in whatever order, their sum has exactly the smallest hashes of all of them."""
    chance = random.Random(3)
    parts = [Sketch(hashes=sorted(chance.sample(range(20_000), chance.choice([0, 5, sketch.HASHES])))) for _ in range(30)]
    expected = sorted({value for part in parts for value in part.hashes})[: sketch.HASHES]
    for order in (parts, parts[::-1], sorted(parts, key=lambda part: list(part.hashes[-1:]))):
        assert list(sketch.add(order).hashes) == expected
