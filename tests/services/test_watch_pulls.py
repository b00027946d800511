"""A watcher and the sources that are no files of the user's: functions that are due, queries over files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_local.domain.graph import Source, Symbol
from mlops_local.services import init, pulled
from mlops_local.services.project import find
from mlops_local.services.timetable import Timetable
from mlops_local.store import cache
from tests.services.test_watch import Watched

PIPELINE = """
from pathlib import Path
import polars as pl
import mlops_local as mlops

late = mlops.data(sql="SELECT x FROM 'data/*.csv' WHERE x > 0")

@mlops.source(every="1s")
def orders() -> pl.DataFrame:
    return pl.DataFrame({"n": [int(text) for text in Path("feed.txt").read_text().split()]})

@mlops.step
def count(orders: pl.DataFrame) -> int:
    return orders.height

@mlops.step
def most(late: pl.DataFrame) -> int:
    return late["x"].max()
"""


def test_what_is_due_is_pulled_and_what_a_query_names_is_watched(tmp_path: Path) -> None:
    """Another answer runs what reads it, the same one says nothing; a query's file counts by its content like any data file."""
    init.create(tmp_path)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / "feed.txt").write_text("1 2")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("x\n1\n")
    with Watched(tmp_path) as watched:
        first = watched.said("ran ", state="done")
        assert sorted(first.data["ran"]) == ["count", "most"]
        assert watched.wait(lambda: any("2 rows, as before" in event.text for event in watched.events))
        assert not watched.lines()
        (tmp_path / "feed.txt").write_text("1 2 3")
        assert watched.said("pulled/orders.parquet · ran count", state="done").data["ran"] == ["count"]
        (tmp_path / "data" / "a.csv").write_text("x\n1\n2\n")
        assert watched.said(" · ran most", state="done").data["ran"] == ["most"]
        (tmp_path / "feed.txt").write_text("x")
        assert "source orders: pipeline.py:10: ValueError" in watched.said("pulled/orders.parquet · ", state="failed").text
        (tmp_path / "feed.txt").write_text("1")
        assert watched.said("pulled/orders.parquet · ran count", state="done").data["ran"] == ["count"]


def test_a_source_that_did_not_come_is_asked_again_after_its_time(tmp_path: Path) -> None:
    """Counted from the attempt, not at once and forever; one that came counts from when it came."""
    init.create(tmp_path)
    project = find(tmp_path)
    hourly = Source("hourly", "pulled/hourly.parquet", pull=Symbol("p", "hourly"), every_s=3600)
    asked = Source("asked", "pulled/asked.parquet", pull=Symbol("p", "asked"))
    assert pulled.times(project, [hourly, asked], tried_s=0) == {"hourly": 3600}
    assert pulled.times(project, [hourly], tried_s=50_000) == {"hourly": 53_600}
    cache.save_pull(project.layout, "hourly", {"at": 49_000.0})
    assert pulled.times(project, [hourly], tried_s=50_000) == {"hourly": 52_600}


def test_a_timetable_looks_at_the_clock_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due is named, what is not wakes us before long, so that a clock that jumped is noticed."""
    waits: list[float] = []

    class Timer:
        def __init__(self, seconds: float, wake: object) -> None:
            waits.append(seconds)

        def start(self) -> None: ...
        def cancel(self) -> None: ...

    monkeypatch.setattr("mlops_local.services.timetable.threading.Timer", Timer)
    monkeypatch.setattr("mlops_local.services.timetable.time.time", lambda: 1000.0)
    table = Timetable(lambda: None)
    assert table.due() == [] and waits == []
    table.set({"a": 1005.0, "b": 9000.0})
    assert table.due() == [] and waits == [5.0]
    table.set({"b": 9000.0})
    assert table.due() == [] and waits == [5.0, 30.0]
    table.set({"a": 999.0, "b": 9000.0})
    assert table.due() == ["a"] and len(waits) == 2
