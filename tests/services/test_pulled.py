"""Sources that are no files: functions that are called, queries over files."""

from __future__ import annotations

import json
import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from mlops_local.api import declare
from mlops_local.cli.main import cli
from mlops_local.domain.errors import ConfigError, DataError, MlopsError, StepFailed
from mlops_local.domain.graph import Graph, Source, Symbol
from mlops_local.services import data, hook, impact, init, planning, pulled
from mlops_local.services.project import Project, find

PIPELINE = """
from pathlib import Path
import polars as pl
import mlops_local as mlops

@mlops.source(every="1h", key="n")
def orders() -> pl.DataFrame:
    numbers = [int(text) for text in Path("feed.txt").read_text().split()]
    return pl.DataFrame({"n": numbers}) if numbers else pl.DataFrame()

@mlops.step
def count(orders: pl.DataFrame) -> int:
    return orders.height
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    init.create(tmp_path)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return find(tmp_path)


def test_a_function_is_a_source(project: Project) -> None:
    """Training pulls what was never pulled, then only when it is due; a snapshot a pull that brought something new."""
    runner, root = CliRunner(), ["-C", str(project.root)]
    code = planning.read_code(project)
    (orders,) = code.graph.sources
    assert (orders.pattern, orders.pull, orders.every_s, orders.key) == (
        "pulled/orders.parquet",
        Symbol("pipeline", "orders"),
        3600.0,
        ("n",),
    )
    with pytest.raises(DataError, match="orders was never pulled"):
        data.snapshot(project, orders)
    feed = project.root / "feed.txt"
    feed.write_text("1 2")
    assert runner.invoke(cli, [*root, "train"]).exit_code == 0
    file = project.root / orders.pattern
    assert pl.read_parquet(file)["n"].to_list() == [1, 2] and (file.parent / ".gitignore").read_text() == "*\n"
    assert pulled.due(project, [orders]) == []
    assert pulled.due(project, [orders], now_s=time.time() + 4000) == [orders]
    before = file.stat()
    answer = json.loads(runner.invoke(cli, [*root, "data", "pull", "--json"]).stdout)
    assert answer["items"] == [{"source": "orders", "rows": 2, "changed": False}] and file.stat() == before
    assert pulled.due(project, [orders], now_s=time.time() - 9e6) == [orders], "the clock was ahead when it was asked last"
    later = pulled.times(project, [orders], tried_s=time.time() - 9e6)["orders"]
    assert later < time.time() - 8e6
    feed.write_text("1 2 3")
    with pulled_workers(project) as workers:
        assert [item.changed for item in pulled.pull(project, code, [orders], workers=workers)] == [True]
        assert data.snapshot(project, orders).rows == 3
        feed.write_text("x")
        with pytest.raises(StepFailed, match=r"source orders: pipeline\.py:8: ValueError"):
            pulled.pull(project, code, [orders], workers=workers)
        feed.write_text("")
        with pytest.raises(StepFailed, match="returned a table without columns"):
            pulled.pull(project, code, [orders], workers=workers)
    assert pl.read_parquet(file).height == 3


def pulled_workers(project: Project):  # type: ignore[no-untyped-def]
    """The workers that a training would use."""
    from mlops_local.services import interpreter

    return interpreter.workers(project)


def test_a_query_in_a_folder_with_a_quote_and_a_comma_in_its_name(tmp_path: Path) -> None:
    """The project's own path is no part of the SQL; and a commit that changes the query's files is one the hook looks at."""
    root = tmp_path / "o'brien, john"
    root.mkdir()
    init.create(root)
    (root / "data").mkdir()
    (root / "data/1.csv").write_text("id\n7\n")
    big = Source("big", "pulled/big.parquet", sql="SELECT id FROM 'data/*.csv'")
    assert data.snapshot(find(root), big).rows == 1
    assert impact.impact(find(root), root / "pulled/big.parquet", where="id = 7").rows == 1
    code = planning.Code(sources={}, graph=Graph(sources=(big,)), key="")
    assert "glob:data/*.csv" in hook.relevant(code, "pipeline.py")


def test_a_query_over_files_is_a_source(project: Project) -> None:
    """Its answer is a table like any other, made again when one of its files or the query changes, and only then."""
    (project.root / "data").mkdir()
    for month in (1, 2):
        (project.root / f"data/{month}.csv").write_text(f"id,x\n{month},{month}\n{month + 10},0\n")
    big = Source("big", "pulled/big.parquet", key=("id",), sql="SELECT id FROM 'data/*.csv' WHERE x > 0 ORDER BY id")
    first = data.snapshot(project, big)
    assert first.rows == 2 and pl.read_parquet(project.root / "pulled/big.parquet")["id"].to_list() == [1, 2]
    stamp = (project.root / "pulled/big.parquet").stat()
    assert data.snapshot(project, big) == first and (project.root / "pulled/big.parquet").stat() == stamp
    (project.root / "data/3.csv").write_text("id,x\n3,3\n")
    assert data.snapshot(project, big).rows == 3
    os.remove(project.root / "data/3.csv")  # noqa: PTH107
    assert data.snapshot(project, big).id == first.id
    for sql, said in {
        "SELECT 1": "its query names no file",
        "SELECT nope FROM 'data/*.csv'": "its query cannot be answered",
        "SELECT * FROM '../x.csv'": "is not a pattern inside the project's folder",
        "SELECT * FROM 'none/*.csv'": "no file matches none/",
    }.items():
        with pytest.raises(DataError, match=said):
            data.snapshot(project, Source("big", "pulled/big.parquet", sql=sql))


def test_a_full_disk_is_no_fault_of_the_query(project: Project) -> None:
    """It is said of what could not be written; the answer that was there stays."""
    (project.root / "data").mkdir()
    (project.root / "data/1.csv").write_text("id\n" + "".join(f"{n * n}\n" for n in range(9000)))
    big = Source("big", "pulled/big.parquet", sql="SELECT id FROM 'data/*.csv'")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(MlopsError, match=r"^no space left to write pulled/big\.parquet$"):
            data.snapshot(project, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(project.root.glob("pulled/*"))


def test_a_declaration_that_cannot_be_is_said() -> None:
    """A source is a pattern or a query; a schedule and types are what they can be."""
    with pytest.raises(ConfigError, match="not both"):
        declare.data("a.csv", sql="SELECT 1")
    with pytest.raises(ConfigError, match="every: expected a duration"):
        declare.source(every="often")
    with pytest.raises(ConfigError, match="schema: a cannot be read as <class 'dict'>"):
        declare.data("a.csv", schema={"a": dict})
    assert declare.data("a.csv", schema={"a": str, "b": "Date", "c": pl.Float32}).schema == {
        "a": "String",
        "b": "Date",
        "c": "Float32",
    }


def test_two_pulls_at_once_ask_once(project: Project) -> None:
    """The second waits for the first and takes what came; a pull that begins after it asks again."""
    slow = PIPELINE.replace(
        "    return pl.DataFrame", '    open("calls.txt", "a").write("x"); time.sleep(0.7)\n    return pl.DataFrame'
    )
    (project.root / "pipeline.py").write_text("import time\n" + slow)
    (project.root / "feed.txt").write_text("1 2")
    code = planning.read_code(project)
    said: list[str] = []

    def pull() -> tuple[pulled.Pulled, ...]:
        return tuple(pulled.pull(project, code, code.graph.sources, emit=lambda event: said.append(event.text)))

    with ThreadPoolExecutor(2) as both:
        answers = [asked.result() for asked in [both.submit(pull), both.submit(pull)]]
    assert answers[0] == answers[1] == (pulled.Pulled("orders", 2, True),)
    calls = project.root / "calls.txt"
    assert calls.read_text() == "x" and "source orders: pulled a moment ago by another process" in said
    assert pull() == (pulled.Pulled("orders", 2, False),) and calls.read_text() == "xx"
