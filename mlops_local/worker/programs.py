"""What a command step asks for and leaves, as parts of the graph, and which source a step runs over file by file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mlops_local.domain.command import Command, placeholders
from mlops_local.domain.graph import Param, Source, Step
from mlops_local.worker.scan import Problem


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


def check_each(steps: Iterable[Step], sources: Mapping[str, Source], problems: list[Problem]) -> None:
    """A step that runs for each file of a source must take that source."""
    for step in steps:
        if step.each and (step.each not in sources or step.each not in {item.node for item in step.inputs}):
            what = "takes no such source as an argument" if step.each in sources else "there is no such source"
            text = f"{step.file}:{step.line}: step '{step.name}' runs for each file of '{step.each}', and {what}"
            problems.append(Problem(text, f"there are: {', '.join(sources) or 'none'}"))


def fields(declared: Command) -> dict[str, Any]:
    """The step's fields that only a command has."""
    extras = {"outputs": json.dumps(declared.outputs), "code": json.dumps(declared.code)}
    return {"command": declared.line, "extras": {**extras, **({"shell": "sh"} if declared.shell else {})}}
