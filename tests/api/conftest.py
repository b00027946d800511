"""A project a script works in, with the test as the script; and every journal line, read by nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_local.api import recording
from mlops_local.api.process import process

Lines = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project as the working folder; what the test began is ended and its journal closed."""
    for name in ("MLOPS_RUN", "MLOPS_STATE", "MLOPS_MODE", "MLOPS_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "project"
    root.mkdir()
    (root / "mlops.toml").write_text('[project]\nname = "script"\n')
    monkeypatch.chdir(root)
    monkeypatch.setattr(process, "joined", False)
    monkeypatch.setattr(process, "base", None)
    yield root
    for run in reversed(process.stack):
        run.end()
    kept = recording._recorders.pop(root / ".mlops", None)
    if kept is not None:
        kept.journal.close()


@pytest.fixture
def lines(project: Path) -> Lines:
    """Every journal line so far, or those of one kind."""

    def read(kind: str = "") -> list[dict[str, Any]]:
        for kept in recording._recorders.values():
            kept.journal.flush()
        paths = sorted((project / ".mlops" / "journal").glob("*.jsonl"))
        found = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        return [line for line in found if kind in ("", line["k"])]

    return read
