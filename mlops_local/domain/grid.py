"""Parameters of a command: `-S lr=.1,.03` as its values, their combinations, and where each goes in the command line. Pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlops_local.domain.errors import UsageError

MOST = 1000
"""Runs of one grid; more is a slip of the pen."""


def assignments(texts: Iterable[str]) -> dict[str, list[str]]:
    """Read `name=value[,value...]`, in their order. Commas within brackets and quotes separate nothing.

    Raises:
        UsageError: one is not of that form, or a name comes twice.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if not equals or not name or name != name.strip("-{} "):
            raise UsageError(f"-S {text!r} is not name=value", hint="as in -S lr=0.1, or -S lr=.1,.03 for two runs")
        if name in found:
            raise UsageError(f"-S {name} is given twice", hint=f"several values in one: -S {name}={','.join(found[name])},…")
        found[name] = _split(rest)
    return found


def combinations(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination, the last name changing fastest; one empty one for no names. Raises UsageError for too many."""
    made = [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.islice(itertools.product(*values.values()), MOST + 1)
    ]
    if len(made) > MOST:
        raise UsageError(f"that is more than {MOST} runs", hint="give fewer values, or start several grids")
    return made


def command(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The command line with the values in it.

    `{name}` in a word is the value. A name without such a place is an option at the end, `--name=value`; there `true` is the
    bare option, `false` none.
    """
    made = list(words)
    for name, text in values.items():
        place = f"{{{name}}}"
        if any(place in word for word in words):
            made = [word.replace(place, _plain(text)) for word in made]
        elif text.lower() == "true":
            made.append(f"--{name}")
        elif text.lower() != "false":
            made.append(f"--{name}={_plain(text)}")
    return made


def parameters(values: Mapping[str, str]) -> dict[str, Any]:
    """The values as what they are: numbers, true and false, lists; text else."""
    return {name: value_of(text) for name, text in values.items()}


def value_of(text: str) -> Any:
    """A word of a command line as the value it writes: a number (`.1` too), true or false, JSON, or itself."""
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for read in (int, float, json.loads):
        try:
            return read(text)
        except (ValueError, RecursionError):
            continue
    return text


def _plain(text: str) -> str:
    """A value in quotes without them: `"a,b"` is one value with a comma."""
    return str(json.loads(text)) if _quoted(text) else text


def _quoted(text: str) -> bool:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return False
    try:
        return isinstance(json.loads(text), str)
    except ValueError:
        return False


def _split(text: str) -> list[str]:
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character in "[{(") - (character in "]})")
        if character == "," and depth <= 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts if depth == 0 and not quoted else [text]
