"""The forking server: one process that imported the heavy libraries once, one child per request, several at a time.

It reads requests as JSON lines and answers likewise, in the order the children end; request and answer carry an id. It starts
no thread and runs no user code, so that forking it is safe; a child imports the project, does one thing and is gone. The child
of the next request is forked before that comes. When the program that asked goes away every child ends with all that it
started, whichever of the two died.
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
import time
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, from_json, to_json
from mlops_local.domain.jobs import StepJob, StepOutcome, job_from_json, outcome_from_json, outcome_to_json
from mlops_local.domain.records import dataclass
from mlops_local.worker import spare, tree
from mlops_local.worker.capture import Capture
from mlops_local.worker.child import Answer
from mlops_local.worker.finder import Compiled, Finder, quietly_compiled
from mlops_local.worker.imported import own_memory, stamps, unsafe_threads
from mlops_local.worker.spare import Spare

GRACE_S = 3.0
"""Between TERM and KILL."""
SAMPLE_S = 0.1
"""How often the memory of a step that started processes is looked at; less often where looking is slow."""
COMPILING_S = 0.5
"""How long the server compiles at a time; what is left then, each child compiles for itself."""
LARGE = 24 << 20
"""Bytes of its own from which a process forks ahead. The fork of a smaller one takes a millisecond, and a copy that waits has a
price: it makes the server copy each page of memory it writes to."""
HATCHING_S = 0.03
"""The next child is due so long after a request, or at an answer: a fork slows down what was forked before and begins."""
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
    _code: bytes = b""
    """The request that brought the project's code."""
    _news: bytes = b""
    """That request, while it is only kept: it goes to the child that waits along with its work."""
    _last: bytes = b""
    """The last request for a step."""
    _spare: Spare | None = None
    """The child of the next request."""
    _dismissed: list[int] = field(default_factory=list)
    """Children that were let go without work, and are not gone yet."""
    _listed: bool = False
    """Whether it looked up what is installed."""
    _hatch_at: float = math.inf
    """When the next one is due."""
    _ahead: bool = False
    """Whether the child of the next request is forked before that comes."""
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
            self._dismissed = [pid for pid in self._dismissed if os.waitpid(pid, os.WNOHANG) == (0, 0)]
            if time.monotonic() >= self._hatch_at:
                self._hatch_at = math.inf
                with contextlib.suppress(OSError):  # whoever needs one will hear why there is none
                    self._spare = self._hatched()

    def _patience(self) -> float | None:
        """How long to wait for the next thing to happen: until a child's time is up or its memory is looked at again."""
        running = self._children.values()
        until = min([self._hatch_at, *(min(one.end_at, one.kill_at, one.sample_at) for one in running)])
        if until == math.inf:
            return None
        longest = math.inf if all(one.watched is not None for one in running) else 0.02
        return max(0.0, min(until - time.monotonic(), longest))

    # Requests

    def _read(self) -> None:
        data = os.read(self.requests, 1 << 20)
        if not data:
            self._open = False
            self._selector.unregister(self.requests)
            self._dismiss()
            self._hatch_at = math.inf
            for running in self._children.values():
                self._end(running, "cancelled")
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        if line == self._code:  # nothing new
            return
        request = json.loads(line)
        try:
            match request["op"]:
                case "code":
                    self._code = self._news = line
                case "preload":
                    self._preload(request)
                case "end":
                    self._cancel(request["id"])
                case "describe":
                    self._prepare_to_describe()
                    self._hand_over(line, request, partial(_described, request["entry"]))
                case "step":
                    self._last = line
                    self._hand_over(line, request, _outcome)
        except OSError as error:  # no more processes or descriptors, or the log cannot be written
            self._reply(request["id"], {"refused": str(error)})

    def _reply(self, identifier: int, answer: Answer) -> None:
        data = json.dumps({"id": identifier, "answer": answer}, separators=(",", ":")).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # nobody waits any more
            while data:
                data = data[os.write(self.replies, data) :]

    def _learn(self, line: bytes) -> None:
        """The project's modules and graph, for all requests from now on."""
        request = json.loads(line)
        self.root = Path(request["root"])
        self.sources = {name: Module(path, base64.b64decode(data)) for name, (path, data) in request["sources"].items()}
        self.graph = from_json(request["graph"])

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

    def _preload(self, request: Mapping[str, Any]) -> None:
        """Import libraries here, so that every child has them; says which one starts threads (forking is unsafe then)."""
        from mlops_local.worker.libraries import installed

        self._dismiss()  # it would have to import them by itself
        gc.disable()  # what a library makes while it is imported stays: looking for garbage there is a tenth of its time
        culprit = ""
        for name in [*_OURS, *filter(installed, request["names"])]:  # other code may be edited while the server lives
            # SystemExit too: some modules exit when imported wrongly, and the step that imports it will say so properly.
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(name)
            if unsafe_threads():
                culprit = name
                break
        if not culprit:
            _prepare()
        gc.freeze()  # a child's search for garbage leaves these pages shared
        gc.enable()
        self._ahead = not culprit and own_memory() > LARGE
        self._hatch_at = 0.0 if self._ahead else math.inf
        self._reply(request["id"], {"culprit": culprit, "stamps": stamps()})

    def _prepare_to_describe(self) -> None:
        """Look up what is installed here, so that each child that describes need not."""
        from mlops_local.worker import libraries

        if not self._listed:
            self._dismiss()
            libraries.providers()
            self._listed = True

    def _cancel(self, identifier: int) -> None:
        """End a child whose answer nobody wants any more."""
        running = self._children.get(identifier)
        if running is not None:
            self._end(running, "cancelled")

    # Children

    def _catch_up(self) -> None:
        if self._news:
            self._learn(self._news)
            self._compile()
            self._news = b""

    def _hatched(self) -> Spare:
        """A child that waits, of what the server knows by now."""
        self._catch_up()
        return spare.hatch(self._wait_and_work, self._forget_others)

    def _begun(self, request: Mapping[str, Any]) -> Spare:
        """A child that works at once. What it needs is read here: there each page of memory it touches has to be copied."""
        self._catch_up()
        job = self._job(request)
        made = spare.hatch(lambda wait: self._work(request, job), self._forget_others)
        made.give(())
        return made

    def _job(self, request: Mapping[str, Any]) -> StepJob | None:
        return job_from_json(request["job"], self.graph, self.sources) if request["op"] == "step" else None

    def _dismiss(self) -> None:
        """Let go of the child that waits."""
        if self._spare is not None:
            self._spare.dismiss()
            self._dismissed.append(self._spare.pid)
            self._spare = None

    def _hand_over(self, line: bytes, request: Mapping[str, Any], said: Callable[[Answer | None, str, _Child], Answer]) -> None:
        """Let a child do what is asked; `_finish` replies."""
        capture = Capture(Path(request["log"]))
        capture.open()
        with contextlib.ExitStack() as opened:
            opened.callback(capture.close)
            if self._spare is not None and not self._spare.give([self._news, line] if self._news else [line]):
                self._dismiss()  # it is dead
            chosen, self._spare = self._spare or self._begun(request), None
            opened.pop_all()
        if self._ahead:
            self._hatch_at = time.monotonic() + HATCHING_S
        limit = request.get("timeout_s", 0.0)
        watched = _death_descriptor(chosen.pid)
        running = _Child(
            request["id"], chosen.pid, said, chosen.output, chosen.life, chosen.answer, capture, watched, timeout_s=limit
        )
        if limit:
            running.end_at = running.started + limit
        self._children[running.id] = running
        self._selector.register(running.output, selectors.EVENT_READ, lambda: self._pump(running))
        if watched is not None:
            self._selector.register(watched, selectors.EVENT_READ, lambda: None)

    # In a child

    def _wait_and_work(self, wait: Callable[[], list[bytes]]) -> Answer:
        """Do what is asked for some time, after taking in the code that is newer than this process."""
        self._rehearse()
        *news, line = wait()
        for text in news:
            self._learn(text)
        request = json.loads(line)
        return self._work(request, self._job(request))

    def _work(self, request: Mapping[str, Any], job: StepJob | None) -> Answer:
        os.chdir(self.root)
        finder = Finder(self.root, self.sources, report=job is None, ready=self._ready)
        finder.install()
        return self._describe(request, finder) if job is None else self._step(job, finder)

    def _rehearse(self) -> None:
        """Copy the pages of memory that the beginning of a step writes to, while there is nothing to do yet."""
        torch = sys.modules.get("torch")
        with contextlib.suppress(Exception):
            if torch is not None:
                torch.manual_seed(torch.initial_seed())
            if self._last:
                self._job(json.loads(self._last))

    def _describe(self, request: Mapping[str, Any], finder: Finder) -> Answer:
        """Import the pipeline and describe its graph."""
        from mlops_local.worker import describe

        try:
            graph = describe.describe(finder, request["entry"], request["imports"], request.get("commands"))
        except ConfigError as error:
            told = {"message": error.message, "hint": error.hint, "traceback": error.traceback, "problems": error.problems}
            return {"error": told}
        return {"graph": to_json(graph)}

    def _step(self, job: StepJob, finder: Finder) -> Answer:
        """Run one step."""
        from mlops_local.worker import step

        return outcome_to_json(step.run(job, finder))

    # The server again

    def _forget_others(self) -> None:
        """In a child: let go of what belongs to the server and to its other children, so that their ends are seen."""
        self._selector.close()
        others = [fd for one in self._children.values() for fd in (one.output, one.life, one.watched, one.answer.fileno())]
        for descriptor in (self.requests, self.replies, *others):
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
            began = time.thread_time()  # what a look costs; on a busy machine it may take far longer
            others = tree.below(running.pid)
            if others:
                running.peak = max(running.peak, sum(map(tree.memory, (running.pid, *others))))
            running.sample_at = time.monotonic() + max(SAMPLE_S, 20 * (time.thread_time() - began))

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
        if self._ahead and self._spare is None and self._open:
            self._hatch_at = 0.0  # while the program keeps what this one left
        self._reply(running.id, running.said(answer, running.ended_for or _death(status), running))

    def _end_orphans(self, dead: _Child) -> None:
        """End what a dead child left: a living one adopts its own orphans, so ours can only be of the dead."""
        known = {one.pid for one in self._children.values()} | set(self._dismissed)
        known |= {self._spare.pid} if self._spare is not None else set()
        while orphans := [pid for pid in tree.children(os.getpid()) if pid not in known]:
            for pid in orphans:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    usage = os.wait4(pid, 0)[2]
                    dead.cpu_seconds += usage.ru_utime + usage.ru_stime


def _prepare() -> None:
    """Do once what each child would do to the libraries that are loaded."""
    from mlops_local.engines.pipeline import order
    from mlops_local.worker import reads

    # Libraries of another shape are for the step that uses them to complain of.
    with contextlib.suppress(Exception):
        order.keep()
    with contextlib.suppress(Exception):
        reads.wrap_loaded()
    torch = sys.modules.get("torch")
    if torch is not None:
        with contextlib.suppress(Exception):
            torch.manual_seed(torch.initial_seed())  # changes nothing; its first call reads source files


def _described(entry: str, answer: Answer | None, death: str, running: _Child) -> Answer:
    """A graph, or why there is none."""
    text = f"{entry}: the module cannot be imported: {death}"
    hint = f"`python {entry}` in the project's environment does the same by itself"
    return answer or {"error": {"message": text, "hint": hint, "traceback": ""}}


def _outcome(answer: Answer | None, death: str, running: _Child) -> Answer:
    """What came of a step, with what it took."""
    if answer is None or running.ended_for:
        outcome = StepOutcome(False, error=death, seconds=time.monotonic() - running.started)
    else:
        outcome = outcome_from_json(answer)
    return outcome_to_json(replace(outcome, cpu_seconds=running.cpu_seconds, peak_bytes=running.peak))


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
