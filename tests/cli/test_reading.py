"""The reading commands on a store written as the program writes it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain import events
from mlops_local.domain.assets import ColumnProfile, FileEntry, GateResult, ModelVersion, Snapshot, Verdict
from mlops_local.domain.plan import StepResult, result_to_json
from mlops_local.services.project import Project, find
from mlops_local.store import cache, ledger
from mlops_local.store.journal import Journal, new_id

Mlops = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    """Two runs, two versions, one champion, two snapshots, and a log."""
    (folder / "mlops.toml").write_text('[project]\nname = "late"\n')
    made = find(folder, wait_s=10)
    ids = [_run(made, "amber-fox", 0.70, "aa", 1), _run(made, "bold-owl", 0.72, "bb", 2)]
    for number, (run, value) in enumerate(zip(ids, (0.70, 0.72), strict=True), start=1):
        ledger.append_version(made.layout, lambda n, run=run, value=value: _version(n, run, value))  # type: ignore[misc]
        judged = Verdict(f"delay@{number}", "", "pass", (GateResult("auc", "min 0.65", "pass"),))
        ledger.append(made.layout, events.VERDICT, judged.version, "pass", data=_json(judged))
    ledger.append(made.layout, events.ALIAS, "delay@champion", "delay@1", reason="first \x1b[31mversion")
    logs = made.layout.logs / ids[1]
    logs.mkdir()
    (logs / "gbm.log").write_text("first line\nlast \x1b[2J line\n")
    yield made
    made.store.close()


def _json(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _run(project: Project, name: str, auc: float, snapshot: str, minute: int) -> str:
    run = new_id(1_770_000_000_000_000 + minute * 60_000_000)
    journal = Journal.open(project.layout.journal)
    facts = {"commit": "", "dirty": False, "diff": "", "env": {}, "python": "3.11", "host": "h", "pid": 1, "argv": []}
    journal.state(events.RUN_STARTED, run=run, name=name, kind="train", targets=["gbm"], message="m\x07sg", **facts)
    journal.state(events.PARAMS, run=run, values={"gbm.num_leaves": 31 * minute})
    files = (FileEntry("data/a.csv", snapshot * 32, 10, 5),)
    columns = (ColumnProfile("carrier", "String", distinct=2, min="AA", max="UA"),)
    taken = Snapshot(snapshot * 32, "flights", files, columns=columns, rows=5, bytes=10)
    journal.state(events.SNAPSHOT, run=run, snapshot=cache.snapshot_to_json(taken))
    journal.metric(run, "auc", auc)
    journal.metric(run, "bad", float("nan"))
    journal.state(events.RUN_ENDED, run=run, state="done", error="", seconds=61.0)
    journal.close()
    return run


def _version(number: int, run: str, value: float) -> ModelVersion:
    return ModelVersion(
        id=f"delay@{number}",
        model="delay",
        number=number,
        candidate="gbm",
        run=run,
        fingerprint=f"f{value}",
        bundle={},
        bundle_hash=f"b{value}",
        predictions="",
        evaluation="rows",
        metric="auc",
        value=value,
        low=value - 0.01,
        high=value + 0.01,
    )


def _ok(shown: subprocess.CompletedProcess[str]) -> str:
    assert (shown.returncode, shown.stderr) == (0, ""), shown.stderr
    assert "\x1b" not in shown.stdout and "\x07" not in shown.stdout
    return shown.stdout


def test_status_and_bare_mlops_show_the_same_page(project: Project, mlops: Mlops) -> None:
    """The champion with its interval, the newest runs, what to type next."""
    page = _ok(mlops("status"))
    assert page == _ok(mlops())
    assert "late: delay@1 is the champion, auc 0.7000 [0.690, 0.710]" in page
    assert "bold-owl" in page and "delay@2 passed its gates and is not the champion" in page and "mlops serve" in page


def test_status_as_json(project: Project, here: Mlops) -> None:
    """Scripts read the same facts."""
    answer = json.loads(_ok(here("status", "--json")))
    assert answer["schema"] == "mlops/status@1" and answer["champions"][0]["version"] == "delay@1"
    assert [run["name"] for run in answer["runs"]] == ["bold-owl", "amber-fox"]
    assert answer == json.loads(_ok(here("--json", "status")))
    assert {"project", "attention", "next", "total_runs"} <= set(answer)


def test_runs_are_listed_filtered_and_counted(project: Project, here: Mlops) -> None:
    """A table for people, an envelope for programs; NaN is text."""
    table = _ok(here("runs"))
    assert table.splitlines()[0].split()[:4] == ["id", "name", "state", "started"] and "1 min 1 s" in table
    answer = json.loads(_ok(here("runs", "-w", "metric.auc > 0.71", "--json")))
    assert answer["schema"] == "mlops/runs@1" and answer["total"] == 1
    assert answer["items"][0]["name"] == "bold-owl" and answer["items"][0]["metrics"] == {"auc": 0.72, "bad": "NaN"}
    assert _ok(here("runs", "-w", "state = failed")) == "no run matches\n"
    assert [line.split()[1] for line in _ok(here("runs", "--sort", "metric.auc", "--limit", "1")).splitlines()[1:2]] == [
        "amber-fox"
    ]


def test_a_typo_in_a_filter_is_a_usage_error(project: Project, here: Mlops) -> None:
    """Exit 2 and the nearest field."""
    shown = here("runs", "-w", "metric.acu > 0.7")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "error: no run has 'metric.acu'\nhint: did you mean 'metric.auc'?\n"


@pytest.mark.parametrize(
    ("ref", "schema", "field", "word"),
    [
        ("@latest", "mlops/run@1", "run", "bold-owl"),
        ("delay@champion", "mlops/version@1", "version", "auc"),
        ("flights@~1", "mlops/snapshot@1", "id", "data/a.csv"),
    ],
)
def test_show_tells_runs_versions_and_snapshots(
    project: Project, here: Mlops, ref: str, schema: str, field: str, word: str
) -> None:
    """One command shows whatever a reference names."""
    (project.root / "pipeline.py").write_text("")
    assert word in _ok(here("show", ref))
    answer = json.loads(_ok(here("show", ref, "--json")))
    assert answer["schema"] == schema and field in answer


def test_no_value_is_shown_where_private_columns_are_not_known(project: Project, here: Mlops) -> None:
    """The code that would name them does not import: a snapshot is shown all the same, without values."""
    (project.root / "pipeline.py").write_text("import nothing_of_this_name")
    shown = here("show", "flights@~1", "--json")
    assert shown.returncode == 0 and shown.stderr.startswith(
        "warning: no values are shown, as which columns are private is not known"
    )
    answer = json.loads(shown.stdout)
    (column,) = answer["columns"]
    assert (column["name"], column["distinct"], column["min"], column["max"]) == ("carrier", 2, "", "")


def test_an_ambiguous_reference_lists_its_candidates(project: Project, here: Mlops) -> None:
    """Exit 2; nothing is guessed."""
    _run(project, "bold-owl", 0.5, "cc", 3)
    shown = here("show", "bold-owl")
    assert shown.returncode == 2 and "'bold-owl' could be 2 things" in shown.stderr and shown.stderr.count("bold-owl") == 3


def test_show_tells_what_each_step_took(project: Project, here: Mlops) -> None:
    """Seconds, CPU seconds, peak memory, attempts and threads, for people and as JSON; a failed step's as far as known."""
    run = new_id(1_770_000_000_000_000)
    journal = Journal.open(project.layout.journal)
    journal.state(events.RUN_STARTED, run=run, name="calm-elk", kind="train", targets=[], message="")
    result = StepResult("fit", "f1", (), run, 90.0, 175.0, 250_000_000, threads=2, attempts=3)
    journal.state(events.STEP_STARTED, run=run, step="fit", reason="forced", fingerprint="f1")
    journal.state(events.STEP_ENDED, run=run, step="fit", state="done", result=result_to_json(result))
    failed = {"state": "failed", "error": "no", "seconds": 2.5, "cpu_seconds": 1.5, "peak_bytes": 7_000_000}
    journal.state(events.STEP_ENDED, run=run, step="late", **failed)
    journal.close()
    lines = [" ".join(line.split()) for line in _ok(here("show", "calm-elk")).splitlines()]
    assert lines[lines.index("Steps") + 1 :][:3] == [
        "step state took cpu memory tries threads because",
        "fit done 1 min 30 s 2 min 55 s 250 MB 3 2 forced",
        "late failed 2.5 s 1.5 s 7.0 MB no",
    ]
    steps = json.loads(_ok(here("show", "calm-elk", "--json")))["steps"]
    keys = ("seconds", "cpu_seconds", "peak_bytes", "attempts", "threads")
    assert [[step[key] for key in keys] for step in steps] == [[90, 175, 250_000_000, 3, 2], [2.5, 1.5, 7_000_000, None, None]]


def test_compare_shows_what_differs_and_exit_code_says_so(project: Project, here: Mlops) -> None:
    """Bare compare is the last two runs; `diff` is the same; --exit-code is 1 on a difference and 0 without."""
    page = _ok(here("compare"))
    assert "gbm.num_leaves" in page and "+0.0200" in page and "aaaaaaaa" in page and "Packages: none" in page
    assert page == _ok(here("diff", "@2", "@1"))
    assert here("compare", "@2", "@1", "--exit-code").returncode == 1
    assert here("compare", "@1", "@1", "--exit-code").returncode == 0
    answer = json.loads(_ok(here("compare", "--json")))
    assert answer["schema"] == "mlops/comparison@1" and len(answer["subjects"]) == 2


def test_logs_print_what_a_step_printed(project: Project, here: Mlops) -> None:
    """Whole, by step, or its tail; control characters are shown, not sent."""
    assert _ok(here("logs")) == "first line\nlast \\x1b[2J line\n"
    assert _ok(here("logs", "@latest", "gbm", "--tail", "1")) == "last \\x1b[2J line\n"
    silent = here("logs", "amber-fox")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "nothing was printed\n")


def test_sql_as_table_csv_and_json(project: Project, here: Mlops) -> None:
    """The same SELECT three ways; `-` reads it from stdin."""
    select = "select name, seconds, 9007199254740993 as big from run order by name"
    assert _ok(here("sql", select)).splitlines()[1].split() == ["amber-fox", "61", "9007199254740993"]
    rows = list(csv.reader(io.StringIO(_ok(here("sql", "-", "--csv", stdin=select)))))
    assert rows[:2] == [["name", "seconds", "big"], ["amber-fox", "61.0", "9007199254740993"]]
    answer = json.loads(_ok(here("sql", select, "--json")))
    assert answer["items"][0] == {"name": "amber-fox", "seconds": 61.0, "big": "9007199254740993"} and not answer["more"]


def test_sql_that_is_no_select_is_refused(project: Project, here: Mlops) -> None:
    """Exit 2, no trace of DuckDB's own stack."""
    shown = here("sql", "drop view run")
    assert shown.returncode == 2 and "only reads" in shown.stderr and "Traceback" not in shown.stderr


def test_sql_says_when_rows_were_left_out(project: Project, here: Mlops) -> None:
    """A cut table is never silent."""
    shown = here("sql", "select * from range(50)", "--limit", "10")
    assert len(shown.stdout.splitlines()) == 11 and "only the first 10 rows" in shown.stderr


def test_schema_names_tables_and_columns(project: Project, here: Mlops) -> None:
    """All tables, one table, a typo."""
    assert "metric_last" in _ok(here("schema"))
    lines = _ok(here("schema", "param")).splitlines()
    assert (
        lines[0] == "param: Parameters of runs."
        and lines[3].split()[:2] == ["run", "VARCHAR"]
        and lines[5].endswith("as JSON text")
    )
    assert here("schema", "rum").returncode == 2


def test_the_audit_lists_decisions_and_fails_when_one_was_altered(project: Project, here: Mlops) -> None:
    """Who decided what; a changed ledger is exit 6."""
    assert "delay@champion" in _ok(here("audit")) and "the chain is whole" in _ok(here("audit", "delay"))
    assert json.loads(_ok(here("audit", "--json")))["problems"] == []
    ledger_file = project.layout.ledger
    ledger_file.write_bytes(ledger_file.read_bytes().replace(b'"delay@1","reason":"first', b'"delay@2","reason":"first'))
    shown = here("audit")
    assert shown.returncode == 6 and "was altered" in shown.stderr


def test_an_empty_project_answers_every_reading_command(here: Mlops, folder: Path) -> None:
    """Before the first run nothing crashes: each says that there is nothing yet, or lists nothing."""
    (folder / "mlops.toml").write_text("")
    for arguments in (["status"], ["runs"], ["audit"], ["schema"], ["sql", "from run"]):
        assert here(*arguments).returncode == 0, arguments
    for arguments in (["show"], ["compare"], ["logs"]):
        shown = here(*arguments)
        assert shown.returncode == 2 and "runs" in shown.stderr and "Traceback" not in shown.stderr


def test_quiet_leaves_the_data(project: Project, here: Mlops) -> None:
    """-q silences talk, not answers."""
    assert _ok(here("runs", "-q")) == _ok(here("runs"))


def test_a_read_only_reader_meets_a_reader(project: Project, mlops: Mlops) -> None:
    """While this process reads, another reads too."""
    _ok(mlops("runs"))
    with project.store.reader():
        assert "bold-owl" in _ok(mlops("runs"))


def test_a_store_held_by_another_program_is_named_after_the_wait(project: Project, mlops: Mlops) -> None:
    """A foreign DuckDB client holds the file: exit 5, its name and pid; nothing hangs."""
    import sys

    _ok(mlops("runs"))
    code = "import duckdb, sys\nc = duckdb.connect(sys.argv[1])\nprint('open', flush=True)\ninput()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(project.layout.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        shown = mlops("runs", "--wait", "0")
        assert shown.returncode == 5 and str(holder.pid) in shown.stderr and "Traceback" not in shown.stderr
    finally:
        holder.communicate("\n", timeout=30)
    _ok(mlops("runs"))
