"""A run that a script begins knows the commit it was made at."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import mlops_local as mlops
from mlops_local.api import revision
from tests.api.conftest import Lines


def git(folder: Path, *words: str) -> str:
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "PATH": os.environ["PATH"], "HOME": str(folder)}
    named = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *named, *words], cwd=folder, env=own, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def commit(project: Path) -> str:
    """The project is a repository with one commit, made in its folder."""
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "mlops.toml")
    git(project, "commit", "-qm", "first")
    return git(project, "rev-parse", "HEAD")


def test_a_scripts_run_has_commit_and_dirty(project: Path, commit: str, lines: Lines) -> None:
    """As `mlops run` records them; a change of a tracked file is seen by a run that begins later."""
    with mlops.run():
        pass
    revision._known.clear()
    (project / "mlops.toml").write_text('[project]\nname = "edited"\n')
    with mlops.run():
        pass
    assert [(line["commit"], line["dirty"]) for line in lines("run_started")] == [(commit, False), (commit, True)]


def test_the_commit_is_found_wherever_git_keeps_it(project: Path, commit: str, tmp_path: Path) -> None:
    """In a loose or packed reference, detached, in a linked worktree and below the repository's top."""
    (project / "below").mkdir()
    git(project, "pack-refs", "--all")
    assert revision.of(project) == {"commit": commit, "dirty": False} == revision.of(project / "below")
    git(project, "worktree", "add", "-q", "-b", "side/branch", str(tmp_path / "linked"))
    assert revision.of(tmp_path / "linked")["commit"] == commit
    git(project, "checkout", "-q", "--detach")
    revision._known.clear()
    assert revision.of(project)["commit"] == commit


def test_what_git_does_not_tell_is_left_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a repository, before the first commit, and without git itself there is a run all the same."""
    assert revision.of(project) == {}
    git(project, "init", "-q", "-b", "main")
    revision._known.clear()
    assert revision.of(project) == {}
    git(project, "commit", "-qm", "first", "--allow-empty")
    monkeypatch.setenv("PATH", str(project))
    revision._known.clear()
    assert revision.of(project) == {"commit": git_head(project)}


def git_head(folder: Path) -> str:
    return (folder / ".git" / "refs" / "heads" / "main").read_text().strip()
