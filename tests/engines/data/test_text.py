"""Text that is a table: what is accepted, polars reads as it is written; what is not, is refused with its line."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlops_local.domain.errors import DataError
from mlops_local.engines.data import profile, text

CELLS = [
    "1",
    "a",
    "",
    '"x, y"',
    '"two\nlines"',
    '"two\r\nlines"',
    '"a""b"',
    '19" screen',
    "5' 11\"",
    ' "x"',
    ' "x, y"',
    '"x"y',
    '"',
]
ENDS = st.sampled_from(["\n", "\r\n"])


@given(
    st.lists(st.sampled_from(CELLS), min_size=1, max_size=4, unique=True).flatmap(
        lambda cells: st.lists(st.tuples(st.sampled_from(cells), st.sampled_from(cells), ENDS), max_size=8)
    ),
    st.booleans(),
)
@example([('"x, y"', '19" screen', "\n"), ('"two\nlines"', '"two\nlines"', "\n"), ('19" screen', '"two\nlines"', "\n")], False)
@settings(max_examples=50)
def test_what_is_accepted_is_read_as_it_is_written(rows: list[tuple[str, str, str]], cut: bool) -> None:
    """Marks in values without quotation marks make polars take ends of lines for values: sometimes in silence."""
    content = "n,m\n" + "".join(f"{one},{two}{end}" for one, two, end in rows)
    content = content.rstrip("\r\n") if cut and rows else content
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "a.csv"
        file.write_bytes(content.encode())
        try:
            text.check(file, "a.csv", ",")
        except DataError as error:
            assert "a.csv, line " in error.message
            return
        seen = pl.scan_csv(file, schema={"n": pl.String, "m": pl.String}).collect().rows()
    told = [row for row in csv.reader(io.StringIO(content, newline=""))][1:]
    assert [[value or "" for value in row] for row in seen] == told


@pytest.mark.parametrize("rows", [0, 300_000])
def test_a_mark_in_a_value_is_refused_with_its_line(tmp_path: Path, rows: int) -> None:
    """A screen of 19": polars says only that its chunk is malformed, or takes the next lines for one value."""
    (tmp_path / "a.csv").write_text("n,m\n" + "1,2\n" * rows + '1,19" screen\n2,24" screen\n')
    with pytest.raises(DataError) as caught:
        profile.read(tmp_path, ["a.csv"], source="s")
    said = f"source s: a.csv, line {rows + 2}: a quotation mark in a value that is not in quotation marks"
    assert caught.value.message == said and '""' in caught.value.hint


def test_lines_may_end_in_two_ways(tmp_path: Path) -> None:
    """A file that was written on one system and gone on with on another is the table it looks like."""
    (tmp_path / "a.csv").write_bytes(b'n,m\n1,2\n1,a\r\n1,"x, y"')
    rows, columns = profile.read(tmp_path, ["a.csv"], source="s")
    assert rows == {"a.csv": 3} and columns[1].top == (("2", 1), ("a", 1), ("x, y", 1))


@pytest.mark.parametrize("at", [*range(-4, 4)])
def test_marks_at_the_edge_of_what_is_read_at_once(at: int) -> None:
    """However the pieces fall, marks have the neighbours they have."""
    row = b'"a""b","c"\n'
    whole = b"x" * (text._BLOCK - 6 + at) + b"\n" + row * 3
    assert text.quoted_as_usual(io.BytesIO(whole), ",")
    assert text.quoted_as_usual(io.BytesIO(whole[:-1]), ",")
    assert text.quoted_as_usual(io.BytesIO(b"\xef\xbb\xbf" + row), ",")
    for wrong in (b'a"b\n', b'"a"b\n', b'"a\n', b' "a"\n'):
        assert not text.quoted_as_usual(io.BytesIO(whole[: -3 * len(row)] + wrong), ",")
