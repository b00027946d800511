"""Making and finding .mlops/."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from mlops_local.domain.errors import IntegrityError, NewerStore, UsageError
from mlops_local.store import layout as layouts
from mlops_local.store.layout import Layout


def test_making_it_twice_changes_nothing(layout: Layout) -> None:
    """The project's identity and key, once made, stay; so does a README somebody edited."""
    (layout.state / "README").write_text("mine")
    before = layout.config.read_bytes()
    layouts.create(layout)
    assert layout.config.read_bytes() == before
    assert (layout.state / "README").read_text() == "mine"


def test_only_the_owner_can_read_it(layout: Layout) -> None:
    """Folders are 0700 and the key is 0600; nothing of it is committed."""
    assert layout.state.stat().st_mode & 0o777 == 0o700
    assert layout.config.stat().st_mode & 0o777 == 0o600
    assert (layout.state / ".gitignore").read_text() == "*\n"


def test_the_key_and_identity_are_random(layout: Layout, tmp_path: Path) -> None:
    """Two projects differ in both."""
    other = Layout(tmp_path / "other")
    other.root.mkdir()
    layouts.create(other)
    assert layouts.project_id(layout) != layouts.project_id(other)
    assert layouts.hmac_key(layout) != layouts.hmac_key(other)
    assert len(layouts.hmac_key(layout)) == 32


def test_a_folder_that_duckdb_cannot_open_is_refused(tmp_path: Path) -> None:
    """A name that is not UTF-8 is said before anything is made in it, instead of by the first command that reads."""
    root = tmp_path / os.fsdecode(b"caf\xe9")
    root.mkdir()
    with pytest.raises(UsageError, match=r"not UTF-8: '.*caf\\udce9'"):
        layouts.create(Layout(root))
    assert not any(root.iterdir())


def test_the_nearest_project_upward_is_found(tmp_path: Path) -> None:
    """From a folder deep inside, the innermost mlops.toml wins; outside there is none."""
    inner = tmp_path / "a" / "b"
    (inner / "c" / "d").mkdir(parents=True)
    (tmp_path / "a" / "mlops.toml").touch()
    assert layouts.find_root(inner / "c" / "d") == tmp_path / "a"
    (inner / "mlops.toml").touch()
    assert layouts.find_root(inner / "c" / "d") == inner
    assert layouts.find_root(tmp_path) is None


def test_a_linked_worktree_uses_the_main_ones_store(tmp_path: Path) -> None:
    """A linked git worktree, also of a project in a subfolder, shares runs and models with the main one."""
    main = tmp_path / "main"
    (main / "sub").mkdir(parents=True)
    (main / "sub" / "mlops.toml").touch()
    git = ["git", "-C", str(main), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-q", "-m", "x"],
        ["worktree", "add", "-q", str(tmp_path / "side")],
    ):
        subprocess.run([*git, *command], check=True, capture_output=True)
    assert Layout(tmp_path / "side" / "sub").state == main / "sub" / ".mlops"
    assert Layout(main / "sub").state == main / "sub" / ".mlops"
    assert Layout(tmp_path / "side" / "sub").lockfile == tmp_path / "side" / "sub" / "mlops.lock"


def test_a_newer_store_is_refused_with_a_hint(layout: Layout) -> None:
    """A folder laid out by a newer version is left alone."""
    layout.config.write_text(json.dumps({**json.loads(layout.config.read_text()), "format": 2}))
    with pytest.raises(NewerStore) as caught:
        layouts.create(layout)
    assert "upgrade" in caught.value.hint and caught.value.exit_code == 6


def test_a_damaged_config_is_named(layout: Layout) -> None:
    """A half-written config is an integrity error with a way out, not a stack trace."""
    layout.config.write_text('{"project_id": "a')
    with pytest.raises(IntegrityError, match="config cannot be read"):
        layouts.create(layout)


def test_no_path_of_the_machine_is_stored(layout: Layout) -> None:
    """A project can be moved: nothing written at creation names where it is."""
    for path in layout.state.rglob("*"):
        if path.is_file():
            assert str(layout.root) not in path.read_text()


def test_a_network_file_system_is_refused_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks there cannot be trusted; a store that exists already is opened without asking again."""
    kind = layouts._filesystem(tmp_path)
    assert kind
    monkeypatch.setattr(layouts, "_SHARED_FILESYSTEMS", frozenset({kind}))
    layout = Layout(tmp_path)
    with pytest.raises(UsageError, match="network file system") as caught:
        layouts.create(layout)
    assert "--unsafe-fs" in caught.value.hint and not layout.state.exists()
    layouts.create(layout, unsafe_fs=True)
    layouts.create(layout)
