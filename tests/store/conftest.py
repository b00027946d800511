"""A store in a temporary folder, and real processes that use it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_local.store import layout as layouts
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty store."""
    made = Layout(tmp_path / "project")
    made.root.mkdir()
    layouts.create(made)
    return made


@pytest.fixture
def store(layout: Layout) -> Iterator[Store]:
    """The same, to read and fold."""
    made = Store(layout, wait_s=20)
    yield made
    made.close()


@pytest.fixture
def start(layout: Layout) -> Iterator[Start]:
    """Start `python -c CODE ROOT ARGUMENTS...`; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(code: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(layout.root), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        with process:  # closes its pipes and waits
            pass
