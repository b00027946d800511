"""What is said of files that cannot be read as tables: the file, the line, the value, and what helps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from mlops_local.domain.errors import DataError
from mlops_local.engines.data import profile

MANY = 10_200
"""More rows than types are told from."""


def _said(root: Path, name: str, content: bytes) -> DataError:
    (root / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        profile.read(root, [name], source="s")
    assert caught.value.message.startswith(f"source s: {name}") and caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "said", "hint"),
    [
        ("a.jsonl", b"", "the file is empty", "write it again"),
        ("a.jsonl", b"\n \n", "no line of it holds anything", "write it again"),
        ("a.jsonl", b'[{"a": 1}]\n', "line 1: a list, not an object", "one line"),
        ("a.jsonl", b'{"a": 1}\n\n{"a": nul}\n', "line 3: not JSON: Expecting value, character 7", "mend"),
        ("a.jsonl", b'\xef\xbb\xbf{"a": 1}\n', "line 1: begins with a byte order mark", "UTF-8"),
        ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', "line 2: not UTF-8 text (byte 0xe9)", "iconv"),
        ("a.csv", b"a,b\n" + b"1,2\n" * 9000 + b"3,caf\xe9\n", "line 9002: not UTF-8 text (byte 0xe9)", "iconv"),
        ("a.arrow", b"", "the file is empty", "write it again"),
        ("a.arrow", b"text", "not a readable Arrow file: it does not begin as one", "copy it again"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "not UTF-8 text", "iconv -f utf-16"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, name: str, content: bytes, said: str, hint: str) -> None:
    """Empty, cut, or of another kind: in words of what is there, not of the library that reads it."""
    error = _said(tmp_path, name, content)
    assert said in error.message and hint in error.hint


def test_arrow_files_that_are_cut_or_streams(tmp_path: Path) -> None:
    """A file without its end, and the format that has none, are told apart."""
    frame = pl.DataFrame({"a": range(100)})
    frame.write_ipc(tmp_path / "whole.arrow")
    frame.write_ipc_stream(tmp_path / "stream.arrow")
    cut = (tmp_path / "whole.arrow").read_bytes()[:-50]
    assert "it is cut short" in _said(tmp_path, "a.arrow", cut).message
    stream = _said(tmp_path, "b.arrow", (tmp_path / "stream.arrow").read_bytes())
    assert "in Arrow's stream format" in stream.message and "write_ipc" in stream.hint


def _csv(values: Sequence[str]) -> bytes:
    return ("id,note,x\n" + "".join(f'{place},"two\nlines",{value}\n' for place, value in enumerate(values))).encode()


def _lines(values: Sequence[str]) -> bytes:
    return "".join(f'{{"id": {place}, "x": {value}}}\n' for place, value in enumerate(values)).encode()


@pytest.mark.parametrize(
    ("usual", "late", "shown"),
    [("1", "oops", "oops"), ("1", "1.5", "1.5"), ("1", str(2**70), str(2**70)), ("true", "maybe", "maybe"),
     ("2026-01-01", "n/a", "n/a"), ("1", '"say ""a"""', 'say "a"')],
)  # fmt: skip
def test_a_late_value_of_another_type_in_a_csv(tmp_path: Path, usual: str, late: str, shown: str) -> None:
    """File, line, column, value and type are named, and with the type that is proposed the file can be read."""
    error = _said(tmp_path, "a.csv", _csv([usual] * MANY + [late]))
    assert f"a.csv, line {2 * MANY + 2}: {shown!r} in column x, which is read as " in error.message
    found = re.search(r'schema=\{"x": "(\w+)"\}', error.hint)
    assert found is not None
    assert profile.read(tmp_path, ["a.csv"], source="s", schema={"x": found[1]})[0] == {"a.csv": MANY + 1}


@pytest.mark.parametrize(
    ("usual", "late"),
    [("1", '"oops"'), ("1", "1.5"), ("1", str(2**70)), ("1", "true"), ("true", "7"), ("1.5", '"7"'), ("1", "[1]")],
)
def test_a_late_value_of_another_type_in_json_lines(tmp_path: Path, usual: str, late: str) -> None:
    """As in a CSV."""
    error = _said(tmp_path, "a.jsonl", _lines([usual] * MANY + [late]))
    shown = late.strip('"')
    assert f"a.jsonl, line {MANY + 1}: {shown!r} in column x, which is read as " in error.message
    found = re.search(r'schema=\{"x": "(\w+)"\}', error.hint)
    assert found is not None
    assert profile.read(tmp_path, ["a.jsonl"], source="s", schema={"x": found[1]})[0] == {"a.jsonl": MANY + 1}


def test_long_values_are_values(tmp_path: Path) -> None:
    """A text of some megabytes can be read, and hides no wrong line or value after it."""
    text = '"' + "x y, " * 500_000 + '"'
    (tmp_path / "a.csv").write_text(f"id,t\n1,{text}\n2,b\n")
    assert profile.read(tmp_path, ["a.csv"], source="s")[0] == {"a.csv": 2}
    assert "b.csv, line 3: 1 value where" in _said(tmp_path, "b.csv", f"id,t\n1,{text}\n2\n".encode()).message
    late = "id,t\n" + "1,a\n" * MANY + f"2,{text}\nx,b\n"
    assert f"c.csv, line {MANY + 3}: 'x' in column id" in _said(tmp_path, "c.csv", late.encode()).message
