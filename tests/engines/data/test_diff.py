"""Comparing rows: by key, as wholes, and what a difference is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mlops_local.domain.difference import RowChanges
from mlops_local.domain.errors import DataError
from mlops_local.engines.data import diff, keyed, relations

SCHEMA = {"k": pl.Int64(), "~was": pl.String(), "x": pl.Float64(), "t": pl.Datetime("us", "UTC")}
VALUES = st.tuples(
    st.one_of(st.none(), st.sampled_from(["a", "b", ""])),
    st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf")])),
    st.one_of(st.none(), st.datetimes(datetime(2000, 1, 1))),
)
ROWS = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 6)), VALUES), max_size=7)


def _frame(rows: Sequence[Any]) -> pl.DataFrame:
    flat = [(key, *values) for key, values in rows]
    return pl.DataFrame(flat, schema={**SCHEMA, "t": pl.Datetime("us")}, orient="row").with_columns(
        pl.col("t").dt.replace_time_zone("UTC")
    )


def _compare(
    folder: Path,
    before: pl.DataFrame,
    after: pl.DataFrame,
    key: Sequence[str] = (),
    *,
    to: Path | None = None,
    room: int = keyed.ROOM,
) -> RowChanges:
    paths = folder / "before.parquet", folder / "after.parquet"
    before.write_parquet(paths[0])
    after.write_parquet(paths[1])
    with relations.connect(folder) as db:
        return diff.rows(db, diff.Tables([paths[0]], [paths[1]], key), to=to, room=room)


def _bag(frame: pl.DataFrame) -> Counter[Any]:
    return Counter(repr(row).replace("-0.0", "0.0") for row in frame.rows())  # which are equal


@given(ROWS, ROWS, st.sampled_from(["whole rows", "hashes first", "no key"]))
@settings(max_examples=40)
def test_a_difference_applied_to_the_first_side_gives_the_second(
    tmp_path_factory: pytest.TempPathFactory, old: Sequence[Any], new: Sequence[Any], way: str
) -> None:
    """Rows that differ, written to a file: without removed and before, with added and after, the first table is the second."""
    folder = tmp_path_factory.mktemp("diff")
    by_key = way != "no key"
    if by_key:
        old, new = list(dict(old).items()), list(dict(new).items())
    before, after = _frame(old), _frame(new)
    room = keyed.ROOM if way == "whole rows" else 0
    found = _compare(folder, before, after, ["k"] if by_key else [], to=folder / "changes.parquet", room=room)
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
    if not by_key:
        assert not _bag(out) & _bag(into)


@pytest.mark.parametrize("every", [2, 30])
def test_whatever_is_joined_first_the_answer_is_the_same(tmp_path: Path, every: int) -> None:
    """Whether whole rows are joined at once or hashes first, few or many differ: equal counts, cells and samples."""
    before = pl.DataFrame(
        {"k": [None, *range(599)], "l": [None, None, "y", "x"] * 150, "x": [0.5] * 600, "n": [[1], [2]] * 300}
    )
    late = (pl.col("k") % every == 1) | pl.col("k").is_null()
    after = before.filter(pl.col("k").is_null() | (pl.col("k") % (2 * every) != 2)).with_columns(
        k=pl.when(pl.col("k") % 100 == 51).then(-pl.col("k")).otherwise("k"),
        x=pl.when(late).then(9.0).otherwise("x"),
        n=pl.when(late).then(pl.lit([3])).otherwise("n"),
    )
    one, other = (_compare(tmp_path, before, after, ["k", "l"], room=room) for room in (keyed.ROOM, 0))
    assert one == other and one.changed > 15 and one.added > 5 and one.removed > one.added and len(one.samples) == 15
    assert one.cells == {"x": one.changed, "n": one.changed}


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


def test_rows_that_cannot_be_shown_are_counted(tmp_path: Path) -> None:
    """A time beyond what can be told is an error only where the row is to be shown."""
    far = pl.select(t=pl.Series([-(2**63) + 5], dtype=pl.Int64).cast(pl.Datetime("us")))
    with pytest.raises(DataError, match=r"the rows that differ cannot be shown") as caught:
        _compare(tmp_path, far.clear(), far)
    assert "--stat" in caught.value.hint
    with relations.connect(tmp_path) as db:
        assert diff.rows(db, diff.Tables([tmp_path / "before.parquet"], [tmp_path / "after.parquet"]), samples=0).added == 1


def test_a_key_that_names_several_rows_is_said(tmp_path: Path) -> None:
    """Where rows differ and the key does not tell them apart, the side, a value and the ways out are named."""
    before = _frame([(1, ("a", 1.0, None)), (2, ("b", 1.0, None))])
    after = pl.concat([before, before.head(1).with_columns(x=9.0)])
    for (old, new, side), room in product([(before, after, "second"), (after, before, "first")], [keyed.ROOM, 0]):
        with pytest.raises(DataError) as caught:
            _compare(tmp_path, old, new, ["k"], room=room)
        assert f"not unique on the {side} side: 1 value of several rows, as k 1 (2 rows)" in caught.value.message
        assert "--no-key" in caught.value.hint
    alone = pl.concat([before, *[_frame([(5, ("a", 1.0, None))])] * 2])
    for other, room in product([alone, pl.concat([before, before.head(1)])], [keyed.ROOM, 0]):
        with pytest.raises(DataError, match="not unique"):
            _compare(tmp_path, before, other, ["k"], room=room)
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
    with relations.connect(scratch, memory="60MB") as db:
        found = diff.rows(db, diff.Tables([tmp_path / "a.parquet"], [tmp_path / "b.parquet"], ["k"]), samples=1)
    assert (found.changed, found.cells) == (150_000, {"t": 150_000}) and list(scratch.iterdir()) == []
    assert_frame_equal(pl.read_parquet(tmp_path / "a.parquet"), before)


def test_what_cannot_go_to_disk_is_one_error(tmp_path: Path) -> None:
    """A value that memory does not hold ends in words of ours, with the limit."""
    with (
        pytest.raises(DataError, match="the rows need more than 30MB of memory"),
        relations.connect(tmp_path, memory="30MB") as db,
    ):
        db.execute("SELECT len(list(row)) FROM range(5000000) made(row)").fetchall()
