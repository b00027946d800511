"""Metrics in what a program prints: lines that are `name: value` and nothing else. Pure: text in, points out."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import NamedTuple

_NAME = r"[A-Za-z_][\w./@%-]{0,99}(?: [\w./@%-]{1,40}){0,2}"
_NUMBER = r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan|inf(?:inity)?)"
_LINE = re.compile(rf"\s*({_NAME})\s*[:=]\s*({_NUMBER})\s*", re.IGNORECASE)
_STEPS = frozenset({"step", "epoch", "iteration", "iter"})
LONGEST_LINE = 1000
"""Bytes of an unfinished line that are kept; what is longer is no `name: value`."""


class Point(NamedTuple):
    """One value that was read."""

    key: str
    value: float
    step: float


class Listener:
    """Follows one stream of a program. A line `step: 3` or `epoch: 3` says where on their curves the next values are;
    without one, a value's step is how often its name came before."""

    def __init__(self) -> None:
        self._rest = b""
        self._step: float | None = None
        self._times: Counter[str] = Counter()

    def hear(self, data: bytes) -> list[Point]:
        """Take the next bytes; return the points of the lines that are whole now."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-LONGEST_LINE:] if len(rest) > LONGEST_LINE else rest
        return [point for line in lines if (point := self._read(line)) is not None]

    def _read(self, line: bytes) -> Point | None:
        if len(line) > LONGEST_LINE:
            return None
        found = _LINE.fullmatch(line.decode("utf-8", "replace"))
        if found is None:
            return None
        key, value = found[1].replace(" ", "_"), float(found[2])
        if key.lower() in _STEPS:
            self._step = value if math.isfinite(value) else self._step
            return None
        step = self._times[key] if self._step is None else self._step
        self._times[key] += 1
        return Point(key, value, step)
