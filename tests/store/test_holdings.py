"""Journals as they travel."""

from __future__ import annotations

from contextlib import closing

from mlops_local.store import holdings, projection
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.layout import Layout


def test_nothing_is_added_to_a_journal_that_is_written_here(layout: Layout, store: Store) -> None:
    """A later segment of its name would end the one it writes: that one's next points would go with the file."""
    with closing(Journal.open(layout.journal)) as own:
        own.metric("r", "loss", 1.0)
        own.flush()
        assert not holdings.place(layout, f"{own.id}.metric.007.jsonl", b"")
        projection.fold(store)
        own.metric("r", "loss", 2.0)
    projection.fold(store)
    with store.reader() as db:
        assert db.execute("SELECT value FROM metric ORDER BY time").fetchall() == [(1.0,), (2.0,)]
    assert holdings.place(layout, f"{new_id()}.metric.000.jsonl", b"")
