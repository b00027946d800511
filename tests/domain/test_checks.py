"""Rules of a source as mlops.toml has them."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain import checks
from mlops_local.domain.checks import ERROR, WARNING, Check, Finding
from mlops_local.domain.errors import ConfigError
from mlops_local.domain.project import parse

TABLE = """
[data.flights.checks]
not_null = ["carrier", "origin"]
unique = ["time_hour", "flight"]
range = { dep_delay = [-60, 1500], distance = { min = 0 } }
in.origin = ["EWR", "JFK"]
regex.carrier = "[A-Z0-9]{2}"
row_count = 1000
freshness = "36h"
no_overlap = "holdout"
sql = "arr_delay >= dep_delay - 120"
warn = ["freshness", "range.dep_delay"]
"""


def _problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(tomllib.loads(f"[data.flights.checks]\n{text}"))
    return list(caught.value.problems)


def test_every_kind_of_rule_is_read() -> None:
    """Rules by column, over several columns, over the table and against another source; `warn` makes some of them warnings."""
    found = parse(tomllib.loads(TABLE)).checks["flights"]
    assert [(check.text, check.severity) for check in found] == [
        ("not_null carrier", ERROR),
        ("not_null origin", ERROR),
        ("unique time_hour, flight", ERROR),
        ("range dep_delay -60 to 1500", WARNING),
        ("range distance at least 0", ERROR),
        ("in origin EWR, JFK", ERROR),
        ("regex carrier [A-Z0-9]{2}", ERROR),
        ("row_count at least 1000", ERROR),
        ("freshness 1.5 d", WARNING),
        ("no_overlap holdout", ERROR),
        ("sql arr_delay >= dep_delay - 120", ERROR),
    ]
    several = parse({"data": {"x": {"checks": {"unique": [["a"], ["b", "c"]]}}}}).checks["x"]
    assert [check.columns for check in several] == [("a",), ("b", "c")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('notnull = ["a"]', "data.flights.checks.notnull: no such check, did you mean 'not_null'?"),
        ("not_null = 3", "data.flights.checks.not_null: expected names of columns, got 3"),
        ("range = [0, 1]", "data.flights.checks.range: expected a table of columns, as in [… .range], got [0, 1]"),
        ("range.a = [5, 1]", "data.flights.checks.range: 5 is more than 1: no value lies between"),
        ("row_count = { min = 3, max = 2 }", "data.flights.checks.row_count: 3 is more than 2: no value lies between"),
        ("range.a = [0]", "data.flights.checks.range: expected [least, most] or {min = …} or {max = …}, got [0]"),
        ('freshness = "soon"', "data.flights.checks.freshness: expected a duration, as 30min, 12h, 45d or 2w, got 'soon'"),
        ('freshness = "0s"', "data.flights.checks.freshness: expected a duration, as 30min, 12h, 45d or 2w, got '0s'"),
        ("row_count = -1", "data.flights.checks.row_count: expected numbers of rows, got -1"),
        ('not_null = ["a"]\nwarn = ["range"]', "data.flights.checks.warn: there is no check 'range' here"),
    ],
)
def test_what_cannot_be_a_rule_is_said_with_its_place(text: str, said: str) -> None:
    """A misspelled kind gets its neighbour; a value of the wrong form says what was expected."""
    assert _problems(text) == [said]


@given(st.floats(1, 1e7))
def test_durations_are_read_as_they_are_written(value: float) -> None:
    """A duration as shown is one that can be written in mlops.toml, and means the same to three digits."""
    shown = checks.duration(value).replace(",", "")
    assert checks.seconds(shown) == pytest.approx(value, rel=0.006)


def test_a_finding_survives_json() -> None:
    """Findings are journalled and kept: nothing is lost but what JSON cannot hold, which is text."""
    finding = Finding(
        "s", "abc", Check("not_null", ("a",)).text, ERROR, ("a",), 2, 10, samples=({"a": None, "b": float("nan")},)
    )
    back = checks.from_json(checks.to_json(finding))
    assert back == finding and back.samples == ({"a": None, "b": "nan"},)
    assert back.line == "s: not_null a: 2 of 10 rows"
