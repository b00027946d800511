"""A run's code, data, parameters and packages in a new folder."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain import events
from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import MlopsError, UsageError
from mlops_local.domain.plan import Part, StepResult, result_to_json
from mlops_local.services import checkout, environment
from mlops_local.services import project as projects
from mlops_local.services.checkout import CheckedOut
from mlops_local.services.project import Project
from mlops_local.store import cache, objects
from mlops_local.store import layout as layouts
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.layout import Layout


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project in a folder of a repository, committed; its data are not git's."""
    root = tmp_path / "repo" / "late"
    root.mkdir(parents=True)
    (root / "mlops.toml").write_text('[project]\nname = "late"\n')
    (root / "pipeline.py").write_text("LEAVES = 7\n")
    (root / "logo.bin").write_bytes(b"\0\1\2")
    (root / ".gitignore").write_text("data/\n")
    git(root.parent, "init", "-q")
    git(root.parent, "add", "-A")
    git(root.parent, "commit", "-q", "-m", "first")
    made = projects.find(root, wait_s=20)
    yield made
    made.store.close()


def data(project: Project, name: str, text: bytes, *, kept: bool = True) -> Snapshot:
    """A data file and its snapshot; its content is in the store if `kept`."""
    path = project.root / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    hash = objects.put_file(project.layout, path) if kept else objects.hash_file(path)
    return Snapshot(hash, "rows", (FileEntry(f"data/{name}", hash, len(text), 1),), rows=1, bytes=len(text))


def ran(project: Project, *snapshots: Snapshot, code: str = "pipeline.py", closed: bool = True, **more: Any) -> str:
    """Journal a run of this moment as train does; the process goes on unless `closed`."""
    run, journal = new_id(), Journal.open(project.layout.journal)
    facts = {**environment.capture(project), "packages": {"polars": "2.1.0", "lightgbm": "4.7.0"}, "python": "3.11.4"}
    read = {snapshot.source: snapshot.id for snapshot in snapshots}
    for snapshot in snapshots:
        journal.state(events.SNAPSHOT, run="", snapshot=cache.snapshot_to_json(snapshot))
    facts = {"name": "otter", "kind": "train", "targets": ["gbm"], "snapshots": read, **facts, **more}
    journal.state(events.RUN_STARTED, run=run, **facts)
    journal.state(events.PARAMS, run=run, values={"gbm.leaves": 15, "gbm.kind": "dart"})
    result = StepResult("gbm", "fp", run=run, parts=(Part("code", "pipeline.gbm", "1", f"{code}:3"),))
    journal.state(events.STEP_ENDED, run=run, step="gbm", state="done", result=result_to_json(result))
    journal.state(events.RUN_ENDED, run=run, state="done", error="", seconds=1.0)
    if closed:
        journal.close()
    return run


def out(project: Project) -> tuple[CheckedOut, Path]:
    """Check the newest run out; returns also the project's folder there."""
    made = checkout.checkout(project, "@latest", project.root.parents[1] / "out")
    return made, Path(made.folder)


def test_a_run_comes_back_as_it_was(project: Project) -> None:
    """Commit, uncommitted changes, data of then, parameters and pins, whatever the project is now; nothing of it is touched."""
    root = project.root
    (root / "pipeline.py").write_text("LEAVES = 15\n")
    run = ran(project, data(project, "a.csv", b"then"))
    git(root, "commit", "-q", "-am", "second")
    (root / "pipeline.py").write_text("LEAVES = 31\n")
    (root / "data" / "a.csv").write_bytes(b"now")
    before = git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD"), git(root, "stash", "list")
    made, place = out(project)
    assert made.missing == [] and made.run == run and place == project.root.parents[1] / "out" / "late"
    assert (place / "pipeline.py").read_text() == "LEAVES = 15\n" and (place / "data" / "a.csv").read_bytes() == b"then"
    assert git(place, "rev-parse", "HEAD") == git(root, "rev-parse", "HEAD~1")
    assert (place / "requirements.txt").read_text().splitlines()[1:] == ["lightgbm==4.7.0", "polars==2.1.0"]
    assert made.command == "mlops train gbm -S gbm.kind=dart -S gbm.leaves=15"
    assert layouts.project_id(Layout(place)) == layouts.project_id(project.layout), "the same seeds"
    told = json.loads((place / "checkout.json").read_text())
    assert told["params"] == {"gbm.leaves": 15, "gbm.kind": "dart"} and told["changed"] and str(project.root) not in str(told)
    assert (git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD"), git(root, "stash", "list")) == before
    assert (root / "pipeline.py").read_text() == "LEAVES = 31\n" and (root / "data" / "a.csv").read_bytes() == b"now"


def test_a_fetched_run_writes_no_options_into_requirements(project: Project) -> None:
    """What is no package and version is left out, and said: pip would take other files and places from there."""
    ran(project, packages={"polars": "2.1.0", "x": "1\n-r ../other.txt", "--pre": "", "y @ file:///y.whl #": "1"})
    made, place = out(project)
    assert (place / "requirements.txt").read_text().splitlines()[1:] == ["polars==2.1.0"]
    assert sum(line.startswith("packages: ") for line in made.missing) == 3


def test_what_cannot_be_had_back_is_listed(project: Project) -> None:
    """Untracked code, changed binaries, contents kept by reference: each is named; what can be had is there."""
    root = project.root
    (root / "pipeline.py").write_text("LEAVES = 15\n")
    (root / "logo.bin").write_bytes(b"\0\3")
    (root / "helpers.py").write_text("x = 1\n")
    kept, lost = data(project, "a.csv", b"in the project"), data(project, "b.csv", b"gone", kept=False)
    both = Snapshot("both", "rows", (*kept.files, *lost.files), rows=2, bytes=8)
    ran(project, both, code="helpers.py", packages={})
    (root / "data" / "b.csv").unlink()
    made, place = out(project)
    assert (place / "pipeline.py").read_text() == "LEAVES = 15\n" and (place / "logo.bin").read_bytes() == b"\0\1\2"
    assert made.files == 1 and made.pins == ""
    for text in ("logo.bin had changed", "helpers.py was used, and git", "data/b.csv of rows", "did not record which it used"):
        assert [line for line in made.missing if text in line], text


def test_contents_kept_by_reference_come_from_the_project(project: Project) -> None:
    """A file that is not in the store but still in the project as it was is copied."""
    ran(project, data(project, "a.csv", b"large", kept=False))
    made, place = out(project)
    assert made.missing == [] and (place / "data" / "a.csv").read_bytes() == b"large"


def test_a_run_without_a_commit_still_gives_its_data(project: Project) -> None:
    """Begun outside git, or at a commit that is no more: said, and the rest is there."""
    snapshot = data(project, "a.csv", b"then")
    ran(project, snapshot, commit="", dirty=False, diff="")
    made, place = out(project)
    assert "says of no commit" in made.missing[0] and (place / "data" / "a.csv").read_bytes() == b"then"
    ran(project, snapshot, commit="0" * 40)
    other = checkout.checkout(project, "@latest", project.root.parents[1] / "other")
    assert "does not have it" in other.missing[0] and other.files == 1


def test_a_run_of_a_process_that_goes_on_comes_back_too(project: Project) -> None:
    """What `mlops watch` just ran, while it still watches: its journal is not put away yet."""
    ran(project, data(project, "a.csv", b"then"), closed=False)
    made, place = out(project)
    assert made.missing == [] and (place / "data" / "a.csv").read_bytes() == b"then"


@pytest.mark.parametrize("words", [["train.py", "--lr", "1"], ["python", "train.py", "--lr", "1"]])
def test_a_script_is_run_again_as_it_ran(project: Project, words: list[str]) -> None:
    """A script that began its run itself is named without its interpreter; `mlops run` needs it."""
    ran(project, kind="script", argv=words)
    assert out(project)[0].command == "mlops run python train.py --lr 1"


def test_a_folder_that_holds_something_is_left_alone(project: Project, tmp_path: Path) -> None:
    """Neither a folder with a file in it nor a file is written to; an empty one is fine."""
    ran(project)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "full", tmp_path / "full" / "mine"):
        with pytest.raises(UsageError, match="is not empty"):
            checkout.checkout(project, "@latest", place)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    checkout.checkout(project, "@latest", tmp_path / "empty")


def test_data_behind_a_tracked_link_stay_where_they_are(project: Project, tmp_path: Path) -> None:
    """A link in the repository that leads out of the copy: what is behind it is the user's, and is not written."""
    outside = tmp_path / "warehouse"
    outside.mkdir()
    (outside / "a.csv").write_bytes(b"mine")
    (project.root / "linked").symlink_to(outside)
    git(project.root, "add", "linked")
    git(project.root, "commit", "-q", "-m", "link")
    snapshot = data(project, "a.csv", b"then")
    ran(project, Snapshot("s", "rows", (FileEntry("linked/a.csv", snapshot.id, 4, 1),), rows=1, bytes=4))
    made, _ = out(project)
    assert (outside / "a.csv").read_bytes() == b"mine" and "behind a link" in made.missing[0]


def test_an_environment_that_cannot_be_made_leaves_the_rest(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where --env fails the reason is said, with the command to do it by hand, and all else is there."""
    python = tmp_path / "bin" / "python3.11"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho no venv here >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    ran(project)
    with pytest.raises(MlopsError, match="cannot make the environment: no venv here") as raised:
        checkout.checkout(project, "@latest", tmp_path / "out", env=True)
    assert "-m venv" in raised.value.hint and (tmp_path / "out" / "late" / "checkout.json").exists()
