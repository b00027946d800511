"""JSON in, JSON out, and the one table from what went wrong to an HTTP status.

Nothing here knows ASGI, a model or a store: bytes become rows, answers and problems become bytes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

BODY_LIMIT = 16 * 1024 * 1024
"""Largest request body, in bytes."""

JSON = b"application/json"
PROBLEM = b"application/problem+json"

_SHAPES = 'send one object, a list of objects, or {"instances": [...]}'
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class RowError(Protocol):
    """One value of one row that does not fit the model's signature."""

    @property
    def row(self) -> int:
        """Counted from 0 in the request."""

    @property
    def column(self) -> str:
        """Empty when the row itself is wrong."""

    @property
    def expected(self) -> str:
        """What the signature asks for."""

    @property
    def got(self) -> str:
        """What was sent."""


class Problem(Exception):
    """A request that cannot be answered, as RFC 9457 puts it."""

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Sequence[tuple[bytes, bytes]] = (), **fields: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = tuple(headers)
        self.fields = fields


TITLES = {
    "json": "The body is not JSON",
    "shape": "The body does not hold rows",
    "schema": "Rows do not fit the model",
    "not-found": "Not found",
    "method": "Method not allowed",
    "timeout": "The request came too slowly",
    "too-large": "The body is too large",
    "internal": "The model failed on these rows",
    "unavailable": "Not ready",
}


def encode(value: Any) -> bytes:
    """JSON bytes, ending a line for whoever reads them in a terminal; NaN and infinity become null."""
    return _encoder.encode(value) + b"\n"


def decode(body: bytes, *, lenient: bool = False) -> Any:
    """The JSON document in `body`.

    Args:
        body: the request's bytes.
        lenient: read the bare NaN and Infinity some clients write; NaN means missing.

    Raises:
        Problem: 400 with the position of the first wrong byte.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if lenient:
            with contextlib.suppress(ValueError, RecursionError):  # else no matter of NaN: report what the strict reader found
                value = json.loads(body, parse_constant=_constant)
                _encoder.encode(value)  # refuses the half characters ("\\ud800") that json takes
                return value
        raise _malformed(body, error) from error


def _constant(token: str) -> float | None:
    return None if token == "NaN" else float(token)


def _malformed(body: bytes, error: Exception) -> Problem:
    if not body.strip():
        return Problem(400, "json", f"the body is empty: {_SHAPES}", position={"byte": 0, "line": 1, "column": 1})
    if isinstance(error, RecursionError):
        return Problem(400, "json", "the JSON is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return _at(body, _first_bad_byte(body), "the body is not UTF-8 text")
    text = str(error)
    if isinstance(error, msgspec.ValidationError):  # the only one an untyped decoder raises
        return Problem(400, "json", "a number is outside the range of a 64-bit float")
    if "truncated" in text:
        return _at(body, len(body), "the JSON ends too early")
    what, _, place = text.removeprefix("JSON is malformed: ").rpartition(" (byte ")
    byte = int(place.rstrip(")")) if place.rstrip(")").isdigit() else 0
    if what == "trailing characters":
        byte -= 1  # msgspec counts the character it has read already
    token = body[byte : byte + 3]
    if token in {b"NaN", b"Inf"} or body[byte : byte + 4] == b"-Inf":
        return _at(body, byte, "NaN and Infinity are not JSON: send null for a missing value")
    if body.startswith(b"\xef\xbb\xbf"):
        what = "a byte order mark is not JSON"
    return _at(body, byte, what or text)


def _first_bad_byte(body: bytes) -> int:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _at(body: bytes, byte: int, what: str) -> Problem:
    line = body.count(b"\n", 0, byte) + 1
    column = byte - (body.rfind(b"\n", 0, byte) + 1) + 1
    return Problem(
        400,
        "json",
        f"{what}, at byte {byte} (line {line}, column {column})",
        position={"byte": byte, "line": line, "column": column},
    )


def rows(value: Any, *, envelope: bool) -> list[dict[str, Any]]:
    """The rows a decoded body holds.

    Args:
        value: one object, a list of objects, or `{"instances": [...]}`.
        envelope: only the last form is accepted (the TensorFlow-Serving-like path).

    Raises:
        Problem: 400 for another shape, 422 naming the rows that are not objects.
    """
    if isinstance(value, dict) and (envelope or isinstance(value.get("instances"), list)):
        value = _instances(value)
    elif envelope:
        raise Problem(400, "shape", "Missing 'inputs' or 'instances' key: send {\"instances\": [{\"column\": value}, ...]}")
    elif isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise Problem(400, "shape", f"expected rows, got {name_of(value)}: {_SHAPES}")
    if not value:
        raise Problem(400, "shape", f"the list of rows is empty: {_SHAPES}")
    wrong = [index for index, row in enumerate(value) if type(row) is not dict]
    if wrong:
        raise Problem(
            422,
            "schema",
            _count(len(wrong), "row is", "rows are") + " not an object of column: value",
            errors=[{"row": i, "column": "", "expected": "an object", "got": name_of(value[i])} for i in wrong[:100]],
            error_count=len(wrong),
        )
    return value


def _instances(value: dict[str, Any]) -> Any:
    if "inputs" in value and "instances" not in value:
        raise Problem(400, "shape", 'the column form {"inputs": ...} is not supported: send {"instances": [{...}, ...]}')
    if "instances" not in value:
        raise Problem(400, "shape", "Missing 'inputs' or 'instances' key")
    return value["instances"]


def bad_rows(errors: Sequence[RowError], *, count: int) -> Problem:
    """The 422 for rows that do not fit the model's signature.

    Args:
        errors: the values that do not fit, or the first of them.
        count: how many there are.
    """
    head = errors[0]
    where = f"row {head.row}" + (f", column '{head.column}'" if head.column else "")
    more = f" (and {count - 1} more)" if count > 1 else ""
    listed = [{"row": error.row, "column": error.column, "expected": error.expected, "got": error.got} for error in errors]
    return Problem(422, "schema", f"{where}: expected {head.expected}, got {head.got}{more}", errors=listed, error_count=count)


def problem(failure: Problem, *, request: str, about: Mapping[str, Any]) -> bytes:
    """The body of a problem. `error` repeats the detail for clients that look for that key.

    Args:
        failure: what went wrong.
        request: the request's id.
        about: the model and version that are served, as far as there are any.
    """
    return encode(
        {
            "type": f"/errors/{failure.kind}",
            "title": TITLES[failure.kind],
            "status": failure.status,
            "detail": failure.detail,
            **failure.fields,
            "error": failure.detail,
            "request_id": request,
            **about,
        }
    )


def answer(predictions: Sequence[Any], about: Mapping[str, Any]) -> bytes:
    """The body of an answer: `predictions`, then which model and version gave them."""
    return encode({"predictions": predictions, **about})


def name_of(value: Any) -> str:
    """What a JSON value is, in JSON's own words."""
    names: dict[type, str] = {
        dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"
    }  # fmt: skip
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
