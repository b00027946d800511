"""Say when a model does much better on what it learned from than on what it did not: it has learned the rows by heart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops_local.domain.project import ProjectConfig


def parted(config: ProjectConfig, model: str, metric: str, report: Mapping[str, Any]) -> str:
    """The warning that a version's metric on train and on valid part by more than `max_gap`; empty where they do not.

    Args:
        config: mlops.toml, which says how far is too far; without `max_gap` nothing is.
        model: the model's name.
        metric: its primary metric.
        report: what the evaluate step said. `seen` holds the metric on rows of train, and on valid or what the folds held out.
    """
    limit = config.models[model].max_gap if model in config.models else None
    seen = dict(report.get("seen", {}))
    train = seen.pop("train", None)
    if limit is None or train is None or not seen:
        return ""
    part, other = next(iter(seen.items()))
    gap = abs(train - other)
    if gap <= limit:
        return ""
    return f"{metric} is {train:.4f} on train and {other:.4f} on {part}: {gap:.4f} apart, max_gap is {limit:g}"
