"""Hold snapshots against the rules of mlops.toml: before a training, on request, and for the hook what is known already.

What was found is kept by snapshot and rules, so that a training with nothing to do pays for reading one small file a source;
only freshness, which the clock decides, is told anew each time. What is another than was recorded last is recorded.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlops_local.domain import checks as checking
from mlops_local.domain import events
from mlops_local.domain.assets import Snapshot
from mlops_local.domain.checks import ERROR, Check, Finding
from mlops_local.domain.errors import ConfigError, DataError
from mlops_local.domain.graph import Source
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.services import data
from mlops_local.services.project import Project
from mlops_local.store import cache
from mlops_local.store import files as stored
from mlops_local.store.journal import Journal

if TYPE_CHECKING:
    from mlops_local.engines.data.checks import Checked

_FORM = 1


def check(
    project: Project,
    sources: Sequence[Source],
    names: Sequence[str],
    *,
    now: datetime | None = None,
    emit: Emit = ignore,
) -> list[Finding]:
    """Take snapshots of those of the sources that have rules, and return what breaks them.

    Args:
        project: the project.
        sources: every source of the pipeline.
        names: those to check.
        now: the time by which freshness is told.
        emit: told of the snapshots.

    Raises:
        ConfigError: mlops.toml has rules for what is no source, or a rule cannot be applied.
        DataError: a source cannot be read.
    """
    wanted = [source for source in sources if source.name in names and rules(project, source.name)]
    current = {source.name: data.snapshot(project, source, emit=emit) for source in wanted}
    return of(project, sources, current, now=now)


def rules(project: Project, source: str) -> tuple[Check, ...]:
    """The rules of a source."""
    return project.config.checks.get(source, ())


def of(
    project: Project, sources: Sequence[Source], current: Mapping[str, Snapshot], *, now: datetime | None = None, run: str = ""
) -> list[Finding]:
    """Return what breaks the rules of these snapshots, from what is kept where they were held against them before.

    Args:
        project: the project.
        sources: every source of the pipeline.
        current: source -> the snapshot to check.
        now: the time by which freshness is told.
        run: the run that asks, for the journal.
    """
    declared = {source.name: source for source in sources}
    for name in project.config.checks:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            raise ConfigError(
                f"mlops.toml: data.{name}: the pipeline declares no source of that name",
                hint=f"did you mean {near[0]!r}?" if near else f"sources: {', '.join(declared) or 'none'}",
            )
    found: list[Finding] = []
    for name, held in current.items():
        if rules(project, name):
            others = _others(project, name, current, declared)
            found += _of(project, declared[name], held, others, now or datetime.now(UTC), run)
    return found


def require(project: Project, sources: Sequence[Source], current: Mapping[str, Snapshot], *, emit: Emit = ignore) -> None:
    """Stop where data break a rule that is an error; say the warnings.

    Raises:
        DataError: with every broken rule.
    """
    found = of(project, sources, current)
    for item in found:
        if item.severity != ERROR:
            emit(Progress("warning", item.line))
    wrong = [item for item in found if item.severity == ERROR]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise DataError(
            f"{wrong[0].line}{more}",
            hint=f"`mlops data check {wrong[0].source}` shows rows; rules named in `warn` of mlops.toml only warn",
        )


def suggest(project: Project, sources: Sequence[Source], *, emit: Emit = ignore) -> str:
    """Return rules that hold for the sources as they are now, as text for mlops.toml."""
    from mlops_local.engines.data import suggestions  # noqa: PLC0415  (only for --suggest)

    parts = []
    for source in sources:
        held = data.snapshot(project, source, emit=emit)
        if any(entry.rows is not None for entry in held.files):
            parts.append(suggestions.rules(source, held))
    return "\n".join(parts)


def standing(project: Project, sources: Sequence[Source], snapshots: Mapping[str, str]) -> list[Finding]:
    """Return what is known to break the rules of these snapshots, without looking at any row.

    Args:
        project: the project.
        sources: every source of the pipeline.
        snapshots: source -> id.
    """
    found: list[Finding] = []
    for source in sources:
        kept = cache.findings(project.layout, _key(project, source, snapshots.get(source.name, ""), snapshots))
        found += _kept(kept)[0] if kept is not None and rules(project, source.name) else ()
    return found


def _others(
    project: Project, name: str, current: Mapping[str, Snapshot], declared: Mapping[str, Source]
) -> dict[str, Snapshot]:
    """The sources, as they are now, whose rows this one must not have: what was found beside an older one says nothing."""
    found = {}
    for item in rules(project, name):
        if item.kind == "no_overlap":
            other = declared.get(item.value)
            tables = ", ".join(source.name for source in declared.values() if source.kind == "table" and source.name != name)
            if other is None or item.value == name or other.kind != "table":
                wrong = "no source" if other is None else "itself" if item.value == name else "files that are no table"
                raise ConfigError(
                    f"the check `{item.text}` of {name} names {wrong}", hint=f"the other tables: {tables or 'none'}"
                )
            found[item.value] = current.get(item.value) or data.snapshot(project, declared[item.value])
    return found


def _of(
    project: Project, source: Source, held: Snapshot, others: Mapping[str, Snapshot], now: datetime, run: str
) -> Iterable[Finding]:
    key = _key(project, source, held.id, {name: other.id for name, other in others.items()})
    kept = cache.findings(project.layout, key)
    if kept is None:
        checked = _look(project, source, held, others)
        kept = {
            "broken": [
                checking.to_json(
                    Finding(
                        source.name,
                        held.id,
                        item.check.text,
                        item.check.severity,
                        item.check.columns,
                        item.failed,
                        item.rows,
                        item.note,
                        item.samples,
                    )
                )
                for item in checked.broken
            ],
            "newest": checked.newest.isoformat() if checked.newest is not None else None,
        }
        cache.save_findings(project.layout, key, kept)
    found, newest = _kept(kept)
    stale = _stale(project, source, held, newest, now)
    told = {"rules": key, "stale": [item.rule for item in stale]}
    if cache.findings(project.layout, f"{source.name}-recorded") != told:
        _record(project, held, [*kept["broken"], *map(checking.to_json, stale)], run)
        cache.save_findings(project.layout, f"{source.name}-recorded", told)
    return [*found, *stale]


def _kept(value: Mapping[str, Any]) -> tuple[list[Finding], datetime | None]:
    newest = value.get("newest")
    return [checking.from_json(item) for item in value["broken"]], datetime.fromisoformat(newest) if newest else None


def _key(project: Project, source: Source, snapshot: str, others: Mapping[str, str]) -> str:
    """A name for these rules over this snapshot, and over those (source -> id) of the sources it must not overlap with."""
    told: list[Any] = [_FORM, snapshot, source.key, source.time, source.private]
    for item in rules(project, source.name):
        told.append([item.kind, item.columns, item.value, item.severity])
        if item.kind == "no_overlap":
            told.append(others.get(item.value, ""))
    return f"{source.name}-{hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:24]}"


def _look(project: Project, source: Source, held: Snapshot, others: Mapping[str, Snapshot]) -> Checked:
    from mlops_local.engines.data import checks, relations  # noqa: PLC0415  (duckdb, 90 ms: only for a snapshot not checked before)
    from mlops_local.services import contents  # noqa: PLC0415  (likewise)

    wanted = rules(project, source.name)
    whole = contents.of(project, held)
    if whole.kind != "table":
        raise ConfigError(f"mlops.toml: data.{source.name}.checks: {source.name} is no table", hint="remove the checks")
    beside = {name: list(contents.tables(project, contents.of(project, other)).values()) for name, other in others.items()}
    for item in wanted:
        if item.kind == "freshness" and not source.time:
            raise ConfigError(
                f"the check `{item.text}`: {source.name} declares no time column", hint="mlops.data(…, time='a column')"
            )
    files = list(contents.tables(project, whole).values())
    with (
        stored.scratch(project.layout.tmp, "checks") as scratch,
        relations.connect(scratch) as db,
    ):
        try:
            return checks.run(db, files, wanted, key=source.key, time=source.time, private=source.private, others=beside)
        except ConfigError as error:
            raise ConfigError(f"source {source.name}: {error.message}", hint=error.hint) from error


def _record(project: Project, held: Snapshot, broken: Sequence[Mapping[str, Any]], run: str) -> None:
    journal = Journal.open(project.layout.journal)
    try:
        journal.state(events.CHECKED, run=run, source=held.source, snapshot=held.id, findings=broken)
    finally:
        journal.close()


def _stale(project: Project, source: Source, held: Snapshot, newest: datetime | None, now: datetime) -> list[Finding]:
    found = []
    for item in rules(project, source.name):
        if item.kind != "freshness":
            continue
        finding = Finding(source.name, held.id, item.text, item.severity, (source.time,), rows=held.rows)
        if newest is None:
            found.append(replace(finding, note=f"no row has a {source.time}"))
            continue
        age = (now - newest.replace(tzinfo=UTC)).total_seconds()
        if age > item.value:
            said = f"the newest {source.time} is {newest:%Y-%m-%d %H:%M} UTC, {checking.duration(age)} ago"
            found.append(replace(finding, note=said))
    return found
