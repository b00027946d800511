"""Which paths a source's pattern means, told from the path alone: for staged trees, deleted files and folders to watch.

Agrees with what `files.find` finds on disk: a path without signs may be a folder, and then means all files below it. Where a
pattern has names in braces (`photos/{label}/*.jpg`), what stands in their place in a path are the file's labels. Pure text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_MAGIC = frozenset("*?[")
_NAME = re.compile(r"\{([A-Za-z_]\w*)\}")


def matches(pattern: str, path: str) -> bool:
    """Say whether a path relative to the root (POSIX form) is one the pattern means."""
    hidden = any(part.startswith(".") for part in pattern.split("/"))
    if not hidden and any(part.startswith(".") for part in path.split("/")):
        return False
    return not path.startswith(".mlops/") and _compiled(pattern).fullmatch(path) is not None


def folders(pattern: str) -> dict[str, bool]:
    """Return the folders that hold everything the pattern can mean, and of each whether its subfolders may hold some too."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    fixed: list[str] = []
    for part in parts[:-1]:
        if not _MAGIC.isdisjoint(part):
            break
        fixed.append(part)
    found = {"/".join(fixed) or ".": len(fixed) < len(parts) - 1 or parts[-1:] == ["**"]}
    return found | {"/".join(parts): True} if parts and _MAGIC.isdisjoint(pattern) else found


def names(pattern: str) -> tuple[str, ...]:
    """Return the names in braces, in their order. `[{]name}` is a brace of the path."""
    return tuple(_NAME.findall(pattern))


def unnamed(pattern: str) -> str:
    """Return the pattern that means the same files: `*` in the place of each name."""
    return _NAME.sub("*", pattern)


def labels(pattern: str, paths: Iterable[str]) -> dict[str, list[str]]:
    """Return name -> what stands in its place in each of these paths."""
    if not names(pattern):
        return {}
    compiled = re.compile(expression(pattern), re.DOTALL)
    found = [compiled.fullmatch(path) for path in paths]
    return {name: [match[name] if match else "" for match in found] for name in names(pattern)}


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(expression(pattern, named=False), re.DOTALL)


def expression(pattern: str, *, named: bool = True) -> str:
    """Return a regular expression for the paths a pattern means; a name in braces is a group, as short as can be."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    text = ""
    for part in parts[:-1]:
        text += "(?:[^/]+/)*" if part == "**" else _segment(part, named) + "/"
    if not parts or parts[-1] == "**":
        return text + (".+" if parts else "(?!)")
    below = "(?:/.+)?" if _MAGIC.isdisjoint(parts[-1]) and not _NAME.search(parts[-1]) else ""
    return text + _segment(parts[-1], named) + below


def _segment(part: str, named: bool) -> str:
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
        if named and (name := _NAME.match(part, index)):
            text += f"(?P<{name[1]}>[^/]*?)"
            index = name.end()
            continue
        text += {"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign))
        index += 1
    return text
