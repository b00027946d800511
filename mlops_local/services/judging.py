"""Register and judge versions: once each, in one ledger append with the promotion that follows.

Two deciders at once: one wins, the other compares again with the new champion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone

from mlops_local.domain import events
from mlops_local.domain.assets import GateResult, ModelVersion, Verdict
from mlops_local.domain.errors import Conflict
from mlops_local.domain.graph import Model
from mlops_local.domain.plan import Output, StepResult
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.domain.project import Gate
from mlops_local.services import locking
from mlops_local.services.project import Project
from mlops_local.store import ledger, registry
from mlops_local.store.ledger import Entry
from mlops_local.store.registry import Registry
from mlops_local.store.versions import CHAMPION

_LIMITS = ("max_drop", "min", "max")
_ELSEWHERE = "compared with the commit's champion"


def register(
    project: Project,
    declared: Model,
    *,
    candidate: str,
    result: StepResult,
    run: str,
    snapshots: Mapping[str, str],
    note: str = "",
) -> ModelVersion:
    """Register what an evaluate step made; the same fingerprint and bundle are one version however often it is asked."""
    outputs = {output.name: output for output in result.outputs}
    known = registered(project, declared.name, result.fingerprint, bundle=outputs["bundle"].logical)
    if known is not None:
        return known
    from mlops_local.services import evaluations  # noqa: PLC0415  (polars and numpy, 200 ms: only with something to measure)

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
            note=note,
        )

    return ledger.append_version(project.layout, make)


def registered(project: Project, name: str, fingerprint: str, *, bundle: str = "") -> ModelVersion | None:
    """The newest version an evaluate step of this fingerprint made (of this bundle, where given), if it was registered."""
    for version in registry.load(project.layout).of(name):
        if version.fingerprint == fingerprint and bundle in ("", version.bundle_hash):
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

    A version that waits is judged again when the gates or the champion are others by now; what a person decided and what
    was champion once is not. One whose training was stopped early waits for a person, whatever the policy. The verdict and
    the promotion are one ledger append, so that a crash between them cannot happen; when somebody promoted another version
    meanwhile, the comparison is made again with that one.
    """
    config = project.config.models.get(declared.name)
    gates = config.gates if config else ()
    for _ in range(5):
        state = registry.load(project.layout)
        known = state.verdicts.get(version.id)
        if known is not None and not _waits_for_another(state, version, known, gates):
            return known
        from mlops_local.services import evaluations  # noqa: PLC0415  (as above)

        champion = state.champion(declared.name)
        verdict = evaluations.judge(project, declared, version, result, champion=champion, gates=gates, raw_rows=raw_rows)
        if champion is None:
            verdict = _beside_the_lock_file(project, version, verdict)
        automatic = config is None or config.promote == "auto" or champion is None
        promote = automatic and verdict.verdict == "pass" and not version.note
        try:
            _append(project, version, champion, verdict, known, promote=promote)
        except Conflict:
            continue
        _tell(emit, version, champion, verdict, promote=promote)
        return verdict
    raise Conflict(
        f"{declared.name}: the champion changed five times while {version.id} was judged", hint="run the command again"
    )


def _beside_the_lock_file(project: Project, version: ModelVersion, verdict: Verdict) -> Verdict:
    """A commit that names a champion which this store does not hold has nothing to compare with: that is no pass."""
    named = locking.champions_named(project).get(version.model)
    if named is None or named.fingerprint == version.fingerprint or registered(project, version.model, named.fingerprint):
        return verdict
    note = f"mlops.lock names {named.champion}, which this store does not hold: bring the store along, or promote by hand"
    gate = GateResult(version.metric, _ELSEWHERE, "inconclusive", note=note)
    return replace(
        verdict, verdict="inconclusive" if verdict.verdict == "pass" else verdict.verdict, gates=(*verdict.gates, gate)
    )


def answers(verdict: Verdict, champion: ModelVersion | None, gates: Sequence[Gate]) -> bool:
    """Whether a verdict was made against this champion (None: nothing) and by these gates."""
    asked = {
        (gate.metric, f"{name} {limit:g}") for gate in gates for name in _LIMITS if (limit := getattr(gate, name)) is not None
    }
    made = {(gate.metric, gate.rule) for gate in verdict.gates if gate.rule.partition(" ")[0] in _LIMITS}
    return verdict.baseline == (champion.id if champion else "") and made == asked


def _waits_for_another(state: Registry, version: ModelVersion, known: Verdict, gates: Sequence[Gate]) -> bool:
    alias = f"{version.model}@{CHAMPION}"
    led = any(line.kind == events.ALIAS and line.subject == alias and line.value == version.id for line in state.lines)
    decided = state.versions[version.id].state != "new"
    elsewhere = any(gate.rule == _ELSEWHERE for gate in known.gates)
    return not led and not decided and (elsewhere or not answers(known, state.champion(version.model), gates))


def _append(
    project: Project,
    version: ModelVersion,
    champion: ModelVersion | None,
    verdict: Verdict,
    before: Verdict | None,
    *,
    promote: bool,
) -> None:
    expect = before.verdict if before is not None else None
    judged = Entry(events.VERDICT, version.id, verdict.verdict, expect=expect, data=asdict(verdict))
    alias = Entry(
        events.ALIAS,
        f"{version.model}@{CHAMPION}",
        version.id if promote else (champion.id if champion else None),
        expect=champion.id if champion else None,
        reason="passed its gates" if promote else "",
    )
    # Without a promotion the alias line would say nothing new: the verdict alone is appended.
    write(project, [judged, alias] if promote else [judged])


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
        early = f", its training {version.note}" if version.note else ""
        emit(Progress("alias", f"{version.id} passed{early}; promote it with `mlops model promote {version.id}`", data={}))


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


def write(project: Project, entries: Sequence[Entry]) -> None:
    """Append decisions of one moment, all or none. Raises Conflict."""
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
