"""`mlops data add`: a file or folder becomes a source without a pipeline that declares it, by an entry in mlops.toml.

The first snapshot is taken before anything is written: what cannot be read is not added. The user's files are left as they are.
"""

from __future__ import annotations

import glob
import json
import os
import re
from dataclasses import replace
from pathlib import Path

from mlops_local.domain.assets import Snapshot
from mlops_local.domain.errors import ConfigError, DataError, Unsettled, UsageError
from mlops_local.domain.graph import Source
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.engines.data import files as data_files
from mlops_local.engines.data import profile, refusal
from mlops_local.services import data, locking, planning
from mlops_local.services.project import CONFIG, Project, read_config
from mlops_local.store import files


def add(project: Project, path: Path, name: str = "", *, emit: Emit = ignore) -> Snapshot:
    """Make a source of a path, take its first snapshot, and name that in mlops.lock; once more: take a new snapshot.

    Args:
        project: the project.
        path: a file or folder inside it.
        name: what it is called; the file's name without suffix, or the folder's, where none is given.
        emit: told what was found.

    Raises:
        UsageError: the path is not there or lies outside, the name is none, or something else is called so.
        DataError: a file cannot be read.
    """
    pattern = _pattern(project.root, path)
    name = name or re.sub(r"\W", "_", path.absolute().stem)
    if not name.isidentifier():
        raise UsageError(
            f"{name!r} is no name for a source", hint="letters, digits and _, not beginning with a digit: --name NAME"
        )
    added = project.config.sources
    there = bool(added or project.config.steps) or (project.root / project.config.pipeline).exists()
    declared = planning.read_code(project).graph.sources if there else ()
    before = next((source for source in declared if source.name == name), None)
    if before is not None and (before not in added or before.pattern != pattern):
        raise UsageError(
            f"source {name} is declared already: {before.labels or before.pattern}", hint="call it otherwise: --name"
        )
    chosen = before or Source(name, pattern)
    known = replace(project, config=replace(project.config, sources=(*added, chosen)))  # as it will be, for messages
    made, source = _snapshot(known, chosen, emit, known=before is not None)
    if before is None:
        project = _write(project, source)
    locking.write(project, planning.read_code(project).graph, {name: made})
    return made


def _pattern(root: Path, path: Path) -> str:
    inside = os.path.relpath(os.path.abspath(path), root)  # noqa: PTH100  (a link in the project counts as it is named there)
    if path.is_symlink() and not path.exists():
        raise UsageError(f"{path} is a link to a file that is not there", hint="mend the link, or give what it was to lead to")
    if Path(inside).parts[:1] == ("..",) or not path.exists():
        what = "is not there" if not path.exists() else "lies outside the project"
        hint = "a link in the project may point to it" if path.exists() else "give a file or folder of the project"
        raise UsageError(f"{path} {what}", hint=hint)
    if inside == ".":
        raise UsageError("the project's folder itself cannot be a source", hint="give a file or folder in it")
    try:
        inside.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(
            f"{path}: its name is not UTF-8, which {CONFIG} is", hint="rename it, or give a folder that holds it"
        ) from None
    escaped = glob.escape(Path(inside).as_posix())
    return f"{escaped}/**/*" if path.is_dir() else escaped


def _snapshot(project: Project, source: Source, emit: Emit, *, known: bool) -> tuple[Snapshot, Source]:
    """A table where the files are one, else files that nobody looks into."""
    if known:
        return data.snapshot(project, source, emit=emit), source
    paths = data_files.find(project.root, source.pattern, source=source.name)
    if any(profile.form(path) != "opaque" for path in paths):
        try:
            return data.snapshot(project, source, emit=emit), source
        except Unsettled:
            raise
        except DataError as error:
            data.hashes(project, source)  # what cannot be read at all is no file either
            emit(Progress("note", f"{source.name} is no table ({error.message}): kept as files"))
    elif packed := next((path for path in paths if refusal.no_table(path)), ""):
        emit(Progress("note", f"{packed} {refusal.no_table(packed)}, so {source.name} has no rows: kept as files"))
    source = replace(source, kind="files")
    return data.snapshot(project, source, emit=emit), source


def _write(project: Project, source: Source) -> Project:
    """Append the entry to mlops.toml; the project with it."""
    path = project.root / CONFIG
    before = path.read_bytes()
    gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    lines = [f"[data.{source.name}]", f"path = {json.dumps(source.pattern, ensure_ascii=False)}"]
    lines += ['kind = "files"'] if source.kind == "files" else []
    after = before + gap + "\n".join(lines).encode("utf-8") + b"\n"
    try:
        config = read_config(after, name=project.root.name)
    except ConfigError as error:
        raise UsageError(f"the entry for {source.name} does not fit into {CONFIG}: {error.message}", hint=error.hint) from error
    files.replace(path, after, mode=path.stat().st_mode & 0o777)
    return replace(project, config=config)
