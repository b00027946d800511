"""Train: snapshot, plan, run what is stale, keep the outputs, register and judge the versions.

Versions are made once for each result, however often it is asked: a crash in between is mended by the next train.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion, Snapshot, Verdict
from mlops_local.domain.errors import StepFailed, UsageError
from mlops_local.domain.graph import Graph, Step
from mlops_local.domain.names import counted
from mlops_local.domain.plan import Plan, StepResult
from mlops_local.domain.progress import Emit, Progress, ignore, one_at_a_time
from mlops_local.domain.records import dataclass
from mlops_local.domain.runs import RunState
from mlops_local.domain.splits import together, unfolded
from mlops_local.engines.pipeline.plan import dependants, needed
from mlops_local.engines.pipeline.runner import Workers
from mlops_local.engines.pipeline.schedule import Machine, Schedule
from mlops_local.services import (
    checks,
    data,
    gaps,
    hook,
    interpreter,
    interruption,
    judging,
    keeping,
    locking,
    machine,
    planning,
    pulled,
    smoke,
)
from mlops_local.services.execution import Execution
from mlops_local.services.keeping import Record
from mlops_local.services.planning import Code
from mlops_local.services.project import Project
from mlops_local.store import cache
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
    scratch: bool = False
    """Nothing of it was kept."""


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
    jobs: int | None = None,
    keep_going: bool = False,
    single: bool = False,
    downstream: bool = False,
    scratch: bool = False,
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
        jobs: how many steps may run at once; as many as there are cores when None.
        keep_going: after a failure go on with what does not depend on it.
        single: run the targets alone, on their inputs as they are kept.
        downstream: also everything that depends on the targets.
        scratch: keep nothing: no run, no result, no version, no mlops.lock.
        emit: told what happens.
        cancel: set it to end the run; finished outputs stay.
        workers: processes that go on living for the next train; its own otherwise.

    Raises:
        StepFailed: a step failed (the run is `failed`, finished outputs are kept).
        Cancelled: `cancel` was set.
        ConfigError, UsageError, DataError: before anything ran; also where `strict` is asked of a machine that cannot do it.
    """
    ended = cancel or threading.Event()
    order = _Order(
        targets, params or {}, force, dry_run, message, resume, strict, sample, jobs, keep_going, single, downstream, scratch
    )
    _check(order)
    if strict and (problem := landlock.problem()):
        raise UsageError(
            f"--strict cannot be kept on this machine: {problem}",
            hint="without --strict, reads of undeclared files are noticed where Python sees them",
        )
    if workers is None and (remark := interpreter.of(project).remark(project.root)):  # with workers it was said when they began
        emit(Progress("note", remark))
    # The same workers describe the graph and run the steps; a process starts with the first of the two that is needed.
    with nullcontext(workers) if workers is not None else interpreter.workers(project) as running:
        return _train(project, order, running, ended, one_at_a_time(emit))


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
    jobs: int | None = None
    keep_going: bool = False
    single: bool = False
    downstream: bool = False
    scratch: bool = False


def _check(order: _Order) -> None:
    if order.single and order.downstream:
        raise UsageError("--single runs the named steps alone and --downstream more than those", hint="give one of them")
    if order.single and not order.targets:
        raise UsageError("--single needs the steps to run", hint="mlops train --single STEP")
    if order.scratch and order.resume is not None:
        raise UsageError("--scratch keeps nothing, so there is nothing to resume or to go on from", hint="leave one out")


def _train(project: Project, order: _Order, workers: Workers, cancel: threading.Event, emit: Emit) -> TrainResult:
    code = planning.read_code(project, workers=workers, cancel=cancel)
    order = _resumed(project, code, order)
    wanted = planning.resolve_targets(code.graph, project.config, order.targets)
    if order.downstream:
        wanted = dependants(code.graph, wanted)
    steps = needed(code.graph, wanted)
    _pull_due(project, code, steps, order, workers=workers, emit=emit)
    there = machine.look(gpus=any(step.needs.gpus for step in steps))
    jobs = order.jobs or there.cpus
    reading = partial(_expect, code, steps, workers, there=there, jobs=jobs) if not order.dry_run else lambda source: None
    current = _current(project, code, steps, order, emit, reading=reading)
    if order.sample:
        code = smoke.sampled(code, current, order.sample)
        steps = needed(code.graph, wanted)
    values = planning.parameters(code.graph, project.config, order.params)
    ids = {name: snapshot.id for name, snapshot in current.items()}
    forced = _forced(project, order, steps)
    given = planning.as_kept(project, code, wanted) if order.single else None
    plan = planning.make_plan(project, code, wanted, params=values, snapshots=ids, force=forced, given=given)
    emit(Progress("plan", _plan_line(plan), data={"plan": plan, "code": code, "params": values}))
    old: list[str] = []
    if order.single:
        old = _out_of_date(planning.make_plan(project, code, wanted, params=values, snapshots=ids), wanted, emit)
    if order.dry_run or not plan.stale:
        kept = order.dry_run or order.scratch or bool(old)
        return _nothing_ran(project, code, plan, current, given or {}, only_look=kept, sample=bool(order.sample), emit=emit)
    made: list[ModelVersion] = []

    def finish(execution: Execution, record: Record) -> None:
        if order.sample or order.scratch or old:
            return
        problem = _register(project, code, execution.results, current, made, run=execution.id, emit=emit)
        if made:
            record.state(events.SUMMARY, run=execution.id, **_summary(made))
        locking.write(project, code.graph, current)
        hook.refresh(project, code)
        if problem is not None:
            raise problem

    machine.check([code.graph.step(decision.name) for decision in plan.stale], there)
    execution = Execution(
        project,
        code,
        [step for step in steps if step.name in {decision.name for decision in plan.decisions}],
        values,
        current,
        set(forced),
        emit,
        workers,
        cancel,
        keeping.Stored(project, code, emit),
        there,
        finish=finish,
        jobs=jobs,
        keep_going=order.keep_going,
        resume=order.resume is not None,
        strict=order.strict,
        kind="smoke" if order.sample else "train",
        results=dict(given or {}),
    )
    if order.scratch:
        _without_trace(execution, plan)
    else:
        execution.run(plan, wanted, order.message)
    return _told(project, order, execution, plan, made)


def _told(project: Project, order: _Order, execution: Execution, plan: Plan, made: Sequence[ModelVersion]) -> TrainResult:
    return TrainResult(
        run="" if order.scratch else execution.id,
        name="" if order.scratch else execution.name,
        state=RunState.DONE,
        plan=plan,
        ran=tuple(execution.ran),
        reused=tuple(execution.reused),
        versions=tuple(made),
        verdicts=judging.verdicts_of(project, made),
        champions=judging.champions(project),
        measured=_measured(execution.results) if order.sample else {},
        seconds=execution.seconds,
        scratch=order.scratch,
    )


def _pull_due(project: Project, code: Code, steps: Sequence[Step], order: _Order, *, workers: Workers, emit: Emit) -> None:
    """Call the functions that are sources of the steps where what they gave is too old."""
    if not order.dry_run:
        read = [code.graph.source(name) for name in planning.sources_of(code.graph, steps)]
        pulled.pull(project, code, pulled.due(project, read), workers=workers, emit=emit)


def _expect(code: Code, steps: Sequence[Step], workers: Workers, source: str, *, there: Machine, jobs: int) -> None:
    """A source is new, and what reads it about to run: begin to load what that needs while the source is read."""
    stale = [name for name in dependants(code.graph, [source]) if name in {step.name for step in steps}]
    place = Schedule(steps, there, jobs=jobs, stale=stale).place(stale[0])
    workers.expect(place.step, code.graph, code.sources, threads=place.threads)


def _current(
    project: Project, code: Code, steps: Sequence[Step], order: _Order, emit: Emit, *, reading: Callable[[str], None]
) -> dict[str, Snapshot]:
    """The data the steps read, as it is now, stored where it is new unless it is not to be kept; it obeys its rules."""
    if order.scratch:
        return {name: data.current(project, code.graph.source(name)) for name in planning.sources_of(code.graph, steps)}
    found = planning.snapshots(project, code.graph, steps, emit=emit, reading=reading)
    if project.config.checks and not order.dry_run:
        checks.require(project, code.graph.sources, found, emit=emit)
    return found


def _forced(project: Project, order: _Order, steps: Sequence[Step]) -> list[str]:
    """The steps that run whatever the plan says."""
    forced = [step.name for step in steps if {"*", step.name, unfolded(step.name)} & set(order.force)]
    if order.strict:
        forced += [step.name for step in steps if step.name not in forced and _read_more(project, step.name)]
    return forced


def _read_more(project: Project, step: str) -> bool:
    """Whether the step's newest result read what it does not declare."""
    latest = cache.latest(project.layout, step)
    return latest is not None and bool(latest.report.get("undeclared"))


def _out_of_date(whole: Plan, targets: Sequence[str], emit: Emit) -> list[str]:
    """What the targets depend on that a whole train would make anew; it is said."""
    old = [decision.name for decision in whole.stale if decision.name not in targets]
    if old:
        emit(Progress("note", f"inputs are used as they are kept, and out of date: {', '.join(old)}; no version is registered"))
    return old


def _without_trace(execution: Execution, plan: Plan) -> None:
    """Execute into a folder that is gone afterwards, and say what the models made there are worth."""
    started = time.monotonic()
    stored = execution.keeping
    assert isinstance(stored, keeping.Stored)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=execution.project.layout.tmp) as home:
        execution.keeping = keeping.Scratch(stored, Path(home))
        execution.execute(plan, keeping.Unrecorded())
    execution.seconds = round(time.monotonic() - started, 6)
    for name in execution.ran:
        values = execution.results[name].report.get("metrics", {})
        if values:
            told = ", ".join(f"{key} {value:.4f}" for key, value in sorted(values.items()))
            execution.emit(Progress("note", f"{name}: {told} (not kept)", step=name))


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
        return f"nothing to do: {counted(len(plan.decisions), 'step')} fresh"
    return f"{len(stale)} of {counted(len(plan.decisions), 'step')} to run: {', '.join(together(stale))}"


def _nothing_ran(
    project: Project,
    code: Code,
    plan: Plan,
    current: Mapping[str, Snapshot],
    given: Mapping[str, StepResult],
    *,
    only_look: bool,
    sample: bool,
    emit: Emit,
) -> TrainResult:
    if only_look:
        return TrainResult("", "", RunState.DONE, plan, reused=tuple(d.name for d in plan.decisions if d.state == "fresh"))
    results = {**given, **_results(project, plan)}
    if sample:
        return TrainResult("", "", RunState.DONE, plan, reused=tuple(results), measured=_measured(results))
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
