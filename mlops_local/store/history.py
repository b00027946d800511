"""Rows back into domain values: runs, steps, curves, snapshots. Reading only.

`where`, `source` and `order` are trusted SQL over the view `run` (see `views`), made by `search` with bound parameters.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_local.domain.runs import Curve, Run, RunState, StepRun
from mlops_local.store.database import Db

if TYPE_CHECKING:  # at runtime where they are made: a list of runs needs none of them, and is the command typed most
    from mlops_local.domain.assets import ColumnProfile, Snapshot
    from mlops_local.domain.checks import Finding
    from mlops_local.domain.plan import StepResult

_RUN = 'id, name, kind, state, started, ended, seconds, message, error, "commit", dirty, incomplete, targets'


_FACTS = """
    WITH chosen AS (SELECT unnest(?::VARCHAR[]) AS run)
    SELECT run, 'param' AS kind, name, value, NULL::DOUBLE AS number, NULL::TIMESTAMP AS time
    FROM param SEMI JOIN chosen USING (run)
    UNION ALL SELECT run, 'metric', key, NULL, value, NULL FROM metric_last SEMI JOIN chosen USING (run)
    UNION ALL SELECT run, 'tag', key, value, NULL, NULL FROM tag SEMI JOIN chosen USING (run)
    UNION ALL SELECT run, 'note', text, NULL, NULL, time FROM note SEMI JOIN chosen USING (run)"""
"""All that a list says of its runs: in one question, since asking costs more than answering."""


def page(
    db: Db,
    *,
    where: str = "",
    params: Sequence[Any] = (),
    source: str = "run",
    order: str = "started DESC, id DESC",
    limit: int | None = 50,
    offset: int = 0,
) -> tuple[list[Run], int]:
    """Return runs with their parameters, last metric values, tags and notes, and how many match in all.

    Args:
        db: from `Store.reader`.
        where: SQL condition over the view `run`, or empty.
        params: values of the placeholders in `source` and `where`.
        source: what follows FROM: `run`, and what is joined to it.
        order: SQL order.
        limit: at most so many; None for all.
        offset: leave out so many.
    """
    sql = f"SELECT count(*) OVER (), {_RUN} FROM {source}{_condition(where)} ORDER BY {order} LIMIT ? OFFSET ?"
    rows = db.execute(sql, [*params, limit, offset]).fetchall()
    if not rows:  # a page beyond the end, or nothing to count
        return [], count_runs(db, where, params, source=source) if offset or limit == 0 else 0
    facts = _facts(db, [str(row[1]) for row in rows])
    return [_run(row, facts.get(row[0], {})) for _, *row in rows], int(rows[0][0])


def runs(db: Db, *, where: str = "", params: Sequence[Any] = (), limit: int | None = 50, offset: int = 0) -> list[Run]:
    """Return runs, newest first; all arguments as for `page`."""
    return page(db, where=where, params=params, limit=limit, offset=offset)[0]


def count_runs(db: Db, where: str = "", params: Sequence[Any] = (), *, source: str = "run") -> int:
    """Return how many runs match; `where`, `params` and `source` as for `page`."""
    ((count,),) = db.execute(f"SELECT count(*) FROM {source}{_condition(where)}", list(params)).fetchall()
    return int(count)


def run(db: Db, id: str) -> Run | None:
    """Return the run of that full id."""
    found = runs(db, where="run.id = ?", params=[id], limit=1)
    return found[0] if found else None


def params(db: Db, run: str) -> dict[str, Any]:
    """Return a run's parameters, dotted name -> JSON value."""
    return _facts(db, [run]).get(run, {}).get("param", {})


def tags(db: Db, run: str) -> dict[str, str]:
    """Return a run's tags."""
    return dict(db.execute("SELECT key, value FROM tag WHERE run = ? ORDER BY key", [run]).fetchall())


def notes(db: Db, run: str) -> list[tuple[str, str]]:
    """Return a run's notes, oldest first: (time, text)."""
    rows = db.execute("SELECT time, text FROM note WHERE run = ? ORDER BY time", [run]).fetchall()
    return [(utc(time), text) for time, text in rows]


def known_runs(db: Db, runs: Collection[str]) -> set[str]:
    """Return those of the runs whose beginning is known here."""
    found = db.execute("SELECT run FROM store.run_start WHERE run IN (SELECT unnest(?::VARCHAR[]))", [list(runs)]).fetchall()
    return {str(run) for (run,) in found}


def removed(db: Db) -> list[tuple[str, str]]:
    """Return the runs that were removed and not taken back, newest first: (id, name)."""
    return db.execute(
        "SELECT s.run, coalesce(r.name, s.name) FROM store.run_start s LEFT JOIN store.renamed r ON r.run = s.run "
        "WHERE s.run IN (SELECT subject FROM store.deleted) ORDER BY s.started DESC, s.run DESC"
    ).fetchall()


def environment(db: Db, run: str) -> dict[str, Any]:
    """Return where and how a run ran: argv, env, python, host, pid, diff (an object's hash or empty), interpreter, packages."""
    rows = db.execute(
        "SELECT argv, env, python, host, pid, diff, interpreter, packages FROM run WHERE id = ?", [run]
    ).fetchall()
    if not rows:
        return {}
    argv, env, python, host, pid, diff, interpreter, packages = rows[0]
    return {
        "argv": list(argv or ()),
        "env": json.loads(env or "{}"),
        "python": python,
        "host": host,
        "pid": pid,
        "diff": diff,
        "interpreter": interpreter or "",
        "packages": json.loads(packages or "{}"),
    }


def intervals(db: Db, run: str) -> dict[str, tuple[float, float]]:
    """Return metric -> (low, high) where a run knows them."""
    sql = "SELECT key, low, high FROM metric_last WHERE run = ? AND low IS NOT NULL AND high IS NOT NULL"
    return {key: (low, high) for key, low, high in db.execute(sql, [run]).fetchall()}


def step_runs(db: Db, run: str) -> list[StepRun]:
    """Return a run's steps in the order they began."""
    rows = db.execute(
        "SELECT run, name, state, reason, fingerprint, seconds, cpu_seconds, peak_bytes, error, "
        "CASE WHEN state <> 'reused' THEN result END FROM step WHERE run = ? ORDER BY coalesce(started, ended), name",
        [run],
    ).fetchall()
    results = [json.loads(row[-1] or "{}") for row in rows]
    return [
        replace(StepRun(*row[:-1]), attempts=result.get("attempts"), threads=result.get("threads"))
        for row, result in zip(rows, results, strict=True)
    ]


def step_results(db: Db, run: str) -> dict[str, StepResult]:
    """Return step -> what it left, for the steps a run made or reused."""
    from mlops_local.domain.plan import result_from_json  # noqa: PLC0415  (as above)

    rows = db.execute(
        "SELECT name, result FROM step WHERE run = ? AND state IN ('done', 'reused') AND result IS NOT NULL ORDER BY ended",
        [run],
    ).fetchall()
    return {name: result_from_json(json.loads(text)) for name, text in rows}


def curves(db: Db, runs: Sequence[str], keys: Sequence[str] | None = None, points: int = 400) -> list[Curve]:
    """Return the metrics of some runs over their steps.

    A curve of more than `points` points is thinned to the smallest and largest of each stretch, so that spikes stay. A point
    without a step counts by its place.
    """
    rows = db.execute(
        """
        WITH p AS (
            SELECT run, key, value, time, n,
                row_number() OVER (PARTITION BY run, key ORDER BY coalesce(step, 'inf'::DOUBLE), time, n) - 1 AS place,
                count(*) OVER (PARTITION BY run, key) AS total,
                step
            FROM store.metric WHERE run IN (SELECT unnest(?::VARCHAR[])) AND (? OR key IN (SELECT unnest(?::VARCHAR[])))
        ), stretch AS (
            SELECT *, place * greatest(? // 2, 1) // total AS part FROM p
        )
        SELECT run, key, coalesce(step, place), value FROM stretch
        QUALIFY total <= ? OR place = 0 OR place = total - 1
            OR row_number() OVER (PARTITION BY run, key, part ORDER BY isnan(value), value, place) = 1
            OR row_number() OVER (PARTITION BY run, key, part ORDER BY isnan(value), value DESC, place) = 1
        ORDER BY run, key, place""",
        [list(runs), keys is None, list(keys or ()), points, points],
    ).fetchall()
    found: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for run_id, key, step, value in rows:
        steps, values = found.setdefault((run_id, key), ([], []))
        steps.append(float(step))
        values.append(value)
    return [Curve(run_id, key, tuple(steps), tuple(values)) for (run_id, key), (steps, values) in found.items()]


def points(db: Db, run: str, keys: Sequence[str] = ()) -> list[tuple[str, float | None, float, datetime]]:
    """Return a run's points in the order they were logged: metric, step, value, time."""
    return db.execute(
        "SELECT key, step, value, time FROM metric WHERE run = ? AND (? OR key IN (SELECT unnest(?::VARCHAR[]))) ORDER BY time",
        [run, not keys, list(keys)],
    ).fetchall()


def last_us(db: Db, run: str) -> int:
    """Return when the last was said of a run, in microseconds since 1970."""
    tables = ("run_end", "run_resume", "latest", "param", "tag", "summary", "renamed")
    said = " UNION ALL ".join(f"SELECT max(time) AS time FROM store.{table} WHERE run = $run" for table in tables)
    ((found,),) = db.execute(f"SELECT coalesce(epoch_us(max(time)), 0) FROM ({said})", {"run": run}).fetchall()
    return int(found)


def begun(db: Db, run: str) -> str:
    """Return when the process that a run's `pid` names was with it: its start, or when it was resumed; UTC, ISO 8601."""
    asked = "SELECT coalesce((SELECT max(time) FROM store.run_resume WHERE run = $run), max(started)) FROM run WHERE id = $run"
    ((found,),) = db.execute(asked, {"run": run}).fetchall()
    return utc(found)


def metric_names(db: Db, run: str) -> list[str]:
    """Return the metrics a run has."""
    return [name for (name,) in db.execute("SELECT key FROM metric_last WHERE run = ? ORDER BY key", [run]).fetchall()]


def snapshot_heads(db: Db) -> list[Snapshot]:
    """Return all snapshots without their files and columns, newest seen first."""
    from mlops_local.domain.assets import Snapshot  # noqa: PLC0415  (as above)

    sql = "SELECT id, source, rows, bytes, kept FROM snapshot ORDER BY seen DESC, id"
    return [
        Snapshot(id, name, (), rows=count, bytes=size, kept=kept) for id, name, count, size, kept in db.execute(sql).fetchall()
    ]


def snapshots(db: Db, source: str | None = None, id: str | None = None) -> list[Snapshot]:
    """Return snapshots whole, newest seen first."""
    from mlops_local.domain.assets import Files, Snapshot  # noqa: PLC0415  (as above)

    only = [source, source, id, id]
    where = "WHERE (? IS NULL OR source = ?) AND (? IS NULL OR snapshot = ?)"
    rows = db.execute(
        f"SELECT snapshot, source, rows, bytes, kept FROM (SELECT id AS snapshot, * FROM snapshot) {where} "
        "ORDER BY seen DESC, snapshot",
        only,
    ).fetchall()
    files_sql = (
        "SELECT snapshot, source, list(path ORDER BY path), list(hash ORDER BY path), list(bytes ORDER BY path), "
        f"list(rows ORDER BY path) FROM snapshot_file {where} GROUP BY snapshot, source"
    )
    held = {(snapshot, name): Files(*listed) for snapshot, name, *listed in db.execute(files_sql, only).fetchall()}
    columns: dict[tuple[str, str], list[ColumnProfile]] = {}
    columns_sql = (
        'SELECT snapshot, source, name, type, nulls, "distinct", min, max, mean, coalesce(nans, 0), std, quantiles, bins, '
        f"bins_from, bins_to, top, lengths FROM column_profile {where} ORDER BY position"
    )
    for snapshot, name, *column in db.execute(columns_sql, only).fetchall():
        columns.setdefault((snapshot, name), []).append(_column(*column))
    return [
        Snapshot(
            key,
            name,
            held.get((key, name), ()),
            rows=count,
            bytes=size,
            columns=tuple(columns.get((key, name), ())),
            kept=kept,
        )
        for key, name, count, size, kept in rows
    ]


def snapshots_of_files(db: Db, hashes: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return hash -> (source, id) of every snapshot that has a file of that content, newest seen first."""
    sql = (
        "SELECT f.hash, s.source, s.id FROM snapshot s JOIN (SELECT DISTINCT hash, snapshot, source FROM snapshot_file "
        "WHERE list_contains(?, hash)) f ON f.snapshot = s.id AND f.source = s.source ORDER BY s.seen DESC, s.id"
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for hash, source, id in db.execute(sql, [list(hashes)]).fetchall():
        found.setdefault(hash, []).append((source, id))
    return found


def snapshot_contents(db: Db) -> dict[tuple[str, str], tuple[int, list[str]]]:
    """Return (source, id) -> how many files it has, and the hashes of their contents, each once."""
    sql = "SELECT source, snapshot, count(*), list(DISTINCT hash) FROM snapshot_file GROUP BY source, snapshot"
    return {(source, id): (count, hashes) for source, id, count, hashes in db.execute(sql).fetchall()}


def _column(*held: Any) -> ColumnProfile:
    """A profile's row as the snapshot's own JSON had it."""
    from mlops_local.domain.assets import ColumnProfile  # noqa: PLC0415  (as above)

    names = "name type nulls distinct min max mean nans std quantiles bins bins_from bins_to top lengths".split()
    value = dict(zip(names, held, strict=True))
    frequent = tuple((text, count) for text, count in json.loads(value["top"] or "[]"))
    lists = {name: tuple(value[name] or ()) for name in ("quantiles", "bins", "lengths")}
    return ColumnProfile(**{**value, **lists, "top": frequent})


def snapshot_tags(db: Db, source: str) -> dict[str, str]:
    """Return name -> snapshot id of a source's named snapshots."""
    return dict(db.execute("SELECT name, snapshot FROM snapshot_tag WHERE source = ? ORDER BY name", [source]).fetchall())


def lineage(db: Db) -> tuple[list[tuple[str, str, str, str]], dict[tuple[str, str], tuple[str, str]]]:
    """Return what was made from what (kind, id, of kind, of id), and how each thing is called, with a word about it."""
    edges = db.execute(
        "SELECT kind, id, from_kind, from_id FROM lineage WHERE kind IN ('run', 'version', 'deployment') "
        "AND from_kind IN ('run', 'version', 'snapshot') ORDER BY ALL"
    ).fetchall()
    names = db.execute(
        "SELECT 'snapshot', id, source || ' ' || left(id, 8), rows || ' rows' FROM snapshot "
        "UNION ALL SELECT 'run', id, name, state FROM run "
        "UNION ALL SELECT 'version', v.id, v.id, v.state || ', ' || v.metric || ' ' || round(v.value, 4) "
        "|| CASE WHEN count(p.id) > 0 THEN ', ' || count(p.id) || ' predictions' ELSE '' END "
        "FROM version v LEFT JOIN prediction p ON p.version = v.id GROUP BY v.id, v.state, v.metric, v.value "
        "UNION ALL SELECT 'deployment', model || ' ' || strftime(time, '%Y-%m-%dT%H:%M:%S.%fZ'), "
        "model || ' on port ' || port, event || ' ' || strftime(time, '%Y-%m-%d %H:%M') || ' UTC' FROM deployment"
    ).fetchall()
    return edges, {(kind, id): (name, about) for kind, id, name, about in names}


def run_snapshots(db: Db, run: str) -> dict[str, str]:
    """Return source -> snapshot id of what a run looked at."""
    sql = "SELECT source, max_by(id, (time, n)) FROM store.snapshot_seen WHERE run = ? GROUP BY source ORDER BY source"
    return dict(db.execute(sql, [run]).fetchall())


def findings(db: Db, snapshots: Mapping[str, str]) -> list[Finding]:
    """Return what breaks the rules of these snapshots (source -> id), as it was found last."""
    sql = (
        "SELECT source, snapshot, rule, severity, columns, failed, rows, note, samples FROM finding WHERE model = '' "
        "AND (source, snapshot) IN (SELECT unnest(?), unnest(?)) ORDER BY source, time, rule"
    )
    from mlops_local.domain.checks import Finding  # noqa: PLC0415  (as those above)

    found = db.execute(sql, [list(snapshots), list(snapshots.values())]).fetchall() if snapshots else []
    return [
        Finding(source, snapshot, rule, severity, tuple(columns), failed, rows, note, tuple(json.loads(samples)))
        for source, snapshot, rule, severity, columns, failed, rows, note, samples in found
    ]


def artifacts(db: Db, run: str) -> list[tuple[str, str, int]]:
    """Return a run's kept files: (path, object hash, bytes)."""
    return db.execute("SELECT path, object, bytes FROM artifact WHERE run = ? ORDER BY path", [run]).fetchall()


def events(db: Db, limit: int = 20) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Return the newest events: (time, source, text, data)."""
    rows = db.execute("SELECT time, source, text, data FROM event ORDER BY time DESC LIMIT ?", [limit]).fetchall()
    return [(utc(time), source, text, json.loads(data)) for time, source, text, data in rows]


def seconds(db: Db) -> dict[str, float]:
    """Return step -> the median of how long it took when it ran."""
    return dict(db.execute("SELECT step, median(seconds) FROM store.step_end WHERE state = 'done' GROUP BY step").fetchall())


def utc(value: datetime | None) -> str:
    """A table's time as domain values hold it: ISO 8601 with microseconds and Z; empty for none."""
    return "" if value is None else value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _condition(where: str) -> str:
    return f" WHERE {where}" if where else ""


def _facts(db: Db, found: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Run -> kind of fact -> name -> value. Notes, which may be the same twice, are named by their place."""
    made: dict[str, dict[str, dict[str, Any]]] = {}
    for run_id, kind, name, value, number, time in sorted(db.execute(_FACTS, [list(found)]).fetchall(), key=_by_time):
        facts = made.setdefault(run_id, {}).setdefault(kind, {})
        match kind:
            case "param":
                facts[name] = json.loads(value)
            case "metric":
                facts[name] = number
            case "tag":
                facts[name] = value
            case _:
                facts[f"{time} {len(facts)}"] = name
    return made


def _by_time(fact: Sequence[Any]) -> tuple[Any, str]:
    *_, time = fact
    return time or datetime.min, str(fact[2])


def _run(row: Sequence[Any], facts: Mapping[str, Mapping[str, Any]]) -> Run:
    id, name, kind, state, started, ended, took, message, error, commit, dirty, incomplete, targets = row
    return Run(
        id=id,
        name=name,
        kind=kind,
        state=RunState(state),
        started=utc(started),
        ended=utc(ended),
        seconds=took,
        message=message,
        error=error,
        commit=commit,
        dirty=bool(dirty),
        incomplete=bool(incomplete),
        params=facts.get("param", {}),
        metrics=facts.get("metric", {}),
        targets=tuple(targets or ()),
        notes=tuple(facts.get("note", {}).values()),
        tags=facts.get("tag", {}),
    )
