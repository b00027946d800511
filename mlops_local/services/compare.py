"""What differs between runs or model versions: parameters, metrics, code by name, data, packages, environment.

Nothing is judged here: two numbers side by side are not a verdict. Where the ledger holds one on two versions, it is quoted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlops_local.domain.assets import ModelVersion, Verdict
from mlops_local.domain.errors import UsageError
from mlops_local.services import history, references
from mlops_local.services.history import RunDetail
from mlops_local.services.project import Project
from mlops_local.store import history as stored
from mlops_local.store import registry

SECTIONS = ("metrics", "params", "code", "data", "env", "environment")
_POINTS = 60
"""Of each curve: enough for a picture beside a number."""


@dataclass(frozen=True)
class Subject:
    """One of the things compared."""

    kind: str
    """run or version."""
    id: str
    label: str
    """As a person names it: a run's short id and name, a version's id."""


@dataclass(frozen=True)
class Row:
    """One thing, and its value in each subject; None where a subject does not have it."""

    name: str
    values: tuple[Any, ...]
    difference: float | None = None
    """Last minus first, for numbers."""

    @property
    def differs(self) -> bool:
        """Whether the subjects do not all have the same value."""
        return any(_unlike(value, self.values[0]) for value in self.values[1:])


def _unlike(one: Any, other: Any) -> bool:
    nan = one != one and other != other
    return bool(one != other) and not nan


@dataclass(frozen=True)
class Comparison:
    """What differs between two or more subjects."""

    subjects: tuple[Subject, ...]
    sections: Mapping[str, tuple[Row, ...]]
    """Section name -> every row, equal ones too."""
    curves: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """Metric -> its points in each subject, thinned; of the metrics with several in any of them."""
    verdict: Verdict | None = None
    """Of one subject against another, where there is one."""
    notes: tuple[str, ...] = ()
    """What makes the numbers not comparable, and what of a subject is not known."""

    @property
    def differs(self) -> bool:
        """Whether anything differs."""
        return any(row.differs for rows in self.sections.values() for row in rows)


@dataclass(frozen=True)
class _Facts:
    """All that is compared of one subject."""

    subject: Subject
    values: Mapping[str, Mapping[str, Any]]
    run: str = ""
    """Its own id, or that of the run which made it."""
    version: ModelVersion | None = None


def compare(project: Project, refs: Sequence[str]) -> Comparison:
    """Compare runs or versions, in the order given.

    Args:
        project: the project.
        refs: two or more references; runs and versions may be mixed.

    Raises:
        UsageError: fewer than two, or a reference that names nothing or several things.
    """
    if len(refs) < 2:
        raise UsageError("nothing to compare with", hint="give two references, as in `mlops compare @2 @1`")
    found = [references.find(project, text, kinds=("run", "version")) for text in refs]
    facts = [_facts(project, reference) for reference in found]
    return Comparison(
        subjects=tuple(item.subject for item in facts),
        sections={name: tuple(_rows([item.values[name] for item in facts])) for name in SECTIONS},
        curves=_curves(project, [item.run for item in facts]),
        verdict=_verdict(project, facts),
        notes=tuple(_notes(facts)),
    )


def _facts(project: Project, reference: references.Reference) -> _Facts:
    if reference.kind == "run":
        detail = history.detail(project, reference.id)
        return _Facts(
            subject=Subject("run", detail.run.id, f"{detail.run.short} {detail.run.name}"),
            values={"metrics": dict(detail.run.metrics), **_of_run(project, detail)},
            run=detail.run.id,
        )
    version = registry.load(project.layout).versions[reference.id]
    values: dict[str, Mapping[str, Any]] = {name: {} for name in SECTIONS}
    run = version.run if history.known(project, version.run) else ""  # it may have been removed: the version stays
    if run:
        values = _of_run(project, history.detail(project, run))
    metrics = {version.metric: version.value, **version.metrics}
    return _Facts(
        subject=Subject("version", version.id, version.id),
        values={**values, "metrics": metrics, "data": _data(project, version.snapshots)},
        run=run,
        version=version,
    )


def _of_run(project: Project, detail: RunDetail) -> dict[str, Mapping[str, Any]]:
    where = detail.environment
    code: dict[str, Any] = {"git commit": detail.run.commit[:10]} if detail.run.commit else {}
    env: dict[str, Any] = dict(where["packages"])
    for step, result in detail.results.items():
        for part in result.parts:
            if part.kind == "code":
                # A symbol is the same thing in every step; what is said of a step itself is that step's.
                own = part.where or step in part.what
                code[part.what if own else f"{part.what} ({step})"] = part.value[:8]
            elif part.kind == "env":
                env[part.what] = part.value
    machine = {
        "host": where["host"],
        "python": where["python"],
        "interpreter": where["interpreter"],
        "command": " ".join(where["argv"]),
    }
    return {
        "params": dict(detail.run.params),
        "code": code,
        "data": _data(project, detail.snapshots),
        "env": env,
        "environment": {**{key: value for key, value in machine.items() if value}, **where["env"]},
    }


def _data(project: Project, snapshots: Mapping[str, str]) -> dict[str, Any]:
    """Each source's snapshot, how many rows it has, and its columns' types."""
    made: dict[str, Any] = {}
    with project.store.reader() as db:
        for source, identifier in snapshots.items():
            made[source] = identifier[:8]
            for snapshot in stored.snapshots(db, source, identifier):
                made[f"{source} rows"] = snapshot.rows
                made |= {f"{source}.{column.name}": column.type for column in snapshot.columns}
    return made


def _curves(project: Project, runs: Sequence[str]) -> dict[str, tuple[tuple[float, ...], ...]]:
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for curve in history.curves(project, sorted(set(filter(None, runs))), points=_POINTS):
        found.setdefault(curve.key, {})[curve.run] = curve.values
    return {
        key: tuple(of.get(run, ()) for run in runs)
        for key, of in found.items()
        if any(len(values) > 1 for values in of.values())
    }


def _rows(values: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    names = dict.fromkeys(name for mapping in values for name in mapping)
    for name in sorted(names):
        found = tuple(mapping.get(name) for mapping in values)
        yield Row(name, found, _difference(found[0], found[-1]))


def _difference(first: Any, last: Any) -> float | None:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (first, last))
    try:
        return last - first if numbers else None
    except OverflowError:  # a whole number that no float holds
        return None


def _verdict(project: Project, facts: Sequence[_Facts]) -> Verdict | None:
    versions = {item.version.id for item in facts if item.version is not None}
    verdicts = registry.load(project.layout).verdicts
    return next((verdicts[name] for name in versions if name in verdicts and verdicts[name].baseline in versions), None)


def _notes(facts: Sequence[_Facts]) -> Iterator[str]:
    for item in facts:
        if item.version is not None and item.version.run and not item.run:
            yield f"the run that made {item.version.id} is not here: its parameters, code and packages are not known"
    evaluations = {item.version.evaluation for item in facts if item.version is not None}
    if len(evaluations) > 1:
        yield "evaluated on different rows: their metrics are not comparable as they stand"
