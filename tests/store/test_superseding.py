from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain import events
from mlops_local.store import layout as layouts
from mlops_local.store import projection, superseding
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout

WORD = st.fixed_dictionaries(
    {
        "journal": st.integers(0, 2),
        "kind": st.sampled_from(["params", "tag", "untag", "renamed", "summary", "end"]),
        "run": st.sampled_from(["r1", "r2"]),
        "key": st.sampled_from(["a", "b"]),
        "value": st.integers(0, 9),
        "t": st.integers(1, 4),
    }
)


def _line(word: dict[str, Any], number: int) -> dict[str, Any]:
    head = {"v": 1, "t": word["t"], "n": number, "run": word["run"]}
    key, value = word["key"], word["value"]
    match word["kind"]:
        case "params":
            return {"k": events.PARAMS, **head, "values": {key: value}}
        case "tag":
            return {"k": events.TAG, **head, "key": key, "value": str(value)}
        case "untag":
            return {"k": events.UNTAG, **head, "key": key}
        case "renamed":
            return {"k": events.RENAMED, **head, "name": f"name {value}"}
        case "summary":
            return {"k": events.SUMMARY, **head, "values": {key: value}}
        case _:
            return {"k": events.RUN_ENDED, **head, "state": "done" if value % 2 else "failed", "seconds": value}


def _expected(lines: list[dict[str, Any]]) -> dict[str, set[tuple[Any, ...]]]:
    newest: dict[tuple[str, ...], tuple[tuple[int, int], Any]] = {}
    for line in lines:
        kind = "tag" if line["k"] == events.UNTAG else line["k"]
        for key, value in (
            line.get("values") or {line.get("key", ""): line.get("value", line.get("name", line.get("state")))}
        ).items():
            place = (kind, line["run"], key)
            newest[place] = max(newest.get(place, ((0, 0), None)), ((line["t"], line["n"]), value), key=lambda item: item[0])
    found: dict[str, set[tuple[Any, ...]]] = {"params": set(), "tag": set(), "summary": set(), "name": set(), "state": set()}
    for run in ("r1", "r2"):
        found["name"].add((run, newest.get(("renamed", run, ""), (0, "as begun"))[1]))
        found["state"].add((run, newest.get((events.RUN_ENDED, run, ""), (0, "crashed"))[1]))
    for (kind, run, key), (_, value) in newest.items():
        if kind in found and value is not None:
            found[kind].add((run, key, str(value)))
    return found


@settings(max_examples=10)
@given(words=st.lists(WORD, max_size=14), cut=st.integers(0, 14))
def test_the_newest_word_stands_however_it_is_folded(words: list[dict[str, Any]], cut: int, tmp_path_factory: Any) -> None:
    """Parameters, tags, summaries, names and ends are the newest said, folded at once, in pieces or anew."""
    layout = Layout(tmp_path_factory.mktemp("newest"))
    layouts.create(layout)
    store = Store(layout, wait_s=20)
    began = [{"k": events.RUN_STARTED, "v": 1, "t": 1, "n": place, "run": run, "name": "as begun", "kind": "train"}
             for place, run in enumerate(["r1", "r2"])]  # fmt: skip
    lines = [_line(word, number) for number, word in enumerate(words, start=2)]
    try:
        for upto in (cut, len(words)):
            for journal in range(3):
                own = [line for word, line in zip(words[:upto], lines[:upto], strict=True) if word["journal"] == journal]
                text = "".join(json.dumps(line) + "\n" for line in ([*began, *own] if journal == 0 else own))
                (layout.journal / f"{journal:032x}.state.jsonl").write_text(text)
            if upto < len(words):
                _fold_alive(store)
        projection.fold(store)
        once = _views(store)
        projection.rebuild(store)
        assert once == _views(store) == _expected(lines)
    finally:
        store.close()


def _fold_alive(store: Store) -> None:
    """Fold while the writers live, so that they may write on."""
    import fcntl

    files = [path.open() for path in store.layout.journal.glob("*.state.jsonl")]
    for file in files:
        fcntl.flock(file, fcntl.LOCK_EX)
    projection.fold(store)
    for file in files:
        file.close()


def _views(store: Store) -> dict[str, set[tuple[Any, ...]]]:
    queries = {
        "params": "SELECT run, name, value FROM param",
        "tag": "SELECT run, key, value FROM tag",
        "summary": "SELECT run, key, CAST(CAST(value AS BIGINT) AS VARCHAR) FROM metric_last",
        "name": "SELECT id, name FROM run",
        "state": "SELECT id, state FROM run",
    }
    with store.reader() as db:
        return {name: set(db.execute(query).fetchall()) for name, query in queries.items()}


def test_tables_of_an_older_form_are_brought_to_it(store: Store) -> None:
    """What the migration does to a file that held every word: the newest stays, a run's own word before `crashed`."""
    with store.writer() as db:
        db.execute("INSERT INTO store.param SELECT 'r', 'a', i, make_timestamp(i), 0 FROM range(5) t(i)")
        db.execute(
            "INSERT INTO store.run_end VALUES ('r', 'done', '', 1, make_timestamp(1), 0), ('r', 'crashed', '', 1, now(), 0)"
        )
        superseding.settle(db, ("param", "tag", "summary", "run_end"))
        assert db.execute("SELECT value FROM store.param").fetchall() == [("4",)]
        assert db.execute("SELECT state FROM store.run_end").fetchall() == [("done",)]
