"""What a step's result depends on, as one hash and as the named parts behind it.

Code counts by its meaning, found without running it (`reach`); parameters and inputs by value; libraries and Python by version.
A part says what it is and where, so that `why` can name what changed; the hash takes the parts' values and how they refer to
each other, not where they are written: a helper moved unchanged changes nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from mlops_local import __version__
from mlops_local.domain import secrets
from mlops_local.domain.graph import Graph, Model, Step, Symbol
from mlops_local.domain.plan import Part
from mlops_local.domain.splits import unfolded
from mlops_local.engines.pipeline.carried import carried, outputs_class
from mlops_local.engines.pipeline.names import Piece, Project
from mlops_local.engines.pipeline.reach import Reached, reach
from mlops_local.engines.pipeline.sources import SourceFile

EDGES = "how its names connect"
"""The part that holds which name means which definition."""
_OURS = ("split", "features", "score", "evaluate")
"""Kinds of steps whose body is this program's."""


def digest(kind: str, *parts: str) -> str:
    """Hash texts unambiguously; the same texts under another kind hash differently."""
    hasher = hashlib.blake2b(digest_size=32)
    for part in (kind, *parts):
        data = part.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()


def fingerprint(
    step: Step, code: Iterable[Part], params: Mapping[str, Any], inputs: Mapping[str, str]
) -> tuple[str, tuple[Part, ...]]:
    """The fingerprint of one execution, and all parts it covers.

    Args:
        step: the step.
        code: what `parts` found: code and environment.
        params: effective parameters.
        inputs: argument -> hash of its content (a snapshot's id, an output's logical hash).
    """
    found = [
        *code,
        *(Part("params", name, _kept(name, params[name])) for name in sorted(params)),
        *(Part("data", item.node + (f".{item.output}" if item.output else ""), inputs[item.argument]) for item in step.inputs),
    ]
    # Which fold it is does not count: a window that was the third and is the second now has been learned from already.
    values = [f"{part.kind}\0{part.value if part.kind == 'code' else f'{unfolded(part.what)}={part.value}'}" for part in found]
    return digest("step", unfolded(step.name), *values), tuple(found)


def _kept(name: str, value: Any) -> str:
    """A parameter's value as parts keep it: in words, and only as a digest where it looks like a secret."""
    text = json.dumps(value, sort_keys=True)
    return text if secrets.parameters({name: value})[name] == value else f"secret {digest('secret', text)[:16]}"


def parts(step: Step, graph: Graph, sources: Mapping[str, SourceFile]) -> tuple[Part, ...]:
    """The code and environment a step depends on, without importing anything.

    A function of the graph, the sources and the variables named in its answer alone: `services.known` keeps the answer.

    Args:
        step: a step of the graph.
        graph: says which distribution provides what, and the models.
        sources: the project's modules.
    """
    return _analysis(graph, sources).parts(step)


def variable(name: str) -> str:
    """An environment variable as parts keep it: never its value."""
    value = os.environ.get(name)
    return "(not set)" if value is None else digest("variable", value)[:16]


def imports(step: Step, graph: Graph, sources: Mapping[str, SourceFile]) -> tuple[str, ...]:
    """Top-level names of the libraries a step's own code reaches."""
    return tuple(_analysis(graph, sources).reached(step).libraries)


class _Analysis:
    """One version of the code: what each step reaches, worked out once."""

    def __init__(self, graph: Graph, sources: Mapping[str, SourceFile]) -> None:
        self.graph = graph
        self.sources = sources
        self.project = Project(sources)
        self._reached: dict[str, Reached] = {}
        self._parts: dict[str, tuple[Step, tuple[Part, ...]]] = {}
        self._libraries: dict[str, frozenset[str]] = {}

    def parts(self, step: Step) -> tuple[Part, ...]:
        held = self._parts.get(step.name)
        if held is None or held[0] != step:
            found = self._command(step) if step.kind == "command" else (*self._code(step), *self._environment(step))
            held = self._parts[step.name] = (step, found)
        return held[1]

    def _command(self, step: Step) -> tuple[Part, ...]:
        """A program's line and what goes in and out; its files' contents are added where they are read."""
        shape = [f"{item.argument}={item.node}.{item.output}:{item.wants}" for item in step.inputs]
        extras = [f"{key}={value}" for key, value in sorted(step.extras.items()) if key != "code"]
        what = digest("command", step.command, *extras, *shape)
        return (Part("code", f"{step.name}'s command", what, f"{step.file}:{step.line}" if step.line else step.file),)

    def reached(self, step: Step) -> Reached:
        if step.name not in self._reached:
            roots = [(symbol.module, symbol.name, step.kind in ("step", "candidate")) for symbol in step.code]
            expressions = self._label(self.graph.model(step.model)) if step.kind in _OURS and step.model else []
            self._reached[step.name] = Reached()  # only met again where steps need each other in a circle
            roots += [(module, name, False) for module, name in self._carried(step)]
            self._reached[step.name] = reach(self.project, roots, expressions)
        return self._reached[step.name]

    def _carried(self, step: Step) -> list[tuple[str, str]]:
        """Project code that may travel in the step's inputs: classes, and functions that were used as values.

        An object's methods, and a pickled partial's function, are code the step may run without naming it.
        """
        found: dict[tuple[str, str], None] = {}
        for item in step.inputs:
            if item.wants == "value" and item.node in self._steps:
                reached = self.reached(self._steps[item.node])
                for number, piece in enumerate(reached.pieces):
                    found.update(dict.fromkeys(carried(piece, passed=number in reached.passed)))
        return list(found)

    def _code(self, step: Step) -> list[Part]:
        reached = self.reached(step)
        found = [Part("code", piece.what, _value(self.project, piece, reached), piece.where) for piece in reached.pieces]
        found.append(Part("code", EDGES, digest("edges", *reached.edges)))
        inputs = [f"{item.argument}={unfolded(item.node)}.{item.output}:{item.wants}" for item in step.inputs]
        shape = [step.kind, *step.outputs, *inputs]
        found.append(Part("code", f"{step.name}'s inputs and outputs", digest("shape", *shape), f"{step.file}:{step.line}"))
        for key in sorted(step.extras):
            found.append(
                Part(
                    "code",
                    f"{step.model or step.name}'s declared {key}",
                    digest("extra", step.extras[key]),
                    f"{step.file}:{step.line}",
                )
            )
        found += self._places(step, reached)
        found += [
            Part("code", f"{piece.what}'s value", self.graph.values[piece.what], piece.where)
            for piece in reached.pieces
            if piece.what in self.graph.values
        ]
        # Which step uses what a file held when the code was imported cannot be seen: each may.
        found += [Part("code", f"{path}, read at import", digest("read", path, held)) for path, held in self.read_at_import]
        return found

    def _places(self, step: Step, reached: Reached) -> list[Part]:
        """Full names of what its output may hold: a pickle finds classes and functions by them."""
        if step.kind in _OURS and not reached.modules_seen:
            return []
        own = outputs_class(self.project, step)
        return [
            Part("code", f"{module}.{name} by its full name", digest("full name", module, name), piece.where)
            for number, piece in enumerate(reached.pieces)
            for module, name in carried(piece, passed=reached.modules_seen or number in reached.passed)
            if (module, name) != own
        ]

    def _environment(self, step: Step) -> list[Part]:
        found = {"python": ".".join(self.graph.python.split(".")[:2])}
        if step.kind in _OURS:
            found["mlops_local"] = __version__
        for name in self._all_libraries(step):
            provider, _, version = self.graph.distributions.get(name, f"{name} (unknown)").partition(" ")
            found[provider] = version
        for name in sorted({*self.reached(step).variables, *self.unseen_variables}):
            found[f"${name}"] = variable(name)
        return [Part("env", name, found[name]) for name in sorted(found)]

    def _all_libraries(self, step: Step) -> frozenset[str]:
        """Its own and those of everything upstream: a value's methods are the code of the library that made it."""
        if step.name not in self._libraries:
            self._libraries[step.name] = frozenset()
            found = set(self.reached(step).libraries)
            found |= {"polars"} if any(item.wants in ("lazy", "frame", "xy") for item in step.inputs) else set()
            for item in step.inputs:
                if item.node in self._steps:
                    found |= self._all_libraries(self._steps[item.node])
            self._libraries[step.name] = frozenset(found)
        return self._libraries[step.name]

    @cached_property
    def _steps(self) -> dict[str, Step]:
        return {step.name: step for step in self.graph.steps}

    @cached_property
    def read_at_import(self) -> list[tuple[str, str]]:
        return sorted(self.graph.contents.items())

    @cached_property
    def unseen_variables(self) -> frozenset[str]:
        """Variables the code asked for while it was imported, in a way that does not show who uses them."""
        seen = {name for step in self.graph.steps for name in self.reached(step).variables}
        return frozenset(self.graph.variables) - seen

    def _label(self, model: Model) -> list[tuple[str, str, ast.AST]]:
        """The label's expression in the model's declaration; the whole declaration where it is not plainly there."""
        return [(model.declared.module, f"{model.name}'s label", node) for node in self._label_nodes(model.declared)]

    def _label_nodes(self, declared: Symbol) -> list[ast.AST]:
        if declared.module not in self.sources:
            return []
        found: list[ast.AST] = []
        for node in self.project.module(declared.module).definitions.get(declared.name, []):
            call = getattr(node, "value", None)
            keywords = {item.arg: item.value for item in call.keywords} if isinstance(call, ast.Call) else {}
            found.append(keywords.get("label", node) if None not in keywords else node)
        return found


_last: _Analysis | None = None


def _analysis(graph: Graph, sources: Mapping[str, SourceFile]) -> _Analysis:
    """The analysis of this version of the code; the newest one is kept, all steps ask in a row."""
    global _last  # a cache of one, replaced whole
    last = _last
    if last is None or last.graph is not graph or last.sources is not sources:
        last = _last = _Analysis(graph, sources)
    return last


def _value(project: Project, piece: Piece, reached: Reached) -> str:
    if piece.raw:
        return digest("file", piece.raw)
    return digest("code", *project.text(piece, reached.style))
