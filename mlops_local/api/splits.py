"""Say how rows become train, valid and test more than once: folds by time or by parts.

As with the other declarations nothing is read here; the worker finds them by `__mlops_kind__`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.splits import Folds, KFold, Rolling, duration


class SplitDeclaration:
    """A split in folds. Its name is the variable's, or the model's with `.split` where it has none."""

    __mlops_kind__: ClassVar[str] = "split"

    def __init__(self, rows: Any, folds: Folds) -> None:
        self.rows = rows
        self.folds = folds
        frame = sys._getframe(2)
        self.place = (frame.f_code.co_filename, frame.f_lineno)

    def __repr__(self) -> str:
        return f"<split {self.folds}>"


def rolling(
    time: str, *, rows: Any, test: str, folds: int = 3, train: str = "", valid: str = "", gap: str = ""
) -> SplitDeclaration:
    """Divide rows by time, walking forward: each fold learns from what came before the window it is tested on.

    Lengths are whole calendar units: `"1mo"`, `"2w"`, `"10d"`, `"6h"`.

    Args:
        time: the column that says when, a date or a time.
        rows: the source or step (or its name, or `step.output`) whose rows are divided.
        test: length of the window each fold is tested on. Windows begin where the unit does (months on the first).
        folds: how many windows, back from the newest that is whole.
        train: length of the window each fold learns from; everything earlier unless given.
        valid: length of the window between train and test, for early stopping; as long as `test` unless given.
        gap: what is left out before each test window, because it was not known yet.
    """
    if not isinstance(time, str) or not time:
        raise ConfigError(f"mlops.rolling: expected the name of a time column, got {time!r}")
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 1:
        raise ConfigError(f"mlops.rolling: folds is a whole number of 1 or more, got {folds!r}")
    for name, text in (("test", test), ("train", train), ("valid", valid), ("gap", gap)):
        if text or name == "test":
            duration(text, f"mlops.rolling: {name}")
    return SplitDeclaration(rows, Rolling(time, test, folds, train, valid, gap))


def kfold(folds: int = 5, *, rows: Any, group: str | Sequence[str] = (), stratify: bool | str = False) -> SplitDeclaration:
    """Divide rows into parts, each held out once: fold 2 is tested on part 2, stops by part 3 and learns from the others.

    Args:
        folds: how many parts, 3 or more. Which row is in which is drawn with the split's own seed: the same each time.
        rows: the source or step (or its name, or `step.output`) whose rows are divided.
        group: columns; rows with the same values are never in two parts.
        stratify: True: every part has the same share of each label. A column's name: of each of its values.
    """
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 3:
        raise ConfigError(
            f"mlops.kfold: folds is a whole number of 3 or more, got {folds!r}",
            hint="one part is held out, one stops the training, and at least one is left to learn from",
        )
    if not isinstance(stratify, (bool, str)):
        raise ConfigError(f"mlops.kfold: stratify is True or a column's name, got {stratify!r}")
    return SplitDeclaration(rows, KFold(folds, (group,) if isinstance(group, str) else tuple(group), stratify))
