"""What starting a command loads, seen from inside a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = frozenset(
    "duckdb _duckdb polars numpy pandas onnx onnxruntime lightgbm sklearn torch textual rich watchdog uvicorn uvloop httptools "
    "prometheus_client psutil backports blake3 msgspec".split()
)
REPORT = (
    "import atexit, json, sys\n"
    "atexit.register(lambda: print('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules}))))\n"
)
CALL = "sys.argv = ['mlops', *json.loads(sys.stdin.read())]\nfrom mlops_local.cli.main import main\nmain()\n"


def loaded(code: str, *arguments: str, cwd: Path = ROOT) -> set[str]:
    """Top-level modules in the process when it ends."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS")}
    ended = subprocess.run(
        [sys.executable, "-c", REPORT + code],
        input=json.dumps(arguments),
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return set(json.loads(ended.stdout.splitlines()[-1]))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with nothing in it."""
    (tmp_path / "mlops.toml").write_text("[project]\nname = 'empty'\n")
    return tmp_path


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["-h"], []])
def test_starting_costs_click_and_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    """`mlops --help`, `--version` and bare `mlops` outside a project load no library but click."""
    modules = loaded(CALL, *arguments, cwd=tmp_path)
    assert "click" in modules and not modules & HEAVY


def test_help_loads_only_the_standard_library_click_and_us(tmp_path: Path) -> None:
    """Whatever library is added tomorrow: `mlops --help` does not load it."""
    allowed = set(sys.stdlib_module_names) | {"click", "mlops_local", "__main__", "sitecustomize", "usercustomize"} | loaded("")
    assert not loaded(CALL, "--help", cwd=tmp_path) - allowed


def test_help_loads_just_a_handful_of_our_modules(tmp_path: Path) -> None:
    """No command's module loads to show the list of commands."""
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print('\\n'.join(name for name in sys.modules if name.startswith('mlops_local'))))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code + CALL],
        input='["--help"]',
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    ours = {line for line in ended.stdout.splitlines() if line.startswith("mlops_local")}
    assert ours == {
        "mlops_local",
        "mlops_local.cli",
        "mlops_local.cli.context",
        "mlops_local.cli.diagnostics",
        "mlops_local.cli.ending",
        "mlops_local.cli.main",
        "mlops_local.domain",
        "mlops_local.domain.errors",
    }


def test_status_loads_duckdb_and_nothing_else_heavy(project: Path) -> None:
    """`mlops status` is instant: no numpy, no polars, no terminal library."""
    assert not (loaded(CALL, "status", cwd=project) & HEAVY) - {"duckdb", "_duckdb", "msgspec", "blake3", "backports"}


@pytest.mark.parametrize("command", ["train", "plan", "check"])
def test_daily_commands_load_no_face(command: str, project: Path) -> None:
    """Training and checking never load the interface or the server."""
    assert not loaded(CALL, command, cwd=project) & {"textual", "rich", "uvicorn", "onnxruntime"}


def test_importing_the_package_costs_nothing() -> None:
    """`import mlops_local` in a user's script loads none of the heavy libraries."""
    assert not loaded("import mlops_local") & HEAVY


@pytest.mark.parametrize(
    "module", ["mlops_local.api", "mlops_local.worker", "mlops_local.store.journal", "mlops_local.domain.plan"]
)
def test_what_runs_in_the_users_interpreter_needs_only_the_standard_library(module: str) -> None:
    """Worker, API, journal and domain import without any of our dependencies (msgspec where it is there)."""
    assert not loaded(f"import {module}") & (HEAVY - {"msgspec"} | {"click"})
