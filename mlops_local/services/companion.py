"""The server that `mlops watch --serve` runs beside itself: a child process, started once there is a champion, ended with us.

It follows promotions by itself, so it is never restarted for a new version. Ended by its process id only; on Linux the kernel
ends it too when the watcher is killed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

_GRACE_S = 10.0
# Set in the child itself, between fork and the server: PR_SET_PDEATHSIG (1) with SIGTERM (15), kept across exec.
_START = (
    "import ctypes, os, sys\n"
    "if sys.platform == 'linux':\n"
    "    ctypes.CDLL(None).prctl(1, 15)\n"
    "if os.getppid() != int(sys.argv[1]):\n"
    "    sys.exit(1)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
)


class Companion:
    """One server process. Not started by its constructor."""

    def __init__(self, root: Path, tell: Callable[[str], None], *, options: tuple[str, ...] = ()) -> None:
        self._root = root
        self._tell = tell
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._last = ""

    @property
    def pid(self) -> int:
        """The server's process id, 0 before it is started."""
        return self._process.pid if self._process is not None else 0

    def start(self, parent: int) -> None:
        """Start the server. Call it from the thread that lives as long as the watcher: its end ends the server.

        Args:
            parent: our own process id.
        """
        if self._process is not None:
            return
        command = ["-m", "mlops_local", "-C", str(self._root), "serve", *self._options]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(parent), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, name="mlops-serve-output", daemon=True)
        self._reader.start()

    def ended(self) -> str:
        """Say once how the server ended, if it did by itself; it can be started again then."""
        if self._process is None or self._process.poll() is None:
            return ""
        code = self._process.returncode
        self._forget()
        return f"the server ended with exit code {code}" + (f": {self._last}" if self._last else "")

    def stop(self) -> None:
        """End the server and wait for it; requests in flight are finished."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        assert self._process is not None and self._reader is not None and self._process.stdout is not None
        self._reader.join(_GRACE_S)
        self._process.stdout.close()
        self._process = self._reader = None

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed under us at the end
            for line in self._process.stdout:
                if line.strip():
                    self._last = line.strip()
                    self._tell(line.rstrip())
