"""Track any command as a run: what it was, what it printed, how it ended, and the models it made; or a grid of such runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlops_local.domain import events, grid, names, secrets, spoken
from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import MlopsError, UsageError
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.services import environment, scripted
from mlops_local.services.command import Ended, execute
from mlops_local.services.project import Project
from mlops_local.services.vigil import Vigil
from mlops_local.store import choices, objects, projection
from mlops_local.store.journal import Journal, new_id
from mlops_local.worker import commands

READ_OUTPUT = "read_output"
"""Whether `name: value` lines are metrics: asked once a project."""
MOST_POINTS = 10_000
"""Points seen in the output that are remembered until somebody says whether they are metrics."""


@dataclass(frozen=True)
class Wishes:
    """What is kept of a command beside what always is."""

    read_output: bool | None = None
    """Take `name: value` lines as metrics; None: as was answered for the project, else only look whether there are any."""
    artifacts: bool = False
    """Keep the files it writes in the project."""
    system: bool = False
    """Measure what it takes of the machine."""


@dataclass(frozen=True)
class Tracked:
    """What one tracked command did."""

    run: str
    name: str
    code: int
    """The command's exit status; 128 + signal when a signal ended it."""
    seconds: float
    params: Mapping[str, Any] = field(default_factory=dict)
    """What was set with -S."""
    versions: tuple[ModelVersion, ...] = ()
    artifacts: tuple[str, ...] = ()
    seen: tuple[spoken.Point, ...] = ()
    """`name: value` lines it printed, where nobody has said yet whether they are metrics."""


def run_command(
    project: Project,
    command: Sequence[str],
    *,
    name: str = "",
    message: str = "",
    params: Mapping[str, str] | None = None,
    group: str = "",
    wishes: Wishes | None = None,
    emit: Emit = ignore,
) -> Tracked:
    """Run a command in this terminal and keep it as a run.

    Its output is shown as it comes and kept in the run's log. Inside it, `mlops_local.run()` and `log` join this run.

    Args:
        project: the project.
        command: the program and its arguments.
        name: the run's; made up when empty.
        message: a note.
        params: name -> text; put in the places `{name}` of the command, else at its end as options.
        group: what it is one of; kept as the tag `group`.
        wishes: what else is kept.
        emit: told what happens.

    Raises:
        UsageError: there is no such program.
    """
    wishes = _decided(project, wishes or Wishes())
    words = grid.command(command, params or {})
    program = shutil.which(words[0])
    if program is None:
        raise UsageError(f"no such program: {words[0]}", hint="give the whole command, as in `mlops run python train.py`")
    run_id = new_id()
    name = name or names.readable(run_id)
    started = time.monotonic()
    before = commands.seen(project.root) if wishes.artifacts else {}
    with closing(Journal.open(project.layout.journal)) as journal:
        facts = {**environment.capture(project), "argv": secrets.command_line(words)}
        beginning = {"run": run_id, "name": name, "kind": "script", "targets": [], "message": message, **facts}
        settings = secrets.parameters({**_options(words), **grid.parameters(params or {})})
        changes: list[tuple[str, Mapping[str, Any]]] = [(events.RUN_STARTED, beginning)]
        if settings:
            changes.append((events.PARAMS, {"run": run_id, "values": settings}))
        if group:
            changes.append((events.TAG, {"run": run_id, "key": "group", "value": group}))
        journal.states(changes)
        emit(Progress("note", f"run {run_id[16:24]} {name}", data={"run": run_id}))
        listening = _Listening(journal, run_id, record=wishes.read_output)
        state, error, ended = "cancelled", "interrupted", Ended(130, 0.0, 0)
        try:
            with Vigil(project, run_id, journal, emit, what=name):
                tell = (lambda values: journal.metrics(run_id, values)) if wishes.system else None
                ended = execute(project, run_id, [program, *words[1:]], hear=listening.streams(), tell=tell)
            state, error = ("done", "") if ended.code == 0 else ("failed", _ending(ended.code))
        except OSError as problem:  # it is there and may be executed, and still does not start
            state, error = "failed", problem.strerror or str(problem)
            raise UsageError(f"{words[0]} does not start: {error}", hint="is its first line `#!…`?") from problem
        finally:
            seconds = time.monotonic() - started
            written = _keep_written(project, run_id, journal, before, emit) if wishes.artifacts else ()
            journal.state(
                events.RUN_ENDED,
                run=run_id,
                state=state,
                error=error,
                seconds=round(seconds, 6),
                cpu_seconds=ended.cpu_seconds,
                peak_bytes=ended.peak_bytes,
            )
    made = scripted.adopt(project, emit=emit)
    projection.settle(project.layout)
    seen = tuple(listening.seen)
    return Tracked(run_id, name, ended.code, seconds, grid.parameters(params or {}), tuple(made), written, seen)


def run_grid(
    project: Project,
    command: Sequence[str],
    values: Mapping[str, Sequence[str]],
    *,
    name: str = "",
    message: str = "",
    keep_going: bool = False,
    wishes: Wishes | None = None,
    emit: Emit = ignore,
) -> Iterator[Tracked]:
    """Run a command once for each combination of values, one after the other; yields each as it ends.

    Several runs are of one group, whose name is `name` or made up. After one that fails no other begins, unless `keep_going`.

    Raises:
        UsageError: as `run_command`, or there are too many combinations.
    """
    chosen = grid.combinations(values)
    several = len(chosen) > 1
    group = (name or names.readable(new_id())) if several else ""
    for number, params in enumerate(chosen, start=1):
        if several:
            emit(Progress("note", f"{number} of {len(chosen)}: " + " ".join(f"{key}={text}" for key, text in params.items())))
        called = f"{name}-{number}" if several and name else name
        tracked = run_command(
            project, command, name=called, message=message, params=params, group=group, wishes=wishes, emit=emit
        )
        yield tracked
        if tracked.code and not keep_going:
            return


def answer_read_output(project: Project, yes: bool, tracked: Sequence[Tracked]) -> None:
    """Keep whether `name: value` lines are metrics in this project; when they are, those seen in these runs too.

    Raises:
        MlopsError: it cannot be written.
    """
    choices.choose(project.layout, READ_OUTPUT, yes)
    if not yes:
        return
    with closing(Journal.open(project.layout.journal)) as journal:
        for one in tracked:
            for point in one.seen:
                journal.metrics(one.run, {point.key: point.value}, point.step)
    projection.settle(project.layout)


def _decided(project: Project, wishes: Wishes) -> Wishes:
    if wishes.read_output is not None:
        return wishes
    answer = choices.choice(project.layout, READ_OUTPUT)
    return replace(wishes, read_output=answer if isinstance(answer, bool) else None)


class _Listening:
    """What is made of `name: value` lines: points, something to ask about, or nothing."""

    def __init__(self, journal: Journal, run: str, *, record: bool | None) -> None:
        self._journal = journal
        self._run = run
        self._record = record
        self.seen: list[spoken.Point] = []

    def streams(self) -> tuple[Any, ...]:
        """One listener for each of stdout and stderr."""
        return () if self._record is False else (self._one(), self._one())

    def _one(self) -> Any:
        listener = spoken.Listener()

        def hear(data: bytes) -> None:
            for point in listener.hear(data):
                if self._record:
                    self._journal.metrics(self._run, {point.key: point.value}, point.step)
                elif len(self.seen) < MOST_POINTS:
                    self.seen.append(point)

        return hear


def _keep_written(
    project: Project, run: str, journal: Journal, before: Mapping[str, Any] | None, emit: Emit
) -> tuple[str, ...]:
    """Keep the files of the project that are new or changed; what cannot be kept is said, and costs nothing else."""
    after = commands.seen(project.root)
    if before is None or after is None:
        emit(Progress("warning", "the project has too many files to see which were written: none was kept"))
        return ()
    kept = []
    for path in sorted(path for path, stamp in after.items() if before.get(path) != stamp):
        place = Path(path)
        name = place.relative_to(project.root).as_posix()
        try:
            hash = objects.put_file(project.layout, place)
            journal.state(events.ARTIFACT, run=run, path=name, object=hash, bytes=place.stat().st_size)
            kept.append(name)
        except (OSError, MlopsError) as error:
            emit(Progress("warning", f"{name} was not kept: {error}"))
    return tuple(kept)


def _ending(code: int) -> str:
    return f"exit status {code}" if code < 128 else f"ended by signal {code - 128}"


def _options(command: Sequence[str]) -> Mapping[str, object]:
    """`--lr 0.1 --fast` of a command line as parameters lr=0.1, fast=true."""
    found: dict[str, object] = {}
    words = list(command[1:])
    for at, word in enumerate(words):
        if not word.startswith("--") or len(word) < 3:
            continue
        key, equals, value = word[2:].partition("=")
        following = words[at + 1] if at + 1 < len(words) else ""
        if equals:
            found[key] = grid.value_of(value)
        elif following and not following.startswith("--"):
            found[key] = grid.value_of(following)
        else:
            found[key] = True
    return found
