"""Reading a source's files: rows, columns, and every way in which they can be wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from mlops_local.domain.errors import DataError
from mlops_local.engines.data import profile


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
    """Columns without an order (lists, nulls) get counts only; times are written as ISO 8601; long text is cut."""
    frame = pl.DataFrame(
        {"t": [datetime(2013, 1, 1, tzinfo=UTC)], "l": [[1, 2]], "s": ["x" * 500], "b": [b"\x00"], "v": [None]}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    columns = {column.name: column for column in profile.read(tmp_path, ["a.parquet"], source="s")[1]}
    assert columns["t"].min == "2013-01-01T00:00:00+00:00"
    assert columns["l"].distinct is None and columns["l"].min == ""
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


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """A header that names a column twice is ambiguous and is said with its line."""
    assert "line 1: two columns are called 'a'" in _error(tmp_path, _csv(tmp_path, "a.csv", "a,a\n1,2\n")).message


def test_text_in_another_encoding_is_said(tmp_path: Path) -> None:
    """A CSV that is not UTF-8 is refused with the command that mends it."""
    (tmp_path / "a.csv").write_bytes(b"name\nM\xfcller\n")
    error = _error(tmp_path, "a.csv")
    assert "UTF-8" in error.message and "iconv" in error.hint


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
    assert "bad.parquet is not a readable Parquet file" in error.message and "good.parquet" not in error.message


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
    """Images are versioned by content only, and so are tables that are declared as files."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert profile.read(tmp_path, ["a.png"], source="s") == ({"a.png": None}, ())
    name = _csv(tmp_path, "a.csv", "a,b\n1\n")
    assert profile.read(tmp_path, [name], source="s", kind="files") == ({name: None}, ())


@pytest.mark.parametrize(("name", "text"), [("a.tsv", "n\tt\n1\tx,y\n"), ("a.jsonl", '{"n": 1, "t": "x,y"}\n')])
def test_other_tables_are_read_as_the_steps_read_them(tmp_path: Path, name: str, text: str) -> None:
    """Tab-separated text and JSON lines have rows and columns like any table."""
    (tmp_path / name).write_text(text)
    rows, columns = profile.read(tmp_path, [name], source="s")
    assert rows == {name: 1} and [(item.name, item.type, item.max) for item in columns] == [
        ("n", "Int64", "1"),
        ("t", "String", "x,y"),
    ]


def test_a_ragged_line_between_tabs_is_named(tmp_path: Path) -> None:
    """Tab-separated files are checked like comma-separated ones."""
    assert "line 3: 1 value where" in _error(tmp_path, _csv(tmp_path, "a.tsv", "a\tb\n1\t2\n3\n")).message


def test_a_number_turned_text_beyond_the_sample_is_said(tmp_path: Path) -> None:
    """A value that does not fit the column's type, deep in a file, is an error that names file, column and value."""
    error = _error(tmp_path, _csv(tmp_path, "a.csv", "a,b\n" + "1,2\n" * 10_050 + "x,3\n"))
    assert "a.csv" in error.message and "`x`" in error.message and "'a'" in error.message


def test_a_declared_column_that_does_not_exist_is_suggested() -> None:
    """key, time and outcome must exist; a near name is suggested, else the columns are listed."""
    profile.require(["time_hour", "origin"], {"key": ["origin"]}, source="s")
    with pytest.raises(DataError) as caught:
        profile.require(["time_hour", "origin"], {"key": ["origin"], "time": ["timehour"]}, source="s")
    assert "time names a column 'timehour'" in caught.value.message and "did you mean 'time_hour'?" in caught.value.hint
    with pytest.raises(DataError) as caught:
        profile.require(["a", "b"], {"outcome": ["zzz"]}, source="s")
    assert caught.value.hint == "columns: a, b"
