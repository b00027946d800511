from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mlops_local.domain.assets import GateResult
from mlops_local.services.status import alive, status


def _texts(story: Any) -> list[str]:
    return [item.text for item in status(story.project).attention]


def test_a_new_project_says_how_to_begin(story: Any) -> None:
    """Nothing there: no error, the next sensible commands."""
    answer = status(story.project)
    assert (answer.project, answer.champions, answer.runs, answer.total_runs, answer.attention) == ("late", (), (), 0, ())
    assert answer.next[0].command == "mlops run python train.py"
    (story.project.root / "pipeline.py").write_text("")
    assert [item.command for item in status(story.project).next] == ["mlops plan", "mlops train"]


def test_scripts_alone_are_not_told_to_train(story: Any) -> None:
    """There is nothing to watch; how a script becomes a step is said instead."""
    story.run("amber-fox")
    alone = status(story.project)
    assert [item.command for item in alone.next] == ["mlops init --script train.py", "mlops ui"] and not alone.trains
    (story.project.root / "pipeline.py").write_text("")
    trains = status(story.project)
    assert [item.command for item in trains.next] == ["mlops train", "mlops watch", "mlops ui"] and trains.trains


def test_the_champion_is_shown_with_its_metric_and_interval(story: Any) -> None:
    """What is wished to be served, how good it is, and that nothing serves it."""
    version = story.version("delay", 0.72, run=story.run("amber-fox"))
    story.champion(version)
    (champion,) = status(story.project).champions
    assert (champion.version, champion.metric, champion.value, champion.served) == ("delay@1", "auc", 0.72, None)
    assert champion.low == pytest.approx(0.71) and champion.high == pytest.approx(0.73)
    assert "mlops serve" in [item.command for item in status(story.project).next]


def test_a_server_is_served_while_its_process_lives(story: Any) -> None:
    """A deployment whose process runs is alive; when it is gone, that needs attention."""
    version = story.version("delay", 0.72)
    story.champion(version)
    server = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    story.deployed(version, pid=server.pid, port=9000)
    served = status(story.project).champions[0].served
    assert served is not None and served.alive and (served.version, served.port) == ("delay@1", 9000)
    server.communicate(b"\n", timeout=30)
    served = status(story.project).champions[0].served
    assert served is not None and not served.alive
    assert any("9000" in text and "gone" in text for text in _texts(story))
    story.deployed(version, pid=server.pid, event="stopped", port=9000)
    assert status(story.project).champions[0].served is None


def test_a_rejected_swap_leaves_what_is_served(story: Any) -> None:
    """A version that failed to load never counts as deployed; champion and deployment differ, and that is said."""
    first, second = story.version("delay", 0.72), story.version("delay", 0.73)
    story.champion(first)
    story.deployed(first, pid=os.getpid())
    story.champion(second)
    story.deployed(second, pid=os.getpid(), event="rejected")
    served = status(story.project).champions[0].served
    assert served is not None and served.version == first.id
    assert "delay@1 is served, but the champion is delay@2" in _texts(story)


def test_another_process_with_the_same_number_is_not_the_server() -> None:
    """A pid that was given out anew after the server ended is not alive as that server."""
    now = datetime.now(timezone.utc)
    assert alive(os.getpid(), since=now.isoformat())
    assert not alive(os.getpid(), since=(now - timedelta(days=365)).isoformat())
    assert not alive(0) and not alive(2**22 + 1)


def test_crashed_and_failed_runs_need_attention(story: Any) -> None:
    """A run whose process died without a word is named, as is a newest run that failed."""
    story.run("amber-fox", state="crashed")
    story.run("bold-owl", state="failed")
    texts = _texts(story)
    assert any("amber-fox crashed" in text for text in texts) and any("bold-owl failed: it broke" in text for text in texts)
    story.run("calm-elk")
    assert not any("bold-owl" in text for text in _texts(story))


def test_a_running_run_is_running(story: Any) -> None:
    """A live writer is not a crash."""
    story.run("amber-fox", state=None)
    answer = status(story.project)
    assert answer.runs[0].state.value == "running" and answer.attention == ()


def test_a_failed_verdict_is_told_with_its_numbers(story: Any) -> None:
    """The newest version did not pass: by how much, against whom, and how to look."""
    champion, worse = story.version("delay", 0.72), story.version("delay", 0.66)
    story.champion(champion)
    story.verdict(worse, "fail", champion.id, GateResult("auc", "max_drop 0.005", "fail", difference=-0.055))
    (attention,) = status(story.project).attention
    assert attention.text == "delay@2: failed its gates: auc -0.0550 against delay@1 (max_drop 0.005)"
    assert attention.command == "mlops compare delay@1 delay@2"


def test_a_version_that_waits_for_promotion_is_named(story: Any) -> None:
    """promote = "manual": a pass that nobody acted on is not forgotten."""
    champion, better = story.version("delay", 0.72), story.version("delay", 0.74)
    story.champion(champion)
    story.verdict(better, "pass", champion.id)
    assert [item.command for item in status(story.project).attention] == ["mlops model promote delay@2"]


def test_code_edited_after_the_last_training_is_named(story: Any) -> None:
    """Saved later than trained: `mlops plan` says what it means. Tests, hidden folders and environments do not count."""
    root = story.project.root
    (root / "pipeline.py").write_text("x = 1\n")
    story.run("amber-fox")
    past = time.time() - 1000
    os.utime(root / "pipeline.py", (past, past))
    os.utime(root / "mlops.toml", (past, past))
    assert status(story.project).attention == ()
    future = time.time() + 60
    for other in ("tests/test_it.py", ".hidden/a.py", "env/lib/b.py"):
        (root / other).parent.mkdir(parents=True)
        (root / other).write_text("")
        os.utime(root / other, (future, future))
    (root / "env" / "pyvenv.cfg").write_text("")
    assert status(story.project).attention == ()
    os.utime(root / "pipeline.py", (future, future))
    (attention,) = status(story.project).attention
    assert (attention.text, attention.command) == ("pipeline.py edited since the last training", "mlops plan")


def test_the_kept_answer_is_never_older_than_the_store(story: Any) -> None:
    """Status answers from a small file when nothing is new, and from the store as soon as something is."""
    story.run("amber-fox")
    assert [run.name for run in status(story.project).runs] == ["amber-fox"]
    kept = story.project.layout.cache / "recent.json"
    before = kept.read_bytes()
    assert [run.name for run in status(story.project).runs] == ["amber-fox"] and kept.read_bytes() == before
    story.run("bold-owl", metrics={"auc": 0.7})
    answer = status(story.project)
    assert [run.name for run in answer.runs] == ["bold-owl", "amber-fox"] and answer.runs[0].metrics == {"auc": 0.7}
    kept.write_bytes(b"{ torn")
    assert status(story.project) == answer


def test_status_with_nothing_new_loads_no_duckdb(story: Any) -> None:
    """The second status in a row costs a few stats and two small files."""
    story.run("amber-fox")
    status(story.project)
    code = (
        "import sys\nfrom pathlib import Path\nfrom mlops_local.services.project import find\n"
        "from mlops_local.services.status import status\n"
        f"assert status(find(Path({str(story.project.root)!r}))).runs[0].name == 'amber-fox'\n"
        "print([name for name in ('duckdb', 'polars', 'numpy') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"


def test_an_edit_needs_attention_where_it_means_something(story: Any) -> None:
    """A comment: silent. A changed body: the steps to run are named, without starting anything; a constant: after a plan."""
    from mlops_local.services import planning
    from mlops_local.services.train import train

    pipeline = story.project.root / "pipeline.py"
    code = (
        "import mlops_local as mlops\n\nSIZE = 3\n\n\n@mlops.step\ndef numbers() -> list[int]:\n    return list(range(SIZE))\n"
    )

    def edit(text: str) -> None:
        pipeline.write_text(text)
        future = time.time() + 60
        os.utime(pipeline, (future, future))

    pipeline.write_text(code)
    train(story.project)
    edit(code + "# a remark\n")
    assert status(story.project).attention == ()
    named = ("steps to run after an edit: numbers", "mlops train")
    edit(code.replace("range(SIZE)", "range(SIZE + 1)"))
    assert [(item.text, item.command) for item in status(story.project).attention] == [named]
    edit(code.replace("SIZE = 3", "SIZE = 4"))
    assert [item.command for item in status(story.project).attention] == ["mlops plan"]
    assert [decision.name for decision in planning.plan(story.project).stale] == ["numbers"]
    assert [(item.text, item.command) for item in status(story.project).attention] == [named]
