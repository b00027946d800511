"""Content-addressed files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import Mock

import blake3
import pytest

from mlops_local.domain.errors import DataError, IntegrityError, MlopsError
from mlops_local.store import objects
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout


def test_bytes_come_back_and_are_named_by_their_hash(layout: Layout) -> None:
    """The name is BLAKE3 of the bytes, the file is read-only, putting it again changes nothing."""
    hash = objects.put_bytes(layout, b"abc")
    assert hash == blake3.blake3(b"abc").hexdigest() == objects.put_bytes(layout, b"abc")
    assert objects.get(layout, hash) == b"abc" and objects.exists(layout, hash) and objects.verify(layout, hash)
    assert objects.path(layout, hash).stat().st_mode & 0o777 == 0o400
    assert list(objects.every(layout)) == [hash]
    assert list(layout.tmp.iterdir()) == []


def test_a_file_is_kept_with_its_content(layout: Layout, tmp_path: Path) -> None:
    """A file larger than one block, and an empty one, are kept byte for byte."""
    for data in (b"", bytes(range(256)) * 8192 + b"end"):
        (tmp_path / "f").write_bytes(data)
        assert objects.get(layout, objects.put_file(layout, tmp_path / "f")) == data


def test_a_draft_is_adopted_without_a_copy(layout: Layout, tmp_path: Path) -> None:
    """A finished file in the store's tmp folder becomes the object itself (one inode), read-only, and heals an altered one."""
    draft = layout.tmp / "out.parquet"
    draft.write_bytes(b"abc")
    inode = draft.stat().st_ino
    hash = objects.adopt(layout, draft)
    home = objects.path(layout, hash)
    assert hash == blake3.blake3(b"abc").hexdigest() and home.stat().st_ino == inode and not draft.exists()
    assert home.stat().st_mode & 0o777 == 0o400
    home.chmod(0o600)
    home.write_bytes(b"abx")
    draft.write_bytes(b"abc")
    assert objects.adopt(layout, draft) == hash and objects.verify(layout, hash)
    kept = home.stat().st_ino
    draft.write_bytes(b"abc")
    assert objects.adopt(layout, draft) == hash and not draft.exists() and home.stat().st_ino == kept


def test_a_users_own_file_is_never_adopted(layout: Layout, tmp_path: Path) -> None:
    """A draft that is another name of a user's file, or a link to it, is copied: the file stays theirs and writable."""
    mine = tmp_path / "mine.csv"
    mine.write_bytes(b"a\n1\n")
    (layout.tmp / "hard").hardlink_to(mine)
    (layout.tmp / "soft").symlink_to(mine)
    for name in ("hard", "soft"):
        hash = objects.adopt(layout, layout.tmp / name)
        assert objects.get(layout, hash) == b"a\n1\n" and not (layout.tmp / name).exists()
        assert objects.path(layout, hash).stat().st_ino != mine.stat().st_ino
    assert mine.stat().st_mode & 0o200 and mine.read_bytes() == b"a\n1\n"


def test_a_write_changes_the_stamp(layout: Layout) -> None:
    """An object that was written to looks different without being read, even when its mtime was set back."""
    hash = objects.put_bytes(layout, b"abc")
    before, home = objects.stamp(layout, hash), objects.path(layout, hash)
    times = home.stat()
    home.chmod(0o600)
    home.write_bytes(b"abx")
    os.utime(home, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert objects.stamp(layout, hash) != before
    home.unlink()
    assert objects.stamp(layout, hash) is None


def test_one_flipped_byte_is_noticed(layout: Layout) -> None:
    """Reading an altered object is an integrity error, exit 6; so is a missing one."""
    hash = objects.put_bytes(layout, b"abcdef")
    path = objects.path(layout, hash)
    path.chmod(0o600)
    path.write_bytes(b"abcdeg")
    assert not objects.verify(layout, hash)
    with pytest.raises(IntegrityError, match="not what was written"):
        objects.get(layout, hash)
    path.unlink()
    assert not objects.verify(layout, hash) and not objects.exists(layout, hash)
    with pytest.raises(IntegrityError, match="missing"):
        objects.get(layout, hash)


def test_a_file_that_changed_since_it_was_hashed_is_refused(layout: Layout, tmp_path: Path) -> None:
    """What is kept under a hash always has that hash; nothing half-written is left behind."""
    (tmp_path / "f").write_bytes(b"new")
    with pytest.raises(DataError, match="changed while it was read"):
        objects.put_file(layout, tmp_path / "f", known_hash=blake3.blake3(b"old").hexdigest())
    assert list(objects.every(layout)) == [] and list(layout.tmp.iterdir()) == []


def test_the_database_is_never_an_input(layout: Layout, store: Store) -> None:
    """A pattern that matches project.duckdb is refused before the file is opened: opening it would drop DuckDB's lock."""
    with store.reader():
        pass
    with pytest.raises(DataError, match="database"):
        objects.put_file(layout, layout.database)


def test_an_unreadable_file_is_the_users_error(layout: Layout, tmp_path: Path) -> None:
    """A path that is not there is named."""
    with pytest.raises(DataError, match=r"gone\.csv"):
        objects.put_file(layout, tmp_path / "gone.csv")


def test_a_full_disk_is_said_wherever_it_is_met(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a file that cannot be read, and with nothing left of the half that was written."""
    source = tmp_path / "a"
    source.write_bytes(b"a")
    draft = layout.tmp / "own"
    draft.write_bytes(b"b" * (2 << 20))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "full")))
        with pytest.raises(MlopsError, match="no space left"):
            objects.put_bytes(layout, b"a")
        with pytest.raises(MlopsError, match="no space left"):
            objects.put_file(layout, source)
        with pytest.raises(MlopsError, match="no space left"):
            objects.adopt(layout, draft)
    assert list(objects.every(layout)) == [] and [path.name for path in layout.tmp.iterdir() if path.is_file()] == ["own"]
