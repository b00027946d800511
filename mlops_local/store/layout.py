"""Where everything under .mlops/ is, and how the folder comes into being.

Every path of the store is named here and nowhere else. Making it is idempotent and overwrites nothing.
"""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import IntegrityError, NewerStore, UsageError
from mlops_local.domain.records import dataclass
from mlops_local.store import files

PROJECT_FILE = "mlops.toml"
FORMAT = 1
"""Number of the folder's own layout; a program that knows only smaller ones refuses it."""

_SHARED_FILESYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.rclone", "fuse.gdfs"})

_README = """\
This folder is kept by `mlops`. Do not edit it by hand.

project.duckdb  every table, rebuilt at any time from the files below: `mlops db rebuild`
journal/        what happened (one file a process) and what was decided (ledger.jsonl); done/ holds finished ones, zstd
objects/        file contents by BLAKE3 hash; those of data snapshots in objects/packs, as zstd frames (below)
checkpoints/    where interrupted steps can go on: `mlops train --resume`
cache/          can be deleted
config          this project's identity and signing key; do not share it

All of it can be read without mlops: DuckDB, JSON lines, zstd, Parquet. A data file by its BLAKE3 hash (`snapshot_file.hash`):

  grep -h "^$hash" objects/packs/*.files | head -n 1 | tr ' ' '\\n' | tail -n +3 | tr : ' ' | while read pack offset length
    do tail -c +$((offset + 1)) objects/packs/$pack.pack | head -c $length; done | zstd -dc > FILE
"""


@dataclass(frozen=True)
class Layout:
    """Paths of one project's store. Made once each: a step asks for dozens."""

    root: Path
    """The folder with mlops.toml."""

    @cached_property
    def state(self) -> Path:
        """.mlops/, in the main worktree when `root` is in a linked one."""
        return state_of(self.root)

    @cached_property
    def database(self) -> Path:
        """The DuckDB file. Never open() it: only DuckDB may."""
        return self.state / "project.duckdb"

    @cached_property
    def journal(self) -> Path:
        """Folder of the process journals and the ledger."""
        return self.state / "journal"

    @cached_property
    def done(self) -> Path:
        """Folder of folded journals, compressed."""
        return self.journal / "done"

    @cached_property
    def ledger(self) -> Path:
        """The ordered file of decisions."""
        return self.journal / "ledger.jsonl"

    @cached_property
    def objects(self) -> Path:
        """Content-addressed files."""
        return self.state / "objects"

    @cached_property
    def packs(self) -> Path:
        """Contents of snapshots' files, in chunks."""
        return self.objects / "packs"

    @property
    def packs_lock(self) -> Path:
        """Shared by who adds to packs, held alone by who removes from them."""
        return self.state / "packs.lock"

    @cached_property
    def cache(self) -> Path:
        """What can be made again from journals."""
        return self.state / "cache"

    @property
    def folded(self) -> Path:
        """What was folded, by stat: replaced by every fold that found something, void for a new database."""
        return self.cache / "folded.json"

    @cached_property
    def logs(self) -> Path:
        """Output of steps and tracebacks of our own bugs."""
        return self.state / "logs"

    @cached_property
    def tmp(self) -> Path:
        """Drafts on the same file system as the objects."""
        return self.state / "tmp"

    @cached_property
    def leases(self) -> Path:
        """Locks on results that are being made, by fingerprint, and on runs that were resumed."""
        return self.tmp / "leases"

    @cached_property
    def checkpoints(self) -> Path:
        """What running steps keep of themselves, by fingerprint."""
        return self.state / "checkpoints"

    def stop_request(self, run: str) -> Path:
        """The file that asks a run to end: `keep` or `cancel`."""
        return self.state / "stops" / run

    @property
    def store_lock(self) -> Path:
        """Queue for the DuckDB file."""
        return self.state / "store.lock"

    @property
    def ledger_lock(self) -> Path:
        """Queue for appending a decision."""
        return self.state / "ledger.lock"

    @property
    def config(self) -> Path:
        """Identity and signing key, 0600."""
        return self.state / "config"

    @property
    def choices(self) -> Path:
        """What a person was asked once."""
        return self.state / "choices.json"

    @property
    def lockfile(self) -> Path:
        """mlops.lock, committed beside mlops.toml."""
        return self.root / "mlops.lock"


@dataclass(frozen=True)
class Beside(Layout):
    """The same store with another database, which is not the project's yet."""

    @cached_property
    def database(self) -> Path:
        """A draft."""
        return self.tmp / "rebuild.duckdb"

    @property
    def folded(self) -> Path:
        """Nobody notes what is in a draft."""
        return self.database.with_suffix(".json")

    @property
    def store_lock(self) -> Path:
        """Nobody queues for it: there is one rebuild at a time."""
        return self.database.with_suffix(".turn")


def find_root(start: Path) -> Path | None:
    """Return the nearest folder at or above `start` that holds mlops.toml."""
    here = start.resolve()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder
    return None


def state_of(root: Path) -> Path:
    """Return the .mlops folder that belongs to `root`: a linked git worktree shares the main one's."""
    root = root.resolve()
    for top in (root, *root.parents):
        git = top / ".git"
        if git.is_dir():
            break
        if git.is_file():
            main = _main_worktree(git)
            home = main / root.relative_to(top) if main is not None else root
            return (home if home.is_dir() else root) / ".mlops"
    return root / ".mlops"


def _main_worktree(git: Path) -> Path | None:
    """The main worktree a linked worktree's `.git` file leads to; None for submodules and bare repositories."""
    text = git.read_text(encoding="utf-8", errors="surrogateescape").strip()
    if not text.startswith("gitdir:"):
        return None
    folder = git.parent / text[len("gitdir:") :].strip()
    common = folder / "commondir"
    if not common.is_file():
        return None
    shared = Path(os.path.normpath(folder / common.read_text(encoding="utf-8", errors="surrogateescape").strip()))
    return shared.parent if shared.name == ".git" else None


def create(layout: Layout, *, unsafe_fs: bool = False) -> None:
    """Make .mlops/ and what belongs in it, where it is missing.

    Args:
        layout: the project's paths.
        unsafe_fs: allow a network file system, where locks cannot be trusted.

    Raises:
        NewerStore: a newer version of this program made it.
        UsageError: the folder is on a network file system, or has a name that DuckDB cannot open.
        MlopsError: it cannot be written.
    """
    check(layout, unsafe_fs=unsafe_fs)
    try:
        for folder in (
            layout.state,
            layout.journal,
            layout.done,
            layout.objects,
            layout.packs,
            layout.cache,
            layout.logs,
            layout.tmp,
        ):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
        for name, text in (("README", _README), (".gitignore", "*\n")):
            if not (layout.state / name).exists():
                files.replace(layout.state / name, text.encode(), mode=0o644)
    except OSError as error:
        raise files.cannot_write(layout.state, error) from error
    if not layout.config.exists():
        _create_config(layout)
    known = _config(layout).get("format", FORMAT)
    if known > FORMAT:
        raise NewerStore(
            f"{layout.state.name}/ was written by a newer version of mlops (format {known}, this one knows {FORMAT})",
            hint="upgrade with `pip install --upgrade mlops-local`",
        )


def check(layout: Layout, *, unsafe_fs: bool = False) -> None:
    """Refuse a folder that no store can be in, and change nothing. Raises UsageError as `create`."""
    if not layout.config.exists():
        _refuse_network(layout.root, unsafe_fs)
    try:
        str(layout.state).encode()
    except UnicodeEncodeError:
        shown = f"{str(layout.state.parent)!a}"
        raise UsageError(f"the folder's name is not UTF-8: {shown}", hint="rename it: DuckDB opens no file in it") from None


def _create_config(layout: Layout) -> None:
    value = {"format": FORMAT, "project_id": os.urandom(16).hex(), "hmac_key": os.urandom(32).hex()}
    draft = layout.tmp / f"config.{os.urandom(6).hex()}"
    files.replace(draft, json.dumps(value, indent=1).encode() + b"\n", sync=True)
    try:
        layout.config.hardlink_to(draft)  # refuses to overwrite: the first of several processes wins
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _config(layout: Layout) -> dict[str, Any]:
    try:
        value = json.loads(layout.config.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{layout.state.name}/config cannot be read: {error}",
            hint="restore it from a backup; without it a new one is made, and pickled step outputs are made again",
        ) from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{layout.state.name}/config is not a table", hint="restore it from a backup")
    return value


def project_id(layout: Layout) -> str:
    """Return the project's identity, made once by `create`."""
    return str(_config(layout)["project_id"])


def store_id(layout: Layout) -> str:
    """Return what tells this store from other copies and clones of the project; says nothing of the key it comes from."""
    import hashlib  # noqa: PLC0415  (3 ms for OpenSSL that a script which only logs does not pay)

    return hashlib.sha256(b"mlops store\0" + hmac_key(layout)).hexdigest()[:16]


def take_identity(layout: Layout, project: str) -> None:
    """Become a clone of that project: its seeds are ours from now on. The key stays our own."""
    files.replace(layout.config, json.dumps({**_config(layout), "project_id": project}, indent=1).encode() + b"\n", sync=True)


def hmac_key(layout: Layout) -> bytes:
    """Return the key that signs pickles this store wrote itself."""
    return bytes.fromhex(_config(layout)["hmac_key"])


def _refuse_network(root: Path, unsafe_fs: bool) -> None:
    kind = _filesystem(root)
    if kind in _SHARED_FILESYSTEMS and not unsafe_fs:
        raise UsageError(
            f"{root} is on a network file system ({kind}), where locks between processes cannot be trusted",
            hint="move the project to a local disk, or pass --unsafe-fs if only one machine uses it",
        )


def _filesystem(path: Path) -> str:
    """The type of the file system `path` is on; empty where the system does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = before.split()[4].encode().decode("unicode_escape")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, after.split()[0]
    return kind
