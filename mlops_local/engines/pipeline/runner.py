"""Hold the workers: processes in the project's interpreter that describe the graph and run steps, many at a time.

There is one process for each thread limit, since libraries read theirs when they are imported. Each imports the libraries of
what is about to run and forks a child for each request, so that whoever keeps the workers pays for a fork and not for an
interpreter. This module never imports the user's code and never waits without an end.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import mlops_local
from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, Source, Step, from_json
from mlops_local.domain.jobs import Code, Given, Made, StepJob, StepOutcome, job_to_json, outcome_from_json
from mlops_local.engines.pipeline.process import WorkerProcess
from mlops_local.engines.pipeline.sources import SourceFile, executed, third_party

__all__ = ["Given", "Made", "StepJob", "StepOutcome", "Workers"]

LIMITS = 3
"""Processes kept while nothing runs in them: each holds the libraries it imported in memory."""

_WITHOUT_TABLES = {"json", "file", "folder", "pickle"}
"""Kinds of inputs that are read without polars."""


class Workers:
    """The worker processes of one project. Use it as a context manager; any thread may ask, several at a time.

    Processes start when they are needed. One whose libraries were installed anew since is replaced.
    """

    def __init__(self, root: Path, *, python: str = sys.executable, cores: int = 0) -> None:
        """Only assign.

        Args:
            root: the project's folder.
            python: the interpreter.
            cores: how many of the machine's cores may be used, where those are not all: the limit of what has none of its own.
        """
        self.root = root.absolute()
        self.python = python
        self.cores = cores
        self._changing = threading.Lock()
        self._processes: dict[int, WorkerProcess] = {}
        """Thread limit -> the process that has it, the one used last at the end."""
        self._loading: dict[int, threading.Lock] = {}
        self._retired: list[WorkerProcess] = []
        self._refused: set[str] = set()
        self._expecting: list[threading.Thread] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every process; running steps end with them. They begin anew if asked again."""
        while self._processes or self._retired or self._expecting:
            with self._changing:
                processes, expecting = [*self._processes.values(), *self._retired], self._expecting
                self._processes, self._retired, self._expecting = {}, [], []
            for process in processes:
                process.close()
            for thread in expecting:  # it may have begun another process by now
                thread.join()

    def describe(
        self,
        entry: str,
        sources: Mapping[str, SourceFile],
        *,
        commands: Mapping[str, Mapping[str, Any]] | None = None,
        cancel: threading.Event | None = None,
        threads: int = 0,
    ) -> Graph:
        """Import the pipeline module in a child and return the graph it declares.

        Args:
            entry: the pipeline module's path, relative to the root.
            sources: the project's modules, as `discover` found them.
            commands: the command steps of mlops.toml.
            cancel: set it to end the child.
            threads: the limit of the process to do it in.

        Raises:
            ConfigError: it does not import (with the user's own traceback), or declares what cannot be.
        """
        event = cancel or threading.Event()
        with (
            self._process(threads, third_party(sources, lazy=False)) as process,
            tempfile.NamedTemporaryFile(prefix="mlops-describe-", suffix=".log") as log,
        ):
            answer = process.ask(
                "describing the pipeline",
                code=(sources, Graph()),
                cancelled=event.is_set,
                op="describe",
                entry=entry,
                imports=third_party(sources),
                commands=commands or {},
                log=log.name,
            )
            printed = Path(log.name).read_bytes()[-4000:].decode("utf-8", "replace")
        if "graph" in answer:
            return from_json(answer["graph"])
        error = answer["error"]
        raise ConfigError(
            error["message"],
            hint=error["hint"],
            problems=error.get("problems", ()),
            traceback=error["traceback"] or _theirs(printed),
        )

    def run_step(self, job: StepJob, *, cancel: threading.Event | None = None) -> StepOutcome:
        """Run one step in a child and wait for it.

        A failing, crashing, cancelled or timed-out step is an outcome, not an exception.

        Args:
            job: the step; `threads` says in which process.
            cancel: set it to end the step: TERM to it and all it started, KILL three seconds later.
        """
        event = cancel or threading.Event()
        if event.is_set():
            return StepOutcome(False, error="cancelled")
        job.out.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with self._process(job.threads, _needed(job.step, job.graph, job.sources, tables=_tables(job))) as process:
            answer = process.ask(
                f"step {job.step.name}",
                code=(job.sources, job.graph),
                cancelled=event.is_set,
                op="step",
                job=job_to_json(job),
                log=str(job.log),
                timeout_s=job.step.needs.timeout_s,
            )
        outcome = outcome_from_json(answer)
        if event.is_set() and not outcome.ok:
            outcome = replace(outcome, error="cancelled", traceback="", hint="")
        return replace(outcome, seconds=outcome.seconds or time.monotonic() - started)

    def expect(self, name: str, graph: Graph, sources: Mapping[str, Code], *, threads: int) -> None:
        """Begin to load what a step will need; the caller goes on, and who asks for the step soon waits less.

        Args:
            name: the step's.
            graph: the project's.
            sources: the project's modules.
            threads: the limit of the process it will run in.
        """

        def load() -> None:
            with suppress(Exception), self._process(threads, needed):  # whoever runs the step will hear what is wrong
                pass

        step = graph.step(name)  # of its inputs the sources count: what the others are is known when they are made
        if step.each:  # how many of its files run at once, and so with how many threads each, is decided later
            return
        tables = any(_is_table(source) and source.name in {item.node for item in step.inputs} for source in graph.sources)
        needed = _needed(step, graph, sources, tables=tables)
        thread = threading.Thread(target=load, name="mlops-loading", daemon=True)
        thread.start()
        with self._changing:
            self._expecting = [*(other for other in self._expecting if other.is_alive()), thread]

    # The processes

    @contextmanager
    def _process(self, threads: int, names: Iterable[str]) -> Iterator[WorkerProcess]:
        """The process of a limit that has imported these libraries, kept for the block."""
        wanted = tuple(names)
        with self._changing:
            loading = self._loading.setdefault(threads, threading.Lock())
        with loading:
            process = self._loaded(threads, wanted)
        try:
            yield process
        finally:
            self._leave(process)

    def _loaded(self, threads: int, wanted: tuple[str, ...]) -> WorkerProcess:
        also: set[str] = set()
        while True:
            process = self._current(threads)
            try:
                culprit = process.preload(sorted(({*wanted} | also) - self._refused))
            except BaseException:
                self._leave(process)
                raise
            if not culprit:
                return process
            # A library that starts threads when imported makes forking unsafe: the children import it themselves.
            self._refused.add(culprit)
            also |= process.loaded - {culprit}
            with self._changing:
                self._retire(threads)
            self._leave(process)

    def _leave(self, process: WorkerProcess) -> None:
        """One use less; end what is out of date, and what is too many, once nothing runs in it."""
        with self._changing:
            process.users -= 1
            idle = [threads for threads, other in self._processes.items() if not other.users]
            for threads in idle[: max(0, len(self._processes) - LIMITS)]:
                self._retire(threads)
            ended = [other for other in self._retired if not other.users]
            self._retired = [other for other in self._retired if other.users]
        for other in ended:
            other.close()

    def _current(self, threads: int) -> WorkerProcess:
        with self._changing:
            process = self._processes.pop(threads, None)
            if process is not None and process.outdated:
                self._retired.append(process)
                process = None
            process = process or WorkerProcess(self.root, python=self.python, threads=threads or self.cores)
            self._processes[threads] = process
            process.users += 1
            return process

    def _retire(self, threads: int) -> None:
        process = self._processes.pop(threads, None)
        if process is not None:
            self._retired.append(process)


def _needed(step: Step, graph: Graph, sources: Mapping[str, Code], *, tables: bool) -> tuple[str, ...]:
    """The libraries a step is about to import: what its module and those it imports load, and polars if it reads tables."""
    if step.kind == "command":
        return ()
    declared = graph.model(step.model).declared.module if step.model else ""
    modules = {name for name in (*(symbol.module for symbol in step.code[:1]), declared) if name}
    files = {name: SourceFile(item.path, item.data) for name, item in sources.items()}
    reached = {name: None for module in modules for name in executed(module, files)}
    tables = tables or step.kind in ("features", "evaluate")
    return (*third_party(files, reached, lazy=False), *(("polars", "numpy") if tables else ()))


def _tables(job: StepJob) -> bool:
    """Whether an input is read with polars."""
    sources = [job.graph.source(given.input.node) for given in job.inputs if given.kind == "source"]
    others = {given.kind for given in job.inputs if given.kind != "source"}
    return any(map(_is_table, sources)) or not others <= _WITHOUT_TABLES


def _is_table(source: Source) -> bool:
    return source.kind == "table" or bool(source.labels)


def _theirs(printed: str) -> str:
    """What a dying import printed, without the frames that are ours and the interpreter's."""
    ours = str(Path(mlops_local.__file__).resolve().parent)
    return "".join(
        line
        for line in printed.splitlines(keepends=True)
        if ours not in line and not line.startswith(('  File "<frozen', '  File "<string'))
    )
