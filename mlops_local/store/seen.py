"""A snapshot as its journal has it: for what the tables do not hold byte by byte. Reads all journals; rarely needed."""

from __future__ import annotations

from typing import Any

from mlops_local.domain import events
from mlops_local.domain.assets import Snapshot
from mlops_local.store import cache, journal, reachable
from mlops_local.store.layout import Layout


def snapshot(layout: Layout, source: str, id: str) -> Snapshot | None:
    """Return the snapshot of that id, if a journal tells of it. Raises IntegrityError when a put-away journal is damaged."""
    for data in reachable.states(layout):
        if id.encode() in data:
            for line in journal.decode(data[: data.rfind(b"\n") + 1])[0]:
                held: dict[str, Any] = line.get("snapshot") or {}
                if line.get("k") == events.SNAPSHOT and held.get("id") == id and held.get("source") == source:
                    return cache.snapshot_from_json(held)
    return None
