"""What is kept of a version of the code spares work and changes no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_local.engines.pipeline import fingerprint, sources
from mlops_local.services import planning
from mlops_local.services.project import find

PIPELINE = """\
import mlops_local as mlops

try:
    from helper import FACTOR
except ImportError:
    FACTOR = 1


@mlops.step
def first() -> int:
    return FACTOR


@mlops.step
def second(first: int) -> int:
    return first
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "small"\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return tmp_path


def plan(root: Path, *targets: str) -> dict[str, str]:
    """The fingerprint of each step that can have one, as a new process would find it."""
    project = find(root)
    try:
        return {decision.name: decision.fingerprint for decision in planning.plan(project, targets).decisions}
    finally:
        project.store.close()


def test_code_that_was_planned_is_neither_parsed_nor_analysed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second plan of the same code asks neither the parser nor the analysis, and says the same."""
    before = plan(root)

    def never(*arguments: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(fingerprint, "parts", never)
    monkeypatch.setattr(sources, "imports", never)
    assert plan(root) == before


def test_steps_asked_for_later_are_added(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan of one step keeps what it found; one of more steps works out the rest only."""
    plan(root, "first")
    asked: list[str] = []
    original = fingerprint.parts
    monkeypatch.setattr(fingerprint, "parts", lambda step, *rest: asked.append(step.name) or original(step, *rest))  # type: ignore[func-returns-value]
    plan(root)
    plan(root)
    assert asked == ["second"]


def test_a_module_that_appears_where_it_was_looked_for_is_found(root: Path) -> None:
    """Nothing that was known changed, and yet the code is another: a file stands where there was none."""
    before = plan(root)
    (root / "helper.py").write_text("FACTOR = 2\n")
    changed = plan(root)
    assert changed["first"] != before["first"]
    (root / "helper.py").unlink()
    assert plan(root) == before


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"modules": 3, "looked for": 4}', '{"every": [[1]], "steps": {"first": [7]}}']
)
def test_damaged_notes_are_made_again(root: Path, damage: str) -> None:
    """What is kept can be lost or wrong in form without changing an answer."""
    before = plan(root)
    for kind in ("trace", "parts"):
        for path in (root / ".mlops" / "cache" / kind).glob("*.json"):
            path.write_text(damage)
    assert plan(root) == before
