"""Whether somebody else is at work in the tree just now: git, or the pre-commit framework with edits put aside."""

from __future__ import annotations

import os
import time
from pathlib import Path

_PATCH_S = 600.0
"""A patch file of the pre-commit framework older than this is not believed."""


def held(repository: Path | None) -> bool:
    """Say whether the files are in between two states and should not be looked at.

    Args:
        repository: git's own folder, if there is one.
    """
    return (repository is not None and (repository / "index.lock").exists()) or _stashed_by_pre_commit()


def _stashed_by_pre_commit() -> bool:
    """Whether the pre-commit framework has put unstaged edits aside for a moment: its patch file carries the process's id."""
    home = os.environ.get("PRE_COMMIT_HOME")
    cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  (never raises without HOME)
    patches = Path(home or f"{cache_home}/pre-commit").glob("patch*-*")
    return any(_young(patch) and _alive(patch.name.rpartition("-")[2]) for patch in patches)


def _young(file: Path) -> bool:
    try:
        return file.stat().st_mtime > time.time() - _PATCH_S
    except OSError:
        return False


def _alive(pid: str) -> bool:
    if not pid.isdigit() or int(pid) == 0:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
