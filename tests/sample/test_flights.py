"""The sample is honest: what its README claims about time, leakage and encodings holds for the code and data that ship."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

import mlops_local as mlops
from tests.conftest import MadeOnce
from tests.reader import follow_the_readme

SAMPLE = Path(__file__).resolve().parents[2] / "sample_project"
MODULES = ("pipeline", "features", "network")


@pytest.fixture(scope="module")
def pipeline() -> Iterator[ModuleType]:
    """The sample's pipeline module; its decorators leave plain functions."""
    sys.path.insert(0, str(SAMPLE))
    try:
        yield importlib.import_module("pipeline")
    finally:
        sys.path.remove(str(SAMPLE))
        for name in MODULES:
            sys.modules.pop(name, None)


def _source(name: str, months: range) -> pl.LazyFrame:
    folders = {month: "data" if month <= 9 else "incoming" for month in months}
    return pl.scan_parquet([SAMPLE / folder / f"{name}-2013-{month:02d}.parquet" for month, folder in folders.items()])


@pytest.fixture(scope="module")
def parts(pipeline: ModuleType) -> Any:
    """Train, valid and test of January to September, collected."""
    return pipeline.Split(
        *(part.collect() for part in pipeline.split(_source("flights", range(1, 10)), _source("weather", range(1, 10))))
    )


@pytest.fixture(scope="module")
def states(pipeline: ModuleType, parts: Any) -> tuple[Any, ...]:
    """What the encodings learned on train."""
    train = parts.train.lazy()
    return pipeline.codes(train), pipeline.late_share(train), pipeline.scales(train)


def test_months_in_their_order(parts: Any) -> None:
    """Train is January to July, valid August, test September, by local date, and no flight is lost."""
    spans = [(part["date"].min(), part["date"].max()) for part in parts]
    assert spans == [
        (date(2013, 1, 1), date(2013, 7, 31)),
        (date(2013, 8, 1), date(2013, 8, 31)),
        (date(2013, 9, 1), date(2013, 9, 30)),
    ]
    assert sum(part.height for part in parts) == 252_484


@pytest.mark.parametrize(("last_day", "first_of_test"), [(31, date(2013, 10, 1)), (30, date(2013, 9, 1))])
def test_half_a_month_judges_nothing(pipeline: ModuleType, last_day: int, first_of_test: date) -> None:
    """The test month is the last whole one: an October that ends on the 30th leaves September to judge, and is in no part."""
    flights = _source("flights", range(7, 11)).filter((pl.col("month") < 10) | (pl.col("day") <= last_day))
    made = pipeline.split(flights, _source("weather", range(7, 11)))
    test = made.test.collect()
    assert test["date"].min() == first_of_test and test["date"].n_unique() == (31 if last_day == 31 else 30)
    assert made.train.collect()["date"].max() < made.valid.collect()["date"].min() < first_of_test


def test_the_weather_is_three_hours_old(parts: Any) -> None:
    """The weather beside a flight is what was observed at its airport three hours before its scheduled hour, or nothing."""
    weather = _source("weather", range(1, 10)).collect()
    observed = {(row["origin"], row["time_hour"]): row for row in weather.iter_rows(named=True)}
    sample = parts.test.sample(500, seed=1)
    for flight in sample.iter_rows(named=True):
        then = observed.get((flight["origin"], flight["time_hour"] - timedelta(hours=3)))
        expected = (None, None) if then is None else (then["temp"], then["visib"])
        assert (flight["temp"], flight["visib"]) == expected


def test_the_history_ends_three_hours_before(parts: Any) -> None:
    """Rain and visibility of six hours are taken from the observations up to three hours before, none later."""
    weather = _source("weather", range(9, 10)).collect()
    for flight in parts.test.filter(pl.col("date") > date(2013, 9, 2)).sample(100, seed=2).iter_rows(named=True):
        last: datetime = flight["time_hour"] - timedelta(hours=3)
        window = weather.filter(
            pl.col("origin") == flight["origin"], pl.col("time_hour") <= last, pl.col("time_hour") > last - timedelta(hours=6)
        )
        if flight["temp"] is None:
            continue
        assert flight["precip_6h"] == pytest.approx(window["precip"].sum(), abs=0.005)
        assert flight["visib_6h"] == window["visib"].min()


def test_every_flight_without_a_tail_number_was_cancelled() -> None:
    """The README's reason for leaving it out: its gaps give the outcome away."""
    flights = pl.concat([_source("flights", range(1, 13))]).collect()
    without = flights.filter(pl.col("tailnum").is_null())
    assert without.height == 2_512 and without["dep_delay"].null_count() == without["arr_delay"].null_count() == 2_512


def test_the_transform_reads_nothing_of_the_outcome(pipeline: ModuleType, parts: Any, states: tuple[Any, ...]) -> None:
    """Without delays, tail number, seats and age the features are the same, bit for bit."""
    rows = parts.test.head(2000)
    hidden = rows.drop("dep_delay", "arr_delay", "tailnum", "plane_year", "seats", "date", "flight")
    assert pipeline.features(rows.lazy(), *states).collect().equals(pipeline.features(hidden.lazy(), *states).collect())


def test_the_transform_is_row_wise_and_float32(pipeline: ModuleType, parts: Any, states: tuple[Any, ...]) -> None:
    """A row's features do not depend on its neighbours, and every feature is float32, as the served model sees it."""
    rows = parts.test.head(300)
    together = pipeline.features(rows.lazy(), *states).collect()
    alone = pl.concat([pipeline.features(rows[number : number + 1].lazy(), *states).collect() for number in range(300)])
    assert together.equals(alone)
    assert set(together.dtypes) == {pl.Float32}


def test_the_encodings_learn_on_train_only(pipeline: ModuleType, parts: Any, states: tuple[Any, ...]) -> None:
    """A carrier or destination that appears later has no code and no share: it is a gap, not a leak and not an error."""
    codes, shares, _ = states
    assert set(codes["carrier"]) == set(parts.train["carrier"]) and min(codes["carrier"].values()) == 1
    unseen = parts.test.head(1).with_columns(carrier=pl.lit("ZZ"), dest=pl.lit("ZZZ"))
    row = pipeline.features(unseen.lazy(), *states).collect().row(0, named=True)
    assert row["carrier"] is None and row["dest_late"] is None and row["origin"] is not None
    flown = parts.train.filter(pl.col("arr_delay").is_not_null())
    mean = (flown["arr_delay"] >= 15).mean()
    assert all(abs(share - mean) < 0.25 for share in shares["dest"].values())


def _labelled(pipeline: ModuleType, part: pl.DataFrame, states: tuple[Any, ...]) -> mlops.XY:
    rows = part.filter(pl.col("arr_delay").is_not_null())
    return mlops.XY(pipeline.features(rows.lazy(), *states).collect(), (rows["arr_delay"] >= 15).cast(pl.Int8), rows)


def _json(folder: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "mlops_local", *words, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_trees_reach_what_the_readme_says(made_once: MadeOnce) -> None:
    """Init and train, as the README has it: AUC of at least 0.70 on September's flights, judged by days and by slices, and the
    flights without a label are counted."""
    flights = made_once("readme", follow_the_readme) / "flights"
    version = _json(flights, "model", "show", "@champion")["version"]
    assert version["candidate"] == "gbm" and version["metric"] == "auc"
    assert version["value"] >= 0.70 and version["low"] < version["value"] < version["high"]
    assert {"log_loss", "brier"} <= set(version["metrics"])
    query = "SELECT name, result->'report' AS report FROM step WHERE name IN ('delay.features', 'gbm.evaluate')"
    reports = {row["name"]: json.loads(row["report"]) for row in _json(flights, "sql", query)["items"]}
    assert reports["delay.features"]["dropped"] == {"train": 6_612, "valid": 571, "test": 564}
    assert reports["gbm.evaluate"]["rows"]["test"] == 27_010
    slices = reports["gbm.evaluate"]["slices"]
    assert {item["value"] for item in slices["origin"]} == {"EWR", "JFK", "LGA"} and len(slices["carrier"]) > 5


def test_the_network_answers_gaps_and_strangers(pipeline: ModuleType, parts: Any, states: tuple[Any, ...]) -> None:
    """The torch candidate gives a probability for every row, also for gaps and for categories it never saw."""
    torch = pytest.importorskip("torch")
    train, valid, test = (_labelled(pipeline, part.sample(4000, seed=1), states) for part in parts)
    model = pipeline.mlp(train, valid, epochs=2)
    matrix = test.X.to_numpy(writable=True).copy()
    matrix[0] = np.nan
    matrix[1, :3] = 10_000
    with torch.no_grad():
        answers = model(torch.from_numpy(matrix)).numpy()
    assert answers.shape == (len(test),) and ((answers > 0) & (answers < 1)).all()
