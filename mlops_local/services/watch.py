"""Train again at each save, as far as needed, and say in one line what it did.

Events only say where to look; whether anything changed is decided by content. A save during a run ends that run and starts
anew. Nothing the user writes ends the watcher: what fails is shown, and the next save is waited for.
"""

from __future__ import annotations

import ast
import hashlib
import os
import threading
import time
import tomllib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from mlops_local.domain.errors import ConfigError, MlopsError
from mlops_local.domain.graph import Graph
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.engines.data import files, patterns
from mlops_local.engines.pipeline.sources import discover
from mlops_local.engines.watch.changes import Settler, Stamp, kind
from mlops_local.engines.watch.observer import Observer
from mlops_local.services import git, planning, watch_lines
from mlops_local.services.companion import Companion
from mlops_local.services.execution import Cancelled
from mlops_local.services.project import CONFIG, Project, read_config
from mlops_local.services.train import TrainResult, train
from mlops_local.store import cache, registry

_PATCH_S = 600.0
"""A patch file of the pre-commit framework older than this is not believed."""


def watch(
    project: Project,
    targets: Sequence[str] = (),
    *,
    serve: Sequence[str] | None = None,
    polling: bool = False,
    emit: Emit = ignore,
    stop: threading.Event,
) -> None:
    """Keep the targets up to date until `stop` is set.

    Args:
        project: the project.
        targets: what to build; [project] targets when empty.
        serve: options for a server run beside the watcher (may be empty); None for no server.
        polling: look each second instead of asking the system to tell.
        emit: told everything; events of kind `watch` are the one line each change ends in.
        stop: set it to end; a run in progress is cancelled.
    """
    with Observer(project.root, polling=polling) as observer:
        _Watcher(project, tuple(targets), observer, emit, serve).loop(stop)


@dataclass
class _Attempt:
    """One run of the pipeline in a thread of its own."""

    why: str
    """`pipeline.py saved`, or empty for the first."""
    cancel: threading.Event = field(default_factory=threading.Event)
    result: TrainResult | None = None
    error: BaseException | None = None
    started: float = field(default_factory=time.monotonic)
    thread: threading.Thread | None = None


@dataclass
class _Watcher:
    project: Project
    targets: tuple[str, ...]
    observer: Observer
    emit: Emit
    serve: Sequence[str] | None
    graph: Graph = field(default_factory=Graph)
    code: dict[str, str] = field(default_factory=dict)
    """Code file -> hash of the content the newest attempt set out with."""
    meanings: dict[str, str] = field(default_factory=dict)
    attempt: _Attempt | None = None
    settled: TrainResult | None = None
    """What the newest attempt left; None while its failure is not mended."""
    repository: Path | None = None
    """Git's own folder."""

    def loop(self, stop: threading.Event) -> None:
        """Attempt once, then after each change, until stopped."""
        server = Companion(self.project.root, self._tell_served, options=tuple(self.serve or ()))
        settler = Settler(stamp=self._stamp, parses=self._parses, wanted=self._wanted)
        try:
            self._survey()
            self._begin("")
            for paths in self.observer.changes(settler, stop, held=self._held):
                self._finish()
                self._take(sorted(paths))
                self._keep_serving(server)
        finally:
            self._end_attempt()
            server.stop()

    # Changes

    def _take(self, paths: Sequence[str]) -> None:
        changed = [path for path in paths if self._changed(path)]
        if not changed:
            return
        why = _what(changed, self.project.root)
        meant = [path for path in changed if self._means_something(path)]
        if not meant and self.attempt is not None:
            self._say(f"{why}: means the same, the run goes on", "same")
        elif not meant and self.settled is not None:
            self._say(f"{why}: nothing to do, {watch_lines.steps(len(self.settled.plan.decisions))} fresh", "nothing")
        else:
            if self._end_attempt():
                self._say(f"{why}: the run in progress is ended and begun anew", "superseded")
            self._begin(why)
            return
        for path in changed:
            self.code[path] = _digest(self._read(path))

    def _changed(self, path: str) -> bool:
        """Whether the content differs from what the newest attempt knows; after a failure every event counts."""
        if self.attempt is None and self.settled is None:
            return True
        if not self._is_data(path):
            return _digest(self._read(path)) != self.code.get(path, "")
        for source in self.graph.sources:
            if patterns.matches(source.pattern, path):
                snapshot = cache.snapshot(self.project.layout, source.name)
                known = {entry.path: entry.hash for entry in snapshot.files} if snapshot is not None else {}
                file = self.project.root / path
                now = files.digest(file) if file.is_file() else None
                if known.get(path) != now:
                    return True
        return False

    def _means_something(self, path: str) -> bool:
        if kind(path) != "code" or self._is_data(path):
            return True
        return _meaning(path, self._read(path)) != self.meanings.get(path, "")

    def _wanted(self, path: str) -> bool:
        if path == CONFIG or path in self.code or self._is_data(path):
            return True
        if not path.endswith(".py"):
            return False
        # A new module counts once the code asks for it, or when it may mend what is broken.
        return (self.attempt is None and self.settled is None) or path in self._modules()

    def _is_data(self, path: str) -> bool:
        return any(patterns.matches(source.pattern, path) for source in self.graph.sources)

    def _stamp(self, path: str) -> Stamp | None:
        try:
            stat = (self.project.root / path).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def _parses(self, path: str) -> bool:
        content = self._read(path)
        return content is None or not _meaning(path, content).startswith("broken ")

    def _read(self, path: str) -> bytes | None:
        return planning.working_tree(self.project.root)(path)

    def _held(self) -> bool:
        return (self.repository is not None and (self.repository / "index.lock").exists()) or _stashed_by_pre_commit()

    # Attempts

    def _begin(self, why: str) -> None:
        """Note what the code is now, then run; what changes later is seen as a change."""
        paths = {CONFIG, self.project.config.pipeline, *self._modules(), *self.graph.reads, *self.code}
        contents = {path: self._read(path) for path in paths}
        self.code = {path: _digest(content) for path, content in contents.items()}
        self.meanings = {path: _meaning(path, content) for path, content in contents.items()}
        self.settled = None
        self.attempt = _Attempt(why)
        self.attempt.thread = threading.Thread(target=self._run, args=(self.attempt,), name="mlops-train", daemon=True)
        self.attempt.thread.start()

    def _run(self, attempt: _Attempt) -> None:
        try:
            attempt.result = train(self._configured(), self.targets, emit=self.emit, cancel=attempt.cancel)
        except BaseException as error:  # noqa: BLE001  (carried to the watching thread, which decides)
            attempt.error = error
        self.observer.wake()

    def _configured(self) -> Project:
        content = self._read(CONFIG)
        if content is None:
            raise ConfigError(f"{CONFIG} is gone", hint="put it back, for example with `git checkout mlops.toml`")
        return replace(self.project, config=read_config(content, name=self.project.root.name))

    def _finish(self) -> None:
        """Report an attempt that has ended."""
        attempt = self.attempt
        if attempt is None or attempt.thread is None or attempt.thread.is_alive():
            return
        attempt.thread.join()
        self.attempt = None
        seconds = time.monotonic() - attempt.started
        if attempt.result is not None:
            self.settled = attempt.result
            self._survey()
            state = registry.load(self.project.layout)
            folders = f"watching {', '.join(self.observer.folders)}" if not attempt.why else ""
            self._say(watch_lines.done(attempt.why, attempt.result, state, seconds, folders), "done")
        elif isinstance(attempt.error, MlopsError) and not isinstance(attempt.error, Cancelled):
            self._survey()
            self._say_failed(attempt.why, attempt.error)
        elif attempt.error is not None and not isinstance(attempt.error, Cancelled):
            raise attempt.error

    def _end_attempt(self) -> bool:
        """End the attempt in progress; say whether it was cut short. One that was just done is reported."""
        attempt = self.attempt
        if attempt is None or attempt.thread is None:
            return False
        attempt.cancel.set()
        attempt.thread.join()
        self._finish()
        return isinstance(attempt.error, Cancelled)

    # The project's shape

    def _survey(self) -> None:
        """Learn which files matter now and watch their folders. A project that does not load keeps the shape it had."""
        try:
            self.project = self._configured()
            code = planning.read_code(self.project)
        except MlopsError:
            paths: Iterable[str] = {*self._modules(), *self.code}
        else:
            self.graph = code.graph
            paths = {*(source.path for source in code.sources.values()), *code.graph.reads}
        self.repository = git.git_dir(self.project.root)
        folders = {str(PurePosixPath(path).parent): False for path in (*paths, "src/x")}
        for source in self.graph.sources:
            folder, deep = patterns.folder(source.pattern)
            folders[folder] = folders.get(folder, False) or deep
        self.observer.look(folders)

    def _modules(self) -> set[str]:
        try:
            found = discover(self.project.config.pipeline, planning.working_tree(self.project.root))
        except MlopsError:
            return set()
        return {source.path for source in found.values()}

    # Serving and saying

    def _keep_serving(self, server: Companion) -> None:
        if self.serve is None:
            return
        if ended := server.ended():
            self._say(f"{ended}; it is started again after the next run", "served")
        elif self.attempt is None and not server.pid and registry.load(self.project.layout).aliases:
            server.start(os.getpid())

    def _tell_served(self, line: str) -> None:
        self.emit(Progress("served", line))

    def _say(self, text: str, state: str) -> None:
        self.emit(Progress("watch", text, data={"state": state}))

    def _say_failed(self, why: str, error: MlopsError) -> None:
        data = {"state": "failed", "traceback": getattr(error, "traceback", ""), "hint": error.hint}
        problems: Mapping[str, object] = {"problems": list(getattr(error, "problems", ()))}
        self.emit(Progress("watch", f"{why + ': ' if why else ''}{error.message}", data={**data, **problems}))


def _what(paths: Sequence[str], root: Path) -> str:
    """`pipeline.py saved`, `data/a.parquet and 2 more new`."""
    gone = [path for path in paths if not (root / path).exists()]
    verb = "deleted" if len(gone) == len(paths) else "saved" if all(kind(path) == "code" for path in paths) else "changed"
    shown = f"{paths[0]} and {len(paths) - 2 + 1} more" if len(paths) > 2 else " and ".join(paths)
    return f"{shown} {verb}"


def _digest(content: bytes | None) -> str:
    return "" if content is None else hashlib.blake2b(content, digest_size=16).hexdigest()


def _meaning(path: str, content: bytes | None) -> str:
    """The file without what cannot matter: comments, formatting, docstrings. What does not parse is its bytes."""
    if content is None:
        return "absent"
    try:
        if path.endswith(".toml"):
            return repr(tomllib.loads(content.decode("utf-8")))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return f"broken {_digest(content)}"
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            node.body = node.body[1:]
    return ast.dump(tree)


def _stashed_by_pre_commit() -> bool:
    """Whether the pre-commit framework has put unstaged edits aside for a moment: its patch file carries the process's id."""
    home = os.environ.get("PRE_COMMIT_HOME")
    cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  (never raises without HOME)
    patches = Path(home or f"{cache_home}/pre-commit").glob("patch*-*")
    return any(_young(patch) and _alive(patch.name.rpartition("-")[2]) for patch in patches)


def _young(file: Path) -> bool:
    try:
        return file.stat().st_mtime > time.time() - _PATCH_S
    except OSError:
        return False


def _alive(pid: str) -> bool:
    if not pid.isdigit() or int(pid) == 0:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
