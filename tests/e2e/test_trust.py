"""What must never be believed: a damaged result, a verdict that answers another question, a metric that changed its meaning."""

from __future__ import annotations

import sys
from pathlib import Path

from mlops_local.store import cache
from mlops_local.store.layout import Layout
from tests.e2e.conftest import Shop


def _object(shop: Shop, step: str, output: str, name: str) -> Path:
    """Where a file of a step's newest result is kept."""
    kept = cache.latest(Layout(shop.root), step)
    assert kept is not None
    (found,) = (item for item in kept.outputs if item.name == output)
    stored = found.parts[name]
    return shop.root / ".mlops" / "objects" / stored[:2] / stored


def test_an_altered_result_is_no_input(trained: Shop) -> None:
    """Features that somebody changed in the store, still valid Parquet, train nothing: they are made again, and it is said."""
    import polars as pl

    path = _object(trained, "purchase.features", "train", "X.parquet")
    path.chmod(0o600)
    frame = pl.read_parquet(path)
    frame.with_columns(pages=pl.col("pages") * 0).write_parquet(path)
    trained.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    read = "import mlops_local as mlops; mlops.load('purchase.features.train')"
    assert (
        "X.parquet of purchase.features is missing or altered"
        in trained.mlops("run", sys.executable, "-c", read, code=1).stderr
    )
    said = trained.mlops("train").stderr
    assert "purchase.features: its stored result was altered; it runs again" in said
    assert "gbm: code pipeline.ROUNDS" in said
    assert [view["version"]["metrics"]["auc"] > 0.7 for view in trained.json("model", "ls")["items"]] == [True, True]
    assert trained.stale() == []


def test_an_altered_result_is_noticed_although_nothing_else_changed(trained: Shop) -> None:
    """A plan and a train that would have nothing to do make a damaged result again, and it is whole again afterwards."""
    path = _object(trained, "split", "train", "train.parquet")
    before = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(before[:-1])
    assert trained.json("plan")["items"][0]["reasons"][0]["text"] == "its stored result was altered"
    assert "split: its stored result was altered; it runs again" in trained.mlops("train").stderr
    assert path.read_bytes() == before and path.stat().st_mode & 0o777 == 0o400
    assert trained.stale() == []


def test_a_rejected_version_stays_rejected(trained: Shop) -> None:
    """After a rollback the same code is a regression for check and --gate, and no train promotes it again."""
    trained.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    assert trained.json("train")["champions"] == {"purchase": "purchase@2"}
    trained.mlops("model", "rollback", "--reason", "customers complained")
    said = trained.mlops("check", code=3).stdout
    assert "purchase@2, which was rejected (customers complained)" in said
    trained.mlops("train", "--gate", code=3)
    assert trained.json("train")["champions"] == {"purchase": "purchase@1"}
    trained.mlops("model", "promote", "purchase@2")
    assert "unaffected" in trained.mlops("check", code=0).stdout


def test_other_gates_are_asked_again(trained: Shop) -> None:
    """A version that waits is judged by the gates of today, and promoted by them; a champion that was is not judged anew."""
    trained.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    trained.edit("mlops.toml", "max_drop = 0.02", "max_drop = 0.02\nmin = 0.99")
    trained.mlops("train", "--gate", code=3)
    trained.edit("mlops.toml", "min = 0.99", "min = 0.5")
    result = trained.json("train")
    assert (result["run"], result["verdicts"]) == ("", {"purchase@2": "pass"})
    assert result["champions"] == {"purchase": "purchase@2"}
    trained.edit("pipeline.py", "ROUNDS = 31", "ROUNDS = 30")
    done = trained.mlops("train", "--gate", code=4)
    assert "purchase@1 passed against nothing, and purchase@2 is the champion now" in done.stderr
    assert trained.json("model", "show", "@champion")["version"]["id"] == "purchase@2"


def test_a_metric_that_was_edited_is_another_metric(shop: Shop) -> None:
    """The champion's values of an own metric are not compared with those of its new meaning."""
    metric = "\n\n@purchase.metric\ndef gain(y, p, rows):\n    return y.cast(pl.Float64) * p\n"
    (shop.root / "pipeline.py").write_text((shop.root / "pipeline.py").read_text() + metric)
    shop.edit("mlops.toml", 'metric = "auc"', 'metric = "gain"')
    shop.mlops("train")
    shop.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 29")
    assert shop.json("train")["verdicts"] == {"purchase@2": "pass"}
    shop.edit("pipeline.py", "return y.cast(pl.Float64) * p", "return 10 + y.cast(pl.Float64) * p")
    shop.edit("pipeline.py", "ROUNDS = 29", "ROUNDS = 1")
    result = shop.json("train")
    assert result["verdicts"] == {"purchase@3": "inconclusive"}
    assert result["champions"] == {"purchase": "purchase@2"}


def test_a_step_that_cannot_be_repeated_is_said_to_be(shop: Shop) -> None:
    """--force that finds another output under the same fingerprint says so, keeps both versions, and mixes neither."""
    shop.edit("pipeline.py", "    return lgb.train(options,", "    import time\n    options['seed'] = time.time_ns() % 9999\n"
              "    options['bagging_fraction'], options['bagging_freq'] = 0.5, 1\n    return lgb.train(options,")  # fmt: skip
    shop.mlops("train")
    said = shop.mlops("train", "--force").stderr
    assert "gbm is nondeterministic" in said
    assert "split is nondeterministic" not in said
    views = [view["version"] for view in shop.json("model", "ls")["items"]]
    assert [view["id"] for view in views] == ["purchase@2", "purchase@1"]
    assert views[0]["bundle_hash"] != views[1]["bundle_hash"] and views[0]["predictions"] != views[1]["predictions"]


def test_a_baseline_that_is_elsewhere_is_no_pass(trained: Shop) -> None:
    """In a clone without the store, other code than mlops.lock names was compared with nothing: --gate exits 4, not 0."""
    import shutil

    shutil.rmtree(trained.root / ".mlops")
    trained.mlops("train", "--gate", code=0)  # the very code and data of the commit: nothing else was asked for
    shutil.rmtree(trained.root / ".mlops")
    trained.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 3")
    said = trained.mlops("train", "--gate", code=4).stderr
    assert "mlops.lock names purchase@1, which this store does not hold" in said
    assert trained.json("model", "ls")["items"][0]["aliases"] == []
    assert "champion=purchase@1" in (trained.root / "mlops.lock").read_text()
    trained.mlops("model", "promote", "purchase@1", "--force", "--reason", "begin anew")


def test_rows_the_champion_cannot_answer(trained: Shop) -> None:
    """New data without a column the champion needs: the train fails with the way out, check has no verdict, nothing is lost."""
    import polars as pl

    from tests.e2e.conftest import visits

    trained.edit("pipeline.py", 'minutes=pl.col("minutes") - means["minutes"],', "")
    trained.edit("pipeline.py", ', "minutes": float(train["minutes"].mean())', "")
    (trained.root / "data" / "visits-1.parquet").unlink()
    visits(3000, seed=5).drop("minutes").write_parquet(trained.root / "data" / "visits-2.parquet")
    said = trained.mlops("train", code=1).stderr
    assert "purchase@1 does not answer the rows purchase@2 was evaluated on" in said
    assert pl.read_parquet(_object(trained, "gbm.evaluate", "predictions", "predictions.parquet")).height > 100
    assert "purchase@1 does not answer" in trained.mlops("check", code=4).stdout
    trained.mlops("model", "promote", "purchase@2", "--force", "--reason", "minutes are no longer measured")
    assert "unaffected" in trained.mlops("check", code=0).stdout
    trained.mlops("train")
