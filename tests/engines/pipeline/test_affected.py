"""Which steps an edit affects."""

from __future__ import annotations

from mlops_local.domain.graph import Input, Step
from mlops_local.engines.pipeline.affected import affected

STEPS = (
    Step("split", "step", (), (Input("rows", "visits"),)),
    Step("means", "step", (), (Input("train", "split"),)),
    Step("other", "step", (), (Input("rows", "weather"),)),
    Step("gbm", "candidate", (), (Input("train", "split"), Input("means", "means"))),
)
BEFORE = {step.name: "1" for step in STEPS}


def test_a_changed_step_affects_itself_and_what_follows() -> None:
    """Steps before it and beside it are not affected."""
    assert affected(STEPS, BEFORE, {**BEFORE, "means": "2"}) == {"means", "gbm"}
    assert affected(STEPS, BEFORE, BEFORE) == frozenset()


def test_a_changed_source_affects_its_readers_and_what_follows() -> None:
    """Only the steps that read it, directly or not."""
    assert affected(STEPS, BEFORE, BEFORE, ["weather"]) == {"other"}
    assert affected(STEPS, BEFORE, BEFORE, ["visits"]) == {"split", "means", "gbm"}


def test_a_step_that_is_gone_is_affected() -> None:
    """What cannot be compared counts as changed."""
    assert affected(STEPS, BEFORE, {name: "1" for name in BEFORE if name != "other"}) == {"other"}
