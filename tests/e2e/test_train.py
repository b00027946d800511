"""Training from end to end: what runs, what is reused, what is registered."""

import json
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import Shop, rebuilt_is_the_same, visits


def test_first_train(shop: Shop) -> None:
    """Every step runs once, unlabelled rows are counted, the first version becomes champion, and mlops.lock says so."""
    done = shop.mlops("train", "--json", PYTHONPATH="")  # with all that is installed: LightGBM brings scikit-learn and pandas
    result = json.loads(done.stdout)
    unknown = pl.read_parquet(shop.root / "data" / "visits-1.parquet")["spent"].null_count()
    assert f"{unknown} rows without a label left out" in done.stderr
    assert set(result["ran"]) == {"split", "means", "purchase.features", "gbm", "gbm.evaluate"}
    assert result["champions"] == {"purchase": "purchase@1"}
    assert result["verdicts"] == {"purchase@1": "pass"}
    lock = (shop.root / "mlops.lock").read_text()
    assert "model purchase champion=purchase@1" in lock
    assert "source visits snapshot=" in lock
    version = shop.json("model", "show", "purchase@1")["version"]
    assert 0.8 < version["value"] < 1.0
    assert version["low"] < version["value"] < version["high"]
    slices = shop.json("model", "show", "purchase@1")["report"]["slices"]["device"]
    assert {line["value"] for line in slices} == {"mobile", "desktop"}
    assert "mobile" in shop.mlops("model", "show", "purchase@1").stdout
    rebuilt_is_the_same(shop)


def test_nothing_to_do(trained: Shop) -> None:
    """A second train runs nothing and makes no run."""
    result = trained.json("train")
    assert (result["ran"], result["run"]) == ([], "")
    assert len(trained.json("runs")["items"]) == 1


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pipeline.py", '"""Will a visit end in a purchase?"""', '"""Another docstring."""'),
        ("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # a comment\n\n"),
        ("pipeline.py", "from typing import NamedTuple\n", "from typing import NamedTuple\nfrom pathlib import Path\n"),
        ("cleaning.py", '    """Centre a column."""\n', ""),
        ("cleaning.py", "column: pl.Expr, mean: float", "column: pl.Expr,\n    mean: float,\n"),
        ("pipeline.py", "ROUNDS = 30", "ROUNDS = 30\nUNUSED = 1"),
    ],
)
def test_edits_that_mean_nothing(trained: Shop, name: str, old: str, new: str) -> None:
    """Docstrings, comments, formatting, imports and unrelated names rerun nothing."""
    trained.edit(name, old, new)
    assert trained.stale() == []


@pytest.mark.parametrize(
    ("name", "old", "new", "steps", "named"),
    [
        ("pipeline.py", "ROUNDS = 30", "ROUNDS = 31", ["gbm", "gbm.evaluate"], "ROUNDS"),
        ("pipeline.py", "leaves: int = 7", "leaves: int = 8", ["gbm", "gbm.evaluate"], "leaves"),
        (
            "cleaning.py",
            "return column - mean",
            "return column - mean / 2",
            ["purchase.features", "gbm", "gbm.evaluate"],
            "scale",
        ),
    ],
)
def test_edits_that_mean_something(trained: Shop, name: str, old: str, new: str, steps: list[str], named: str) -> None:
    """A constant, a default or a helper in another module reruns what depends on it, and `why` names it."""
    trained.edit(name, old, new)
    assert trained.stale() == steps
    chain = trained.json("why", "gbm.evaluate")["items"]
    reasons = [reason["text"] for item in chain for reason in item["reasons"]]
    assert any(named in reason for reason in reasons), reasons
    assert trained.json("train")["ran"] == steps


def test_early_cutoff(trained: Shop) -> None:
    """A step that runs again and gives the same value stops the chain."""
    trained.edit("pipeline.py", '    rows = visits.sort("id")', '    rows = visits.sort("id", descending=False)')
    result = trained.json("train")
    assert result["ran"] == ["split"]
    assert {"means", "purchase.features", "gbm", "gbm.evaluate"} <= set(result["reused"])


def test_going_back_costs_nothing(trained: Shop) -> None:
    """Undoing an edit finds the old results."""
    trained.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    trained.json("train")
    trained.edit("pipeline.py", "ROUNDS = 31", "ROUNDS = 30")
    assert trained.json("train")["ran"] == []


def test_new_data(trained: Shop) -> None:
    """A new file makes a new snapshot; the champion's bundle scores the new rows, and both are compared there."""
    visits(1000, first_day=21, days=3, seed=1).write_parquet(trained.root / "data" / "visits-2.parquet")
    result = trained.json("train")
    assert "split" in result["ran"]
    verdict = trained.json("model", "show", "purchase@2")["verdict"]
    assert verdict["baseline"] == "purchase@1"
    assert verdict["gates"][0]["rows"] > 500
    assert verdict["gates"][0]["difference"] is not None


def test_parameters(trained: Shop) -> None:
    """-S stands over mlops.toml, which stands over the default; a typo names its neighbour."""
    assert trained.stale("-S", "gbm.leaves=7") == []
    assert trained.stale("-S", "leaves=15") == ["gbm", "gbm.evaluate"]
    (trained.root / "mlops.toml").write_text((trained.root / "mlops.toml").read_text() + "\n[params.gbm]\nleaves = 15\n")
    assert trained.stale() == ["gbm", "gbm.evaluate"]
    assert trained.stale("-S", "gbm.leaves=7") == []
    wrong = trained.mlops("plan", "-S", "gbm.leafs=7", code=2)
    assert "did you mean 'gbm.leaves'" in wrong.stderr
    wrong = trained.mlops("plan", "-S", "gbm.leaves=many", code=2)
    assert "expected int" in wrong.stderr


def test_force_and_dry_run(trained: Shop) -> None:
    """--dry-run runs nothing; --force runs everything and finds the same version."""
    assert trained.json("train", "--dry-run", "--force")["run"] == ""
    result = trained.json("train", "--force", "-m", "again")
    assert len(result["ran"]) == 5
    assert result["versions"] == ["purchase@1"]
    assert trained.json("runs")["items"][0]["message"] == "again"


def test_a_worse_model_is_stopped(trained: Shop) -> None:
    """A model without its best features fails the gate with numbers; the champion stays; --gate exits 3."""
    trained.edit(
        "pipeline.py", 'pages=scale(pl.col("pages"), means["pages"]), minutes=pl.col("minutes") - means["minutes"],', ""
    )
    done = trained.mlops("train", "--gate", code=3)
    assert "fail" in done.stdout + done.stderr
    view = trained.json("model", "show", "purchase@2")
    assert view["verdict"]["verdict"] == "fail"
    assert view["verdict"]["gates"][0]["high"] < -0.02
    assert trained.json("model", "show", "@champion")["version"]["id"] == "purchase@1"


def test_promote_and_rollback(trained: Shop) -> None:
    """A failing version is promoted only by force and with a reason; rollback brings the earlier champion back."""
    trained.edit("pipeline.py", 'pages=scale(pl.col("pages"), means["pages"]), ', "")
    trained.mlops("train")
    assert "--force" in trained.mlops("model", "promote", "purchase@2", code=4).stderr
    trained.mlops("model", "promote", "purchase@2", "--force", code=2)
    trained.mlops("model", "promote", "purchase@2", "--force", "--reason", "a test")
    assert "champion=purchase@2" in (trained.root / "mlops.lock").read_text()
    trained.mlops("model", "rollback", "--reason", "worse")
    views = {view["version"]["id"]: view for view in trained.json("model", "ls")["items"]}
    assert views["purchase@1"]["aliases"] == ["champion"]
    assert views["purchase@2"]["version"]["state"] == "rejected"
    assert "champion=purchase@1" in (trained.root / "mlops.lock").read_text()


def test_a_pass_counts_against_the_champion_of_today(trained: Shop) -> None:
    """What passed against an earlier champion is not promoted by hand until it was compared with the present one."""
    trained.edit(
        "mlops.toml", "[[models.purchase.gates]]", '[models.purchase]\npromote = "manual"\n\n[[models.purchase.gates]]'
    )
    for rounds in (31, 32):
        trained.edit("pipeline.py", f"ROUNDS = {rounds - 1}", f"ROUNDS = {rounds}")
        trained.mlops("train")
    trained.mlops("model", "promote", "purchase@2")
    refused = trained.mlops("model", "promote", "purchase@3", code=4)
    assert "passed against purchase@1, and purchase@2 is the champion now" in refused.stderr
    trained.mlops("train")
    assert trained.json("model", "show", "purchase@3")["verdict"]["baseline"] == "purchase@2"
    trained.mlops("model", "promote", "purchase@3")
    trained.mlops("model", "promote", "purchase@1")  # once champion: going back is a person's right


def test_a_moved_project_works(trained: Shop, tmp_path: Path) -> None:
    """No absolute path is kept: a renamed folder has nothing to do and the same champion."""
    trained.root = trained.root.rename(tmp_path / "elsewhere")
    assert trained.stale() == []
    assert trained.json("model", "show", "@champion")["version"]["id"] == "purchase@1"
