"""Find what is wrong in .mlops/ and put right what can be put right without losing anything that cannot be made again.

Each check returns findings; with `fix` it repairs first and says so. What is set aside is moved, not removed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mlops_local.domain import events
from mlops_local.domain.errors import Conflict, IntegrityError, NewerStore
from mlops_local.domain.names import counted
from mlops_local.store import (
    archive,
    collect,
    conditions,
    files,
    folding,
    journal,
    ledger,
    lock,
    objects,
    packing,
    packs,
    projection,
    sweeping,
)
from mlops_local.store.database import Store
from mlops_local.store.finding import Finding
from mlops_local.store.layout import Layout

_OLD_S = 24 * 3600.0
"""A draft older than this belongs to nobody any more."""


_FIX = "mlops doctor --fix"
_BACKUP = "restore it from a backup"


def check_ledger(store: Store, *, fix: bool) -> Iterator[Finding]:
    """The file of decisions by itself: its last line and its chain."""
    try:
        torn = ledger.torn(store.layout)
    except IntegrityError as error:
        yield Finding("ledger", error.message, remedy="restore journal/ledger.jsonl from a backup")
        return
    if torn:
        if fix:
            ledger.cut_torn(store.layout, wait_s=store.wait_s)
        yield Finding("ledger", f"the last {torn} bytes are a decision that was never finished", fix, _FIX)
    for problem in ledger.verify(store.layout):
        yield Finding("ledger", problem, remedy="restore journal/ledger.jsonl from a backup")


def check_database(store: Store, *, fix: bool) -> Iterator[Finding]:
    """Does it open? It can always be made anew."""
    if not store.layout.database.exists():
        return
    try:
        with store.reader() as db:
            db.execute("SELECT count(*) FROM store.position").fetchall()
    except NewerStore:
        raise
    except IntegrityError as error:
        if fix:
            yield from _set_aside(store.layout)
            projection.rebuild(store)
        yield Finding("database", f"{error.message}; everything in it comes from journals and ledger", fix, _FIX)


def _set_aside(layout: Layout) -> Iterator[Finding]:
    """Put-away journals that cannot be read, when nothing else has their lines any more: all others shall count again."""
    for path in archive.damaged(layout):
        path.replace(layout.tmp / f"altered.{path.name}")
        yield Finding(
            "journal", f"done/{path.name} cannot be read and is now in tmp/altered.{path.name}: its runs are lost", True
        )


def check_cut(store: Store, *, fix: bool) -> Iterator[Finding]:
    """Decisions that the database remembers and the ledger no longer holds."""
    if not store.layout.database.exists():
        return
    with store.reader() as db:
        known = [json.loads(text) for (text,) in db.execute("SELECT line FROM store.ledger ORDER BY seq").fetchall()]
    lines = ledger.read(store.layout)
    same = 0
    while same < min(len(lines), len(known)) and lines[same].hash == known[same]["hash"]:
        same += 1
    lost = known[same:]
    if not lost:
        return
    text = f"{len(lost)} decisions from number {same + 1} on were cut off the ledger"
    if not fix:
        yield Finding("ledger", f"{text}; the database still knows them", remedy=_FIX)
        return
    try:
        ledger.restore(store.layout, lost, wait_s=store.wait_s)
        yield Finding("ledger", f"{text}; the database still knew them", fixed=True)
    except Conflict:
        aside = store.layout.journal / f"lost-decisions.{journal.new_id()}.jsonl"
        files.replace(aside, "".join(json.dumps(value) + "\n" for value in lost).encode(), sync=True)
        projection.rebuild(store)
        text = f"{text} and others were made since; the lost ones are now in journal/{aside.name}, the ledger's count"
        yield Finding("ledger", text, fixed=True)


_BEFORE = """
    SELECT count(*)
    FROM run, (SELECT min(time) AS made, max(time) FILTER (number = 9) AS since FROM store.migration)
    WHERE started < since AND since > made + INTERVAL 1 MINUTE AND EXISTS (FROM store.snapshot)"""


def check_given(store: Store, *, fix: bool) -> Iterator[Finding]:
    """Runs that were folded before there was a place for what data they were given: only their journals say that."""
    with store.reader() as db:
        ((runs,),) = db.execute(_BEFORE).fetchall()
    if runs and fix:
        projection.rebuild(store)
    if runs:
        text = f"{runs:,} runs are from before an upgrade: `lineage` lacks the data that some of them were given"
        yield Finding("run", text, fix, "mlops db rebuild")


def check_journals(store: Store, *, fix: bool) -> Iterator[Finding]:
    """Lines that could not be read, and put-away files that cannot be."""
    with store.reader() as db:
        damaged = db.execute("SELECT file, count(*) FROM store.damage GROUP BY file ORDER BY file").fetchall()
    for name, count in damaged:
        fixed = fix and _mend(store, name)
        later = " (its process still runs)" if fix and not fixed else ""
        yield Finding("journal", f"{name}: {count} damaged lines; its runs count as incomplete{later}", fixed, _FIX)
    for path in archive.damaged(store.layout):
        text = f"journal/done/{path.name} is damaged; a rebuild would lose its lines, the database still has them"
        yield Finding("journal", text, remedy=_BACKUP)


def _mend(store: Store, name: str) -> bool:
    """Rewrite a final journal without its damaged lines; a gap line in their place says how many there were."""
    with store.writer() as db:
        home = next((kept for kept in archive.listing(store.layout) if kept.name == name), None)
        if home is None:
            return False
        raw = home.read()
        kept: list[bytes] = []
        runs: set[str] = {
            run for (run,) in db.execute("SELECT run FROM store.run_start WHERE journal = ?", [name[:32]]).fetchall()
        }
        last, dropped = 0, 0
        for text in raw[: raw.rfind(b"\n") + 1].splitlines(keepends=True):
            lines, _ = journal.decode(text)
            if not lines or not folding.sound(db, name, lines[0]):
                dropped += 1
                continue
            kept.append(text)
            last = int(lines[0].get("t", last))
            if "r" in lines[0]:
                runs.add(str(lines[0]["r"]))
        gaps = [{"k": events.GAP, "v": 1, "t": last, "n": 0, "r": run, "dropped": dropped} for run in sorted(runs)]
        data = b"".join(kept) + b"".join(json.dumps(gap).encode() + b"\n" for gap in gaps)
        archive.replace(store.layout, home, data)
        db.execute("BEGIN")
        db.execute("DELETE FROM store.damage WHERE file = ?", [name])
        db.execute("UPDATE store.position SET position = ? WHERE file = ?", [len(data), name])
        for run in sorted(runs):
            db.execute("INSERT INTO store.gap VALUES (?, ?, make_timestamp(?))", [run, dropped, last])
        db.execute("COMMIT")
    return True


def check_runs(store: Store, *, fix: bool) -> Iterator[Finding]:
    """Runs that count as running although their journal is gone, so that nobody will ever say how they ended."""
    with store.reader() as db:
        running = db.execute(
            "SELECT r.id, r.name, coalesce(a.journal, s.journal) FROM run r JOIN store.run_start s ON s.run = r.id "
            "LEFT JOIN store.run_resume a ON a.run = r.id WHERE r.state = 'running' ORDER BY r.started"
        ).fetchall()
    for run, name, writer in running:
        if (store.layout.journal / f"{writer}.state.jsonl").exists():
            continue
        if fix:
            with store.writer() as db:
                db.execute("BEGIN")
                db.execute("DELETE FROM store.run_end WHERE run = ?", [run])  # of before it was resumed
                db.execute(
                    "INSERT INTO store.run_end SELECT s.run, 'crashed', 'its journal is gone', NULL, "
                    "greatest(s.started, a.time), 0 FROM store.run_start s LEFT JOIN store.run_resume a ON a.run = s.run "
                    "WHERE s.run = ?",
                    [run],
                )
                db.execute("COMMIT")
        yield Finding("run", f"{name} ({run[16:24]}) counts as running, but its journal is gone", fix, _FIX)


def check_objects(store: Store, *, fix: bool, deep: bool) -> Iterator[Finding]:
    """Every file that something names; `deep`: and every kept file by its hash."""
    layout = store.layout
    if fix:
        collect.mend(layout)  # a collection that was killed may have set something aside
    used = _uses(store)
    if deep:
        yield from _altered(layout, used, fix=fix)
    missing = set(packs.missing(layout, used))
    for hash, uses in sorted(used.items(), key=lambda item: item[1]):
        if hash in missing:
            fixed = fix and _again(layout, hash, uses)
            yield Finding("object", f"{hash[:12]} is missing: {uses[0]}", fixed, _remedy(uses))


def _altered(layout: Layout, used: dict[str, list[str]], *, fix: bool) -> Iterator[Finding]:
    """Read everything that is kept."""
    for hash in sorted(objects.every(layout)):
        if not objects.verify(layout, hash):
            if fix:
                aside = layout.tmp / f"altered.{hash}"
                objects.path(layout, hash).replace(aside)
            what = used.get(hash, ["nothing now"])[0]
            yield Finding("object", f"{hash[:12]} is not what was written; used by {what}", fix, "mlops doctor --deep --fix")
    yield from _packs(layout, used, fix=fix)


def _packs(layout: Layout, used: dict[str, list[str]], *, fix: bool) -> Iterator[Finding]:
    """Contents in packs that do not come out as they went in, and the snapshots that need them."""
    there = set(packs.every(layout))
    altered = packs.altered(layout, there.difference(packs.missing(layout, there)))
    again = {hash for hash in altered if fix and _working(layout, hash, used.get(hash, [])) is not None}
    if again:  # the damaged chunks have to go before the content can come back
        sweeping.collect(layout, set(packs.every(layout)) - again, dry=False, young_s=0)
    for hash in sorted(altered):
        uses = used.get(hash, ["nothing now"])
        fixed = hash in again and _again(layout, hash, uses)
        yield Finding("object", f"{hash[:12]} is not what was written: {_listed(uses)}", fixed, _remedy(uses))


def _listed(uses: list[str]) -> str:
    more = f" and {len(uses) - 3} more" if len(uses) > 3 else ""
    return ", ".join(uses[:3]) + more


def _uses(store: Store) -> dict[str, list[str]]:
    """Object hash -> what names it. Outputs of steps are not among it: a step whose output is gone runs again."""
    used: dict[str, list[str]] = {}
    with store.reader() as db:
        for hash, text in db.execute(
            "SELECT f.hash, 'data ' || f.path || ' of ' || f.source || ' ' || left(f.snapshot, 8) FROM snapshot_file f "
            "JOIN snapshot s ON s.id = f.snapshot AND s.source = f.source AND s.kept = 'full' UNION ALL "
            "SELECT object, 'file ' || path || ' of run ' || run[17:24] FROM artifact UNION ALL "
            "SELECT predictions, 'version ' || id || ' predictions' FROM version WHERE predictions <> ''"
        ).fetchall():
            used.setdefault(hash, []).append(text)
        bundles = db.execute("SELECT id, bundle FROM store.version").fetchall()
    for version, bundle in bundles:
        for name, hash in json.loads(bundle).items():
            used.setdefault(hash, []).append(f"version {version} {name}")
    return used


def _again(layout: Layout, hash: str, uses: list[str]) -> bool:
    """Keep a data file again, if it still lies in the project with that content."""
    path = _working(layout, hash, uses)
    if path is None:
        return False
    with packing.writer(layout) as writer:
        writer.add(path)
        writer.commit()
    return packs.verify(layout, hash)


def _working(layout: Layout, hash: str, uses: list[str]) -> Path | None:
    """The working file that still has the content."""
    for use in uses:
        kind, _, rest = use.partition(" ")
        path = layout.root / rest.rpartition(" of ")[0]
        with suppress(OSError):
            if kind == "data" and path.is_file() and objects.hash_file(path) == hash:
                return path
    return None


def _remedy(uses: list[str]) -> str:
    if any(use.startswith("version ") for use in uses):
        return "mlops pull it from where it is kept, or mlops train: that version cannot be served"
    if any(use.startswith("data ") for use in uses):
        return "put that file back as it was, then mlops doctor --deep --fix"
    return "mlops pull it from where it is kept"


def check_drafts(store: Store, *, fix: bool) -> Iterator[Finding]:
    """Half-written files that a killed process left; said only where they are removed."""
    layout = store.layout
    drafts = [*layout.tmp.iterdir(), *layout.journal.glob(".*"), *layout.done.glob(".*"), *layout.cache.rglob(".*")]
    old = [path for path in drafts if path.is_file() and not path.name.startswith("altered.") and _age_s(path) > _OLD_S]
    if old and fix:
        for path in old:
            path.unlink(missing_ok=True)
        yield Finding("draft", f"{len(old)} half-written files older than a day", fixed=True)


def check_leases(store: Store, *, fix: bool) -> Iterator[Finding]:
    """Claims of killed trainings on results they were making; they hinder nobody, and the next train takes them away."""
    found = store.layout.leases.iterdir() if store.layout.leases.is_dir() else ()
    left = sum(lock.abandoned(path, remove=fix) for path in found)
    if left:
        text = f"{counted(left, 'result was', 'results were')} being made by a train that was killed"
        yield Finding("lease", text, fix, _FIX)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def everything(store: Store, *, fix: bool, deep: bool = False) -> list[Finding]:
    """Run every check, each on what the one before left. Raises StoreBusy, NewerStore."""
    layout = store.layout
    found = [*conditions.check_modes(layout, fix=fix), *conditions.check_room(layout), *conditions.check_strangers(layout)]
    found += [*check_ledger(store, fix=fix), *check_database(store, fix=fix)]
    if any(finding.kind in {"ledger", "database"} and not finding.fixed for finding in found):
        return found  # the rest cannot be read
    found += check_cut(store, fix=fix)
    if not all(finding.fixed for finding in found if finding.kind == "ledger"):
        return found
    projection.fold(store)
    for check in (check_given, check_journals, check_runs, check_drafts, check_leases):
        found += check(store, fix=fix)
    return [*found, *check_objects(store, fix=fix, deep=deep), *conditions.check_clock(store)]
