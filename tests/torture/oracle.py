"""Hold a store against what its processes were promised. Shares no code with the program: plain JSON, zstd, SHA-256, DuckDB."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SLACK_S = 2.0
"""A wait may be noticed this late on a busy machine."""


@dataclass
class Verdict:
    """What was counted, and everything that is not as it was promised."""

    problems: list[str] = field(default_factory=list)
    counted: dict[str, float] = field(default_factory=dict)

    def check(self, sound: bool, text: str) -> None:
        """Note a promise that was not kept."""
        if not sound:
            self.problems.append(text)


def notes(folder: Path) -> Iterator[dict[str, Any]]:
    """Every note; a last line cut short by a kill was never promised."""
    for path in sorted(folder.glob("*.jsonl")):
        data = path.read_bytes()
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            yield json.loads(line)


def judge(state: Path, noted: list[dict[str, Any]]) -> Verdict:
    """Check journals, tables and ledger of the store in `state` (.mlops) against the notes."""
    verdict = Verdict()
    points: dict[tuple[str, str], int] = defaultdict(int)
    """(run, series) -> how many points from 0 on were acknowledged."""
    for note in noted:
        if note["kind"] == "points":
            points[note["run"], "m"] = max(points[note["run"], "m"], note["upto"])
        elif note["kind"] == "series":
            points[note["run"], note["key"]] = note["upto"]
    verdict.counted["acknowledged points"] = sum(points.values())
    verdict.counted["acknowledged runs"] = sum(note["kind"] == "run" for note in noted)
    _behaviour(verdict, noted)
    _journals(verdict, state / "journal", points)
    lines = _ledger(verdict, state / "journal" / "ledger.jsonl", noted)
    with duckdb.connect(str(state / "project.duckdb"), read_only=True) as db:
        _points(verdict, db, points)
        _states(verdict, db, noted)
        _decisions(verdict, db, lines)
    return verdict


def _behaviour(verdict: Verdict, noted: list[dict[str, Any]]) -> None:
    """No error of the store, nobody waited past its limit."""
    kinds = Counter(note["kind"] for note in noted)
    for kind in ("full", "busy", "conflict", "warned", "command"):
        verdict.counted[kind] = kinds[kind]
    for note in noted:
        if note["kind"] == "error":
            verdict.problems.append(f"{note['role']}: {note['text']}")
        elif note["kind"] == "busy":
            verdict.problems.append(f"{note['role']} gave up after {note['seconds']} s: {note['text']}")
    waits = sorted((note["seconds"], note["role"]) for note in noted if note["kind"] == "waited")
    verdict.counted["waits over 50 ms"] = len(waits)
    verdict.counted["longest wait s"] = waits[-1][0] if waits else 0.0
    late = [note for note in noted if note["kind"] == "waited" and note["seconds"] > note["limit"] + _SLACK_S]
    verdict.check(not late, f"waited past the limit: {late[:3]}")
    turns = Counter({note["number"]: 0 for note in noted if note["kind"] == "contender"})
    turns.update(note["number"] for note in noted if note["kind"] == "contest")
    _fairness(verdict, turns)


def _fairness(verdict: Verdict, turns: Counter[int]) -> None:
    """Of those who wanted the database at the same time, none got less than half of what each got on average."""
    if not turns:
        return
    mean, fewest = turns.total() / len(turns), min(turns.values())
    verdict.counted["turns each, mean"], verdict.counted["turns, fewest"] = mean, fewest
    verdict.check(2 * fewest >= mean, f"turns are not fair: {sorted(turns.values())}")


def _texts(folder: Path) -> Iterator[bytes]:
    """Every journal file once, put away (alone or with others in an archive) or not."""
    seen = set()
    for path in folder.glob("*.jsonl"):
        if path.name != "ledger.jsonl":
            seen.add(path.name)
            yield path.read_bytes()
    for path in (folder / "done").glob("*.zst"):
        data = zstd.decompress(path.read_bytes())
        head, _, rest = data.partition(b"\n")
        held: list[tuple[str, int]] = [(path.name.removesuffix(".zst"), len(data))]
        if ".archive." in path.name:
            held = json.loads(head)["files"]
        else:
            rest = data
        for name, size in held:
            if name not in seen:
                seen.add(name)
                yield rest[:size]
            rest = rest[size:]


def _journals(verdict: Verdict, folder: Path, points: dict[tuple[str, str], int]) -> None:
    counted: Counter[tuple[str, str, int]] = Counter()
    for data in _texts(folder):
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict) and value.get("k") == "m":
                key = value["key"]
                counted[value["r"], "m" if key.startswith("m") else key, int(value["s"])] += 1
    twice = [point for point, times in counted.items() if times > 1]
    verdict.check(not twice, f"{len(twice)} points are in the journals twice: {twice[:3]}")
    lost = [(run, key, step) for (run, key), upto in points.items() for step in range(upto) if not counted[run, key, step]]
    verdict.check(not lost, f"{len(lost)} acknowledged points are not in the journals: {lost[:3]}")


def _points(verdict: Verdict, db: duckdb.DuckDBPyConnection, points: dict[tuple[str, str], int]) -> None:
    """Every acknowledged point once and with its value; what was not acknowledged at most once."""
    found = {
        (run, key): row
        for run, key, *row in db.execute(
            "SELECT run, CASE WHEN key LIKE 'm%' THEN 'm' ELSE key END, count(*), count(DISTINCT step), "
            "count(*) FILTER (value <> step * 0.5) FROM metric GROUP BY ALL"
        ).fetchall()
    }
    series = db.execute("SELECT run, CASE WHEN key LIKE 'm%' THEN 'm' ELSE key END, step::BIGINT FROM metric").fetchall()
    steps: dict[tuple[str, str], set[int]] = defaultdict(set)
    for run, key, step in series:
        steps[run, key].add(step)
    verdict.counted["points in the table"] = len(series)
    for (run, key), (count, distinct, wrong) in found.items():
        verdict.check(count == distinct, f"run {run} {key}: {count - distinct} points are there twice")
        verdict.check(wrong == 0, f"run {run} {key}: {wrong} points have another value")
    for (run, key), upto in points.items():
        lost = [step for step in range(upto) if step not in steps[run, key]]
        verdict.check(not lost, f"run {run} {key}: {len(lost)} of {upto} acknowledged points are lost, first {lost[:1]}")
    last = db.execute("SELECT sum(points) FROM metric_last").fetchall()
    verdict.check(last == [(len(series) or None,)], f"metric_last counts {last[0][0]} points, metric {len(series)}")


def _states(verdict: Verdict, db: duckdb.DuckDBPyConnection, noted: list[dict[str, Any]]) -> None:
    """Acknowledged parameters and ends; nothing runs any more."""
    params = set(db.execute("SELECT run, name, value FROM param").fetchall())
    states = dict(db.execute("SELECT id, state FROM run").fetchall())
    for note in noted:
        if note["kind"] == "param":
            there = (note["run"], note["name"], str(note["value"])) in params
            verdict.check(there, f"parameter {note['name']} of run {note['run']} is lost")
        elif note["kind"] == "run":
            verdict.check(note["run"] in states, f"run {note['run']} is lost")
        elif note["kind"] == "ended":
            state = states.get(note["run"])
            verdict.check(state == "done", f"run {note['run']} ended as done and is {state}")
    verdict.check("running" not in states.values(), "a run of a process that is gone still counts as running")
    verdict.counted["runs crashed"] = sum(state == "crashed" for state in states.values())


def _ledger(verdict: Verdict, path: Path, noted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chain, by SHA-256 over sorted compact JSON; every acknowledged decision at its place."""
    data = path.read_bytes() if path.exists() else b""
    lines = [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    before = "0" * 64
    for number, line in enumerate(lines, start=1):
        body = {key: value for key, value in line.items() if key != "hash"}
        hash = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        verdict.check(line["seq"] == number and line["prev"] == before, f"ledger line {number} does not follow")
        verdict.check(line["hash"] == hash, f"ledger line {number} was altered")
        before = line["hash"]
    decided = [note for note in noted if note["kind"] == "decided"]
    verdict.counted["acknowledged decisions"] = len(decided)
    verdict.counted["decisions"] = len(lines)
    for note in decided:
        place = lines[note["seq"] - 1 : note["seq"] + note["more"]]
        there = len(place) == note["more"] + 1 and place[0]["hash"] == note["hash"] and place[0]["value"] == note["value"]
        verdict.check(there, f"decision {note['seq']} is lost")
    versions = {line["subject"] for line in lines if line["kind"] == "version"}
    for note in noted:
        if note["kind"] == "version":
            verdict.check(note["id"] in versions, f"version {note['id']} is lost")
    return lines


def _decisions(verdict: Verdict, db: duckdb.DuckDBPyConnection, lines: list[dict[str, Any]]) -> None:
    count = db.execute("SELECT count(*), max(seq) FROM decision").fetchall()
    verdict.check(count == [(len(lines), len(lines) or None)], f"the table has {count[0]} decisions, the ledger {len(lines)}")
    champion = [line["value"] for line in lines if line["kind"] == "alias"][-1:]
    shown = [value for (value,) in db.execute("SELECT version FROM alias").fetchall()]
    verdict.check(shown == champion, f"the champion is {shown}, the ledger says {champion}")


def contents(state: Path) -> dict[str, tuple[int, int]]:
    """Rows and a digest of every public view, whatever their order."""
    with duckdb.connect(str(state / "project.duckdb"), read_only=True) as db:
        views = db.execute("SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal").fetchall()
        return {
            view: db.execute(f"SELECT count(*), sum(hash(v)::HUGEINT) FROM {view} v").fetchall()[0] for (view,) in sorted(views)
        }
