"""What is to be served, and everything a version must pass before it may.

Never opens the database, knows nothing of HTTP. `following` keeps what is served what the project decided.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mlops_local.domain.assets import Column, ModelVersion
from mlops_local.domain.errors import DataError, IntegrityError, MlopsError, UsageError
from mlops_local.domain.events import ALIAS
from mlops_local.store import ledger, objects, registry
from mlops_local.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import polars as pl

GOLDEN = "golden.parquet"
CHAMPION = "champion"
RESULTS = ("deployed", "rejected_integrity", "rejected_golden", "rejected_signature", "rejected_error")
"""Every way an attempt to serve another version can end."""
_WARM_ROWS = (64, 16, 2, 1, 1)


class Predictor(Protocol):
    """A loaded bundle."""

    @property
    def signature(self) -> tuple[Column, ...]:
        """The columns a request must hold."""

    def validate(self, rows: Sequence[Any]) -> pl.DataFrame:
        """Rows of JSON values as a frame."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        """One answer a row."""

    def answers(self, frame: pl.DataFrame) -> list[Any]:
        """One JSON value a row: a number, or an object where there are several targets."""


@dataclass(frozen=True)
class Target:
    """What to serve: a model by alias, which may move, or one pinned version."""

    model: str
    alias: str = CHAMPION
    number: int | None = None

    def __str__(self) -> str:
        return f"{self.model}@{self.alias if self.number is None else self.number}"


@dataclass(frozen=True)
class Serving:
    """A version that passed everything a version must pass before it may serve."""

    version: ModelVersion
    predictor: Predictor
    example: Mapping[str, Any]
    """A real raw row, as JSON values."""
    since: str
    """UTC, ISO 8601."""
    row_seconds: float
    """What one row took when it was warm."""


class Refused(IntegrityError):
    """A version that may not serve; `result` is the matching one of RESULTS."""

    def __init__(self, message: str, *, result: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.result = result


def parse(reference: str) -> Target:
    """The target a user named: `delay`, `delay@challenger`, `delay@3`."""
    model, at, rest = reference.partition("@")
    if not model or (at and not rest):
        raise UsageError(f"'{reference}' names no model", hint="write MODEL, MODEL@ALIAS or MODEL@NUMBER")
    if rest.isdigit():
        return Target(model, "", int(rest))
    return Target(model, rest or CHAMPION)


def choose(layout: Layout, reference: str, *, configured: str = "") -> Target:
    """What to serve when the user named `reference` (or nothing, and mlops.toml `configured`).

    Raises:
        UsageError: nothing to serve yet, or several models and none named.
    """
    known = registry.load(layout)
    models = sorted({version.model for version in known.versions.values()})
    named = reference or configured
    if not named:
        if not models:
            raise UsageError("there is no model to serve yet", hint="run `mlops train` first")
        if len(models) > 1:
            raise UsageError(
                f"there are several models: {', '.join(models)}",
                hint=f"name one, as in `mlops serve {models[0]}`, or set [serve] model in mlops.toml",
            )
        named = models[0]
    target = parse(named)
    if target.model not in models:
        there = f"there are: {', '.join(models)}" if models else "run `mlops train` first"
        raise UsageError(f"no version of a model '{target.model}' exists", hint=there)
    return target


def wanted(known: registry.Registry, target: Target) -> tuple[ModelVersion | None, int]:
    """The version the target means now, and the ledger line that made it so (0 for a pinned one)."""
    if target.number is not None:
        return known.versions.get(f"{target.model}@{target.number}"), 0
    subject = f"{target.model}@{target.alias}"
    version = known.aliases.get(subject)
    if not version:
        return None, 0
    line = next((line.seq for line in reversed(known.lines) if line.kind == ALIAS and line.subject == subject), 0)
    return known.versions.get(version), line


def first(layout: Layout, target: Target) -> Serving:
    """Load the version the target means, when nothing serves yet.

    Raises:
        UsageError: the target means no version.
        IntegrityError: the version may not serve, or the ledger was altered.
    """
    altered = damage(layout)
    if altered:
        raise IntegrityError(f"nothing is served by a damaged ledger: {altered}", hint="run `mlops doctor`")
    known = registry.load(layout)
    version, _ = wanted(known, target)
    if version is None:
        numbers = sorted(version.number for version in known.versions.values() if version.model == target.model)
        if target.number is not None:
            raise UsageError(f"there is no {target}", hint=f"{target.model} has versions {', '.join(map(str, numbers))}")
        newest = f"{target.model}@{numbers[-1]}" if numbers else target.model
        raise UsageError(
            f"{target.model} has no {target.alias} yet",
            hint=f"`mlops model promote {newest}` makes one, or serve a version by its number: `mlops serve {newest}`",
        )
    return load_version(layout, version)


def damage(layout: Layout) -> str:
    """What is wrong with the file that says which version to serve, or empty: its whole chain of hashes is checked."""
    problems = ledger.verify(layout)
    return problems[0] if problems else ""


def load_version(layout: Layout, version: ModelVersion) -> Serving:
    """Load one version: verify every object's hash, load it, let it answer its golden rows, warm it.

    Raises:
        Refused: a file is missing or altered, a golden row is answered differently, or it does not load.
    """
    from mlops_local.engines.models import predictor as predictors  # noqa: PLC0415  (polars and onnxruntime: 150 ms)

    _verify(layout, version)
    files = {name: objects.path(layout, digest) for name, digest in version.bundle.items()}
    try:
        predictor = predictors.load(files, version.id)
        problem = predictor.golden_problem()
        example, row_seconds = _warm(predictor, files.get(GOLDEN))
    except Exception as error:  # the bundle holds the user's code: whatever it raises, it may not serve
        hint = error.hint if isinstance(error, MlopsError) else ""
        raise Refused(f"{version.id} cannot be loaded: {said(error)}", result="rejected_error", hint=hint) from error
    if problem:
        raise Refused(
            f"{version.id} answers otherwise than when it was made: {problem}",
            result="rejected_golden",
            hint="were packages changed since? train it again, or `mlops model rollback`",
        )
    return Serving(version, predictor, example, now(), row_seconds)


def _verify(layout: Layout, version: ModelVersion) -> None:
    for name, digest in sorted(version.bundle.items()):
        if not objects.exists(layout, digest):
            raise Refused(
                f"{version.id} is incomplete: its {name} is not in the store ({digest[:12]})",
                result="rejected_integrity",
                hint="`mlops doctor` lists what is missing; train again to make it anew",
            )
        if not objects.verify(layout, digest):
            raise Refused(
                f"{version.id} is damaged: its {name} is not what was written ({digest[:12]})",
                result="rejected_integrity",
                hint="`mlops doctor` lists what is damaged; `mlops model rollback` or train again",
            )


def _warm(predictor: Predictor, golden: Path | None) -> tuple[dict[str, Any], float]:
    """Answer real rows in the sizes requests come in; return one of them as JSON values, and what one takes in seconds."""
    import polars as pl  # noqa: PLC0415  (loaded by the predictor already)

    example = {column.name: column.example for column in predictor.signature}
    seconds = 0.0
    if golden is not None:
        rows = pl.read_parquet(golden.read_bytes())
        for count in _WARM_ROWS:
            started = time.perf_counter()
            predictor.predict(rows.head(count))
            seconds = time.perf_counter() - started
        for row in rows.head(1).to_dicts():
            example = {name: row[name] for name in example}
    shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(example))
    with contextlib.suppress(DataError):  # a golden row may hold what a request may not; the example is for people to read
        predictor.predict(predictor.validate([shown]))
    return shown, seconds


def breaking(old: Sequence[Column], new: Sequence[Column]) -> str:
    """Why requests that fitted `old` would be refused by `new`, or empty.

    A column no longer asked for, a new one that may be missing and whole numbers that became decimals break nobody.
    """
    before = {column.name: column for column in old}
    for column in new:
        known = before.get(column.name)
        if known is None:
            if not column.nullable:
                return f"it asks for a new column '{column.name}' ({column.type})"
        elif known.type != column.type and (known.type, column.type) != ("integer", "number"):
            return f"its column '{column.name}' is {column.type}, the served version's is {known.type}"
    return ""


def holder(layout: Layout, port: int) -> str:
    """Who listens on that port, in a few words, or empty when that cannot be known."""
    import psutil  # noqa: PLC0415  (20 ms, only on the way out)

    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        connections = []
    pids = {c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid}
    for deployment in reversed(registry.load(layout).deployments):
        if deployment.port == port and deployment.pid in pids and deployment.event == "deployed":
            return f"`mlops serve` of {deployment.version}, PID {deployment.pid}"
    for pid in sorted(pids):
        try:
            return f"{psutil.Process(pid).name()}, PID {pid}"
        except psutil.Error:
            return f"PID {pid}"
    return ""


def describe(serving: Serving) -> dict[str, Any]:
    """A served version and its lineage, as JSON values."""
    version = serving.version
    return {
        "model": version.model,
        "version": version.number,
        "id": version.id,
        "state": version.state,
        "since": serving.since,
        "candidate": version.candidate,
        "run": version.run,
        "snapshots": dict(version.snapshots),
        "fingerprint": version.fingerprint,
        "bundle": version.bundle_hash,
        "metric": {"name": version.metric, "value": version.value, "low": version.low, "high": version.high},
        "metrics": dict(version.metrics),
        "signature": [
            {"name": column.name, "type": column.type, "nullable": column.nullable} for column in serving.predictor.signature
        ],
        "example": dict(serving.example),
    }


def now() -> str:
    """UTC, ISO 8601 with a Z."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def said(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, MlopsError):
        return error.message
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
