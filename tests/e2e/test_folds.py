"""A model judged in folds, from end to end: pooled answers are the evaluation, the version learned from everything."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
from tests.e2e.conftest import CONFIG, PIPELINE, Shop, make_shop, rebuilt_is_the_same, visits

ROLLING = """\
@mlops.step
def dated(visits: pl.DataFrame) -> pl.DataFrame:
    return visits.sort("id").with_columns(date=pl.col("day").str.to_date())


split = mlops.rolling("date", rows=dated, test="2d", folds=2)


"""


@pytest.fixture
def folded(tmp_path: Path) -> Shop:
    """The shop, its split replaced by two walk-forward folds of two days."""
    shop = make_shop(tmp_path / "shop")
    start, end = PIPELINE.index("class Split"), PIPELINE.index("@mlops.step\ndef means")
    text = PIPELINE[:start] + ROLLING + PIPELINE[end:]
    (shop.root / "pipeline.py").write_text(text.replace("valid: mlops.XY, *", "valid: mlops.XY, folds: list, *"))
    shop.edit(
        "pipeline.py",
        "    options = {",
        '    print(f"{len(folds)} models of folds, {len(train) + len(valid)} rows")\n    options = {',
    )
    return shop


@pytest.mark.slow
def test_folds_are_pooled_kept_one_by_one_and_moved_on(folded: Shop) -> None:
    """The evaluation is of held-out rows, each once; a parameter reruns every fold; new days rerun the newest fold alone."""
    done = folded.json("train", "-S", "leaves=5")
    again = ["means", "purchase.features", "gbm", "gbm.evaluate"]
    assert set(done["ran"]) == {"dated", *(f"{name}{at}" for name in ["split", *again] for at in ("", "[1]", "[2]"))}
    seen = {path.stem: path.read_text().strip() for path in (folded.root / ".mlops" / "logs" / done["run"]).glob("gbm*.log")}
    known = visits(3000).filter(pl.col("spent").is_not_null())
    assert seen["gbm"] == f"2 models of folds, {known.height} rows", "the last fit has every row"
    assert seen["gbm[1]"].startswith("0 models of folds")
    shown = folded.json("model", "show", "purchase@1")
    held_out = known.filter(pl.col("day") >= "2026-05-17").sort("id")
    store = Store(Layout(folded.root))
    with store.reader() as db:
        rows = db.execute(
            "SELECT (keys->>'id')::BIGINT AS id, label, prediction, keys->>'day' FROM evaluation ORDER BY id"
        ).fetchall()
    store.close()
    assert [row[0] for row in rows] == held_out["id"].to_list()
    assert shown["version"]["value"] == pytest.approx(roc_auc_score([row[1] for row in rows], [row[2] for row in rows]))
    for fold, days in ((1, ("2026-05-17", "2026-05-18")), (2, ("2026-05-19", "2026-05-20"))):
        of_days = [row for row in rows if row[3] in days]
        auc = roc_auc_score([row[1] for row in of_days], [row[2] for row in of_days])
        line = shown["report"]["folds"][fold - 1]
        assert (line["fold"], line["rows"], line["metrics"]["auc"]) == (fold, len(of_days), pytest.approx(auc))
    assert f"{held_out.height} rows held out in 2 folds" in folded.mlops("model", "show", "purchase@1").stdout

    stale = folded.stale()
    assert {name for name in stale if name.startswith("gbm")} == {
        f"gbm{what}{at}" for what in ("", ".evaluate") for at in ("", "[1]", "[2]")
    }, "-S held for every fold"
    assert not [name for name in stale if not name.startswith("gbm")]

    assert set(shown["report"]["seen"]) == {"train", "held out"}
    (folded.root / "mlops.toml").write_text(CONFIG.replace("[[models", "[models.purchase]\nmax_gap = 0.001\n\n[[models"))
    assert "on held out" in folded.mlops("model", "show", "purchase@1").stderr

    visits(200, first_day=21, days=2, seed=2).write_parquet(folded.root / "data" / "visits-2.parquet")
    moved = folded.json("train", "-S", "leaves=5")
    assert not {f"{name}[1]" for name in again} & set(moved["ran"]), "the window before was learned from already"
    assert {"purchase.features[2]", "gbm[2]", "gbm.evaluate[2]"} <= set(moved["ran"])
    assert "means[2]" not in moved["ran"], "the last fit had learned from just those rows"
    assert moved["verdicts"] == {"purchase@2": "pass"}
    gate = folded.json("model", "show", "purchase@2")["verdict"]["gates"][0]
    fresh = visits(200, first_day=21, days=2, seed=2)["spent"].count()
    assert gate["rows"] == fresh, "purchase@1 learned from all older days: only the new ones compare"
    rebuilt_is_the_same(folded)
