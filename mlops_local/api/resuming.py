"""Go on with a run that ended, or whose process is gone: one process at a time. Loads DuckDB, to find it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mlops_local.domain.errors import AmbiguousReference, StoreBusy, UsageError
from mlops_local.domain.runs import Run, RunState
from mlops_local.store import history, lock, projection
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout


class Resumed(NamedTuple):
    """The run that is gone on with."""

    id: str
    name: str
    last_us: int
    """When the last was said of it, in microseconds since 1970."""


@contextmanager
def resumed(layout: Layout, ref: str) -> Iterator[Resumed]:
    """Hold a run for the length of the block: no other process can resume it meanwhile.

    Args:
        layout: the store.
        ref: its id, the beginning of its shown id, or its name.

    Raises:
        UsageError: no such run, it is one of a pipeline, or a process still works at it.
        AmbiguousReference: several are called so.
    """
    found = _find(layout, ref)
    place = layout.leases / f"run.{found.id}"
    place.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with lock.hold(place, wait_s=0.0, passing=True):
            if _find(layout, found.id).state is RunState.RUNNING:  # asked again: nobody else can begin now
                raise _taken(found, "the process that began it")
            yield Resumed(found.id, found.name, _last(layout, found.id))
    except StoreBusy as error:
        raise _taken(found, lock.holder(place)) from error


def _find(layout: Layout, ref: str) -> Run:
    store = Store(layout)
    projection.fold(store)
    with store.reader() as db:
        named = "id = ? OR starts_with(substr(id, 17), ?) OR name = ?"
        found = history.runs(db, where=named, params=[ref] * 3, limit=10)
    exact = [run for run in found if run.id == ref]
    if not found:
        raise UsageError(f"there is no run {ref!r} to resume", hint="see `mlops runs`")
    if len(found) > 1 and not exact:
        raise AmbiguousReference(f"{ref!r} is several runs", candidates=[f"{run.short} {run.name}" for run in found])
    run = (exact or found)[0]
    if run.kind != "script":
        raise UsageError(f"run {run.short} is one of the pipeline", hint="go on with it by `mlops train --resume`")
    return run


def _last(layout: Layout, run: str) -> int:
    with Store(layout).reader() as db:
        return history.last_us(db, run)


def _taken(run: Run, by: str) -> UsageError:
    return UsageError(
        f"run {run.short} {run.name} is still being written, by {by}", hint=f"wait for it, or end it: mlops stop {run.short}"
    )
