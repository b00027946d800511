"""Decide what is fresh and what is stale, and keep the reason. Pure: what is cached and what was run before come in.

A step after a stale one is stale too, without a fingerprint: whether its input really changes is known only when that has
been made again, and then the rest is decided again (early cutoff).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, Input, Step
from mlops_local.domain.plan import Cause, Dag, Decision, Node, Part, Plan, Reason, StepResult
from mlops_local.domain.reads import undeclared
from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline.fingerprint import EDGES, fingerprint

AGAIN = "will be made again"
NEVER = "cannot be made"
UNREAD = "cannot be read"
LOST = "its stored result is gone"


@dataclass
class _State:
    """What is known of the steps decided so far."""

    snapshots: Mapping[str, str]
    results: dict[str, StepResult]
    decisions: dict[str, Decision]
    lost: Callable[[str], str] = lambda fingerprint: ""


def decide(
    graph: Graph,
    targets: Sequence[str],
    *,
    parts: Callable[[Step], tuple[Part, ...]],
    params: Mapping[str, Mapping[str, Any]],
    snapshots: Mapping[str, str],
    cached: Callable[[str], StepResult | None],
    latest: Callable[[str], StepResult | None],
    force: Sequence[str] = (),
    seconds: Callable[[str], float | None] = lambda step: None,
    lost: Callable[[str], str] = lambda fingerprint: "",
    given: Mapping[str, StepResult] | None = None,
) -> Plan:
    """Plan the targets and everything they depend on.

    Args:
        graph: the project's graph.
        targets: steps to bring up to date; all of them when empty.
        parts: a step's code and environment.
        params: step -> effective parameters.
        snapshots: source -> id of its current snapshot.
        cached: the result kept under a fingerprint.
        latest: a step's newest result, for the reasons.
        force: steps that run whatever is cached.
        seconds: how long a step is likely to take.
        lost: in words, why the result under a fingerprint is there no more.
        given: results of steps outside the graph, to be read as they are.

    Raises:
        ConfigError: a parameter without a default has no value.
    """
    state = _State(snapshots, dict(given or {}), {}, lost)
    for step in needed(graph, targets or [step.name for step in graph.steps]):
        values = params.get(step.name, {})
        _check_params(step, values)
        decision, result = _decide(step, parts(step), values, state, cached, latest, forced=step.name in force)
        newest = result or latest(step.name)
        notes = tuple(undeclared(newest)) if newest is not None else ()
        state.decisions[step.name] = replace(decision, seconds=seconds(step.name), notes=notes)
        if result is not None:
            state.results[step.name] = result
    return Plan(tuple(state.decisions.values()))


def why(plan: Plan, graph: Graph, step: str) -> Cause:
    """What lies behind a step's state: every branch of it, down to what was edited. A step met again is the same object.

    Raises:
        KeyError: the plan does not hold the step.
    """
    causes: dict[str, Cause] = {}
    for decision in plan.decisions:  # in their order: what lies behind one was met before
        inputs = {name: item.node for item in graph.step(decision.name).inputs for name in (item.node, _shown(item))}
        behind = {}
        for reason in decision.reasons:
            cause = causes.get(inputs.get(reason.what, "")) if reason.kind == "data" else None
            if cause is not None and cause.decision.state != "fresh":
                behind[reason.what] = cause
        causes[decision.name] = Cause(decision, behind)
    return causes[step]


def dag(plan: Plan, graph: Graph, targets: Sequence[str], snapshots: Mapping[str, str]) -> Dag:
    """The plan as nodes with what they read; the sources first."""
    steps = [graph.step(decision.name) for decision in plan.decisions]
    read = {item.node for step in steps for item in step.inputs}
    sources = [
        Node(source.name, "source", "fresh" if source.name in snapshots else "blocked", about=source.pattern)
        for source in graph.sources
        if source.name in read
    ]
    made = [
        Node(
            step.name,
            step.kind,
            decision.state,
            tuple(dict.fromkeys((item.node, item.output) for item in step.inputs)),
            step.model,
            decision.reasons,
            decision.seconds,
        )
        for step, decision in zip(steps, plan.decisions, strict=True)
    ]
    return Dag((*sources, *made), tuple(targets))


def needed(graph: Graph, targets: Sequence[str]) -> tuple[Step, ...]:
    """The steps the targets depend on, themselves included, in an order in which they can run."""
    steps = {step.name: step for step in graph.steps}
    wanted: set[str] = set()
    queue = list(targets)
    while queue:
        name = queue.pop()
        if name in steps and name not in wanted:
            wanted.add(name)
            queue += [item.node for item in steps[name].inputs]
    return tuple(step for step in graph.steps if step.name in wanted)


def dependants(graph: Graph, targets: Sequence[str]) -> tuple[str, ...]:
    """The targets and every step that depends on one of them, in the graph's order."""
    found = set(targets)
    for step in graph.steps:
        if any(item.node in found for item in step.inputs):
            found.add(step.name)
    return tuple(step.name for step in graph.steps if step.name in found)


def _check_params(step: Step, values: Mapping[str, Any]) -> None:
    for param in step.params:
        if param.required and values.get(param.name) is None:
            raise ConfigError(
                f"{step.file}:{step.line}: step '{step.name}' needs a value for its parameter '{param.name}'",
                hint=f"give it a default, a line under [params.{step.name}] in mlops.toml, or -S {step.name}.{param.name}=...",
            )


def _decide(
    step: Step,
    code: tuple[Part, ...],
    values: Mapping[str, Any],
    state: _State,
    cached: Callable[[str], StepResult | None],
    latest: Callable[[str], StepResult | None],
    *,
    forced: bool,
) -> tuple[Decision, StepResult | None]:
    inputs = {item.argument: _content(item, state) for item in step.inputs}
    unknown = [item for item in step.inputs if inputs[item.argument] is None]
    known = {argument: value for argument, value in inputs.items() if value is not None}
    before = latest(step.name)
    reasons = [Reason("forced")] if forced else []
    if unknown:
        blocked = [item for item in unknown if _is_blocked(item, state)]
        now = fingerprint(step, code, values, {item.argument: known.get(item.argument, "") for item in step.inputs})[1]
        open_names = {_shown(item) for item in unknown}
        reasons += [reason for reason in changes(before, now) if reason.what not in open_names]
        if blocked or before is not None:  # "never run" says enough
            never = {item.node: NEVER if item.node in state.decisions else UNREAD for item in blocked}
            texts = {item.node: never.get(item.node, AGAIN) for item in unknown}
            reasons += [Reason("data", node, new=text) for node, text in texts.items()]
        return Decision(step.name, "blocked" if blocked else "stale", tuple(reasons)), None
    found, now = fingerprint(step, code, values, known)
    result = cached(found)
    if result is not None and not forced:
        return Decision(step.name, "fresh", (), found), result
    if not forced:
        reasons += changes(before, now)
        reasons = reasons or [Reason("missing", _gone(before, state.lost(found)))]
    return Decision(step.name, "stale", tuple(reasons), found), None


def _gone(before: StepResult | None, lost: str) -> str:
    """Why there is no result although nothing changed."""
    if before is None:
        return ""
    stopped = before.report.get("stopped")
    return f"its last run was stopped {stopped}" if stopped else lost or LOST


def _content(item: Input, state: _State) -> str | None:
    """The hash of an input's content; None while it is unknown."""
    if item.node in state.decisions or item.node in state.results:
        result = state.results.get(item.node)
        if result is None:
            return None
        return next((output.logical for output in result.outputs if not item.output or output.name == item.output), None)
    return state.snapshots.get(item.node)


def _is_blocked(item: Input, state: _State) -> bool:
    decision = state.decisions.get(item.node)
    return decision.state == "blocked" if decision is not None else item.node not in state.snapshots


def _shown(item: Input) -> str:
    return item.node + (f".{item.output}" if item.output else "")


def changes(before: StepResult | None, now: Sequence[Part]) -> list[Reason]:
    """What differs from a step's newest result: changed things first, then new ones, then those gone."""
    if before is None:
        return [Reason("missing")]
    old = {(part.kind, part.what): part for part in before.parts}
    new = {(part.kind, part.what): part for part in now}
    changed = [_reason(old[key], part) for key, part in new.items() if key in old and old[key].value != part.value]
    added = [_reason(None, part) for key, part in new.items() if key not in old]
    gone = [_reason(part, None) for key, part in old.items() if key not in new]
    found = _with_moved([*changed, *added, *gone])
    telling = [reason for reason in found if reason.what != EDGES]
    if any(reason.kind == "code" for reason in telling):
        return telling
    return found


def _with_moved(reasons: Sequence[Reason]) -> list[Reason]:
    """Code that is new here and gone there under the same name was moved, and changed on the way."""
    gone = {_last(r): r for r in reasons if r.kind == "code" and not r.new}
    moved = {_last(r): r for r in reasons if r.kind == "code" and not r.old and _last(r) in gone}
    left = [r for r in reasons if not (r.kind == "code" and not (r.old and r.new) and _last(r) in moved)]
    joined = [replace(r, old=gone[name].old, was=gone[name].where) for name, r in moved.items()]
    return [*joined, *left]


def _last(reason: Reason) -> str:
    return reason.what.rpartition(".")[2]


def _reason(old: Part | None, new: Part | None) -> Reason:
    part = new or old
    assert part is not None
    values = [side.value if side is not None else "" for side in (old, new)]
    if part.kind in ("code", "data"):
        values = [value[:8] for value in values]
    was = old.where if old is not None and new is not None and _file(old.where) != _file(new.where) else ""
    return Reason(part.kind, part.what, part.where, values[0], values[1], was)


def _file(where: str) -> str:
    return where.rpartition(":")[0]
