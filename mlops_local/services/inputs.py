"""What a step is handed: the files of its sources and of the results before it, and by which hash each of them counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field

from mlops_local.domain.assets import Snapshot
from mlops_local.domain.errors import DataError, StepFailed
from mlops_local.domain.graph import Graph, Input, Step
from mlops_local.domain.jobs import Given
from mlops_local.domain.plan import Output, StepResult
from mlops_local.domain.records import dataclass
from mlops_local.services import data
from mlops_local.services.project import Project


@dataclass(frozen=True)
class Inputs:
    """Sources as they are, and results as far as they are made."""

    project: Project
    graph: Graph
    snapshots: Mapping[str, Snapshot]
    files: Callable[[str, Output], Mapping[str, str]]
    """An output's files by the step and the output: name -> path to read."""
    results: dict[str, StepResult] = field(default_factory=dict)
    """By step; added to while the steps run."""

    def hashes(self, step: Step) -> dict[str, str]:
        """Argument -> hash of its content: a snapshot's id, an output's logical hash."""
        return {item.argument: self._hash(item) for item in step.inputs}

    def given(self, step: Step) -> tuple[Given, ...]:
        """Every argument's value as files."""
        return tuple(self._given(item) for item in step.inputs)

    def unchanged(self, step: Step) -> None:
        """Look at the step's sources again: a result of files that changed while they were read is nobody's.

        Raises:
            StepFailed: some file is another now, or gone.
        """
        for item in step.inputs:
            snapshot = self.snapshots.get(item.node)
            if snapshot is None:
                continue
            try:
                found = data.identify(self.project, self.graph.source(item.node))
            except DataError as error:
                raise StepFailed(
                    f"step {step.name}: the files of {item.node} are gone or unreadable after it ran; its result is discarded",
                    hint=f"put them back ({error.message}); a step leaves its inputs alone",
                ) from error
            if found != snapshot.id:
                raise StepFailed(
                    f"step {step.name}: the files of {item.node} changed while it ran; its result is discarded",
                    hint="run `mlops train` again when they are complete; a step leaves its inputs alone",
                )

    def _hash(self, item: Input) -> str:
        if item.node in self.snapshots:
            return self.snapshots[item.node].id
        return self._output(item).logical

    def _given(self, item: Input) -> Given:
        if item.node in self.snapshots:
            entries = self.snapshots[item.node].files
            return Given(item, "source", {entry.path: str(self.project.root / entry.path) for entry in entries})
        output = self._output(item)
        return Given(item, output.kind, self.files(item.node, output))

    def _output(self, item: Input) -> Output:
        outputs = self.results[item.node].outputs
        return next(output for output in outputs if not item.output or output.name == item.output)
