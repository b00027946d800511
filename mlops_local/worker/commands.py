"""Run a command step: hand the inputs over as paths, run the program in the project's folder, take what it wrote.

Python 3.10, and polars only where a table changes its format.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlops_local
from mlops_local.domain.command import filled, placeholders
from mlops_local.domain.errors import StepFailed
from mlops_local.domain.graph import Source, Step
from mlops_local.domain.jobs import Given, StepJob
from mlops_local.worker.inputs import scan
from mlops_local.worker.values import load

TABLES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".arrow")
_LAST_LINES = 20
_IGNORED = {".git", ".mlops", ".venv", "venv", "node_modules", "__pycache__", ".ipynb_checkpoints"}
_MOST_FILES = 20_000
"""Of a project with more files it is not said which of them a command changed."""


def run(job: StepJob, root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the step's program and return its outputs by name, and the report.

    Raises:
        StepFailed: it is not there, ended with an error, or left an output out.
    """
    step = job.step
    files: dict[str, str] = json.loads(step.extras["outputs"])
    named = {name for name, _ in placeholders(step.command)}
    given = {item.input.argument: _handed(job, item, root) for item in job.inputs if item.input.argument in named}
    made = {name: (job.out / "made" / name / Path(path).name if name in named else root / path) for name, path in files.items()}
    for name in named & set(files):
        (made[name] if files[name].endswith("/") else made[name].parent).mkdir(parents=True)
    own = {path for name, path in made.items() if name not in named}
    before = seen(root)
    old = {name: _stamp(path) for name, path in made.items() if path.is_file()}
    _execute(step, _words(step, given, {name: str(path) for name, path in made.items()}, job.params))
    changed = _changed(before, seen(root), root, own)
    for name, path in made.items():
        _there(step, name, path, files[name], None if name in named else old.get(name))
    warnings = [
        f"{step.name} wrote {path}, which is none of its outputs: declare it, or write it elsewhere" for path in changed
    ]
    return {name: _value(path) for name, path in made.items()}, ({"warnings": warnings} if warnings else {})


# Inputs


def _handed(job: StepJob, given: Given, root: Path) -> list[str]:
    """The path or paths an input is handed over as."""
    argument, wants = given.input.argument, given.input.wants
    folder = job.out / "inputs" / argument
    if given.kind == "source":
        if wants == "path":
            return [os.path.relpath(given.files[name], root) for name in sorted(given.files)]
        source = job.graph.source(given.input.node)
        return [_written(scan(source, given.files), folder, argument, wants)]
    table = given.kind in ("parquet", "pandas", "series")
    if given.kind in ("each:parquet", "each:pandas"):
        return [_written(load(given.kind, given.files, "lazy"), folder, argument, "parquet" if wants == "path" else wants)]
    if given.kind in ("file", "folder"):
        return [str(load(given.kind, given.files, scratch=folder))]
    if table and wants in ("path", "parquet"):
        return [_linked(next(iter(given.files.values())), folder, f"{argument}.parquet")]
    if table:
        return [_written(load(given.kind, given.files, "lazy"), folder, argument, wants)]
    if given.kind in ("json", "npy", "lightgbm"):
        path = next(iter(given.files.values()))
        return [_linked(path, folder, argument + {"json": ".json", "npy": ".npy", "lightgbm": ".txt"}[given.kind])]
    raise StepFailed(
        f"input '{argument}' of {job.step.name} is kept as {given.kind}, which no other program reads",
        hint="let the step before return a frame, plain JSON values, an array or the path of a file it wrote",
    )


def _linked(path: str, folder: Path, name: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(Path(path).resolve())
    return str(folder / name)


def _written(frame: Any, folder: Path, argument: str, wants: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{argument}.{wants}"
    if wants == "csv":
        frame.sink_csv(path)
    elif wants == "json":
        frame.collect(engine="in-memory").write_json(path)
    else:
        frame.sink_parquet(path)
    return str(path)


# The program


def _words(step: Step, given: Mapping[str, list[str]], made: Mapping[str, str], params: Mapping[str, Any]) -> list[str]:
    """The command line's words; an input of several files is several words."""
    values = {**made, **{name: _text(value) for name, value in params.items()}}
    if step.extras.get("shell"):
        quoted = {name: shlex.quote(value) for name, value in values.items()}
        quoted.update({name: " ".join(shlex.quote(path) for path in paths) for name, paths in given.items()})
        return ["/bin/sh", "-c", filled(step.command, quoted)]
    words: list[str] = []
    for word in shlex.split(step.command):
        many = [name for name, _ in placeholders(word) if len(given.get(name, [""])) != 1]
        if many and placeholders(word) != [(many[0], "")]:
            raise StepFailed(
                f"{step.name}: {word} stands for {len(given[many[0]])} files, which cannot be part of a word",
                hint=f"write {{{many[0]}}} as a word of its own, or {{{many[0]}:csv}} for one file",
            )
        words += (
            given[many[0]] if many else [filled(word, {**values, **{name: paths[0] for name, paths in given.items() if paths}})]
        )
    return words


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@contextlib.contextmanager
def importable() -> Iterator[dict[str, str]]:
    """Give the variables with which a program in any Python finds this package, and nothing beside it."""
    with tempfile.TemporaryDirectory(prefix="mlops-") as place:
        Path(place, "mlops_local").symlink_to(Path(mlops_local.__file__).resolve().parent)
        yield {"PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH", "")]), place])}


def _execute(step: Step, words: list[str]) -> None:
    with importable() as variables:
        _run(step, words, variables)


def _run(step: Step, words: list[str], variables: Mapping[str, str]) -> None:
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **variables, "PATH": os.pathsep.join(places)},
        )  # fmt: skip
    except OSError as error:
        raise StepFailed(
            f"{step.file}:{step.line}: {step.name} cannot start '{words[0]}': {error.strerror}",
            hint="install it, or give its path in the command",
        ) from error
    assert process.stdout is not None
    last: deque[bytes] = deque(maxlen=_LAST_LINES)
    with process, process.stdout as output:
        for line in iter(lambda: output.readline(1 << 16), b""):
            last.append(line)
            os.write(1, line)
    if process.returncode:
        code = process.returncode
        how = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
        raise StepFailed(f"'{words[0]}' {how}", traceback=b"".join(last).decode("utf-8", "replace"))


# Outputs


def _there(step: Step, name: str, path: Path, declared: str, before: tuple[int, int] | None) -> None:
    """An output must be there, and one at a path of its own must be of this run."""
    folder = declared.endswith("/")
    if not (path.is_dir() if folder else path.is_file()):
        raise StepFailed(
            f"{step.name} ended without an error, and its output '{name}' ({declared}) is not there",
            hint=f"write it to the path that {{{name}}} stands for" if before is None else "",
        )
    if before is not None and not folder and _stamp(path) == before:
        raise StepFailed(
            f"{step.name} did not write its output '{name}' ({declared}): the file there is older than this run",
            hint="look at what the program writes, and where",
        )


def _value(path: Path) -> Any:
    """What an output's file stands for."""
    suffix = path.suffix.lower()
    if path.is_dir() or suffix not in (*TABLES, ".json", ".npy"):
        return path
    if suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if suffix == ".npy":
        import numpy as np

        return np.load(path, allow_pickle=False)
    return scan(Source(path.name, path.name), {path.name: str(path)})


def seen(root: Path) -> dict[str, tuple[int, int]] | None:
    """Size and mtime of the project's files; None for a project that has too many."""
    found: dict[str, tuple[int, int]] = {}
    for path in _walk(str(root)):
        with contextlib.suppress(OSError):
            found[path] = _stamp(Path(path))
        if len(found) > _MOST_FILES:
            return None
    return found


def _walk(root: str) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _IGNORED]
        yield from (f"{folder}{os.sep}{name}" for name in names)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _changed(
    before: Mapping[str, tuple[int, int]] | None, after: Mapping[str, tuple[int, int]] | None, root: Path, own: set[Path]
) -> list[str]:
    if before is None or after is None:
        return []
    changed = [path for path, stamp in after.items() if before.get(path) != stamp]
    mine = [path for path in changed if not any(item == Path(path) or item in Path(path).parents for item in own)]
    return sorted(os.path.relpath(path, root) for path in mine)[:10]
