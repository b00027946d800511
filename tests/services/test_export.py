from __future__ import annotations

import json
import math
import resource
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mlops_local.domain.errors import UsageError
from mlops_local.services import export, sql
from mlops_local.store import projection

QUERIES = [
    "SELECT id, name, kind, state, message, error, dirty, targets, started, ended, seconds FROM run ORDER BY id",
    "SELECT r.name, p.value::DOUBLE AS lr, m.value AS auc FROM run r JOIN param p ON p.run = r.id AND p.name = 'lr' "
    "JOIN metric_last m ON m.run = r.id AND m.key = 'auc' ORDER BY auc DESC",
    "SELECT key, count(*), sum(value) FILTER (isfinite(value)), count(*) FILTER (isnan(value)), max(value) "
    "FROM metric GROUP BY key ORDER BY key",
    "SELECT * FROM tag ORDER BY ALL",
    "SELECT text FROM note ORDER BY time, text",
    "SELECT * FROM param ORDER BY ALL",
    "SELECT count(*) FROM step",
]


@pytest.fixture
def kept(story: Any) -> Any:
    """Runs with all that is hard to write."""
    hostile = 'it\'s "odd",\n\x1b[2J\\N; é'
    story.run(
        "0006491234567890", params={"lr": 0.1, "list": [1, "a"]}, metrics={"auc": 0.7, "loss": math.nan}, tags={"empty": ""}
    )
    story.run(
        hostile,
        params={"lr": 0.3, hostile: hostile},
        metrics={"auc": 0.72, "loss": math.inf},
        tags={"a": hostile},
        message="",
        targets=["x", "y"],
    )
    story.run("failed", state="failed", metrics={"loss": -math.inf})
    return story


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_exported_runs_answer_the_same_queries_in_bare_duckdb(kept: Any, form: str, tmp_path: Path) -> None:
    """Row for row and type for type: NaN, infinity, lists, empty text beside null, ids of digits, any character."""
    done = export.runs(kept.project, form, tmp_path / "out")
    assert done.files[f"run.{form}"] == 3 and done.files[f"metric.{form}"] == 5
    with duckdb.connect() as db:
        db.execute("SET file_search_path = ?", [str(tmp_path / "out")])
        db.execute((tmp_path / "out" / "load.sql").read_text())
        for query in QUERIES:
            ours = sql.sql(kept.project, query)
            result = db.execute(query)
            types = tuple(str(column[1]) for column in result.description or ())
            assert repr(result.fetchall()) == repr(list(ours.rows)) and types == ours.types, query


def test_json_lines_are_json(kept: Any, tmp_path: Path) -> None:
    """Any program reads them: no bare NaN."""
    export.runs(kept.project, "json", tmp_path / "out")

    def refuse(text: str) -> float:
        raise AssertionError(text)

    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "out" / "metric.json").read_text().splitlines()]
    assert {"nan", "inf", "-inf", 0.7, 0.72} == {line["value"] for line in lines}


def test_nothing_is_written_over(kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with something in it, a file of that name, a folder that cannot be: refused, and nothing is left there."""
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    file.write_text("mine")
    monkeypatch.chdir(full)
    for target in (full, file, file / "below", Path()):
        with pytest.raises(UsageError):
            export.runs(kept.project, "csv", target)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "project") == ["file", "full"]
    assert (full / "mine.txt").read_text() == file.read_text() == "mine"


def test_a_full_disk_is_said_of_the_folder(kept: Any, tmp_path: Path) -> None:
    """Not of the database, which is only read; nothing half written stays."""
    kept.run("long", params={"text": "x" * 50_000})
    projection.fold(kept.project.store)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot write .*/out: File too large$"):
            export.runs(kept.project, "csv", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
