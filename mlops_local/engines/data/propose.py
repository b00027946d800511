"""Read what a table is for from its profile, and write a pipeline for it that its owner can go on with.

Pure: a profile and the target's values in, texts out. What is guessed (the positive class, the time column, which text columns
are categories) is said in the generated files, where it can be changed.
"""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from mlops_local.domain.assets import ColumnProfile
from mlops_local.domain.errors import DataError
from mlops_local.engines.data.profile import near

FEWEST_ROWS = 50
MOST_CLASSES = 20
MOST_CATEGORIES = 200
_YES = ("yes", "y", "true", "t", "1", "positive", "late", "churned", "default", "fraud", "spam")
_TAKEN = {
    "pl",
    "lgb",
    "mlops",
    "split",
    "codes",
    "features",
    "gbm",
    "train",
    "valid",
    "test",
    "rows",
    "label",
    "Split",
    "target",
}


@dataclass(frozen=True)
class Proposal:
    """What the table looks like it is for."""

    source: str
    """Name of the source, a Python identifier."""
    pattern: str
    model: str
    target: str
    task: str
    """binary or regression."""
    positive: Any = None
    """The value that counts as yes; None when the target is true or false already, or a number."""
    time: str = ""
    key: str = ""
    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    """Columns that are no features, and why."""
    rows: int = 0
    spread: float = 1.0
    """Standard deviation of a numeric target."""


def propose(
    pattern: str, rows: int, columns: Sequence[ColumnProfile], target: str, values: Mapping[Any, int], spread: float = 1.0
) -> Proposal:
    """Decide what to predict from what.

    Args:
        pattern: the file, relative to the project's root.
        rows: how many there are.
        columns: the file's profile, with exact counts of distinct values.
        target: a column; or `column=value`, to predict whether it has that value.
        values: the target column's most frequent values and how often each occurs, nulls left out.
        spread: the standard deviation of the target, when it is a number.

    Raises:
        DataError: the target cannot be predicted from this table.
    """
    column, wanted = split_target(target, [item.name for item in columns])
    if rows < FEWEST_ROWS:
        raise DataError(
            f"{pattern} has {rows} rows: too few to learn from and to judge", hint=f"{FEWEST_ROWS} rows are the least"
        )
    held = next(item for item in columns if item.name == column)
    task, positive = _task(held, wanted, values)
    moments = [item for item in columns if item.type.startswith(("Datetime", "Date")) and item.name != column]
    time = next((item.name for item in moments if (item.distinct or 0) > 2 and item.nulls == 0), "")
    key, numbers, categories, left_out = "", [], [], []
    for item in columns:
        if item.name in (column, time):
            continue
        verdict = _role(item, rows)
        if verdict == "number":
            numbers.append(item.name)
        elif verdict == "category":
            categories.append(item.name)
        elif verdict == "key" and not key:
            key = item.name
            left_out.append((item.name, "names the row"))
        else:
            left_out.append((item.name, "names the row" if verdict == "key" else verdict))
    if not numbers and not categories:
        raise DataError(f"{pattern}: no column is left to predict {column} from", hint="left out: " + _reasons(left_out))
    source = identifier(re.split(r"[.*?\[]", pattern.rsplit("/", 1)[-1])[0] or "rows")
    model = identifier(column)
    return Proposal(
        source=source if source not in _TAKEN else f"{source}_data",
        pattern=pattern,
        model=model,
        target=column,
        task=task,
        positive=positive,
        time=time,
        key=key,
        numbers=tuple(numbers),
        categories=tuple(categories),
        left_out=tuple(left_out),
        rows=rows,
        spread=spread,
    )


def split_target(target: str, columns: Sequence[str]) -> tuple[str, str | None]:
    """Take `column` or `column=value` apart. Raises DataError with a suggestion when there is no such column."""
    if target in columns:
        return target, None
    column, sign, value = target.partition("=")
    if sign and column in columns:
        return column, value
    raise DataError(f"there is no column {target!r} to predict", hint=near(column, columns))


def _task(held: ColumnProfile, wanted: str | None, values: Mapping[Any, int]) -> tuple[str, Any]:
    if wanted is not None:
        match = next((value for value in values if str(value) == wanted), None)
        if match is None:
            raise DataError(f"{held.name} is never {wanted!r}", hint=near(wanted, [str(value) for value in values]))
        return "binary", match
    if len(values) < 2:
        raise DataError(f"{held.name} has {len(values)} distinct value: nothing to predict", hint="choose another --target")
    if held.type == "Boolean":
        return "binary", None
    if len(values) == 2:
        said_yes = [value for value in values if str(value).strip().lower() in _YES]
        return "binary", said_yes[0] if len(said_yes) == 1 else min(values, key=lambda value: (values[value], str(value)))
    if held.mean is not None:
        return "regression", None
    some = next(iter(values))
    classes = f"{len(values)}" if len(values) <= MOST_CLASSES else f"more than {MOST_CLASSES}"
    raise DataError(
        f"{held.name} is text with {classes} distinct values; a pipeline is written for two classes or a number",
        hint=f"predict one of them against the rest, as in --target {held.name}={some}",
    )


def _role(item: ColumnProfile, rows: int) -> str:
    """Return number, category, key, or the reason why a column is left out."""
    distinct = item.distinct or 0
    if item.nulls >= rows or item.distinct in (0, 1):
        return "always the same"
    unique = distinct >= rows - item.nulls
    if item.type.startswith(("Int", "UInt")):
        named = re.search(r"(^|_|\b)(id|key|uuid|number|no|index)$", item.name.lower()) is not None or item.name.endswith("Id")
        return "key" if unique and named else "number"
    if item.mean is not None or item.type == "Boolean":
        return "number"
    if item.type.startswith(("String", "Categorical", "Enum")):
        if unique:
            return "key"
        return "category" if distinct <= min(MOST_CATEGORIES, rows / 5) else f"text with about {distinct:,} distinct values"
    return f"{item.type.split('(')[0].lower()} column"


def identifier(text: str) -> str:
    """Return a Python identifier close to a text."""
    name = re.sub(r"\W+", "_", text.strip(), flags=re.ASCII).strip("_").lower() or "data"
    return f"{name}_" if keyword.iskeyword(name) else f"_{name}" if name[0].isdigit() else name


def render(proposal: Proposal, *, project: str, pipeline: str, config: str) -> dict[str, str]:
    """Fill the templates.

    Args:
        proposal: from `propose`.
        project: the project's name.
        pipeline: the template of pipeline.py.
        config: the template of mlops.toml.

    Returns:
        File name -> text.
    """
    binary = proposal.task == "binary"
    fields = {
        "source": proposal.source,
        "model": proposal.model,
        "project": project,
        "declaration": _declaration(proposal),
        "numbers": _listing(proposal.numbers),
        "categories": _listing(proposal.categories),
        "left_out": _comment(f"Left out: {_reasons(proposal.left_out)}.") if proposal.left_out else "",
        "split_doc": _SPLIT_TIME if proposal.time else _SPLIT_ROWS,
        "order": f".sort({_quoted(proposal.time)}, maintain_order=True).collect()"
        if proposal.time
        else ".collect().sample(fraction=1.0, shuffle=True, seed=0)",
        "label": _label(proposal),
        "said": _said(proposal).replace("\\", "/").replace('"""', "'''"),
        "metric": "auc" if binary else "rmse",
        "objective": "binary" if binary else "regression",
        "loss": "auc" if binary else "rmse",
        "least": str(max(5, min(100, proposal.rows // 200))),
        "max_drop": "0.01" if binary else f"{proposal.spread * 0.02:.2g}",
        "unit": "AUC" if binary else f"RMSE, in units of {_shown(proposal.target)}",
    }
    return {"pipeline.py": Template(pipeline).substitute(fields), "mlops.toml": Template(config).substitute(fields)}


_SPLIT_TIME = "Cut by time: the newest rows judge the model, the ones before them stop the training, the rest teach."
_SPLIT_ROWS = "Cut at random, always the same way. If rows have a time or belong to a customer, cut by that instead."


def _declaration(proposal: Proposal) -> str:
    options = [_quoted(proposal.pattern)]
    options += [f"key={_quoted(proposal.key)}"] if proposal.key else []
    options += [f"time={_quoted(proposal.time)}"] if proposal.time else []
    return ", ".join([*options, f"outcome={_quoted(proposal.target)}"])


def _listing(names: Sequence[str]) -> str:
    if not names:
        return "[]"
    one = "[" + ", ".join(_quoted(name) for name in names) + "]"
    return one if len(one) <= 100 else "[\n" + "".join(f"    {_quoted(name)},\n" for name in names) + "]"


def _quoted(value: Any) -> str:
    text = repr(value)
    return f'"{text[1:-1]}"' if isinstance(value, str) and text[0] == "'" and '"' not in text else text


def _label(proposal: Proposal) -> str:
    column = f"pl.col({_quoted(proposal.target)})"
    if proposal.task == "regression":
        return f"{column}.cast(pl.Float64)"
    return column if proposal.positive is None else f"{column} == {_quoted(proposal.positive)}"


def _said(proposal: Proposal) -> str:
    if proposal.task == "regression":
        return f"how large {_shown(proposal.target)} is"
    return f"whether {_shown(proposal.target)} is {'true' if proposal.positive is None else _shown(proposal.positive)}"


def explain(proposal: Proposal) -> tuple[str, ...]:
    """Return what was decided, one line each, for the person who asked."""
    used = [_counted(len(proposal.numbers), "number", "numbers"), _counted(len(proposal.categories), "category", "categories")]
    lines = [f"predicts {_said(proposal)} ({proposal.task}) from {' and '.join(used)}, {proposal.rows:,} rows"]
    lines.append(
        f"judged on the newest rows by {proposal.time}" if proposal.time else "judged on rows drawn at random: no time column"
    )
    if proposal.left_out:
        lines.append(f"left out: {_reasons(proposal.left_out)}")
    return tuple(lines)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _reasons(left_out: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{_shown(name)} ({why})" for name, why in left_out)


def _shown(value: Any) -> str:
    """Return a value for a comment or docstring: printable, on one line."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(value)).split())


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, 120))
