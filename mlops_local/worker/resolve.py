"""From declarations to a graph: which argument comes from which node, in an order in which everything can run.

Pure: what cannot be is collected as problems, all of them, each with its file and line.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlops_local.domain.graph import PULLED, Graph, Input, Model, Param, Source, Step, Symbol
from mlops_local.domain.splits import KFold, to_text
from mlops_local.worker import folds, labels, programs, scan
from mlops_local.worker.nodes import PARTS, STATE
from mlops_local.worker.scan import Declared, Found, Problem

EVALUATE = ("bundle", "predictions", "trained")
"""Outputs of an evaluate node."""


@dataclass(frozen=True)
class _Node:
    """A declared function before its inputs are resolved."""

    item: Declared
    kind: str
    outputs: tuple[str, ...]
    arguments: Mapping[str, str]
    """Argument -> how it asks."""
    optional: frozenset[str]
    params: tuple[Param, ...]
    model: str = ""

    @property
    def name(self) -> str:
        return self.item.symbol.name


def resolve(found: Found) -> tuple[Graph, list[Problem]]:
    """The graph, and every problem (with one, the graph is of no use)."""
    resolver = _Resolver(found)
    resolver.collect()
    steps = [resolver.step(node) for node in resolver.nodes.values() if node.kind in ("step", "command")]
    steps += [resolver.divided(node) for node in resolver.nodes.values() if node.kind == "split"]
    models = []
    for item in found.models:
        model, added = resolver.model(item)
        models.append(model)
        steps += added
    programs.check_each(steps, resolver.sources, resolver.problems)
    ordered = _order([*folds.of(steps, models, resolver.problems)], resolver.problems)
    graph = Graph(sources=tuple(resolver.sources.values()), steps=ordered, models=tuple(models))
    return graph, resolver.problems


def _source(name: str, value: Any) -> Source:
    """The source that a declaration means."""
    return Source(
        name,
        value.pattern or f"{PULLED}/{name}.parquet",
        value.key,
        value.time,
        value.outcome,
        value.kind,
        value.store,
        value.private,
        value.schema,
        sql=value.sql,
        every_s=value.every_s,
        labels=value.labels,
    )


class _Resolver:
    """Names and what they stand for."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.problems = list(found.problems)
        self.sources: dict[str, Source] = {}
        self.nodes: dict[str, _Node] = {}
        self.places: dict[str, str] = {}
        self.paths: dict[tuple[str, str], str] = {}
        """A command and its argument -> the source made of the path it names."""

    def problem(self, item: Declared, text: str, hint: str = "") -> None:
        self.problems.append(Problem(f"{item.place}: {text}", hint))

    # Which names there are

    def collect(self) -> None:
        """Sources, steps and candidates by name."""
        self._sources()
        for item in self.found.steps():
            self._add(item, "step")
        for item in self.found.commands():
            self._command(item)
        for item in self.found.splits:
            self._add_split(item)
        for declared in self.found.models:
            self._claim(f"model {declared.value.name}", declared)
            given = declared.value.split
            if _is_split(given) and not any(item.value is given for item in self.found.splits):
                self._add_split(
                    replace(declared, value=given, symbol=Symbol(declared.symbol.module, f"{declared.value.name}.split"))
                )
            for function in declared.value.candidates:
                candidate = self._function(declared, function, "candidate")
                if candidate is not None:
                    self._add(candidate, "candidate", declared.value.name)

    def _sources(self) -> None:
        for item in self.found.sources:
            name, value = item.symbol.name, item.value
            if self._claim(name, item):
                self.sources[name] = _source(name, value)
        for item in self.found.pulls():
            self._pull(item)

    def _pull(self, item: Declared) -> None:
        """A function whose table is a source."""
        name = item.symbol.name
        if inspect.signature(item.value).parameters:
            self.problem(item, f"source '{name}' takes arguments", "what it reads from is named inside it")
        elif self._claim(name, item):
            self.sources[name] = replace(_source(name, item.value.__mlops__.source), pull=item.symbol)

    def _claim(self, name: str, item: Declared) -> bool:
        if name in self.places:
            self.problem(item, f"'{name}' is declared twice, first in {self.places[name]}", "names are unique in a project")
            return False
        self.places[name] = item.place
        return True

    def _add_split(self, item: Declared) -> None:
        if self._claim(item.symbol.name, item):
            self.nodes[item.symbol.name] = _Node(item, "split", PARTS, {}, frozenset(), ())

    def _function(self, declared: Declared, function: Any, what: str) -> Declared | None:
        item = self.found.functions.get(id(function))
        if item is None:
            name = getattr(function, "__name__", repr(function))
            self.problem(
                declared,
                f"{what} '{name}' of model '{declared.value.name}' is not found under its name",
                "declare it with `def` at the top level of a project module, under a name nothing else takes",
            )
        return item

    def _add(self, item: Declared, kind: str, model: str = "") -> None:
        name = item.symbol.name
        if not self._claim(name, item):
            return
        if inspect.iscoroutinefunction(item.value):
            self.problem(item, f"'{name}' is async, and a step is called and not awaited", "call asyncio.run inside it")
        signature = inspect.signature(item.value)
        arguments: dict[str, str] = {}
        optional: set[str] = set()
        params: list[Param] = []
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                self.problem(item, f"'{name}' takes *{parameter.name}", "name every input; parameters go after a bare `*`")
            elif parameter.kind is parameter.KEYWORD_ONLY:
                params.append(self._param(item, parameter))
            else:
                arguments[parameter.name] = scan.wants(scan.annotation(item.value, parameter.annotation))
                if parameter.default is not parameter.empty:
                    optional.add(parameter.name)
        outputs = self._outputs(item, signature.return_annotation) if kind == "step" else ("result",)
        self.nodes[name] = _Node(item, kind, outputs, arguments, frozenset(optional), tuple(params), model)

    def _command(self, item: Declared) -> None:
        """A program as a step: its inputs may be paths, which are sources of their own."""
        declared, name = item.value.declared, item.symbol.name
        if self._claim(name, item):
            known = {*self.sources, *(found.symbol.name for found in self.found.functions.values())}
            paths = programs.sources(name, declared, known)
            self.sources.update({source.name: source for source in paths.values()})
            self.paths.update({(name, argument): source.name for argument, source in paths.items()})
            outputs, wants = tuple(declared.outputs), programs.wants(declared)
            self.nodes[name] = _Node(item, "command", outputs, wants, frozenset(), programs.params(declared))

    def _outputs(self, item: Declared, raw: Any) -> tuple[str, ...]:
        kind = scan.annotation(item.value, None if raw is inspect.Signature.empty else raw)
        named = scan.fields(item.value, kind)
        for output, hint in named.items():
            if scan.has_set(hint):
                of = "" if output == "result" else f"output '{output}' of "
                self.problem(
                    item,
                    f"{of}step '{item.symbol.name}' is a set, and sets have no order",
                    "return a sorted list: the same set has another order in each process",
                )
        return tuple(named)

    def _param(self, item: Declared, parameter: inspect.Parameter) -> Param:
        kind = scan.annotation(item.value, parameter.annotation)
        text = kind.__name__ if kind in (int, float, bool, str) else ""
        if parameter.default is parameter.empty:
            return Param(parameter.name, None, required=True, type=text)
        try:
            default = json.loads(json.dumps(parameter.default))
        except (TypeError, ValueError):
            self.problem(
                item,
                f"parameter '{parameter.name}' of '{item.symbol.name}' has a default that is no JSON value",
                "parameters are numbers, text, booleans, lists and dicts; make anything else a constant of the module",
            )
            default = None
        if text == "float" and type(default) is int:
            default = float(default)
        return Param(parameter.name, default, type=text)

    # Where arguments come from

    def step(self, node: _Node, own: Mapping[str, Input] | None = None) -> Step:
        """A declared function as a step; `own` are a candidate's inputs from its model."""
        note = node.item.value.__mlops__
        overrides = dict(note.inputs)
        inputs = []
        for argument, wants in node.arguments.items():
            given = overrides.pop(argument, None)
            given = self.paths.get((node.name, argument), given)
            if given is None and own and argument in own:
                inputs.append(own[argument])
                continue
            made = self.input(node.item, argument, self._text(given) if given is not None else argument, wants)
            if made is not None:
                inputs.append(made)
            elif argument in node.optional:
                self.problems[-1] = replace(
                    self.problems[-1], hint=f"to make '{argument}' a parameter, put it after a bare `*`"
                )
        for argument in overrides:
            self.problem(
                node.item,
                f"inputs names '{argument}', which '{node.name}' does not take{labels.near(argument, node.arguments)}",
            )
        return Step(
            name=node.name,
            kind=node.kind,
            code=() if node.kind == "command" else (node.item.symbol,),
            inputs=tuple(inputs),
            outputs=node.outputs,
            params=node.params,
            model=node.model,
            needs=note.needs,
            each=note.each,
            **(programs.fields(node.item.value.declared) if node.kind == "command" else {}),
            file=node.item.file,
            line=node.item.line,
        )

    def _text(self, given: Any) -> str:
        """What an override means: a name, a source object or a step's function."""
        if isinstance(given, str):
            return given
        items = [*self.found.sources, *self.found.functions.values(), *(node.item for node in self.nodes.values())]
        return next((item.symbol.name for item in items if item.value is given), repr(given))

    def input(self, item: Declared, argument: str, name: str, wants: str) -> Input | None:
        """Where a name comes from; None, and a problem, when nobody makes it."""
        if name in self.sources:
            return Input(argument, name, "", wants)
        if name in self.nodes:
            return self._whole(item, argument, self.nodes[name], wants)
        owner, _, output = name.replace("__", ".", 1).rpartition(".")
        if owner and owner in self.nodes:
            if output in self.nodes[owner].outputs:
                return Input(argument, owner, output, wants)
            makes = self.nodes[owner].outputs
            self.problem(
                item, f"argument '{argument}': '{owner}' makes no '{output}'{labels.near(output, makes)}", labels.listed(makes)
            )
            return None
        makers = [node.name for node in self.nodes.values() if name in node.outputs and len(node.outputs) > 1]
        if len(makers) == 1:
            return Input(argument, makers[0], name, wants)
        if makers:
            self.problem(
                item,
                f"argument '{argument}': several steps make '{name}': {', '.join(makers)}",
                f"say which: {' or '.join(f'{maker}__{name}' for maker in makers)}",
            )
            return None
        known = [*self.sources, *self.nodes, *(output for node in self.nodes.values() for output in node.outputs)]
        names = [known_name for known_name in dict.fromkeys(known) if known_name != "result"]
        self.problem(
            item,
            f"'{item.symbol.name}' asks for '{name}', and nothing makes it{labels.near(name, names)}",
            labels.listed(names) + "; parameters go after a bare `*`",
        )
        return None

    def _whole(self, item: Declared, argument: str, node: _Node, wants: str) -> Input | None:
        if len(node.outputs) == 1:
            return Input(argument, node.name, "" if node.outputs == ("result",) else node.outputs[0], wants)
        self.problem(
            item,
            f"argument '{argument}': '{node.name}' has several outputs: {', '.join(node.outputs)}",
            f"ask for one of them: {', '.join(f'{node.name}__{output}' for output in node.outputs)}",
        )
        return None

    def divided(self, node: _Node) -> Step:
        """A split in folds as a step; `folds.of` adds the others."""
        item, value = node.item, node.item.value
        rows = self.input(item, "rows", self._text(value.rows), "frame")
        extras = {"split": to_text(value.folds)}
        model = ""
        if isinstance(value.folds, KFold) and value.folds.stratify is True:
            users = [declared.value for declared in self.found.models if declared.value.split is value]
            label, why = labels.shared([user.label for user in users])
            if why:
                said = f"split '{node.name}' keeps the label's shares, and {why}"
                self.problem(item, said, "give it a column: stratify='late'")
            else:
                model, extras["label"] = users[0].name, label
        return Step(
            name=node.name,
            kind="split",
            code=(),
            inputs=() if rows is None else (rows,),
            outputs=PARTS,
            model=model,
            extras=extras,
            file=item.file,
            line=item.line,
        )

    # Models

    def model(self, item: Declared) -> tuple[Model, list[Step]]:
        """A model, and the nodes it adds: features, each candidate, and each candidate's evaluation."""
        value = item.value
        split = self._split(item, value.split)
        transform = self._transform(item, value.features)
        for text, hint in labels.problems(value):
            self.problem(item, text, hint)
        metrics = [found for function in value.metrics if (found := self._function(item, function, "metric")) is not None]
        tests = [found for function in value.tests if (found := self._function(item, function, "test")) is not None]
        rows, states = self._states(transform) if transform is not None else ("lazy", ())
        symbol = (transform or item).symbol
        candidates = [
            node
            for node in self.nodes.values()
            if node.kind == "candidate" and node.model == value.name and any(node.item.value is c for c in value.candidates)
        ]
        model = Model(
            name=value.name,
            split=split,
            features=symbol,
            states=tuple(replace(state, argument=state.argument.removeprefix(STATE)) for state in states),
            label=labels.said(value.label),
            metric=value.primary,
            cluster=value.cluster,
            slices=value.slices,
            candidates=tuple(node.name for node in candidates),
            metrics=tuple(metric.symbol for metric in metrics),
            tests=tuple(test.symbol for test in tests),
            rows=rows,
            declared=item.symbol,
            folds=value.split.folds.folds if _is_split(value.split) else 0,
            targets=tuple(value.label) if isinstance(value.label, Mapping) else (),
        )
        if unknown := labels.unknown_metric(model):
            self.problem(item, *unknown)
        features = self._features(item, model, states)
        steps = [features]
        for node in candidates:
            own = {part: Input(part, features.name, part, "xy") for part in PARTS}
            if model.folds:
                own[folds.FITTED] = Input(folds.FITTED, node.name)
            steps.append(self.step(node, own))
            steps.append(self._evaluate(node, model, features, states))
        return model, steps

    def _split(self, item: Declared, given: Any) -> str:
        name = self._text(given)
        node = self.nodes.get(name)
        if node is None:
            self.problem(
                item,
                f"split of model '{item.value.name}' is no step: {name}{labels.near(name, self.nodes)}",
                "give it the step itself",
            )
        elif missing := [part for part in PARTS if part not in node.outputs]:
            self.problem(
                item,
                f"split '{name}' of model '{item.value.name}' makes no {' and no '.join(missing)}",
                "let it return a NamedTuple with the fields train, valid and test",
            )
        return name

    def _transform(self, item: Declared, given: Any) -> Declared | None:
        found = self.found.functions.get(id(given))
        if found is None or found.value.__mlops__.kind != "transform":
            name = getattr(given, "__name__", repr(given))
            self.problem(
                item, f"features of model '{item.value.name}' is no transform: {name}", "decorate it with @mlops.transform"
            )
            return None
        return found

    def _states(self, transform: Declared) -> tuple[str, tuple[Input, ...]]:
        parameters = list(inspect.signature(transform.value).parameters.values())
        asked = [parameter for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
        if not asked or any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
            self.problem(
                transform,
                f"transform '{transform.symbol.name}' does not fit",
                "its first argument is the rows, the others are states",
            )
            return "lazy", ()
        rows = scan.wants(scan.annotation(transform.value, asked[0].annotation))
        states = []
        overrides = getattr(transform.value.__mlops__, "inputs", {})
        for parameter in asked[1:]:
            name = self._text(overrides.get(parameter.name, parameter.name))
            wants = scan.wants(scan.annotation(transform.value, parameter.annotation))
            made = self.input(transform, parameter.name, name, wants)
            if made is not None:
                states.append(replace(made, argument=STATE + parameter.name))
        return (rows if rows in ("lazy", "frame", "pandas") else "lazy"), tuple(states)

    def _features(self, item: Declared, model: Model, states: tuple[Input, ...]) -> Step:
        return Step(
            name=f"{model.name}.features",
            kind="features",
            code=(model.features,),
            inputs=(*(Input(part, model.split, part, "lazy") for part in PARTS), *states),
            outputs=PARTS,
            model=model.name,
            extras={"label": model.label, "outcome": self._columns("outcome")},
            file=item.file,
            line=item.line,
        )

    def _evaluate(self, node: _Node, model: Model, features: Step, states: tuple[Input, ...]) -> Step:
        return Step(
            name=f"{node.name}.evaluate",
            kind="evaluate",
            code=(model.features, *model.metrics, *model.tests),
            inputs=(
                Input("fitted", node.name),
                *(Input(part, features.name, part, "xy") for part in PARTS),
                *states,
            ),
            outputs=EVALUATE,
            model=model.name,
            extras={
                "label": model.label,
                "metric": model.metric,
                "cluster": model.cluster,
                "slices": json.dumps(model.slices),
                "outcome": self._columns("outcome"),
                "key": self._columns("key"),
            },
            file=node.item.file,
            line=node.item.line,
        )

    def _columns(self, what: str) -> str:
        return json.dumps({name: getattr(source, what) for name, source in self.sources.items() if getattr(source, what)})


def _order(steps: list[Step], problems: list[Problem]) -> tuple[Step, ...]:
    """An order in which every input exists, close to the order of declaration; a cycle is a problem."""
    by_name = {step.name: step for step in steps}
    done: dict[str, Step] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done or name not in by_name:
            return
        if name in path:
            cycle = [*path[path.index(name) :], name]
            step = by_name[name]
            text = f"{step.file}:{step.line}: the steps need each other in a circle: {' → '.join(reversed(cycle))}"
            if not any("in a circle" in problem.text for problem in problems):
                problems.append(Problem(text, "one of them has to work without the next"))
            return
        path.append(name)
        for item in by_name[name].inputs:
            visit(item.node)
        path.pop()
        done[name] = by_name[name]

    for step in steps:
        visit(step.name)
    return tuple(done.values())


def _is_split(value: Any) -> bool:
    return getattr(type(value), "__mlops_kind__", "") == "split"
