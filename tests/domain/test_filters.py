from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain import filters
from mlops_local.domain.errors import UsageError
from mlops_local.domain.fields import named, resolve
from mlops_local.domain.filters import All, Comparison, Either, Expression, Has, Moment, Not, OneOf

NAMES = st.text(min_size=1, max_size=12)
FIELDS = st.sampled_from(sorted(filters.FIELDS)) | st.builds("{}.{}".format, st.sampled_from(filters.SPACES), NAMES)
NUMBERS = st.floats(allow_nan=False) | st.integers(-(10**18), 10**18).map(float)
MOMENTS = st.builds(Moment, st.integers(-9999, 9999).filter(bool), st.sampled_from(filters.UNITS)) | st.just(Moment())
VALUES = st.text(max_size=12) | NUMBERS | st.booleans() | st.none() | MOMENTS


def _leaf(field: str) -> st.SearchStrategy[Expression]:
    values = VALUES if filters.FIELDS.get(field) not in {"text", "time"} else st.text(max_size=12) | st.none() | MOMENTS
    compared = st.builds(Comparison, st.just(field), st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~"]), values)
    listed = st.builds(OneOf, st.just(field), st.lists(values, min_size=1, max_size=3).map(tuple), st.booleans())
    return compared | listed | st.just(Has(field))


def _joined(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(parts, min_size=2, max_size=3)
    both = several.filter(lambda found: not any(isinstance(part, All) for part in found)).map(lambda found: All(tuple(found)))
    either = several.filter(lambda found: not any(isinstance(part, Either) for part in found))
    return parts.map(Not) | both | either.map(lambda found: Either(tuple(found)))


EXPRESSIONS = st.recursive(FIELDS.flatmap(_leaf), _joined, max_leaves=8)


@given(EXPRESSIONS)
def test_what_is_written_is_read_as_the_same(expression: Expression) -> None:
    """Any tree, with any names and values, survives being written as text and read again."""
    assert filters.parse(filters.format(expression)) == expression


@given(st.text(max_size=60) | st.text(alphabet="ab.=<>!~()'\", 1-now interval day and or not in is null", max_size=60))
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    """Nothing a user types crashes the parser, and what it reads it reads the same when written its own way."""
    try:
        found = filters.parse(text)
    except UsageError as error:
        assert error.message
    else:
        assert filters.format(filters.parse(filters.format(found))) == filters.format(found)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("", ""),
        ("a = 1 AND b = 2 or NOT c = 3", "a = 1 and b = 2 or not c = 3"),
        ("a = 1 and (b = 2 or c = 3)", "a = 1 and (b = 2 or c = 3)"),
        ("((a = 1)) and (b = 2 and c = 3)", "a = 1 and b = 2 and c = 3"),
        ("name = 31 and commit = 12e4", "name = '31' and commit = '12e4'"),
        ("param.x = 31 or param.x = '31'", "param.x = 31 or param.x = '31'"),
        ("METRIC.auc>.5", "metric.auc > 0.5"),
        ('metric."val loss" < 1', 'metric."val loss" < 1'),
        ("x in(1,2)", "x in (1, 2)"),
        ("x is null or x is not null", "x = null or x != null"),
        ("started > now()-interval '2 days'", "started > now() - interval 2 day"),
        ("started > now() + interval '2' WEEK", "started > now() + interval 2 week"),
        ("metric.a = -inf", "metric.a = -inf"),
        ("param.x = now", "param.x = 'now'"),
    ],
)
def test_the_grammar(text: str, same: str) -> None:
    """`and` binds closer than `or`, `not` closest; brackets that say nothing go; words are text where a field is text."""
    assert filters.format(filters.parse(text)) == same


def test_a_number_that_is_none_is_written_and_read() -> None:
    """NaN goes there and back, though it equals nothing."""
    found = filters.parse("metric.loss = NaN")
    assert isinstance(found, Comparison) and isinstance(found.value, float) and math.isnan(found.value)
    assert filters.format(found) == "metric.loss = nan"


def test_a_filter_has_a_length() -> None:
    """A megabyte of filter is refused before it is read."""
    with pytest.raises(UsageError, match="characters"):
        filters.parse("dirty or " * 200_000)


def test_a_short_name_means_the_one_field_that_ends_so() -> None:
    """`auc` is metric.auc where no parameter and no tag is called so; else it is asked which."""
    known = {"metric.auc", "metric.depth", "param.depth", "param.gbm.leaves"}
    assert named("auc", known) == "metric.auc" and named("name", known) == "name"
    with pytest.raises(UsageError, match=r"metric\.depth or param\.depth"):
        named("depth", known)
    with pytest.raises(UsageError) as caught:
        named("leaves", known)
    assert "param.gbm.leaves" in caught.value.hint
    expression = filters.parse("auc > 0.5 or not auc")
    assert expression is not None
    assert filters.format(resolve(expression, known)) == "metric.auc > 0.5 or not metric.auc"
