"""A program in any language as a step: its line, and what goes in and comes out. The same from Python and from mlops.toml.

Python 3.10, standard library: the worker reads it in the project's interpreter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Needs
from mlops_local.domain.needs import needs as checked_needs
from mlops_local.domain.records import dataclass

FORMATS = ("parquet", "csv", "json")
"""What a step's table or value can be handed over as: `{rows:csv}`."""
_PLACEHOLDER = re.compile(r"\{\{(\w+(?::\w+)?)\}\}|\{(\w+)(?::(\w+))?\}")
"""In braces of its own (`{{name}}`) it is no placeholder: `{name}` is meant as it stands."""


@dataclass(frozen=True)
class Command:
    """What a user declared."""

    line: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Argument -> source, step, name of one, or a path."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Output -> file name (with a slash at its end: a folder). Without its placeholder in the line: the path it writes."""
    code: tuple[str, ...] = ()
    """Globs of the files that are the program."""
    params: Mapping[str, Any] = field(default_factory=dict)
    shell: bool = False
    needs: Needs = field(default_factory=Needs)


def command(
    line: Any, inputs: Any = None, outputs: Any = None, code: Any = (), params: Any = None, shell: Any = False, **needs: Any
) -> Command:
    """Check what was declared and give single inputs and outputs their names.

    Raises:
        ConfigError: what is wrong, in one sentence.
    """
    if not isinstance(line, str) or not line.strip():
        raise ConfigError(f"command: expected the command line as text, got {line!r}")
    made = Command(
        line=line,
        inputs=_inputs(inputs),
        outputs=_outputs(outputs),
        code=_texts("code", code),
        params=_params(params),
        shell=bool(shell),
        needs=checked_needs(**needs),
    )
    names = [*made.inputs, *made.outputs, *made.params]
    for name in names:
        if not name.isidentifier() or names.count(name) > 1:
            what = "is there twice" if names.count(name) > 1 else "is no name: letters, digits and _"
            raise ConfigError(f"'{name}' {what} among the inputs, outputs and params")
    for name, kind in placeholders(line):
        if name not in names:
            raise ConfigError(
                f"{{{name}}} is no input, output or parameter", hint=f"declared are: {', '.join(names) or 'none'}"
            )
        if kind and (kind not in FORMATS or name not in made.inputs):
            raise ConfigError(
                f"{{{name}:{kind}}}: an input can be asked for as {', '.join(FORMATS)}", hint=f"or leave `:{kind}` away"
            )
    return made


def placeholders(line: str) -> list[tuple[str, str]]:
    """Every `{name}` or `{name:format}` of a line, in order."""
    return [(found[2], found[3] or "") for found in _PLACEHOLDER.finditer(line) if found[2]]


def literal(text: str) -> str:
    """A text as part of a line, where nothing in it is to be replaced."""
    return _PLACEHOLDER.sub(lambda found: "{" + found[0] + "}", text)


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with each placeholder replaced, and the braces gone of what is none."""
    return _PLACEHOLDER.sub(lambda found: values[found[2]] if found[2] else "{" + found[1] + "}", text)


def _inputs(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return {name: name for name in _texts("inputs", value)}
    return {"input": value}


def _outputs(value: Any) -> dict[str, str]:
    found = {"output": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    if not found:
        raise ConfigError(
            "a command has no outputs", hint='give the file it writes: outputs="scored.parquet", or several by name'
        )
    for name, path in found.items():
        parts = path.split("/") if isinstance(path, str) else []
        if not path or not parts or ".." in parts or path.startswith("/"):
            raise ConfigError(f"output '{name}': expected a file name, or a path below the project, got {path!r}")
    return found


def _texts(what: str, value: Any) -> tuple[str, ...]:
    found = (value,) if isinstance(value, str) else tuple(value or ())
    if not all(isinstance(item, str) and item and not item.startswith("/") for item in found):
        raise ConfigError(f"{what}: expected a list of texts relative to the project, got {value!r}")
    return found


def _params(value: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(value or {})))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"params: expected a table of numbers, texts, booleans and lists, got {value!r}") from error
    return found
