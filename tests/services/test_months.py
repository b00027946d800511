"""A source over months, as docs/data.md tells it: a month more, a month that changed, a late correction; and odd tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from mlops_local.domain.difference import Difference
from mlops_local.domain.errors import DataError
from mlops_local.domain.graph import Source
from mlops_local.domain.progress import Progress
from mlops_local.services import contents, data, datadiff, datalog, init, sql
from mlops_local.services.project import Project, find
from mlops_local.store import cache

SAMPLE = Path(__file__).parents[2] / "sample_project" / "data"
KEY = ("time_hour", "carrier", "flight", "origin")
FLIGHTS = Source("flights", "data/flights-*.parquet", key=KEY, time="time_hour")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    init.create(tmp_path)
    (tmp_path / "data").mkdir()
    for month in ("01", "02"):
        shutil.copyfile(SAMPLE / f"flights-2013-{month}.parquet", tmp_path / f"data/flights-2013-{month}.parquet")
    return find(tmp_path)


def test_flights_month_by_month(project: Project) -> None:
    """A month more reads that month alone; a late correction of 1,000 rows shows as exactly those rows and cells."""
    first = data.snapshot(project, FLIGHTS)
    sketches = {file.name: file.stat().st_mtime_ns for file in (project.layout.cache / "sketches").iterdir()}
    shutil.copyfile(SAMPLE / "flights-2013-03.parquet", project.root / "data/flights-2013-03.parquet")
    second = data.snapshot(project, FLIGHTS)
    assert {
        file.name: file.stat().st_mtime_ns for file in (project.layout.cache / "sketches").iterdir() if file.name in sketches
    } == sketches
    more = _difference(project, "flights@~1", "flights")
    assert more.rows is not None and more.files.added == ("data/flights-2013-03.parquet",)
    assert (more.rows.added, more.rows.removed, more.rows.changed) == (second.rows - first.rows, 0, 0)
    march = project.root / "data/flights-2013-03.parquet"
    frame = pl.read_parquet(march)
    known = pl.col("arr_delay").is_not_null()
    late = known & (known.cum_sum() <= 1000)
    corrected = pl.when(late).then(pl.col("arr_delay") + 30).otherwise(pl.col("arr_delay")).cast(pl.Int16)
    frame.with_columns(arr_delay=corrected).write_parquet(march)
    data.snapshot(project, FLIGHTS)
    fixed = _difference(project, "flights@~1", "flights")
    assert fixed.rows is not None and fixed.rows.cells is not None
    assert (fixed.rows.added, fixed.rows.removed, fixed.rows.changed, fixed.rows.cells["arr_delay"]) == (0, 0, 1000, 1000)
    assert sum(fixed.rows.cells.values()) == 1000
    joined = f'FROM data.flights n JOIN data."flights@~1" o USING ({", ".join(KEY)}) WHERE n.arr_delay <> o.arr_delay'
    assert sql.sql(project, f"SELECT count(*), avg(n.arr_delay - o.arr_delay) {joined}").rows == ((1000, 30.0),)
    assert [(entry.added, entry.changed) for entry in datalog.log(project, "flights")] == [(0, 1), (1, 0), (2, 0)]


def _difference(project: Project, before: str, after: str) -> Difference:
    sides = datadiff.sides(project, [FLIGHTS], before, after, here=project.root)
    return datadiff.compare(project, *sides, key=KEY)


def test_two_hundred_empty_columns(project: Project) -> None:
    """Columns without any value are a table like any other: profiled, compared, read back."""
    names = [f"c{number}" for number in range(200)]
    pl.DataFrame({"id": [1, 2], **{name: pl.Series([None, None], dtype=pl.Float64) for name in names}}).write_parquet(
        project.root / "data/wide.parquet"
    )
    wide = Source("wide", "data/wide.parquet", key=("id",))
    held = data.snapshot(project, wide)
    assert len(held.columns) == 201 and all(item.nulls == 2 and item.distinct == 0 for item in held.columns[1:])
    assert cache.snapshot(project.layout, "wide") == held
    found = datadiff.compare(project, contents.of(project, held), contents.working(project, wide), key=["id"])
    assert not found.any and len(found.columns) == 201


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"", "the file is empty"),
        ("a.parquet", b"PAR1" + b"\0" * 50, "not a readable Parquet file"),
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"n\n" + b"1\n" * 10_100 + b"many\n", "line 10102: 'many' in column n"),
        ("a.jsonl", b'{"n": 1}\n{"n": \n', "a.jsonl, line 2: not JSON"),
    ],
)
def test_bad_files_have_one_clear_error(project: Project, name: str, content: bytes, said: str) -> None:
    """Cut, empty, mixed or broken: the source and the file are named, and nothing of it is kept."""
    (project.root / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        data.snapshot(project, Source("bad", name))
    assert "source bad" in caught.value.message and name in caught.value.message and said in caught.value.message
    assert caught.value.hint and cache.snapshot(project.layout, "bad") is None


def test_what_is_no_table_is_said_to_be_none(project: Project) -> None:
    """A table that is compressed, a workbook or anything else is kept as a file and that is said, unless files are meant."""
    (project.root / "a.csv.gz").write_bytes(b"\x1f\x8b")
    said: list[Progress] = []
    packed = Source("packed", "a.csv.gz")
    for source in (packed, packed, Source("meant", "a.csv.gz", kind="files")):
        data.snapshot(project, source, emit=said.append)
    (warning,) = (item.text for item in said if item.kind == "warning")
    assert (
        warning.startswith("source packed: a.csv.gz is compressed: kept as a file, without rows") and 'kind="files"' in warning
    )
    with pytest.raises(DataError, match="is compressed: it has no columns, and key names one"):
        data.snapshot(project, Source("packed", "a.csv.gz", key=("id",)))


def test_values_that_are_parted_by_something_else_are_said(project: Project) -> None:
    """A CSV of one column that is called like several is kept as it reads, with a warning; one that is called so is not."""
    said: list[Progress] = []
    for name, text in {"semi.csv": "a;b\n1;2\n", "one.csv": "a b\n1\n", "two.csv": "a;b,c\n1,2\n"}.items():
        (project.root / name).write_text(text)
        data.snapshot(project, Source(name[:-4], name), emit=said.append)
    (warning,) = (item.text for item in said if item.kind == "warning")
    assert warning.startswith("source semi: the only column of semi.csv is called 'a;b': values are parted by commas")


def test_empty_lines_are_said(project: Project) -> None:
    """They are rows to what reads the file: said with the new file that has them; in a single column they are nulls."""
    said: list[str] = []
    source = Source("t", "t*.csv")
    for name, text in {"t1.csv": "a,b\n,2\n1,\n", "t2.csv": 'a,b\n1,"x\n\ny"\n\n3,4\n\n', "t3.csv": "a,b\n1,2\n"}.items():
        (project.root / name).write_text(text)
        data.snapshot(project, source, emit=lambda event: said.append(event.text) if event.kind == "warning" else None)
    assert [item for item in said if "no value" in item] == [
        "source t: t2.csv: 2 rows hold no value at all: an empty line is a row too"
    ]
    said.clear()
    (project.root / "one.csv").write_text("a\n1\n\n3\n")
    data.snapshot(project, Source("one", "one.csv"), emit=lambda event: said.append(event.text))
    assert len(said) == 1 and "no value" not in said[0]


def test_a_column_that_is_gone_is_said_where_files_say_their_types(project: Project) -> None:
    """Of Parquet the warning has no word on declaring types, which only text is read by."""
    said: list[Progress] = []
    for columns in ({"a": [1], "b": [2]}, {"a": [1.5]}):
        pl.DataFrame(columns).write_parquet(project.root / "t.parquet")
        data.snapshot(project, Source("t", "t.parquet"), emit=said.append)
    (warning,) = (item.text for item in said if item.kind == "warning")
    assert warning.endswith(": a is Float64 and was Int64, b is gone, with t.parquet")


def test_a_column_that_is_called_otherwise_is_said(project: Project) -> None:
    """Beside one that is gone stands what it may be called now: much the same, or the only new one of its type."""
    said: list[str] = []
    for columns in (
        {"amount": [1], "b": ["x"]},
        {"Amount": [1], "b": ["x"], "n": [2]},
        {"Amount": [1], "sum": [2], "t": ["x"]},
    ):
        pl.DataFrame(columns).write_parquet(project.root / "t.parquet")
        data.snapshot(project, Source("t", "t.parquet"), emit=lambda event: said.append(event.text))
    warnings = [text for text in said if "not as in" in text]
    assert "amount is gone (called Amount now?), with" in warnings[0]
    assert "b is gone, n is gone, with" in warnings[1], "two went: nothing says which is which"


def test_a_table_with_no_row_is_one(project: Project) -> None:
    """A header alone is a table of no rows, which can be compared with one that has some."""
    (project.root / "empty.csv").write_text("id,x\n")
    (project.root / "full.csv").write_text("id,x\n1,2\n")
    sides = datadiff.sides(project, [], "empty.csv", "full.csv", here=project.root)
    found = datadiff.compare(project, *sides, key=["id"])
    assert found.rows is not None and (found.rows.before, found.rows.after, found.rows.added) == (0, 1, 1)
