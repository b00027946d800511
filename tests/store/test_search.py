"""The filter against a second reading of its rules, in plain Python, on runs of every kind."""

from __future__ import annotations

import json
import math
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain import events, filters
from mlops_local.domain.errors import UsageError
from mlops_local.domain.filters import All, Comparison, Either, Expression, Has, Moment, Not, OneOf
from mlops_local.store import projection, search
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.layout import Layout

NOW = datetime(2026, 2, 10, 12, 0)
START_US = 1_770_000_000_000_000
TEXTS = ["", "a", "B", "ab", "x'; DROP TABLE store.metric; --", "31", "0.5", "true", "nan", "é\x1b[31m"]
NUMBERS = [-1.0, 0.0, 0.5, 31.0, math.inf, -math.inf]
PARAMS: list[Any] = [*TEXTS, 0, 0.5, 31, True, False, None, math.nan, [1, 2], {"a": 1}]
ORDER: Mapping[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

Facts = dict[str, Any]


def _write(layout: Layout, number: int) -> tuple[str, Facts]:
    """Journal a run made from a number, and return what it is said to be."""

    def pick(values: Sequence[Any], prime: int) -> Any:
        return values[number * prime % len(values)]

    at = START_US + number * 3_600_000_000
    run = new_id(at, number * 7919 + 2**60)
    journal = Journal.open(layout.journal)
    facts: Facts = {
        "id": run,
        "name": pick(TEXTS, 1),
        "kind": pick(["train", "script"], 1),
        "dirty": pick([True, False, False], 1),
    }
    facts |= {"message": pick(TEXTS, 3), "commit": pick(["", "abc123", "abd9"], 1)}
    fields = {key: value for key, value in facts.items() if key != "id"}
    journal.state(events.RUN_STARTED, run=run, targets=[], argv=[], env={}, **fields)
    params = {name: pick(PARAMS, prime) for name, prime in (("x", 1), ("y.z", 3)) if number % (prime + 2)}
    tags = {"t": pick(TEXTS, 7)} if number % 3 else {}
    metrics = {
        name: pick([*NUMBERS, math.nan], prime) for name, prime in (("m", 1), ("odd name (%)", 3)) if number % (prime + 1)
    }
    journal.passing(events.PARAMS, run=run, values=params)
    for key, value in tags.items():
        journal.passing(events.TAG, run=run, key=key, value=value)
    for key, value in metrics.items():
        journal.metric(run, key, value)
    state, seconds = pick(["done", "failed"], 1), pick([0.5, 31.0], 1)
    journal.state(events.RUN_ENDED, run=run, state=state, error=pick(TEXTS, 1), seconds=seconds)
    journal.close()
    facts |= {"state": state, "seconds": seconds, "error": pick(TEXTS, 1), "incomplete": False}
    facts |= {f"param.{name}": value for name, value in params.items()} | {f"tag.{name}": value for name, value in tags.items()}
    facts |= {f"metric.{name}": value for name, value in metrics.items()}
    return run, facts


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Forty runs, and what each is."""
    from mlops_local.store import layout as layouts

    layout = Layout(tmp_path_factory.mktemp("search") / "project")
    layout.root.mkdir()
    layouts.create(layout)
    facts = dict(_write(layout, number) for number in range(40))
    store = Store(layout, wait_s=20)
    projection.fold(store)
    with store.reader() as db:
        for run, started, ended in db.execute("SELECT id, started, ended FROM run").fetchall():
            facts[run] |= {"started": started, "ended": ended}
        yield db, facts
    store.close()


# -- the rules once more


def holds(expression: Expression, run: Facts) -> bool:
    """Whether a run is chosen."""
    match expression:
        case All(parts):
            return all(holds(part, run) for part in parts)
        case Either(parts):
            return any(holds(part, run) for part in parts)
        case Not(part):
            return not holds(part, run)
        case Has(field):
            return bool(run[field]) if field in filters.FIELDS else field in run
        case OneOf(field, values, out):
            return out != any(_same(field, run.get(field), value) for value in values) and run.get(field) is not None
        case Comparison(field, op, value):
            return _compared(field, op, run.get(field), value)


def _compared(field: str, op: str, own: Any, value: Any) -> bool:
    if value is None:
        return (own is None) == (op == "=")
    if own is None:
        return False
    if op in {"=", "!="}:
        return _same(field, own, value) == (op == "=")
    if op == "~":
        return str(value).lower() in _shown(own).lower()
    if isinstance(value, Moment):
        return ORDER[op](own, search.from_now(NOW, value))
    if isinstance(value, float):
        number = _number(own)
        return number is not None and not math.isnan(number) and ORDER[op](number, value)
    return ORDER[op](_shown(own).encode(), str(value).encode())


def _same(field: str, own: Any, value: Any) -> bool:
    if own is None:
        return False
    if field == "id":
        return bool(own.startswith(value) or own[16:].startswith(value))
    if field == "commit":
        return bool(own.startswith(value))
    if isinstance(value, Moment):
        return bool(own == search.from_now(NOW, value))
    if isinstance(value, float):
        number = _number(own)
        return number is not None and (number == value or (math.isnan(number) and math.isnan(value)))
    return _shown(own) == _shown(value)


def _shown(own: Any) -> str:
    """As the store holds it: JSON, text without its quotes."""
    if isinstance(own, float) and not math.isfinite(own):
        return "NaN" if math.isnan(own) else "Infinity" if own > 0 else "-Infinity"
    return own if isinstance(own, str) else json.dumps(own, separators=(",", ":"))


def _number(own: Any) -> float | None:
    if isinstance(own, bool | list | dict):
        return None
    try:
        return float(own)
    except ValueError:
        return None


# -- questions

_PRESENT = ["param.x", "param.y.z", "tag.t", "metric.m", "metric.odd name (%)"]
_FIELD = st.sampled_from(["name", "kind", "message", "error", "commit", "id", "seconds", "dirty", "started", *_PRESENT])


def _values(field: str) -> st.SearchStrategy[Any]:
    texts, numbers = st.sampled_from([*TEXTS, "script", "abc", "6"]), st.sampled_from([*NUMBERS, 0.25])
    if field == "started":
        return st.builds(Moment, st.integers(-300, -1), st.sampled_from(["hour", "day", "minute"])) | st.just(Moment())
    if field == "dirty":
        return st.booleans()
    if field == "seconds" or field.startswith("metric"):
        return numbers
    return texts | numbers | st.booleans() if "." in field else texts


def _leaf(field: str) -> st.SearchStrategy[Expression]:
    values = _values(field)
    equal = st.builds(Comparison, st.just(field), st.sampled_from(["=", "!="]), values | st.none())
    listed = st.builds(OneOf, st.just(field), st.lists(values, min_size=1, max_size=3).map(tuple), st.booleans())
    ordered = st.builds(
        Comparison, st.just(field), st.sampled_from(sorted(ORDER)), values.filter(lambda v: not isinstance(v, bool))
    )
    contains = st.builds(Comparison, st.just(field), st.just("~"), st.sampled_from(["a", "b", "0", "drop", "'"]))
    found: st.SearchStrategy[Expression] = equal if field in {"dirty", "started"} else equal | contains
    found = found | ordered if field != "dirty" else found | st.just(Has(field))
    found = found | listed if field != "started" else found
    return found | st.just(Has(field)) if "." in field else found


_QUESTION = st.recursive(
    _FIELD.flatmap(_leaf),
    lambda parts: (
        parts.map(Not)
        | st.lists(parts, min_size=2, max_size=3).map(lambda found: All(tuple(found)))
        | st.lists(parts, min_size=2, max_size=3).map(lambda found: Either(tuple(found)))
    ),
    max_leaves=6,
)


@settings(max_examples=60)
@given(question=_QUESTION)
def test_a_filter_finds_exactly_the_runs_its_rules_describe(runs: Any, question: Expression) -> None:
    """SQL and a reading of the documented rules in Python agree on every run, whatever is asked in whatever depth."""
    db, facts = runs
    text = filters.format(question)
    found = search.runs(db, text, now=NOW)
    assert {run.id for run in found.runs} == {run for run, own in facts.items() if holds(question, own)}, text
    assert found.total == len(found.runs)


@given(st.text(max_size=40), st.text(min_size=1, max_size=20))
def test_no_text_ever_becomes_sql(value: str, name: str) -> None:
    """Whatever a value or a name holds, it is a bound parameter and appears nowhere in the SQL."""
    question = search.Question(NOW)
    expression = Either(
        (Comparison("name", "=", value), OneOf(f"param.{name}", (value, "b")), Not(Comparison(f"tag.{name}", "~", value)))
    )
    sql, parameters = question.condition(expression)
    source, names = question.source()
    assert set(sql + source) <= set(_SQL) and parameters == [value, value, "b", value] and names == [name, name]


_SQL = search.Question(NOW).condition(Not(OneOf("param.a", ("b",), out=True)))[0] + (
    "run LEFT JOIN (SELECT run, value AS value FROM param tag WHERE key name = ?) f0 f1 ON run.id contains lower VARCHAR ~\"'<>"
)


@pytest.mark.parametrize("sort", ["m", "-m", "metric.m", "param.x", "-tag.t", "started", "-seconds", "name"])
def test_every_order_is_total_and_what_has_no_value_comes_last(runs: Any, sort: str) -> None:
    """Every run once, numbers in order, NaN and missing values at the end whichever way it is sorted."""
    db, facts = runs
    found = search.runs(db, sort=sort).runs
    paged = [run.id for start in range(0, 40, 13) for run in search.runs(db, sort=sort, limit=13, offset=start).runs]
    assert sorted(run.id for run in found) == sorted(facts) and paged == [run.id for run in found]
    if sort.endswith("m"):
        values = [facts[run.id].get("metric.m") for run in found]
        real = [value for value in values if value is not None and not math.isnan(value)]
        assert values[: len(real)] == sorted(real, reverse=sort.startswith("-"))


def test_a_time_is_local_unless_it_names_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the screen shows in local time is filtered in local time; the store's own times are UTC."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        question = search.Question(NOW)
        for text, utc in (("2026-07-01 08:00", "2026-07-01 12:00:00"), ("2026-07-01T08:00Z", "2026-07-01 08:00:00")):
            assert question.condition(Comparison("started", ">=", text))[1] == [utc]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (Moment(-2, "day"), "2026-03-29 12:00"),
        (Moment(-1, "month"), "2026-02-28 12:00"),
        (Moment(-2, "year"), "2024-03-31 12:00"),
        (Moment(11, "month"), "2027-02-28 12:00"),
        (Moment(3, "week"), "2026-04-21 12:00"),
    ],
)
def test_an_interval_counts_as_the_calendar_does(moment: Moment, expected: str) -> None:
    """Months and years keep the day where there is one."""
    assert search.from_now(datetime(2026, 3, 31, 12), moment) == datetime.fromisoformat(expected)


def test_a_time_out_of_reach_is_a_usage_error() -> None:
    """A billion years ago is said to be too long ago."""
    with pytest.raises(UsageError, match="out of reach"):
        search.Question(datetime.now(timezone.utc)).condition(Comparison("started", ">", Moment(-(10**9), "year")))
