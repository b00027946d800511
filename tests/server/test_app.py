"""The application in-process: routes, shapes, statuses, headers, metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import httpx
import polars as pl
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from mlops_local.server.app import App
from mlops_local.server.metrics import Metrics
from mlops_local.services import serve

if TYPE_CHECKING:
    from tests.server.conftest import Served

RowsOf = Callable[[int], list[dict[str, Any]]]


class Reports(list[tuple[str, Exception]]):
    """What the application told of its failures."""

    def __call__(self, request: str, error: Exception) -> None:
        self.append((request, error))


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def app(served: Served, reports: Reports) -> AsyncIterator[App]:
    """An application that serves delay@1."""
    served.promote(served.version())
    made = App(Metrics(), reports)
    made.put(serve.first(served.layout, serve.Target("delay")))
    yield made
    made.close()


@pytest.fixture
async def ask(app: App) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        yield client


async def test_predict_shapes(ask: httpx.AsyncClient, rows: RowsOf) -> None:
    """One object, a list, instances and the TensorFlow-Serving-like path give the same answers, naming model and version."""
    two = rows(2)
    one = (await ask.post("/predict", json=two[0])).json()
    several = (await ask.post("/predict", json=two)).json()
    assert one == {"predictions": several["predictions"][:1], "model": "delay", "version": 1}
    assert (await ask.post("/predict", json={"instances": two})).json() == several
    assert (await ask.post("/v1/models/delay:predict", json={"instances": two})).json() == several


@pytest.mark.parametrize("count", [1, 7, 64, 65, 3000])
async def test_equals_predictor(
    ask: httpx.AsyncClient, served: Served, rows: RowsOf, frame: Callable[[int], pl.DataFrame], count: int
) -> None:
    """Answers over HTTP are exactly Predictor.predict's on the same rows, on the event loop and in a thread."""
    answer = (await ask.post("/predict", json=rows(count))).json()["predictions"]
    assert answer == served.predictor("delay@1").predict(frame(count)).tolist()


async def test_concurrent_requests_keep_their_rows(
    ask: httpx.AsyncClient, served: Served, rows: RowsOf, frame: Callable[[int], pl.DataFrame]
) -> None:
    """Requests that are answered together each get their own answers, and a bad one among them only its own error."""
    every = rows(200)
    expected = served.predictor("delay@1").predict(frame(200)).tolist()
    asked = [ask.post("/predict", json=every[at]) for at in range(200)]
    asked.insert(100, ask.post("/predict", json={"carrier": 5}))
    answers = await asyncio.gather(*asked)
    bad = answers.pop(100)
    assert bad.status_code == 422
    assert [answer.json()["predictions"] for answer in answers] == [[value] for value in expected]


async def test_bad_rows(ask: httpx.AsyncClient, rows: RowsOf) -> None:
    """Bad rows are 422 problem+json naming row, column, expected and got; nothing is answered in part."""
    sent = rows(3)
    sent[1]["distance"] = "far"
    del sent[2]["carrier"]
    for path, body in (("/predict", sent), ("/v1/models/delay:predict", {"instances": sent})):
        answer = await ask.post(path, json=body)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        value = answer.json()
        assert [(error["row"], error["column"]) for error in value["errors"]] == [(1, "distance"), (2, "carrier")]
        assert value["errors"][0]["expected"] == "an integer"
        assert value["errors"][0]["got"] == "string 'far'"
        assert (value["model"], value["version"], value["error_count"]) == ("delay", 1, 2)
        assert "predictions" not in value


async def test_null_where_training_had_none(ask: httpx.AsyncClient, rows: RowsOf) -> None:
    """Null is taken where training had gaps and refused where it had none."""
    sent = rows(1)[0]
    assert (await ask.post("/predict", json={**sent, "wind": None})).status_code == 200
    refused = await ask.post("/predict", json={**sent, "distance": None})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["got"] == "null"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("distance", "1" + "0" * 30),
        ("distance", "1e30"),
        ("distance", "-1e400"),
        ("distance", "[1]"),
        ("distance", '{"a": 1}'),
        ("wind", "1e309"),
        ("carrier", '"\\ud800"'),
        ("carrier", "true"),
        ("time", '"9999-12-31T23:59:59-14:00"'),
        ("time", '"yesterday"'),
        ("time", "1e9"),
    ],
)
async def test_hostile_values(ask: httpx.AsyncClient, rows: RowsOf, reports: Reports, column: str, value: str) -> None:
    """Numbers out of range, half characters, nested values, times that do not exist: a 400 or 422, never a failure of ours."""
    row = json.dumps({**rows(1)[0], column: "HERE"}).replace('"HERE"', value)
    for path, body in (("/predict", row), ("/v1/models/delay:predict", f'{{"instances": [{row}]}}')):
        answer = await ask.post(path, content=body)
        assert answer.status_code in {400, 422}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        if answer.status_code == 422:
            assert [error["column"] for error in answer.json()["errors"]] == [column]
    assert reports == []


async def test_nan(ask: httpx.AsyncClient) -> None:
    """A bare NaN: 400 with its position on the native path; missing on the TensorFlow-Serving-like one."""
    row = '{"time": "2013-09-01T10:00:00", "carrier": "UA", "distance": 100, "wind": NaN}'
    native = await ask.post("/predict", content=row)
    assert native.status_code == 400
    assert native.json()["position"]["byte"] == row.index("NaN")
    peer = await ask.post("/v1/models/delay:predict", content=f'{{"instances": [{row}]}}')
    assert peer.status_code == 200


async def test_content_type_is_not_asked_for(ask: httpx.AsyncClient, rows: RowsOf) -> None:
    """curl -d sends a form's content type; the body is JSON all the same."""
    body = httpx.Request("POST", "http://test", json=rows(1)[0]).content
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await ask.post("/predict", content=body, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/v1/models/other:predict", 404),
        ("GET", "/v1/models/other", 404),
        ("POST", "/v1/models/delay:classify", 404),
        ("GET", "/predict", 405),
        ("POST", "/health", 405),
        ("DELETE", "/v1/models/delay", 405),
        ("GET", "/v1/models/delay:predict", 405),
    ],
)
async def test_wrong_places(ask: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """An unknown path is 404, a wrong method 405 with Allow; both as problems that name what is served."""
    answer = await ask.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["model"] == "delay"
    assert ("allow" in answer.headers) == (status == 405)


async def test_too_large(ask: httpx.AsyncClient) -> None:
    """A body over the limit is 413, whether its size is announced or found out."""
    block = b" " * (1 << 20)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield block

    assert (await ask.post("/predict", content=block * 17)).status_code == 413
    assert (await ask.post("/predict", content=endless())).status_code == 413
    assert (await ask.post("/predict", content=block * 16)).status_code == 400  # within the limit, but blank


async def test_every_answer_names_itself(ask: httpx.AsyncClient, app: App) -> None:
    """Every answer carries a request id, a new one each time unless a sound one was sent, and the version with its bundle."""
    first, second = await ask.get("/health"), await ask.get("/nowhere")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert second.json()["request_id"] == second.headers["x-request-id"]
    assert first.headers["x-mlops-model"].startswith("delay@1+")
    assert (await ask.get("/health", headers={"x-request-id": "trace-7"})).headers["x-request-id"] == "trace-7"
    assert (await ask.get("/health", headers={"x-request-id": "a b"})).headers["x-request-id"] != "a b"


async def test_health_and_ready(ask: httpx.AsyncClient, app: App) -> None:
    """Healthy and ready while serving; while draining still healthy, no longer ready, and still answering."""
    assert (await ask.get("/health")).json() == {"status": "ok", "model": "delay", "version": 1}
    assert (await ask.get("/ready")).status_code == 200
    assert (await ask.head("/ready")).status_code == 200
    app.draining = True
    assert (await ask.get("/health")).status_code == 200
    assert (await ask.get("/ready")).status_code == 503


async def test_without_a_model(reports: Reports) -> None:
    """With no model loaded: healthy, not ready, predictions 503 with Retry-After."""
    app = App(Metrics(), reports)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as ask:
        assert (await ask.get("/health")).status_code == 200
        for method, path in (("GET", "/ready"), ("POST", "/predict"), ("GET", "/v1/models/delay")):
            answer = await ask.request(method, path)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
    app.close()


async def test_lineage(ask: httpx.AsyncClient) -> None:
    """GET /v1/models/NAME tells state, version, run, snapshots, fingerprint, metric with interval, and a row to send."""
    value = (await ask.get("/v1/models/delay")).json()
    assert value["ready"] is True
    assert value["model_version_status"][0]["version"] == "1"
    assert value["model_version_status"][0]["state"] == "AVAILABLE"
    assert value["id"] == "delay@1"
    assert value["run"] == "0006500000000000abcdef0123456789"
    assert value["snapshots"] == {"flights": "ab" * 16}
    assert value["fingerprint"].startswith("fp-")
    assert value["metric"] == {"name": "auc", "value": 0.7171, "low": 0.652, "high": 0.78}
    assert [column["name"] for column in value["signature"]] == ["time", "carrier", "distance", "wind"]
    assert (await ask.post("/predict", json=value["example"])).status_code == 200
    assert (await ask.get("/v1/models")).json() == {"models": ["delay"], "model": "delay", "version": 1}


async def test_metrics(ask: httpx.AsyncClient, rows: RowsOf) -> None:
    """Prometheus' own parser reads the page in both forms, and it counts answers, rows, wrong values and what is served."""
    await ask.post("/predict", json=rows(3))
    await ask.post("/predict", json={"distance": "x"})
    page = await ask.get("/metrics")
    assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in prometheus(page.text)
        for sample in family.samples
    }
    labels = (("code", "200"), ("model", "delay"), ("protocol", "native"), ("version", "1"))
    assert found["mlops_requests_total", labels] == 1
    assert found["mlops_rows_total", (("model", "delay"), ("version", "1"))] == 3
    assert found["mlops_validation_errors_total", (("column", "distance"),)] == 1
    assert found["mlops_swap_total", (("result", "deployed"),)] == 0
    assert [value for (name, _), value in found.items() if name == "mlops_model_info"] == [1]
    assert found["mlops_inflight", ()] == 1  # this very request
    modern = await ask.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    assert any(family.name == "mlops_requests" for family in openmetrics(modern.text))  # type: ignore[no-untyped-call]


FAILS = b"""
import polars as pl


def features(rows, codes):
    made = rows.collect()
    if (made["distance"] == 4000).any():
        raise RuntimeError("no such place")
    one = pl.lit(1.0)
    return made.select(hour=one, weekday=one, carrier=one, distance=pl.col("distance"), wind=one)
"""


async def test_failing_transform(served: Served, reports: Reports, rows: RowsOf) -> None:
    """Rows on which the transform raises are a 500 without its text, told once with the request's id; others are answered."""
    served.promote(served.version(transform=FAILS))
    app = App(Metrics(), reports)
    app.put(serve.first(served.layout, serve.Target("delay")))
    good, bad = rows(1)[0], {**rows(1)[0], "distance": 4000}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as ask:
        answers = await asyncio.gather(ask.post("/predict", json=good), ask.post("/predict", json=bad))
    assert [answer.status_code for answer in answers] == [200, 500]
    assert "no such place" not in answers[1].text
    assert [(request, str(error)) for request, error in reports] == [(answers[1].headers["x-request-id"], "no such place")]
    app.close()


async def test_swap_between(ask: httpx.AsyncClient, app: App, served: Served, rows: RowsOf) -> None:
    """After a swap every answer names and comes from the new version."""
    before = (await ask.post("/predict", json=rows(1))).json()
    served.promote(served.version(bias=2.0))
    app.put(serve.first(served.layout, serve.Target("delay")))
    answer = await ask.post("/predict", json=rows(1))
    assert answer.json()["version"] == 2
    assert answer.headers["x-mlops-model"].startswith("delay@2+")
    assert answer.json()["predictions"] != before["predictions"]
    page = (await ask.get("/metrics")).text
    assert "mlops_model_info{" in page
    assert 'version="1"' not in next(line for line in page.splitlines() if line.startswith("mlops_model_info{"))
