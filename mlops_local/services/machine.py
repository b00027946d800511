"""What this machine has for steps: cores, memory, GPUs, as far as this process may use them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlops_local.domain.errors import UsageError
from mlops_local.domain.graph import Step
from mlops_local.domain.names import counted
from mlops_local.engines.pipeline.schedule import Machine

GPUS_VARIABLE = "MLOPS_GPUS"
"""The GPUs steps may have, as CUDA_VISIBLE_DEVICES names them (`0,1`, or nothing); overrides what the system says."""
_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def look(*, gpus: bool) -> Machine:
    """Look at the machine; at its GPUs only where some step declares any, for asking the driver takes a moment."""
    return Machine(cpus=cores(), memory=memory(), gpus=_gpus() if gpus else ())


def check(steps: Iterable[Step], machine: Machine) -> None:
    """Refuse steps that need GPUs which are not there, unless the user said which there are.

    Raises:
        UsageError: some step declares more.
    """
    for step in steps:
        if step.needs.gpus > len(machine.gpus) and GPUS_VARIABLE not in os.environ:
            there = f"has {len(machine.gpus)}" if machine.gpus else "has none that can be used"
            raise UsageError(
                f"step {step.name} declares {counted(step.needs.gpus, 'GPU')}, and this machine {there}",
                hint=f"run it where there are; to run it on what is here: {GPUS_VARIABLE}={','.join(machine.gpus)} mlops train",
            )


def cores() -> int:
    """Cores this process may use: its affinity, and its control group's share, rounded up."""
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        count = os.cpu_count() or 1
    for folder in _groups("cpu"):
        quota = _text(folder / "cpu.max").split() or [
            _text(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
        if all(part.isdigit() for part in quota) and int(quota[1]):
            count = min(count, -(-int(quota[0]) // int(quota[1])))
    return max(1, count)


def limit() -> int:
    """How many threads a step that has every core may use; 0, no limit, where those are all the machine has."""
    count = cores()
    return count if count < (os.cpu_count() or 1) else 0


def memory() -> int:
    """Bytes of memory this process may use; 0 where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
    limits = [_text(folder / name) for folder in _groups("memory") for name in ("memory.max", "memory.limit_in_bytes")]
    return min([total, *(int(limit) for limit in limits if limit.isdigit())])


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of those it lies in, of both versions; a limit of any counts."""
    own = [line.split(":", 2) for line in _text(_OWN_CGROUP).splitlines()]
    places = {"": _CGROUP, controller: _CGROUP / controller}
    for _, names, path in (line for line in own if len(line) == 3):
        for name in {*names.split(",")} & places.keys():
            yield from (places[name] / part for part in (*(Path(path.lstrip("/")).parents), Path(path.lstrip("/"))))


def _gpus() -> tuple[str, ...]:
    for name in (GPUS_VARIABLE, "CUDA_VISIBLE_DEVICES"):
        named = os.environ.get(name)
        if named is not None:
            return tuple(part.strip() for part in named.split(",") if part.strip() not in ("", "-1"))
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip().isdigit())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
