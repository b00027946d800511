"""What would run and why: the values between planning and running."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

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

    def text(self) -> str:
        """One line for the person at the prompt."""
        if self.kind == "missing":
            return self.what or "never run"
        if self.kind == "forced":
            return "forced"
        if self.kind == "data" and self.new and not self.old and " " in self.new:  # an input's state in words
            return f"data {self.what} {self.new}"
        place = f" ({self.where})" if self.where else ""
        change = f": {self.old} → {self.new}" if self.old and self.new and self.kind in {"params", "env", "data"} else ""
        verb = " changed" if not change else ""
        return f"{self.kind} {self.what}{place}{change}{verb}"


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


@dataclass(frozen=True)
class Plan:
    """Every step in an order in which it can run."""

    decisions: tuple[Decision, ...] = ()

    @property
    def stale(self) -> tuple[Decision, ...]:
        """The steps that would run."""
        return tuple(decision for decision in self.decisions if decision.state != "fresh")


@dataclass(frozen=True)
class Output:
    """One output of a step: a value kept as named files in the object store."""

    name: str
    kind: str
    """parquet, xy, json, npy, lightgbm, torch, pickle, file or folder."""
    logical: str
    """Hash of the value itself (schema and values in order): what early cutoff compares."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """File name -> object hash."""
    bytes: int = 0
    rows: int | None = None


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
    peak_bytes: int = 0
    parts: tuple[Part, ...] = ()
    """What the fingerprint covered, for `why`."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What the step says of itself in JSON: rows dropped, metrics, parity, behaviour tests."""


def result_to_json(result: StepResult) -> dict[str, Any]:
    """The result as JSON values."""
    return asdict(result)


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
