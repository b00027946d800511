"""What the screens show: plain values, made by the bridge from what services return. Nothing here computes or reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops_local.domain.assets import ModelVersion, Verdict
from mlops_local.domain.runs import Curve, Run, StepRun


@dataclass(frozen=True)
class Served:
    """What a server really serves."""

    version: str
    port: int
    pid: int
    alive: bool
    """The process that said so still runs."""
    since: str


@dataclass(frozen=True)
class LiveModel:
    """One model on Home: the wish (champion) and the fact (what a server serves)."""

    model: str
    champion: ModelVersion | None = None
    verdict: Verdict | None = None
    served: Served | None = None


@dataclass(frozen=True)
class Advice:
    """Something to look at or to do next, and the command for it."""

    text: str
    command: str


@dataclass(frozen=True)
class HomeView:
    """Everything on Home."""

    project: str
    models: tuple[LiveModel, ...] = ()
    attention: tuple[Advice, ...] = ()
    newest: tuple[Run, ...] = ()
    next: tuple[Advice, ...] = ()
    runs: int = 0
    """How many there are in all."""
    trains: bool = True
    """There is a pipeline to run, not scripts alone."""


@dataclass(frozen=True)
class RunsQuery:
    """Which runs, in which order."""

    text: str = ""
    """What was typed into the filter."""
    sort: str = ""
    """A metric or field to sort by, best first; empty: newest first."""


@dataclass(frozen=True)
class RunsPage:
    """A page of runs."""

    query: RunsQuery
    total: int
    start: int
    rows: tuple[Run, ...]


@dataclass(frozen=True)
class RunView:
    """One run, whole."""

    run: Run
    steps: tuple[StepRun, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    log: str = ""
    """The end of what its steps printed."""
    error: str = ""


@dataclass(frozen=True)
class Difference:
    """One row of a comparison."""

    kind: str
    """params, metrics, code, data or env."""
    name: str
    values: tuple[str, ...]
    """One text a run, empty where it has none."""
    differs: bool = True
    best: int | None = None
    """Which run is best, where better is known."""


@dataclass(frozen=True)
class ComparisonView:
    """Several runs side by side."""

    runs: tuple[Run, ...]
    rows: tuple[Difference, ...] = ()
    curves: tuple[Curve, ...] = ()


@dataclass(frozen=True)
class VersionRow:
    """One model version with everything decided about it."""

    version: ModelVersion
    verdict: Verdict | None = None
    aliases: tuple[str, ...] = ()
    deployed: bool = False
    warning: str = ""
    """That it seems to have learned its rows by heart."""

    @property
    def champion(self) -> bool:
        """Whether this is the one to be served."""
        return "champion" in self.aliases


@dataclass(frozen=True)
class LiveRun:
    """What the journal's tail says of a run that has not ended."""

    id: str
    name: str = ""
    state: str = "running"
    started: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last value of each metric."""
    steps: tuple[StepRun, ...] = ()
    curves: tuple[Curve, ...] = ()
