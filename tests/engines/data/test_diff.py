"""Comparing rows: by key, as wholes, and what a difference is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mlops_local.domain.difference import RowChanges
from mlops_local.domain.errors import DataError
from mlops_local.engines.data import diff

SCHEMA = {"k": pl.Int64(), "~was": pl.String(), "x": pl.Float64(), "t": pl.Datetime("us", "UTC")}
VALUES = st.tuples(
    st.one_of(st.none(), st.sampled_from(["a", "b", ""])),
    st.one_of(st.none(), st.sampled_from([0.0, 1.5, float("nan"), float("inf")])),
    st.one_of(st.none(), st.datetimes(datetime(2000, 1, 1))),
)
ROWS = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 6)), VALUES), max_size=7)


def _frame(rows: Sequence[Any]) -> pl.DataFrame:
    flat = [(key, *values) for key, values in rows]
    return pl.DataFrame(flat, schema={**SCHEMA, "t": pl.Datetime("us")}, orient="row").with_columns(
        pl.col("t").dt.replace_time_zone("UTC")
    )


def _compare(
    folder: Path, before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str] = (), *, to: Path | None = None
) -> RowChanges:
    paths = folder / "before.parquet", folder / "after.parquet"
    before.write_parquet(paths[0])
    after.write_parquet(paths[1])
    with diff.connect(folder) as db:
        return diff.rows(db, diff.Tables([paths[0]], [paths[1]], key), to=to)


def _bag(frame: pl.DataFrame) -> Counter[Any]:
    return Counter(map(repr, frame.rows()))


@given(ROWS, ROWS, st.booleans())
@settings(max_examples=30)
def test_a_difference_applied_to_the_first_side_gives_the_second(
    tmp_path_factory: pytest.TempPathFactory, old: Sequence[Any], new: Sequence[Any], keyed: bool
) -> None:
    """Rows that differ, written to a file: without removed and before, with added and after, the first table is the second."""
    folder = tmp_path_factory.mktemp("diff")
    if keyed:
        old, new = list(dict(old).items()), list(dict(new).items())
    before, after = _frame(old), _frame(new)
    found = _compare(folder, before, after, ["k"] if keyed else [], to=folder / "changes.parquet")
    changes = pl.read_parquet(folder / "changes.parquet")
    out, into = (
        changes.filter(pl.col("change").is_in(kinds)).drop("change") for kinds in (["removed", "before"], ["added", "after"])
    )
    assert _bag(before) - _bag(out) + _bag(into) == _bag(after)
    assert _bag(out) <= _bag(before) and (out.height, into.height) == (
        found.removed + found.changed,
        found.added + found.changed,
    )
    assert found.before == len(old) and found.after == len(new) and found.any == (_bag(before) != _bag(after))
    if not keyed:
        assert not _bag(out) & _bag(into)


def test_changed_cells_are_counted_by_column(tmp_path: Path) -> None:
    """By key, a changed row says which columns differ; samples show the key and those values, times in UTC."""
    before = _frame([(1, ("a", 1.0, None)), (2, ("b", None, None)), (None, ("c", 2.0, None)), (4, ("d", 1.0, None))])
    after = _frame([(2, ("B", 3.0, None)), (None, ("c", 5.0, None)), (4, ("d", 1.0, None)), (5, ("e", 0.0, None))])
    found = _compare(tmp_path, before, after, ["k"])
    assert (found.added, found.removed, found.changed) == (1, 1, 2)
    assert found.cells == {"~was": 1, "x": 2, "t": 0}
    assert [(sample.change, sample.before, sample.after) for sample in found.samples[2:]] == [
        ("changed", {"k": 2, "~was": "b", "x": None}, {"k": 2, "~was": "B", "x": 3.0}),
        ("changed", {"k": None, "x": 2.0}, {"k": None, "x": 5.0}),
    ]


def test_a_key_that_names_several_rows_is_said(tmp_path: Path) -> None:
    """Where rows differ and the key does not tell them apart, the side, a value and the ways out are named."""
    before = _frame([(1, ("a", 1.0, None)), (2, ("b", 1.0, None))])
    after = pl.concat([before, before.head(1).with_columns(x=9.0)])
    for old, new, side in ((before, after, "second"), (after, before, "first")):
        with pytest.raises(DataError) as caught:
            _compare(tmp_path, old, new, ["k"])
        assert f"not unique on the {side} side: 1 value of several rows, as k 1 (2 rows)" in caught.value.message
        assert "--no-key" in caught.value.hint
    with pytest.raises(DataError, match="not unique"):
        _compare(tmp_path, before, pl.concat([before, before.head(1)]), ["k"])
    with pytest.raises(DataError, match="'nope' is not on both sides"):
        _compare(tmp_path, before, after, ["nope"])


def test_other_types_and_columns_are_compared_where_they_can_be(tmp_path: Path) -> None:
    """A number is equal whatever its width, text is compared with text; columns of one side only do not count."""
    before = pl.DataFrame({"k": [1, 2, 3], "x": [1, 2, 3], "gone": [1, 1, 1]})
    after = pl.DataFrame({"come": [0, 0, 0], "x": [1.0, 2.5, 3.0], "k": ["1", "2", "3"]})
    found = _compare(tmp_path, before, after, ["k"])
    assert (found.added, found.removed, found.changed, found.cells) == (0, 0, 1, {"x": 1})
    with pytest.raises(DataError, match="no column in common"):
        _compare(tmp_path, before.select("gone"), after.select("come"))


def test_what_does_not_fit_into_memory_goes_to_disk(tmp_path: Path) -> None:
    """With a tenth of the memory its rows take, a comparison of whole tables still answers, and exactly."""
    before = pl.DataFrame({"k": pl.int_range(300_000, eager=True)}).with_columns(t=pl.format("text of row number {}", "k"))
    after = before.with_columns(t=pl.col("t") + pl.when(pl.col("k") % 2 == 0).then(pl.lit("!")).otherwise(pl.lit("")))
    before.write_parquet(tmp_path / "a.parquet")
    after.write_parquet(tmp_path / "b.parquet")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with diff.connect(scratch, memory="60MB") as db:
        found = diff.rows(db, diff.Tables([tmp_path / "a.parquet"], [tmp_path / "b.parquet"], ["k"]), samples=1)
    assert (found.changed, found.cells) == (150_000, {"t": 150_000}) and list(scratch.iterdir()) == []
    assert_frame_equal(pl.read_parquet(tmp_path / "a.parquet"), before)
