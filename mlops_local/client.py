"""Ask a served model from Python: the standard library and nothing else.

    client = Client("http://127.0.0.1:8501")
    answer = client.predict([{"carrier": "UA", "distance": 1400}])
    answer[0], answer.model, answer.version

One client holds one connection and belongs to one thread.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from mlops_local.domain.errors import MlopsError, UsageError


class Refused(MlopsError):
    """The server answered, but not with predictions."""

    def __init__(self, message: str, *, status: int, errors: Sequence[Mapping[str, Any]] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.errors = tuple(errors)
        """For rows that do not fit: row, column, expected, got."""


class Unreachable(MlopsError):
    """Nobody answers at that address."""


class Predictions(list[Any]):
    """One number a row, or a mapping with one for each target, in order, and who gave them."""

    def __init__(self, values: Sequence[Any], *, model: str, version: int, request_id: str) -> None:
        super().__init__(values)
        self.model = model
        self.version = version
        """The version's number: 3 of `delay@3`."""
        self.request_id = request_id


class Client:
    """A connection to one server.

    Args:
        url: where `mlops serve` said it listens.
        timeout_s: how long one request may take, in seconds.
    """

    def __init__(self, url: str = "http://127.0.0.1:8501", *, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"'{url}' is not an address this client can use", hint="write http://HOST:PORT")
        self.url = f"http://{parts.netloc}"
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_s)

    def predict(self, rows: Any) -> Predictions:
        """Ask for predictions.

        Args:
            rows: one mapping, a list of mappings, or a polars or pandas frame, with the model's raw columns.

        Raises:
            Refused: rows do not fit the model (`errors` says which), or the model failed on them.
            Unreachable: nobody answers.
        """
        value, headers = self._ask("POST", "/predict", _body(rows))
        return Predictions(
            value["predictions"],
            model=value["model"],
            version=value["version"],
            request_id=headers.get("x-request-id") or "",
        )

    def model(self) -> dict[str, Any]:
        """What is served: version, state, lineage, metric, signature."""
        names = self._ask("GET", "/v1/models")[0]["models"]
        found: dict[str, Any] = self._ask("GET", f"/v1/models/{names[0]}")[0] if names else {}
        return found

    def close(self) -> None:
        """End the connection; the next call opens another."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[dict[str, Any], http.client.HTTPMessage]:
        reused = self._connection.sock is not None
        try:
            response, data = self._once(method, path, body)
        except (http.client.HTTPException, OSError) as error:
            self.close()
            if not reused or isinstance(error, TimeoutError):
                raise self._unreachable(error) from error
            try:  # the server closed a connection that was idle: asking changes nothing, so ask again
                response, data = self._once(method, path, body)
            except (http.client.HTTPException, OSError) as again:
                self.close()
                raise self._unreachable(again) from again
        return _value(response, data), response.headers

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"content-type": "application/json"} if body is not None else {}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response, response.read()

    def _unreachable(self, error: Exception) -> Unreachable:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(f"no answer from {self.url}: {said}", hint="is `mlops serve` running, and on that port?")


def _value(response: http.client.HTTPResponse, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = {}
    if not isinstance(value, dict):
        value = {}
    if response.status != 200:
        detail = value.get("detail") or f"the server answered {response.status} {response.reason}"
        raise Refused(detail, status=response.status, errors=value.get("errors", ()))
    return value


def _body(rows: Any) -> bytes:
    records = _records(rows)
    try:
        text = json.dumps(records, default=_json, allow_nan=False)
    except ValueError:  # NaN, as frames write what is missing: JSON's word for that is null
        text = json.dumps(_without_nan(records), default=_json)
    return text.encode("utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def _records(rows: Any) -> Any:
    if hasattr(rows, "to_dicts"):  # polars
        return rows.to_dicts()
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        return rows.to_dict("records")
    return rows


def _json(value: Any) -> Any:
    if isinstance(value, (dt.datetime, dt.date)):
        return value.isoformat()
    if hasattr(value, "item"):  # a numpy scalar
        return value.item()
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")
