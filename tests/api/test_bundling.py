"""What a script's model is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

import mlops_local as mlops
from mlops_local.api import bundling
from mlops_local.domain.errors import UsageError
from mlops_local.domain.graph import Model, Symbol
from mlops_local.services import scripted
from mlops_local.services.project import find
from mlops_local.store import objects
from mlops_local.store.layout import Layout

NUMBERS = {"model": "m", "metric": "", "targets": []}


@pytest.mark.parametrize(
    "y", [np.zeros((3, 2)), {"late": [0, 1, 0], "minutes": [1, 2, 3]}, pl.DataFrame({"late": [0, 1, 0], "minutes": [1, 2, 3]})]
)
def test_labels_of_several_targets_need_a_model_of_each(y: Any, tmp_path: Any) -> None:
    """Labels of several targets are no row of labels, whatever holds them: one sentence says how such a model is logged."""
    with pytest.raises(UsageError, match="has one label a row") as caught:
        bundling.evaluate(Layout(tmp_path), NUMBERS, pl.DataFrame({"x": [1, 2, 3]}), y, cluster="")
    assert "log_model({'late'" in caught.value.hint


def test_a_column_of_one_is_a_row_of_labels() -> None:
    """An array of one column, as numpy's users make it, means its values."""
    assert bundling._labels(Model("m", "", Symbol("", "")), np.array([[1.0], [0.0]]))[""].to_list() == [1.0, 0.0]


def test_what_cannot_be_a_target_is_refused(project: Path) -> None:
    """A name that is none, a metric of no target, labels of other targets: each in one sentence, before anything is made."""
    layout, example = Layout(project), pl.DataFrame({"x": [1.0, 2.0]})
    for model, metric, said in (
        ({"a b": None}, "", "named as a variable"),
        ({}, "", "no target"),
        ({"late": None}, "auc", "says no target"),
    ):
        with pytest.raises(UsageError, match=said):
            bundling.make(layout, model, example, name="m", label="", metric=metric)
    with pytest.raises(UsageError, match="y has the columns early, and the model's targets are late"):
        bundling.evaluate(layout, {**NUMBERS, "targets": ["late"]}, example, {"early": [0, 1]}, cluster="")


def test_a_model_of_several_targets_becomes_a_version(project: Path) -> None:
    """Logged as a dict it is bundled, evaluated, judged and read back as one of a pipeline is; half-known rows do not count."""
    random = np.random.default_rng(0)
    rows = pl.DataFrame({"a": random.normal(size=80), "b": random.normal(size=80)})
    y = {"late": (rows["a"] > 0).cast(pl.Int8), "minutes": rows["a"] * 3 + rows["b"]}
    models = {
        "late": LogisticRegression().fit(rows.to_numpy(), y["late"].to_numpy()),
        "minutes": LinearRegression().fit(rows.to_numpy(), y["minutes"].to_numpy()),
    }
    with mlops.run() as run:
        run.log_model(models, example=rows, name="delay", metric="late.auc")
        late = pl.Series([None, *y["late"][1:].to_list()])
        values = run.log_eval(rows, pl.DataFrame({"late": late, "minutes": y["minutes"]}))
    assert values["late.auc"] == 1.0 and values["minutes.rmse"] < 1e-3
    (version,) = scripted.adopt(find(project))
    assert (version.metric, version.value, version.metrics["minutes.rmse"]) == ("late.auc", 1.0, values["minutes.rmse"])
    assert pl.read_parquet(objects.path(Layout(project), version.predictions)).height == 79
    answers = mlops.load_model("delay@1").predict(rows)
    assert answers.columns == ["late", "minutes"] and abs(answers["minutes"] - y["minutes"]).max() < 1e-3
