"""A place outside the store that holds what was pushed: a folder, or one archive file. Both hold the same members.

    boxes/HASH.box      zstd frames in a row, by the BLAKE3 of the box's bytes: pieces of objects and of journals
    pushes/HASH.json    what one push brought and where in which box it is (see `parcel`); written when all of that is in place

Members never change and none is shared by two writers: a member is written under another name and then renamed, so that any
number of people push at once and a push that was killed leaves nothing that counts. Names are checked against this pattern and
nothing else is ever read or written; nothing is extracted by a name that comes from there.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import struct
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import blake3

from mlops_local.domain.errors import IntegrityError, MlopsError, UsageError
from mlops_local.store import files

BOX, PUSH = "boxes/{}.box", "pushes/{}.json"
"""Names of members, by the hash of their bytes."""
_MEMBER = re.compile(r"boxes/[0-9a-f]{64}\.box|pushes/[0-9a-f]{64}\.json")
_LARGEST = 256 << 20
"""No member is larger: what says it is was not pushed."""
_DRAFTS = "drafts"
_FOLDERS = ("boxes", "pushes", _DRAFTS)
_OLD_DRAFT_S = 24 * 3600.0
_MARK = "mlops-store.txt"
_WORDS = """\
Pushed by `mlops push`, to be pulled with `mlops pull`. Files here are named by their content and never change.
Copy, sync or back up the whole folder as you like; do not rename or edit what is in it.
"""
_ENCRYPTED = 0x1
_BROKEN = (zipfile.BadZipFile, RuntimeError, ValueError, struct.error, EOFError)
"""What reading an archive raises when a byte of it was altered."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Of every member of an archive: equal contents are equal archives."""


class Shelf(Protocol):
    """Named members that never change."""

    def has(self, member: str) -> bool:
        """Whether it is there."""

    def write(self, member: str, data: bytes) -> None:
        """Add a member: whole, or not at all."""

    def read(self, member: str) -> bytes:
        """A member's bytes. Raises IntegrityError when it is not there, or not what its name says."""

    def pushes(self) -> list[str]:
        """The members below pushes/, sorted."""

    def where(self, member: str) -> str:
        """A member's place, for people."""


class Folder:
    """A plain folder: a network disk, a USB stick, something synced."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def fit(cls, root: Path) -> Folder:
        """Open a folder that may be pushed to, and change nothing: it need not be there. Raises UsageError as `begin`."""
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is not a folder", hint="name a folder to push to; `mlops pack FILE` makes one file")
        if root.is_dir() and not (root / _MARK).exists() and any(map(_foreign, root.iterdir())):
            raise UsageError(f"{root} holds something else", hint="name an empty or new folder: `mlops push DIR/mlops`")
        return cls(root)

    @classmethod
    def begin(cls, root: Path) -> Folder:
        """Make the folder ready to be pushed to; it may be there, and empty or one of ours.

        Raises:
            UsageError: it is a file, or holds something else.
            MlopsError: it cannot be written.
        """
        shelf = cls.fit(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            for name in _FOLDERS:
                shelf._folder(root / name)
            if not (root / _MARK).exists():
                shelf._put(root / _MARK, _WORDS.encode())
        except OSError as error:
            raise _cannot_write(root, error) from error
        shelf._tidy()
        return shelf

    @classmethod
    def find(cls, root: Path) -> Folder:
        """Open a folder that was pushed to. Raises UsageError when it is none."""
        if not (root / _MARK).is_file():
            what = "does not exist" if not root.exists() else "is no folder that `mlops push` made"
            raise UsageError(f"{root} {what}", hint="is the disk mounted? `mlops push DIR` makes such a folder")
        return cls(root)

    def has(self, member: str) -> bool:
        """Whether it is there."""
        return self._at(member).is_file()

    def write(self, member: str, data: bytes) -> None:
        """Add a member: a draft, made durable, then renamed. Raises MlopsError."""
        home = self._at(member)
        try:
            self._put(home, data)
        except OSError as error:
            raise _cannot_write(home, error) from error

    def read(self, member: str) -> bytes:
        """A member's bytes, if they are what its name says; a link is not followed."""
        try:
            descriptor = os.open(self._at(member), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise _missing(self.where(member), error) from error
        with os.fdopen(descriptor, "rb") as file:
            return _checked(file.read(_LARGEST), member, self.where(member))

    def pushes(self) -> list[str]:
        """What was pushed; drafts and what other programs leave beside are not."""
        try:
            names = [f"pushes/{path.name}" for path in (self.root / "pushes").iterdir()]
        except FileNotFoundError:  # nothing was pushed yet, or what copied the folder left out what is empty
            return []
        return sorted(name for name in names if _MEMBER.fullmatch(name))

    def where(self, member: str) -> str:
        """A path."""
        return str(self._at(member))

    def _at(self, member: str) -> Path:
        assert _MEMBER.fullmatch(member), member
        return self.root / member

    def _folder(self, folder: Path) -> None:
        """Make a folder that the same people may write to as the whole."""
        try:
            folder.mkdir()
        except FileExistsError:
            return
        if folder != self.root:
            folder.chmod(stat.S_IMODE(self.root.stat().st_mode))

    def _put(self, home: Path, data: bytes) -> None:
        files.put(self.root / _DRAFTS / secrets.token_hex(8), home, data, mode=0o666, sync=True)
        files.sync_folder(home.parent)

    def _tidy(self) -> None:
        """Remove what pushes that were killed left."""
        for draft in (self.root / _DRAFTS).iterdir():
            try:
                if time.time() - draft.stat().st_mtime > _OLD_DRAFT_S:
                    draft.unlink()
            except OSError:
                continue  # somebody else's, or gone


class Archive:
    """One file: a zip without compression of its own, for what is in it is compressed where that pays."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self._file = file
        self._members = set(file.namelist())

    @classmethod
    @contextmanager
    def make(cls, path: Path) -> Iterator[Archive]:
        """Write a new archive; it appears under its name when the block ends without an error.

        Raises:
            UsageError: there is a file of that name.
            MlopsError: it cannot be written.
        """
        if path.exists():
            raise UsageError(f"{path} is there already", hint="name another file, or remove it first")
        draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            with zipfile.ZipFile(draft, "x", zipfile.ZIP_STORED) as file:
                yield cls(path, file)
            with draft.open("rb") as written:
                os.fsync(written.fileno())
            shutil.move(draft, path)
        except OSError as error:
            raise _cannot_write(path, error) from error
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Archive]:
        """Read an archive.

        Raises:
            UsageError: there is no such file, or it is none of ours.
            IntegrityError: it holds something that no pack holds: a path that leaves, a link, a name twice.
        """
        try:
            file = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise UsageError(f"there is no file {path}", hint="`mlops pack FILE` makes one") from error
        except IsADirectoryError as error:
            raise UsageError(f"{path} is a folder", hint="`mlops pull DIR` takes folders") from error
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}", hint="may you read it?") from error
        except _BROKEN as error:
            raise IntegrityError(f"{path} is no pack, or not all of one: {error}", hint="copy it again") from error
        with file:
            _refuse_odd(path, file)
            yield cls(path, file)

    def has(self, member: str) -> bool:
        """Whether it is there."""
        return member in self._members

    def write(self, member: str, data: bytes) -> None:
        """Add a member."""
        info = zipfile.ZipInfo(member, _EPOCH)
        info.external_attr = 0o444 << 16
        info.create_system = 3  # as on Unix, wherever it is made
        self._file.writestr(info, data)
        self._members.add(member)

    def read(self, member: str) -> bytes:
        """A member's bytes, if they are what its name says."""
        try:
            with self._file.open(member) as source:
                return _checked(source.read(_LARGEST), member, self.where(member))
        except KeyError as error:
            raise _missing(self.where(member)) from error
        except OSError as error:
            raise _missing(self.where(member), error) from error
        except _BROKEN as error:
            raise _altered(self.where(member)) from error

    def pushes(self) -> list[str]:
        """The one pack, or those put together."""
        return sorted(name for name in self._members if name.startswith("pushes/"))

    def where(self, member: str) -> str:
        """File and member."""
        return f"{self.path}: {member}"


def _refuse_odd(path: Path, file: zipfile.ZipFile) -> None:
    seen: set[str] = set()
    for info in file.infolist():
        odd = not _MEMBER.fullmatch(info.filename) or info.filename in seen or stat.S_ISLNK(info.external_attr >> 16)
        if odd or info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED:
            raise IntegrityError(
                f"{path} holds {info.filename!r}, which no pack does: nothing of it was taken",
                hint="ask whoever gave it to you for one made with `mlops pack`",
            )
        seen.add(info.filename)


def _foreign(path: Path) -> bool:
    """Whether it is none of ours, nor hidden; somebody else may be making the folder right now."""
    return path.name not in (*_FOLDERS, _MARK) and not path.name.startswith(".")


def _checked(data: bytes, member: str, where: str) -> bytes:
    if blake3.blake3(data).hexdigest() not in member:
        raise _altered(where)
    return data


def _altered(where: str) -> IntegrityError:
    return IntegrityError(
        f"{where} was altered or damaged: it is not what its name says",
        hint="nothing of it was taken; remove that file, and push again from a store that has what was in it",
    )


def _missing(where: str, error: OSError | None = None) -> IntegrityError:
    reason = f" ({error.strerror})" if error is not None and error.strerror else ""
    return IntegrityError(f"{where} is missing or cannot be read{reason}", hint="push it again from a store that has it")


def _cannot_write(path: Path, error: OSError) -> MlopsError:
    if error.errno in files.FULL:
        return MlopsError(f"no space left at {path}", hint="free some space there and run the command again: it goes on")
    return MlopsError(
        f"cannot write {path}: {error.strerror or error}", hint="may you write there? `chmod g+ws DIR` lets a group"
    )
