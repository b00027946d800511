"""Lists of runs: filtered, ordered, grouped over seeds. Reads runs and nothing else, so that a list is there at once.

Every reading folds the journals first, so that what a process logged a moment ago is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mlops_local.domain.filters import FIELDS
from mlops_local.domain.records import dataclass
from mlops_local.domain.runs import Run
from mlops_local.services.project import Project
from mlops_local.store import projection, search

if TYPE_CHECKING:
    from mlops_local.store.grouping import Grouped


@dataclass(frozen=True)
class Listing:
    """Runs that were asked for."""

    runs: tuple[Run, ...]
    total: int
    """How many match in all."""
    asked: tuple[str, ...] = ()
    """The fields of the filter and the order, by full name."""
    columns: tuple[str, ...] = ()
    """The fields that were wanted, by full name."""


def listing(
    project: Project, where: str = "", *, sort: str = "", limit: int | None = 20, offset: int = 0, columns: Sequence[str] = ()
) -> Listing:
    """List runs, newest first unless sorted otherwise.

    Args:
        project: the project.
        where: a filter, as in `state = failed or metric.auc > 0.7` (`domain.filters`).
        sort: a field, `-` before it for largest first; runs without a value come last.
        limit: at most so many; None for all.
        offset: leave out so many.
        columns: fields that are wanted, to be named in full.

    Raises:
        UsageError: the filter or a field cannot be read, or no run has it.
    """
    projection.fold(project.store)
    with project.store.reader() as db:
        wanted = search.full(db, columns)
        found = search.runs(db, where, sort=sort, limit=limit, offset=offset)
        return Listing(tuple(found.runs), found.total, found.asked, wanted)


def groups(
    project: Project,
    by: Sequence[str],
    where: str = "",
    *,
    metrics: Sequence[str] = (),
    sort: str = "",
    limit: int | None = 20,
) -> Grouped:
    """Take runs that have the same values of some fields together: how many, and each metric's mean and standard deviation.

    Args:
        project: the project.
        by: the fields: param.lr, tag.team, commit.
        where: a filter, as for `listing`.
        metrics: which metrics; default: the one it is sorted by and those most of the runs have.
        sort: one of the fields, a metric (its mean) or `runs`; `-` before it for largest first.
        limit: at most so many groups; None for all.

    Raises:
        UsageError: the filter or a field cannot be read, or no run has it.
    """
    from mlops_local.store import grouping  # noqa: PLC0415  (a plain list needs none of it)

    projection.fold(project.store)
    with project.store.reader() as db:
        return grouping.groups(db, by, where, metrics=metrics, sort=sort, limit=limit)


def runs(project: Project, where: str = "", *, sort: str = "", limit: int | None = None) -> list[dict[str, Any]]:
    """Return runs as flat rows: what every run has, then `param.NAME`, `metric.NAME` (its last value) and `tag.NAME`.

    Args:
        project: the project.
        where: a filter, as for `listing`.
        sort: a field, `-` before it for largest first; default: newest first.
        limit: at most so many; None for all.

    Raises:
        UsageError: the filter or the field cannot be read, or no run has it.
    """
    return [row(run) for run in listing(project, where, sort=sort, limit=limit).runs]


def row(run: Run) -> dict[str, Any]:
    """Return one run as a flat row."""
    own = {name: getattr(run, name) for name in FIELDS}
    parts = {"param": run.params, "metric": run.metrics, "tag": run.tags}
    return {
        **own,
        "state": run.state.value,
        **{f"{space}.{name}": value for space, values in parts.items() for name, value in values.items()},
    }


def present(rows: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Return every field some of the rows have: what every run has first, then parameters, metrics and tags by name."""
    names = {name for row in rows for name in row}
    order = {"param": 0, "metric": 1, "tag": 2}
    return (*FIELDS, *sorted(names - FIELDS.keys(), key=lambda name: (order[name.partition(".")[0]], name)))


def changed(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the parameters, by full name, whose values differ between these runs."""
    names = sorted({name for run in runs for name in run.params})
    return tuple(f"param.{name}" for name in names if len({repr(run.params.get(name)) for run in runs}) > 1)
