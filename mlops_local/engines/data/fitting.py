"""Refuse files of one source that do not fit together: as one table they would say something else than each of them does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import DataError

HINT = "mend the file, or give it a source of its own"


def same_suffix(paths: Collection[str], label: str) -> None:
    """Refuse files that are called like tables of several forms."""
    first = next(iter(paths))
    odd = next((path for path in paths if Path(path).suffix.lower() != Path(first).suffix.lower()), None)
    if odd is not None:
        raise DataError(
            f"{label}: {odd} is not of the same kind as {first}",
            hint="one source is one table: narrow the pattern and declare a second source",
        )


def some_columns(kinds: Collection[str], first: str, label: str) -> None:
    """Refuse a table without a column."""
    if not kinds:
        raise DataError(f"{label}: {first} has no column", hint="write it again, or move it out of the pattern")


def same_columns(schemas: Mapping[str, Mapping[str, Any]], form: str, label: str) -> None:
    """Refuse files whose columns differ: by name for CSV, by name and type for Parquet.

    Args:
        schemas: path -> column -> its type; the others are measured by the first.
        form: how they are read.
        label: how messages name the files together.
    """
    (first, expected), *others = schemas.items()
    for path, schema in others:
        missing, extra = [name for name in expected if name not in schema], [name for name in schema if name not in expected]
        if missing or extra:
            said = [f"lacks {', '.join(missing)}"] if missing else []
            said += [f"has {', '.join(extra)} beyond it"] if extra else []
            raise DataError(f"{label}: {path} does not have the columns of {first}: it {' and '.join(said)}", hint=HINT)
        if list(schema) != list(expected) and form == "csv":
            raise DataError(f"{label}: {path} has the columns of {first} in another order", hint=HINT)
        for name, kind in schema.items():
            if form == "parquet" and kind != expected[name]:
                raise DataError(f"{label}: column {name} is {kind} in {path} and {expected[name]} in {first}", hint=HINT)
