"""The graph a pipeline module declares: sources, steps and models, as plain values that travel as JSON.

The worker describes it in the project's interpreter; every other part only reads it. Python 3.10, standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from functools import cached_property
from typing import Any

from mlops_local.domain.records import dataclass

PULLED = "pulled"
"""The folder of a project for what sources that are no files of yours gave; mlops writes there, and git ignores it."""


@dataclass(frozen=True)
class Source:
    """A named input: `mlops.data(...)`."""

    name: str
    pattern: str
    """Glob relative to the project's root."""
    key: tuple[str, ...] = ()
    time: str = ""
    outcome: tuple[str, ...] = ()
    """Columns known only afterwards: hidden from transforms and the signature."""
    kind: str = "table"
    """table, or files: a list of paths."""
    store: str = ""
    """full: the bytes are kept; reference: hashes only; empty: by size."""
    private: tuple[str, ...] = ()
    """Columns whose values are not shown: samples of rows say that they are hidden."""
    schema: Mapping[str, str] = field(default_factory=dict)
    """Column -> polars type that text is read as, where that is not left to what the values look like."""
    sql: str = ""
    """A query over files whose answer the source is; `pattern` is where mlops keeps that."""
    pull: Symbol | None = None
    """The function whose table the source is, each time it is called; `pattern` is where mlops keeps that."""
    every_s: float = 0.0
    """A training pulls again after so many seconds; 0: only when asked."""
    sample: float = 0.0
    """The part of its rows that steps are given; 0: all of them."""
    labels: str = ""
    """Of files whose paths say something: the pattern with names in braces, `photos/{label}/*.jpg`. They are a table then."""


@dataclass(frozen=True)
class Param:
    """A keyword-only argument of a step; `default` is a JSON value."""

    name: str
    default: Any = None
    required: bool = False
    type: str = ""
    """Name of the annotated type: int, float, bool, str, or empty."""


@dataclass(frozen=True)
class Input:
    """Where one argument of a step comes from."""

    argument: str
    node: str
    """A source's or step's name."""
    output: str = ""
    """The step's output, or empty when `node` is a source or has one output."""
    wants: str = "value"
    """How the step asks for it: lazy, frame, pandas, xy or value."""


@dataclass(frozen=True)
class Symbol:
    """A name in a project module: what the fingerprint starts from."""

    module: str
    name: str


@dataclass(frozen=True)
class Needs:
    """What a step declares that it needs to run. Scheduling only: none of it changes the result or the fingerprint."""

    cpus: int = 0
    """Threads it may use; 0: an equal share of the machine."""
    memory: int = 0
    """Bytes; 0: not said."""
    gpus: int = 0
    """GPUs, each for this step alone."""
    retries: int = 0
    """How often it is tried again after a failure."""
    timeout_s: float = 0.0
    """Seconds after which it is ended and counts as failed; 0: never."""


@dataclass(frozen=True)
class Step:
    """A node of the graph.

    kind `step`: a user's function. `command`: a program in any language. `split`: rows divided as `mlops.rolling` or
    `mlops.kfold` says. `features`: a model's transform and label over the split's parts. `candidate`: a user's function that
    fits a model. `score`: answer what a fold holds out, through a bundle of the fold's model. `evaluate`: bundle the fitted
    model, score the evaluation rows through the bundle.
    """

    name: str
    kind: str
    code: tuple[Symbol, ...]
    """The functions whose meaning this step depends on; the first is the one called."""
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ("result",)
    params: tuple[Param, ...] = ()
    model: str = ""
    extras: Mapping[str, str] = field(default_factory=dict)
    """Anything else the result depends on, as text: the label's expression, the metric's name."""
    needs: Needs = Needs()
    each: str = ""
    """The files source whose files the step runs for one at a time; empty for an ordinary step."""
    command: str = ""
    """The command line of a kind `command` step, with `{input}`, `{output}` and `{param}` to be filled in."""
    fold: int = 0
    """Which fold of the step named without a number this is, from 1; 0: it is no fold."""
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Model:
    """A name with label, split, features and primary metric: `mlops.model(...)`."""

    name: str
    split: str
    """The step whose outputs are train, valid and test."""
    features: Symbol
    """The transform."""
    states: tuple[Input, ...] = ()
    """The transform's further arguments: steps fitted on train."""
    label: str = ""
    """The label's expression as text."""
    metric: str = "auc"
    cluster: str = ""
    slices: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    metrics: tuple[Symbol, ...] = ()
    """The user's own metrics (`@model.metric`)."""
    tests: tuple[Symbol, ...] = ()
    """Behaviour tests (`@model.test`)."""
    rows: str = "lazy"
    """How the transform asks for its rows: lazy, frame or pandas."""
    declared: Symbol = Symbol("", "")
    """The variable that holds the declaration."""
    folds: int = 0
    """How many folds the split has; 0: it divides once."""
    targets: tuple[str, ...] = ()
    """The label's targets by name; none: the label is one expression."""


@dataclass(frozen=True)
class Graph:
    """What one version of the project's code declares. `steps` is in an order in which they can run."""

    sources: tuple[Source, ...] = ()
    steps: tuple[Step, ...] = ()
    models: tuple[Model, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    """Project modules imported while describing: module name -> file (relative to the root where inside it)."""
    distributions: Mapping[str, str] = field(default_factory=dict)
    """Top-level module -> "name version" of the installed distribution that provides it, for what the project imports."""
    reads: tuple[str, ...] = ()
    """Files opened while importing, relative to the root."""
    texts: tuple[str, ...] = ()
    """The project's own modules that were opened as files while importing: what was made of their text is not seen."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """File of `reads` -> digest of its bytes: what the described code saw."""
    values: Mapping[str, str] = field(default_factory=dict)
    """`module.name` -> digest of what a value of a module's top level came to, where it is data and computed."""
    variables: tuple[str, ...] = ()
    """Environment variables the project's code asked for while it was imported."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Top-level module -> file or folder, of imports whose version does not say what they hold (editable, on PYTHONPATH)."""
    records: tuple[str, ...] = ()
    """The RECORD files of the distributions: another time of change means that another one was installed."""
    python: str = ""
    """Version of the interpreter that described the graph: `3.11.7`."""

    def step(self, name: str) -> Step:
        """Return the step of that name. Raises KeyError."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Step]:
        """Hundreds of steps are asked for by name, each several times."""
        return {step.name: step for step in reversed(self.steps)}

    def source(self, name: str) -> Source:
        """Return the source of that name. Raises KeyError."""
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(name)

    def model(self, name: str) -> Model:
        """Return the model of that name. Raises KeyError."""
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)


def to_json(graph: Graph) -> dict[str, Any]:
    """The graph as JSON values."""
    return asdict(graph)


def from_json(value: Mapping[str, Any]) -> Graph:
    """The graph back from `to_json`'s values (lists for tuples are fine)."""
    return Graph(
        sources=tuple(
            Source(
                **{
                    **item,
                    **{name: tuple(item[name]) for name in ("key", "outcome", "private")},
                    "pull": Symbol(**item["pull"]) if item["pull"] else None,
                }
            )
            for item in value["sources"]
        ),
        steps=tuple(_step(item) for item in value["steps"]),
        models=tuple(_model(item) for item in value["models"]),
        modules=dict(value["modules"]),
        distributions=dict(value["distributions"]),
        reads=tuple(value["reads"]),
        texts=tuple(value.get("texts", ())),
        contents=dict(value.get("contents", {})),
        values=dict(value.get("values", {})),
        variables=tuple(value.get("variables", ())),
        places=dict(value.get("places", {})),
        records=tuple(value.get("records", ())),
        python=value.get("python", ""),
    )


def _symbols(items: Any) -> tuple[Symbol, ...]:
    return tuple(Symbol(**item) for item in items)


def _inputs(items: Any) -> tuple[Input, ...]:
    return tuple(Input(**item) for item in items)


def _step(item: Mapping[str, Any]) -> Step:
    return Step(
        **{
            **item,
            "code": _symbols(item["code"]),
            "inputs": _inputs(item["inputs"]),
            "outputs": tuple(item["outputs"]),
            "params": tuple(Param(**param) for param in item["params"]),
            "needs": Needs(**item["needs"]),
        }
    )


def _model(item: Mapping[str, Any]) -> Model:
    return Model(
        **{
            **item,
            "features": Symbol(**item["features"]),
            "states": _inputs(item["states"]),
            "slices": tuple(item["slices"]),
            "targets": tuple(item.get("targets", ())),
            "candidates": tuple(item["candidates"]),
            "metrics": _symbols(item["metrics"]),
            "tests": _symbols(item["tests"]),
            "declared": Symbol(**item["declared"]),
        }
    )
