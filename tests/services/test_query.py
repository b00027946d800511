from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain.errors import UsageError
from mlops_local.services import history, query


def _four(story: Any) -> Any:
    story.run("amber-fox", params={"gbm.num_leaves": 31, "gbm.kind": "dart"}, metrics={"auc": 0.70}, message="first try")
    story.run("bold-owl", params={"gbm.num_leaves": 95}, metrics={"auc": 0.74, "loss": float("nan")}, tags={"baseline": "yes"})
    story.run("calm-elk", state="failed", params={"gbm.num_leaves": 127, "gbm.deep": True}, commit="abcdef0123")
    story.run("dapper-ash", kind="script", metrics={"auc": 0.72}, dirty=True)
    return story


@pytest.fixture
def runs(story: Any) -> Any:
    """Four runs that differ in everything a filter can ask for."""
    return _four(story)


@pytest.fixture(scope="module")
def kept(shared_story: Any) -> Any:
    """The same four, for tests that only read."""
    return _four(shared_story)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["dapper-ash", "calm-elk", "bold-owl", "amber-fox"]),
        ("metric.auc > 0.7", ["dapper-ash", "bold-owl"]),
        ("metric.auc >= 0.7 and metric.auc < 0.73", ["dapper-ash", "amber-fox"]),
        ("metric.auc != 0.74", ["dapper-ash", "amber-fox"]),
        ("metric.auc", ["dapper-ash", "bold-owl", "amber-fox"]),
        ("param.gbm.num_leaves = 31", ["amber-fox"]),
        ("param.gbm.num_leaves > 31", ["calm-elk", "bold-owl"]),
        ("param.gbm.kind = dart", ["amber-fox"]),
        ("param.gbm.deep = true", ["calm-elk"]),
        ("state = failed", ["calm-elk"]),
        ("state != 'failed' AND kind = train", ["bold-owl", "amber-fox"]),
        ("name = bold-owl", ["bold-owl"]),
        ("name ~ OX", ["amber-fox"]),
        ('message = "first try"', ["amber-fox"]),
        ("started > '2020-01-31' and ended > '2020-01-31 14:00'", ["dapper-ash", "calm-elk", "bold-owl", "amber-fox"]),
        ("started > 2099-01-01", []),
        ("tag.baseline = yes", ["bold-owl"]),
        ("tag.baseline", ["bold-owl"]),
        ("commit = abcdef", ["calm-elk"]),
        ("dirty = true", ["dapper-ash"]),
        ("seconds = 1.5 and error ~ broke", ["calm-elk"]),
        ("ended = null", []),
        ("metric.auc>0.73", ["bold-owl"]),
        ("auc > 0.73", ["bold-owl"]),
        ("state = failed or metric.auc > 0.73", ["calm-elk", "bold-owl"]),
        ("kind = script or kind = train and state = failed", ["dapper-ash", "calm-elk"]),
        ("(kind = script or kind = train) and state = failed", ["calm-elk"]),
        ("param.gbm.num_leaves in (31, 127)", ["calm-elk", "amber-fox"]),
        ("param.gbm.num_leaves not in (31, 127)", ["bold-owl"]),
        ("not param.gbm.num_leaves in (31, 127)", ["dapper-ash", "bold-owl"]),
        ("not metric.auc = 0.74", ["dapper-ash", "calm-elk", "amber-fox"]),
        ("metric.auc = null", ["calm-elk"]),
        ("metric.auc is not null and not tag.baseline", ["dapper-ash", "amber-fox"]),
        ("metric.loss > 0", []),
        ("metric.loss = nan", ["bold-owl"]),
        ("metric.loss != 0.5", ["bold-owl"]),
        ("dirty", ["dapper-ash"]),
        ("not dirty and kind = train", ["calm-elk", "bold-owl", "amber-fox"]),
        ("started > now() + interval 2 day or started < now() - interval 50 years", []),
        ("started > now() - interval '2 days' and started < now()", ["dapper-ash", "calm-elk", "bold-owl", "amber-fox"]),
    ],
)
def test_a_filter_finds_what_it_says(kept: Any, text: str, names: list[str]) -> None:
    """Fields, metrics, parameters and tags compare as a person means them; newest first."""
    found, total = history.runs(kept.project, text)
    assert [run.name for run in found] == names and total == len(names)


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("-metric.auc", ["bold-owl", "dapper-ash", "amber-fox", "calm-elk"]),
        ("metric.auc", ["amber-fox", "dapper-ash", "bold-owl", "calm-elk"]),
        ("param.gbm.num_leaves", ["amber-fox", "bold-owl", "calm-elk", "dapper-ash"]),
        ("name", ["amber-fox", "bold-owl", "calm-elk", "dapper-ash"]),
        ("-started", ["dapper-ash", "calm-elk", "bold-owl", "amber-fox"]),
    ],
)
def test_runs_sort_by_any_field_and_what_lacks_it_comes_last(kept: Any, sort: str, names: list[str]) -> None:
    """`-` is largest first; a run without the value is never first."""
    assert [run.name for run in history.runs(kept.project, sort=sort)[0]] == names


def test_a_limit_still_counts_all(kept: Any) -> None:
    """The list is cut, the count is not."""
    found, total = history.runs(kept.project, "metric.auc", limit=1)
    assert ([run.name for run in found], total) == (["dapper-ash"], 3)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("stat = failed", "unknown field 'stat'", "'state'"),
        ("metric.aucc > 0.7", "no run has 'metric.aucc'", "'metric.auc'"),
        ("acu > 0.7", "unknown field 'acu'", "'metric.auc'"),
        ("num_leaves = 3", "unknown field 'num_leaves'", "'param.gbm.num_leaves'"),
        ("metric.zebra > 1", "no run has 'metric.zebra'", "metric.auc, metric.loss"),
        ("state = faild", "no run is ever 'faild'", "'failed'"),
        ("metric.auc > high", "metric.auc is a number", "for example"),
        ("started > soon", "'soon' is not a date", "2026-01-31"),
        ("seconds = long", "seconds is a number", "for example"),
        ("dirty = 7", "dirty is true or false", "for example"),
        ("state", "expected a comparison after 'state'", "for example"),
        ("state =", "a value is missing after '='", "for example"),
        ("state = failed name = x", "expected `and` or `or` before 'name'", "for example"),
        ("(state = failed", "a bracket is not closed", "for example"),
        ("state in failed", "expected a list after `in`", "for example"),
        ("state in (failed, null)", "null and now() cannot stand in a list", "for example"),
        ("state in (failed, dnoe)", "no run is ever 'dnoe'", "'done'"),
        ("started > now() - interval 2 dyas", "no interval in 'dyas'", "'day'"),
        ("metric.auc > now()", "metric.auc is no time", "for example"),
        ("param.gbm.num_leaves > true", "true and false can only be compared", "for example"),
        ("metric.auc < nan", "nan can only be compared", "for example"),
        ("not " * 60 + "dirty", "nested too deep", "for example"),
        ("state = failed and", "a comparison is missing after `and`", "for example"),
        ("name = 'open", "a quote is not closed", "for example"),
        ("= 3", "expected a field, got '='", "for example"),
        ("seconds > null", "null can only be compared", "for example"),
    ],
)
def test_a_filter_that_cannot_be_meant_names_the_way_out(kept: Any, text: str, message: str, hint: str) -> None:
    """A typo names the nearest field; a broken comparison says what is missing and shows one that works."""
    with pytest.raises(UsageError) as caught:
        history.runs(kept.project, text)
    assert message in caught.value.message and hint in caught.value.hint


def test_a_row_holds_all_a_run_has(kept: Any) -> None:
    """Flat and by full name, for tables of every kind."""
    (row,) = query.runs(kept.project, "name = bold-owl")
    assert row["name"] == "bold-owl" and row["state"] == "done" and row["seconds"] == 1.5
    assert row["metric.auc"] == 0.74 and row["param.gbm.num_leaves"] == 95 and row["tag.baseline"] == "yes"


def test_one_select_sees_everything(kept: Any) -> None:
    """`mlops sql` answers over the views, with names and types."""
    answer = query.sql(kept.project, "WITH r AS (FROM run) SELECT name, seconds FROM r WHERE kind = 'script';")
    assert (answer.columns, answer.types, answer.rows) == (("name", "seconds"), ("VARCHAR", "DOUBLE"), (("dapper-ash", 1.5),))


def test_times_with_a_zone_come_as_utc(kept: Any) -> None:
    """now() works without another package, and is UTC."""
    answer = query.sql(kept.project, "SELECT now() AS at, TIMESTAMPTZ '2026-01-01 00:00:00+01' AS zoned")
    assert answer.rows[0][1].isoformat() == "2025-12-31T23:00:00"


def test_a_limit_says_when_there_was_more(kept: Any) -> None:
    """A cut answer is never taken for a whole one."""
    cut = query.sql(kept.project, "SELECT * FROM range(10)", limit=3)
    assert len(cut.rows) == 3 and cut.more
    whole = query.sql(kept.project, "SELECT * FROM range(3)", limit=3)
    assert len(whole.rows) == 3 and not whole.more


@pytest.mark.parametrize(
    "statement",
    [
        "DROP VIEW run",
        "DELETE FROM store.metric",
        "INSERT INTO store.tag VALUES ('a', 'b', 'c', now(), 1)",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE store.metric",
        "ATTACH 'other.duckdb'",
        "COPY (SELECT 1) TO 'out.csv'",
        "COPY (SELECT 1) TO '{objects}/out.csv'",
        "SET threads = 1",
        "SET enable_external_access = true",
        "PRAGMA version",
        "INSTALL httpfs",
        "CALL pragma_version()",
        "CREATE TEMP TABLE t AS SELECT 1",
        "EXPORT DATABASE 'x'",
        "CHECKPOINT",
        "",
        "-- nothing",
    ],
)
def test_anything_but_one_select_is_refused(kept: Any, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement changes the store, a file or a setting."""
    monkeypatch.chdir(tmp_path)
    held = query.sql(kept.project, "FROM run").rows
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError):
        query.sql(kept.project, statement.format(objects=kept.project.layout.objects))
    assert query.sql(kept.project, "FROM run").rows == held and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('secret.csv')",
        "FROM 'secret.csv'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_text('{state}/config')",
        "SELECT * FROM read_text('{state}/objects/../config')",
        "SELECT * FROM 'https://example.org/x.parquet'",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/hostname'')')",
    ],
)
def test_no_other_file_and_no_network_can_be_read(
    kept: Any, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's key, the user's files and the network are out of reach of a SELECT somebody pasted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.csv").write_text("a\nsecret\n")
    with pytest.raises(UsageError) as caught:
        query.sql(kept.project, statement.format(state=kept.project.layout.state))
    assert "secret\n" not in caught.value.message


def test_python_variables_are_not_tables(kept: Any) -> None:
    """A name in this process is never read as a table."""
    secret = {"a": [1]}  # the name DuckDB would look for
    with pytest.raises(UsageError):
        query.sql(kept.project, "SELECT * FROM secret")
    assert secret


def test_a_mistake_in_sql_shows_its_place(kept: Any) -> None:
    """DuckDB's own words and the line, as a usage error."""
    with pytest.raises(UsageError) as caught:
        query.sql(kept.project, "SELECT nmae FROM run")
    assert "nmae" in caught.value.message and "LINE 1" in caught.value.message and "mlops schema" in caught.value.hint


def test_the_store_is_writable_again_after_a_query(runs: Any) -> None:
    """Locked settings end with the query: this process can fold and read as before."""
    query.sql(runs.project, "SELECT 1")
    runs.run("eager-bee")
    assert history.runs(runs.project)[0][0].name == "eager-bee"


def test_the_schema_lists_tables_and_columns(kept: Any) -> None:
    """Every public view with its columns; one table by name; a typo names the nearest."""
    tables = {relation.name: {column.name for column in relation.columns} for relation in query.schema(kept.project)}
    assert {"run", "metric", "param", "snapshot", "version", "alias", "gate_result", "evaluation", "lineage"} <= set(tables)
    assert {"id", "name", "state", "started", "seconds"} <= tables["run"]
    assert {column.name for column in query.schema(kept.project, "param")} == {"run", "name", "value"}
    with pytest.raises(UsageError, match="no table 'metrics'") as caught:
        query.schema(kept.project, "metrics")
    assert "metric" in caught.value.hint
