"""One label or several: what is computed for each target, and what it is called."""

from __future__ import annotations

import polars as pl
import pytest

from mlops_local.domain.errors import StepFailed
from mlops_local.domain.graph import Model, Symbol
from mlops_local.engines.models import targets

ONE = Model("delay", "split", Symbol("p", "features"), metric="auc")
TWO = Model("delay", "split", Symbol("p", "features"), metric="late.auc", targets=("late", "minutes"))
LATE, MINUTES = pl.Series("late", [0, 1, 1]), pl.Series("minutes", [1.0, 20.0, 30.0])
CHANCE, GUESS = pl.Series([0.1, 0.9, 0.2]), pl.Series([2.0, 19.0, 30.0])


def test_names_say_the_target_only_where_there_are_several() -> None:
    """Metrics and columns of one label have plain names; the primary metric's target stands in the plain columns too."""
    y = targets.labels(ONE, LATE)
    assert targets.values(ONE, y, {"": CHANCE})["auc"] == 1.0
    assert targets.frame(ONE, y, {"": CHANCE}).columns == ["label", "prediction"]
    both = targets.labels(TWO, pl.DataFrame([LATE, MINUTES]))
    answers = {"late": CHANCE, "minutes": GUESS}
    found = targets.values(TWO, both, answers)
    assert found["late.auc"] == 1.0 and found["minutes.mae"] == pytest.approx(2 / 3)
    assert {name.partition(".")[0] for name in found} == {"late", "minutes"}
    frame = targets.frame(TWO, both, answers)
    assert frame["prediction"].to_list() == frame["prediction.late"].to_list() == CHANCE.to_list()
    assert targets.of_frame(TWO, frame, "label")["minutes"].to_list() == MINUTES.to_list()
    assert targets.primary(TWO) == ("late", "auc") and targets.primary(ONE) == ("", "auc")


def test_a_model_for_every_target() -> None:
    """A candidate of several targets returns a dict of them; anything else is said with what was returned."""
    assert targets.fitted(ONE, "model", "") == "model"
    assert targets.fitted(TWO, {"late": 1, "minutes": 2}, "minutes") == 2
    with pytest.raises(StepFailed, match="returned a str; its targets are late, minutes"):
        targets.fitted(TWO, "model", "late")
    with pytest.raises(StepFailed, match="returned models for late; its targets"):
        targets.fitted(TWO, {"late": 1}, "late")


def test_folds_that_answered_other_rows_are_refused() -> None:
    """The pooled labels must be those of the held-out rows, for each target."""
    y = targets.labels(TWO, pl.DataFrame([LATE, MINUTES]))
    frame = targets.frame(TWO, y, {"late": CHANCE, "minutes": GUESS})
    pooled = targets.pooled(TWO, [frame[:1], frame[1:]], y)
    assert pooled["minutes"].to_list() == GUESS.to_list()
    with pytest.raises(StepFailed, match="other rows than the split holds out"):
        targets.pooled(TWO, [frame[1:], frame[:1]], y)
