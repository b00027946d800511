"""Give every fold nodes of its own: `split[1]`, `codes[1]`, `delay.features[1]`, `gbm[1]`, `gbm.evaluate[1]`.

A fold is made of what the model is made of: whatever is computed from the split's parts on the way to a candidate is computed
again from the fold's parts, so nothing that was learned from held-out rows can reach a fold. The steps without a number learn
from all rows and make the version; their evaluation is of what the folds answered. Pure, like all of describing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mlops_local.domain.graph import Input, Model, Step
from mlops_local.domain.splits import numbered
from mlops_local.worker.nodes import HELD_OUT
from mlops_local.worker.scan import Problem

FITTED = "folds"
"""The argument with which a candidate asks for the models its folds fitted: a list, empty in the folds themselves."""


def of(steps: Sequence[Step], models: Iterable[Model], problems: list[Problem]) -> list[Step]:
    """The steps with those of all folds before them.

    Args:
        steps: every step, each once.
        models: every model.
        problems: what cannot be is added.
    """
    by_name = {step.name: step for step in steps}
    added: dict[str, tuple[Step, str]] = {}
    for model in (model for model in models if model.folds):
        evaluated = [name for candidate in model.candidates if (name := f"{candidate}.evaluate") in by_name]
        renewed = _between(by_name, model.split, [f"{model.name}.features", *model.candidates, *evaluated])
        for fold in range(1, model.folds + 1):
            for name in renewed:
                made = _in_fold(by_name[name], fold, renewed)
                before, split = added.setdefault(made.name, (made, model.split))
                if before != made:
                    splits = f"two splits, {split} and {model.split}"
                    text = f"{made.file}:{made.line}: '{name}' would be learned in the folds of {splits}"
                    problems.append(Problem(text, "a fold is one split's: write the step twice, under two names"))
    counts = {name: model.folds for model in models for name in _ends(model)}
    return [*(step for step, _ in added.values()), *(_whole(step, counts.get(step.name, 0)) for step in steps)]


def _ends(model: Model) -> list[str]:
    return [name for candidate in model.candidates for name in (candidate, f"{candidate}.evaluate")]


def _between(by_name: Mapping[str, Step], split: str, ends: Iterable[str]) -> list[str]:
    """The steps from the split to those, both included."""
    found: dict[str, bool] = {}

    def depends(name: str) -> bool:
        if name not in found:
            found[name] = False  # where steps need each other in a circle
            inputs = by_name[name].inputs if name in by_name else ()
            found[name] = any([depends(item.node) for item in inputs if item.argument != FITTED]) or name == split
        return found[name]

    for name in ends:
        depends(name)
    return [name for name, held in found.items() if held]


def _in_fold(step: Step, fold: int, renewed: Sequence[str]) -> Step:
    def here(item: Input) -> Input:
        return replace(item, node=numbered(item.node, fold)) if item.node in renewed else item

    inputs = tuple(here(item) for item in step.inputs if not _asks_for_models(step, item))
    made = replace(step, name=numbered(step.name, fold), fold=fold, inputs=inputs)
    if step.kind == "split":
        return replace(made, extras={**step.extras, "fold": str(fold)})
    if step.kind != "evaluate":
        return made
    extras = {key: text for key, text in step.extras.items() if key in ("label", "outcome")}
    return replace(made, kind="score", code=step.code[:1], outputs=("predictions",), extras=extras)


def _asks_for_models(step: Step, item: Input) -> bool:
    return step.kind == "candidate" and item.argument == FITTED and item.node == step.name


def _whole(step: Step, count: int) -> Step:
    """A candidate or evaluation over all rows: it is given what its folds made."""
    numbers = range(1, count + 1)
    if step.kind == "evaluate" and count:
        answered = [Input(f"{HELD_OUT}[{k}]", numbered(step.name, k), "predictions", "frame") for k in numbers]
        return replace(step, inputs=(*step.inputs, *answered))
    if step.kind == "candidate":
        inputs: list[Input] = []
        for item in step.inputs:
            asked = _asks_for_models(step, item)
            inputs += [Input(f"{FITTED}[{k}]", numbered(step.name, k)) for k in numbers] if asked else [item]
        return replace(step, inputs=tuple(inputs))
    return step
