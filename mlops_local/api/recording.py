"""This process's journal of a project, one for all its runs, and what is heard in the points it writes.

Never closed before the process ends: a run costs no file, no lock and no thread of its own, and ten thousand short ones in a
loop are as cheap as one. A forked child goes on in a journal of its own.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain import events
from mlops_local.domain.errors import MlopsError
from mlops_local.store import layout as layouts
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.layout import Layout

if TYPE_CHECKING:
    from mlops_local.store import checkpoints


class Recorder:
    """The journal, what the running step keeps of itself, and which metrics stopped being numbers."""

    def __init__(self, layout: Layout, journal: Journal) -> None:
        self.layout = layout
        self.journal = journal
        journal.listen = self._hear
        self.attempt = _attempt(layout)
        """What the running step keeps of itself; None outside a step."""
        self._odd: set[tuple[str, str]] = set()

    def _hear(self, lines: bytes) -> None:
        """Called with every batch of points, in the thread that wrote them."""
        if self.attempt is not None:
            self.attempt.hear(lines)
        if b'"x":"' not in lines:  # NaN and infinity are text
            return
        for line in lines.splitlines():
            if b'"x":"' in line:
                self._say_odd(json.loads(line))

    def _say_odd(self, point: Mapping[str, Any]) -> None:
        """Note once a metric that stopped being a number: a training that goes on is wasted."""
        run, key, at = str(point["r"]), str(point["key"]), point["s"]
        if (run, key) in self._odd:
            return
        self._odd.add((run, key))
        what = "NaN" if point["x"] == "NaN" else "infinite"
        step = os.environ.get("MLOPS_STEP", "")
        text = f"{step + ': ' if step else ''}{key} became {what}" + (
            "" if at is None else f" at step {at:g}" if isinstance(at, float) else f" at step {at}"
        )
        with suppress(MlopsError):
            self.journal.state(events.NOTE, run=run, text=text)


def _attempt(layout: Layout) -> checkpoints.Attempt | None:
    place = os.environ.get("MLOPS_CHECKPOINTS", "")
    if not place:
        return None
    from mlops_local.store import checkpoints  # 6 ms that only a step pays

    return checkpoints.Attempt(Path(place), new_id(), layouts.hmac_key(layout))


_recorders: dict[Path, Recorder] = {}
_beginning = threading.Lock()


def recorder(layout: Layout) -> Recorder:
    """This process's recorder for a store, begun with its first use. Raises MlopsError when it cannot be written."""
    with _beginning:
        found = _recorders.get(layout.state)
        if found is None:
            found = _recorders[layout.state] = Recorder(layout, Journal.open(layout.journal))
        return found


def _after_fork() -> None:
    global _beginning
    _beginning = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
