"""A model of two targets from end to end: fitted, judged and served by name."""

from __future__ import annotations

import json
import sys

import httpx
import polars as pl
import pytest
from sklearn.metrics import mean_squared_error, roc_auc_score

from tests.e2e.conftest import CONFIG, Shop, rebuilt_is_the_same, visits
from tests.e2e.test_serving import serving

SCRIPT = """\
import json, sys
import polars as pl
import mlops_local as mlops

print(json.dumps(mlops.load_model("purchase@champion").predict(pl.read_parquet(sys.argv[1])).to_dict(as_series=False)))
"""
GATES = (
    CONFIG.replace('metric = "auc"', 'metric = "bought.auc"')
    + '\n[[models.purchase.gates]]\nmetric = "amount.rmse"\nmax_drop = 0.5\n'
)


def two_targets(shop: Shop) -> None:
    """Ask the shop's pipeline for the amount beside the purchase."""
    shop.edit("pipeline.py", 'label=pl.col("spent") > 0,', 'label={"bought": pl.col("spent") > 0, "amount": pl.col("spent")},')
    shop.edit("pipeline.py", 'metric="auc"', 'metric="bought.auc"')
    shop.edit("pipeline.py", '{"objective": "binary", "num', '{"num')
    shop.edit(
        "pipeline.py",
        "    return lgb.train(options, lgb.Dataset(train.X.to_numpy(), train.y.to_numpy()), ROUNDS)\n",
        '    goals = {"bought": "binary", "amount": "regression"}\n'
        "    return {\n"
        '        name: lgb.train({**options, "objective": goal}, lgb.Dataset(train.X.to_numpy(), train.y[name]), ROUNDS)\n'
        "        for name, goal in goals.items()\n"
        "    }\n\n\n"
        "@purchase.test\n"
        "def answers_both(predict, rows):\n"
        '    assert predict(rows).columns == ["bought", "amount"]\n',
    )
    (shop.root / "mlops.toml").write_text(GATES)


def test_two_targets(shop: Shop) -> None:
    """Metrics, gates and answers say which target; the second version is compared with the first on both."""
    two_targets(shop)
    done = shop.json("train")
    assert done["verdicts"] == {"purchase@1": "pass"}
    shown = shop.json("model", "show", "purchase@1")
    metrics = shown["version"]["metrics"]
    assert shown["version"]["metric"] == "bought.auc" and shown["version"]["value"] == metrics["bought.auc"]
    assert set(metrics) >= {"bought.auc", "bought.log_loss", "amount.rmse", "amount.mae"}
    assert shown["report"]["tests"] == [{"name": "answers_both", "verdict": "pass", "note": ""}]
    assert shown["report"]["seen"]["train"] > 0.8

    test = visits(3000).filter(pl.col("spent").is_not_null(), pl.col("day") >= "2026-05-18")
    test.write_parquet(shop.root / "rows.parquet")
    (shop.root / "ask.py").write_text(SCRIPT)
    said = json.loads(shop.mlops("run", sys.executable, "ask.py", "rows.parquet").stdout.splitlines()[-1])
    table = pl.DataFrame(said)
    assert metrics["bought.auc"] == pytest.approx(roc_auc_score(test["spent"] > 0, table["bought"]))
    assert metrics["amount.rmse"] == pytest.approx(mean_squared_error(test["spent"], table["amount"]) ** 0.5)
    with serving(shop) as url:
        asked = test.head(2).select("pages", "minutes", "device").to_dicts()
        assert httpx.post(url + "/predict", json=asked).json()["predictions"] == table.head(2).to_dicts()

    again = shop.json("train", "-S", "leaves=5")
    assert set(again["ran"]) == {"gbm", "gbm.evaluate"}
    gates = shop.json("model", "show", "purchase@2")["verdict"]["gates"]
    assert [(gate["metric"], gate["rows"]) for gate in gates[:2]] == [("bought.auc", test.height), ("amount.rmse", test.height)]
    assert gates[1]["champion"] == pytest.approx(metrics["amount.rmse"])
    rebuilt_is_the_same(shop)


def test_a_candidate_must_answer_every_target(shop: Shop) -> None:
    """What it returned and what was asked for are named."""
    two_targets(shop)
    shop.edit("pipeline.py", '"amount": "regression"}', '"sum": "regression"}')
    shop.edit("pipeline.py", "train.y[name]", 'train.y["amount" if name == "sum" else name]')
    done = shop.mlops("train", code=1)
    assert "returned models for bought, sum; its targets are bought, amount" in done.stderr


def test_a_metric_says_which_target(shop: Shop) -> None:
    """A bare auc of two targets is refused before anything runs, with the names there are."""
    two_targets(shop)
    shop.edit("pipeline.py", 'metric="bought.auc"', 'metric="auc"')
    done = shop.mlops("plan", code=2)
    assert "has the metric 'auc', which nobody knows" in done.stderr and "bought.auc" in done.stderr
