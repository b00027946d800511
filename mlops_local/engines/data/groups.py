"""Many small tables of one source, added up in groups that are kept: when one of 2,000 changes, its group alone is made anew.

A file's name says its group, so that a change, a new file or one that went touches no other. Counts, extremes, distinct values,
mean and spread are as if the files had been added one by one; a group's numbers keep quantiles as one file does. Opens nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops_local.engines.data import sketch
from mlops_local.engines.data.sketch import Sketch

FILES = 32
"""About so many files are a group, and twice as many are worth groups: their sketches stay below 100 MB."""


@dataclass(frozen=True)
class Group:
    """What some files hold together."""

    schemas: Mapping[int, Mapping[str, str]]
    """The types of the columns, as they were told of the file at this place and those after it that have the same."""
    rows: Sequence[int]
    """Of each file."""
    columns: Mapping[str, Sketch]


def split(paths: Sequence[str]) -> list[list[str]]:
    """Part paths by what they are called; the order in each part is theirs."""
    bits = (len(paths) // FILES).bit_length()
    parts: list[list[str]] = [[] for _ in range(1 << bits)]
    for path in paths:
        parts[zlib.crc32(path.encode("utf-8", "surrogateescape")) >> (32 - bits)].append(path)
    return parts


def gathered(schemas: Iterable[Mapping[str, str]], files: Iterable[Mapping[str, Sketch]], names: Iterable[str]) -> Group:
    """Return what files hold together.

    Args:
        schemas: the types that were told of each.
        files: the sketches of its columns.
        names: of the columns.
    """
    from mlops_local.engines.data import spread  # noqa: PLC0415  (numpy, 60 ms)

    told: dict[int, Mapping[str, str]] = {}
    for place, schema in enumerate(schemas):
        if not told or list(told[max(told)].items()) != list(schema.items()):
            told[place] = schema
    held = list(files)
    rows = [next(iter(columns.values())).rows if columns else 0 for columns in held]
    whole = {name: sketch.add(columns[name] for columns in held) for name in names}
    for column in whole.values():
        column.points = spread.together(column)
    return Group(told, rows, whole)


def to_json(group: Group, kinds: Mapping[str, str]) -> dict[str, Any]:
    """The group as JSON values, with the types its columns were read as."""
    columns = {name: sketch.to_json(column) for name, column in group.columns.items()}
    return {"schemas": list(group.schemas.items()), "rows": group.rows, "as": kinds, "columns": columns}


def from_json(value: Mapping[str, Any] | None, kinds: Mapping[str, str], files: int) -> Group | None:
    """Back from `to_json`, where so many files were read as these types; None where not."""
    if value is None or value.get("as") != kinds:
        return None
    try:
        schemas = {int(place): dict(schema) for place, schema in value["schemas"]}
        columns = {name: sketch.from_json(value["columns"][name]) for name in kinds}
        return Group(schemas, value["rows"], columns) if len(value["rows"]) == files else None
    except (KeyError, TypeError, ValueError):  # damaged: it is found out again
        return None
