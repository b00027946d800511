"""Run one step's body in this process: import, read the inputs, seed, call, keep the outputs.

Whatever happens becomes a `StepOutcome`; only death (a signal, `os._exit`) is left for the server to report.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import MlopsError, StepFailed
from mlops_local.domain.jobs import Made, StepJob, StepOutcome
from mlops_local.engines.pipeline import order
from mlops_local.worker import commands, inputs, nodes, tracebacks
from mlops_local.worker.finder import Finder
from mlops_local.worker.finder import load as load_module
from mlops_local.worker.folds import FITTED
from mlops_local.worker.loading import when_loaded
from mlops_local.worker.values import save
from mlops_local.worker.watched import watched


def run(job: StepJob, finder: Finder) -> StepOutcome:
    """Execute the job and say what came of it. Never raises."""
    surroundings(job, finder)
    return watched(job, finder.root, lambda: _outcome(job, finder))


def _outcome(job: StepJob, finder: Finder) -> StepOutcome:
    started = time.monotonic()
    try:
        made, report = body(job, finder)
        return StepOutcome(True, tuple(made), report, seconds=time.monotonic() - started)
    except MlopsError as error:
        traceback = getattr(error, "traceback", "") or _user_frames(error, finder.root)
        return _failed(error.message, started, hint=error.hint, traceback=traceback)
    except SystemExit as error:
        return _failed(f"it called sys.exit({error.code!r})", started, traceback=tracebacks.render(error, finder.root))
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything; all of it is the step's failure
        place = tracebacks.place(error, finder.root)
        missing = _missing(error)
        text = f"{missing} is not installed" if missing else tracebacks.sentence(error)
        return _failed(
            f"{place}: {text}" if place else text,
            started,
            hint=_hint(error),
            traceback="" if missing else tracebacks.render(error, finder.root),  # the line says it all
        )


def surroundings(job: StepJob, finder: Finder) -> None:
    """Tell the step's code where and what it is, through its environment."""
    os.environ.update(
        MLOPS_RUN=job.run,
        MLOPS_ROOT=str(finder.root),
        MLOPS_STATE=str(job.state),
        MLOPS_STEP=job.step.name,
        MLOPS_SEED=str(job.seed),
        **({} if job.gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(job.gpus)}),
        MLOPS_CHECKPOINTS=str(job.checkpoints),
        MLOPS_RESUME="1" if job.resume else "",
    )


def _user_frames(error: BaseException, root: Path) -> str:
    return tracebacks.render(error, root) if tracebacks.place(error, root) else ""


def _failed(error: str, started: float, *, hint: str = "", traceback: str = "") -> StepOutcome:
    return StepOutcome(
        False,
        error=tracebacks.bounded(error, tracebacks.LONGEST),
        hint=hint,
        traceback=traceback,
        seconds=time.monotonic() - started,
    )


def _missing(error: BaseException) -> str:
    """The library a step imports and does not find; empty for any other error."""
    return (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""


def _hint(error: BaseException) -> str:
    missing = _missing(error)
    if missing:
        wanted = "'mlops-local[torch]'" if missing in ("torch", "onnxscript") else missing
        return f"install it in the project's environment: pip install {wanted}"
    if isinstance(error, MemoryError):
        return "the step needs more memory than there is"
    return ""


def settle(job: StepJob) -> None:
    """Make what follows the same each time: the order of rows, the seeds."""
    when_loaded("polars", order.keep)
    seed(job.seed)


def body(job: StepJob, finder: Finder) -> tuple[list[Made], dict[str, Any]]:
    """Import, read the inputs, call, keep the outputs as files. Raises what the user's code raises."""
    step = job.step
    if step.kind == "command":
        outputs, report = commands.run(job, finder.root)
    elif step.kind in nodes.KINDS:
        declaration = None
        if step.model:
            declared = job.graph.model(step.model).declared
            declaration = getattr(load_module(finder, declared.module), declared.name)
        values = inputs.read(job)
        seed(job.seed)
        outputs, report = nodes.run(job, declaration, values)
    else:
        function = getattr(load_module(finder, step.code[0].module), step.code[0].name)
        values = inputs.read(job)
        settle(job)
        outputs, report = _named(job, function(*_arguments(function, values), **_changed(job))), {}
    made = [_kept(job, name, outputs[name]) for name in step.outputs]
    pickled = [
        f"output '{item.name}' is a {type(outputs[item.name]).__name__}, kept as a pickle"
        for item in made
        if item.kind == "pickle"
    ]
    return made, {**report, **({"warnings": pickled} if pickled else {}), **_ended_early()}


def _kept(job: StepJob, name: str, value: Any) -> Made:
    try:
        return save(value, job.out, name, key=job.key)
    except RecursionError:
        raise StepFailed(
            f"output '{name}' is a {type(value).__name__} that contains itself, or is nested too deep to be kept",
            hint="return a flat value: a frame, an array, a list of plain values",
        ) from None


def _ended_early() -> dict[str, Any]:
    """Whether the step was asked to stop and did: its result is then not what its fingerprint stands for."""
    checkpoints = sys.modules.get("mlops_local.api.checkpoints")
    stopped = checkpoints.stopped() if checkpoints is not None else ""
    return {"stopped": stopped} if stopped else {}


def _arguments(function: Callable[..., Any], values: Mapping[str, Any]) -> list[Any]:
    """The inputs in the function's order; `folds[1]`, `folds[2]` are one list, empty in a fold."""
    fitted = [value for name, value in values.items() if name.startswith(f"{FITTED}[")]
    given = {**values, FITTED: values.get(FITTED, fitted)}
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    return [given[name] for name in names]


def _changed(job: StepJob) -> dict[str, Any]:
    """The parameters to pass: a default that was not changed stays the function's own (JSON would make a tuple a list)."""
    defaults = {param.name: param.default for param in job.step.params if not param.required}
    return {
        name: value
        for name, value in job.params.items()
        if name not in defaults or json.dumps(value) != json.dumps(defaults[name])
    }


def _named(job: StepJob, result: Any) -> dict[str, Any]:
    """The outputs by name.

    Raises:
        StepFailed: the step returned something else than its annotation says.
    """
    names = job.step.outputs
    if names == ("result",):
        return {"result": result}
    if getattr(result, "_fields", None) != names:
        raise StepFailed(
            f"{job.step.file}:{job.step.line}: step '{job.step.name}' returned {_shape(result)}, "
            f"and its annotation promises {', '.join(names)}",
            hint="return the NamedTuple of the annotation",
        )
    return {name: getattr(result, name) for name in names}


def _shape(result: Any) -> str:
    """What came back, so that it can be compared with what was promised."""
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}"
    name = type(result).__name__
    return f"an {name}" if name[:1] in "aeiou" else f"a {name}"


def seed(value: int) -> None:
    """Seed every generator a step may use, loaded or loaded later: Python's, numpy's, torch's."""
    random.seed(value)
    when_loaded("numpy.random", lambda: sys.modules["numpy.random"].seed(value % 2**32))
    when_loaded("torch", lambda: sys.modules["torch"].manual_seed(value % 2**63))
