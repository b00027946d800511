"""Versions a script made that no command has registered yet: one file each, left by the script, taken by the next command.

A script may run where nothing else of ours does; it leaves what it made and the services judge it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_local.store import files
from mlops_local.store.layout import Layout


def leave(layout: Layout, name: str, value: Mapping[str, Any]) -> None:
    """Leave a made version. Raises MlopsError when it cannot be written."""
    folder = layout.state / "pending"
    folder.mkdir(mode=0o700, exist_ok=True)
    files.replace(folder / f"{name}.json", json.dumps(value).encode(), sync=True)


def waiting(layout: Layout) -> list[tuple[Path, dict[str, Any]]]:
    """The versions left, oldest first; a damaged file is not one."""
    found = []
    for path in (layout.state / "pending").glob("*.json"):
        try:
            value, left = json.loads(path.read_bytes()), path.stat().st_mtime_ns
        except (OSError, ValueError):
            continue
        if isinstance(value, dict):
            found.append((left, path, value))
    return [(path, value) for _, path, value in sorted(found, key=lambda item: item[:2])]


def taken(path: Path) -> None:
    """The version is registered: forget the file."""
    path.unlink(missing_ok=True)
