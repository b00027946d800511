"""The ASGI application: routes, limits, headers, and one reference to what is served.

Raw ASGI on purpose: a framework's routing costs a fifth of the requests a second here (docs/adr/0006). A request takes the
reference once and keeps it, so a swap is one assignment and needs no lock.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mlops_local.engines.models.signature import RowErrors
from mlops_local.server import wire
from mlops_local.server.batch import Batcher, Rows
from mlops_local.server.metrics import Metrics
from mlops_local.server.wire import Problem
from mlops_local.services import serve
from mlops_local.services.serve import Serving

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

INLINE_BYTES = 32 * 1024
"""Bodies up to this are answered on the event loop; larger ones would hold it for milliseconds and go to a thread."""
INLINE_ROWS = 64
INLINE_S = 0.005
"""A model that takes longer than this for one row never runs on the event loop: /health would wait for it."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_MODEL_PATH = "/v1/models/"
_ROUTES = ("/predict", "/health", "/ready", "/metrics", "/v1/models/NAME", "/v1/models/NAME:predict")


class Live:
    """What is served, with everything an answer needs of it made once."""

    __slots__ = ("about", "headers", "inline", "model", "number", "rows", "serving")

    def __init__(self, serving: Serving, metrics: Metrics) -> None:
        version = serving.version
        self.serving = serving
        self.inline = serving.row_seconds < INLINE_S
        self.model = version.model
        self.number = version.number
        self.about: dict[str, Any] = {"model": version.model, "version": version.number}
        self.headers = [(b"x-mlops-model", f"{version.id}+{version.bundle_hash[:12]}".encode())]
        self.rows = metrics.rows.labels(version.model, str(version.number))

    def predict(self, rows: Rows) -> list[Any]:
        """Answers in the rows' order. Raises RowErrors."""
        predictor = self.serving.predictor
        return predictor.answers(predictor.validate(rows))


class Request:
    """One request on its way: what it is called, which protocol it speaks, who answers it."""

    __slots__ = ("id", "live", "method", "path", "protocol", "receive", "scope")

    def __init__(self, scope: Message, receive: Receive, live: Live | None, made_id: bytes) -> None:
        self.scope = scope
        self.receive = receive
        self.live = live
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.protocol = "native" if self.path == "/predict" else "tf" if self.path.endswith(":predict") else "other"
        given = self.header(b"x-request-id")
        self.id = given if given and _REQUEST_ID.match(given) else made_id

    def header(self, name: bytes) -> bytes:
        """One header's value, or empty."""
        for key, value in self.scope["headers"]:
            if key == name:
                found: bytes = value
                return found
        return b""


Reply = tuple[int, bytes, bytes, Headers]
"""Status, content type, body, further headers."""


class App:
    """The ASGI application.

    Args:
        metrics: where everything is counted.
        report: told of an exception that became a 500, with the request's id.
    """

    def __init__(self, metrics: Metrics, report: Callable[[str, Exception], None]) -> None:
        self.metrics = metrics
        self.draining = False
        self.swapped: dict[str, Any] | None = None
        """The last attempt to serve another version, for GET /v1/models/NAME."""
        self._report = report
        self._live: Live | None = None
        self._batcher = Batcher(self._predict)
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="mlops-rows")
        self._prefix = os.urandom(6).hex()
        self._count = 0

    def put(self, serving: Serving) -> None:
        """Serve this version from now on. Requests under way end with the version they began with."""
        live = Live(serving, self.metrics)
        self.metrics.serving(serving.version)
        self._live = live

    def close(self) -> None:
        """Let the threads go; everything was answered before."""
        self._pool.shutdown(wait=True)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; every way it can end is a reply here and nowhere else."""
        started = time.perf_counter()
        self._count += 1
        request = Request(scope, receive, self._live, b"%s-%x" % (self._prefix.encode(), self._count))
        self.metrics.inflight.inc()
        try:
            status, kind, body, headers = await self._reply(request)
        except Problem as failure:
            status, kind, body, headers = self._problem(request, failure)
        except ConnectionError:
            return  # the client left while sending: nobody to answer
        except Exception as error:  # noqa: BLE001  (the transform is the user's code: it can raise anything)
            self._report(request.id.decode(), error)
            wrong = Problem(500, "internal", f"the model failed on these rows: {type(error).__name__}")
            status, kind, body, headers = self._problem(request, wrong)
        finally:
            self.metrics.inflight.dec()
        live = request.live
        if live is not None:
            headers = headers + live.headers
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", kind),
                    (b"content-length", b"%d" % len(body)),
                    (b"x-request-id", request.id),
                    *headers,
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})
        model, version = (live.model, live.number) if live is not None else ("", 0)
        self.metrics.answered(model, version, request.protocol, status, time.perf_counter() - started)

    def _problem(self, request: Request, failure: Problem) -> Reply:
        body = wire.problem(failure, request=request.id.decode(), about=_about(request))
        self.metrics.rejected.labels(failure.kind).inc()
        return failure.status, wire.PROBLEM, body, list(failure.headers)

    async def _reply(self, request: Request) -> Reply:
        path = request.path
        if path == "/predict":
            return await self._answer(request, envelope=False)
        if path.startswith(_MODEL_PATH):
            return await self._model(request)
        simple = self._simple(path)
        if simple is None:
            raise Problem(404, "not-found", f"there is nothing at {path[:200]}; there is: {', '.join(_ROUTES)}")
        _allow(request, "GET", "HEAD")
        return simple(request)

    def _simple(self, path: str) -> Callable[[Request], Reply] | None:
        match path:
            case "/":
                return self._home
            case "/health":
                return self._health
            case "/ready":
                return self._ready
            case "/metrics":
                return self._metrics
            case "/v1/models" | "/v1/models/":
                return self._models
        return None

    def _home(self, request: Request) -> Reply:
        return 200, wire.JSON, wire.encode({**_about(request), "paths": _ROUTES}), []

    def _health(self, request: Request) -> Reply:
        return 200, wire.JSON, wire.encode({"status": "ok", **_about(request)}), []

    def _ready(self, request: Request) -> Reply:
        live = self._serving(request)
        return 200, wire.JSON, wire.encode({"status": "ready", **live.about}), []

    def _metrics(self, request: Request) -> Reply:
        body, kind = self.metrics.text(request.header(b"accept").decode("latin-1"))
        return 200, kind, body, []

    def _models(self, request: Request) -> Reply:
        names = [request.live.model] if request.live is not None else []
        return 200, wire.JSON, wire.encode({"models": names, **_about(request)}), []

    async def _model(self, request: Request) -> Reply:
        name, colon, verb = request.path.removeprefix(_MODEL_PATH).rstrip("/").partition(":")
        if not name:
            _allow(request, "GET", "HEAD")
            return self._models(request)
        live = self._serving(request)
        if name != live.model:
            raise Problem(404, "not-found", f"Servable not found for request: Latest({name[:200]}); served is {live.model}")
        if colon and verb == "predict":
            return await self._answer(request, envelope=True)
        if colon:
            raise Problem(404, "not-found", f"'{verb[:200]}' is not supported; there is: predict")
        _allow(request, "GET", "HEAD")
        return 200, wire.JSON, wire.encode(self._describe(live)), []

    def _describe(self, live: Live) -> dict[str, Any]:
        state = {"version": str(live.number), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        return {
            "name": live.model,
            "ready": not self.draining,
            "model_version_status": [state],
            **serve.describe(live.serving),
            "last_swap": self.swapped,
        }

    def _serving(self, request: Request) -> Live:
        if request.live is None:
            raise Problem(503, "unavailable", "no model is loaded yet", headers=[(b"retry-after", b"1")])
        if self.draining and request.path == "/ready":
            raise Problem(503, "unavailable", "the server is stopping", headers=[(b"retry-after", b"1")])
        return request.live

    async def _answer(self, request: Request, *, envelope: bool) -> Reply:
        _allow(request, "POST")
        live = self._serving(request)
        body = await _body(request)
        try:
            live, predictions = await self._predictions(live, body, envelope=envelope)
        except RowErrors as errors:
            for error in errors.errors:
                self.metrics.invalid.labels(error.column).inc()
            raise wire.bad_rows(errors.errors, count=errors.count) from errors
        request.live = live  # a swap may have come between; the answer names who gave it
        live.rows.inc(len(predictions))
        return 200, wire.JSON, wire.answer(predictions, live.about), []

    async def _predictions(self, live: Live, body: bytes, *, envelope: bool) -> tuple[Live, list[Any]]:
        loop = asyncio.get_running_loop()
        if len(body) > INLINE_BYTES:
            return live, await loop.run_in_executor(self._pool, self._whole, live, body, envelope)
        rows = wire.rows(wire.decode(body, lenient=envelope), envelope=envelope)
        if len(rows) > INLINE_ROWS or not live.inline:
            return live, await loop.run_in_executor(self._pool, self._counted, live, rows)
        return await self._batcher.submit(rows)

    def _predict(self, rows: Rows) -> tuple[Live, list[Any]]:
        live = self._live
        assert live is not None, "checked before rows are taken, and never taken back"
        return live, self._counted(live, rows)

    def _counted(self, live: Live, rows: Rows) -> list[Any]:
        self.metrics.batch.observe(len(rows))
        return live.predict(rows)

    def _whole(self, live: Live, body: bytes, envelope: bool) -> list[Any]:
        return self._counted(live, wire.rows(wire.decode(body, lenient=envelope), envelope=envelope))


def _about(request: Request) -> dict[str, Any]:
    return request.live.about if request.live is not None else {}


def _allow(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise Problem(
            405,
            "method",
            f"{request.path} takes {methods[0]}, not {request.method}",
            headers=[(b"allow", ", ".join(methods).encode())],
        )


async def _body(request: Request) -> bytes:
    length = request.header(b"content-length")
    if length.isdigit() and int(length) > wire.BODY_LIMIT:
        raise _too_large(int(length))
    message = await request.receive()
    if not message.get("more_body"):
        return _part(message)
    parts = [_part(message)]
    size = len(parts[0])
    while message.get("more_body"):
        message = await request.receive()
        parts.append(_part(message))
        size += len(parts[-1])
        if size > wire.BODY_LIMIT:
            raise _too_large(size)
    return b"".join(parts)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ConnectionResetError
    body: bytes = message.get("body", b"")
    return body


def _too_large(size: int) -> Problem:
    # A client that still sends reads no answer from a closed connection: keep it open and let the rest be thrown away, up to
    # a size at which closing is cheaper than listening.
    headers = [(b"connection", b"close")] if size > 8 * wire.BODY_LIMIT else []
    limit = wire.BODY_LIMIT // 2**20
    return Problem(413, "too-large", f"the body is over {limit} MiB: send the rows in several requests", headers=headers)
