"""The newest runs in a small file beside what was folded, so that a status with nothing new loads no DuckDB."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import MlopsError
from mlops_local.domain.runs import Run, RunState
from mlops_local.store import files, history, projection
from mlops_local.store.database import Store

KEPT = 20
"""Runs in the file."""


def newest(store: Store, limit: int) -> tuple[list[Run], int]:
    """Fold what is new; return the newest runs, newest first, and how many there are in all. Raises as `projection.fold`.

    Args:
        store: the project's store.
        limit: at most so many, and no more than KEPT.
    """
    projection.fold(store)
    path = store.layout.cache / "recent.json"
    # Taken before the database is read: what is folded in between makes the file stale, never wrong.
    state = _state(store)
    kept = _load(path)
    if kept is not None and state and kept.get("state") == state:
        try:
            return [_run(item) for item in kept["runs"]][:limit], int(kept["total"])
        except (KeyError, TypeError, ValueError):
            pass
    with store.reader() as db:
        runs, total = history.page(db, limit=KEPT)
    with suppress(MlopsError):  # it only spares work: a folder that takes nothing is no reason to answer nothing
        files.replace(path, json.dumps({"state": state, "total": total, "runs": [_plain(run) for run in runs]}).encode())
    return runs[:limit], total


def _state(store: Store) -> str:
    """What the last fold left: changes with every fold and every rebuild."""
    try:
        stat = store.layout.folded.stat()
    except OSError:
        return ""
    return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"


def _load(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _plain(run: Run) -> dict[str, Any]:
    return {**asdict(run), "state": run.state.value}


def _run(value: dict[str, Any]) -> Run:
    return Run(
        **{**value, "state": RunState(value["state"]), "targets": tuple(value["targets"]), "notes": tuple(value["notes"])}
    )
