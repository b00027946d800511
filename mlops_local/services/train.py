"""Train: snapshot, plan, run what is stale, keep the outputs, register and judge the versions.

Versions are made once for each result, however often it is asked: a crash in between is mended by the next train.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion, Snapshot, Verdict
from mlops_local.domain.errors import StepFailed, UsageError
from mlops_local.domain.graph import Graph, Step
from mlops_local.domain.plan import Plan, StepResult
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.domain.runs import RunState
from mlops_local.domain.splits import together, unfolded
from mlops_local.engines.pipeline.plan import needed
from mlops_local.engines.pipeline.runner import Workers
from mlops_local.services import gaps, hook, interpreter, interruption, judging, locking, planning, smoke
from mlops_local.services.execution import Execution
from mlops_local.services.planning import Code
from mlops_local.services.project import Project
from mlops_local.store import cache
from mlops_local.store.journal import Journal
from mlops_local.worker import landlock


@dataclass(frozen=True)
class TrainResult:
    """What one `mlops train` did."""

    run: str
    """The run's id; empty when there was nothing to do."""
    name: str
    state: RunState
    plan: Plan
    ran: tuple[str, ...] = ()
    reused: tuple[str, ...] = ()
    versions: tuple[ModelVersion, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    champions: Mapping[str, str] = field(default_factory=dict)
    """Model -> champion's version id afterwards."""
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Candidate -> its metrics, of a run on a sample: that makes no versions."""
    seconds: float = 0.0


def train(
    project: Project,
    targets: Sequence[str] = (),
    *,
    params: Mapping[str, str] | None = None,
    force: Sequence[str] = (),
    dry_run: bool = False,
    message: str = "",
    resume: str | None = None,
    strict: bool = False,
    sample: float = 0.0,
    emit: Emit = ignore,
    cancel: threading.Event | None = None,
    workers: Workers | None = None,
) -> TrainResult:
    """Bring the targets up to date.

    Args:
        project: the project.
        targets: steps, candidates or models; [project] targets when empty.
        params: `-S` overrides, name -> text.
        force: steps to run, with their folds, whatever the plan says; `*` for all.
        dry_run: plan only.
        message: kept with the run.
        resume: interrupted steps go on from their checkpoints; a run's name does so with its targets and parameters.
        strict: steps can read their declared inputs and nothing else; one that read more before runs again.
        sample: run on this part of the data; nothing of that is registered, judged or taken for a result of the whole.
        emit: told what happens.
        cancel: set it to end the run; finished outputs stay.
        workers: processes that go on living for the next train; its own otherwise.

    Raises:
        StepFailed: a step failed (the run is `failed`, finished outputs are kept).
        Cancelled: `cancel` was set.
        ConfigError, UsageError, DataError: before anything ran; also where `strict` is asked of a machine that cannot do it.
    """
    ended = cancel or threading.Event()
    order = _Order(targets, params or {}, force, dry_run, message, resume, strict, sample)
    if strict and (problem := landlock.problem()):
        raise UsageError(
            f"--strict cannot be kept on this machine: {problem}",
            hint="without --strict, reads of undeclared files are noticed where Python sees them",
        )
    if workers is None and (remark := interpreter.of(project).remark(project.root)):  # with workers it was said when they began
        emit(Progress("note", remark))
    # The same workers describe the graph and run the steps; a process starts with the first of the two that is needed.
    with nullcontext(workers) if workers is not None else interpreter.workers(project) as running:
        return _train(project, order, running, ended, emit)


@dataclass(frozen=True)
class _Order:
    """What was asked for."""

    targets: Sequence[str]
    params: Mapping[str, str]
    force: Sequence[str]
    dry_run: bool
    message: str
    resume: str | None = None
    strict: bool = False
    sample: float = 0.0


def _train(project: Project, order: _Order, workers: Workers, cancel: threading.Event, emit: Emit) -> TrainResult:
    code = planning.read_code(project, workers=workers, cancel=cancel)
    order = _resumed(project, code, order)
    wanted = planning.resolve_targets(code.graph, project.config, order.targets)
    steps = needed(code.graph, wanted)
    current = planning.snapshots(project, code.graph, steps, emit=emit)
    if order.sample:
        code = smoke.sampled(code, current, order.sample)
        steps = needed(code.graph, wanted)
    values = planning.parameters(code.graph, project.config, order.params)
    ids = {name: snapshot.id for name, snapshot in current.items()}
    forced = [step.name for step in steps if {"*", step.name, unfolded(step.name)} & set(order.force)]
    if order.strict:
        forced += [step.name for step in steps if step.name not in forced and _read_more(project, step.name)]
    plan = planning.make_plan(project, code, wanted, params=values, snapshots=ids, force=forced)
    emit(Progress("plan", _plan_line(plan), data={"plan": plan, "code": code, "params": values}))
    if order.sample and not plan.stale and not order.dry_run:
        results = _results(project, plan)
        return TrainResult("", "", RunState.DONE, plan, reused=tuple(results), measured=_measured(results))
    if order.dry_run or not plan.stale:
        return _nothing_ran(project, code, plan, current, dry_run=order.dry_run, emit=emit)
    made: list[ModelVersion] = []

    def finish(execution: Execution, journal: Journal) -> None:
        if order.sample:
            return
        problem = _register(project, code, execution.results, current, made, run=execution.id, emit=emit)
        if made:
            journal.state(events.SUMMARY, run=execution.id, **_summary(made))
        locking.write(project, code.graph, current)
        hook.refresh(project, code)
        if problem is not None:
            raise problem

    execution = Execution(
        project,
        code,
        steps,
        values,
        current,
        set(forced),
        emit,
        workers,
        cancel,
        finish=finish,
        resume=order.resume is not None,
        strict=order.strict,
        kind="smoke" if order.sample else "train",
    )
    execution.run(plan, wanted, order.message)
    return TrainResult(
        run=execution.id,
        name=execution.name,
        state=RunState.DONE,
        plan=plan,
        ran=tuple(execution.ran),
        reused=tuple(execution.reused),
        versions=tuple(made),
        verdicts=judging.verdicts_of(project, made),
        champions=judging.champions(project),
        measured=_measured(execution.results) if order.sample else {},
        seconds=execution.seconds,
    )


def _read_more(project: Project, step: str) -> bool:
    """Whether the step's newest result read what it does not declare."""
    latest = cache.latest(project.layout, step)
    return latest is not None and bool(latest.report.get("undeclared"))


def _resumed(project: Project, code: Code, order: _Order) -> _Order:
    """The order with what the run to go on with was asked for, where that is another than today's."""
    if not order.resume:
        return order
    targets, params = interruption.order_of(project, order.resume)
    today = planning.parameters(code.graph, project.config)
    again = {
        f"{step}.{name}": value if isinstance(value, str) else json.dumps(value)
        for step, values in today.items()
        for name, now in values.items()
        if (value := params.get(f"{step}.{name}", now)) != now
    }
    return replace(order, targets=order.targets or targets, params={**again, **order.params})


def _plan_line(plan: Plan) -> str:
    stale = [decision.name for decision in plan.stale]
    if not plan.decisions:
        return "nothing to do: the pipeline module declares no step at its top level"
    if not stale:
        return f"nothing to do: {len(plan.decisions)} steps fresh"
    return f"{len(stale)} of {len(plan.decisions)} steps to run: {', '.join(together(stale))}"


def _nothing_ran(
    project: Project, code: Code, plan: Plan, current: Mapping[str, Snapshot], *, dry_run: bool, emit: Emit
) -> TrainResult:
    if dry_run:
        return TrainResult("", "", RunState.DONE, plan, reused=tuple(d.name for d in plan.decisions if d.state == "fresh"))
    results = _results(project, plan)
    made: list[ModelVersion] = []
    problem = _register(project, code, results, current, made, run="", emit=emit)
    locking.write(project, code.graph, current)
    hook.refresh(project, code)
    if problem is not None:
        raise problem
    return TrainResult(
        run="",
        name="",
        state=RunState.DONE,
        plan=plan,
        reused=tuple(d.name for d in plan.decisions),
        versions=tuple(made),
        verdicts=judging.verdicts_of(project, made),
        champions=judging.champions(project),
    )


def _results(project: Project, plan: Plan) -> dict[str, StepResult]:
    """What the fresh steps of a plan left."""
    return {d.name: result for d in plan.decisions if (result := cache.step_result(project.layout, d.fingerprint)) is not None}


def _measured(results: Mapping[str, StepResult]) -> dict[str, Mapping[str, float]]:
    found = {name: result.report.get("metrics") for name, result in results.items() if name.endswith(".evaluate")}
    return {name.removesuffix(".evaluate"): metrics for name, metrics in found.items() if metrics}


def _summary(made: Sequence[ModelVersion]) -> dict[str, Any]:
    """A run that evaluated one candidate has `auc`; one that evaluated several has `gbm.auc`, `mlp.auc`."""
    values: dict[str, float] = {}
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for version in made:
        prefix = "" if len(made) == 1 else f"{version.candidate}."
        values.update({prefix + key: value for key, value in version.metrics.items()})
        if version.low is not None and version.high is not None:
            low[prefix + version.metric] = version.low
            high[prefix + version.metric] = version.high
    return {"values": values, "low": low, "high": high}


def _register(
    project: Project,
    code: Code,
    results: Mapping[str, StepResult],
    current: Mapping[str, Snapshot],
    made: list[ModelVersion],
    *,
    run: str,
    emit: Emit,
) -> StepFailed | None:
    """Register and judge every version these results evaluate, into `made`; each is done once however often it is asked.

    Returns:
        Why one of them could not be compared with the champion; the others were all the same.
    """
    problem = None
    for step in code.graph.steps:
        result = results.get(step.name)
        if step.kind == "evaluate" and result is not None:
            try:
                made.append(_register_one(project, code.graph, step, result, results, current, run, emit))
            except StepFailed as error:
                problem = problem or error
    return problem


def _register_one(
    project: Project,
    graph: Graph,
    step: Step,
    result: StepResult,
    results: Mapping[str, StepResult],
    current: Mapping[str, Snapshot],
    run: str,
    emit: Emit,
) -> ModelVersion:
    declared = graph.model(step.model)
    read = planning.sources_of(graph, needed(graph, [step.name]))
    rows = results.get(f"{declared.name}.features")
    candidate = step.name.removesuffix(".evaluate")
    fitted = results.get(candidate)
    stopped = fitted.report.get("stopped") if fitted is not None else None
    version = judging.register(
        project,
        declared,
        candidate=candidate,
        result=result,
        run=result.run or run,
        snapshots={name: current[name].id for name in read},
        note=f"stopped {stopped}" if stopped else "",
    )
    raw = next((o for o in rows.outputs if o.name == "test"), None) if rows is not None else None
    judging.decide(project, declared, version, result, raw_rows=raw, emit=emit)
    if warning := gaps.parted(project.config, declared.name, declared.metric, result.report):
        emit(Progress("warning", f"{version.id}: {warning}", step=candidate))
    return version
