"""mlops.lock: the committed text that says which data and which champion a commit stands for.

One sorted line an entry, so that two branches merge by line and a review reads like code:

    source flights snapshot=5d41… rows=281234 bytes=9876543
    model delay champion=delay@3 fingerprint=… evaluation=… metric=auc value=0.7172 low=0.7023 high=0.7311 bundle=…
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from urllib.parse import quote, unquote

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.records import dataclass
from mlops_local.store import files
from mlops_local.store.layout import Layout

_HEADER = "# mlops.lock: which data and which model this commit stands for. Written by mlops; commit it.\n"


@dataclass(frozen=True)
class SourceEntry:
    """The snapshot a source had."""

    snapshot: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class ModelEntry:
    """The champion a model had."""

    champion: str
    """Version id."""
    fingerprint: str
    evaluation: str
    """The evaluation rows' hash."""
    metric: str
    value: float
    bundle: str
    """Bundle hash."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class LockFile:
    """The whole file."""

    sources: Mapping[str, SourceEntry] = field(default_factory=dict)
    models: Mapping[str, ModelEntry] = field(default_factory=dict)


def read(path: Path) -> LockFile:
    """Read mlops.lock; a missing file is an empty one.

    Raises:
        ConfigError: a line cannot be read; names it.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return LockFile()
    return parse(text)


def parse(text: str) -> LockFile:
    """Read the text of an mlops.lock. Raises ConfigError naming the line."""
    sources: dict[str, SourceEntry] = {}
    models: dict[str, ModelEntry] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(("<<<<<<<", "=======", ">>>>>>>", "|||||||")):
            raise ConfigError(
                f"mlops.lock, line {number}: an unfinished merge",
                hint="keep one side of each conflict, or run `mlops train` to write it anew",
            )
        try:
            kind, name, *rest = line.split()
            values = {key: unquote(value) for key, _, value in (word.partition("=") for word in rest)}
            if kind == "source":
                sources[unquote(name)] = SourceEntry(values["snapshot"], int(values["rows"]), int(values["bytes"]))
            elif kind == "model":
                models[unquote(name)] = _model(values)
        except (ValueError, KeyError) as error:
            raise ConfigError(
                f"mlops.lock, line {number} cannot be read: {line[:80]}", hint="run `mlops train` to write it anew"
            ) from error
    return LockFile(sources, models)


def render(lockfile: LockFile) -> str:
    """Return the file's text: the same entries always give the same bytes."""
    lines = [
        _line("source", name, {"snapshot": entry.snapshot, "rows": entry.rows, "bytes": entry.bytes})
        for name, entry in lockfile.sources.items()
    ]
    lines += [
        _line(
            "model",
            name,
            {
                "champion": entry.champion,
                "fingerprint": entry.fingerprint,
                "evaluation": entry.evaluation,
                "metric": entry.metric,
                "value": _number(entry.value),
                "low": _number(entry.low),
                "high": _number(entry.high),
                "bundle": entry.bundle,
            },
        )
        for name, entry in lockfile.models.items()
    ]
    return _HEADER + "".join(sorted(lines))


def write(layout: Layout, lockfile: LockFile) -> bool:
    """Replace mlops.lock if it would change; says whether it did. Raises MlopsError on a full disk."""
    text = render(lockfile).encode()
    try:
        if layout.lockfile.read_bytes() == text:
            return False
    except FileNotFoundError:
        pass
    files.replace(layout.lockfile, text, mode=0o644, sync=True)
    return True


def _line(kind: str, name: str, values: Mapping[str, str | int | None]) -> str:
    words = [f"{key}={quote(str(value), safe='@:+,/')}" for key, value in values.items() if value is not None]
    return " ".join([kind, quote(name, safe="@:+,/"), *words]) + "\n"


def _number(value: float | None) -> str | None:
    """Six significant digits: what a person compares in a review."""
    return None if value is None else f"{value:.6g}"


def _model(values: Mapping[str, str]) -> ModelEntry:
    return ModelEntry(
        champion=values["champion"],
        fingerprint=values["fingerprint"],
        evaluation=values["evaluation"],
        metric=values["metric"],
        value=float(values["value"]),
        bundle=values["bundle"],
        low=float(values["low"]) if "low" in values else None,
        high=float(values["high"]) if "high" in values else None,
    )
