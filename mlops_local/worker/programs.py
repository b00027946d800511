"""What a command step asks for and leaves, as parts of the graph."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from mlops_local.domain.command import Command, placeholders
from mlops_local.domain.graph import Param, Source


def wants(declared: Command) -> dict[str, str]:
    """Argument -> path, or the format its table is handed over in."""
    return {**dict.fromkeys(declared.inputs, "path"), **{name: kind for name, kind in placeholders(declared.line) if kind}}


def params(declared: Command) -> tuple[Param, ...]:
    """Its parameters; the default's type is the type."""
    plain = (int, float, bool, str)
    return tuple(
        Param(name, value, type=type(value).__name__ if type(value) in plain else "") for name, value in declared.params.items()
    )


def sources(step: str, declared: Command, known: Collection[str]) -> dict[str, Source]:
    """The inputs that are paths of files, as sources by argument."""
    found = {}
    for argument, given in declared.inputs.items():
        named = isinstance(given, str) and (given in known or given.partition(".")[0] in known)
        if isinstance(given, str) and not named and any(mark in given for mark in "/.*"):
            found[argument] = Source(f"{step}.{argument}", given, kind="files")
    return found


def fields(declared: Command) -> dict[str, Any]:
    """The step's fields that only a command has."""
    extras = {"outputs": json.dumps(declared.outputs), "code": json.dumps(declared.code)}
    return {"command": declared.line, "extras": {**extras, **({"shell": "sh"} if declared.shell else {})}}
