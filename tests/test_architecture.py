"""The rules of the house that a linter or a search can prove."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlops_local"
LARGEST = 500
"""Lines of one module."""
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "templates" not in path.parts)


def _names(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def _calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def _last(call: ast.Call) -> str:
    """The last word of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _called(path: Path, *names: str) -> Iterator[int]:
    """Lines of the calls of these dotted names."""
    last = {name.rpartition(".")[2] for name in names}
    return (node.lineno for node in _calls(path) if _last(node) in last and ast.unparse(node.func) in names)


def test_imports_point_down() -> None:
    """The import contract of pyproject.toml holds."""
    program = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("path", MODULES, ids=_names)
def test_a_module_stays_readable(path: Path) -> None:
    """No module has more than 500 lines, and each says why it exists."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LARGEST
    assert ast.get_docstring(ast.parse(text)) or not text.strip()


def test_duckdb_is_connected_to_in_two_places_only() -> None:
    """One module opens the store, one engine profiles data in memory; nobody else connects."""
    places = {_names(path) for path in MODULES if any(_called(path, "duckdb.connect", "_duckdb.connect"))}
    assert {place for place in places if not place.startswith("mlops_local/engines/data/")} == {"mlops_local/store/database.py"}


def test_only_two_modules_write_to_the_terminal() -> None:
    """print, click.echo and the standard streams belong to output and diagnostics; the worker speaks its pipe."""
    allowed = {"mlops_local/cli/output.py", "mlops_local/cli/diagnostics.py"}
    loud = ("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write")
    found = {
        f"{_names(path)}:{line}"
        for path in MODULES
        if _names(path) not in allowed and not _names(path).startswith("mlops_local/worker/")
        for line in _called(path, *loud)
    }
    # A user's own process has no face of ours: the journal and the API warn there in their own words.
    assert {place for place in found if not place.startswith(("mlops_local/store/journal.py", "mlops_local/api/"))} == set()


def test_nobody_opens_the_database_file_but_duckdb() -> None:
    """Opening project.duckdb from Python silently drops DuckDB's lock: no call reads, copies or hashes that path."""
    readers = ("open", "read_bytes", "read_text", "copy", "copyfile", "copy2", "copytree")
    for path in MODULES:
        for node in _calls(path):
            if _last(node) in readers:
                whole = ast.unparse(node)
                assert ".database" not in whole and "project.duckdb" not in whole, f"{_names(path)}:{node.lineno}"


def test_no_module_is_a_drawer_for_everything() -> None:
    """A name says what is inside: no utils, helpers, common, base or manager."""
    assert not {path.stem for path in MODULES} & {"utils", "util", "helpers", "common", "base", "manager", "misc"}


@functools.cache
def _tests() -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every test function, by its place."""
    return {
        f"{path.relative_to(ROOT)}:{node.lineno}": node
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_test_says_what_it_promises() -> None:
    """Each test function has a docstring: the behaviour, in words."""
    assert [place for place, node in _tests().items() if not ast.get_docstring(node)] == []


def test_every_test_can_fail() -> None:
    """Each test itself asserts something or expects an error: none only waits for its helpers to fall over."""
    for place, node in _tests().items():
        expects = {_last(part) for part in ast.walk(node) if isinstance(part, ast.Call)} & {"raises", "warns"}
        assert expects or any(isinstance(part, ast.Assert) for part in ast.walk(node)), place
