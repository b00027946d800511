"""What a step declares that it needs to run, checked: the same in a decorator and in mlops.toml. Python 3.10."""

from __future__ import annotations

import re
from typing import Any

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Needs

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def needs(cpus: Any = 0, memory: Any = 0, gpus: Any = 0, retries: Any = 0, timeout: Any = 0) -> Needs:
    """Check and keep what was declared. Raises ConfigError."""
    given = {"cpus": cpus, "gpus": gpus, "retries": retries, "timeout": timeout}
    for name, value in given.items():
        if type(value) is int and value >= 0:  # nearly always, and once for every step whenever a pipeline is imported
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float) if name == "timeout" else int) or value < 0:
            raise ConfigError(f"{name}: expected a number of 0 or more, got {value!r}")
    return Needs(cpus, _bytes(memory), gpus, retries, float(timeout))


def _bytes(memory: Any) -> int:
    """A size in bytes, given as a number or as text: `"2 GB"`, `"512MiB"`."""
    if type(memory) is int and memory >= 0:
        return memory
    found = _SIZE.fullmatch(str(memory).lower())
    if found is None or found[2] not in _UNITS:
        raise ConfigError(f'memory: expected bytes or a size such as "2 GB", got {memory!r}')
    return int(float(found[1]) * _UNITS[found[2]])
