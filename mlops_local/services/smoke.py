"""Run the pipeline on a sample: a graph whose large sources give a part of their rows, and whose results are of their own.

The sample is part of what every step means: no result of a sample is ever taken for one of everything, nor the other way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mlops_local.domain.assets import Snapshot
from mlops_local.services.known import Code

FEWEST_ROWS = 1000
"""A source with fewer rows is left whole."""
SMALL = 0.2
"""So is one with fewer rows than this part of the largest: what others are joined with should still be found."""
NAME = "sample"
"""Under this name a step's extras and its report say that it is one."""


def sampled(code: Code, snapshots: Mapping[str, Snapshot], fraction: float) -> Code:
    """The same code over a sample of its sources.

    Args:
        code: as it was described.
        snapshots: source -> what it holds now.
        fraction: of the rows.
    """
    rows = {name: snapshot.rows for name, snapshot in snapshots.items() if snapshot.columns}
    least = max(FEWEST_ROWS, SMALL * max(rows.values(), default=0))
    graph = code.graph
    sources = tuple(
        replace(source, sample=fraction) if rows.get(source.name, 0) >= least else source for source in graph.sources
    )
    steps = tuple(replace(step, extras={**step.extras, NAME: repr(fraction)}) for step in graph.steps)
    # Not described as such: what its steps depend on is not kept beside what the whole depends on.
    key = f"{code.key}-{NAME}"
    return Code(code.sources, replace(graph, sources=sources, steps=steps), key, programs=code.programs)
