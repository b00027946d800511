"""Train: snapshot, plan, run what is stale, keep the outputs, register and judge the versions.

The parent journals an output before it counts; what a child leaves behind after a crash is never used.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_local.domain import events, names
from mlops_local.domain.assets import ModelVersion, Snapshot, Verdict
from mlops_local.domain.errors import MlopsError, StepFailed
from mlops_local.domain.graph import Graph, Input, Step
from mlops_local.domain.jobs import Given, StepJob, StepOutcome
from mlops_local.domain.plan import Decision, Output, Part, Plan, Reason, StepResult, result_to_json
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.domain.runs import RunState, short_id
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline.plan import changes
from mlops_local.engines.pipeline.runner import Worker
from mlops_local.services import data, environment, judging, locking, planning
from mlops_local.services.planning import Code
from mlops_local.services.project import Project
from mlops_local.store import cache, layout, lock, objects, projection
from mlops_local.store.journal import Journal, new_id


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
    seconds: float = 0.0


class Cancelled(MlopsError):
    """The run was ended on purpose; what was finished is kept."""

    exit_code = 130


def train(
    project: Project,
    targets: Sequence[str] = (),
    *,
    params: Mapping[str, str] | None = None,
    force: Sequence[str] = (),
    dry_run: bool = False,
    message: str = "",
    emit: Emit = ignore,
    cancel: threading.Event | None = None,
) -> TrainResult:
    """Bring the targets up to date.

    Args:
        project: the project.
        targets: steps, candidates or models; [project] targets when empty.
        params: `-S` overrides, name -> text.
        force: steps to run whatever the plan says; `*` for all.
        dry_run: plan only.
        message: kept with the run.
        emit: told what happens.
        cancel: set it to end the run; finished outputs stay.

    Raises:
        StepFailed: a step failed (the run is `failed`, finished outputs are kept).
        Cancelled: `cancel` was set.
        ConfigError, UsageError, DataError: before anything ran.
    """
    code = planning.read_code(project)
    wanted = planning.resolve_targets(code.graph, project.config, targets)
    steps = planning.needed(code.graph, wanted)
    current = planning.snapshots(project, code.graph, steps, emit=emit)
    values = planning.parameters(code.graph, project.config, params)
    ids = {name: snapshot.id for name, snapshot in current.items()}
    forced = [step.name for step in steps] if "*" in force else list(force)
    plan = planning.make_plan(project, code, wanted, params=values, snapshots=ids, force=forced)
    emit(Progress("plan", _plan_line(plan), data={"plan": plan}))
    if dry_run or not plan.stale:
        return _nothing_ran(project, code, plan, current, dry_run=dry_run, emit=emit)
    execution = _Execution(project, code, steps, values, current, set(forced), emit, cancel or threading.Event())
    return execution.run(plan, wanted, message)


def _plan_line(plan: Plan) -> str:
    stale = [decision.name for decision in plan.stale]
    if not stale:
        return f"nothing to do: {len(plan.decisions)} steps fresh"
    return f"{len(stale)} of {len(plan.decisions)} steps to run: {', '.join(stale)}"


def _nothing_ran(
    project: Project, code: Code, plan: Plan, current: Mapping[str, Snapshot], *, dry_run: bool, emit: Emit
) -> TrainResult:
    if dry_run:
        return TrainResult("", "", RunState.DONE, plan, reused=tuple(d.name for d in plan.decisions if d.state == "fresh"))
    results = {
        d.name: result for d in plan.decisions if (result := cache.step_result(project.layout, d.fingerprint)) is not None
    }
    made = _register(project, code, results, current, run="", emit=emit)
    locking.write(project, code.graph, current)
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


@dataclass
class _Execution:
    """One run in progress: what each step left, and the journal it is written to."""

    project: Project
    code: Code
    steps: Sequence[Step]
    params: planning.Parameters
    snapshots: Mapping[str, Snapshot]
    forced: set[str]
    emit: Emit
    cancel: threading.Event
    results: dict[str, StepResult] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)

    def run(self, plan: Plan, targets: Sequence[str], message: str) -> TrainResult:
        run_id = new_id()
        name = names.readable(run_id)
        started = time.monotonic()
        with ExitStack() as stack:
            journal = stack.enter_context(closing(Journal.open(self.project.layout.journal)))
            self._begin(journal, run_id, name, targets, message)
            try:
                worker = stack.enter_context(Worker(self.project.root, cancel=self.cancel))
                for decision in plan.decisions:
                    self._step(worker, journal, run_id, decision)
                versions = self._finish(journal, run_id)
            except BaseException as error:
                cancelled = isinstance(error, (Cancelled, KeyboardInterrupt, SystemExit))
                state = RunState.CANCELLED if cancelled else RunState.FAILED
                journal.state(
                    events.RUN_ENDED,
                    run=run_id,
                    state=state.value,
                    error=str(error),
                    seconds=round(time.monotonic() - started, 6),
                )
                raise
            seconds = time.monotonic() - started
            journal.state(events.RUN_ENDED, run=run_id, state=RunState.DONE.value, error="", seconds=round(seconds, 6))
        projection.settle(self.project.layout)
        return TrainResult(
            run=run_id,
            name=name,
            state=RunState.DONE,
            plan=plan,
            ran=tuple(self.ran),
            reused=tuple(self.reused),
            versions=tuple(versions),
            verdicts=judging.verdicts_of(self.project, versions),
            champions=judging.champions(self.project),
            seconds=seconds,
        )

    def _begin(self, journal: Journal, run_id: str, name: str, targets: Sequence[str], message: str) -> None:
        facts = environment.capture(self.project)
        journal.state(
            events.RUN_STARTED,
            run=run_id,
            name=name,
            kind="train",
            targets=list(targets),
            message=message,
            snapshots={name: snapshot.id for name, snapshot in self.snapshots.items()},
            **facts,
        )
        flat = {f"{step}.{key}": value for step in self._names() for key, value in self.params.get(step, {}).items()}
        if flat:
            journal.state(events.PARAMS, run=run_id, values=environment.safe(flat))
        self.emit(Progress("run", f"run {short_id(run_id)} {name}", data={"run": run_id, "name": name}))

    def _names(self) -> list[str]:
        return [step.name for step in self.steps]

    def _step(self, worker: Worker, journal: Journal, run_id: str, decision: Decision) -> None:
        step = self.code.graph.step(decision.name)
        inputs = {item.argument: self._logical(item) for item in step.inputs}
        fingerprint, parts = fingerprints.fingerprint(
            step, fingerprints.parts(step, self.code.graph, self.code.sources), self.params.get(step.name, {}), inputs
        )
        kept = None if step.name in self.forced else self._reusable(fingerprint)
        if kept is None:
            # Two runs of one fingerprint: the second waits here and then reuses.
            with lock.hold(self._lease(fingerprint), wait_s=24 * 3600, command=f"train {step.name}"):
                kept = None if step.name in self.forced else self._reusable(fingerprint)
                if kept is None:
                    reason = self._reason(step, decision, parts)
                    self._execute(worker, journal, run_id, step, reason, fingerprint, parts)
                    return
        self.results[step.name] = kept
        cache.record(self.project.layout, kept)
        self.reused.append(step.name)
        journal.state(events.STEP_ENDED, run=run_id, step=step.name, state="reused", result=result_to_json(kept))
        self.emit(Progress("step_ended", f"{step.name}: reused", step=step.name, data={"state": "reused"}))

    def _reason(self, step: Step, decision: Decision, parts: Sequence[Part]) -> str:
        """Why it runs, now that its inputs are known: the plan could only say that they will be made again."""
        if step.name in self.forced:
            return Reason("forced").text()
        found = changes(cache.latest(self.project.layout, step.name), parts) or list(decision.reasons)
        return "; ".join(reason.text() for reason in found)

    def _lease(self, fingerprint: str) -> Path:
        folder = self.project.layout.tmp / "leases"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / fingerprint[:32]

    def _reusable(self, fingerprint: str) -> StepResult | None:
        kept = cache.step_result(self.project.layout, fingerprint)
        if kept is None:
            return None
        missing = [
            part for output in kept.outputs for part in output.parts.values() if not objects.exists(self.project.layout, part)
        ]
        if missing:
            self.emit(
                Progress("warning", f"{kept.name}: {len(missing)} stored objects are gone; it runs again", step=kept.name)
            )
            return None
        return kept

    def _logical(self, item: Input) -> str:
        if item.node in self.snapshots:
            return self.snapshots[item.node].id
        return self._output(item).logical

    def _output(self, item: Input) -> Output:
        outputs = self.results[item.node].outputs
        return next(o for o in outputs if not item.output or o.name == item.output)

    def _given(self, item: Input) -> Given:
        root = self.project.root
        if item.node in self.snapshots:
            files = {entry.path: str(root / entry.path) for entry in self.snapshots[item.node].files}
            return Given(item, kind="source", files=files)
        output = self._output(item)
        files = {name: str(objects.path(self.project.layout, part)) for name, part in output.parts.items()}
        return Given(item, kind=output.kind, files=files)

    def _execute(
        self,
        worker: Worker,
        journal: Journal,
        run_id: str,
        step: Step,
        reason: str,
        fingerprint: str,
        parts: Sequence[Part],
    ) -> None:
        journal.state(events.STEP_STARTED, run=run_id, step=step.name, reason=reason, fingerprint=fingerprint)
        self.emit(Progress("step_started", f"{step.name}: {reason}", step=step.name, data={"reason": reason}))
        folder = self.project.layout.tmp / f"{run_id}-{step.name}"
        folder.mkdir(parents=True)
        logs = self.project.layout.logs / run_id
        logs.mkdir(parents=True, exist_ok=True)
        try:
            job = StepJob(
                step=step,
                graph=self.code.graph,
                sources=self.code.sources,
                params=self.params.get(step.name, {}),
                seed=environment.seed(self.project, step.name),
                inputs=tuple(self._given(item) for item in step.inputs),
                out=folder,
                log=logs / f"{step.name}.log",
                run=run_id,
                state=self.project.layout.state,
                key=layout.hmac_key(self.project.layout).hex(),
            )
            outcome = worker.run_step(job)
            if self.cancel.is_set():
                raise Cancelled("cancelled", hint="finished steps are kept; run the command again to go on")
            if not outcome.ok:
                raise self._failed(journal, run_id, step, outcome)
            self._inputs_unchanged(step)
            result = self._keep(run_id, step, fingerprint, parts, outcome)
        except BaseException as error:
            if not isinstance(error, StepFailed):
                state = "cancelled" if isinstance(error, (Cancelled, KeyboardInterrupt, SystemExit)) else "failed"
                journal.state(events.STEP_ENDED, run=run_id, step=step.name, state=state, error=str(error))
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        journal.state(events.STEP_ENDED, run=run_id, step=step.name, state="done", result=result_to_json(result))
        cache.record(self.project.layout, result)
        self.results[step.name] = result
        self.ran.append(step.name)
        self.emit(
            Progress(
                "step_ended",
                f"{step.name}: done in {outcome.seconds:.1f} s",
                step=step.name,
                data={"state": "done", "seconds": outcome.seconds, "report": outcome.report, "peak_bytes": outcome.peak_bytes},
            )
        )

    def _failed(self, journal: Journal, run_id: str, step: Step, outcome: StepOutcome) -> StepFailed:
        journal.state(
            events.STEP_ENDED, run=run_id, step=step.name, state="failed", error=outcome.error, traceback=outcome.traceback
        )
        return StepFailed(
            f"step {step.name} failed: {outcome.error}",
            hint=outcome.hint or f"its output: mlops logs {short_id(run_id)} {step.name}",
            traceback=outcome.traceback,
        )

    def _inputs_unchanged(self, step: Step) -> None:
        """A source that changed while the step read it would give a result nobody can name: it is thrown away."""
        for item in step.inputs:
            snapshot = self.snapshots.get(item.node)
            if snapshot is not None and data.current(self.project, self.code.graph.source(item.node)).id != snapshot.id:
                raise StepFailed(
                    f"step {step.name}: the files of {item.node} changed while it ran; its result is discarded",
                    hint="run `mlops train` again when they are complete",
                )

    def _keep(self, run_id: str, step: Step, fingerprint: str, parts: Sequence[Part], outcome: StepOutcome) -> StepResult:
        outputs = []
        for made in outcome.outputs:
            hashes = {name: objects.put_file(self.project.layout, Path(path)) for name, path in sorted(made.files.items())}
            size = sum(objects.path(self.project.layout, part).stat().st_size for part in hashes.values())
            outputs.append(Output(made.name, made.kind, made.logical, hashes, size, made.rows))
        return StepResult(
            name=step.name,
            fingerprint=fingerprint,
            outputs=tuple(outputs),
            run=run_id,
            seconds=outcome.seconds,
            cpu_seconds=outcome.cpu_seconds,
            peak_bytes=outcome.peak_bytes,
            parts=tuple(parts),
            report=outcome.report,
        )

    def _finish(self, journal: Journal, run_id: str) -> list[ModelVersion]:
        made = _register(self.project, self.code, self.results, self.snapshots, run=run_id, emit=self.emit)
        if made:
            journal.state(events.SUMMARY, run=run_id, **_summary(made))
        locking.write(self.project, self.code.graph, self.snapshots)
        return made


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
    project: Project, code: Code, results: Mapping[str, StepResult], current: Mapping[str, Snapshot], *, run: str, emit: Emit
) -> list[ModelVersion]:
    """Register and judge every version these results evaluate; each is done once however often it is asked."""
    made = []
    for step in code.graph.steps:
        result = results.get(step.name)
        if step.kind == "evaluate" and result is not None:
            made.append(_register_one(project, code.graph, step, result, results, current, run, emit))
    return made


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
    read = planning.sources_of(graph, planning.needed(graph, [step.name]))
    rows = results.get(f"{declared.name}.features")
    version = judging.register(
        project,
        declared,
        candidate=step.name.removesuffix(".evaluate"),
        result=result,
        run=result.run or run,
        snapshots={name: current[name].id for name in read},
    )
    raw = next((o for o in rows.outputs if o.name == "test"), None) if rows is not None else None
    judging.decide(project, declared, version, result, raw_rows=raw, emit=emit)
    return version
