"""A run being logged to, and which one that is at this moment in this process.

It only appends to this process's journal: nothing waits for the store, and a killed script loses nothing that was logged.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_local.api import notebook, revision
from mlops_local.api import params as parameters
from mlops_local.api.process import (
    RUN_VARIABLE,
    Number,
    end_left,
    ending,
    hear_terminate,
    innermost,
    mode,
    process,
    project_layout,
    unhear_terminate,
)
from mlops_local.api.recording import Recorder, recorder
from mlops_local.domain import events, names, secrets
from mlops_local.domain.errors import MlopsError, UsageError
from mlops_local.store.journal import new_id
from mlops_local.store.layout import Layout

if TYPE_CHECKING:
    from mlops_local.api.artifacts import Kept
    from mlops_local.store import checkpoints
    from mlops_local.store.journal import Journal

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_PARAM = 64_000
"""Characters of a parameter's JSON; a longer one is kept as a file of the run."""


class Run:
    """A run being logged to: `with mlops.run() as run:`, `@mlops.run()`, or `start()` and `end()` in a notebook."""

    def __init__(
        self,
        name: str = "",
        *,
        params: Mapping[str, Any] | None = None,
        message: str = "",
        group: str = "",
        resume: str = "",
        durable: bool = True,
    ) -> None:
        joined = os.environ.get(RUN_VARIABLE, "")
        self.owned = not joined or bool(resume) or process.joined
        self.id = new_id() if self.owned else joined
        self.name = name
        self._given: dict[str, Any] = {
            "params": params,
            "message": message,
            "group": group,
            "resume": resume,
            "durable": durable,
        }
        self._journal: Journal | None = None
        self._recorder: Recorder | None = None
        self._state = "new"
        self._late = False
        self.block = False
        self._held = ExitStack()
        self._made: dict[str, Any] = {}

    # -- its life

    def start(self) -> Run:
        """Begin it. Until `end`, or the end of the process, `mlops.log` and the like are this run's.

        Raises:
            ProjectNotFound: no mlops.toml in the working folder or above.
            UsageError: it has begun before, or there is no run to resume.
        """
        if self._state != "new":
            raise UsageError(f"run {self.id[16:24]} has begun already", hint="make another with mlops.run()")
        if mode() == "off":
            self._state = "off"
            return self
        self._recorder = recorder(project_layout())
        self._begun, self._pid, self.thread = time.monotonic(), os.getpid(), threading.get_ident()
        self._first_cell = notebook.position()
        if self._first_cell and not self.block:
            end_left()  # a cell that begins a run, executed again, does not begin one inside the last
        self._state = "running"
        try:
            changes = self._resuming() if self._given["resume"] else self._opening() if self.owned else []
            if self._given["params"]:
                changes.append(self._params_change(parameters.given(self._given["params"], {})))
            if changes:
                self._recorder.journal.states(changes, durable=self._given["durable"])
        except MlopsError:
            self._state = "new"
            self._held.close()
            raise
        self._journal = self._recorder.journal
        process.begin(self)
        if self.owned:
            hear_terminate()
        return self

    def end(self, error: BaseException | None = None) -> None:
        """End it; a `with` block and a decorated function do so themselves.

        Args:
            error: what ended it; None when all went well.
        """
        journal = self._journal
        if self._state != "running" or journal is None or self._pid != os.getpid():
            return
        if self in process.stack:
            process.stack.remove(self)
        if self.owned:
            self._keep_cells()
        journal.flush()  # what is said of the last points is said before the end
        self._journal, self._state = None, "ended"
        if not self.owned:
            return
        if not any(run.owned for run in process.stack):
            unhear_terminate()
        self.layout.stop_request(self.id).unlink(missing_ok=True)
        state, text = ending(error)
        seconds = round(time.monotonic() - self._begun, 6)
        ended = (events.RUN_ENDED, {"run": self.id, "state": state, "error": text, "seconds": seconds})
        with self._held:  # whoever resumes it next finds it ended
            journal.states([ended], durable=self._given["durable"])

    def __enter__(self) -> Run:
        self.block = True
        return self if self._state == "running" else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end(error)

    def __call__(self, function: F) -> F:
        """Decorate a function: each call is a run of its own, with the arguments that are settings as parameters."""
        import inspect

        goes_on = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        if any(kind(function) for kind in goes_on):
            raise UsageError(
                f"@mlops.run: {function.__name__} does not end when it returns", hint="use `with mlops.run():` inside it"
            )
        signature, given = inspect.signature(function), self._given

        @functools.wraps(function)
        def tracked(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            settings = {name: value for name, value in bound.arguments.items() if parameters.is_plain(value)}
            with Run(self.name or function.__name__, **{**given, "params": {**(given["params"] or {}), **settings}}):
                return function(*args, **kwargs)

        return tracked  # type: ignore[return-value]

    @property
    def layout(self) -> Layout:
        """The store it is kept in. Raises UsageError before `start`."""
        if self._recorder is None:
            raise UsageError("this run has not begun", hint="call start(), or use it in a `with`")
        return self._recorder.layout

    @property
    def attempt(self) -> checkpoints.Attempt | None:
        """What the running step keeps of itself; None outside a step."""
        return self._recorder.attempt if self._recorder is not None else None

    def __repr__(self) -> str:
        return f"<run {self.id[16:24]} {self.name} {self._state}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        import html  # 3 ms that only a notebook pays

        cells = (("run", self.id[16:24]), ("name", self.name), ("state", self._state))
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in cells)
        return f"<table>{rows}</table>"

    # -- what it keeps

    def log(self, /, step: Number | None = None, **values: Number) -> None:
        """Log metrics at a step. Never raises; waits for no disk or other process, but lets a crowd of points be written first.

        Args:
            step: epoch, iteration or whatever the curve runs over, in any order; None for a single value.
            values: metric name -> number, a scalar of numpy or torch too; NaN and infinity are kept.
        """
        journal = self._journal
        if journal is None:
            journal = self._awake()
        if journal is not None:
            journal.metrics(self.id, values, step)

    def put(self, values: Mapping[str, Number], step: Number | None = None) -> None:
        """`log` for names that Python would not take as arguments, as `step` itself."""
        journal = self._journal or self._awake()
        if journal is not None:
            journal.metrics(self.id, values, step)

    def log_params(self, values: Any = None, /, **more: Any) -> None:
        """Record parameters; nested mappings become dotted names. Values named like secrets are struck out.

        Args:
            values: a mapping, a dataclass or what argparse returned, nested as it likes.
            more: further ones by name.
        """
        kept = parameters.given(values, more)
        if self._state != "off":
            recorder = self._at("log_params")
            recorder.journal.states([self._params_change(kept)], durable=self._given["durable"])

    def log_artifact(self, path: str | os.PathLike[str], name: str = "") -> None:
        """Keep a file, or a folder with all in it, as it is now.

        Args:
            path: what to keep.
            name: what it is called in the run; its path within the project unless given.

        Raises:
            UsageError: it is not there, or leads out of the project or its folder through `..` or a link.
        """
        if self._state != "off":
            from mlops_local.api import artifacts  # only scripts that keep files pay

            self._keep(artifacts.files(self._at("log_artifact").layout, Path(path), name))

    def log_table(self, name: str, rows: Any) -> None:
        """Keep a table as Parquet: a polars or pandas frame, a mapping of columns or a list of rows. Raises UsageError."""
        if self._state != "off":
            from mlops_local.api import artifacts  # as above

            self._keep([artifacts.table(self._at("log_table").layout, name, rows)])

    def log_figure(self, name: str, picture: Any) -> None:
        """Keep a picture: a matplotlib figure or axes, a Pillow image, or an image file's bytes. Raises UsageError."""
        if self._state != "off":
            from mlops_local.api import artifacts  # as above

            self._keep([artifacts.figure(self._at("log_figure").layout, name, picture)])

    def log_model(self, model: Any, *, example: Any, name: str = "model", metric: str = "", target: str = "") -> None:
        """Make a fitted model a version: exported, checked against its native answers and bundled.

        Args:
            model: a LightGBM booster, a torch module or a scikit-learn estimator; a dict of them for several targets.
            example: rows (polars or pandas frame) of the columns the model takes, in its order; 100 or more are better.
            name: the model's name in the registry.
            metric: what versions are compared by, of a target `late.auc`; else `auc` for two classes, `rmse` for numbers.
            target: what it predicts, in words, for the card.

        Raises:
            UsageError: a name that is none, or the model or the example is of a kind that cannot be bundled.
        """
        if not name.replace("-", "_").isidentifier():
            raise UsageError(f"log_model: a model's name has letters, digits, - and _, got {name!r}")
        if self._state == "off":
            return
        from mlops_local.api import bundling  # loads polars and onnx: only scripts that make a model pay

        made = bundling.make(self._at("log_model").layout, model, example, name=name, label=target, metric=metric)
        self._made = {"model": name, "metric": metric, "run": self.id, **made}

    def log_eval(self, rows: Any, y: Sequence[float] | Any, *, cluster: str = "") -> dict[str, float]:
        """Score rows through the bundle, as a server would, and keep the answers for the gate.

        Args:
            rows: frame with at least the columns of `log_model`'s example; other columns (keys, `cluster`) are kept.
            y: the true labels, one a row; a frame or a dict of them for several targets.
            cluster: column whose equal values are resampled together, such as a date or a customer.

        Returns:
            Metrics of the served answers; none where tracking is off.

        Raises:
            UsageError: called before `log_model`, or lengths differ.
        """
        if self._state == "off":
            return {}
        recorder = self._at("log_eval")
        if not self._made:
            raise UsageError("log_eval: no model was logged in this run", hint="call run.log_model(...) first")
        from mlops_local.api import bundling  # as above

        metrics = bundling.evaluate(recorder.layout, self._made, rows, y, cluster=cluster)
        recorder.journal.state(events.SUMMARY, run=self.id, values=metrics, low={}, high={})
        return metrics

    # -- within

    def _opening(self) -> list[tuple[str, Mapping[str, Any]]]:
        """How an owned run begins: its start, and where it belongs."""
        self.name = self.name or names.readable(self.id)
        start = {
            "run": self.id,
            "name": self.name,
            "kind": "script",
            "targets": [],
            "message": self._given["message"],
            "argv": secrets.command_line([Path(sys.argv[0]).name if sys.argv else "", *sys.argv[1:]]),
            "env": secrets.environment(os.environ),
            "python": sys.version.split()[0],
            "host": os.uname().nodename,
            "pid": os.getpid(),
            **revision.of(self.layout.root),
        }
        outer = innermost()
        tags = {
            "group": self._given["group"] or (outer._given["group"] if outer is not None else ""),
            "parent": outer.id if outer is not None else os.environ.get(RUN_VARIABLE, ""),
        }
        kept = [(events.TAG, {"run": self.id, "key": key, "value": value}) for key, value in tags.items() if value]
        return [(events.RUN_STARTED, start), *kept]

    def _resuming(self) -> list[tuple[str, Mapping[str, Any]]]:
        """How a run goes on in this process."""
        from mlops_local.api.resuming import resumed  # DuckDB: only scripts that resume pay

        assert self._recorder is not None
        self.id, self.name, last_us = self._held.enter_context(resumed(self._recorder.layout, self._given["resume"]))
        self._recorder.journal.after(last_us)
        return [(events.RUN_RESUMED, {"run": self.id, "pid": os.getpid(), "host": os.uname().nodename})]

    def _params_change(self, values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Parameters as one journal line; what is too long for a line is kept as a file, and named."""
        flat = dict(secrets.parameters(parameters.flat(values)))
        for name, value in flat.items():
            if isinstance(value, (str, list, dict)) and len(text := json.dumps(value)) > LONGEST_PARAM:
                flat[name] = self._long(name, text)
        return events.PARAMS, {"run": self.id, "values": flat}

    def _long(self, name: str, text: str) -> str:
        from mlops_local.api import artifacts  # only for values of that size

        safe = "".join(character if character.isalnum() or character in "._-" else "_" for character in name)[:200]
        kept = artifacts.text(self.layout, f"params/{safe}.json", text)
        self._keep([kept])
        return f"{text[:200]}… ({len(text)} characters, {kept.object[:12]}: {kept.path})"

    def _keep(self, kept: Sequence[Kept]) -> None:
        changes = [(events.ARTIFACT, {"run": self.id, **one._asdict()}) for one in kept]
        self._at("log_artifact").journal.states(changes, durable=self._given["durable"])

    def _keep_cells(self) -> None:
        """Keep the cells that were executed in the run. A notebook that has no way to does not fail for it."""
        source = notebook.cells(self._first_cell)
        if not source or self._journal is None:
            return
        from mlops_local.api import artifacts  # as above

        try:
            self._keep([artifacts.text(self.layout, "notebook.py", source)])
        except MlopsError as error:
            self._journal.state(events.NOTE, run=self.id, text=f"the notebook's cells were not kept: {error.message}")

    def _at(self, what: str) -> Recorder:
        """The recorder of a run that goes on; one that has not begun begins now."""
        if self._state == "new":
            self.start()
        if self._state != "running" or self._recorder is None:
            raise UsageError(
                f"{what}: run {self.id[16:24]} has ended", hint="log inside `with mlops.run():`, or begin another run"
            )
        return self._recorder

    def _awake(self) -> Journal | None:
        """What `log` writes to before the start and after the end: never an error, one warning."""
        if self._state == "new":
            try:
                self.start()
            except MlopsError as error:
                self._say_once(f"mlops: nothing is logged: {error.message}")
        elif self._state == "ended":
            self._say_once(f"mlops: run {self.id[16:24]} has ended; what is logged to it from now on is not kept")
        return self._journal

    def _say_once(self, text: str) -> None:
        if not self._late and sys.stderr is not None:
            self._late = True
            sys.stderr.write(text + "\n")
