"""What each request asks of the services, and their results as views. Runs in a worker's thread; never touches a widget."""

from __future__ import annotations

import re

from mlops_local.domain import sql
from mlops_local.domain.errors import Conflict
from mlops_local.services import compare, history, judging, model, query, status
from mlops_local.services.model import VersionView
from mlops_local.services.project import Project
from mlops_local.tui import words
from mlops_local.tui.messages import (
    AskComparison,
    AskHome,
    AskRun,
    AskRuns,
    AskVersions,
    Compared,
    Decided,
    Home,
    Promote,
    Request,
    Rollback,
    Runs,
    RunShown,
    Versions,
)
from mlops_local.tui.views import (
    Advice,
    ComparisonView,
    Difference,
    HomeView,
    LiveModel,
    RunsPage,
    RunView,
    Served,
    VersionRow,
)

Answer = Home | Runs | RunShown | Compared | Versions | Decided

NEWEST = 30
"""Runs listed on Home."""
LOG_LINES = 200
"""How many of the last lines of a step's output are shown."""
_FILTER = re.compile(r"[=<>~!]|\b(metric|param|tag)\.|\bin\s*\(|\bis\s+(not\s+)?null\b|^(not\s+)?(dirty|incomplete)$")


def answer(project: Project, request: Request) -> Answer:
    """Ask the services.

    Raises:
        MlopsError: the service said so.
    """
    match request:
        case AskHome():
            return Home(_home(project))
        case AskRuns():
            return Runs(_runs(project, request))
        case AskRun():
            return RunShown(_run(project, request.run))
        case AskComparison():
            return Compared(_comparison(project, request.runs))
        case AskVersions():
            return Versions(tuple(_version(view) for view in model.versions(project)))
        case Promote():
            return Decided(_promote(project, request))
        case Rollback():
            version = model.rollback(project, request.model, reason=request.reason)
            return Decided(f"{version.id} is the champion again.")
    raise AssertionError(type(request))


def filter_of(text: str) -> str:
    """What was typed as a filter: words alone are part of a run's name."""
    if not text or _FILTER.search(text):
        return text
    return f"name ~ {sql.quote(text)}"


def _home(project: Project) -> HomeView:
    found = status.status(project)
    versions = {view.version.id: view for view in model.versions(project)}
    newest = query.listing(project, limit=NEWEST)
    models = []
    for champion in found.champions:
        view = versions.get(champion.version)
        served = champion.served
        models.append(
            LiveModel(
                champion.model,
                view.version if view else None,
                view.verdict if view else None,
                Served(served.version, served.port, served.pid, served.alive, served.since) if served else None,
            )
        )
    return HomeView(
        project=found.project,
        models=tuple(models),
        attention=tuple(Advice(item.text, item.command) for item in found.attention),
        newest=newest.runs,
        next=tuple(Advice(item.why, item.command) for item in found.next if item.command != "mlops ui"),
        runs=newest.total,
        trains=found.trains,
    )


def _runs(project: Project, request: AskRuns) -> RunsPage:
    asked = request.query
    found = query.listing(project, filter_of(asked.text), sort=asked.sort, limit=request.limit, offset=request.start)
    return RunsPage(asked, found.total, request.start, found.runs)


def _run(project: Project, identifier: str) -> RunView:
    found = history.detail(project, identifier)
    failed = [step for step in found.steps if step.error]
    return RunView(
        found.run,
        found.steps,
        found.run.params,
        tuple(history.curves(project, [identifier])),
        _log(project, identifier),
        failed[-1].error if failed else found.run.error,
    )


def _log(project: Project, identifier: str) -> str:
    """The end of what each step printed, the newest last."""
    parts = []
    for log in history.logs(project, identifier):
        text = "\n".join(history.read_log(log, tail=LOG_LINES)).strip()
        if text:
            parts.append(f"{log.name}\n{text}")
    return "\n\n".join(parts)


def _comparison(project: Project, runs: tuple[str, ...]) -> ComparisonView:
    found = compare.compare(project, runs)
    rows = tuple(
        Difference(section, row.name, tuple(_text(section, value) for value in row.values), row.differs, _best(section, row))
        for section, members in found.sections.items()
        for row in members
    )
    details = tuple(history.detail(project, identifier).run for identifier in runs)
    return ComparisonView(details, rows, tuple(history.curves(project, runs)))


def _text(section: str, value: object) -> str:
    if value is None:
        return ""
    if section == "params":
        return words.short(value)
    return words.number(value) if isinstance(value, float) else str(value)


def _best(section: str, row: compare.Row) -> int | None:
    """Which value is best, for a metric whose name says what better is."""
    numbers = [(value, place) for place, value in enumerate(row.values) if isinstance(value, float) and value == value]
    if section != "metrics" or len(numbers) < 2 or not row.differs:
        return None
    if words.lower_is_better(row.name):
        return min(numbers)[1]
    return max(numbers, key=lambda pair: (pair[0], -pair[1]))[1] if words.higher_is_better(row.name) else None


def _version(view: VersionView) -> VersionRow:
    return VersionRow(view.version, view.verdict, tuple(view.aliases), view.deployed, view.warning)


def _promote(project: Project, request: Promote) -> str:
    now = judging.champions(project).get(request.version.partition("@")[0], "")
    if now != request.expect:
        raise Conflict(
            f"not promoted: the champion is {now or 'nobody'} now, it was {request.expect or 'nobody'} when you decided",
            hint="look again, then decide",
        )
    version = model.promote(project, request.version, reason=request.reason, force=True)
    return f"{version.id} is the champion."
