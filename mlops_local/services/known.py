"""What is known of a version of the code without reading it again: the files it consists of and what its steps depend on.

Both are kept beside what they were worked out from, and count only while that is the same. So a command with nothing to do
parses no source file, whatever the number of steps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import field
from pathlib import Path
from typing import Any

from mlops_local.domain.graph import Graph, Step
from mlops_local.domain.plan import Part
from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline import sources as sourcing
from mlops_local.engines.pipeline.sources import SourceFile
from mlops_local.store import cache
from mlops_local.store.layout import Layout

Load = Callable[[str], bytes | None]
_ANALYSIS = ("engines/pipeline", "worker")
"""Our own code that turns files into graph and parts, relative to the package."""


@dataclass(frozen=True)
class Code:
    """One version of a project's code: exact bytes, the graph they declare, and what its steps depend on."""

    sources: dict[str, SourceFile]
    graph: Graph
    key: str
    described: str = ""
    """A sign of the one description this graph came from: the same bytes are described again under another environment."""
    known: dict[str, tuple[Part, ...]] = field(default_factory=dict, compare=False)
    """Step -> its parts, as far as they were asked for."""

    programs: dict[str, tuple[Part, ...]] = field(default_factory=dict, compare=False)
    """Command step -> the contents of its declared code files."""

    def parts(self, step: Step) -> tuple[Part, ...]:
        """The code and environment a step depends on: worked out once for each version of the code."""
        if step.name not in self.known:
            from mlops_local.engines.pipeline import fingerprint  # noqa: PLC0415  (the analysis: only for code not seen before)

            self.known[step.name] = fingerprint.parts(step, self.graph, self.sources)
        return (*self.known[step.name], *self.programs.get(step.name, ()))


def sources(layout: Layout, entry: str, load: Load) -> dict[str, SourceFile]:
    """As `sources.discover`, from the working tree: every file that was looked for last time is looked at again.

    Raises:
        ConfigError: the entry is not there.
    """
    kept = cache.trace(layout, entry)
    found = _replayed(kept, load) if kept is not None else None
    if found is not None:
        return found
    looked_for: dict[str, str | None] = {}

    def noting(path: str) -> bytes | None:
        data = load(path)
        looked_for[path] = _hash(data)
        return data

    found = sourcing.discover(entry, noting)
    cache.save_trace(layout, entry, {"modules": {name: file.path for name, file in found.items()}, "looked for": looked_for})
    return found


def _replayed(kept: dict[str, Any], load: Load) -> dict[str, SourceFile] | None:
    """The same files again, if each path that was looked for has the same bytes or is still missing."""
    held: dict[str, bytes] = {}
    try:
        for path, hash in kept["looked for"].items():
            data = load(path)
            if _hash(data) != hash:
                return None
            if data is not None:
                held[path] = data
        return {name: SourceFile(path, held[path]) for name, path in kept["modules"].items()}
    except (KeyError, AttributeError, TypeError):
        return None


def _hash(data: bytes | None) -> str | None:
    return None if data is None else hashlib.blake2b(data, digest_size=32).hexdigest()


def analysis() -> str:
    """A sign of our own analysis: what another version of it worked out does not count."""
    home = Path(__file__).parent.parent
    stats = (entry.stat() for part in _ANALYSIS for entry in os.scandir(home / part) if entry.name.endswith(".py"))
    return ",".join(sorted(f"{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}" for stat in stats))


def kept_parts(layout: Layout, key: str, described: str, variable: Callable[[str], str]) -> dict[str, tuple[Part, ...]]:
    """The parts kept for this description of the code, if the variables among them have the same values.

    Args:
        layout: the store.
        key: the code's key.
        described: of the graph they were worked out with.
        variable: a part's value of an environment variable now.
    """
    kept = cache.parts(layout, key)
    if kept is None or not described or kept.get("described") != described:
        return {}
    try:
        every = [Part(*fields) for fields in kept["every"]]
        if any(part.kind == "env" and part.what[:1] == "$" and part.value != variable(part.what[1:]) for part in every):
            return {}
        return {step: tuple(every[number] for number in numbers) for step, numbers in kept["steps"].items()}
    except (KeyError, TypeError, IndexError, AttributeError):
        return {}


def keep_parts(layout: Layout, code: Code, before: Iterable[str]) -> None:
    """Keep the parts that were asked for, if any is new. Parts that several steps share are kept once."""
    if not code.described or code.known.keys() <= set(before):
        return
    numbers: dict[Part, int] = {}
    steps = {step: [numbers.setdefault(part, len(numbers)) for part in parts] for step, parts in code.known.items()}
    every = [[part.kind, part.what, part.value, part.where] for part in numbers]
    cache.save_parts(layout, code.key, {"described": code.described, "every": every, "steps": steps})
