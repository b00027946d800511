"""How a change's line is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlops_local.cli import watching
from mlops_local.domain.progress import Progress

ROWS = [
    ["pipeline.py", "ran gbm, gbm.evaluate", "reused 5", "32.5 s"],
    ["delay@2 auc 0.7229", "-0.0005 against delay@1", "pass"],
]


@pytest.mark.parametrize("width", [None, 200])
def test_with_room_it_is_one_line(width: int | None) -> None:
    """In a pipe and in a wide terminal everything is on one line."""
    (line,) = watching._fitted(ROWS, "done", width)
    assert line[9:] == "✓ " + " · ".join(ROWS[0] + ROWS[1])


def test_a_narrow_terminal_breaks_it_between_its_parts() -> None:
    """At 60 columns no line is longer, no part is torn, and what follows is indented."""
    lines = watching._fitted(ROWS, "fail", 60)
    assert lines[0][9:] == "✗ pipeline.py · ran gbm, gbm.evaluate · reused 5"
    assert lines[1:] == [" " * 11 + "32.5 s", " " * 11 + "delay@2 auc 0.7229 · -0.0005 against delay@1", " " * 11 + "pass"]


@pytest.mark.parametrize(("verdict", "sign"), [("pass", "done"), ("fail", "fail"), ("inconclusive", "inconclusive")])
def test_a_version_that_did_not_pass_shows_in_the_sign(verdict: str, sign: str) -> None:
    """The worst verdict counts; where nothing ran there is none."""
    data: dict[str, Any] = {"state": "done", "models": [{"verdict": "pass"}, {"verdict": verdict}]}
    assert watching._outcome(data) == sign
    assert watching._outcome({**data, "state": "nothing"}) == "nothing"


def test_jsonl_is_one_object_a_line_with_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines carry schema, time, event and what the line says; a run's other talk is left out."""
    watching._stream(
        Progress("watch", "a · b", data={"state": "done", "rows": [["a", "b"]], "changed": ["a\nb"], "seconds": 1.5})
    )
    watching._stream(Progress("step_ended", "gbm: done", step="gbm", data={"state": "done", "report": {"x": 1}}))
    watching._stream(Progress("snapshot", "flights"))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first.pop("at").endswith("Z")
    assert first == {"schema": "mlops/watch@1", "event": "done", "text": "a · b", "changed": ["a\nb"], "seconds": 1.5}
    assert second["event"] == "step_ended" and second["step"] == "gbm" and second["state"] == "done" and "report" not in second
