"""The values that make text of a column of numbers or dates, found on disk."""

from __future__ import annotations

from pathlib import Path

from mlops_local.engines.data import strays


def _write(root: Path, name: str, text: str) -> dict[str, Path]:
    (root / name).write_text(text, encoding="utf-8")
    return {f"data/{name}": root / name}


def test_the_first_value_that_is_no_number_is_named_with_its_line(tmp_path: Path) -> None:
    """Of all files together: how many values are numbers; and where the first other one stands, as an editor counts lines."""
    one = _write(tmp_path, "1.csv", "id,v\n1,1.5\n2,\n3,-4e3\n")
    two = _write(tmp_path, "2.csv", 'id,v\n"4\n",7\n"5","n/a"\n6,bad\n7,8\n')
    (found,) = strays.find({**one, **two}, ["v"])
    assert found.told() == "data/2.csv, line 4: 'n/a' in column v, where 4 of 6 values are numbers"
    assert found.told(hidden=True) == "data/2.csv, line 4: a value in column v, where 4 of 6 values are numbers"
    assert found.declared == 'schema={"v": "Float64"}'


def test_json_lines_and_dates_are_looked_into_too(tmp_path: Path) -> None:
    """A word among numbers in JSON lines, and a word among dates; a column that is mostly text has no stray values."""
    files = _write(tmp_path, "a.jsonl", '{"v": 1, "s": "a"}\n\n{"v": "x", "s": "1"}\n{"v": 3, "s": "b"}\n')
    (found,) = strays.find(files, ["v", "s"])
    assert (found.line, found.column, found.value, found.others, found.values, found.kind) == (3, "v", "x", 2, 3, "Int64")
    files = _write(tmp_path, "d.csv", "day,zip\n2026-01-01,01234\n2026-01-02 10:00:00,00501\nsoon,10001\n")
    (found,) = strays.find(files, ["day", "zip"])
    assert found.told() == "data/d.csv, line 4: 'soon' in column day, where 2 of 3 values are dates"


def test_what_cannot_be_read_or_is_typed_has_none(tmp_path: Path) -> None:
    """A file that is gone, and one that says what its columns are, are no errors here."""
    assert strays.find({"data/gone.csv": tmp_path / "gone.csv"}, ["v"]) == []
    assert strays.find({"a.parquet": tmp_path / "a.parquet"}, ["v"]) == [] == strays.find({}, ["v"])
