"""What this machine has for steps: cores, memory, GPUs, as far as this process may use them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mlops_local.engines.pipeline.schedule import Machine

GPUS_VARIABLE = "MLOPS_GPUS"
"""The GPUs steps may have, as CUDA_VISIBLE_DEVICES names them (`0,1`); overrides what the system says."""
_CGROUP = Path("/sys/fs/cgroup")


def look(*, gpus: bool) -> Machine:
    """Look at the machine; at its GPUs only where some step declares any, for asking the driver takes a moment."""
    return Machine(cpus=cores(), memory=memory(), gpus=_gpus() if gpus else ())


def cores() -> int:
    """Cores this process may use: its affinity, and its control group's share, rounded up."""
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        count = os.cpu_count() or 1
    quota = _text(_CGROUP / "cpu.max").split() or [
        _text(_CGROUP / "cpu/cpu.cfs_quota_us"),
        _text(_CGROUP / "cpu/cpu.cfs_period_us"),
    ]
    if all(part.isdigit() for part in quota) and int(quota[1]):
        count = min(count, -(-int(quota[0]) // int(quota[1])))
    return max(1, count)


def memory() -> int:
    """Bytes of memory this process may use; 0 where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
    limits = [_text(_CGROUP / "memory.max"), _text(_CGROUP / "memory/memory.limit_in_bytes")]
    return min([total, *(int(limit) for limit in limits if limit.isdigit())])


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
