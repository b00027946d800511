"""Bundle what a candidate fitted, and ask the bundle for the test rows in a fresh process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlops_local.domain.graph import Model
from mlops_local.domain.jobs import Code
from mlops_local.domain.xy import XY
from mlops_local.engines.models import targets
from mlops_local.worker.features import label_of, unseen


@dataclass(frozen=True)
class Node:
    """A fitted model and all it takes to bundle it and answer rows with it."""

    model: Model
    declaration: Any
    """The `mlops.model(...)` object: transform, label, metrics, tests."""
    fitted: Any
    """What the candidate returned."""
    parts: Mapping[str, XY]
    """Features, label and rows of train, valid and test."""
    states: Mapping[str, Any]
    """The transform's further arguments."""
    candidate: str
    sources: Mapping[str, Code]
    """The project's modules, to cut the transform from."""
    hidden: Sequence[str]
    """Outcome columns."""
    out: Path
    """An existing folder for the bundle."""
    keys: Sequence[Sequence[str]] = ()
    """The sources' declared keys, which name rows."""
    private: Collection[str] = ()
    """Columns whose values are not shown."""

    @property
    def seen(self) -> list[str]:
        """The raw columns the transform may see."""
        hidden = unseen(label_of(self.declaration), self.hidden)
        return [name for name in self.parts["test"].rows.columns if name not in hidden]

    def on(self, target: str) -> Node:
        """The same for one target by name: a model of its own in a folder of its own."""
        folder = self.out / target
        folder.mkdir(parents=True, exist_ok=True)
        return replace(
            self,
            model=replace(self.model, label=str(label_of(self.declaration)[target]), metric="", targets=()),
            fitted=targets.fitted(self.model, self.fitted, target),
            parts={part: XY(xy.X, xy.y[target], xy.rows) for part, xy in self.parts.items()},
            out=folder,
        )


@dataclass(frozen=True)
class Bundled:
    """A bundle that was made, and what it answers for the test rows in a fresh process."""

    exported: Mapping[str, Any]
    """Target -> its model as it is served."""
    loaded: Any
    needed: Sequence[str]
    """The raw columns it asks for."""
    answers: Mapping[str, Any]
    """Target -> its answers."""


def bundle(node: Node) -> Bundled:
    """Export and bundle the fitted models, and ask the bundle for the test rows.

    Raises:
        StepFailed: a model cannot be bundled, or the bundle answers otherwise than the model.
    """
    if not node.model.targets:
        return _one(node)
    from mlops_local.engines.models import several

    made = {name: _one(node.on(name)) for name in node.model.targets}
    loaded = several.build(node.out, node.model.targets, label=node.model.label, metric=node.model.metric)
    return Bundled(
        {name: one.exported[""] for name, one in made.items()},
        loaded,
        next(iter(made.values())).needed,
        {name: one.answers[""] for name, one in made.items()},
    )


def _one(node: Node) -> Bundled:
    import numpy as np
    import polars as pl

    from mlops_local.engines.models import build, export, rowwise, signature, transform

    model, parts, test = node.model, node.parts, node.parts["test"]
    binary = bool(np.isin(test.y.cast(pl.Float64).to_numpy(), (0.0, 1.0)).all())
    real = pl.concat([test.X, parts["valid"].X])
    exported = export.export(node.fitted, test.X.columns, transform.matrix(real, real.columns), binary=binary)
    made = rowwise.Transform(node.declaration.features, node.states, model.rows)
    needed = rowwise.needed(made, _sample(parts["train"].rows, 64), node.seen)
    recipe = build.Recipe(
        model=model.name,
        candidate=node.candidate,
        signature=signature.describe(parts["train"].rows, needed, _gaps(parts, needed)),
        transform=model.features.name,
        source=build.transform_source(node.sources, model.features.module, model.features.name),
        rows=model.rows,
        states=node.states,
        label=model.label,
        metric=model.metric,
    )
    matrix = transform.matrix(test.X, exported.features)
    loaded = build.build(node.out, recipe, exported, test.rows, matrix)
    answers = pl.Series("prediction", build.answer(node.out, loaded, test.rows, matrix), dtype=pl.Float64)
    return Bundled({"": exported}, loaded, needed, {"": answers})


def _sample(rows: Any, count: int) -> Any:
    """Evenly spaced rows."""
    return rows if rows.height <= count else rows.gather_every(rows.height // count)


def _gaps(parts: Mapping[str, XY], names: Sequence[str]) -> dict[str, str]:
    """Columns with gaps anywhere in the data: rows like those already seen must not be refused."""
    from mlops_local.engines.models import signature

    found: dict[str, str] = {}
    for xy in parts.values():
        for name, kind in signature.gaps_in(xy.rows, names).items():
            found[name] = "null" if found.get(name) == "null" else kind
    return found
