"""Which steps an edit affects, told without running anything. Pure.

Coarser than a plan: a step after an affected one counts as affected, though its input may come out the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mlops_local.domain.graph import Step


def affected(
    steps: Sequence[Step], before: Mapping[str, str], now: Mapping[str, str], sources: Collection[str] = ()
) -> frozenset[str]:
    """Return the names of the steps whose own meaning differs, that read a changed source, or that follow one of these.

    Args:
        steps: in an order in which they can run.
        before: step -> what it meant, as text.
        now: the same now; a step that is missing here differs.
        sources: names of the sources whose files changed.
    """
    found: set[str] = set()
    for step in steps:
        touched = any(item.node in found or item.node in sources for item in step.inputs)
        if touched or before.get(step.name) is None or before[step.name] != now.get(step.name):
            found.add(step.name)
    return frozenset(found)
