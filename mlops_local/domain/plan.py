"""What would run and why: the values between planning and running."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from mlops_local.domain.records import dataclass

REASONS = ("code", "params", "data", "env", "missing", "forced")
STATES = ("fresh", "stale", "blocked")


@dataclass(frozen=True)
class Part:
    """One thing a step's fingerprint covers."""

    kind: str
    """code, params, data or env."""
    what: str
    """A symbol (`pipeline.split`), parameter, input or distribution."""
    value: str
    """Its digest, or the value itself where it is short (parameters, versions)."""
    where: str = ""
    """`pipeline.py:31`, for code."""


@dataclass(frozen=True)
class Reason:
    """Why a step is stale."""

    kind: str
    """One of REASONS."""
    what: str = ""
    where: str = ""
    old: str = ""
    new: str = ""
    was: str = ""
    """Where code stood before, when that is elsewhere."""

    def text(self) -> str:
        """One line for the person at the prompt."""
        if self.kind == "missing":
            return self.what or "never run"
        if self.kind == "forced":
            return "forced"
        if self.kind == "data" and self.new and not self.old and " " in self.new:  # an input's state in words
            return f"data {self.what} {self.new}"
        place = f" ({self.where}{f', before {self.was}' if self.was else ''})" if self.where else ""
        return f"{self.kind} {self.what}{place}{self._change()}"

    def _change(self) -> str:
        shown = self.kind != "code"  # of code the digests say nothing
        if self.old and self.new:
            return f": {self.old} → {self.new}" if shown else " changed"
        if self.new:
            return f" is new: {self.new}" if shown else " is new"
        return f" is gone, was {self.old}" if shown else " is gone"


@dataclass(frozen=True)
class Decision:
    """One step's place in the plan."""

    name: str
    state: str
    """One of STATES."""
    reasons: tuple[Reason, ...] = ()
    fingerprint: str = ""
    """Empty while an input that will be made again is unknown."""
    seconds: float | None = None
    """Predicted, from history; None when unknown."""
    notes: tuple[str, ...] = ()
    """What its newest result read without declaring it, a line each."""


@dataclass(frozen=True)
class Plan:
    """Every step in an order in which it can run."""

    decisions: tuple[Decision, ...] = ()

    @property
    def stale(self) -> tuple[Decision, ...]:
        """The steps that would run."""
        return tuple(decision for decision in self.decisions if decision.state != "fresh")

    @property
    def seconds(self) -> float | None:
        """How long they would take, one after the other; None while one of them was never run."""
        known = [decision.seconds for decision in self.stale if decision.seconds is not None]
        return sum(known) if len(known) == len(self.stale) else None


@dataclass(frozen=True)
class Cause:
    """A step, and the steps that are the reason why it is not fresh: a tree whose leaves are what was edited."""

    decision: Decision
    behind: Mapping[str, Cause] = field(default_factory=dict)
    """By the name that a reason of the decision gives it."""

    def chain(self) -> list[Decision]:
        """Every decision of the tree once, a step before those behind it."""
        found = {self.decision.name: self.decision}
        for cause in self.behind.values():
            found.update({decision.name: decision for decision in cause.chain() if decision.name not in found})
        return list(found.values())


@dataclass(frozen=True)
class Node:
    """A source or a step, as `mlops dag` shows it."""

    name: str
    kind: str
    """source, or the step's kind."""
    state: str
    """fresh, stale or blocked; of a source also blocked, when it cannot be read."""
    inputs: tuple[tuple[str, str], ...] = ()
    """(node, output) pairs; the output is empty where the node has only one."""
    model: str = ""
    reasons: tuple[Reason, ...] = ()
    seconds: float | None = None
    about: str = ""
    """Of a source: its pattern."""


@dataclass(frozen=True)
class Dag:
    """The sources and steps behind some targets, in an order in which they can run."""

    nodes: tuple[Node, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Output:
    """One output of a step: a value kept as named files in the object store."""

    name: str
    kind: str
    """parquet, xy, json, npy, lightgbm, torch, models, pickle, file or folder."""
    logical: str
    """Hash of the value itself (schema and values in order): what early cutoff compares."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """File name -> object hash."""
    bytes: int = 0
    rows: int | None = None


_PICKLED = ("pickle", "torch")


def pickled(output: Output) -> tuple[str, ...]:
    """The objects of an output that are pickles: only the store that wrote them loads them."""
    return tuple(hash for name, hash in output.parts.items() if output.kind in _PICKLED or name.split("/")[0] in _PICKLED)


@dataclass(frozen=True)
class StepResult:
    """What one execution of a step left."""

    name: str
    fingerprint: str
    outputs: tuple[Output, ...] = ()
    run: str = ""
    """The run that executed it."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the step and every process it started."""
    peak_bytes: int = 0
    """The most memory those had at once."""
    threads: int = 0
    """What its libraries were limited to; 0: not limited."""
    attempts: int = 1
    parts: tuple[Part, ...] = ()
    """What the fingerprint covered, for `why`."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What the step says of itself in JSON: rows dropped, metrics, parity, behaviour tests."""


def result_to_json(result: StepResult) -> dict[str, Any]:
    """The result as JSON values."""
    outputs = [{**vars(output), "parts": dict(output.parts)} for output in result.outputs]
    return {**vars(result), "outputs": outputs, "parts": [dict(vars(part)) for part in result.parts]}


def result_from_json(value: Mapping[str, Any]) -> StepResult:
    """Back from `result_to_json`; keys this version does not know are ignored."""
    known = {key: item for key, item in value.items() if key in StepResult.__dataclass_fields__}
    return StepResult(
        **{
            **known,
            "outputs": tuple(Output(**item) for item in value.get("outputs", ())),
            "parts": tuple(Part(**item) for item in value.get("parts", ())),
        }
    )
