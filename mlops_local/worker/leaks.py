"""What a model should not know and perhaps does: a feature that tells the label by itself, test rows that are in train.

Both are warnings: there are honest reasons for either. Loaded where the features of a model are made.
"""

from __future__ import annotations

from typing import Any

from mlops_local.domain.xy import XY

TELLS = 0.99
"""A feature that orders the two classes this well alone is suspicious."""
FEWEST = 200
"""With fewer rows a feature may well do that by chance."""
ROWS = 50_000
"""Rows looked at for that: an AUC of 0.99 is not mistaken for 0.98 in so many."""


def notes(train: XY, test: XY, *, folded: bool) -> list[str]:
    """Say what looks like a leak.

    Args:
        train: what a candidate fits on.
        test: what it is judged on.
        folded: train holds the rows of every fold, those that are held out included.
    """
    return [*_telling(train), *([] if folded else _shared(train, test))]


def _telling(train: XY) -> list[str]:
    labels = train.y.get_columns() if hasattr(train.y, "get_columns") else [train.y]
    if len(train) < FEWEST:
        return []
    step = max(1, -(-len(train) // ROWS))
    features = train.X.gather_every(step)
    found = []
    for label in labels:
        y = label.gather_every(step)
        if y.n_unique() != 2:
            continue
        for feature in features.get_columns():
            area = auc(feature, y == y.max())
            if max(area, 1 - area) >= TELLS:
                named = f" {label.name}" if len(labels) > 1 else ""
                found.append(
                    f"feature '{feature.name}' tells the label{named} by itself (AUC {max(area, 1 - area):.3f} on train): "
                    "is it known when predictions are asked for?"
                )
    return found


def auc(feature: Any, positive: Any) -> float:
    """Return the chance that a positive's value is above a negative's, ties counting half; missing values lie below all."""
    import polars as pl  # 141 ms, and loaded where there are frames

    lowest = feature.cast(pl.Float64).fill_nan(None)
    ranks = lowest.fill_null(float("-inf")).rank("average")
    many, few = int(positive.sum()), len(positive) - int(positive.sum())
    if not many or not few:
        return 0.5
    return float((ranks.filter(positive).sum() - many * (many + 1) / 2) / (many * few))


def _shared(train: XY, test: XY) -> list[str]:
    """Rows of test that stand in train too, every column the same."""
    if train.rows.schema != test.rows.schema or not train.rows.width:
        return []
    try:
        count = int(test.rows.hash_rows().is_in(train.rows.hash_rows().implode()).sum())
    except Exception:  # noqa: BLE001  (a column polars cannot hash: then nothing is known)
        return []
    if not count:
        return []
    return [
        f"{count:,} of {len(test):,} rows of test are in train too, every column the same: what is measured on them flatters"
    ]
