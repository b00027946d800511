"""What the names in a filter, an order or a list of columns mean, and which values they can be compared with. Pure.

`auc` alone means `metric.auc` (or `param.auc`, `tag.auc`) where some run has exactly one of them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection

from mlops_local.domain.errors import UsageError
from mlops_local.domain.filters import (
    EXAMPLE,
    FIELDS,
    SPACES,
    Comparison,
    Condition,
    Expression,
    Has,
    Moment,
    OneOf,
    Value,
    each,
)
from mlops_local.domain.runs import RunState

_LISTED = 20


def split(field: str) -> tuple[str, str]:
    """Return a field's space (empty for what every run has) and its name there."""
    space, dot, name = field.partition(".")
    return (space, name) if dot and space in SPACES else ("", field)


def named(field: str, known: Collection[str]) -> str:
    """Return the full name of a field.

    Args:
        field: as typed.
        known: every `metric.NAME`, `param.NAME` and `tag.NAME` some run has.

    Raises:
        UsageError: no run has it, naming the nearest that some have; or it could be several.
    """
    space, name = split(field)
    if field in FIELDS or field in known:
        return field
    if space and name:
        near = _near(name, [item.partition(".")[2] for item in known if item.startswith(f"{space}.")])
        meant = [f"{space}.{item}" for item in near] or _inside(name, known)
        listed = ", ".join(sorted(item for item in known if item.startswith(f"{space}."))[:_LISTED]) or f"no {space} yet"
        raise UsageError(f"no run has {field!r}", hint=f"did you mean {meant[0]!r}?" if meant else f"known: {listed}")
    short = [full for full in (f"{space}.{field}" for space in SPACES) if full in known]
    if len(short) == 1:
        return short[0]
    if short:
        raise UsageError(f"{field!r} could be {' or '.join(short)}", hint="write it in full")
    full = {item.partition(".")[2]: item for item in sorted(known)} | {item: item for item in [*FIELDS, *known]}
    meant = [full[item] for item in _near(field, full)] or _inside(field, known)
    fields = f"fields: {', '.join(FIELDS)}, metric.NAME, param.NAME, tag.NAME"
    raise UsageError(f"unknown field {field!r}", hint=f"did you mean {meant[0]!r}?" if meant else fields)


def resolve(expression: Expression, known: Collection[str]) -> Expression:
    """Return the filter with every name in full and every value of a kind its field can be compared with.

    Raises:
        UsageError: a name no run has, or a value that cannot be meant.
    """

    def check(condition: Condition) -> Condition:
        field = named(condition.field, known)
        match condition:
            case Has():
                if kind(field) in {"text", "time", "number"} and not split(field)[0]:
                    raise UsageError(f"cannot read the filter: expected a comparison after {condition.field!r}", hint=EXAMPLE)
                return Has(field)
            case OneOf(_, values, out):
                for value in values:
                    if value is None or isinstance(value, Moment):
                        raise UsageError(f"{field}: null and now() cannot stand in a list", hint=EXAMPLE)
                    _suits(field, "=", value)
                return OneOf(field, values, out)
            case Comparison(_, op, value):
                _suits(field, op, value)
                return Comparison(field, op, value)

    return each(expression, check)


def kind(field: str) -> str:
    """Return the kind of a field's values, from its full name: text, number, time, flag or any."""
    space, _ = split(field)
    return {"": FIELDS.get(field, "text"), "metric": "number", "param": "any", "tag": "text"}[space]


def _suits(field: str, op: str, value: Value) -> None:
    """Refuse a comparison that can never be what was meant."""
    if value is None:
        if op not in {"=", "!="}:
            raise UsageError(f"null can only be compared with = and !=, not {op}", hint=EXAMPLE)
        return
    if isinstance(value, Moment) and kind(field) != "time":
        raise UsageError(f"{field} is no time: only started and ended compare with now()", hint=EXAMPLE)
    if op == "~":
        return
    if isinstance(value, bool) and op not in {"=", "!="}:
        raise UsageError(f"true and false can only be compared with = and !=, not {op}", hint=EXAMPLE)
    match kind(field):
        case "number" if isinstance(value, bool) or not isinstance(value, float):
            raise UsageError(f"{field} is a number, {value!r} is not", hint=EXAMPLE)
        case "flag" if not isinstance(value, bool):
            raise UsageError(f"{field} is true or false, not {value!r}", hint=EXAMPLE)
        case _:
            if field == "state" and op in {"=", "!="}:
                _known_state(value)
    if isinstance(value, float) and math.isnan(value) and op not in {"=", "!="}:
        raise UsageError(f"nan can only be compared with = and !=, not {op}", hint=EXAMPLE)


def _known_state(value: Value) -> None:
    states = [state.value for state in RunState]
    if value not in states:
        near = difflib.get_close_matches(str(value), states, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "states: " + ", ".join(states)
        raise UsageError(f"no run is ever {value!r}", hint=hint)


def _near(name: str, names: Collection[str]) -> list[str]:
    return difflib.get_close_matches(name, sorted(set(names)), n=1)


def _inside(name: str, known: Collection[str]) -> list[str]:
    """`num_leaves` means `param.gbm.num_leaves`."""
    return sorted(item for item in known if item.endswith("." + name))
