"""The forking server: one process that imported the heavy libraries once, one child per request, several at a time.

It reads requests as JSON lines and answers likewise, in the order the children end; request and answer carry an id. It starts
no thread and runs no user code, so that forking it is safe and takes milliseconds; a child imports the project, does one thing
and is gone. When the program that asked goes away every child ends with all that it started, whichever of the two died.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import importlib
import json
import math
import os
import selectors
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, from_json, to_json
from mlops_local.domain.jobs import StepJob, StepOutcome, job_from_json, outcome_from_json, outcome_to_json
from mlops_local.domain.records import dataclass
from mlops_local.worker import child, tree
from mlops_local.worker.capture import Capture
from mlops_local.worker.finder import Compiled, Finder, quietly_compiled

GRACE_S = 3.0
"""Between TERM and KILL."""
SAMPLE_S = 0.1
"""How often the memory of a step that started processes is looked at; less often where looking is slow."""
COMPILING_S = 0.5
"""How long the server compiles at a time; what is left then, each child compiles for itself."""
_SIGNALS = {
    signal.SIGSEGV: "segmentation fault",
    signal.SIGKILL: "most often: out of memory",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "arithmetic error",
    signal.SIGILL: "illegal instruction",
    signal.SIGTERM: "terminated",
}


_OURS = ("mlops_local.api.declare", "mlops_local.domain.xy", "mlops_local.worker.step")
"""What every child imports anyway."""

Answer = dict[str, Any]


@dataclass(frozen=True)
class Module:
    """A project module as it travelled."""

    path: str
    data: bytes


@dataclass
class _Child:
    """A forked child that has not ended."""

    id: int
    """The request's."""
    pid: int
    said: Callable[[Answer | None, str, _Child], Answer]
    """Makes the reply from the child's answer, or from how it died."""
    output: int
    life: int
    answer: BinaryIO
    capture: Capture
    watched: int | None
    """A descriptor that is readable when it is dead, where the system has that."""
    end_at: float = math.inf
    """When its time is up."""
    timeout_s: float = 0.0
    kill_at: float = math.inf
    ended_for: str = ""
    """Why we ended it."""
    started: float = field(default_factory=time.monotonic)
    sample_at: float = field(default_factory=lambda: time.monotonic() + SAMPLE_S)
    peak: int = 0
    """Bytes of it and all below it, the most seen at once; 0 while it had nothing below it."""
    cpu_seconds: float = 0.0


@dataclass
class Server:
    """What the server knows between requests."""

    requests: int
    """Descriptor to read from."""
    replies: int
    """Descriptor to write to."""
    root: Path = Path()
    sources: Mapping[str, Module] = field(default_factory=dict)
    graph: Graph = field(default_factory=Graph)
    _ready: dict[str, Compiled] = field(default_factory=dict)
    """The project's modules as every child inherits them."""
    _buffer: bytes = b""
    _open: bool = True
    _children: dict[int, _Child] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def serve(self) -> None:
        """Answer requests until their end, then end what still runs."""
        tree.adopt()
        self._selector.register(self.requests, selectors.EVENT_READ, self._read)
        while self._open or self._children:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            for running in list(self._children.values()):
                self._look_after(running)

    def _patience(self) -> float | None:
        """How long to wait for the next thing to happen: until a child's time is up or its memory is looked at again."""
        if not self._children:
            return None
        running = self._children.values()
        until = min(min(one.end_at, one.kill_at, one.sample_at) for one in running)
        longest = math.inf if all(one.watched is not None for one in running) else 0.02
        return max(0.0, min(until - time.monotonic(), longest))

    # Requests

    def _read(self) -> None:
        data = os.read(self.requests, 1 << 20)
        if not data:
            self._open = False
            self._selector.unregister(self.requests)
            for running in self._children.values():
                self._end(running, "cancelled")
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            operation: Callable[[Mapping[str, Any]], None] = getattr(self, f"_op_{request['op']}")
            try:
                operation(request)
            except OSError as error:  # no more processes or descriptors, or the log cannot be written
                self._reply(request["id"], {"refused": str(error)})

    def _reply(self, identifier: int, answer: Answer) -> None:
        data = json.dumps({"id": identifier, "answer": answer}, separators=(",", ":")).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # nobody waits any more
            while data:
                data = data[os.write(self.replies, data) :]

    def _op_code(self, request: Mapping[str, Any]) -> None:
        """The project's modules and graph, for all requests from now on."""
        self.root = Path(request["root"])
        self.sources = {name: Module(path, base64.b64decode(data)) for name, (path, data) in request["sources"].items()}
        self.graph = from_json(request["graph"])
        self._compile()

    def _compile(self) -> None:
        """Compile what changed, once for all children."""
        until = time.monotonic() + COMPILING_S
        known, self._ready = self._ready, {}
        for name, source in self.sources.items():
            path, ready = str(self.root / source.path), known.get(name)
            if ready is None or (ready.path, ready.data) != (path, source.data):
                ready = quietly_compiled(path, source.data) if time.monotonic() < until else None
            if ready is not None:
                self._ready[name] = ready

    def _op_preload(self, request: Mapping[str, Any]) -> None:
        """Import libraries here, so that every child has them; says which one starts threads (forking is unsafe then)."""
        from mlops_local.engines.pipeline import order
        from mlops_local.worker.libraries import installed

        gc.disable()  # what a library makes while it is imported stays: looking for garbage there is a tenth of its time
        culprit = ""
        for name in [*_OURS, *filter(installed, request["names"])]:  # other code may be edited while the server lives
            # SystemExit too: some modules exit when imported wrongly, and the step that imports it will say so properly.
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(name)
            if unsafe_threads():
                culprit = name
                break
        with contextlib.suppress(Exception):  # a polars of another shape is for the step that uses it
            order.keep()  # its methods are looked into once, not by each child
        gc.freeze()  # a child's search for garbage leaves these pages shared
        gc.enable()
        self._reply(request["id"], {"culprit": culprit, "stamps": stamps()})

    def _op_describe(self, request: Mapping[str, Any]) -> None:
        """Import the pipeline in a child and describe its graph."""
        from mlops_local.worker import describe, libraries

        libraries.providers()  # every description asks: here, so that each child need not

        def said(answer: Answer | None, death: str, running: _Child) -> Answer:
            text = f"{request['entry']}: the module cannot be imported: {death}"
            hint = f"`python {request['entry']}` in the project's environment does the same by itself"
            return answer or {"error": {"message": text, "hint": hint, "traceback": ""}}

        def body() -> Answer:
            finder = Finder(self.root, self.sources, report=True, ready=self._ready)
            finder.install()
            try:
                graph = describe.describe(finder, request["entry"], request["imports"], request.get("commands"))
            except ConfigError as error:
                told = {"message": error.message, "hint": error.hint, "traceback": error.traceback, "problems": error.problems}
                return {"error": told}
            return {"graph": to_json(graph)}

        self._fork(request["id"], body, said, Path(request["log"]))

    def _op_step(self, request: Mapping[str, Any]) -> None:
        """Run one step in a child."""
        job = job_from_json(request["job"], self.graph, self.sources)
        self._fork(request["id"], lambda: self._step(job), _outcome, job.log, timeout_s=job.step.needs.timeout_s)

    def _step(self, job: StepJob) -> Answer:
        from mlops_local.worker import step

        finder = Finder(self.root, self.sources, report=False, ready=self._ready)
        finder.install()
        return outcome_to_json(step.run(job, finder))

    def _op_end(self, request: Mapping[str, Any]) -> None:
        """End a child whose answer nobody wants any more."""
        running = self._children.get(request["id"])
        if running is not None:
            self._end(running, "cancelled")

    # Children

    def _fork(
        self,
        identifier: int,
        body: Callable[[], Answer],
        said: Callable[[Answer | None, str, _Child], Answer],
        log: Path,
        *,
        timeout_s: float = 0.0,
    ) -> None:
        """Begin a child that runs the body; `_finish` replies."""
        capture = Capture(log)
        capture.open()
        with contextlib.ExitStack() as made:
            made.callback(capture.close)
            output, output_end = _pipe(made)
            life_end, life = _pipe(made)
            answer = made.enter_context(_file())
            pid = os.fork()
            if pid == 0:
                self._forget_others(output, life)
                child.run(body, answer, root=self.root, output=output_end, life=life_end)
            made.pop_all()
        os.close(output_end)
        os.close(life_end)
        with contextlib.suppress(OSError):  # also done by the child: whoever comes first
            os.setpgid(pid, pid)
        running = _Child(identifier, pid, said, output, life, answer, capture, _death_descriptor(pid), timeout_s=timeout_s)
        if timeout_s:
            running.end_at = running.started + timeout_s
        self._children[identifier] = running
        self._selector.register(output, selectors.EVENT_READ, lambda: self._pump(running))
        if running.watched is not None:
            self._selector.register(running.watched, selectors.EVENT_READ, lambda: None)

    def _forget_others(self, *own: int) -> None:
        """In a child: let go of what belongs to the server and to its other children, so that their ends are seen."""
        self._selector.close()
        others = [fd for one in self._children.values() for fd in (one.output, one.life, one.watched, one.answer.fileno())]
        for descriptor in (*own, self.requests, self.replies, *others):
            if descriptor is not None:
                os.close(descriptor)

    def _pump(self, running: _Child) -> None:
        if not running.capture.pump(running.output):
            self._selector.unregister(running.output)

    def _end(self, running: _Child, why: str) -> None:
        """Send TERM; KILL follows after a while."""
        if not running.ended_for:
            running.ended_for, running.kill_at, running.end_at = why, time.monotonic() + GRACE_S, math.inf
            tree.end(running.pid, signal.SIGTERM)

    def _look_after(self, running: _Child) -> None:
        """Whatever is due for a child: its end, its time limit, its last warning's end, a look at its memory."""
        if os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            self._finish(running)
            return
        now = time.monotonic()
        if now >= running.end_at:
            self._end(running, f"timed out after {running.timeout_s:g} s")
        if now >= running.kill_at:
            tree.end(running.pid, signal.SIGKILL)
            running.kill_at = math.inf
        if now >= running.sample_at:
            others = tree.below(running.pid)
            if others:
                running.peak = max(running.peak, sum(map(tree.memory, (running.pid, *others))))
            after = time.monotonic()
            running.sample_at = after + max(SAMPLE_S, 20 * (after - now))

    def _finish(self, running: _Child) -> None:
        """Take a dead child's answer and reply; end what it left running."""
        del self._children[running.id]
        os.close(running.life)
        tree.end(running.pid, signal.SIGKILL, adopted=False)
        _, status, usage = os.wait4(running.pid, 0)
        running.cpu_seconds += usage.ru_utime + usage.ru_stime
        running.peak = max(running.peak, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        self._end_orphans(running)
        if running.output in self._selector.get_map():
            self._selector.unregister(running.output)
        running.capture.drain(running.output)
        running.capture.close()
        os.close(running.output)
        if running.watched is not None:
            self._selector.unregister(running.watched)
            os.close(running.watched)
        with running.answer as file:
            file.seek(0)
            text = file.read()
        answer = json.loads(text) if text else None
        self._reply(running.id, running.said(answer, running.ended_for or _death(status), running))

    def _end_orphans(self, dead: _Child) -> None:
        """End what a dead child left: a living one adopts its own orphans, so ours can only be of the dead."""
        known = {one.pid for one in self._children.values()}
        while orphans := [pid for pid in tree.children(os.getpid()) if pid not in known]:
            for pid in orphans:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    usage = os.wait4(pid, 0)[2]
                    dead.cpu_seconds += usage.ru_utime + usage.ru_stime


def _file() -> BinaryIO:
    """A file without a name, in memory where the system has that."""
    with contextlib.suppress(AttributeError, OSError):
        return os.fdopen(os.memfd_create("mlops-answer"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def _pipe(made: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        made.callback(os.close, end)
    return ends


def _outcome(answer: Answer | None, death: str, running: _Child) -> Answer:
    """What came of a step, with what it took."""
    if answer is None or running.ended_for:
        outcome = StepOutcome(False, error=death, seconds=time.monotonic() - running.started)
    else:
        outcome = outcome_from_json(answer)
    return outcome_to_json(replace(outcome, cpu_seconds=running.cpu_seconds, peak_bytes=running.peak))


def stamps() -> dict[str, int]:
    """What tells that this process's imports are out of date: its import folders, and loaded files that belong to no package.

    Installing a package changes the folder it is installed to.
    """
    places = [place for place in sys.path if place]
    installed = tuple(place for place in places if place.endswith("-packages"))
    standard = (str(Path(os.__file__).parent), str(Path(__file__).parent.parent), *installed)
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    loose = {file for file in files if isinstance(file, str) and not file.startswith(standard)}
    return {path: _mtime(path) for path in (*installed, *sorted(loose))}


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0


def unsafe_threads() -> bool:
    """Whether this process has a thread that makes forking it unsafe.

    Python's own threads do, and native ones with a name of their own. Allowed: polars' and jemalloc's housekeepers, idle
    while nothing is computed, and threads that bear the process's name, which are OpenBLAS's: it stops
    them before a fork and starts them again after it.
    """
    import threading

    if threading.active_count() > 1:
        return True
    names = set()
    with contextlib.suppress(OSError):
        names = {task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    own = Path("/proc/self/comm").read_text().strip() if names else ""
    return bool(names - {own, "polars-ooc-clea", "jemalloc_bg_thd"})


def _death_descriptor(pid: int) -> int | None:
    """A descriptor that is readable when the process is dead, where the system has it."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _death(status: int) -> str:
    """How a child that left no answer ended."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"it ended its process with exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"it was killed by signal {-code}"
    what = _SIGNALS.get(number, "")
    return f"it was killed by {number.name}" + (f" ({what})" if what else "")
