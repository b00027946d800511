"""Free what nothing needs: say what that is, and remove it only when told to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlops_local.domain.errors import MlopsError
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.services.planning import read_code
from mlops_local.services.project import Project
from mlops_local.store import collect
from mlops_local.store.collect import Item


@dataclass(frozen=True)
class Heap:
    """Things of one kind that nothing needs, for one reason."""

    kind: str
    """object, data, result, log, draft or cache."""
    why: str
    count: int
    bytes: int


@dataclass(frozen=True)
class Freed:
    """What was found, and whether it was removed."""

    heaps: tuple[Heap, ...]
    removed: bool
    bytes: int
    needed: int
    """Objects that something needs."""
    young: int
    """Objects that nothing names, left because they are too young to tell."""
    runs: tuple[str, ...]
    """Removed runs that cannot be taken back whole any more."""


def gc(project: Project, *, yes: bool = False, emit: Emit = ignore) -> Freed:
    """Find what no kept run, version, snapshot, cached result or working process needs; with `yes` remove it.

    What is younger than a day, or than the oldest process that writes to the store, is left. A version's, a snapshot's and a
    kept run's objects always are.

    Args:
        project: the project.
        yes: remove it.
        emit: told what is left for later, and why.

    Raises:
        IntegrityError: a journal or the ledger cannot be read, so that nobody knows what they need; nothing is removed.
        StoreBusy: another collection works.
    """
    sources = _sources(project)
    if yes:
        found = collect.sweep(project.layout, wait_s=project.store.wait_s, sources=sources)
    else:
        found = collect.survey(project.layout, sources=sources)
    if found.waiting:
        emit(Progress("note", "a process writes to the store: what removed runs made stays until it ends"))
    return Freed(_heaps(found.items), yes, found.bytes, found.needed, found.young, found.runs)


def _sources(project: Project) -> frozenset[str] | None:
    """The sources that are declared; None when the pipeline cannot be read: then nobody knows."""
    try:
        return frozenset(source.name for source in read_code(project).graph.sources)
    except MlopsError:
        return None


def _heaps(items: Iterable[Item]) -> tuple[Heap, ...]:
    found: dict[tuple[str, str], Heap] = {}
    for item in items:
        before = found.get((item.kind, item.why), Heap(item.kind, item.why, 0, 0))
        found[item.kind, item.why] = Heap(item.kind, item.why, before.count + item.count, before.bytes + item.bytes)
    return tuple(found.values())
