"""Small CSVs read as one text: what is said of them is what a look at each of them says, or nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain.errors import DataError
from mlops_local.engines.data import groups, joined, profile, sketch

ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-5, 5) | st.integers(-(2**62), 2**62),
        st.none() | st.floats(allow_nan=False, width=32),
        st.none() | st.sampled_from(["a", "bb", "é", "with space", 'a "mark"', "a,comma"]),
        st.none() | st.dates(),
    ),
    max_size=8,
)
KINDS = {"n": pl.Int64(), "x": pl.Float64(), "t": pl.String(), "d": pl.Date()}


@given(st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=4), st.sets(st.sampled_from("xtd")))
@settings(max_examples=50, deadline=None)
def test_what_files_hold_together_is_what_each_of_them_holds(
    tables: list[tuple[list[tuple[object, ...]], bool]], left_out: set[str]
) -> None:
    """Rows of each file and all exact figures of all of them are as if they had been read one by one; else nothing is said."""
    kinds = {name: kind for name, kind in KINDS.items() if name not in left_out}
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for number, (rows, ended) in enumerate(tables):
            frame = pl.DataFrame(rows, schema=KINDS, orient="row").select(list(kinds))
            files[f"{number}.csv"] = Path(folder, f"{number}.csv")
            files[f"{number}.csv"].write_text(frame.write_csv() if ended else frame.write_csv().removesuffix("\n"))
        found = joined.sketched(list(files.values()), kinds, ",")
        plain = all('"' not in file.read_text() for file in files.values())
        if found is None:
            assert not plain or any("\n\n" in file.read_text() for file in files.values())
            return
        names = {name: str(kind).partition("(")[0] for name, kind in kinds.items()}
        each = profile.sketches(files, label="s", schema=names)
    assert plain and found[0] == [columns["n"].rows for columns in each.values()]
    for name, column in found[1].items():
        expected = sketch.add(columns[name] for columns in each.values())
        for figure in ("rows", "nulls", "nans", "low", "high", "finite", "lengths", "counts", "distinct"):
            assert getattr(column, figure) == getattr(expected, figure), (name, figure)
        assert column.mean == pytest.approx(expected.mean, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "odd",
    [
        "n,t\n1\n2,b,c\n", "n,t\n1\n", "n,t\r\n1,a\r\n", 'n,t\n1,"a"\n', "n,t\n\n1,a\n", "t,n\na,1\n", "n,t\nx,a\n", "",
        "n,t\n1,\xff\n",
    ],
)  # fmt: skip
def test_of_files_that_are_not_plain_nothing_is_said(tmp_path: Path, odd: str) -> None:
    """Short and long lines, quotation marks, other line ends, headers or values: each file is to be looked into by itself."""
    (tmp_path / "a.csv").write_text("n,t\n1,a\n2,b\n")
    (tmp_path / "b.csv").write_bytes(odd.encode("latin-1"))
    assert joined.sketched([tmp_path / "a.csv", tmp_path / "b.csv"], {"n": pl.Int64(), "t": pl.String()}, ",") is None


def test_a_large_file_is_looked_into_by_itself(tmp_path: Path) -> None:
    """Of what costs more to read than to remember, each file is remembered."""
    (tmp_path / "a.csv").write_text("n\n" + "123456\n" * (joined.SMALL // 7 + 1))
    assert joined.sketched([tmp_path / "a.csv"], {"n": pl.Int64()}, ",") is None


def test_files_that_write_their_times_in_two_ways_are_read_each_in_its_own(tmp_path: Path) -> None:
    """A way to write times that one file has is no reason to lose those of the next."""
    lines = {"a": "2024-03-01", "b": "2024/03/02"}
    for name, day in lines.items():
        (tmp_path / f"{name}.csv").write_text(f"d\n{day}\n")
    found = joined.sketched([tmp_path / "a.csv", tmp_path / "b.csv"], {"d": pl.Date()}, ",")
    assert found is not None and found[1]["d"].nulls == 0
    assert found[1]["d"].high - found[1]["d"].low == 1


def test_a_line_too_short_among_many_small_tables_is_named(tmp_path: Path) -> None:
    """One of many small tables that is refused is named with the line, as if it had been alone."""
    names = [f"{number:03d}.csv" for number in range(2 * groups.FILES)]
    for name in names:
        (tmp_path / name).write_text("n,t\n1,a\n2,b\n")
    (tmp_path / names[40]).write_text("n,t\n1,a\n2\n")
    with pytest.raises(DataError, match=r"040\.csv, line 3: 1 value where the header has 2"):
        profile.read(tmp_path, names, source="s")
