"""Say what the pipeline is made of: sources, steps, transforms and models.

A decorator returns the function unchanged with a note (`__mlops__`) on it, and nothing is read: importing a pipeline module
costs what its own imports cost, and calling a step in a test or notebook just runs it. The worker finds declarations by
`__mlops__` and `__mlops_kind__`, without importing this module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, overload

from mlops_local.domain.checks import seconds
from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Needs
from mlops_local.domain.needs import needs as checked_needs
from mlops_local.engines.data import patterns

F = TypeVar("F", bound=Callable[..., Any])
Inputs = Mapping[str, Any]
"""Argument -> the source, step or name (`split.train`) it comes from, where it is not named after its input."""


@dataclass(frozen=True)
class Note:
    """What a decorator leaves on a function."""

    kind: str
    """step, transform, candidate, metric, test or pull."""
    inputs: Inputs = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    each: str = ""
    """The files source a step runs over, one file at a time."""
    whole: bool = False
    """A metric over all rows at once instead of a value per row."""
    greater_is_better: bool = True
    """Of a metric: whether more is better."""
    source: SourceDeclaration | None = None
    """Of a function whose table is a source."""


class SourceDeclaration:
    """A named input: `flights = mlops.data("data/flights-*.parquet")`. Its name is the variable's."""

    __mlops_kind__: ClassVar[str] = "source"

    def __init__(
        self, pattern: str, *, key: tuple[str, ...], time: str, outcome: tuple[str, ...], kind: str, store: str
    ) -> None:
        self.pattern = pattern
        self.key = key
        self.time = time
        self.outcome = outcome
        self.kind = kind
        self.store = store
        self.private: tuple[str, ...] = ()
        self.schema: Mapping[str, str] = {}
        self.sql = ""
        self.every_s = 0.0
        self.labels = ""
        self.place = _place()


class ModelDeclaration:
    """A name with label, split, features and primary metric; candidates, metrics and tests are added by decorators."""

    __mlops_kind__: ClassVar[str] = "model"

    def __init__(
        self, name: str, *, label: Any, split: Any, features: Any, primary: str, cluster: str, slices: tuple[str, ...]
    ) -> None:
        self.name = name
        self.label = label
        self.split = split
        self.features = features
        self.primary = primary
        self.cluster = cluster
        self.slices = slices
        self.place = _place()
        self.candidates: list[Callable[..., Any]] = []
        self.metrics: list[Callable[..., Any]] = []
        self.tests: list[Callable[..., Any]] = []

    @overload
    def candidate(self, function: F, /) -> F: ...
    @overload
    def candidate(
        self,
        /,
        *,
        inputs: Inputs | None = ...,
        cpus: int = ...,
        memory: int | str = ...,
        gpus: int = ...,
        retries: int = ...,
        timeout: float = ...,
    ) -> Callable[[F], F]: ...
    def candidate(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        inputs: Inputs | None = None,
        cpus: int = 0,
        memory: int | str = 0,
        gpus: int = 0,
        retries: int = 0,
        timeout: float = 0,
    ) -> Any:
        """Declare a function that fits this model: it asks for `train` and `valid` (`mlops.XY`) and returns the fitted model.

        Args:
            function: the function, when the decorator is used bare.
            inputs: argument -> source, step or name, where an argument is not named after its input.
            cpus: threads it may use; an equal share of the machine unless given.
            memory: what it needs, in bytes or as text: `"2 GB"`. Steps that do not fit together wait for each other.
            gpus: how many GPUs it needs, for itself alone.
            retries: how often it is tried again after a failure.
            timeout: seconds after which it is ended and counts as failed; 0 for never.
        """
        needs = checked_needs(cpus, memory, gpus, retries, timeout)
        return _noted(function, Note("candidate", dict(inputs or {}), needs), self.candidates)

    @overload
    def metric(self, function: F, /) -> F: ...
    @overload
    def metric(self, /, *, whole: bool = ..., greater_is_better: bool = ...) -> Callable[[F], F]: ...
    def metric(
        self, function: Callable[..., Any] | None = None, /, *, whole: bool = False, greater_is_better: bool = True
    ) -> Any:
        """Declare a metric of your own: `(y, p, rows)` gives a value per row, or one number with `whole=True`.

        Args:
            function: the function, when the decorator is used bare.
            whole: it is one number over all rows. Then it has no interval, and no gate can compare it.
            greater_is_better: False for a cost: a rise of it is the drop a gate looks for.
        """
        return _noted(function, Note("metric", whole=whole, greater_is_better=greater_is_better), self.metrics)

    def test(self, function: F, /) -> F:
        """Declare a behaviour test, `(predict, rows)`: an assertion that fails blocks like a gate."""
        noted: F = _noted(function, Note("test"), self.tests)
        return noted

    def __repr__(self) -> str:
        return f"<model {self.name!r}>"


def data(
    pattern: str = "",
    *,
    sql: str = "",
    key: str | Sequence[str] = (),
    time: str = "",
    outcome: str | Sequence[str] = (),
    kind: str = "table",
    store: str = "",
    private: str | Sequence[str] = (),
    schema: Mapping[str, Any] | None = None,
) -> SourceDeclaration:
    """Name an input of the pipeline.

    Args:
        pattern: a file, a glob, or a folder for all files below it, relative to the project's root: Parquet, CSV, JSON lines.
            With `kind="files"`, names in braces stand for a part of the paths: `photos/{split}/{label}/*.jpg` is a table of
            `path`, `split` and `label`.
        sql: instead of a pattern: a query in DuckDB's SQL over files, `SELECT … FROM 'data/*.parquet'`; asked anew when one
            of them changes.
        key: columns that identify a row.
        time: the column that says when a row was observed.
        outcome: columns known only afterwards: transforms never see them, the signature never asks for them.
        kind: `table`, or `files` for a list of paths (images, text), a table of them where the pattern has names in braces.
        store: `full` keeps the files' bytes, `reference` their hashes only; without it, sources over 1 GB are references.
        private: columns whose values are never shown: samples of rows hide them.
        schema: column -> type, of text whose types are not to be told from its values: `{"zip": str, "day": "Date"}`. Python's
            bool, int, float and str, or a polars type or its name.
    """
    if not isinstance(pattern, str) or not (pattern or sql):
        raise ConfigError(f"mlops.data: expected a path or glob, got {pattern!r}")
    if pattern and sql:
        raise ConfigError(f"mlops.data({pattern!r}): a source is a path or glob, or a query as sql=, not both")
    if kind not in ("table", "files"):
        raise ConfigError(f"mlops.data({pattern!r}): kind is 'table' or 'files', got {kind!r}")
    if store not in ("", "full", "reference"):
        raise ConfigError(f"mlops.data({pattern!r}): store is 'full' or 'reference', got {store!r}")
    labels = patterns.names(pattern)
    _check_labels(pattern, labels, kind)
    glob = patterns.unnamed(pattern)
    declared = SourceDeclaration(glob, key=_names(key), time=time, outcome=_names(outcome), kind=kind, store=store)
    declared.labels = pattern if labels else ""
    declared.private = _names(private)
    declared.sql = sql
    declared.schema = {column: _type(pattern, column, given) for column, given in (schema or {}).items()}
    return declared


def source(
    function: F | None = None,
    /,
    *,
    every: str = "",
    key: str | Sequence[str] = (),
    time: str = "",
    outcome: str | Sequence[str] = (),
    private: str | Sequence[str] = (),
    store: str = "",
) -> Any:
    """Declare a function whose table is a source: `mlops data pull` calls it, and what it returned last is the source's data.

    Args:
        function: the function, when the decorator is used bare. It takes nothing and returns a polars or pandas frame.
        every: a training pulls again when the last pull is older: `30min`, `1h`, `1d`; without it only when asked, and once at
            the beginning.
        key: as in `data`.
        time: as in `data`.
        outcome: as in `data`.
        private: as in `data`.
        store: as in `data`.
    """
    declared = SourceDeclaration("", key=_names(key), time=time, outcome=_names(outcome), kind="table", store=store)
    declared.private = _names(private)
    try:
        declared.every_s = seconds(every) if every else 0.0
    except ValueError as error:
        raise ConfigError(f"@mlops.source: every: {error}") from None
    return _noted(function, Note("pull", source=declared))


_TYPES = {bool: "Boolean", int: "Int64", float: "Float64", str: "String"}
_NAMED = frozenset(
    "Boolean Date Datetime Time Float32 Float64 Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 String".split()
)


_TAKEN = ("path", "bytes", "hash", "type", "width", "height")
"""Columns that a table of files has anyway."""


def _check_labels(pattern: str, labels: Sequence[str], kind: str) -> None:
    """Refuse names in braces that tell nothing. Raises ConfigError."""
    said = f"mlops.data({pattern!r})"
    if labels and kind != "files":
        hint = (
            'add kind="files"; a brace that is part of the path is written [{]; columns that folders of a table name: '
            "mlops.data(sql=\"FROM read_parquet('data/*/*.parquet', hive_partitioning = true)\")"
        )
        raise ConfigError(f"{said}: {{{labels[0]}}} names a part of files' paths, and this is a table", hint=hint)
    for name in labels:
        if name in _TAKEN or labels.count(name) > 1:
            why = "is there twice" if labels.count(name) > 1 else "is a column that files have anyway"
            raise ConfigError(f"{said}: {{{name}}} {why}", hint="call it something else")
    if labels and any(sign in pattern for sign in ("}{", "}*", "*{")):
        raise ConfigError(
            f"{said}: nothing tells where a name in braces begins and ends",
            hint="put a / or a word between it and what is beside it",
        )


def _type(pattern: str, column: str, given: Any) -> str:
    """The name of a column's type. Raises ConfigError."""
    name = _TYPES.get(given) if isinstance(given, type) and given in _TYPES else str(given).partition("(")[0]
    if name not in _NAMED:
        raise ConfigError(
            f"mlops.data({pattern!r}): schema: {column} cannot be read as {given!r}",
            hint="bool, int, float, str, or one of " + ", ".join(sorted(_NAMED)),
        )
    return str(name)


@overload
def step(function: F, /) -> F: ...
@overload
def step(
    *,
    inputs: Inputs | None = ...,
    each: str = ...,
    cpus: int = ...,
    memory: int | str = ...,
    gpus: int = ...,
    retries: int = ...,
    timeout: float = ...,
) -> Callable[[F], F]: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    inputs: Inputs | None = None,
    each: str = "",
    cpus: int = 0,
    memory: int | str = 0,
    gpus: int = 0,
    retries: int = 0,
    timeout: float = 0,
) -> Any:
    """Declare a step: its arguments name sources, steps or steps' outputs; keyword-only arguments are parameters.

    Args:
        function: the function, when the decorator is used bare.
        inputs: argument -> source, step or name, where an argument is not named after its input.
        each: a source whose files the step runs for, one at a time; a file that did not change is not run again.
        cpus: threads it may use; an equal share of the machine unless given.
        memory: what it needs, in bytes or as text: `"2 GB"`. Steps that do not fit together wait for each other.
        gpus: how many GPUs it needs, for itself alone.
        retries: how often it is tried again after a failure.
        timeout: seconds after which it is ended and counts as failed; 0 for never.
    """
    return _noted(function, Note("step", dict(inputs or {}), checked_needs(cpus, memory, gpus, retries, timeout), each))


def transform(function: F, /) -> F:
    """Declare a transform: row-wise feature code; its first argument is the rows, the others are states fitted on `train`."""
    noted: F = _noted(function, Note("transform"))
    return noted


def model(
    name: str,
    *,
    label: Any,
    split: Any,
    features: Any,
    metric: str = "auc",
    cluster: str = "",
    slices: str | Sequence[str] = (),
) -> ModelDeclaration:
    """Declare a model: what is predicted, on which rows, from which features, and how it is judged.

    Args:
        name: as shown and served.
        label: a polars expression over the rows, or a dict of several targets; rows where one is null are dropped and counted.
        split: the step whose outputs are train, valid and test; or `mlops.rolling(...)`, `mlops.kfold(...)`.
        features: the transform.
        metric: the primary metric: auc, log_loss, brier, accuracy, rmse, mae, or one of the model's own; with its target where
            there are several: `late.auc`.
        cluster: a column whose rows belong together (a day, a customer): intervals respect it.
        slices: columns by whose values the metric is also shown.
    """
    if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
        raise ConfigError(f"mlops.model: a name has letters, digits, - and _, got {name!r}")
    return ModelDeclaration(
        name, label=label, split=split, features=features, primary=metric, cluster=cluster, slices=_names(slices)
    )


def seed() -> int:
    """The running step's seed, stable across edits; 0 outside a run. For libraries that take one: `{"seed": mlops.seed()}`."""
    return int(os.environ.get("MLOPS_SEED", "0"))


def _noted(function: Callable[..., Any] | None, note: Note, members: list[Callable[..., Any]] | None = None) -> Any:
    def decorate(function: F) -> F:
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"@{note.kind} decorates functions, got {function!r}")
        function.__mlops__ = note  # type: ignore[attr-defined]
        if members is not None:
            members.append(function)
        return function

    return decorate if function is None else decorate(function)


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _place() -> tuple[str, int]:
    """File and line of the first caller outside this package."""
    frame, ours = sys._getframe(1), __file__.rpartition(os.sep)[0] + os.sep
    while frame.f_back is not None and frame.f_code.co_filename.startswith(ours):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
