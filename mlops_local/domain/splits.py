"""How a split divides rows into folds: the words of `mlops.rolling` and `mlops.kfold`, and what a step is called in a fold.

Plain values with a JSON form. Python 3.10, standard library; the dividing itself is in `engines.models.splits`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.records import dataclass

UNITS = ("y", "q", "mo", "w", "d", "h", "m")
"""Years, quarters, months, weeks, days, hours, minutes: calendar units, as polars writes them."""
_NUMBERED = re.compile(r"\[\d+\](?=\.|$)")


@dataclass(frozen=True)
class Rolling:
    """Walk forward by time: each fold is tested on the window after the one it learned from."""

    time: str
    """The column that says when."""
    test: str
    """Length of a test window."""
    folds: int
    train: str = ""
    """Length of the window learned from; empty: all that came before."""
    valid: str = ""
    """Length of the window between train and test; empty: as long as test."""
    gap: str = ""
    """What is left out before each test window: what was not known yet when it began."""


@dataclass(frozen=True)
class KFold:
    """Every row is held out once, in one of `folds` parts of about equal size."""

    folds: int
    group: tuple[str, ...] = ()
    """Columns: rows with the same values stay in one part."""
    stratify: str | bool = False
    """A column of which each part has the same shares; True: the label."""


Folds = Rolling | KFold


def to_text(folds: Folds) -> str:
    """The split as text, for a step's extras."""
    return json.dumps({"kind": type(folds).__name__.lower(), **asdict(folds)}, sort_keys=True)


def from_text(text: str) -> Folds:
    """Back from `to_text`."""
    values = json.loads(text)
    kind = values.pop("kind")
    return Rolling(**values) if kind == "rolling" else KFold(**{**values, "group": tuple(values["group"])})


def duration(text: str, what: str) -> tuple[int, str]:
    """A length of time in one calendar unit: `"3mo"` is (3, "mo").

    Raises:
        ConfigError: it is none; `what` names the argument.
    """
    found = re.fullmatch(rf"(\d+)\s*({'|'.join(UNITS)})", str(text).strip())
    if found is None or int(found[1]) < 1:
        raise ConfigError(
            f"{what}: expected a length of time such as '1mo', got {text!r}",
            hint="a whole number and one unit: y (years), q, mo (months), w, d (days), h, m (minutes)",
        )
    return int(found[1]), found[2]


def numbered(name: str, fold: int) -> str:
    """What a step is called in one fold: `gbm[2]`; folds count from 1."""
    return f"{name}[{fold}]"


def unfolded(name: str) -> str:
    """The declared name of a step, or of its output, in whatever fold: `gbm[2]` is `gbm`, `split[2].train` is `split.train`."""
    return _NUMBERED.sub("", name)


def together(names: Sequence[str]) -> list[str]:
    """Names with the folds of one step as one: `gbm[1-5]`."""
    counts: dict[str, list[int]] = {}
    for name in names:
        found = _NUMBERED.search(name)
        counts.setdefault(name[: found.start()] + "[]" if found else name, []).append(int(found[0][1:-1]) if found else 0)
    return [_shown(key, sorted(numbers)) if key.endswith("[]") else key for key, numbers in counts.items()]


def _shown(key: str, numbers: Sequence[int]) -> str:
    unbroken = len(numbers) > 1 and numbers == [*range(numbers[0], numbers[-1] + 1)]
    return f"{key[:-2]}[{f'{numbers[0]}-{numbers[-1]}' if unbroken else ','.join(map(str, numbers))}]"
