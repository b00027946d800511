"""Tracking from a script, a notebook or a step: `run()`, `log`, `log_params`, `log_model`, `log_eval`.

Everything goes to this process's own journal: nothing waits for the store, and a killed script loses nothing that was logged.
Under `mlops run` and inside a step the run already exists; elsewhere `run()` begins one in the project around the folder.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from mlops_local.domain import events, names, secrets
from mlops_local.domain.errors import MlopsError, ProjectNotFound, UsageError
from mlops_local.store import checkpoints
from mlops_local.store import layout as layouts
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.layout import Layout

RUN_VARIABLE = "MLOPS_RUN"
"""Set for a process that belongs to a run: the run's id."""
STATE_VARIABLE = "MLOPS_STATE"
"""Set beside it: the project's .mlops folder."""


class Run:
    """A run being logged to. Use it as a context manager: `with mlops.run() as run:`."""

    def __init__(
        self,
        layout: Layout,
        run_id: str,
        name: str,
        *,
        owned: bool,
        message: str = "",
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.layout = layout
        self.id = run_id
        self.name = name
        self._owned = owned
        self._message = message
        self._params = dict(params or {})
        self._journal: Journal | None = None
        self._started = time.monotonic()
        self._made: dict[str, Any] = {}
        self._odd: set[str] = set()
        place = os.environ.get("MLOPS_CHECKPOINTS", "")
        self.attempt = checkpoints.Attempt(Path(place), new_id(), layouts.hmac_key(layout)) if place and not owned else None
        """What the running step keeps of itself; None outside a step."""

    def __enter__(self) -> Run:
        _stack.append(self)
        journal = self._open()
        if self._owned:
            self._hear_terminate()
            journal.state(
                events.RUN_STARTED,
                run=self.id,
                name=self.name,
                kind="script",
                targets=[],
                message=self._message,
                argv=secrets.command_line([Path(sys.argv[0]).name, *sys.argv[1:]]),
                env=secrets.environment(os.environ),
                python=platform.python_version(),
                host=socket.gethostname(),
                pid=os.getpid(),
            )
        if self._params:
            self.log_params(self._params)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self in _stack:
            _stack.remove(self)
        journal = self._open()
        if self._owned:
            self._unhear_terminate()
            self.layout.stop_request(self.id).unlink(missing_ok=True)
            cancelled = isinstance(error, (KeyboardInterrupt, _Terminated))
            state = "done" if error is None else "cancelled" if cancelled else "failed"
            text = "" if error is None else secrets.strike(f"{type(error).__name__}: {error}")
            seconds = round(time.monotonic() - self._started, 6)
            journal.state(events.RUN_ENDED, run=self.id, state=state, error=text, seconds=seconds)
        journal.flush()  # what is said of the last points is said before the end
        journal.close()
        self._journal = None

    def _open(self) -> Journal:
        if self._journal is None:
            self._journal = Journal.open(self.layout.journal)
            self._journal.listen = self._hear
        return self._journal

    def _hear_terminate(self) -> None:
        """SIGTERM, which `mlops stop` sends, ends the block like ^C, so that the run is cancelled and not crashed."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)

    def _unhear_terminate(self) -> None:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _hear(self, lines: bytes) -> None:
        """Called with every batch of points, in the journal's own thread."""
        if self.attempt is not None:
            self.attempt.hear(lines)
        if b'"x":"' not in lines:  # NaN and infinity are text
            return
        for line in lines.splitlines():
            if b'"x":"' in line:
                self._say_odd(json.loads(line))

    def _say_odd(self, point: Mapping[str, Any]) -> None:
        """Note once a metric that stopped being a number: a training that goes on is wasted."""
        key, at = str(point["key"]), point["s"]
        if key in self._odd:
            return
        self._odd.add(key)
        what = "NaN" if point["x"] == "NaN" else "infinite"
        step = os.environ.get("MLOPS_STEP", "")
        text = f"{step + ': ' if step else ''}{key} became {what}" + ("" if at is None else f" at step {at:g}")
        with suppress(MlopsError):
            self._open().state(events.NOTE, run=self.id, text=text)

    def log(self, step: float | None = None, /, **values: float) -> None:
        """Log metrics at a step. Never raises and never waits.

        Args:
            step: epoch, iteration or whatever the curve runs over; None for a single value.
            values: metric name -> number; NaN and infinity are kept.
        """
        journal = self._open()
        for key, value in values.items():
            journal.metric(self.id, key, value, step)

    def log_params(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Record parameters; nested mappings become dotted names. Values named like secrets are struck out."""
        flat = _flatten({**(values or {}), **more})
        self._open().state(events.PARAMS, run=self.id, values=secrets.parameters(flat))

    def log_model(self, model: Any, *, example: Any, name: str = "model", metric: str = "", target: str = "") -> None:
        """Make a fitted model a version: exported, checked against its native answers and bundled.

        Args:
            model: a LightGBM booster, a torch module or a scikit-learn estimator.
            example: rows (polars or pandas frame) of the columns the model takes, in its order; 100 or more are better.
            name: the model's name in the registry.
            metric: what versions are compared by; `auc` for two classes, `rmse` for numbers unless given.
            target: what it predicts, in words, for the card.

        Raises:
            UsageError: a name that is none, or the model or the example is of a kind that cannot be bundled.
        """
        if not name.replace("-", "_").isidentifier():
            raise UsageError(f"log_model: a model's name has letters, digits, - and _, got {name!r}")
        from mlops_local.api import bundling  # loads polars and onnx: only scripts that make a model pay

        made = bundling.make(self.layout, model, example, name=name, label=target)
        self._made = {"model": name, "metric": metric, "run": self.id, **made}

    def log_eval(self, rows: Any, y: Sequence[float] | Any, *, cluster: str = "") -> dict[str, float]:
        """Score rows through the bundle, as a server would, and keep the answers for the gate.

        Args:
            rows: frame with at least the columns of `log_model`'s example; other columns (keys, `cluster`) are kept.
            y: the true labels, one a row.
            cluster: column whose equal values are resampled together, such as a date or a customer.

        Returns:
            Metrics of the served answers.

        Raises:
            UsageError: called before `log_model`, or lengths differ.
        """
        if not self._made:
            raise UsageError("log_eval: no model was logged in this run", hint="call run.log_model(...) first")
        from mlops_local.api import bundling  # as above

        metrics = bundling.evaluate(self.layout, self._made, rows, y, cluster=cluster)
        self._open().state(events.SUMMARY, run=self.id, values=metrics, low={}, high={})
        return metrics


class _Terminated(SystemExit):
    """Ends a script with exit code 143 and no traceback."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated(128 + number)


_stack: list[Run] = []


def run(name: str = "", *, params: Mapping[str, Any] | None = None, message: str = "") -> Run:
    """Begin a run, or join the one this process belongs to.

    Args:
        name: readable name; made up when empty.
        params: recorded at once.
        message: a note.

    Raises:
        ProjectNotFound: no mlops.toml in the working folder or above.
    """
    joined = os.environ.get(RUN_VARIABLE, "")
    layout = project_layout()
    identifier = joined or new_id()
    return Run(layout, identifier, name or names.readable(identifier), owned=not joined, message=message, params=params)


def log(step: float | None = None, /, **values: float) -> None:
    """Log metrics to the current run. Outside any run this does nothing, so that a step's function also works in a test."""
    joined = current()
    if joined is not None:
        joined.log(step, **values)


def log_params(values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
    """Record parameters of the current run; nothing outside any run."""
    joined = current()
    if joined is not None:
        joined.log_params(values, **more)


def log_model(model: Any, *, example: Any, name: str = "model", metric: str = "", target: str = "") -> None:
    """`Run.log_model` of the current run. Raises UsageError outside any run."""
    _needed("log_model").log_model(model, example=example, name=name, metric=metric, target=target)


def log_eval(rows: Any, y: Sequence[float] | Any, *, cluster: str = "") -> dict[str, float]:
    """`Run.log_eval` of the current run. Raises UsageError outside any run."""
    return _needed("log_eval").log_eval(rows, y, cluster=cluster)


def flush() -> None:
    """Hand every point logged so far to the operating system; nothing outside any run."""
    run = current()
    if run is not None and run._journal is not None:
        run._journal.flush()


def _needed(what: str) -> Run:
    joined = current()
    if joined is None:
        raise UsageError(f"{what}: there is no run", hint="call it inside `with mlops.run():` or under `mlops run`")
    return joined


def current() -> Run | None:
    """The run this process logs to, if there is one."""
    if _stack:
        return _stack[-1]
    identifier = os.environ.get(RUN_VARIABLE, "")
    if not identifier:
        return None
    joined = Run(project_layout(), identifier, "", owned=False)
    _stack.append(joined)
    return joined


def project_layout() -> Layout:
    """The store of the project this process works in. Raises ProjectNotFound."""
    state = os.environ.get(STATE_VARIABLE, "")
    root = Path(state).parent if state else layouts.find_root(Path.cwd())
    if root is None:
        raise ProjectNotFound(
            f"no project in {Path.cwd()} or above it (no mlops.toml)", hint="run `mlops init` once in its folder"
        )
    layout = Layout(root)
    layouts.create(layout)
    return layout


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
