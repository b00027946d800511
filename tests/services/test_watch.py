"""A real project watched by the real watcher: real saves, real runs."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_local.domain.progress import Progress
from mlops_local.services.project import find
from mlops_local.services.watch import watch
from mlops_local.store import cache, newest, objects, registry
from mlops_local.store.layout import Layout
from tests.conftest import MadeOnce
from tests.e2e.conftest import CORE, Shop, train_shop, visits

WITHIN_S = 60.0
SMALL = """\
import sys
import mlops_local as mlops

@mlops.step
def number():
    return 1
"""


class Watched(Shop):
    """A project under a watcher in this process; `lines` is what it said."""

    def __init__(self, root: Path, *, smoke: bool = False, polling: bool = False) -> None:
        super().__init__(root)
        self.smoke = smoke
        self.polling = polling
        self.events: list[Progress] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        try:
            watch(find(self.root), smoke=self.smoke, polling=self.polling, emit=self._take, stop=self._stop)
        except BaseException as error:  # noqa: BLE001  (shown by the test that waits)
            self._error = error
            with self._changed:
                self._changed.notify_all()

    def _take(self, event: Progress) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive(), "the watcher did not stop"
        if self._error is not None:
            raise self._error

    def lines(self) -> list[Progress]:
        """The events that are a change's one line."""
        return [event for event in self.events if event.kind == "watch"]

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Wait until a condition holds for what was said."""
        with self._changed:
            return self._changed.wait_for(lambda: condition() or self._error is not None, timeout=WITHIN_S)

    def said(self, text: str, *, state: str = "", kind: str = "watch") -> Progress:
        """Wait for a line with this text; return it and forget everything up to it."""

        def found() -> Progress | None:
            for event in self.events:
                if event.kind == kind and text in event.text and (not state or event.data.get("state") == state):
                    return event
            return None

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or self._error is not None, timeout=WITHIN_S)
            event = found()
            assert event is not None, f"{text!r} was not said but: {[item.text for item in self.events]}, {self._error!r}"
            del self.events[: self.events.index(event) + 1]
            return event


@pytest.fixture
def copy(made_once: MadeOnce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained project of its own."""
    monkeypatch.setenv("PYTHONPATH", str(CORE))
    trained_once = made_once("trained-shop", train_shop)
    return Path(shutil.copytree(trained_once, tmp_path / "shop", symlinks=True))


@pytest.fixture
def watched(copy: Path) -> Iterator[Watched]:
    """A trained project under a watcher that has said that there is nothing to do."""
    with Watched(copy) as made:
        first = made.said("nothing to do, 5 steps fresh")
        assert "watching ., data" in first.text
        yield made


def test_an_edit_that_means_nothing_says_so(watched: Watched) -> None:
    """A comment in the pipeline or a helper, a docstring, a reordered mlops.toml: one line, no run."""
    watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # a comment")
    watched.said("pipeline.py · nothing to do, 5 steps fresh", state="nothing")
    watched.edit("cleaning.py", '    """Centre a column."""\n', "")
    watched.said("cleaning.py · nothing to do, 5 steps fresh")
    (watched.root / "mlops.toml").write_text("# x\n" + (watched.root / "mlops.toml").read_text())
    watched.said("mlops.toml · nothing to do, 5 steps fresh")
    assert len(watched.json("runs")["items"]) == 1


def test_an_edit_runs_what_depends_on_it_and_says_what_it_did(watched: Watched) -> None:
    """One line names what changed, ran and was reused, the metric, the difference to the champion and the verdict."""
    watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 40")
    line = watched.said("pipeline.py · ran gbm, gbm.evaluate", state="done").text
    assert "reused 3" in line
    assert "purchase@2 auc 0." in line and "against purchase@1" in line
    assert "pass, champion" in line or "purchase@1 stays champion" in line
    watched.edit("cleaning.py", "return column - mean", "return column - mean / 2")
    assert "cleaning.py · ran purchase.features" in watched.said("cleaning.py ·").text


def test_the_same_bytes_again_are_no_change(watched: Watched) -> None:
    """Touching a file, or writing what is there, does nothing at all."""
    for name in ("pipeline.py", "data/visits-1.parquet", "mlops.toml"):
        content = (watched.root / name).read_bytes()
        (watched.root / name).write_bytes(content)
    (watched.root / "unrelated.py").write_text("A = 1\n")
    (watched.root / "data" / "notes.txt").write_text("not data of the project\n")
    time.sleep(1.5)
    watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # now")
    watched.said("pipeline.py · nothing to do")
    assert watched.lines() == []


def test_data_parameters_and_new_modules_wake_it(watched: Watched) -> None:
    """A new file of a source, a parameter in mlops.toml, a module the pipeline begins to import: each runs what it affects."""
    visits(300, first_day=21, days=2, seed=2).write_parquet(watched.root / "data" / "visits-2.parquet")
    assert "ran split" in watched.said("data/visits-2.parquet ·", state="done").text
    with (watched.root / "mlops.toml").open("a") as file:
        file.write("\n[params.gbm]\nleaves = 5\n")
    assert "ran gbm, gbm.evaluate" in watched.said("mlops.toml ·", state="done").text
    watched.edit("pipeline.py", "from cleaning import scale\n", "from cleaning import scale\nfrom rounds import ROUNDS\n")
    failed = watched.said("rounds", state="failed")
    assert "ModuleNotFoundError" in failed.text + str(failed.data)
    (watched.root / "rounds.py").write_text("ROUNDS = 20\n")
    watched.said("rounds.py ·", state="done")
    (watched.root / "rounds.py").write_text("ROUNDS = 21\n")
    watched.said("rounds.py ·", state="done")


def test_a_save_during_a_run_ends_it_and_starts_anew(watched: Watched) -> None:
    """The run in progress is cancelled, the newest code is what is trained; a comment meanwhile lets the run go on."""
    watched.edit("pipeline.py", "    options = {", "    import time\n    time.sleep(60)\n    options = {")
    watched.said("gbm:", kind="step_started")
    watched.edit("cleaning.py", '    """Centre a column."""\n', "")
    watched.said("cleaning.py · means the same, the run goes on", state="same")
    watched.edit("pipeline.py", "    time.sleep(60)\n", "    time.sleep(0.01)\n")
    watched.said("pipeline.py · the run is ended and begun anew", state="superseded")
    watched.said("pipeline.py · ran gbm", state="done")
    states = [run["state"] for run in watched.json("runs")["items"]]
    assert states[:2] == ["done", "cancelled"]


def test_a_step_that_a_save_does_not_affect_goes_on(watched: Watched) -> None:
    """A save that affects only later steps waits for the one in progress, which is reused; taking it back lets all go on."""
    wait = "    import pathlib, time\n    while not pathlib.Path('go').exists():\n        time.sleep(0.01)\n"
    watched.edit("pipeline.py", '    rows = visits.sort("id")\n', wait + '    rows = visits.sort("id")\n')
    watched.said("split:", kind="step_started")
    watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    watched.said("pipeline.py · begun anew after split, which it does not affect", state="waits")
    watched.edit("pipeline.py", "ROUNDS = 31", "ROUNDS = 30")
    watched.said("pipeline.py · means the same, the run goes on", state="same")
    watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = = 30")
    watched.said("invalid syntax; the run goes on", state="broken")
    watched.edit("pipeline.py", "ROUNDS = = 30", "ROUNDS = 31")
    watched.said("begun anew after split", state="waits")
    (watched.root / "go").touch()
    line = watched.said("pipeline.py · ran gbm, gbm.evaluate · reused 3", state="done")
    assert line.data["ran"] == ["gbm", "gbm.evaluate"]


def test_a_sample_comes_first_and_counts_for_nothing(copy: Path) -> None:
    """With smoke an edit runs on 5 % of the rows, then on all; the sample makes no version and is no step's newest result."""
    (copy / "data" / "visits-1.parquet").unlink()
    visits(20_000).write_parquet(copy / "data" / "visits-1.parquet")
    with Watched(copy, smoke=True) as watched:
        first = watched.said("on 5% of the rows: ran split", state="smoke").data
        assert first["measured"]["gbm"]["auc"] > 0.5
        full = watched.said("ran split", state="done").data
        assert full["models"][0]["version"] == "purchase@2"
        watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # a comment")
        watched.said("pipeline.py · nothing to do", state="nothing")
        watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
        assert watched.said("pipeline.py · on 5%", state="smoke").data["ran"] == ["gbm", "gbm.evaluate"]
        assert "pipeline.py · ran gbm" in watched.said("pipeline.py ·", state="done").text
        kinds = {run["id"]: run["kind"] for run in watched.json("runs")["items"]}
        assert list(kinds.values()) == ["train", "smoke", "train", "smoke", "train"]
        versions = registry.load(Layout(copy)).versions.values()
        assert [kinds[version.run] for version in versions] == ["train"] * 3
    newest = cache.latest(Layout(copy), "split")
    assert newest is not None and sum(output.rows or 0 for output in newest.outputs) == 20_000


def test_nothing_the_user_breaks_ends_it(watched: Watched) -> None:
    """A syntax error, a failing step, a broken mlops.toml and a deleted data file are shown; the mended file goes on."""
    good = (watched.root / "pipeline.py").read_text()
    (watched.root / "pipeline.py").write_text(good.replace("ROUNDS = 30", "ROUNDS = = 30"))
    broken = watched.said("pipeline.py", state="failed")
    assert "pipeline.py" in broken.text and broken.data["hint"] == "mend it and save the file"
    (watched.root / "pipeline.py").write_text(good)
    watched.said("nothing to do", state="nothing")

    (watched.root / "pipeline.py").write_text(
        good.replace("    options = {", "    raise ValueError('no luck')\n    options = {")
    )
    failed = watched.said("step gbm failed", state="failed")
    assert "no luck" in failed.data["traceback"] and "pipeline.py" in failed.data["traceback"]
    assert "mlops_local" not in failed.data["traceback"], "our own frames are cut off"
    (watched.root / "pipeline.py").write_text(good)
    watched.said("nothing to do", state="nothing")

    config = (watched.root / "mlops.toml").read_text()
    (watched.root / "mlops.toml").write_text("[project\n")
    watched.said("mlops.toml is not valid TOML", state="failed")
    (watched.root / "mlops.toml").write_text(config)
    watched.said("nothing to do", state="nothing")

    data = watched.root / "data" / "visits-1.parquet"
    content = data.read_bytes()
    data.unlink()
    assert "no file matches" in watched.said("data/visits-1.parquet ·", state="failed").text
    data.write_bytes(content)
    watched.said("nothing to do", state="nothing")


@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "no watches left"])
def test_polling_goes_all_the_way(asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save is found by looking, with --poll and when the kernel has no more watches to give; the latter is said."""
    from watchdog.observers import inotify_c

    def refuse(*arguments: object) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    if not asked:
        monkeypatch.setattr(inotify_c, "inotify_add_watch", refuse)
    (tmp_path / "mlops.toml").write_text('[project]\nname = "polled"\n')
    (tmp_path / "pipeline.py").write_text(SMALL)
    with Watched(tmp_path, polling=asked) as watched:
        watched.said("ran number", state="done")
        if not asked:
            limit = watched.said("the system's limit of file watches is reached", kind="warning")
            assert limit.data["hint"] == "raise fs.inotify.max_user_watches"
        (tmp_path / "pipeline.py").write_text(SMALL.replace("return 1", "return 22"))
        watched.said("pipeline.py · ran number", state="done")


def test_another_python_takes_effect_without_a_new_start(tmp_path: Path) -> None:
    """When `[project] python` names another interpreter, the next run is in that one, and that is said."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "python"\n')
    (tmp_path / "pipeline.py").write_text(SMALL.replace("1", "sys.prefix"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "other"], check=True)
    with Watched(tmp_path) as watched:
        watched.said("ran number", state="done")
        (tmp_path / "mlops.toml").write_text('[project]\nname = "python"\npython = "other"\n')
        watched.said("the code runs in Python", kind="note")
        watched.said("mlops.toml", state="nothing")
        (tmp_path / "pipeline.py").write_text(SMALL.replace("1", "sys.prefix + ''"))
        watched.said("ran number", state="done")
    left = newest.read(Layout(tmp_path)).result("number")
    assert left is not None
    (result,) = left.outputs
    assert json.loads(objects.get(Layout(tmp_path), *result.parts.values())) == str(tmp_path / "other")


def test_a_project_that_is_broken_from_the_start_can_be_mended(copy: Path) -> None:
    """The watcher starts on a pipeline that does not load and picks it up when it does."""
    good = (copy / "pipeline.py").read_text()
    (copy / "pipeline.py").write_text("import nothing_like_this\n")
    with Watched(copy) as watched:
        assert "pipeline.py" in watched.said("nothing_like_this", state="failed").text
        (copy / "pipeline.py").write_text(good)
        assert watched.said("pipeline.py · nothing to do, 5 steps fresh").data["state"] == "nothing"


def test_git_checkouts_are_one_change_and_wait_for_git(watched: Watched) -> None:
    """While git holds its index lock nothing runs; what it changed is then one change."""
    subprocess.run(["git", "init", "-q"], cwd=watched.root, check=True)
    watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # learn of the repository")
    watched.said("nothing to do")
    watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 33")
    watched.said("pipeline.py · ran gbm", state="done")
    lock = watched.root / ".git" / "index.lock"
    lock.touch()
    watched.edit("pipeline.py", "ROUNDS = 33", "ROUNDS = 34")
    watched.edit("cleaning.py", "return column - mean", "return column - mean * 1.0")
    time.sleep(1.0)
    assert watched.lines() == []
    lock.unlink()
    watched.said("cleaning.py and pipeline.py · ran", state="done")


def answers(port: int) -> bool:
    """Whether a server is ready there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_a_checkout_of_200_files_is_one_run(copy: Path) -> None:
    """Another branch changes the pipeline, the data and hundreds of modules: one run, with the code of that branch."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    many = copy / "many"
    many.mkdir()
    (many / "__init__.py").write_text("")
    for number in range(200):
        (many / f"m{number}.py").write_text(f"VALUE = {number}\n")
    imports = "".join(f"from many import m{number}\n" for number in range(200))
    pipeline = copy / "pipeline.py"
    pipeline.write_text(pipeline.read_text().replace("import mlops_local", imports + "import mlops_local", 1))
    subprocess.run([*git, "init", "-q", "-b", "main"], cwd=copy, check=True)
    subprocess.run([*git, "add", "."], cwd=copy, check=True)
    subprocess.run([*git, "commit", "-qm", "one"], cwd=copy, check=True)
    subprocess.run([*git, "checkout", "-qb", "other"], cwd=copy, check=True)
    for number in range(200):
        (many / f"m{number}.py").write_text(f"VALUE = {number + 1}\n")
    pipeline.write_text(pipeline.read_text().replace("ROUNDS = 30", "ROUNDS = 30 + m7.VALUE"))
    subprocess.run([*git, "commit", "-qam", "two"], cwd=copy, check=True)
    subprocess.run([*git, "checkout", "-q", "main"], cwd=copy, check=True)
    with Watched(copy) as watched:
        watched.said("nothing to do, 5 steps fresh")
        subprocess.run([*git, "checkout", "-q", "other"], cwd=copy, check=True)
        line = watched.said("ran gbm, gbm.evaluate", state="done")
        assert len(line.data["changed"]) == 201, "one change holds them all"
        watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # the end")
    plans = [event for event in watched.events if event.kind == "plan"]
    assert plans == [], "nothing ran after the one run"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_server_lives_and_ends_with_the_watcher(copy: Path, how: signal.Signals) -> None:
    """`mlops watch --serve` serves the champion; however the watcher ends, no server is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_local", "watch", "--serve", "--port", str(port)],
        cwd=copy,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert eventually(lambda: answers(port)), "the champion is not served"
        process.send_signal(how)
        said, _ = process.communicate(timeout=WITHIN_S)
        assert "nothing to do, 5 steps fresh" in said
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how]
        assert eventually(lambda: not answers(port)), "the server outlived the watcher"
    finally:
        process.kill()
        process.communicate()


def test_edits_put_aside_by_pre_commit_are_not_trained(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the pre-commit framework has unstaged edits stashed, nothing is trained; afterwards the tree is looked at."""
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path))
    patch = tmp_path / f"patch1700000000-{os.getpid()}"
    patch.write_text("")
    (tmp_path / "patch1700000000-0").write_text("")
    watched.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # put aside")
    time.sleep(0.8)
    assert watched.lines() == []
    patch.unlink()
    watched.said("pipeline.py · nothing to do")


def test_programs_of_command_steps_wake_it(tmp_path: Path) -> None:
    """A declared file that is edited, new or gone again runs its step; a script beside it does not."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "run.sh").write_text("cat lib/* | wc -c > $1\n")
    (tmp_path / "mlops.toml").write_text(
        '[project]\nname = "p"\n[steps.made]\ncommand = "sh lib/run.sh {output}"\noutputs = "made.txt"\ncode = "lib/*.sh"\n'
    )
    with Watched(tmp_path) as watched:
        watched.said("ran made", state="done")
        (tmp_path / "other.sh").write_text("true\n")
        watched.edit("lib/run.sh", "wc -c", "wc -l")
        assert "other.sh" not in watched.said("lib/run.sh · ran made", state="done").text
        (tmp_path / "lib" / "more.sh").write_text("true\n")
        watched.said("lib/more.sh · ran made", state="done")
        (tmp_path / "lib" / "more.sh").unlink()
        watched.said("lib/more.sh · nothing to do, 1 step fresh")
        (tmp_path / "lib" / "run.sh").write_text("echo sorry; exit 3\n")
        watched.said("made", state="failed")
        (tmp_path / "lib" / "run.sh").write_text("wc -l lib/run.sh > $1\n")
        watched.said("lib/run.sh · ran made", state="done")
