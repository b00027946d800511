"""One step in the user's terminal: called once under their eyes, or its inputs in an interactive Python.

Started by `mlops train STEP --debug` and `mlops shell STEP` in the project's interpreter, with the terminal as it is. Nothing
is captured and nothing is kept.
"""

from __future__ import annotations

import base64
import code
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import MlopsError
from mlops_local.domain.graph import from_json
from mlops_local.domain.jobs import StepJob, job_from_json
from mlops_local.worker import inputs, step, tracebacks
from mlops_local.worker.finder import Finder
from mlops_local.worker.finder import load as load_module
from mlops_local.worker.server import Module

REQUEST = "MLOPS_FOREGROUND"
"""Names the file that says what to do."""


def main() -> None:
    """Do what the request says; the exit code is the process's."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the program that waits ignores it
    request = json.loads(Path(os.environ.pop(REQUEST)).read_bytes())
    sources = {name: Module(path, base64.b64decode(data)) for name, (path, data) in request["sources"].items()}
    job = job_from_json(request["job"], from_json(request["graph"]), sources)
    finder = Finder(Path(request["root"]), sources, report=False)
    finder.install()
    step.surroundings(job, finder)
    try:
        sys.exit(_debug(job, finder) if request["mode"] == "debug" else _shell(job, finder))
    except MlopsError as error:
        _say(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
        sys.exit(error.exit_code)


def _debug(job: StepJob, finder: Finder) -> int:
    """Run the step; an exception opens the debugger where it was raised."""
    try:
        made, _ = step.body(job, finder)
    except MlopsError as error:
        if error.__cause__ is None:
            raise
        return _post_mortem(error.__cause__, finder)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything; that is what they want to see
        return _post_mortem(error, finder)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    for item in made:
        rows = f", {item.rows:,} rows" if item.rows is not None else ""
        _say(f"{job.step.name}: {item.name} is {item.kind}{rows}; nothing was kept")
    return 0


def _post_mortem(error: BaseException, finder: Finder) -> int:
    import pdb

    if type(error).__name__ == "BdbQuit":
        return 1
    _say(tracebacks.render(error, finder.root).rstrip())
    if error.__traceback__ is not None and sys.stdin.isatty():
        _say("post-mortem debugger: `w` where, `u`/`d` up and down, `p NAME`, `q` to leave")
        with contextlib.suppress(KeyboardInterrupt):
            pdb.post_mortem(error.__traceback__)
    return 1


def _shell(job: StepJob, finder: Finder) -> int:
    """An interactive Python with the step's inputs, parameters and function under their names."""
    names: dict[str, Any] = {}
    if job.step.code:
        function = getattr(load_module(finder, job.step.code[0].module), job.step.code[0].name)
        names[job.step.code[0].name] = function
    names.update(inputs.read(job))
    names.update(job.params)
    step.settle(job)
    banner = "\n".join([f"{job.step.name}:", *(f"  {name}: {type(value).__name__}" for name, value in names.items())])
    try:
        from IPython import start_ipython  # where the project has it
    except ImportError:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - importing it gives the prompt its line editing
        code.interact(banner, local=names, exitmsg="")
    else:
        _say(banner)
        start_ipython(argv=["--no-banner", "--no-confirm-exit"], user_ns=names)
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
