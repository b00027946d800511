"""What a journal line says, as rows of the tables it goes to. Pure: lines in, rows out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.errors import NewerStore
from mlops_local.domain.runs import RunState
from mlops_local.store import superseding
from mlops_local.store.database import Db
from mlops_local.store.lines import dumps

_EPOCH = datetime(1970, 1, 1)
_ESCAPED = re.compile(r"\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(\\ud[89a-f][0-9a-f]{2})")
"""In JSON of ASCII alone: a backslash, a pair, or (as a group) half of one."""


def moment(microseconds: Any) -> datetime:
    """Return a journal line's time as tables hold it: UTC without a zone."""
    return _EPOCH + timedelta(microseconds=int(microseconds or 0))


def clean(value: Any) -> str:
    """Text for a table: what is not UTF-8 (an odd path, half of a pair) is shown, not refused."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_NEWEST_VERSION = 10_000
"""No kind of line will ever have had more forms; a larger number is damage, not a newer program's."""


def check_version(line: Mapping[str, Any]) -> bool:
    """Say whether a line's kind and version can be. Raises NewerStore where only a newer program reads it."""
    kind, version = line["k"], line.get("v", 1)
    if not isinstance(kind, str) or type(version) is not int or not 0 < version <= _NEWEST_VERSION:
        return False
    known = events.VERSIONS.get(kind)
    if known is not None and version > known:
        raise NewerStore(
            f"a journal holds {kind} lines of version {version}, this program knows {known}",
            hint="upgrade with `pip install --upgrade mlops-local`",
        )
    return True


class Rows:
    """Rows collected for one transaction, by table."""

    def __init__(self) -> None:
        self.tables: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self._snapshots: dict[tuple[str, str], Mapping[str, Any]] = {}

    def add(self, journal: str, line: Mapping[str, Any]) -> bool:
        """Take a line of a state file; kinds this program does not know stay in the journal for one that does.

        Returns:
            False if a line of this kind cannot look like that: it is damaged.

        Raises:
            NewerStore: its version is newer.
        """
        if not check_version(line):
            return False
        take = _KINDS.get(line["k"])
        if take is None:
            return True
        run = line.get("run", "")
        if (
            not isinstance(run, str) or "/" in run
        ):  # one NULL among them would hide all from NOT IN; and files are named by them
            return False
        trial = Rows()
        try:
            take(trial, journal, line, moment(line.get("t")), int(line.get("n", 0)))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return False
        for table, rows in trial.tables.items():
            self.tables[table] += rows
        for key, value in trial._snapshots.items():
            if key not in self._snapshots or value.get("kept") != "reference":
                self._snapshots[key] = value
        return True

    def insert(self, db: Db) -> None:
        """Append everything to the attached database."""
        self._new_snapshots(db)
        for table, rows in self.tables.items():
            append(db, table, superseding.supersede(db, table, rows) if table in superseding.KEYS else rows)

    def _new_snapshots(self, db: Db) -> None:
        """A snapshot is kept once, however often it was seen; its bytes are stored once they were ever."""
        if not self._snapshots:
            return
        known = {
            (source, id): kept for source, id, kept in db.execute("SELECT source, id, kept FROM store.snapshot").fetchall()
        }
        for key, value in self._snapshots.items():
            source, snapshot = key
            if key in known:
                if known[key] == "reference" and value.get("kept") != "reference":
                    db.execute("UPDATE store.snapshot SET kept = 'full' WHERE source = ? AND id = ?", [source, snapshot])
                continue
            self.tables["snapshot"].append((snapshot, source, value["rows"], value["bytes"], clean(value.get("kept"))))
            self.tables["snapshot_file"] += [
                (snapshot, source, clean(file["path"]), file["hash"], file["bytes"], file.get("rows"))
                for file in value["files"]
            ]
            self.tables["column_profile"] += [
                _column(snapshot, source, place, column) for place, column in enumerate(value.get("columns", ()))
            ]

    # -- one method a kind: (journal, line, time, number)

    def run_started(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A run began."""
        self.tables["run_start"].append(
            (
                line["run"],
                journal,
                clean(line.get("name")),
                clean(line.get("kind")),
                time,
                clean(line.get("message")),
                clean(line.get("commit")),
                bool(line.get("dirty")),
                clean(line.get("diff")),
                [clean(item) for item in line.get("targets") or ()],
                [clean(item) for item in line.get("argv") or ()],
                text(line.get("env") or {}),
                clean(line.get("python")),
                clean(line.get("host")),
                line.get("pid"),
                clean(line.get("interpreter")),
                text(line.get("packages") or {}),
            )
        )
        read = line.get("snapshots") or {}  # what it was given: no word on what the source's files are at that time
        self.tables["snapshot_seen"] += [(id, clean(source), line["run"], time, number) for source, id in read.items()]

    def run_ended(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A run ended by itself."""
        row = (line["run"], RunState(line["state"]).value, clean(line.get("error")), real(line.get("seconds")), time, number)
        self.tables["run_end"].append(row)

    def run_resumed(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """Another process goes on with a run."""
        self.tables["run_resume"].append((line["run"], journal, line.get("pid"), clean(line.get("host")), time, number))

    def params(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A run's parameters, as JSON text each."""
        self.tables["param"] += [
            (line["run"], clean(name), text(value), time, number) for name, value in line["values"].items()
        ]

    def step_started(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A step began."""
        reason = line.get("reason")
        shown = clean(reason) if isinstance(reason, str) or reason is None else text(reason)
        self.tables["step_start"].append(
            (line["run"], clean(line["step"]), shown, clean(line.get("fingerprint")), time, number)
        )

    def step_ended(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A step ended, was taken from the cache, failed or was cancelled."""
        result = line.get("result") or {}
        done = line["state"] == "done"
        spent = result if done else line
        kept = result or {name: line[name] for name in ("attempts", "threads") if name in line}
        self.tables["step_end"].append(
            (
                line["run"],
                clean(line["step"]),
                clean(line["state"]),
                clean(line.get("error")),
                clean(result.get("fingerprint")),
                clean(result.get("run")),
                real(spent.get("seconds")),
                real(spent.get("cpu_seconds")),
                spent.get("peak_bytes"),
                text(kept) if kept else None,
                time,
                number,
            )
        )
        if done:
            self._findings((result.get("report") or {}).get("findings", ()), ("", ""), line["run"], time, number)
            self.tables["step_output"] += [
                (
                    line["run"],
                    line["step"],
                    output["name"],
                    output["kind"],
                    output["logical"],
                    clean(file),
                    hash,
                    output.get("bytes"),
                    output.get("rows"),
                    time,
                )
                for output in result.get("outputs", ())
                for file, hash in output["parts"].items()
            ]

    def snapshot(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A source was looked at."""
        value = line["snapshot"]
        self._snapshots[clean(value["source"]), value["id"]] = value
        self.tables["snapshot_seen"].append((value["id"], clean(value["source"]), clean(line.get("run")), time, number))
        for file in value["files"]:  # a damaged line is found here, before anything is inserted
            _ = file["path"], file["hash"], file["bytes"]
        for column in value.get("columns", ()):
            _column("", "", 0, column)
        _ = value["rows"], value["bytes"]

    def checked(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A snapshot was held against the rules of its source."""
        where = clean(line["source"]), line["snapshot"]
        self.tables["checked"].append((*where, clean(line.get("run")), len(line["findings"]), time, number))
        self._findings(line["findings"], where, "", time, number)

    def _findings(
        self, found: Sequence[Mapping[str, Any]], where: tuple[str, str], run: str, time: datetime, number: int
    ) -> None:
        """What breaks rules: of a source's snapshot, or of a model in the run that made its features."""
        self.tables["finding"] += [
            (
                *where,
                clean(item["rule"]),
                clean(item["severity"]),
                [clean(column) for column in item["columns"]],
                item["failed"],
                item["rows"],
                clean(item.get("note")),
                text(item.get("samples") or []),
                time,
                number,
                clean(item.get("model")),
                run,
            )
            for item in found
        ]

    def snapshot_tag(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A name was given to a snapshot, or taken from it."""
        row = clean(line["source"]), clean(line["name"]), line["snapshot"], time, number
        self.tables["snapshot_tag"].append(row)

    def artifact(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A file was kept with a run."""
        self.tables["artifact"].append((line["run"], clean(line["path"]), line["object"], line.get("bytes"), time))

    def summary(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """Final values, with intervals where known."""
        low, high = line.get("low") or {}, line.get("high") or {}
        self.tables["summary"] += [
            (line["run"], clean(key), real(value), real(low.get(key)), real(high.get(key)), time, number)
            for key, value in line["values"].items()
        ]

    def tag(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A run was tagged."""
        self.tables["tag"].append((line["run"], clean(line["key"]), clean(line.get("value")), time, number))

    def untag(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A run's tag was taken off; the row stays, so that an older tag read later does not come back."""
        self.tables["tag"].append((line["run"], clean(line["key"]), None, time, number))

    def renamed(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A run was given another name."""
        self.tables["renamed"].append((line["run"], clean(line["name"]), time, number))

    def note(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """A note on a run."""
        self.tables["note"].append((line["run"], clean(line["text"]), time, number))

    def gap(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """Lines that could not be kept or read."""
        self.tables["gap"].append((line["r"], int(line["dropped"]), time))

    def event(self, journal: str, line: Mapping[str, Any], time: datetime, number: int) -> None:
        """Something worth telling in Home."""
        data = text(line.get("data") or {})
        self.tables["event"].append((clean(line.get("source")), clean(line.get("text")), data, time, number))


_Take = Callable[[Rows, str, Mapping[str, Any], datetime, int], None]

_KINDS: dict[str, _Take] = {
    events.RUN_STARTED: Rows.run_started,
    events.RUN_ENDED: Rows.run_ended,
    events.RUN_RESUMED: Rows.run_resumed,
    events.PARAMS: Rows.params,
    events.STEP_STARTED: Rows.step_started,
    events.STEP_ENDED: Rows.step_ended,
    events.SNAPSHOT: Rows.snapshot,
    events.CHECKED: Rows.checked,
    events.SNAPSHOT_TAG: Rows.snapshot_tag,
    events.ARTIFACT: Rows.artifact,
    events.SUMMARY: Rows.summary,
    events.TAG: Rows.tag,
    events.UNTAG: Rows.untag,
    events.RENAMED: Rows.renamed,
    events.NOTE: Rows.note,
    events.EVENT: Rows.event,
    events.GAP: Rows.gap,
}


def append(db: Db, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Append rows to a table of schema `store`."""
    if rows:
        with db.appender(f"store.{table}") as appender:
            appender.append_rows(rows)


def _column(snapshot: str, source: str, place: int, column: Mapping[str, Any]) -> tuple[Any, ...]:
    name, kind, nulls = clean(column["name"]), clean(column["type"]), column.get("nulls")
    low, high, mean = clean(column.get("min")), clean(column.get("max")), real(column.get("mean"))
    spread = (column.get("nans"), real(column.get("std")), list(column.get("quantiles") or ()))
    bins = (list(column.get("bins") or ()), real(column.get("bins_from")), real(column.get("bins_to")))
    more = (*spread, *bins, text(column.get("top") or []), list(column.get("lengths") or ()))
    return snapshot, source, place, name, kind, nulls, column.get("distinct"), low, high, mean, *more


def real(value: Any) -> float | None:
    """A number; NaN and infinity arrive as text."""
    return None if value is None else float(value)


def text(value: Any) -> str:
    """A JSON value as a table holds it: one that DuckDB reads too, which takes no half of a pair."""
    made = dumps(value)
    return _ESCAPED.sub(lambda found: "\\ufffd" if found[1] else found[0], made) if "\\ud" in made else made
