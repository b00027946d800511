"""Stores that earlier formats of this program wrote open today and say what they said."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from mlops_local.store import layout as layouts
from mlops_local.store import ledger, projection, repair
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
from tests.store.test_projection import views

ASSETS = sorted((Path(__file__).parent / "assets").glob("store-*.zip"))


@pytest.mark.parametrize("asset", ASSETS, ids=lambda path: path.stem)
def test_a_store_of_an_earlier_format_opens_folds_and_rebuilds(asset: Path, tmp_path: Path) -> None:
    """Its views have the rows they had, a run that was going has crashed, and the database made anew says the same."""
    assert asset.stat().st_size < 200_000
    with zipfile.ZipFile(asset) as file:
        file.extractall(tmp_path)
    layout = Layout(tmp_path)
    layouts.create(layout)
    store = Store(layout)
    expected = json.loads((tmp_path / "expected.json").read_text())
    before = views(store)
    assert {view: len(before[view]) for view in expected} == expected
    projection.fold(store)
    folded = views(store)
    more = dict.fromkeys(("run", "metric", "metric_last"), 1)  # of the process that was going
    assert {view: len(folded[view]) for view in expected} == {view: n + more.get(view, 0) for view, n in expected.items()}
    assert {row[3] for row in folded["run"]} == {"done", "crashed"}
    assert len(ledger.read(layout)) == expected["decision"] and ledger.verify(layout) == [] and ledger.torn(layout) > 0
    (found,) = repair.check_given(store, fix=False)
    assert found.text.startswith(f"{len(folded['run'])} runs are from before an upgrade") and found.remedy == "mlops db rebuild"
    projection.rebuild(store)
    assert views(store) == folded and not list(repair.check_given(store, fix=False))
    store.close()
