"""Data through time and into models: old rows in SQL, names, lineage, impact, cards."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import polars as pl
import pytest
from click.testing import CliRunner

from mlops_local.cli.main import cli
from mlops_local.domain import events
from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import UsageError
from mlops_local.domain.graph import Source
from mlops_local.domain.plan import Output, StepResult
from mlops_local.engines.models import rows as naming
from mlops_local.services import (
    card,
    contents,
    data,
    datadiff,
    datalog,
    history,
    impact,
    init,
    life,
    lineage,
    planning,
    references,
    sql,
)
from mlops_local.services.project import Project, find
from mlops_local.store import cache, objects, projection
from mlops_local.store.journal import Journal
from tests.services.conftest import Story

PEOPLE = Source("people", "data/*.csv", key=("id",), private=("name",))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    init.create(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/1.csv").write_text("id,name,age\n1,Ann,30\n2,Bob,40\n")
    made = find(tmp_path)
    data.snapshot(made, PEOPLE)
    (tmp_path / "data/1.csv").write_text("id,name,age\n1,Ann,31\n2,Bob,40\n3,Eve,50\n")
    (tmp_path / "data/2.csv").write_text("id,name,age\n4,Joe,60\n")
    data.snapshot(made, PEOPLE)
    return made


def test_sql_sees_the_rows_of_every_snapshot(project: Project) -> None:
    """`data.NAME` is the newest snapshot, any reference in quotes another one, whatever the working files are by now."""
    (project.root / "data/1.csv").unlink()
    assert sql.sql(project, "SELECT sum(age) FROM data.people").rows == ((181,),)
    old = sql.sql(
        project, 'SELECT n.id, o.age, n.age FROM "data"."people@~1" o JOIN data.people n USING (id) WHERE o.age <> n.age'
    )
    assert old.rows == ((1, 30, 31),)
    assert sql.sql(project, "SELECT data.source FROM snapshot AS data LIMIT 1").rows == (("people",),)
    with pytest.raises(UsageError, match="people has 2 snapshots"):
        sql.sql(project, 'FROM data."people@~9"')
    for forbidden in (f"FROM read_csv('{project.root}/data/2.csv')", f"FROM read_csv('{project.root}/mlops.toml')"):
        with pytest.raises(UsageError):
            sql.sql(project, f"SELECT (SELECT count(*) FROM data.people), * {forbidden}")


def test_files_that_are_no_tables_are_rows_too(project: Project) -> None:
    """A source of pictures has its paths, sizes and hashes as rows."""
    (project.root / "a.png").write_bytes(b"12345")
    data.snapshot(project, Source("photos", "*.png", kind="files"))
    (project.root / "a.png").unlink()
    assert sql.sql(project, "SELECT path, bytes FROM data.photos").rows == (("a.png", 5),)
    assert not (project.layout.cache / "contents").exists()  # nothing is unpacked for that


def test_labels_of_files_are_columns(project: Project) -> None:
    """What stands in place of the names in a pattern's braces is a column of the source's rows."""
    for path in ("img (1)/train/ca-t/1.png", "img (1)/test/dog/2.png"):
        (project.root / path).parent.mkdir(parents=True)
        (project.root / path).write_bytes(b"1")
    pattern = "img (1)/{split}/{label}/*.png"
    (project.root / "pipeline.py").write_text(f'import mlops_local as mlops\nphotos = mlops.data("{pattern}", kind="files")\n')
    data.snapshot(project, planning.read_code(project).graph.source("photos"))
    found = sql.sql(project, "SELECT split, label, bytes FROM data.photos ORDER BY label")
    assert found.rows == (("train", "ca-t", 1), ("test", "dog", 1))


def test_private_values_are_marks_in_sql(project: Project) -> None:
    """Rows show no value of a private column, but equal marks for equal values: versions are joined and counted by them."""
    (project.root / "pipeline.py").write_text(
        'import mlops_local as mlops\npeople = mlops.data("data/*.csv", key="id", private="name")\n'
    )
    (project.root / "data/3.csv").write_text("id,name,age\n5,,70\n")
    data.snapshot(project, PEOPLE)
    found = sql.sql(project, 'SELECT n.name, o.name FROM data.people n LEFT JOIN data."people@~1" o USING (name) ORDER BY n.id')
    assert len(found.rows) == 5 and found.rows[4] == (None, None)
    assert all(new == old and new.startswith("(private ") for new, old in found.rows[:4])
    assert len({new for new, _ in found.rows}) == 5


def test_profiles_in_sql_have_no_private_values(project: Project) -> None:
    """Of a private column SQL sees type and counts, and no other way to the same table is open."""
    (project.root / "pipeline.py").write_text(
        'import mlops_local as mlops\npeople = mlops.data("data/*.csv", key="id", private="name")\n'
    )
    found = sql.sql(project, "FROM column_profile")
    assert found.columns == sql.sql(project, "FROM (FROM column_profile) WHERE false").columns
    about = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    hidden = [row for row in about if row["name"] == "name"]
    assert sorted((row["type"], row["distinct"], row["min"], row["top"], row["lengths"]) for row in hidden) == [
        ("String", 2, "", "[]", None),
        ("String", 4, "", "[]", None),
    ]
    assert "Ann" not in str(found.rows) and {row["max"] for row in about if row["name"] == "age"} == {"40", "60"}
    for around in ("store.column_profile", "project.store.column_profile", "main.column_profile", 'main."Column_Profile"'):
        with pytest.raises(UsageError, match="is for the program itself"):
            sql.sql(project, f"SELECT (SELECT max(top) FROM {around}), (SELECT count(*) FROM column_profile)")


def test_what_was_private_stays_so_under_another_name(project: Project) -> None:
    """Of a source that is declared no more, as on another branch, what it declared last is hidden; else what it declares."""
    others = (Source("persons", "data/*.csv", key=("id",)),)
    assert datalog.head(project, others, "people@~1", rows=1).rows == ((1, "(private)", 30),)
    held = references.snapshot(project, "people")
    assert "Ann" not in card.card(project, others, "people") + str(data.shown(project, held, others))
    shown = sql.sql(project, "SELECT name FROM data.people UNION ALL SELECT top FROM column_profile WHERE name = 'name'")
    assert len(shown.rows) == 6 and "Ann" not in str(shown.rows)
    file = contents.given(project.root, [project.root / "data/1.csv"], "1")
    assert (datadiff.private(project, (), file), datadiff.private(project, (PEOPLE,), file)) == ([], ["name"])
    data.snapshot(project, replace(PEOPLE, private=("age",)))  # the same bytes
    assert datalog.head(project, others, "people@~1", rows=1).rows == ((1, "Ann", "(private)"),)


def test_the_log_says_what_each_snapshot_changed(project: Project) -> None:
    """Newest first, with files and names; a name stands for its snapshot until it is given away or taken."""
    first = references.snapshot(project, "people@~1")
    assert datalog.tag(project, "people@~1", "base") == first.id
    newest, oldest = datalog.log(project, "people")
    assert (newest.rows, newest.files, newest.added, newest.changed, newest.tags) == (4, 2, 1, 1, ())
    assert (oldest.rows, oldest.files, oldest.added, oldest.tags) == (2, 1, 1, ("base",))
    assert references.snapshot(project, "people@base") == first
    datalog.tag(project, "people", "base")
    assert references.snapshot(project, "people@base").id != first.id
    datalog.untag(project, "people", "base")
    for wrong in (lambda: references.snapshot(project, "people@base"), lambda: datalog.untag(project, "people", "base")):
        with pytest.raises(UsageError):
            wrong()
    for name in ("latest", "abcdef", "~1", "a b", ""):
        with pytest.raises(UsageError, match="cannot be a snapshot's name"):
            datalog.tag(project, "people", name)
    with pytest.raises(UsageError, match="'pets' has no snapshot"):
        datalog.log(project, "pets")


def test_the_first_rows_hide_what_is_private(project: Project) -> None:
    """`head` reads any snapshot; values of private columns are hidden there and in the card."""
    shown = datalog.head(project, (PEOPLE,), "people@~1", rows=1)
    assert (shown.columns, shown.rows) == (("id", "name", "age"), ((1, "(private)", 30),))
    text = card.card(project, [PEOPLE], "people@~1")
    assert (
        "| age | Int64 | 0 | 2 | 30 | 30 | 40 | 35 | 7.07107 |" in text and "Ann" not in text and "1 added, 1 changed" in text
    )


def test_a_card_says_rules_and_models_in_markdown_that_holds(story: Story) -> None:
    """Names with what Markdown takes for its own stay in their cell; rules and the versions made from it stand there."""
    root, project = story.project.root, story.project
    (root / "t.csv").write_text("a|b,c\n1,x\n")
    (root / "mlops.toml").write_text('[data.t.checks]\nnot_null = "c"\n')
    held = data.snapshot(project, Source("t", "t.csv"))
    run = story.run("calm-otter", snapshots=(held,))
    story.version("delay", 0.7, run=run, snapshots={"t": held.id})
    text = card.card(find(root), [Source("t", "t.csv")], "t")
    assert "| a\\|b | Int64 |" in text and "- `not_null c` (error)" in text and "- `delay@1`: new, auc 0.7" in text


def test_the_commands_show_it(project: Project) -> None:
    """log, tag, head and card are commands; reading ones answer as JSON."""
    (project.root / "pipeline.py").write_text(
        'import mlops_local as mlops\npeople = mlops.data("data/*.csv", key="id", private="name")\n'
    )
    runner, root = CliRunner(), ["-C", str(project.root)]
    assert runner.invoke(cli, [*root, "data", "tag", "people@~1", "base"]).exit_code == 0
    shown = runner.invoke(cli, [*root, "data", "log", "people"]).stdout
    assert "1 added, 1 changed" in shown and shown.rstrip().endswith("base")
    answer = json.loads(runner.invoke(cli, [*root, "data", "head", "people@base", "-n", "1", "--json"]).stdout)
    assert answer["items"] == [{"id": 1, "name": "(private)", "age": 30}]
    assert runner.invoke(cli, [*root, "data", "card", "people"]).stdout.startswith("# people\n")
    assert runner.invoke(cli, [*root, "data", "tag", "people", "base", "--remove"]).exit_code == 0
    assert runner.invoke(cli, [*root, "data", "tag", "people", "base", "--remove"]).exit_code != 0


def _held(identifier: str) -> Snapshot:
    return Snapshot(identifier, "rows", (FileEntry("data/rows.csv", identifier, 9, 4),), rows=4, bytes=9)


def test_lineage_goes_both_ways(story: Story) -> None:
    """From a snapshot to runs, versions and deployments; from a version back to its run and snapshots."""
    old, new = _held("a" * 64), _held("b" * 64)
    first = story.run("calm-otter", snapshots=(old,))
    story.run("brisk-owl", snapshots=(new,))
    version = story.version("delay", 0.7, run=first, snapshots={"rows": old.id})
    story.deployed(version, pid=1)
    forth = lineage.lineage(story.project, "aaaa")
    assert [(step.kind, step.name, step.depth) for step in forth.results] == [
        ("run", "calm-otter", 1),
        ("version", "delay@1", 2),
        ("deployment", "delay on port 8501", 3),
    ]
    assert forth.sources == () and forth.results[1].about == "new, auc 0.7"
    back = lineage.lineage(story.project, "delay@1")
    assert [(step.kind, step.name) for step in back.sources] == [("run", "calm-otter"), ("snapshot", "rows aaaaaaaa")]
    shown = CliRunner().invoke(cli, ["-C", str(story.project.root), "lineage", "delay@1"]).stdout
    assert "version delay@1  new, auc 0.7\n\nmade from\n  run calm-otter" in shown


def test_evaluated_rows_are_named_without_private_values(story: Story) -> None:
    """Where a private column names rows, or is a slice of them, SQL sees the marks it has in `data.people`."""
    root, project = story.project.root, story.project
    (root / "people.csv").write_text("id,name\n1,Ann\n2,Bob\n3,\n")
    (root / "pipeline.py").write_text('import mlops_local as mlops\npeople = mlops.data("people.csv", private=["name"])\n')
    data.snapshot(project, Source("people", "people.csv", private=("name",)))
    rows = {"row": ["r1", "r2", "r3"], "label": [0, 1, 0], "prediction": [0.1, 0.9, 0.2]}
    pl.DataFrame(rows | {"name": ["Ann", "Bob", None], "id": [1, 2, 3]}).write_parquet(root / "p.parquet")
    story.version("delay", 0.7, predictions=objects.put_file(project.layout, root / "p.parquet"))
    joined = "FROM evaluation e JOIN data.people p ON e.keys ->> 'name' = p.name WHERE e.keys ->> 'id' = p.id"
    assert sql.sql(project, f"SELECT count(*) {joined}").rows == ((2,),)
    shown = sql.sql(project, "SELECT keys FROM evaluation ORDER BY row").rows
    (root / "pipeline.py").unlink()
    assert sql.sql(project, "SELECT keys FROM evaluation ORDER BY row").rows == shown, "it is declared no more"
    assert "Ann" not in str(shown) and json.loads(shown[2][0]) == {"id": 3, "name": None} and json.loads(shown[0][0])["id"] == 1


def test_what_a_run_was_given_leads_to_it_and_is_not_the_newest(project: Project) -> None:
    """A run that read a snapshot that was there before is what came of it; the files' newest snapshot stays the newest."""
    before, newest = (references.snapshot(project, name).id for name in ("people@~1", "people"))
    with closing(Journal.open(project.layout.journal)) as journal:
        journal.state(events.RUN_STARTED, run="ab" * 16, name="amber-fox", kind="train", snapshots={"people": before})
        journal.state(events.RUN_ENDED, run="ab" * 16, state="done", seconds=1.0)
    assert [(item.kind, item.name) for item in lineage.lineage(project, "people@~1").results] == [("run", "amber-fox")]
    assert history.detail(project, "ab" * 16).snapshots == {"people": before}
    for _ in range(2):
        assert references.snapshot(project, "people").id == newest
        projection.rebuild(project.store)
        projection.restore_cache(project.store)
        held = cache.snapshot(project.layout, "people")
        assert held is not None and held.id == newest
    life.remove(project, ["amber-fox"])
    assert lineage.lineage(project, "people@~1").results == ()
    life.take_back(project, ["amber-fox"])
    assert [item.name for item in lineage.lineage(project, "people@~1").results] == ["amber-fox"]


def test_impact_counts_the_rows_each_version_saw(story: Story) -> None:
    """By what names a row: how many it learned from and was judged on; what is not known is said with its reason."""
    project = story.project
    (project.root / "data").mkdir()
    file = project.root / "data/rows.csv"
    file.write_text("id,carrier\n1,UA\n2,UA\n3,AA\n4,AA\n")
    held = data.snapshot(project, Source("rows", "data/rows.csv", key=("id",)))
    frame = pl.read_csv(file)

    def version(value: float, learned: list[int], judged: list[int], identity: list[str]) -> None:
        made = story.version("delay", value, snapshots={"rows": held.id})
        outputs = []
        for name, ids in (("trained", learned), ("predictions", judged)):
            path = project.layout.tmp / "x.parquet"
            pl.DataFrame({"row": naming.row_hashes(frame.filter(pl.col("id").is_in(ids)), ["id"])}).write_parquet(path)
            outputs.append(Output(name, "parquet", name, {"x.parquet": objects.put_file(project.layout, path)}))
        result = StepResult("gbm.evaluate", made.fingerprint, tuple(outputs), report={"identity": identity})
        cache.record(project.layout, result, written=True)

    version(0.7, [1, 3], [4], ["id"])
    version(0.71, [1], [2], ["id", "day"])
    story.version("delay", 0.72, snapshots={"rows": held.id})
    story.version("other", 0.5, snapshots={"rows": "c" * 64})
    version(0.73, [1], [2], [])
    found = impact.impact(project, file, where="carrier = 'UA'")
    assert (found.rows, found.snapshots) == (2, (f"rows {held.short}",))
    assert [(item.version, item.learned, item.judged) for item in found.versions] == [
        ("delay@4", None, None),
        ("delay@3", None, None),
        ("delay@2", None, None),
        ("delay@1", 1, 0),
    ]
    assert found.versions[0].note == "it kept no names of rows"
    assert "not kept any more" in found.versions[1].note and "day is not in the file" in found.versions[2].note
    file.unlink()  # then it is read from the store
    assert [(item.learned, item.judged) for item in impact.impact(project, file).versions][-1] == (2, 1)
    with pytest.raises(UsageError, match="--where cannot be read"):
        impact.impact(project, file, where="nope = 1")
    with pytest.raises(UsageError, match=r"no snapshot holds data/other\.csv"):
        impact.impact(project, project.root / "data/other.csv")
    shown = CliRunner().invoke(cli, ["-C", str(project.root), "impact", "data/rows.csv"]).stdout
    assert "4 rows of data/rows.csv, which is in rows" in shown and "not known" in shown


def test_a_project_that_takes_nothing_can_be_looked_at(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of versions that were read before, and differences, from a file system that nothing can be written to."""
    kept = sql.sql(project, 'SELECT count(*) FROM data."people@~1"').rows
    refused = OSError(errno.EROFS, "Read-only file system")
    sides = datadiff.sides(project, [PEOPLE], "people@~1", "people", here=project.root)
    before = datadiff.compare(project, *sides, key=["id"])
    monkeypatch.setattr(os, "utime", Mock(side_effect=refused))
    shutil.rmtree(project.layout.tmp)
    assert sql.sql(project, 'SELECT count(*) FROM data."people@~1"').rows == kept == ((2,),)
    assert datadiff.compare(project, *sides, key=["id"]) == before and before.rows is not None and before.rows.added == 2
    assert not project.layout.tmp.exists()
