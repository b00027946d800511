"""What is done to a library once it is loaded, whoever loads it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_local.worker.loading import when_loaded

NAME = "module_of_the_loading_tests"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{NAME}.py").write_text("numbers = [1]\n")
    yield
    sys.modules.pop(NAME, None)


def note(number: int) -> None:
    """Add a number to the loaded module's."""
    sys.modules[NAME].numbers.append(number)


def test_a_module_that_is_loaded_later_meets_the_action_once() -> None:
    """The action finds the module as its own code left it, before whoever imports it does; it is not repeated."""
    when_loaded(NAME, lambda: note(2))
    assert NAME not in sys.modules
    assert importlib.import_module(NAME).numbers == [1, 2]
    importlib.import_module(NAME)
    assert sys.modules[NAME].numbers == [1, 2]


def test_a_loaded_module_meets_the_action_at_once() -> None:
    """Nothing is waited for when the module is there."""
    importlib.import_module(NAME)
    when_loaded(NAME, lambda: note(2))
    assert sys.modules[NAME].numbers == [1, 2]


def test_of_several_actions_the_last_asked_for_comes_last() -> None:
    """A step that is seeded again is seeded with the newer seed."""
    for number in (2, 3, 4):
        when_loaded(NAME, lambda number=number: note(number))  # type: ignore[misc]
    assert importlib.import_module(NAME).numbers == [1, 2, 3, 4]


def test_a_finder_of_old_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something on the path of finders that cannot find hinders nothing, as it hinders no other import."""
    monkeypatch.setattr(sys, "meta_path", [object(), *sys.meta_path])
    when_loaded(NAME, lambda: note(2))
    assert importlib.import_module(NAME).numbers == [1, 2]


def test_other_modules_and_missing_ones_are_left_alone() -> None:
    """What is not waited for loads as ever, and what is not there stays missing."""
    when_loaded(f"{NAME}.missing", lambda: note(2))
    assert importlib.import_module(NAME).numbers == [1]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{NAME}.missing")
