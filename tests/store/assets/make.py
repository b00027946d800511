"""Make the fixture store of the present format: `python -m tests.store.assets.make` writes store-N.zip beside this file.

One store for each released format stays here; `test_assets` opens each with today's code and rebuilds it from its journals.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

from mlops_local.domain import events
from mlops_local.store import archive, journal, ledger, migrations, projection
from mlops_local.store import layout as layouts
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout
from tests.store.test_projection import decide, train, views

HERE = Path(__file__).parent


def make(root: Path) -> Layout:
    """A store with runs that are done, crashed, removed and going; decisions, damage, an archive, a ledger torn at its end."""
    layout = Layout(root)
    layouts.create(layout)
    store = Store(layout)
    for ends in (True, False):
        decide(layout, train(layout, ends=ends))
    ledger.append(layout, events.DELETION, train(layout), None, reason="a mistake")
    writer = Journal.open(layout.journal)
    writer.state(events.NOTE, run="r", text="before")
    writer.close()
    with (layout.journal / f"{writer.id}.state.jsonl").open("ab") as file:
        file.write(b'{"k":"note","v":1,\n{"k":"no')
    projection.fold(store)
    kept = list(archive.listing(layout))
    archive.put(layout, [(one.name, one.read()) for one in kept])
    for one in kept:
        one.path.unlink()
    train(layout)
    projection.fold(store)
    live = Journal.open(layout.journal, journal_id=journal.new_id())
    live.state(events.RUN_STARTED, run=journal.new_id(), name="going", kind="script")
    live.metric("x" * 32, "loss", 1.0, 1)
    live.flush()
    with layout.ledger.open("ab") as file:
        file.write(b'{"seq":')
    (root / "expected.json").write_text(json.dumps({view: len(rows) for view, rows in views(store).items()}, indent=1))
    with store.writer() as db:
        db.execute("CHECKPOINT project")  # the log goes into the file, which is all that is kept of the two
    store.close()
    live.close()
    return layout


def main() -> None:
    """Write the fixture of the present format."""
    with tempfile.TemporaryDirectory() as place:
        layout = make(Path(place))
        target = HERE / f"store-{len(migrations.MIGRATIONS)}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
            for path in sorted(Path(place).rglob("*")):
                if path.is_file() and path != layout.config:  # a key of its own is made wherever it is opened
                    file.write(path, path.relative_to(place))


if __name__ == "__main__":
    main()
