"""Keep the traceback of a bug of ours where the user can find it, in .mlops/logs/crash.log; never raises."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

from mlops_local.store.layout import Layout, find_root

_LARGEST_BYTES = 10 * 1024 * 1024
_KEPT = 5


def record(start: Path, text: str, *, version: str) -> Path | None:
    """Append a traceback to the project's crash log.

    Args:
        start: a folder in the project.
        text: the traceback.
        version: this program's version.

    Returns:
        The log's path, or None when there is no project or it cannot be written.
    """
    try:
        root = find_root(start)
        if root is None:
            return None
        log = Layout(root).logs / "crash.log"
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _rotate(log)
        head = f"--- {datetime.now(timezone.utc).isoformat()} mlops {version} python {platform.python_version()}\n"
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(head + text + "\n")
        return log
    except OSError:
        return None


def _rotate(log: Path) -> None:
    if not log.exists() or log.stat().st_size < _LARGEST_BYTES:
        return
    for number in range(_KEPT - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log.with_name(f"{log.name}.{number - 1}") if number > 1 else log
        if newer.exists():
            newer.replace(older)
