"""Folders and archives that hold what was pushed."""

from __future__ import annotations

import itertools
import os
import stat
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import blake3
import pytest

from mlops_local.domain.errors import IntegrityError, UsageError
from mlops_local.store.shelf import BOX, PUSH, Archive, Folder


def box(data: bytes) -> str:
    """The name of a box."""
    return BOX.format(blake3.blake3(data).hexdigest())


def test_a_member_is_whole_or_not_there(tmp_path: Path) -> None:
    """What was written is read back; what is not there or was altered is refused by its place, and a link is not followed."""
    shelf = Folder.begin(tmp_path / "usb")
    shelf.write(box(b"abc"), b"abc")
    assert shelf.has(box(b"abc")) and shelf.read(box(b"abc")) == b"abc" and not shelf.has(box(b"x"))
    with pytest.raises(IntegrityError, match="missing"):
        shelf.read(box(b"x"))
    (tmp_path / "usb" / box(b"abc")).write_bytes(b"abd")
    with pytest.raises(IntegrityError, match=rf"{box(b'abc')} was altered"):
        shelf.read(box(b"abc"))
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "usb" / box(b"x")).symlink_to(tmp_path / "secret")
    with pytest.raises(IntegrityError, match="cannot be read"):
        shelf.read(box(b"x"))


def test_pushes_are_those_that_were_finished(tmp_path: Path) -> None:
    """Drafts, and what other programs leave in the folder, are no pushes; old drafts go with the next push."""
    shelf = Folder.begin(tmp_path / "usb")
    name = PUSH.format(blake3.blake3(b"{}").hexdigest())
    shelf.write(name, b"{}")
    (tmp_path / "usb" / "pushes" / ".sync-conflict").write_text("x")
    (tmp_path / "usb" / "pushes" / "copy of it.json").write_text("x")
    old, new = tmp_path / "usb" / "drafts" / "old", tmp_path / "usb" / "drafts" / "new"
    old.write_text("x")
    new.write_text("x")
    os.utime(old, (time.time() - 200_000,) * 2)
    assert Folder.begin(tmp_path / "usb").pushes() == [name]
    assert new.exists() and not old.exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    """Nobody's home becomes a place to push to by a slip; a folder that was never pushed to is none to pull from."""
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="something else"):
        Folder.begin(tmp_path)
    with pytest.raises(UsageError, match="something else"):
        Folder.fit(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        Folder.begin(tmp_path / "mine.txt")
    with pytest.raises(UsageError, match="no folder that"):
        Folder.find(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        Folder.find(tmp_path / "away")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]


def test_a_folder_that_another_makes_right_now_is_one_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mark may come between the look for it and the look at what else is there."""
    listed = Path.iterdir

    def late(folder: Path) -> Iterator[Path]:
        monkeypatch.setattr(Path, "iterdir", listed)
        Folder.begin(folder)
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", late)
    tmp_path.joinpath("usb").mkdir()
    Folder.begin(tmp_path / "usb")
    assert Path.iterdir is listed, "the other came in between"
    Folder.find(tmp_path / "usb")


def test_a_groups_folder_stays_the_groups(tmp_path: Path) -> None:
    """Folders made within let the same people write as the whole does."""
    root = tmp_path / "team"
    root.mkdir()
    root.chmod(0o2775)
    Folder.begin(root)
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.iterdir() if path.is_dir()} == {0o2775}


def test_an_archive_appears_when_it_is_whole(tmp_path: Path) -> None:
    """It is there when the block ends well, equal contents are equal bytes, and no file is overwritten."""
    for name in ("a", "b"):
        with Archive.make(tmp_path / name) as shelf:
            shelf.write(box(b"abc"), b"abc")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with Archive.open(tmp_path / "a") as shelf:
        assert shelf.read(box(b"abc")) == b"abc" and shelf.has(box(b"abc")) and shelf.pushes() == []
    with pytest.raises(ZeroDivisionError), Archive.make(tmp_path / "c") as shelf:
        shelf.write(box(b"abc"), bytes([1 // 0]))
    with pytest.raises(UsageError, match="there already"), Archive.make(tmp_path / "a"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "boxes/../../evil.box", "boxes/short.box", "link", "twice"])
def test_an_archive_that_reaches_outside_is_refused(tmp_path: Path, name: str) -> None:
    """Paths that leave, links, foreign names and a name that is there twice: nothing is taken, and it is named."""
    path = tmp_path / "evil.zip"
    good = box(b"abc")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(good, b"abc")
        if name == "link":
            info = zipfile.ZipInfo(box(b"x"))
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, "/etc/passwd")
        elif name == "twice":
            with pytest.warns(UserWarning):
                file.writestr(good, b"abc")
        else:
            file.writestr(name, b"x")
    with pytest.raises(IntegrityError, match="which no pack does"), Archive.open(path):
        pass


def test_an_archive_altered_anywhere_says_so(tmp_path: Path) -> None:
    """Whichever byte is another: what comes out is what was put in, or the archive is refused in one line."""
    with Archive.make(tmp_path / "a") as shelf:
        shelf.write(box(b"abc"), b"abc")
    data = (tmp_path / "a").read_bytes()
    refused = 0
    for place, change in itertools.product(range(len(data)), (0x01, 0x41, 0x80, 0xFF)):
        byte = data[place] ^ change
        (tmp_path / "b").write_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
        try:
            with Archive.open(tmp_path / "b") as shelf:
                assert not shelf.has(box(b"abc")) or shelf.read(box(b"abc")) == b"abc"
        except IntegrityError:
            refused += 1
    assert refused > len(data)


def test_a_file_that_is_no_archive_or_was_cut_is_said(tmp_path: Path) -> None:
    """Half a download, another file, a folder, no file: one line each."""
    with Archive.make(tmp_path / "a") as shelf:
        shelf.write(box(b"abc"), b"abc")
    (tmp_path / "cut").write_bytes((tmp_path / "a").read_bytes()[:-30])
    (tmp_path / "text").write_text("hello")
    for name in ("cut", "text"):
        with pytest.raises(IntegrityError, match="no pack, or not all"), Archive.open(tmp_path / name):
            pass
    with pytest.raises(UsageError, match="no file"), Archive.open(tmp_path / "none"):
        pass
    with pytest.raises(UsageError, match="is a folder"), Archive.open(tmp_path):
        pass
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match="cannot read"), Archive.open(tmp_path / "loop"):
        pass
    with pytest.raises(FileNotFoundError, match="of another"), Archive.open(tmp_path / "a"):
        raise FileNotFoundError("of another")
    raw = bytearray((tmp_path / "a").read_bytes())
    raw[raw.index(b"abc")] ^= 1
    (tmp_path / "flipped").write_bytes(raw)
    with Archive.open(tmp_path / "flipped") as shelf, pytest.raises(IntegrityError, match="altered"):
        shelf.read(box(b"abc"))
