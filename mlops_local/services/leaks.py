"""What looked like a leak when a model's features were made, as far as that is known of the code and data as they are now.

Nothing is looked for here: a training does that where label and split are known, in the worker.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlops_local.domain import checks
from mlops_local.domain.checks import Finding
from mlops_local.domain.graph import Graph, Model
from mlops_local.domain.plan import Decision
from mlops_local.domain.progress import Emit, ignore
from mlops_local.domain.records import dataclass
from mlops_local.domain.splits import unfolded
from mlops_local.engines.pipeline.plan import needed
from mlops_local.services import planning
from mlops_local.services.project import Project
from mlops_local.store import cache


@dataclass(frozen=True)
class Leaks:
    """What is known of one model."""

    model: str
    findings: tuple[Finding, ...] = ()
    unknown: str = ""
    """Why nothing is known of it as it is now; empty where its features are up to date."""


def known(project: Project, sources: Sequence[str], *, emit: Emit = ignore) -> list[Leaks]:
    """Return what is known of the models whose features are made of these sources.

    Raises:
        ConfigError: the code cannot be read.
    """
    graph = planning.read_code(project).graph
    chosen = {model.name: steps for model in graph.models if set(sources) & set(_read(graph, steps := _features(graph, model)))}
    if not chosen:
        return []
    plan = planning.plan(project, [step for steps in chosen.values() for step in steps], emit=emit)
    decisions = {decision.name: decision for decision in plan.decisions}
    return [_of(project, name, [decisions[step] for step in steps]) for name, steps in chosen.items()]


def _of(project: Project, model: str, decisions: Sequence[Decision]) -> Leaks:
    found: list[Finding] = []
    for decision in decisions:
        kept = cache.recorded(project.layout, decision.fingerprint) if decision.state == "fresh" else None
        if kept is None or "findings" not in kept.report:
            return Leaks(model, unknown=decision.reasons[0].text() if decision.reasons else "not made yet")
        found += checks.of_report(kept.report)
    return Leaks(model, tuple(found))


def _features(graph: Graph, model: Model) -> list[str]:
    """The steps that make a model's features: one, and one for each fold."""
    return [step.name for step in graph.steps if unfolded(step.name) == f"{model.name}.features"]


def _read(graph: Graph, steps: Sequence[str]) -> tuple[str, ...]:
    return planning.sources_of(graph, needed(graph, steps))
