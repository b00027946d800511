"""What the loop makes and keeps: snapshots, signatures, model versions, verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, overload

from mlops_local.domain.records import dataclass


@dataclass(frozen=True)
class FileEntry:
    """One file of a snapshot."""

    path: str
    """Relative to the project's root, POSIX form."""
    hash: str
    """BLAKE3 of its bytes, hexadecimal."""
    bytes: int
    rows: int | None = None


class Files(Sequence[FileEntry]):
    """The files of a snapshot, kept as columns: of 50,000 an entry each took longer to make than all else that was read.

    Equal to any other sequence of the same entries.
    """

    __slots__ = ("hashes", "paths", "rows", "sizes")

    def __init__(
        self, paths: Sequence[str], hashes: Sequence[str], sizes: Sequence[int], rows: Sequence[int | None] | None = None
    ) -> None:
        if not len(paths) == len(hashes) == len(sizes) == (len(paths) if rows is None else len(rows)):
            raise ValueError("columns of different lengths")
        self.paths, self.hashes, self.sizes = paths, hashes, sizes
        self.rows = None if rows is None or all(count is None for count in rows) else rows
        """Of each file; None where none of them is a table."""

    @classmethod
    def of(cls, entries: Sequence[FileEntry]) -> Files:
        """These entries as columns; themselves where they are."""
        if isinstance(entries, Files):
            return entries
        return cls(
            [entry.path for entry in entries],
            [entry.hash for entry in entries],
            [entry.bytes for entry in entries],
            [entry.rows for entry in entries],
        )

    @property
    def contents(self) -> dict[str, str]:
        """Path -> hash."""
        return dict(zip(self.paths, self.hashes, strict=True))

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[FileEntry]:
        rows: Iterable[int | None] = [None] * len(self.paths) if self.rows is None else self.rows
        return map(FileEntry, self.paths, self.hashes, self.sizes, rows)

    @overload
    def __getitem__(self, place: int) -> FileEntry: ...
    @overload
    def __getitem__(self, place: slice) -> Files: ...
    def __getitem__(self, place: int | slice) -> FileEntry | Files:
        if isinstance(place, slice):
            rows = None if self.rows is None else self.rows[place]
            return Files(self.paths[place], self.hashes[place], self.sizes[place], rows)
        return FileEntry(
            self.paths[place], self.hashes[place], self.sizes[place], None if self.rows is None else self.rows[place]
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Files):
            mine, theirs = ([*map(list, (it.paths, it.hashes, it.sizes, it.rows or ()))] for it in (self, other))
            return mine == theirs
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Files({list(self)!r})"


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a snapshot."""

    name: str
    type: str
    """As polars names it."""
    nulls: int = 0
    distinct: int | None = None
    """Nulls left out; approximate from 1,024 on."""
    min: str = ""
    max: str = ""
    mean: float | None = None
    """Of numbers that are neither NaN nor infinite, as the spread."""
    nans: int = 0
    std: float | None = None
    """Of the sample, as `stddev` in SQL; of one number there is none."""
    quantiles: tuple[float, ...] = ()
    """Of numbers, at `LEVELS`; approximate where there are many values."""
    bins: tuple[int, ...] = ()
    """A histogram: evenly wide bins between `bins_from` and `bins_to`; the first and last hold what is beyond them too."""
    bins_from: float | None = None
    """Times as seconds since 1970."""
    bins_to: float | None = None
    top: tuple[tuple[str, int], ...] = ()
    """The most frequent values and how often; about, where there are 1,024 distinct ones or more."""
    lengths: tuple[float, ...] = ()
    """Of text in characters, of lists in elements: shortest, mean, longest."""

    LEVELS: ClassVar[tuple[float, ...]] = (0.05, 0.25, 0.5, 0.75, 0.95)

    def without_values(self) -> ColumnProfile:
        """Return what may be said of a private column: its type and counts."""
        return ColumnProfile(self.name, self.type, self.nulls, self.distinct, nans=self.nans)


@dataclass(frozen=True)
class Snapshot:
    """One immutable version of a source. `id` = hash of (path, content hash) pairs, so equal files are one snapshot.

    Types that are declared for text, and names for parts of the paths, count too: others are other rows.
    """

    id: str
    source: str
    files: Sequence[FileEntry]
    rows: int
    bytes: int
    columns: tuple[ColumnProfile, ...] = ()
    kept: str = "full"
    """full: the bytes are in the store; reference: hashes only."""
    read_as: Mapping[str, str] = field(default_factory=dict)
    """Column -> polars type that was declared for text; the rest is told from the values."""
    labels: str = ""
    """The pattern with names in braces that says what the files' paths tell."""
    private: Sequence[str] = ()
    """Columns that the source declared private; as journals and the newest one have it, tables do not."""

    @property
    def short(self) -> str:
        """The shown id."""
        return self.id[:8]

    @property
    def listed(self) -> Files:
        """The files as columns."""
        return Files.of(self.files)


@dataclass(frozen=True)
class Column:
    """One column a served model asks for."""

    name: str
    type: str
    """boolean, integer, number, string, datetime or date."""
    polars: str
    """The polars type the transform saw in training, as text."""
    nullable: bool = True
    example: Any = None
    missing: str = "null"
    """How training data wrote a missing value: null, or nan where only NaN occurred."""


@dataclass(frozen=True)
class ModelVersion:
    """What one run of one candidate made."""

    id: str
    """`delay@3`: the model and a number given in ledger order."""
    model: str
    number: int
    candidate: str
    run: str
    fingerprint: str
    """Of the evaluate step: same fingerprint, same version."""
    bundle: Mapping[str, str]
    """Bundle file -> object hash."""
    bundle_hash: str
    predictions: str
    """Object hash of the per-row predictions (Parquet)."""
    evaluation: str
    """Hash of the evaluation rows' keys and labels: equal means the same rows."""
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    snapshots: Mapping[str, str] = field(default_factory=dict)
    """Source -> snapshot id."""
    state: str = "new"
    """new, approved, rejected or retired."""
    created: str = ""
    note: str = ""
    """What to know of how it was made: that its training was stopped early."""


@dataclass(frozen=True)
class GateResult:
    """One rule applied to one version."""

    metric: str
    rule: str
    """`max_drop 0.005`, `min 0.7`, `test fog_hurts`."""
    verdict: str
    """pass, fail or inconclusive."""
    candidate: float | None = None
    champion: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    clusters: int | None = None
    note: str = ""
    """Why no comparison could be made, or what was left out."""


@dataclass(frozen=True)
class Verdict:
    """All gates of one version against one baseline."""

    version: str
    baseline: str
    """Version id of the champion it was compared with, or empty."""
    verdict: str
    """pass, fail or inconclusive."""
    gates: tuple[GateResult, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """What a server really serves."""

    model: str
    version: str
    event: str
    """deployed, rejected or stopped."""
    at: str
    port: int = 0
    pid: int = 0
    reason: str = ""
