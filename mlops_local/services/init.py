"""Make a project: bare, from the flights sample, or written for a file of the user's.

Nothing of the user's is ever overwritten: when a file that would be written exists, nothing is written at all. A bare `init`
writes mlops.toml and the store's folder, never code.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

import mlops_local
from mlops_local.domain.errors import DataError, MlopsError, UsageError
from mlops_local.engines.data import files, profile, propose
from mlops_local.store import layout as layouts
from mlops_local.store.layout import Layout

TEMPLATES = ("flights", "blank")
LARGEST_COPY = 1_000_000_000
"""A data file larger than this is not copied into the project."""
_NEVER = {".mlops", "__pycache__", "mlops.lock", ".ruff_cache", ".mypy_cache", ".DS_Store"}

_BARE = """\
# What each key means: docs/configuration.md

[project]
name = "$project"
"""


@dataclass(frozen=True)
class Made:
    """What `create` left."""

    root: Path
    written: tuple[str, ...]
    """Files that are new, relative to the root."""
    said: tuple[str, ...] = ()
    """What was seen in the data file, one line each."""


def create(directory: Path, *, template: str = "", data: Path | None = None, target: str = "", unsafe_fs: bool = False) -> Made:
    """Make a project in a folder, which is made too when it is missing.

    Args:
        directory: the project's folder.
        template: flights, blank, or empty for a bare project.
        data: with template blank: a CSV or Parquet file to write a pipeline for.
        target: with `data`: the column to predict, or `column=value`.
        unsafe_fs: allow a network file system.

    Raises:
        UsageError: an argument is wrong, or a file that would be written exists.
        DataError: the data file cannot be read, or the target cannot be predicted from it.
    """
    _check(template, data, target)
    root = directory.absolute()
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file, not a folder", hint="name a folder, or none for this one")
    said: tuple[str, ...] = ()
    copies: dict[str, Path] = {}
    texts: dict[str, str] = {}
    if template == "flights":
        copies = _sample()
    elif data is not None:
        texts, copies, said = _for_data(root, data, target)
    elif template == "blank":
        texts = {name: _fill("blank", name, root) for name in ("mlops.toml", "pipeline.py")}
    else:
        texts = (
            {}
            if (root / layouts.PROJECT_FILE).exists()
            else {layouts.PROJECT_FILE: Template(_BARE).substitute(project=_name(root))}
        )
    _refuse_existing(root, [*texts, *copies])
    layout = Layout(root)
    layouts.check(layout, unsafe_fs=unsafe_fs)
    written = _write(root, texts, copies)
    layouts.create(layout, unsafe_fs=unsafe_fs)
    return Made(root, tuple(written), said)


def _check(template: str, data: Path | None, target: str) -> None:
    if template and template not in TEMPLATES:
        raise UsageError(f"there is no template {template!r}", hint=f"templates: {', '.join(TEMPLATES)}")
    if data is not None and template != "blank":
        raise UsageError(
            "--data goes with --template blank", hint="mlops init DIR --template blank --data FILE --target COLUMN"
        )
    if (data is None) != (not target):
        missing = "--target COLUMN" if data is not None else "--data FILE"
        raise UsageError(f"{missing} is missing", hint="mlops init DIR --template blank --data FILE --target COLUMN")


def templates() -> Path:
    """Return the folder of the templates that come with the package."""
    return Path(mlops_local.__file__).parent / "templates"


def _sample() -> dict[str, Path]:
    """List the flights sample: in the wheel beside the templates, in a checkout beside the package."""
    for folder in (templates() / "flights", Path(mlops_local.__file__).parent.parent / "sample_project"):
        if (folder / layouts.PROJECT_FILE).is_file():
            inside = ((file.relative_to(folder), file) for file in sorted(folder.rglob("*")) if file.is_file())
            return {part.as_posix(): file for part, file in inside if not _NEVER & set(part.parts)}
    raise MlopsError("the flights sample is not part of this installation", hint="install mlops-local again")


def _for_data(root: Path, data: Path, target: str) -> tuple[dict[str, str], dict[str, Path], tuple[str, ...]]:
    if not data.is_file():
        around = profile.near(data.name, sorted(item.name for item in data.parent.iterdir())) if data.parent.is_dir() else ""
        raise DataError(
            f"there is no file {data}", hint=around if around.startswith("did you mean") else "name a CSV or Parquet file"
        )
    if data.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(f"{data.name} is neither CSV nor Parquet", hint="its name must end in .csv or .parquet")
    inside = data.absolute().is_relative_to(root)
    pattern = data.absolute().relative_to(root).as_posix() if inside else f"data/{data.name}"
    if not inside and data.stat().st_size > LARGEST_COPY:
        raise DataError(
            f"{data} is too large to copy into the project", hint=f"move or link it to {pattern} in {root}, then name that"
        )
    rows, columns = profile.read(data.parent, [data.name], source=data.stem)
    column, _ = propose.split_target(target, [item.name for item in columns])
    values, spread = profile.values(data.parent, data.name, column)
    columns = profile.exact(data.parent, data.name, columns)
    proposal = propose.propose(pattern, rows[data.name] or 0, columns, target, values, spread)
    folder = templates() / "blank_data"
    texts = propose.render(
        proposal,
        project=_name(root),
        pipeline=(folder / "pipeline.py.in").read_text(encoding="utf-8"),
        config=(folder / "mlops.toml.in").read_text(encoding="utf-8"),
    )
    return texts, {} if inside else {pattern: data}, propose.explain(proposal)


def _fill(template: str, name: str, root: Path) -> str:
    text = (templates() / template / f"{name}.in").read_text(encoding="utf-8")
    return Template(text).safe_substitute(project=_name(root))


def _name(root: Path) -> str:
    return root.name.replace("\\", "").replace('"', "") or "project"


def _refuse_existing(root: Path, names: list[str]) -> None:
    there = [name for name in names if (root / name).exists() or (root / name).is_symlink()]
    if there:
        more = f" and {len(there) - 5} more" if len(there) > 5 else ""
        verb = "exists" if len(there) == 1 else "exist"
        raise UsageError(
            f"{root}: {', '.join(there[:5])}{more} {verb} already; nothing was written",
            hint="choose another folder, or move the files away: init never overwrites",
        )


def _write(root: Path, texts: Mapping[str, str], copies: Mapping[str, Path]) -> list[str]:
    """Write every file with exclusive creation: one that appeared meanwhile is an error, not overwritten."""
    written: list[str] = []
    try:
        for name in (*texts, *copies):
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("xb") as out:
                written.append(name)
                if name in texts:
                    out.write(texts[name].encode("utf-8"))
                else:
                    with copies[name].open("rb") as source:
                        shutil.copyfileobj(source, out)
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for name in reversed(written):  # ours, made a moment ago
            (root / name).unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            hint = "choose another folder, or move it away: init never overwrites"
            raise UsageError(f"{error.filename} exists already", hint=hint) from error
        raise MlopsError(
            f"cannot write in {root}: {error.strerror or error}", hint="check space and permissions, then try again"
        ) from error
    return written


def summary(made: Made) -> str:
    """Say in one line what was made."""
    if not made.written:
        return f"{made.root} is a project already; its store is ready"
    count = len(made.written)
    return f"made a project in {made.root}: {', '.join(made.written) if count <= 4 else f'{count} files'}"


def next_commands(made: Made, template: str, here: Path) -> list[str]:
    """Return what to type next, in order."""
    enter = [] if made.root == here.absolute() else [f"cd {files.shown(made.root, here)}"]
    if template or (made.root / "pipeline.py").is_file():
        return [*enter, "mlops plan", "mlops train"]
    return [
        *enter,
        "mlops run python train.py   # track a script as it is",
        "mlops init --template blank --data FILE --target COLUMN",
    ]
