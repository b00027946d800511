from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import UsageError
from mlops_local.services import query, sql
from mlops_local.store import meanings, sealed, views


@pytest.fixture(scope="module")
def kept(shared_story: Any) -> Any:
    """Two runs to ask about."""
    shared_story.run("amber-fox", params={"gbm.num_leaves": 31})
    shared_story.run("dapper-ash", kind="script", metrics={"auc": 0.72})
    return shared_story


def test_one_select_sees_everything(kept: Any) -> None:
    """`mlops sql` answers over the views, with names and types."""
    answer = sql.sql(kept.project, "WITH r AS (FROM run) SELECT name, seconds FROM r WHERE kind = 'script';")
    assert (answer.columns, answer.types, answer.rows) == (("name", "seconds"), ("VARCHAR", "DOUBLE"), (("dapper-ash", 1.5),))


def test_times_with_a_zone_come_as_utc(kept: Any) -> None:
    """now() works without another package, and is UTC."""
    answer = sql.sql(kept.project, "SELECT now() AS at, TIMESTAMPTZ '2026-01-01 00:00:00+01' AS zoned")
    assert answer.rows[0][1].isoformat() == "2025-12-31T23:00:00"


def test_a_limit_says_when_there_was_more(kept: Any) -> None:
    """A cut answer is never taken for a whole one."""
    cut = sql.sql(kept.project, "SELECT * FROM range(10)", limit=3)
    assert len(cut.rows) == 3 and cut.more
    whole = sql.sql(kept.project, "SELECT * FROM range(3)", limit=3)
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
        "LOAD httpfs",
        "CREATE SECRET s (TYPE http)",
        "SET VARIABLE x = 1",
        "USE memory",
        "DETACH project",
        "VACUUM",
        "WITH gone AS (DELETE FROM store.metric RETURNING *) SELECT * FROM gone",
        "EXPLAIN ANALYZE SELECT 1",
        "BEGIN; SELECT 1",
        "CHECKPOINT",
        "",
        "-- nothing",
    ],
)
def test_anything_but_one_select_is_refused(kept: Any, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement changes the store, a file or a setting."""
    monkeypatch.chdir(tmp_path)
    held = sql.sql(kept.project, "FROM run").rows
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError):
        sql.sql(kept.project, statement.format(objects=kept.project.layout.objects))
    assert sql.sql(kept.project, "FROM run").rows == held and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('secret.csv')",
        "FROM 'secret.csv'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_text('{state}/config')",
        "SELECT * FROM read_text('{state}/objects/../config')",
        "SELECT * FROM read_blob('{state}/project.duckdb')",
        "SELECT * FROM read_json('{state}/cache/folded.json')",
        "SELECT * FROM '{state}/journal/*.jsonl'",
        "SELECT * FROM glob('{state}/objects/**')",
        "SELECT * FROM parquet_metadata('{state}/objects/*/*')",
        "SELECT * FROM read_duckdb('{state}/project.duckdb')",
        "SELECT (SELECT max(size) FROM read_blob('{state}/' || 'project.duckdb'))",
        "FROM '{state}/project.duckdb'",
        "WITH x AS (FROM read_text('{state}/project.duckdb')) FROM x",
        "FROM query('FROM read_blob(''{state}/project.duckdb'')')",
        "SELECT * FROM arrow_scan(1, 2, 3)",
        "SELECT getenv('HOME')",
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
        sql.sql(kept.project, statement.format(state=kept.project.layout.state))
    assert "secret\n" not in caught.value.message


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT run.name FROM run JOIN param ON param.run = run.id, range(2), unnest([1, 2]) WHERE run.name ~ 'a' -- a comment",
        "PIVOT run ON kind IN ('train', 'script') USING count(*) GROUP BY state",
        "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t WHERE i < 5) SELECT max(i) FROM t",
        "SUMMARIZE run",
        "DESCRIBE run",
        "SHOW TABLES",
        "VALUES (1)",
        "FROM metric SELECT key, regr_slope(value, step) OVER (PARTITION BY run) QUALIFY row_number() OVER () = 1",
        "SELECT je.key FROM param, json_each(value) je",
        "FROM duckdb_columns()",
        "SELECT list_filter([1, 2], lambda x: x > 1)",
    ],
)
def test_every_kind_of_select_is_answered(kept: Any, statement: str) -> None:
    """What is refused is little: whatever only reads the tables works."""
    assert sql.sql(kept.project, statement).columns


def test_python_variables_are_not_tables(kept: Any) -> None:
    """A name in this process is never read as a table."""
    secret = {"a": [1]}  # the name DuckDB would look for
    with pytest.raises(UsageError):
        sql.sql(kept.project, "SELECT * FROM secret")
    assert secret


def test_a_mistake_in_sql_shows_its_place(kept: Any) -> None:
    """DuckDB's own words and the line, as a usage error."""
    with pytest.raises(UsageError) as caught:
        sql.sql(kept.project, "SELECT nmae FROM run")
    assert "nmae" in caught.value.message and "LINE 1" in caught.value.message and "mlops schema" in caught.value.hint


def test_the_store_is_writable_again_after_a_query(story: Any) -> None:
    """Locked settings end with the query: this process can fold and read as before."""
    sql.sql(story.project, "SELECT 1")
    story.run("eager-bee")
    assert query.listing(story.project).runs[0].name == "eager-bee"


def test_the_schema_lists_tables_and_columns(kept: Any) -> None:
    """Every public view with its columns; one table by name; a typo names the nearest."""
    tables = {relation.name: {column.name for column in relation.columns} for relation in sql.schema(kept.project)}
    assert {"run", "metric", "param", "snapshot", "version", "alias", "gate_result", "evaluation", "lineage"} <= set(tables)
    assert {"id", "name", "state", "started", "seconds"} <= tables["run"]
    assert {column.name for column in sql.schema(kept.project, "param")[0].columns} == {"run", "name", "value"}
    with pytest.raises(UsageError, match="no table 'metrics'") as caught:
        sql.schema(kept.project, "metrics")
    assert "metric" in caught.value.hint
    for name, columns in tables.items():
        assert meanings.of(name), f"say in store/meanings what {name} is"
        silent = [column for column in columns if not meanings.of(name, column)]
        assert not silent, f"say in store/meanings what {silent} of {name} are"
    assert set(meanings.VIEWS) == set(tables) and set(meanings.COLUMNS) <= set(tables) and set(views.VIEWS) <= set(tables)


def test_a_query_that_takes_too_long_is_given_up(kept: Any) -> None:
    """The limit is said, with the way to another; the store is free again."""
    with pytest.raises(UsageError, match=r"not done after 0\.3 s") as caught:
        sql.sql(kept.project, "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE hash(a, b) = 1", timeout_s=0.3)
    assert "--timeout" in caught.value.hint
    assert sql.sql(kept.project, "SELECT 1").rows == ((1,),)


def test_a_query_that_takes_too_much_is_refused(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits neither the memory nor the disk it may use ends with a message, and leaves nothing behind."""
    monkeypatch.setattr(sealed, "MEMORY_MIB", 60)
    monkeypatch.setattr(sealed, "SPILL", "1MiB")
    with pytest.raises(UsageError, match="60 MiB of memory"):
        sql.sql(
            kept.project,
            "SELECT sum(hash(x)) FROM (SELECT i::VARCHAR || repeat('x', 200) AS x FROM range(3000000) t(i) ORDER BY hash(i))",
        )
    assert not list((kept.project.layout.tmp / "spill").glob("*"))


def test_rows_go_to_a_parquet_file_with_their_types(kept: Any, tmp_path: Path) -> None:
    """Whole or not at all; a comment at the statement's end and a time with a zone do no harm; nothing of ours stays."""
    target = tmp_path / "it's mine.parquet"
    assert sql.to_parquet(kept.project, "SELECT name, started, [1, 2] AS pair, now() AS moment FROM run -- all", target) == 2
    with duckdb.connect() as db:
        found = db.execute("SELECT name, typeof(started), pair, typeof(moment) FROM read_parquet(?)", [str(target)]).fetchall()
    assert found[0] == ("amber-fox", "TIMESTAMP", [1, 2], "TIMESTAMP WITH TIME ZONE")
    for bad in ("SELECT nothing", "SELECT 1) TO '/tmp/elsewhere.parquet' (FORMAT parquet); --", "SELECT error('now')"):
        with pytest.raises(UsageError):
            sql.to_parquet(kept.project, bad, tmp_path / "never.parquet")
    with pytest.raises(UsageError, match="cannot write"):
        sql.to_parquet(kept.project, "SELECT 1", tmp_path / "no" / "folder.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it's mine.parquet"]
    assert not list(kept.project.layout.tmp.glob("*.parquet"))


def test_a_mistyped_source_is_told_from_what_there_is(story: Any) -> None:
    """`data.NAME` that is no source names the nearest one, or all, and so does NAME alone; a table called `data` stays one."""
    story.run("amber-fox", snapshots=(Snapshot("3f" * 32, "flights", (FileEntry("f.csv", "ab" * 32, 1),), rows=0, bytes=1),))
    hints = {"flihts": "did you mean data.flights?", "FLIGHTS": "did you mean data.flights?"}
    for name, hint in {**hints, '"zz z"': "sources with snapshots: flights"}.items():
        with pytest.raises(
            UsageError, match=f"no source with a snapshot is called '{name.strip(chr(34))}'\n.*LINE 1"
        ) as raised:
            sql.sql(story.project, f"SELECT * FROM data.{name}")
        assert raised.value.hint == hint
    with pytest.raises(UsageError, match=r"no table is called 'flights'\n.*LINE 1") as raised:
        sql.sql(story.project, "SELECT * FROM flights")
    assert raised.value.hint == "the rows of source flights are data.flights"
    assert sql.sql(story.project, "SELECT data.name FROM run data").rows == (("amber-fox",),)
