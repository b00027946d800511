"""Texts as they stand in SQL."""

from __future__ import annotations


def quote(text: str) -> str:
    """Return a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """Return the name of a column or table as SQL has it."""
    return '"' + text.replace('"', '""') + '"'
