"""Note what a script and its Python child processes read, and the arguments it declares; the script itself runs unchanged.

`mlops init --script` puts a `sitecustomize` on the script's PYTHONPATH that calls `begin`; what is noted goes to the folder
that MLOPS_WITNESS names. Python 3.10, standard library.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from mlops_local.worker.reads import Reads

FOLDER = "MLOPS_WITNESS"
"""Names the folder that has the request and takes the notes."""
SCRIPT = "MLOPS_WITNESS_SCRIPT"
"""Set for the one process that is the script itself, not for those it starts."""
REQUEST = "request.json"
READS, ARGUMENTS = "reads.jsonl", "arguments.json"


class _Told(dict[str, str]):
    """What was read, written down at once: a process may end in any way, also as a fork."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __setitem__(self, file: str, name: str) -> None:
        super().__setitem__(file, name)
        os.write(self.out, json.dumps([file, name]).encode() + b"\n")


def begin() -> None:
    """Start to note; called while Python starts."""
    folder = Path(os.environ[FOLDER])
    request = json.loads((folder / REQUEST).read_bytes())
    reads = Reads(Path(request["root"]), began=request["began"])
    reads.found = _Told(folder / READS)
    reads.__enter__()  # until the process ends
    sys.addaudithook(_modules(reads))
    for word in sys.orig_argv[1:]:  # Python opens the script it is started with before anyone can listen
        file = os.path.normpath(Path.cwd() / word)
        if word.endswith(".py") and file.startswith(f"{reads.root}{os.sep}") and Path(file).is_file():
            reads.found[file] = file
    if os.environ.pop(SCRIPT, ""):
        _record(request["arguments"], folder / ARGUMENTS)


def _modules(reads: Reads) -> Any:
    """A module of the project that is loaded from its cache is read as well."""

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str) or not arguments[0].endswith(".pyc"):
            return
        try:
            source = importlib.util.source_from_cache(arguments[0])
        except ValueError:
            return
        inside = source.startswith(f"{reads.root}{os.sep}") and "-packages" not in source
        if inside and source not in reads.found and Path(source).is_file():
            reads.found[source] = source

    return heard


def _record(words: list[str], path: Path) -> None:
    """Have the parsers that read the script's arguments written down: its own, then its subcommands'."""
    original = argparse.ArgumentParser.parse_known_args
    depth, inner = 0, []

    def parsed(self: Any, args: Any = None, namespace: Any = None) -> Any:
        nonlocal depth
        depth += 1
        try:
            found = original(self, args, namespace)
        finally:
            depth -= 1
        given = list(sys.argv[1:] if args is None else args)
        at = len(words) - len(given)
        if at >= 0 and given == words[at:]:
            inner.append({"at": at, "arguments": [_action(action, found[0]) for action in self._actions]})
        if depth == 0:
            if given == words:
                path.write_text(json.dumps(inner[::-1]), encoding="utf-8")
            inner.clear()
        return found

    argparse.ArgumentParser.parse_known_args = parsed  # type: ignore[method-assign]


def _action(action: argparse.Action, values: argparse.Namespace) -> dict[str, Any]:
    value = getattr(values, action.dest, None)
    plain = (action.type in (int, float, bool) and type(value) is action.type) or (action.type is float and type(value) is int)
    plain = plain or (action.type in (None, str) and type(value) is str) or (action.type is Path and isinstance(value, Path))
    stored = _takes(action) == "value"
    return {
        "options": list(action.option_strings),
        "name": action.dest,
        "takes": _takes(action),
        # Only where the value as text gives the script the same value again.
        "value": (str(value) if isinstance(value, Path) else value) if plain and stored else None,
        # Of a type of the script's own only the text is known that was given.
        "text": stored and not plain,
    }


def _takes(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return "command"
    if action.nargs is not None:
        return "several" if action.nargs else "switch"
    if isinstance(action, argparse._AppendAction):
        return "again"
    return "value" if type(action) is argparse._StoreAction else "own"
