"""What travels between the program and the worker that runs one step: the job, and what came of it.

Plain values with a JSON form. Python 3.10, standard library: the worker reads them in the project's interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Protocol

from mlops_local.domain.graph import Graph, Input, Step
from mlops_local.domain.records import dataclass

SERVING_PYTHON = "MLOPS_SERVING_PYTHON"
"""Variable that tells a step which interpreter will serve what it makes: the program's own, whatever runs the step."""


class Code(Protocol):
    """One project module's file: its path and the exact bytes that were hashed."""

    @property
    def path(self) -> str:
        """Relative to the project's root, POSIX form."""

    @property
    def data(self) -> bytes:
        """Its bytes."""


@dataclass(frozen=True)
class Given:
    """One argument's value as files."""

    input: Input
    kind: str
    """`source`, or the kind of the output (`domain.plan.Output`)."""
    files: Mapping[str, str]
    """File name in the value (a source: path relative to the root) -> path to read."""


@dataclass(frozen=True)
class StepJob:
    """Everything one execution of a step needs."""

    step: Step
    graph: Graph
    sources: Mapping[str, Code]
    """Project modules: the step can import these bytes and no other project code."""
    params: Mapping[str, Any]
    seed: int
    inputs: tuple[Given, ...]
    out: Path
    """An empty folder for the outputs' files."""
    log: Path
    """Where the step's stdout and stderr go."""
    run: str = ""
    state: Path = Path()
    """The project's .mlops, for `mlops.log`."""
    key: str = ""
    """HMAC key of the store: pickles are signed with it and load with nothing else."""
    threads: int = 0
    """How many threads libraries may use; 0: as many as they like."""
    gpus: tuple[str, ...] | None = None
    """The GPUs it may see, as CUDA_VISIBLE_DEVICES names them; None leaves the environment as it is."""
    checkpoints: Path = Path()
    """Where the step keeps its own states while it runs."""
    resume: bool = False
    """It may go on from one."""
    strict: bool = False
    """It can read its declared inputs and nothing else."""


@dataclass(frozen=True)
class Made:
    """One output a step left."""

    name: str
    kind: str
    logical: str
    files: Mapping[str, str]
    """File name in the value -> where it lies now."""
    rows: int | None = None


@dataclass(frozen=True)
class StepOutcome:
    """What came of a job."""

    ok: bool
    outputs: tuple[Made, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    error: str = ""
    """One sentence: `ValueError: no rows`, `killed by SIGSEGV`, `called sys.exit(3)`."""
    hint: str = ""
    traceback: str = ""
    """The user's own frames."""
    attempts: int = 1
    """How often it was tried, this time included."""


def outcome_to_json(outcome: StepOutcome) -> dict[str, Any]:
    """The outcome as JSON values."""
    return asdict(outcome)


def outcome_from_json(value: Mapping[str, Any]) -> StepOutcome:
    """Back from `outcome_to_json`; keys this version does not know are ignored."""
    known = {key: item for key, item in value.items() if key in StepOutcome.__dataclass_fields__}
    return StepOutcome(**{**known, "outputs": tuple(Made(**item) for item in value.get("outputs", ()))})


def job_to_json(job: StepJob) -> dict[str, Any]:
    """The job as JSON values, without graph and sources: those travel once for all jobs."""
    return {
        "step": job.step.name,
        "params": dict(job.params),
        "seed": job.seed,
        "inputs": [asdict(given) for given in job.inputs],
        "out": str(job.out),
        "log": str(job.log),
        "run": job.run,
        "state": str(job.state),
        "key": job.key,
        "threads": job.threads,
        "gpus": job.gpus,
        "checkpoints": str(job.checkpoints),
        "resume": job.resume,
        "strict": job.strict,
    }


def job_from_json(value: Mapping[str, Any], graph: Graph, sources: Mapping[str, Code]) -> StepJob:
    """Back from `job_to_json`, with the graph and sources that came before it."""
    return StepJob(
        step=graph.step(value["step"]),
        graph=graph,
        sources=sources,
        params=value["params"],
        seed=value["seed"],
        inputs=tuple(given_from_json(item) for item in value["inputs"]),
        out=Path(value["out"]),
        log=Path(value["log"]),
        run=value["run"],
        state=Path(value["state"]),
        key=value["key"],
        threads=value["threads"],
        gpus=None if value["gpus"] is None else tuple(value["gpus"]),
        checkpoints=Path(value["checkpoints"]),
        resume=value["resume"],
        strict=value["strict"],
    )


def given_from_json(value: Mapping[str, Any]) -> Given:
    """Back from `asdict`."""
    return Given(input=Input(**value["input"]), kind=value["kind"], files=dict(value["files"]))
