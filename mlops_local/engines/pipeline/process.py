"""One worker process and the conversation with it: numbered requests go out, answers come back in any order.

A thread reads the answers; any number of threads ask. The process gets the exact bytes of the project's code with each version
of it. Nothing here imports the user's code.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

import mlops_local
from mlops_local.domain.errors import MlopsError
from mlops_local.domain.graph import Graph, to_json
from mlops_local.domain.jobs import SERVING_PYTHON, Code, StepJob, job_to_json

GRACE_S = 3.0
"""Between TERM and KILL."""
POLL_S = 0.02
"""How often a cancel event is looked at while an answer is waited for."""
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "TOKENIZERS_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "SLURM_CPUS_ON_NODE",  # DuckDB has no variable of its own, and takes this one as a machine's cores
)
"""What libraries read when they are imported, never later; DuckDB when it connects."""
_START = """\
import sys
from importlib.machinery import PathFinder

class Ours:
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{place!r}]) if name == "mlops_local" else None

sys.meta_path.insert(0, Ours)
sys.path[:] = [place for place in sys.path if place]
from mlops_local.worker.{module} import main
main()
"""
"""Serves this package, and nothing else of the environment it is installed in, to the project's interpreter."""

_WHICH = "`mlops status` says which Python runs the project's code, and [project] python in mlops.toml names another"

Answer = dict[str, Any]


def start(python: str, root: Path, threads: int, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a worker process in an interpreter, its libraries limited to so many threads (0: not limited)."""
    place = str(Path(mlops_local.__file__).resolve().parent.parent)
    return subprocess.Popen(
        [python, "-c", _START.format(place=place, module="__main__")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=root,
        env=environment(python, threads),
        start_new_session=True,
    )


def foreground(python: str, root: Path, job: StepJob, mode: str, request: Path) -> int:
    """Run one step in this terminal, in a process of its own limited to the job's threads, and return its exit code.

    Args:
        python: the project's interpreter.
        root: the project's folder.
        job: the step.
        mode: debug or shell.
        request: a file to write what the process is to do; nobody else may read it.
    """
    place = str(Path(mlops_local.__file__).resolve().parent.parent)
    sources = {name: [item.path, base64.b64encode(item.data).decode()] for name, item in job.sources.items()}
    asked = {"root": str(root), "mode": mode, "job": job_to_json(job), "graph": to_json(job.graph), "sources": sources}
    request.touch(mode=0o600)
    request.write_text(json.dumps(asked), encoding="utf-8")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the step, or for its debugger
    try:
        started = subprocess.Popen(
            [python, "-c", _START.format(place=place, module="foreground")],
            cwd=root,
            env={**environment(python, job.threads), "MLOPS_FOREGROUND": str(request)},
        )
        code = started.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def environment(python: str, threads: int) -> dict[str, str]:
    """The worker's environment: ours, what makes results the same each time, threads few enough, and Python's own active."""
    settings = {
        "PYTHONHASHSEED": "0",  # sets and the order they are walked in
        "POLARS_ENGINE_AFFINITY": "in-memory",  # the streaming engine joins in another order each time (measured)
        "POLARS_OOC_MEMORY_BUDGET_MB": str(_budget_mb()),  # from here on a streamed sort or join spills to disk
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: on a busy machine LightGBM is seven times as fast (measured)
        "_RJEM_MALLOC_CONF": "background_thread:false",  # polars' allocator: no thread in a process that forks
    }
    limits = {name: _fewer(os.environ.get(name, ""), threads) for name in THREADS} if threads else {}
    fixed = {"PYTHONHASHSEED": "0", SERVING_PYTHON: sys.executable}
    return {**settings, **os.environ, **fixed, **limits, **_active(python)}


def _active(python: str) -> dict[str, str]:
    """What activating the environment would set: `python` in a command of a step is the one that runs the step."""
    home = Path(python).parent.parent
    if not (home / "pyvenv.cfg").exists():
        return {}
    return {"VIRTUAL_ENV": str(home), "PATH": os.pathsep.join([str(home / "bin"), os.environ.get("PATH", os.defpath)])}


def _budget_mb() -> int:
    """What polars' streaming engine may hold in memory: a 32nd of the machine's, 512 MB at least."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(512, total // 32 // 2**20)


def _fewer(own: str, threads: int) -> str:
    """The user's own limit where it is the lower one."""
    return own if own.isdigit() and 0 < int(own) < threads else str(threads)


class WorkerProcess:
    """A worker process; it starts with the first request. Any thread may ask."""

    def __init__(self, root: Path, *, python: str = sys.executable, threads: int = 0) -> None:
        """Only assign.

        Args:
            root: the project's folder.
            python: the interpreter.
            threads: what libraries in it are limited to; 0: not limited.
        """
        self.root = root
        self.python = python
        self.threads = threads
        self.users = 0
        """Requests that are using it."""
        self.loaded: set[str] = set()
        """What it was asked to import."""
        self.stamps: dict[str, int] = {}
        """Path -> modification time of what its imports came from."""
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._stderr: IO[bytes] | None = None
        self._writing = threading.Lock()
        self._numbers = count(1)
        self._waiting: dict[int, SimpleQueue[Answer | None]] = {}
        self._importing = 0
        """Requests to load libraries that are not answered."""
        self._known: tuple[object, object] = (None, None)
        self._dead = False

    def close(self) -> None:
        """End the process; what runs in it ends with it."""
        with self._writing:
            process, self._dead = self._process, True
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        if self._importing and len(self._waiting) == self._importing:
            process.kill()  # nobody waits for what it loads, and it would not hear before that is done
        with contextlib.suppress(OSError):
            process.stdin.close()
        if self._reader is not None:
            self._reader.join(GRACE_S + 2)  # its last line read: sooner than by asking again and again whether it has ended
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join()
        process.stdout.close()
        if self._stderr is not None:
            self._stderr.close()

    @property
    def outdated(self) -> bool:
        """Whether it is gone, or what it imported is no longer what is installed."""
        return self._dead or any(_mtime(path) != at for path, at in self.stamps.items())

    def preload(self, names: Iterable[str]) -> str:
        """Import libraries in the process itself; returns the one that started threads, after which it must not fork."""
        wanted = [name for name in dict.fromkeys(names) if name not in self.loaded]
        if not wanted and self.stamps:
            return ""
        self._importing += 1
        try:
            answer = self.ask("loading libraries", op="preload", names=wanted)
        finally:
            self._importing -= 1
        self.loaded |= set(wanted)
        self.stamps = answer["stamps"]
        return str(answer["culprit"])

    def ask(
        self,
        what: str,
        *,
        code: tuple[Mapping[str, Code], Graph] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        **request: Any,
    ) -> Answer:
        """Send a request and wait for its answer.

        Args:
            what: what it is for, in an error.
            code: the modules and the graph it is about.
            cancelled: once true, the child that works on it is told to end; its answer is still waited for.
            request: `op` and its fields.

        Raises:
            MlopsError: the process ended, or could not begin.
        """
        answers: SimpleQueue[Answer | None] = SimpleQueue()
        number = self._send(answers, code, request)
        if number is None:
            raise self._gone(what)
        try:
            return self._wait(answers, number, what, cancelled)
        except BaseException:
            self._tell(op="end", id=number)
            raise

    def _wait(self, answers: SimpleQueue[Answer | None], number: int, what: str, cancelled: Callable[[], bool]) -> Answer:
        told = False
        while True:
            try:
                answer = answers.get(timeout=POLL_S)
            except Empty:
                if not told and cancelled():
                    told = True
                    self._tell(op="end", id=number)
                continue
            if answer is None:
                raise self._gone(what)
            if "refused" in answer:
                raise MlopsError(f"{what} could not begin: {answer['refused']}", hint=f"it runs in {self.python}")
            return answer

    def _send(
        self, answers: SimpleQueue[Answer | None], code: tuple[Mapping[str, Code], Graph] | None, request: Answer
    ) -> int | None:
        with self._writing:
            if self._dead:
                return None
            self._begin()
            number = next(self._numbers)
            self._waiting[number] = answers
            sent = code is None or self._same_code(code) or self._write(_packed(self.root, *code))
            if not sent or not self._write({"id": number, **request}):
                self._waiting.pop(number, None)
                return None
            return number

    def _same_code(self, code: tuple[Mapping[str, Code], Graph]) -> bool:
        same = self._known[0] is code[0] and self._known[1] is code[1]
        self._known = code  # held, so that another of the same identity cannot come
        return same

    def _tell(self, **request: Any) -> None:
        with self._writing:
            self._write(request)

    def _write(self, request: Answer) -> bool:
        process = self._process
        if process is None or process.stdin is None:
            return False
        try:
            process.stdin.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it ended, or was closed
            return False
        return True

    def _begin(self) -> None:
        if self._process is None:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
            try:
                self._process = start(self.python, self.root, self.threads, self._stderr)
            except OSError as error:  # no such interpreter, no more processes
                self._stderr.close()
                raise MlopsError(f"{self.python} cannot be started: {error.strerror or error}", hint=_WHICH) from error
            self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), name="mlops-worker", daemon=True)
            self._reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        """Hand each answer to whoever waits for it; at the end nobody waits in vain."""
        for line in stream:
            reply = json.loads(line)
            answers = self._waiting.pop(reply["id"], None)
            if answers is not None:
                answers.put(reply["answer"])
        with self._writing:
            self._dead = True
            left, self._waiting = self._waiting, {}
        for answers in left.values():
            answers.put(None)

    def _gone(self, what: str) -> MlopsError:
        text = ""
        with contextlib.suppress(OSError, ValueError):  # closed, perhaps at this moment
            text = os.pread(self._stderr.fileno(), 1 << 16, 0).decode("utf-8", "replace").strip() if self._stderr else ""
        return MlopsError(
            f"the worker ended while {what}" + (f": {text.splitlines()[-1]}" if text else ""),
            hint=f"it runs in {self.python}",
        )


def _packed(root: Path, sources: Mapping[str, Code], graph: Graph) -> Answer:
    packed = {name: [item.path, base64.b64encode(item.data).decode()] for name, item in sources.items()}
    return {"op": "code", "root": str(root), "sources": packed, "graph": to_json(graph)}


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  (a dozen a step)
    except OSError:
        return 0
