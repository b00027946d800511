"""A snapshot as its journal has it: for what the tables do not hold byte by byte. Reads all journals; rarely needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.assets import Snapshot
from mlops_local.store import cache, folding, journal
from mlops_local.store.layout import Layout


def snapshot(layout: Layout, source: str, id: str) -> Snapshot | None:
    """Return the snapshot of that id, if a journal tells of it. Raises IntegrityError when a put-away journal is damaged."""
    for data in _states(layout):
        if id.encode() in data:
            for line in journal.decode(data[: data.rfind(b"\n") + 1])[0]:
                held: dict[str, Any] = line.get("snapshot") or {}
                if line.get("k") == events.SNAPSHOT and held.get("id") == id and held.get("source") == source:
                    return cache.snapshot_from_json(held)
    return None


def _states(layout: Layout) -> Iterator[bytes]:
    for path in sorted(layout.journal.glob("*.state.jsonl")):
        try:
            yield path.read_bytes()
        except FileNotFoundError:
            continue  # put away meanwhile: it is met below
    for path in sorted(layout.done.glob("*.zst")):
        if ".metric." not in path.name:
            yield folding.unpack(path)
