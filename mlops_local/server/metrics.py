"""What the server counts, in Prometheus' form.

Labels are few and bounded: model, version, protocol, status code. Never a request's id, never a value from a row.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from mlops_local.domain.assets import ModelVersion
from mlops_local.services.serve import RESULTS

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384)


class Metrics:
    """The counters of one server process."""

    def __init__(self) -> None:
        # a timestamp beside every counter doubles the page and no dashboard reads it
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mlops_requests", "Requests answered.", ("model", "version", "protocol", "code"), registry=self.registry
        )
        self.seconds = Histogram(
            "mlops_request_duration_seconds",
            "From the request's head to its last byte handed over.",
            ("model", "protocol"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rows = Counter("mlops_rows", "Rows predicted.", ("model", "version"), registry=self.registry)
        self.batch = Histogram(
            "mlops_batch_rows", "Rows answered by one call of the model.", buckets=_ROWS, registry=self.registry
        )
        self.invalid = Counter(
            "mlops_validation_errors", "Values that did not fit the signature.", ("column",), registry=self.registry
        )
        self.inflight = Gauge("mlops_inflight", "Requests being answered.", registry=self.registry)
        self.rejected = Counter(
            "mlops_rejected", "Requests refused before the model was asked.", ("reason",), registry=self.registry
        )
        self.swaps = Counter("mlops_swap", "Attempts to serve another version.", ("result",), registry=self.registry)
        self.swap_seconds = Histogram(
            "mlops_swap_duration_seconds", "From noticing another version to serving it.", registry=self.registry
        )
        self.info = Gauge(
            "mlops_model_info",
            "1 for the version that is served.",
            ("model", "version", "run", "fingerprint", "bundle"),
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        for result in RESULTS:
            self.swaps.labels(result)  # a counter that is not there cannot be alarmed on
        self._requests: dict[tuple[str, int, str, int], Counter] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}

    def answered(self, model: str, version: int, protocol: str, code: int, seconds: float) -> None:
        """Count one answer."""
        key = (model, version, protocol, code)
        counter = self._requests.get(key)
        if counter is None:  # labels() costs more than inc(): look it up once
            counter = self._requests[key] = self.requests.labels(model, str(version), protocol, str(code))
        counter.inc()
        histogram = self._seconds.get((model, protocol))
        if histogram is None:
            histogram = self._seconds[model, protocol] = self.seconds.labels(model, protocol)
        histogram.observe(seconds)

    def serving(self, version: ModelVersion) -> None:
        """Name the version that is served, and only that."""
        self.info.clear()
        self.info.labels(
            version.model, str(version.number), version.run, version.fingerprint[:16], version.bundle_hash[:16]
        ).set(1)

    def text(self, accept: str) -> tuple[bytes, bytes]:
        """Everything counted so far, and its content type, in the form the scraper asks for."""
        encode, kind = choose_encoder(accept)
        return encode(self.registry), kind.encode("ascii")
