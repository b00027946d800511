"""From data to models and back: what a snapshot, run or version was made from and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlops_local.services import references
from mlops_local.services.project import Project
from mlops_local.store import history, projection

Node = tuple[str, str]
"""Kind (snapshot, run, version, deployment) and id."""


@dataclass(frozen=True)
class Step:
    """One thing on the way, `depth` steps from the one that was asked about."""

    kind: str
    id: str
    name: str
    """As people name it: `flights 3f2a91b0`, `brisk-otter`, `delay@3`."""
    depth: int
    about: str = ""
    """A run's state, a version's state and metric, how many predictions."""


@dataclass(frozen=True)
class Lineage:
    """What there is to know."""

    subject: Step
    sources: tuple[Step, ...]
    """What it was made from, the nearest first within each branch."""
    results: tuple[Step, ...]
    """What came of it."""


def lineage(project: Project, reference: str) -> Lineage:
    """Return what a snapshot, run or version was made from and what came of it.

    Raises:
        UsageError: the reference names nothing; AmbiguousReference: several things.
    """
    found = references.find(project, reference)
    projection.fold(project.store)
    with project.store.reader() as db:
        edges, names = history.lineage(db)
    up: dict[Node, list[Node]] = {}
    down: dict[Node, list[Node]] = {}
    for kind, id, from_kind, from_id in edges:
        up.setdefault((kind, id), []).append((from_kind, from_id))
        down.setdefault((from_kind, from_id), []).append((kind, id))
    node = (found.kind, found.id)
    return Lineage(_step(node, 0, names), tuple(_walk(node, up, names)), tuple(_walk(node, down, names)))


def _walk(start: Node, edges: Mapping[Node, Sequence[Node]], names: Mapping[Node, tuple[str, str]]) -> list[Step]:
    """Everything that can be reached, depth first; a thing that is reached by several ways stands at the first."""
    seen, found = {start}, []
    stack = [(node, 1) for node in reversed(sorted(edges.get(start, ())))]
    while stack:
        node, depth = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        found.append(_step(node, depth, names))
        stack += [(other, depth + 1) for other in reversed(sorted(edges.get(node, ())))]
    return found


def _step(node: Node, depth: int, names: Mapping[Node, tuple[str, str]]) -> Step:
    name, about = names.get(node, (node[1], ""))
    return Step(node[0], node[1], name, depth, about)
