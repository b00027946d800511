"""Which git commit the script's folder is at, for a run that a script begins itself. Asks git once, and not for long.

The commit is read from .git as git wrote it. Whether tracked files differ from it only git knows: it is asked without
subprocess, whose import costs more than the answer. Never raises; what cannot be told is left out.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

VALID_S = 10.0
"""A loop of short runs asks once in so long; the code that runs was loaded before all of them."""
_WAIT_S = 0.3
"""Longer than in this time no run waits for git: in a large repository `dirty` may be left out."""
_LOOK_S = 0.001

_known: dict[Path, tuple[float, dict[str, Any]]] = {}


def of(root: Path) -> dict[str, Any]:
    """Return `commit`, and `dirty` where git told in time; nothing outside a repository or before its first commit."""
    at, found = _known.get(root, (0.0, {}))
    if root not in _known or time.monotonic() - at > VALID_S:
        try:
            commit = _head(root)
        except (OSError, ValueError):
            commit = ""
        dirty = _dirty(root) if commit else None
        found = {} if not commit else {"commit": commit} if dirty is None else {"commit": commit, "dirty": dirty}
        _known[root] = time.monotonic(), found
    return found


def _head(root: Path) -> str:
    """The commit that HEAD names; empty where there is none. Raises OSError, ValueError."""
    place = next((folder / ".git" for folder in (root, *root.parents) if (folder / ".git").exists()), None)
    if place is None:
        return ""
    if place.is_file():  # a linked worktree or a submodule: "gitdir: PATH"
        place = place.parent / place.read_text().removeprefix("gitdir:").strip()
    head = (place / "HEAD").read_text().strip()
    if not head.startswith("ref:"):
        return _checked(head)
    name, shared = head.removeprefix("ref:").strip(), place / "commondir"
    common = place / shared.read_text().strip() if shared.exists() else place
    if (common / name).is_file():
        return _checked((common / name).read_text().strip())
    for line in (common / "packed-refs").read_text().splitlines():
        if line.endswith(f" {name}"):
            return _checked(line.partition(" ")[0])
    return ""


def _checked(text: str) -> str:
    int(text, 16)
    return text if len(text) in (40, 64) else ""


def _dirty(root: Path) -> bool | None:
    """Whether tracked files differ from the commit; None where git is missing, fails or takes too long."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # those of a hook steer git
    words = ["git", "--no-optional-locks", "-C", str(root), "diff", "--quiet", "--no-ext-diff", "HEAD", "--"]
    silent = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    try:
        process = os.posix_spawnp("git", words, own, file_actions=silent)
        until = time.monotonic() + _WAIT_S
        while True:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return {0: False, 1: True}.get(os.waitstatus_to_exitcode(status))
            if time.monotonic() > until:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return None
            time.sleep(_LOOK_S)
    except OSError:  # no git, or this process has its children waited for by somebody else
        return None
