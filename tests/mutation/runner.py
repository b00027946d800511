"""Run steps of many versions of a project, each in a process of its own: forked from one that imported the libraries.

Reads one JSON line a version on stdin, answers with one on stdout. Outputs are compared as texts: what a later step would read.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_local.engines.pipeline.sources import discover
from mlops_local.worker.constants import constants
from mlops_local.worker.finder import Finder

ROWS = [1, 2, 3, 50]
LIMIT_S = 5


def serve() -> None:
    """Answer until stdin ends."""
    import numpy  # noqa: F401
    import polars  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.write(json.dumps(answer(request)) + "\n")
        sys.stdout.flush()


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Every job's output, in the order given; with the reason where the project cannot even be imported."""
    files: dict[str, str] = request["files"]
    sources = discover(request["entry"], lambda path: files[path].encode() if path in files else None)
    finder = Finder(Path("/nowhere"), sources, report=False)
    entry = next(iter(sources))

    jobs = [tuple(job) for job in request["jobs"]]
    state, made = in_child(lambda: everything(finder, entry, jobs))
    return made if state == "ok" else {"refused": state, "outputs": {}, "values": {}}


def in_child(body: Callable[[], dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Fork, run, and bring the answer back: ("ok", values) or (the error, nothing)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(LIMIT_S)
        try:
            text = json.dumps(["ok", body()])
        except BaseException as error:  # noqa: BLE001 - a mutant may fail in any way
            text = json.dumps([f"{type(error).__name__}: {error}", {}])
        with os.fdopen(writing, "w") as end:
            end.write(text)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as end:
        text = end.read()
    _, status = os.waitpid(pid, 0)
    if not text:
        return f"died: {status}", {}
    state, values = json.loads(text)
    return state, values


def everything(finder: Finder, entry: str, jobs: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Import the entry module, as describing the project does, then run every job from a fresh import of its own module."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the child ends
    sys.meta_path.insert(0, finder)
    try:
        fresh(finder, entry)
    except Exception as error:  # noqa: BLE001 - a mutant may fail in any way
        return {"refused": repr(error), "outputs": {}, "values": {}}
    values = constants(finder)
    outputs: dict[str, str] = {}
    kept: dict[str, bytes] = {}
    for module, name, takes in jobs:
        try:
            function = getattr(fresh(finder, module), name)
            output = function(pickle.loads(kept[takes]) if takes else list(ROWS))
        except Exception as error:  # noqa: BLE001 - as above
            outputs[name] = f"{type(error).__name__}: {error}"
            continue
        kept[name] = pickled(output)
        plain = text(output)
        outputs[name] = plain if plain is not None else kept[name].hex()
    return {"refused": "", "outputs": outputs, "values": values}


def fresh(finder: Finder, module: str) -> Any:
    """The module, imported anew with all of the project's."""
    for name in [*finder.sources, *finder.found]:
        sys.modules.pop(name, None)
    return importlib.import_module(module)


def pickled(output: Any) -> bytes:
    """The output as a pickle; empty where it cannot be one."""
    try:
        return pickle.dumps(output, protocol=5)
    except Exception:  # noqa: BLE001 - what cannot be kept is compared by its text alone
        return b""


def text(value: Any) -> str | None:
    """A plain value as text; None for an object, which counts as its pickle."""
    if value is None or type(value) in (bool, int, float, str, bytes):
        return f"{type(value).__name__} {value!r}"
    if type(value) in (list, tuple):
        items = [text(item) for item in value]
        return None if None in items else f"{type(value).__name__}({','.join(map(str, items))})"
    if type(value) is dict:
        pairs = [(text(key), text(item)) for key, item in value.items()]
        return None if any(None in pair for pair in pairs) else "{" + ",".join(f"{key}:{item}" for key, item in pairs) + "}"
    if type(value).__module__ == "numpy":
        return f"{value.dtype} {value.shape} {value.tolist()!r}"
    return None


if __name__ == "__main__":
    serve()
