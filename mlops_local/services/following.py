"""Keep what is served what the project decided: notice a decision, load beside, swap by one call.

The ledger file is stated five times a second and parsed only when it changed; the database is never opened. Knows nothing of
HTTP: the server hands in what to do with a version that is ready.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import MlopsError
from mlops_local.domain.events import DEPLOYMENT
from mlops_local.services import serve
from mlops_local.services.serve import Refused, Serving, Target, said
from mlops_local.store import ledger, registry
from mlops_local.store.layout import Layout

if TYPE_CHECKING:
    import threading

POLL_S = 0.2


@dataclass(frozen=True)
class Swap:
    """How one attempt to serve another version ended."""

    result: str
    """One of RESULTS."""
    version: str
    seconds: float
    reason: str = ""
    serving: Serving | None = None
    """The new version, when it was deployed."""


class Watcher:
    """Follows one target: notices a decision in the ledger, loads beside, swaps by one call.

    One thread calls `run`; `serving` may be read from any.
    """

    def __init__(
        self,
        layout: Layout,
        target: Target,
        serving: Serving,
        *,
        port: int,
        on_swap: Callable[[Swap], None],
        allow_breaking: bool = False,
    ) -> None:
        self.layout = layout
        self.target = target
        self.serving = serving
        self.port = port
        self.on_swap = on_swap
        self.allow_breaking = allow_breaking
        self._seen: tuple[int, ...] = ()
        self._refused: tuple[str, int] = ("", 0)

    def run(self, stop: threading.Event) -> None:
        """Look every 200 ms until told to stop."""
        while not stop.wait(POLL_S):
            self.tick()

    def tick(self) -> None:
        """Look once: a stat, and no more unless the ledger changed."""
        seen = stamp(self.layout)
        if seen == self._seen:
            return
        try:
            altered = serve.damage(self.layout)
            version, line = serve.wanted(registry.load(self.layout), self.target)
        except (MlopsError, OSError, ValueError, KeyError, TypeError):
            return  # a ledger that cannot be read decides nothing; it is looked at again with the next tick
        self._seen = seen
        if altered:
            self.on_swap(Swap("", "", 0.0, f"no decision is followed, the ledger is damaged: {altered}; run `mlops doctor`"))
            return
        if version is None or version.id == self.serving.version.id or (version.id, line) == self._refused:
            return
        self._swap(version, line)

    def _swap(self, version: ModelVersion, line: int) -> None:
        started = time.monotonic()
        try:
            fresh = serve.load_version(self.layout, version)
            why = serve.breaking(self.serving.predictor.signature, fresh.predictor.signature)
            if why and not self.allow_breaking:
                raise Refused(
                    f"{version.id} would refuse requests that {self.serving.version.id} answers: {why}",
                    result="rejected_signature",
                    hint="restart with --allow-breaking to serve it all the same",
                )
        except Exception as problem:  # noqa: BLE001  (what serves goes on serving, and the next decision is followed)
            error = problem if isinstance(problem, Refused) else Refused(said(problem), result="rejected_error")
            self._refused = (version.id, line)
            reason = error.message + (f" ({error.hint})" if error.result == "rejected_signature" else "")
            self.on_swap(Swap(error.result, version.id, time.monotonic() - started, reason))
            self.record("rejected", version.id, error.message)
            return
        self._refused = ("", 0)
        self.serving = fresh
        self.on_swap(Swap("deployed", version.id, time.monotonic() - started, serving=fresh))
        self.record("deployed", version.id)

    def record(self, event: str, version: str, reason: str = "") -> None:
        """Write a deployment line; a ledger that cannot be written stops no server."""
        try:
            ledger.append(
                self.layout,
                DEPLOYMENT,
                self.target.model,
                version,
                reason=reason,
                data={"event": event, "port": self.port, "pid": os.getpid(), "reason": reason},
            )
        except (MlopsError, OSError) as error:
            self.on_swap(Swap("", version, 0.0, f"the ledger could not be written: {said(error)}"))


def stamp(layout: Layout) -> tuple[int, ...]:
    """What changes whenever the ledger does."""
    try:
        found = os.stat(layout.ledger)  # noqa: PTH116  (five times a second: no Path object for it)
    except OSError:
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns)
