"""One step in the user's own terminal: to debug it, or to look at its inputs. Nothing of it is recorded."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlops_local.domain.errors import UsageError
from mlops_local.domain.graph import Graph
from mlops_local.domain.jobs import StepJob
from mlops_local.domain.plan import Output
from mlops_local.engines.pipeline import process
from mlops_local.engines.pipeline.plan import needed
from mlops_local.services import data, environment, interpreter, machine, planning
from mlops_local.services.inputs import Inputs
from mlops_local.services.project import Project
from mlops_local.store import cache, layout, objects


def run(project: Project, name: str, *, mode: str, params: Mapping[str, str] | None = None) -> int:
    """Run the step `name` in this terminal and return the exit code.

    Args:
        project: the project.
        name: one step.
        mode: debug: call it, and open the debugger where it raises. shell: its inputs in an interactive Python.
        params: `-S` overrides.

    Raises:
        UsageError: there is no such step, or an input of it is not made yet.
        ConfigError, DataError: as `plan`.
    """
    code = planning.read_code(project)
    _check(code.graph, name)
    step = code.graph.step(name)
    values = planning.parameters(code.graph, project.config, params)
    names = planning.sources_of(code.graph, needed(code.graph, [name]))
    snapshots = {source: data.current(project, code.graph.source(source)) for source in names}
    ids = {source: snapshot.id for source, snapshot in snapshots.items()}
    plan = planning.make_plan(project, code, (name,), params=values, snapshots=ids)
    missing = [decision.name for decision in plan.decisions if decision.state != "fresh" and decision.name != name]
    if missing:
        direct = [node for node in dict.fromkeys(item.node for item in step.inputs) if node in missing] or missing[-1:]
        raise UsageError(
            f"{name} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not up to date",
            hint=f"run `mlops train {' '.join(direct)}` first",
        )
    results = {
        decision.name: result
        for decision in plan.decisions
        if decision.name != name and (result := cache.step_result(project.layout, decision.fingerprint)) is not None
    }

    def files(_: str, output: Output) -> dict[str, str]:
        return {name: str(objects.path(project.layout, part)) for name, part in output.parts.items()}

    with tempfile.TemporaryDirectory(prefix=f"{mode}-", dir=project.layout.tmp) as folder:
        home = Path(folder)
        (home / "out").mkdir()
        (home / "state" / "journal").mkdir(parents=True)  # takes what the step logs, and is gone afterwards
        job = StepJob(
            step=step,
            graph=code.graph,
            sources=code.sources,
            params=values.get(name, {}),
            seed=environment.seed(project, name),
            inputs=Inputs(project, code.graph, snapshots, files, results).given(step),
            out=home / "out",
            log=home / "log",
            state=home / "state",
            key=layout.hmac_key(project.layout).hex(),
            threads=machine.limit(),
            checkpoints=home / "checkpoints",
        )
        return process.foreground(interpreter.of(project).path, project.root, job, mode, home / "request.json")


def _check(graph: Graph, name: str) -> None:
    names = [step.name for step in graph.steps]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise UsageError(
            f"no step named {name!r}" + (f", did you mean {near[0]!r}?" if near else ""), hint=f"known: {', '.join(names)}"
        )
