"""Run the node bodies a model adds to the graph: `split`, `features`, `score` and `evaluate`.

A `split` node divides rows as `mlops.rolling` or `mlops.kfold` says. A `features` node turns the split's parts into what
candidates fit on. A `score` node answers what a fold holds out through a bundle of the fold's model. An `evaluate` node bundles
a fitted model and scores the test rows through the bundle. The bodies are in `worker.features` and `worker.evaluate`; here the
job's values become their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain.graph import Model
from mlops_local.domain.jobs import StepJob
from mlops_local.domain.splits import unfolded

KINDS = ("split", "features", "score", "evaluate")
"""Kinds of steps whose bodies are here."""
PARTS = ("train", "valid", "test")
STATE = "states."
"""Prefix of the arguments that carry the transform's states, so that a state may be called `train`."""
HELD_OUT = "held_out"
"""The argument of an evaluation that is a list: what each fold answered."""


def run(job: StepJob, declaration: Any, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run one of these nodes.

    Args:
        job: the job; its step's kind says which.
        declaration: the `mlops.model(...)` object of the imported pipeline; None for a split that needs no label.
        values: the loaded inputs by argument: rows (a split); train, valid, test (a features node: the split's parts; else XY);
            fitted, `states.NAME`, and `held_out[K]`, what the folds answered.

    Returns:
        The outputs by name, and the report.
    """
    from mlops_local.worker import evaluate  # the bodies import polars and onnx

    if job.step.kind == "split":
        return evaluate.divide(job.step, declaration, values["rows"], seed=job.seed), {}
    model = job.graph.model(job.step.model)
    states = {name.removeprefix(STATE): value for name, value in values.items() if name.startswith(STATE)}
    hidden = tuple(dict.fromkeys(column for source in job.graph.sources for column in source.outcome))
    if job.step.kind == "features":
        made, report = evaluate.features(
            model,
            declaration,
            {part: values[part] for part in PARTS},
            states,
            hidden=hidden,
            seed=job.seed,
            sources=job.graph.sources,
            fold=job.step.fold,
        )
        return dict(made), report
    node = evaluate.Node(
        model,
        declaration,
        values["fitted"],
        {part: values[part] for part in PARTS},
        states,
        candidate=unfolded(job.step.name).removesuffix(".evaluate"),
        sources=job.sources,
        hidden=hidden,
        out=_folder(job.out, model),
        keys=tuple(source.key for source in job.graph.sources if source.key),
        private=frozenset(name for source in job.graph.sources for name in source.private),
    )
    if job.step.kind == "score":
        return evaluate.score(node)
    return evaluate.evaluate(node, [value for name, value in values.items() if name.startswith(f"{HELD_OUT}[")])


def _folder(out: Path, model: Model) -> Path:
    """Where the bundle is put together."""
    folder = out / f"bundle-{model.name}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
