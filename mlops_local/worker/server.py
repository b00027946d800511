"""The forking server: one process that imported the heavy libraries once, one child per request.

It reads requests as JSON lines and answers likewise. It starts no thread and runs no user code, so that forking it is safe
and takes milliseconds; the child imports the project, does one thing and is gone. When the program that asked goes away the
child's whole process group ends, whichever of the two died.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, from_json, to_json
from mlops_local.domain.jobs import StepJob, StepOutcome, given_from_json, outcome_from_json, outcome_to_json
from mlops_local.worker.capture import Capture

GRACE_S = 3.0
"""Between TERM and KILL."""
_F_SETSIG = 10
_SIGNALS = {
    signal.SIGSEGV: "segmentation fault",
    signal.SIGKILL: "most often: out of memory",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "arithmetic error",
    signal.SIGILL: "illegal instruction",
    signal.SIGTERM: "terminated",
}


_OURS = (
    "mlops_local.api.declare",
    "mlops_local.domain.xy",
    "mlops_local.worker.describe",
    "mlops_local.worker.step",
)
"""What every child imports anyway."""


@dataclass(frozen=True)
class Module:
    """A project module as it travelled."""

    path: str
    data: bytes


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
    _buffer: bytes = b""

    def serve(self) -> None:
        """Answer requests until their end."""
        while (line := self._line()) is not None:
            request = json.loads(line)
            operation: Callable[[Mapping[str, Any]], None] = getattr(self, f"_op_{request['op']}")
            operation(request)

    def _line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            data = os.read(self.requests, 1 << 20)
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _reply(self, **values: Any) -> None:
        data = json.dumps(values, separators=(",", ":")).encode() + b"\n"
        while data:
            data = data[os.write(self.replies, data) :]

    def _op_code(self, request: Mapping[str, Any]) -> None:
        """The project's modules and graph, for all requests from now on."""
        self.root = Path(request["root"])
        self.sources = {name: Module(path, base64.b64decode(data)) for name, (path, data) in request["sources"].items()}
        self.graph = from_json(request["graph"])

    def _op_preload(self, request: Mapping[str, Any]) -> None:
        """Import libraries here, so that every child has them; says which one starts threads (forking is unsafe then)."""
        culprit = ""
        for name in [*_OURS, *request["names"]]:
            # SystemExit too: some modules exit when imported wrongly, and the step that imports it will say so properly.
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(name)
            if unsafe_threads():
                culprit = name
                break
        gc.collect()
        gc.freeze()
        self._reply(culprit=culprit)

    def _op_describe(self, request: Mapping[str, Any]) -> None:
        """Import the pipeline in a child and describe its graph."""
        log = Path(request["log"])
        answer, _, death = self._run(lambda: self._describe(request), log)
        self._reply(
            **(answer or {"error": {"message": f"describing the pipeline failed: {death}", "hint": "", "traceback": ""}})
        )

    def _describe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        from mlops_local.worker.describe import describe
        from mlops_local.worker.finder import Finder

        finder = Finder(self.root, self.sources, report=True)
        finder.install()
        try:
            return {"graph": to_json(describe(finder, request["entry"], request["imports"]))}
        except ConfigError as error:
            values = {"message": error.message, "hint": error.hint, "traceback": error.traceback, "problems": error.problems}
            return {"error": values}

    def _op_step(self, request: Mapping[str, Any]) -> None:
        """Run one step in a child."""
        started = time.monotonic()
        answer, usage, death = self._run(lambda: self._step(request["job"]), Path(request["job"]["log"]))
        outcome = outcome_from_json(answer) if answer else StepOutcome(False, error=death, seconds=time.monotonic() - started)
        scale = 1 if sys.platform == "darwin" else 1024
        outcome = replace(outcome, cpu_seconds=usage.ru_utime + usage.ru_stime, peak_bytes=usage.ru_maxrss * scale)
        self._reply(outcome=outcome_to_json(outcome))

    def _step(self, value: Mapping[str, Any]) -> dict[str, Any]:
        from mlops_local.worker import step
        from mlops_local.worker.finder import Finder

        finder = Finder(self.root, self.sources, report=False)
        finder.install()
        return outcome_to_json(step.run(self._job(value), finder))

    def _job(self, value: Mapping[str, Any]) -> StepJob:
        return StepJob(
            step=self.graph.step(value["step"]),
            graph=self.graph,
            sources=self.sources,
            params=value["params"],
            seed=value["seed"],
            inputs=tuple(given_from_json(item) for item in value["inputs"]),
            out=Path(value["out"]),
            log=Path(value["log"]),
            run=value["run"],
            state=Path(value["state"]),
            key=value["key"],
        )

    # Children

    def _run(self, body: Callable[[], dict[str, Any]], log: Path) -> tuple[dict[str, Any] | None, Any, str]:
        """Fork, run the body there; its answer, the child's resource usage, and how it died if it left no answer."""
        capture = Capture(log)
        capture.open()
        output, output_end = os.pipe()
        life, life_end = os.pipe()
        with tempfile.TemporaryFile() as answer:
            pid = os.fork()
            if pid == 0:
                os.close(output)
                os.close(life_end)
                self._child(body, answer, output_end, life)
            os.close(output_end)
            os.close(life)
            with contextlib.suppress(OSError):  # also done by the child: whoever comes first
                os.setpgid(pid, pid)
            self._reply(pid=pid)
            status, usage = self._watch(pid, output, capture)
            os.close(life_end)
            _kill(pid, signal.SIGKILL)  # what the step left running
            capture.drain(output)
            capture.close()
            os.close(output)
            answer.seek(0)
            text = answer.read()
        return (json.loads(text) if text else None), usage, _death(status)

    def _child(self, body: Callable[[], dict[str, Any]], answer: BinaryIO, output: int, life: int) -> None:
        """In the child: become a group of its own, run, leave the answer, end without Python's teardown."""
        code = 70
        try:
            _leave(output, life)
            os.close(self.requests)
            os.close(self.replies)
            os.chdir(self.root)
            value = body()
            _flush()
            answer.write(json.dumps(value).encode())
            answer.flush()
            code = 0
        except BaseException:  # noqa: BLE001 - our own mistake: say it in the log, the server reports the exit code
            import traceback

            traceback.print_exc()
            _flush()
        finally:
            os._exit(code)

    def _watch(self, pid: int, output: int, capture: Capture) -> tuple[int, Any]:
        """Move the child's output to the log until it is dead; end it when nobody waits for it any more."""
        with selectors.DefaultSelector() as selector:
            ended = _death_descriptor(pid)
            selector.register(output, selectors.EVENT_READ)
            selector.register(self.requests, selectors.EVENT_READ)
            if ended is not None:
                selector.register(ended, selectors.EVENT_READ)
            try:
                while True:
                    for key, _ in selector.select(None if ended is not None else 0.02):
                        if key.fd == output and not capture.pump(output):
                            selector.unregister(output)
                        elif key.fd == self.requests and not self._more():
                            selector.unregister(self.requests)
                            _end(pid)
                    found, status, usage = os.wait4(pid, os.WNOHANG)
                    if found:
                        return status, usage
            finally:
                if ended is not None:
                    os.close(ended)

    def _more(self) -> bool:
        """Keep a request that came early; False when the program is gone."""
        data = os.read(self.requests, 1 << 20)
        self._buffer += data
        return bool(data)


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


def _leave(output: int, life: int) -> None:
    """Cut the child off from the server: its own process group, output to the pipe, death with the server."""
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    _die_with(life)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(null)
    os.close(output)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the process's own streams
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    import atexit
    import faulthandler

    atexit._clear()  # the server's own: only what the step registers runs at its end
    faulthandler.enable(file=sys.stderr)


def _die_with(life: int) -> None:
    """Have the kernel kill this process's whole group when the server's end of the pipe is gone, whatever it does then.

    The owner of an asynchronous descriptor gets a signal at its end of file; the owner is the group, the signal KILL.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpid())
        if sys.platform == "linux":
            fcntl.fcntl(life, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)


def _flush() -> None:
    """Run what the step registered for its end (journals flush there), then empty the streams."""
    import atexit

    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _death_descriptor(pid: int) -> int | None:
    """A descriptor that is readable when the process is dead, where the system has it."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _end(pid: int) -> None:
    """TERM, a while, KILL for the child's group; the child itself is waited for elsewhere."""
    _kill(pid, signal.SIGTERM)
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until:
        state = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if state is not None:
            break
        time.sleep(0.02)
    _kill(pid, signal.SIGKILL)


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
