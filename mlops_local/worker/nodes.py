"""Run the node bodies a model adds to the graph: `features` and `evaluate`.

A `features` node turns the split's parts into what candidates fit on. An `evaluate` node bundles a fitted model and scores the
test rows through the bundle. The bodies are in `worker.evaluate`; here the job's values become their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain.graph import Model
from mlops_local.domain.jobs import StepJob

PARTS = ("train", "valid", "test")
STATE = "states."
"""Prefix of the arguments that carry the transform's states, so that a state may be called `train`."""


def run(job: StepJob, declaration: Any, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a features or evaluate node.

    Args:
        job: the job; its step's kind says which.
        declaration: the `mlops.model(...)` object of the imported pipeline.
        values: the loaded inputs by argument: train, valid, test (a features node: the split's parts; an evaluate node: XY),
            fitted (evaluate only) and `states.NAME`.

    Returns:
        The outputs by name, and the report.
    """
    from mlops_local.worker import evaluate  # the bodies import polars and onnx

    model = job.graph.model(job.step.model)
    states = {name.removeprefix(STATE): value for name, value in values.items() if name.startswith(STATE)}
    hidden = tuple(dict.fromkeys(column for source in job.graph.sources for column in source.outcome))
    if job.step.kind == "features":
        made, report = evaluate.features(
            model, declaration, {part: values[part] for part in PARTS}, states, hidden=hidden, seed=job.seed
        )
        return dict(made), report
    return evaluate.evaluate(
        model,
        declaration,
        values["fitted"],
        {part: values[part] for part in PARTS},
        states,
        candidate=job.step.name.removesuffix(".evaluate"),
        sources=job.sources,
        hidden=hidden,
        seed=job.seed,
        out=_folder(job.out, model),
        keys=tuple(source.key for source in job.graph.sources if source.key),
    )


def _folder(out: Path, model: Model) -> Path:
    """Where the bundle is put together."""
    folder = out / f"bundle-{model.name}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
