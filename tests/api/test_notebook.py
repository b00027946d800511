"""A run in a notebook: begun in one cell, logged to in others, ended in the last, with the cells that were executed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mlops_local as mlops
from mlops_local.store import objects
from mlops_local.store.layout import Layout
from tests.api.conftest import Lines


class History:
    """What IPython's history manager has: the cells of this session."""

    def __init__(self) -> None:
        self.cells: list[str] = [""]

    def get_range(self, session: int, start: int, stop: int, *, raw: bool) -> list[tuple[int, int, str]]:
        assert session == 0 and raw
        return [(0, number, self.cells[number]) for number in range(start, min(stop, len(self.cells)))]


class Shell:
    """An interactive shell as far as a run asks it: stores a cell's source, then executes it."""

    def __init__(self) -> None:
        self.execution_count = 1
        self.history_manager = History()
        self.names: dict[str, Any] = {}

    def run_cell(self, source: str) -> None:
        self.history_manager.cells.append(source)
        exec(source, self.names)
        self.execution_count += 1


def scenario(shell: Any, project: Path, lines: Lines) -> list[str]:
    """Two runs, the second begun while the first goes on; returns the cells that were kept of each."""
    shell.run_cell("import mlops_local as mlops")
    shell.run_cell("run = mlops.run('first').start()")
    shell.run_cell("token = 'sk-abcdefghijklmnop0123'\nmlops.log(1, loss=0.5)")
    shell.run_cell("run = mlops.run('again').start()")
    shell.run_cell("mlops.log(1, loss=0.25)")
    shell.run_cell("run.end()")
    kept = [line for line in lines("artifact") if line["path"] == "notebook.py"]
    assert [line["state"] for line in lines("run_ended")] == ["done", "done"]
    assert not lines("tag"), "the second is no child of the first"
    assert len({line["r"] for line in lines("m")}) == 2
    return [objects.get(Layout(project), line["object"]).decode() for line in kept]


FIRST = (
    "# In [2]:\nrun = mlops.run('first').start()\n\n# In [3]:\ntoken = '***'\nmlops.log(1, loss=0.5)\n\n"
    "# In [4]:\nrun = mlops.run('again').start()\n"
)
AGAIN = "# In [4]:\nrun = mlops.run('again').start()\n\n# In [5]:\nmlops.log(1, loss=0.25)\n\n# In [6]:\nrun.end()\n"


def test_cells_are_kept(project: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the cell that began the run to the one that ended it, secrets struck out; beginning another ends the one before."""
    shell, module = Shell(), ModuleType("IPython")
    monkeypatch.setattr(module, "get_ipython", lambda: shell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert scenario(shell, project, lines) == [FIRST, AGAIN]


def test_cells_of_a_real_shell(project: Path, lines: Lines) -> None:
    """The same in IPython itself, where it is installed."""
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    from traitlets.config import Config

    shell = interactive.InteractiveShell.instance(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))
    try:
        assert scenario(_Stored(shell), project, lines) == [FIRST, AGAIN]
    finally:
        interactive.InteractiveShell.clear_instance()


class _Stored:
    """A real shell, asked to keep its cells."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def run_cell(self, source: str) -> None:
        self._shell.run_cell(source, store_history=True).raise_error()


def test_outside_a_notebook_there_are_none(project: Path, lines: Lines) -> None:
    """A script's run keeps no cells."""
    with mlops.run():
        pass
    assert not lines("artifact")
