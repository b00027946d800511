"""Runs and their curves as frames."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

import mlops_local as mlops
from mlops_local.domain.errors import UsageError
from tests.api.conftest import project

__all__ = ["project"]


def test_runs_are_rows(project: Path) -> None:
    """Newest first; a column a parameter, metric and tag, of the type all runs agree on, else text; filtered and sorted."""
    before = datetime.now(timezone.utc)
    with mlops.run("one", params={"lr": 0.1, "kind": 1, "layers": [3, 2], "on": True, "bits": 2**2000}, group="g"):
        mlops.log(auc=0.7)
    with mlops.run("two", params={"lr": 1, "kind": "a", "bits": 0.5}):
        mlops.log(auc=0.8, loss=float("nan"))
    frame = mlops.runs()
    assert frame["name"].to_list() == ["two", "one"] and frame["state"].to_list() == ["done", "done"]
    assert frame["started"].dtype == pl.Datetime("us", "UTC") and frame["started"].min() >= before  # type: ignore[operator]
    assert frame["param.lr"].to_list() == [1.0, 0.1] and frame["param.kind"].to_list() == ["a", "1"]
    assert frame["param.layers"].to_list() == [None, "[3, 2]"] and frame["param.on"].to_list() == [None, True]
    assert frame["param.bits"].to_list() == ["0.5", str(2**2000)]
    assert frame["metric.auc"].to_list() == [0.8, 0.7] and frame["tag.group"].to_list() == [None, "g"]
    assert mlops.runs("metric.auc > 0.75")["name"].to_list() == ["two"]
    assert mlops.runs(sort="metric.auc", limit=1)["name"].to_list() == ["one"]
    with pytest.raises(UsageError, match="acu"):
        mlops.runs("metric.acu > 0.75")


def test_no_run_is_an_empty_frame(project: Path) -> None:
    """With the columns every run has, of the types they have later, so that a script that filters works on its first day."""
    empty = mlops.runs()
    assert empty.height == 0 and empty.filter((pl.col("state") == "done") & (pl.col("seconds") > 1)).height == 0
    with mlops.run():
        assert mlops.runs().schema == empty.schema, "one that has not ended has no seconds"


def test_hostile_names_are_harmless_in_a_notebook(project: Path) -> None:
    """What a notebook shows of them is text, never markup."""
    with mlops.run("<script>alert(1)</script>", params={"<b>": "<i>"}):
        pass
    assert "<script>" not in mlops.runs().select("name", "param.<b>")._repr_html_()


def test_curves_are_columns(project: Path) -> None:
    """A row a call of log, in order; any column is an axis; a name that is taken is told apart; a typo names the nearest."""
    with mlops.run():
        mlops.log(0, loss=1.0, epoch=0)
        mlops.log(0, loss=0.9, epoch=0)
        mlops.log(1, loss=0.5, epoch=1)
        mlops.log(time=3.0)
    frame = mlops.metrics()
    assert frame.columns == ["step", "time", "loss", "epoch", "metric.time"]
    assert frame["step"].to_list() == [0, 0, 1, None] and frame["loss"].to_list() == [1.0, 0.9, 0.5, None]
    assert frame.group_by("epoch").agg(pl.col("loss").min()).sort("epoch")["loss"].to_list() == [None, 0.9, 0.5]
    assert mlops.metrics("@1", "loss").columns == ["step", "time", "loss"]
    with pytest.raises(UsageError) as caught:
        mlops.metrics("@1", "los")
    assert "did you mean 'loss'?" in caught.value.hint
