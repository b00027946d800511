"""The public views: what `mlops sql` and any DuckDB client see in schema `main`. Their columns are a promise.

Times are UTC. Nested values are JSON text. A run, version or other thing that was deleted is in none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlops_local.domain.sql import quote
from mlops_local.store.layout import Layout

if TYPE_CHECKING:
    from mlops_local.store.database import Db

VIEWS: dict[str, str] = {
    "run": """
        SELECT s.run AS id, coalesce(r.name, s.name) AS name, s.kind, coalesce(e.state, 'running') AS state, s.started,
            e.time AS ended, e.seconds, s.message, coalesce(e.error, '') AS error, s."commit", s.dirty,
            s.run IN (SELECT run FROM store.gap)
                OR s.journal IN (SELECT left(file, 32) FROM store.damage) AS incomplete,
            s.targets, s.argv, s.env, s.python, coalesce(a.host, s.host) AS host, coalesce(a.pid, s.pid) AS pid,
            s.diff, s.interpreter, s.packages
        FROM store.run_start s
        LEFT JOIN store.run_resume a ON a.run = s.run
        LEFT JOIN store.run_end e ON e.run = s.run AND (a.time IS NULL OR e.time >= a.time)
        LEFT JOIN store.renamed r ON r.run = s.run
        WHERE s.run NOT IN (SELECT subject FROM store.deleted)""",
    "param": """
        SELECT run, name, value FROM store.param WHERE run NOT IN (SELECT subject FROM store.deleted)""",
    "tag": """
        SELECT run, key, value FROM store.tag
        WHERE value IS NOT NULL AND run NOT IN (SELECT subject FROM store.deleted)""",
    "note": "SELECT run, time, text FROM store.note WHERE run NOT IN (SELECT subject FROM store.deleted)",
    "metric": """
        SELECT run, key, step, value, time FROM store.metric WHERE run NOT IN (SELECT subject FROM store.deleted)""",
    "metric_last": """  -- a summary stands over the last point; two halves, so that a filter on run or key reaches both tables
        SELECT s.run, s.key, s.value, s.low, s.high, l.step, coalesce(l.points, 0) AS points
        FROM store.summary s LEFT JOIN store.latest l ON l.run = s.run AND l.key = s.key
        WHERE s.run NOT IN (SELECT subject FROM store.deleted)
        UNION ALL
        SELECT l.run, l.key, l.value, NULL, NULL, l.step, l.points
        FROM store.latest l ANTI JOIN store.summary s ON s.run = l.run AND s.key = l.key
        WHERE l.run NOT IN (SELECT subject FROM store.deleted)""",
    "artifact": """
        SELECT run, path, object, bytes, time FROM store.artifact WHERE run NOT IN (SELECT subject FROM store.deleted)""",
    "step": """
        SELECT coalesce(s.run, e.run) AS run, coalesce(s.step, e.step) AS name,
            coalesce(e.state, CASE WHEN r.state = 'running' THEN 'running' ELSE r.state END, 'running') AS state,
            coalesce(s.reason, '') AS reason, coalesce(nullif(e.fingerprint, ''), s.fingerprint, '') AS fingerprint,
            s.time AS started, e.time AS ended, e.seconds, e.cpu_seconds, e.peak_bytes, coalesce(e.error, '') AS error,
            e.made_by, e.result
        FROM (FROM store.step_start QUALIFY row_number() OVER (PARTITION BY run, step ORDER BY time DESC, n DESC) = 1) s
        FULL JOIN (FROM store.step_end QUALIFY row_number() OVER (PARTITION BY run, step ORDER BY time DESC, n DESC) = 1) e
            ON e.run = s.run AND e.step = s.step
        LEFT JOIN run r ON r.id = coalesce(s.run, e.run)
        WHERE coalesce(s.run, e.run) NOT IN (SELECT subject FROM store.deleted)""",
    "snapshot": """
        SELECT s.id, s.source, s.rows, s.bytes, seen.first AS created, seen.last AS seen, coalesce(s.kept, 'full') AS kept
        FROM store.snapshot s
        JOIN (SELECT id, source, min(time) AS first, coalesce(max(time) FILTER (run = ''), max(time)) AS last
            FROM store.snapshot_seen GROUP BY ALL) seen
            ON seen.id = s.id AND seen.source = s.source
        WHERE s.id NOT IN (SELECT subject FROM store.deleted)""",
    "snapshot_file": """
        SELECT snapshot, source, path, hash, bytes, rows FROM store.snapshot_file
        WHERE snapshot NOT IN (SELECT subject FROM store.deleted)""",
    "column_profile": """
        SELECT snapshot, source, position, name, type, nulls, "distinct", min, max, mean, nans, std, quantiles, bins, bins_from,
            bins_to, top, lengths
        FROM store.column_profile
        WHERE snapshot NOT IN (SELECT subject FROM store.deleted)""",
    "finding": """
        SELECT f.source, f.snapshot, f.rule, f.severity, f.columns, f.failed, f.rows, f.note, f.samples, f.time,
            coalesce(f.model, '') AS model, coalesce(f.run, '') AS run
        FROM store.finding f
        LEFT JOIN
            (FROM store.checked QUALIFY row_number() OVER (PARTITION BY source, snapshot ORDER BY time DESC, n DESC) = 1) c
            ON c.source = f.source AND c.snapshot = f.snapshot AND c.time = f.time AND c.n = f.n
        WHERE c.source IS NOT NULL OR (f.model <> '' AND f.run NOT IN (SELECT subject FROM store.deleted))""",
    "snapshot_tag": """
        SELECT source, name, snapshot, time
        FROM (FROM store.snapshot_tag QUALIFY row_number() OVER (PARTITION BY source, name ORDER BY time DESC, n DESC) = 1)
        WHERE snapshot <> ''""",
    "version": """
        SELECT id, model, number, candidate, run, state, metric, value, low, high, metrics, fingerprint, bundle_hash,
            predictions, evaluation, snapshots, created
        FROM store.version""",
    "alias": "SELECT name, model, alias, version, time, actor, reason FROM store.alias",
    "model": """
        SELECT v.model AS name, any_value(a.version) AS champion, count(*) AS versions,
            arg_max(v.id, v.number) AS newest, max(v.created) AS changed
        FROM store.version v LEFT JOIN store.alias a ON a.model = v.model AND a.alias = 'champion'
        GROUP BY v.model""",
    "deployment": "SELECT model, version, event, port, pid, reason, time FROM store.deployment",
    "gate_result": """
        SELECT version, baseline, metric, rule, verdict, candidate, champion, difference, low, high, rows, clusters, note, time
        FROM store.gate_result""",
    "lineage": """
        SELECT 'run' AS kind, run AS id, 'snapshot' AS from_kind, id AS from_id, source AS name
            FROM store.snapshot_seen WHERE run <> '' AND run NOT IN (SELECT subject FROM store.deleted)
        UNION SELECT 'version', id, 'run', run, candidate FROM store.version
        UNION SELECT 'version', version, 'snapshot', snapshot, source FROM store.version_snapshot
        UNION SELECT 'object', object, 'run', run, step || '.' || output FROM store.step_output
        UNION SELECT 'step', run || '/' || step, 'run', made_by, step FROM store.step_end WHERE made_by NOT IN ('', run)
        UNION SELECT 'deployment', model || ' ' || strftime(time, '%Y-%m-%dT%H:%M:%S.%fZ'), 'version', version, event
            FROM store.deployment""",
    "event": "SELECT time, source, text, data FROM store.event",
    "decision": "SELECT seq, time, kind, subject, expect, value, actor, host, reason, data FROM store.ledger",
    "prediction": "SELECT id, model, version, time, prediction, features, seconds FROM store.prediction",
    "feedback": "SELECT prediction, model, label, time FROM store.feedback",
}
"""Name -> SELECT. `evaluation` is made by `evaluation`, since it reads files."""

_NO_EVALUATION = """
    SELECT NULL::VARCHAR AS version, NULL::VARCHAR AS row, NULL::DOUBLE AS label, NULL::DOUBLE AS prediction,
        NULL::JSON AS keys WHERE false"""

_OBJECT = "__mlops_object"
"""The column of the file's path; a key of the rows may be called `filename`."""
_READ = f"union_by_name = true, filename = '{_OBJECT}'"


def create(db: Db) -> None:
    """Make every view anew in the attached file."""
    for name, select in VIEWS.items():
        db.execute(f"CREATE OR REPLACE VIEW main.{name} AS {select}")
    db.execute(f"CREATE OR REPLACE VIEW main.evaluation AS {_NO_EVALUATION}")


def evaluation(db: Db, layout: Layout, hashes: Sequence[str]) -> None:
    """Point the view `evaluation` at the predictions objects of all versions.

    Paths in it are relative, so that a moved project works: a connection finds them through `file_search_path`, which
    `database` sets. Objects that are missing or not what was written are left out until `doctor` has seen to them.
    """
    paths = sorted({f"objects/{hash[:2]}/{hash}" for hash in hashes if hash})
    there = [path for path in paths if (layout.state / path).is_file()]
    if not _readable(db, layout, there):
        there = [path for path in there if _readable(db, layout, [path])]
    select = _NO_EVALUATION
    if there:
        listed = ", ".join(f"'{path}'" for path in there)
        select = f"""
            SELECT v.id AS version, e.row::VARCHAR AS row, e.label::DOUBLE AS label, e.prediction::DOUBLE AS prediction,
                json_merge_patch(to_json(e), '{{"{_OBJECT}": null, "label": null, "prediction": null, "row": null}}') AS keys
            FROM read_parquet([{listed}], {_READ}) e
            JOIN store.version v ON v.predictions = right(e.{_OBJECT}, 64)"""
    db.execute(f"CREATE OR REPLACE VIEW main.evaluation AS {select}")


def _readable(db: Db, layout: Layout, paths: Sequence[str]) -> bool:
    """Whether these are predictions. Asked beside the fold's transaction: an error within would end that."""
    import duckdb  # noqa: PLC0415  (loaded: there is a connection)

    listed = ", ".join(quote(str(layout.state / path)) for path in paths)
    columns = "row::VARCHAR, label::DOUBLE, prediction::DOUBLE"
    asked = db.cursor()
    try:
        if paths:
            asked.execute(f"DESCRIBE SELECT {columns} FROM read_parquet([{listed}], {_READ})")
    except duckdb.Error:
        return False
    finally:
        asked.close()
    return True
