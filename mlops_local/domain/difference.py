"""What changed between two versions of a data set: columns, rows, cells, how values are spread, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SchemaChange:
    """A column that came, went or has another type; an empty type: it is not there."""

    column: str
    before: str
    after: str


@dataclass(frozen=True)
class ColumnChange:
    """One column on both sides."""

    name: str
    cells: int | None = None
    """Rows on both sides whose value differs; None where rows are not matched by a key."""
    nulls_before: float | None = None
    """Share of the rows."""
    nulls_after: float | None = None
    psi: float | None = None
    """Population stability index over ten bins of the first side, with bins for null and beyond either end."""
    ks: float | None = None
    """Largest distance of the two distribution functions; of numbers and times."""
    ks_p: float | None = None
    """How likely at least that distance is between two samples of one distribution."""


@dataclass(frozen=True)
class RowSample:
    """One row that differs."""

    change: str
    """added, removed or changed."""
    before: Mapping[str, Any]
    """The whole row, or of a changed one its key and the values that differ; empty where it was added."""
    after: Mapping[str, Any]


@dataclass(frozen=True)
class FileChanges:
    """What became of the files, by content."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    """From and to."""

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return bool(self.added or self.removed or self.changed or self.moved)


@dataclass(frozen=True)
class RowChanges:
    """What became of the rows."""

    before: int
    """How many there were."""
    after: int
    added: int = 0
    removed: int = 0
    changed: int = 0
    """Rows of one key with other values."""
    cells: Mapping[str, int] | None = None
    """Column -> in how many of the changed rows it differs; None where rows are compared without a key."""
    samples: tuple[RowSample, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Difference:
    """Everything that `mlops data diff` found."""

    before: str
    """How the first side was named, as a person reads it."""
    after: str
    key: tuple[str, ...]
    """Rows are matched by these columns; empty: rows are compared as wholes, with how often each is there."""
    files: FileChanges
    types: tuple[SchemaChange, ...] = ()
    """Columns that came, went or have another type."""
    rows: RowChanges | None = None
    """None for files that are no tables."""
    columns: tuple[ColumnChange, ...] = ()

    @property
    def any(self) -> bool:
        """Whether the data differ; files that only moved do not count for tables."""
        if self.rows is None:
            return self.files.any
        return bool(self.types) or self.rows.any
