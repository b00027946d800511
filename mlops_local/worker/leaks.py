"""What a model should not know and perhaps does: a feature that tells the label by itself, test rows that are in train.

Both are warnings: there are honest reasons for either. Loaded where the features of a model are made.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mlops_local.domain.checks import LEAKAGE, LONG, OVERLAP, WARNING, Finding
from mlops_local.domain.graph import Model
from mlops_local.domain.xy import XY

TELLS = 0.99
"""A feature that orders the two classes this well alone is suspicious."""
FEWEST = 200
"""With fewer rows a feature may well do that by chance."""
ROWS = 50_000
"""Rows looked at for that: an AUC of 0.99 is not mistaken for 0.98 in so many."""
SAMPLES = 5
"""Rows shown."""


def found(
    model: Model, train: XY, test: XY, *, fold: int = 0, key: Collection[str] = (), private: Collection[str] = ()
) -> list[Finding]:
    """Return what looks like a leak: of features once, of rows in each fold, where there are folds.

    Args:
        model: whose rows they are.
        train: what a candidate fits on.
        test: what it is judged on.
        fold: which these are; 0: no fold. If the model has folds, train holds what they hold out then, by design.
        key: columns that name a row in samples.
        private: columns whose values are not shown.
    """
    told = [] if fold else _telling(model.name, train)
    return told if model.folds and not fold else [*told, *_shared(model.name, train, test, fold, key, private)]


def _telling(model: str, train: XY) -> list[Finding]:
    labels = train.y.get_columns() if hasattr(train.y, "get_columns") else [train.y]
    if len(train) < FEWEST:
        return []
    step = max(1, -(-len(train) // ROWS))
    features = train.X.gather_every(step)
    told = []
    for label in labels:
        y = label.gather_every(step)
        if y.n_unique() != 2:
            continue
        named = f" {label.name}" if len(labels) > 1 else ""
        for feature in features.get_columns():
            area = auc(feature, y == y.max())
            area = max(area, 1 - area)
            if area >= TELLS:
                said = f"it tells the label{named} by itself (AUC {area:.3f} on train)"
                told.append(
                    Finding(
                        "",
                        "",
                        f"{LEAKAGE} {feature.name}",
                        WARNING,
                        (feature.name,),
                        rows=len(y),
                        note=f"{said}: is it known when predictions are asked for?",
                        model=model,
                    )
                )
    return told


def auc(feature: Any, positive: Any) -> float:
    """Return the chance that a positive's value is above a negative's, ties counting half; missing values lie below all."""
    import polars as pl  # 141 ms, and loaded where there are frames

    lowest = feature.cast(pl.Float64).fill_nan(None)
    ranks = lowest.fill_null(float("-inf")).rank("average")
    many, few = int(positive.sum()), len(positive) - int(positive.sum())
    if not many or not few:
        return 0.5
    return float((ranks.filter(positive).sum() - many * (many + 1) / 2) / (many * few))


def _brief(value: Any) -> str | None:
    """A value as a finding keeps it: text, and of a long one the beginning."""
    text = None if value is None else str(value)
    return text if text is None or len(text) <= LONG else text[: LONG - 1] + "…"


def _shared(model: str, train: XY, test: XY, fold: int, key: Collection[str], private: Collection[str]) -> list[Finding]:
    """Rows of test that stand in train too, every column the same."""
    if train.rows.schema != test.rows.schema or not train.rows.width:
        return []
    try:
        there = test.rows.hash_rows().is_in(train.rows.hash_rows().implode())
    except Exception:  # noqa: BLE001  (a column polars cannot hash: then nothing is known)
        return []
    count = int(there.sum())
    if not count:
        return []
    note = f"{count:,} of {len(test):,} rows of test are in train too, every column the same: what is measured on them flatters"
    columns = [name for name in test.rows.columns if name in key] or test.rows.columns[:SAMPLES]
    rows = test.rows.filter(there).head(SAMPLES).select(columns).to_dicts()
    samples = tuple({name: "(private)" if name in private else _brief(value) for name, value in row.items()} for row in rows)
    rule = f"{OVERLAP} of test with train" + (f" in fold {fold}" if fold else "")
    return [Finding("", "", rule, WARNING, (), count, len(test), note, samples, model)]
