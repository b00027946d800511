"""What the loop makes and keeps: snapshots, signatures, model versions, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

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
    files: tuple[FileEntry, ...]
    rows: int
    bytes: int
    columns: tuple[ColumnProfile, ...] = ()
    kept: str = "full"
    """full: the bytes are in the store; reference: hashes only."""
    read_as: Mapping[str, str] = field(default_factory=dict)
    """Column -> polars type that was declared for text; the rest is told from the values."""
    labels: str = ""
    """The pattern with names in braces that says what the files' paths tell."""

    @property
    def short(self) -> str:
        """The shown id."""
        return self.id[:8]


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
