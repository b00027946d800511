"""Project modules from hashed bytes, compiled once for many processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_local.worker.finder import Finder, compiled, quietly_compiled
from mlops_local.worker.server import Module

NAME = "module_of_the_finder_tests"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("meta_path", "path"):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    yield
    sys.modules.pop(NAME, None)


def value(root: Path, data: bytes, ready: bytes, at: str = "") -> object:
    """What the module says when `data` are its bytes and `ready` is compiled."""
    path = f"{NAME}.py"
    made = compiled(at or str(root / path), data)._replace(code=compile(ready, path, "exec"))
    Finder(root, {NAME: Module(path, data)}, report=False, ready={NAME: made}).install()
    return __import__(NAME).value


def test_what_is_compiled_is_not_compiled_again(tmp_path: Path) -> None:
    """A module that was compiled from these very bytes at this very place runs as it is."""
    assert value(tmp_path, b"value = 1", b"value = 2") == 2


def test_what_was_compiled_elsewhere_is_compiled_again(tmp_path: Path) -> None:
    """Code of another place would name another file in its errors: it is not used."""
    assert value(tmp_path, b"value = 1", b"value = 2", at="/elsewhere.py") == 1


@pytest.mark.parametrize("text", ["x = 1 is 1", "def (", "\0", "a = '\\d'"], ids=["warns", "syntax", "null", "escape"])
def test_what_python_objects_to_is_left_to_its_importer(text: str, recwarn: pytest.WarningsRecorder) -> None:
    """Nothing is compiled ahead that Python warns of or refuses, and nothing is said of it."""
    assert quietly_compiled("/module.py", text.encode()) is None
    assert not recwarn.list
