"""Encode rows by what was learned from other rows: a plain function, for steps, candidates, tests and notebooks.

A value learned from the label (how often this tail number was late) and put beside the very rows it was learned from tells the
model their label. Each row is therefore encoded by a state that was fitted without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_local.api.declare import seed as running_seed
from mlops_local.domain.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

State = TypeVar("State")


def out_of_fold(
    fit: Callable[[Any], State],
    rows: Any,
    apply: Callable[[Any, State], Any],
    *,
    folds: int = 5,
    group: str = "",
    seed: int | None = None,
) -> tuple[Any, State]:
    """Encode each row by a state fitted without it.

    Args:
        fit: rows to what is learned from them.
        rows: a polars or pandas frame; a LazyFrame is collected.
        apply: rows and a state to their encoding: a frame, series or array with a line for each row.
        folds: in how many parts the rows are encoded; each by a state fitted on the others.
        group: a column whose equal rows stay in one part.
        seed: of the parts; in a run the step's own, else 0.

    Returns:
        The encoding in the order of the rows, and the state fitted on all of them: what encodes rows that come later.

    Raises:
        UsageError: too few rows or groups, or an encoding of another length.
    """
    import numpy as np

    from mlops_local.engines.models import splits

    frame = rows.collect() if hasattr(rows, "collect") else rows
    if folds < 2 or len(frame) < folds:
        raise UsageError(
            f"out_of_fold: {len(frame)} rows cannot be encoded in {folds} parts", hint="2 parts or more, no more than rows"
        )
    codes = _codes(frame[group]) if group else None
    if codes is not None and int(codes.max()) + 1 < folds:
        raise UsageError(f"out_of_fold: '{group}' has {int(codes.max()) + 1} values, too few for {folds} parts")
    part = splits.assign(len(frame), folds, seed=running_seed() if seed is None else seed, groups=codes)
    order: list[int] = []
    made = []
    for number in range(1, folds + 1):
        held_out = np.flatnonzero(part == number)
        encoded = apply(_take(frame, held_out), fit(_take(frame, np.flatnonzero(part != number))))
        encoded = encoded.collect() if hasattr(encoded, "collect") else encoded
        if len(encoded) != len(held_out):
            raise UsageError(
                f"out_of_fold: apply gave {len(encoded)} lines for {len(held_out)} rows", hint="one line a row, in their order"
            )
        order += held_out.tolist()
        made.append(encoded)
    return _take(_joined(made), np.argsort(order)), fit(frame)


def _codes(values: Any) -> npt.NDArray[np.intp]:
    import numpy as np

    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.intp)


def _take(values: Any, at: npt.NDArray[np.intp]) -> Any:
    """Some lines of a frame, series or array, in that order."""
    return values.iloc[at] if hasattr(values, "iloc") else values[at]


def _joined(parts: Sequence[Any]) -> Any:
    import numpy as np

    library = type(parts[0]).__module__.partition(".")[0]
    if library == "polars":
        import polars as pl

        return pl.concat(parts)
    if library == "pandas":
        import pandas as pd

        return pd.concat(parts)
    return np.concatenate([np.asarray(part) for part in parts])
