"""The registry's verbs: list, show, promote, roll back.

Every decision is one ledger line with the value it expects to replace; two deciders at once: one wins, the other is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion, Verdict
from mlops_local.domain.errors import NoVerdict, UsageError
from mlops_local.services import gaps, locking, scripted
from mlops_local.services.judging import write
from mlops_local.services.project import Project
from mlops_local.store import cache, registry
from mlops_local.store.ledger import Entry
from mlops_local.store.registry import Registry
from mlops_local.store.versions import CHAMPION, find


@dataclass(frozen=True)
class VersionView:
    """A version with what was decided about it."""

    version: ModelVersion
    verdict: Verdict | None = None
    aliases: tuple[str, ...] = ()
    deployed: bool = False
    """The newest server of its model that did not say it stopped serves it."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What its evaluation says of itself: rows by part, slices, parity, tests. Only where one version is asked for."""
    warning: str = ""
    """That its metric on train and on valid part by more than `max_gap`."""


def versions(project: Project, model: str | None = None) -> list[VersionView]:
    """All versions, newest first, with verdict, aliases and deployment; what scripts left is registered first."""
    scripted.adopt(project)
    state = registry.load(project.layout)
    deployed = {name: found.version for name in state.models() if (found := state.deployed(name)) is not None}
    views = [
        VersionView(
            version,
            state.verdicts.get(version.id),
            tuple(sorted(key.split("@", 1)[1] for key, value in state.aliases.items() if value == version.id)),
            deployed.get(version.model) == version.id,
            warning=_parted(project, version),
        )
        for version in state.versions.values()
        if model in (None, version.model)
    ]
    return sorted(views, key=lambda view: (view.version.created, view.version.number), reverse=True)


def view(project: Project, ref: str) -> VersionView:
    """One version by reference. Raises UsageError."""
    version = resolve(project, ref)
    found = next(item for item in versions(project, version.model) if item.version.id == version.id)
    result = cache.step_result(project.layout, version.fingerprint)
    return found if result is None else replace(found, report=result.report)


def _parted(project: Project, version: ModelVersion) -> str:
    """What `gaps` says of a version; its result is read only where a limit is set."""
    if version.model not in project.config.models or project.config.models[version.model].max_gap is None:
        return ""
    result = cache.step_result(project.layout, version.fingerprint)
    return gaps.parted(project.config, version.model, version.metric, result.report) if result is not None else ""


def resolve(project: Project, ref: str) -> ModelVersion:
    """Find a version: `delay@3`, `delay@champion`, `@champion` or `delay` (its champion). Raises UsageError."""
    scripted.adopt(project)
    return find(registry.load(project.layout), ref)


def promote(project: Project, ref: str, *, reason: str = "", force: bool = False) -> ModelVersion:
    """Make a version the champion.

    Raises:
        NoVerdict: it did not pass its gates, or against another champion than today's, and `force` was not given.
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
    led = version.id in _champions(state, version.model)
    if not force and not led and verdict is not None and verdict.baseline != (champion.id if champion else ""):
        raise NoVerdict(
            f"{version.id} passed against {verdict.baseline or 'nothing'}, and {champion.id if champion else 'nobody'} is the "
            "champion now",
            hint='`mlops train` compares it with that one; to promote it all the same: --force --reason "…"',
        )
    _move(project, version, champion, reason or "promoted by hand")
    return version


def _champions(state: Registry, model: str) -> list[str]:
    """Every version that was champion, in order."""
    subject = f"{model}@{CHAMPION}"
    return [line.value for line in state.lines if line.kind == events.ALIAS and line.subject == subject and line.value]


def rollback(project: Project, model: str | None = None, *, reason: str = "") -> ModelVersion:
    """Make the champion before the present one champion again; the present one is rejected.

    Raises:
        UsageError: no such model, or no earlier champion.
    """
    current = resolve(project, f"{model or ''}@{CHAMPION}")
    state = registry.load(project.layout)
    earlier = [
        v
        for v in _champions(state, current.model)
        if v != current.id and v in state.versions and state.versions[v].state != "rejected"
    ]
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
    write(project, entries)
    locking.write_champions(project)
