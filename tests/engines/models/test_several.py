"""A bundle of several targets answers each as the target's own bundle does."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mlops_local.domain.errors import IntegrityError
from mlops_local.engines.models import bundle, predictor, score, several
from tests.engines.models import made

ROWS = pl.DataFrame(made.GOLDEN_ROWS)


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """Two targets; the second model reads the features in the other order. The folder's name looks like a pattern."""
    folder = tmp_path / "gbm[1]"
    made.write(folder / "late", made.files())
    swapped = {**made.files(features=("code", "x")), bundle.ONNX: made.linear(tuple(reversed(made.WEIGHTS)))}
    made.write(folder / "minutes", swapped)
    several.build(folder, ("late", "minutes"), label="two", metric="late.auc")
    return folder


def test_every_target_is_answered_by_its_own_model(both: Path) -> None:
    """As columns in this process and in a fresh one, and as an object a row for the server."""
    loaded = predictor.load(both, "delay@1")
    expected = pytest.approx(made.expected(made.GOLDEN_ROWS), rel=1e-4)
    for table in (loaded.table(ROWS), score.fresh_table(both, ROWS)):
        assert table.columns == ["late", "minutes"]
        assert table["late"].to_list() == expected and table["minutes"].to_list() == expected
    assert loaded.answers(ROWS) == loaded.table(ROWS).to_dicts()
    assert loaded.predict(ROWS.clear()).shape == (0, 2)
    assert (loaded.targets, loaded.form, loaded.version) == (("late", "minutes"), "several", "delay@1")
    assert loaded.signature == made.SIGNATURE and loaded.golden_ok()
    assert pl.read_parquet(both / bundle.GOLDEN, glob=False).columns == ["x", "carrier"]


def test_a_target_that_answers_otherwise_is_named(both: Path) -> None:
    """Each target's golden rows are answered before any of them may serve."""
    (both / "minutes" / bundle.ONNX).write_bytes(made.linear((9.0, 9.0)))
    assert predictor.load(both).golden_problem().startswith("minutes: ")


def test_a_target_that_is_gone_is_an_incomplete_bundle(both: Path) -> None:
    """What the manifest names must be there."""
    (both / "late" / bundle.MANIFEST).unlink()
    with pytest.raises(IntegrityError, match=bundle.MANIFEST):
        predictor.load(both)


def test_one_model_is_still_a_bundle_of_format_1(both: Path) -> None:
    """Programs before targets read it; one of several is of another format."""
    single = (both / "late" / bundle.MANIFEST).read_bytes()
    assert b"targets" not in bundle.write_manifest(bundle.read_manifest(single))
    assert bundle.read_manifest(single).format == 1
    assert bundle.read_manifest((both / bundle.MANIFEST).read_bytes()).format == 2
