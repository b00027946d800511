"""JSON lines whose fields differ: all of them are read, or it is said which are not."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mlops_local.domain.errors import DataError
from mlops_local.domain.graph import Source
from mlops_local.engines.data import lines, profile
from mlops_local.worker import inputs

LATE = '{"id": 1, "new": 5, "more": {"a": [1]}}\n'


@pytest.fixture
def late(tmp_path: Path) -> Path:
    """A file whose last line has fields that no line before it has."""
    (tmp_path / "a.jsonl").write_text("".join(f'{{"id": {n}}}\n' for n in range(lines.ROWS)) + LATE)
    return tmp_path


def _columns(root: Path, *names: str, **schema: str) -> dict[str, str | None]:
    rows, columns = profile.read(root, names, source="s", schema=schema)
    assert rows["a.jsonl"] == lines.ROWS + 1
    return {column.name: column.max for column in columns}


def test_a_field_that_comes_late_is_not_left_out(late: Path) -> None:
    """It is named with the type that takes it; declared so, the profile and the steps have it."""
    with pytest.raises(
        DataError, match=r"a\.jsonl: none of its first 10,000 rows has the field 'more' \(and 1 more\)"
    ) as caught:
        _columns(late, "a.jsonl")
    assert caught.value.hint == 'declare it: schema={"more": "String"}'
    with pytest.raises(DataError, match="the field 'new', so it would be left out") as caught:
        _columns(late, "a.jsonl", more="String")
    assert caught.value.hint == 'declare it: schema={"new": "Int64"}'
    declared = {"more": "String", "new": "Int64"}
    assert _columns(late, "a.jsonl", **declared) == {"id": str(lines.ROWS - 1), "more": '{"a": [1]}', "new": "5"}
    source = Source("s", "a.jsonl", schema=declared)
    given = inputs.scan(source, {"a.jsonl": str(late / "a.jsonl")}).collect()
    assert given.schema == {"id": pl.Int64, "more": pl.String, "new": pl.Int64} and given["new"].drop_nulls().to_list() == [5]


def test_declared_fields_need_not_be_in_every_file(late: Path) -> None:
    """A file without one of them has no value there; one that no file has is no column."""
    (late / "b.jsonl").write_text('{"id": 70000, "new": 9}\n')
    declared = {"more": "String", "new": "Int64"}
    found = _columns(late, "a.jsonl", "b.jsonl", **declared)
    assert (found["id"], found["new"]) == ("70000", "9")
    assert "neww" not in _columns(late, "a.jsonl", **declared, neww="Int64")
    with pytest.raises(DataError, match="has new beyond it"):
        _columns(late, "a.jsonl", "b.jsonl", more="String")


def test_fields_that_cannot_be_told_are_not_missed(tmp_path: Path) -> None:
    """A packed file is read as far as its first rows tell."""
    (tmp_path / "a.jsonl").write_bytes(b"\x1f\x8b nothing")
    assert lines.fields(tmp_path / "a.jsonl") == []
