"""`mlops data diff` over snapshots, files and folders of a real project."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from mlops_local.cli.main import cli
from mlops_local.domain.difference import FileChanges
from mlops_local.domain.errors import DataError, MlopsError, UsageError
from mlops_local.domain.graph import Source
from mlops_local.services import contents, data, datadiff, init, sql
from mlops_local.services.project import Project, find

SOURCE = Source("people", "data/*.csv", key=("id",))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    init.create(tmp_path)
    (tmp_path / "mlops.toml").write_text('[project]\nname = "p"\n')
    (tmp_path / "pipeline.py").write_text('import mlops_local as mlops\npeople = mlops.data("data/*.csv", key="id")\n')
    (tmp_path / "data").mkdir()
    for month in (1, 2):
        (tmp_path / "data" / f"{month}.csv").write_text("id,age\n" + "".join(f"{month}{n},{n}\n" for n in range(5)))
    return find(tmp_path)


def test_an_old_version_is_compared_without_its_files(project: Project) -> None:
    """After the files changed, `@~1` is read from what the store kept; a file both versions have is not read."""
    data.snapshot(project, SOURCE)
    (project.root / "data/2.csv").write_text("id,age\n20,0\n21,7\n22,2\n23,3\n29,9\n")
    after = data.snapshot(project, SOURCE)
    old, new = datadiff.sides(project, [SOURCE], "people@~1", "people", here=project.root)
    assert new.label == f"people {after.short}"
    (project.root / "data/1.csv").chmod(0)
    found = datadiff.compare(project, old, new, key=["id"], private=["age"])
    assert found.files == FileChanges(changed=("data/2.csv",)) and found.rows is not None
    assert (found.rows.before, found.rows.after) == (10, 10)
    assert (found.rows.added, found.rows.removed, found.rows.changed, found.rows.cells) == (1, 1, 1, {"age": 1})
    assert {sample.change: dict(sample.after or sample.before) for sample in found.rows.samples} == {
        "removed": {"id": 24, "age": "(private)"},
        "added": {"id": 29, "age": "(private)"},
        "changed": {"id": 21, "age": "(private)"},
    }
    assert list(project.layout.tmp.iterdir()) == []


def test_the_command_says_it_and_ends_with_what_it_found(project: Project) -> None:
    """A source alone is compared with its files as they are now; --exit-code, --stat, --to and --json do what they say."""
    data.snapshot(project, SOURCE)
    runner, root = CliRunner(), ["-C", str(project.root)]
    same = runner.invoke(cli, [*root, "data", "diff", "people", "--exit-code"])
    assert same.exit_code == 0 and "no difference" in same.output
    (project.root / "data/2.csv").write_text("id,age\n20,0\n21,1\n22,2\n23,3\n24,40\n")
    shown = runner.invoke(cli, [*root, "data", "diff", "people", "--exit-code", "--to", "changes.parquet"])
    assert shown.exit_code == 1 and "10 -> 10: 0 added, 0 removed, 1 changed" in shown.output
    assert "id 24: age 4 -> 40" in shown.output and "1 changed: data/2.csv" in shown.output
    assert pl.read_parquet(project.root / "changes.parquet")["change"].sort().to_list() == ["after", "before"]
    with pytest.raises(UsageError, match="there is no folder"):
        runner.invoke(cli, [*root, "data", "diff", "people", "--to", "none/x.parquet"], catch_exceptions=False)
    answer = json.loads(runner.invoke(cli, [*root, "data", "diff", "people", "--stat", "--json"]).output)
    assert answer["schema"] == "mlops/data-diff@1" and answer["rows"]["samples"] == []
    assert answer["columns"][1]["cells"] == 1
    two = runner.invoke(cli, [*root, "data", "diff", "data/1.csv", "data/2.csv", "--no-key"])
    assert "5 added, 5 removed" in two.output


def test_private_values_are_hidden_however_a_side_is_named(project: Project) -> None:
    """By id, or beside a file: the source's key and private columns count; nor does a key that is not unique give one away."""
    text = 'import mlops_local as mlops\npeople = mlops.data("data/*.csv", key="id", private=["id", "age"])\n'
    (project.root / "pipeline.py").write_text(text)
    (project.root / "old.csv").write_text("id,age\n10,0\n11,777\n")
    (project.root / "data/2.csv").write_text("id,age\n888,999\n")
    data.snapshot(project, SOURCE)
    for command in (["show"], ["data", "show"], ["data", "card"], ["data", "head"]):
        done = CliRunner().invoke(cli, ["-C", str(project.root), *command, "people"])
        assert done.exit_code == 0 and "888" not in done.output and "999" not in done.output, done.output
    (project.root / "data/2.csv").unlink()
    taken = data.snapshot(project, SOURCE)
    for sides in (["old.csv", taken.short], [taken.short, "old.csv"]):
        done = CliRunner().invoke(cli, ["-C", str(project.root), "data", "diff", *sides])
        assert done.exit_code == 0 and "1 changed" in done.output and "777" not in done.output, done.output
    (project.root / "old.csv").write_text("id,age\n555,0\n555,1\n")
    done = CliRunner().invoke(cli, ["-C", str(project.root), "data", "diff", "old.csv", taken.short])
    assert "as id (private) (2 rows)" in str(done.exception) and "555" not in str(done.exception)


def test_a_side_that_is_nothing_is_said(project: Project) -> None:
    """One side alone has to be a source; tables are not compared with pictures."""
    with pytest.raises(UsageError, match="a second side is needed"):
        datadiff.sides(project, [SOURCE], "pets", here=project.root)
    with pytest.raises(UsageError, match=r"'2\.csv' is no source, snapshot, file or folder"):
        datadiff.sides(project, [SOURCE], "data/1.csv", "2.csv", here=project.root)
    (project.root / "photo.png").write_bytes(b"x")
    sides = datadiff.sides(project, [SOURCE], "photo.png", "data/1.csv", here=project.root)
    with pytest.raises(UsageError, match="not both tables"):
        datadiff.compare(project, *sides)


def test_a_key_that_is_no_column_is_said_where_nothing_differs(project: Project) -> None:
    """A misspelled key is not passed over because no row had to be looked at."""
    data.snapshot(project, SOURCE)
    sides = datadiff.sides(project, [SOURCE], SOURCE.name, here=project.root)
    with pytest.raises(DataError, match="'idd' is not on both sides"):
        datadiff.compare(project, *sides, key=["idd"])
    rows = datadiff.compare(project, *sides, key=["id"]).rows
    assert rows is not None and (rows.added, rows.removed, rows.changed) == (0, 0, 0)


def test_files_are_added_removed_changed_and_moved() -> None:
    """By content: what only has another path was moved; copies are told apart one by one."""
    before = {"a": "1", "b": "2", "c": "3", "d": "3", "e": "5"}
    after = {"a": "1", "x": "2", "y": "3", "e": "6", "f": "7"}
    assert datadiff.files(before, after) == FileChanges(
        added=("f",), removed=("d",), changed=("e",), moved=(("b", "x"), ("c", "y"))
    )
    assert not datadiff.files(before, before).any


def test_folders_are_compared_by_content(project: Project) -> None:
    """Two folders of files that are no tables: only their files are compared, hidden ones (a store's) left out."""
    for name, files in {
        "one": {"a.png": b"1", "b.png": b"2", ".mlops/x.duckdb": b"0"},
        "two": {"sub/a.png": b"1", "b.png": b"3"},
    }.items():
        for path, content in files.items():
            (project.root / name / path).parent.mkdir(parents=True, exist_ok=True)
            (project.root / name / path).write_bytes(content)
    found = datadiff.compare(project, *datadiff.sides(project, [], "one", "two", here=project.root))
    assert found.rows is None and found.any
    assert found.files == FileChanges(changed=("b.png",), moved=(("a.png", "sub/a.png"),))


def test_a_version_without_any_copy_is_said(project: Project) -> None:
    """A file that changed and has no stored copy: the file and the snapshot are named."""
    taken = data.snapshot(project, SOURCE)
    lost = replace(taken, files=(replace(taken.files[0], hash="0" * 64),))
    with pytest.raises(DataError) as caught:
        contents.of(project, lost)
    assert f"data/1.csv is no longer what it was in snapshot {taken.short} of people" in caught.value.message
    kept = replace(SOURCE, store="reference")
    for number in (8, 9):
        (project.root / "data/1.csv").write_text(f"id,age\n{number},{number}\n")
        if number == 8:
            data.snapshot(project, kept)
    with pytest.raises(DataError, match="no longer what it was"):
        datadiff.sides(project, [kept], "people", here=project.root)


def test_names_that_are_not_utf8_are_the_same_names(project: Project) -> None:
    """What the tables cannot hold byte by byte has not moved for that."""
    (project.root / "odd").mkdir()
    (project.root / os.fsdecode(b"odd/caf\xe9")).write_bytes(b"coffee")
    odd = Source("odd", "odd/*", kind="files")
    data.snapshot(project, odd)
    assert not datadiff.files(*(side.hashes for side in datadiff.sides(project, [odd], "odd", here=project.root))).any


def test_a_disk_that_is_full_is_no_fault_of_the_data(project: Project) -> None:
    """It is said of the copy that could not be written, of which nothing is left."""
    (project.root / "data/1.csv").write_text("id,age\n" + "".join(f"{n * n},{n}\n" for n in range(9000)))
    taken = data.snapshot(project, SOURCE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(MlopsError, match=r"^no space left to write rows/"):
            contents.tables(project, contents.of(project, taken))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(project.layout.tmp.glob("rows.*"))


def test_ids_beyond_64_bits_are_numbers(project: Project) -> None:
    """One long id makes no other row differ, and SQL shows digits."""
    for path in (project.root / "data").iterdir():
        path.unlink()
    file = project.root / "data/1.csv"
    file.write_text("id,age\n1,2\n2,3\n")
    before = data.snapshot(project, SOURCE)
    file.write_text("id,age\n1,2\n12345678901234567890,3\n")
    after = data.snapshot(project, SOURCE)
    found = datadiff.compare(project, contents.of(project, before), contents.of(project, after), key=["id"], private=[])
    assert found.rows is not None and (found.rows.added, found.rows.removed) == (1, 1)
    assert sql.sql(project, "SELECT max(id)::VARCHAR FROM data.people").rows == (("12345678901234567890",),)


def test_what_differs_is_seen(project: Project) -> None:
    """In the seventh digit, far inside a text, in signs that look the same, from nothing to null; no code is needed for it."""
    (project.root / "pipeline.py").unlink()
    long = "x" * 500
    before = {
        "id": [1, 2, 3, 4],
        "n": [1.0000001, 1, 1, 1],
        "t": ["a", f"{long}1{long}", "\u00e9", ""],
        "l": [[1], [2], None, []],
    }
    after = {
        "id": [1, 2, 3, 4],
        "n": [1.0000002, 1, 1, 1],
        "t": ["a", f"{long}2", "e\u0301", None],
        "l": [[1], [None], None, []],
    }
    for name, rows in (("a", before), ("b", after)):
        pl.DataFrame(rows, strict=False).write_parquet(project.root / f"{name}.parquet")
    done = CliRunner().invoke(cli, ["-C", str(project.root), "data", "diff", "a.parquet", "b.parquet", "--key", "id"])
    told = [line.partition(": ")[2] for line in done.output.splitlines() if line.startswith("changed")]
    assert told[0] == "n 1.0000001 -> 1.0000002"
    old, new = told[1].removeprefix("t ").removesuffix(", l [2] -> [null]").split(" -> ")
    assert old.startswith("…xxx") and (old + new).count("1") == 1 and new.endswith("2") and len(told[1]) < 200
    assert told[2:] == [r"t \xe9 -> e\u0301", "t '' -> null"]
