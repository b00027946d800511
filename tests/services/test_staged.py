"""The snapshot a staged tree stands for, against the snapshot of the same files on disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlops_local.domain.graph import Source
from mlops_local.services import data, git, staged
from mlops_local.services.project import Project, find
from mlops_local.store import cache

ROWS = Source("rows", "data/*.csv")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with three CSV files in a repository, all staged, in a subfolder."""
    root = tmp_path / "top" / "sub"
    (root / "data").mkdir(parents=True)
    (root / "mlops.toml").write_text('[project]\nname = "p"\n')
    for name in ("a", "bb", "ü c"):
        (root / "data" / f"{name}.csv").write_text(f"x,y\n1,{len(name)}\n")
    run(root.parent, "init", "-q")
    run(root.parent, "add", "-A")
    return find(root)


def run(root: Path, *arguments: str) -> None:
    """Run git."""
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


def of_index(project: Project) -> staged.Data:
    """What the index stands for."""
    with git.Tree.open(project.root) as tree:
        return staged.tree_data(project, [ROWS], tree)


def test_staged_files_are_the_snapshot_of_the_same_files_on_disk(project: Project) -> None:
    """A clean tree and the disk give one snapshot id; an edit changes it only once it is staged."""
    before = data.current(project, ROWS).id
    assert of_index(project) == staged.Data({"rows": before}, ())
    (project.root / "data" / "a.csv").write_text("x,y\n5,5\n")
    assert of_index(project).snapshots["rows"] == before
    run(project.root, "add", "-A")
    assert of_index(project).snapshots["rows"] == data.current(project, ROWS).id != before


def test_a_new_or_deleted_file_counts_once_it_is_staged(project: Project) -> None:
    """A file nobody added is not part of the commit; one that is removed from the index is gone."""
    before = of_index(project)
    (project.root / "data" / "d.csv").write_text("x,y\n1,1\n")
    assert of_index(project) == before
    run(project.root, "add", "-A")
    run(project.root, "rm", "-q", "--cached", "data/a.csv")
    (project.root / "data" / "a.csv").unlink()
    assert of_index(project).snapshots["rows"] == data.current(project, ROWS).id


def test_files_that_git_ignores_belong_to_the_data(project: Project) -> None:
    """What .gitignore hides is taken from the disk beside the staged files, and said."""
    (project.root / ".gitignore").write_text("data/big-*.csv\n")
    (project.root / "data" / "big-1.csv").write_text("x,y\n9,9\n")
    run(project.root, "add", "-A")
    found = of_index(project)
    assert found.snapshots["rows"] == data.current(project, ROWS).id
    assert found.notes == ("rows: 1 file ignored by git, taken as on disk",)


def test_untracked_data_are_taken_as_they_are(project: Project) -> None:
    """With no tracked file the source is the one on disk, and its snapshot is named."""
    run(project.root, "rm", "-q", "--cached", "-r", "data")
    found = of_index(project)
    now = data.current(project, ROWS)
    assert found.snapshots == {"rows": now.id}
    assert found.notes == (f"rows: not tracked by git, taken as it is now ({now.short})",)


def test_a_source_without_files_is_left_out_and_said(project: Project) -> None:
    """Missing data have no snapshot."""
    with git.Tree.open(project.root) as tree:
        found = staged.tree_data(project, [Source("none", "nothing/*.csv")], tree)
    assert found.snapshots == {} and "no file matches" in found.notes[0]


def test_files_that_a_checkout_rewrites_are_hashed_as_checked_out(project: Project) -> None:
    """With line endings converted by .gitattributes, staged and checked-out files are one snapshot."""
    (project.root / ".gitattributes").write_text("*.csv text eol=crlf\n")
    for path in (project.root / "data").glob("*.csv"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    run(project.root, "add", "-A", "--renormalize")
    run(project.root, "add", "-A")
    with git.Tree.open(project.root) as tree:
        assert tree.read("data/a.csv") == b"x,y\n1,1\n"
    assert of_index(project).snapshots["rows"] == data.current(project, ROWS).id


def test_each_content_is_hashed_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look reads no blob: its hash is kept by git's own id."""
    first = of_index(project)
    assert len(cache.blobs(project.layout)) == 3

    def refuse(tree: git.Tree, blob: str) -> None:
        raise AssertionError("a blob was read again")

    monkeypatch.setattr(git.Tree, "stream", refuse)
    assert of_index(project) == first
