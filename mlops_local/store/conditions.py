"""What a store stands on: who may read and write it, room, the clock, files that are not its own. Mends modes, nothing else."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from mlops_local.store import journal
from mlops_local.store.database import Store
from mlops_local.store.finding import Finding
from mlops_local.store.layout import Layout

_ROOM_BYTES = 256 << 20
"""With less than this free, the next training may not be able to keep what it made."""
_CLOCK = timedelta(minutes=5)
"""Clocks of machines that share a folder differ by less."""
_OWN = re.compile(r"ledger\.jsonl|done|lost-decisions\..*|\..*")
_PUT_AWAY = re.compile(r"[0-9a-f]{32}\.(?:(?:state|metric\.\d{3,})\.jsonl|archive)\.zst|\..*")


def check_modes(layout: Layout, *, fix: bool) -> Iterator[Finding]:
    """Files that others can read and must not, and what this user cannot write."""
    mode = layout.config.stat().st_mode & 0o777
    if mode & 0o077:
        if fix:
            layout.config.chmod(0o600)
        text = f"config can be read by others (mode {mode:03o}); it holds the key that signs pickles"
        yield Finding("permission", text, fix, "mlops doctor --fix")
    parts = (layout.state, layout.journal, layout.done, layout.objects, layout.tmp, layout.database, layout.store_lock)
    closed = [path.name for path in parts if path.exists() and not os.access(path, os.W_OK)]
    if closed:
        text = f"you cannot write {', '.join(closed)}: runs can be looked at, nothing new is kept"
        yield Finding("permission", text, remedy=f"chmod -R u+rwX {layout.state.name} as its owner, or mount it writable")


def check_room(layout: Layout) -> Iterator[Finding]:
    """Is there room for what the next run makes?"""
    free = shutil.disk_usage(layout.state).free
    if free < _ROOM_BYTES:
        yield Finding("space", f"only {free / 1e6:.0f} MB are free on the store's disk", remedy="mlops gc, mlops db compact")


def check_clock(store: Store, *, now: datetime | None = None) -> Iterator[Finding]:
    """Does the store remember what has not happened yet? Then the clock was wrong then, or is now."""
    with store.reader() as db:
        newest = db.execute(
            "SELECT max(time) FROM (SELECT max(started) AS time FROM store.run_start "
            "UNION ALL SELECT max(time) FROM store.ledger UNION ALL SELECT max(time) FROM store.latest)"
        ).fetchall()[0][0]
    ahead = (newest or datetime.min) - (now or datetime.now(timezone.utc)).replace(tzinfo=None)
    if newest is not None and ahead > _CLOCK:
        text = (
            f"the newest entry is {ahead.total_seconds() / 3600:.1f} h in the future: the clock was put back since, or is wrong"
        )
        yield Finding("clock", text, remedy="set the clock; runs of then stay before later ones in lists")


def check_strangers(layout: Layout) -> Iterator[Finding]:
    """Files among the journals that no part of this program put there."""
    for folder, own in ((layout.journal, _OWN), (layout.done, _PUT_AWAY)):
        for path in sorted(folder.iterdir()):
            if not own.fullmatch(path.name) and not journal.NAME.match(path.name):
                place = path.relative_to(layout.root) if path.is_relative_to(layout.root) else Path(folder.name, path.name)
                yield Finding("file", f"{place} is none of the store's files and is not read", remedy=f"mv {place} elsewhere")
