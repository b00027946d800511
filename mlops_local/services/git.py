"""What the program asks of git: which commit this is, what differs from it, what is staged, where hooks live.

Git is optional: without it, or outside a repository, questions about the commit are answered with "nothing", and what
cannot work without git says so. Nothing here writes: no stash, no checkout, no refs, not even an index refresh. Inside a hook
git exports variables that steer every git below it; they are dropped, and only the index of the repository asked about is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO

from mlops_local.domain import secrets
from mlops_local.domain.errors import UsageError
from mlops_local.domain.records import dataclass

DIFF_LIMIT = 1_000_000
"""A dirty diff is kept up to this many bytes."""
_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
_LINK = "120000"
_SUBMODULE = "160000"
_LOCAL = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIFF_OPTS",
    "GIT_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_GLOB_PATHSPECS",
    "GIT_GRAFT_FILE",
    "GIT_ICASE_PATHSPECS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_WORK_TREE",
)
_ASSIGNED_SECRET = re.compile(r"(?i)(\w*(?:_TOKEN|_KEY|SECRET|PASSWORD)[\"']?\s*[:=]\s*[\"'])[^\"'\n]{6,}")


def toplevel(root: Path) -> Path | None:
    """Return the working tree's top folder, or None without git or outside a repository."""
    answer = _ask(root, "rev-parse", "--show-toplevel")
    return Path(os.fsdecode(answer.removesuffix(b"\n"))) if answer else None


def require(root: Path) -> Path:
    """Return the working tree's top folder.

    Raises:
        UsageError: git is missing, or the folder is in no repository, or git refuses it; the message is git's own reason.
    """
    result = _run(root, "rev-parse", "--show-toplevel")
    if result is None:
        raise UsageError("git is not installed, or not on PATH", hint="install git")
    if result.returncode == 0 and result.stdout.strip():
        return Path(os.fsdecode(result.stdout.removesuffix(b"\n")))
    reason = result.stderr.decode(errors="replace").strip().splitlines()
    if reason and "not a git repository" not in reason[0]:
        raise UsageError(f"git refuses {root}: {reason[0].removeprefix('fatal: ')}")
    raise UsageError(f"{root} is not in a git repository", hint="run `git init` first")


def head(root: Path) -> str:
    """Return the commit checked out, or an empty text: no git, no repository, no commit yet."""
    return _ask(root, "rev-parse", "--verify", "--quiet", "HEAD").decode().strip()


def commit(root: Path, revision: str) -> str:
    """Return the full id of the commit a revision names (`HEAD~1`, a branch, the beginning of an id), or an empty text."""
    return _ask(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").decode().strip()


def file_at(root: Path, revision: str, path: str) -> bytes | None:
    """Return a file as a commit has it, its path relative to `root`, or None."""
    found = commit(root, revision)
    answer = _run(root, "cat-file", "blob", f"{found}:./{path}") if found else None
    return answer.stdout if answer is not None and answer.returncode == 0 else None


def dirty_diff(root: Path, limit: int = DIFF_LIMIT) -> tuple[bytes, bool]:
    """Return how the tracked files differ from the commit, and whether they do.

    The diff is cut at `limit` bytes. `.env` files are left out and what looks like a secret is struck out.
    """
    top = toplevel(root)
    if top is None:
        return b"", False
    base = head(root) or _ask(root, "hash-object", "-t", "tree", os.devnull).decode().strip()
    arguments = ["diff", "--no-ext-diff", "--no-textconv", "--no-color", base, "--"]
    found = _run(top, "diff", "--quiet", "--no-ext-diff", base, "--")
    if found is None or found.returncode == 0:
        return b"", False
    with _spawn(top, [*arguments, ":(top)", ":(top,exclude,glob)**/.env", ":(top,exclude,glob)**/.env.*"]) as process:
        assert process.stdout is not None
        text = process.stdout.read(limit + 1)
        if len(text) > limit:
            process.kill()
    return _without_secrets(text)[:limit], True


def clone_at(top: Path, commit: str, folder: Path) -> str:
    """Clone a repository of this machine into a new or empty folder, at a commit. Returns git's reason why not, or nothing."""
    quiet = ["-c", "advice.detachedHead=false"]
    for place, words in (
        (top, ["clone", "--quiet", "--no-checkout", str(top), str(folder)]),
        (folder, [*quiet, "checkout", "--quiet", "--detach", commit]),
    ):
        result = _run(place, *words, timeout_s=None)
        if result is None:
            return "git is not installed, or not on PATH"
        if result.returncode:
            return (result.stderr.decode(errors="replace").strip().splitlines() or ["git gave no reason"])[-1]
    return ""


def apply(folder: Path, diff: bytes, without: Sequence[str] = ()) -> bool:
    """Make the changes of a diff in a working tree, all of them or none; says whether it did. `without`: paths to leave out."""
    left = [f"--exclude={path}" for path in without]
    result = _run(folder, "apply", "--whitespace=nowarn", *left, "-", feed=diff)
    return result is not None and result.returncode == 0


def hooks_path(root: Path) -> Path:
    """Return the folder git runs this repository's hooks from: core.hooksPath, else the common folder of all worktrees.

    Raises:
        UsageError: no git, or no repository.
    """
    top = require(root)
    return top / os.fsdecode(_ask(top, "rev-parse", "--git-path", "hooks").removesuffix(b"\n"))


def git_dir(root: Path, *, common: bool = False) -> Path | None:
    """Return the repository's own folder (this worktree's, or the one all worktrees share), or None outside a repository."""
    answer = _ask(root, "rev-parse", "--git-common-dir" if common else "--git-dir")
    return (root / os.fsdecode(answer.removesuffix(b"\n"))).resolve() if answer else None


@dataclass(frozen=True)
class Entry:
    """One staged file."""

    blob: str
    mode: str


class Tree:
    """The staged files below a folder, read from the index alone.

    Use as a context manager: it keeps one `git cat-file --batch` open.
    """

    def __init__(self, root: Path, top: Path, entries: Mapping[str, Entry], env: Mapping[str, str]) -> None:
        self.root = root
        self.top = top
        self.entries = entries
        """Path relative to the folder, POSIX form -> what is staged there."""
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def open(cls, root: Path) -> Tree:
        """Read the index: the one named by GIT_INDEX_FILE when git runs us in a hook of this repository.

        Raises:
            UsageError: no git, or no repository.
        """
        top = require(root)
        env = index_environment(top)
        listing = _run(root, "ls-files", "--stage", "-z", env=env)
        entries: dict[str, Entry] = {}
        for item in (listing.stdout if listing else b"").split(b"\0"):
            info, _, path = item.partition(b"\t")
            if not path:
                continue
            mode, blob, stage = info.decode().split(" ")
            if stage == "0" and mode != _SUBMODULE:
                entries[os.fsdecode(path)] = Entry(blob, mode)
        return cls(root.resolve(), top, entries, env)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the reading process."""
        if self._process is not None:
            with self._process:
                assert self._process.stdin is not None
                self._process.stdin.close()
            self._process = None

    @cached_property
    def id(self) -> str:
        """Hash of every staged path, mode and content: equal means the same staged tree."""
        digest = hashlib.sha256()
        for path in sorted(self.entries):
            entry = self.entries[path]
            digest.update(f"{entry.mode} {entry.blob}\t".encode() + os.fsencode(path) + b"\0")
        return digest.hexdigest()

    def read(self, path: str) -> bytes | None:
        """Return the staged bytes of a path relative to the folder, or None when it is not staged. Links are followed."""
        entry = self._resolve(path)
        return None if entry is None else b"".join(self.stream(entry.blob))

    def blob(self, path: str) -> str:
        """Return the id of the content staged at a path, or an empty text."""
        entry = self._resolve(path)
        return "" if entry is None else entry.blob

    def stream(self, blob: str) -> Iterator[bytes]:
        """Yield a stored content in chunks. Read it to its end before asking for the next."""
        source, sink = self._pipes()
        sink.write(blob.encode() + b"\n")
        sink.flush()
        header = source.readline().split()
        if len(header) != 3:
            raise UsageError(f"git has no content {blob[:12]}", hint="run `git fsck`")
        left = int(header[2])
        while left:
            chunk = source.read(min(left, _CHUNK))
            if not chunk:
                raise UsageError("git ended while a staged file was read", hint="run `git fsck`")
            left -= len(chunk)
            yield chunk
        source.read(1)

    def stream_filtered(self, path: str) -> Iterator[bytes]:
        """Yield a staged file as a checkout would write it: line endings and filters (git-lfs) applied."""
        full = (self.root / path).relative_to(self.top)
        with _spawn(self.top, ["cat-file", "--filters", f"--path={full}", self.blob(path)], env=self._env) as process:
            assert process.stdout is not None
            while chunk := process.stdout.read(_CHUNK):
                yield chunk
        if process.returncode:
            raise UsageError(f"git cannot check out the staged {path}", hint="is the filter named in .gitattributes installed?")

    def filtered(self, paths: Sequence[str]) -> set[str]:
        """Return those paths that a checkout would not write byte for byte as they are stored."""
        if not paths:
            return set()
        if _ask(self.root, "config", "--get", "core.autocrlf").strip() == b"true":
            return set(paths)
        names = ("filter", "text", "eol", "ident", "working-tree-encoding")
        feed = b"\0".join(os.fsencode(path) for path in paths) + b"\0"
        answer = _run(self.root, "check-attr", "-z", "--cached", "--stdin", *names, env=self._env, feed=feed)
        fields = (answer.stdout if answer else b"").split(b"\0")
        triples = zip(fields[0::3], fields[1::3], fields[2::3], strict=False)
        return {os.fsdecode(path) for path, _, value in triples if value not in {b"unspecified", b"unset"}}

    def _resolve(self, path: str) -> Entry | None:
        for _ in range(8):
            entry = self.entries.get(path)
            if entry is None or entry.mode != _LINK:
                return entry
            target = os.fsdecode(b"".join(self.stream(entry.blob)))
            path = os.path.normpath(PurePosixPath(path).parent / target)
        return None

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process is None:
            self._process = _spawn(self.root, ["cat-file", "--batch"], env=self._env, feed=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdout, self._process.stdin


def staged_paths(root: Path) -> tuple[str, ...]:
    """Return what the next commit would change below the folder, relative to it, sorted.

    Raises:
        UsageError: no git, or no repository.
    """
    env = index_environment(require(root))
    answer = _run(root, "diff", "--cached", "--name-only", "--no-renames", "--relative", "-z", env=env)
    return tuple(sorted(os.fsdecode(path) for path in (answer.stdout if answer else b"").split(b"\0") if path))


def unstaged_paths(root: Path) -> tuple[str, ...]:
    """Return the tracked files below the folder whose working copy differs from what is staged, relative to it, sorted."""
    top = toplevel(root)
    answer = _run(root, "diff", "--name-only", "--no-renames", "--relative", "-z", env=index_environment(top)) if top else None
    return tuple(sorted(os.fsdecode(path) for path in (answer.stdout if answer else b"").split(b"\0") if path))


def ignored(root: Path, paths: Sequence[str]) -> list[str]:
    """Return those paths, relative to the folder, that git is told to ignore."""
    if not paths:
        return []
    answer = _run(root, "check-ignore", "-z", "--stdin", feed=b"\0".join(os.fsencode(path) for path in paths) + b"\0")
    return [os.fsdecode(path) for path in (answer.stdout if answer else b"").split(b"\0") if path]


def environment() -> dict[str, str]:
    """Return our environment without the variables that tie git to one repository."""
    kept = {key: value for key, value in os.environ.items() if key not in _LOCAL}
    return {**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}


def index_environment(top: Path) -> dict[str, str]:
    """Return `environment()` plus the temporary index of a running `git commit`, if that commit is of this repository."""
    env = environment()
    index = os.environ.get("GIT_INDEX_FILE", "")
    if not index:
        return env
    # Git runs hooks in the working tree's top folder and names the index relative to it.
    if toplevel(Path.cwd()) == top:
        env["GIT_INDEX_FILE"] = str(top / index)
    return env


def _without_secrets(diff: bytes) -> bytes:
    text = diff.decode("utf-8", "surrogateescape")
    return secrets.strike(_ASSIGNED_SECRET.sub(rf"\1{secrets.STRUCK}", text)).encode("utf-8", "surrogateescape")


def _ask(root: Path, *arguments: str) -> bytes:
    result = _run(root, *arguments)
    return result.stdout if result is not None and result.returncode == 0 else b""


def _run(
    root: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    feed: bytes = b"",
    timeout_s: float | None = _TIMEOUT_S,
) -> subprocess.CompletedProcess[bytes] | None:
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], env=env or environment(), input=feed, capture_output=True, timeout=timeout_s
        )
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"git {arguments[0]} gave no answer in {_TIMEOUT_S:.0f} s", hint="is the disk busy?") from error


def _spawn(
    root: Path, arguments: Sequence[str], *, env: Mapping[str, str] | None = None, feed: bool = False
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["git", "-C", str(root), *arguments],
        env=env or environment(),
        stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
