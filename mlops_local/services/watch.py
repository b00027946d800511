"""Train again at each save, as far as needed, and say in one line what it did.

Events only say where to look; whether anything changed is decided by content. A save during a run ends it once nothing it is
doing is wanted any more. Nothing the user writes ends the watcher: what fails is shown, and the next save is waited for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from mlops_local.domain.errors import ConfigError, MlopsError, ProjectNotFound
from mlops_local.domain.graph import PULLED, Graph, Source
from mlops_local.domain.names import counted
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.engines.data import files, patterns
from mlops_local.engines.pipeline.runner import Workers
from mlops_local.engines.pipeline.sources import discover
from mlops_local.engines.watch.changes import Settler, Stamp
from mlops_local.engines.watch.meaning import digest, whole
from mlops_local.engines.watch.observer import Observer
from mlops_local.services import edits, git, interpreter, planning, programs, pulled, watch_lines
from mlops_local.services.attempt import Attempt
from mlops_local.services.companion import Companion
from mlops_local.services.edits import Version
from mlops_local.services.execution import Cancelled
from mlops_local.services.held import held
from mlops_local.services.project import CONFIG, Project, read_config
from mlops_local.services.timetable import Timetable
from mlops_local.services.train import TrainResult, train
from mlops_local.store import cache, registry

SAMPLE = 0.05
"""The part of the data a smoke run is given."""
FULL_AFTER_S = 3.0
"""How long after a smoke run without a save the full run begins."""


def watch(
    project: Project,
    targets: Sequence[str] = (),
    *,
    serve: Sequence[str] | None = None,
    polling: bool = False,
    smoke: bool = False,
    emit: Emit = ignore,
    stop: threading.Event,
) -> None:
    """Keep the targets up to date until `stop` is set.

    Args:
        project: the project.
        targets: what to build; [project] targets when empty.
        serve: options for a server run beside the watcher (may be empty); None for no server.
        polling: look each second instead of asking the system to tell.
        smoke: run on a sample first, on everything when no save came for a while.
        emit: told everything; events of kind `watch` are the one line each change ends in.
        stop: set it to end; a run in progress is cancelled.

    Raises:
        ProjectNotFound: the project's folder is gone.
        ConfigError: `[project] python` cannot be started.
    """
    workers = _workers(project, emit)
    with Observer(project.root, polling=polling) as observer:
        _Watcher(project, tuple(targets), observer, workers, emit, serve, polling, smoke).loop(stop)


def _workers(project: Project, emit: Emit) -> Workers:
    if remark := interpreter.of(project).remark(project.root):
        emit(Progress("note", remark))
    return interpreter.workers(project)


@dataclass
class _Watcher:
    project: Project
    targets: tuple[str, ...]
    observer: Observer
    workers: Workers
    """Kept from run to run: a save finds its libraries loaded."""
    emit: Emit
    serve: Sequence[str] | None
    polling: bool
    smoke: bool
    graph: Graph = field(default_factory=Graph)
    seen: dict[str, str] = field(default_factory=dict)
    """Code file -> hash of the content that was last looked at."""
    version: Version | None = None
    """The project as the newest run saw it."""
    attempt: Attempt | None = None
    settled: TrainResult | None = None
    """What the newest attempt left; None while its failure is not mended."""
    repository: Path | None = None
    """Git's own folder."""
    alarm: threading.Timer | None = None
    """Wakes us when the full run after a smoke run is due."""
    full_at: float = 0.0
    full: tuple[str, ...] | None = None
    """The files the full run that is due is about; None when none is."""
    asked: dict[str, str | None] = field(default_factory=dict)
    """File that a query names -> hash of the content that was last looked at."""
    tried_s: float = 0.0
    """When the newest attempt began, by the wall clock."""

    def loop(self, stop: threading.Event) -> None:
        """Attempt once, then after each change, until stopped."""
        server = Companion(self.project.root, self._tell_served, options=tuple(self.serve or ()))
        settler = Settler(stamp=self._stamp, parses=self._parses, wanted=self._wanted)
        timetable = Timetable(self.observer.wake)
        try:
            self._survey()
            self._begin(())
            for paths in self.observer.changes(settler, stop, held=lambda: held(self.repository)):
                self._finish()
                self._take(sorted(paths))
                self._begin_full()
                self._begin_due(timetable)
                self._say_polling()
                self._keep_serving(server)
        finally:
            self._end_attempt()
            self._set_alarm(None)
            timetable.stop()
            self.workers.close()
            server.stop()

    # Changes

    def _take(self, paths: Sequence[str]) -> None:
        if not paths:
            return
        if not self.project.root.is_dir():
            raise ProjectNotFound(
                f"the project's folder is gone: {self.project.root}", hint="start the watcher again where it is"
            )
        modules = self._modules()
        known = {source.name: self._known(source.name) for source in self.graph.sources}
        paths = [path for path in paths if self._matters(path, modules) and not self._awaited(path)]
        changed = tuple(path for path in paths if self._changed(path, known))
        self.seen.update({path: digest(self._read(path)) for path in changed if not self._is_data(path)})
        if not changed:
            return
        if self.attempt is None:
            self._take_at_rest(changed)
        else:
            self._take_in_run(self.attempt, changed)

    def _take_at_rest(self, changed: tuple[str, ...]) -> None:
        if self.settled is not None and self.version is not None:
            edit = edits.compare(self.project.root, self.version, sources=self._sources(changed))
            if edit.same and self.full is not None:
                self._say([watch_lines.what(changed), "means the same, the full run follows"], "same", changed)
                return
            if edit.same:
                self._say(watch_lines.nothing(changed, len(self.settled.plan.decisions)), "nothing", changed)
                return
        self._begin(changed)

    def _take_in_run(self, attempt: Attempt, changed: tuple[str, ...]) -> None:
        attempt.later += changed
        if attempt.version is None:  # it has run nothing yet
            attempt.cancel.set()
            return
        # Everything that changed since it set out counts, not only what was saved last: an edit may also be taken back.
        edit = edits.compare(self.project.root, attempt.version, sources=self._sources(attempt.later))
        if edit.problem:
            self._say([watch_lines.what(changed), f"{edit.problem}; the run goes on"], "broken", changed)
            return
        goes_on = attempt.end_when_pointless(edit.affected & set(attempt.version.steps))
        if edit.same:
            attempt.later.clear()
            self._say([watch_lines.what(changed), "means the same, the run goes on"], "same", changed)
        elif attempt.cancel.is_set():
            kept = f", {counted(attempt.finished, 'step')} kept" if attempt.finished else ""
            self._say([watch_lines.what(changed), f"the run is ended and begun anew{kept}"], "superseded", changed)
        elif edit.affected & set(attempt.version.steps):
            text = f"begun anew after {', '.join(goes_on)}, which it does not affect"
            self._say([watch_lines.what(changed), text], "waits", changed)
        else:
            self._say([watch_lines.what(changed), "nothing in this run depends on it, it goes on"], "unaffected", changed)
        attempt.answered = not edit.affected

    def _matters(self, path: str, modules: set[str]) -> bool:
        # A new module counts once the code asks for it, or when it may mend what is broken.
        broken = self.attempt is None and self.settled is None
        return broken or path in self.seen or path in modules or self._is_data(path)

    def _changed(self, path: str, known: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether the content differs from what was last looked at; after a failure every event counts."""
        if self.attempt is None and self.settled is None and not _is_pulled(path):
            return True
        if not self._is_data(path):
            return digest(self._read(path)) != self.seen.get(path, "")
        file = self.project.root / path
        now = files.digest(file) if file.is_file() else None
        if any(self._asks_for(source, path) for source in self.graph.sources) and self.asked.get(path, "") != now:
            self.asked[path] = now
            return True
        holding = [source.name for source in self.graph.sources if patterns.matches(source.pattern, path)]
        return any(known[name].get(path) != now for name in holding)

    def _awaited(self, path: str) -> bool:
        """Whether a run that has not planned yet is putting the file there: it reads it afterwards."""
        return self.attempt is not None and self.attempt.version is None and _is_pulled(path)

    def _asks_for(self, source: Source, path: str) -> bool:
        return any(patterns.matches(pattern, path) for pattern in pulled.named(source))

    def _known(self, source: str) -> dict[str, str]:
        snapshot = cache.snapshot(self.project.layout, source)
        return {} if snapshot is None else snapshot.listed.contents

    def _sources(self, paths: Iterable[str]) -> set[str]:
        """The sources these files belong to, or whose queries name them."""
        return {
            source.name
            for source in self.graph.sources
            if any(patterns.matches(source.pattern, path) or self._asks_for(source, path) for path in paths)
        }

    def _wanted(self, path: str) -> bool:
        return path == CONFIG or path in self.seen or path.endswith(".py") or self._is_data(path) or self._is_program(path)

    def _is_program(self, path: str) -> bool:
        return any(patterns.matches(pattern, path) for pattern in programs.code(self.graph))

    def _is_data(self, path: str) -> bool:
        return bool(self._sources([path]))

    def _stamp(self, path: str) -> Stamp | None:
        try:
            stat = (self.project.root / path).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def _parses(self, path: str) -> bool:
        return whole(path, self._read(path))

    def _read(self, path: str) -> bytes | None:
        return planning.working_tree(self.project.root)(path)

    # Attempts

    def _begin(self, changed: tuple[str, ...], *, quiet: bool = False, full: bool = False) -> None:
        """Run in a thread of its own; what changes from now on is seen as a change."""
        changed = changed if full else tuple(dict.fromkeys((*(self.full or ()), *changed)))
        self._set_alarm(None)
        self.tried_s = time.time()
        paths = {CONFIG, self.project.config.pipeline, *self._modules(), *self.graph.reads, *self.seen}
        contents = {path: self._read(path) for path in paths}
        self.seen = {path: digest(content) for path, content in contents.items()}
        self.settled = None
        self.attempt = Attempt(self.project, contents[CONFIG] or b"", changed, sampled=self.smoke and not full, quiet=quiet)
        self.attempt.start(self._work, self.emit, self.observer.wake)

    def _work(self, attempt: Attempt, emit: Emit) -> TrainResult:
        project = self._configured(attempt.toml)
        attempt.project = project
        if interpreter.of(project).path != self.workers.python:  # another was named or appeared: no other attempt is running
            self.workers.close()
            self.workers = _workers(project, emit)
        if attempt.sampled:  # only where there is something to run: what is fresh needs no smoke
            planned = train(project, self.targets, dry_run=True, cancel=attempt.cancel, workers=self.workers)
            attempt.sampled = bool(planned.plan.stale)
        sample = SAMPLE if attempt.sampled else 0.0
        return train(project, self.targets, sample=sample, emit=emit, cancel=attempt.cancel, workers=self.workers)

    def _begin_full(self) -> None:
        if self.full is not None and self.attempt is None and time.monotonic() >= self.full_at:
            self._begin(self.full, full=True)

    def _begin_due(self, timetable: Timetable) -> None:
        """Pull what is due, and run what that changes; that there is nothing to run goes without saying."""
        if self.attempt is not None:
            return
        steps = (
            self.graph.steps if self.version is None else [step for step in self.graph.steps if step.name in self.version.steps]
        )
        read = [self.graph.source(name) for name in planning.sources_of(self.graph, steps)]
        timetable.set(pulled.times(self.project, read, tried_s=self.tried_s))
        if due := timetable.due():
            self._begin(tuple(self.graph.source(name).pattern for name in due), quiet=True, full=True)

    def _set_alarm(self, changed: tuple[str, ...] | None) -> None:
        """Have the full run begin after a while, or not (None)."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm.join()
        self.alarm, self.full = None, changed
        if changed is not None:
            self.full_at = time.monotonic() + FULL_AFTER_S
            self.alarm = threading.Timer(FULL_AFTER_S, self.observer.wake)
            self.alarm.daemon = True
            self.alarm.start()

    def _configured(self, content: bytes | None) -> Project:
        if not content:
            raise ConfigError(f"{CONFIG} is gone", hint="put it back, for example with `git checkout mlops.toml`")
        return replace(self.project, config=read_config(content, name=self.project.root.name))

    def _finish(self) -> None:
        """Report an attempt that has ended, and begin the one that follows it."""
        attempt = self.attempt
        if attempt is None or attempt.running:
            return
        attempt.join()
        self.attempt = None
        self.version = attempt.version or self.version
        if attempt.error is not None and not isinstance(attempt.error, MlopsError):
            raise attempt.error
        self._survey()
        if attempt.result is not None:
            self.settled = attempt.result
            self._say_done(attempt, attempt.result)
            if attempt.sampled and not attempt.later:
                self._set_alarm(attempt.changed)
        elif attempt.error is not None and not isinstance(attempt.error, Cancelled) and (attempt.answered or not attempt.later):
            self._say_failed(attempt, attempt.error)
            return
        if attempt.later:
            self._begin(tuple(dict.fromkeys(attempt.later)), quiet=attempt.answered)

    def _end_attempt(self) -> None:
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            attempt.cancel.set()
            attempt.join()

    # The project's shape

    def _survey(self) -> None:
        """Learn which files matter now and watch their folders. A project that does not load keeps the shape it had."""
        paths: Iterable[str]
        try:
            self.project = self._configured(self._read(CONFIG))
            code = self.version.code if self.version is not None else planning.known_code(self.project)
        except MlopsError:
            code = None
        if code is None:
            paths = {*self._modules(), *self.seen}
        else:
            self.graph = code.graph
            paths = {*(source.path for source in code.sources.values()), *self._modules(), *code.graph.reads}
        self.repository = git.git_dir(self.project.root)
        folders = {str(PurePosixPath(path).parent): False for path in (*paths, "src/x")}
        own = [pattern for source in self.graph.sources for pattern in (source.pattern, *pulled.named(source))]
        for pattern in (*own, *programs.code(self.graph)):
            for folder, deep in patterns.folders(pattern).items():
                folders[folder] = folders.get(folder, False) or deep
        self.observer.look(folders)

    def _modules(self) -> set[str]:
        """The files that are code now: the pipeline's modules and the programs of command steps."""
        own = programs.files(self.project.root, self.graph)
        try:
            found = discover(self.project.config.pipeline, planning.working_tree(self.project.root))
        except MlopsError:
            return own
        return own | {source.path for source in found.values()}

    # Serving and saying

    def _keep_serving(self, server: Companion) -> None:
        if self.serve is None:
            return
        if ended := server.ended():
            self._say([f"{ended}; it is started again after the next run"], "served")
        elif self.attempt is None and not server.pid and registry.load(self.project.layout).aliases:
            server.start(os.getpid())

    def _tell_served(self, line: str) -> None:
        self.emit(Progress("served", line))

    def _say_polling(self) -> None:
        if self.observer.polling and not self.polling:
            self.polling = True
            text = "the system's limit of file watches is reached: looking each second instead"
            self.emit(Progress("warning", text, data={"hint": "raise fs.inotify.max_user_watches"}))

    def _say_done(self, attempt: Attempt, result: TrainResult) -> None:
        if attempt.quiet and not result.ran:
            return
        if attempt.sampled:
            seconds = time.monotonic() - attempt.started
            rows = watch_lines.smoke(attempt.changed, result, seconds, SAMPLE)
            self._tell(rows, "smoke", attempt.changed, watch_lines.smoke_facts(result, seconds, SAMPLE))
            return
        state = registry.load(self.project.layout)
        seconds = time.monotonic() - attempt.started
        rows = watch_lines.done(attempt.changed, result, state, seconds)
        if not attempt.changed:
            rows = [*rows, [f"watching {', '.join(self.observer.folders)}"]]
        data = watch_lines.facts(result, state, seconds)
        self._tell(rows, "done" if result.ran else "nothing", attempt.changed, data)

    def _say(self, row: Sequence[str], state: str, changed: Sequence[str] = ()) -> None:
        self._tell([row], state, changed, {})

    def _say_failed(self, attempt: Attempt, error: MlopsError) -> None:
        data = {
            "error": error.message,
            "hint": watch_lines.hint(error.hint),
            "traceback": getattr(error, "traceback", ""),
            "problems": list(getattr(error, "problems", ())),
        }
        row = [*([watch_lines.what(attempt.changed)] if attempt.changed else []), error.message]
        self._tell([row], "failed", attempt.changed, data)

    def _tell(self, rows: Sequence[Sequence[str]], state: str, changed: Sequence[str], data: dict[str, object]) -> None:
        text = watch_lines.text(rows)
        self.emit(Progress("watch", text, data={"state": state, "changed": list(changed), **data, "rows": rows}))


def _is_pulled(path: str) -> bool:
    return path.startswith(f"{PULLED}/")
