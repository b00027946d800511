"""Runs with the same values taken together: how many, and each metric's mean and standard deviation over them.

Values that are no numbers (NaN, infinity) and runs without one do not count; how many did is said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlops_local.domain.errors import UsageError
from mlops_local.domain.fields import named, split
from mlops_local.domain.records import dataclass
from mlops_local.domain.runs import Group, Spread
from mlops_local.store import search
from mlops_local.store.database import Db
from mlops_local.store.history import utc
from mlops_local.store.search import Question

_METRICS = 4
"""So many are shown where none is asked for."""


@dataclass(frozen=True)
class Grouped:
    """The groups."""

    by: tuple[str, ...]
    """The fields, by full name."""
    metrics: tuple[str, ...]
    """Names of the metrics, without `metric.`."""
    groups: tuple[Group, ...]
    total: int
    """How many groups there are in all."""


def groups(
    db: Db, by: Sequence[str], where: str = "", *, metrics: Sequence[str] = (), sort: str = "", limit: int | None = None
) -> Grouped:
    """Group the runs a filter chooses.

    Args:
        db: from `Store.reader`.
        by: fields.
        where: a filter.
        metrics: fields; default: the one it is sorted by, then those most of these runs have.
        sort: one of `by`, a metric (its mean) or `runs`, `-` before it for largest first; default: by the fields.
        limit: at most so many groups; None for all.

    Raises:
        UsageError: the filter or a field cannot be read, or no run has it.
    """
    names = search.Names(db)
    fields = tuple(dict.fromkeys(named(field, names) for field in by))
    question = search.ask(db, where)
    chosen = [named(field, names) for field in metrics]
    wrong = [field for field in chosen if split(field)[0] != "metric"]
    if wrong:
        raise UsageError(f"{wrong[0]} is no metric", hint="groups have means of metrics: --columns metric.auc")
    down, key = sort.startswith("-"), sort.removeprefix("-")
    if key and key != "runs":
        key = named(key, names)
        if key not in fields and split(key)[0] != "metric":
            raise UsageError(
                f"groups cannot be sorted by {key}", hint="sort by what they are grouped by, by a metric or by runs"
            )
    shown = chosen or _common(db, question)
    if split(key)[0] == "metric" and key not in shown:
        shown = [key, *shown][: max(_METRICS, len(chosen) + 1)]
    rows, total = _rows(db, question, fields, shown, _Order(key, "DESC" if down else "ASC"), limit)
    found = tuple(_group(fields, shown, row) for row in rows)
    return Grouped(fields, tuple(split(metric)[1] for metric in shown), found, total)


@dataclass(frozen=True)
class _Order:
    key: str
    direction: str


def _common(db: Db, question: Question) -> list[str]:
    """The metrics most of the chosen runs have."""
    source, joined = question.source()
    where = f" WHERE {question.where}" if question.where else ""
    rows = db.execute(
        f"SELECT m.key FROM metric_last m SEMI JOIN (SELECT run.id FROM {source}{where}) c ON c.id = m.run "
        "GROUP BY m.key ORDER BY count(*) DESC, m.key LIMIT ?",
        [*joined, *question.parameters, _METRICS],
    ).fetchall()
    return [f"metric.{key}" for (key,) in rows]


def _rows(
    db: Db, question: Question, fields: Sequence[str], metrics: Sequence[str], order: _Order, limit: int | None
) -> tuple[list[tuple[Any, ...]], int]:
    values = [question.stored(field) for field in fields]
    numbers = [question.value(metric) for metric in metrics]
    spreads = [
        f"{what}({number}) FILTER (isfinite({number}))" for number in numbers for what in ("avg", "stddev_samp", "count")
    ]
    source, joined = question.source()
    where = f" WHERE {question.where}" if question.where else ""
    columns = [*(f"{value} AS g{place}" for place, value in enumerate(values)), "count(*) AS runs"]
    columns += [f"{spread} AS m{place}" for place, spread in enumerate(spreads)]
    inner = f"SELECT {', '.join(columns)} FROM {source}{where} GROUP BY {', '.join(values)}"
    found = db.execute(
        f"SELECT count(*) OVER (), * FROM ({inner}) ORDER BY {', '.join(_keys(fields, metrics, order))} LIMIT ?",
        [*joined, *question.parameters, limit],
    ).fetchall()
    return [row[1:] for row in found], int(found[0][0]) if found else 0


def _keys(fields: Sequence[str], metrics: Sequence[str], order: _Order) -> list[str]:
    """ORDER BY: what was asked, then each field's values as numbers, then as text."""
    keys = [part for place in range(len(fields)) for part in _value_keys(place, "ASC")]
    if order.key == "runs":
        return [f"runs {order.direction}", *keys]
    if order.key in fields:
        return [*_value_keys(fields.index(order.key), order.direction), *keys]
    if order.key:
        return [f"m{3 * list(metrics).index(order.key)} {order.direction} NULLS LAST", *keys]
    return keys


def _value_keys(place: int, direction: str) -> list[str]:
    return [
        f"TRY_CAST(json_extract_string(TRY_CAST(g{place} AS JSON), '$') AS DOUBLE) {direction} NULLS LAST",
        f"g{place} {direction} NULLS LAST",
    ]


def _group(fields: Sequence[str], metrics: Sequence[str], row: Sequence[Any]) -> Group:
    values = tuple(_value(field, value) for field, value in zip(fields, row, strict=False))
    rest = row[len(fields) + 1 :]
    spreads = {
        split(metric)[1]: Spread(mean, std, count)
        for metric, mean, std, count in zip(metrics, rest[::3], rest[1::3], rest[2::3], strict=True)
        if count
    }
    return Group(values, int(row[len(fields)]), spreads)


def _value(field: str, value: Any) -> Any:
    if value is None:
        return None
    if split(field)[0] == "param":
        return json.loads(value)
    return utc(value) if hasattr(value, "year") else value
