"""Rules held against real files: what is found, kept, recorded and stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from mlops_local.cli.main import cli
from mlops_local.domain.checks import Finding
from mlops_local.domain.errors import ConfigError, DataError
from mlops_local.domain.graph import Source
from mlops_local.domain.progress import Progress
from mlops_local.services import checks, data, history, init, sql, train
from mlops_local.services.project import Project, find
from mlops_local.store import cache, projection

PEOPLE = Source("people", "data/people.csv", key=("id",), time="seen", private=("name",))
OTHERS = Source("others", "data/others.csv", key=("id",))
PHOTOS = Source("photos", "*.png", kind="files")
SOURCES = (PEOPLE, OTHERS, PHOTOS)
NOW = datetime(2026, 3, 10, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    init.create(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/people.csv").write_text(
        "id,name,age,kind,seen\n1,Ann,30,a,2026-03-01\n2,,200,b,2026-03-02\n3,Eve,-1,zz,2026-03-03\n3,Bob,,a,\n"
    )
    (tmp_path / "data/others.csv").write_text("id,age\n2,1\n9,1\n")
    (tmp_path / "a.png").write_bytes(b"")
    return find(tmp_path)


def _rules(project: Project, text: str) -> Project:
    (project.root / "mlops.toml").write_text(f'[project]\nname = "p"\n[data.people.checks]\n{text}\n')
    return find(project.root)


def _found(project: Project, text: str) -> dict[str, Finding]:
    return {item.rule: item for item in checks.check(_rules(project, text), SOURCES, ["people"], now=NOW)}


def test_what_is_said_against_a_rule_shows_no_private_value(project: Project) -> None:
    """An expression that fails on a value of a row names the value only where no column is private."""
    for text in ('sql = "name::INT > 3"', "in.name = [3]", "sql = \"error(name || 'x')\""):
        with pytest.raises(ConfigError, match="not shown: name is private") as caught:
            _found(project, text)
        assert "Ann" not in str(caught.value)
    with pytest.raises(ConfigError, match="Could not convert string 'a'"):
        checks.check(_rules(project, 'sql = "kind::INT > 3"'), [replace(PEOPLE, private=())], ["people"])
    assert _found(project, 'sql = "age < 300 -- as they are"') == {}


def test_long_values_are_shown_cut(project: Project) -> None:
    """Of a text of a megabyte a finding keeps the beginning: findings are journalled."""
    (project.root / "data/people.csv").write_text(f"id,name,age,kind,seen\n1,Ann,30,{'é' * 1_000_000},2026-03-01\n")
    (sample,) = _found(project, 'in.kind = ["a"]')["in kind a"].samples
    assert sample["kind"] == "é" * 199 + "…"


def test_suggested_rules_can_be_read_back(project: Project) -> None:
    """Of a column without a name, and of two that differ in capitals alone, nothing is suggested: no rule can name them."""
    (project.root / "data/others.csv").write_text(",id,Age,age,q x\n0,2,1,5,a\n1,9,1,6,b\n")
    text = checks.suggest(project, [OTHERS])
    assert text.splitlines()[2:] == [
        'not_null = ["id", "q x"]',
        'unique = ["id"]',
        "range.id = [2, 9]",
        'in."q x" = ["a", "b"]',
    ]
    (project.root / "mlops.toml").write_text(text)
    assert checks.check(find(project.root), SOURCES, ["others"]) == []
    for named in (replace(OTHERS, key=("age",)), replace(OTHERS, private=("Age",))):
        with pytest.raises(DataError, match="SQL takes one for the other"):
            data.snapshot(project, named)


def test_columns_that_cannot_be_compared_are_named(project: Project) -> None:
    """A key that is a number here and text there is no row in common, and no crash: types are said."""
    (project.root / "data/others.csv").write_text("id,age\nx,1\n")
    with pytest.raises(ConfigError, match=r"values of these columns cannot be compared: id \(BIGINT and VARCHAR\)"):
        _found(project, 'no_overlap = "others"')


def test_rows_that_break_rules_are_counted_and_shown(project: Project) -> None:
    """Each kind of rule names its columns, counts its rows and shows some, by key; private values are hidden."""
    found = _found(
        project,
        'not_null = ["name", "id"]\nunique = "id"\nrange.age = [0, 150]\nin.kind = ["a", "b"]\nregex.kind = "[a-z]"\n'
        'row_count = [10, 20]\nfreshness = "2d"\nno_overlap = "others"\nsql = "age is null or age < 100"',
    )
    assert {rule: (item.failed, item.rows) for rule, item in found.items()} == {
        "not_null name": (1, 4),
        "unique id": (2, 4),
        "range age 0 to 150": (2, 4),
        "in kind a, b": (1, 4),
        "regex kind [a-z]": (1, 4),
        "row_count 10 to 20": (0, 4),
        "no_overlap others": (1, 4),
        "sql age is null or age < 100": (1, 4),
        "freshness 2 d": (0, 4),
    }
    assert found["not_null name"].samples == ({"id": "2", "name": "(private)"},)
    assert found["range age 0 to 150"].samples == ({"id": "2", "age": "200"}, {"id": "3", "age": "-1"})
    assert found["unique id"].samples == ({"id": "3", "rows": 2},)
    assert found["freshness 2 d"].note == "the newest seen is 2026-03-03 00:00 UTC, 7 d ago"
    assert "1 of 4 rows are in others too, by id" in found["no_overlap others"].line


def test_rows_of_the_other_source_are_those_it_has_now(project: Project) -> None:
    """What was found beside an older version of it, before its files changed, is no answer, nor is the hook told it."""
    others = project.root / "data/others.csv"
    others.write_text("id,age\n8,1\n9,1\n")
    assert _found(project, 'no_overlap = "others"') == {}
    beside = data.snapshot(project, OTHERS)
    others.write_text("id,age\n8,1\n1,1\n3,1\n")
    assert _found(project, 'no_overlap = "others"')["no_overlap others"].failed == 3
    now = {source.name: data.snapshot(project, source).id for source in SOURCES}
    project = find(project.root)
    assert [item.failed for item in checks.standing(project, SOURCES, now)] == [3]
    assert checks.standing(project, SOURCES, {**now, "others": beside.id}) == []


def test_a_rule_that_cannot_be_applied_is_said(project: Project) -> None:
    """A misspelled column or source gets its neighbour; SQL that is none, and freshness without a time, are said."""
    for text, said in {
        'not_null = "nam"': "names a column 'nam'",
        'sql = "age >"': "cannot be run",
        'sql = "age > 0) or (1 = 1"': "cannot be run",
        'sql = " "': "expected conditions in SQL",
        'no_overlap = "other"': "names no source",
        'no_overlap = "people"': "names itself",
        'no_overlap = "photos"': "names files that are no table",
        "range.kind = [0, 1]": "cannot be run",
        "regex.kind = '[a'": "cannot be run",
    }.items():
        with pytest.raises(ConfigError, match=said) as caught:
            _found(project, text)
        assert caught.value.hint
    assert "RE2" in caught.value.hint
    odd = replace(PEOPLE, time="kind")
    with pytest.raises(ConfigError, match="the time column 'kind' is VARCHAR, not a time"):
        checks.check(_rules(project, 'freshness = "2d"'), [odd], ["people"])
    (project.root / "mlops.toml").write_text('[data.peple.checks]\nnot_null = "id"\n')
    with pytest.raises(ConfigError) as caught:
        checks.of(find(project.root), SOURCES, {})
    assert caught.value.hint == "did you mean 'people'?"


def test_what_was_found_is_kept_by_snapshot_and_rules(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules over the same snapshot look at no row again; other rules or rows do. Freshness is told by the clock."""
    text = 'not_null = "name"\nfreshness = "8d"'
    assert set(_found(project, text)) == {"not_null name"}
    monkeypatch.setattr(checks, "_look", lambda *_: pytest.fail("rows were looked at again"))
    again = checks.check(_rules(project, text), SOURCES, ["people"], now=datetime(2026, 4, 1, tzinfo=UTC))
    assert [item.rule for item in again] == ["not_null name", "freshness 8 d"]
    now = {"people": data.snapshot(project, PEOPLE).id}
    assert [item.rule for item in checks.standing(_rules(project, text), SOURCES, now)] == ["not_null name"]
    assert checks.standing(_rules(project, text), SOURCES, {"people": "other"}) == []
    with pytest.raises(pytest.fail.Exception):
        _found(project, 'not_null = "id"')


def test_findings_are_a_table(project: Project) -> None:
    """The newest findings of a snapshot are rows of the view `finding`, also of rules that were edited since."""
    _found(project, 'not_null = ["name", "age"]')
    _found(project, 'not_null = "age"\nwarn = "not_null"')
    rows = sql.sql(project, "SELECT source, rule, severity, columns, failed, rows, samples FROM finding").rows
    assert [(*row[:6], json.loads(row[6])) for row in rows] == [
        ("people", "not_null age", "warning", ["age"], 1, 4, [{"id": "3", "age": None}])
    ]


def test_data_that_went_stale_are_in_the_table(project: Project) -> None:
    """Freshness is recorded when it comes out otherwise, and so are rules that were taken back, with no row looked at again."""
    text = 'not_null = "name"\nfreshness = "8d"'

    def told(now: datetime, rules: str = text) -> list[str]:
        checks.check(_rules(project, rules), SOURCES, ["people"], now=now)
        return [row[0] for row in sql.sql(project, "SELECT rule FROM finding ORDER BY rule DESC").rows]

    assert told(NOW) == ["not_null name"]
    assert told(datetime(2026, 4, 1, tzinfo=UTC)) == ["not_null name", "freshness 8 d"]
    assert told(NOW, 'not_null = "age"') == ["not_null age"]
    assert told(NOW) == ["not_null name"]
    before = sorted(project.layout.journal.iterdir())
    assert told(NOW) == ["not_null name"] and sorted(project.layout.journal.iterdir()) == before


def test_errors_stop_and_warnings_are_said(project: Project) -> None:
    """What is required names the first broken rule, how many more, and what shows rows; warnings are only said."""
    held = {"people": data.snapshot(project, PEOPLE)}
    said: list[Progress] = []
    warned = _rules(project, 'not_null = "name"\nwarn = ["not_null"]')
    checks.require(warned, SOURCES, held, emit=said.append)
    assert [(item.kind, item.text) for item in said] == [("warning", "people: not_null name: 1 of 4 rows")]
    with pytest.raises(DataError) as caught:
        checks.require(_rules(project, 'not_null = ["name", "age"]'), SOURCES, held)
    assert caught.value.message == "people: not_null name: 1 of 4 rows (and 1 more)"
    assert "mlops data check people" in caught.value.hint


def test_a_training_does_not_begin_on_broken_data(project: Project) -> None:
    """`train` and `mlops data check` end before any step runs; --suggest prints rules under which both pass."""
    (project.root / "pipeline.py").write_text(
        "import mlops_local as mlops\n"
        'people = mlops.data("data/people.csv", private="name")\n'
        "@mlops.step\ndef count(people) -> int:\n    return 1\n"
    )
    broken = _rules(project, "range.age = [0, 150]")
    with pytest.raises(DataError, match=r"people: range age 0 to 150: 2 of 4 rows"):
        train.train(broken)
    runner, root = CliRunner(), ["-C", str(project.root)]
    shown = runner.invoke(cli, [*root, "data", "check"])
    assert shown.exit_code == 1 and "error    people: range age 0 to 150: 2 of 4 rows" in shown.output
    suggested = runner.invoke(cli, [*root, "data", "check", "--suggest", "-q"]).stdout
    assert 'in.kind = ["a", "b", "zz"]' in suggested and "name" not in suggested.replace("[data", "")
    (project.root / "mlops.toml").write_text('[project]\nname = "p"\n' + suggested)
    passed = runner.invoke(cli, [*root, "data", "check"])
    assert passed.exit_code == 0 and "ok       people: every rule holds" in passed.output
    done = train.train(find(project.root))
    assert done.ran == ("count",)
    assert list(history.detail(project, done.run).snapshots) == ["people"]  # also where it was there before


def test_declared_types_make_another_snapshot(project: Project) -> None:
    """Text that is read as other types is another version of the data, back and forth; its rules see those types."""
    plain = data.snapshot(project, PEOPLE)
    typed = Source("people", "data/people.csv", key=("id",), schema={"id": "String", "age": "Float64"})
    taken = data.snapshot(project, typed)
    assert taken.id != plain.id and [column.type for column in taken.columns[:3]] == ["String", "String", "Float64"]
    assert cache.snapshot(project.layout, "people") == taken
    assert data.snapshot(project, typed) == taken and data.snapshot(project, PEOPLE).id == plain.id
    (finding,) = checks.check(_rules(project, "regex.id = '[12]'"), [typed], ["people"])
    assert finding.failed == 2
    with pytest.raises(DataError, match="schema names a column 'agee'"):
        data.snapshot(project, Source("people", "data/people.csv", schema={"agee": "Int64"}))
    shutil.rmtree(project.layout.cache)
    assert pl.read_csv(project.root / "data/people.csv").height == 4


LEAKY = """
from typing import NamedTuple
import polars as pl
import mlops_local as mlops

rows = mlops.data("data/rows.csv", key=["id"], private=["size"])

class Split(NamedTuple):
    train: pl.DataFrame
    valid: pl.DataFrame
    test: pl.DataFrame

@mlops.step
def split(rows: pl.DataFrame) -> Split:
    return Split(rows[:300], rows[300:350], rows[290:])

@mlops.transform
def features(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("size", "told")

late = mlops.model("late", label=pl.col("late"), split=split, features=features, metric="auc")

@late.candidate
def never(train: mlops.XY, valid: mlops.XY) -> None: ...
"""


def test_what_a_training_finds_on_its_model_is_recorded(project: Project) -> None:
    """A leak and rows in train and test are warnings, of that run and for `data check`, until code or data are others."""
    root, runner = project.root, CliRunner()
    lines = (f"{number},{number % 7},{number % 2},{number % 2 * 3}" for number in range(400))
    (root / "data/rows.csv").write_text("id,size,late,told\n" + "\n".join(lines) + "\n")
    (root / "pipeline.py").write_text(LEAKY)

    def shown(*command: str) -> str:
        ended = runner.invoke(cli, ["-C", str(root), *command])
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    assert "unknown  late: `mlops train` looks for leaks when it makes the features (never run)" in shown("data", "check")
    said: list[Progress] = []
    done = train.train(project, ["late.features"], emit=said.append)
    warned = [item.text for item in said if item.kind == "warning"]
    leak, overlap = (f"late: {rule}" for rule in ("leakage told: it tells the label", "overlap of test with train: 10 of 110"))
    assert len(warned) == 2 and warned[0].startswith(leak) and warned[1].startswith(overlap)
    for page in (shown("data", "check", "rows"), shown("show", done.run)):
        assert leak in page and overlap in page and "id 290" in page
    query = (
        f"SELECT rule, severity, columns, failed, rows FROM finding WHERE model = 'late' AND run = '{done.run}' ORDER BY rule"
    )
    assert list(sql.sql(project, query).rows) == [
        ("leakage told", "warning", ["told"], 0, 300),
        ("overlap of test with train", "warning", [], 10, 110),
    ]
    kept = sql.sql(project, "FROM finding ORDER BY ALL").rows
    projection.rebuild(project.store)
    assert sql.sql(project, "FROM finding ORDER BY ALL").rows == kept
    listed = json.loads(shown("data", "check", "--json"))["items"]
    assert [item["rule"] for item in listed if item["model"] == "late"] == ["leakage told", "overlap of test with train"]
    (root / "pipeline.py").write_text(LEAKY.replace('"size", "told"', '"size"'))
    assert "unknown  late" in shown("data", "check") and leak not in shown("data", "check")


def test_findings_come_as_the_rules_stand_and_rows_most_often_there_first(project: Project) -> None:
    """A person reads them beside mlops.toml; of values that stand in several rows the most frequent say most."""
    (project.root / "data/people.csv").write_text("id,name,age,kind,seen\n1,,30,a,\n1,,30,b,\n3,,1,a,\n3,,2,a,\n3,,2,a,\n")
    text = 'row_count = 9\nunique = "id"\nfreshness = "2d"\nin.kind = ["a"]\nnot_null = "name"'
    found = checks.check(_rules(project, text), [replace(PEOPLE, schema={"seen": "Date"})], ["people"], now=NOW)
    assert [item.rule.partition(" ")[0] for item in found] == ["row_count", "unique", "in", "not_null", "freshness"]
    assert [sample["id"] for sample in found[1].samples] == ["3", "1"] and found[-1].note == "no row has a seen"


def test_what_becomes_private_is_hidden_in_findings_that_were_kept(project: Project) -> None:
    """The samples of a finding are made anew when a column becomes private, though rows and rules are the same."""
    shown = replace(PEOPLE, private=())
    (before,) = checks.check(_rules(project, "in.name = ['Ann', 'Bob']"), [shown], ["people"])
    (after,) = checks.check(find(project.root), [PEOPLE], ["people"])
    assert (before.samples, after.samples) == (({"id": "3", "name": "Eve"},), ({"id": "3", "name": "(private)"},))


def test_rows_without_a_value_overlap_and_pictures_have_no_rules(project: Project) -> None:
    """Without a common key rows are the same that have the same values, null too; a source of other files has no rows."""
    (project.root / "data/others.csv").write_text("age,kind\n,a\n30,\n")
    found = checks.check(_rules(project, 'no_overlap = "others"'), [PEOPLE, replace(OTHERS, key=())], ["people"])
    assert [item.failed for item in found] == [1]
    (project.root / "mlops.toml").write_text("[data.photos.checks]\nrow_count = 1\n")
    with pytest.raises(ConfigError, match="photos is no table"):
        checks.check(find(project.root), SOURCES, ["photos"])


def test_freshness_is_told_in_the_zone_of_the_times(project: Project) -> None:
    """A time with a zone is the moment it is, not the hour on a clock there."""
    times = pl.Series([datetime(2026, 3, 8, 23, tzinfo=UTC)]).dt.convert_time_zone("Asia/Tokyo")
    pl.DataFrame({"seen": times}).write_parquet(project.root / "t.parquet")
    (project.root / "mlops.toml").write_text('[data.t.checks]\nfreshness = "1d"\n')
    (found,) = checks.check(find(project.root), [Source("t", "t.parquet", time="seen")], ["t"], now=NOW)
    assert found.note == "the newest seen is 2026-03-08 23:00 UTC, 1.04 d ago"
    pl.DataFrame({"seen": pl.Series([3_700_000], dtype=pl.Int32).cast(pl.Date)}).write_parquet(project.root / "t.parquet")
    assert checks.check(find(project.root), [Source("t", "t.parquet", time="seen")], ["t"], now=NOW) == []  # of the year 12100
