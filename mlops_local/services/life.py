"""What happens to a run after it ended: tagged, noted, renamed, removed, taken back.

Tags, notes and names are lines of this process's own journal. A removal is a decision in the ledger: it hides the run from
every list at once and can be taken back until `mlops gc` has collected the run's files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from mlops_local.domain import events
from mlops_local.domain.errors import AmbiguousReference, UsageError
from mlops_local.domain.records import dataclass
from mlops_local.domain.runs import Run, RunState, short_id
from mlops_local.services import references
from mlops_local.services.judging import write
from mlops_local.services.project import Project
from mlops_local.store import history, projection, registry
from mlops_local.store.journal import Journal
from mlops_local.store.ledger import Entry

KEPT = "kept"
"""The value of a removal that was taken back."""


@dataclass(frozen=True)
class Removal:
    """A run that is, or would be, removed."""

    id: str
    name: str
    versions: tuple[str, ...] = ()
    """Model versions it made: they stay."""


def tag(project: Project, ref: str, values: Mapping[str, str], *, remove: Sequence[str] = ()) -> dict[str, str]:
    """Set and take off a run's tags; return what it has then.

    Raises:
        UsageError: no such run, a tag without a name, or one to take off that it does not have.
    """
    run = references.resolve(project, ref)
    with project.store.reader() as db:
        has = history.tags(db, run)
    if any(not key.strip() for key in (*values, *remove)):
        raise UsageError("a tag needs a name", hint="as in `mlops tag @1 team=a`")
    for key in remove:
        if key not in has:
            raise UsageError(f"run {short_id(run)} has no tag {key!r}", hint=f"it has: {', '.join(has) or 'none'}")
    changes: list[tuple[str, Mapping[str, str]]] = [(events.UNTAG, {"run": run, "key": key}) for key in remove]
    changes += [(events.TAG, {"run": run, "key": key, "value": value}) for key, value in values.items()]
    if changes:
        with _journal(project, run) as journal:
            journal.states(changes)
    return {**{key: value for key, value in has.items() if key not in remove}, **values}


def note(project: Project, ref: str, text: str) -> str:
    """Add a note to a run; return its id. Raises UsageError."""
    run = references.resolve(project, ref)
    if not text.strip():
        raise UsageError("the note is empty", hint="as in `mlops note @1 'too few epochs'`")
    with _journal(project, run) as journal:
        journal.state(events.NOTE, run=run, text=text)
    return run


def rename(project: Project, ref: str, name: str) -> str:
    """Give a run another name; return its id. Raises UsageError."""
    run = references.resolve(project, ref)
    if not name.strip() or "@" in name:
        raise UsageError(f"{name!r} cannot be a run's name", hint="a name has letters and no @, which stands in references")
    with _journal(project, run) as journal:
        journal.state(events.RENAMED, run=run, name=name)
    return run


def removals(project: Project, refs: Sequence[str]) -> tuple[Removal, ...]:
    """Return what `remove` would remove, once each.

    Raises:
        UsageError: no such run; it still runs; or it made a champion or an approved version.
    """
    found = dict.fromkeys(references.resolve(project, ref) for ref in refs)
    with project.store.reader() as db:
        runs = [run for identifier in found if (run := history.run(db, identifier)) is not None]
    return tuple(_removal(project, run) for run in runs)


def remove(project: Project, refs: Sequence[str], *, reason: str = "") -> tuple[Removal, ...]:
    """Remove runs: from now on they are in no list, and `mlops gc` frees what only they need. All or none.

    Raises:
        UsageError: as `removals`.
        Conflict: somebody removed one meanwhile.
    """
    gone = removals(project, refs)
    now = registry.load(project.layout)
    if gone:
        write(project, [Entry(events.DELETION, one.id, "run", expect=_value(now, one.id), reason=reason) for one in gone])
    return gone


def take_back(project: Project, refs: Sequence[str], *, reason: str = "") -> tuple[Removal, ...]:
    """Take back removals. All or none.

    Raises:
        UsageError: no removed run is called so, or its files were collected meanwhile.
        AmbiguousReference: several are.
    """
    projection.fold(project.store)
    with project.store.reader() as db:
        names = dict(history.removed(db))
    back = dict.fromkeys(_removed(ref, names) for ref in refs)
    now = registry.load(project.layout)
    collected = {run for line in now.lines if line.kind == events.COLLECTED for run in line.data.get("runs", ())}
    for run in back:
        if run in collected:
            raise UsageError(
                f"run {short_id(run)} {names[run]} cannot come back: `mlops gc` has collected its files", hint="run it again"
            )
    write(project, [Entry(events.DELETION, run, KEPT, expect=_value(now, run), reason=reason) for run in back])
    return tuple(Removal(run, names[run]) for run in back)


def _removal(project: Project, run: Run) -> Removal:
    what = f"run {run.short} {run.name}"
    if run.state is RunState.RUNNING:
        raise UsageError(f"{what} is running", hint=f"end it first: mlops stop {run.short}")
    now = registry.load(project.layout)
    made = [version for version in now.versions.values() if version.run == run.id]
    for version in made:
        names = [alias for alias, named in now.aliases.items() if named == version.id]
        if names or version.state == "approved":
            is_ = " and ".join([*(["approved"] if version.state == "approved" else []), *names])
            raise UsageError(
                f"{what} made {version.id}, which is {is_}: where a model that is served comes from is kept",
                hint="a version that was rejected or never approved does not keep its run",
            )
    return Removal(run.id, run.name, tuple(version.id for version in made))


def _value(now: registry.Registry, run: str) -> str | None:
    """What the ledger says of a run's removal now."""
    said = [line.value for line in now.lines if line.kind == events.DELETION and line.subject == run]
    return said[-1] if said else None


def _removed(ref: str, names: Mapping[str, str]) -> str:
    found = [run for run, name in names.items() if ref == name or run.startswith(ref) or run[16:].startswith(ref)]
    if len(found) > 1:
        raise AmbiguousReference(
            f"{ref!r} could be {len(found)} removed runs", candidates=[f"{run[16:24]} {names[run]}" for run in found]
        )
    if not found:
        listed = ", ".join(f"{run[16:24]} {name}" for run, name in list(names.items())[:10])
        raise UsageError(f"no removed run is called {ref!r}", hint=f"removed: {listed or 'none'}")
    return found[0]


@contextmanager
def _journal(project: Project, run: str) -> Iterator[Journal]:
    """A journal for what is said of a run now, after all that was said of it before, whatever the clock said then."""
    with project.store.reader() as db:
        last_us = history.last_us(db, run)
    journal = Journal.open(project.layout.journal)
    journal.after(last_us)
    try:
        yield journal
    finally:
        journal.close()
