"""tag, note, rename, rm and the lists of runs, in this process: what is printed, where, and the exit code."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_local.cli import main
from mlops_local.domain import events
from mlops_local.services.project import find
from mlops_local.store.journal import Journal, new_id

HOSTILE = "x'; DROP TABLE store.run_start; --\x1b[2J\u202e|\n<b>"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Three runs: two seeds of one rate, one of another with hostile names; and a way to call `mlops` on them."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "late"\n')
    project = find(tmp_path, wait_s=10)
    journal = Journal.open(project.layout.journal)
    for minute, (name, rate, auc) in enumerate([("amber", 0.1, 0.70), ("bold", 0.1, 0.72), (HOSTILE, 0.3, 0.74)]):
        run = new_id(1_770_000_000_000_000 + minute * 60_000_000)
        journal.passing(events.RUN_STARTED, run=run, name=name, kind="script", message=name)
        journal.passing(events.PARAMS, run=run, values={"lr": rate, "same": 1, **({HOSTILE: HOSTILE} if minute == 2 else {})})
        journal.metric(run, "auc", auc)
        if minute == 2:
            journal.passing(events.TAG, run=run, key=HOSTILE, value=HOSTILE)
            journal.metric(run, HOSTILE, 1.0)
        journal.state(events.RUN_ENDED, run=run, state="done", seconds=1.0)
    journal.close()

    def mlops(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["-C", str(tmp_path), *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    yield mlops
    project.store.close()


def _harmless(text: str) -> bool:
    return not any(character in text for character in "\x1b\u202e\x07")


def test_a_removal_is_said_before_it_is_done_and_can_be_taken_back(call: Call) -> None:
    """Nobody can answer here: without --yes nothing happens; then it is gone from the list, and comes back."""
    code, out, err = call("rm", "amber")
    assert code == 0 and out.startswith("would be removed: ") and "--yes" in err
    assert "amber" in call("runs")[1]
    code, out, err = call("rm", "amber", "--yes", "--reason", "a mistake")
    assert code == 0 and f"mlops rm --undo {out.split()[1]}" in err
    assert "amber" not in call("runs")[1] and call("show", "amber")[0] == 2
    assert "a mistake" in call("audit")[1]
    code, out, _ = call("rm", "--undo", "amber", "--json")
    assert code == 0 and json.loads(out)["items"][0]["name"] == "amber" and "amber" in call("runs")[1]


def test_tags_notes_and_names_show_up(call: Call) -> None:
    """Set, shown, filtered by, taken off; hostile ones as escapes."""
    assert call("tag", "amber", "team=a", f"{HOSTILE.replace('=', '')}={HOSTILE}")[0] == 0
    code, out, _ = call("tag", "amber")
    assert code == 0 and "team" in out and _harmless(out)
    assert call("tag", "amber", "--remove", "team")[0] == 0
    assert call("tag", "amber", "--remove", "team")[0] == 2
    assert call("tag", "bold") == (0, "", "no tags\n")
    assert call("note", "amber", HOSTILE)[0] == 0 and call("rename", "amber", "first " + HOSTILE.replace("@", ""))[0] == 0
    code, out, err = call("show", "@3")
    assert code == 0 and "first x'; DROP TABLE" in out and _harmless(out + err)


def test_runs_in_every_form(call: Call) -> None:
    """A table, groups over seeds, chosen columns, CSV that reads back, Markdown whose cells stay cells, JSON."""
    short, full = (
        call("runs", "--group-by", "lr", "--sort", "-auc"),
        call("runs", "--group-by", "param.lr", "--sort", "-metric.auc"),
    )
    assert short == full and [line.split()[0] for line in short[1].splitlines()] == ["lr", "0.3", "0.1"]
    out = call("runs", "--group-by", "lr", "--columns", "auc")[1]
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["0.1", "2", "0.7100", "±", "0.0141"],
        ["0.3", "1", "0.7400"],
    ]
    groups = json.loads(call("runs", "--group-by", "lr", "--columns", "auc", "--json")[1])
    assert groups["schema"] == "mlops/groups@1" and groups["items"][0]["metric.auc.count"] == 2
    out = call("runs", "-w", "lr = 0.1", "--columns", "name,lr,auc")[1]
    assert [line.split() for line in out.splitlines()] == [
        ["name", "lr", "auc"],
        ["bold", "0.1", "0.7200"],
        ["amber", "0.1", "0.7000"],
    ]
    rows = list(csv.DictReader(io.StringIO(call("runs", "--csv", "--sort", "auc")[1])))
    assert [row["metric.auc"] for row in rows] == ["0.7", "0.72", "0.74"] and rows[2][f"param.{HOSTILE}"] == HOSTILE
    assert [row["name"] for row in csv.DictReader(io.StringIO(call("runs", "--csv", "--only-changed")[1]))][1] == "bold"
    out = call("runs", "--only-changed", "--md")[1]
    assert "lr" in out.splitlines()[0] and "same" not in out.splitlines()[0]
    assert _harmless(out) and len({line.replace("\\|", "").count("|") for line in out.splitlines()}) == 1 and "<b>" not in out
    fields = json.loads(call("runs", "--columns", "auc", "--json", "--limit", "1")[1])
    assert fields["items"] == [{"metric.auc": 0.74}] and fields["total"] == 3


def test_hostile_names_are_shown_harmless_everywhere(call: Call) -> None:
    """Names, parameters, metrics and tags with SQL and terminal escapes in them change nothing and move no cursor."""
    for arguments in (
        ["runs"],
        ["show", "@1"],
        ["compare", "@2", "@1"],
        ["sql", "from run"],
        ["sql", "from tag", "--md"],
        ["runs", "--group-by", "name"],
    ):
        code, out, err = call(*arguments)
        assert code == 0 and _harmless(out + err) and "DROP TABLE" in out, arguments
    quoted = HOSTILE.replace("'", "''")
    assert len(json.loads(call("runs", "--json", "-w", f"name = '{quoted}'")[1])["items"]) == 1
    code, _, err = call("runs", "-w", f"metric.{HOSTILE}")
    assert code == 2 and _harmless(err)


@pytest.mark.parametrize(
    "arguments", [["--json", "--csv"], ["--group-by", "lr", "--only-changed"], ["--sort", "acu"], ["--columns", "acu"]]
)
def test_what_runs_cannot_show_is_a_usage_error(call: Call, arguments: list[str]) -> None:
    """Two formats at once, a name no run has: exit 2, nothing on stdout."""
    code, out, err = call("runs", *arguments)
    assert code == 2 and out == "" and "error" in err


def test_sql_writes_parquet_and_gives_up_in_time(call: Call, tmp_path: Path) -> None:
    """The rows are in the file, the talk on stderr."""
    target = tmp_path / "rows.parquet"
    code, out, err = call("sql", "from run", "--parquet", str(target))
    assert (code, out) == (0, "") and "3 rows" in err and target.read_bytes()[:4] == b"PAR1"
    code, _, err = call(
        "sql", "select count(*) from range(1000000) a, range(1000000) b where hash(a, b) = 1", "--timeout", "0.2"
    )
    assert code == 2 and "not done after 0.2 s" in err
