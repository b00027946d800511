"""What bytes become rows, and how what goes wrong is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.engines.models.signature import RowError
from mlops_local.server import wire
from mlops_local.server.wire import Problem


@pytest.mark.parametrize(
    ("body", "byte", "line", "column"),
    [
        (b'{"a": 1,}', 8, 1, 9),
        (b'{\n "a": 1\n "b": 2}', 11, 3, 2),
        (b"[1, 2", 5, 1, 6),
        (b'{"a": 1} x', 9, 1, 10),
        (b'{"a": NaN}', 6, 1, 7),
        (b'{"a": "\xff"}', 7, 1, 8),
        (b"", 0, 1, 1),
        (b"\xef\xbb\xbf{}", 0, 1, 1),
    ],
)
def test_malformed_position(body: bytes, byte: int, line: int, column: int) -> None:
    """A body that is not JSON is a 400 naming the place as byte, line and column."""
    with pytest.raises(Problem) as caught:
        wire.decode(body)
    assert caught.value.status == 400
    assert caught.value.kind == "json"
    assert caught.value.fields["position"] == {"byte": byte, "line": line, "column": column}


def test_nan_names_the_way_out() -> None:
    """A bare NaN is refused with what to send instead."""
    with pytest.raises(Problem, match="send null"):
        wire.decode(b'{"a": -Infinity}')


def test_lenient_reads_nan_as_missing() -> None:
    """On the TensorFlow-Serving-like path NaN means missing and Infinity is a number, as its clients write them."""
    assert wire.decode(b'{"a": NaN, "b": -Infinity}', lenient=True) == {"a": None, "b": float("-inf")}


def test_lenient_still_refuses_what_is_not_json() -> None:
    """Lenient about NaN is not lenient about anything else."""
    with pytest.raises(Problem, match="byte 8"):
        wire.decode(b'{"a": 1,}', lenient=True)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000])
def test_deep_nesting(body: bytes) -> None:
    """A body nested without end is a 400, on both paths, not a crash."""
    for lenient in (False, True):
        with pytest.raises(Problem) as caught:
            wire.decode(body, lenient=lenient)
        assert caught.value.status == 400


@given(st.binary(max_size=60))
def test_any_bytes(body: bytes) -> None:
    """Whatever bytes come: a value or a 400, never anything else."""
    for lenient in (False, True):
        try:
            wire.decode(body, lenient=lenient)
        except Problem as problem:
            assert problem.status == 400
            json.loads(wire.problem(problem, request="r", about={}))


@pytest.mark.parametrize("value", [{"a": 1}, [{"a": 1}], {"instances": [{"a": 1}]}])
def test_native_shapes(value: Any) -> None:
    """The native path takes one object, a list of objects, or instances."""
    assert wire.rows(value, envelope=False) == [{"a": 1}]


@pytest.mark.parametrize("value", [{"a": 1}, [{"a": 1}], {"inputs": {"a": [1]}}, {"instances": {"a": 1}}, 5, None])
def test_envelope_shape(value: Any) -> None:
    """The TensorFlow-Serving-like path takes instances and nothing else."""
    with pytest.raises(Problem) as caught:
        wire.rows(value, envelope=True)
    assert (caught.value.status, caught.value.kind) == (400, "shape")


@pytest.mark.parametrize("value", [5, "text", None, True, []])
def test_no_rows(value: Any) -> None:
    """JSON that holds no rows is a 400 that says what to send."""
    with pytest.raises(Problem, match="send one object, a list of objects"):
        wire.rows(value, envelope=False)


def test_rows_that_are_no_objects() -> None:
    """Rows that are not objects are a 422 naming each."""
    with pytest.raises(Problem) as caught:
        wire.rows([{"a": 1}, 5, None], envelope=False)
    assert caught.value.status == 422
    assert [(error["row"], error["got"]) for error in caught.value.fields["errors"]] == [(1, "a number"), (2, "null")]


def test_bad_rows_names_first_and_counts_all() -> None:
    """A 422 lists row, column, expected and got, puts the first in words and counts what it does not list."""
    problem = wire.bad_rows([RowError(3, "age", "a number", "string 'abc'")], count=7)
    assert problem.detail == "row 3, column 'age': expected a number, got string 'abc' (and 6 more)"
    assert problem.fields["errors"] == [{"row": 3, "column": "age", "expected": "a number", "got": "string 'abc'"}]
    assert problem.fields["error_count"] == 7


def test_problem_is_rfc_9457_and_has_error() -> None:
    """A problem has the standard members, who is served, and `error` for clients of other servers."""
    body = json.loads(
        wire.problem(Problem(404, "not-found", "nothing here"), request="r-1", about={"model": "m", "version": 3})
    )
    assert body == {
        "type": "/errors/not-found",
        "title": "Not found",
        "status": 404,
        "detail": "nothing here",
        "error": "nothing here",
        "request_id": "r-1",
        "model": "m",
        "version": 3,
    }


def test_answer_turns_nan_into_null() -> None:
    """An answer is always JSON: a prediction that is NaN is null."""
    assert json.loads(wire.answer([0.5, float("nan")], {"model": "m"})) == {"predictions": [0.5, None], "model": "m"}
