"""Reading a source's files: rows, columns, and every way in which they can be wrong."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain.errors import DataError
from mlops_local.engines.data import profile, text


def _csv(root: Path, name: str, text: str) -> str:
    (root / name).write_text(text, encoding="utf-8")
    return name


def _error(root: Path, *paths: str) -> DataError:
    with pytest.raises(DataError) as caught:
        profile.read(root, list(paths), source="s")
    return caught.value


def test_parquet_rows_and_columns(tmp_path: Path) -> None:
    """Rows are counted per file, columns profiled over all: type, nulls, distinct values, extremes, mean."""
    pl.DataFrame({"n": [1, 2, None], "t": ["a", "b", "b"]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"n": [5], "t": ["c"]}).write_parquet(tmp_path / "b.parquet")
    rows, columns = profile.read(tmp_path, ["a.parquet", "b.parquet"], source="s")
    assert rows == {"a.parquet": 3, "b.parquet": 1}
    number, text = columns
    assert (number.name, number.type, number.nulls, number.min, number.max) == ("n", "Int64", 1, "1", "5")
    assert number.mean == pytest.approx(8 / 3)
    assert (text.type, text.nulls, text.distinct, text.min, text.max, text.mean) == ("String", 0, 3, "a", "c", None)


def test_times_nested_and_empty_columns_are_profiled(tmp_path: Path) -> None:
    """Columns without an order (lists, nulls) get counts, lists lengths; times are in ISO 8601; long text is cut."""
    frame = pl.DataFrame(
        {"t": [datetime(2013, 1, 1, tzinfo=UTC)], "l": [[1, 2]], "s": ["x" * 500], "b": [b"\x00"], "v": [None]}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    columns = {column.name: column for column in profile.read(tmp_path, ["a.parquet"], source="s")[1]}
    assert columns["t"].min == "2013-01-01T00:00:00+00:00"
    assert columns["l"].distinct is None and columns["l"].min == "" and columns["l"].lengths == (2, 2, 2)
    assert len(columns["s"].min) == 60 and columns["s"].min.endswith("…")
    assert columns["b"].min == "" and columns["v"].nulls == 1


def test_an_empty_table_has_a_profile(tmp_path: Path) -> None:
    """No rows is not an error: the columns are there."""
    pl.DataFrame({"n": []}, schema={"n": pl.Int64}).write_parquet(tmp_path / "a.parquet")
    rows, (column,) = profile.read(tmp_path, ["a.parquet"], source="s")
    assert rows == {"a.parquet": 0} and column.min == "" and column.mean is None


def test_csv_with_quotes_and_dates(tmp_path: Path) -> None:
    """Quoted commas, quotes and line breaks are values, and dates are recognised."""
    name = _csv(tmp_path, "a.csv", 'd,t\n2013-01-01,"a,\nb"\n2013-02-01,"say ""x"""\n')
    rows, columns = profile.read(tmp_path, [name], source="s")
    assert rows == {name: 2}
    assert [column.type for column in columns] == ["Date", "String"]


@pytest.mark.parametrize(("line", "said"), [("3,4", "line 4: 2 values where the header has 3"), ("3,4,z,9", "4 values")])
def test_a_ragged_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    """A line with too few or too many values is refused with file and line, counted as an editor counts."""
    name = _csv(tmp_path, "a.csv", f'a,b,c\n1,2,"x\ny"\n{line}\n5,6,z\n')
    error = _error(tmp_path, name)
    assert name in error.message and said in error.message and "line 4" in error.message


def test_an_empty_csv_is_said(tmp_path: Path) -> None:
    """A file without a header cannot be a table."""
    assert "empty" in _error(tmp_path, _csv(tmp_path, "a.csv", "")).message


def test_text_that_is_no_table_is_said(tmp_path: Path) -> None:
    """A letter that begins with a quotation and goes on for long: its first line names no columns."""
    (tmp_path / "a.txt").write_text('"Dear all,\n' + "so it goes on\n" * 20_000)
    with pytest.raises(DataError, match=r"a\.txt, line 1: "):
        profile.read(tmp_path, ["a.txt"], source="letters")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """A header that names a column twice is ambiguous and is said with its line."""
    assert "line 1: two columns are called 'a'" in _error(tmp_path, _csv(tmp_path, "a.csv", "a,a\n1,2\n")).message


def test_a_table_without_lines_or_columns_is_refused(tmp_path: Path) -> None:
    """Text whose lines end in carriage returns alone would be a header and no row; a Parquet file may have no column."""
    (tmp_path / "old.csv").write_bytes(b"a,b\r1,2\r")
    assert "its lines end in carriage returns alone" in _error(tmp_path, "old.csv").message
    _csv(tmp_path, "quoted.csv", '"a\r",b\n1,2\n')
    assert profile.read(tmp_path, ["quoted.csv"], source="s")[0] == {"quoted.csv": 1}
    pl.DataFrame().write_parquet(tmp_path / "none.parquet")
    assert "none.parquet has no column" in _error(tmp_path, "none.parquet").message


def test_text_in_another_encoding_is_said(tmp_path: Path) -> None:
    """A CSV that is not UTF-8 is refused with the command that mends it."""
    (tmp_path / "a.csv").write_bytes(b"name\nM\xfcller\n")
    error = _error(tmp_path, "a.csv")
    assert "UTF-8" in error.message and "iconv" in error.hint


def test_wrong_quotes_are_named(tmp_path: Path) -> None:
    """By the line on which the value begins, one that runs to the end of the file too."""
    error = _error(tmp_path, _csv(tmp_path, "a.csv", 'a,b\n1,"x\ny"\n2,"z\n3,4\n'))
    assert "a.csv, line 4: a quotation mark is opened and never closed" in error.message
    error = _error(tmp_path, _csv(tmp_path, "b.csv", 'a,b\n1,"x"y\n'))
    assert "b.csv, line 2: a value is quoted wrongly" in error.message and "doubled" in error.hint


def test_compressed_text_is_said(tmp_path: Path) -> None:
    """A gzip file called .csv is no text in another encoding: iconv would not mend it."""
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    error = _error(tmp_path, "a.csv")
    assert "compressed (gzip)" in error.message and "zcat" in error.hint


def test_csv_files_must_have_the_same_columns(tmp_path: Path) -> None:
    """A file that lacks a column or brings another is named beside the first one."""
    _csv(tmp_path, "a.csv", "a,b\n1,2\n")
    _csv(tmp_path, "b.csv", "a,c\n1,2\n")
    _csv(tmp_path, "c.csv", "b,a\n1,2\n")
    error = _error(tmp_path, "a.csv", "b.csv")
    assert "b.csv does not have the columns of a.csv: it lacks b and has c beyond it" in error.message
    assert "another order" in _error(tmp_path, "a.csv", "c.csv").message


def test_parquet_files_must_have_the_same_types(tmp_path: Path) -> None:
    """A column whose type changes between Parquet files is named with both types and files."""
    pl.DataFrame({"n": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"n": ["1"]}).write_parquet(tmp_path / "b.parquet")
    assert "column n is String in b.parquet and Int64 in a.parquet" in _error(tmp_path, "a.parquet", "b.parquet").message


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_corrupt_parquet_is_named(tmp_path: Path, damage: str) -> None:
    """A Parquet file cut short, replaced by text or empty is named; the sound ones are not."""
    pl.DataFrame({"n": range(1000)}).write_parquet(tmp_path / "good.parquet")
    data = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "bad.parquet").write_bytes({"cut": data[: len(data) // 2], "text": b"hello", "empty": b""}[damage])
    error = _error(tmp_path, "bad.parquet", "good.parquet")
    said = {"cut": " is not a readable Parquet file: it is cut short", "empty": ": the file is empty"}
    said["text"] = " is not a readable Parquet file: it does not begin as one"
    assert f"bad.parquet{said[damage]}" in error.message and "good.parquet" not in error.message


def test_damage_inside_a_parquet_is_found_by_reading_it(tmp_path: Path) -> None:
    """A sound footer over broken pages is still an error that names the file among its sound siblings."""
    frame = pl.DataFrame({"t": [str(number * 7919) for number in range(20_000)]})
    for name in ("a.parquet", "b.parquet"):
        frame.write_parquet(tmp_path / name, statistics=False, compression="zstd")
    data = bytearray((tmp_path / "b.parquet").read_bytes())
    data[4:400] = b"\xff" * 396
    (tmp_path / "b.parquet").write_bytes(data)
    assert "b.parquet" in _error(tmp_path, "a.parquet", "b.parquet").message


def test_parquet_and_csv_do_not_mix(tmp_path: Path) -> None:
    """One source is of one kind."""
    pl.DataFrame({"n": [1]}).write_parquet(tmp_path / "a.parquet")
    assert "not of the same kind" in _error(tmp_path, "a.parquet", _csv(tmp_path, "b.csv", "n\n1\n")).message


def test_other_files_have_no_rows(tmp_path: Path) -> None:
    """Images are profiled by size, type and picture size, tables that are declared as files by size and type."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + (64).to_bytes(4, "big") + (48).to_bytes(4, "big"))
    (tmp_path / "b.png").write_bytes(b"no picture")
    rows, columns = profile.read(tmp_path, ["a.png", "b.png"], source="s")
    assert rows == {"a.png": None, "b.png": None}
    found = {column.name: column for column in columns}
    assert (found["width"].max, found["height"].max, found["width"].nulls) == ("64", "48", 1)
    assert found["type"].top == (("png", 2),) and found["bytes"].max == "24"
    name = _csv(tmp_path, "a.csv", "a,b\n1\n")
    rows, columns = profile.read(tmp_path, [name], source="s", kind="files")
    assert rows == {name: None} and [column.name for column in columns] == ["bytes", "type"]


def test_a_profile_has_spread_frequent_values_and_lengths(tmp_path: Path) -> None:
    """Numbers have NaN, spread, quantiles and a histogram, text its most frequent values and its lengths; times a histogram."""
    numbers = [*map(float, range(1, 101)), float("nan"), float("inf"), None]
    frame = pl.DataFrame({"n": numbers, "t": ["aa"] * 60 + ["b"] * 43})
    frame = frame.with_columns(d=pl.date(2026, 1, 1) + pl.duration(days=pl.int_range(103) % 7))
    frame.write_parquet(tmp_path / "a.parquet")
    number, text, day = profile.read(tmp_path, ["a.parquet"], source="s")[1]
    assert (number.nulls, number.nans, number.mean, number.max) == (1, 1, 50.5, "inf")
    assert number.std == pytest.approx(29.0115, abs=0.0001)
    assert number.quantiles == pytest.approx((5, 25, 50, 75, 95), abs=1)
    assert sum(number.bins) == pytest.approx(101, abs=3) and len(number.bins) == 20
    assert text.top == (("aa", 60), ("b", 43)) and text.lengths == pytest.approx((1, 163 / 103, 2))
    assert day.distinct == 7 and day.top[0] == ("2026-01-01", 15) and day.bins == (15, 15, 15, 15, 15, 14, 14)
    assert day.bins_from is not None and datetime.fromtimestamp(day.bins_from, UTC) == datetime(2025, 12, 31, 12, tzinfo=UTC)


def test_the_figures_of_a_profile_do_not_contradict_each_other(tmp_path: Path) -> None:
    """No more values than rows, a histogram of the finite numbers alone, and a spread without end where squares are."""
    frame = pl.DataFrame({"id": range(1500), "n": [1.0, 2.0, 3.0, float("inf"), None] * 300, "big": [1e300, -1e300, 0.0] * 500})
    frame.write_parquet(tmp_path / "a.parquet")
    key, number, big = profile.read(tmp_path, ["a.parquet"], source="s")[1]
    assert key.distinct is not None and 1400 < key.distinct <= 1500
    assert sum(number.bins) == 900 and number.bins[0] == number.bins[-1] == 300
    assert (big.mean, big.std) == (0, float("inf"))


def test_a_file_of_known_content_is_not_read_again(tmp_path: Path) -> None:
    """Another month costs one month: what was found out about a content is taken from there, to the same profile."""
    for number in (1, 2):
        _csv(tmp_path, f"{number}.csv", f"n,t\n{number},x\n{number + 5},y\n")
    kept: dict[str, Mapping[str, Any]] = {}
    known = profile.Known(kept.get, kept.__setitem__)
    profile.read(tmp_path, ["1.csv"], source="s", known=known)
    first = dict(kept)
    both = profile.read(tmp_path, ["1.csv", "2.csv"], source="s", known=known)
    assert set(kept) == {"1.csv", "2.csv"} and kept["1.csv"] is first["1.csv"]
    assert both == profile.read(tmp_path, ["1.csv", "2.csv"], source="s")
    _csv(tmp_path, "2.csv", "n,t\n1.5,x\n")  # now the column is a fraction in all of them
    again = profile.read(tmp_path, ["1.csv", "2.csv"], source="s", known=profile.Known({"1.csv": kept["1.csv"]}.get))
    assert again[1][0].type == "Float64" and again[1][0].max == "6.0"


@pytest.mark.parametrize(("name", "text"), [("a.tsv", "n\tt\n1\tx,y\n"), ("a.jsonl", '{"n": 1, "t": "x,y"}\n')])
def test_other_tables_are_read_as_the_steps_read_them(tmp_path: Path, name: str, text: str) -> None:
    """Tab-separated text and JSON lines have rows and columns like any table."""
    (tmp_path / name).write_text(text)
    rows, columns = profile.read(tmp_path, [name], source="s")
    assert rows == {name: 1} and [(item.name, item.type, item.max) for item in columns] == [
        ("n", "Int64", "1"),
        ("t", "String", "x,y"),
    ]


@pytest.mark.parametrize("short", ["", "1\n", "1,2,3\n,\n", "\n"])
def test_lines_are_looked_at_one_by_one_where_some_may_be_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: str
) -> None:
    """Missing values at the ends of whole lines cost nothing; where delimiters are fewer than they need, each line counts."""
    looked: list[Path] = []
    monkeypatch.setattr(text, "check", lambda file, *_: looked.append(file))
    name = _csv(tmp_path, "a.csv", "a,b,c\n1,2,3\n4,5,\n,,\n" + short)
    profile.read(tmp_path, [name], source="s")
    assert looked == [tmp_path / name] * bool(short)


def test_a_ragged_line_between_tabs_is_named(tmp_path: Path) -> None:
    """Tab-separated files are checked like comma-separated ones."""
    assert "line 3: 1 value where" in _error(tmp_path, _csv(tmp_path, "a.tsv", "a\tb\n1\t2\n3\n")).message


def test_a_declared_column_that_does_not_exist_is_suggested() -> None:
    """key, time and outcome must exist; a near name is suggested, else the columns are listed."""
    profile.require(["time_hour", "origin"], {"key": ["origin"]}, source="s")
    with pytest.raises(DataError) as caught:
        profile.require(["time_hour", "origin"], {"key": ["origin"], "time": ["timehour"]}, source="s")
    assert "time names a column 'timehour'" in caught.value.message and "did you mean 'time_hour'?" in caught.value.hint
    with pytest.raises(DataError) as caught:
        profile.require(["a", "b"], {"outcome": ["zzz"]}, source="s")
    assert caught.value.hint == "columns: a, b"


@pytest.mark.parametrize("last", ["x", ""])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_wrong_line_is_found_far_down(tmp_path: Path, last: str, quoted: bool) -> None:
    """Beyond the rows that tell the types, with and without quotes or empty values: the line is named."""
    rows = [f"{index},{last}" for index in range(12_000)] + (['1,"a,b"'] if quoted else [])
    _csv(tmp_path, "a.csv", "\n".join(["n,t", *rows]) + "\n")
    assert profile.read(tmp_path, ["a.csv"], source="s")[0] == {"a.csv": len(rows)}
    for wrong, said in (("5", "1 value where"), ("5,x,y", "3 values where"), ('5,"x', "b.csv")):
        name = _csv(tmp_path, "b.csv", "\n".join(["n,t", *rows, wrong, "6,z"]) + "\n")
        with pytest.raises(DataError, match=said) as caught:
            profile.read(tmp_path, [name], source="s")
        assert said == "b.csv" or f"line {len(rows) + 2}:" in caught.value.message


_WORDS = [
    "", '""', "1", "2.5", '"3"', "true", "2020-01-01", '"2020-01-02"', "2020-01-01 10:00:00", "2020-01-01T10:00:00Z",
    "12:30:00", "word", '"a,b"', '"two\nlines"', "NaN", "01/02/2020", "null", " ", "1e5",
]  # fmt: skip
_ROWS = st.lists(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=2), min_size=2, max_size=3)


@settings(max_examples=60, deadline=None)
@given(pools=_ROWS, late=st.sampled_from(_WORDS), rows=st.sampled_from([1, 60, 150]))
def test_the_quick_way_to_types_tells_the_same(pools: list[list[str]], late: str, rows: int) -> None:
    """Columns of words that are settled early, to spare trying times on each, have the type that a look at all rows gives."""
    lines = [",".join(pool[row % len(pool)] for pool in pools) for row in range(rows)]
    lines += [",".join([late] * len(pools))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.csv")
        file.write_text("\n".join([",".join(f"c{place}" for place in range(len(pools))), *lines]) + "\n")
        told = profile.opened("a.csv", [file]).collect_schema()
        assert profile.types({"a.csv": file}, "a") == dict(told)
