"""Put what a run was made of into a new folder: its code, data, parameters and packages. What cannot be had back is listed.

The code is a clone at the run's commit with its uncommitted changes made again; the data are the snapshots it read. The project
itself is not touched.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_local.domain import events, secrets
from mlops_local.domain.assets import FileEntry
from mlops_local.domain.errors import IntegrityError, MlopsError, UsageError
from mlops_local.domain.plan import result_from_json
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.engines.data import files
from mlops_local.services import git, references, restoring
from mlops_local.services import history as runs
from mlops_local.services.history import RunDetail
from mlops_local.services.project import CONFIG, Project
from mlops_local.store import contents, history, journal, packs, reachable
from mlops_local.store import layout as layouts
from mlops_local.store.layout import Layout

ABOUT = "checkout.json"
PINS = "requirements.txt"
_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+")
"""A line of requirements: a run that was fetched may say anything, and pip takes options there."""
_BINARY = re.compile(rb"^Binary files (?:a/(.+?)|/dev/null) and (?:b/(.+?)|/dev/null) differ$", re.MULTILINE)


@dataclass
class CheckedOut:
    """What was put where, and what was not."""

    run: str
    name: str
    folder: str
    """The project's folder in it: where to go."""
    commit: str = ""
    changed: bool = False
    """Its uncommitted changes were made again."""
    files: int = 0
    """Data files, as the run read them."""
    params: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    pins: str = ""
    """The file with the packages' versions."""
    environment: str = ""
    """The virtual environment, where one was made."""
    command: str = ""
    """What runs it again there."""
    missing: list[str] = field(default_factory=list)
    """What could not be had back, a line each."""


def checkout(project: Project, ref: str, to: Path, *, env: bool = False, emit: Emit = ignore) -> CheckedOut:
    """Make a folder with what a run was made of.

    Args:
        project: the project.
        ref: the run, or a version: the run that made it.
        to: a new or empty folder.
        env: also make a virtual environment there, with the packages the run had.
        emit: told what is done.

    Raises:
        UsageError: no such run; the folder holds something.
        MlopsError: the environment cannot be made; the rest is there.
    """
    found = runs.detail(project, references.resolve(project, ref))
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} is not empty", hint="name a new folder")
    to.mkdir(parents=True, exist_ok=True)
    top = git.toplevel(project.root)
    place = to / project.root.resolve().relative_to(top.resolve()) if top is not None else to
    made = CheckedOut(found.run.id, found.run.name, str(place), params=found.run.params)
    said = _said(project, found.run.id)
    emit(Progress("note", f"run {found.run.short} {found.run.name}"))
    _code(project, found, top, to, made)
    place.mkdir(parents=True, exist_ok=True)
    _data(project, said.snapshots, place, made)
    _code_files(said.places, place, made)
    made.packages = found.environment.get("packages", {})
    made.command = _command(found)
    struck = [name for name, value in found.run.params.items() if value == secrets.STRUCK]
    made.missing += [f"parameter: {name} looked like a secret, and was not kept" for name in struck]
    _pins(found, place, made)
    _identity(project, place)
    _about(place, made)
    if env:
        _environment(found, place, made, emit)
        _about(place, made)
    return made


def _about(place: Path, made: CheckedOut) -> None:
    about = {"schema": "mlops/checkout@1", **{key: value for key, value in vars(made).items() if key != "folder"}}
    (place / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass
class _Said:
    """What the run's own journal says of it, beyond the tables."""

    snapshots: dict[str, str] = field(default_factory=dict)
    """Source -> id."""
    places: set[str] = field(default_factory=set)
    """Files its steps' code was in."""


def _said(project: Project, run: str) -> _Said:
    found = _Said()
    for data in reachable.states(project.layout):  # a process that goes on, as `mlops watch`, has not put its journal away
        for line in journal.decode(data)[0] if run.encode() in data else []:
            if line.get("run") != run:
                continue
            if line["k"] == events.RUN_STARTED:
                found.snapshots |= {str(source): str(id) for source, id in (line.get("snapshots") or {}).items()}
            elif line["k"] == events.STEP_ENDED and line.get("result"):
                parts = result_from_json(line["result"]).parts
                found.places |= {part.where.rpartition(":")[0] for part in parts if part.kind == "code" and part.where}
    return found


def _code(project: Project, found: RunDetail, top: Path | None, to: Path, made: CheckedOut) -> None:
    if not found.run.commit:
        made.missing.append("code: the run says of no commit: it began outside git, or in a script that mlops did not start")
        return
    if top is None:
        problem = "this project is in no git repository now"
    elif git.commit(top, found.run.commit) != found.run.commit:
        problem = "this repository does not have it: `git fetch` may bring it"
    else:
        problem = git.clone_at(top, found.run.commit, to)
    if problem:
        made.missing.append(f"code: commit {found.run.commit[:8]} cannot be had ({problem})")
        return
    made.commit = found.run.commit
    diff = found.environment.get("diff", "")
    if diff:
        _changes(project, diff, to, made)
    elif found.run.dirty:
        made.missing.append("code: it had uncommitted changes, which were not kept")


def _changes(project: Project, hash: str, to: Path, made: CheckedOut) -> None:
    """Make the uncommitted changes again; what of them is no text, was cut off or struck out is said."""
    try:
        diff = b"".join(contents.data(project.layout, hash))
    except IntegrityError as error:
        made.missing.append(f"code: its uncommitted changes are not in the store any more ({error.message})")
        return
    binary = sorted({(new or old).decode(errors="surrogateescape") for old, new in _BINARY.findall(diff)})
    made.missing += [f"code: {path} had changed, and only text is kept of changes" for path in binary]
    if len(diff) >= git.DIFF_LIMIT:
        made.missing.append("code: its uncommitted changes were over 1 MB, and only the first of them were kept")
    if secrets.STRUCK.encode() in diff:
        made.missing.append(f"code: what looked like a secret in its changes is {secrets.STRUCK}")
    made.changed = git.apply(to, diff, binary)
    if not made.changed:
        (to / "changes.diff").write_bytes(diff)
        made.missing.append("code: its uncommitted changes do not apply; they are in changes.diff")


def _code_files(places: set[str], place: Path, made: CheckedOut) -> None:
    if made.commit:
        gone = sorted(path for path in places if not Path(path).is_absolute() and not (place / path).exists())
        made.missing += [f"code: {path} was used, and git did not have it" for path in gone]


def _data(project: Project, read: Mapping[str, str], place: Path, made: CheckedOut) -> None:
    with project.store.reader() as db:
        known = {(snapshot.source, snapshot.id): snapshot for snapshot in history.snapshots(db)}
    for source, identity in sorted(read.items()):
        snapshot = known.get((source, identity))
        if snapshot is None:
            made.missing.append(f"data: snapshot {identity[:8]} of {source} is not known here")
            continue
        for entry in references.exact(project, snapshot).files:
            problem = _data_file(project, entry, place)
            made.files += not problem
            if problem:
                made.missing.append(f"data: {entry.path} of {source} {snapshot.short} {problem}")


def _data_file(project: Project, entry: FileEntry, place: Path) -> str:
    """Put a file into the copy, from the store or else from the working tree where that still has it. Returns why not."""
    path = restoring.inside(entry.path)
    target, mine = place / path, project.root / path
    if not target.parent.resolve().is_relative_to(place.resolve()):
        return "is behind a link that leaves the folder"
    if target.is_file() and files.digest(target) == entry.hash:
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    if packs.contains(project.layout, entry.hash):
        packs.restore(project.layout, entry.hash, target)
    elif mine.is_file() and files.digest(mine) == entry.hash:
        shutil.copyfile(mine, target)
    else:
        return "is not in the store, nor in the project now"
    return ""


def _command(found: RunDetail) -> str:
    """What runs it again, with every parameter it had."""
    if found.run.kind != "train":
        words = found.environment.get("argv", [])
        own = words[:1] and "/" not in words[0] and words[0].endswith(".py")  # a script that began its run by itself
        return shlex.join(["mlops", "run", *(["python"] if own else []), *words])
    given = [
        word
        for name, value in sorted(found.run.params.items())
        if value != secrets.STRUCK
        for word in ("-S", f"{name}={_text(value)}")
    ]
    return shlex.join(["mlops", "train", *found.run.targets, *given])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _pins(found: RunDetail, place: Path, made: CheckedOut) -> None:
    if not made.packages:
        made.missing.append("packages: the run did not record which it used")
        return
    made.pins = PINS if not (place / PINS).exists() else "requirements-run.txt"  # the project's own stays as it was
    python = " ".join(str(found.environment.get("python", "?")).split())
    lines = [f"# What run {found.run.short} used, in Python {python}"]
    pins = [f"{name}=={version}" for name, version in sorted(made.packages.items())]
    lines += filter(_PIN.fullmatch, pins)
    made.missing += [f"packages: {pin[:80]!a} is none" for pin in pins if not _PIN.fullmatch(pin)]
    (place / made.pins).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _identity(project: Project, place: Path) -> None:
    """The same project id: the same seeds."""
    if (place / CONFIG).is_file():
        layout = Layout(place)
        layouts.create(layout)
        layouts.take_identity(layout, layouts.project_id(project.layout))


def _environment(found: RunDetail, place: Path, made: CheckedOut, emit: Emit) -> None:
    if not made.pins:
        raise MlopsError(
            "no environment can be made: the run did not record its packages", hint="the rest is there; leave out --env"
        )
    wanted = str(found.environment.get("python", ""))
    short = ".".join(wanted.split(".")[:2])
    python = shutil.which(f"python{short}") or sys.executable
    emit(Progress("note", f"making {place / '.venv'} and installing {len(made.packages)} packages"))
    _do([python, "-m", "venv", str(place / ".venv")], "make the environment")
    own = str(place / ".venv" / "bin" / "python")
    now = _do([own, "-c", "import platform; print(platform.python_version())"], "start the environment").strip()
    if now != wanted:
        made.missing.append(f"packages: Python {wanted} is not here; the environment has {now}")
    _do(
        [own, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-r", str(place / made.pins)],
        "install the packages",
    )
    made.environment = ".venv"


def _do(words: Sequence[str], what: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise MlopsError(f"cannot {what}: {reason}", hint=f"all but the environment is there; by hand: {shlex.join(words)}")
    return done.stdout
