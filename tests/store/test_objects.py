"""Content-addressed files."""

from __future__ import annotations

from pathlib import Path

import blake3
import pytest

from mlops_local.domain.errors import DataError, IntegrityError
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
