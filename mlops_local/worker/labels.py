"""What a model declares as its label and metric, checked and in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlops_local.domain.graph import Model


def said(label: Any) -> str:
    """The label in words: its expression, or each target's."""
    return "; ".join(f"{name}: {one}" for name, one in label.items()) if isinstance(label, Mapping) else str(label)


def shared(given: Sequence[Any]) -> tuple[str, str]:
    """The one label of the models that share a split, in words; and, where there is no such label, why."""
    if any(isinstance(label, Mapping) for label in given):
        return "", "a model with several targets uses it"
    texts = {said(label) for label in given}
    if len(texts) != 1:
        return "", f"{len(texts)} labels use it" if texts else "no model uses it"
    return texts.pop(), ""


def problems(declaration: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with a model's label, each with the way out."""
    model, label = declaration.name, declaration.label
    if isinstance(label, Mapping) and not label:
        yield f"label of model '{model}' is empty", "give it one expression, or a target at least"
    for name, one in (label if isinstance(label, Mapping) else {"": label}).items():
        if name and not (isinstance(name, str) and name.isidentifier()):
            yield f"model '{model}' has a target called {name!r}", "a target's name is one word"
        if not hasattr(one, "meta"):
            of = f"target '{name}'" if name else "label"
            yield (
                f"{of} of model '{model}' is a {type(one).__name__}, not a polars expression",
                'for example label=pl.col("arr_delay") >= 15',
            )


def unknown_metric(model: Model) -> tuple[str, str] | None:
    """That nobody knows a model's metric, and which there are."""
    from mlops_local.engines.models import metrics  # numpy, which the pipeline's frames bring anyway

    of_targets = [f"{target}.{name}" for target in model.targets for name in metrics.names()]
    known = [*(of_targets or metrics.names()), *(symbol.name for symbol in model.metrics)]
    if model.metric in known:
        return None
    return f"model '{model.name}' has the metric '{model.metric}', which nobody knows{near(model.metric, known)}", listed(known)


def near(name: str, names: Iterable[str]) -> str:
    """The name it may have meant, as the end of a sentence."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f", did you mean '{found[0]}'?" if found else ""


def listed(names: Iterable[str]) -> str:
    """All there are, as a hint."""
    return "there are: " + (", ".join(names) or "none")
