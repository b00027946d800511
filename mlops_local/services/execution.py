"""Execute a plan: one run, one journal, as many steps at once as there is room for, each output kept before it counts.

One thread decides: it finds what need not run, starts what may, and takes what ended. Each step that runs has a thread of its
own, which waits for the worker's child and then keeps and journals what it left.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from mlops_local.domain import checks as checking
from mlops_local.domain import events, names, secrets
from mlops_local.domain.assets import Snapshot
from mlops_local.domain.errors import MlopsError, StepFailed, StoreBusy
from mlops_local.domain.graph import Step
from mlops_local.domain.jobs import StepJob, StepOutcome
from mlops_local.domain.names import counted
from mlops_local.domain.plan import Decision, Output, Part, Plan, Reason, StepResult, result_to_json
from mlops_local.domain.progress import Emit, Progress
from mlops_local.domain.reads import undeclared
from mlops_local.domain.runs import RunState, short_id
from mlops_local.domain.splits import unfolded
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline.plan import changes
from mlops_local.engines.pipeline.runner import Workers
from mlops_local.engines.pipeline.schedule import Machine, Place, Schedule, beyond
from mlops_local.services import environment, leases, perfile, strays
from mlops_local.services.inputs import Inputs
from mlops_local.services.keeping import Keeping, Record
from mlops_local.services.perfile import PerFile
from mlops_local.services.planning import Code, Parameters
from mlops_local.services.project import Project
from mlops_local.services.vigil import CANCEL, KEEP, Vigil
from mlops_local.store import cache, layout, newest, projection
from mlops_local.store.journal import Journal, new_id

_POLL_S = 0.02
"""How often the cancel event is looked at while steps run."""
_GO_ON = "finished steps are kept; run the command again to go on"


class Cancelled(MlopsError):
    """The run was ended on purpose; what was finished is kept."""

    exit_code = 130


class Stopped(Cancelled):
    """`mlops stop` ended the run, from another terminal."""

    exit_code = 143


@dataclass(frozen=True)
class Task:
    """A step that is not made yet, its inputs known."""

    step: Step
    decision: Decision
    fingerprint: str
    parts: Sequence[Part]
    each: PerFile | None = None
    """Where it runs once for each file."""


@dataclass(frozen=True)
class _Ended:
    """What came of a step that was given a thread; nothing when it was skipped."""

    task: Task
    result: StepResult | None = None
    reused: bool = False
    error: BaseException | None = None


Finish = Callable[["Execution", Record], None]


@dataclass
class Execution:
    """One run in progress: what each step left, and where it is recorded."""

    project: Project
    code: Code
    steps: Sequence[Step]
    params: Parameters
    snapshots: Mapping[str, Snapshot]
    forced: set[str]
    emit: Emit
    """Called from several threads."""
    workers: Workers
    cancel: threading.Event
    keeping: Keeping
    machine: Machine
    finish: Finish
    """Called when every step is done that could be; may add state lines before the run ends."""
    kind: str = "train"
    """Of the run: train, or smoke for one on a sample."""
    jobs: int = 1
    """How many steps may run at once."""
    keep_going: bool = False
    """Go on with what does not depend on a step that failed."""
    resume: bool = False
    """Steps may go on from what an interrupted attempt kept."""
    strict: bool = False
    """Steps can read their declared inputs and nothing else."""
    skipped: list[str] = field(default_factory=list)
    """Candidates that had not begun when the run was asked to end with what it has, and what needs them."""
    results: dict[str, StepResult] = field(default_factory=dict)
    """Of steps made or found; may begin with those of steps outside this run that its steps read."""
    ran: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, MlopsError] = field(default_factory=dict)
    not_run: tuple[str, ...] = ()
    """Steps that could not run because one before them failed."""
    id: str = field(default_factory=new_id)
    seconds: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    """Set to end every running step: the run is cancelled, or one of them failed."""
    _last: newest.Newest = field(default_factory=lambda: newest.Newest({}))
    """Each step's newest result, as it was when the run began."""
    _vigil: Vigil | None = None
    _inputs: Inputs = field(init=False)
    _ended: SimpleQueue[_Ended] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        """Hand on what is made."""
        self._inputs = Inputs(self.project, self.code.graph, self.snapshots, self._files, self.results)

    def _files(self, step: str, output: Output) -> Mapping[str, str]:
        return self.keeping.files(step, output)  # `keeping` may be another by then

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
        leases.sweep(self.project.layout)
        with closing(Journal.open(self.project.layout.journal)) as journal, self._watched(journal) as vigil:
            schedule = self._prepared(plan)
            facts = {**environment.capture(self.project), **environment.of_steps(self.project, self.code.graph)}
            state, said = RunState.FAILED, ""
            try:
                self._begin(journal, targets, message, facts)
                projection.expect()
                self.execute(plan, journal, schedule)
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

    def execute(self, plan: Plan, record: Record, schedule: Schedule | None = None) -> None:
        """Make every step of the plan. Raises what `run` does."""
        self._all(plan, schedule or self._prepared(plan), record)
        self.finish(self, record)
        if self.failed:
            raise self._what_failed()

    def _begin(self, record: Record, targets: Sequence[str], message: str, facts: Mapping[str, Any]) -> None:
        record.state(
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
            record.state(events.PARAMS, run=self.id, values=environment.safe(flat))
        self.emit(Progress("run", f"run {short_id(self.id)} {self.name}", data={"run": self.id, "name": self.name}))

    # The deciding thread

    def _all(self, plan: Plan, schedule: Schedule, record: Record) -> None:
        decisions = {decision.name: decision for decision in plan.decisions}
        tasks: dict[str, Task] = {}
        threads: list[threading.Thread] = []
        try:
            while True:
                while ready := schedule.ready():
                    for name in ready:
                        task = self._task(decisions[name], record)
                        if task is None:
                            schedule.settle(name)
                        else:
                            tasks[name] = task
                            schedule.queue(name, files=self._files_to_run(task))
                for place in schedule.start():
                    arguments = (tasks[place.step], place, record)
                    thread = threading.Thread(target=self._thread, args=arguments, name=f"mlops-step-{place.step}")
                    thread.start()
                    threads.append(thread)
                if not schedule.running:
                    break
                self._take(schedule)
        except BaseException:
            self._stop.set()
            raise
        finally:
            for thread in threads:
                thread.join()
        self.not_run = schedule.left

    def _prepared(self, plan: Plan) -> Schedule:
        """Lay out the steps; the worker begins to load what the first one needs while the run's record is begun."""
        self._last = newest.read(self.project.layout)
        stale = [decision.name for decision in plan.stale]
        last = {name: self._last.result(name) for name in stale}
        schedule = Schedule(
            self.steps,
            self.machine,
            jobs=self.jobs,
            stale=stale,
            memory={name: result.peak_bytes for name, result in last.items() if result is not None},
            seconds={decision.name: decision.seconds for decision in plan.decisions if decision.seconds is not None},
        )
        for step in self.steps:
            for text in beyond(step.needs, self.machine) if step.name in stale else ():
                self.emit(Progress("warning", f"{step.name} declares {text}", step=step.name))
        self.workers.expect(stale[0], self.code.graph, self.code.sources, threads=schedule.place(stale[0]).threads)
        return schedule

    def _task(self, decision: Decision, record: Record) -> Task | None:
        """What there is to do for a step whose inputs are known; None when its result is there, or is not wanted any more."""
        step = self.code.graph.step(decision.name)
        if any(item.node in self.skipped for item in step.inputs):
            self._skip(step, record)
            return None
        hashes, params = self._inputs.hashes(step), self.params.get(step.name, {})
        fingerprint, parts = fingerprints.fingerprint(step, self.code.parts(step), params, hashes)
        each = None
        if step.each:
            files = {entry.path: entry.hash for entry in self.snapshots[step.each].files}
            each = PerFile(step, self.code.graph.source(step.each), files, parts, params, hashes)
        task = Task(step, decision, fingerprint, parts, each)
        return None if self._found(task, record) else task

    def _files_to_run(self, task: Task) -> int:
        if task.each is None:
            return 1
        return len(task.each.hashes) if task.step.name in self.forced else perfile.missing(self.project.layout, task.each)

    def _skip(self, step: Step, record: Record) -> None:
        self.skipped.append(step.name)
        said = "left out: the run was asked to stop"
        record.state(events.STEP_ENDED, run=self.id, step=step.name, state="cancelled", error=said)
        self.emit(Progress("step_ended", f"{step.name}: {said}", step=step.name, data={"state": "cancelled"}))

    def _found(self, task: Task, record: Record) -> bool:
        """Use a result that is kept already."""
        kept = None if task.step.name in self.forced else self.keeping.known(task.fingerprint)
        if kept is None:
            return False
        # It may have been made as another fold, of what was then the same window.
        kept = replace(kept, name=task.step.name, parts=tuple(task.parts))
        self.results[kept.name] = kept
        self.reused.append(kept.name)
        # Not durable: what it says is on the disk with the run that made the result.
        record.passing(events.STEP_ENDED, run=self.id, step=kept.name, state="reused", result=result_to_json(kept))
        if self._last.result(kept.name) != kept:
            self.keeping.record(kept)
        self.emit(Progress("step_ended", f"{kept.name}: reused", step=kept.name, data={"state": "reused"}))
        return True

    def _take(self, schedule: Schedule) -> None:
        """Wait for a step to end. Raises its error unless the others go on."""
        try:
            ended = self._ended.get(timeout=_POLL_S)
        except Empty:
            if self.cancel.is_set():
                self._stop.set()
            return
        name, error = ended.task.step.name, ended.error
        schedule.end(name, ok=error is None)
        if ended.result is not None:
            self.results[name] = ended.result
            if not ended.reused:
                self.ran.append(name)
        elif self.keep_going and isinstance(error, MlopsError) and not isinstance(error, Cancelled):
            self.failed[name] = error
            self.emit(Progress("step_ended", error.message, step=name, data={"state": "failed"}))
        elif error is not None:
            raise error

    def _what_failed(self) -> StepFailed:
        """One error for all that failed: each with its words, and what was not run for it."""
        one = len(self.failed) == 1
        error = next(iter(self.failed.values()))
        text = error.message if one else f"{len(self.failed)} steps failed: {', '.join(self.failed)}"
        told = [] if one else [other.message for other in self.failed.values()]
        left = [f"not run, for what they need failed: {', '.join(self.not_run)}"] if self.not_run else []
        traces = [trace for other in self.failed.values() if (trace := getattr(other, "traceback", ""))]
        hints = {other.hint for other in self.failed.values()}
        hint = error.hint if len(hints) == 1 else f"their output: mlops logs {short_id(self.id)}"
        return StepFailed(text, hint=hint, traceback="\n".join(traces), problems=[text, *told, *left])

    # A step's own thread

    def _thread(self, task: Task, place: Place, record: Record) -> None:
        try:
            # Two runs of one fingerprint: the second waits here and then reuses.
            with self._lease(task) if self.keeping.shared else nullcontext():
                if self._found(task, record):
                    self._ended.put(_Ended(task, self.results[task.step.name], reused=True))
                elif task.step.kind == "candidate" and self._vigil is not None and self._vigil.asked == KEEP:
                    self._skip(task.step, record)
                    self._ended.put(_Ended(task))
                else:
                    self._ended.put(_Ended(task, self._execute(task, place, record)))
        except BaseException as error:  # noqa: BLE001  (carried to the deciding thread)
            self._ended.put(_Ended(task, error=error))

    @contextmanager
    def _lease(self, task: Task) -> Iterator[None]:
        """Hold the right to make this result. Raises Cancelled when told to end while another run has it."""
        name = task.step.name

        def waiting(holder: str) -> None:
            self.emit(Progress("note", f"{name}: waiting for {holder}, which makes the same", step=name))

        with ExitStack() as held:
            try:
                right = leases.lease(self.project.layout, f"train {name}", task.fingerprint, waiting=waiting, stop=self._stop)
                held.enter_context(right)
            except StoreBusy:
                if self._stop.is_set():
                    raise Cancelled("cancelled", hint=_GO_ON) from None
                raise
            yield

    def _execute(self, task: Task, place: Place, record: Record) -> StepResult:
        name = task.step.name
        reason = self._reason(task)
        # Not durable: the line that says how it ended makes both so, and before that nothing depends on it.
        record.passing(events.STEP_STARTED, run=self.id, step=name, reason=reason, fingerprint=task.fingerprint)
        data = {"reason": reason, "threads": place.threads or self.machine.cpus, "gpus": list(place.gpus or ())}
        self.emit(Progress("step_started", f"{name}: {reason}", step=name, data=data))
        job = self._job(task, place)
        spent: dict[str, Any] = {"threads": job.threads}
        try:
            outcome = self._outcome(task, place, job)
            spent |= {name: getattr(outcome, name) for name in ("seconds", "cpu_seconds", "peak_bytes", "attempts")}
            if self._stop.is_set() and not outcome.ok:
                raise Cancelled("cancelled", hint=_GO_ON)
            if not outcome.ok:
                raise self._failure(job, outcome)
            self._inputs.unchanged(task.step)
            result = self.keeping.keep(job, task.fingerprint, task.parts, outcome)
        except BaseException as error:
            how = "cancelled" if isinstance(error, (Cancelled, KeyboardInterrupt, SystemExit)) else "failed"
            said, traceback = secrets.strike(str(error)), secrets.strike(getattr(error, "traceback", ""))
            told = {"error": said.removeprefix(f"step {name} failed: "), **({"traceback": traceback} if traceback else {})}
            record.state(events.STEP_ENDED, run=self.id, step=name, state=how, **spent, **told)
            raise
        finally:
            shutil.rmtree(job.out, ignore_errors=True)
        record.state(events.STEP_ENDED, run=self.id, step=name, state="done", result=result_to_json(result))
        self.keeping.record(result)
        self.keeping.end(task.fingerprint, result.report)
        self._tell_done(result)
        return result

    def _reason(self, task: Task) -> str:
        """Why it runs, now that its inputs are known: the plan could only say that they will be made again."""
        if task.step.name in self.forced:
            return Reason("forced").text()
        if lost := cache.lost(self.project.layout, task.fingerprint):
            return f"{lost}; it runs again"
        found = changes(self._last.result(task.step.name), task.parts) or task.decision.reasons
        return "; ".join(reason.text() for reason in found)

    def _job(self, task: Task, place: Place) -> StepJob:
        step = task.step
        return StepJob(
            step=step,
            graph=self.code.graph,
            sources=self.code.sources,
            params=self.params.get(step.name, {}),
            seed=environment.seed(self.project, unfolded(step.name)),
            inputs=self._inputs.given(step),
            out=self.keeping.folder(self.id, step.name),
            log=self.keeping.log(self.id, step.name),
            run=self.id,
            state=self.keeping.state,
            key=layout.hmac_key(self.project.layout).hex(),
            threads=place.threads,
            gpus=place.gpus,
            checkpoints=self.keeping.begin(step.name, task.fingerprint, resume=self.resume, emit=self.emit),
            resume=self.resume,
            strict=self.strict,
        )

    def _outcome(self, task: Task, place: Place, job: StepJob) -> StepOutcome:
        """Run a step; once for each new or changed file, where it is such a step."""
        if task.each is None:
            return self._attempts(job)
        return perfile.run(
            self.project.layout,
            task.each,
            job,
            self._attempts,
            begin=partial(self.keeping.begin, job.step.name, resume=self.resume, emit=self.emit),
            at_once=place.files,
            keep=self.keeping.shared,
            forced=job.step.name in self.forced,
        )

    def _attempts(self, job: StepJob) -> StepOutcome:
        """Run a step, again as often as it declares; what an earlier attempt printed stays in a log of its own."""
        name, most = job.step.name, job.step.needs.retries + 1
        for attempt in range(1, most + 1):
            try:
                outcome = self.workers.run_step(job, cancel=self._stop)
            except MlopsError as error:  # its worker is gone
                outcome = StepOutcome(False, error=error.message, hint=error.hint)
            if not outcome.ok:
                outcome = self._told(job, outcome)
            if outcome.ok or attempt == most or self._stop.is_set():
                break
            self.emit(
                Progress("note", f"{name}: attempt {attempt} of {most} failed: {outcome.error}; it is tried again", step=name)
            )
            if job.log.exists():
                job.log.rename(job.log.with_name(f"{job.log.stem} (attempt {attempt}).log"))
            shutil.rmtree(job.out)
        return replace(outcome, attempts=attempt)

    def _told(self, job: StepJob, outcome: StepOutcome) -> StepOutcome:
        """How a step failed, as it may be told."""
        if not any(source.private for source in job.graph.sources):
            return outcome
        from mlops_local.services import hiding  # noqa: PLC0415  (what reads tables: only where a step has failed)

        return hiding.private(self.project, self.snapshots, job, outcome)

    def _failure(self, job: StepJob, outcome: StepOutcome) -> StepFailed:
        tried = f" (attempt {outcome.attempts} of {outcome.attempts})" if outcome.attempts > 1 else ""
        hints = strays.below(self.project, self.snapshots, job, outcome), outcome.hint
        return StepFailed(
            f"step {job.step.name} failed{tried}: {outcome.error}",
            hint="\n      ".join(filter(None, hints)) or self.keeping.look_at(job),
            traceback=outcome.traceback,
        )

    def _tell_done(self, result: StepResult) -> None:
        tried = f", attempt {result.attempts}" if result.attempts > 1 else ""
        told = {"state": "done", "seconds": result.seconds, "report": result.report, "peak_bytes": result.peak_bytes}
        text = f"{result.name}: done in {result.seconds:.1f} s{tried}{_told(result.report)}"
        self.emit(Progress("step_ended", text, step=result.name, data=told))
        for note in (*result.report.get("notes", ()), *result.report.get("warnings", ())):
            self.emit(Progress("note", f"  {note}", step=result.name))
        for item in checking.of_report(result.report):
            self.emit(Progress("warning", item.line, step=result.name))
        for text in undeclared(result):
            self.emit(Progress("warning", f"{result.name} {text}", step=result.name))


def _told(report: Mapping[str, Any]) -> str:
    """What of a step's report belongs on its line: how many of its files ran, rows that have no label."""
    dropped = sum(report.get("dropped", {}).values())
    files = f", {report['files'][0]} of {counted(report['files'][1], 'file')}" if "files" in report else ""
    early = f", stopped {report['stopped']}" if report.get("stopped") else ""
    return files + early + (f", {dropped:,} rows without a label left out" if dropped else "")
