from __future__ import annotations

from typing import Any

import pytest

from mlops_local.domain.errors import UsageError
from mlops_local.services import audit, crash, history


def test_a_run_in_full(story: Any, make_result: Any, make_snapshot: Any) -> None:
    """Everything the run left: steps, parameters, metrics, data, versions, tags."""
    run = story.run(
        "amber-fox",
        params={"gbm.num_leaves": 31},
        metrics={"auc": 0.7},
        results=(make_result("split"), make_result("gbm")),
        snapshots=(make_snapshot("flights", "aa" * 32),),
        tags={"baseline": "yes"},
        message="first",
    )
    version = story.version("delay", 0.7, run=run)
    kind, detail = history.show(story.project, "amber-fox")
    assert kind == "run" and isinstance(detail, history.RunDetail)
    assert (detail.run.id, detail.run.message, detail.run.params, detail.run.metrics) == (
        run,
        "first",
        {"gbm.num_leaves": 31},
        {"auc": 0.7},
    )
    assert [(step.name, step.state) for step in detail.steps] == [("split", "done"), ("gbm", "done")]
    assert set(detail.results) == {"split", "gbm"} and detail.snapshots == {"flights": "aa" * 32}
    assert [item.id for item in detail.versions] == [version.id] and detail.tags == {"baseline": "yes"}
    assert detail.environment["argv"] == ["mlops"]


def test_a_version_in_full(story: Any) -> None:
    """A version with its verdict and the names it has."""
    version = story.version("delay", 0.7)
    story.champion(version)
    story.verdict(version, "pass", "")
    kind, detail = history.show(story.project, "delay@1")
    assert kind == "version" and isinstance(detail, history.VersionDetail)
    assert detail.version.id == version.id and detail.aliases == ("champion",)
    assert detail.verdict is not None and detail.verdict.verdict == "pass"


def test_a_snapshot_in_full(story: Any, make_snapshot: Any) -> None:
    """A snapshot with its files."""
    story.run("a", snapshots=(make_snapshot("flights", "aa" * 32, rows=7),))
    kind, found = history.show(story.project, "flights")
    assert kind == "snapshot" and found == make_snapshot("flights", "aa" * 32, rows=7)


def test_an_id_the_store_does_not_know_is_a_usage_error(story: Any) -> None:
    """Not a stack trace."""
    with pytest.raises(UsageError, match="knows no run"):
        history.detail(story.project, "0" * 32)


def test_logs_are_what_the_steps_printed(story: Any) -> None:
    """One log a step in the order they were written; one step by name; a wrong step names the nearest."""
    run = story.run("amber-fox")
    folder = story.project.layout.logs / run
    folder.mkdir()
    (folder / "split.log").write_bytes(b"one\ntwo\r\nbad \xff\n")
    (folder / "gbm.log").write_text("deep\n")
    logs = history.logs(story.project)
    assert [log.name for log in logs] == ["split", "gbm"] or {log.name for log in logs} == {"split", "gbm"}
    (only,) = history.logs(story.project, "amber-fox", step="split")
    assert list(history.read_log(only)) == ["one", "two", "bad \\xff"]
    assert list(history.read_log(only, tail=1)) == ["bad \\xff"]
    with pytest.raises(UsageError) as caught:
        history.logs(story.project, step="splt")
    assert "did you mean 'split'?" in caught.value.hint


def test_a_run_that_printed_nothing_has_no_logs(story: Any) -> None:
    """No folder is not an error."""
    story.run("amber-fox")
    assert history.logs(story.project) == []


def test_the_audit_tells_decisions_and_proves_their_chain(story: Any) -> None:
    """Lines about a model include its versions and aliases; an altered line is found."""
    version = story.version("delay", 0.7)
    story.champion(version)
    story.version("price", 0.5)
    whole = audit.audit(story.project)
    assert [line.kind for line in whole.lines] == ["version", "alias", "version"] and whole.problems == ()
    assert [line.subject for line in audit.audit(story.project, "delay").lines] == ["delay@1", "delay@champion"]
    assert [line.subject for line in audit.audit(story.project, limit=1).lines] == ["price@1"]
    ledger = story.project.layout.ledger
    ledger.write_bytes(ledger.read_bytes().replace(b'"passed its gates"', b'"because I say so"'))
    assert any("altered" in problem for problem in audit.audit(story.project).problems)


def test_a_crash_is_kept_and_the_log_stays_small(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracebacks are appended; a full log moves aside, five are kept."""
    monkeypatch.setattr(crash, "_LARGEST_BYTES", 10)
    for number in range(8):
        path = crash.record(story.project.root, f"Traceback {number}", version="0")
        assert path is not None and f"Traceback {number}" in path.read_text()
    kept = sorted(file.name for file in story.project.layout.logs.glob("crash.log*"))
    assert kept == ["crash.log", "crash.log.1", "crash.log.2", "crash.log.3", "crash.log.4"]
    assert "Traceback 3" in (story.project.layout.logs / "crash.log.4").read_text()


def test_without_a_project_a_crash_is_kept_nowhere(tmp_path: Any) -> None:
    """No folder is made outside a project."""
    assert crash.record(tmp_path, "Traceback", version="0") is None and list(tmp_path.iterdir()) == []
