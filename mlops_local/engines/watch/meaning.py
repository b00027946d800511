"""What a file of code means to the watcher: its content without what cannot matter. Pure.

Equal meanings declare the same graph; whether a step's result could differ all the same (a docstring it reads) is for the
fingerprint to say. What does not parse means its bytes and nothing else.
"""

from __future__ import annotations

import ast
import hashlib
import tomllib
import warnings
from functools import lru_cache

_BROKEN = "broken "


def digest(content: bytes | None) -> str:
    """Hash a file's bytes; empty for a file that is not there."""
    return "" if content is None else hashlib.blake2b(content, digest_size=16).hexdigest()


@lru_cache(maxsize=512)
def meaning(path: str, content: bytes | None) -> str:
    """Return the file without comments, formatting and docstrings, as a hash. What is neither Python nor TOML is its bytes."""
    if content is None:
        return "absent"
    if not path.endswith((".py", ".toml")):
        return digest(content)
    try:
        text = repr(tomllib.loads(content.decode("utf-8"))) if path.endswith(".toml") else _tree(content)
    except (SyntaxError, ValueError, RecursionError):
        return _BROKEN + digest(content)
    return digest(text.encode("utf-8", "surrogatepass"))


def whole(path: str, content: bytes | None) -> bool:
    """Say whether a file parses, or is gone."""
    return not meaning(path, content).startswith(_BROKEN)


def problem(path: str, content: bytes | None) -> str:
    """Say in a few words why a file does not parse: `pipeline.py, line 31: invalid syntax`; empty when it does."""
    if content is None or whole(path, content):
        return ""
    try:
        tomllib.loads(content.decode("utf-8")) if path.endswith(".toml") else _tree(content)
    except SyntaxError as error:
        return f"{path}, line {error.lineno}: {error.msg}" if error.lineno else f"{path}: {error.msg}"
    except (ValueError, RecursionError) as error:
        return f"{path}: {error}"
    return ""


def _tree(content: bytes) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            node.body = node.body[1:]
    return ast.dump(tree)
