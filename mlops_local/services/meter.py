"""What a command and all it starts take of the machine while it works: processors, memory, disk and GPUs, at a low rate.

A thread of the run's parent that looks every few seconds; the command itself is not touched.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType

import psutil

FIRST_S = 0.5
EVERY_S = 5.0
"""Between two looks; the first is sooner."""
_GPU = ("nvidia-smi", "--query-gpu=index,utilization.gpu,memory.used", "--format=csv,noheader,nounits")


class Meter:
    """Keep it entered while the command works."""

    def __init__(self, pid: int, tell: Callable[[Mapping[str, float]], None]) -> None:
        """Only assign.

        Args:
            pid: the command's process.
            tell: given `system.…` values, from the thread.
        """
        self._pid = pid
        self._tell = tell
        self._seen: dict[int, psutil.Process] = {}
        self._gpus = shutil.which(_GPU[0]) is not None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mlops-meter", daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        self._processes()  # from here on their processor time counts
        wait = FIRST_S
        while not self._done.wait(wait):
            wait = EVERY_S
            values = self.look()
            if values:
                self._tell(values)

    def look(self) -> dict[str, float]:
        """Return what the command's processes take together now."""
        percent = memory = read = written = 0.0
        alive = self._processes()
        for process in alive:
            with suppress(psutil.Error), process.oneshot():
                percent += process.cpu_percent()
                memory += process.memory_info().rss
                moved = process.io_counters()
                read, written = read + moved.read_bytes, written + moved.write_bytes
        if not alive:
            return {}
        return {
            "system.cpu_percent": percent,
            "system.memory_bytes": memory,
            "system.disk_read_bytes": read,
            "system.disk_written_bytes": written,
            **(self._of_gpus() if self._gpus else {}),
        }

    def _processes(self) -> list[psutil.Process]:
        """The command's process and its descendants; each is kept, since its processor time counts from look to look."""
        try:
            first = psutil.Process(self._pid)
            there = [first, *first.children(recursive=True)]
        except psutil.Error:
            return []
        for process in there:
            if process.pid not in self._seen:
                with suppress(psutil.Error):
                    process.cpu_percent()  # the first call only begins to count
        self._seen = {process.pid: self._seen.get(process.pid, process) for process in there}
        return list(self._seen.values())

    def _of_gpus(self) -> dict[str, float]:
        found: dict[str, float] = {}
        try:
            said = subprocess.run(_GPU, capture_output=True, text=True, timeout=5, check=True).stdout
            for line in said.splitlines():
                number, percent, megabytes = (float(part) for part in line.split(","))
                found[f"system.gpu{number:.0f}_percent"] = percent
                found[f"system.gpu{number:.0f}_memory_bytes"] = megabytes * 1048576
        except (OSError, ValueError, subprocess.SubprocessError):
            self._gpus = bool(found)  # a driver that does not answer is not asked every few seconds
        return found
