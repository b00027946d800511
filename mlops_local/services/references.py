"""What a user's name for a thing means.

    run        id prefix · name · @latest · @1 (newest), @2 … · HEAD~1, git:COMMIT (its newest run) · a version's name
    version    delay@3 · delay@champion · @champion · @latest · delay@best · delay · a run that made exactly one
    snapshot   flights · flights@~1 (the one before) · flights@git:HEAD~1 (what that commit's mlops.lock says) · flights@NAME ·
               id prefix

`@best` compares only versions that were evaluated on the same rows as the newest one: other numbers are not comparable.
A reference that means several things is never guessed: AmbiguousReference lists them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mlops_local.domain.assets import ModelVersion, Snapshot
from mlops_local.domain.errors import AmbiguousReference, UsageError
from mlops_local.domain.names import counted
from mlops_local.domain.records import dataclass
from mlops_local.domain.runs import Run
from mlops_local.services import git
from mlops_local.services.project import Project
from mlops_local.store import cache, history, projection, registry
from mlops_local.store.registry import Registry

Thing = TypeVar("Thing")
KINDS = ("run", "version", "snapshot")
_GIT = re.compile(r"HEAD([~^].*)?|git:(?P<rev>.+)")
_HEX = re.compile(r"[0-9a-f]{2,64}")
_LISTED = 10


@dataclass(frozen=True)
class Reference:
    """A thing that was found."""

    kind: str
    """run, version or snapshot."""
    id: str


class _Nothing(UsageError):
    """This text names nothing of that kind; another kind may know it."""


def resolve(project: Project, text: str, kind: str = "run") -> str:
    """Return the id of the run, version or snapshot a text names.

    Raises:
        AmbiguousReference: it names several.
        UsageError: it names none.
    """
    find = {"run": _run, "version": _version, "snapshot": _snapshot}[kind]
    return find(project, text)


def find(project: Project, text: str, kinds: Sequence[str] = KINDS) -> Reference:
    """Return what a text names, whatever kind of thing it is; a run is tried first, then a version, then a snapshot.

    Raises:
        AmbiguousReference: it names several things.
        UsageError: it names nothing.
    """
    order = list(kinds)
    if "@" in text and "version" in order:  # delay@3 and flights@~1 say themselves what they are; as a run they are second best
        order = [*(kind for kind in order if kind != "run"), *(kind for kind in order if kind == "run")]
    if re.fullmatch(r"@(latest|\d+|best)", text):
        order.sort(key=lambda kind: kind != "run")
    for kind in order:
        try:
            return Reference(kind, resolve(project, text, kind))
        except _Nothing:
            continue
    raise UsageError(f"nothing is called {text!r}", hint=_near(project, text))


def _run(project: Project, text: str) -> str:
    if text == "@latest":
        return _newest(project, 1, text)
    if re.fullmatch(r"@\d+", text):
        return _newest(project, int(text[1:]), text)
    commit = _GIT.fullmatch(text)
    if commit:
        return _of_commit(project, commit["rev"] or text)
    if "@" in text:
        return _version_object(project, text).run
    condition, parameters = "name = ?", [text]
    if _HEX.fullmatch(text):
        condition += " OR starts_with(substr(id, 17), ?)" + (" OR starts_with(id, ?)" if len(text) > 8 else "")
        parameters += [text] * (2 if len(text) > 8 else 1)
    found = _runs(project, condition, parameters, limit=_LISTED + 1)
    exact = [run for run in found if text in {run.id, run.short}]
    return _one(text, exact or found, lambda run: f"{run.short} {run.name}", "run", project).id


def _newest(project: Project, number: int, text: str) -> str:
    found = _runs(project, "", (), limit=1, offset=number - 1) if number > 0 else []
    if not found:
        raise UsageError(
            f"{text}: there are not that many runs" if number != 1 else "there are no runs yet", hint="see `mlops runs`"
        )
    return found[0].id


def _of_commit(project: Project, revision: str) -> str:
    commit = git.commit(project.root, revision)
    if not commit:
        raise UsageError(f"git knows no commit {revision!r} here", hint="see `git log --oneline`")
    found = _runs(project, '"commit" = ?', (commit,), limit=1)
    if not found:
        raise UsageError(f"no run was made at commit {commit[:8]} ({revision})", hint="see `mlops runs`")
    return found[0].id


def _runs(project: Project, condition: str, parameters: Sequence[Any], *, limit: int, offset: int = 0) -> list[Run]:
    projection.fold(project.store)
    with project.store.reader() as db:
        return history.runs(db, where=condition, params=tuple(parameters), limit=limit, offset=offset)


def _version(project: Project, text: str) -> str:
    return _version_object(project, text).id


def _version_object(project: Project, text: str) -> ModelVersion:
    known = registry.load(project.layout)
    model, at, name = text.partition("@")
    if not at:
        return _of_model(known, model) if model in known.models() else _of_run(project, known, text)
    if re.fullmatch(r"\d+", name) and not model:
        return _of_run(project, known, text)
    versions = [version for version in known.versions.values() if model in {"", version.model}]
    if not versions:
        near = difflib.get_close_matches(model, known.models(), n=1)
        raise _Nothing(
            f"no model is called {model!r}", hint=f"did you mean {near[0]}@{name}?" if near else "see `mlops model ls`"
        )
    if re.fullmatch(r"\d+", name):
        return _numbered(versions, text)
    if not model and len({version.model for version in versions}) > 1:
        raise AmbiguousReference(f"{text!r} needs a model's name", candidates=[f"{item}@{name}" for item in known.models()])
    if name == "latest":
        return max(versions, key=lambda version: version.number)
    if name == "best":
        return best(versions)
    return _aliased(known, versions[0].model, name, text)


def best(versions: Sequence[ModelVersion]) -> ModelVersion:
    """Return the version with the best primary metric among those evaluated on the newest one's rows."""
    from mlops_local.engines.models.metrics import greater_is_better  # noqa: PLC0415  (loads numpy; only @best needs it)

    newest = max(versions, key=lambda version: version.number)
    same = [v for v in versions if v.evaluation == newest.evaluation and v.metric == newest.metric]
    sign = 1 if greater_is_better(newest.metric) else -1
    return max(same, key=lambda version: (sign * version.value, version.number))


def _of_model(known: Registry, model: str) -> ModelVersion:
    return known.champion(model) or known.of(model)[0]


def _of_run(project: Project, known: Registry, text: str) -> ModelVersion:
    run = _run(project, text)
    made = [version for version in known.versions.values() if version.run == run]
    return _one(text, made, lambda version: version.id, "version made by run", project)


def _numbered(versions: Sequence[ModelVersion], text: str) -> ModelVersion:
    for version in versions:
        if version.id == text:
            return version
    ids = [version.id for version in sorted(versions, key=lambda version: -version.number)]
    raise _Nothing(f"there is no version {text}", hint=f"versions: {', '.join(ids[:_LISTED])}")


def _aliased(known: Registry, model: str, name: str, text: str) -> ModelVersion:
    identifier = known.aliases.get(f"{model}@{name}")
    if identifier is not None and identifier in known.versions:
        return known.versions[identifier]
    names = [alias.partition("@")[2] for alias in known.aliases if alias.startswith(f"{model}@")]
    near = difflib.get_close_matches(name, [*names, "champion", "latest", "best"], n=1)
    hint = f"did you mean {model}@{near[0]}?" if near and near[0] != name else "see `mlops model ls`"
    raise _Nothing(f"{text}: no version of {model} is its {name}", hint=hint)


def _snapshot(project: Project, text: str) -> str:
    source, _, rest = text.partition("@")
    found = _snapshots(project)
    own = [snapshot for snapshot in found if snapshot.source == source]
    if own:
        return _of_source(project, own, source, rest or "latest")
    matching = [snapshot for snapshot in found if _HEX.fullmatch(text) and snapshot.id.startswith(text)]
    if not matching:
        near = difflib.get_close_matches(source, {snapshot.source for snapshot in found}, n=1)
        hint = f"did you mean {text.replace(source, near[0], 1)!r}?" if near else "see `mlops data ls`"
        raise _Nothing(f"no snapshot {text!r}", hint=hint)
    return _one(text, matching, lambda snapshot: f"{snapshot.short} {snapshot.source}", "snapshot", project).id


def _of_source(project: Project, own: Sequence[Snapshot], source: str, rest: str) -> str:
    if rest == "latest":
        return own[0].id
    back = re.fullmatch(r"~(\d*)", rest)
    if back:
        number = int(back[1] or 1)
        if number < len(own):
            return own[number].id
        raise UsageError(
            f"{source}@{rest}: {source} has {counted(len(own), 'snapshot')}", hint=f"see `mlops data log {source}`"
        )
    if rest.startswith("git:"):
        return _locked(project, source, rest.removeprefix("git:"))
    named = _tags(project, source)
    if rest in named:
        return named[rest]
    matching = [snapshot for snapshot in own if snapshot.id.startswith(rest)]
    if not matching:
        near = difflib.get_close_matches(rest, named, n=1)
        hint = f"did you mean '{source}@{near[0]}'?" if near else f"see `mlops data log {source}`"
        raise _Nothing(f"no snapshot '{source}@{rest}'", hint=hint)
    return _one(f"{source}@{rest}", matching, lambda snapshot: snapshot.short, "snapshot", project).id


def _tags(project: Project, source: str) -> dict[str, str]:
    with project.store.reader() as db:
        return history.snapshot_tags(db, source)


def _locked(project: Project, source: str, revision: str) -> str:
    from mlops_local.store import lockfile  # noqa: PLC0415  (only this reference reads it)

    if not git.commit(project.root, revision):
        raise UsageError(f"{revision!r} is no commit of a git repository here", hint="see `git log -- mlops.lock`")
    content = git.file_at(project.root, revision, project.layout.lockfile.name)
    if content is None:
        raise UsageError(f"commit {revision!r} has no mlops.lock", hint="see `git log -- mlops.lock`")
    entry = lockfile.parse(content.decode("utf-8")).sources.get(source)
    if entry is None:
        raise UsageError(f"mlops.lock at {revision} does not name {source}")
    return entry.snapshot


def snapshot(project: Project, text: str) -> Snapshot:
    """Return the snapshot a text names, with its files and columns.

    Raises:
        AmbiguousReference: it names several.
        UsageError: it names none.
    """
    source, id = text.partition("@")[0], _snapshot(project, text)
    with project.store.reader() as db:
        found = history.snapshots(db, id=id)
    if not found:  # only a lock file of another store names it
        raise UsageError(f"{text} is snapshot {id[:8]}, which is not in this store", hint="fetch it with `mlops pull`")
    return exact(project, next((item for item in found if item.source == source), found[0]))


def exact(project: Project, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with paths as they were: tables show what is not UTF-8 by a sign, journals have it."""
    if not any("\ufffd" in entry.path for entry in snapshot.files):
        return snapshot
    from mlops_local.store import seen  # noqa: PLC0415  (reads journals: only for names that are not UTF-8)

    newest = cache.snapshot(project.layout, snapshot.source)
    if newest is not None and newest.id == snapshot.id:
        return newest
    return seen.snapshot(project.layout, snapshot.source, snapshot.id) or snapshot


def _snapshots(project: Project) -> list[Snapshot]:
    """Every snapshot without its files, newest first."""
    projection.fold(project.store)
    with project.store.reader() as db:
        return history.snapshot_heads(db)


def _one(text: str, found: Sequence[Thing], label: Callable[[Thing], str], kind: str, project: Project) -> Thing:
    if len(found) == 1:
        return found[0]
    if not found:
        raise _Nothing(f"no {kind} {text!r}", hint=_near(project, text))
    labels = [label(item) for item in found[:_LISTED]]
    raise AmbiguousReference(f"{text!r} could be {len(found)} things", candidates=labels)


def _near(project: Project, text: str) -> str:
    names = [run.name for run in _runs(project, "", (), limit=500)] + list(registry.load(project.layout).versions)
    near = difflib.get_close_matches(text, names, n=1)
    return f"did you mean {near[0]!r}?" if near else "see `mlops runs`, `mlops model ls` and `mlops data ls`"
