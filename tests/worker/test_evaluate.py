"""The two nodes of a model, run on a small real project: features that hide outcomes, and an evaluation of the bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

import mlops_local as mlops
from mlops_local.domain.errors import StepFailed
from mlops_local.domain.graph import Model, Symbol
from mlops_local.domain.xy import XY
from mlops_local.engines.models import predictor
from mlops_local.engines.models.rows import row_hashes
from mlops_local.worker import evaluate as nodes

PIPELINE = b"""
import lightgbm
import polars as pl
import mlops_local as mlops

SCALE = 10.0

def unrelated(): return lightgbm.Booster()

@mlops.transform
def features(rows: pl.LazyFrame, codes: dict[str, int]) -> pl.LazyFrame:
    code = pl.col("kind").replace_strict(codes, default=None, return_dtype=pl.Int64)
    return rows.select(pl.col("x") / SCALE, code=code, hour=pl.col("at").dt.hour())
"""
CODES = {"a": 1, "b": 2}
HIDDEN = ("delay",)
KEYS = (("kind",), ("flight",), ("gone", "flight"))
MODEL = Model("late", "split", Symbol("pipeline", "features"), label="delay > 5", cluster="day", slices=("kind",), rows="lazy")


@dataclass(frozen=True)
class Source:
    """A project module."""

    path: str
    data: bytes


@dataclass
class Declaration:
    """What `mlops.model(...)` holds."""

    features: Callable[..., Any]
    label: Any
    metrics: list[Callable[..., Any]]
    tests: list[Callable[..., Any]]


def rows(count: int, seed: int) -> pl.DataFrame:
    """Raw rows: a number with gaps, a category, a time, an outcome that is null for every tenth row."""
    random = np.random.default_rng(seed)
    x = random.normal(scale=10, size=count)
    kind = random.choice(["a", "b", "c"], count)
    delay = x + 8 * (kind == "a") + random.normal(scale=4, size=count)
    frame = pl.DataFrame(
        {
            "flight": np.arange(count) + seed * 10_000,
            "x": x,
            "kind": kind,
            "at": pl.datetime_range(pl.datetime(2013, seed, 1), pl.datetime(2013, seed, 21), eager=True).sample(
                count, with_replacement=True, seed=seed
            ),
            "delay": delay,
            "unused": ["text"] * count,
        }
    ).with_columns(day=pl.col("at").dt.date())
    index = pl.int_range(pl.len())
    return frame.with_columns(delay=pl.when(index % 10 != 3).then("delay"), x=pl.when(index % 13 != 5).then("x"))


def parts() -> dict[str, pl.LazyFrame]:
    """What the split returned."""
    return {"train": rows(1500, 1).lazy(), "valid": rows(300, 2).lazy(), "test": rows(600, 3).lazy()}


def declaration(**changes: Any) -> Declaration:
    """The pipeline's own transform with the label, and no metrics or tests unless given."""
    space: dict[str, Any] = {}
    exec(compile(PIPELINE, "pipeline.py", "exec"), space)
    made = {"features": space["features"], "label": pl.col("delay") > 5, "metrics": [], "tests": [], **changes}
    return Declaration(**made)


def features(model: Model = MODEL, **changes: Any) -> tuple[dict[str, XY], dict[str, Any]]:
    """Run the features node."""
    states = {"codes": CODES} if "features" not in changes else {}
    return nodes.features(model, declaration(**changes), parts(), states, hidden=HIDDEN, seed=1)


def fit(train: XY) -> lightgbm.Booster:
    """A small booster."""
    data = lightgbm.Dataset(train.X.to_numpy(), train.y.to_numpy(), feature_name=train.X.columns)
    return lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 15)


def evaluated(
    out: Path, model: Model = MODEL, private: Sequence[str] = (), **changes: Any
) -> tuple[dict[str, Any], dict[str, Any], dict[str, XY]]:
    """Run both nodes and the candidate between them."""
    declared = declaration(**changes)
    made, _ = nodes.features(model, declared, parts(), {"codes": CODES}, hidden=HIDDEN, seed=1)
    node = nodes.Node(
        model,
        declared,
        fit(made["train"]),
        made,
        {"codes": CODES},
        candidate="gbm",
        sources={"pipeline": Source("pipeline.py", PIPELINE)},
        hidden=HIDDEN,
        out=out,
        keys=KEYS,
        private=private,
    )
    outputs, report = nodes.evaluate(node)
    return outputs, report, made


def test_features_hold_float32_labels_and_all_raw_columns() -> None:
    """Rows without a label are dropped and counted; X is float32; rows keep every column, the outcome too."""
    made, report = features()
    train = made["train"]
    assert train.X.schema == dict.fromkeys(["x", "code", "hour"], pl.Float32)
    assert report["dropped"] == {"train": 150, "valid": 30, "test": 60} and report["rows"]["train"] == len(train) == 1350
    assert train.y.to_list() == (train.rows["delay"] > 5).cast(pl.Int8).to_list()
    assert train.rows.columns == rows(5, 1).columns
    assert train.X["x"].to_list() == pytest.approx((train.rows["x"] / 10).cast(pl.Float32).to_list())


@pytest.mark.parametrize("column", ["delay", "other"])
def test_a_transform_cannot_see_what_is_known_only_afterwards(column: str) -> None:
    """Neither outcome columns nor the label's are there, and the message says why."""
    label = pl.col("delay") > 5 if column == "delay" else pl.col("other") > 0
    raw = {name: part.with_columns(other=pl.col("x").fill_null(0.0)) for name, part in parts().items()}
    with pytest.raises(StepFailed, match=f"reads '{column}', which is known only afterwards"):
        nodes.features(MODEL, declaration(features=lambda r: r.select(column), label=label), raw, {}, hidden=HIDDEN, seed=1)


@pytest.mark.parametrize(
    ("label", "said", "hint"),
    [
        (pl.col("dely") > 5, "reads column 'dely'", "did you mean 'delay'"),
        (pl.col("kind"), "label is a number or a boolean", "compare it"),
        (pl.col("delay") > 1e9, "", ""),
        (pl.when(pl.col("delay") > 1e9).then(1), "train has no row with a label (1500 without)", "look at the split"),
        (pl.col("delay").max() > 5, "one value for all rows", "per row"),
    ],
)
def test_labels_that_cannot_be_are_said(label: Any, said: str, hint: str) -> None:
    """A column that is not there, text, no label at all, an aggregate; one class alone is not refused here."""
    if not said:
        assert features(label=label)[1]["label"] == {"train": 0.0, "valid": 0.0, "test": 0.0}
        return
    with pytest.raises(StepFailed) as refused:
        features(label=label)
    assert said in refused.value.message and hint in refused.value.hint


def test_labels_may_be_numbers_with_gaps() -> None:
    """NaN and infinity are no labels; a column's name is a label."""
    raw = {
        name: part.with_columns(t=pl.when(pl.col("x") > 8).then(float("nan")).otherwise("x")) for name, part in parts().items()
    }
    made, _ = nodes.features(MODEL, declaration(label="t"), raw, {"codes": CODES}, hidden=HIDDEN, seed=1)
    assert made["test"].y.is_finite().all() and len(made["test"]) < 600


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda r: r.select(pl.col("x") - pl.col("x").mean()), "not row-wise: column 'x' changes"),
        (lambda r: r.select("kind"), "feature 'kind' is String"),
        (lambda r: r.select("at"), "feature 'at' is Datetime"),
        (lambda r: r.select(), "no column"),
        (lambda r: r.filter(pl.col("x") > 0).select("x"), "not row-wise: it returns"),
    ],
)
def test_transforms_that_cannot_be_served_are_refused(function: Any, said: str) -> None:
    """Looking beyond the row, text, times, nothing at all: named by column."""
    with pytest.raises(StepFailed) as refused:
        features(features=function)
    assert said in refused.value.message


def test_what_float32_hides_is_noted() -> None:
    """Ids beyond 2^24 and empty features are said in the report."""
    _, report = features(features=lambda r: r.select(id=pl.col("flight") * 10_000, none=pl.lit(None, dtype=pl.Float64)))
    assert any("'id' holds whole numbers beyond" in note for note in report["notes"])
    assert "feature 'none' is empty in train" in report["notes"]


def test_pandas_transforms_and_parts_are_taken() -> None:
    """A split of pandas frames and a transform on pandas give the same features as polars ones."""
    raw = {name: pd.DataFrame(part.collect().drop("at", "day").to_dict(as_series=False)) for name, part in parts().items()}
    assert raw["test"]["delay"].isna().sum() == 60
    declared = declaration(features=lambda frame: pd.DataFrame({"x": frame["x"] / 10}))
    made, _ = nodes.features(replace(MODEL, rows="pandas"), declared, raw, {}, hidden=HIDDEN, seed=1)
    expected = features()[0]["test"]
    assert made["test"].y.equals(expected.y) and made["test"].rows["kind"].equals(expected.rows["kind"])
    assert made["test"].X["x"].fill_nan(None).to_list() == pytest.approx(expected.X["x"].to_list())


def test_the_bundle_answers_as_the_model_and_asks_only_for_what_it_reads(tmp_path: Path) -> None:
    """Predictions are the model's; the signature is what the transform reads; metrics are scikit-learn's of those answers."""
    outputs, report, made = evaluated(tmp_path)
    test, frame = made["test"], outputs["predictions"]
    own = fit(made["train"]).predict(test.X.to_numpy())
    assert frame["prediction"].to_list() == pytest.approx(list(own), abs=1e-6)
    assert frame["label"].to_list() == test.y.to_list()
    assert frame.columns == ["row", "flight", "day", "kind", "label", "prediction"]
    assert report["signature"] == ["x", "kind", "at"] and report["identity"] == ["flight"]
    assert report["metrics"]["auc"] == pytest.approx(roc_auc_score(test.y, own), abs=1e-6)
    assert report["metrics"]["log_loss"] == pytest.approx(log_loss(test.y, own), abs=1e-6)
    assert report["form"] == "onnx" and report["parity"]["above_tolerance"] == 0
    loaded = predictor.load(outputs["bundle"])
    assert loaded.golden_ok() and [column.name for column in loaded.signature] == ["x", "kind", "at"]
    assert [column.nullable for column in loaded.signature] == [True, False, False]
    assert loaded.predict(test.rows).tolist() == frame["prediction"].to_list()
    assert b"lightgbm" not in (tmp_path / "transform.py").read_bytes()
    json.dumps(report, allow_nan=False)


def test_trained_rows_are_named_as_evaluation_rows_are(tmp_path: Path) -> None:
    """The rows of train and valid, by the same identity, so that an overlap can be found."""
    outputs, _, made = evaluated(tmp_path)
    trained = outputs["trained"]
    assert trained.height == 1350 + 270 and trained["part"].unique(maintain_order=True).to_list() == ["train", "valid"]
    assert trained["row"][:1350].to_list() == row_hashes(made["train"].rows, ["flight"]).to_list()


def test_slices_are_the_metric_of_their_rows(tmp_path: Path) -> None:
    """Each value with enough rows, the most frequent first."""
    _, report, made = evaluated(tmp_path)
    lines = report["slices"]["kind"]
    assert {line["value"] for line in lines} == {"a", "b", "c"} and sum(line["rows"] for line in lines) == 540
    test = made["test"]
    chosen = test.rows["kind"] == "a"
    own = fit(made["train"]).predict(test.X.filter(chosen).to_numpy())
    found = next(line["metric"] for line in lines if line["value"] == "a")
    assert found == pytest.approx(roc_auc_score(test.y.filter(chosen), own), abs=1e-6)


def test_slices_by_a_private_column_are_numbered(tmp_path: Path) -> None:
    """The most frequent value is the first; none is shown."""
    _, report, _ = evaluated(tmp_path, private=["kind"])
    lines = report["slices"]["kind"]
    assert [line["value"] for line in lines] == ["(private 1)", "(private 2)", "(private 3)"]
    assert sum(line["rows"] for line in lines) == 540 and lines[0]["rows"] == max(line["rows"] for line in lines)


def test_own_metrics_and_behaviour_tests_see_the_served_answers(tmp_path: Path) -> None:
    """A cost a row, a number over all, tests that pass, fail with their message or line, and raise."""
    model = mlops.model("late", label=pl.col("delay") > 5, split=parts, features=features)

    @model.metric(greater_is_better=False)
    def cost(y: pl.Series, p: pl.Series, rows: pl.DataFrame) -> pl.Series:
        return (y - p).abs() * rows["delay"].abs()

    @model.metric(whole=True)
    def spread(y: pl.Series, p: pl.Series, rows: pl.DataFrame) -> float:
        return float(p.max() - p.min())  # type: ignore[operator, arg-type]

    @model.test
    def longer_is_later(predict: Any, rows: pl.DataFrame) -> None:
        assert predict(rows.with_columns(x=20.0)).mean() > predict(rows.lazy().with_columns(x=-20.0)).mean()

    @model.test
    def says(predict: Any, rows: pl.DataFrame) -> None:
        assert predict(rows).mean() > 1, "mean is low"

    @model.test
    def silent(predict: Any, rows: pl.DataFrame) -> None:
        assert predict(rows).max() > 1

    @model.test
    def broken(predict: Any, rows: pl.DataFrame) -> None:
        predict(rows.drop("x", "kind"))

    outputs, report, made = evaluated(tmp_path, metrics=model.metrics, tests=model.tests)
    frame = outputs["predictions"]
    expected = (frame["label"] - frame["prediction"]).abs() * made["test"].rows["delay"].abs()
    assert frame["metric.cost"].to_list() == pytest.approx(expected.to_list())
    assert report["metrics"]["cost"] == pytest.approx(expected.mean())
    assert report["whole"] == ["spread"] and 0 < report["metrics"]["spread"] < 1
    assert report["greater_is_better"] == {"cost": False, "spread": True}
    assert [(line["name"], line["verdict"]) for line in report["tests"]] == [
        ("longer_is_later", "pass"),
        ("says", "fail"),
        ("silent", "fail"),
        ("broken", "fail"),
    ]
    notes = [line["note"] for line in report["tests"]]
    assert notes[1].startswith("mean is low") and "> 1" in notes[2]
    assert "RowErrors" in notes[3] and "column 'kind'" in notes[3]


def test_the_metric_on_rows_it_learned_from_is_kept(tmp_path: Path) -> None:
    """Train and valid, through the bundle: what a warning about learning by heart is made from."""
    _, report, made = evaluated(tmp_path)
    served = predictor.load(tmp_path)
    for part in ("train", "valid"):
        auc = roc_auc_score(made[part].y, served.predict(made[part].rows))
        assert report["seen"][part] == pytest.approx(auc)


def test_metrics_of_the_wrong_shape_are_said(tmp_path: Path) -> None:
    """One number where a value a row is promised."""
    model = mlops.model("late", label=pl.col("delay") > 5, split=parts, features=features)

    @model.metric
    def cost(y: pl.Series, p: pl.Series, rows: pl.DataFrame) -> float:
        return 1.0

    with pytest.raises(StepFailed, match="metric 'cost' returned float"):
        evaluated(tmp_path, metrics=model.metrics)


def test_a_metric_without_value_is_told_apart(tmp_path: Path) -> None:
    """One class in test: AUC is not a number, so it is listed as not computed and the report stays plain JSON."""
    _, report, _ = evaluated(tmp_path, label=(pl.col("delay") > 5) & (pl.col("flight") < 30_000))
    assert report["not_computed"] == ["auc"] and "auc" not in report["metrics"] and "log_loss" in report["metrics"]
    json.dumps(report, allow_nan=False)


def test_without_a_key_rows_are_named_by_content(tmp_path: Path) -> None:
    """What the transform may see names a row when no key does."""
    made, _ = features()
    node = nodes.Node(
        MODEL, declaration(), fit(made["train"]), made, {"codes": CODES}, candidate="gbm",
        sources={"pipeline": Source("pipeline.py", PIPELINE)}, hidden=HIDDEN, out=tmp_path, keys=(("kind",),),
    )  # fmt: skip
    outputs, report = nodes.evaluate(node)
    assert report["identity"] == ["flight", "x", "kind", "at", "unused", "day"]
    assert outputs["predictions"]["row"].n_unique() == 540


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path) -> None:
    """The column is named before anything is judged by it."""
    with pytest.raises(StepFailed, match="names column 'week'"):
        evaluated(tmp_path, replace(MODEL, cluster="week"))
