"""Runs, metrics and their states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from typing import Any

from mlops_local.domain.records import dataclass


class RunState(str, Enum):
    """A run's state. `crashed`: its writer is gone without a last word."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Run:
    """One execution of the pipeline or of a script."""

    id: str
    """16 hexadecimal digits of microseconds, then 16 random ones."""
    name: str
    kind: str
    """train or script."""
    state: RunState
    started: str
    """UTC, ISO 8601 with microseconds and Z."""
    ended: str = ""
    seconds: float | None = None
    message: str = ""
    error: str = ""
    commit: str = ""
    dirty: bool = False
    incomplete: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last value of each metric."""
    targets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was noted while it ran: a metric that became NaN, that nothing happened any more."""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """The shown id: the first 8 characters of the random part."""
        return short_id(self.id)


@dataclass(frozen=True)
class Spread:
    """A metric over several runs. NaN, infinity and runs without it do not count."""

    mean: float
    std: float | None
    """Of the sample; None for fewer than two values."""
    count: int


@dataclass(frozen=True)
class Group:
    """Runs that have the same values of some fields."""

    values: tuple[Any, ...]
    """One a field; None: without it."""
    runs: int
    metrics: Mapping[str, Spread] = field(default_factory=dict)
    """Those that some of the runs have."""


def short_id(identifier: str) -> str:
    """The shown form of an id: 8 characters of its random part."""
    return identifier[16:24]


@dataclass(frozen=True)
class Curve:
    """One metric of one run over its steps."""

    run: str
    key: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class StepRun:
    """One step within a run."""

    run: str
    name: str
    state: str
    """running, done, reused, failed, cancelled."""
    reason: str = ""
    fingerprint: str = ""
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    error: str = ""
    attempts: int | None = None
    """How often it was begun until it was done."""
    threads: int | None = None
    """What its libraries were limited to; 0: not limited."""
