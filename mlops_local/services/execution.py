"""Execute a plan: one run, one journal, steps one after another in a worker, each output kept before it counts.

What a child leaves behind after a crash is never used: an output exists when the parent has journalled it.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlops_local.domain import events, names, secrets
from mlops_local.domain.assets import Snapshot
from mlops_local.domain.errors import DataError, MlopsError, StepFailed, StoreBusy
from mlops_local.domain.graph import Input, Step
from mlops_local.domain.jobs import Given, StepJob, StepOutcome
from mlops_local.domain.plan import Decision, Output, Part, Plan, Reason, StepResult, result_to_json
from mlops_local.domain.progress import Emit, Progress
from mlops_local.domain.reads import undeclared
from mlops_local.domain.runs import RunState, short_id
from mlops_local.domain.splits import unfolded
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline.plan import changes
from mlops_local.engines.pipeline.runner import Workers
from mlops_local.services import data, environment, interruption, smoke
from mlops_local.services.planning import Code, Parameters
from mlops_local.services.project import Project
from mlops_local.services.vigil import CANCEL, KEEP, Vigil
from mlops_local.store import cache, layout, lock, objects, projection
from mlops_local.store.journal import Journal, new_id

LONGEST_LEASE_S = 24 * 3600.0
"""How long a run waits for another that makes the same result."""

Finish = Callable[["Execution", Journal], None]


class Cancelled(MlopsError):
    """The run was ended on purpose; what was finished is kept."""

    exit_code = 130


class Stopped(Cancelled):
    """`mlops stop` ended the run, from another terminal."""

    exit_code = 143


@dataclass
class Execution:
    """One run in progress: what each step left, and the journal it is written to."""

    project: Project
    code: Code
    steps: Sequence[Step]
    params: Parameters
    snapshots: Mapping[str, Snapshot]
    forced: set[str]
    emit: Emit
    workers: Workers
    cancel: threading.Event
    finish: Finish
    """Called with the run's id when every step is done; may add state lines before the run ends."""
    kind: str = "train"
    """Of the run: train, or smoke for one on a sample."""
    resume: bool = False
    """Steps may go on from what an interrupted attempt kept."""
    strict: bool = False
    """Steps can read their declared inputs and nothing else."""
    skipped: list[str] = field(default_factory=list)
    """Candidates that had not begun when the run was asked to end with what it has, and what needs them."""
    results: dict[str, StepResult] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    id: str = field(default_factory=new_id)
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The run's readable name."""
        return names.readable(self.id)

    def run(self, plan: Plan, targets: Sequence[str], message: str) -> None:
        """Execute the plan as one journalled run.

        Raises:
            StepFailed: a step failed; the run is `failed`.
            Cancelled: the cancel event was set; the run is `cancelled`.
        """
        started = time.monotonic()
        with closing(Journal.open(self.project.layout.journal)) as journal, self._watched(journal) as vigil:
            facts = {**environment.capture(self.project), **environment.of_steps(self.project, self.code.graph)}
            state, said = RunState.FAILED, ""
            try:
                self._begin(journal, targets, message, facts)
                for decision in plan.decisions:
                    self._step(journal, decision)
                self.finish(self, journal)
                state = RunState.DONE
            except BaseException as error:
                said = secrets.strike(str(error))
                if isinstance(error, (Cancelled, KeyboardInterrupt, SystemExit)):
                    state = RunState.CANCELLED
                if isinstance(error, Cancelled) and vigil.asked == CANCEL:
                    said = "stopped by `mlops stop`"
                    raise Stopped(said, hint="`mlops train --resume` goes on with it") from error
                raise
            finally:
                self.seconds = round(time.monotonic() - started, 6)
                journal.state(events.RUN_ENDED, run=self.id, state=state.value, error=said, seconds=self.seconds)
        projection.settle(self.project.layout)

    def _watched(self, journal: Journal) -> Vigil:
        self._vigil = Vigil(self.project, self.id, journal, self.emit, cancel=self.cancel)
        return self._vigil

    def _begin(self, journal: Journal, targets: Sequence[str], message: str, facts: Mapping[str, Any]) -> None:
        journal.state(
            events.RUN_STARTED,
            run=self.id,
            name=self.name,
            kind=self.kind,
            targets=list(targets),
            message=message,
            snapshots={name: snapshot.id for name, snapshot in self.snapshots.items()},
            **facts,
        )
        whole = [step.name for step in self.steps if not step.fold]
        flat = {f"{step}.{key}": value for step in whole for key, value in self.params.get(step, {}).items()}
        if flat:
            journal.state(events.PARAMS, run=self.id, values=environment.safe(flat))
        self.emit(Progress("run", f"run {short_id(self.id)} {self.name}", data={"run": self.id, "name": self.name}))

    def _step(self, journal: Journal, decision: Decision) -> None:
        step = self.code.graph.step(decision.name)
        if any(item.node in self.skipped for item in step.inputs):
            self._skip(journal, step)
            return
        inputs = {item.argument: self._logical(item) for item in step.inputs}
        fingerprint, parts = fingerprints.fingerprint(step, self.code.parts(step), self.params.get(step.name, {}), inputs)
        kept = None if step.name in self.forced else cache.step_result(self.project.layout, fingerprint)
        if kept is None:
            # Two runs of one fingerprint: the second waits here and then reuses.
            with self._lease(step, fingerprint):
                kept = None if step.name in self.forced else cache.step_result(self.project.layout, fingerprint)
                if kept is None and step.kind == "candidate" and self._vigil.asked == KEEP:
                    self._skip(journal, step)
                    return
                if kept is None:
                    reason = self._reason(step, decision, fingerprint, parts)
                    self._execute(journal, step, reason, fingerprint, parts)
                    return
        # It may have been made as another fold, of what was then the same window.
        kept = replace(kept, name=step.name, parts=parts)
        self.results[step.name] = kept
        cache.record(self.project.layout, kept, written=True)
        self.reused.append(step.name)
        journal.state(events.STEP_ENDED, run=self.id, step=step.name, state="reused", result=result_to_json(kept))
        self.emit(Progress("step_ended", f"{step.name}: reused", step=step.name, data={"state": "reused"}))

    def _skip(self, journal: Journal, step: Step) -> None:
        self.skipped.append(step.name)
        said = "left out: the run was asked to stop"
        journal.state(events.STEP_ENDED, run=self.id, step=step.name, state="cancelled", error=said)
        self.emit(Progress("step_ended", f"{step.name}: {said}", step=step.name, data={"state": "cancelled"}))

    def _reason(self, step: Step, decision: Decision, fingerprint: str, parts: Sequence[Part]) -> str:
        """Why it runs, now that its inputs are known: the plan could only say that they will be made again."""
        if step.name in self.forced:
            return Reason("forced").text()
        if lost := cache.lost(self.project.layout, fingerprint):
            return f"{lost}; it runs again"
        found = changes(cache.latest(self.project.layout, step.name), parts) or list(decision.reasons)
        return "; ".join(reason.text() for reason in found)

    @contextmanager
    def _lease(self, step: Step, fingerprint: str) -> Iterator[None]:
        """Hold the right to make this result. Raises Cancelled when told to end while another run has it."""
        folder = self.project.layout.tmp / "leases"
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(
                    lock.hold(
                        folder / fingerprint[:32],
                        wait_s=LONGEST_LEASE_S,
                        on_wait=lambda holder: self.emit(
                            Progress("note", f"{step.name}: waiting for {holder}, which makes the same")
                        ),
                        stop=self.cancel,
                        command=f"train {step.name}",
                    )
                )
            except StoreBusy:
                if self.cancel.is_set():
                    raise Cancelled("cancelled", hint="finished steps are kept; run the command again to go on") from None
                raise
            yield

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
        journal: Journal,
        step: Step,
        reason: str,
        fingerprint: str,
        parts: Sequence[Part],
    ) -> None:
        journal.state(events.STEP_STARTED, run=self.id, step=step.name, reason=reason, fingerprint=fingerprint)
        self.emit(Progress("step_started", f"{step.name}: {reason}", step=step.name, data={"reason": reason}))
        # Quoted: polars takes the brackets of `gbm[1]` in a path for a pattern.
        folder = self.project.layout.tmp / f"{self.id}-{quote(step.name, safe='')}"
        folder.mkdir(parents=True)
        logs = self.project.layout.logs / self.id
        logs.mkdir(parents=True, exist_ok=True)
        try:
            job = StepJob(
                step=step,
                graph=self.code.graph,
                sources=self.code.sources,
                params=self.params.get(step.name, {}),
                seed=environment.seed(self.project, unfolded(step.name)),
                inputs=tuple(self._given(item) for item in step.inputs),
                out=folder,
                log=logs / f"{step.name}.log",
                run=self.id,
                state=self.project.layout.state,
                key=layout.hmac_key(self.project.layout).hex(),
                checkpoints=interruption.begin(self.project, step.name, fingerprint, resume=self.resume, emit=self.emit),
                resume=self.resume,
                strict=self.strict,
            )
            outcome = self.workers.run_step(job, cancel=self.cancel)
            if self.cancel.is_set():
                raise Cancelled("cancelled", hint="finished steps are kept; run the command again to go on")
            if not outcome.ok:
                raise self._failed(journal, step, outcome)
            self._inputs_unchanged(step)
            result = self._keep(step, fingerprint, parts, outcome)
        except BaseException as error:
            if not isinstance(error, StepFailed):
                state = "cancelled" if isinstance(error, (Cancelled, KeyboardInterrupt, SystemExit)) else "failed"
                journal.state(events.STEP_ENDED, run=self.id, step=step.name, state=state, error=secrets.strike(str(error)))
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        journal.state(events.STEP_ENDED, run=self.id, step=step.name, state="done", result=result_to_json(result))
        cache.record(self.project.layout, result, written=True)
        interruption.end(self.project, fingerprint, result.report)
        self.results[step.name] = result
        self.ran.append(step.name)
        self.emit(
            Progress(
                "step_ended",
                f"{step.name}: done in {outcome.seconds:.1f} s{_told(outcome.report)}",
                step=step.name,
                data={"state": "done", "seconds": outcome.seconds, "report": outcome.report, "peak_bytes": outcome.peak_bytes},
            )
        )
        for note in (*outcome.report.get("notes", ()), *outcome.report.get("warnings", ())):
            self.emit(Progress("note", f"  {note}", step=step.name))
        for text in undeclared(result):
            self.emit(Progress("warning", f"{step.name} {text}", step=step.name))

    def _failed(self, journal: Journal, step: Step, outcome: StepOutcome) -> StepFailed:
        said, traceback = secrets.strike(outcome.error), secrets.strike(outcome.traceback)
        journal.state(events.STEP_ENDED, run=self.id, step=step.name, state="failed", error=said, traceback=traceback)
        return StepFailed(
            f"step {step.name} failed: {outcome.error}",
            hint=outcome.hint or f"its output: mlops logs {short_id(self.id)} {step.name}",
            traceback=outcome.traceback,
        )

    def _inputs_unchanged(self, step: Step) -> None:
        """A source that changed while the step read it would give a result nobody can name: it is thrown away."""
        for item in step.inputs:
            snapshot = self.snapshots.get(item.node)
            if snapshot is None:
                continue
            try:
                found = data.identify(self.project, self.code.graph.source(item.node))
            except DataError as error:
                raise StepFailed(
                    f"step {step.name}: the files of {item.node} are gone or unreadable after it ran; its result is discarded",
                    hint=f"put them back ({error.message}); a step leaves its inputs alone",
                ) from error
            if found != snapshot.id:
                raise StepFailed(
                    f"step {step.name}: the files of {item.node} changed while it ran; its result is discarded",
                    hint="run `mlops train` again when they are complete; a step leaves its inputs alone",
                )

    def _keep(self, step: Step, fingerprint: str, parts: Sequence[Part], outcome: StepOutcome) -> StepResult:
        outputs = []
        for made in outcome.outputs:
            hashes = {name: objects.adopt(self.project.layout, Path(path)) for name, path in sorted(made.files.items())}
            size = sum(objects.path(self.project.layout, part).stat().st_size for part in hashes.values())
            outputs.append(Output(made.name, made.kind, made.logical, hashes, size, made.rows))
        fingerprint = interruption.kept_under(fingerprint, outcome.report)
        return StepResult(
            name=step.name,
            fingerprint=fingerprint,
            outputs=tuple(outputs),
            run=self.id,
            seconds=outcome.seconds,
            cpu_seconds=outcome.cpu_seconds,
            peak_bytes=outcome.peak_bytes,
            parts=tuple(parts),
            report={
                **outcome.report,
                **({smoke.NAME: step.extras[smoke.NAME]} if smoke.NAME in step.extras else {}),
                **self._own_metrics(step),
                **self._nondeterministic(step, fingerprint, outputs),
            },
        )

    def _nondeterministic(self, step: Step, fingerprint: str, outputs: Sequence[Output]) -> dict[str, Any]:
        """A step that gave something else before, from the very same inputs, cannot be reproduced: that is said and kept."""
        before = cache.step_result(self.project.layout, fingerprint)
        if before is None:
            return {}
        old = {output.name: output.logical for output in before.outputs}
        other = [output.name for output in outputs if output.logical != old.get(output.name)]
        if other:
            text = f"{step.name} is nondeterministic: from the same code and inputs it made another {', '.join(other)} before"
            self.emit(Progress("warning", text, step=step.name))
        return {"nondeterministic": True} if other or before.report.get("nondeterministic") else {}

    def _own_metrics(self, step: Step) -> dict[str, Any]:
        """What each of the user's metrics meant: values of one name are compared only while that stays the same."""
        if step.kind != "evaluate":
            return {}
        meant = {}
        for symbol in self.code.graph.model(step.model).metrics:
            alone = Step(f"metric {symbol.module}.{symbol.name}", "step", (symbol,))
            parts = fingerprints.parts(alone, self.code.graph, self.code.sources)
            values = [part.value for part in parts if part.kind == "code"]
            meant[symbol.name] = fingerprints.digest("metric", *values)
        return {"own_metrics": meant}


def _told(report: Mapping[str, Any]) -> str:
    """What of a step's report belongs on its line: rows that have no label."""
    dropped = sum(report.get("dropped", {}).values())
    early = f", stopped {report['stopped']}" if report.get("stopped") else ""
    return early + (f", {dropped:,} rows without a label left out" if dropped else "")
