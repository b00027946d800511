"""mlops.lock under several writers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlops_local.domain.errors import StoreBusy
from mlops_local.services import locking
from mlops_local.store import lock
from mlops_local.store.database import Store


def test_writers_queue_with_those_who_decide(story: Any) -> None:
    """What is written was read while nobody could decide: no writer can put an older champion over a newer one."""
    version = story.version("delay", 0.72)
    story.champion(version)
    layout = story.project.layout
    hurried = replace(story.project, store=Store(layout, wait_s=0.05))
    with lock.hold(layout.ledger_lock), pytest.raises(StoreBusy):
        locking.write_champions(hurried)
    assert not layout.lockfile.exists()
    assert locking.write_champions(story.project)
    assert "champion=delay@1" in layout.lockfile.read_text()
    hurried.store.close()
