"""Texts as they stand in SQL."""

from __future__ import annotations

from collections.abc import Iterable


def quote(text: str) -> str:
    """Return a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """Return the name of a column or table as SQL has it."""
    return '"' + text.replace('"', '""') + '"'


def twin(column: str, columns: Iterable[str]) -> str:
    """Return another of the columns that DuckDB takes for the same, as its name differs in case alone; empty if none does."""
    return next((other for other in columns if other != column and other.lower() == column.lower()), "")
