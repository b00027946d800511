"""Which paths a source's pattern means, told from the path alone: for staged trees, deleted files and folders to watch.

Agrees with what `files.find` finds on disk. Pure text.
"""

from __future__ import annotations

import re
from functools import lru_cache

_MAGIC = frozenset("*?[")


def matches(pattern: str, path: str) -> bool:
    """Say whether a path relative to the root (POSIX form) is one the pattern means."""
    hidden = any(part.startswith(".") for part in pattern.split("/"))
    if not hidden and any(part.startswith(".") for part in path.split("/")):
        return False
    return not path.startswith(".mlops/") and _compiled(pattern).fullmatch(path) is not None


def folder(pattern: str) -> tuple[str, bool]:
    """Return the folder that holds everything the pattern can mean, and whether its subfolders may hold some too."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    fixed: list[str] = []
    for part in parts[:-1]:
        if not _MAGIC.isdisjoint(part):
            break
        fixed.append(part)
    return "/".join(fixed) or ".", len(fixed) < len(parts) - 1


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    text = ""
    for part in parts[:-1]:
        text += "(?:[^/]+/)*" if part == "**" else _segment(part) + "/"
    # In pathlib a last `**` means folders only, so it names no file.
    text += "(?!)" if not parts or parts[-1] == "**" else _segment(parts[-1])
    return re.compile(text, re.DOTALL)


def _segment(part: str) -> str:
    text = ""
    index = 0
    while index < len(part):
        sign = part[index]
        end = part.find("]", index + 2) if sign == "[" else -1
        if end > 0:
            body = part[index + 1 : end]
            text += "[^/" if body.startswith("!") else "["
            text += "".join(one if one == "-" else re.escape(one) for one in body.removeprefix("!")) + "]"
            index = end + 1
            continue
        text += {"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign))
        index += 1
    return text
