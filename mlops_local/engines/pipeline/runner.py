"""Hold a worker: the process in the project's interpreter that describes the graph and runs steps, one at a time.

The worker gets the exact bytes of the project's code with each version of it, imports the libraries of what is about to run,
and forks a child for each request. This module never imports the user's code and never waits without an end.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import mlops_local
from mlops_local.domain.errors import ConfigError, MlopsError
from mlops_local.domain.graph import Graph, from_json, to_json
from mlops_local.domain.jobs import Code, Given, Made, StepJob, StepOutcome, outcome_from_json
from mlops_local.engines.pipeline.sources import SourceFile, executed, third_party

__all__ = ["Given", "Made", "StepJob", "StepOutcome", "Worker"]

GRACE_S = 3.0
"""Between TERM and KILL."""
_POLL_S = 0.05
"""How often a cancel event is looked at while a step runs."""
_START = "import sys; sys.path.append({place!r}); from mlops_local.worker.__main__ import main; main()"


class Worker:
    """A worker process. Use it as a context manager; `cancel` may be called from any thread."""

    def __init__(self, root: Path, *, cancel: threading.Event | None = None, python: str = sys.executable) -> None:
        """Only assign.

        Args:
            root: the project's folder.
            cancel: when set, the running step is ended and later ones are refused.
            python: the interpreter.
        """
        self.root = root.absolute()
        self.python = python
        self._cancelled = cancel or threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._buffer = b""
        self._known: object = None
        self._loaded: set[str] = set()
        self._refused: set[str] = set()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process; a running step ends with it."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(GRACE_S + 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._stderr is not None:
            self._stderr.close()

    def cancel(self) -> None:
        """End the running step: TERM to its process group, KILL three seconds later. Safe from any thread."""
        self._cancelled.set()

    def describe(self, entry: str, sources: Mapping[str, SourceFile]) -> Graph:
        """Import the pipeline module in a child and return the graph it declares.

        Args:
            entry: the pipeline module's path, relative to the root.
            sources: the project's modules, as `discover` found them.

        Raises:
            ConfigError: it does not import (with the user's own traceback), or declares what cannot be.
        """
        self._send_code(sources, Graph())
        self._preload(third_party(sources, lazy=False))
        with tempfile.NamedTemporaryFile(prefix="mlops-describe-", suffix=".log") as log:
            self._send(op="describe", entry=entry, imports=third_party(sources), log=log.name)
            answer = self._answer("describing the pipeline")
            printed = Path(log.name).read_bytes()[-4000:].decode("utf-8", "replace")
        if "graph" in answer:
            return from_json(answer["graph"])
        error = answer["error"]
        raise ConfigError(
            error["message"], hint=error["hint"], problems=error.get("problems", ()), traceback=error["traceback"] or printed
        )

    def run_step(self, job: StepJob) -> StepOutcome:
        """Run one step in a child and wait for it.

        A failing, crashing or cancelled step is an outcome, not an exception.
        """
        if self._cancelled.is_set():
            return StepOutcome(False, error="cancelled")
        job.out.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        self._send_code(job.sources, job.graph)
        self._preload(_needed(job))
        self._send(
            op="step",
            job={
                "step": job.step.name,
                "params": dict(job.params),
                "seed": job.seed,
                "inputs": [asdict(given) for given in job.inputs],
                "out": str(job.out),
                "log": str(job.log),
                "run": job.run,
                "state": str(job.state),
                "key": job.key,
            },
        )
        answer = self._answer(f"step {job.step.name}")
        outcome = outcome_from_json(answer["outcome"])
        if self._cancelled.is_set() and not outcome.ok:
            outcome = replace(outcome, error="cancelled", traceback="", hint="")
        return replace(outcome, seconds=outcome.seconds or time.monotonic() - started)

    # The conversation

    def _send_code(self, sources: Mapping[str, Code], graph: Graph) -> None:
        known = (self._process is not None and self._process.pid, id(sources), id(graph))
        if known == self._known and self._process is not None:
            return
        packed = {name: [item.path, base64.b64encode(item.data).decode()] for name, item in sources.items()}
        self._send(op="code", root=str(self.root), sources=packed, graph=to_json(graph))
        self._code = (sources, graph)  # held, so that the ids above stay theirs
        assert self._process is not None
        self._known = (self._process.pid, id(sources), id(graph))

    def _preload(self, names: Iterable[str]) -> None:
        wanted = [name for name in dict.fromkeys(names) if name not in self._loaded | self._refused]
        if not wanted:
            return
        self._send(op="preload", names=wanted)
        culprit = self._answer("loading libraries")["culprit"]
        self._loaded |= set(wanted)
        if culprit:
            # A library that starts threads when imported makes forking unsafe: the children import it themselves.
            self._refused.add(culprit)
            code, again = self._code, self._loaded - {culprit}
            self.close()
            self._buffer, self._known, self._loaded = b"", None, set()
            self._send_code(*code)
            self._preload(sorted(again))

    def _send(self, **request: Any) -> None:
        process = self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError as error:
            raise self._dead("starting") from error

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        place = str(Path(mlops_local.__file__).resolve().parent.parent)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [self.python, "-c", _START.format(place=place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=self.root,
            env=_environment(),
            start_new_session=True,
        )
        return self._process

    def _answer(self, what: str) -> dict[str, Any]:
        """The next answer; a child's pid is noted on the way, so that it can be ended."""
        group = 0
        ended_at = 0.0
        try:
            while True:
                line = self._line()
                if line is None:
                    raise self._dead(what)
                if line:
                    answer: dict[str, Any] = json.loads(line)
                    if set(answer) != {"pid"}:
                        return answer
                    group = answer["pid"]
                if group and self._cancelled.is_set():
                    ended_at = ended_at or self._signal(group, signal.SIGTERM)
                    if time.monotonic() - ended_at > GRACE_S:
                        self._signal(group, signal.SIGKILL)
        except BaseException:
            if group:
                self._signal(group, signal.SIGKILL)
            raise

    def _signal(self, group: int, number: int) -> float:
        with contextlib.suppress(OSError):
            os.killpg(group, number)
        return time.monotonic()

    def _line(self) -> bytes | None:
        """A line, b"" when none came for a moment, None at the end."""
        process = self._process
        if process is None or process.stdout is None:
            return None
        if b"\n" not in self._buffer:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(_POLL_S):
                    return b""
            data = os.read(process.stdout.fileno(), 1 << 20)
            if not data:
                return None
            self._buffer += data
        if b"\n" not in self._buffer:
            return b""
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _dead(self, what: str) -> MlopsError:
        text = ""
        if self._stderr is not None:
            self._stderr.seek(0)
            text = self._stderr.read().decode("utf-8", "replace").strip()
        self.close()
        return MlopsError(
            f"the worker ended while {what}" + (f": {text.splitlines()[-1]}" if text else ""),
            hint=f"it runs in {self.python}",
        )


def _needed(job: StepJob) -> tuple[str, ...]:
    """The libraries a step is about to import: what its module and those it imports load, and polars for its tables."""
    declared = [job.graph.model(job.step.model).declared.module] if job.step.kind in ("features", "evaluate") else []
    modules = [job.step.code[0].module, *declared]
    sources = {name: SourceFile(item.path, item.data) for name, item in job.sources.items()}
    reached = {name: None for module in modules for name in executed(module, sources)}
    return (*third_party(sources, reached, lazy=False), "polars", "numpy")


def _environment() -> dict[str, str]:
    """The worker's environment: ours, with what makes results the same each time."""
    settings = {
        "PYTHONHASHSEED": "0",  # sets and the order they are walked in
        "POLARS_ENGINE_AFFINITY": "in-memory",  # the streaming engine joins in another order each time (measured)
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: on a busy machine LightGBM is seven times as fast (measured)
        "_RJEM_MALLOC_CONF": "background_thread:false",  # polars' allocator: no thread in a process that forks
    }
    return {**settings, **os.environ, "PYTHONHASHSEED": "0"}
