"""Tracking from a script, a notebook or a step: `run()`, and `log`, `log_params`, `log_artifact`, `log_model` and the like.

Under `mlops run` and inside a step the run already exists; elsewhere `run()` begins one in the project around the folder.
Outside any run the module's functions do nothing, so that a step's function also works in a test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from mlops_local.api.process import MODE_VARIABLE, RUN_VARIABLE, Number, innermost, process, project_layout
from mlops_local.api.recording import recorder
from mlops_local.api.running import Run
from mlops_local.domain.errors import MlopsError, UsageError

F = TypeVar("F", bound=Callable[..., Any])


@overload
def run(name: F, /) -> F: ...
@overload
def run(
    name: str = ...,
    *,
    params: Mapping[str, Any] | None = ...,
    message: str = ...,
    group: str = ...,
    resume: str = ...,
    durable: bool = ...,
) -> Run: ...
def run(
    name: Any = "",
    *,
    params: Mapping[str, Any] | None = None,
    message: str = "",
    group: str = "",
    resume: str = "",
    durable: bool = True,
) -> Any:
    """Make a run: for a `with` block, as a decorator (each call is a run), or to `start()` and `end()` in a notebook.

    The first one of a process that was started in a run (by `mlops run`, or as a step) is that run. One that begins inside
    another is nested: it is tagged with its `parent`, and with its `group` unless it has one.

    Args:
        name: readable name; made up when empty. As a bare decorator, the function.
        params: recorded at once, as by `log_params`.
        message: a note.
        group: what it is one of: a sweep, a set of seeds. Kept as the tag `group`.
        resume: the id of a run, or its beginning, to go on with.
        durable: wait for the disk at its beginning and end. Without, a power cut may lose the last seconds; a kill never does.
    """
    if callable(name):
        return Run()(name)
    return Run(name, params=params, message=message, group=group, resume=resume, durable=durable)


def log(step: Number | None = None, **values: Number) -> None:
    """Log metrics to the current run, as `Run.log`. Never raises; nothing outside any run."""
    stack = process.stack
    try:
        joined = stack[0] if len(stack) == 1 else current()
    except MlopsError as error:
        process.complain(error)
        return
    if joined is not None:  # as `joined.log`, without another call
        journal = joined._journal or joined._awake()
        if journal is not None:
            journal.metrics(joined.id, values, step)


def log_params(values: Any = None, /, **more: Any) -> None:
    """Record parameters of the current run, as `Run.log_params`; nothing outside any run."""
    joined = current()
    if joined is not None:
        joined.log_params(values, **more)


def log_artifact(path: str | os.PathLike[str], name: str = "") -> None:
    """Keep a file or folder with the current run, as `Run.log_artifact`; nothing outside any run."""
    joined = current()
    if joined is not None:
        joined.log_artifact(path, name)


def log_table(name: str, rows: Any) -> None:
    """Keep a table with the current run, as `Run.log_table`; nothing outside any run."""
    joined = current()
    if joined is not None:
        joined.log_table(name, rows)


def log_figure(name: str, picture: Any) -> None:
    """Keep a picture with the current run, as `Run.log_figure`; nothing outside any run."""
    joined = current()
    if joined is not None:
        joined.log_figure(name, picture)


def log_model(model: Any, *, example: Any, name: str = "model", metric: str = "", target: str = "") -> None:
    """`Run.log_model` of the current run. Raises UsageError outside any run."""
    _needed("log_model").log_model(model, example=example, name=name, metric=metric, target=target)


def log_eval(rows: Any, y: Sequence[float] | Any, *, cluster: str = "") -> dict[str, float]:
    """`Run.log_eval` of the current run. Raises UsageError outside any run."""
    return _needed("log_eval").log_eval(rows, y, cluster=cluster)


def flush() -> None:
    """Hand every point logged so far to the operating system; nothing outside any run."""
    joined = current()
    if joined is not None and joined._journal is not None:
        joined._journal.flush()


def current() -> Run | None:
    """The run this process logs to, if there is one."""
    found = innermost()
    if found is not None:
        return found
    if os.environ.get(MODE_VARIABLE) == "off":
        off = Run()
        off._state = "off"
        return off
    identifier = os.environ.get(RUN_VARIABLE, "")
    if not identifier:
        return None
    if process.base is None or process.base.id != identifier:
        joined = Run()
        joined.id, joined.owned, joined._state = identifier, False, "running"
        joined._recorder = recorder(project_layout())
        joined._journal = joined._recorder.journal
        process.base = joined
    return process.base


def _needed(what: str) -> Run:
    joined = current()
    if joined is None:
        raise UsageError(f"{what}: there is no run", hint="call it inside `with mlops.run():` or under `mlops run`")
    return joined
