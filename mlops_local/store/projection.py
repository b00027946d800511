"""Bring the database up to what journals and ledger say. No service writes a table; this does, and it can always begin anew.

Folding is idempotent: how far each file was read is committed together with its rows. With nothing new it costs a few stats:
no lock, no DuckDB.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from mlops_local.domain.errors import MlopsError, Unwritable
from mlops_local.store import files, journal, ledger, lock
from mlops_local.store.database import CATALOG, Store
from mlops_local.store.layout import Beside, Layout
from mlops_local.store.tail import Tail

if TYPE_CHECKING:
    from mlops_local.store.folding import Step

__all__ = ["Tail", "expect", "fold", "rebuild", "settle"]

_UNSETTLED = 20
"""How often the ledger is looked at again while somebody is deciding; then its news is left to the next fold."""


def fold(store: Store, *, budget_s: float | None = None) -> int:
    """Fold what is new, as far as it can be written: where the disk is full or what is there read-only, the store is told why
    what it shows lacks the newest, and nothing is lost. Otherwise as `catch_up`.
    """
    try:
        return catch_up(store, budget_s=budget_s)
    except Unwritable as error:
        if not store.layout.database.exists():  # there is nothing to show
            raise
        store.on_behind(error.message)
        return 0


def catch_up(store: Store, *, budget_s: float | None = None) -> int:
    """Fold what is new. Many processes may do it at once; every line counts once.

    Args:
        store: the project's store.
        budget_s: stop after about this long, leaving the rest to the next fold; default: fold everything.

    Returns:
        Lines folded.

    Raises:
        StoreBusy, NewerStore, IntegrityError: see `Store.writer`; IntegrityError also when the ledger was cut or altered.
        Unwritable: the disk is full, or the database may not be written; nothing is lost.
    """
    lines = unsettled = 0
    started = time.monotonic()
    while _anything_new(store.layout):
        if not os.access(store.layout.state, os.W_OK):  # who may only look (a read-only mount) sees what others folded
            raise Unwritable(f"{store.layout.state} may not be written", hint="check the folder's permissions")
        from mlops_local.store import folding  # noqa: PLC0415  (loads DuckDB: only when there is something to fold)

        with store.writer() as db:
            step = folding.Folder(db, store.layout).run()
            if step.finished:
                with _if_it_can_be():
                    _remember(store.layout, step)
        over = step.over
        with _if_it_can_be():
            while over and (budget_s is None or time.monotonic() - started < budget_s):
                with lock.hold(store.layout.store_lock, wait_s=store.wait_s, on_wait=store.on_wait):
                    over = folding.retire(store.layout, over)
        lines += step.lines
        unsettled += not step.settled
        if step.finished and not step.settled and unsettled < _UNSETTLED:
            continue
        if step.finished or (budget_s is not None and time.monotonic() - started > budget_s):
            break
    return lines


@contextmanager
def _if_it_can_be() -> Iterator[None]:
    """What was folded is folded: that nothing more can be written is no reason to answer nothing, least of all to `gc`."""
    try:
        yield
    except Unwritable:
        pass
    except OSError as error:
        if error.errno not in files.FULL | files.FORBIDDEN:
            raise


def expect() -> None:
    """Begin to load what folding takes, in a thread: 90 ms that are there while something else is waited for."""

    def load() -> None:
        import mlops_local.store.folding  # noqa: F401, PLC0415  (loads DuckDB)

    threading.Thread(target=load, name="mlops-loading", daemon=True).start()


def settle(layout: Layout) -> None:
    """Fold what this process just did, unless the store is in use or full: the next command folds it then."""
    store = Store(layout, wait_s=0.2)
    try:
        fold(store, budget_s=1.0)
    except MlopsError:
        return
    finally:
        store.close()


def rebuild(store: Store) -> int:
    """Make the database anew from journals, ledger and objects, beside the one there is, which others use meanwhile and which
    stays when this is killed or the disk fills; then the cache files that come from them.

    Returns:
        Lines folded.
    """
    from mlops_local.store import archive  # noqa: PLC0415  (folding alone needs it not)

    # Asked before anything is replaced: the database may be all that has these lines.
    if damaged := archive.damaged(store.layout):
        archive.unpack(damaged[0])
        archive.members(damaged[0])
    with lock.hold(store.layout.tmp / "rebuild.lock", wait_s=store.wait_s, on_wait=store.on_wait, passing=True):
        lines = _beside(store)
    lines += catch_up(store)
    restore_cache(store)
    return lines


def _beside(store: Store) -> int:
    """Fold everything into a draft and give that the database's name. Returns the lines folded."""
    from mlops_local.store import folding  # noqa: PLC0415  (as in `catch_up`)

    draft = Store(Beside(store.layout.root))
    lines, finished = 0, False
    _clear(draft)  # what a rebuild that was killed left
    try:
        while not finished:
            # The last part and the change of names in one turn: what is put away in between would count in neither.
            with store.turn():
                with draft.writer() as db:
                    step = folding.Folder(db, draft.layout).run()
                    if step.finished:
                        db.execute(f"CHECKPOINT {CATALOG}")  # its log would stay behind under the draft's name
                lines, finished = lines + step.lines, step.finished
                if finished:
                    draft.close()
                    store.take(draft.layout.database)
    finally:
        draft.close()
        _clear(draft)
    return lines


def _clear(draft: Store) -> None:
    for path in draft.layout.tmp.glob(f"{draft.layout.database.stem}.[!l]*"):  # all but the lock that this process has
        path.unlink(missing_ok=True)


def restore_cache(store: Store) -> None:
    """Write the step results and newest snapshots that the database knows back into the cache."""
    from mlops_local.domain.plan import result_from_json  # noqa: PLC0415  (none of it is needed to fold, and folding is what all do)
    from mlops_local.store import cache, history  # noqa: PLC0415

    layout = store.layout
    with store.reader() as db:
        results = db.execute(
            "SELECT result FROM store.step_end WHERE state IN ('done', 'reused') AND result IS NOT NULL ORDER BY time, n"
        ).fetchall()
        seen = db.execute(
            "SELECT s.source, max_by(s.id, (seen.run = '', seen.time, seen.n)) FROM store.snapshot s "
            "JOIN store.snapshot_seen seen USING (source, id) GROUP BY s.source"
        ).fetchall()
        snapshots = [found for source, identity in seen for found in history.snapshots(db, source) if found.id == identity]
    for (text,) in results:
        with suppress(KeyError, TypeError, ValueError, AttributeError):  # a damaged result is none: its step runs again
            cache.record(layout, result_from_json(json.loads(text)))
    for snapshot in snapshots:
        cache.save_snapshot(layout, snapshot)


# -- is there anything to do?


def _anything_new(layout: Layout) -> bool:
    """Compare what is there with what the last fold saw, by stat alone."""
    try:
        seen = json.loads(layout.folded.read_bytes())
        if seen["database"] != layout.database.stat().st_ino or seen["ledger"] != ledger.key(layout):
            return True
        there = _sizes(layout)
        return there != seen["files"] or any(
            not journal.live(layout.journal / name) for name in there if name.endswith(".state.jsonl")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _remember(layout: Layout, step: Step) -> None:
    """Note what was folded. Called under the writer's lock, so that no older note replaces a newer one."""
    over = {part.name for part in step.over}  # parts compare slowly, each with all others
    value: dict[str, Any] = {
        "database": layout.database.stat().st_ino,
        "ledger": step.ledger,
        "files": {part.name: part.position for part in step.parts if part.kept is None and part.name not in over},
    }
    files.replace(layout.folded, json.dumps(value).encode())


def _sizes(layout: Layout) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in layout.journal.iterdir() if journal.NAME.match(path.name)}
