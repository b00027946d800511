"""How the database came to its present form: numbered functions, one transaction each, its own record included.

Never edit a migration that was released; add one. Tables are append-only facts without keys or indexes (an index would make
the fold of metrics twice as slow); the views in `views` say what they amount to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlops_local.domain.errors import NewerStore
from mlops_local.store import superseding, views

if TYPE_CHECKING:
    from mlops_local.store.database import Db

_TABLES = """
CREATE TABLE store.meta (name VARCHAR, value VARCHAR);
CREATE TABLE store.position (file VARCHAR, position BIGINT);
CREATE TABLE store.damage (file VARCHAR, position BIGINT, bytes BIGINT);
CREATE TABLE store.run_start (run VARCHAR, journal VARCHAR, name VARCHAR, kind VARCHAR, started TIMESTAMP, message VARCHAR,
    "commit" VARCHAR, dirty BOOLEAN, diff VARCHAR, targets VARCHAR[], argv VARCHAR[], env VARCHAR, python VARCHAR,
    host VARCHAR, pid BIGINT, interpreter VARCHAR, packages VARCHAR);
CREATE TABLE store.run_end (run VARCHAR, state VARCHAR, error VARCHAR, seconds DOUBLE, time TIMESTAMP, n BIGINT);
CREATE TABLE store.run_resume (run VARCHAR, journal VARCHAR, pid BIGINT, host VARCHAR, time TIMESTAMP, n BIGINT);
CREATE TABLE store.param (run VARCHAR, name VARCHAR, value VARCHAR, time TIMESTAMP, n BIGINT);
CREATE TABLE store.tag (run VARCHAR, key VARCHAR, value VARCHAR, time TIMESTAMP, n BIGINT);
CREATE TABLE store.renamed (run VARCHAR, name VARCHAR, time TIMESTAMP, n BIGINT);
CREATE TABLE store.note (run VARCHAR, text VARCHAR, time TIMESTAMP, n BIGINT);
CREATE TABLE store.metric (run VARCHAR, key VARCHAR, step DOUBLE, value DOUBLE, time TIMESTAMP, n BIGINT);
CREATE TABLE store.latest (run VARCHAR, key VARCHAR, step DOUBLE, value DOUBLE, time TIMESTAMP, n BIGINT, points BIGINT);
CREATE TABLE store.summary (run VARCHAR, key VARCHAR, value DOUBLE, low DOUBLE, high DOUBLE, time TIMESTAMP, n BIGINT);
CREATE TABLE store.gap (run VARCHAR, dropped BIGINT, time TIMESTAMP);
CREATE TABLE store.step_start (run VARCHAR, step VARCHAR, reason VARCHAR, fingerprint VARCHAR, time TIMESTAMP, n BIGINT);
CREATE TABLE store.step_end (run VARCHAR, step VARCHAR, state VARCHAR, error VARCHAR, fingerprint VARCHAR, made_by VARCHAR,
    seconds DOUBLE, cpu_seconds DOUBLE, peak_bytes BIGINT, result VARCHAR, time TIMESTAMP, n BIGINT);
CREATE TABLE store.step_output (run VARCHAR, step VARCHAR, output VARCHAR, kind VARCHAR, logical VARCHAR, file VARCHAR,
    object VARCHAR, bytes BIGINT, rows BIGINT, time TIMESTAMP);
CREATE TABLE store.artifact (run VARCHAR, path VARCHAR, object VARCHAR, bytes BIGINT, time TIMESTAMP);
CREATE TABLE store.event (source VARCHAR, text VARCHAR, data VARCHAR, time TIMESTAMP, n BIGINT);
CREATE TABLE store.snapshot (id VARCHAR, source VARCHAR, rows BIGINT, bytes BIGINT);
CREATE TABLE store.snapshot_seen (id VARCHAR, source VARCHAR, run VARCHAR, time TIMESTAMP, n BIGINT);
CREATE TABLE store.snapshot_file (snapshot VARCHAR, source VARCHAR, path VARCHAR, hash VARCHAR, bytes BIGINT, rows BIGINT);
CREATE TABLE store.column_profile (snapshot VARCHAR, source VARCHAR, position INTEGER, name VARCHAR, type VARCHAR,
    nulls BIGINT, "distinct" BIGINT, min VARCHAR, max VARCHAR, mean DOUBLE);
CREATE TABLE store.ledger (seq BIGINT, prev VARCHAR, hash VARCHAR, kind VARCHAR, time TIMESTAMP, actor VARCHAR, host VARCHAR,
    subject VARCHAR, expect VARCHAR, value VARCHAR, reason VARCHAR, data VARCHAR, line VARCHAR);
CREATE TABLE store.version (id VARCHAR, model VARCHAR, number BIGINT, candidate VARCHAR, run VARCHAR, state VARCHAR,
    metric VARCHAR, value DOUBLE, low DOUBLE, high DOUBLE, metrics VARCHAR, fingerprint VARCHAR, bundle VARCHAR,
    bundle_hash VARCHAR, predictions VARCHAR, evaluation VARCHAR, snapshots VARCHAR, created TIMESTAMP);
CREATE TABLE store.version_snapshot (version VARCHAR, source VARCHAR, snapshot VARCHAR);
CREATE TABLE store.alias (name VARCHAR, model VARCHAR, alias VARCHAR, version VARCHAR, time TIMESTAMP, actor VARCHAR,
    reason VARCHAR);
CREATE TABLE store.gate_result (version VARCHAR, baseline VARCHAR, metric VARCHAR, rule VARCHAR, verdict VARCHAR,
    candidate DOUBLE, champion DOUBLE, difference DOUBLE, low DOUBLE, high DOUBLE, rows BIGINT, clusters BIGINT,
    note VARCHAR, time TIMESTAMP);
CREATE TABLE store.deployment (model VARCHAR, version VARCHAR, event VARCHAR, port INTEGER, pid BIGINT, reason VARCHAR,
    time TIMESTAMP, seq BIGINT);
CREATE TABLE store.deleted (subject VARCHAR);
CREATE TABLE store.prediction (id VARCHAR, model VARCHAR, version VARCHAR, time TIMESTAMP, prediction DOUBLE, features VARCHAR,
    seconds DOUBLE);
CREATE TABLE store.feedback (prediction VARCHAR, model VARCHAR, label VARCHAR, time TIMESTAMP);
"""


def _first(db: Db) -> None:
    db.execute(_TABLES)
    for column, kind in PROFILE.items():
        db.execute(f"ALTER TABLE store.column_profile ADD COLUMN {column} {kind}")
    db.execute(_CHECKS)
    db.execute("ALTER TABLE store.snapshot ADD COLUMN kept VARCHAR")
    views.create(db)


def _interpreters(db: Db) -> None:
    """A file of before has no place for them; a new one was made with it."""
    for column in ("interpreter", "packages"):
        db.execute(f"ALTER TABLE store.run_start ADD COLUMN IF NOT EXISTS {column} VARCHAR")
    db.execute(f"CREATE OR REPLACE VIEW main.run AS {views.VIEWS['run']}")


PROFILE = {
    "nans": "BIGINT",
    "std": "DOUBLE",
    "quantiles": "DOUBLE[]",
    "bins": "BIGINT[]",
    "bins_from": "DOUBLE",
    "bins_to": "DOUBLE",
    "top": "VARCHAR",
    "lengths": "DOUBLE[]",
}
"""What a column's profile has had since the second form, and of which type."""


def _profiles(db: Db) -> None:
    """A file of before keeps what it has of its snapshots; the journals of those say no more."""
    for column, kind in PROFILE.items():
        db.execute(f"ALTER TABLE store.column_profile ADD COLUMN IF NOT EXISTS {column} {kind}")
    db.execute(f"CREATE OR REPLACE VIEW main.column_profile AS {views.VIEWS['column_profile']}")


def _newest(db: Db) -> None:
    """Tables of which only the newest word counts hold no other, and runs can be renamed."""
    db.execute("CREATE TABLE IF NOT EXISTS store.renamed (run VARCHAR, name VARCHAR, time TIMESTAMP, n BIGINT)")
    superseding.settle(db, ("param", "tag", "summary", "run_end"))
    for name in ("run", "param", "tag", "metric_last"):
        db.execute(f"CREATE OR REPLACE VIEW main.{name} AS {views.VIEWS[name]}")


def _kept(db: Db) -> None:
    """Whether a snapshot's bytes are in the store."""
    db.execute("ALTER TABLE store.snapshot ADD COLUMN IF NOT EXISTS kept VARCHAR")
    db.execute(f"CREATE OR REPLACE VIEW main.snapshot AS {views.VIEWS['snapshot']}")


def _resumed(db: Db) -> None:
    """Runs that another process went on with."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS store.run_resume "
        "(run VARCHAR, journal VARCHAR, pid BIGINT, host VARCHAR, time TIMESTAMP, n BIGINT)"
    )
    db.execute(f"CREATE OR REPLACE VIEW main.run AS {views.VIEWS['run']}")


_CHECKS = """
CREATE TABLE IF NOT EXISTS store.checked (source VARCHAR, snapshot VARCHAR, run VARCHAR, findings BIGINT, time TIMESTAMP,
    n BIGINT);
CREATE TABLE IF NOT EXISTS store.finding (source VARCHAR, snapshot VARCHAR, rule VARCHAR, severity VARCHAR, columns VARCHAR[],
    failed BIGINT, rows BIGINT, note VARCHAR, samples VARCHAR, time TIMESTAMP, n BIGINT, model VARCHAR, run VARCHAR);
CREATE TABLE IF NOT EXISTS store.snapshot_tag (source VARCHAR, name VARCHAR, snapshot VARCHAR, time TIMESTAMP, n BIGINT);
"""


def _findings(db: Db) -> None:
    """What checks of snapshots found, and names of snapshots."""
    db.execute(_CHECKS)
    for name in ("finding", "snapshot_tag"):
        db.execute(f"CREATE OR REPLACE VIEW main.{name} AS {views.VIEWS[name]}")


def _leaks(db: Db) -> None:
    """What was found on models stands beside what was found on sources."""
    for column in ("model", "run"):
        db.execute(f"ALTER TABLE store.finding ADD COLUMN IF NOT EXISTS {column} VARCHAR")
    db.execute(f"CREATE OR REPLACE VIEW main.finding AS {views.VIEWS['finding']}")


def _given(db: Db) -> None:
    """Snapshots that a run was given are not what is newest, and those of a removed run lead nowhere."""
    for name in ("snapshot", "lineage"):
        db.execute(f"CREATE OR REPLACE VIEW main.{name} AS {views.VIEWS[name]}")


MIGRATIONS: tuple[tuple[str, Callable[[Db], None]], ...] = (
    ("first tables", _first),
    ("a run's interpreter and packages", _interpreters),
    ("more of a column's profile", _profiles),
    ("the newest parameters, tags, summaries, ends and names", _newest),
    ("how a snapshot is kept", _kept),
    ("resumed runs", _resumed),
    ("findings of checks and names of snapshots", _findings),
    ("findings on models", _leaks),
    ("snapshots that runs were given", _given),
)
"""Name and function; a migration's number is its place, from 1."""


def number(db: Db) -> int:
    """Return the number of the newest migration the attached file has had; 0 for a new file.

    Raises:
        NewerStore: a newer version of this program has changed it.
    """
    import duckdb  # noqa: PLC0415  (loaded long since: there is a connection)

    try:  # asking first which tables there are took as long as all the rest of opening
        ((newest,),) = db.execute("SELECT max(number) FROM store.migration").fetchall()
    except duckdb.CatalogException:
        return 0
    found = int(newest or 0)
    if found > len(MIGRATIONS):
        raise NewerStore(
            f"project.duckdb was written by a newer version of mlops (migration {found}, this one knows {len(MIGRATIONS)})",
            hint="upgrade with `pip install --upgrade mlops-local`",
        )
    return found


def migrate(db: Db) -> None:
    """Bring the attached file, open for writing, to the newest form."""
    found = number(db)
    if found == 0:
        db.execute("CREATE SCHEMA IF NOT EXISTS store")
        db.execute("CREATE TABLE IF NOT EXISTS store.migration (number INTEGER, name VARCHAR, time TIMESTAMP)")
    for place, (name, change) in enumerate(MIGRATIONS[found:], start=found + 1):
        db.execute("BEGIN")
        try:
            change(db)
            db.execute("INSERT INTO store.migration VALUES (?, ?, now() AT TIME ZONE 'UTC')", [place, name])
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
