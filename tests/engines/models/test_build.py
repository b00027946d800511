"""A bundle is proved where it is made: in a fresh process, without the project and the training libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest

from mlops_local.domain.errors import StepFailed
from mlops_local.engines.models import build, bundle, score
from mlops_local.engines.models.export import Exported, export
from mlops_local.engines.models.signature import describe
from mlops_local.engines.models.transform import matrix

SOURCE = """
import polars as pl

def features(rows, codes):
    return rows.lazy().select(pl.col("x"), code=pl.col("kind").replace_strict(codes, default=None, return_dtype=pl.Int64))
"""
CODES = {"a": 1, "b": 2}


@dataclass(frozen=True)
class Trained:
    """A fitted model with the rows and features it came from."""

    rows: pl.DataFrame
    features: pl.DataFrame
    exported: Exported
    recipe: build.Recipe


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A small booster on a number and a category."""
    random = np.random.default_rng(0)
    rows = pl.DataFrame({"x": random.normal(size=400), "kind": random.choice(["a", "b", "c"], 400), "late": random.random(400)})
    space: dict[str, Any] = {}
    exec(SOURCE, space)
    features = space["features"](rows, CODES).collect()
    X = matrix(features, features.columns)
    y = (X[:, 0] + np.nan_to_num(X[:, 1]) > 1).astype(float)
    data = lightgbm.Dataset(X, y, feature_name=features.columns)
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 10)
    recipe = build.Recipe("m", "c", describe(rows, ["x", "kind"]), "features", SOURCE, "frame", {"codes": CODES})
    return Trained(rows, features, export(booster, features.columns, X, binary=True), recipe)


def made(trained: Trained, folder: Path, **changes: Any) -> tuple[Any, Any]:
    """Build with changes to the recipe; the bundle and what the fresh process answers."""
    X = matrix(trained.features, trained.features.columns)
    loaded = build.build(folder, replace(trained.recipe, **changes), trained.exported, trained.rows, X)
    return loaded, build.answer(folder, loaded, trained.rows, X)


def test_the_fresh_process_answers_what_training_would(trained: Trained, tmp_path: Path) -> None:
    """Raw rows in, the model's own answers out; golden rows are kept and hold."""
    loaded, answers = made(trained, tmp_path)
    assert answers == pytest.approx(loaded.score(matrix(trained.features, ["x", "code"])))
    assert loaded.golden_ok()
    golden = pl.read_parquet(tmp_path / bundle.GOLDEN)
    assert golden.columns == ["x", "kind", bundle.EXPECTED] and golden.height == build.GOLDEN_ROWS


def test_a_bundle_is_the_same_bytes_each_time(trained: Trained, tmp_path: Path) -> None:
    """Equal inputs, equal bundle: its hash can say whether a model changed."""

    def contents(folder: Path) -> Mapping[str, bytes]:
        folder.mkdir()
        made(trained, folder)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert bundle.digest(first) == bundle.digest(second)
    assert set(first) == {
        "manifest.json",
        "model.onnx",
        "native/model.txt",
        "transform.py",
        "states/codes.json",
        "golden.parquet",
    }
    assert not any(str(tmp_path).encode() in data for data in first.values())


def test_a_transform_that_makes_other_features_is_refused_by_column(trained: Trained, tmp_path: Path) -> None:
    """The copy in the bundle must make what training had; the column that differs is named."""
    with pytest.raises(StepFailed, match="another 'x' than training did, on 400 rows"):
        made(trained, tmp_path, source=SOURCE.replace('pl.col("x")', 'pl.col("x") + 0.5'))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import sklearn", "No module named 'sklearn' while serving"),
        ("import project_module", "No module named 'project_module'"),
        ("import os; assert os.getcwd() == HERE", "AssertionError"),
    ],
    ids=["training library", "project", "working folder"],
)
def test_what_works_only_here_fails_in_the_fresh_process(
    trained: Trained, tmp_path: Path, line: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transform that imports the project or a training library while running, or reads where it is, is found out."""
    (tmp_path / "project_module.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    hidden = (
        "def hidden():\n    exec(" + repr(line.replace("os.environ.get('MLOPS_TEST_ONLY_HERE')", "os.getcwd() == HERE")) + ")\n"
    )
    source = f"HERE = {str(Path.cwd())!r}\n" + SOURCE.replace("    return", "    hidden()\n    return") + hidden
    folder = tmp_path / "bundle"
    folder.mkdir()
    with pytest.raises(StepFailed, match="does not answer outside the project") as refused:
        made(trained, folder, source=source)
    assert said in refused.value.message


def test_what_the_bundle_says_it_needs_is_allowed(trained: Trained, tmp_path: Path) -> None:
    """A transform that plainly imports pandas is served with pandas, and the manifest says so."""
    loaded, _ = made(trained, tmp_path, source="import pandas\n" + SOURCE)
    assert loaded.manifest.needs == ("pandas",)


def test_scoring_stops_at_a_bundle_whose_golden_rows_do_not_hold(trained: Trained, tmp_path: Path) -> None:
    """A bundle that was tampered with after it was made answers nothing."""
    made(trained, tmp_path)
    (tmp_path / "states/codes.json").write_text('{"a":2,"b":1}')
    with pytest.raises(StepFailed, match="golden rows differ"):
        score.fresh(tmp_path, trained.rows)
