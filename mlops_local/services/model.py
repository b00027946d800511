"""Model versions: register, judge, promote, roll back.

Every decision is one ledger line with the value it expects to replace; two deciders at once: one wins, the other is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from mlops_local.domain import events
from mlops_local.domain.assets import GateResult, ModelVersion, Verdict
from mlops_local.domain.errors import Conflict, NoVerdict, UsageError
from mlops_local.domain.graph import Model
from mlops_local.domain.plan import Output, StepResult
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.services import evaluations, locking
from mlops_local.services.project import Project
from mlops_local.store import ledger, registry
from mlops_local.store.ledger import Entry
from mlops_local.store.versions import CHAMPION, find


@dataclass(frozen=True)
class VersionView:
    """A version with what was decided about it."""

    version: ModelVersion
    verdict: Verdict | None = None
    aliases: tuple[str, ...] = ()
    deployed: bool = False
    """The newest deployment of its model is this version."""


def register(
    project: Project,
    declared: Model,
    *,
    candidate: str,
    result: StepResult,
    run: str,
    snapshots: Mapping[str, str],
) -> ModelVersion:
    """Register what an evaluate step made; the same fingerprint and bundle are one version however often it is asked."""
    known = registered(project, declared.name, result.fingerprint)
    if known is not None:
        return known
    outputs = {output.name: output for output in result.outputs}
    measured = evaluations.measure(project, declared, result)
    bundle = dict(outputs["bundle"].parts)

    def make(number: int) -> ModelVersion:
        return ModelVersion(
            id=f"{declared.name}@{number}",
            model=declared.name,
            number=number,
            candidate=candidate,
            run=run,
            fingerprint=result.fingerprint,
            bundle=bundle,
            bundle_hash=outputs["bundle"].logical,
            predictions=next(iter(outputs["predictions"].parts.values())),
            evaluation=measured.evaluation,
            metric=declared.metric,
            value=measured.value,
            low=measured.low,
            high=measured.high,
            metrics=result.report.get("metrics", {}),
            snapshots=snapshots,
            created=_now(),
        )

    return ledger.append_version(project.layout, make)


def registered(project: Project, name: str, fingerprint: str) -> ModelVersion | None:
    """The version an evaluate step of this fingerprint made, if it was registered."""
    for version in registry.load(project.layout).versions.values():
        if version.model == name and version.fingerprint == fingerprint:
            return version
    return None


def decide(
    project: Project,
    declared: Model,
    version: ModelVersion,
    result: StepResult,
    *,
    raw_rows: Output | None,
    emit: Emit = ignore,
) -> Verdict:
    """Judge a version against the champion of this moment, once, and promote it where the policy says so.

    The verdict and the promotion are one ledger append, so that a crash between them cannot happen; when somebody
    promoted another version meanwhile, the comparison is made again with that one.
    """
    config = project.config.models.get(declared.name)
    for _ in range(5):
        state = registry.load(project.layout)
        verdict = state.verdicts.get(version.id)
        if verdict is not None:
            return verdict
        champion = state.champion(declared.name)
        verdict = evaluations.judge(
            project, declared, version, result, champion=champion, gates=config.gates if config else (), raw_rows=raw_rows
        )
        automatic = config is None or config.promote == "auto" or champion is None
        promote = automatic and verdict.verdict == "pass"
        try:
            _append(project, version, champion, verdict, promote=promote)
        except Conflict:
            continue
        _tell(emit, version, champion, verdict, promote=promote)
        return verdict
    raise Conflict(
        f"{declared.name}: the champion changed five times while {version.id} was judged", hint="run the command again"
    )


def _append(project: Project, version: ModelVersion, champion: ModelVersion | None, verdict: Verdict, *, promote: bool) -> None:
    judged = Entry(events.VERDICT, version.id, verdict.verdict, expect=None, data=asdict(verdict))
    alias = Entry(
        events.ALIAS,
        f"{version.model}@{CHAMPION}",
        version.id if promote else (champion.id if champion else None),
        expect=champion.id if champion else None,
        reason="passed its gates" if promote else "",
    )
    # Without a promotion the alias line would say nothing new: the verdict alone is appended.
    _write(project, [judged, alias] if promote else [judged])


def _tell(emit: Emit, version: ModelVersion, champion: ModelVersion | None, verdict: Verdict, *, promote: bool) -> None:
    interval = f" [{version.low:.3f}, {version.high:.3f}]" if version.low is not None and version.high is not None else ""
    emit(
        Progress(
            "version",
            f"{version.id}: {version.metric} {version.value:.4f}{interval}",
            data={"version": version},
        )
    )
    for gate in verdict.gates:
        emit(Progress("verdict", "  " + describe_gate(gate), data={"gate": gate}))
    if promote:
        was = f", before {champion.id}" if champion else ""
        emit(Progress("alias", f"{version.id} is the champion{was}", data={"version": version}))
    elif verdict.verdict != "pass":
        emit(Progress("alias", f"{version.id}: {verdict.verdict}; {champion.id if champion else 'no champion'} stays", data={}))
    else:
        emit(Progress("alias", f"{version.id} passed; promote it with `mlops model promote {version.id}`", data={}))


def describe_gate(gate: GateResult) -> str:
    """One gate's result on one line: metric, both values, difference with interval, rule, verdict."""
    words = [gate.metric]
    if gate.candidate is not None:
        words.append(f"{gate.candidate:.4f}")
    if gate.champion is not None:
        words.append(f"against {gate.champion:.4f}")
    if gate.difference is not None:
        words.append(f"difference {gate.difference:+.4f}")
    if gate.low is not None and gate.high is not None:
        words.append(f"[{gate.low:+.4f}, {gate.high:+.4f}]")
    if gate.rows:
        words.append(f"on {gate.rows:,} rows" + (f" in {gate.clusters} clusters" if gate.clusters else ""))
    text = f"{' '.join(words)}, {gate.rule}: {gate.verdict}"
    return f"{text} ({gate.note})" if gate.note else text


def versions(project: Project, model: str | None = None) -> list[VersionView]:
    """All versions, newest first, with verdict, aliases and deployment."""
    state = registry.load(project.layout)
    deployed = {d.model: d.version for d in state.deployments if d.event == "deployed"}
    views = [
        VersionView(
            version,
            state.verdicts.get(version.id),
            tuple(sorted(key.split("@", 1)[1] for key, value in state.aliases.items() if value == version.id)),
            deployed.get(version.model) == version.id,
        )
        for version in state.versions.values()
        if model in (None, version.model)
    ]
    return sorted(views, key=lambda view: (view.version.created, view.version.number), reverse=True)


def view(project: Project, ref: str) -> VersionView:
    """One version by reference. Raises UsageError."""
    version = resolve(project, ref)
    return next(item for item in versions(project, version.model) if item.version.id == version.id)


def resolve(project: Project, ref: str) -> ModelVersion:
    """Find a version: `delay@3`, `delay@champion`, `@champion` or `delay` (its champion). Raises UsageError."""
    return find(registry.load(project.layout), ref)


def promote(project: Project, ref: str, *, reason: str = "", force: bool = False) -> ModelVersion:
    """Make a version the champion.

    Raises:
        NoVerdict: it did not pass its gates and `force` was not given.
        Conflict: somebody else moved the alias meanwhile.
        UsageError: no such version, or `force` without a reason.
    """
    version = resolve(project, ref)
    state = registry.load(project.layout)
    verdict = state.verdicts.get(version.id)
    if force and not reason:
        raise UsageError("promoting past the gates needs a reason", hint='say why: --force --reason "…"')
    if not force and (verdict is None or verdict.verdict != "pass"):
        found = verdict.verdict if verdict else "none"
        raise NoVerdict(
            f"{version.id} has no passing verdict ({found})",
            hint=f'`mlops model show {version.id}` shows the gates; to promote it all the same: --force --reason "…"',
        )
    champion = state.champion(version.model)
    if champion is not None and champion.id == version.id:
        return version
    _move(project, version, champion, reason or "promoted by hand")
    return version


def rollback(project: Project, model: str | None = None, *, reason: str = "") -> ModelVersion:
    """Make the champion before the present one champion again; the present one is rejected.

    Raises:
        UsageError: no such model, or no earlier champion.
    """
    current = resolve(project, f"{model or ''}@{CHAMPION}")
    state = registry.load(project.layout)
    subject = f"{current.model}@{CHAMPION}"
    history = [line.value for line in state.lines if line.kind == events.ALIAS and line.subject == subject and line.value]
    earlier = [v for v in history if v != current.id and v in state.versions and state.versions[v].state != "rejected"]
    if not earlier:
        raise UsageError(
            f"{current.model}: there is no earlier champion than {current.id}", hint="`mlops audit` shows who was champion when"
        )
    version = state.versions[earlier[-1]]
    why = reason or f"rolled back from {current.id}"
    rejected = Entry(events.STATE, current.id, "rejected", expect=current.state, reason=why)
    _move(project, version, current, why, also=[rejected])
    return version


def _move(
    project: Project, version: ModelVersion, champion: ModelVersion | None, reason: str, *, also: Sequence[Entry] = ()
) -> None:
    entries = [
        Entry(events.ALIAS, f"{version.model}@{CHAMPION}", version.id, expect=champion.id if champion else None, reason=reason),
        *also,
    ]
    if version.state != "approved":
        entries.append(Entry(events.STATE, version.id, "approved", expect=version.state, reason=reason))
    _write(project, entries)
    locking.write_champions(project)


def _write(project: Project, entries: Sequence[Entry]) -> None:
    first, *also = entries
    ledger.append(
        project.layout,
        first.kind,
        first.subject,
        first.value,
        expect=first.expect,
        reason=first.reason,
        data=first.data,
        also=also,
        wait_s=project.store.wait_s,
    )


def verdicts_of(project: Project, made: Sequence[ModelVersion]) -> dict[str, Verdict]:
    """The verdicts of these versions, by version id."""
    state = registry.load(project.layout)
    return {version.id: state.verdicts[version.id] for version in made if version.id in state.verdicts}


def champions(project: Project) -> dict[str, str]:
    """Model -> its champion's version id."""
    aliases = registry.load(project.layout).aliases
    return {key.split("@")[0]: value for key, value in aliases.items() if key.endswith("@" + CHAMPION) and value}


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
